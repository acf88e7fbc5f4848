"""The only place that reads clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant


def monotonic() -> Instant:
    """CLOCK_MONOTONIC in nanoseconds: what every deadline is on."""
    return Instant(time.monotonic_ns())


def pause(duration: Duration) -> None:
    """Let others run."""
    time.sleep(duration / SECOND)


def timestamp() -> str:
    """The wall clock for people and status: UTC, RFC 3339, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
