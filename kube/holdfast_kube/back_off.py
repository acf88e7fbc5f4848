"""How long to wait after failures."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
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

    def failed(self, at_least_seconds: float = 0.0) -> float:
        """Count a failure. Returns how long to wait after it, in seconds: no less than the other side asked for."""
        self.failures += 1
        return max(self.pause(), at_least_seconds)

    def pause(self) -> float:
        """How long to wait after the failures so far; without one, as after the first."""
        bound = min(self._first_seconds * 2.0 ** min(max(self.failures - 1, 0), 16), self._last_seconds)
        return self._random.uniform(min(self._first_seconds / 2, bound), bound)


@dataclass(slots=True)
class _Waiting:
    back_off: BackOff
    wanted: object
    until: float


class BackOffs:
    """One for each object: what fails for ever holds up nothing else."""

    def __init__(
        self, first_seconds: float, last_seconds: float, clock: Callable[[], float], random: Random | None = None
    ) -> None:
        self._first_seconds = first_seconds
        self._last_seconds = last_seconds
        self._clock = clock
        self._random = random
        self._waiting: dict[str, _Waiting] = {}

    def is_due(self, key: str, wanted: object = None) -> bool:
        """Whether to try: it has not failed, or long enough ago, or with something else than what is `wanted` now."""
        known = self._waiting.get(key)
        return known is None or known.wanted != wanted or self._clock() >= known.until

    def failed(self, key: str, wanted: object = None, at_least_seconds: float = 0.0) -> None:
        """It was tried."""
        known = self._waiting.get(key)
        back_off = known.back_off if known else BackOff(self._first_seconds, self._last_seconds, self._random)
        until = self._clock() + back_off.failed(at_least_seconds)
        self._waiting[key] = _Waiting(back_off, wanted, until)

    def succeeded(self, key: str) -> None:
        """Its next failure is the first one."""
        self._waiting.pop(key, None)

    def keep_only(self, keys: Collection[str]) -> None:
        """Nobody wants anything else any more."""
        self._waiting = {key: known for key, known in self._waiting.items() if key in keys}

    def next_seconds(self) -> float | None:
        """After how long one is due; None: none waits."""
        until = min((known.until for known in self._waiting.values()), default=None)
        return None if until is None else max(0.0, until - self._clock())
