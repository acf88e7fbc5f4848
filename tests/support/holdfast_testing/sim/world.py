"""The event heap: hosts on a bad link in virtual time. What a host does is what the engine's driver does."""

from __future__ import annotations

import heapq
from collections import Counter as Multiset
from collections import deque
from collections.abc import Callable, Iterator
from random import Random

from holdfast_api.reasons import Health, Obstacle
from holdfast_api.resources import WhenFailing
from holdfast_speaker.vrrp.actions import Actions, SendAdvertisement, Transitioned
from holdfast_speaker.vrrp.configuration import Configuration, Family
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, MULTICAST_GROUP_V6, PacketError, decode
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_speaker.vrrp.sentences import sentence
from holdfast_speaker.vrrp.states import Initialize, Master
from holdfast_testing.sim.foreign import ForeignRouter
from holdfast_testing.sim.host import Datagram, Host
from holdfast_testing.sim.options import Options

EPOCH = Instant(1_000 * SECOND)
V4_VIP, V6_VIP = bytes((10, 0, 0, 200)), bytes.fromhex("fe80") + bytes(13) + b"\xc8"
RECOVERY_HOLD = Duration(2 * SECOND)
QUEUE_MAX = 4000
"""Packets that a socket keeps for a process that does not run."""

RETRY_AFTER = Duration(5 * SECOND)
"""As engine.RETRY_AFTER: how long a router stays out after its kernel refused."""

TRACE = 400


class Violation(AssertionError):
    """A law that does not hold."""


