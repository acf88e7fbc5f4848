"""The demo as a command: how it ends, and that it leaves nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast_lab.demo import HOLDFAST_LAB, KEEPALIVED_LAB
from holdfast_lab.record import LabStore, namespace_name
from holdfast_testing.hosts import eventually
from holdfast_testing.required import absent

pytestmark = [pytest.mark.netns, pytest.mark.alone]

DEMO = [sys.executable, "-P", "-m", "holdfast_cli.main", "lab", "demo"]


def left_behind():
    """Namespaces and records of a demo, if there are any on this machine."""
    labs, members = (HOLDFAST_LAB, KEEPALIVED_LAB), ("n1", "n2", "client", "switch")
    namespaces = [namespace_name(lab, member) for lab in labs for member in members]
    made = [name for name in namespaces if (Path("/run/netns") / name).exists()]
    return made + [lab for lab in labs if LabStore(lab).exists()]


@pytest.fixture
def demo(tmp_path):
    """Starts a demo, waits until it probes, and gives it with what it printed so far."""
    if left_behind():
        absent("netns", "somebody plays a demo on this machine already")
    started = []

    def start(*options):
        output = tmp_path / f"output{len(started)}"
        with output.open("w") as written:
            process = subprocess.Popen([*DEMO, *options], stdout=written, stderr=written)
        started.append(process)
        eventually(lambda: "one ICMP echo a millisecond" in output.read_text(), "the demo probes", 30)
        return process, output

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_asked_to_end_takes_everything_down(demo, number):
    process, output = demo("--compare")
    assert len(left_behind()) == 10
    process.send_signal(number)
    assert process.wait(timeout=20) == 128 + number
    assert left_behind() == []
    assert "Traceback" not in output.read_text()


def test_a_demo_that_was_killed_is_cleared_away_by_the_next(demo):
    killed, _ = demo()
    killed.kill()
    killed.wait()
    assert left_behind() != []
    process, _ = demo()
    process.terminate()
    assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert left_behind() == []


def test_two_demos_at_once_are_refused_and_the_first_goes_on(demo):
    process, _ = demo()
    second = subprocess.run(DEMO, capture_output=True, text=True, check=False, timeout=30)
    assert second.returncode == 2
    assert second.stderr == f"error: lab demo: a demo is being played already, by process {process.pid}\n"
    assert process.poll() is None


def test_keepalived_is_not_compared_with_release():
    refused = subprocess.run([*DEMO, "--compare", "--release"], capture_output=True, text=True, check=False, timeout=30)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --compare --release: ")
