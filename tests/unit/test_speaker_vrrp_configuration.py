"""Health bands, and the configured priority scaled into the failing one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_speaker.vrrp.configuration import (
    FAILING_PRIORITY_MAX,
    STEPPING_ASIDE,
    Configuration,
    Family,
    band,
    failing_priority,
)

configured = st.integers(50, 255)


@pytest.mark.parametrize(("priority", "expected"), [(1, 0), (49, 0), (50, 1), (254, 1), (255, 2)])
def test_bands_are_failing_healthy_and_owner(priority: int, expected: int) -> None:
    assert band(priority) == expected


@given(configured)
def test_a_failing_priority_is_an_ordinary_low_one(priority: int) -> None:
    assert 1 <= failing_priority(priority) <= FAILING_PRIORITY_MAX
    assert band(failing_priority(priority)) == 0


@given(configured, configured)
def test_failing_priorities_keep_the_order(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert failing_priority(low) <= failing_priority(high)


def test_the_whole_failing_band_is_used_but_for_the_priority_of_stepping_aside() -> None:
    assert {failing_priority(priority) for priority in range(50, 255)} == set(range(1, 50)) - {STEPPING_ASIDE}


def test_a_family_is_found_by_the_width_of_its_addresses() -> None:
    family = Family(bytes(4), (bytes(4),), ())
    configuration = Configuration(51, (family,))
    assert configuration.family(4) is family
    assert configuration.family(16) is None


@pytest.mark.parametrize(("priority", "owner"), [(254, False), (255, True)])
def test_the_owner_has_priority_255(priority: int, owner: bool) -> None:
    assert Configuration(51, (), priority=priority).owner is owner
