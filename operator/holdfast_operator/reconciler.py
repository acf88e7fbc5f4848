"""Read everything, plan, write the difference: again whenever something may have changed, and never twice at a time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Final

import msgspec

from holdfast_api.cluster import SpeakerConfig, SpeakerConfigStatus
from holdfast_kube.api_server import APIFailure
from holdfast_kube.back_off import BackOff
from holdfast_kube.objects import key_of
from holdfast_operator.events import EventRecorder
from holdfast_operator.hazards import (
    Cause,
    Held,
    has_told_what_runs,
    lost_on_nodes,
    lost_words,
    seconds_to_wait,
    unplanned_nodes,
)
from holdfast_operator.metrics import Metrics
from holdfast_operator.planner.cluster.view import ClusterPlan, ClusterRules, ClusterView
from holdfast_operator.reader import Cluster, Reader
from holdfast_operator.service_writer import ServiceWriter, services_of
from holdfast_operator.writer import Writer

Planner = Callable[[ClusterView, str], ClusterPlan]

_NAMED = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When to reconcile; in seconds."""

    debounce: float = 0.05
    """What changes within this time is one change: a node's death moves a thousand VirtualIPs at once."""
    quiet: float = 1.0
    debounce_after_quiet: float = 0.005
    """The first change after so long a time without any is mostly a user's, who waits for it."""
    resync: float = 60.0
    """At least so often: a watch that lists anew never tells what was deleted in between."""
    first_retry: float = 0.5
    last_retry: float = 30.0
    stand_in: float = 0.75
    """Before each of the two looks of a replica that does not lead: see standby.py."""


DEFAULT_RHYTHM: Final = Rhythm()


class Reconciler:
    """`mark` when something may have changed; `run` while this process leads."""

    def __init__(
        self,
        once: Callable[[], Awaitable[bool]],
        random: Random,
        rhythm: Rhythm = DEFAULT_RHYTHM,
        look_again: Callable[[], float | None] = lambda: None,
        leave_alone: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`once`: whether a pass got through; what could not be written is `look_again`'s to have tried again.

        `look_again`: after how many seconds the next pass is due without any change; None: never.
        `leave_alone`: for how many seconds at least the API server has asked to be left alone, when a pass failed.
        """
        self._once = once
        self._look_again = look_again
        self._leave_alone = leave_alone
        self._rhythm = rhythm
        self._random = random
        self._dirty = asyncio.Event()
        self.busy_since: float | None = None
        """Monotonic: when the reconciliation under way began; None: none is."""

    def mark(self) -> None:
        """Reconcile soon; while one is under way, once more after it."""
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled."""
        back_off = BackOff(self._rhythm.first_retry, self._rhythm.last_retry, self._random)
        self._dirty.set()  # a new leader knows nothing
        while True:
            rested = time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_next()):
                    await self._dirty.wait()
            was_quiet = time.monotonic() - rested >= self._rhythm.quiet
            await asyncio.sleep(self._rhythm.debounce_after_quiet if was_quiet else self._rhythm.debounce)
            self._dirty.clear()
            began = self.busy_since = time.monotonic()
            try:
                succeeded = await self._once()
            finally:
                self.busy_since = None
            if succeeded:
                back_off.succeeded()
                # In a storm of changes as much rest as work, so that the API server has some too.
                await asyncio.sleep(min(time.monotonic() - began, self._rhythm.last_retry))
            else:
                await self._rest(back_off)
                self._dirty.set()

    async def _rest(self, back_off: BackOff) -> None:
        """After a pass that failed; a change ends it, as something may be different now."""
        asked = self._leave_alone()
        longest = back_off.failed(asked)
        least = max(min(self._rhythm.first_retry, longest), asked)
        await asyncio.sleep(least)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest - least):
                await self._dirty.wait()

    def _until_next(self) -> float:
        again = self._look_again()
        return self._rhythm.resync if again is None else min(again, self._rhythm.resync)


