"""The packet codec: scapy as the independent oracle, every error by name, and any bytes at all."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.vrrp import VRRP, VRRPv3

from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import CENTISECOND, SECOND, Duration
from holdfast_speaker.vrrp.packet import (
    MULTICAST_GROUP_V4,
    MULTICAST_GROUP_V6,
    MULTICAST_GROUPS,
    PROTOCOL,
    Advertisement,
    Decoder,
    PacketError,
    decode,
    encode,
)

V4, V4_PEER, V4_VIP = (bytes((10, 0, 0, last)) for last in (1, 2, 200))
V6, V6_VIP = (bytes.fromhex("fe80") + bytes(13) + bytes((last,)) for last in (1, 200))
TTL = 255

priorities = st.integers(0, 255)
vrids = st.integers(1, 255)
centiseconds = st.integers(1, 4095)
seconds = st.integers(1, 255)
v4 = st.binary(min_size=4, max_size=4)
v6 = st.binary(min_size=16, max_size=16)
v4_lists = st.lists(v4, min_size=1, max_size=20).map(tuple)
v6_lists = st.lists(v6, min_size=1, max_size=10).map(tuple)
passwords = st.none() | st.binary(max_size=8).map(lambda data: data.rstrip(b"\0"))


def text(address: bytes) -> str:
    return str(IPv4Address(address) if len(address) == 4 else IPv6Address(address))


def in_ip(source: bytes, destination: bytes, layer: Any) -> bytes:
    """The IP payload as scapy builds it, checksum and all."""
    if len(source) == 4:
        packet = IP(src=text(source), dst=text(destination), ttl=TTL, proto=PROTOCOL) / layer
        return bytes(packet)[20:]
    return bytes(IPv6(src=text(source), dst=text(destination), hlim=TTL, nh=PROTOCOL) / layer)[40:]


def sum_of_words(message: bytes) -> int:
    """RFC 1071 word by word, as its section 4.1 writes it."""
    padded = message + b"\0" * (len(message) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def with_checksum(payload: bytes, checksum: int) -> bytes:
    return payload[:6] + struct.pack("!H", checksum) + payload[8:]


def without_pseudo_header(payload: bytes) -> bytes:
    return with_checksum(payload, sum_of_words(with_checksum(payload, 0)))


def example_packet(version: int = 3, source: bytes = V4, password: bytes | None = None) -> bytes:
    destination = MULTICAST_GROUP_V4 if len(source) == 4 else MULTICAST_GROUP_V6
    vip = V4_VIP if len(source) == 4 else V6_VIP
    return encode(version, 51, 100, SECOND, (vip,), source, destination, password)


def checked(payload: bytes, source: bytes = V4, ttl: int = TTL) -> Advertisement:
    return decode(payload, source, MULTICAST_GROUP_V4 if len(source) == 4 else MULTICAST_GROUP_V6, ttl)


# ----- scapy as the oracle -----


@given(vrids, priorities, centiseconds, v4_lists, v4, v4)
def test_version_3_over_ipv4_is_what_scapy_builds(
    vrid: int, priority: int, interval: int, addresses: tuple[bytes, ...], source: bytes, destination: bytes
) -> None:
    layer = VRRPv3(vrid=vrid, priority=priority, adv=interval, addrlist=list(map(text, addresses)))
    span = Duration(interval * CENTISECOND)
    payload = encode(3, vrid, priority, span, addresses, source, destination)
    assert payload == in_ip(source, destination, layer)
    assert decode(in_ip(source, destination, layer), source, destination, TTL) == Advertisement(
        3, vrid, priority, span, addresses, source
    )


@given(vrids, priorities, centiseconds, v6_lists, v6, v6)
def test_version_3_over_ipv6_is_what_scapy_builds(
    vrid: int, priority: int, interval: int, addresses: tuple[bytes, ...], source: bytes, destination: bytes
) -> None:
    layer = VRRPv3(vrid=vrid, priority=priority, adv=interval, addrlist=list(map(text, addresses)))
    span = Duration(interval * CENTISECOND)
    payload = encode(3, vrid, priority, span, addresses, source, destination)
    assert payload == in_ip(source, destination, layer)
    assert decode(in_ip(source, destination, layer), source, destination, TTL) == Advertisement(
        3, vrid, priority, span, addresses, source
    )


@given(vrids, priorities, seconds, v4_lists, v4, v4, passwords)
def test_version_2_is_what_scapy_builds(
    vrid: int,
    priority: int,
    interval: int,
    addresses: tuple[bytes, ...],
    source: bytes,
    destination: bytes,
    password: bytes | None,
) -> None:
    data = (password or b"").ljust(8, b"\0")
    layer = VRRP(
        vrid=vrid,
        priority=priority,
        authtype=0 if password is None else 1,
        adv=interval,
        addrlist=list(map(text, addresses)),
        auth1=int.from_bytes(data[:4], "big"),
        auth2=int.from_bytes(data[4:], "big"),
    )
    span = Duration(interval * SECOND)
    payload = encode(2, vrid, priority, span, addresses, source, destination, password)
    assert payload == in_ip(source, destination, layer)
    assert decode(in_ip(source, destination, layer), source, destination, TTL) == Advertisement(
        2, vrid, priority, span, addresses, source, password
    )


@given(vrids, priorities, centiseconds, v6_lists)
def test_scapy_reads_what_we_send(vrid: int, priority: int, interval: int, addresses: tuple[bytes, ...]) -> None:
    payload = encode(3, vrid, priority, Duration(interval * CENTISECOND), addresses, V6, MULTICAST_GROUP_V6)
    read = IPv6(
        bytes(IPv6(src=text(V6), dst=text(MULTICAST_GROUP_V6), nh=PROTOCOL, hlim=TTL, plen=len(payload))) + payload
    )[VRRPv3]
    assert (read.version, read.type, read.vrid, read.priority) == (3, 1, vrid, priority)
    assert (read.ipcount, read.res, read.adv) == (len(addresses), 0, interval)
    assert read.addrlist == [text(address) for address in addresses]


# ----- checksums -----


@given(vrids, priorities, centiseconds, v4_lists, v4)
def test_both_checksums_of_version_3_over_ipv4_are_taken_and_told_apart(
    vrid: int, priority: int, interval: int, addresses: tuple[bytes, ...], source: bytes
) -> None:
    payload = encode(3, vrid, priority, Duration(interval * CENTISECOND), addresses, source, MULTICAST_GROUP_V4)
    assert checked(payload, source).pseudo_header
    bare = without_pseudo_header(payload)
    # Where the pseudo-header sums up to nothing the two forms are the same packet.
    assert checked(bare, source).pseudo_header == (bare == payload)


def test_a_checksum_without_pseudo_header_is_refused_over_ipv6() -> None:
    with pytest.raises(PacketError) as refused:
        checked(without_pseudo_header(example_packet(source=V6)), V6)
    assert refused.value.counter is Counter.CHECKSUM_ERRORS


def test_version_2_has_no_pseudo_header() -> None:
    payload = example_packet(version=2)
    assert payload == without_pseudo_header(payload)


def test_a_sum_of_nothing_is_sent_as_all_ones_and_read() -> None:
    """RFC 1071: the ones' complement has two zeroes; a message that sums up to 0xffff gets checksum 0."""
    base = example_packet(version=2)
    lacking = sum_of_words(with_checksum(base, 0))
    vip = struct.pack("!HH", lacking, 0)
    addresses = (V4_VIP, vip)
    payload = encode(2, 51, 100, SECOND, addresses, V4, MULTICAST_GROUP_V4)
    assert checked(payload).addresses == addresses


