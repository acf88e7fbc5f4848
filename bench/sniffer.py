"""Advertisements as the client's link delivers them, with the kernel's time of arrival (socket(7), SO_TIMESTAMPNS)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast_api.errors import EnvironmentFailure

_CLONE_NEWNET = 0x40000000
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_VRRP = 112
_GROUP = "224.0.0.18"
_TIMESPEC = struct.Struct("@qq")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Advertisement:
    """One VRRP advertisement over IPv4."""

    at_ns: int
    """CLOCK_MONOTONIC, when it arrived."""
    source: str
    vrid: int
    priority: int


def parse(packet: bytes, at_ns: int) -> Advertisement | None:
    """An IPv4 packet with VRRP's header (RFC 9568 section 5); None when it is too short to be one."""
    if not packet:
        return None
    header = 4 * (packet[0] & 0x0F)
    if len(packet) < max(20, header) + 8:
        return None
    return Advertisement(at_ns, socket.inet_ntoa(packet[12:16]), packet[header + 1], packet[header + 2])


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise EnvironmentFailure(f"cannot enter a network namespace: {os.strerror(code)}")


@contextlib.contextmanager
def inside(namespace: Path) -> Iterator[None]:
    """The calling thread is in this network namespace; sockets that it makes stay there. EnvironmentFailure if not."""
    with Path("/proc/thread-self/ns/net").open("rb") as before, namespace.open("rb") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(before.fileno())


class Sniffer:
    """Hears VRRP's multicast group on one interface of a namespace, in a thread of its own, until `close`."""

    def __init__(self, namespace: Path, address: str) -> None:
        """`address` is the interface's own. OSError when the socket is refused."""
        with inside(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, _VRRP)
        member = socket.inet_aton(_GROUP) + socket.inet_aton(address)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
        self._socket.settimeout(0.1)
        self._heard: list[Advertisement] = []
        self._is_closing = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._is_closing:
            try:
                packet, ancillary, _, _ = self._socket.recvmsg(2048, 64)
            except TimeoutError:
                continue
            seconds, nanoseconds = _TIMESPEC.unpack_from(ancillary[0][2])
            arrived = seconds * 1_000_000_000 + nanoseconds - (time.time_ns() - time.monotonic_ns())
            if (heard := parse(packet, arrived)) is not None:
                self._heard.append(heard)

    def since(self, at_ns: int) -> list[Advertisement]:
        """Everything heard from that time on (CLOCK_MONOTONIC), in order of arrival."""
        found = []
        for heard in reversed(self._heard):
            if heard.at_ns < at_ns:
                break
            found.append(heard)
        return found[::-1]

    def forget(self) -> None:
        """Begin anew."""
        self._heard = []

    def close(self) -> None:
        """Stop listening."""
        self._is_closing = True
        self._thread.join()
        self._socket.close()
