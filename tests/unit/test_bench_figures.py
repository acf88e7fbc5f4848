"""What is made of samples: ratios, verdicts, the table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))  # bench/ is a folder of scripts and is not installed

from bench.figures import Goal, Series, Statistic, percentile, protocol_bound_ms, table

TIMES = st.lists(st.floats(0, 1e6), min_size=1)


def series(holdfast: list[float], keepalived: list[float], goal: Goal | None = None) -> Series:
    return Series("work", "ms", goal, holdfast, keepalived)


def test_the_ratio_is_that_of_the_medians() -> None:
    assert series([1, 2, 900], [4, 4, 4]).ratio == 0.5


@pytest.mark.parametrize(("holdfast", "keepalived"), [([], [1.0]), ([1.0], []), ([1.0], [0.0])])
def test_a_ratio_without_meaning_is_none(holdfast: list[float], keepalived: list[float]) -> None:
    assert series(holdfast, keepalived).ratio is None


@pytest.mark.parametrize(("holdfast", "reached"), [([9.0, 10.0, 11.0], True), ([10.0, 10.1, 10.2], False)])
def test_a_ratio_is_held_against_the_medians(holdfast: list[float], reached: bool) -> None:
    assert series(holdfast, [10.0], Goal(Statistic.RATIO, 1.0)).is_reached is reached


def test_one_bad_sample_misses_a_maximum() -> None:
    goal = Goal(Statistic.MAXIMUM, 0)
    assert series([0] * 9, [], goal).is_reached
    assert series([0] * 9 + [1], [], goal).is_reached is False


def test_one_bad_sample_of_three_does_not_miss_a_median() -> None:
    goal = Goal(Statistic.MEDIAN, 120)
    assert series([119, 120, 400], [], goal).is_reached
    assert series([119, 121, 400], [], goal).is_reached is False


def test_nothing_is_said_to_be_reached_without_samples_or_without_a_goal() -> None:
    assert series([], [1.0], Goal(Statistic.MAXIMUM, 5)).is_reached is None
    assert series([1.0], [1.0]).is_reached is None
    assert series([1.0], [], Goal(Statistic.RATIO, 1)).is_reached is None


@given(TIMES, st.floats(0, 1))
def test_a_percentile_is_a_sample_that_its_share_does_not_exceed(samples: list[float], share: float) -> None:
    found = percentile(samples, share)
    assert found in samples
    assert sum(sample <= found for sample in samples) >= share * len(samples) - 1e-6


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)


def test_the_bound_is_three_intervals_and_the_skew() -> None:
    assert protocol_bound_ms(1000, 100) == pytest.approx(3609.375)
    assert protocol_bound_ms(10, 254) == pytest.approx(30.078, abs=1e-3)


def test_the_table_has_a_row_for_each_series_and_names_what_is_not_reached() -> None:
    rows = [
        series([10.0, 12.5, 20.0], [25.0], Goal(Statistic.RATIO, 1.0)),
        series([3.0], [], Goal(Statistic.MAXIMUM, 2)),
        series([1.0], [2.0]),
    ]
    told = table(rows, judged=True).splitlines()
    assert len(told) == 5
    assert told[2] == "| work | ms | 3 | 10 / 12.5 / 20 | 25 / 25 / 25 | 0.500 | ratio <= 1.00 | yes |"
    assert told[3].endswith("| 3 / 3 / 3 | - | - | <= 2 | **no** |")
    assert told[4].endswith("| 0.500 | - | - |")


def test_an_unjudged_table_has_figures_and_no_verdict() -> None:
    told = table([series([5.0], [1.0], Goal(Statistic.RATIO, 1.0))], judged=False)
    assert "| 5.000 |" in told
    assert told.splitlines()[2].endswith("| ratio <= 1.00 | - |")


def test_small_figures_keep_three_digits() -> None:
    assert "| 0.0123 / 1.24 / 1235 |" in table([series([0.012345, 1.2352, 1234.56], [])], judged=True)
