"""Who really has an address, from the kernels' messages."""

from __future__ import annotations

import socket
import struct

import pytest

from holdfast_lab.watch import AddressChange, parse_address_messages, shared_ms

MS = 1_000_000


def message(kind, address, *, local=None):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    attributes = b""
    for number, text in ((1, address), (2, local)):
        if text is not None:
            packed = socket.inet_pton(family, text)
            attributes += struct.pack("=HH", 4 + len(packed), number) + packed
    # IFA_LABEL, whose length is no multiple of four.
    attributes += struct.pack("=HH", 9, 3) + b"eth0\0" + bytes(3)
    body = struct.pack("=BBBBI", family, 24, 0, 0, 2) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_a_block_of_messages_is_read_in_order():
    block = message(20, "10.0.0.1", local="10.0.0.9") + message(16, "10.0.0.2") + message(21, "fd00::9")
    assert list(parse_address_messages(block)) == [("10.0.0.9", True), ("fd00::9", False)]


@pytest.mark.parametrize("damaged", [b"", b"\0" * 15, bytes(64), message(20, "10.0.0.1")[:18] + bytes(40)])
def test_a_damaged_block_ends_the_reading(damaged):
    assert list(parse_address_messages(damaged)) in ([], [("0.0.0.0", True)])


def changes(*found):
    return [AddressChange(at * MS, host, "10.0.0.9", present) for at, host, present in found]


@pytest.mark.parametrize(
    ("found", "shared"),
    [
        ([], 0),
        ([(10, "n1", True)], 0),
        ([(10, "n1", True), (30, "n2", True), (70, "n1", False)], 40),
        ([(10, "n1", True), (30, "n2", True)], 970),
        ([(-50, "n1", True), (-40, "n2", True), (100, "n2", False)], 100),
        ([(-50, "n1", True), (-40, "n2", True), (-30, "n1", False)], 0),
        ([(10, "n1", True), (20, "n1", False), (30, "n2", True)], 0),
        ([(990, "n1", True), (995, "n2", True), (2000, "n1", False)], 5),
    ],
)
def test_shared_time_is_when_two_hosts_have_the_address(found, shared):
    assert shared_ms(changes(*found), 0, 1000 * MS) == shared
