"""One simulated machine: a clock of its own, a kernel with fenced addresses, and the real core in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from holdfast_api.reasons import Health, Obstacle
from holdfast_speaker.vrrp.actions import Actions
from holdfast_speaker.vrrp.configuration import Configuration
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, ZERO, Duration, Instant
from holdfast_speaker.vrrp.router import VirtualRouter

LONG_AGO = Instant(0)
"""Before everything that is simulated."""

REFRESH_EVERY = Duration(300 * MILLISECOND)
LIFETIME = Duration(SECOND)
"""ADR 0005: what a kernel keeps of addresses that nobody refreshes."""

EXPIRES_LATE = Duration(250 * MILLISECOND)
"""How much later the kernel's timer may be (measured: up to 1.15 s for one shot, 0.25 s in the median)."""


class Datagram(NamedTuple):
    """An IP payload as it arrives."""

    payload: bytes
    source: bytes
    destination: bytes


@dataclass
class Host:
    """Times are the simulation's unless they are called local."""

    name: str
    configuration: Configuration
    drift_ppm: int
    make: type[VirtualRouter] = VirtualRouter
    router: VirtualRouter | None = None
    powered: bool = True
    link_up: bool = True
    frozen: bool = False
    health: Health = Health.HEALTHY
    recovered_at: Instant | None = None
    """When its services became well again, as long as it is one that remembers."""
    obstacles: frozenset[Obstacle] = frozenset()
    queue: list[Datagram] = field(default_factory=list)
    arrivals: dict[bytes, Instant] = field(default_factory=dict)
    """When the last advertisement of each source came to its sockets, whether or not anybody has read it."""
    pending: list[Callable[[VirtualRouter, Instant], Actions]] = field(default_factory=list)
    """What its machine, its user and its probes have to say to a process that does not run."""
    busy_until: Instant = LONG_AGO
    """The engine waits for its kernel."""
    kernel_delay: Duration = ZERO
    kernel_refuses: bool = False
    holding: bool = False
    """The kernel has the addresses, and the engine refreshes them."""
    expires_at: Instant | None = None
    """The kernel has the addresses, and nobody refreshes them."""
    disturbed_at: Instant = LONG_AGO
    """When something last happened to it, or ended: what it does for a while after that is no surprise."""

    def local(self, now: int) -> Instant:
        """This machine's monotonic clock."""
        return Instant(now + now * self.drift_ppm // 1_000_000)

    def when(self, local: int) -> Instant:
        """The simulation's time of a local one, rounded up."""
        now = local * 1_000_000 // (1_000_000 + self.drift_ppm)
        while self.local(now) < local:
            now += 1
        return Instant(now)

    @property
    def runs(self) -> bool:
        """Whether the engine can do anything."""
        return self.powered and not self.frozen and self.router is not None

    def answers(self, now: int) -> bool:
        """Whether its kernel answers for the addresses: a frozen process's kernel does until they expire."""
        if not (self.powered and self.link_up):
            return False
        return self.holding or (self.expires_at is not None and now < self.expires_at)

    def leave_unrefreshed(self, now: int, random: Random) -> None:
        """From now on nobody refreshes what the kernel has."""
        if self.holding:
            last_refresh = now - random.randrange(REFRESH_EVERY)
            self.expires_at = Instant(last_refresh + LIFETIME + random.randrange(EXPIRES_LATE))
            self.holding = False

    @property
    def router_is_out(self) -> bool:
        """Whether it cannot take part in the election."""
        return self.router is None or bool(self.router.obstacles)
