"""What nodes' kernels and the nodes' link show of VIPs while something is done, with the moment of each change.

All nodes run on one kernel, this machine's: their clocks are one, and one socket hears of all of them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from holdfast_testing.kind_cluster import ClusterError, KindCluster

# <linux/socket.h> and <linux/netlink.h>: Python has no names for them.
_SOL_NETLINK = 270
_NETLINK_LISTEN_ALL_NSID = 8
_RECEIVE_BUFFER_BYTES = 8 << 20


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


def _namespaces(control: list[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, value in control:
        if (level, kind) == (_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID):
            yield int.from_bytes(value, "little")


class AddressWatch:
    """Which node's kernel had which address, and when, from the moment the block is entered until it is left.

    One netlink socket hears of every node's network namespace (netlink(7), NETLINK_LISTEN_ALL_NSID), so that the
    changes stand in the kernel's own order however late this process reads them; a command on each node, waiting for
    the CPU, would put a hand-over of two milliseconds in the wrong order. The times are those of reading: where this
    process waited for the CPU, what lies between two changes is more than was seen.

    The kernel tells of an address that is renewed as it tells of a new one, so a holder that was missed at the
    beginning is known after its first renewal. OSError unless root.
    """

    def __init__(self, cluster: KindCluster) -> None:
        self._cluster = cluster
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._nodes: dict[int, str] = {}
        self._had: list[_Change] = []
        self._received: list[tuple[float, list[tuple[int, int, bytes]], bytes]] = []
        self._start = self._end = 0.0
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        self._nodes = {self._namespace(node.name): node.name for node in self._cluster.nodes()}
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
        self._socket.settimeout(0.2)
        self._thread.start()
        for node in self._nodes.values():
            found = self._cluster.addresses_of(node)
            self._had += [_Change(time.time(), node, address, True) for address in found]
        self._start = time.time()
        return self

    def _namespace(self, node: str) -> int:
        """The number that this namespace's kernel gives to a node's (ip-netns(8), list-id), given now if need be."""
        process = self._cluster.process_of(node)
        with IPRoute() as kernel:
            if (found := kernel.get_netnsid(pid=process)["nsid"]) < 0:
                kernel.set_netnsid(pid=process)
                found = kernel.get_netnsid(pid=process)["nsid"]
        return int(found)

    def _read(self) -> None:
        # So that it reads between the two halves of a hand-over, and how long they took is seen, too.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -20)
        while not self._ended.is_set():
            try:
                data, control, _, _ = self._socket.recvmsg(1 << 16, 64)
            except TimeoutError:
                continue
            except OSError as error:  # ENOBUFS: something was missed, and what follows from the rest would not be true
                self._error = error
                return
            self._received.append((time.time(), control, data))

    def _changes(self) -> Iterator[_Change]:
        """Whoever had it at the beginning had it before; then what was received, understood only now."""
        yield from self._had
        marshal = MarshalRtnl()
        for at, control, data in list(self._received):
            # What this machine's own namespace tells has no number.
            if (node := next((self._nodes.get(number) for number in _namespaces(control)), None)) is not None:
                for message in marshal.parse(data):
                    # IFA_LOCAL is the node's own address where IPv4 tells both; IPv6 tells IFA_ADDRESS alone.
                    address = message.get("local") or message.get("address")
                    yield _Change(at, node, address, message["event"] == "RTM_NEWADDR")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end = time.time()
        self._ended.set()
        self._thread.join()
        self._socket.close()
        if self._error is not None:
            raise self._error

    def stretches(self, address: str) -> list[Stretch]:
        """Who had it, in order of the beginnings; to the end of the block, or to now inside of it.

        A node that was powered off has it for ever: its kernel tells nobody.
        """
        begun: dict[str, float] = {}
        found: list[Stretch] = []
        for change in sorted(self._changes(), key=lambda change: change.at):
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
