"""Network namespaces for tests: named after this process, removed with all that runs in them.

They are made and read through pyroute2, as the lab's are; what a single test does to one it may say in words of ip(8).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from holdfast_lab import actions, namespaces, processes
from holdfast_lab.actions import AddBridge, AddCable, SetMaster, SetState

_numbers = itertools.count(1)


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
        self.path = namespaces.namespace_path(name)
        self._started: list[subprocess.Popen[str]] = []

    def does(self, *wanted: actions.Action) -> None:
        """Change its network."""
        actions.carry_out(self.name, *wanted)

    def ip(self, *lines: str) -> None:
        """Run lines of ip(8), in one process."""
        _run(["ip", "-n", self.name, "-batch", "-"], "\n".join(lines) + "\n")

    def ip_json(self, *words: str) -> list[dict[str, Any]]:
        """What ip(8) shows, in detail."""
        shown: list[dict[str, Any]] = json.loads(_run(["ip", "-n", self.name, "-json", "-details", *words]) or "[]")
        # ip leaves empty objects where a filter matched nothing.
        return [entry for entry in shown if entry]

    def addresses(self, link: str) -> dict[str, dict[str, Any]]:
        """The addresses on a link, without prefix length, and what the kernel says of each (pyroute2's names)."""
        found = namespaces.with_rtnetlink(self.name, lambda kernel: actions.address_messages(kernel, link))
        return {str(message.get("local") or message.get("address")): _told(message) for message in found}

    def link(self, name: str) -> dict[str, Any]:
        """What the kernel says of a link (pyroute2's names)."""
        return _told(namespaces.with_rtnetlink(self.name, lambda kernel: kernel.link("get", ifname=name)[0]))

    def index(self, link: str) -> int:
        """The index of a link."""
        return int(self.link(link)["index"])

    def mac(self, link: str) -> bytes:
        """The MAC address of a link."""
        return bytes.fromhex(str(self.link(link)["address"]).replace(":", ""))

    def command(self, command: list[str]) -> list[str]:
        """The command line that runs a command in this namespace."""
        return namespaces.inside(self.name, command)

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
        with namespaces.entered(self.name):
            yield

    @property
    def pids(self) -> list[int]:
        """Every process that is in this namespace now."""
        return [process.pid for process in processes.namespace_members(self.path)]

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
        namespaces.remove_namespace(self.name)


def _told(message: Any) -> dict[str, Any]:
    fields = {name: message[name] for name, _ in message.fields}
    return fields | {message.nla2name(name): value for name, value in message["attrs"]}


class Namespaces:
    """Makes namespaces and what connects them. A context manager: at its end everything is removed."""

    def __init__(self) -> None:
        self.prefix = f"hf-test-{os.getpid()}-{next(_numbers)}-"
        self._made = contextlib.ExitStack()

    def add(self, name: str) -> Namespace:
        """A new namespace; `name` tells it from the others of this test."""
        namespace = Namespace(self.prefix + name)
        # First: what is interrupted while it is being made has to be removed, too.
        self._made.callback(namespace.close)
        namespaces.make_namespace(namespace.name)
        namespace.does(SetState("lo", up=True))
        return namespace

    def connect(self, one: Namespace, one_link: str, other: Namespace, other_link: str) -> None:
        """A cable between two namespaces: a veth pair, both ends up."""
        one.does(AddCable(one_link, other_link, other.name), SetState(one_link, up=True))
        other.does(SetState(other_link, up=True))

    def bridge(self, namespace: Namespace, name: str) -> None:
        """A bridge that forwards at once and forwards every group."""
        namespace.does(AddBridge(name))

    def plug(self, host: Namespace, link: str, switch: Namespace, bridge: str, port: str) -> None:
        """A cable between a namespace and a bridge in another."""
        self.connect(host, link, switch, port)
        switch.does(SetMaster(port, bridge))

    def close(self) -> None:
        """Remove everything that was made."""
        self._made.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
