"""The intervals against the figures that RFC 9568, RFC 3768 and measurements give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_speaker.vrrp.instants import (
    CENTISECOND,
    MILLISECOND,
    SECOND,
    Duration,
    learned_interval_limit,
    master_down_interval,
    skew_time,
)

priorities = st.integers(1, 255)
versions = st.sampled_from([2, 3])
intervals = st.integers(1, 4095).map(lambda cs: Duration(cs * CENTISECOND))


@pytest.mark.parametrize(
    ("priority", "interval", "skew", "down"),
    [
        (100, SECOND, 609_375_000, 3_609_375_000),
        (200, SECOND, 218_750_000, 3_218_750_000),
        (100, Duration(200 * MILLISECOND), 121_875_000, 721_875_000),
        (100, CENTISECOND, 6_093_750, 36_093_750),
        (255, SECOND, 3_906_250, 3_003_906_250),
        (1, Duration(4095 * CENTISECOND), 40_790_039_062, 163_640_039_062),
    ],
)
def test_version_3_takes_its_skew_from_the_interval(priority: int, interval: Duration, skew: int, down: int) -> None:
    assert skew_time(3, priority, interval) == skew
    assert master_down_interval(3, priority, interval) == down


@pytest.mark.parametrize(("seconds", "down"), [(1, 3_609_375_000), (5, 15_609_375_000), (255, 765_609_375_000)])
def test_version_2_takes_its_skew_from_one_second_whatever_the_interval(seconds: int, down: int) -> None:
    interval = Duration(seconds * SECOND)
    assert skew_time(2, 100, interval) == 609_375_000
    assert master_down_interval(2, 100, interval) == down


@given(versions, priorities, priorities, intervals)
def test_a_higher_priority_never_waits_longer(version: int, one: int, other: int, interval: Duration) -> None:
    low, high = sorted((one, other))
    assert skew_time(version, high, interval) <= skew_time(version, low, interval)
    if low != high:
        # At 10 ms one step of priority is still 39 microseconds.
        assert skew_time(version, high, interval) < skew_time(version, low, interval)


@given(priorities, intervals)
def test_the_skew_of_version_3_is_less_than_an_interval(priority: int, interval: Duration) -> None:
    assert 0 < skew_time(3, priority, interval) < interval
    assert 3 * interval < master_down_interval(3, priority, interval) < 4 * interval


@pytest.mark.parametrize(
    ("own", "limit"),
    [(CENTISECOND, 2 * SECOND), (Duration(250 * MILLISECOND), 2 * SECOND), (SECOND, 8 * SECOND)],
)
def test_the_limit_is_eight_intervals_and_two_seconds_at_least(own: Duration, limit: int) -> None:
    assert learned_interval_limit(own) == limit


@given(intervals)
def test_a_master_with_the_same_interval_is_never_limited(own: Duration) -> None:
    assert learned_interval_limit(own) >= own
