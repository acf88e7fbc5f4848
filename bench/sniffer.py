"""Advertisements as the client's link delivers them, with the kernel's time of arrival (socket(7), SO_TIMESTAMPNS)."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

from holdfast_lab.namespaces import entered

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_VRRP = 112
_GROUP = "224.0.0.18"
_ETH_P_ARP = 0x0806  # linux/if_ether.h
_TIMESPEC = struct.Struct("@qq")


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


@dataclass(frozen=True, slots=True)
class Announcement:
    """One gratuitous ARP: its sender asks for, or answers with, its own address."""

    at_ns: int
    """CLOCK_MONOTONIC, when it arrived."""
    address: str
    mac_address: str
    """Whose it is, as the packet says."""


def parse_arp(packet: bytes, at_ns: int) -> Announcement | None:
    """An ARP packet without its Ethernet header (RFC 826); None unless it is gratuitous."""
    if len(packet) < 28 or packet[14:18] != packet[24:28]:
        return None
    return Announcement(at_ns, socket.inet_ntoa(packet[14:18]), packet[8:14].hex(":"))


class Sniffer:
    """Hears VRRP's group and gratuitous ARP on one interface of a namespace, in a thread of its own, until `close`."""

    def __init__(self, namespace: str, address: str) -> None:
        """`address` is the interface's own. OSError when the socket is refused."""
        with entered(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, _VRRP)
            self._arp = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ARP))
        member = socket.inet_aton(_GROUP) + socket.inet_aton(address)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        for one in (self._socket, self._arp):
            one.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
        self._heard: list[Advertisement] = []
        self._announced: list[Announcement] = []
        self._is_closing = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._is_closing:
            ready, _, _ = select.select([self._socket, self._arp], [], [], 0.1)
            for one in ready:
                packet, ancillary, _, _ = one.recvmsg(2048, 64)
                seconds, nanoseconds = _TIMESPEC.unpack_from(ancillary[0][2])
                arrived = seconds * 1_000_000_000 + nanoseconds - (time.time_ns() - time.monotonic_ns())
                if one is self._arp:
                    if (announced := parse_arp(packet, arrived)) is not None:
                        self._announced.append(announced)
                elif (heard := parse(packet, arrived)) is not None:
                    self._heard.append(heard)

    def since(self, at_ns: int) -> list[Advertisement]:
        """Everything heard from that time on (CLOCK_MONOTONIC), in order of arrival."""
        found = []
        for heard in reversed(self._heard):
            if heard.at_ns < at_ns:
                break
            found.append(heard)
        return found[::-1]

    def first_announced(self, since_ns: int, mac_address: str) -> dict[str, int]:
        """When each address was announced first from that time on, by one host."""
        first: dict[str, int] = {}
        for one in list(self._announced):
            if one.at_ns >= since_ns and one.mac_address == mac_address:
                first.setdefault(one.address, one.at_ns)
        return first

    def forget(self) -> None:
        """Begin anew."""
        self._heard = []
        self._announced = []

    def close(self) -> None:
        """Stop listening."""
        self._is_closing = True
        self._thread.join()
        self._socket.close()
        self._arp.close()
