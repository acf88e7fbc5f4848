"""What the scenes promise, and when a promise is broken."""

from __future__ import annotations

import pytest

from holdfast_api.resources import ExecAction, Probe, Track, VirtualIPSpec, WhenFailing
from holdfast_lab.evidence import Measurement, Stretch
from holdfast_lab.scenes import Observation, Pace, scenes

PACE = Pace(interval=1.0, fall=2.0, rise=2.0)


def observed(*, before="n1", holder="n2", moves=1, lost=0, left_after_ms=None):
    changes = (Stretch(0, "n2", is_change=True),) * moves
    measurement = Measurement(1000, lost, lost, changes, holder)
    return Observation(before, measurement, shared_ms=0, left_after_ms=left_after_ms)


def complaints(number, observation, when_failing=WhenFailing.DEGRADE):
    return list(scenes("n1", "n2", PACE, when_failing)[number - 1].complaints(observation))


@pytest.mark.parametrize(
    ("number", "observation"),
    [
        (1, observed(lost=3600)),
        (2, observed(before="n2", moves=0)),
        (3, observed(before="n2", holder="n1")),
        (4, observed(holder="n1", moves=0)),
        (5, observed(holder="n1", moves=0)),
        (5, observed(holder="n2", moves=1)),
        (6, observed(holder="n1", moves=0)),
        (7, observed(left_after_ms=2900.0)),
        (8, observed()),
    ],
)
def test_a_promise_that_is_kept_has_no_complaint(number, observation):
    assert complaints(number, observation) == []


@pytest.mark.parametrize(
    ("number", "observation", "expected"),
    [
        (1, observed(holder="n1", moves=0), ["n1 holds"]),
        (1, observed(holder=None, moves=0), ["nobody holds"]),
        (1, observed(moves=3), ["it moved 3 times"]),
        (2, observed(before="n2", holder="n1"), ["it moved", "n1 holds"]),
        (2, observed(before="n2", holder="n2", moves=2), ["it moved 2 times"]),
        (3, observed(before="n2", holder="n2", moves=0), ["n2 holds"]),
        (4, observed(), ["it moved", "n2 holds"]),
        (5, observed(moves=2), ["it moved 2 times"]),
        (5, observed(holder=None, moves=0), ["nobody holds"]),
        (6, observed(), ["it moved"]),
        (6, observed(holder=None, moves=0), ["nobody holds"]),
        (7, observed(), ["the frozen host kept the address"]),
        (7, observed(left_after_ms=4000.0), ["the address left the frozen host only after 4.0 s"]),
        (7, observed(left_after_ms=2900.0, holder="n1", moves=2), ["n1 holds", "it moved 2 times"]),
        (8, observed(lost=7), ["7 probes lost"]),
        (8, observed(holder="n1", moves=0), ["n1 holds"]),
    ],
)
def test_a_broken_promise_is_told_in_words(number, observation, expected):
    assert complaints(number, observation) == expected


def test_with_release_nobody_holds_when_all_services_fail():
    assert complaints(5, observed(holder=None, moves=0), WhenFailing.RELEASE) == []
    assert complaints(5, observed(holder="n1"), WhenFailing.RELEASE) == ["n1 holds"]
    assert complaints(6, observed(moves=0), WhenFailing.RELEASE) == []


def test_the_pace_follows_the_slowest_probe():
    probes = [
        Probe(name="a", exec=ExecAction(command=["true"]), period_seconds=2, failure_threshold=1),
        Probe(name="b", exec=ExecAction(command=["true"]), period_milliseconds=500, success_threshold=6),
    ]
    spec = VirtualIPSpec(addresses=["10.0.0.9"], advertisement_interval_milliseconds=100, track=Track(probes=probes))
    assert Pace.of(spec) == Pace(interval=0.1, fall=2.0, rise=3.0)


def test_the_story_of_the_article_takes_less_than_a_minute():
    assert sum(scene.seconds for scene in scenes("n1", "n2", PACE)) < 50
