"""The agent's side of the engine's control socket, for ever: connect, configure, report health, ask how things are.

The engine's keeper keeps listening while an engine is forked anew, and in a rolling update a successor makes a new
socket at the same path. To the link both are the same: the connection ends, and another one begins.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from holdfast_api.messages import (
    Answer,
    Configure,
    Done,
    ExpectFirstHolds,
    GetHistory,
    GetStatus,
    History,
    Refused,
    ReportHealth,
    Status,
    Subscribe,
    Switchover,
    Transition,
)
from holdfast_api.reasons import State
from holdfast_speaker.agent.configuration import Configuration, Step
from holdfast_speaker.agent.engine_connection import EngineAway, EngineConnection, identity_of
from holdfast_speaker.agent.health_book import HealthBook
from holdfast_speaker.agent.node_statuses import LastTransitions, after
from holdfast_speaker.agent.pods import Verdict

_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MAX = 1.0
_LOOK_EVERY_SECONDS = 5.0
"""How old what is not told by itself may be: links and their addresses, health, counters, warnings."""

_LOOK_AFTER_TRANSITION_SECONDS = 0.05
"""Transitions that come together are one look at the engine's status."""

_CONFIGURE_SECONDS = 30.0
_RETELL_EVERY_SECONDS = 30.0
"""All health is told again, in case another agent of this node, gone by now, was the last to speak."""

_TAKE_OVER_AGAIN_SECONDS = 5.0
"""How long an engine that was to take a virtual router over has time for it before it is told again."""

_log = logging.getLogger(__name__)


