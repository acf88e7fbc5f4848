"""What nodes' kernels and the nodes' link show of VIPs while something is done, with the moment of each change.

All nodes run on one kernel, this machine's, so that their clocks are one.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from types import TracebackType
from typing import IO, Self

from holdfast_testing.kind_cluster import ClusterError, KindCluster

_CHANGE = re.compile(r"^\[(?P<at>[^]]+)\] ?(?P<deleted>Deleted )?\d+: .*? inet6? (?P<address>[0-9a-f.:]+)")
_MONITOR = ["ip", "-tshort", "-oneline", "monitor", "address"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A node's kernel had an address from one moment to another, in seconds since 1970."""

    node: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class _Change:
    at: float
    node: str
    address: str
    is_there: bool


class AddressWatch:
    """Which node's kernel had which address, and when, from the moment the block is entered until it is left.

    The kernel tells of an address that is renewed as it tells of a new one, so a holder that was missed at the
    beginning is known after its first renewal.
    """

    def __init__(self, cluster: KindCluster) -> None:
        self._cluster = cluster
        self._monitors: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self._changes: list[_Change] = []
        self._start = self._end = 0.0

    def __enter__(self) -> Self:
        for node in self._cluster.nodes():
            monitor = subprocess.Popen(
                ["docker", "exec", node.name, *_MONITOR], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
            )
            assert monitor.stdout is not None
            self._monitors[node.name] = monitor
            self._threads.append(threading.Thread(target=self._read, args=(node.name, monitor.stdout), daemon=True))
            self._threads[-1].start()
        # Whoever has it now had it before.
        for node in self._cluster.nodes():
            found = self._cluster.addresses_of(node.name)
            self._changes += [_Change(time.time(), node.name, address, True) for address in found]
        self._start = time.time()
        return self

    def _read(self, node: str, lines: IO[str]) -> None:
        for line in lines:
            if found := _CHANGE.match(line):
                at = datetime.fromisoformat(found["at"]).timestamp()
                self._changes.append(_Change(at, node, found["address"], found["deleted"] is None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end = time.time()
        for node, monitor in self._monitors.items():
            # The process on the node would outlive docker's; on a node that is gone there is none.
            subprocess.run(
                ["docker", "exec", node, "pkill", "-f", "ip -tshort -oneline monitor"], capture_output=True, check=False
            )
            monitor.kill()
            monitor.wait()
        for thread in self._threads:
            thread.join(timeout=5)

    def stretches(self, address: str) -> list[Stretch]:
        """Who had it, in order of the beginnings; to the end of the block, or to now inside of it.

        A node that was powered off has it for ever: its kernel tells nobody.
        """
        begun: dict[str, float] = {}
        found: list[Stretch] = []
        for change in sorted(self._changes, key=lambda change: change.at):
            if change.address != address:
                continue
            if change.is_there:
                begun.setdefault(change.node, max(change.at, self._start))
            elif (start := begun.pop(change.node, None)) is not None:
                found.append(Stretch(change.node, start, change.at))
        end = self._end or time.time()
        found += [Stretch(node, start, end) for node, start in begun.items()]
        return sorted(found, key=lambda stretch: stretch.start)

    def shared_ms(self, address: str) -> list[float]:
        """For how long more nodes than one had it, each time by itself."""
        return [(end - start) * 1e3 for start, end, holders in self._counts(address) if holders > 1]

    def _counts(self, address: str) -> list[tuple[float, float, int]]:
        """From one moment to another: none, one, or more (2)."""
        steps = sorted(
            [(stretch.start, 1) for stretch in self.stretches(address)]
            + [(stretch.end, -1) for stretch in self.stretches(address)]
        )
        holders = 0
        found: list[tuple[float, float, int]] = []
        for (start, change), (end, _) in pairwise(steps):
            holders += change
            if found and found[-1][2] == min(holders, 2):
                start = found.pop()[0]
            found.append((start, end, min(holders, 2)))
        return found

    def ever_held(self, address: str) -> set[str]:
        """The nodes whose kernel had it at any moment of the block."""
        return {stretch.node for stretch in self.stretches(address)}


@dataclass(frozen=True, slots=True)
class Advertisement:
    """One VRRP packet on the nodes' link."""

    at: float
    """When it was read, in seconds since 1970."""
    mac: str
    """Whose."""
    vrid: int
    priority: int
    is_ipv6: bool


class AdvertisementWatch:
    """The multicast advertisements on an interface of this machine, while the block runs. OSError unless root."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind((interface, 0))
        self._socket.settimeout(0.2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.seen: list[Advertisement] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                frame = self._socket.recv(256)
                if found := _advertisement(frame, time.time()):
                    self.seen.append(found)

    def silences_ms(self, gone_mac: str) -> dict[int, float]:
        """For each VRID that the host of this MAC advertised: from its last advertisement to the next of another host.

        Infinite where nobody followed.
        """
        last: dict[int, float] = {}
        for advertisement in self.seen:
            if advertisement.mac == gone_mac:
                last[advertisement.vrid] = advertisement.at
        silences = dict.fromkeys(last, float("inf"))
        for advertisement in self.seen:
            vrid = advertisement.vrid
            if advertisement.mac != gone_mac and vrid in last and advertisement.at > last[vrid]:
                silences[vrid] = min(silences[vrid], (advertisement.at - last[vrid]) * 1e3)
        return silences


def _advertisement(frame: bytes, at: float) -> Advertisement | None:
    ether_type = frame[12:14]
    if ether_type == b"\x08\x00" and len(frame) > 34 and frame[23] == 112:
        payload = frame[14 + 4 * (frame[14] & 0x0F) :]
    elif ether_type == b"\x86\xdd" and len(frame) > 54 and frame[20] == 112:
        payload = frame[54:]
    else:
        return None
    if len(payload) < 4:
        return None
    return Advertisement(at, frame[6:12].hex(":"), payload[1], payload[2], ether_type == b"\x86\xdd")


@contextlib.contextmanager
def sampled(look: Callable[[], str], every_seconds: float = 0.2) -> Iterator[list[str]]:
    """What `look` told while the block ran, each change once; for what must never be seen, however short."""
    seen: list[str] = []
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(every_seconds):
            # A command that fails tells nothing of what was looked for.
            with contextlib.suppress(ClusterError):
                told = look()
                if told and (not seen or seen[-1] != told):
                    seen.append(told)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
