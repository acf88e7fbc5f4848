"""The clock of the deadlines goes on while the machine sleeps."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from holdfast_speaker.host import clock
from holdfast_speaker.vrrp.instants import SECOND

SLEPT_SECONDS = 90_000

TELL = """
import time
from holdfast_speaker.host import clock
from holdfast_speaker.host.timer import Timer
before = time.monotonic_ns()
now = clock.now()
timer = Timer()
timer.arm(now + 30 * 10**9)
told = open(f"/proc/self/fdinfo/{timer.fileno()}").read()
remaining = int(told.partition("it_value: (")[2].partition(",")[0])
print(now - before, clock.suspended(), remaining)
"""


def test_it_does_not_go_back_and_is_never_behind_the_one_that_stands_still() -> None:
    assert clock.now() <= clock.now()
    assert clock.suspended() >= 0


@pytest.mark.skipif(os.geteuid() != 0, reason="time namespaces need root (unshare(1))")
def test_on_a_machine_that_has_slept_it_is_ahead_and_timers_go_by_it() -> None:
    command = ["unshare", "--time", f"--boottime={SLEPT_SECONDS}", sys.executable, "-P", "-c", TELL]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ahead, suspended, remaining = map(int, told.split())
    assert ahead >= SLEPT_SECONDS * SECOND
    assert suspended >= SLEPT_SECONDS * SECOND
    assert 0 < remaining <= 30
