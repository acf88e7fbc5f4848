"""The keeper forks engines until one ends as it was told to. It runs in a process of its own here, with tiny ones."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

PROLOGUE = """
import errno, os, signal, sys, time
from holdfast_speaker.host import clock, keeper, watch
from holdfast_speaker.host.inheritance import Inheritance
from holdfast_speaker.host.log import Log

keeper._RETRY_MINIMUM = 5_000_000
keeper._PAUSE_MINIMUM = 100_000_000

def listen():
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return stopped

def told_to_stop(inheritance=None):
    stopped = listen()
    while not stopped:
        time.sleep(0.01)
        if inheritance is not None:
            turn(inheritance)
    return 0

def turn(inheritance):
    inheritance.memory.patience = watch.patience(0, 0)
    inheritance.memory.beat(clock.now())

def say(*words):
    print(*words, flush=True)
"""

EPILOGUE = """
status = keeper.Keeper(Inheritance(), engine, Log()).run()
say("keeper ends", status)
sys.exit(status)
"""


def start(engine: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", PROLOGUE + engine + EPILOGUE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(engine: str) -> tuple[int, list[str], str]:
    keeper = start(engine)
    try:
        output, errors = keeper.communicate(timeout=60)
    finally:
        if keeper.poll() is None:
            os.killpg(keeper.pid, signal.SIGKILL)
    return keeper.returncode, output.splitlines(), errors


@pytest.fixture
def keep() -> Iterator[Callable[[str], Kept]]:
    """Starts keepers, which end with the test."""
    started: list[Kept] = []

    def start_one(engine: str) -> Kept:
        started.append(Kept(engine))
        return started[-1]

    yield start_one
    for kept in started:
        if kept.process.poll() is None:
            os.killpg(kept.process.pid, signal.SIGKILL)
            kept.process.communicate()


class Kept:
    """A keeper with an engine, and what both say."""

    def __init__(self, engine: str) -> None:
        self.process = start(engine)

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def logs(self, text: str) -> None:
        assert self.process.stderr is not None
        while text not in self.process.stderr.readline():
            assert self.process.poll() is None

    def tell_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ends(self) -> tuple[list[str], str]:
        output, errors = self.process.communicate(timeout=60)
        return output.splitlines(), errors


def test_an_engine_that_ends_as_told_ends_the_keeper() -> None:
    status, output, _ = run("def engine(inheritance): return 0")
    assert status == 0
    assert output == ["keeper ends 0"]


@pytest.mark.parametrize(
    ("death", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 3)", f"killed by signal {signal.SIGRTMIN + 3}"),
        ("return 70", "exit status 70"),
        ("raise MemoryError", "exit status 70"),
        ("raise KeyboardInterrupt", "exit status 70"),
        ("sys.exit(0)", "exit status 70"),
        ("turn(inheritance); return 1", "exit status 1"),
    ],
)
def test_an_engine_that_dies_is_followed_by_one_that_resumes(death: str, told: str) -> None:
    status, output, errors = run(
        f"""
def engine(inheritance):
    say(inheritance.restarts, inheritance.resumes, inheritance.last_death.partition(": ")[2])
    if inheritance.restarts < 2:
        {death}
    return 0
"""
    )
    assert status == 0
    assert output == ["0 False ", f"1 True {told}", f"2 True {told}", "keeper ends 0"]
    assert errors.count(f"the engine died ({told}) and goes on in a new process") == 2


@pytest.mark.parametrize(
    "hang",
    ["os.kill(os.getpid(), signal.SIGSTOP)", "while True: pass", "threading.Lock().acquire(); lock.acquire()"],
    ids=["stopped", "endless", "lost lock"],
)
def test_an_engine_that_makes_no_turn_is_replaced(hang: str) -> None:
    status, output, errors = run(
        f"""
import threading
lock = threading.Lock()
lock.acquire()

def engine(inheritance):
    say(inheritance.restarts, inheritance.resumes)
    turn(inheritance)
    if inheritance.restarts == 0:
        {hang}
    return 0
"""
    )
    assert status == 0
    assert output == ["0 False", "1 True", "keeper ends 0"]
    assert re.search(r"the engine died \(hung: no turn of its loop for \d+ ms\) and goes on in a new process", errors)


def test_an_engine_that_is_slow_gets_to_the_end_of_its_turn_after_some_replacements() -> None:
    status, output, _ = run(
        """
keeper.DEATHS_IN_WINDOW = 50

def engine(inheritance):
    turn(inheritance)
    time.sleep(1.0)
    turn(inheritance)
    say("got there")
    return 0
"""
    )
    assert status == 0
    assert output == ["got there", "keeper ends 0"]


def test_a_keeper_that_was_frozen_with_its_engine_does_not_take_it_for_hung(keep: Callable[[str], Kept]) -> None:
    kept = keep(
        """
def engine(inheritance):
    turn(inheritance)
    say(os.getpid())
    return told_to_stop(inheritance)
