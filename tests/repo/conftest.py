from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "holdfast_api": ROOT / "api",
    "holdfast_kube": ROOT / "kube",
    "holdfast_operator": ROOT / "operator",
    "holdfast_speaker": ROOT / "speaker",
    "holdfast_cli": ROOT / "cli",
    "holdfast_lab": ROOT / "lab",
}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def packages() -> dict[str, Path]:
    """Each import package and the source root that holds it."""
    return PACKAGES


@pytest.fixture(scope="session")
def tree() -> list[Path]:
    """Every file that is in git, or would be with the next `git add`."""
    if not (ROOT / ".git").exists():
        return _unpacked_tree()
    # A checkout of another user is refused by git otherwise (git-config(1), safe.directory).
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted(path for name in set(listing.split("\0")) - {""} if (path := ROOT / name).is_file())


def _unpacked_tree() -> list[Path]:
    """An unpacked archive: everything but what .gitignore names, whose patterns are all of a name or an ending."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line]
    return sorted(
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not any(Path(part).match(pattern) for part in path.relative_to(ROOT).parts for pattern in ignored)
    )


@pytest.fixture(scope="session")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
