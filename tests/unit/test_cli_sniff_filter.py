"""The kernel's filter, asked through a socket that needs no right: what it keeps arrives, what it drops does not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import VRRP, VRRPv3

from holdfast_cli.sniff import filter as kernel_filter

V4 = IP(src="10.0.0.1", dst="224.0.0.18", ttl=255)
V6 = IPv6(src="fe80::1", dst="ff02::12", hlim=255)
MARK = b"\0" * 12 + b"\x08\x06" + b"the last one"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.settimeout(5)
        kernel_filter.attach(receiver)
        yield sender, receiver


def is_kept(pair: tuple[socket.socket, socket.socket], frame: bytes) -> bool:
    sender, receiver = pair
    sender.send(frame)
    sender.send(MARK)
    first = receiver.recv(4096)
    if first == MARK:
        return False
    assert first == frame
    assert receiver.recv(4096) == MARK
    return True


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(V4 / VRRP(addrlist=["10.0.0.9"]), id="v2"),
        pytest.param(V4 / VRRPv3(addrlist=["10.0.0.9"]), id="v3"),
        pytest.param(V6 / VRRPv3(addrlist=["fe80::9"]), id="v3 over IPv6"),
        pytest.param(ARP(psrc="10.0.0.9", pdst="10.0.0.9"), id="ARP"),
        pytest.param(V6 / ICMPv6ND_NS(), id="solicitation"),
        pytest.param(V6 / ICMPv6ND_NA(), id="advertisement"),
    ],
)
def test_what_sniff_decodes_is_kept(pair: tuple[socket.socket, socket.socket], packet: Any) -> None:
    assert is_kept(pair, bytes(Ether(dst="01:00:5e:00:00:12", src="02:00:00:00:00:01") / packet))


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(V4 / UDP(dport=112) / bytes(100), id="UDP"),
        pytest.param(V4 / ICMP(), id="ICMP"),
        pytest.param(V6 / UDP(dport=112), id="UDP over IPv6"),
        pytest.param(V6 / ICMPv6EchoRequest(), id="ICMPv6 that is no neighbour discovery"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_the_rest_of_the_traffic_is_not_queued(pair: tuple[socket.socket, socket.socket], packet: Any) -> None:
    assert not is_kept(pair, bytes(Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / packet))
