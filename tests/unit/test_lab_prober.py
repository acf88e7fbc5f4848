"""The prober's packets and its file."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, IPOption_Router_Alert
from scapy.layers.inet6 import ICMPv6EchoReply, IPv6
from scapy.layers.l2 import Ether

from holdfast_lab.prober import (
    CAPACITY,
    LOST_AFTER_NS,
    NO_ANSWER,
    ProbeFile,
    echo_request,
    reply_number,
)

MAC = {"src": "02:68:66:00:00:0b", "dst": "02:68:66:00:00:64"}


@pytest.fixture
def probes(tmp_path):
    made = ProbeFile(tmp_path / "probes", create=True)
    yield made
    made.close()


@pytest.mark.parametrize("number", [0, 1, 0xFFFF, 0x10000, 123_456_789])
def test_an_echo_request_is_what_scapy_builds(number):
    ours = echo_request(4711, number, is_ipv6=False)
    theirs = ICMP(ours)
    del theirs.chksum
    assert bytes(theirs) == ours
    assert (theirs.type, theirs.id, theirs.seq) == (8, 4711, number & 0xFFFF)


@pytest.mark.parametrize("number", [0, 0xFFFF, 123_456_789])
@pytest.mark.parametrize("options", [[], [IPOption_Router_Alert()]])
def test_an_answer_is_read_back(number, options):
    request = echo_request(4711, number, is_ipv6=False)
    header = IP(src="10.77.0.200", dst="10.77.0.100", options=options)
    frame = bytes(Ether(**MAC) / header / ICMP(type=0, id=4711, seq=number & 0xFFFF) / request[8:])
    assert reply_number(frame, 4711, is_ipv6=False) == number
    assert reply_number(frame, 4712, is_ipv6=False) is None


@pytest.mark.parametrize("number", [0, 0xFFFF, 123_456_789])
def test_an_answer_over_ipv6_is_read_back(number):
    request = echo_request(4711, number, is_ipv6=True)
    reply = ICMPv6EchoReply(id=4711, seq=number & 0xFFFF, data=request[8:])
    frame = bytes(Ether(**MAC) / IPv6(src="fd00::9", dst="fd00::64") / reply)
    assert reply_number(frame, 4711, is_ipv6=True) == number
    assert reply_number(frame, 1, is_ipv6=True) is None


def test_what_is_no_answer_is_passed_over():
    request = bytes(Ether(**MAC) / IP() / echo_request(4711, 5, is_ipv6=False))
    assert reply_number(request, 4711, is_ipv6=False) is None
    for is_ipv6 in (False, True):
        for length in range(len(request)):
            assert reply_number(request[:length], 4711, is_ipv6=is_ipv6) is None


def test_answers_in_time_count_and_late_ones_do_not(probes):
    probes.begin(1000)
    probes.sent(0, 1000)
    probes.sent(1, 2000)
    probes.answered(0, 1, 1000 + LOST_AFTER_NS)
    probes.answered(1, 2, 2001 + LOST_AFTER_NS)
    assert (probes.started_ns, probes.count) == (1000, 2)
    assert bytes(probes.answers[:2]) == bytes([1, NO_ANSWER])


def test_an_answer_to_a_probe_that_was_not_sent_or_is_forgotten_is_none(probes):
    probes.sent(CAPACITY, 5)
    probes.answered(CAPACITY + 1, 1, 6)
    probes.answered(0, 1, 6)
    assert bytes(probes.answers[:2]) == bytes(2)


def test_a_reader_sees_what_the_writer_saw(tmp_path, probes):
    probes.begin(7)
    probes.sent(0, 8)
    probes.answered(0, 2, 9)
    reader = ProbeFile(tmp_path / "probes")
    assert (reader.started_ns, reader.count, reader.sent_ns[0], reader.answers[0]) == (7, 1, 8, 2)
    reader.close()