# ----- what a receiver refuses, RFC 9568 section 7.1 -----

GOOD_3 = example_packet()
GOOD_2 = example_packet(version=2)
GOOD_6 = example_packet(source=V6)


def changed(payload: bytes, at: int, value: int) -> bytes:
    """One byte changed, and the checksum mended: so that it is not the checksum that is refused."""
    return without_pseudo_header(payload[:at] + bytes((value,)) + payload[at + 1 :])


@pytest.mark.parametrize(
    ("payload", "source", "ttl", "counter", "vrid"),
    [
        pytest.param(b"", V4, TTL, Counter.PACKET_LENGTH_ERRORS, 0, id="nothing"),
        pytest.param(GOOD_3[:7], V4, TTL, Counter.PACKET_LENGTH_ERRORS, 0, id="less than a header"),
        pytest.param(GOOD_3[:8], V4, TTL, Counter.PACKET_LENGTH_ERRORS, 51, id="an address that is not there"),
        pytest.param(GOOD_3 + b"\0", V4, TTL, Counter.PACKET_LENGTH_ERRORS, 51, id="a byte too many"),
        pytest.param(GOOD_2[:-8], V4, TTL, Counter.PACKET_LENGTH_ERRORS, 51, id="version 2 without its last field"),
        pytest.param(GOOD_3, V6, TTL, Counter.PACKET_LENGTH_ERRORS, 51, id="IPv4 addresses over IPv6"),
        pytest.param(GOOD_3, V4, 254, Counter.IP_TTL_ERRORS, 51, id="from behind a router"),
        pytest.param(GOOD_6, V6, 64, Counter.IP_TTL_ERRORS, 51, id="from behind a router, IPv6"),
        pytest.param(changed(GOOD_3, 0, 0x41), V4, TTL, Counter.VERSION_ERRORS, 51, id="version 4"),
        pytest.param(changed(GOOD_3, 0, 0x11), V4, TTL, Counter.VERSION_ERRORS, 51, id="version 1"),
        pytest.param(changed(GOOD_6, 0, 0x21), V6, TTL, Counter.VERSION_ERRORS, 51, id="version 2 over IPv6"),
        pytest.param(changed(GOOD_3, 0, 0x32), V4, TTL, Counter.INVALID_TYPE_PKTS_RCVD, 51, id="type 2"),
        pytest.param(changed(GOOD_2, 0, 0x20), V4, TTL, Counter.INVALID_TYPE_PKTS_RCVD, 51, id="type 0"),
        pytest.param(changed(GOOD_3, 3, 0)[:8], V4, TTL, Counter.ADDRESS_COUNT_ZERO, 51, id="erratum 8299"),
        pytest.param(changed(GOOD_3, 5, 0), V4, TTL, Counter.INTERVAL_ZERO, 51, id="erratum 8301, low bits only"),
        pytest.param(changed(GOOD_2, 5, 0), V4, TTL, Counter.INTERVAL_ZERO, 51, id="version 2, interval 0"),
        pytest.param(changed(GOOD_2, 4, 2), V4, TTL, Counter.AUTH_TYPE_MISMATCH, 51, id="authentication by MD5"),
        pytest.param(GOOD_3[:-1] + b"\1", V4, TTL, Counter.CHECKSUM_ERRORS, 51, id="a flipped bit"),
        pytest.param(GOOD_2[:-1] + b"\1", V4, TTL, Counter.CHECKSUM_ERRORS, 51, id="a flipped bit in the password"),
        pytest.param(GOOD_6[:-1] + b"\1", V6, TTL, Counter.CHECKSUM_ERRORS, 51, id="a flipped bit, IPv6"),
    ],
)
def test_what_cannot_be_obeyed_has_its_counter(
    payload: bytes, source: bytes, ttl: int, counter: Counter, vrid: int
) -> None:
    if counter is Counter.INTERVAL_ZERO and payload[0] >> 4 == 3:
        payload = changed(payload, 4, 0)
    with pytest.raises(PacketError) as refused:
        checked(payload, source, ttl)
    assert refused.value.counter is counter
    assert refused.value.vrid == vrid
    assert str(refused.value) == counter.value


