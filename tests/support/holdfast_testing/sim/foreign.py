"""A router of another make, as keepalived is one: VRRPv3, no health bands, with or without nopreempt.

Written from RFC 9568 section 6.4 without a look at the core, whose oracle it is in mixed groups.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast_speaker.vrrp.instants import ZERO, Duration, Instant
from holdfast_speaker.vrrp.packet import Advertisement, encode
from holdfast_testing.sim.host import LONG_AGO


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
        return encode(self.version, 51, priority, self.interval, (self.vip,), self.source, self.group)