class World:
    """One seed's machines. `observe` is called after everything that any of them did."""

    def __init__(self, options: Options, make: type[VirtualRouter] = VirtualRouter) -> None:
        self.options = options
        self.random = Random(options.seed + 1)
        self.now = EPOCH
        self.events = 0
        self.loss, self.duplication = options.loss, options.duplication
        self.cuts: dict[tuple[str, str], Instant] = {}
        self.trace: deque[str] = deque(maxlen=TRACE)
        self.moves: Multiset[str] = Multiset()
        self.observe: Callable[[Host, Transitioned | None], None] = lambda _host, _transition: None
        self._heap: list[tuple[Instant, int, Callable[[], None]]] = []
        self._sequence = 0
        self._wakes: dict[str, Instant] = {}
        self.hosts = {
            name: Host(name, self.configuration(number), options.drift_ppm[number], make)
            for number, name in enumerate("abcde"[: options.holdfast_hosts])
        }
        self.foreign: ForeignRouter | None = None
        if options.foreign:
            self.foreign = ForeignRouter(
                source=bytes((10, 0, 0, options.hosts)),
                group=MULTICAST_GROUP_V4,
                vip=V4_VIP,
                priority=options.priorities[-1],
                interval=options.interval,
                version=options.version,
                preempts=options.foreign_preempts,
            )

    def configuration(self, number: int, priority: int | None = None) -> Configuration:
        """A host's, by its place."""
        options = self.options
        v4_hosts = [bytes((10, 0, 0, last)) for last in range(1, options.hosts + 1)]
        v6_hosts = [bytes.fromhex("fe80") + bytes(13) + bytes((last,)) for last in range(1, options.hosts + 1)]
        v4 = self._family(number, v4_hosts, V4_VIP, MULTICAST_GROUP_V4)
        v6 = self._family(number, v6_hosts, V6_VIP, MULTICAST_GROUP_V6)
        return Configuration(
            51,
            (v4, v6) if options.two_families else (v4,),
            version=options.version,
            priority=priority or options.priorities[number],
            interval=options.interval,
            nopreempt=options.nopreempt,
            release_when_failing=options.when_failing is WhenFailing.RELEASE,
            recovery_hold=RECOVERY_HOLD,
            obey_foreign=not options.members_known,
        )

    def _family(self, number: int, hosts: list[bytes], vip: bytes, group: bytes) -> Family:
        members = frozenset(hosts) - {hosts[number]} if self.options.members_known else None
        return Family(hosts[number], (vip,), (group,), members)

    # ----- time -----

    def at(self, when: int, do: Callable[[], None]) -> None:
        """Do something later."""
        self._sequence += 1
        heapq.heappush(self._heap, (Instant(when), self._sequence, do))

    def run(self, duration: int) -> None:
        """Let time pass."""
        end = Instant(self.now + duration)
        while self._heap and self._heap[0][0] <= end:
            when, _, do = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            self.events += 1
            do()
        self.now = end

    def say(self, text: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{(self.now - EPOCH) / 1e9:12.6f}  {text}")

    # ----- a host's life -----

    def start(self, host: Host) -> None:
        """Begin anew: nothing is remembered."""
        host.recovered_at = None
        host.router = host.make(host.configuration)
        host.disturbed_at = self.now
        self._carry_out(host, host.router.start(host.local(self.now), host.health, self._obstacles(host)))

    def _obstacles(self, host: Host) -> frozenset[Obstacle]:
        return host.obstacles | (frozenset() if host.link_up else frozenset({Obstacle.LINK_DOWN}))

    def tell(self, host: Host, give: Callable[[VirtualRouter, Instant], Actions]) -> None:
        """Give a host's router an input, if there is one that runs."""
        host.disturbed_at = self.now
        if host.frozen:
            host.pending.append(give)
        elif host.router is not None:
            self._carry_out(host, give(host.router, host.local(self.now)))

    def power_off(self, host: Host) -> None:
        """Everything is gone at once, what its kernel held too."""
        host.powered, host.router, host.frozen = False, None, False
        host.holding, host.expires_at = False, None
        host.queue.clear()
        host.arrivals.clear()
        host.pending.clear()
        host.disturbed_at = self.now
        self.observe(host, None)

    def kill_engine(self, host: Host) -> None:
        """kill -9: the keeper forks another some milliseconds later, which goes on from the last snapshot."""
        old, host.router = host.router, None
        if old is None:
            return
        seen = host.local(self.now)
        was_master, was_out = isinstance(old.state, Master), isinstance(old.state, Initialize)
        host.leave_unrefreshed(self.now, self.random)
        host.disturbed_at = self.now

        def forked() -> None:
            if not host.powered or host.router is not None:
                return
            if host.frozen:  # the keeper, too
                self.at(self.now + MILLISECOND, forked)
                return
            host.router = host.make(host.configuration)
            host.router.health = old.health
            host.disturbed_at = self.now
            if was_out or self._obstacles(host):
                host.expires_at = host.recovered_at = None
                self._carry_out(host, host.router.start(host.local(self.now), host.health, self._obstacles(host)))
                return
            if was_master:
                host.router.resume_as_master(seen, old.recovered_at)
            else:
                host.router.resume_as_backup(host.local(self.now), old.recovered_at)
            if host.health is not old.health:  # its probes tell the new process
                self._carry_out(host, host.router.report_health(host.health, host.local(self.now)))
            self._drain(host)

        self.at(self.now + self.random.randrange(2 * MILLISECOND, 12 * MILLISECOND), forked)
        self.observe(host, None)

    def hand_over(self, host: Host) -> None:
        """SIGTERM while a successor waits, which goes on some milliseconds later."""
        if host.router is None or self._obstacles(host):
            return
        self._carry_out(host, host.router.hand_over(host.local(self.now)))
        self.kill_engine(host)

    def stop(self, host: Host) -> None:
        """SIGTERM without a successor."""
        if host.router is not None:
            self.tell(host, lambda router, now: router.stop(now))
            host.router = None
        host.disturbed_at = self.now

    def freeze(self, host: Host) -> None:
        """The process does not run; its sockets go on queueing, and its kernel's addresses run out."""
        host.frozen = True
        host.disturbed_at = self.now
        host.leave_unrefreshed(self.now, self.random)
        self.observe(host, None)

    def thaw(self, host: Host, *, queue_lost: bool) -> None:
        """It runs again: what arrived is read before a timer acts."""
        host.frozen = False
        host.disturbed_at = self.now
        if queue_lost:
            host.queue.clear()
            host.arrivals.clear()
        pending, host.pending = host.pending, []
        if host.router is not None:
            self._drain(host)
            for give in pending:
                self.tell(host, give)

    def set_link(self, host: Host, *, up: bool) -> None:
        """Carrier."""
        host.link_up = up
        host.disturbed_at = self.now
        if up:
            self.tell(host, lambda router, now: router.clear(Obstacle.LINK_DOWN, now))
        else:
            self.tell(host, lambda router, now: router.obstruct(Obstacle.LINK_DOWN, now))

    def refuse(self, host: Host) -> None:
        """The kernel takes no address for a while."""
        host.kernel_refuses = True
        host.disturbed_at = self.now
        if host.holding:
            host.holding = False
            self._refused(host)

    def _refused(self, host: Host) -> None:
        host.obstacles |= {Obstacle.KERNEL_REFUSED}
        self.tell(host, lambda router, now: router.obstruct(Obstacle.KERNEL_REFUSED, now))
        self.at(self.now + RETRY_AFTER, lambda: self._try_again(host))

    def _try_again(self, host: Host) -> None:
        if Obstacle.KERNEL_REFUSED in host.obstacles and host.powered:
            host.obstacles -= {Obstacle.KERNEL_REFUSED}
            self.tell(host, lambda router, now: router.clear(Obstacle.KERNEL_REFUSED, now))

    # ----- the driver -----

    def _drain(self, host: Host) -> None:
        queue, host.queue = host.queue, []
        for datagram in queue:
            self._take_in(host, datagram)
        self._poll(host)

    def _deliver(self, host: Host, datagram: Datagram) -> None:
        if not (host.powered and host.link_up):
            return
        if host.frozen or host.router is None or self.now < host.busy_until:
            if len(host.queue) < QUEUE_MAX:
                host.queue.append(datagram)
                host.arrivals[datagram.source] = self.now
            return
        host.arrivals[datagram.source] = self.now
        if host.queue:
            self._drain(host)
        self._take_in(host, datagram)

    def _take_in(self, host: Host, datagram: Datagram) -> None:
        if host.router is None:
            return
        try:
            advertisement = decode(datagram.payload, datagram.source, datagram.destination, 255)
        except PacketError as error:
            host.router.counters[error.counter] += 1
            return
        self._carry_out(host, host.router.receive(advertisement, host.local(self.now)))

    def _wake(self, host: Host) -> None:
        """Have its timer fire when it is due."""
        if host.router is None or host.frozen:
            return
        deadline = host.router.next_deadline()
        if deadline is None:
            return
        due = max(host.when(deadline), host.busy_until, self.now)
        known = self._wakes.get(host.name)
        if known is None or due < known or known < self.now:
            self._wakes[host.name] = due
            self.at(due, lambda: self._fire(host, due))

    def _fire(self, host: Host, due: Instant) -> None:
        if self._wakes.get(host.name) != due:
            return
        del self._wakes[host.name]
        if host.runs and self.now >= host.busy_until:
            self._drain(host)
        self._wake(host)

    def _poll(self, host: Host) -> None:
        router = host.router
        if router is None:
            return
        now = host.local(self.now)
        deadline = router.next_deadline()
        if deadline is not None and deadline <= now:
            self._carry_out(host, router.poll(now))
            later = router.next_deadline()
            if later is not None and later <= now:
                raise Violation(f"{host.name} is due again at once, after a poll: {router.state}")
        if isinstance(router.state, Initialize) and router.next_deadline() is not None:
            raise Violation(f"{host.name} has a timer in Initialize")
        self._wake(host)

    def _carry_out(self, host: Host, actions: Actions) -> None:
        router = host.router
        if router is None:
            return
        wanted = router.holds_addresses
        if wanted and not host.holding and host.kernel_refuses:
            host.expires_at = None
            self._refused(host)
            return
        if wanted != host.holding:
            host.holding = wanted
            host.busy_until = Instant(self.now + host.kernel_delay)
        if not wanted or host.holding:
            host.expires_at = None
        transition = None
        for action in actions:
            if isinstance(action, Transitioned):
                transition = action
                self.moves[action.reason] += 1
                self.say(f"{host.name} {action.from_state} -> {action.to_state}: {sentence(action)}")
                self.observe(host, action)
            elif isinstance(action, SendAdvertisement):
                self._send(host.name, Datagram(action.payload, action.source, action.destination))
        if transition is None:
            self.observe(host, None)
        self._wake(host)

    # ----- the link -----

    def reaches(self, sender: str, receiver: str) -> bool:
        """Whether packets can get from one host to another."""
        return (sender, receiver) not in self.cuts

    def _send(self, sender: str, datagram: Datagram) -> None:
        sending = self.hosts.get(sender)
        if sending is not None and not (sending.link_up and sending.powered):
            return
        for name, receiver in self.hosts.items():
            if name != sender and self.reaches(sender, name):
                for delay in self._delays():
                    self.at(self.now + delay, self._arrival(receiver, datagram))
        if self.foreign is not None and sender != "foreign" and self.reaches(sender, "foreign"):
            for delay in self._delays():
                self.at(self.now + delay, lambda: self._deliver_to_foreign(datagram))

    def _arrival(self, receiver: Host, datagram: Datagram) -> Callable[[], None]:
        return lambda: self._deliver(receiver, datagram)

    def _delays(self) -> Iterator[int]:
        if self.loss and self.random.random() < self.loss:
            return
        yield self.random.randrange(10_000, self.options.slowest)
        if self.duplication and self.random.random() < self.duplication:
            yield self.random.randrange(10_000, self.options.slowest)

    # ----- the router of another make -----

    def start_foreign(self) -> None:
        """It begins as a Backup."""
        if self.foreign is not None:
            self.foreign.start(self.now)
            self._foreign_wakes()

    def _foreign_wakes(self) -> None:
        foreign = self.foreign
        if foreign is not None:
            due = foreign.deadline
            self.at(due, lambda: self._foreign_fires(due))

    def _foreign_fires(self, due: Instant) -> None:
        foreign = self.foreign
        if foreign is None or foreign.deadline != due:
            return
        self._foreign_says(foreign.poll(self.now))
        self._foreign_wakes()

    def _deliver_to_foreign(self, datagram: Datagram) -> None:
        foreign = self.foreign
        if foreign is None:
            return
        was, before = foreign.master, foreign.deadline
        heard = decode(datagram.payload, datagram.source, datagram.destination, 255)
        self._foreign_says(foreign.receive(heard, self.now))
        if foreign.master != was:
            self.say(f"foreign is {'Master' if foreign.master else 'Backup'}")
        if foreign.deadline != before:
            self._foreign_wakes()

    def _foreign_says(self, payload: bytes | None) -> None:
        if payload is not None and self.foreign is not None:
            self._send("foreign", Datagram(payload, self.foreign.source, self.foreign.group))

    # ----- what can be seen -----

    def healthy(self, host: Host) -> bool:
        """Whether it could hold the VIP in good health."""
        out = self._obstacles(host) or host.kernel_refuses
        return host.runs and not out and host.health is Health.HEALTHY