@pytest.mark.parametrize("reserved", range(16))
def test_reserved_bits_are_ignored(reserved: int) -> None:
    advertisement = checked(changed(GOOD_3, 4, reserved << 4 | GOOD_3[4]))
    assert advertisement.interval == SECOND


def test_an_interval_beyond_the_field_is_sent_as_the_longest() -> None:
    payload = encode(3, 51, 100, Duration(60 * SECOND), (V4_VIP,), V4, MULTICAST_GROUP_V4)
    assert checked(payload).interval == 4095 * CENTISECOND


def test_a_password_of_eight_bytes_fills_its_field() -> None:
    payload = example_packet(version=2, password=b"12345678")
    assert checked(payload).password == b"12345678"
    assert len(payload) == 8 + 4 + 8


def test_no_password_is_not_an_empty_one() -> None:
    assert checked(example_packet(version=2)).password is None
    assert checked(example_packet(version=2, password=b"")).password == b""


def test_unicast_has_its_own_destination_in_the_pseudo_header() -> None:
    payload = encode(3, 51, 100, SECOND, (V4_VIP,), V4, V4_PEER)
    assert decode(payload, V4, V4_PEER, TTL).pseudo_header
    with pytest.raises(PacketError, match="checksum-errors"):
        decode(payload, V4, MULTICAST_GROUP_V4, TTL)


