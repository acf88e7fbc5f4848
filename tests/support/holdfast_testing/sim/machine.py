"""A simulated machine: a kernel, a wire, and the engine with the driver's turn on them, in virtual time.

The engine is the real one, and so is the order in which it is given what arrives (engine/turn.py). The machine has a
clock of its own; its processes can be frozen, killed and forked anew, its power and its sleep come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from holdfast_api.errors import ConfigurationError
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health, State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine.engine import Engine
from holdfast_speaker.engine.inputs import Inputs
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.journal import Journal, RecordedEngine
from holdfast_speaker.engine.ports import ADDRESS_PROTOCOL, Datagram, KernelAddress, Listener, Request
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.engine.turn import Turn
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import SECOND, ZERO, Duration, Instant
from holdfast_testing.sim.interfaces import NODAD, Interface
from holdfast_testing.sim.kernel import SimulatedKernel
from holdfast_testing.sim.timeline import Timeline
from holdfast_testing.sim.wire import Segment, SimulatedWire

ETH0 = 2
"""The index of the link that a host has beside its loopback."""

GOES_ON_WITHIN = Duration(60 * SECOND)
HANDED_OVER_WITHIN = Duration(3 * SECOND)
"""As host/__main__.py: how old what a former engine left may be."""

_TURNS_AT_ONCE = 200
"""So many turns at one instant are a loop without an end."""


class Observer:
    """Whoever watches hosts. Everything that is told happened at the timeline's now."""

    def moved(self, host: Host, move: Transition) -> None:
        """A virtual router has another state."""

    def logged(self, host: Host, level: str, message: str, facts: Mapping[str, object]) -> None:
        """A line of the log that is no transition."""

    def requested(self, host: Host, request: Request, errno: int) -> None:
        """The engine asked something of its kernel."""

    def sent(self, host: Host, advertisement: SendAdvertisement, errno: int) -> None:
        """An advertisement went out, or was refused."""

    def transmitted(self, host: Host, frames: Sequence[bytes], errno: int) -> None:
        """Frames went out, or were refused."""

    def reached(self, host: Host, index: int, datagram: Datagram) -> None:
        """A packet to the VRRP group got to a link."""

    def acted(self, host: Host) -> None:
        """Somebody other than Holdfast has changed the host's links or addresses."""

    def turned(self, host: Host) -> None:
        """The host's engine has made a turn, or something happened to its kernel without one."""


class HostLog:
    """The engine's log, told to whoever watches."""

    def __init__(self, host: Host, observer: Observer) -> None:
        self._host = host
        self._observer = observer

    def info(self, message: str, **facts: object) -> None:
        """As ports.Log has it."""
        if "toState" in facts:
            instance = self._host.engine.instances[str(facts["virtualIP"])]
            self._observer.moved(self._host, instance.history[-1])
        else:
            self._observer.logged(self._host, "info", message, facts)

    def warning(self, message: str, **facts: object) -> None:
        """As ports.Log has it."""
        self._observer.logged(self._host, "warning", message, facts)

    def error(self, message: str, **facts: object) -> None:
        """As ports.Log has it."""
        self._observer.logged(self._host, "error", message, facts)


