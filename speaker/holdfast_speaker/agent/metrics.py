"""What the agent's /metrics shows; docs/metrics.md explains every name. A test holds one against the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from holdfast_api.messages import RouterStatus, Status, Transition
from holdfast_api.reasons import Health, State
from holdfast_speaker.vrrp import counters

_SENT = counters.Counter.ADVERTISEMENT_SENT
_RECEIVED = counters.Counter.ADVERTISEMENT_RCVD
_SEND_ERRORS = counters.Counter.SEND_ERRORS
_NOTICED = frozenset(
    {
        counters.Counter.PRIORITY_ZERO_PKTS_RCVD,
        counters.Counter.PRIORITY_ZERO_PKTS_SENT,
        counters.Counter.INTERVAL_ERRORS,
        counters.Counter.ADDRESS_LIST_ERRORS,
        counters.Counter.CHECKSUM_WITHOUT_PSEUDO_HEADER,
        counters.Counter.INTERVAL_CAPPED,
    }
)
"""What is counted of advertisements that were obeyed all the same. All other counters are of refused ones."""

_OUTAGE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Readings:
    """What is known at the moment of a scrape."""

    status: Status | None
    """What the engine said last; None: nothing yet."""
    is_engine_up: bool
    newest_generation: int
    is_config_present: bool
    is_config_applied: bool
    suspected_split_brains: Collection[str]
    """namespace/name."""
    reachable: Mapping[str, bool] = field(default_factory=dict)
    """By resource."""
    staleness_seconds: Mapping[str, float] = field(default_factory=dict)
    writes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By resource and result."""


class Moves:
    """What the agent counts itself, from the engine's transitions."""

    def __init__(self, node_name: str, registry: CollectorRegistry) -> None:
        self._node_name = node_name
        disable_created_metrics()
        self._transitions = Counter(
            "holdfast_virtual_router_transitions",
            "Changes of state, by the state that was entered and the reason.",
            ("node", "virtual_ip", "to", "reason"),
            registry=registry,
        )
        self._outage = Counter(
            "holdfast_virtual_router_outage_seconds",
            "How long nobody held it before this node took over, as this node estimates.",
            ("node", "virtual_ip"),
            registry=registry,
        )
        self._outages = Histogram(
            "holdfast_takeover_outage_seconds",
            "How long nobody held a VIP before this node took it over, as this node estimates.",
            ("node",),
            buckets=_OUTAGE_BUCKETS,
            registry=registry,
        )
        self._outages.labels(node_name)

    def take(self, transition: Transition) -> None:
        """Count one transition."""
        name = transition.virtual_ip
        self._transitions.labels(self._node_name, name, transition.to_state.value, transition.reason.value).inc()
        if transition.to_state is State.MASTER:
            silent_seconds = transition.silent_milliseconds / 1000
            self._outage.labels(self._node_name, name).inc(silent_seconds)
            self._outages.labels(self._node_name).observe(silent_seconds)

    def keep_only(self, virtual_ips: Collection[str]) -> None:
        """Forget what does not run here any more."""
        for counted in (self._transitions, self._outage):
            for metric in list(counted.collect()):
                for name in {sample.labels["virtual_ip"] for sample in metric.samples} - set(virtual_ips):
                    counted.remove_by_labels({"virtual_ip": name})


Family = CounterMetricFamily | GaugeMetricFamily | Metric
Values = Mapping[Any, float]
"""By the values of the labels, a tuple of strings."""


