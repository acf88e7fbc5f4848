"""A client on the nodes' segment: one probe per millisecond toward a virtual address, from a process of its own.

ICMP echoes are the lab's (holdfast_lab.prober). With a port it is a TCP connection per probe instead: run as
`python -m holdfast_testing.cluster_client ADDRESS PORT FILE`, it writes into the same kind of file.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import holdfast_api
import holdfast_lab
from holdfast_lab.evidence import Evidence, Stretch
from holdfast_lab.prober import INTERVAL_NS, LOST_AFTER_NS, UNKNOWN_HOST, ProbeFile

START_SECONDS = 10
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST, so that no port stays in TIME_WAIT
_PACKAGES = [str(Path(module.__path__[0]).parent) for module in (holdfast_api, holdfast_lab)]


@dataclass(frozen=True, slots=True)
class Gap:
    """Probes in a row without an answer."""

    start_ns: int
    """CLOCK_MONOTONIC, when the first of them left."""
    milliseconds: float
    """Until the next probe that was answered left, or until the end."""


@dataclass(frozen=True, slots=True)
class ProbingResult:
    """What the client saw."""

    sent: int
    lost: int
    """Without an answer within 500 ms."""
    longest_outage_ms: float
    gaps: tuple[Gap, ...]
    is_answered: bool
    """Somebody answered the last probes."""
    holder: str | None
    """Who answered the last probes, by the name that `hosts` gives; None when nobody did, or for TCP."""
    moves: int
    """How often somebody else answered than before; always 0 for TCP."""


class Probing:
    """Probes an address from the moment the block is entered until it is left, or until `result` is asked for.

    >>> with Probing("172.30.77.200") as probing:  # doctest: +SKIP
    ...     kill_the_holder()
    >>> probing.result().longest_outage_ms  # doctest: +SKIP
    """

    def __init__(self, address: str, port: int | None = None, hosts: Mapping[str, str] | None = None) -> None:
        """`hosts`: MAC addresses by the names that results are to give; used for ICMP alone."""
        self._address = address
        self._port = port
        self._hosts = dict(hosts or {})
        self._folder = tempfile.TemporaryDirectory(prefix="probing-")
        self._process: subprocess.Popen[str] | None = None
        self._evidence: Evidence | None = None
        self._start_ns = self._end_ns = 0

    def _command(self, path: Path) -> list[str]:
        python = [sys.executable, "-P", "-m"]
        if self._port is not None:
            return [*python, "holdfast_testing.cluster_client", self._address, str(self._port), str(path)]
        shown = subprocess.run(
            ["ip", "-json", "route", "get", self._address], capture_output=True, text=True, check=True
        )
        interface = json.loads(shown.stdout)[0]["dev"]
        return [*python, "holdfast_lab.prober", self._address, interface, str(path), *self._hosts.values()]

    def __enter__(self) -> Self:
        path = Path(self._folder.name) / "probes"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *_PACKAGES]),
        }
        self._process = subprocess.Popen(
            self._command(path), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        if not ready or self._process.stdout.readline() != "ready\n":
            self._stop()
            raise AssertionError(f"the client of {self._address} did not start; it says above why")
        self._evidence = Evidence(path, list(self._hosts))
        self.begin()
        return self

    def begin(self) -> None:
        """Count from now on."""
        self._start_ns, self._end_ns = time.monotonic_ns(), 0

    def result(self) -> ProbingResult:
        """What happened so far, or to the end of the block; waits half a second at most for late answers."""
        assert self._evidence is not None, "not inside or after its block"
        end_ns = self._end_ns or time.monotonic_ns()
        if not self._end_ns:
            self._evidence.settle(self._start_ns, end_ns)
        measured = self._evidence.measure(self._start_ns, end_ns)
        stretches = list(self._evidence.stretches(self._start_ns, end_ns))
        return ProbingResult(
            sent=measured.sent,
            lost=measured.lost,
            longest_outage_ms=measured.longest_outage_ms,
            gaps=_gaps(stretches, end_ns),
            is_answered=measured.holder is not None,
            holder=measured.holder if self._hosts and self._port is None else None,
            moves=measured.moves,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_ns = time.monotonic_ns()
        assert self._evidence is not None
        self._evidence.settle(self._start_ns, end_ns)
        self._end_ns = end_ns
        self._stop()
        # The file stays mapped, so that results can be asked for.
        self._folder.cleanup()

    def _stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _gaps(stretches: list[Stretch], end_ns: int) -> tuple[Gap, ...]:
    starts = [stretch.start_ns for stretch in stretches]
    return tuple(
        Gap(stretch.start_ns, (end - stretch.start_ns) / 1e6)
        for stretch, end in zip(stretches, [*starts[1:], end_ns], strict=False)
        if stretch.answered is None
    )


# ----- the process that connects -----


class _Connections:
    """Connections under way, each a probe."""

    def __init__(self, address: str, port: int, seen: ProbeFile) -> None:
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._target = (address, port)
        self._seen = seen
        self._poll = select.epoll()
        self._open: dict[int, tuple[int, socket.socket]] = {}
        self._oldest: deque[tuple[int, int, int]] = deque()

    def start(self, number: int, now_ns: int) -> None:
        """Send a SYN; what cannot even leave is lost."""
        connection = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        if connection.connect_ex(self._target) != errno.EINPROGRESS:
            connection.close()
            return
        self._open[connection.fileno()] = number, connection
        self._oldest.append((now_ns, number, connection.fileno()))
        self._poll.register(connection, select.EPOLLOUT)

    def collect(self) -> None:
        """Note which are established by now, and give up those that take too long."""
        for descriptor, events in self._poll.poll(0):
            number, _ = self._open[descriptor]
            if not events & (select.EPOLLERR | select.EPOLLHUP):
                self._seen.answered(number, UNKNOWN_HOST, time.monotonic_ns())
            self._end(descriptor)
        while self._oldest and time.monotonic_ns() - self._oldest[0][0] > LOST_AFTER_NS:
            _, number, descriptor = self._oldest.popleft()
            if descriptor in self._open and self._open[descriptor][0] == number:
                self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        _, connection = self._open.pop(descriptor)
        self._poll.unregister(connection)
        connection.close()


def probe(address: str, port: int, path: Path) -> None:
    """Connect and record until the process ends; OSError when a socket or the file is refused."""
    seen = ProbeFile(path, create=True)
    connections = _Connections(address, port, seen)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    gc.freeze()
    gc.disable()
    started = time.monotonic_ns()
    seen.begin(started)
    print("ready", flush=True)
    number = 0
    while True:
        now = time.monotonic_ns()
        due = started + number * INTERVAL_NS
        if now < due:
            time.sleep((due - now) / 1e9)
            continue
        seen.sent(number, now)
        connections.start(number, now)
        connections.collect()
        number += 1


if __name__ == "__main__":
    probe(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
