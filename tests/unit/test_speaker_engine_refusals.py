"""What is told of refused advertisements, and how often."""

from __future__ import annotations

import pytest

from holdfast_speaker.engine.refusals import LOG_EVERY, REMEMBERED, TOLD, Refusals
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import SECOND, Instant

ONE, OTHER = bytes((10, 9, 0, 7)), bytes((10, 9, 0, 8))
WHY = TOLD[Counter.FOREIGN_ROUTERS]


class Lines:
    def __init__(self):
        self.peers = []

    def info(self, message, **fields):
        raise AssertionError(message)

    error = info

    def warning(self, message, **fields):
        self.peers.append(fields["peer"])


class Case:
    def __init__(self):
        self.lines = Lines()
        self.refusals = Refusals(self.lines)
        self.now = Instant(0)

    def hear(self, source, after=SECOND):
        self.now = Instant(self.now + after)
        self.refusals.tell("a/b", Counter.FOREIGN_ROUTERS, source, self.now)

    @property
    def warnings(self):
        return self.refusals.warnings("a/b", self.now)


@pytest.fixture
def case():
    return Case()


def test_a_refusal_is_logged_once_a_minute_with_who_was_refused_then(case):
    for source in [ONE, OTHER] * 90:
        case.hear(source)
    assert case.lines.peers == ["10.9.0.7", "10.9.0.7", "10.9.0.7"]
    case.hear(OTHER, LOG_EVERY)
    assert case.lines.peers[-1] == "10.9.0.8"


def test_the_words_of_a_warning_stay_the_same_while_several_are_refused(case):
    told = set()
    for source in [ONE, OTHER, OTHER] * 300:
        case.hear(source)
        told.update(case.warnings)
    assert told == {f"advertisements from 10.9.0.7 are refused: {WHY}"}


def test_another_one_is_told_when_the_first_has_been_silent_for_long(case):
    case.hear(ONE)
    for _ in range(REMEMBERED // SECOND - 1):
        case.hear(OTHER)
    assert "10.9.0.7" in case.warnings[0]
    case.hear(OTHER)
    assert "10.9.0.8" in case.warnings[0]


def test_a_warning_ends_some_minutes_after_the_last_packet(case):
    case.hear(ONE)
    case.now = Instant(case.now + REMEMBERED - 1)
    assert len(case.warnings) == 1
    case.now = Instant(case.now + 1)
    assert case.warnings == []


def test_what_cannot_be_a_second_holder_is_no_warning(case):
    case.refusals.tell("a/b", Counter.OWN_PACKETS, ONE, case.now)
    assert (case.warnings, case.lines.peers) == ([], [])
