"""Logs as lines of a timeline."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest

from holdfast_lab.happenings import LogTail, monotonic_of
from holdfast_lab.record import Software
from holdfast_lab.stage import link_local_address


@pytest.fixture
def log(tmp_path):
    return tmp_path / "router.log"


def tail(log, software=Software.HOLDFAST):
    return LogTail("n2", log, software, {"10.77.0.11": "n1", "10.77.0.1": "n9", "fe80::b": "n1"})


def line(**fields):
    fields = {"time": datetime.now(UTC).isoformat(), "level": "info", "message": "something", **fields}
    return json.dumps(fields) + "\n"


def add(log, text):
    with log.open("a") as file:
        file.write(text)


def test_transitions_are_told_with_host_names(log):
    reader = tail(log)
    said = "10.77.0.11 (priority 100) was silent for 3.6 s, not 10.77.0.111, fe80::b"
    add(log, line(fromState="Backup", toState="Master", message=said))
    [found] = reader.poll()
    assert found.where == "n2"
    assert found.text == "n1 (priority 100) was silent for 3.6 s, not 10.77.0.111, n1"
    assert abs(found.at_ns - time.monotonic_ns()) < 60e9


def test_warnings_are_told_and_other_messages_are_not(log):
    reader = tail(log)
    add(log, line(message="chatter") + line(level="warning", message="look") + line(level="error", message="bad"))
    assert [found.text for found in reader.poll()] == ["look", "bad"]


def test_what_is_no_json_is_told_as_it_is(log):
    reader = tail(log)
    add(log, "Traceback (most recent call last):\n\n[1]\n")
    assert [found.text for found in reader.poll()] == ["Traceback (most recent call last):", "[1]"]


def test_a_line_is_told_once_and_when_it_is_complete(log):
    add(log, line(level="error", message="before"))
    reader = tail(log)
    whole = line(level="error", message="half")
    add(log, whole[:20])
    assert list(reader.poll()) == []
    add(log, whole[20:])
    assert [found.text for found in reader.poll()] == ["half"]
    assert list(reader.poll()) == []


def test_a_log_that_is_not_there_yet_is_empty(log):
    assert list(tail(log).poll()) == []


def test_of_keepalived_its_states_are_told(log):
    reader = tail(log, Software.KEEPALIVED)
    add(log, "Mon Nov 23 17:00:00 2026: (VI_1) Entering MASTER STATE\nMon Nov 23 17:00:00 2026: (VI_1) sent\n")
    assert [found.text for found in reader.poll()] == ["Entering MASTER STATE"]


def test_a_moment_is_placed_on_the_monotonic_clock():
    before = time.monotonic_ns()
    assert abs(monotonic_of(datetime.now(UTC).isoformat()) - before) < 60e9
    assert monotonic_of("1970-01-01T00:00:00+00:00") < 0
    assert monotonic_of("no time") >= before


def test_a_link_local_address_is_the_kernels_own_making():
    assert link_local_address("02:68:66:00:00:64") == "fe80::68:66ff:fe00:64"
