"""`make simulate`: many seeds, and what they came to."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator

from holdfast_testing.sim.options import draw
from holdfast_testing.sim.run import Report, Run
from holdfast_testing.sim.world import Violation

FIRST_SEED = 1_000_000
"""Other seeds than those of `make test`."""


def _play(seed: int) -> Report | str:
    try:
        return Run(draw(seed)).play()
    except Violation as violation:
        return str(violation)


def _seeds(first: int) -> Iterator[int]:
    while True:
        yield first
        first += 1


def _many(hours: float, first: int, jobs: int) -> int:
    report, violations, began, told = Report(), [], time.monotonic(), 0.0
    with multiprocessing.Pool(jobs) as pool:
        for played in pool.imap_unordered(_play, _seeds(first), chunksize=4):
            if isinstance(played, str):
                violations.append(played)
                print(f"VIOLATION: {played}", flush=True)
            else:
                report.add(played)
            if report.hours >= told + max(hours / 10, 1):
                told = report.hours
                print(f"simulate: {report.hours:.1f} h of {hours:g}", file=sys.stderr, flush=True)
            if report.hours >= hours:
                pool.terminate()
                break
    _show(report, violations, first, time.monotonic() - began)
    return int(bool(violations))


def _show(report: Report, violations: list[str], first: int, seconds: float) -> None:
    print(f"{report.hours:.1f} simulated hours, {report.seeds} seeds from {first} on, {report.events} events", end="")
    print(f" in {seconds:.0f} s: {len(violations)} violations")
    print(f"{report.judged} takeovers judged, {report.excused} excused")
    for title, counted in (("faults", report.faults), ("transitions by reason", report.moves)):
        print(f"\n{title}:")
        for name, count in counted.most_common():
            print(f"  {count:>9}  {name}")


def main() -> int:
    """0 when no law was broken."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--hours", type=float, default=10, help="of virtual time (default: 10)")
    parser.add_argument("--from", type=int, default=FIRST_SEED, dest="first", metavar="SEED", help="the first seed")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--seed", type=int, help="this one alone, with its trace")
    options = parser.parse_args()
    if options.seed is None:
        return _many(options.hours, options.first, options.jobs)
    run = Run(draw(options.seed))
    try:
        report = run.play()
    except Violation as violation:
        print("\n".join(run.world.trace))
        print(f"VIOLATION: {violation}")
        return 1
    print("\n".join(run.world.trace))
    _show(report, [], options.seed, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
