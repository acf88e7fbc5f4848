"""A router of another make, as keepalived is one: VRRPv3, no health bands, with or without nopreempt.

Written from RFC 9568 section 6.4 without a look at the core, whose oracle it is in mixed groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from holdfast_speaker.engine import frames
from holdfast_speaker.engine.ports import Listener
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import ZERO, Duration, Instant
from holdfast_speaker.vrrp.packet import Advertisement, decode, encode
from holdfast_testing.sim.machine import ETH0, PlainHost
from holdfast_testing.sim.timeline import Timeline
from holdfast_testing.sim.wire import Segment

LONG_AGO = Instant(0)
"""Before everything that is simulated."""


@dataclass
class ForeignRouter:
    """Its clock is the simulation's."""

    source: bytes
    group: bytes
    vip: bytes
    priority: int
    interval: Duration
    version: int
    preempts: bool
    vrid: int = 51
    master: bool = False
    deadline: Instant = LONG_AGO
    learned: Duration = ZERO

    def start(self, now: int) -> None:
        """Backup, with the whole Active_Down_Interval ahead."""
        self.master, self.learned = False, self.interval
        self.deadline = self._down(now)

    def _skew(self) -> int:
        unit = self.learned if self.version == 3 else 1_000_000_000
        return (256 - self.priority) * unit // 256

    def _down(self, now: int) -> Instant:
        return Instant(now + 3 * self.learned + self._skew())

    def poll(self, now: int) -> bytes | None:
        """What to send now, if anything."""
        if now < self.deadline:
            return None
        self.master = True
        self.deadline = Instant(now + self.interval)
        return self.advertisement(self.priority)

    def receive(self, heard: Advertisement, now: int) -> bytes | None:
        """What to send in answer, if anything."""
        if self.master:
            stronger = heard.priority > self.priority or (
                heard.priority == self.priority and heard.source > self.source
            )
            if heard.priority == 0:
                self.deadline = Instant(now + self.interval)
                return self.advertisement(self.priority)
            if not stronger:
                return None
            self.master, self.learned = False, heard.interval
            self.deadline = self._down(now)
        elif heard.priority == 0:
            self.deadline = Instant(now + self._skew())
        elif not self.preempts or heard.priority >= self.priority:
            self.learned = heard.interval
            self.deadline = self._down(now)
        return None

    def advertisement(self, priority: int) -> bytes:
        """Its packet."""
        return encode(self.version, self.vrid, priority, self.interval, (self.vip,), self.source, self.group)


class ForeignHost(PlainHost):
    """A host with such a router. `told` is called when it becomes Master or Backup."""

    def __init__(
        self, timeline: Timeline, segment: Segment, mac: bytes, router: ForeignRouter, told: Callable[[], None]
    ) -> None:
        super().__init__("foreign", timeline, segment, mac)
        self.router = router
        self._timeline = timeline
        self._told = told
        self.add_address(router.source, 24)
        self.wire.listen({Listener(ETH0, 4)}, set())
        self.wire.arrived = lambda: timeline.turn_at(timeline.now, self._read)

    def start(self) -> None:
        """It begins as a Backup."""
        self.router.start(self._timeline.now)
        self._wait()

    def _wait(self) -> None:
        due = self.router.deadline
        self._timeline.turn_at(due, lambda: self._fire(due))

    def _fire(self, due: Instant) -> None:
        if self.router.deadline == due:
            self._after(LONG_AGO, self.router.master, self.router.poll(self._timeline.now))

    def _read(self) -> None:
        for payload, source, destination, ttl in self.wire.receive(Listener(ETH0, 4), 1000):
            before, was_master = self.router.deadline, self.router.master
            heard = decode(payload, source, destination, ttl)
            if heard.vrid == self.router.vrid:
                self._after(before, was_master, self.router.receive(heard, self._timeline.now))

    def _after(self, deadline: Instant, was_master: bool, payload: bytes | None) -> None:
        router = self.router
        if router.master != was_master:
            if router.master:
                self.add_address(router.vip, 32)
                self.wire.transmit(ETH0, (frames.gratuitous_arp(self.kernel.interfaces[ETH0].mac, router.vip),))
            else:
                self.kernel.remove_address(ETH0, router.vip, 32)
            self._told()
        if payload is not None:
            self.wire.send(ETH0, SendAdvertisement(router.source, router.group, payload, payload[2]))
        if router.deadline != deadline:
            self._wait()


class Stranger(PlainHost):
    """A host of other people's, with a virtual router of the same ID for another address. It hears nobody."""

    def __init__(self, timeline: Timeline, segment: Segment, payload: bytes, source: bytes, group: bytes) -> None:
        super().__init__("stranger", timeline, segment, b"\x02\0\0\0\x02\1")
        self.add_address(source, 24)
        self.wire.listen({Listener(ETH0, 4)}, set())
        self.is_there = True
        self._timeline = timeline
        self._advertisement = SendAdvertisement(source, group, payload, payload[2])

    def speak(self, every: Duration) -> None:
        """Advertise, again and again."""
        if self.is_there:
            self.wire.send(ETH0, self._advertisement)
            self._timeline.at(self._timeline.now + every, lambda: self.speak(every))

    def leave(self) -> None:
        """It is switched off."""
        if self.is_there:
            self.is_there = False
            super().leave()
