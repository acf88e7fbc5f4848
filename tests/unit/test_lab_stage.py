"""What the client notices, as lines of the timeline."""

from __future__ import annotations

import pytest

from holdfast_lab import stage
from holdfast_lab.evidence import Evidence
from holdfast_lab.prober import INTERVAL_NS, ProbeFile
from holdfast_lab.stage import ClientsView

START = 5_000_000_000


class Probes:
    """A prober whose answers and whose clock the test decides."""

    def __init__(self, path, monkeypatch):
        self._file = ProbeFile(path, create=True)
        self._file.begin(START)
        self.now = START
        monkeypatch.setattr(stage.time, "monotonic_ns", lambda: self.now)
        self.evidence = Evidence(path, ["n1", "n2"])
        self.view = ClientsView(self.evidence)

    def pass_time(self, milliseconds, host=0):
        for _ in range(milliseconds):
            number = (self.now - START) // INTERVAL_NS
            self._file.sent(number, self.now)
            if host:
                self._file.answered(number, host, self.now)
            self.now += INTERVAL_NS

    def told(self):
        return [happening.text for happening in self.view.poll()]

    def close(self):
        self.evidence.close()
        self._file.close()


@pytest.fixture
def probes(tmp_path, monkeypatch):
    made = Probes(tmp_path / "probes", monkeypatch)
    yield made
    made.close()


def test_a_steady_holder_is_no_news(probes):
    probes.pass_time(1000, host=1)
    assert probes.told() == []
    probes.pass_time(1000, host=1)
    assert probes.told() == []


def test_a_move_without_a_gap_is_told_once(probes):
    probes.pass_time(100, host=1)
    probes.pass_time(100, host=2)
    assert probes.told() == ["n2 answers"]
    probes.pass_time(100, host=2)
    assert probes.told() == []


def test_a_silence_is_told_while_it_lasts_and_with_its_length_when_it_ends(probes):
    probes.pass_time(100, host=1)
    probes.pass_time(100)
    assert probes.told() == ["nobody answers"]
    probes.pass_time(500)
    assert probes.told() == []
    probes.pass_time(100, host=2)
    assert probes.told() == ["n2 answers, after 0.60 s of silence"]


def test_a_single_lost_probe_is_no_news(probes):
    probes.pass_time(100, host=1)
    probes.pass_time(1)
    probes.pass_time(100, host=1)
    assert probes.told() == []


def test_answers_that_may_still_be_on_their_way_are_waited_for(probes):
    probes.pass_time(100, host=1)
    probes.pass_time(10, host=2)
    assert probes.told() == []
    probes.pass_time(20, host=2)
    assert probes.told() == ["n2 answers"]
