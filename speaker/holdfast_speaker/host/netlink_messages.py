"""Messages of netlink(7) and their attributes, whatever the family of the socket (linux/netlink.h).

The numbers of headers are in host order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from holdfast_api.errors import EnvironmentFailure

NLMSG_ERROR = 2
NLMSG_DONE = 3

REQUEST = 0x001
ACK = 0x004
DUMP_INTERRUPTED = 0x010
DUMP = 0x300
CREATE = 0x400
APPEND = 0x800

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")


class NetlinkMalformed(EnvironmentFailure):
    """A netlink message that contradicts itself."""


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Type, flags, sequence, and where the payload starts and ends, of each message."""
    at = 0
    size = len(datagram)
    while at < size:
        if size - at < HEADER.size:
            raise NetlinkMalformed(f"a netlink header of {size - at} bytes")
        length, kind, flags, sequence, _ = HEADER.unpack_from(datagram, at)
        if not HEADER.size <= length <= size - at:
            raise NetlinkMalformed(f"a netlink message says {length} bytes where {size - at} are")
        yield kind, flags, sequence, at + HEADER.size, at + length
        at += length + 3 & ~3


def error_code(datagram: bytes, start: int, end: int) -> int:
    """The errno in the payload of NLMSG_ERROR or NLMSG_DONE; 0 for success. Raises NetlinkMalformed."""
    if end - start < _ERROR.size:
        raise NetlinkMalformed(f"a netlink answer of {end - start} bytes")
    code: int = _ERROR.unpack_from(datagram, start)[0]
    return -code


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute, filled up to where the next one begins."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def request(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A message that asks the kernel for something."""
    return HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, sequence, 0) + body
