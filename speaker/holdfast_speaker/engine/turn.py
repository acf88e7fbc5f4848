"""The order in which things happen: ingress before timers.

After any delay the packets are read before a timer acts, because a late engine that acts first takes a VIP from a
healthy Master. A flood must not become a mute button either: after a bounded number of full reads the timers run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from holdfast_speaker.engine.inputs import Inputs
from holdfast_speaker.engine.ports import Clock, Datagram, Listener, NeighbourAnswer
from holdfast_speaker.vrrp.instants import MILLISECOND, Instant

DATAGRAMS_PER_READ = 64
READS = 8
"""Full reads of one listener before the timers run: 512 packets, a few milliseconds."""

READS_AFTER_STALL = 64
"""The same after the process did not run for a while: everything that the kernel can have queued meanwhile."""

READS_OF_OVERHEARD = 2
"""Full reads in one turn of all that is only overheard, together: whoever floods pods' bridges disturbs nobody here."""

STALL = 50 * MILLISECOND


class Arrivals(Protocol):
    """What has arrived and waits to be read."""

    def listeners(self) -> Collection[Listener]:
        """Everything that is listened on for virtual routers of ours."""
        ...

    def receive(self, listener: Listener, limit: int) -> Sequence[Datagram]:
        """Take up to `limit` datagrams; none where there are none, or the link is down or gone."""
        ...

    def answers(self, index: int, limit: int) -> Sequence[NeighbourAnswer]:
        """Take up to `limit` answers of neighbours on a link."""
        ...


class Turn:
    """Gives the engine what has arrived, and the time, in the right order."""

    def __init__(self, engine: Inputs, arrivals: Arrivals, clock: Clock, alive: Callable[[Instant], None]) -> None:
        """`alive` is told the time in each turn, once the packets are read."""
        self._engine = engine
        self._arrivals = arrivals
        self._clock = clock
        self._alive = alive

    def run(
        self,
        deadline: Instant | None,
        readable: Collection[Listener],
        overheard: Collection[Listener] = (),
        answering: Collection[int] = (),
        *,
        links_changed: bool,
    ) -> None:
        """Once around. `deadline` is when the engine was due; the others are what can be read, as far as was known.

        `overheard` are listeners where only others' virtual routers live, `answering` links where neighbours answered.
        """
        self._drain(readable, READS)
        now = self._clock.now()
        if deadline is not None and now >= deadline:
            # A timer is about to act. Asked now, not before: the process may have been stopped after it learned what
            # can be read, for as long as others take to be silent.
            self._drain(self._arrivals.listeners(), READS_AFTER_STALL if now - deadline > STALL else 1)
        self._alive(now)
        if links_changed:
            # After the packets too: an address that the kernel took from a frozen Master may be another's by now.
            self._engine.take_in(self._clock.now())
        for index in answering:
            self._engine.hear(index, self._arrivals.answers(index, DATAGRAMS_PER_READ), self._clock.now())
        self._engine.poll(self._clock.now())
        left = READS_OF_OVERHEARD
        for listener in overheard:
            if left:
                left -= self._read(listener)

    def _drain(self, unread: Collection[Listener], reads: int) -> None:
        for _ in range(reads):
            if not unread:
                return
            unread = [listener for listener in unread if self._read(listener)]

    def _read(self, listener: Listener) -> bool:
        """Whether there may be more."""
        datagrams = self._arrivals.receive(listener, DATAGRAMS_PER_READ)
        if datagrams:
            self._engine.receive(listener, datagrams, self._clock.now())
        return len(datagrams) == DATAGRAMS_PER_READ
