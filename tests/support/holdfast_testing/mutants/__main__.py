"""`make mutants`: plant every bug, one after the other, and see that its test finds it."""

from __future__ import annotations

import argparse
import multiprocessing.pool
import sys
import tempfile
from pathlib import Path

from holdfast_testing.mutants.mutants import MUTANTS
from holdfast_testing.mutants.planting import ROOT, SOURCES, Mutant, found_by, plant
from holdfast_testing.mutants.table import write_table

EVERYWHERE = ["tests/unit", "tests/scenarios", "-k", "speaker_engine or speaker_vrrp or scenario"]
"""Where `--search` looks."""


def _judge(mutant: Mutant) -> str:
    """What is wrong with a mutant; empty: its test finds it, or its reason to live stands."""
    if mutant.lives_because:
        return ""
    with tempfile.TemporaryDirectory(prefix="holdfast-mutant-") as folder:
        try:
            found = found_by([mutant.killed_by], plant(mutant, Path(folder)))
        except (RuntimeError, ValueError) as error:
            return str(error)
    return "" if found else f"{mutant.killed_by} does not find it"


def _search(mutant: Mutant) -> str:
    """Which of the tests that need no root finds it first."""
    with tempfile.TemporaryDirectory(prefix="holdfast-mutant-") as folder:
        try:
            return found_by(EVERYWHERE, plant(mutant, Path(folder)), seconds=500.0)
        except (RuntimeError, ValueError) as error:
            return f"ERROR {error}"


def main() -> int:
    """0 where every mutant is killed, or lives for a reason that is written down."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names; all without one")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--search", action="store_true", help="say which test finds each, instead of trying its own")
    parser.add_argument("--write", action="store_true", help="write the table of docs/testing.md")
    arguments = parser.parse_args()
    if arguments.write:
        write_table(ROOT / "docs" / "testing.md", MUTANTS)
        return 0
    wanted = [one for one in MUTANTS if not arguments.names or any(part in one.name for part in arguments.names)]
    judge = _search if arguments.search else _judge
    if not arguments.search:
        unplanted = found_by(sorted({one.killed_by for one in wanted if one.killed_by}), SOURCES)
        if unplanted:
            print(f"mutants: {unplanted} fails without any bug", file=sys.stderr)
            return 1
    alive = 0
    with multiprocessing.pool.ThreadPool(arguments.jobs) as pool:
        for mutant, verdict in zip(wanted, pool.imap(judge, wanted), strict=True):
            if arguments.search:
                print(f"{mutant.name}: {verdict or 'NOBODY'}", flush=True)
                continue
            alive += bool(verdict)
            told = f"lives: {mutant.lives_because}" if mutant.lives_because else "killed"
            print(f"{'ALIVE' if verdict else 'ok'}  {mutant.name}: {verdict or told}", flush=True)
    if arguments.search:
        return 0
    living = sum(bool(one.lives_because) for one in wanted)
    print(f"{len(wanted)} mutants: {len(wanted) - living - alive} killed, {living} live for a reason, {alive} ALIVE")
    return int(bool(alive))


if __name__ == "__main__":
    sys.exit(main())
