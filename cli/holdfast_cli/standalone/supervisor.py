"""The supervisor: reads files, plans, starts the engine, runs the probes, and tells the engine what is new.

It is to a plain host what agent and operator are in a cluster. Nothing here is in the data path: while it is busy or
stopped, the engine goes on with what it knows.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from holdfast_api.errors import UNDECODABLE, ConfigurationErrors
from holdfast_api.messages import Configure, Refused, ReportHealth, Started, Status, Subscribe, Transition
from holdfast_api.reasons import Health
from holdfast_cli.standalone.edits import Look, Looks
from holdfast_cli.standalone.engine_process import EngineProcess, decode_answer
from holdfast_cli.standalone.feed import Feed
from holdfast_cli.standalone.log import Log
from holdfast_cli.standalone.notifier import TIMEOUT_SECONDS, Notifier, utc_now
from holdfast_cli.standalone.probe_environment import probe_environment
from holdfast_cli.standalone.spawn import Spawned
from holdfast_operator.planner.host.standalone import HostPlan
from holdfast_speaker.health.monitor import HealthMonitor
from holdfast_speaker.health.threads import in_own_thread

_LOOK_EVERY_SECONDS = 0.5
_PATIENCE_SECONDS = 3.0
_LAST_WORDS_SECONDS = 0.5


class Supervisor:
    """One `holdfast run`."""

    def __init__(
        self,
        feed: Feed,
        look: Look,
        plan: HostPlan,
        spawned: Spawned,
        log: Log,
        keep_moves: Callable[[], None],
        notifier: Notifier,
    ) -> None:
        """`plan`: of what was seen in the first `look` at the files; the engine that was spawned has begun with it.

        `keep_moves`: writes what former engines did into the state directory; raises OSError.
        """
        self._feed = feed
        self._looks = Looks(look)
        self._plan = plan
        self._spawned = spawned
        self._log = log
        self._keep_moves = keep_moves
        self._notifier = notifier
        self._subscribed = False
        self._subscribed_at = ""
        """Empty: with the engine's start, or before."""
        self._stop = asyncio.Event()
        self._started = False
        self._begun_with = plan.configuration.generation
        self._warned: frozenset[str] = frozenset()

    def run(self) -> int:
        """Until SIGTERM or SIGINT. Returns the exit status."""
        with self._log.taking_what_python_prints():
            try:
                return asyncio.run(self._run())
            except Exception:  # noqa: BLE001  # the outermost loop of this process; the engine has been stopped
                self._log.trace()
                return 1

    async def _run(self) -> int:
        reread = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, reread.set)
        engine, answers = await EngineProcess.follow(self._spawned)
        monitor = HealthMonitor(
            {},
            lambda name, health, detail: self._report(engine, name, health, detail),
            environment=lambda name: probe_environment(self._plan.configuration, name),
        )
        self._say_warnings(self._plan)
        monitor.replace(self._plan.probes)
        self._notifier.replace(self._plan)
        stopped = asyncio.create_task(self._stop.wait())
        ended = asyncio.create_task(engine.wait())
        log_relay = asyncio.create_task(engine.relay_log(self._log))
        others = [
            asyncio.create_task(self._read_answers(answers, engine, monitor)),
            asyncio.create_task(self._follow_files(reread, engine, monitor)),
            asyncio.create_task(monitor.watch()),
        ]
        keeping = asyncio.create_task(self._keep_past_moves())
        await asyncio.wait({stopped, ended, *others[1:]}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done() and ended.done():
            await _finish(log_relay)
            self._log.write("error", f"the engine ended by itself, {_told(ended.result())}")
        await engine.stop(_PATIENCE_SECONDS)
        await _finish(log_relay)
        keeping.cancel()
        await asyncio.wait(others[:1], timeout=_LAST_WORDS_SECONDS)
        self._notifier.stopped(cleanly=await engine.wait() == 0)
        for task in others:
            task.cancel()
        outcomes = await asyncio.gather(*others, return_exceptions=True)
        await monitor.close()
        await self._notifier.close(TIMEOUT_SECONDS)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return 0 if stopped.done() else 1

    def _say_warnings(self, plan: HostPlan) -> None:
        """Those that were not there before: an edit of one VirtualIP does not repeat what is known of the others."""
        none = [] if plan.configuration.virtual_routers else ["no VirtualIP is to be held on this host"]
        warnings = dict.fromkeys([*plan.warnings, *none])
        for warning in warnings:
            if warning not in self._warned:
                self._log.write("warning", warning)
        self._warned = frozenset(warnings)

    async def _keep_past_moves(self) -> None:
        try:
            await in_own_thread(self._keep_moves)
        except OSError as error:
            self._log.write("warning", f"past moves are not kept for `holdfast why`: {error.strerror}")

    def _put_in_force(self, engine: EngineProcess, monitor: HealthMonitor) -> None:
        engine.send(Configure(configuration=self._plan.configuration))
        self._report_all(engine, monitor)
        if not self._subscribed:
            self._subscribe(engine, utc_now())

    def _subscribe(self, engine: EngineProcess, since: str = "") -> None:
        """Hear of each change from now on, if somebody is to be told; first comes how it is now."""
        self._subscribed = self._notifier.is_wanted
        self._subscribed_at = since
        if self._subscribed:
            engine.send(Subscribe())

    def _report_all(self, engine: EngineProcess, monitor: HealthMonitor) -> None:
        for name, (health, detail) in monitor.current().items():
            # A VirtualIP that began to track services learns what is known already.
            self._report(engine, name, health, detail)

    def _report(self, engine: EngineProcess, name: str, health: Health, detail: str) -> None:
        # Before the first engine has started nobody listens; it is told everything then.
        if self._started:
            engine.send(ReportHealth(virtual_ip=name, health=health, detail=detail))

    async def _read_answers(self, answers: asyncio.StreamReader, engine: EngineProcess, monitor: HealthMonitor) -> None:
        while line := await _next_line(answers):
            try:
                answer = decode_answer(line)
            except UNDECODABLE:  # the rest of what a dying engine had begun to say
                continue
            match answer:
                case Refused(reason=reason):
                    self._log.write("error", f"the engine refused: {reason}")
                case Transition():
                    self._notifier.tell(answer)
                case Status():
                    self._notifier.catch_up(answer, self._subscribed_at or answer.started)
                case Started(generation=generation):
                    self._notifier.begin()
                    self._subscribe(engine)
                    if not self._started:  # what it begins with waits for it on its connection
                        generation, self._started = self._begun_with, True
                    if generation == self._plan.configuration.generation:
                        self._report_all(engine, monitor)
                    else:
                        self._put_in_force(engine, monitor)
                case _:
                    pass

    async def _follow_files(self, reread: asyncio.Event, engine: EngineProcess, monitor: HealthMonitor) -> None:
        while True:
            hurried = await _set_within(reread, _LOOK_EVERY_SECONDS)
            try:
                look = await in_own_thread(self._feed.look)
            except OSError as error:  # no more threads; what is read says by itself why it cannot be
                self._log.write("warning", f"cannot look at the files: {error.strerror}")
                continue
            if self._looks.counts(look, at_once=hurried):
                self._reread(look, engine, monitor)
            self._look_for_maintenance(engine, monitor)

    def _look_for_maintenance(self, engine: EngineProcess, monitor: HealthMonitor) -> None:
        plan = self._feed.plan_of_maintenance()
        if plan is None:
            return
        asked = self._feed.maintenance
        self._log.write("notice", f"{asked.sentence} begins" if asked is not None else "maintenance has ended")
        self._plan = plan
        if self._started:
            self._put_in_force(engine, monitor)

    def _reread(self, look: Look, engine: EngineProcess, monitor: HealthMonitor) -> None:
        try:
            plan = self._feed.plan(look)
        except ConfigurationErrors as errors:
            for error in errors.errors:
                self._log.write("error", f"the running configuration is kept: {error}")
            return
        self._log.write("info", f"read the files again: generation {plan.configuration.generation}")
        self._plan = plan
        self._say_warnings(plan)
        monitor.replace(plan.probes)
        self._notifier.replace(plan)
        if self._started:
            self._put_in_force(engine, monitor)


async def _next_line(answers: asyncio.StreamReader) -> bytes:
    """Empty where the engine is gone, also with something unread: one that waits for another reads nothing."""
    try:
        return await answers.readline()
    except ConnectionResetError:
        return b""


async def _finish(task: asyncio.Task[None]) -> None:
    """Wait for what is left of the log, but not for ever: a grandchild may hold the pipe open."""
    await asyncio.wait({task}, timeout=0.2)
    task.cancel()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    event.clear()
    return True


def _told(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
