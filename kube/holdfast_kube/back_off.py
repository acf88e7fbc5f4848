"""How long to wait after failures."""

from __future__ import annotations

from random import Random, SystemRandom


class BackOff:
    """Pauses whose bound doubles with each failure in a row, with jitter: who failed together shall not all come
    back together."""

    def __init__(self, first_seconds: float, last_seconds: float, random: Random | None = None) -> None:
        self._first_seconds = first_seconds
        self._last_seconds = last_seconds
        self._random = random or SystemRandom()
        self.failures = 0
        """In a row."""

    def succeeded(self) -> None:
        """The next failure is the first one."""
        self.failures = 0

    def failed(self) -> float:
        """Count a failure. Returns how long to wait after it, in seconds."""
        self.failures += 1
        return self.pause()

    def pause(self) -> float:
        """How long to wait after the failures so far; without one, as after the first."""
        bound = min(self._first_seconds * 2.0 ** min(max(self.failures - 1, 0), 16), self._last_seconds)
        return self._random.uniform(min(self._first_seconds / 2, bound), bound)
