"""A planted bug: one piece of the source that is replaced, and the test that must fail with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[4]
SOURCES = ROOT / "speaker"
PACKAGE = SOURCES / "holdfast_speaker"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug."""

    name: str
    """What it makes of the program, as a clause for people."""
    file: str
    """Below speaker/holdfast_speaker/."""
    before: str
    after: str
    killed_by: str = ""
    """The test that finds it (a node ID of pytest); empty: it lives."""
    lives_because: str = ""
    """Why no test without root finds it."""

    def planted(self) -> str:
        """The module with the bug. Raises ValueError where the piece is not there exactly once."""
        source = (PACKAGE / self.file).read_text(encoding="utf-8")
        if source.count(self.before) != 1:
            raise ValueError(f"{self.name}: its piece is {source.count(self.before)} times in {self.file}")
        return source.replace(self.before, self.after)


def plant(mutant: Mutant, folder: Path) -> Path:
    """A copy of the speaker with the bug, to be put before the other on Python's path."""
    copied = folder / "speaker"
    shutil.copytree(PACKAGE, copied / "holdfast_speaker", ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "holdfast_speaker" / mutant.file).write_text(mutant.planted(), encoding="utf-8")
    return copied


def found_by(tests: list[str], sources: Path, seconds: float = 300.0) -> str:
    """The first of the tests that fails with these sources; empty where none does. One that takes too long has failed.

    Raises RuntimeError where pytest could not run them.
    """
    environment = {**os.environ, "PYTHONPATH": str(sources), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return "one that did not end"
    if done.returncode == 0:
        return ""
    if done.returncode != 1:
        raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-800:]}{done.stderr[-400:]}")
    failed = [line.split(" ")[1] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return failed[0] if failed else "?"