# ----- any bytes at all -----

COUNTERS_OF_PACKETS = {
    Counter.CHECKSUM_ERRORS,
    Counter.VERSION_ERRORS,
    Counter.IP_TTL_ERRORS,
    Counter.PACKET_LENGTH_ERRORS,
    Counter.INVALID_TYPE_PKTS_RCVD,
    Counter.AUTH_TYPE_MISMATCH,
    Counter.ADDRESS_COUNT_ZERO,
    Counter.INTERVAL_ZERO,
}


def read_or_refused(payload: bytes, source: bytes, ttl: int) -> None:
    """Either an advertisement that keeps what its type promises, or a PacketError; anything else fails the test."""
    outcome = outcome_of(payload, source, ttl)
    if isinstance(outcome, PacketError):
        assert outcome.counter in COUNTERS_OF_PACKETS
        return
    assert outcome.interval > 0
    assert outcome.addresses
    assert {len(address) for address in outcome.addresses} == {len(source)}
    assert ttl == TTL


def outcome_of(payload: bytes, source: bytes, ttl: int) -> Advertisement | PacketError:
    try:
        return decode(payload, source, MULTICAST_GROUPS[len(source)], ttl)
    except PacketError as error:
        return error


@given(st.binary(max_size=300), v4 | v6, st.integers(0, 255))
@example(b"\x31" + bytes(7), V4, TTL)
def test_any_bytes_are_read_or_refused(payload: bytes, source: bytes, ttl: int) -> None:
    read_or_refused(payload, source, ttl)


@given(
    st.sampled_from([(GOOD_3, V4), (GOOD_2, V4), (GOOD_6, V6)]),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 255)), max_size=4),
    st.integers(-12, 12),
    st.booleans(),
)
def test_mutated_packets_are_read_or_refused(
    good: tuple[bytes, bytes], edits: list[tuple[int, int]], length: int, mend_checksum: bool
) -> None:
    payload, source = bytearray(good[0]), good[1]
    for at, value in edits:
        payload[at % len(payload)] = value
    mutated = bytes(payload[: len(payload) + length]) if length < 0 else bytes(payload) + bytes(length)
    if mend_checksum and len(mutated) >= 8:
        mutated = without_pseudo_header(mutated)
    read_or_refused(mutated, source, TTL)


@given(st.integers(0, len(GOOD_3) * 8 - 1))
def test_one_flipped_bit_never_passes_the_checksum(bit: int) -> None:
    flipped = bytearray(GOOD_3)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PacketError):
        checked(bytes(flipped))


def test_a_decoder_says_of_repeated_and_of_changed_bytes_what_decode_says() -> None:
    good = encode(3, 51, 100, Duration(SECOND), [V4_VIP], V4, MULTICAST_GROUP_V4)
    other = encode(3, 51, 0, Duration(SECOND), [V4_VIP], V4, MULTICAST_GROUP_V4)
    decoder = Decoder()
    for payload in (good, good, other, good):
        assert decoder.decode(payload, V4, MULTICAST_GROUP_V4, TTL) == decode(payload, V4, MULTICAST_GROUP_V4, TTL)
    for payload, source, ttl in ((good[:-1], V4, TTL), (good, V4_PEER, TTL), (good, V4, 254)):
        for _ in range(2):
            with pytest.raises(PacketError):
                decoder.decode(payload, source, MULTICAST_GROUP_V4, ttl)
    assert decoder.decode(good, V4, MULTICAST_GROUP_V4, TTL).priority == 100
