"""How each program is started, stopped, restarted, killed and asked on the hosts of a segment."""

from __future__ import annotations

import abc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.configurations import PRIORITIES, holdfast_documents, keepalived_configuration, router_name
from bench.segment import Segment, eventually

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab import processes
from holdfast_lab.processes import ProcessIdentity

FIRST, SECOND = PRIORITIES
_STOP_SECONDS = 5.0


class Routers(abc.ABC):
    """One program on both hosts of a segment. EnvironmentFailure when it does not do what is asked of it."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._running: dict[str, ProcessIdentity] = {}

    @abc.abstractmethod
    def start(self, host: str, count: int, interval_ms: int, *, alone: bool = False) -> None:
        """Begin with so many virtual routers, without waiting for anything. `alone`: no other host is to run them."""

    @abc.abstractmethod
    def is_backup(self, host: str, count: int) -> bool:
        """Whether it has become Backup `count` times."""

    @abc.abstractmethod
    def restart(self, host: str) -> None:
        """What an upgrade of the program does; returns when the new one is in charge."""

    @abc.abstractmethod
    def give_to(self, host: str) -> None:
        """The planned move of the VIP to a host, as this program can do it."""

    @abc.abstractmethod
    def engine(self, host: str) -> int:
        """The process that speaks VRRP."""

    def stop(self, host: str) -> None:
        """SIGTERM, and wait until it is gone."""
        self._end(self._running.pop(host))

    def members(self, host: str) -> list[ProcessIdentity]:
        """All processes of the program on a host."""
        return processes.descendants(self._running[host])

    def _folder(self, host: str) -> Path:
        folder = self.segment.folder / host
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _log(self, host: str) -> Path:
        return self._folder(host) / "router.log"

    def _said(self, host: str, words: str) -> int:
        log = self._log(host)
        return log.read_text(encoding="utf-8", errors="replace").count(words) if log.exists() else 0

    def _spawn(self, host: str, command: list[str]) -> None:
        self._running[host] = self.segment.spawn(self.segment.hosts[host], command, self._log(host))

    @staticmethod
    def _end(identity: ProcessIdentity) -> None:
        processes.send_signal(identity, signal.SIGTERM)
        if not processes.wait_until_gone(identity, _STOP_SECONDS):
            raise EnvironmentFailure(f"process {identity.pid} does not end after SIGTERM")


class Holdfast(Routers):
    """`holdfast run`, without the journal, as a user starts it."""

    def start(self, host: str, count: int, interval_ms: int, *, alone: bool = False) -> None:
        """Write the file and start."""
        file = self._folder(host) / "vip.yaml"
        file.write_text(holdfast_documents(count, interval_ms, host if alone else ""), encoding="utf-8")
        self._spawn(host, self._run(host))

    def _run(self, host: str) -> list[str]:
        folder = self._folder(host)
        return self._command(
            "run", f"--file={folder / 'vip.yaml'}", f"--node-name={host}", f"--state-dir={folder / 'state'}",
            "--log-format=json",
        )  # fmt: skip

    @staticmethod
    def _command(*words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "holdfast_cli.main", *words]

    def is_backup(self, host: str, count: int) -> bool:
        """As the log tells its transitions."""
        return self._said(host, '"toState":"Backup"') >= count

    def restart(self, host: str) -> None:
        """A second run waits beside the first, which is then told to stop: the hand-over."""
        former, engine, waiting = self._running[host], self.engine(host), "waiting until it ends"
        before = self._said(host, waiting)
        self._spawn(host, self._run(host))
        eventually(lambda: self._said(host, waiting) > before, "the successor waits")
        self._end(former)
        eventually(lambda: self.status(host).get("pid", engine) != engine, "the successor's engine runs")

    def give_to(self, host: str) -> None:
        """`holdfast switchover`."""
        command = self._command("switchover", router_name(1), f"--to={host}", f"--state-dir={self._state(host)}")
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise EnvironmentFailure(f"holdfast switchover failed: {' '.join(finished.stderr.split())}")

    def _state(self, host: str) -> Path:
        return self._folder(host) / "state"

    def status(self, host: str) -> dict[str, Any]:
        """`holdfast status -o json`; empty while no engine answers."""
        command = self._command("status", f"--state-dir={self._state(host)}", "-o", "json")
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        return dict(json.loads(finished.stdout)) if finished.returncode == 0 else {}

    def engine(self, host: str) -> int:
        """The one that the keeper forked."""
        status = self.status(host)
        if not status:
            raise EnvironmentFailure(f"{host}: no engine answers")
        return int(status["pid"])


class Keepalived(Routers):
    """keepalived in the foreground, otherwise as it is by default (no real-time scheduling)."""

    def start(self, host: str, count: int, interval_ms: int, *, alone: bool = False) -> None:  # noqa: ARG002
        """Write the file, which has no word for `alone`, and start."""
        text = keepalived_configuration(host, count, interval_ms)
        (self._folder(host) / "keepalived.conf").write_text(text, encoding="utf-8")
        self._run(host)

    def _run(self, host: str) -> None:
        folder = self._folder(host)
        files = ["-f", "keepalived.conf", "-p", "keepalived.pid", "-r", "vrrp.pid"]
        words = [word if word.startswith("-") else str(folder / word) for word in files]
        self._spawn(host, ["keepalived", "-n", "-l", *words])

    def is_backup(self, host: str, count: int) -> bool:
        """As the log tells them."""
        return self._said(host, "Entering BACKUP STATE") >= count

    def restart(self, host: str) -> None:
        """Stop, then start: keepalived has no other way."""
        self.stop(host)
        before = self._said(host, "Entering BACKUP STATE")
        self._run(host)
        eventually(lambda: self._said(host, "Entering BACKUP STATE") > before, "keepalived runs again")

    def give_to(self, host: str) -> None:
        """keepalived knows no switchover: its holder is stopped, as for maintenance."""
        (holder,) = (other for other in PRIORITIES if other != host)
        self.stop(holder)

    def engine(self, host: str) -> int:
        """The child that keepalived calls vrrp."""
        return int((self._folder(host) / "vrrp.pid").read_text(encoding="ascii"))


def kill(pid: int) -> int:
    """SIGKILL; CLOCK_MONOTONIC just before."""
    at = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    return at
