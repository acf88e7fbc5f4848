"""The messages of nf_tables that the table `holdfast` takes (linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h).

Requests and answers as bytes; nothing here opens a socket. Unlike routing netlink, numbers in attributes are in network
order. As `nft list table inet holdfast` shows it:

    table inet holdfast {
        set ipv4 { type ipv4_addr }
        set ipv6 { type ipv6_addr }
        chain closed {
            iif "lo" accept
            meta nfproto ipv4 meta l4proto icmp accept
            meta nfproto ipv6 meta l4proto ipv6-icmp accept
            drop
        }
        chain input {
            type filter hook input priority 150; policy accept;
            ip daddr @ipv4 goto closed
            ip6 daddr @ipv6 goto closed
        }
    }
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from holdfast_speaker.host.netlink_messages import (
    ACK,
    APPEND,
    ATTRIBUTE,
    CREATE,
    DUMP,
    DUMP_INTERRUPTED,
    NLMSG_DONE,
    NLMSG_ERROR,
    NetlinkMalformed,
    attribute,
    error_code,
    messages,
    request,
)

TABLE: Final = b"holdfast"

PRIORITY: Final = 150
"""After whoever takes packets for a VIP out of the input hook: IPVS does at 98 and 99 (net/netfilter/ipvs/ip_vs_core.c:
NF_IP_PRI_NAT_SRC less two and one). Rules of others that answer with an error are at 0, and come before it, too."""

_VERSION: Final = b"holdfast 1"
"""The comment of each rule. One that says something else was made by another version."""

_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN = 0, 1, 2, 3, 4
_NEWRULE, _GETRULE, _NEWSET = 6, 7, 9
_NEWSETELEM, _GETSETELEM, _DELSETELEM, _NEWGEN, _GETGEN = 12, 13, 14, 15, 16
_SUBSYSTEM = 10 << 8
_BATCH_BEGIN = 0x10
_BATCH_END = 0x11

_UNSPEC = 0
_INET = 1
_IPV4 = 2
_IPV6 = 10
_NESTED = 0x8000
_KIND = 0x3FFF

_INPUT = b"input"
_CLOSED = b"closed"
_SETS: Final = {4: b"ipv4", 16: b"ipv6"}
_KEY_TYPES = {4: 7, 16: 8}  # as nft names them: ipv4_addr, ipv6_addr
_ELEMENTS_AT_ONCE = 1000  # an attribute is shorter than 64 KiB

_HOOK_LOCAL_IN = 1
_ACCEPT = 1
_DROP = 0
_GOTO = -4 & 0xFFFFFFFF
_VERDICT_REGISTER = 0
_REGISTER = 1
_META_IIF, _META_NFPROTO, _META_L4PROTO = 4, 15, 16
_NETWORK_HEADER = 1
_LOOPBACK = 1  # the index of lo in every network namespace
_ICMP, _ICMPV6 = 1, 58

_FAMILY = struct.Struct(">BBH")
_KEY_AT = 3 * ATTRIBUTE.size
_WORD = struct.Struct(">I")


class Found(NamedTuple):
    """What there is of the table."""

    is_ours: bool
    """It is there, and its chains and rules are as this version makes them."""
    is_there: bool
    handle: bytes = b""
    """The kernel's number of it; one that is made anew has another one."""
    addresses: frozenset[bytes] = frozenset()
    """Those that are closed."""


Change = tuple[int, int, bytes]
"""What of a transaction: its kind, its flags and its body."""


# ----- requests -----


def generation_request(sequence: int) -> bytes:
    """Ask which generation of all rules of this network namespace is in force: it grows with every change."""
    return _message(_GETGEN, 0, _UNSPEC, b"", sequence)


def table_request(sequence: int) -> bytes:
    """Ask for the table; ENOENT where there is none."""
    return _message(_GETTABLE, 0, _INET, _text(1, TABLE), sequence)


def chains_request(sequence: int) -> bytes:
    """Ask for the chains of all tables of the family: their table is an attribute."""
    return _message(_GETCHAIN, DUMP, _INET, b"", sequence)


def rules_request(sequence: int) -> bytes:
    """Ask for the rules of the table."""
    return _message(_GETRULE, DUMP, _INET, _text(1, TABLE), sequence)


def elements_request(width: int, sequence: int) -> bytes:
    """Ask for the addresses of one family that are closed; ENOENT where there is no such set."""
    return _message(_GETSETELEM, DUMP, _INET, _text(1, TABLE) + _text(2, _SETS[width]), sequence)


