"""The works with one virtual router: what is done to it, and what the client's probes saw of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench.configurations import PRIORITIES, virtual_address
from bench.figures import Goal, Series, Statistic, protocol_bound_ms
from bench.routers import FIRST, SECOND, Holdfast, Keepalived, Routers, kill
from bench.segment import Segment, eventually

from holdfast_api.errors import EnvironmentFailure

Sample = Mapping[str, float]
"""The figures of one repetition of one program, by the key of their series."""

_CALM_SECONDS = 3

NO_LOSS = Goal(Statistic.MAXIMUM, 0)
NOT_SLOWER = Goal(Statistic.RATIO, 1.0)
_ANNOUNCED = Goal(Statistic.MAXIMUM, 1)


@dataclass(frozen=True, slots=True)
class Work:
    """One setting, and what is measured in it, for each program in turn."""

    key: str
    interval_ms: int
    series: Mapping[str, Series]
    measure: Callable[[Routers, float], Sample]
    """Measures once; the number from 0 to 1 is where in the interval a failure is to fall."""
    count: int = 1
    probes: bool = True
    is_heavy: bool = False
    """Too busy for both programs to stand side by side: one is ended before the other is started."""
    is_alone: bool = False
    """`measure` starts the program itself."""


def prepare(routers: list[Routers], work: Work) -> None:
    """n1 Master and n2 Backup on every segment given, and everybody knows of it. EnvironmentFailure when not."""
    for one in routers:
        one.start(FIRST, work.count, work.interval_ms)
    for one in routers:
        _await_masters(one, work.count)
        if work.is_heavy:
            _await_calm(one, work)
        one.start(SECOND, work.count, work.interval_ms)
    for one in routers:
        _await_backups(one, work.count)
        if work.is_heavy:
            _await_calm(one, work)
    time.sleep(max(0.5, 1.5 * work.interval_ms / 1000))
    for one in routers:
        if work.probes:
            _await_holder(one, FIRST)


def _await_masters(routers: Routers, count: int) -> None:
    segment = routers.segment
    address = segment.address(FIRST)

    def advertised() -> set[int]:
        return {heard.vrid for heard in segment.sniffer.since(0) if heard.source == address}

    eventually(lambda: len(advertised()) == count, f"{segment.name}: {FIRST} is Master")


def _await_calm(routers: Routers, work: Work) -> None:
    """The first host advertises at its full rate and the second is quiet, for some seconds.

    keepalived is busy for seconds after 255 promotions, and announces its addresses again 5 s later; a second one that
    starts meanwhile takes from it what it is late with, and both go on like that.
    """
    segment, calm = routers.segment, 0
    wanted = 0.95 * work.count * 1000 / work.interval_ms

    def is_calm() -> bool:
        nonlocal calm
        began = time.monotonic_ns()
        time.sleep(1)
        heard = [one.source for one in segment.sniffer.since(began)]
        calm = calm + 1 if len(set(heard)) == 1 and heard.count(segment.address(FIRST)) >= wanted else 0
        return calm >= _CALM_SECONDS

    eventually(is_calm, f"{segment.name}: {work.count} virtual routers at {work.interval_ms} ms are calm", 40)


def _await_backups(routers: Routers, count: int) -> None:
    eventually(lambda: routers.is_backup(SECOND, count), f"{routers.segment.name}: {SECOND} is Backup")


def _await_holder(routers: Routers, host: str) -> None:
    segment = routers.segment
    eventually(lambda: segment.holder() == host, f"{segment.name}: {host} answers")


def _await_phase(routers: Routers, interval_ms: int, phase: float) -> None:
    """Wait for that share of an interval after an advertisement, so that both programs fail at the same point of it."""
    sniffer, began = routers.segment.sniffer, time.monotonic_ns()
    eventually(lambda: sniffer.since(began), "an advertisement is heard")
    wanted = sniffer.since(began)[-1].at_ns + int(phase * interval_ms * 1e6)
    time.sleep(max(0, wanted - time.monotonic_ns()) / 1e9)


def announced_after_ms(segment: Segment, failed_ns: int, interval_ms: int) -> list[float]:
    """For each virtual router: from when the Backup may be Master to its first gratuitous ARP at the client.

    That it may begins an Active_Down_Interval after the holder's last advertisement arrived (RFC 9568 section 6.1), so
    that the timer's lateness is part of the figure. EnvironmentFailure where one was never announced.
    """
    bound_ns = int(protocol_bound_ms(interval_ms, PRIORITIES[SECOND]) * 1e6)
    holder = segment.address(FIRST)
    last = {heard.vrid: heard.at_ns for heard in segment.sniffer.since(0) if heard.source == holder and heard.priority}
    announced = segment.sniffer.first_announced(failed_ns, segment.hosts[SECOND].mac_address)
    missing = [vrid for vrid in last if virtual_address(vrid) not in announced]
    if missing:
        raise EnvironmentFailure(f"{segment.name}: {len(missing)} addresses were not announced")
    return [(announced[virtual_address(vrid)] - at_ns - bound_ns) / 1e6 for vrid, at_ns in last.items()]


def _power_off(interval_ms: int, ratio: float) -> Work:
    bound = protocol_bound_ms(interval_ms, PRIORITIES[SECOND])
    name = f"{interval_ms // 1000} s" if interval_ms >= 1000 else f"{interval_ms} ms"

    def measure(routers: Routers, phase: float) -> Sample:
        segment = routers.segment
        _await_phase(routers, interval_ms, phase)
        began = time.monotonic_ns()
        segment.power_off(FIRST)
        _await_holder(routers, SECOND)
        time.sleep(0.1)
        outage = segment.measure(began).longest_outage_ms
        return {"outage": outage, "announced": max(announced_after_ms(segment, began, interval_ms))}

    title = f"power-off of the holder, {name}: outage (bound {bound:.1f} ms + 5 ms)"
    series = {
        "outage": Series(title, "ms", Goal(Statistic.RATIO, ratio)),
        "announced": Series(f"the same, {name}: end of the silence to the first gratuitous ARP", "ms", _ANNOUNCED),
    }
    return Work(f"power-off-{interval_ms}", interval_ms, series, measure)


def _stop(interval_ms: int) -> Work:
    def measure(routers: Routers, phase: float) -> Sample:
        segment = routers.segment
        _await_phase(routers, interval_ms, phase)
        began = time.monotonic_ns()
        routers.stop(FIRST)
        _await_holder(routers, SECOND)
        time.sleep(0.1)
        return {"outage": segment.measure(began).longest_outage_ms}

    series = {"outage": Series(f"graceful stop, no successor, {interval_ms} ms: outage", "ms", NOT_SLOWER)}
    return Work("stop", interval_ms, series, measure)


def _lost_and_moves(title: str) -> dict[str, Series]:
    return {
        "lost": Series(f"{title}: lost probes", "probes", NO_LOSS),
        "moves": Series(f"{title}: moves", "moves", NO_LOSS),
    }


def _costs(routers: Routers, act: Callable[[], object], settle_seconds: float) -> dict[str, float]:
    """Lost probes and moves while something is done and until it is settled; the VIP must answer at the end."""
    began = time.monotonic_ns()
    act()
    time.sleep(settle_seconds)
    eventually(lambda: routers.segment.holder(), f"{routers.segment.name}: somebody answers")
    seen = routers.segment.measure(began)
    return {"lost": seen.lost, "moves": seen.moves}


def _kill_engine(routers: Routers, host: str) -> Callable[[], object]:
    pid = routers.engine(host)
    return lambda: kill(pid)


def _kill(interval_ms: int) -> Work:
    def measure(routers: Routers, phase: float) -> Sample:
        act = _kill_engine(routers, FIRST)
        _await_phase(routers, interval_ms, phase)
        return _costs(routers, act, 1.0 + 10 * interval_ms / 1000)

    return Work(
        f"kill-{interval_ms}", interval_ms, _lost_and_moves(f"kill -9 of the engine, {interval_ms} ms"), measure
    )


def _planned(interval_ms: int) -> Work:
    """Switchover, restart of the holder and rolling restart, one after the other in one setting."""

    def holder(routers: Routers) -> str:
        found = routers.segment.holder()
        if found is None:
            raise EnvironmentFailure(f"{routers.segment.name}: nobody answers")
        return found

    def restart_all(routers: Routers) -> None:
        for host in (FIRST, SECOND):
            routers.restart(host)
            time.sleep(0.5)

    def steps(routers: Routers) -> Iterator[tuple[str, dict[str, float]]]:
        yield "switchover", _costs(routers, lambda: routers.give_to(SECOND), 0.5)
        if not isinstance(routers, Holdfast):
            # keepalived knows no switchover: its holder was stopped, as for maintenance.
            routers.start(FIRST, 1, interval_ms)
            time.sleep(0.5)
        yield "hand-over", _costs(routers, lambda: routers.restart(holder(routers)), 1.0)
        yield "rolling", _costs(routers, lambda: restart_all(routers), 0.5)

    def measure(routers: Routers, _: float) -> Sample:
        return {f"{step} {name}": value for step, costs in steps(routers) for name, value in costs.items()}

    titles = {
        "switchover": "switchover (keepalived: stop of the holder)",
        "hand-over": "restart of the holder with a successor (keepalived: stop, start)",
        "rolling": "rolling restart of both hosts",
    }
    series = {f"{step} {name}": one for step, title in titles.items() for name, one in _lost_and_moves(title).items()}
    # The move is what a switchover is for.
    series["switchover moves"].goal = None
    return Work("planned", interval_ms, series, measure)


def works() -> list[Work]:
    """In the order of importance."""
    return [
        _power_off(1000, 1.0),
        _power_off(100, 1.0),
        _power_off(10, 1.05),
        _stop(100),
        _planned(100),
        _kill(100),
        _kill(10),
    ]


SIDES: Mapping[str, Callable[[Segment], Routers]] = {"holdfast": Holdfast, "keepalived": Keepalived}
