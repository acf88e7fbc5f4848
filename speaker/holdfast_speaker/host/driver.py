"""The loop: it waits with epoll and a timerfd, gives the engine its turn (engine/turn.py), and serves clients."""

from __future__ import annotations

import os
import select
import signal
import socket

from holdfast_api.errors import ConfigurationError
from holdfast_api.messages import (
    Answer,
    Configure,
    Done,
    ExpectFirstHolds,
    GetHistory,
    RealTime,
    Refused,
    ReportHealth,
    Request,
    Started,
    Switchover,
)
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine import reports
from holdfast_speaker.engine.engine import Engine
from holdfast_speaker.engine.inputs import Inputs
from holdfast_speaker.engine.journal import Journal, RecordedEngine
from holdfast_speaker.engine.state import PublishedState, Snapshot
from holdfast_speaker.engine.turn import Turn
from holdfast_speaker.engine.vetting import vet
from holdfast_speaker.host import clock, watch
from holdfast_speaker.host.boot import boot_id
from holdfast_speaker.host.control import Connection, ControlServer
from holdfast_speaker.host.inheritance import Inheritance
from holdfast_speaker.host.kernel import NetlinkKernel
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.state_directory import StateDirectory
from holdfast_speaker.host.timer import Timer
from holdfast_speaker.host.wire import Wire
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, ZERO, Duration, Instant

_NO_INTERVAL_MS = 1000


