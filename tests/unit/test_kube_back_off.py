"""How long to wait after failures."""

from __future__ import annotations

from random import Random

from holdfast_kube.back_off import BackOff


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
