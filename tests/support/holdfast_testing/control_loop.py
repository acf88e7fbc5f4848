"""The whole control loop in virtual time: the planner, agents that are late, and real engines on simulated hosts.

What each of them reads may be old by the time it acts: every read, write and message takes a time of its own. The
operator remembers nothing between two passes, as if it was restarted after each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec

from holdfast_api.addresses import packed
from holdfast_api.cluster import (
    PLANNED_FROM_ANNOTATION,
    Link,
    SpeakerConfig,
    SpeakerConfigMetadata,
    SpeakerConfigSpec,
    SpeakerConfigStatus,
    VirtualRouterInForce,
)
from holdfast_operator.hazards import has_told_what_runs, lost_on_nodes, seconds_to_wait, unplanned_nodes
from holdfast_operator.planner.cluster.plan import plan_cluster
from holdfast_operator.planner.cluster.view import ClusterPlan, NodeView
from holdfast_speaker.engine.reports import link_statuses
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_testing.planner_world import World
from holdfast_testing.sim.machine import Host
from holdfast_testing.virtual_lan import HoldsAddresses, VirtualLan, Wanted

KEY = "shop/web"
VIP = "10.0.0.100"
EDGE = {"edge": "true"}

_WATCH = (5, 150)
"""Milliseconds: between a write and whoever watches it."""
_WRITE = (5, 250)
_AGENT = (20, 200)
_OPERATOR = (50, 300)

_EPOCH = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a VIP since it was first held, in milliseconds."""

    lost: list[float]
    """The times in which nobody had it."""
    double: list[float]
    """The times in which two had it."""
    moves: list[tuple[str, str]]


