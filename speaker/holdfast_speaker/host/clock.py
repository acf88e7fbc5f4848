"""The only place that reads clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant


def now() -> Instant:
    """CLOCK_BOOTTIME in nanoseconds: what every deadline is on. It goes on while the machine sleeps (ADR 0016)."""
    return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def suspended() -> Duration:
    """How long the machine has slept since it started: CLOCK_BOOTTIME is that much ahead of CLOCK_MONOTONIC."""
    monotonic = time.monotonic_ns()
    return Duration(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - monotonic)


def pause(duration: Duration) -> None:
    """Let others run."""
    time.sleep(duration / SECOND)


def timestamp() -> str:
    """The wall clock for people and status: UTC, RFC 3339, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
