"""What processes have used, from /proc (proc(5)): processor time and proportional set size."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from holdfast_lab.processes import ProcessIdentity

_TICKS = os.sysconf("SC_CLK_TCK")


def ticks_of(stat: str) -> int:
    """User and system time in clock ticks of one /proc/PID/stat, all threads, without children.

    >>> ticks_of("7 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 5")
    42
    """
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def processor_seconds(members: Iterable[ProcessIdentity]) -> float:
    """User and system time of these processes so far. OSError when one is gone."""
    return sum(ticks_of(Path(f"/proc/{one.pid}/stat").read_text(encoding="utf-8")) for one in members) / _TICKS


def proportional_kibibytes(rollup: str) -> int:
    """The line Pss of /proc/PID/smaps_rollup; ValueError when there is none."""
    for line in rollup.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0])
    raise ValueError("no line Pss")


def proportional_mebibytes(pids: Iterable[int]) -> float:
    """Proportional set size: pages shared by n processes count an n-th for each. OSError when one is gone."""
    found = (Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii") for pid in pids)
    return sum(map(proportional_kibibytes, found)) / 1024


def parent(pid: int) -> int:
    """The parent of a process. OSError when it is gone."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
