"""From results of probes to health: thresholds, and the judgement of several together."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_api.reasons import Health
from holdfast_api.resources import ExecAction, Probe
from holdfast_speaker.health.policy import ProbeJudgement, Result, failure, next_start, overall

GOOD = Result(True)
BAD = Result(False, "refused")

LETTERS = {Health.HEALTHY: "H", Health.FAILING: "F", Health.UNKNOWN: "U"}


NOTHING_KNOWN = Result(False, "too many open files", is_conclusive=False)


@pytest.mark.parametrize("before", ["", "+", "-", "+--", "-+"])
def test_a_run_that_says_nothing_changes_nothing_but_why_nothing_is_known(before):
    judgement = ProbeJudgement("p", failure_threshold=3, success_threshold=2)
    for letter in before:
        judgement = judgement.after(GOOD if letter == "+" else BAD)
    after = judgement
    for _ in range(5):
        after = after.after(NOTHING_KNOWN)
    why = "" if before else "too many open files"
    assert after == replace(judgement, message=why or judgement.message)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN])
def test_what_this_host_lacks_is_no_word_about_the_service(number):
    assert not failure("", OSError(number, "")).is_conclusive
    assert failure("", OSError(errno.ECONNREFUSED, "")).is_conclusive


def course(results, failure_threshold, success_threshold):
    """The health after each of the results, one letter each."""
    judgement = ProbeJudgement("p", failure_threshold, success_threshold)
    letters = ""
    for letter in results:
        judgement = judgement.after(GOOD if letter == "+" else BAD)
        letters += LETTERS[judgement.health]
    return letters


@pytest.mark.parametrize(
    ("failures", "successes", "results", "healths"),
    [
        (3, 2, "+", "H"),
        (3, 2, "-", "F"),
        (3, 2, "+---", "HHHF"),
        (3, 2, "+--+--+---", "HHHHHHHHHF"),
        (3, 2, "-++", "FFH"),
        (3, 2, "-+-+-++", "FFFFFFH"),
        (1, 1, "+-+-", "HFHF"),
        (2, 3, "+--+++--", "HHFFFHHF"),
    ],
)
def test_the_first_result_counts_at_once_and_later_changes_need_their_thresholds(failures, successes, results, healths):
    assert course(results, failures, successes) == healths


@given(st.text("+-", min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_a_change_comes_with_the_threshold_of_results_in_a_row_and_never_without(results, failures, successes):
    healths = course(results, failures, successes)
    for index in range(1, len(results)):
        threshold, sign = (failures, "-") if healths[index - 1] == "H" else (successes, "+")
        in_a_row = len(results[: index + 1]) - len(results[: index + 1].rstrip(sign))
        if healths[index] != healths[index - 1]:
            assert in_a_row >= threshold
        elif results[index] == sign:
            assert in_a_row < threshold


def test_an_edited_probe_keeps_its_health_and_begins_to_count_anew():
    failing = ProbeJudgement("p", 1, 3).after(GOOD).after(BAD).after(GOOD)
    edited = failing.under(Probe(name="p", exec=ExecAction(command=["true"]), success_threshold=2))
    assert edited.health is Health.FAILING
    assert edited.after(GOOD).health is Health.FAILING
    assert edited.after(GOOD).after(GOOD).health is Health.HEALTHY


def test_all_probes_must_be_healthy():
    a, b = ProbeJudgement("a"), ProbeJudgement("b")
    assert overall([a.after(GOOD), b.after(GOOD)]) == (Health.HEALTHY, "")


def test_health_is_unknown_until_each_probe_has_its_first_result():
    a, b = ProbeJudgement("a"), ProbeJudgement("b")
    assert overall([a, b]) == (Health.UNKNOWN, "no result yet of probe a, b")
    assert overall([a.after(GOOD), b]) == (Health.UNKNOWN, "no result yet of probe b")


def test_one_failure_is_failing_at_once_and_names_the_probe_and_its_last_message():
    a, b = ProbeJudgement("a"), ProbeJudgement("b").after(BAD)
    assert overall([a, b]) == (Health.FAILING, "probe b: refused")
    assert overall([a, b.after(Result(False, "timed out"))]) == (Health.FAILING, "probe b: timed out")


def test_several_failing_probes_are_all_named():
    a, b = ProbeJudgement("a").after(BAD), ProbeJudgement("b").after(Result(False, "exit status 1"))
    assert overall([a, b]) == (Health.FAILING, "probe a: refused; probe b: exit status 1")


@given(st.integers(0, 10_000), st.lists(st.integers(0, 500), max_size=50), st.integers(1, 100))
def test_starts_stay_on_the_schedule_and_the_next_is_ahead_by_a_period_at_most(first, durations, period):
    due = first
    for duration in durations:
        now = due + duration
        due = next_start(due, now, period)
        assert (due - first) % period == 0
        assert now < due <= now + period
