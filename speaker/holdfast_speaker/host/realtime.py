"""What the machine gives for timers that fire in time: scheduling, locked memory, no collections, awake processors.

Nothing here fails: where the machine refuses something, the next best is taken and the report says so.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import struct
from pathlib import Path

from holdfast_api.messages import RealTime

_CPU_LATENCY = Path("/dev/cpu_dma_latency")
_OUT_OF_MEMORY_SCORE = Path("/proc/self/oom_score_adj")
_SPARED = -900
_NICEST = -20
_MCL_CURRENT = 1
_MCL_FUTURE = 2
_MCL_ONFAULT = 4
_CAP_IPC_LOCK = 14


def schedule(priority: int = 50) -> str:
    """Run before others: SCHED_FIFO at `priority`, 1 to 99 (sched(7)), or the next best; what it got, in words.

    Child processes do not inherit it.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError as error:
        refused = f"SCHED_FIFO refused: {_reason(error)}"
    else:
        return f"SCHED_FIFO {priority}"
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICEST)
    except OSError as error:
        return f"nothing special ({refused}; nice {_NICEST} refused: {_reason(error)})"
    return f"nice {_NICEST} ({refused})"


def secure(scheduling: str, cpu_latency: str) -> RealTime:
    """Take every other real-time means that this process can get, for as long as it lives; what it got, in words.

    Call it once, after everything has been imported. It takes some milliseconds.
    """
    return RealTime(
        scheduling=scheduling,
        memory=f"{_lock_memory()}; {avoid_out_of_memory_killer()}",
        garbage_collection=_stop_garbage_collection(),
        cpu_latency=cpu_latency,
    )


def raise_descriptor_limit() -> str:
    """Allow this process and its children as many descriptors as they may have; how many that are, in words."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # fewer than the system allows by now (fs.nr_open)
        return f"up to {soft} descriptors ({hard} refused: {error})"
    return f"up to {hard} descriptors"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _lock_memory() -> str:
    _, limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY:
        # Raise what we may use to what we are allowed; with CAP_IPC_LOCK neither counts (mlock(2)).
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
    if limit == resource.RLIM_INFINITY or _may_lock_without_limit():
        # On fault: a process that was forked shares most pages with its parent, and would copy them all.
        refusal = _mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
        return f"not locked (mlockall refused: {refusal})" if refusal else "locked"
    # Under a limit MCL_FUTURE would make a later allocation fail, which is worse than a page fault.
    refusal = _mlockall(_MCL_CURRENT)
    why = f"without CAP_IPC_LOCK at most {limit // 1024} KiB may be"
    if refusal:
        return f"not locked (mlockall refused: {refusal}; {why})"
    return f"locked as it was at the start ({why})"


def _may_lock_without_limit() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return False


def _mlockall(flags: int) -> str:
    """Lock the memory; why the kernel refused, empty when it did not."""
    libc = ctypes.CDLL(None, use_errno=True)
    return os.strerror(ctypes.get_errno()) if libc.mlockall(flags) else ""


def avoid_out_of_memory_killer() -> str:
    """Be the last that the kernel ends when it has no memory left; child processes are too. What it got, in words."""
    try:
        score = int(_OUT_OF_MEMORY_SCORE.read_text())
        if score > _SPARED:
            _OUT_OF_MEMORY_SCORE.write_text(str(_SPARED))
            score = _SPARED
    except OSError as error:
        return f"not spared by the out-of-memory killer (oom_score_adj: {_reason(error)})"
    return f"spared by the out-of-memory killer (oom_score_adj {score})"


def _stop_garbage_collection() -> str:
    gc.collect()
    gc.freeze()
    gc.disable()
    return f"off ({gc.get_freeze_count()} objects frozen)"


def keep_processors_awake() -> str:
    """Ask for 0 us of wake-up latency; what the machine said, in words.

    It holds while the descriptor is open, here or in a child, so nothing ever closes it.
    """
    try:
        descriptor = os.open(_CPU_LATENCY, os.O_WRONLY)
        os.write(descriptor, struct.pack("@i", 0))
    except OSError as error:
        return f"as the machine pleases ({_CPU_LATENCY}: {_reason(error)})"
    return f"0 us ({_CPU_LATENCY})"
