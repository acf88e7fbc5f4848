"""The first version's files, from the history of this clone: its processes beside those of what is here now."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

from holdfast_testing.required import absent

FIRST_VERSION = "bcacb6e"
_REPOSITORY = Path(__file__).parents[3]


def unpack_first_version(folder: Path, what: str, *parts: str) -> None:
    """These parts of its tree into a folder; a clone without that history lacks a means that `what` needs."""
    archive = folder / "archive.tar"
    command = ["git", "-C", str(_REPOSITORY), "archive", f"--output={archive}", FIRST_VERSION, *parts]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        absent(what, f"this clone does not have the history back to {FIRST_VERSION}: {finished.stderr.strip()}")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")


def python_path(folder: Path, parts: tuple[str, ...]) -> str:
    """PYTHONPATH for what was unpacked there."""
    return os.pathsep.join(str(folder / part) for part in parts)
