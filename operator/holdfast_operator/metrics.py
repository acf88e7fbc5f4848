"""What Prometheus can ask of the operator. docs/reference/metrics-operator.md explains each; a test compares."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Collection, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from holdfast_api.cluster import ConditionType, SpeakerConfigSpec, VirtualIPState, VirtualIPStatus
from holdfast_api.pools import AddressPoolStatus
from holdfast_operator.hazards import Cause
from holdfast_operator.planner.cluster.view import ServiceStatus

_PREFIX = "holdfast_operator"
_RESULTS = ("success", "failure", "held")
_WRITES = (
    ("speakerconfigs", "apply"),
    ("speakerconfigs", "delete"),
    ("virtualips", "create"),
    ("virtualips", "apply"),
    ("virtualips", "patch"),
    ("virtualips", "delete"),
    ("virtualips/status", "apply"),
    ("services/status", "apply"),
    ("services/status", "patch"),
    ("addresspools/status", "apply"),
    ("events", "create"),
    ("events", "patch"),
)
_WATCHED = (
    "virtualips",
    "speakerconfigs",
    "nodes",
    "addresspools",
    "namespaces",
    "servicecidrs",
    "endpointslices",
    "pods",
    "services",
)
_OF_A_SERVICE = ("namespace", "name", "service")
"""The last one is namespace/name."""
_OF_A_VIRTUAL_IP = ("namespace", "name", "virtual_ip")
"""The last one, namespace/name, is the label that the speakers' metrics have."""


