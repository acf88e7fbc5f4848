"""Which hosts really have the VIP: every change of address in their kernels, by rtnetlink(7)."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab.network import namespace_path

_CLONE_NEWNET = 0x40000000
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100  # linux/rtnetlink.h
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_MESSAGE = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class AddressChange:
    """An address came to a host or went from it."""

    at_ns: int
    """CLOCK_MONOTONIC."""
    host: str
    address: str
    present: bool


class AddressWatch:
    """Watches the hosts' addresses from outside, with a netlink socket in each host's namespace."""

    def __init__(self, namespaces: Mapping[str, str]) -> None:
        """`namespaces`: host name to network namespace. EnvironmentFailure when one is not there."""
        self._sockets = {host: _open(namespace) for host, namespace in namespaces.items()}
        self._present: dict[str, set[str]] = {host: set() for host in namespaces}
        self.history: list[AddressChange] = []

    def close(self) -> None:
        """Stop watching."""
        for opened in self._sockets.values():
            opened.close()

    def poll(self, timeout_seconds: float = 0) -> list[AddressChange]:
        """What changed since the last call; waits for the first change for up to the timeout."""
        readable, _, _ = select.select(list(self._sockets.values()), [], [], timeout_seconds)
        changes = [
            change for host, opened in self._sockets.items() if opened in readable for change in self._drain(host)
        ]
        self.history.extend(changes)
        return changes

    def _drain(self, host: str) -> Iterator[AddressChange]:
        present = self._present[host]
        try:
            while True:
                data = self._sockets[host].recv(65536)
                now = time.monotonic_ns()
                for address, is_there in parse_address_messages(data):
                    # The holder refreshes its lifetime all the time: only a coming or a going is a change.
                    if (address in present) == is_there:
                        continue
                    if is_there:
                        present.add(address)
                    else:
                        present.discard(address)
                    yield AddressChange(now, host, address, is_there)
        except BlockingIOError:
            return

    def holders(self, address: str) -> list[str]:
        """The hosts that have the address now, as far as polled."""
        return [host for host, present in self._present.items() if address in present]

    def shared_ms(self, address: str, start_ns: int, end_ns: int) -> float:
        """For how much of that time more than one host had the address, in milliseconds."""
        return shared_ms([change for change in self.history if change.address == address], start_ns, end_ns)

    def left_after_ms(self, host: str, address: str, start_ns: int, end_ns: int) -> float | None:
        """How many milliseconds after the start the address went from the host; None when it stayed till the end."""
        gone = (host, address, False)
        for change in self.history:
            if (change.host, change.address, change.present) == gone and start_ns <= change.at_ns <= end_ns:
                return (change.at_ns - start_ns) / 1e6
        return None


def shared_ms(changes: list[AddressChange], start_ns: int, end_ns: int) -> float:
    """For how much of the time from start to end more than one host had an address, by its changes in order of time."""
    holders: set[str] = set()
    shared, since = 0, start_ns
    for change in changes:
        at = min(max(change.at_ns, start_ns), end_ns)
        if len(holders) > 1:
            shared += at - since
        since = at
        if change.present:
            holders.add(change.host)
        else:
            holders.discard(change.host)
    if len(holders) > 1:
        shared += end_ns - since
    return shared / 1e6


def parse_address_messages(data: bytes) -> Iterator[tuple[str, bool]]:
    """The addresses that a block of rtnetlink messages tells of, and whether they are there."""
    offset = 0
    while offset + _MESSAGE.size <= len(data):
        length, kind, _, _, _ = _MESSAGE.unpack_from(data, offset)
        if length < _MESSAGE.size:
            return
        if kind in (_RTM_NEWADDR, _RTM_DELADDR):
            address = _address_in(data[offset + _MESSAGE.size : offset + length])
            if address is not None:
                yield address, kind == _RTM_NEWADDR
        offset += (length + 3) & ~3


def _address_in(body: bytes) -> str | None:
    family = _ADDRESS.unpack_from(body)[0]
    found: dict[int, bytes] = {}
    offset = _ADDRESS.size
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    # IFA_LOCAL is the host's own address where IPv4 tells both; IPv6 tells IFA_ADDRESS alone.
    raw = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    return socket.inet_ntop(socket.AddressFamily(family), raw) if raw is not None else None


def _open(namespace: str) -> socket.socket:
    opened: list[socket.socket] = []
    errors: list[OSError] = []

    def open_inside() -> None:
        try:
            opened.append(_netlink_socket_inside(namespace))
        except OSError as error:
            errors.append(error)

    # setns(2) is for one thread; a socket stays in the namespace that it was made in, and the thread goes.
    thread = threading.Thread(target=open_inside)
    thread.start()
    thread.join()
    if errors:
        raise EnvironmentFailure(f"network namespace {namespace} cannot be watched: {errors[0].strerror}")
    return opened[0]


def _netlink_socket_inside(namespace: str) -> socket.socket:
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace_path(namespace), os.O_RDONLY)
    try:
        if library.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    opened.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
    opened.setblocking(False)
    opened.send(
        _MESSAGE.pack(_MESSAGE.size + _ADDRESS.size, _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0)
        + _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    )
    return opened
