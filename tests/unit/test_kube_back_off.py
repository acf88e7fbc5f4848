"""How long to wait after failures."""

from __future__ import annotations

from random import Random

from holdfast_kube.back_off import BackOff, BackOffs


def test_bounds_double_up_to_the_last_and_begin_anew_after_a_success():
    back_off = BackOff(1, 30, Random(1))
    for bound in (1, 2, 4, 8, 16, 30, 30, 30):
        assert 0.5 <= back_off.failed() <= bound
    back_off.succeeded()
    assert back_off.failed() <= 1


def test_a_thousand_failures_in_a_row_do_not_wait_for_ever():
    back_off = BackOff(0.2, 15)
    assert all(0.1 <= back_off.failed() <= 15 for _ in range(1000))
    assert max(back_off.pause() for _ in range(1000)) > 7.5


def test_who_failed_together_comes_back_one_after_the_other():
    first, second = (BackOff(0.5, 30, Random(seed)) for seed in (1, 2))
    assert [first.failed() for _ in range(5)] != [second.failed() for _ in range(5)]


def test_no_less_is_waited_than_the_other_side_asked_for():
    back_off = BackOff(0.2, 15)
    assert back_off.failed(at_least_seconds=60) == 60
    assert back_off.failed() <= 0.4


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_what_fails_waits_and_nothing_else_does():
    clock = Clock()
    back_offs = BackOffs(1, 30, clock, Random(1))
    for _ in range(10):
        back_offs.failed("a")
    assert not back_offs.is_due("a")
    assert back_offs.is_due("b")
    wait = back_offs.next_seconds()
    assert 0 < wait <= 30
    clock.now += wait
    assert back_offs.is_due("a")
    assert back_offs.next_seconds() == 0.0
    back_offs.succeeded("a")
    assert back_offs.next_seconds() is None
    back_offs.failed("a")
    assert back_offs.next_seconds() <= 1


def test_something_else_is_tried_at_once_and_what_nobody_wants_is_forgotten():
    back_offs = BackOffs(1, 30, Clock())
    back_offs.failed("a", wanted=1)
    assert not back_offs.is_due("a", wanted=1)
    assert back_offs.is_due("a", wanted=2)
    back_offs.keep_only({"b"})
    assert back_offs.next_seconds() is None
