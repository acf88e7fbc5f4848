"""The works that load the processors or look at a single host: 255 virtual routers, memory, start, lateness."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from bench.accounts import parent, processor_seconds, proportional_mebibytes
from bench.figures import Goal, Series, Statistic, percentile
from bench.routers import FIRST, SECOND, Holdfast, Routers
from bench.segment import Segment, eventually
from bench.works import NOT_SLOWER, Sample, Work, announced_after_ms

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab.namespaces import entered

CROWD = 255
_GROUP_IN_PROC = "120000E0"  # 224.0.0.18 as /proc/net/igmp has it
_WINDOW_SECONDS = 5.0
_BURNERS = 4


def _crowd_usage(routers: Routers) -> dict[str, float]:
    """Percent of one processor, Master and Backup apart."""
    members = {host: routers.members(host) for host in (FIRST, SECOND)}
    before = {host: processor_seconds(found) for host, found in members.items()}
    began = time.monotonic_ns()
    time.sleep(_WINDOW_SECONDS)
    passed = (time.monotonic_ns() - began) / 1e9
    used = {host: processor_seconds(found) - before[host] for host, found in members.items()}
    share = {host: 100 * seconds / passed for host, seconds in used.items()}
    heard = [one.source for one in routers.segment.sniffer.since(began)]
    return {
        "master": share[FIRST],
        "backup": share[SECOND],
        "cpu": share[FIRST] + share[SECOND],
        "rate": heard.count(routers.segment.address(FIRST)) / passed,
    }


def last_moved_ms(moved: Iterable[tuple[int, int]], off_ns: int) -> float:
    """From the failure to the first advertisement of the last virtual router; pairs are VRID and time of arrival."""
    first: dict[int, int] = {}
    for vrid, at_ns in moved:
        first.setdefault(vrid, at_ns)
    return (max(first.values()) - off_ns) / 1e6


def _crowd(interval_ms: int, *, fails: bool) -> Work:
    def measure(routers: Routers, _: float) -> Sample:
        sample = _crowd_usage(routers)
        return sample | _last_moved(routers, interval_ms) if fails else sample

    name = f"{CROWD} virtual routers, {interval_ms} ms"
    series = {
        "cpu": Series(f"{name}: CPU of Master and Backup", "% of a core", NOT_SLOWER),
        "master": Series(f"{name}: CPU of the Master's host", "% of a core"),
        "backup": Series(f"{name}: CPU of the Backup's host", "% of a core"),
    }
    wanted = CROWD * 1000 / interval_ms
    series["rate"] = Series(f"{name}: the Master's advertisements (of {wanted:.0f})", "per second")
    if fails:
        series["last"] = Series(f"{name}, power-off: last one moved", "ms", NOT_SLOWER)
        title = f"{name}, power-off: end of the silence to the first gratuitous ARP, p99"
        series["announced"] = Series(title, "ms", Goal(Statistic.MAXIMUM, 10))
    return Work(f"crowd-{interval_ms}", interval_ms, series, measure, count=CROWD, probes=False, is_heavy=True)


def _last_moved(routers: Routers, interval_ms: int) -> dict[str, float]:
    segment, successor = routers.segment, routers.segment.address(SECOND)
    began = time.monotonic_ns()
    off = segment.power_off(FIRST)

    def moved() -> list[tuple[int, int]]:
        return [(heard.vrid, heard.at_ns) for heard in segment.sniffer.since(began) if heard.source == successor]

    eventually(lambda: len({vrid for vrid, _ in moved()}) == CROWD, f"{segment.name}: all have moved")
    time.sleep(0.2)
    late = announced_after_ms(segment, began, interval_ms)
    return {"last": last_moved_ms(moved(), off), "announced": percentile(late, 0.99)}


def _start() -> Work:
    interval_ms = 100

    def measure(routers: Routers, _: float) -> Sample:
        segment, namespace = routers.segment, routers.segment.hosts[FIRST].namespace
        began = time.monotonic_ns()
        routers.start(FIRST, 1, interval_ms, alone=True)
        with entered(namespace):
            eventually(_is_listening, f"{segment.name}: n1 listens")
        listening = time.monotonic_ns()
        eventually(lambda: segment.sniffer.since(began), f"{segment.name}: n1 advertises")
        advertised = segment.sniffer.since(began)[0].at_ns
        time.sleep(0.5)
        pids = [one.pid for one in routers.members(FIRST)]
        sample = {
            "listening": (listening - began) / 1e6,
            "first": (advertised - began) / 1e6,
            "memory all": proportional_mebibytes(pids),
        }
        if isinstance(routers, Holdfast):
            engine = routers.engine(FIRST)
            sample["memory"] = proportional_mebibytes([engine, parent(engine)])
        return sample

    series = {
        "memory": Series("memory of keeper and engine (proportional)", "MiB", Goal(Statistic.MAXIMUM, 40)),
        "memory all": Series(
            "memory of all its processes on a host (proportional)", "MiB", Goal(Statistic.MAXIMUM, 28)
        ),
        "listening": Series("start: command to listening", "ms", Goal(Statistic.MEDIAN, 120)),
        "first": Series(
            "start of a lone host, 100 ms: command to first advertisement", "ms", Goal(Statistic.MAXIMUM, 400)
        ),
    }
    return Work("start", interval_ms, series, measure, probes=False, is_heavy=True, is_alone=True)


def _is_listening() -> bool:
    return _GROUP_IN_PROC in Path("/proc/thread-self/net/igmp").read_text(encoding="ascii")


def _lateness() -> Work:
    interval_ms = 10

    def measure(routers: Routers, _: float) -> Sample:
        sample = {"idle": _gaps(routers.segment, interval_ms)}
        burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(_BURNERS)]
        try:
            time.sleep(0.2)
            sample["busy"] = _gaps(routers.segment, interval_ms)
        finally:
            for burner in burners:
                burner.kill()
                burner.wait()
        if isinstance(routers, Holdfast):
            lateness = routers.status(FIRST)["lateness"]
            sample["own p99"] = lateness["p99Microseconds"] / 1000
            sample["own max"] = lateness["maxMicroseconds"] / 1000
        return sample

    title = "advertisements at 10 ms"
    series = {
        "idle": Series(f"{title}, idle: late on the wire, p99.9", "ms", Goal(Statistic.MAXIMUM, 0.25)),
        "busy": Series(f"{title}, {_BURNERS} CPU burners: late on the wire, p99.9", "ms", Goal(Statistic.MAXIMUM, 1)),
        "own p99": Series(f"{title}: timers late as the engine counts, p99", "ms"),
        "own max": Series(f"{title}: timers late as the engine counts, max", "ms"),
    }
    return Work("lateness", interval_ms, series, measure, probes=False, is_heavy=True)


def lateness_ms(times_ns: Iterable[int], interval_ms: int) -> list[float]:
    """How much later than one interval after its predecessor each advertisement came; early ones count as 0."""
    return [max(0.0, (later - earlier) / 1e6 - interval_ms) for earlier, later in pairwise(times_ns)]


def _gaps(segment: Segment, interval_ms: int) -> float:
    began = time.monotonic_ns()
    time.sleep(_WINDOW_SECONDS)
    times = [heard.at_ns for heard in segment.sniffer.since(began) if heard.source == segment.address(FIRST)]
    if len(times) < 2:
        raise EnvironmentFailure(f"{segment.name}: n1 does not advertise")
    return percentile(lateness_ms(times, interval_ms), 0.999)


def loads() -> list[Work]:
    """In the order of importance."""
    return [_crowd(100, fails=True), _crowd(30, fails=False), _start(), _lateness()]
