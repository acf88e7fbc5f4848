"""`make test` installs every program that the tests start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

# The program that scripts/setup looks for, and the ones that come with it.
PROGRAMS = {
    "arping": ["arping"],
    "conntrackd": ["conntrackd"],
    "curl": ["curl"],
    "git": ["git"],
    "haproxy": ["haproxy"],
    "ip": ["ip", "bridge", "ss", "tc"],
    "ipvsadm": ["ipvsadm"],
    "keepalived": ["keepalived"],
    "mariadbd": ["mariadbd", "mariadb", "mariadb-install-db"],
    "nft": ["nft"],
    "nginx": ["nginx"],
    "nsenter": ["nsenter"],
    "openssl": ["openssl"],
    "ping": ["ping"],
    "postgres": ["postgres", "initdb", "pg_basebackup", "pg_ctl"],
    "ps": ["ps", "kill", "pgrep", "pidof", "sysctl"],
    "psql": ["psql"],
    "redis-server": ["redis-server", "redis-cli"],
    "tcpdump": ["tcpdump"],
    "unshare": ["unshare"],
}


@pytest.fixture(scope="module")
def set_up(root: Path) -> set[str]:
    """What scripts/test asks for on a machine where nothing is left out."""
    script = (root / "scripts" / "test").read_text(encoding="utf-8")
    requests = [words.split() for words in re.findall(r"scripts/setup test (.*)", script)]
    assert requests
    return {word for words in requests for word in words}


def test_every_program_that_the_tests_start_is_set_up(root: Path, tree: list[Path], set_up: set[str]) -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for path in tree
        if path.suffix == ".py" and path != Path(__file__) and path.relative_to(root).parts[0] in {"tests", "lab"}
    ]
    started = {
        package
        for package, names in PROGRAMS.items()
        for name in names
        # The first word of a command, or the first after the host that runs it.
        if any(re.search(rf'[\[(]\s*(?:"\w+", )?"{name}",', source) for source in sources)
    }
    assert {"ip", "keepalived"} <= started
    assert started <= set_up
