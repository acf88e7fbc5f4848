"""Routing netlink, as far as addresses and links go (netlink(7), rtnetlink(7), linux/if_addr.h, linux/if_link.h).

Requests are bytes that are built once and sent often. All numbers in netlink are in host order.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator, Sequence

from holdfast_speaker.engine.ports import (
    ADDRESS_PROTOCOL,
    ROUTE_METRIC,
    AddressAdded,
    AddressRemoved,
    Event,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
    NextHop,
    NextHopsChanged,
    PortsClosed,
)
from holdfast_speaker.host import filters
from holdfast_speaker.host.families import FAMILIES, WIDTHS
from holdfast_speaker.host.netlink_messages import (
    ACK,
    APPEND,
    ATTRIBUTE,
    CREATE,
    DUMP,
    HEADER,
    NetlinkMalformed,
    attribute,
    messages,
    request,
)

_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_GETLINK = 18
_RTM_NEWADDR = 20
_RTM_DELADDR = 21
_RTM_GETADDR = 22
_RTM_NEWROUTE = 24
_RTM_DELROUTE = 25
_RTM_GETROUTE = 26

_REPLACE = 0x100
_EXCLUSIVE = 0x200

_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_MASTER = 10
_IFLA_WIRELESS = 11
_IFLA_EXT_MASK = 29
_IFLA_CARRIER_DOWN_COUNT = 48
_SKIP_STATISTICS = 8
_LINK_ATTRIBUTES = frozenset(
    {_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_WIRELESS, _IFLA_CARRIER_DOWN_COUNT}
)
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_RUNNING = 0x40
_IFF_NOARP = 0x80
_IFF_LOWER_UP = 0x10000

_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_CACHEINFO = 6
_IFA_FLAGS = 8
_IFA_PROTO = 11
_ADDRESS_ATTRIBUTES = frozenset({_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_PROTO})
_IFA_F_NODAD = 0x02
_IFA_F_NOPREFIXROUTE = 0x200
_FOREVER = 0xFFFFFFFF

_ROUTE = struct.Struct("@BBBBBBBBI")
_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_PRIORITY = 6
_RTA_PREFSRC = 7
_RTA_MULTIPATH = 9
_RTA_VIA = 18
_RTA_EXPIRES = 23
_RTA_NH_ID = 30
_GATEWAY_ATTRIBUTES = frozenset({_RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA})
_RTM_F_CLONED = 0x200
_RTN_UNICAST = 1
_RTN_LOCAL = 2
_RT_TABLE_MAIN = 254
_RT_SCOPE_LINK = 253
_RT_SCOPE_HOST = 254
_NEXT_HOP = struct.Struct("=HBBi")
_VIA_FAMILY = struct.Struct("=H")
_LINK_HEADER = struct.Struct("=BxHiII")
_ADDRESS_HEADER = struct.Struct("=BBBBI")
_LIFETIMES = struct.Struct("=IIII")
_WORD = struct.Struct("=I")
_FLAGS = struct.Struct("=H")
_FLAGS_AND_SEQUENCE = struct.Struct("=HI")
_FLAGS_AT = 6


def parse(datagram: bytes) -> list[Event]:
    """The events in a datagram from the kernel; messages of other kinds are passed over.

    Raises NetlinkMalformed, and nothing else, for whatever bytes it is given.
    """
    events: list[Event] = []
    for kind, _, _, start, end in messages(datagram):
        event = event_in(kind, datagram, start, end)
        if event is not None:
            events.append(event)
    return events


def event_in(kind: int, datagram: bytes, start: int, end: int) -> Event | None:
    """The event in the payload of one message; None for messages of other kinds. Raises NetlinkMalformed."""
    if kind in (_RTM_NEWADDR, _RTM_DELADDR):
        address = _address(datagram, start, end)
        if address is None:
            return None
        return AddressAdded(address) if kind == _RTM_NEWADDR else AddressRemoved(address)
    if kind in (_RTM_NEWLINK, _RTM_DELLINK):
        link = _link(datagram, start, end)
        if link is None:
            return None
        return LinkChanged(link) if kind == _RTM_NEWLINK else LinkRemoved(link.index)
    return None


def identity(event: Event) -> object:
    """What an event is about: the same link, or the same address."""
    match event:
        case LinkChanged(link):
            return link.index
        case LinkRemoved(index):
            return index
        case AddressAdded(address) | AddressRemoved(address):
            return address.index, address.address, address.prefix_length
        case NextHopsChanged() | PortsClosed():
            return type(event)


def _attributes(datagram: bytes, at: int, end: int, wanted: frozenset[int]) -> dict[int, bytes]:
    found = {}
    while end - at >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(datagram, at)
        if not ATTRIBUTE.size <= length <= end - at:
            raise NetlinkMalformed(f"a netlink attribute says {length} bytes where {end - at} are")
        if kind in wanted:
            found[kind] = datagram[at + ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    return found


def _link(datagram: bytes, start: int, end: int) -> Link | None:
    if end - start < _LINK_HEADER.size:
        raise NetlinkMalformed(f"a link message of {end - start} bytes")
    family, _, index, flags, _ = _LINK_HEADER.unpack_from(datagram, start)
    # With a family (AF_BRIDGE) the message is about a bridge's port: its end is not the end of the link.
    if family != socket.AF_UNSPEC:
        return None
    attributes = _attributes(datagram, start + _LINK_HEADER.size, end, _LINK_ATTRIBUTES)
    # Events of the wireless extensions come as link messages that lack most of what a link has.
    if _IFLA_IFNAME not in attributes or _IFLA_WIRELESS in attributes:
        return None
    return Link(
        index=index,
        name=attributes[_IFLA_IFNAME].rstrip(b"\0").decode(errors="replace"),
        admin_up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP and flags & _IFF_RUNNING),
        mac=attributes.get(_IFLA_ADDRESS, b""),
        loopback=bool(flags & _IFF_LOOPBACK),
        answers_arp=not flags & _IFF_NOARP,
        mtu=int.from_bytes(attributes.get(_IFLA_MTU, b""), sys.byteorder),
        controller=int.from_bytes(attributes.get(_IFLA_MASTER, b""), sys.byteorder),
        carrier_down_count=int.from_bytes(attributes.get(_IFLA_CARRIER_DOWN_COUNT, b""), sys.byteorder),
    )


def _address(datagram: bytes, start: int, end: int) -> LinkAddress | None:
    if end - start < _ADDRESS_HEADER.size:
        raise NetlinkMalformed(f"an address message of {end - start} bytes")
    family, prefix_length, flags, scope, index = _ADDRESS_HEADER.unpack_from(datagram, start)
    width = WIDTHS.get(family)
    if width is None:
        return None
    attributes = _attributes(datagram, start + _ADDRESS_HEADER.size, end, _ADDRESS_ATTRIBUTES)
    # On a point-to-point link IFA_ADDRESS is the other end's.
    address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if address is None:  # 0.0.0.0
        return None
    lifetimes = attributes.get(_IFA_CACHEINFO, b"")
    protocol = attributes.get(_IFA_PROTO)
    try:
        if _IFA_FLAGS in attributes:
            (flags,) = _WORD.unpack(attributes[_IFA_FLAGS])
        valid_seconds = _LIFETIMES.unpack(lifetimes)[1] if lifetimes else _FOREVER
    except struct.error as error:
        raise NetlinkMalformed(f"an address message: {error}") from error
    if len(address) != width or prefix_length > width * 8:
        raise NetlinkMalformed(f"an address of {len(address)} bytes with prefix length {prefix_length}")
    return LinkAddress(
        index=index,
        family=family,
        address=address,
        prefix_length=prefix_length,
        protocol=protocol[0] if protocol else 0,
        flags=flags,
        scope=scope,
        valid_seconds=None if valid_seconds == _FOREVER else valid_seconds,
    )


def next_hops_in(kind: int, datagram: bytes, start: int, end: int) -> Iterator[NextHop]:
    """Through what the route in a message leads, of whichever table; nothing for messages of other kinds.

    A route whose next hops are an object of their own has them too, as long as net.ipv4.nexthop_compat_mode is on,
    which is the default (net/ipv4/fib_semantics.c, fib_dump_info). Raises NetlinkMalformed.
    """
    if kind != _RTM_NEWROUTE:
        return
    if end - start < _ROUTE.size:
        raise NetlinkMalformed(f"a route message of {end - start} bytes")
    header = _ROUTE.unpack_from(datagram, start)
    if header[7] != _RTN_UNICAST or header[8] & _RTM_F_CLONED:
        return
    attributes = _attributes(datagram, start + _ROUTE.size, end, _GATEWAY_ATTRIBUTES)
    index = int.from_bytes(attributes.get(_RTA_OIF, b""), sys.byteorder)
    yield from _gateways(index, attributes)
    several = attributes.get(_RTA_MULTIPATH, b"")
    at = 0
    while len(several) - at >= _NEXT_HOP.size:
        length, _, _, index = _NEXT_HOP.unpack_from(several, at)
        if not _NEXT_HOP.size <= length <= len(several) - at:
            raise NetlinkMalformed(f"a next hop says {length} bytes where {len(several) - at} are")
        yield from _gateways(index, _attributes(several, at + _NEXT_HOP.size, at + length, _GATEWAY_ATTRIBUTES))
        at += length + 3 & ~3


def _gateways(index: int, attributes: dict[int, bytes]) -> Iterator[NextHop]:
    gateway = attributes.get(_RTA_GATEWAY) or attributes.get(_RTA_VIA, b"")[_VIA_FAMILY.size :]
    if len(gateway) in FAMILIES and any(gateway):
        yield NextHop(index, gateway)


def _address_body(index: int, address: bytes, prefix_length: int, scope: int = 0) -> bytes:
    family = FAMILIES[len(address)]
    header = _ADDRESS_HEADER.pack(family, prefix_length, 0, scope, index)
    return header + attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address)


def address_request(
    index: int,
    address: bytes,
    prefix_length: int,
    *,
    valid_seconds: int,
    exclusive: bool = False,
    sequence: int = 0,
) -> bytes:
    """The request that adds an address for `valid_seconds`, or renews it for that long from now on.

    The kernel removes it by itself when nobody renews it, and makes no route to its subnet. It carries
    ADDRESS_PROTOCOL. The host's own connections do not take it for their source: an IPv6 address is deprecated (RFC
    6724, rule 3), an IPv4 address of full length has the scope of the host (net/ipv4/devinet.c, inet_select_addr). An
    IPv6 address is usable at once (no duplicate address detection, which would find the old holder). `exclusive` only
    adds: where the address is already, the answer is EEXIST. A renewal takes over whatever is there, and with it an
    address of somebody else.
    """
    is_ipv6 = len(address) == 16
    flags = (_IFA_F_NODAD if is_ipv6 else 0) | _IFA_F_NOPREFIXROUTE
    scope = _RT_SCOPE_HOST if prefix_length == 32 and not is_ipv6 else 0
    body = b"".join(
        (
            _address_body(index, address, prefix_length, scope),
            attribute(_IFA_CACHEINFO, _LIFETIMES.pack(0 if is_ipv6 else valid_seconds, valid_seconds, 0, 0)),
            attribute(_IFA_FLAGS, _WORD.pack(flags)),
            attribute(_IFA_PROTO, bytes((ADDRESS_PROTOCOL,))),
        )
    )
    return request(_RTM_NEWADDR, ACK | CREATE | (_EXCLUSIVE if exclusive else _REPLACE), sequence, body)


def address_removal(index: int, address: bytes, prefix_length: int) -> bytes:
    """The request that removes an address."""
    return request(_RTM_DELADDR, ACK, 0, _address_body(index, address, prefix_length))


def route_addition(index: int, network: bytes, prefix_length: int, source: bytes, valid_seconds: int) -> bytes:
    """The request that adds a route to a VIP's subnet, with the VIP as source, or renews it.

    Over IPv4 it goes with its source, and each source has one of its own; where it is already, the answer is EEXIST.
    Over IPv6 there is one for all sources, and it is gone `valid_seconds` after the last renewal.
    """
    is_ipv6 = len(network) == 16
    expires = attribute(_RTA_EXPIRES, _WORD.pack(valid_seconds)) if is_ipv6 else b""
    flags = ACK | CREATE | (_REPLACE if is_ipv6 else APPEND)
    return request(_RTM_NEWROUTE, flags, 0, _route_body(index, network, prefix_length, source) + expires)


def route_removal(index: int, network: bytes, prefix_length: int, source: bytes) -> bytes:
    """The request that removes a route that `route_addition` made; where it is gone, the answer is ESRCH."""
    return request(_RTM_DELROUTE, ACK, 0, _route_body(index, network, prefix_length, source))


def _route_body(index: int, network: bytes, prefix_length: int, source: bytes) -> bytes:
    is_ipv6 = len(network) == 16
    family, scope = (socket.AF_INET6, 0) if is_ipv6 else (socket.AF_INET, _RT_SCOPE_LINK)
    header = _ROUTE.pack(family, prefix_length, 0, 0, _RT_TABLE_MAIN, ADDRESS_PROTOCOL, scope, _RTN_UNICAST, 0)
    return b"".join(
        (
            header,
            attribute(_RTA_DST, network),
            attribute(_RTA_OIF, _WORD.pack(index)),
            attribute(_RTA_PREFSRC, source),
            attribute(_RTA_PRIORITY, _WORD.pack(ROUTE_METRIC)),
        )
    )


def link_dump_request(sequence: int) -> bytes:
    """The request for all links, without their statistics."""
    body = _LINK_HEADER.pack(0, 0, 0, 0, 0) + attribute(_IFLA_EXT_MASK, _WORD.pack(_SKIP_STATISTICS))
    return request(_RTM_GETLINK, DUMP, sequence, body)


def address_dump_request(sequence: int) -> bytes:
    """The request for all addresses of both families."""
    return request(_RTM_GETADDR, DUMP, sequence, _ADDRESS_HEADER.pack(0, 0, 0, 0, 0))


def route_dump_request(sequence: int) -> bytes:
    """The request for all routes of every family and table."""
    return request(_RTM_GETROUTE, DUMP, sequence, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))


def route_request(index: int, address: bytes, sequence: int) -> bytes:
    """RTM_GETROUTE: which route the kernel would take to an address on this link (rtnetlink(7), struct rtmsg)."""
    family = FAMILIES[len(address)]
    body = _ROUTE.pack(family, 8 * len(address), 0, 0, 0, 0, 0, 0, 0)
    body += attribute(_RTA_DST, address) + attribute(_RTA_OIF, index.to_bytes(4, sys.byteorder))
    return request(_RTM_GETROUTE, 0, sequence, body)


def leads_here(kind: int, datagram: bytes, start: int) -> bool:
    """Whether the answer to a route request is that the address is this host's own."""
    return kind == _RTM_NEWROUTE and _ROUTE.unpack_from(datagram, start)[7] == _RTN_LOCAL


