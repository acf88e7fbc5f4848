"""The keeper forks engines until one ends as it was told to. It runs in a process of its own here, with tiny ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROLOGUE = """
import os, signal, sys, time
from holdfast_speaker.host import keeper
from holdfast_speaker.host.estate import Estate
from holdfast_speaker.host.log import Log

def told_to_stop():
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    while not stopped:
        time.sleep(0.01)
    return 0

def say(*words):
    print(*words, flush=True)
"""

EPILOGUE = """
status = keeper.Keeper(Estate(), engine, Log()).run()
say("keeper ends", status)
sys.exit(status)
"""


def keep(engine: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", PROLOGUE + engine + EPILOGUE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(engine: str) -> tuple[int, list[str], str]:
    keeper = keep(engine)
    output, errors = keeper.communicate(timeout=30)
    return keeper.returncode, output.splitlines(), errors


def test_an_engine_that_ends_as_told_ends_the_keeper() -> None:
    status, output, _ = run("def engine(estate): return 0")
    assert status == 0
    assert output == ["keeper ends 0"]


@pytest.mark.parametrize(
    ("death", "told"),
    [("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"), ("return 70", "exit status 70")],
)
def test_an_engine_that_dies_is_followed_by_one_that_resumes(death: str, told: str) -> None:
    status, output, errors = run(
        f"""
def engine(estate):
    say(estate.restarts, estate.resumes, estate.last_death.partition(": ")[2])
    if estate.restarts < 2:
        {death}
    return 0
"""
    )
    assert status == 0
    assert output == ["0 False ", f"1 True {told}", f"2 True {told}", "keeper ends 0"]
    assert errors.count(f"the engine died ({told}) and goes on in a new process") == 2


def test_an_engine_that_keeps_dying_is_released_once_and_then_begins_anew() -> None:
    status, output, errors = run(
        """
def engine(estate):
    say(estate.restarts, estate.only_releases)
    if estate.only_releases:
        return 0
    return 0 if estate.restarts == 5 and not estate.resumes else 1
"""
    )
    assert status == 0
    assert output == [*(f"{death} False" for death in range(5)), "5 True", "5 False", "keeper ends 0"]
    assert "its VIPs are given up" in errors


def test_a_release_that_dies_too_is_not_tried_again() -> None:
    _, output, _ = run(
        """
def engine(estate):
    say(estate.restarts, estate.only_releases)
    return 0 if estate.restarts == 5 and not estate.resumes else 1
"""
    )
    assert output.count("5 True") == 1
    assert output[-2:] == ["5 False", "keeper ends 0"]


def test_sigterm_reaches_the_engine_and_its_end_is_the_keepers() -> None:
    keeper = keep("def engine(estate):\n    say('runs')\n    return told_to_stop()\n")
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == "runs\n"
    os.kill(keeper.pid, signal.SIGTERM)
    output, _ = keeper.communicate(timeout=30)
    assert output == "keeper ends 0\n"
    assert keeper.returncode == 0


def test_sigterm_in_the_pause_ends_the_keeper() -> None:
    keeper = keep(
        """
keeper._PAUSE_MINIMUM = 60 * 1_000_000_000

def engine(estate):
    return 0 if estate.only_releases else 1
"""
    )
    assert keeper.stderr is not None
    while "begins anew in 60 s" not in keeper.stderr.readline():
        assert keeper.poll() is None
    os.kill(keeper.pid, signal.SIGTERM)
    output, _ = keeper.communicate(timeout=30)
    assert output == "keeper ends 0\n"
