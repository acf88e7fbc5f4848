"""The deadlines of many virtual routers, so that the next one is found without asking each."""

from __future__ import annotations

import heapq

from holdfast_speaker.vrrp.instants import Instant


class Deadlines:
    """A heap with one live entry per key.

    A deadline that moves later leaves its entry where it is: it comes up early, which is harmless, and is put back. So
    a Backup that hears an advertisement every 10 ms costs no heap operation.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[Instant, str]] = []
        self._entry: dict[str, Instant] = {}

    def checkpoint(self) -> dict[str, Instant]:
        """The live entries; those in the heap that are none decide nothing."""
        return dict(self._entry)

    def restore(self, known: dict[str, Instant]) -> None:
        """Know what another one knew."""
        self._entry = dict(known)
        self._heap = [(at, key) for key, at in known.items()]
        heapq.heapify(self._heap)

    def set(self, key: str, at: Instant | None) -> None:
        """From now on `key` is due at `at`; None: never."""
        if at is None:
            self._entry.pop(key, None)
            return
        known = self._entry.get(key)
        if known is None or at < known:
            self._entry[key] = at
            heapq.heappush(self._heap, (at, key))

    def earliest(self) -> Instant | None:
        """When something is due, or looked as if it would be."""
        while self._heap and self._entry.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: Instant) -> list[str]:
        """The keys whose entry has come up, each once; set() puts them back."""
        due: list[str] = []
        while (at := self.earliest()) is not None and at <= now:
            _, key = heapq.heappop(self._heap)
            del self._entry[key]
            due.append(key)
        return due
