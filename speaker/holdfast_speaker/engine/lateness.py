"""How late timers fire: a histogram of fixed size, cheap enough for every tick."""

from __future__ import annotations

from holdfast_api.messages import Lateness

_SUB_BUCKETS = 16
_BUCKETS = 2 * _SUB_BUCKETS + 32 * _SUB_BUCKETS


class LatenessHistogram:
    """Buckets of microseconds, each at most a sixteenth wide of its value.

    >>> histogram = LatenessHistogram()
    >>> for microseconds in range(100): histogram.record(microseconds * 1000)
    >>> histogram.summary().p50_microseconds, histogram.summary().max_microseconds
    (51, 99)
    """

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self._samples = 0
        self._maximum = 0

    def record(self, lateness_ns: int) -> None:
        """Count one firing that came this late."""
        microseconds = max(lateness_ns, 0) // 1000
        shift = max(0, microseconds.bit_length() - 5)
        self._buckets[min(shift * _SUB_BUCKETS + (microseconds >> shift), _BUCKETS - 1)] += 1
        self._samples += 1
        self._maximum = max(self._maximum, microseconds)

    def summary(self) -> Lateness:
        """Percentiles and the maximum since the start."""
        return Lateness(
            samples=self._samples,
            p50_microseconds=self._percentile(0.50),
            p99_microseconds=self._percentile(0.99),
            max_microseconds=self._maximum,
        )

    def _percentile(self, share: float) -> int:
        rank = share * self._samples
        seen = 0
        for index, count in enumerate(self._buckets):
            seen += count
            if count and seen > rank:
                return min(_upper_bound(index), self._maximum)
        return self._maximum


def _upper_bound(index: int) -> int:
    if index < 2 * _SUB_BUCKETS:
        return index
    shift = index // _SUB_BUCKETS - 1
    return ((index - shift * _SUB_BUCKETS + 1) << shift) - 1
