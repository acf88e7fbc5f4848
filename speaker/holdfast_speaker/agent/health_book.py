"""The health of every tracked VIP on this node, out of pods, probes and healthCheckNodePorts, and what was known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from holdfast_api.cluster import Tracking
from holdfast_api.reasons import Health
from holdfast_api.resources import Probe
from holdfast_speaker.agent.pods import PodStore, Steadied, Verdict, judge
from holdfast_speaker.agent.probe_targets import in_a_cluster

_NOT_LISTED = Verdict(Health.UNKNOWN, "the pods of this node are not known yet")
_NO_RESULT = Verdict(Health.UNKNOWN, "no probe has a result yet")
_NOT_ASKED = Verdict(Health.UNKNOWN, "no healthCheckNodePort has answered yet")
_COMMAND = Verdict(Health.UNKNOWN, "a probe is a command, and nobody's commands are run in a cluster")


class HealthBook:
    """Pure but for the clock that it is given. Times are seconds of a clock that does not jump."""

    def __init__(self, pods: PodStore, clock: Callable[[], float]) -> None:
        self._pods = pods
        self._clock = clock
        self._tracking: dict[str, Tracking] = {}
        self._by_pods: dict[str, Steadied] = {}
        self._by_probes: dict[str, Verdict] = {}
        self._by_node_ports: dict[str, Verdict] = {}
        self._failing_from_the_first: dict[str, float] = {}

    @property
    def tracking(self) -> Mapping[str, Tracking]:
        """What is tracked, by namespace/name."""
        return self._tracking

    @property
    def probes(self) -> dict[str, Sequence[Probe]]:
        """What the monitor has to run. Commands are not: they would run in the agent's container, with its token."""
        allowed = {
            name: [in_a_cluster(probe) for probe in tracking.probes if probe.exec is None]
            for name, tracking in self._tracking.items()
        }
        return {name: probes for name, probes in allowed.items() if probes}

    @property
    def node_ports(self) -> dict[str, Sequence[int]]:
        """The healthCheckNodePorts to look at, by namespace/name."""
        return {
            name: tracking.health_check_node_ports
            for name, tracking in self._tracking.items()
            if tracking.health_check_node_ports
        }

    def remembered(self) -> dict[str, Verdict]:
        """By namespace/name: what the pods said last, for an agent that starts when the API server is away."""
        return {name: steadied.shown for name, steadied in self._by_pods.items()}

    def recall(self, remembered: Mapping[str, Verdict]) -> None:
        """What a former agent of this pod knew: it counts until the API server has listed the pods."""
        for name, verdict in remembered.items():
            self._by_pods.setdefault(name, Steadied(verdict))

    def replace(self, tracking: Sequence[Tracking]) -> None:
        """Track this from now on."""
        self._tracking = {one.virtual_ip: one for one in tracking}
        self._by_pods = {name: known for name, known in self._by_pods.items() if self._tracks_pods(name)}
        probes = self.probes
        self._by_probes = {name: known for name, known in self._by_probes.items() if name in probes}
        node_ports = self.node_ports
        self._by_node_ports = {name: known for name, known in self._by_node_ports.items() if name in node_ports}
        self._failing_from_the_first = {
            name: at for name, at in self._failing_from_the_first.items() if name in self._by_probes
        }
        self.look_at_pods()

    def look_at_pods(self) -> None:
        """Pods changed, or time has passed."""
        if not self._pods.is_known:
            return
        now = self._clock()
        for name, tracking in self._tracking.items():
            if tracking.pods is None:
                continue
            seen = judge(tracking.pods, self._pods.of(name.partition("/")[0]))
            known = self._by_pods.get(name)
            self._by_pods[name] = Steadied(seen) if known is None else known.after(seen, now)

    def take_probes(self, name: str, health: Health, detail: str) -> None:
        """What the monitor reports of one VIP."""
        if name not in self._tracking:
            return
        before = self._by_probes.get(name, _NO_RESULT)
        if health is not Health.FAILING:
            self._failing_from_the_first.pop(name, None)
        elif before.health is Health.UNKNOWN:
            self._failing_from_the_first[name] = self._clock()
        self._by_probes[name] = Verdict(health, detail)

    def take_node_ports(self, name: str, health: Health, detail: str) -> None:
        """What the service proxy says of one VIP."""
        if name in self._tracking:
            self._by_node_ports[name] = Verdict(health, detail)

    def verdicts(self, engine_says: Mapping[str, Health]) -> dict[str, Verdict]:
        """The health to report of every tracked VIP; `engine_says` is what the engine holds to be true."""
        return {name: self._verdict(name, engine_says.get(name, Health.UNKNOWN)) for name in self._tracking}

    def next_change(self) -> float | None:
        """When something changes although no pod and no probe does."""
        rising = [steadied.due for steadied in self._by_pods.values() if steadied.due is not None]
        return min((*rising, *map(self._believed_at, self._failing_from_the_first)), default=None)

    def _verdict(self, name: str, engine_says: Health) -> Verdict:
        tracking = self._tracking[name]
        parts = []
        if tracking.pods is not None:
            known = self._by_pods.get(name)
            parts.append(known.shown if known else _NOT_LISTED)
        if tracking.probes:
            parts.append(self._probes_verdict(name, engine_says))
            parts += [_COMMAND for probe in tracking.probes if probe.exec is not None]
        if tracking.health_check_node_ports:
            parts.append(self._by_node_ports.get(name, _NOT_ASKED))
        for health in (Health.FAILING, Health.UNKNOWN):
            details = [part.detail for part in parts if part.health is health]
            if details:
                return Verdict(health, "; ".join(details))
        return Verdict(Health.HEALTHY)

    def _probes_verdict(self, name: str, engine_says: Health) -> Verdict:
        """A new agent's first failure alone must not undo what its predecessor knew: a restart is not a failure."""
        verdict = self._by_probes.get(name, _NO_RESULT)
        began = self._failing_from_the_first.get(name)
        if began is None or engine_says is not Health.HEALTHY or self._clock() >= self._believed_at(name):
            self._failing_from_the_first.pop(name, None)
            return verdict
        return Verdict(Health.UNKNOWN, f"not sure yet: {verdict.detail}")

    def _believed_at(self, name: str) -> float:
        """When failure_threshold runs of the slowest probe have failed."""
        probes = self._tracking[name].probes
        patience_ms = max(
            ((probe.failure_threshold - 1) * in_a_cluster(probe).period_ms for probe in probes), default=0
        )
        return self._failing_from_the_first[name] + patience_ms / 1000

    def _tracks_pods(self, name: str) -> bool:
        return name in self._tracking and self._tracking[name].pods is not None
