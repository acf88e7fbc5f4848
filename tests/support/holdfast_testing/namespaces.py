"""Network namespaces for tests: made with ip(8), named after this process, removed with all that runs in them."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_CLONE_NEWNET = 0x40000000
_FOLDER = Path("/run/netns")
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def missing_means() -> str:
    """Why this process cannot make network namespaces; empty when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [program for program in ("ip", "nsenter") if shutil.which(program) is None]
    return f"not installed: {' '.join(absent)}" if absent else ""


def _run(command: list[str], stdin: str | None = None) -> str:
    finished = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    if finished.returncode != 0:
        raise AssertionError(f"`{' '.join(command)}` ended with {finished.returncode}: {finished.stderr.strip()}")
    return finished.stdout


class Namespace:
    """One network namespace, with its loopback up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = _FOLDER / name
        self._started: list[subprocess.Popen[str]] = []

    def ip(self, *lines: str) -> None:
        """Run lines of ip(8), in one process."""
        _run(["ip", "-n", self.name, "-batch", "-"], "\n".join(lines) + "\n")

    def ip_json(self, *words: str) -> list[dict[str, Any]]:
        """What ip(8) shows, in detail."""
        shown: list[dict[str, Any]] = json.loads(_run(["ip", "-n", self.name, "-json", "-details", *words]) or "[]")
        # ip leaves empty objects where a filter matched nothing.
        return [entry for entry in shown if entry]

    def addresses(self, link: str) -> dict[str, dict[str, Any]]:
        """The addresses on a link, as ip(8) shows them, without prefix length."""
        return {
            str(info["local"]): info
            for entry in self.ip_json("address", "show", "dev", link)
            for info in entry["addr_info"]
        }

    def link(self, name: str) -> dict[str, Any]:
        """A link as ip(8) shows it."""
        return self.ip_json("link", "show", "dev", name)[0]

    def index(self, link: str) -> int:
        """The index of a link."""
        return int(self.link(link)["ifindex"])

    def mac(self, link: str) -> bytes:
        """The MAC address of a link."""
        return bytes.fromhex(str(self.link(link)["address"]).replace(":", ""))

    def command(self, command: list[str]) -> list[str]:
        """The command line that runs a command in this namespace."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def run(self, command: list[str]) -> str:
        """Run a command here to its end; its output. A failure fails the test."""
        return _run(self.command(command))

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start a process here; it is killed when the namespaces are closed."""
        process = subprocess.Popen(self.command(command), text=True, **options)
        self._started.append(process)
        return process

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in this namespace; the sockets that it makes stay there."""
        with Path("/proc/thread-self/ns/net").open("rb") as before:
            with self.path.open("rb") as here:
                _enter(here.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    @property
    def pids(self) -> list[int]:
        """Every process that is in this namespace now."""
        return [int(pid) for pid in _run(["ip", "netns", "pids", self.name]).split()]

    def close(self) -> None:
        """Kill what was started here, with all its children, and remove the namespace with its links."""
        # A child that was frozen would outlive its parent.
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        _run(["ip", "netns", "del", self.name])


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Namespaces:
    """Makes namespaces and what connects them. A context manager: at its end everything is removed."""

    def __init__(self) -> None:
        self.prefix = f"hf-test-{os.getpid()}-{next(_numbers)}-"
        self._made: list[Namespace] = []

    def add(self, name: str) -> Namespace:
        """A new namespace; `name` tells it from the others of this test."""
        namespace = Namespace(self.prefix + name)
        _run(["ip", "netns", "add", namespace.name])
        self._made.append(namespace)
        namespace.ip("link set lo up")
        return namespace

    def connect(self, one: Namespace, one_link: str, other: Namespace, other_link: str) -> None:
        """A cable between two namespaces: a veth pair, both ends up."""
        one.ip(
            f"link add {one_link} type veth peer name {other_link} netns {other.name}",
            f"link set {one_link} up",
        )
        other.ip(f"link set {other_link} up")

    def bridge(self, namespace: Namespace, name: str) -> None:
        """A bridge that forwards at once and forwards every group."""
        namespace.ip(
            f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set {name} up",
        )

    def plug(self, host: Namespace, link: str, switch: Namespace, bridge: str, port: str) -> None:
        """A cable between a namespace and a bridge in another."""
        self.connect(host, link, switch, port)
        switch.ip(f"link set {port} master {bridge}")

    def close(self) -> None:
        """Remove everything that was made."""
        while self._made:
            self._made.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