def transaction(changes: Sequence[Change], generation: int, sequence: int) -> bytes:
    """All of it or nothing, and only as long as that generation is in force (ERESTART otherwise).

    The last change asks for an acknowledgement, whose sequence is `sequence` plus the number of changes.
    """
    begin = _FAMILY.pack(_UNSPEC, 0, 10) + _number(1, generation)
    parts = [request(_BATCH_BEGIN, 0, sequence, begin)]
    for offset, (kind, flags, body) in enumerate(changes, start=1):
        acknowledged = ACK if offset == len(changes) else 0
        parts.append(_message(kind, flags | acknowledged, _INET, body, sequence + offset))
    end = request(_BATCH_END, 0, sequence + len(changes) + 1, _FAMILY.pack(_UNSPEC, 0, 10))
    return b"".join((*parts, end))


def removal() -> list[Change]:
    """The changes that remove the table."""
    return [(_DELTABLE, 0, _text(1, TABLE))]


def replacement(addresses: Collection[bytes], *, is_there: bool) -> list[Change]:
    """The changes that make the table, in the place of one that is there."""
    changes = removal() if is_there else []
    changes.append((_NEWTABLE, CREATE, _text(1, TABLE)))
    for number, (width, name) in enumerate(_SETS.items(), start=1):
        body = _text(1, TABLE) + _text(2, name) + _number(3, 0)
        body += _number(4, _KEY_TYPES[width]) + _number(5, width) + _number(10, number)
        changes.append((_NEWSET, CREATE, body))
    changes.append((_NEWCHAIN, CREATE, _text(1, TABLE) + _text(3, _CLOSED)))
    hook = _nested(4, _number(1, _HOOK_LOCAL_IN) + _number(2, PRIORITY))
    changes.append(
        (_NEWCHAIN, CREATE, _text(1, TABLE) + _text(3, _INPUT) + hook + _number(5, _ACCEPT) + _text(7, b"filter"))
    )
    for chain, expressions in _RULES:
        body = _text(1, TABLE) + _text(2, chain) + _nested(4, b"".join(expressions)) + attribute(7, _COMMENT)
        changes.append((_NEWRULE, CREATE | APPEND, body))
    return changes + additions(addresses)


def additions(addresses: Iterable[bytes]) -> list[Change]:
    """The changes that close these."""
    return [(_NEWSETELEM, CREATE, body) for body in _elements(addresses)]


def subtractions(addresses: Iterable[bytes]) -> list[Change]:
    """The changes that open these."""
    return [(_DELSETELEM, 0, body) for body in _elements(addresses)]


def _elements(addresses: Iterable[bytes]) -> Iterator[bytes]:
    ordered = sorted(addresses)
    for width, name in _SETS.items():
        some = [address for address in ordered if len(address) == width]
        for first in range(0, len(some), _ELEMENTS_AT_ONCE):
            keys = (_nested(1, attribute(1, address)) for address in some[first : first + _ELEMENTS_AT_ONCE])
            yield _text(1, TABLE) + _text(2, name) + _nested(3, b"".join(_nested(1, key) for key in keys))


# ----- answers -----


def generation_in(payload: bytes) -> int:
    """The generation in the answer to a generation_request. Raises NetlinkMalformed."""
    found = dict(_attributes(payload))
    return _value(found.get(1, b""))


def handle_in(payload: bytes) -> bytes:
    """The table's handle in the answer to a table_request. Raises NetlinkMalformed."""
    return dict(_attributes(payload)).get(4, b"")


def is_as_made(chains: Iterable[bytes], rules: Iterable[bytes]) -> bool:
    """Whether chains and rules, each the payload of an answer, are those that `replacement` makes."""
    found = {}
    for payload in chains:
        chain = dict(_attributes(payload))
        if chain.get(1) == TABLE + b"\0":
            found[chain.get(3, b"").rstrip(b"\0")] = (chain.get(4, b""), chain.get(5, b""))
    hook, policy = found.get(_INPUT, (b"", b""))
    where = {kind: _value(value) for kind, value in _in(hook, 0)} if hook else {}
    if found.keys() != {_INPUT, _CLOSED} or _value(policy) != _ACCEPT:
        return False
    if (where.get(1), where.get(2)) != (_HOOK_LOCAL_IN, PRIORITY):
        return False
    made = []
    for payload in rules:
        rule = dict(_attributes(payload))
        made.append((rule.get(2, b"").rstrip(b"\0"), rule.get(7, b"")))
    return sorted(made) == sorted((chain, _COMMENT) for chain, _ in _RULES)