def batch(requests: Sequence[bytes], first_sequence: int) -> bytearray:
    """The requests in one piece, numbered from `first_sequence`; only the last asks for an acknowledgement.

    The kernel carries them out in order and reports every error by itself, so the last acknowledgement says that all
    has been said.
    """
    joined = bytearray().join(requests)
    at = 0
    last = len(requests) - 1
    for offset, one in enumerate(requests):
        (flags,) = _FLAGS.unpack_from(one, _FLAGS_AT)
        flags = flags | ACK if offset == last else flags & ~ACK
        _FLAGS_AND_SEQUENCE.pack_into(joined, at + _FLAGS_AT, flags, first_sequence + offset)
        at += len(one)
    return joined


# The renewals of our own addresses would wake the engine for every address, several times a second.
ALL_BUT_OUR_RENEWALS: tuple[filters.Instruction, ...] = (
    (filters.LOAD_HALF, 0, 0, 4),
    (filters.JUMP_IF_EQUAL, 0, 7, socket.htons(_RTM_NEWADDR)),
    (filters.LOAD_IMMEDIATE, 0, 0, HEADER.size + _ADDRESS_HEADER.size),
    (filters.LOAD_INDEX_IMMEDIATE, 0, 0, _IFA_PROTO),
    (filters.LOAD_WORD, 0, 0, filters.FIND_NETLINK_ATTRIBUTE),
    (filters.JUMP_IF_EQUAL, 3, 0, 0),
    (filters.COPY_TO_INDEX, 0, 0, 0),
    (filters.LOAD_BYTE_INDEXED, 0, 0, ATTRIBUTE.size),
    (filters.JUMP_IF_EQUAL, 1, 0, ADDRESS_PROTOCOL),
    filters.KEEP_WHOLE,
    filters.DROP,
)
"""The events of links and addresses without the additions and renewals of our own addresses."""

_ROUTE_ATTRIBUTES_AT = HEADER.size + _ROUTE.size


def _keep_if_it_has(attribute: int) -> tuple[filters.Instruction, ...]:
    return (
        (filters.LOAD_IMMEDIATE, 0, 0, _ROUTE_ATTRIBUTES_AT),
        (filters.LOAD_INDEX_IMMEDIATE, 0, 0, attribute),
        (filters.LOAD_WORD, 0, 0, filters.FIND_NETLINK_ATTRIBUTE),
        (filters.JUMP_IF_EQUAL, 1, 0, 0),
        filters.KEEP_WHOLE,
    )


# Routes to single pods, without a gateway, come and go all the time.
ROUTES_WITH_NEXT_HOPS: tuple[filters.Instruction, ...] = (
    *_keep_if_it_has(_RTA_GATEWAY),
    *_keep_if_it_has(_RTA_MULTIPATH),
    *_keep_if_it_has(_RTA_VIA),
    *_keep_if_it_has(_RTA_NH_ID),
    filters.DROP,
)
"""The events of routes that lead through somebody."""
