"""Segments of hosts for the tests in network namespaces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast_testing.figures import Figures
from holdfast_testing.hosts import Host
from holdfast_testing.namespaces import Namespace, Namespaces

SegmentMaker = Callable[..., "Segment"]

ROOT = Path(__file__).parents[2]

_figures = pytest.StashKey[Figures]()


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    """What the tests of examples/ measure is told at the end, and kept in build/examples-figures.json."""
    return request.config.stash.setdefault(_figures, Figures(ROOT / "build" / "examples-figures.json"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell the figures."""
    if (told := config.stash.get(_figures, None)) is not None:
        told.tell(terminalreporter, "figures of the examples")


class Segment:
    """Hosts 10.77.0.11, .12, ... (and fd77::11, ...) with eth0 on one switch, and a client 10.77.0.100 beside them."""

    def __init__(self, namespaces: Namespaces, folder: Path, names: tuple[str, ...]) -> None:
        self.switch = namespaces.add("switch")
        namespaces.bridge(self.switch, "br0")
        self.hosts: list[Host] = []
        for number, name in enumerate((*names, "client"), start=11):
            last = 100 if name == "client" else number
            namespace = namespaces.add(name)
            namespace.ip("link set lo up")
            namespaces.plug(namespace, "eth0", self.switch, "br0", f"port-{name}"[:15])
            self.settle(namespace, last)
            if name == "client":
                self.client = namespace
            else:
                self.hosts.append(Host(namespace, name, folder))

    @staticmethod
    def settle(namespace: Namespace, last: int) -> None:
        """Addresses that are usable at once, so that tests do not wait for duplicate address detection."""
        namespace.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad"])
        namespace.ip(
            f"address add 10.77.0.{last}/24 dev eth0",
            f"address add fd77::{last}/64 dev eth0 nodad",
            f"address add fe80::{last}/64 dev eth0 nodad",
        )

    def answers(self, address: str) -> bool:
        """Whether a ping from the client is answered."""
        command = self.client.command(["ping", "-n", "-c1", "-W1", address])
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def holders(self, address: str) -> list[str]:
        """The hosts whose kernel has the address."""
        return [host.name for host in self.hosts if host.has(address)]


@pytest.fixture
def segment(namespaces: Namespaces, tmp_path: Path) -> Iterator[SegmentMaker]:
    """Makes a segment of hosts by their names; what runs on them ends with the test."""
    made: list[Segment] = []

    def make(*names: str) -> Segment:
        made.append(Segment(namespaces, tmp_path, names))
        return made[-1]

    yield make
    for segment in made:
        for host in segment.hosts:
            if host.process is not None and host.log_file.exists():
                sys.stderr.write(f"--- log of {host.name}\n{host.log_file.read_text(encoding='utf-8')}\n")
