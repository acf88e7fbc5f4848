"""When an engine is taken for hung, and when it is only late."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from holdfast_speaker.host import watch
from holdfast_speaker.host.watch import Seen, Watch
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant

PATIENCE = watch.patience(Duration(10 * MILLISECOND), 0)
STEP = watch.step(PATIENCE)


def seen(at: int, heartbeat: int = 7, **process: bool | int) -> Seen:
    return Seen(Instant(at), Instant(heartbeat), **process)  # type: ignore[arg-type]  # names of its fields


def looked(*looks: Seen) -> Duration:
    """How long there was no turn after these looks."""
    watched = Watch(looks[0])
    for look in looks[1:]:
        watched.look(look, STEP)
    return watched.without_turn


@pytest.mark.parametrize(
    ("interval_ms", "addresses", "expected_ms"),
    [(10, 0, 300), (100, 0, 300), (200, 0, 600), (1000, 1, 3002), (10, 255, 810)],
)
def test_patience_is_three_intervals_or_300_ms_and_something_for_each_address(
    interval_ms: int, addresses: int, expected_ms: int
) -> None:
    assert watch.patience(Duration(interval_ms * MILLISECOND), addresses) == expected_ms * MILLISECOND


@pytest.mark.parametrize("patience_ms", [300, 3000, 120_000])
def test_an_idle_engine_turns_and_its_keeper_looks_several_times_within_patience(patience_ms: int) -> None:
    patience = Duration(patience_ms * MILLISECOND)
    assert 3 * watch.idle_turn(patience) <= patience
    assert 6 * watch.step(patience) <= patience


def test_no_turn_adds_up_and_a_turn_ends_it() -> None:
    assert looked(*(seen(n * STEP) for n in range(7))) == 6 * STEP
    assert looked(*(seen(n * STEP, heartbeat=n) for n in range(7))) == 0
    assert looked(*(seen(n * STEP) for n in range(7)), seen(7 * STEP, heartbeat=8)) == 0


def test_looks_in_between_do_not_make_it_longer() -> None:
    assert looked(*(seen(n * STEP // 10) for n in range(21))) == 2 * STEP


def test_a_keeper_that_did_not_run_itself_begins_to_count_anew() -> None:
    frozen = 5 * STEP + 60 * SECOND
    assert looked(*(seen(n * STEP) for n in range(6)), seen(frozen)) == 0
    assert looked(*(seen(n * STEP) for n in range(6)), seen(frozen), seen(frozen + STEP)) == STEP


def test_a_keeper_that_is_a_little_late_counts_no_more_than_its_step() -> None:
    assert looked(*(seen(n * 2 * STEP) for n in range(4))) == 3 * STEP


def test_an_engine_that_waits_for_the_kernel_does_not_hang() -> None:
    assert looked(*(seen(n * STEP, waits_for_kernel=True) for n in range(100))) == 0


def test_an_engine_that_gets_no_processor_does_not_hang_and_one_that_uses_it_does() -> None:
    def running(n: int, processor_time: int) -> Seen:
        return seen(n * STEP, runnable=True, processor_time=processor_time)

    assert looked(*(running(n, 0) for n in range(100))) == 0
    assert looked(*(running(n, n * STEP // 10) for n in range(11))) == STEP
    assert looked(*(running(n, n * STEP) for n in range(11))) == 10 * STEP


def test_what_proc_tells_of_a_process() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    assert busy.stdout is not None
    busy.stdout.readline()
    first = watch.look_at(busy.pid, Instant(1), Instant(2))
    while watch.look_at(busy.pid, Instant(1), Instant(2)).processor_time == first.processor_time:
        time.sleep(0.01)
    assert first.runnable
    os.kill(busy.pid, signal.SIGSTOP)
    while watch.look_at(busy.pid, Instant(1), Instant(2)).runnable:
        time.sleep(0.01)
    busy.kill()
    busy.communicate()
    gone = watch.look_at(busy.pid, Instant(1), Instant(2))
    assert gone == Seen(Instant(2), Instant(1))


def test_a_thread_that_waits_for_the_kernel_counts_for_its_process() -> None:
    """vfork(2) leaves the parent in uninterruptible sleep until its child executes something else."""
    script = """
import ctypes, threading, time
libc = ctypes.CDLL(None)
threading.Thread(target=lambda: libc.vfork() or time.sleep(60), daemon=True).start()
time.sleep(60)
"""
    waiting = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        while not watch.look_at(waiting.pid, Instant(1), Instant(2)).waits_for_kernel:
            assert waiting.poll() is None
            time.sleep(0.01)
    finally:
        os.killpg(waiting.pid, signal.SIGKILL)
        waiting.wait()
