"""Hosts for tests: network namespaces on one segment, each running `holdfast run` as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from holdfast_testing.namespaces import Namespace

Found = TypeVar("Found")


def eventually(look: Callable[[], Found], what: str, within_seconds: float = 10.0) -> Found:
    """Look again and again until there is something to see; its value. Otherwise the test fails."""
    end = time.monotonic() + within_seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_seconds:g} s: {what} (last seen: {found!r})")
        time.sleep(0.02)


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [descendant for child in map(int, children) for descendant in (child, *_descendants(child))]


class Host:
    """One host of a test, with what `holdfast run` said so far in `log`."""

    def __init__(self, namespace: Namespace, name: str, folder: Path) -> None:
        self.namespace = namespace
        self.name = name
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.file = self.folder / "vip.yaml"
        self.state_directory = self.folder / "run"
        self.log_file = self.folder / "log.json"
        self.process: subprocess.Popen[str] | None = None
        self.python = [sys.executable, "-P"]
        """What runs `holdfast`: another command line here is another version, or another clock."""

    def write(self, text: str) -> None:
        """Write the VirtualIP file, in one step as editors do."""
        part = self.file.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self.file)

    def command(self, *words: str) -> list[str]:
        """A `holdfast` command line in this host's namespace."""
        return self.namespace.command([*self.python, "-m", "holdfast_cli.main", *words])

    def run(self, text: str | None = None, *options: str) -> Host:
        """Start `holdfast run`, with these documents when they are given."""
        if text is not None:
            self.write(text)
        with self.log_file.open("a", encoding="utf-8") as log:
            self.process = self.namespace.start(
                [
                    *self.python,
                    "-m",
                    "holdfast_cli.main",
                    "run",
                    f"--file={self.file}",
                    f"--node-name={self.name}",
                    f"--state-dir={self.state_directory}",
                    "--log-format=json",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        return self

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every line of the log so far."""
        return [json.loads(line) for line in self.log_file.read_text(encoding="utf-8").splitlines()]

    def messages(self, level: str | None = None) -> list[str]:
        """The log's messages, of one level or of all."""
        return [line["message"] for line in self.log if level in (None, line["level"])]

    @property
    def status(self) -> dict[str, Any]:
        """`holdfast status -o json`; empty while no engine answers."""
        finished = subprocess.run(
            self.command("status", f"--state-dir={self.state_directory}", "-o", "json"),
            capture_output=True,
            text=True,
            check=False,
        )
        return json.loads(finished.stdout) if finished.returncode == 0 else {}

    @property
    def routers(self) -> dict[str, dict[str, Any]]:
        """The routers of the status by name."""
        return {router["virtualIP"].partition("/")[2]: router for router in self.status.get("routers", [])}

    def state(self, name: str = "web") -> str:
        """The state of one VirtualIP; empty while it is not known."""
        return str(self.routers.get(name, {}).get("state", ""))

    def has(self, address: str, link: str = "eth0") -> bool:
        """Whether the kernel has the address."""
        return address in self.namespace.addresses(link)

    def becomes(self, state: str, name: str = "web", within_seconds: float = 10.0) -> None:
        """Wait for a state."""
        eventually(lambda: self.state(name) == state, f"{self.name} is {state}", within_seconds)

    def hears_a_master(self, name: str = "web") -> None:
        """Wait until this node, a Backup, has heard an advertisement: one that has heard none asks who has the VIP."""
        eventually(lambda: self.routers.get(name, {}).get("master"), f"{self.name} hears a Master")

    @property
    def engine(self) -> int:
        """The engine's process."""
        return int(self.status["pid"])

    @property
    def processes(self) -> list[int]:
        """The supervisor and all its children, the engine and probes."""
        if self.process is None:
            return []
        # nsenter execs the command, so that the process started is the supervisor itself.
        return [self.process.pid, *_descendants(self.process.pid)]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor and its children."""
        for pid in self.processes:
            with contextlib.suppress(ProcessLookupError):  # it may have ended with its parent
                os.kill(pid, number)

    def signal_reload(self) -> None:
        """SIGHUP to the supervisor: read the files again at once."""
        if self.process is None:
            raise AssertionError(f"{self.name} does not run")
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """SIGTERM to the supervisor; its exit status."""
        if self.process is None:
            raise AssertionError(f"{self.name} does not run")
        self.process.terminate()
        status = self.process.wait(timeout=10)
        self.process = None
        return status
