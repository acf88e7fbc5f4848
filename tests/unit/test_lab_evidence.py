"""What a prober's file says of a stretch of time."""

from __future__ import annotations

import pytest

from holdfast_lab.evidence import UNKNOWN, Evidence
from holdfast_lab.prober import CAPACITY, INTERVAL_NS, UNKNOWN_HOST, ProbeFile

START = 5_000_000_000
MS = 1_000_000


@pytest.fixture
def evidence(tmp_path):
    opened = []

    def make(fates, first=0):
        """`fates`: pairs of how many probes and who answered them (0: nobody)."""
        written = ProbeFile(tmp_path / "probes", create=True)
        written.begin(START)
        number = first
        for count, host in fates:
            for _ in range(count):
                now = START + number * INTERVAL_NS
                written.sent(number, now)
                if host:
                    written.answered(number, host, now)
                number += 1
        read = Evidence(tmp_path / "probes", ["n1", "n2"])
        opened.extend((written, read))
        return read

    yield make
    for each in opened:
        each.close()


def measure(evidence, start_ms, end_ms):
    return evidence.measure(START + start_ms * MS, START + end_ms * MS)


def test_a_quiet_time_has_a_holder_and_no_loss(evidence):
    seen = measure(evidence([(1000, 1)]), 0, 1000)
    assert (seen.sent, seen.lost, seen.longest_outage_ms, seen.moves, seen.holder) == (1000, 0, 0, 0, "n1")


def test_an_outage_lasts_until_the_next_answer(evidence):
    seen = measure(evidence([(100, 1), (7, 0), (50, 1), (40, 0), (803, 2)]), 0, 1000)
    assert (seen.lost, seen.longest_outage_ms, seen.moves, seen.holder) == (47, 40, 1, "n2")
    assert [(change.answered, change.start_ns - START) for change in seen.changes] == [("n2", 197 * MS)]


def test_an_outage_at_the_end_lasts_until_the_end(evidence):
    seen = measure(evidence([(600, 1), (400, 0)]), 0, 1000)
    assert (seen.lost, seen.longest_outage_ms, seen.holder) == (400, 400, None)


def test_a_move_at_the_first_probe_of_a_time_counts(evidence):
    assert measure(evidence([(500, 1), (20, 0), (500, 2)]), 510, 1000).moves == 1
    assert measure(evidence([(500, 1), (500, 2)]), 501, 1000).moves == 0


def test_the_first_answer_of_all_is_no_move(evidence):
    seen = measure(evidence([(100, 0), (900, 2)]), 0, 1000)
    assert (seen.moves, seen.holder) == (0, "n2")


def test_flapping_counts_every_time(evidence):
    assert measure(evidence([(10, 1), (10, 2), (10, 1), (10, 2)]), 0, 40).moves == 3


def test_an_answer_from_nobody_we_know_is_told_as_that(evidence):
    assert measure(evidence([(10, UNKNOWN_HOST)]), 0, 10).holder == UNKNOWN


def test_a_time_before_the_first_probe_is_empty(evidence):
    seen = measure(evidence([(10, 1)]), -100, 0)
    assert (seen.sent, seen.lost, seen.holder) == (0, 0, None)


def test_stretches_tell_each_fate_once(evidence):
    found = evidence([(3, 1), (2, 0), (3, 1), (1, 2)]).stretches(START, START + 9 * MS)
    assert [(stretch.answered, stretch.is_change) for stretch in found] == [
        ("n1", False),
        (None, False),
        ("n1", False),
        ("n2", True),
    ]


def test_unanswered_probes_are_pending_until_they_are_lost(evidence):
    seen = evidence([(10, 1), (10, 0)])
    end = START + 20 * MS
    assert seen.pending(START, end, end)
    assert not seen.pending(START, START + 10 * MS, end)
    assert not seen.pending(START, end, end + 600 * MS)


def test_a_time_that_is_not_all_probed_yet_is_pending(evidence):
    assert evidence([(10, 1)]).pending(START, START + 11 * MS, START + 11 * MS)


def test_a_file_that_has_gone_round_is_read_across_its_end(evidence):
    first = CAPACITY - 5
    seen = evidence([(5, 1), (5, 2)], first)
    assert [s.answered for s in seen.stretches(START + first * MS, START + (first + 10) * MS)] == ["n1", "n2"]