class HostClock:
    """A host's CLOCK_BOOTTIME: it drifts, and goes on while the host sleeps."""

    def __init__(self, timeline: Timeline, drift_ppm: int) -> None:
        self._timeline = timeline
        self._drift_ppm = drift_ppm
        self.ahead = ZERO
        """How much later it is for this host: it has waited for its kernel in the turn that it takes."""

    def world_now(self) -> Instant:
        """The timeline's time, as far as this host has got in its turn."""
        return Instant(self._timeline.now + self.ahead)

    def now(self) -> Instant:
        """As ports.Clock has it."""
        now = self._timeline.now + self.ahead
        return Instant(now + now * self._drift_ppm // 1_000_000) if self._drift_ppm else Instant(now)

    def timestamp(self) -> str:
        """As ports.Clock has it."""
        return f"{self.now() / SECOND:.6f}"

    def spend(self, duration: Duration) -> None:
        """A call waits for so long."""
        self.ahead = Duration(self.ahead + duration)

    def when(self, local: Instant) -> Instant:
        """The timeline's time at which this clock says so, or a nanosecond later."""
        if not self._drift_ppm:
            return local
        drift = self._drift_ppm
        when = local * 1_000_000 // (1_000_000 + drift)
        while when + when * drift // 1_000_000 < local:
            when += 1
        return Instant(when)


@dataclass(frozen=True, slots=True)
class Left:
    """What an engine left to the next one, in the keeper's memory or in the state directory."""

    configuration: SpeakerConfiguration
    routers: list[PublishedRouter]


@dataclass(slots=True)
class Readiness:
    """What epoll said."""

    readable: Collection[Listener]
    overheard: Collection[Listener]
    answering: Collection[int]
    links_changed: bool


@dataclass(eq=False, slots=True)
class Process:
    """An engine that runs, and who gives it its turns."""

    engine: Engine
    """To be asked."""
    inputs: Inputs
    """To be told: the same engine, with a journal between where one is kept."""
    turn: Turn
    journal: Journal | None = None
    requests: list[Callable[[Inputs, Instant], object]] = field(default_factory=list)
    """What clients want and was not read yet."""


class PlainHost:
    """A machine on a segment that runs nothing of ours: a printer, a router, a client."""

    def __init__(self, name: str, timeline: Timeline, segment: Segment, mac: bytes) -> None:
        self.name = name
        self.kernel = SimulatedKernel(lambda: timeline.now)
        self.wire = SimulatedWire(name, self.kernel, lambda: timeline.now)
        self.kernel.add_link("eth0", mac)
        self.kernel.interfaces[ETH0].generates_link_local = False
        self.kernel.set_up(ETH0, True)
        segment.plug(self.wire, ETH0)

    def add_address(self, address: bytes, prefix_length: int) -> None:
        """Have an address."""
        self.kernel.add_address(ETH0, address, prefix_length, flags=NODAD if len(address) == 16 else 0)

    def leave(self) -> None:
        """It is switched off."""
        self.wire.segments[ETH0].unplug(self.wire, ETH0)


class Host:
    """A machine on a segment. `prepare` gives its kernel what it has after a boot, links and addresses of its own."""

    def __init__(
        self,
        name: str,
        timeline: Timeline,
        segment: Segment,
        prepare: Callable[[Host], None],
        observer: Observer,
        *,
        drift_ppm: int = 0,
        keeps_journal: bool = False,
    ) -> None:
        self.name = name
        self.keeps_journal = keeps_journal
        self.timeline = timeline
        self.segment = segment
        self.clock = HostClock(timeline, drift_ppm)
        self.observer = observer
        self.configuration = SpeakerConfiguration(node_name=name)
        """What this host shall run, by its agent or its files."""
        self.health: dict[str, Health] = {}
        """What the probes say of each VirtualIP."""
        self.powered = False
        self.frozen = False
        self.suspended = False
        self.process: Process | None = None
        self.heartbeat = Instant(0)
        self.kept: Left | None = None
        self.saved: Left | None = None
        self.handed_over_at = Instant(0)
        self._prepare = prepare
        self._slept = ZERO
        self._slept_since = timeline.now
        self._turn_at: Instant | None = None
        self._kernel_at: Instant | None = None
        self._busy_until = Instant(0)
        self._seen: Readiness | None = None
        self._turns = (Instant(0), 0)
        self._kernel_changed = False
        self._why_blocked: set[str] = set()
        self.kernel_version = 0
        """Grows with every change of links and addresses."""
        self.kernel: SimulatedKernel
        self.wire: SimulatedWire
        self.boot()

    # ----- the machine -----

    def boot(self) -> None:
        """It has power again: a kernel that knows nothing of before, and no process of ours."""
        self.powered = True
        self.suspended = self.frozen = False
        self._slept = ZERO
        self.kernel = SimulatedKernel(self._kernel_now, self.clock.spend)
        self.kernel.changed = self._note_kernel
        self.kernel.answered = lambda request, errno: self.observer.requested(self, request, errno)
        self.wire = SimulatedWire(self.name, self.kernel, self.clock.world_now)
        self.wire.arrived = self.wake
        self.wire.reached = lambda index, datagram: self.observer.reached(self, index, datagram)
        self.wire.sent = lambda _index, advertisement, errno: self.observer.sent(self, advertisement, errno)
        self.wire.transmitted = lambda _index, frames, errno: self.observer.transmitted(self, frames, errno)
        self._prepare(self)
        self.observer.acted(self)
        self.kernel.process_ends()
        self._watch_kernel()

    def power_off(self) -> None:
        """Everything is gone at once: what the kernel held, and what was kept for another process."""
        self.powered = self.suspended = self.frozen = False
        self.process = self.kept = None
        self._why_blocked.clear()
        self._block()
        for index in list(self.wire.segments):
            self.wire.segments[index].unplug(self.wire, index)
        self.wire.close()
        self.wire.arrived = lambda: None
        self.wire.reached = lambda _index, _datagram: None
        self.kernel.changed = lambda: None
        self.observer.turned(self)

    def suspend(self) -> None:
        """The machine sleeps: nothing of it runs, its kernel's lifetimes stand still, and CLOCK_BOOTTIME goes on."""
        self.suspended = True
        self._slept_since = self.timeline.now
        self.block("suspended")

    def resume(self) -> None:
        """It wakes up."""
        if self.suspended:
            self._slept = Duration(self._slept + self.timeline.now - self._slept_since)
            self.suspended = False
            self.unblock("suspended")
            self._watch_kernel()
            self.wake()

    def _kernel_now(self) -> Instant:
        now = self._slept_since if self.suspended else self.clock.world_now()
        return Instant(now - self._slept)

    def block(self, why: str) -> None:
        """Nothing gets to this host or away from it: its port does not forward."""
        self._why_blocked.add(why)
        self._block()

    def unblock(self, why: str) -> None:
        """That is over."""
        self._why_blocked.discard(why)
        self._block()

    def _block(self) -> None:
        if self._why_blocked:
            self.segment.blocked.add(self.name)
        else:
            self.segment.blocked.discard(self.name)

    @property
    def blocked_by(self) -> frozenset[str]:
        """Why nothing gets to it or away from it; empty where it does."""
        return frozenset(self._why_blocked)

    def act(self, do: Callable[[SimulatedKernel], object]) -> None:
        """Somebody does something to this host's links and addresses."""
        do(self.kernel)
        self.observer.acted(self)
        self._after_kernel()

    def interface(self, index: int = ETH0) -> Interface | None:
        """A link; None where it is gone."""
        return self.kernel.interfaces.get(index)

    # ----- a process's life -----

    def start(self) -> None:
        """Begin anew, with the configuration and the health that are known here."""
        self._begin_process()
        process = self._running
        if self.saved is not None:
            process.inputs.clean_up_after(self.saved.routers)
        known = [
            PublishedRouter(virtual_ip=name, state=State.INITIALIZE, since="", reason=None, addresses=[], health=health)
            for name, health in self.health.items()
        ]
        process.inputs.go_on_from(known, Instant(0))
        process.inputs.configure(self.configuration, self.clock.now())
        self._take_turn()

    def start_unknowing(self) -> None:
        """Begin anew; the probes have said nothing yet."""
        self._begin_process()
        process = self._running
        if self.saved is not None:
            process.inputs.clean_up_after(self.saved.routers)
        process.inputs.configure(self.configuration, self.clock.now())
        self._take_turn()

    def _begin_process(self) -> None:
        self.kernel.process_ends()
        log = HostLog(self, self.observer)
        if self.keeps_journal:
            recorded = RecordedEngine(self.name, self.kernel, self.wire, self.clock, log)
            turn = Turn(recorded, self.wire, self.clock, self._beat)
            self.process = Process(recorded.engine, recorded, turn, recorded.journal)
        else:
            engine = Engine(self.name, self.kernel, self.wire, self.clock, log)
            self.process = Process(engine, engine, Turn(engine, self.wire, self.clock, self._beat))
        self._busy_until = self.timeline.now
        self._seen = None

    def _beat(self, now: Instant) -> None:
        self.heartbeat = now

    def kill_engine(self) -> None:
        """kill -9: its keeper has the sockets and the snapshot."""
        self.process = None
        self.kernel.process_ends()
        self.wire.process_dies()
        self.observer.turned(self)

    def fork_anew(self) -> None:
        """The keeper has noticed, and forks another engine that goes on from the snapshot."""
        if not self.powered or self.process is not None or self.kept is None:
            return
        left = self.kept
        self._begin_process()
        engine = self._running.inputs
        if self.saved is not None:
            engine.clean_up_after(self.saved.routers)
        if self.clock.now() - self.heartbeat <= GOES_ON_WITHIN:
            engine.go_on_from(left.routers, self.heartbeat)
        engine.configure(left.configuration, self.clock.now())
        self._tell_news(left)
        self._take_turn()

    def _tell_news(self, left: Left) -> None:
        """What agent and probes have to say that the engine does not know from the one before it."""
        if self.configuration != left.configuration:
            self.configure(self.configuration)
        known = {router.virtual_ip: router.health for router in left.routers}
        for name, health in self.health.items():
            if known.get(name) is not health:
                self.report_health(name, health)

    def stop(self, within: Duration | None = None) -> None:
        """SIGTERM without a successor; `within`: healthy Backups are asked first, and have so long."""
        if self.process is None:
            return
        if within is None:
            self._running.inputs.stop(self.clock.now())
            self._end_process()
            return
        engine = self._running.inputs
        end = self.clock.when(min(engine.step_aside(self.clock.now()), Instant(self.clock.now() + within)))
        process = self.process
        self._rest()

        def leave() -> None:
            if self.process is process and not self.stands_still:
                self.stop()

        self.timeline.at(end, leave)

    def hand_over(self) -> bool:
        """SIGTERM with a successor, which has to be started (`succeed`). Returns whether anything runs here."""
        if self.process is None:
            return False
        now = self.clock.now()
        self._save(self._running.engine)
        self.handed_over_at = now
        self._running.inputs.hand_over(now)
        self._end_process()
        return True

    def succeed(self) -> None:
        """The successor goes on where the former engine of this host handed over."""
        if not self.powered or self.process is not None or self.saved is None:
            return
        left = self.saved
        self._begin_process()
        engine = self._running.inputs
        engine.clean_up_after(left.routers)
        if self.clock.now() - self.handed_over_at < HANDED_OVER_WITHIN:
            engine.go_on_from(left.routers, self.handed_over_at)
        engine.configure(left.configuration, self.clock.now())
        self._tell_news(left)
        self._take_turn()

    def _end_process(self) -> None:
        self.process = None
        self.wire.close()
        self.kernel.process_ends()
        self._busy_until = Instant(0)
        self.clock.ahead = ZERO
        self._after_kernel()

    def freeze(self, *, after_epoll: bool = False) -> None:
        """The process does not run, and its sockets queue. `after_epoll`: it has just learned what can be read."""
        self.frozen = True
        self.kernel.process_stands_still(True)
        self._seen = self._readiness() if after_epoll and self.process is not None else None

    def thaw(self, *, queue_lost: bool = False) -> None:
        """It runs again."""
        self.frozen = False
        self.kernel.process_stands_still(False)
        self._after_kernel()
        if queue_lost:
            for listener in (*self.wire.readable(), *self.wire.overheard()):
                self.wire.receive(listener, 1 << 30)
        if self.process is not None and not self.stands_still:
            self._schedule_turn(self.timeline.now)

    @property
    def stands_still(self) -> bool:
        """Whether no process runs."""
        return self.frozen or self.suspended

    @property
    def runs(self) -> bool:
        """Whether there is an engine that can do anything."""
        return self.process is not None and not self.stands_still

    @property
    def _running(self) -> Process:
        assert self.process is not None, f"{self.name} does not run"
        return self.process

    @property
    def engine(self) -> Engine:
        """The engine that runs here."""
        return self._running.engine

    # ----- what clients want -----

    def ask(self, request: Callable[[Inputs, Instant], object]) -> None:
        """A client's request: read after the packets, in the turn that it wakes the engine for."""
        if self.process is None:
            return
        self.process.requests.append(request)
        if not self.stands_still:
            self._take_turn()

    def expect_first_holds(self, nominees: Mapping[str, str]) -> None:
        """Who is to hold first what is new with the next configuration."""
        self.ask(lambda engine, _now: engine.expect_first_holds(nominees))

    def configure(self, configuration: SpeakerConfiguration) -> None:
        """Run this from now on, or from the next start."""
        self.configuration = configuration
        self.ask(lambda engine, now: engine.configure(configuration, now))

    def report_health(self, name: str, health: Health) -> None:
        """What the probes found."""
        self.health[name] = health

        def report(engine: Inputs, now: Instant) -> None:
            if name in self.engine.instances:
                engine.report_health(name, health, "", now)

        self.ask(report)

    def switch_over(self, name: str, to: str) -> None:
        """What a user wants; what is refused is logged."""

        def wish(engine: Inputs, now: Instant) -> None:
            try:
                engine.switchover(name, to, now)
            except ConfigurationError as refusal:
                self.observer.logged(self, "refused", str(refusal), {"virtualIP": name})

        self.ask(wish)

    # ----- turns -----

    def wake(self) -> None:
        """Something waits to be read."""
        if self.process is not None and not self.frozen and not self.suspended:
            at = max(self.timeline.now, self._busy_until)
            if self._turn_at is None or at < self._turn_at:
                self._schedule_turn(at)

    def _schedule_turn(self, at: Instant) -> None:
        self._turn_at = at
        self.timeline.turn_at(at, lambda: self._turn_comes_up(at))

    def _turn_comes_up(self, at: Instant) -> None:
        if self._turn_at != at:
            return
        self._turn_at = None
        if self.process is None or self.stands_still:
            return
        if self.timeline.now < self._busy_until:
            self._schedule_turn(self._busy_until)
            return
        deadline = self.process.engine.next_deadline()
        is_due = deadline is not None and deadline <= self.clock.now()
        if is_due or self._seen is not None or self.process.requests or self._has_something_to_read():
            self._take_turn()
        else:
            self._rest()

    def _has_something_to_read(self) -> bool:
        wire = self.wire
        return bool(self.kernel.readable or wire.readable() or wire.overheard() or wire.answering())

    def _readiness(self) -> Readiness:
        wire = self.wire
        return Readiness(wire.readable(), wire.overheard(), wire.answering(), self.kernel.readable)

    def _take_turn(self) -> None:
        """As Driver.turn: wait, read, decide, serve, publish."""
        process = self._running
        self._count_turn()
        self.kernel.advance()
        ready, self._seen = self._seen or self._readiness(), None
        deadline = process.engine.next_deadline()
        process.turn.run(deadline, ready.readable, ready.overheard, ready.answering, links_changed=ready.links_changed)
        requests, process.requests = process.requests, []
        for request in requests:
            request(process.inputs, self.clock.now())
        if process.engine.is_unpublished:
            process.engine.is_unpublished = False
            self._save(process.engine)
        process.engine.transitions.clear()
        self._rest()
        self.observer.turned(self)

    def _save(self, engine: Engine) -> None:
        self.kept = self.saved = Left(engine.configuration, engine.published_routers())

    def _count_turn(self) -> None:
        at, count = self._turns
        count = count + 1 if at == self.timeline.now else 1
        self._turns = (self.timeline.now, count)
        assert count < _TURNS_AT_ONCE, f"{self.name} is due again at once, after each turn"

    def _rest(self) -> None:
        """Until something waits to be read, or the engine is due."""
        if self.clock.ahead:
            self._busy_until = self.clock.world_now()
            self.clock.ahead = ZERO
        self._watch_kernel()
        process = self.process
        if process is None or self.stands_still:
            return
        now = max(self.timeline.now, self._busy_until)
        if self._has_something_to_read():
            at: Instant | None = now
        else:
            deadline = process.engine.next_deadline()
            at = None if deadline is None else max(now, self.clock.when(deadline))
        if at is not None and (self._turn_at is None or at < self._turn_at):
            self._schedule_turn(at)

    # ----- the kernel's own time -----

    def _note_kernel(self) -> None:
        self._kernel_changed = True
        self.kernel_version += 1

    def _watch_kernel(self) -> None:
        """Be there when an address expires, or becomes usable."""
        if not self._kernel_changed or self.suspended:
            return
        self._kernel_changed = False
        due = self.kernel.next_deadline()
        if due is None:
            return
        at = Instant(due + self._slept)
        if self._kernel_at is None or at < self._kernel_at or self._kernel_at < self.timeline.now:
            self._kernel_at = at
            self.timeline.at(at, lambda: self._kernel_comes_up(at))

    def _kernel_comes_up(self, at: Instant) -> None:
        if self._kernel_at != at:
            return
        self._kernel_at = None
        self._kernel_changed = True
        if self.powered and not self.suspended:
            self._after_kernel()

    def _after_kernel(self) -> None:
        self.kernel.advance()
        self._watch_kernel()
        if self.kernel.readable:
            self.wake()
        self.observer.turned(self)

    # ----- what can be seen -----

    def instance(self, name: str) -> Instance | None:
        """A VirtualIP as the engine runs it; None where none does."""
        return self.process.engine.instances.get(name) if self.process is not None else None

    def has_on_kernel(self, address: KernelAddress) -> bool:
        """Whether an address of ours is there."""
        interface = self.kernel.interfaces.get(address.index)
        if interface is None:
            return False
        addresses = interface.v4 if len(address.address) == 4 else interface.v6
        return any(one.address == address.address and one.protocol == ADDRESS_PROTOCOL for one in addresses)

    def answers(self, address: bytes) -> bool:
        """Whether its kernel answers neighbours that ask for an address."""
        if not self.powered or self.suspended:
            return False
        plugged = [index for index in self.wire.segments if index in self.kernel.interfaces]
        return any(self.kernel.takes(address, self.wire.upper(index)) for index in plugged)