"""
    )
    engine = int(kept.says())
    for _ in range(3):
        # The keeper goes on first, when the engine has made no turn for long.
        for pid in engine, kept.process.pid:
            os.kill(pid, signal.SIGSTOP)
        time_passes = subprocess.run(["sleep", "1.2"], check=True)
        assert time_passes.returncode == 0
        for pid in kept.process.pid, engine:
            os.kill(pid, signal.SIGCONT)
    kept.tell_to_stop()
    output, errors = kept.ends()
    assert output == ["keeper ends 0"]
    assert "hung" not in errors


def test_an_engine_that_keeps_dying_is_released_once_and_then_begins_anew() -> None:
    status, output, errors = run(
        """
def engine(inheritance):
    say(inheritance.restarts, inheritance.only_releases)
    if inheritance.only_releases:
        return 0
    return 0 if inheritance.restarts == 5 and not inheritance.resumes else 70
"""
    )
    assert status == 0
    assert output == [*(f"{death} False" for death in range(5)), "5 True", "5 False", "keeper ends 0"]
    assert "its VIPs are given up" in errors


def test_a_release_that_dies_too_is_not_tried_again() -> None:
    _, output, _ = run(
        """
def engine(inheritance):
    say(inheritance.restarts, inheritance.only_releases)
    return 0 if inheritance.restarts == 5 and not inheritance.resumes else 70
"""
    )
    assert output.count("5 True") == 1
    assert output[-2:] == ["5 False", "keeper ends 0"]


def test_what_the_machine_refuses_is_tried_again_and_is_no_death() -> None:
    status, output, errors = run(
        """
begun = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)

def engine(inheritance):
    os.write(begun, b"x")
    say(inheritance.restarts, inheritance.only_releases)
    return 0 if os.fstat(begun).st_size == 8 else 1
"""
    )
    assert status == 0
    assert output == ["0 False"] * 8 + ["keeper ends 0"]
    assert re.findall(r"tried again in (\d+) ms", errors) == ["5", "10", "20", "40", "80", "160", "320"]


@pytest.mark.parametrize("refusal", ["BlockingIOError(errno.EAGAIN, 'no process')", "MemoryError()"])
def test_a_fork_that_the_machine_refuses_is_tried_again(refusal: str) -> None:
    status, output, errors = run(
        f"""
refusals = [{refusal}] * 3
fork = os.fork

def sometimes():
    if refusals:
        raise refusals.pop()
    return fork()

os.fork = sometimes

def engine(inheritance):
    say(inheritance.restarts)
    return 0
"""
    )
    assert status == 0
    assert output == ["0", "keeper ends 0"]
    assert errors.count("no engine can be started, trying again") == 3


def test_sigterm_reaches_the_engine_and_its_end_is_the_keepers(keep: Callable[[str], Kept]) -> None:
    kept = keep("def engine(inheritance):\n    say('runs')\n    return told_to_stop()\n")
    assert kept.says() == "runs"
    kept.tell_to_stop()
    output, _ = kept.ends()
    assert output == ["keeper ends 0"]
    assert kept.process.returncode == 0


def test_sigterm_waits_for_an_engine_that_does_not_listen_yet(keep: Callable[[str], Kept]) -> None:
    kept = keep("def engine(inheritance):\n    say('begins')\n    time.sleep(0.5)\n    return told_to_stop()\n")
    assert kept.says() == "begins"
    kept.tell_to_stop()
    assert kept.ends()[0] == ["keeper ends 0"]


def test_an_engine_that_dies_when_it_should_stop_is_followed_by_one_that_stops(keep: Callable[[str], Kept]) -> None:
    kept = keep(
        """
def engine(inheritance):
    say(inheritance.resumes, inheritance.told_to_stop)
    if inheritance.told_to_stop:
        return 0
    told_to_stop()
    return 70
"""
    )
    assert kept.says() == "False False"
    kept.tell_to_stop()
    output, errors = kept.ends()
    assert output == ["True True", "keeper ends 0"]
    assert "the engine died (exit status 70) when it was told to stop" in errors


def test_engines_that_all_die_when_they_should_stop_are_left_alone_in_the_end(keep: Callable[[str], Kept]) -> None:
    kept = keep(
        """
def engine(inheritance):
    say(inheritance.told_to_stop)
    return 1 if inheritance.told_to_stop else told_to_stop() or 70
"""
    )
    assert kept.says() == "False"
    kept.tell_to_stop()
    assert kept.ends()[0] == ["True"] * 3 + ["keeper ends 1"]


def test_sigterm_in_the_pause_ends_the_keeper(keep: Callable[[str], Kept]) -> None:
    kept = keep(
        """
keeper._PAUSE_MINIMUM = 60 * 1_000_000_000

def engine(inheritance):
    return 0 if inheritance.only_releases else 70
"""
    )
    kept.logs("begins anew in 60 s")
    kept.tell_to_stop()
    assert kept.ends()[0] == ["keeper ends 0"]
    assert kept.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_a_terminal_sends_to_everybody_is_not_for_the_keeper(
    keep: Callable[[str], Kept], number: signal.Signals
) -> None:
    kept = keep("def engine(inheritance):\n    say('runs')\n    return told_to_stop()\n")
    assert kept.says() == "runs"
    kept.process.send_signal(number)
    kept.tell_to_stop()
    assert kept.ends() == (["keeper ends 0"], "")
