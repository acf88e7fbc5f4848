"""Processes as /proc shows them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab import processes
from holdfast_lab.processes import ProcessIdentity

SLEEPER = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(child.pid, flush=True); time.sleep(600)",
]


@pytest.fixture
def sleeper():
    identity = processes.spawn(SLEEPER, ready=True, environment=dict(os.environ))
    yield identity
    processes.end_tree(identity)


def test_a_process_is_told_from_a_later_one_with_its_pid():
    own = processes.identify(os.getpid())
    assert processes.is_running(own)
    assert not processes.is_running(ProcessIdentity(own.pid, own.start_time + 1))
    assert not processes.is_running(None)


def test_a_name_with_spaces_and_parentheses_is_read(tmp_path):
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    identity = processes.spawn([str(program), "600"], environment=dict(os.environ))
    try:
        assert processes.is_running(identity)
        assert [found.pid for found in processes.descendants(identity)] == [identity.pid]
    finally:
        processes.end_tree(identity)
    assert not processes.is_running(identity)


def test_a_zombie_is_not_running_and_is_reaped():
    identity = processes.spawn(["true"], environment=dict(os.environ))
    assert processes.wait_until_gone(identity, 10)
    assert processes.identify(identity.pid) != identity


def test_waiting_for_a_process_that_stays_ends_at_the_timeout(sleeper):
    assert not processes.wait_until_gone(sleeper, 0)


def test_a_signal_does_not_reach_a_later_process_with_the_same_pid(sleeper):
    processes.send_signal(ProcessIdentity(sleeper.pid, sleeper.start_time + 1), signal.SIGKILL)
    assert processes.is_running(sleeper)


def test_a_tree_stops_goes_on_and_ends_as_one(tmp_path):
    output = tmp_path / "output"
    root = processes.spawn(PARENT, output=output, environment=dict(os.environ))
    while not output.exists() or not output.read_text().strip():
        time.sleep(0.01)
    child = processes.identify(int(output.read_text()))
    assert child is not None
    assert {identity.pid for identity in processes.stop_tree(root)} == {root.pid, child.pid}
    assert processes.is_stopped(root)
    assert processes.is_stopped(child)
    processes.continue_tree(root)
    assert not processes.is_stopped(child)
    processes.end_tree(root)
    assert not processes.is_running(root)
    assert not processes.is_running(child)


def test_our_own_network_namespace_has_us_as_a_member():
    members = processes.namespace_members(Path("/proc/self/ns/net"))
    assert os.getpid() in {identity.pid for identity in members}


def test_a_namespace_that_is_not_there_has_no_members():
    assert processes.namespace_members(Path("/run/netns/no-such-namespace")) == []


def test_a_program_that_is_not_there_is_an_error_of_the_machine():
    with pytest.raises(EnvironmentFailure, match="no-such-program cannot be started"):
        processes.spawn(["no-such-program"], environment=dict(os.environ))


def test_a_program_that_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path):
    command = [sys.executable, "-c", "import sys; print('the port is taken', file=sys.stderr); sys.exit(1)"]
    with pytest.raises(EnvironmentFailure, match=r"^the port is taken$"):
        processes.spawn(command, output=tmp_path / "log", ready=True, environment=dict(os.environ))


def test_what_is_spawned_leads_a_session_and_reads_nothing(sleeper):
    assert os.getsid(sleeper.pid) == sleeper.pid
    assert Path(f"/proc/{sleeper.pid}/fd/0").readlink() == Path(os.devnull)
    assert subprocess.run(["kill", "-0", str(sleeper.pid)], check=False).returncode == 0
