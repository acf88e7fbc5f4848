"""Holdfast and keepalived side by side: `python -m bench.run` as root, from the top of the checkout.

Every repetition of a work does it on one program and then on the other, in turns which one first. The table goes to
standard output; table, samples and plot go to the folder. Interrupted, it removes what it made and shows what it has.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Series, table
from bench.loads import loads
from bench.plot import box_plot
from bench.routers import Routers
from bench.segment import Segment
from bench.works import SIDES, Work, prepare, works

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab import network

_QUICK_REPETITIONS = 2
# Without 255 virtual routers: on a busy machine keepalived may not settle with them, and that is no failure of ours.
_QUICK_WORKS = ("power-off-100", "power-off-10", "stop", "planned", "kill-100", "kill-10", "start")


def _options(arguments: Sequence[str], known: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure Holdfast beside keepalived.")
    parser.add_argument("--repetitions", type=int, default=10, metavar="N", help="of each work (default: 10)")
    parser.add_argument("--heavy", type=int, metavar="N", help="repetitions of the works that load the processors")
    parser.add_argument("--only", action="append", choices=known, help="this work; may be given several times")
    parser.add_argument("--quick", action="store_true", help="2 repetitions, fewer works, no time is judged")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"), help="for the results")
    options = parser.parse_args(arguments)
    if options.repetitions < 1 or (options.heavy is not None and options.heavy < 1):
        parser.error("at least one repetition is needed")
    return options


def _measure(routers: dict[str, Routers], side: str, work: Work, phase: float) -> None:
    for key, value in work.measure(routers[side], phase).items():
        getattr(work.series[key], side).append(value)


def _repeat(routers: dict[str, Routers], work: Work, number: int, repetitions: int) -> None:
    """One repetition on both sides; EnvironmentFailure when one does not do what the work needs."""
    phase = (number + 0.5) / repetitions
    sides = list(routers)[:: 1 if number % 2 == 0 else -1]
    for one in routers.values():
        one.segment.reset()
    if not work.is_heavy:
        prepare(list(routers.values()), work)
    for side in sides:
        if work.is_heavy and not work.is_alone:
            prepare([routers[side]], work)
        _measure(routers, side, work, phase)
        if work.is_heavy:
            routers[side].segment.reset()


def _carry_out(work: Work, repetitions: int, folder: Path) -> list[str]:
    """All repetitions; what failed of them, in words."""
    failures = []
    with contextlib.ExitStack() as stack:
        routers: dict[str, Routers] = {
            side: make(stack.enter_context(Segment(side, folder / "hosts", probes=work.probes)))
            for side, make in SIDES.items()
        }
        for number in range(repetitions):
            began = time.monotonic()
            try:
                _repeat(routers, work, number, repetitions)
            except (EnvironmentFailure, OSError) as error:
                failures.append(f"{work.key}, repetition {number + 1}: {error}")
            took = time.monotonic() - began
            print(f"bench: {work.key} {number + 1}/{repetitions} in {took:.1f} s", file=sys.stderr, flush=True)
    return failures


def _machine() -> str:
    version = subprocess.run(["keepalived", "--version"], capture_output=True, text=True, check=False)
    program = (version.stderr or version.stdout).splitlines()[0].split(" (")[0]
    return f"{program}; Python {platform.python_version()}; Linux {platform.release()}"


def _publish(folder: Path, series: list[Series], failures: list[str], *, judged: bool) -> None:
    machine = _machine()
    text = table(series, judged=judged)
    told = "".join(f"- failed: {failure}\n" for failure in failures)
    (folder / "table.md").write_text(f"{machine}\n\n{text}\n{told}", encoding="utf-8")
    (folder / "plot.svg").write_text(box_plot(series, f"Holdfast beside {machine}"), encoding="utf-8")
    samples = {one.title: {"unit": one.unit, "holdfast": one.holdfast, "keepalived": one.keepalived} for one in series}
    (folder / "samples.json").write_text(json.dumps(samples, indent=1) + "\n", encoding="utf-8")
    print(f"{machine}\n\n{text}\n{told}bench: also in {folder}: table.md, samples.json, plot.svg")


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run the works that are asked for; 0 when every one could be carried out, whatever its figures."""
    everything = works() + loads()
    options = _options(arguments, [work.key for work in everything])
    signal.signal(signal.SIGTERM, _interrupt)
    wanted = options.only or (_QUICK_WORKS if options.quick else [work.key for work in everything])
    chosen = [work for work in everything if work.key in wanted]
    options.folder.mkdir(parents=True, exist_ok=True)
    repetitions = _QUICK_REPETITIONS if options.quick else options.repetitions
    failures: list[str] = []
    done: list[Series] = []
    is_interrupted = False
    try:
        network.require_means()
        if shutil.which("keepalived") is None:
            raise EnvironmentFailure("keepalived is not installed, and beside it is how Holdfast is measured")
        for work in chosen:
            heavy = 1 if options.quick else options.heavy or repetitions
            done.extend(work.series.values())
            failures += _carry_out(work, heavy if work.is_heavy else repetitions, options.folder)
    except EnvironmentFailure as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        is_interrupted = True
    finally:
        shutil.rmtree(options.folder / "hosts", ignore_errors=True)
    _publish(options.folder, done, failures, judged=not options.quick)
    return 130 if is_interrupted else int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
