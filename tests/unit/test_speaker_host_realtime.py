"""The real-time means: what the report says is what the process has. Each in a process of its own, as they last."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

SCHED_OTHER = 0
SCHED_FIFO_RESET_ON_FORK = 1 | 0x40000000

TAKE = """
import gc, json, os, pathlib, resource, sys
from holdfast_speaker.host import realtime
exec(sys.argv[1])
report = realtime.secure(realtime.schedule(7), realtime.keep_processors_awake())
status = pathlib.Path("/proc/self/status").read_text()
descriptors = pathlib.Path("/proc/self/fd")
opened = set()
for descriptor in descriptors.iterdir():
    try:
        opened.add(os.readlink(descriptor))
    except FileNotFoundError:
        pass
child = os.fork()
if child == 0:
    os._exit(os.sched_getscheduler(0))
print(json.dumps({
    "scheduling": report.scheduling,
    "memory": report.memory,
    "garbage_collection": report.garbage_collection,
    "cpu_latency": report.cpu_latency,
    "policy": os.sched_getscheduler(0),
    "priority": os.sched_getparam(0).sched_priority,
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "locked": next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmLck:")),
    "score": int(pathlib.Path("/proc/self/oom_score_adj").read_text()),
    "collects": gc.isenabled(),
    "frozen": gc.get_freeze_count(),
    "holds_latency": "/dev/cpu_dma_latency" in opened,
    "childs_policy": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]),
}))
"""

WITHOUT_PRIVILEGES = """
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
"""

WITHOUT_REAL_TIME = """
def refuse(*arguments):
    raise PermissionError(1, "Operation not permitted")
os.sched_setscheduler = refuse
"""


def taken(before: str = "") -> dict[str, Any]:
    finished = subprocess.run([sys.executable, "-c", TAKE, before], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


@pytest.mark.parametrize("before", ["", WITHOUT_PRIVILEGES, WITHOUT_REAL_TIME], ids=["all", "none", "no-fifo"])
def test_the_report_says_what_the_process_has(before):
    process = taken(before)
    is_fifo = process["policy"] == SCHED_FIFO_RESET_ON_FORK
    assert process["scheduling"].startswith("SCHED_FIFO 7") == is_fifo
    assert process["scheduling"].startswith("nice -20") == (not is_fifo and process["nice"] == -20)
    assert process["memory"].startswith("locked") == (process["locked"] > 0)
    assert ("; spared" in process["memory"]) == (process["score"] <= -900)
    assert process["cpu_latency"].startswith("0 us") == process["holds_latency"]
    assert process["garbage_collection"] == f"off ({process['frozen']} objects frozen)"
    assert process["frozen"] > 1000
    assert not process["collects"]


def test_a_process_without_privileges_goes_on_and_says_what_was_refused():
    process = taken(WITHOUT_PRIVILEGES)
    assert process["scheduling"] == (
        "nothing special (SCHED_FIFO refused: Operation not permitted; nice -20 refused: Permission denied)"
    )
    assert process["memory"].startswith(
        "not locked (mlockall refused: Cannot allocate memory; without CAP_IPC_LOCK at most 64 KiB may be)"
    )
    assert "not spared by the out-of-memory killer (oom_score_adj: Permission denied)" in process["memory"]
    assert process["cpu_latency"] == "as the machine pleases (/dev/cpu_dma_latency: Permission denied)"


def test_where_sched_fifo_is_refused_nice_is_the_next_best():
    process = taken(WITHOUT_REAL_TIME)
    if process["nice"] != -20:
        pytest.skip("this process may not be nice -20 either")
    assert process["scheduling"] == "nice -20 (SCHED_FIFO refused: Operation not permitted)"


def test_children_are_scheduled_as_usual():
    assert taken()["childs_policy"] == SCHED_OTHER