class Driver:
    """Waits, and gives the engine its turns."""

    def __init__(self, node_name: str, directory: StateDirectory, inheritance: Inheritance, log: Log) -> None:
        """Raises EnvironmentFailure where the machine refuses what an engine needs."""
        self._inheritance = inheritance
        self._kernel = NetlinkKernel()
        self._wire = Wire(inheritance.kept_sockets, overhears=inheritance.overhears)
        self._begin_engine(node_name, log)
        self._turn = Turn(self.inputs, self._wire, clock, inheritance.memory.beat)
        self._directory = directory
        self._log = log
        self.real_time = RealTime(scheduling="", memory="", garbage_collection="", cpu_latency="")
        self._control = ControlServer(self._answer, log)
        self._timer = Timer()
        self._poller = select.epoll()
        self._watched: set[int] = set()
        self._writing: set[int] = set()
        self._epoch = -1
        self._stopping = inheritance.told_to_stop
        self._saved: SpeakerConfiguration | None = None
        self._watched_configuration: SpeakerConfiguration | None = None
        self._wake = self._catch_signals()
        if inheritance.listener is not None:
            self._control.listen_on(inheritance.listener)
        for descriptor in (self._timer.fileno(), self._kernel.fileno(), self._wake.fileno()):
            self._poller.register(descriptor, select.EPOLLIN)
        if self._control.listener_descriptor is not None:
            # Who cannot be accepted (EMFILE) shall not wake the loop again and again.
            self._poller.register(self._control.listener_descriptor, select.EPOLLIN | select.EPOLLET)

    def _begin_engine(self, node_name: str, log: Log) -> None:
        overhears, door = self._inheritance.overhears, self._inheritance.door
        self.engine: Engine
        """To be asked."""
        self.inputs: Inputs
        """To be told: the same engine, with a journal between where one is kept."""
        self._journal: Journal | None = None
        if self._inheritance.keeps_journal:
            recorded = RecordedEngine(node_name, self._kernel, self._wire, clock, log, overhears=overhears, door=door)
            self.engine, self.inputs, self._journal = recorded.engine, recorded, recorded.journal
        else:
            self.engine = Engine(node_name, self._kernel, self._wire, clock, log, overhears=overhears, door=door)
            self.inputs = self.engine

    def serve_supervisor(self) -> None:
        """Tell whoever started the keeper that there is an engine, and what it runs already; its end is ours."""
        supervisor = self._inheritance.supervisor
        if supervisor is not None:
            connection = self._control.adopt(socket.socket(fileno=os.dup(supervisor.fileno())))
            self._watch(connection)
            self._control.tell(connection, Started(generation=self.engine.configuration.generation))

    def run(self) -> None:
        """Until SIGTERM, or until the process that started this one is gone."""
        while not self._stopping:
            self._let_keeper_watch()
            self.turn(watch.idle_turn(self._inheritance.memory.patience) / SECOND)
        # Everything is given up, or handed over, in one turn.
        self._inheritance.memory.patience = watch.patience(ZERO, _addresses(self.engine.configuration))
        if self._directory.successor_waits() and self._hand_over():
            return
        self._step_aside()
        self.stop()

    def stop(self) -> None:
        """Give everything up, and keep that for the next engine."""
        self.inputs.stop(clock.now())
        self._tell(last_words=True)
        self.engine.is_unpublished = True  # a hand-over that came to nothing may stand there
        self._publish()

    def _let_keeper_watch(self) -> None:
        """Tell the keeper how long an engine with this configuration may make no turn."""
        if self.engine.configuration is not self._watched_configuration:
            self._watched_configuration = self.engine.configuration
            self._inheritance.memory.patience = _patience(self.engine.configuration)

    def _hand_over(self) -> bool:
        """Leave everything to a successor. False, with nothing left to it, where that cannot be: it must be a stop."""
        now = clock.now()
        # Written before anybody is told: who leaves without it leaves addresses, and silence.
        if not self._directory.publish(self._state(handed_over_at=now)):
            self._log.error("no hand-over to the successor on this node, as it would find no state: stopping")
            return False
        self.inputs.hand_over(now)
        if not self._directory.successor_waits():
            self._log.error("no hand-over to the successor on this node, as it is gone: stopping")
            return False
        return True

    def _step_aside(self) -> None:
        """Let healthy Backups take over before the addresses go (ADR 0012); whatever is held after that is given up."""
        began = clock.now()
        end = min(self.inputs.step_aside(began), began + self._inheritance.step_aside_within)
        while self.engine.holds_addresses and (left := end - clock.now()) > 0:
            self.turn(min(left, watch.idle_turn(self._inheritance.memory.patience)) / SECOND)

    def turn(self, timeout_seconds: float) -> None:
        """Once around: wait for something (negative: as long as it takes), read, decide, serve."""
        self._watch_links()
        deadline = self.engine.next_deadline()
        self._timer.arm(_earlier(deadline, self._wire.next_deadline()))
        ready = dict(self._poller.poll(timeout_seconds, 256))
        readable, overheard, answering = self._wire.readable(ready)
        self._turn.run(deadline, readable, overheard, answering, links_changed=self._kernel.fileno() in ready)
        self._wire.unmute(clock.now())
        self._timer.read()
        self._tell()
        self._serve(ready)
        self._publish()

    def _watch_links(self) -> None:
        if self._epoch == self._wire.epoch:
            return
        self._epoch = self._wire.epoch
        wanted = set(self._wire.descriptors())
        # Of a socket that was closed the kernel may have given the number to a client by now.
        for descriptor in self._watched - wanted - self._control.connections.keys():
            self._forget(descriptor)
        for descriptor in wanted:
            # A descriptor's number may be another socket's by now: the kernel forgot the closed one by itself.
            self._forget(descriptor)
            self._poller.register(descriptor, select.EPOLLIN)
        self._watched = wanted

    def _forget(self, descriptor: int) -> None:
        try:
            self._poller.unregister(descriptor)
        except FileNotFoundError:
            return
        except OSError:  # EBADF: closed, so that epoll has forgotten it already
            return

    # ----- what the next engine finds -----

    def _state(self, handed_over_at: int = 0) -> PublishedState:
        return PublishedState(
            node_name=self.engine.node_name,
            pid=os.getpid(),
            routers=self.engine.published_routers(),
            handed_over_at=handed_over_at,
            boot=boot_id(),
        )

    def _publish(self) -> None:
        """Keep the state for the next engine, if it changed: once for all that happened together."""
        configuration = self.engine.configuration
        if configuration is not self._saved:
            self._saved = configuration
            self._directory.save_configuration(configuration)
        if self.engine.is_unpublished:
            self.engine.is_unpublished = False
            state = self._state()
            if not self._inheritance.keep(Snapshot(configuration=configuration, state=state)):
                self._log.warning("the state is too large for the keeper's memory: an engine that dies begins anew")
            self._directory.publish(state)

    def _tell(self, *, last_words: bool = False) -> None:
        for transition in self.engine.transitions:
            self._control.publish(transition, only_trusted=last_words)
        self.engine.transitions.clear()

    # ----- clients and signals -----

    def _serve(self, ready: dict[int, int]) -> None:
        if self._wake.fileno() in ready:
            self._wake.recv(64)
            self._stopping = True
        if self._control.listener_descriptor in ready or self._control.is_behind:
            for accepted in self._control.accept():
                self._watch(accepted)
        for descriptor in ready:
            connection = self._control.connections.get(descriptor)
            if connection is not None and ready[descriptor] & select.EPOLLOUT:
                self._control.flush(connection)
        readable = [descriptor for descriptor in ready if ready[descriptor] & ~select.EPOLLOUT]
        if not self._control.serve(readable):
            self._stopping = True
        self._watch_unsent()

    def _watch(self, connection: Connection) -> None:
        self._poller.register(connection.stream.fileno(), select.EPOLLIN)

    def _watch_unsent(self) -> None:
        unsent = {descriptor for descriptor, item in self._control.connections.items() if item.unsent}
        for descriptor in unsent ^ self._writing:
            if descriptor in self._control.connections:
                output = select.EPOLLOUT if descriptor in unsent else 0
                self._poller.modify(descriptor, select.EPOLLIN | output)
        self._writing = unsent

    def _catch_signals(self) -> socket.socket:
        """SIGTERM wakes the loop. SIGINT and SIGHUP are the supervisor's: a terminal sends them to both."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._wake_writer = writer
        signal.set_wakeup_fd(writer.fileno())
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the keeper has blocked it until now
        return reader

    # ----- requests -----

    def _answer(self, request: Request) -> Answer:
        now = clock.now()
        try:
            return self._carry_out(request, now)
        except ConfigurationError as error:
            return Refused(reason=str(error))

    def _carry_out(self, request: Request, now: Instant) -> Answer:
        engine = self.engine
        match request:
            case Configure(configuration=configuration):
                vet(configuration, engine.node_name)
                # What is new is put in force in this turn.
                memory = self._inheritance.memory
                memory.patience = max(memory.patience, _patience(configuration))
                self.inputs.configure(configuration, now)
                return Done(message=f"generation {configuration.generation} is in force")
            case ExpectFirstHolds(nominees=nominees):
                self.inputs.expect_first_holds(nominees)
                return Done()
            case ReportHealth(virtual_ip=name, health=health, detail=detail):
                self.inputs.report_health(name, health, detail, now)
                return Done()
            case GetHistory(virtual_ip=name):
                return reports.history(engine.instances, name, self._journal)
            case Switchover(virtual_ip=name, to=to):
                return Done(message=self.inputs.switchover(name, to, now))
            case _:
                return reports.status(
                    engine,
                    now,
                    pid=os.getpid(),
                    real_time=self.real_time,
                    warnings=self._directory.warnings + self._inheritance.warnings,
                    restarts=self._inheritance.restarts,
                    last_death=self._inheritance.last_death,
                )


def _patience(configuration: SpeakerConfiguration) -> Duration:
    intervals = [item.advertisement_interval_milliseconds for item in configuration.virtual_routers]
    shortest = Duration(min(intervals, default=_NO_INTERVAL_MS) * MILLISECOND)
    return watch.patience(shortest, _addresses(configuration))


def _addresses(configuration: SpeakerConfiguration) -> int:
    return sum(len(item.every_address) for item in configuration.virtual_routers)


def _earlier(one: Instant | None, other: Instant | None) -> Instant | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
