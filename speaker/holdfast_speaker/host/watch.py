"""When an engine hangs: it lives, and its loop makes no turn any more (ADR 0015).

The keeper looks every few milliseconds. What it adds up is no time of day, but what the engine could have used: the
keeper's own running time in small steps while the engine sleeps or is stopped, the engine's own time on a processor
while it runs, and nothing while it waits for the kernel, as the engine after it would.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, ZERO, Duration, Instant

START_PATIENCE = Duration(10 * SECOND)
"""For an engine that begins."""

STOP_PATIENCE = SECOND
"""For one that is told to stop, which wakes it, until it says how long that takes."""

_SHORTEST_PATIENCE = Duration(300 * MILLISECOND)
_INTERVALS = 3
_FOR_EACH_ADDRESS = Duration(2 * MILLISECOND)
"""A turn in which an address is taken: the address, advertisements, announcements and routes take half of that."""

_TURNS_WITHIN_PATIENCE = 3
_LOOKS_WITHIN_PATIENCE = 12
_SHORTEST_STEP = Duration(50 * MILLISECOND)
_LONGEST_STEP = Duration(250 * MILLISECOND)
_OVERSLEPT = 3
"""A step that took so many times as long as it should: the keeper itself did not run."""

_WAITS_FOR_KERNEL = "D"  # proc_pid_stat(5): uninterruptible
_RUNNABLE = "R"


def patience(shortest_interval: Duration, addresses: int) -> Duration:
    """How long an engine may make no turn that has this advertisement interval, and so many addresses, in force."""
    return Duration(max(_INTERVALS * shortest_interval, _SHORTEST_PATIENCE) + addresses * _FOR_EACH_ADDRESS)


def idle_turn(patience: Duration) -> Duration:
    """How often an engine makes a turn that has nothing to do."""
    return Duration(patience // _TURNS_WITHIN_PATIENCE)


def step(patience: Duration) -> Duration:
    """How often the keeper looks."""
    return max(_SHORTEST_STEP, min(Duration(patience // _LOOKS_WITHIN_PATIENCE), _LONGEST_STEP))


@dataclass(frozen=True, slots=True)
class Seen:
    """An engine at one look."""

    at: Instant
    heartbeat: Instant
    waits_for_kernel: bool = False
    runnable: bool = False
    processor_time: Duration = ZERO
    """What the process has used so far."""


class Watch:
    """Follows one engine from look to look."""

    def __init__(self, begin: Seen) -> None:
        self._last = begin
        self.without_turn = ZERO
        """How long it has made no turn, of the time that counts."""

    def look(self, seen: Seen, step: Duration) -> Duration:
        """Take in one look, which should come `step` after the one before. Returns `without_turn`."""
        last, self._last = self._last, seen
        elapsed = seen.at - last.at
        if seen.heartbeat != last.heartbeat or elapsed > _OVERSLEPT * step:
            # Who was frozen or starved with its keeper gets a whole patience to go on.
            self.without_turn = ZERO
        elif seen.runnable:
            self.without_turn = Duration(self.without_turn + min(seen.processor_time - last.processor_time, step))
        elif not seen.waits_for_kernel:
            self.without_turn = Duration(self.without_turn + min(elapsed, step))
        return self.without_turn


def look_at(process: int, heartbeat: Instant, at: Instant) -> Seen:
    """An engine, a child that nobody has waited for yet. What /proc does not tell is taken for asleep."""
    states = _states(process)
    return Seen(
        at=at,
        heartbeat=heartbeat,
        # The loop may wait for a thread that does (ADR 0010).
        waits_for_kernel=_WAITS_FOR_KERNEL in states.values(),
        runnable=states.get(process) == _RUNNABLE,
        processor_time=_processor_time(process),
    )


@functools.cache
def _proc_shows_our_children() -> bool:
    """Not so where /proc is that of another PID namespace: the numbers are other processes' there."""
    try:
        return int(Path("/proc/self").readlink().name) == os.getpid()
    except OSError:
        return False


def _states(process: int) -> dict[int, str]:
    """The state of each thread, one letter."""
    states: dict[int, str] = {}
    if not _proc_shows_our_children():
        return states
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():
            # "pid (name) state ...", and a name may hold anything.
            states[int(thread.name)] = (thread / "stat").read_bytes().rpartition(b") ")[2][:1].decode("ascii")
    except OSError:  # the process, or a thread, ended meanwhile
        return {}
    return states


def _processor_time(process: int) -> Duration:
    try:
        # clock_getcpuclockid(3): the clock of a process is made of its number (linux/posix-timers.h, CPUCLOCK_SCHED).
        return Duration(time.clock_gettime_ns(~process << 3 | 2))
    except OSError:
        return ZERO
