"""The VRRP packet: bytes to a validated value and back.

VRRPv3 for IPv4 and IPv6 (RFC 9568 section 5), VRRPv2 for IPv4 (RFC 3768 section 5) with the authentication data of
RFC 2338 section 5.3.6. Addresses are packed bytes in network order, 4 or 16 of them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from holdfast_api.errors import PeerError
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import CENTISECOND, SECOND, Duration

PROTOCOL = 112
MULTICAST_GROUP_V4 = bytes((224, 0, 0, 18))
MULTICAST_GROUP_V6 = bytes.fromhex("ff020000000000000000000000000012")
MULTICAST_GROUPS = {4: MULTICAST_GROUP_V4, 16: MULTICAST_GROUP_V6}
"""By the width of their family's addresses, in bytes."""

_TYPE_ADVERTISEMENT = 1
_TTL = 255
_HEADER = struct.Struct("!BBBBHH")
_HEADER_LENGTH = _HEADER.size
_AUTHENTICATION_LENGTH = 8
_AUTHENTICATION_NONE = 0
_AUTHENTICATION_SIMPLE = 1
_MAXIMUM_INTERVAL_CS = 4095


class PacketError(PeerError):
    """A packet that cannot be obeyed; `counter` says why, `vrid` whose it may be (0: not readable)."""

    def __init__(self, counter: Counter, vrid: int = 0) -> None:
        self.counter = counter
        self.vrid = vrid
        super().__init__(counter.value)


class Advertisement(NamedTuple):
    """A VRRP ADVERTISEMENT whose form is valid; whether it is obeyed is the virtual router's business."""

    version: int
    vrid: int
    priority: int
    interval: Duration
    addresses: tuple[bytes, ...]
    source: bytes
    password: bytes | None = None
    """VRRPv2: the simple text password, zero bytes at its end removed; None without authentication."""
    pseudo_header: bool = True
    """VRRPv3 over IPv4: whether the checksum covered a pseudo-header."""


def decode(payload: bytes, source: bytes, destination: bytes, ttl: int) -> Advertisement:
    """The advertisement in an IP payload, checked as RFC 9568 section 7.1 demands of every receiver.

    Raises PacketError, and nothing else, for whatever bytes it is given.
    """
    if len(payload) < _HEADER_LENGTH:
        raise PacketError(Counter.PACKET_LENGTH_ERRORS)
    version_type, vrid, priority, count, interval_field, _ = _HEADER.unpack_from(payload)
    if ttl != _TTL and not (is_link_local(source) and is_link_local(destination)):
        raise PacketError(Counter.IP_TTL_ERRORS, vrid)
    version = version_type >> 4
    if version != 3 and (version != 2 or len(source) != 4):
        raise PacketError(Counter.VERSION_ERRORS, vrid)
    if version_type & 0x0F != _TYPE_ADVERTISEMENT:
        raise PacketError(Counter.INVALID_TYPE_PKTS_RCVD, vrid)
    if count == 0:  # erratum 8299
        raise PacketError(Counter.ADDRESS_COUNT_ZERO, vrid)
    width = len(source)
    end = _HEADER_LENGTH + count * width
    if len(payload) != (end if version == 3 else end + _AUTHENTICATION_LENGTH):
        raise PacketError(Counter.PACKET_LENGTH_ERRORS, vrid)
    addresses = tuple(payload[at : at + width] for at in range(_HEADER_LENGTH, end, width))
    if version == 2:
        return _version_2(payload, end, vrid, priority, interval_field, addresses, source)
    pseudo_header = _verify_version_3(payload, source, destination, vrid)
    interval_cs = interval_field & 0x0FFF  # the upper four bits are reserved and ignored
    if interval_cs == 0:  # erratum 8301
        raise PacketError(Counter.INTERVAL_ZERO, vrid)
    interval = Duration(interval_cs * CENTISECOND)
    return Advertisement(3, vrid, priority, interval, addresses, source, None, pseudo_header)