class Metrics:
    """Every series is there from the start, so that a rate of something that never happened is 0."""

    def __init__(self) -> None:
        disable_created_metrics()  # a gauge more for every counter, which nobody reads
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconciles = Counter(
            f"{_PREFIX}_reconciles",
            "Reconciliations of the whole cluster.",
            ["result"],
            registry=self.registry,
        )
        self.duration = Histogram(
            f"{_PREFIX}_reconcile_duration_seconds",
            "How long a reconciliation took, from the lists to the last write.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.writes = Counter(
            f"{_PREFIX}_writes",
            "Writes that the API server took.",
            ["resource", "verb"],
            registry=self.registry,
        )
        self.write_failures = Counter(
            f"{_PREFIX}_write_failures",
            "Writes that the API server did not take.",
            ["resource", "verb"],
            registry=self.registry,
        )
        self.watch_events = Counter(
            f"{_PREFIX}_watch_events",
            "Events of the watches that led to a reconciliation.",
            ["resource"],
            registry=self.registry,
        )
        self.is_leader = Gauge(
            f"{_PREFIX}_is_leader", "1: this replica holds the Lease and writes.", registry=self.registry
        )
        self.last_list = Gauge(
            f"{_PREFIX}_last_list_timestamp_seconds",
            "When everything was last listed, in Unix time; 0: not yet.",
            registry=self.registry,
        )
        self.held = Gauge(
            f"{_PREFIX}_held", "1: nothing is written, for this cause.", ["cause"], registry=self.registry
        )
        self.virtual_ips = Gauge(
            f"{_PREFIX}_virtual_ips",
            "VirtualIPs by their state; all 0 where this replica does not lead.",
            ["state"],
            registry=self.registry,
        )
        self.held_virtual_ips = Gauge(
            f"{_PREFIX}_virtual_ip_held",
            "1: a node holds it; 0: none does, or nobody who could tell is heard. Absent: nothing of it is in force.",
            _OF_A_VIRTUAL_IP,
            registry=self.registry,
        )
        self.stalled_virtual_ips = Gauge(
            f"{_PREFIX}_virtual_ip_stalled",
            "1: its newest specification is refused, and what ran before goes on.",
            _OF_A_VIRTUAL_IP,
            registry=self.registry,
        )
        self.not_permitted_virtual_ips = Gauge(
            f"{_PREFIX}_virtual_ip_not_permitted",
            "1: it goes on with something that would be refused if it were new.",
            _OF_A_VIRTUAL_IP,
            registry=self.registry,
        )
        self.heard_speakers = Gauge(
            f"{_PREFIX}_speaker_heard",
            "Of nodes that are to run a VirtualIP: 1 while the speaker's pod is Ready and the Node is not NotReady.",
            ["node"],
            registry=self.registry,
        )
        self.service_addresses = Gauge(
            f"{_PREFIX}_service_addresses",
            "Of each Service that is to have addresses: how many its status tells.",
            _OF_A_SERVICE,
            registry=self.registry,
        )
        self.pool_capacity = Gauge(
            f"{_PREFIX}_pool_addresses",
            "Addresses that an AddressPool has.",
            ["pool"],
            registry=self.registry,
        )
        self.pool_assigned = Gauge(
            f"{_PREFIX}_pool_addresses_assigned",
            "Those of them that VirtualIPs and Services have.",
            ["pool"],
            registry=self.registry,
        )
        self.node_virtual_ips = Gauge(
            f"{_PREFIX}_node_virtual_ips_held", "VirtualIPs that a node holds.", ["node"], registry=self.registry
        )
        self.node_addresses = Gauge(
            f"{_PREFIX}_node_addresses_held",
            "Addresses of the VirtualIPs that a node holds.",
            ["node"],
            registry=self.registry,
        )
        self.pool_imbalance = Gauge(
            f"{_PREFIX}_pool_imbalance",
            "Virtual routers that a rebalance of the AddressPool would move.",
            ["pool"],
            registry=self.registry,
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        for result in _RESULTS:
            self.reconciles.labels(result)
        for resource, verb in _WRITES:
            self.writes.labels(resource, verb)
            self.write_failures.labels(resource, verb)
        for resource in _WATCHED:
            self.watch_events.labels(resource)
        self.hold(None)
        self.tell_virtual_ips({})

    def listed(self) -> None:
        """Everything was listed just now."""
        self.last_list.set(time.time())

    def hold(self, cause: Cause | None) -> None:
        """Nothing is written for that cause; None: all is well."""
        for possible in Cause:
            self.held.labels(possible.value).set(possible is cause)

    def tell_virtual_ips(self, statuses: Mapping[str, VirtualIPStatus]) -> None:
        """These are all VirtualIPs there are, by namespace/name."""
        tally = Tally(status.state for status in statuses.values())
        for state in VirtualIPState:
            self.virtual_ips.labels(state.value).set(tally[state])
        self.held_virtual_ips.clear()
        self.stalled_virtual_ips.clear()
        self.not_permitted_virtual_ips.clear()
        for key, status in statuses.items():
            namespace, _, name = key.partition("/")
            told = {one.type: one.status for one in status.conditions}
            is_stalled = told.get(ConditionType.STALLED) == "True"
            self.stalled_virtual_ips.labels(namespace, name, key).set(is_stalled)
            goes_on = told.get(ConditionType.ACCEPTED) == "False" and not is_stalled
            self.not_permitted_virtual_ips.labels(namespace, name, key).set(goes_on)
            if status.state is not VirtualIPState.REFUSED:
                is_held = "True" in (told.get(ConditionType.READY), told.get(ConditionType.SPLIT_BRAIN))
                self.held_virtual_ips.labels(namespace, name, key).set(is_held)

    def forget(self) -> None:
        """This replica leads no longer: what there is in the cluster is for another one to tell."""
        self.tell_virtual_ips({})
        self.tell_speakers({}, ())
        self.tell_balance((), {})
        self.tell_services({})
        self.tell_pools({})
        self.hold(None)

    def tell_services(self, services: Mapping[str, ServiceStatus]) -> None:
        """These are all Services that are ours, or were."""
        self.service_addresses.clear()
        for key, status in services.items():
            if status.is_ours:
                namespace, _, name = key.partition("/")
                self.service_addresses.labels(namespace, name, key).set(len(status.ingress))

    def tell_pools(self, pools: Mapping[str, AddressPoolStatus]) -> None:
        """These are all AddressPools, by name."""
        self.pool_capacity.clear()
        self.pool_assigned.clear()
        self.pool_imbalance.clear()
        for name, status in pools.items():
            self.pool_capacity.labels(name).set(status.capacity)
            self.pool_assigned.labels(name).set(status.assigned)
            self.pool_imbalance.labels(name).set(status.imbalance)

    def tell_balance(self, nodes: Collection[str], statuses: Mapping[str, VirtualIPStatus]) -> None:
        """What these nodes hold."""
        self.node_virtual_ips.clear()
        self.node_addresses.clear()
        held = Tally(status.holder for status in statuses.values() if status.holder)
        addresses: Tally[str] = Tally()
        for status in statuses.values():
            addresses[status.holder] += len(status.addresses)
        for node in {*nodes, *held}:
            self.node_virtual_ips.labels(node).set(held[node])
            self.node_addresses.labels(node).set(addresses[node])

    def tell_speakers(self, speakers: Mapping[str, SpeakerConfigSpec], heard: Collection[str]) -> None:
        """These are the plans of all nodes there are, and these nodes are heard."""
        self.heard_speakers.clear()
        for node, spec in speakers.items():
            if spec.virtual_routers:
                self.heard_speakers.labels(node).set(node in heard)
