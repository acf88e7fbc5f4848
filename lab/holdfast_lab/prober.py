"""The lab's client: one ICMP echo per millisecond to a VIP, and which host answered each.

Run as `python -m holdfast_lab.prober ADDRESS INTERFACE FILE MAC...` in the client's namespace. It prints one line
when it begins, and writes what it sees to FILE (see ProbeFile), which others read while it runs: no question to it can
make it late. Sent with the kernel's own neighbour resolution, so the client suffers as every client would; answers are
read from the link, because only the frame's source address tells who it was that answered (packet(7)).
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import socket
import struct
import sys
import time
from pathlib import Path

INTERVAL_NS = 1_000_000
LOST_AFTER_NS = 500_000_000
"""An answer later than this counts as none."""

CAPACITY = 1_200_000
"""Probes that the file remembers: the last 20 minutes."""

NO_ANSWER = 0
UNKNOWN_HOST = 255

_HEADER = struct.Struct("<QQQ")
_PACKET_IGNORE_OUTGOING = 23  # linux/if_packet.h
_SOL_PACKET = 263
_ICMP_FILTER = 1  # linux/icmp.h; ICMPV6_FILTER of linux/icmpv6.h has the same number
_SOL_RAW = 255
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_ECHO_REQUEST_V6, _ECHO_REPLY_V6 = 128, 129
_ETHERNET_HEADER, _IPV6_HEADER = 14, 40


class ProbeFile:
    """What a prober saw, shared between it and its readers.

    Probe number i was due at `started_ns + i * INTERVAL_NS` (CLOCK_MONOTONIC), left at `sent_ns[i % CAPACITY]`, and
    `answers[i % CAPACITY]` says which host answered in time: its number from 1, NO_ANSWER or UNKNOWN_HOST.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the file; OSError when it is not there or too short."""
        size = _HEADER.size + CAPACITY * 9
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
        try:
            if create:
                os.ftruncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        view = memoryview(self._map)
        self._header = view[: _HEADER.size].cast("Q")
        self.sent_ns = view[_HEADER.size : _HEADER.size + 8 * CAPACITY].cast("Q")
        self.answers = view[_HEADER.size + 8 * CAPACITY :]

    @property
    def started_ns(self) -> int:
        """When probe 0 was due."""
        return self._header[0]

    @property
    def count(self) -> int:
        """How many probes were sent."""
        return self._header[1]

    def begin(self, started_ns: int) -> None:
        """Set the time of probe 0."""
        self._header[0] = started_ns

    def sent(self, number: int, now_ns: int) -> None:
        """Note that a probe leaves; to be called in order of numbers."""
        index = number % CAPACITY
        self.sent_ns[index] = now_ns
        self.answers[index] = NO_ANSWER
        self._header[1] = number + 1

    def answered(self, number: int, host: int, now_ns: int) -> None:
        """Note an answer, unless it is too late or answers a probe that was forgotten."""
        index = number % CAPACITY
        if 0 < self.count - number <= CAPACITY and now_ns - self.sent_ns[index] <= LOST_AFTER_NS:
            self.answers[index] = host

    def close(self) -> None:
        """Let go of the file; what was seen stays in it."""
        self._header.release()
        self.sent_ns.release()
        self.answers.release()
        with contextlib.suppress(BufferError):
            self._map.close()


def echo_request(identifier: int, number: int, *, is_ipv6: bool) -> bytes:
    """An ICMP (RFC 792) or ICMPv6 (RFC 4443 section 4.1) echo request; the kernel fills in ICMPv6's checksum."""
    high, low = number >> 16 & 0xFFFF, number & 0xFFFF
    if is_ipv6:
        return struct.pack("!BBHHHHH", _ECHO_REQUEST_V6, 0, 0, identifier, low, high, low)
    total = (_ECHO_REQUEST << 8) + identifier + low + high + low
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHHHH", _ECHO_REQUEST, 0, ~total & 0xFFFF, identifier, low, high, low)


def reply_number(frame: bytes, identifier: int, *, is_ipv6: bool) -> int | None:
    """The number of the probe that this Ethernet frame answers; None when it answers none of ours."""
    if is_ipv6:
        offset, protocol_offset, protocol, reply = _ETHERNET_HEADER + _IPV6_HEADER, 20, 58, _ECHO_REPLY_V6
    else:
        if len(frame) <= _ETHERNET_HEADER:
            return None
        offset, protocol_offset, protocol, reply = 14 + 4 * (frame[14] & 0x0F), 23, 1, _ECHO_REPLY
    if len(frame) < offset + 12 or frame[protocol_offset] != protocol or frame[offset] != reply:
        return None
    found, _, high, low = struct.unpack_from("!HHHH", frame, offset + 4)
    return high << 16 | low if found == identifier else None


class _Sockets:
    def __init__(self, address: str, interface: str) -> None:
        self.is_ipv6 = ":" in address
        if self.is_ipv6:
            self._sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            self._sender.setsockopt(socket.IPPROTO_ICMPV6, _ICMP_FILTER, b"\xff" * 32)
        else:
            self._sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            self._sender.setsockopt(_SOL_RAW, _ICMP_FILTER, b"\xff" * 4)
        self._target = (address, 0)
        ether_type = 0x86DD if self.is_ipv6 else 0x0800
        self.listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ether_type))
        self.listener.bind((interface, ether_type))
        self.listener.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self.listener.setblocking(False)

    def send(self, message: bytes) -> None:
        # A probe that cannot leave (no route, no neighbour) is a lost one like any other.
        with contextlib.suppress(OSError):
            self._sender.sendto(message, self._target)


def probe(address: str, interface: str, path: Path, mac_addresses: list[str]) -> None:
    """Send and record until the process ends; OSError when a socket or the file is refused."""
    hosts = {bytes.fromhex(mac.replace(":", "")): number for number, mac in enumerate(mac_addresses, start=1)}
    identifier = os.getpid() & 0xFFFF
    sockets = _Sockets(address, interface)
    seen = ProbeFile(path, create=True)
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
        sockets.send(echo_request(identifier, number, is_ipv6=sockets.is_ipv6))
        number += 1
        _drain(sockets, seen, identifier, hosts)


def _drain(sockets: _Sockets, seen: ProbeFile, identifier: int, hosts: dict[bytes, int]) -> None:
    receive = sockets.listener.recv
    now = time.monotonic_ns()
    try:
        while True:
            frame = receive(256)
            answered = reply_number(frame, identifier, is_ipv6=sockets.is_ipv6)
            if answered is not None:
                seen.answered(answered, hosts.get(frame[6:12], UNKNOWN_HOST), now)
    except (BlockingIOError, OSError):
        return


if __name__ == "__main__":
    probe(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
