"""Time as the core knows it: integer nanoseconds, and the intervals that RFC 9568 section 6.1 computes from them.

Nothing here reads a clock. Intervals on the wire are centiseconds (VRRPv3) or seconds (VRRPv2); packet.py converts
them once.
"""

from typing import NewType

Instant = NewType("Instant", int)
"""A point on the monotonic clock, in nanoseconds."""

Duration = NewType("Duration", int)
"""A length of time, in nanoseconds."""

ZERO = Duration(0)
SECOND = Duration(1_000_000_000)
CENTISECOND = Duration(10_000_000)
MILLISECOND = Duration(1_000_000)


def skew_time(version: int, priority: int, interval: Duration) -> Duration:
    """How much longer a Backup of this priority waits than one of priority 256 would.

    VRRPv3: a share of the Master's interval (RFC 9568 section 6.1, Skew_Time); VRRPv2: a share of one second,
    whatever the interval (RFC 3768 section 6.1).

    >>> skew_time(3, 100, SECOND), skew_time(2, 100, Duration(5 * SECOND))
    (609375000, 609375000)
    """
    unit = interval if version == 3 else SECOND
    return Duration((256 - priority) * unit // 256)


def master_down_interval(version: int, priority: int, interval: Duration) -> Duration:
    """The silence after which a Backup takes over (RFC 9568 section 6.1, Active_Down_Interval).

    >>> master_down_interval(3, 100, SECOND)
    3609375000
    """
    return Duration(3 * interval + skew_time(version, priority, interval))


def learned_interval_limit(own_interval: Duration) -> Duration:
    """The longest interval that a Backup adopts from a Master's advertisement.

    RFC 9568 sets no limit, so that one spoofed advertisement of 4095 cs would silence a Backup for two minutes. Eight
    times its own leaves room for peers in the middle of a configuration change; 2 s for a Master that announces a
    longer interval while it hands over to its successor, at any own interval.
    """
    return Duration(max(8 * own_interval, 2 * SECOND))
