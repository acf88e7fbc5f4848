"""Virtual time: what happens when. At one instant what arrives comes first, and then hosts take their turns."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from holdfast_speaker.vrrp.instants import SECOND, Instant

EPOCH = Instant(1_000 * SECOND)
"""Where virtual time begins: a clock is never near zero in a process that runs."""

_ARRIVALS, _TURNS = 0, 1


class Timeline:
    """A heap of what is to happen."""

    def __init__(self) -> None:
        self.now = EPOCH
        self.events = 0
        """How much has happened."""
        self._heap: list[tuple[Instant, int, int, Callable[[], None]]] = []
        self._sequence = 0

    def at(self, when: int, do: Callable[[], None]) -> None:
        """Do something then: a packet arrives, a cable is pulled."""
        self._push(when, _ARRIVALS, do)

    def turn_at(self, when: int, do: Callable[[], None]) -> None:
        """Do something then, after everything that is to happen at that instant."""
        self._push(when, _TURNS, do)

    def _push(self, when: int, order: int, do: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (Instant(when), order, self._sequence, do))

    def run(self, duration: int) -> None:
        """Let time pass."""
        end = Instant(self.now + duration)
        heap = self._heap
        while heap and heap[0][0] <= end:
            when, _, _, do = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            self.events += 1
            do()
        self.now = end
