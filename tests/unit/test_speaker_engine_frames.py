"""Frames against scapy as the independent reader and writer."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether

from holdfast_speaker.engine import frames
from holdfast_speaker.engine.ports import NeighbourAnswer

MAC = bytes.fromhex("02005e000133")
MAC_TEXT = "02:00:5e:00:01:33"
V4 = socket.inet_aton("192.168.213.200")
V4_TEXT = "192.168.213.200"
V6_TEXT = "2001:db8::c8"
V6 = socket.inet_pton(socket.AF_INET6, V6_TEXT)

macs = st.binary(min_size=6, max_size=6)
v6_addresses = st.binary(min_size=16, max_size=16)


def test_a_gratuitous_arp_is_the_request_that_keepalived_sends():
    oracle = Ether(dst="ff:ff:ff:ff:ff:ff", src=MAC_TEXT) / ARP(
        op="who-has", hwsrc=MAC_TEXT, psrc=V4_TEXT, hwdst="ff:ff:ff:ff:ff:ff", pdst=V4_TEXT
    )
    assert frames.gratuitous_arp(MAC, V4) == bytes(oracle)


def test_an_arp_request_asks_everybody_for_the_target():
    oracle = Ether(dst="ff:ff:ff:ff:ff:ff", src=MAC_TEXT) / ARP(
        op="who-has", hwsrc=MAC_TEXT, psrc=V4_TEXT, hwdst="00:00:00:00:00:00", pdst="192.168.213.1"
    )
    assert frames.arp_request(MAC, V4, socket.inet_aton("192.168.213.1")) == bytes(oracle)


@pytest.mark.parametrize("router", [False, True])
def test_an_unsolicited_neighbour_advertisement_overrides_and_is_not_solicited(router):
    oracle = (
        Ether(dst="33:33:00:00:00:01", src=MAC_TEXT)
        / IPv6(src=V6_TEXT, dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(R=int(router), S=0, O=1, tgt=V6_TEXT)
        / ICMPv6NDOptDstLLAddr(lladdr=MAC_TEXT)
    )
    assert frames.unsolicited_neighbour_advertisement(MAC, V6, router) == bytes(oracle)


def test_a_neighbour_solicitation_goes_to_the_group_of_the_target():
    oracle = (
        Ether(dst="33:33:ff:00:00:c8", src=MAC_TEXT)
        / IPv6(src="fe80::1", dst="ff02::1:ff00:c8", hlim=255)
        / ICMPv6ND_NS(tgt=V6_TEXT)
        / ICMPv6NDOptSrcLLAddr(lladdr=MAC_TEXT)
    )
    source = socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert frames.neighbour_solicitation(MAC, source, V6) == bytes(oracle)


@given(mac=macs, address=v6_addresses, router=st.booleans())
def test_the_checksum_of_every_neighbour_advertisement_is_scapys(mac, address, router):
    frame = frames.unsolicited_neighbour_advertisement(mac, address, router)
    rebuilt = Ether(frame)
    del rebuilt[ICMPv6ND_NA].cksum
    assert bytes(rebuilt) == frame


def _arp_reply() -> bytes:
    return bytes(
        Ether(dst=MAC_TEXT, src="02:00:00:00:00:09")
        / ARP(op="is-at", hwsrc="02:00:00:00:00:09", psrc="192.168.213.1", hwdst=MAC_TEXT, pdst=V4_TEXT)
    )


def _advertisement(**ip: object) -> bytes:
    header = IPv6(**{"src": "fe80::9", "dst": "fe80::1", "hlim": 255, **ip})
    return bytes(Ether(dst=MAC_TEXT) / header / ICMPv6ND_NA(S=1, tgt=V6_TEXT))


def test_an_arp_reply_answers_for_its_sender():
    told = NeighbourAnswer(socket.inet_aton("192.168.213.1"), _arp_reply()[6:12])
    assert frames.neighbour_answer(_arp_reply()) == told
    assert frames.neighbour_answer(_arp_reply() + bytes(18)) == told


def test_a_neighbour_advertisement_answers_for_its_target():
    told = NeighbourAnswer(V6, _advertisement()[6:12])
    assert frames.neighbour_answer(_advertisement()) == told
    assert frames.neighbour_answer(_advertisement() + bytes(4)) == told


def test_an_arp_request_is_no_answer():
    assert frames.neighbour_answer(frames.gratuitous_arp(MAC, V4)) is None


def test_a_neighbour_solicitation_is_no_answer():
    assert frames.neighbour_answer(frames.neighbour_solicitation(MAC, V6, V6)) is None


def test_a_neighbour_advertisement_that_was_forwarded_is_no_answer():
    assert frames.neighbour_answer(_advertisement(hlim=254)) is None


def test_a_neighbour_advertisement_with_a_wrong_checksum_is_no_answer():
    frame = bytearray(_advertisement())
    frame[-1] ^= 1
    assert frames.neighbour_answer(bytes(frame)) is None


@pytest.mark.parametrize("whole", [_arp_reply(), _advertisement()], ids=["ARP", "NA"])
def test_a_truncated_answer_is_no_answer(whole):
    assert [frames.neighbour_answer(whole[:length]) for length in range(len(whole))] == [None] * len(whole)


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=90).map(lambda tail: bytes(12) + b"\x86\xdd" + tail)))
def test_no_bytes_make_reading_an_answer_fail(frame):
    answer = frames.neighbour_answer(frame)
    assert answer is None or (len(answer.address) in (4, 16) and len(answer.mac) == 6)


def test_a_neighbour_probe_is_as_duplicate_address_detection_sends_it():
    probe = Ether(frames.neighbour_probe(MAC, V6))
    assert (probe[IPv6].src, probe[IPv6].hlim, probe[ICMPv6ND_NS].tgt) == ("::", 255, V6_TEXT)
    assert probe[IPv6].dst.startswith("ff02::1:ff")
    assert not probe.haslayer("ICMPv6NDOptSrcLLAddr")
    checked = Ether(bytes(probe))
    del checked[ICMPv6ND_NS].cksum
    assert Ether(bytes(checked))[ICMPv6ND_NS].cksum == probe[ICMPv6ND_NS].cksum
