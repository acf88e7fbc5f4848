"""The kernel's part: which frames of an Ethernet interface are queued at all (socket(7), SO_ATTACH_FILTER).

scapy would need libpcap to make such a program from an expression.
"""

from __future__ import annotations

import ctypes
import socket
import struct

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_INSTRUCTION = struct.Struct("@HBBI")  # struct sock_filter of linux/filter.h: code, jump if true, if false, operand
_PROGRAM = struct.Struct("@HP")
_LOAD_HALF, _LOAD_BYTE, _EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x06  # linux/bpf_common.h

_VRRP_ARP_AND_NEIGHBOURS = (
    (_LOAD_HALF, 0, 0, 12),  # EtherType; the kernel has taken the VLAN tag off
    (_EQUAL, 10, 0, 0x0806),  # ARP: keep
    (_EQUAL, 0, 2, 0x0800),
    (_LOAD_BYTE, 0, 0, 23),  # IPv4: its protocol
    (_EQUAL, 7, 8, 112),  # VRRP: keep, else drop
    (_EQUAL, 0, 7, 0x86DD),
    (_LOAD_BYTE, 0, 0, 20),  # IPv6: its next header
    (_EQUAL, 4, 0, 112),  # VRRP: keep
    (_EQUAL, 0, 4, 58),
    (_LOAD_BYTE, 0, 0, 54),  # ICMPv6: its type
    (_EQUAL, 1, 0, 135),  # neighbour solicitation: keep
    (_EQUAL, 0, 1, 136),  # neighbour advertisement: keep
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)


def attach(to: socket.socket) -> None:
    """Queue only VRRP, ARP and neighbour discovery. Raises OSError where the kernel refuses."""
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*step) for step in _VRRP_ARP_AND_NEIGHBOURS))
    program = _PROGRAM.pack(len(_VRRP_ARP_AND_NEIGHBOURS), ctypes.addressof(code))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