class EngineLink:
    """Its callbacks: `accepted` when the engine took a configuration, `changed` when there is a new status (or none any
    more), `transition` with every transition that was not known before."""

    def __init__(
        self,
        socket_path: Path,
        configuration: Configuration,
        health: HealthBook,
        *,
        accepted: Callable[[], None],
        changed: Callable[[], None],
        transition: Callable[[Transition], None],
    ) -> None:
        self._path = socket_path
        self._configuration = configuration
        self._health = health
        self._accepted = accepted
        self._changed = changed
        self._transition = transition
        self._clock = asyncio.get_running_loop().time
        self._wake = asyncio.Event()
        self._connection: EngineConnection | None = None
        self._reported: dict[str, Verdict] = {}
        self._look_at = 0.0
        self._retell_at = 0.0
        self._is_first = True
        self._told = ""
        self._status: Status | None = None
        self._take_over_at: dict[str, float] = {}
        """When an engine may be told again to take a virtual router over."""
        self._later: dict[str, Transition] = {}
        """By namespace/name: transitions that the status does not know yet."""
        self.last_transitions = LastTransitions()
        self.read_again = asyncio.Event()
        """Set when only a fresh read of the SpeakerConfig can tell what to do."""
        self.away_since: float | None = self._clock()
        """Since when (seconds of the loop's clock) nobody answers; None: somebody does."""
        self.words = "no engine has been reached yet"
        """Why nobody answers."""

    @property
    def status(self) -> Status | None:
        """What the engine said last, with the transitions since; None before the first."""
        if self._status is None or not self._later:
            return self._status
        routers = [
            after(router, self._later[router.virtual_ip]) if router.virtual_ip in self._later else router
            for router in self._status.routers
        ]
        return structs.replace(self._status, routers=routers)

    @property
    def is_connected(self) -> bool:
        """Whether an engine answers."""
        return self._connection is not None

    async def has_ended(self) -> None:
        """Wait until nobody answers."""
        if self._connection is not None:
            await asyncio.wait({self._connection.ended})

    def wake(self) -> None:
        """There may be something to tell the engine."""
        self._wake.set()

    async def run(self) -> None:
        """Never returns."""
        pause = _PAUSE_SECONDS
        while True:
            try:
                await self._talk()
            except EngineAway as away:
                pause = _PAUSE_SECONDS if self._connection is not None else min(pause * 1.5, _PAUSE_SECONDS_MAX)
                self._lose(str(away))
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # no secret: spreads load

    async def look(self) -> None:
        """Ask for the status now. Raises EngineAway."""
        if self._connection is None:
            raise EngineAway(self.words)
        self._take(await self._ask_status(self._connection, GetStatus()))

    async def _talk(self) -> None:
        """One connection, until it ends. Raises EngineAway."""
        connection = await EngineConnection.open(self._path, self._take_transition)
        try:
            connection.ended.add_done_callback(lambda _: self._wake.set())
            status = await self._ask_status(connection, Subscribe())
            await self._catch_up(connection, status)
            self._begin(connection, status)
            while True:
                await self._configure(connection)
                await self._report_health(connection)
                await self._take_over(connection)
                await self._something_to_do()
                if connection.ended.done():
                    raise EngineAway("the engine closed the connection")
                if self._clock() >= self._look_at:
                    self._require_same_socket(connection)
                    await self.look()
        finally:
            connection.close()

    def _begin(self, connection: EngineConnection, status: Status) -> None:
        _log.info("connected to the engine: process %d, generation %d", status.pid, status.generation)
        self._connection, self.away_since, self.words, self._told = connection, None, "", ""
        self._configuration.connected()
        self._retell_at = 0.0
        self._is_first = False
        self._take(status)

    def _lose(self, words: str) -> None:
        if words != self._told:
            self._told = words
            _log.warning("%s; trying again until one answers", words)
        self.words = words
        if self._connection is not None:
            self._connection, self.away_since = None, self._clock()
            self._changed()

    # ----- what the engine says -----

    async def _ask_status(self, connection: EngineConnection, request: GetStatus | Subscribe) -> Status:
        self._look_at = self._clock() + _LOOK_EVERY_SECONDS
        answer = await connection.ask(request)
        if not isinstance(answer, Status):
            raise EngineAway(f"the engine does not tell its status: {_words(answer)}")
        return answer

    async def _catch_up(self, connection: EngineConnection, status: Status) -> None:
        """Learn of the transitions that nobody here has heard of: the last one, and if they are news, all of them."""
        wanted = {router.virtual_ip for router in status.routers if router.state is State.MASTER or not self._is_first}
        for name in self.last_transitions.lacking(status.routers):
            if name not in wanted:
                continue
            answer = await connection.ask(GetHistory(virtual_ip=name))
            known_until = self.last_transitions.last_time(name)
            for transition in answer.transitions if isinstance(answer, History) else ():
                if transition.time > known_until and self.last_transitions.take(transition) and not self._is_first:
                    self._transition(transition)

    def _take(self, status: Status) -> None:
        self._status = status
        since = {router.virtual_ip: router.since for router in status.routers}
        self._later = {name: one for name, one in self._later.items() if one.time > since.get(name, one.time)}
        self.last_transitions.keep_only(since)
        self._changed()

    def _take_transition(self, transition: Transition) -> None:
        if not self.last_transitions.take(transition):
            return
        self._transition(transition)
        self._later[transition.virtual_ip] = transition
        self._look_at = min(self._look_at, self._clock() + _LOOK_AFTER_TRANSITION_SECONDS)
        self._wake.set()

    def _require_same_socket(self, connection: EngineConnection) -> None:
        try:
            is_same = identity_of(self._path) == connection.identity
        except OSError:  # a successor is about to make its own; nothing is lost by staying
            return
        if not is_same:
            raise EngineAway("another engine has made the socket anew")

    # ----- what the engine is told -----

    async def _configure(self, connection: EngineConnection) -> None:
        status, wanted = self.status, self._configuration.newest
        if status is None or wanted is None:
            return
        match self._configuration.step(status.generation):
            case Step.NOTHING:
                return
            case Step.READ_AGAIN:
                self.read_again.set()
                return
        self._configuration.offered(wanted)
        if wanted.spec.first_holds and not wanted.is_cached:
            nominees = {first.virtual_router: first.node_name for first in wanted.spec.first_holds}
            answer = await connection.ask(ExpectFirstHolds(nominees=nominees))
            if isinstance(answer, Refused):  # an engine of an earlier version: whoever is first holds first
                _log.debug("the engine takes no word about who holds first: %s", answer.reason)
        request = Configure(configuration=wanted.spec.engine_configuration(wanted.generation))
        answer = await connection.ask(request, _CONFIGURE_SECONDS)
        if isinstance(answer, Done):
            _log.info("generation %d of the SpeakerConfig is in force", wanted.generation)
            self._configuration.accepted(wanted)
            self._accepted()
        else:
            self._configuration.refused(wanted, _words(answer))
        self._retell_at = 0.0
        await self.look()

    async def _report_health(self, connection: EngineConnection) -> None:
        self._health.look_at_pods()
        if self._clock() >= self._retell_at:
            self._retell_at = self._clock() + _RETELL_EVERY_SECONDS
            self._reported.clear()
        routers = self.status.routers if self.status else []
        verdicts = self._health.verdicts({router.virtual_ip: router.health for router in routers})
        news = {name: verdict for name, verdict in verdicts.items() if self._reported.get(name) != verdict}
        self._reported = verdicts
        for answer in await asyncio.gather(
            *(
                connection.ask(ReportHealth(virtual_ip=name, health=verdict.health, detail=verdict.detail))
                for name, verdict in news.items()
            )
        ):
            if isinstance(answer, Refused):  # it does not run that one (yet)
                _log.debug("the engine passed over a health: %s", answer.reason)
        if news:
            self._look_at = min(self._look_at, self._clock() + _LOOK_AFTER_TRANSITION_SECONDS)

    async def _take_over(self, connection: EngineConnection) -> None:
        """What a rebalance wants of this node: the engine decides whether it can, and does so make before break."""
        wanted, status = self._configuration.newest, self._status
        if wanted is None or wanted.is_cached or status is None or status.generation != wanted.generation:
            return
        routers = {router.virtual_ip: router for router in status.routers}
        for one in wanted.spec.take_overs:
            router = routers.get(one.virtual_router)
            if router is None or router.state is not State.BACKUP or router.master not in one.holder_addresses:
                continue
            if self._clock() < self._take_over_at.get(one.virtual_router, 0.0):
                continue
            self._take_over_at = {one.virtual_router: self._clock() + _TAKE_OVER_AGAIN_SECONDS}
            answer = await connection.ask(Switchover(virtual_ip=one.virtual_router, to=status.node_name))
            if isinstance(answer, Refused):
                _log.warning("%s is not taken over: %s", one.virtual_router, answer.reason)
            else:
                _log.info("%s is taken over from %s, as the operator asks", one.virtual_router, router.master)

    async def _something_to_do(self) -> None:
        due = min(self._look_at, self._health.next_change() or self._look_at)
        try:
            async with asyncio.timeout_at(due):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()


def _words(answer: Answer) -> str:
    return answer.reason if isinstance(answer, Refused) else f"an answer of type {type(answer).__name__}"