class Decoder:
    """`decode` for one virtual router, whose Master says the same again and again: the same bytes are checked once."""

    __slots__ = ("_advertisement", "_datagram")

    def __init__(self) -> None:
        self._datagram: tuple[bytes, bytes, bytes, int] | None = None
        self._advertisement: Advertisement

    def decode(self, payload: bytes, source: bytes, destination: bytes, ttl: int) -> Advertisement:
        """As `decode`, with the same errors."""
        datagram = (payload, source, destination, ttl)
        if datagram != self._datagram:
            self._advertisement = decode(payload, source, destination, ttl)
            self._datagram = datagram
        return self._advertisement


def is_link_local(address: bytes) -> bool:
    """fe80::/10, which no router forwards (RFC 4291 section 2.5.6): proof enough that a unicast packet is of this link.

    keepalived 2.2.7 sends unicast advertisements over IPv6 with the host's hop limit, 64 (ADR 0011).
    """
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _verify_version_3(payload: bytes, source: bytes, destination: bytes, vrid: int) -> bool:
    """Whether the checksum covers a pseudo-header: over IPv4 both forms are in the field, over IPv6 only one is."""
    if _sums_up(_pseudo_header(source, destination, len(payload)) + payload):
        return True
    if len(source) == 4 and _sums_up(payload):
        return False
    raise PacketError(Counter.CHECKSUM_ERRORS, vrid)


def _version_2(
    payload: bytes,
    end: int,
    vrid: int,
    priority: int,
    interval_field: int,
    addresses: tuple[bytes, ...],
    source: bytes,
) -> Advertisement:
    authentication_type, interval_s = interval_field >> 8, interval_field & 0xFF
    # RFC 2338 section 5.3.8: the checksum covers the whole VRRP message, so the authentication data too.
    if not _sums_up(payload):
        raise PacketError(Counter.CHECKSUM_ERRORS, vrid)
    if interval_s == 0:
        raise PacketError(Counter.INTERVAL_ZERO, vrid)
    if authentication_type not in (_AUTHENTICATION_NONE, _AUTHENTICATION_SIMPLE):
        raise PacketError(Counter.AUTH_TYPE_MISMATCH, vrid)
    password = payload[end:].rstrip(b"\0") if authentication_type == _AUTHENTICATION_SIMPLE else None
    return Advertisement(2, vrid, priority, Duration(interval_s * SECOND), addresses, source, password)


def encode(
    version: int,
    vrid: int,
    priority: int,
    interval: Duration,
    addresses: Sequence[bytes],
    source: bytes,
    destination: bytes,
    password: bytes | None = None,
) -> bytes:
    """The IP payload of an advertisement. VRRPv3 over IPv4 is sent with a pseudo-header, as keepalived and FRR do.

    `interval` is a whole number of centiseconds up to 4095 (version 3) or of seconds up to 255 (version 2).
    """
    if version == 2:
        authentication_type = _AUTHENTICATION_NONE if password is None else _AUTHENTICATION_SIMPLE
        field = authentication_type << 8 | interval // SECOND
        tail = b"".join(addresses) + (password or b"").ljust(_AUTHENTICATION_LENGTH, b"\0")
        covered_before = b""
    else:
        field = min(interval // CENTISECOND, _MAXIMUM_INTERVAL_CS)
        tail = b"".join(addresses)
        covered_before = _pseudo_header(source, destination, _HEADER_LENGTH + len(tail))
    first = version << 4 | _TYPE_ADVERTISEMENT
    message = _HEADER.pack(first, vrid, priority, len(addresses), field, 0) + tail
    return _HEADER.pack(first, vrid, priority, len(addresses), field, _checksum(covered_before + message)) + tail


def _pseudo_header(source: bytes, destination: bytes, length: int) -> bytes:
    """RFC 8200 section 8.1 for IPv6, and its older shape of RFC 793 section 3.1 for IPv4."""
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, PROTOCOL, length)
    return source + destination + struct.pack("!II", length, PROTOCOL)


def _checksum(covered: bytes) -> int:
    """RFC 1071. The ones' complement sum of 16-bit words is the big integer modulo 65535."""
    return ~(int.from_bytes(covered, "big") % 0xFFFF) & 0xFFFF


def _sums_up(covered: bytes) -> bool:
    return int.from_bytes(covered, "big") % 0xFFFF == 0
