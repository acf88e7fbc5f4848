"""Ethernet frames by which neighbours learn who has an address, and by which we learn that we are heard.

MAC addresses are 6 bytes, IP addresses 4 or 16, all in network order.
"""

from __future__ import annotations

import struct

from holdfast_speaker.engine.ports import NeighbourAnswer

_BROADCAST_MAC = b"\xff" * 6
_UNKNOWN_MAC = bytes(6)
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
_SOLICITED_NODE_PREFIX = bytes.fromhex("ff0200000000000000000001ff")

_ARP = b"\x08\x06"
_IPV6 = b"\x86\xdd"
_ARP_ETHERNET_IPV4 = bytes.fromhex("0001080006 04")
_ARP_REQUEST = b"\x00\x01"
_ARP_REPLY = b"\x00\x02"

_ICMPV6 = 58
_HOP_LIMIT = 255
_NEIGHBOUR_SOLICITATION = 135
_NEIGHBOUR_ADVERTISEMENT = 136
_ROUTER = 0x80000000
_OVERRIDE = 0x20000000
_SOURCE_LINK_LAYER_OPTION = b"\x01\x01"
_TARGET_LINK_LAYER_OPTION = b"\x02\x01"

_IPV6_HEADER = struct.Struct("!IHBB16s16s")
_NEIGHBOUR_MESSAGE = struct.Struct("!BBHI16s")
_PSEUDO_HEADER = struct.Struct("!16s16sII")
_ETHERNET_LENGTH = 14
_ICMPV6_AT = _ETHERNET_LENGTH + _IPV6_HEADER.size


def gratuitous_arp(mac: bytes, address: bytes) -> bytes:
    """An ARP announcement of our own address to everybody: a request with sender and target the same (RFC 5227, 3).

    The target hardware address is the broadcast address, as keepalived sends it.
    """
    return _arp(_BROADCAST_MAC, _ARP_REQUEST, mac, address, _BROADCAST_MAC, address)


def arp_request(mac: bytes, source: bytes, target: bytes) -> bytes:
    """An ARP request, who has `target`, to everybody (RFC 826)."""
    return _arp(_BROADCAST_MAC, _ARP_REQUEST, mac, source, _UNKNOWN_MAC, target)


def _arp(destination: bytes, operation: bytes, sha: bytes, spa: bytes, tha: bytes, tpa: bytes) -> bytes:
    return b"".join((destination, sha, _ARP, _ARP_ETHERNET_IPV4, operation, sha, spa, tha, tpa))


def unsolicited_neighbour_advertisement(mac: bytes, address: bytes, router: bool) -> bytes:
    """A neighbour advertisement of our own address to all nodes, overriding what they knew (RFC 4861, 7.2.6).

    `router` is the flag R: whether this host forwards IPv6.
    """
    flags = _OVERRIDE | (_ROUTER if router else 0)
    message = _neighbour_message(_NEIGHBOUR_ADVERTISEMENT, flags, address, _TARGET_LINK_LAYER_OPTION + mac)
    return _icmpv6_frame(_ALL_NODES_MAC, mac, address, _ALL_NODES, message)


def neighbour_solicitation(mac: bytes, source: bytes, target: bytes) -> bytes:
    """A neighbour solicitation, who has `target`, to its solicited-node group (RFC 4861, 4.3)."""
    group = _SOLICITED_NODE_PREFIX + target[13:]
    message = _neighbour_message(_NEIGHBOUR_SOLICITATION, 0, target, _SOURCE_LINK_LAYER_OPTION + mac)
    return _icmpv6_frame(b"\x33\x33" + group[12:], mac, source, group, message)


def neighbour_probe(mac: bytes, target: bytes) -> bytes:
    """A neighbour solicitation without a source, to ask who has `target` before it is ours (RFC 4862, 5.4.2)."""
    group = _SOLICITED_NODE_PREFIX + target[13:]
    message = _neighbour_message(_NEIGHBOUR_SOLICITATION, 0, target, b"")
    return _icmpv6_frame(b"\x33\x33" + group[12:], mac, bytes(16), group, message)


def _neighbour_message(kind: int, flags: int, target: bytes, option: bytes) -> bytes:
    return _NEIGHBOUR_MESSAGE.pack(kind, 0, 0, flags, target) + option


def _icmpv6_frame(destination_mac: bytes, mac: bytes, source: bytes, destination: bytes, message: bytes) -> bytes:
    checksum = 0xFFFF - _sum(source, destination, message)
    header = _IPV6_HEADER.pack(6 << 28, len(message), _ICMPV6, _HOP_LIMIT, source, destination)
    summed = message[:2] + (checksum or 0xFFFF).to_bytes(2, "big") + message[4:]
    return b"".join((destination_mac, mac, _IPV6, header, summed))


def _sum(source: bytes, destination: bytes, message: bytes) -> int:
    """The ones' complement sum of ICMPv6 with its pseudo-header (RFC 8200, 8.1), 1 to 0xFFFF."""
    covered = _PSEUDO_HEADER.pack(source, destination, len(message), _ICMPV6) + message
    if len(covered) % 2:
        covered += b"\0"
    # 2**16 is 1 modulo 0xFFFF, so the sum of the 16-bit words is the whole number modulo 0xFFFF.
    return int.from_bytes(covered, "big") % 0xFFFF or 0xFFFF


def neighbour_answer(frame: bytes) -> NeighbourAnswer | None:
    """Who an ARP reply or a neighbour advertisement says has an address; None for every other frame.

    A neighbour advertisement is checked as RFC 4861, 7.1.2 demands of the receiver, but for its options. The MAC
    address is the one that the frame came from.
    """
    kind = frame[12:14]
    address = None
    if kind == _ARP:
        address = _arp_answer(frame)
    if kind == _IPV6:
        address = _neighbour_advertisement_answer(frame)
    return None if address is None else NeighbourAnswer(address, frame[6:12])


def _arp_answer(frame: bytes) -> bytes | None:
    if len(frame) < 42 or frame[14:22] != _ARP_ETHERNET_IPV4 + _ARP_REPLY:
        return None
    return frame[28:32]


def _neighbour_advertisement_answer(frame: bytes) -> bytes | None:
    if len(frame) < _ICMPV6_AT + _NEIGHBOUR_MESSAGE.size:
        return None
    _, length, next_header, hop_limit, source, destination = _IPV6_HEADER.unpack_from(frame, _ETHERNET_LENGTH)
    message = frame[_ICMPV6_AT : _ICMPV6_AT + length]
    if next_header != _ICMPV6 or hop_limit != _HOP_LIMIT or not _NEIGHBOUR_MESSAGE.size <= length == len(message):
        return None
    kind, code, _, _, target = _NEIGHBOUR_MESSAGE.unpack_from(message)
    if kind != _NEIGHBOUR_ADVERTISEMENT or code != 0 or _sum(source, destination, message) != 0xFFFF:
        return None
    return bytes(target)
