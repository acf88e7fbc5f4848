"""Classic BPF programs that the kernel runs before it queues a message for a socket (socket(7), SO_ATTACH_FILTER)."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand: struct sock_filter of linux/filter.h."""

# linux/bpf_common.h and linux/filter.h
LOAD_WORD = 0x20
LOAD_HALF = 0x28
LOAD_BYTE = 0x30
LOAD_BYTE_INDEXED = 0x50
LOAD_IMMEDIATE = 0x00
LOAD_INDEX_IMMEDIATE = 0x01
JUMP_IF_EQUAL = 0x15
COPY_TO_INDEX = 0x07
RETURN = 0x06
FIND_NETLINK_ATTRIBUTE = 0xFFFFF000 + 12
"""SKF_AD_OFF + SKF_AD_NLATTR: load the offset of the attribute of type X that lies at A or after it; 0 for none."""

DROP_ALL: tuple[Instruction, ...] = ((RETURN, 0, 0, 0),)
KEEP_WHOLE: Instruction = (RETURN, 0, 0, 0xFFFFFFFF)
DROP: Instruction = (RETURN, 0, 0, 0)

NEIGHBOUR_ANSWERS: tuple[Instruction, ...] = (
    (LOAD_HALF, 0, 0, 12),  # EtherType
    (JUMP_IF_EQUAL, 0, 2, 0x0806),
    (LOAD_HALF, 0, 0, 20),  # the operation of ARP
    (JUMP_IF_EQUAL, 5, 6, 2),  # a reply
    (JUMP_IF_EQUAL, 0, 5, 0x86DD),
    (LOAD_BYTE, 0, 0, 20),  # the next header of IPv6
    (JUMP_IF_EQUAL, 0, 3, 58),  # ICMPv6
    (LOAD_BYTE, 0, 0, 54),  # its type
    (JUMP_IF_EQUAL, 0, 1, 136),  # a neighbour advertisement
    KEEP_WHOLE,
    DROP,
)
"""Of the frames of an Ethernet link, the ARP replies and neighbour advertisements."""

_PACKET_TYPE = 0xFFFFF000 + 4
_PROTOCOL = 0xFFFFF000
"""SKF_AD_OFF + SKF_AD_PKTTYPE and SKF_AD_PROTOCOL: load what the kernel knows of a packet beside its bytes."""

VRRP_OF_THIS_HOST: tuple[Instruction, ...] = (
    (LOAD_WORD, 0, 0, _PACKET_TYPE),
    (JUMP_IF_EQUAL, 0, 8, 4),  # PACKET_OUTGOING
    (LOAD_WORD, 0, 0, _PROTOCOL),
    (JUMP_IF_EQUAL, 0, 2, 0x0800),
    (LOAD_BYTE, 0, 0, 9),  # the protocol of IPv4
    (JUMP_IF_EQUAL, 3, 4, 112),
    (JUMP_IF_EQUAL, 0, 3, 0x86DD),
    (LOAD_BYTE, 0, 0, 6),  # the next header of IPv6
    (JUMP_IF_EQUAL, 0, 1, 112),
    KEEP_WHOLE,
    DROP,
)
"""Of packets without the header of their link, the VRRP that this host sends."""

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_INSTRUCTION = struct.Struct("@HBBI")
_PROGRAM = struct.Struct("@HP")


def attach(to: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the kernel queue for this socket only what the program keeps. Raises OSError where it refuses."""
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*instruction) for instruction in program))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(len(program), ctypes.addressof(code)))


def detach(of: socket.socket) -> None:
    """Let the kernel queue everything again. Raises OSError where there is no filter."""
    of.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