class SpeakerCollector(Collector):
    """Everything else, read at the moment of the scrape."""

    def __init__(self, node_name: str, read: Callable[[], Readings], registry: CollectorRegistry) -> None:
        self._node_name = node_name
        self._read = read
        registry.register(self)

    def collect(self) -> Iterator[Family]:
        """One scrape."""
        readings = self._read()
        yield from self._of_configuration(readings)
        yield from self._of_the_api_server(readings)
        yield self._gauge("engine_up", "1 while the engine of this node answers.", {(): readings.is_engine_up})
        status = readings.status
        if status is not None:
            yield from self._of_the_engine(status)
            yield from self._of_the_routers(status.routers, readings.suspected_split_brains)
            yield from self._of_advertisements(status)

    def describe(self) -> Iterator[Family]:
        """Nothing: what there is depends on the engine."""
        return iter(())

    def _of_configuration(self, readings: Readings) -> Iterator[Family]:
        yield self._gauge(
            "speaker_config_generation",
            "The newest generation of this node's SpeakerConfig that the agent has seen; 0: none.",
            {(): readings.newest_generation},
        )
        yield self._gauge(
            "speaker_config_present",
            "0 while the API server says that this node's SpeakerConfig does not exist; the last one stays in force.",
            {(): readings.is_config_present},
        )
        yield self._gauge(
            "speaker_config_applied",
            "1 while the engine runs the newest generation.",
            {(): readings.is_config_applied},
        )

    def _of_the_api_server(self, readings: Readings) -> Iterator[Family]:
        yield self._gauge(
            "api_server_reachable",
            "1 while the agent's watch of the resource is up.",
            {(resource,): up for resource, up in readings.reachable.items()},
            "resource",
        )
        yield self._gauge(
            "api_server_staleness_seconds",
            "How long ago the API server last said something of the resource; bookmarks come about once a minute.",
            {(resource,): age for resource, age in readings.staleness_seconds.items()},
            "resource",
        )
        yield self._counter(
            "status_writes",
            "Writes of status, by what became of them.",
            readings.writes,
            "resource",
            "result",
        )

    def _of_the_engine(self, status: Status) -> Iterator[Family]:
        lateness = status.lateness
        yield self._gauge("engine_info", "The engine's version, with the value 1.", {(status.version,): 1}, "version")
        yield self._gauge(
            "engine_configuration_generation", "The generation that the engine runs.", {(): status.generation}
        )
        yield self._counter(
            "engine_restarts", "How often the keeper had to start the engine anew.", {(): status.restarts}
        )
        yield self._counter("engine_timers", "Timers that fired since the engine started.", {(): lateness.samples})
        yield self._summary(
            "engine_timer_lateness_seconds",
            "How late timers fired since the engine started: median, 99th percentile and worst.",
            {"0.5": lateness.p50_microseconds, "0.99": lateness.p99_microseconds, "1": lateness.max_microseconds},
        )

    def _of_the_routers(self, routers: list[RouterStatus], suspected: Collection[str]) -> Iterator[Family]:
        yield self._gauge(
            "virtual_router_state",
            "1 for the state that the virtual router is in on this node, 0 for the others.",
            {(one.virtual_ip, state.value): one.state is state for one in routers for state in State},
            "virtual_ip",
            "state",
        )
        yield self._gauge(
            "virtual_router_health",
            "1 for the health of the tracked services on this node, 0 for the others.",
            {(one.virtual_ip, health.value): one.health is health for one in routers for health in Health},
            "virtual_ip",
            "health",
        )
        yield self._gauge(
            "virtual_router_priority",
            "The priority that is advertised, or would be as Master; 1 to 49 while failing.",
            {(one.virtual_ip,): one.effective_priority for one in routers},
            "virtual_ip",
        )
        yield self._gauge(
            "virtual_router_obstacle",
            "1 for everything that keeps the virtual router out of the election.",
            {(one.virtual_ip, obstacle.value): 1 for one in routers for obstacle in one.obstacles},
            "virtual_ip",
            "obstacle",
        )
        yield self._gauge(
            "virtual_router_unproved",
            "1 while this Master has heard no other router on its link yet, so that it advertises the lowest priority.",
            {(one.virtual_ip,): one.unproved for one in routers},
            "virtual_ip",
        )
        yield self._gauge(
            "virtual_router_advertised_interval_seconds",
            "What its advertisements say as Master; longer than configured while they leave late.",
            {
                (one.virtual_ip,): (one.advertised_interval_milliseconds or one.advertisement_interval_milliseconds)
                / 1000
                for one in routers
            },
            "virtual_ip",
        )
        yield self._gauge(
            "virtual_router_warnings",
            "How many warnings there are about the virtual router on this node; the status has their words.",
            {(one.virtual_ip,): len(one.warnings) for one in routers},
            "virtual_ip",
        )
        yield self._gauge(
            "virtual_router_host_ports_exposed",
            "1 while this node's own ports cannot be closed to the VIP, though they are to be: nf_tables refuses.",
            {(one.virtual_ip,): one.host_ports_exposed for one in routers},
            "virtual_ip",
        )
        yield self._gauge(
            "split_brain_suspected",
            "1 while this node holds the VIP and has had signs for 10 s that another one does too.",
            {(one.virtual_ip,): one.virtual_ip in suspected for one in routers},
            "virtual_ip",
        )

    def _of_advertisements(self, status: Status) -> Iterator[Family]:
        counted = {
            (router.virtual_ip, name): count for router in status.routers for name, count in router.counters.items()
        }
        for metric, help_text, counter in (
            ("advertisements_sent", "Advertisements sent.", _SENT),
            ("advertisements_received", "Advertisements that were taken in.", _RECEIVED),
            ("send_errors", "Advertisements that the kernel did not send.", _SEND_ERRORS),
        ):
            values = {(router.virtual_ip,): router.counters.get(counter, 0) for router in status.routers}
            yield self._counter(f"virtual_router_{metric}", help_text, values, "virtual_ip")
        apart = {_SENT, _RECEIVED, _SEND_ERRORS} | _NOTICED
        yield self._counter(
            "virtual_router_advertisements_refused",
            "Advertisements that were not obeyed, by the reason.",
            {key: count for key, count in counted.items() if key[1] not in apart},
            "virtual_ip",
            "reason",
        )
        yield self._counter(
            "virtual_router_advertisements_noticed",
            "Advertisements that were obeyed and are worth a look, by what is odd about them.",
            {key: count for key, count in counted.items() if key[1] in _NOTICED},
            "virtual_ip",
            "kind",
        )
        yield self._counter(
            "link_advertisements_refused",
            "VRRP packets that belong to no virtual router of this node, by the reason.",
            {(reason,): count for reason, count in status.link_counters.items()},
            "reason",
        )

    def _gauge(self, name: str, help_text: str, values: Values, *labels: str) -> Family:
        return self._filled(GaugeMetricFamily(f"holdfast_{name}", help_text, labels=("node", *labels)), values)

    def _counter(self, name: str, help_text: str, values: Values, *labels: str) -> Family:
        return self._filled(CounterMetricFamily(f"holdfast_{name}", help_text, labels=("node", *labels)), values)

    def _summary(self, name: str, help_text: str, microseconds: Mapping[str, float]) -> Metric:
        """By quantile. The client library's own summaries have none."""
        family = Metric(f"holdfast_{name}", help_text, "summary")
        for quantile, value in microseconds.items():
            family.add_sample(family.name, {"node": self._node_name, "quantile": quantile}, value / _MICROSECONDS)
        return family

    def _filled(self, family: CounterMetricFamily | GaugeMetricFamily, values: Values) -> Family:
        for label_values, value in values.items():
            family.add_metric([self._node_name, *label_values], float(value))
        return family