def addresses_in(payload: bytes, width: int) -> set[bytes]:
    """The addresses in one answer to an elements_request. Raises NetlinkMalformed.

    The elements of a set are alike: each is a key, in three headers, and what follows it. There are up to 10,000.
    """
    elements = dict(_attributes(payload)).get(3, b"")
    if not elements:
        return set()
    length = ATTRIBUTE.unpack_from(elements)[0] + 3 & ~3
    heads = {elements[at : at + _KEY_AT] for at in range(0, len(elements), length)}
    if length < _KEY_AT + width or len(elements) % length or len(heads) != 1:
        raise NetlinkMalformed("elements of a set of nf_tables that are not alike")
    return {elements[at + _KEY_AT : at + _KEY_AT + width] for at in range(0, len(elements), length)}


def answers_in(datagram: bytes, sequence: int) -> Iterator[tuple[bool, int, bytes]]:
    """What a datagram says to the request of that number: whether it is the last word, an errno, and a payload.

    A dump that was interrupted by a change says so with EINTR. Raises NetlinkMalformed.
    """
    for kind, flags, number, start, end in messages(datagram):
        if number != sequence:
            continue
        if flags & DUMP_INTERRUPTED:
            yield False, 4, b""
        if kind in (NLMSG_ERROR, NLMSG_DONE):
            yield True, error_code(datagram, start, end), b""
        else:
            yield False, 0, datagram[start:end]


def outcome_in(datagram: bytes, first: int, last: int) -> int | None:
    """The errno of a transaction, of which the numbers are from `first` to `last`; None: this does not say it yet."""
    for kind, _, number, start, end in messages(datagram):
        if kind == NLMSG_ERROR and first <= number <= last:
            code = error_code(datagram, start, end)
            if code or number == last:
                return code
    return None


# ----- bytes -----


def _nested(kind: int, value: bytes) -> bytes:
    return attribute(kind | _NESTED, value)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, _WORD.pack(value))


def _text(kind: int, value: bytes) -> bytes:
    return attribute(kind, value + b"\0")


def _message(kind: int, flags: int, family: int, body: bytes, sequence: int) -> bytes:
    return request(_SUBSYSTEM | kind, flags, sequence, _FAMILY.pack(family, 0, 0) + body)


def _attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    return _in(payload, _FAMILY.size)


def _in(payload: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    end = len(payload)
    while end - at >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(payload, at)
        if not ATTRIBUTE.size <= length <= end - at:
            raise NetlinkMalformed(f"an attribute of nf_tables says {length} bytes where {end - at} are")
        yield kind & _KIND, payload[at + ATTRIBUTE.size : at + length]
        at += length + 3 & ~3


def _value(value: bytes) -> int:
    return int.from_bytes(value, "big")


# ----- the rules -----


def _expression(name: bytes, body: bytes) -> bytes:
    return _nested(1, _text(1, name) + _nested(2, body))


def _meta_is(key: int, value: bytes) -> bytes:
    load = _expression(b"meta", _number(2, key) + _number(1, _REGISTER))
    return load + _expression(b"cmp", _number(1, _REGISTER) + _number(2, 0) + _nested(3, attribute(1, value)))


def _verdict(code: int, chain: bytes = b"") -> bytes:
    verdict = _number(1, code) + (_text(2, chain) if chain else b"")
    return _expression(b"immediate", _number(1, _VERDICT_REGISTER) + _nested(2, _nested(2, verdict)))


def _destination_is_in(width: int) -> bytes:
    offset = {4: 16, 16: 24}[width]
    place = _number(2, _NETWORK_HEADER) + _number(3, offset) + _number(4, width)
    load = _expression(b"payload", _number(1, _REGISTER) + place)
    return load + _expression(b"lookup", _text(1, _SETS[width]) + _number(2, _REGISTER))


_COMMENT: Final = bytes((0, len(_VERSION) + 1)) + _VERSION + b"\0"
_IS_IPV4 = _meta_is(_META_NFPROTO, bytes((_IPV4,)))
_IS_IPV6 = _meta_is(_META_NFPROTO, bytes((_IPV6,)))
_RULES: Final = (
    (_CLOSED, (_meta_is(_META_IIF, struct.pack("=I", _LOOPBACK)), _verdict(_ACCEPT))),
    (_CLOSED, (_IS_IPV4, _meta_is(_META_L4PROTO, bytes((_ICMP,))), _verdict(_ACCEPT))),
    (_CLOSED, (_IS_IPV6, _meta_is(_META_L4PROTO, bytes((_ICMPV6,))), _verdict(_ACCEPT))),
    # A packet whose protocol nobody can tell (a later fragment over IPv6) gets here, too.
    (_CLOSED, (_verdict(_DROP),)),
    (_INPUT, (_IS_IPV4, _destination_is_in(4), _verdict(_GOTO, _CLOSED))),
    (_INPUT, (_IS_IPV6, _destination_is_in(16), _verdict(_GOTO, _CLOSED))),
)