class Reconciliation:
    """One pass over the whole cluster. It remembers only what it has told people, and what speakers said last."""

    def __init__(
        self,
        reader: Reader,
        plan: Planner,
        writer: Writer,
        services: ServiceWriter,
        recorder: EventRecorder,
        metrics: Metrics,
        rules: ClusterRules,
    ) -> None:
        self._reader = reader
        self._rules = rules
        self._plan = plan
        self._writer = writer
        self._services = services
        self._recorder = recorder
        self._metrics = metrics
        self._speakers: Mapping[str, SpeakerConfig] = {}
        self._told = ""
        self._told_lost = ""
        self.obstacle = ""
        """Why the last one did not get through; empty: it did."""
        self._planned_again_seconds: float | None = None
        self.leave_alone_seconds = 0.0
        """What the API server asked for, when the last one did not get through."""

    async def once(self) -> bool:
        """Whether it got through. Raises NotLeader.

        What could not be written is an obstacle, and holds up nothing else.
        """
        with self._metrics.duration.time():
            try:
                failed = await self._carry_out(*await self._look())
            except Held as held:
                self._metrics.hold(held.cause)
                self.leave_alone_seconds = 0.0
                return self._ended("held", f"nothing is written, the nodes keep what they run: {held}")
            except APIFailure as failure:
                self.leave_alone_seconds = failure.retry_after_seconds
                return self._ended("failure", str(failure))
        if failed:
            names = ", ".join(sorted(failed)[:_NAMED])
            self._ended("failure", f"{len(failed)} objects cannot be written: {names}")
            return True
        return self._ended("success", "")

    def look_again_seconds(self) -> float | None:
        """After how long the same cluster is planned otherwise, or a write tried again; None: never."""
        waits = (
            self._planned_again_seconds,
            self._writer.next_attempt_seconds(),
            self._services.next_attempt_seconds(),
        )
        return min((seconds for seconds in waits if seconds is not None), default=None)

    async def look(self) -> tuple[Cluster, ClusterPlan]:
        """What there is, and what it is to be. Raises APIFailure, Held."""
        cluster, _, plan = await self._look()
        return cluster, plan

    async def _look(self) -> tuple[Cluster, ClusterView, ClusterPlan]:
        cluster = await self._reader.read()
        self._metrics.listed()
        view = remembering(cluster.view(self._rules), self._speakers)
        node_names = {node.name for node in view.nodes}
        self._speakers = {name: speaker for name, speaker in view.speakers.items() if name in node_names}
        return cluster, view, self._plan(view, _now())

    async def _carry_out(self, cluster: Cluster, view: ClusterView, plan: ClusterPlan) -> frozenset[str]:
        of_services = plan
        left_out = services_of(of_services, await self._services.give(of_services, cluster))
        if left_out:
            # Nobody may hold what no VirtualIP stands for: the plan is made as if these had not asked.
            plan = self._plan(without_services(view, left_out), _now())
        self._planned_again_seconds = plan.look_again_seconds
        self._metrics.tell_services(of_services.services)
        self._metrics.tell_pools(plan.pools)
        self._metrics.tell_virtual_ips(plan.statuses)
        self._metrics.tell_speakers(plan.speakers, plan.heard)
        self._metrics.tell_balance(plan.speakers.keys(), plan.statuses)
        heard = frozenset(name for name, one in self._speakers.items() if has_told_what_runs(one.status))
        await self._writer.configure(plan, cluster, heard, self._left_as_they_are(cluster, plan))
        # Before the statuses of VirtualIPs, which are words alone: kube-proxy opens by a Service's.
        await self._services.tell(of_services, cluster, left_out)
        failed = await self._writer.say(plan, cluster)
        failed |= await self._services.take(of_services, cluster)
        # What is not in the status yet is noticed again, so it is told only then.
        await self._recorder.post(
            [
                (notice, cluster.virtual_ips[notice.virtual_ip])
                for notice in plan.notices
                if notice.virtual_ip in cluster.virtual_ips and f"virtualips/{notice.virtual_ip}" not in failed
            ]
        )
        services = cluster.services
        await self._recorder.post(
            [
                (notice, services[notice.service])
                for notice in of_services.service_notices
                if notice.service in services.keys() - left_out and f"services/{notice.service}" not in failed
            ]
        )
        return failed

    def _left_as_they_are(self, cluster: Cluster, plan: ClusterPlan) -> frozenset[str]:
        """The nodes that run what nobody has deleted, or of which the others have to be heard first."""
        uid = cluster.virtual_ips_uid
        lost = lost_on_nodes(cluster.virtual_ips.keys(), self._speakers, uid)
        self._tell_lost(lost, uid)
        unplanned = unplanned_nodes(self._speakers, uid)
        made = {name: str(speaker["metadata"]["creationTimestamp"]) for name, speaker in cluster.speakers.items()}
        wait = seconds_to_wait(self._speakers, made, plan.heard, datetime.now(UTC))
        if not unplanned or wait <= 0:
            return frozenset(lost)
        self._planned_again_seconds = min(wait, self._planned_again_seconds or wait)
        return unplanned

    def _tell_lost(self, lost: Mapping[str, Sequence[str]], definition_uid: str) -> None:
        """No obstacle: all else is planned, and an agent that lies must not make this replica look broken."""
        self._metrics.hold(Cause.VIRTUAL_IPS_LOST if lost else None)
        words = lost_words(lost, definition_uid)
        if words != self._told_lost:
            self._told_lost = words
            _log.warning("%s", words or "what the nodes run is there again, or confirmed to be gone")

    def _ended(self, result: str, obstacle: str) -> bool:
        self._metrics.reconciles.labels(result).inc()
        self.obstacle = obstacle
        if obstacle != self._told:
            self._told = obstacle
            if obstacle:
                _log.warning("%s", obstacle)
            else:
                _log.info("everything is as it should be again")
        return not obstacle


def without_services(view: ClusterView, left_out: Collection[str]) -> ClusterView:
    """The view, as if these Services, as namespace/name, were not there."""
    return dataclasses.replace(view, services=[one for one in view.services or () if key_of(one) not in left_out])


def remembering(view: ClusterView, former: Mapping[str, SpeakerConfig]) -> ClusterView:
    """The view, as if nobody had deleted one whose node is still there.

    Made anew it lacks what the node's agent has said of its links, and a plan without that would stop all that the
    node runs. What the agent said last holds until it has said it again.
    """
    speakers = dict(view.speakers)
    for node in view.nodes:
        before, there = former.get(node.name), speakers.get(node.name)
        if before is None or (there is not None and there.status != SpeakerConfigStatus()):
            continue
        status = msgspec.structs.replace(before.status, observed_generation=0)
        speakers[node.name] = msgspec.structs.replace(there or before, status=status)
    return dataclasses.replace(view, speakers=speakers)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
