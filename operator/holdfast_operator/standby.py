"""What a replica does that does not lead: it says who holds a VIP where the leader does not.

The leader may die with the node that held the VIP, and its Lease lasts for 15 s. Who holds it now follows from what the
agents have written, and is words alone: two that write the same words do no harm. A status is written only where nobody
has written since it was read, and of one move once, so that two replicas of different versions never write in turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from holdfast_api.cluster import VirtualIPStatus
from holdfast_kube.api_server import APIFailure
from holdfast_operator.events import EventRecorder
from holdfast_operator.hazards import Held
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_operator.reader import Cluster
from holdfast_operator.writer import NotLeader, Writer

Look = Callable[[], Awaitable[tuple[Cluster, ClusterPlan]]]
"""Reads everything, and plans."""

_Move = tuple[str, str, str]
"""VirtualIP, holder, and what the holder calls the beginning of that."""

_RETRY_SECONDS: Final = 2.0

_log = logging.getLogger(__name__)


class Standby:
    """`mark` when an agent may have written something; `run` for as long as the process lives."""

    def __init__(
        self, look: Look, writer: Writer, recorder: EventRecorder, is_leader: Callable[[], bool], pause_seconds: float
    ) -> None:
        """`pause_seconds`: before each of two looks. What the leader has not written by the second one is written."""
        self._look = look
        self._writer = writer
        self._recorder = recorder
        self._is_leader = is_leader
        self._pause_seconds = pause_seconds
        self._dirty = asyncio.Event()
        self._late: frozenset[_Move] = frozenset()
        self._written: dict[str, _Move] = {}

    def mark(self) -> None:
        """Look soon."""
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(self._pause_seconds)
            self._dirty.clear()
            if self._is_leader():
                self._late = frozenset()
                continue
            try:
                await self._stand_in()
            except Held as held:  # then the leader says nothing either
                _log.debug("not standing in: %s", held)
            except (APIFailure, NotLeader) as failure:
                _log.debug("not standing in: %s", failure)
                self._dirty.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _stand_in(self) -> None:
        """Write what the leader has not written since the last look. Raises APIFailure, Held, NotLeader."""
        cluster, plan = await self._look()
        late: dict[str, _Move] = {}
        for key, status in plan.statuses.items():
            there = cluster.virtual_ips[key].get("status") or {} if key in cluster.virtual_ips else None
            if there is not None and there.get("holder", "") != status.holder:
                late[key] = (key, status.holder, _beginning(status))
        due = [key for key, move in late.items() if move in self._late and self._written.get(key) != move]
        self._late = frozenset(late.values())
        self._written = {key: move for key, move in self._written.items() if key in plan.statuses}
        for key in due:
            self._written[key] = late[key]
        written = await self._writer.write_statuses_as_read(plan, cluster, due)
        if written:
            _log.warning("the leader has not said who holds %s: said in its place", ", ".join(sorted(written)))
        await self._recorder.post(
            [
                (notice, cluster.virtual_ips[notice.virtual_ip])
                for notice in plan.notices
                if notice.virtual_ip in written
            ]
        )
        if any(self._written.get(key) != move for key, move in late.items()):
            self._dirty.set()


def _beginning(status: VirtualIPStatus) -> str:
    last = status.transitions[-1] if status.transitions else None
    return (last.since or last.time) if last is not None and status.holder else ""
