"""What a prober's file says of a stretch of time: how many probes were lost, for how long, and who answered."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast_lab.prober import CAPACITY, INTERVAL_NS, LOST_AFTER_NS, NO_ANSWER, UNKNOWN_HOST, ProbeFile

UNKNOWN = "somebody else"
"""The name for who answers from a MAC address that is no host's."""

_LOST_RUN = re.compile(rb"\x00+")
_STRETCH = re.compile(rb"\x00+|([^\x00])\1*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Probes in a row with the same fate."""

    start_ns: int
    """CLOCK_MONOTONIC, when the first of them left."""
    answered: str | None
    """By whom; None: not at all."""
    is_change: bool
    """Another host answered the probe that was last answered before."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A stretch of time as the client saw it."""

    sent: int
    lost: int
    """Without an answer within 500 ms."""
    longest_outage_ms: float
    """From the first lost probe to the next one that was answered (or the end)."""
    changes: tuple[Stretch, ...]
    """The first probe of each host that answers where another did before."""
    holder: str | None
    """Who answered the last probes of it; None when nobody did."""

    @property
    def moves(self) -> int:
        """How often the VIP went from one host to another."""
        return len(self.changes)


class Evidence:
    """Reads what one prober sees, while it runs or later."""

    def __init__(self, path: Path, hosts: list[str]) -> None:
        """`hosts` in the order of the MAC addresses that the prober was given. OSError when the file is not there."""
        self._file = ProbeFile(path)
        self._hosts = hosts

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _name(self, number: int) -> str:
        return UNKNOWN if number == UNKNOWN_HOST else self._hosts[number - 1]

    def _first_due_at(self, at_ns: int) -> int:
        return -((self._file.started_ns - at_ns) // INTERVAL_NS)

    def _answers(self, first: int, last: int) -> bytes:
        begin, end = first % CAPACITY, last % CAPACITY
        view = self._file.answers
        if begin <= end:
            return bytes(view[begin:end])
        return bytes(view[begin:]) + bytes(view[:end])

    def _sent_ns(self, number: int) -> int:
        return self._file.sent_ns[number % CAPACITY]

    def _range(self, start_ns: int, end_ns: int) -> tuple[int, int]:
        count = self._file.count
        first = max(self._first_due_at(start_ns), count - CAPACITY + 1000, 0)
        return first, max(first, min(self._first_due_at(end_ns), count))

    def pending(self, start_ns: int, end_ns: int, now_ns: int) -> bool:
        """Whether a probe of that time is unanswered and may still be answered."""
        if now_ns - end_ns < LOST_AFTER_NS and self._file.count < self._first_due_at(end_ns):
            return True
        first, last = self._range(max(start_ns, now_ns - LOST_AFTER_NS - 10 * INTERVAL_NS), end_ns)
        return NO_ANSWER in self._answers(first, last)

    def settle(self, start_ns: int, end_ns: int) -> None:
        """Wait until every probe of that time is answered or lost, 500 ms at most."""
        while time.monotonic_ns() - end_ns < LOST_AFTER_NS + 10 * INTERVAL_NS:
            if not self.pending(start_ns, end_ns, time.monotonic_ns()):
                return
            time.sleep(0.01)

    def measure(self, start_ns: int, end_ns: int) -> Measurement:
        """What happened to the probes that were due from start to end (CLOCK_MONOTONIC).

        What is not answered yet counts as lost: `settle` first.
        """
        first, last = self._range(start_ns, end_ns)
        answers = self._answers(first, last)
        outages = [
            (self._sent_ns(first + run.end()) if run.end() < len(answers) else end_ns)
            - self._sent_ns(first + run.start())
            for run in _LOST_RUN.finditer(answers)
        ]
        recent = answers[-300:].rstrip(b"\x00") if not answers.endswith(b"\x00" * 300) else b""
        return Measurement(
            sent=len(answers),
            lost=answers.count(NO_ANSWER),
            longest_outage_ms=max(outages, default=0) / 1e6,
            changes=tuple(stretch for stretch in self.stretches(start_ns, end_ns) if stretch.is_change),
            holder=self._name(recent[-1]) if recent else None,
        )

    def stretches(self, start_ns: int, end_ns: int) -> Iterator[Stretch]:
        """The probes from start to end (CLOCK_MONOTONIC) as stretches of the same fate, in order of time."""
        first, last = self._range(start_ns, end_ns)
        before = self._answerer_before(first)
        for found in _STRETCH.finditer(self._answers(first, last)):
            answered = self._name(found[1][0]) if found[1] else None
            is_change = None not in (answered, before) and answered != before
            yield Stretch(self._sent_ns(first + found.start()), answered, is_change)
            before = answered or before

    def _answerer_before(self, number: int) -> str | None:
        first = max(0, self._file.count - CAPACITY + 1000, number - 60_000)
        earlier = self._answers(first, number).rstrip(b"\x00") if number > first else b""
        return self._name(earlier[-1]) if earlier else None
