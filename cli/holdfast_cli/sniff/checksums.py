"""The Internet checksum (RFC 1071), word by word as its section 4.1 writes it, with and without a pseudo-header."""

from __future__ import annotations

import ipaddress
import struct


def covers(message: bytes) -> bool:
    """Whether a message that holds its own checksum is whole: the ones' complement sum of its words is all ones.

    >>> covers(bytes.fromhex("fffe 0001"))
    True
    >>> covers(bytes.fromhex("fffe 0002"))
    False
    """
    words: tuple[int, ...] = struct.unpack(f"!{(len(message) + 1) // 2}H", message + bytes(len(message) % 2))
    total = sum(words)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def covers_with_pseudo_header(message: bytes, source: str, destination: str, protocol: int) -> bool:
    """The same with the pseudo-header before it: RFC 8200 section 8.1 for IPv6, RFC 9293 section 3.1 for IPv4."""
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    shape = "!I3xB" if ":" in source else "!xBH"
    tail = (len(message), protocol) if ":" in source else (protocol, len(message))
    return covers(addresses + struct.pack(shape, *tail) + message)
