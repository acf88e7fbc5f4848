"""The timer: when it is readable, and that it stays as it was set."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_api.errors import EnvironmentFailure
from holdfast_speaker.host import clock
from holdfast_speaker.host.timer import Timer

LONG_SECONDS = 30
HOUR_NS = 3600 * 10**9


@pytest.fixture
def timer() -> Iterator[Timer]:
    made = Timer()
    yield made
    made.close()


def is_readable(timer: Timer, within_seconds: float = 0) -> bool:
    return bool(select.select([timer], [], [], within_seconds)[0])


def is_armed(timer: Timer) -> bool:
    information = Path(f"/proc/self/fdinfo/{timer.fileno()}").read_text()
    remaining = re.search(r"it_value: \((\d+), (\d+)\)", information)
    assert remaining is not None
    return remaining.groups() != ("0", "0")


def test_a_new_timer_is_not_armed(timer):
    assert not is_armed(timer)
    assert not is_readable(timer)


def test_it_becomes_readable_at_its_instant_and_not_before(timer):
    at_ns = clock.now() + 20_000_000
    timer.arm(at_ns)
    assert is_armed(timer)
    assert is_readable(timer, LONG_SECONDS)
    assert clock.now() >= at_ns


@pytest.mark.parametrize("at_ns", [0, 1, -5])
def test_an_instant_that_has_passed_is_at_once_and_zero_too(timer, at_ns):
    timer.arm(at_ns)
    assert is_readable(timer, LONG_SECONDS)


def test_reading_makes_it_unreadable_and_unarmed(timer):
    timer.arm(0)
    assert is_readable(timer, LONG_SECONDS)
    timer.read()
    assert not is_readable(timer)
    assert not is_armed(timer)


def test_the_same_instant_can_be_set_again_after_it_came(timer):
    for _ in range(2):
        timer.arm(1)
        assert is_readable(timer, LONG_SECONDS)
        timer.read()


def test_reading_before_the_instant_does_nothing(timer):
    timer.arm(clock.now() + HOUR_NS)
    timer.read()
    assert is_armed(timer)
    assert not is_readable(timer)


def test_none_disarms(timer):
    timer.arm(0)
    timer.arm(None)
    assert not is_armed(timer)
    assert not is_readable(timer)


def test_a_later_instant_replaces_one_that_came_but_was_not_read(timer):
    timer.arm(0)
    assert is_readable(timer, LONG_SECONDS)
    timer.arm(clock.now() + HOUR_NS)
    assert not is_readable(timer)


def test_setting_what_is_set_does_not_touch_the_kernels_timer(timer, monkeypatch):
    at_ns = clock.now() + HOUR_NS
    timer.arm(at_ns)
    monkeypatch.setattr("holdfast_speaker.host.timer._timerfd_settime", None)
    timer.arm(at_ns)
    assert is_armed(timer)


def test_the_descriptor_is_not_inherited(timer):
    assert not os.get_inheritable(timer.fileno())


def test_closing_twice_is_no_error_and_a_closed_timer_cannot_be_set():
    timer = Timer()
    timer.close()
    timer.close()
    with pytest.raises(EnvironmentFailure, match="cannot set a timer: Bad file descriptor"):
        timer.arm(0)