class Agent:
    """What stands between the API server and the engine of one node."""

    def __init__(self, loop: ControlLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self.is_away = False
        self._applied: tuple[int, int] = (0, 0)
        """The number of the SpeakerConfig object, and its generation."""
        self._planned_from = ""
        self._busy: set[str] = set()
        self._tick()

    def begin_anew(self) -> None:
        """The engine was started anew, and has not been told anything."""
        self._applied = (0, 0)

    @property
    def _host(self) -> Host:
        return self._loop.lan.hosts[self._name]

    def _tick(self) -> None:
        self._loop.later(_AGENT, self._tick)
        if self.is_away or self._host.process is None:
            return
        self._once("configuration", _WATCH, self._read_configuration)
        self._once("status", _WRITE, self._read_status)
        self._once("entry", _WRITE, self._read_entry)

    def _once(self, what: str, delay: tuple[int, int], read: Callable[[], Callable[[], None] | None]) -> None:
        """What is read now takes effect later, one at a time."""
        if what in self._busy:
            return
        act = read()
        if act is None:
            return
        self._busy.add(what)

        def arrive() -> None:
            self._busy.discard(what)
            if not self.is_away and self._host.process is not None:
                act()

        self._loop.later(delay, arrive)

    def _read_configuration(self) -> Callable[[], None] | None:
        speaker = self._loop.world.speakers.get(self._name)
        if speaker is None or self._name not in self._loop.planned:
            return None
        told = (self._loop.objects[self._name], speaker.metadata.generation)
        self._planned_from = speaker.metadata.annotations[PLANNED_FROM_ANNOTATION]
        if told == self._applied:
            return None

        def act() -> None:
            self._applied = told
            self._host.configure(speaker.spec.engine_configuration(told[1]))

        return act

    def _read_status(self) -> Callable[[], None] | None:
        loop, name = self._loop, self._name
        speaker = loop.world.speakers.get(name)
        if speaker is None:
            return None
        number, generation = self._applied
        if name not in loop.planned or number != loop.objects[name]:
            generation = 0
        engine = self._host.engine
        links = [Link(name=link.name, addresses=link.addresses) for link in link_statuses(engine.table, engine.vips)]
        status = SpeakerConfigStatus(
            observed_generation=generation,
            links=links,
            virtual_routers=[
                VirtualRouterInForce(name=key, virtual_router_id=instance.configuration.virtual_router_id)
                for key, instance in sorted(engine.instances.items())
            ],
            planned_from=self._planned_from,
        )
        object_number = loop.objects[name]

        def act() -> None:
            there = loop.world.speakers.get(name)
            if there is not None and loop.objects[name] == object_number:
                loop.world.speakers[name] = msgspec.structs.replace(there, status=status)

        return act

    def _read_entry(self) -> Callable[[], None] | None:
        loop, name = self._loop, self._name
        instance = self._host.instance(KEY)
        speaker = loop.world.speakers.get(name)
        if instance is None:
            is_configured = speaker is None or any(router.name == KEY for router in speaker.spec.virtual_routers)
            return None if is_configured else lambda: loop.withdraw(name)
        router: VirtualRouter = instance.router
        fields = {
            "priority": router.effective_priority,
            "health": router.health.value,
            "interface": instance.link.name if instance.link else "",
        }
        state, since = router.state_name.value, loop.date(float(instance.last_move.since))

        def act() -> None:
            if KEY in loop.world.virtual_ips:
                loop.world.say(KEY, name, state, since, at=loop.now_text, **fields)

        return act


class ControlLoop:
    """A cluster with one VirtualIP. Nothing happens but in `run`."""

    def __init__(self, *names: str, random: Random, interval_milliseconds: int = 100, **spec: Any) -> None:
        self.random = random
        self.world = World(*names)
        self.world.speakers.clear()
        self.world.heard = set(names)
        for name, node in self.world.nodes.items():
            self.world.nodes[name] = dataclasses.replace(node, labels=dict(EDGE))
        self._numbers = {name: number for number, name in enumerate(names, start=1)}
        self.lan = VirtualLan({name: Wanted((), self._own(f"10.0.0.{self._numbers[name]}", name)) for name in names})
        self.planned: set[str] = set()
        """Nodes whose SpeakerConfig says that it is a plan."""
        self.objects: dict[str, int] = {}
        """A number for each SpeakerConfig object: one that is made anew is another."""
        self._made = 0
        self._made_at: dict[str, str] = {}
        self._definition_uid = "first"
        self.is_operator_away = False
        self._former: dict[str, NodeView] = {}
        self.spec: dict[str, Any] = {
            "addresses": [f"{VIP}/24"],
            "advertisementIntervalMilliseconds": interval_milliseconds,
            "nodes": {"selector": {"matchLabels": EDGE}},
            **spec,
        }
        self.world.apply("web", **self.spec)
        for name in names:
            self.lan.start(name)
        self.agents = {name: Agent(self, name) for name in names}
        self._pass()

    def _own(self, address: str, name: str) -> tuple[tuple[bytes, int], ...]:
        return ((packed(address), 24), (packed(f"fe80::{self._numbers[name]}"), 64))

    # ----- time -----

    def later(self, milliseconds: tuple[int, int], act: Callable[[], None]) -> None:
        """Do it after a random time between these."""
        delay = self.random.randint(milliseconds[0] * MILLISECOND, milliseconds[1] * MILLISECOND)
        self.lan.timeline.at(self.lan.now + delay, act)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.lan.run(round(seconds * SECOND))

    @staticmethod
    def date(seconds: float) -> str:
        """A time of the simulation as people write it."""
        return (_EPOCH + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @property
    def now_text(self) -> str:
        return self.date(self.lan.now / SECOND)

    # ----- the operator -----

    def _pass(self) -> None:
        if self.is_operator_away:
            self.later(_OPERATOR, self._pass)
            return
        plan = plan_cluster(self.world.view, self.now_text)
        writes: list[Callable[[], None]] = []
        left = self._left_as_they_are(plan)
        for node, spec in plan.speakers.items():
            there = self.world.speakers.get(node)
            if node in left and there is not None:
                continue
            annotations = dict(plan.annotations.get(node, {}))
            if node in self.planned or (there is not None and has_told_what_runs(there.status)):
                annotations[PLANNED_FROM_ANNOTATION] = self._definition_uid
            elif there is None or not there.spec.virtual_routers:
                spec = SpeakerConfigSpec(node_name=node)
            if there is None or there.spec != spec or there.metadata.annotations != annotations:
                writes.append(lambda node=node, spec=spec, kept=annotations: self._write(node, spec, kept))  # type: ignore[misc]
        writes += [
            lambda node=node: self._delete(node)  # type: ignore[misc]
            for node in self.world.speakers.keys() - plan.speakers.keys()
        ]
        for write in writes:
            self.later(_WRITE, write)
        # The statuses follow once the configurations are written, and then the next pass.
        self.lan.timeline.at(self.lan.now + (_WRITE[1] + 1) * MILLISECOND, lambda: self._write_statuses(plan))

    def _write(self, node: str, spec: SpeakerConfigSpec, annotations: dict[str, str]) -> None:
        there = self.world.speakers.get(node)
        generation = (there.metadata.generation if there else 0) + (there is None or there.spec != spec)
        if there is None:
            self._made += 1
            self.objects[node] = self._made
            self._made_at[node] = self.now_text
        status = there.status if there is not None else SpeakerConfigStatus()
        if PLANNED_FROM_ANNOTATION in annotations:
            self.planned.add(node)
        metadata = SpeakerConfigMetadata(name=node, generation=generation, annotations=annotations)
        self.world.speakers[node] = SpeakerConfig(metadata=metadata, spec=spec, status=status)

    def _left_as_they_are(self, plan: ClusterPlan) -> frozenset[str]:
        speakers, uid = self.world.speakers, self._definition_uid
        now = datetime.fromisoformat(self.now_text)
        if seconds_to_wait(speakers, self._made_at, plan.heard, now) > 0:
            return unplanned_nodes(speakers, uid)
        return frozenset(lost_on_nodes(self.world.virtual_ips.keys(), speakers, uid))

    def _delete(self, node: str) -> None:
        self.world.speakers.pop(node, None)
        self.planned.discard(node)

    def _write_statuses(self, plan: ClusterPlan) -> None:
        for key, status in plan.statuses.items():
            if key in self.world.virtual_ips:
                own = self.world.virtual_ips[key]["status"].get("nodes", [])
                self.world.virtual_ips[key]["status"] = {**msgspec.to_builtins(status), "nodes": own}
                for node in plan.departed.get(key, ()):
                    self.withdraw(node)
        self.later(_OPERATOR, self._pass)

    def withdraw(self, node: str) -> None:
        """A node's entry is taken away."""
        if KEY in self.world.virtual_ips:
            entries = self.world.virtual_ips[KEY]["status"].get("nodes", [])
            entries[:] = [entry for entry in entries if entry["nodeName"] != node]

    # ----- what people do -----

    def label(self, node: str, *, on: bool) -> None:
        """`kubectl label node`."""
        if node in self.world.nodes:
            labels = dict(EDGE) if on else {}
            self.world.nodes[node] = dataclasses.replace(self.world.nodes[node], labels=labels)

    def edit(self, **spec: Any) -> None:
        """`kubectl edit vip`."""
        self.spec |= spec
        self.world.apply("web", **self.spec)

    def delete_node(self, node: str, *, pod_goes_after: float) -> None:
        """`kubectl delete node`: Kubernetes collects its pods after a while."""
        self._former[node] = self.world.nodes.pop(node)

        def collect() -> None:
            if node not in self.world.nodes:
                self.world.heard = (self.world.heard or set()) - {node}
                self.lan.hosts[node].stop(Duration(5 * SECOND))

        self.lan.timeline.at(self.lan.now + round(pod_goes_after * SECOND), collect)

    def bring_back(self, node: str) -> None:
        """Its kubelet registers it again, and its pod is made anew."""
        self.world.nodes[node] = self._former.pop(node)
        self.world.heard = (self.world.heard or set()) | {node}
        if self.lan.hosts[node].process is None:
            self.lan.start(node)
            self.agents[node].begin_anew()

    def make_definition_of_speakers_anew(self) -> None:
        """The definition of SpeakerConfigs is deleted and made anew, and the operator is restarted."""
        self.world.speakers.clear()
        self.planned.clear()
        self.is_operator_away = True
        self.later((500, 3000), self._begin_anew)

    def make_definitions_anew(self, *, applied_after: tuple[int, int]) -> None:
        """Both definitions are, and the VirtualIP is applied some milliseconds after the operator has begun anew."""
        self.make_definition_of_speakers_anew()
        self.world.virtual_ips.clear()
        self._definition_uid += " anew"
        self.later((3000, 3000), lambda: self.later(applied_after, lambda: self.world.apply("web", **self.spec)))

    def _begin_anew(self) -> None:
        self.is_operator_away = False

    def renumber(self, node: str, address: str) -> None:
        """A DHCP server gives it another address."""
        self.lan.renumber(node, self._own(address, node))

    # ----- what came of it -----

    @property
    def holder(self) -> str:
        """Who has the VIP."""
        return (self.lan.holders(KEY) or [""])[0]

    def verdict(self, since: Instant) -> Verdict:
        """By the kernels' addresses, to the nanosecond."""
        holding: set[str] = set()
        lost: list[float] = []
        double: list[float] = []
        moves: list[tuple[str, str]] = []
        last, at = "", since
        for happening in self.lan.happenings:
            if not isinstance(happening.what, HoldsAddresses):
                continue
            if happening.at >= since:
                span = (happening.at - at) / MILLISECOND
                at = happening.at
                if span and len(holding) != 1:
                    (double if holding else lost).append(span)
            holding ^= {happening.node}
            if happening.what.held:
                if happening.at >= since and last != happening.node:
                    moves.append((last, happening.node))
                last = happening.node
        if len(holding) != 1:
            (double if holding else lost).append((self.lan.now - at) / MILLISECOND)
        return Verdict(lost, double, moves)
