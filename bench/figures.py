"""Samples of two programs under the same work, and the table that says what they are. Pure."""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


class Statistic(enum.StrEnum):
    """What of a series is held against a limit."""

    RATIO = "ratio"
    """Of the medians, Holdfast's to keepalived's."""
    MAXIMUM = "max"
    """The worst of Holdfast's samples."""
    MEDIAN = "median"
    """Of Holdfast's samples."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached: at most `limit`, in the unit of the series (a ratio has none)."""

    statistic: Statistic
    limit: float

    def __str__(self) -> str:
        """As the table has it."""
        match self.statistic:
            case Statistic.RATIO:
                return f"ratio <= {self.limit:.2f}"
            case Statistic.MAXIMUM:
                return f"<= {self.limit:g}"
            case Statistic.MEDIAN:
                return f"median <= {self.limit:g}"


@dataclass(slots=True)
class Series:
    """One measured quantity: a sample per repetition of each program."""

    title: str
    unit: str
    goal: Goal | None = None
    holdfast: list[float] = field(default_factory=list)
    keepalived: list[float] = field(default_factory=list)
    """Empty where keepalived has no such thing."""

    @property
    def ratio(self) -> float | None:
        """Of the medians; None where it has no meaning: a side without samples, or keepalived's median is 0."""
        if not self.holdfast or not self.keepalived:
            return None
        reference = statistics.median(self.keepalived)
        return statistics.median(self.holdfast) / reference if reference else None

    @property
    def is_reached(self) -> bool | None:
        """Whether the goal is; None without a goal, or without what it is held against."""
        if self.goal is None or not self.holdfast:
            return None
        match self.goal.statistic:
            case Statistic.RATIO:
                return None if self.ratio is None else self.ratio <= self.goal.limit
            case Statistic.MAXIMUM:
                return max(self.holdfast) <= self.goal.limit
            case Statistic.MEDIAN:
                return statistics.median(self.holdfast) <= self.goal.limit


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share (0 to 1) of the samples does not exceed; ValueError without any.

    >>> percentile([3, 1, 2, 4], 0.5)
    2
    """
    if not samples:
        raise ValueError("no samples")
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def protocol_bound_ms(interval_ms: int, priority: int) -> float:
    """The longest silence that a Backup of this priority waits for (RFC 9568 section 6.1, Active_Down_Interval).

    >>> protocol_bound_ms(1000, 100)
    3609.375
    """
    return 3 * interval_ms + (256 - priority) / 256 * interval_ms


def _number(value: float) -> str:
    """Three significant digits and no fewer than the whole part: nothing is rounded away that the work can tell."""
    if value == int(value):
        return str(int(value))
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def _spread(samples: Sequence[float]) -> str:
    if not samples:
        return "-"
    return " / ".join(_number(value) for value in (min(samples), statistics.median(samples), max(samples)))


def _verdict(series: Series, *, judged: bool) -> str:
    if not judged or series.is_reached is None:
        return "-"
    return "yes" if series.is_reached else "**no**"


def table(series: Sequence[Series], *, judged: bool) -> str:
    """A Markdown table of min / median / max of each side; without `judged` it says nothing of goals reached."""
    lines = [
        "| work | unit | n | Holdfast min / median / max | keepalived the same | ratio | to reach | reached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in series:
        ratio = "-" if one.ratio is None else f"{one.ratio:.3f}"
        cells = [
            one.title,
            one.unit,
            str(len(one.holdfast)),
            _spread(one.holdfast),
            _spread(one.keepalived),
            ratio,
            str(one.goal or "-"),
            _verdict(one, judged=judged),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def table_alone(series: Sequence[Series]) -> str:
    """A Markdown table of what has nothing beside it."""
    lines = ["| what | unit | n | min / median / max | to reach | reached |", "|---|---|---|---|---|---|"]
    for one in series:
        cells = [one.title, one.unit, str(len(one.holdfast)), _spread(one.holdfast), str(one.goal or "-")]
        lines.append(f"| {' | '.join((*cells, _verdict(one, judged=True)))} |")
    return "\n".join(lines) + "\n"
