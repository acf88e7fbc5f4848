"""The second implementation of the wire, held against the first one: every field, and every packet that is refused."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, CookedLinux, Dot1Q, Ether
from scapy.layers.vrrp import VRRP, VRRPv3
from scapy.packet import Raw
from scapy.utils import checksum as internet_checksum

from holdfast_cli.sniff.decode import decode
from holdfast_cli.sniff.packets import (
    Advertisement,
    Authentication,
    ChecksumForm,
    FaultKind,
    Malformed,
    Packet,
    Resolution,
    Role,
)
from holdfast_speaker.engine.frames import arp_request, gratuitous_arp, neighbour_solicitation
from holdfast_speaker.engine.frames import unsolicited_neighbour_advertisement as unsolicited
from holdfast_speaker.vrrp import packet as speaker
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import CENTISECOND, SECOND, Duration

MAC = "02:00:00:00:00:0b"
V4, V4_GROUP, V4_VIP = "10.0.0.1", "224.0.0.18", "10.0.0.200"
V6, V6_GROUP, V6_VIP = "fe80::1", "ff02::12", "fe80::200"

vrids = st.integers(1, 255)
priorities = st.integers(0, 255)
v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).map(str)
v4_lists = st.lists(v4, min_size=1, max_size=20)
v6_lists = st.lists(v6, min_size=1, max_size=10)
passwords = st.none() | st.binary(max_size=8).map(lambda data: data.rstrip(b"\0"))


def packed(text: str) -> bytes:
    return ip_address(text).packed


def frame(payload: bytes, source: str, destination: str, ttl: int = 255, protocol: int = 112) -> Any:
    """As the wire has it, and then dissected as scapy does with what it hears."""
    ip: Any
    if ":" in source:
        ip = IPv6(src=source, dst=destination, hlim=ttl, nh=protocol)
    else:
        ip = IP(src=source, dst=destination, ttl=ttl, proto=protocol)
    wire = bytes(Ether(src=MAC, dst="01:00:5e:00:00:12") / ip / Raw(payload))
    return Ether(wire.ljust(60, b"\0"))  # Ethernet pads short frames


def heard(payload: bytes, source: str = V4, destination: str = V4_GROUP, ttl: int = 255) -> Advertisement | Malformed:
    decoded = decode(frame(payload, source, destination, ttl), "eth0")
    assert isinstance(decoded, Advertisement | Malformed)
    return decoded


def sent(version: int = 3, source: str = V4, destination: str = V4_GROUP, vip: str = V4_VIP, vrid: int = 51) -> bytes:
    addresses = [packed(vip)]
    return speaker.encode(version, vrid, 100, SECOND, addresses, packed(source), packed(destination))


GOOD_2, GOOD_3, GOOD_6 = sent(2), sent(), sent(3, V6, V6_GROUP, V6_VIP)


def kinds(decoded: Packet | None) -> set[FaultKind]:
    assert isinstance(decoded, Malformed), decoded
    return {fault.kind for fault in decoded.faults}


# ----- what the speaker sends -----


def assert_the_same(ours: Advertisement | Malformed, theirs: speaker.Advertisement) -> None:
    assert isinstance(ours, Advertisement), ours
    assert ours.version == theirs.version
    assert ours.virtual_router_id == theirs.vrid
    assert ours.priority == theirs.priority
    assert ours.interval_milliseconds * 1_000_000 == theirs.interval
    assert tuple(map(packed, ours.addresses)) == theirs.addresses
    assert packed(ours.source) == theirs.source
    assert (ours.authentication is Authentication.SIMPLE_PASSWORD) == (theirs.password is not None)
    if theirs.version == 3:
        assert (ours.checksum is ChecksumForm.PSEUDO_HEADER) == theirs.pseudo_header


@given(vrids, priorities, st.integers(1, 4095), v4_lists, v4, v4)
def test_every_field_of_version_3_over_ipv4_is_read_as_the_speaker_reads_it(
    vrid: int, priority: int, centiseconds: int, addresses: list[str], source: str, destination: str
) -> None:
    interval = Duration(centiseconds * CENTISECOND)
    ends = packed(source), packed(destination)
    payload = speaker.encode(3, vrid, priority, interval, list(map(packed, addresses)), *ends)
    assert_the_same(heard(payload, source, destination), speaker.decode(payload, *ends, 255))


@given(vrids, priorities, st.integers(1, 4095), v6_lists, v6, v6)
def test_every_field_of_version_3_over_ipv6_is_read_as_the_speaker_reads_it(
    vrid: int, priority: int, centiseconds: int, addresses: list[str], source: str, destination: str
) -> None:
    interval = Duration(centiseconds * CENTISECOND)
    ends = packed(source), packed(destination)
    payload = speaker.encode(3, vrid, priority, interval, list(map(packed, addresses)), *ends)
    assert_the_same(heard(payload, source, destination), speaker.decode(payload, *ends, 255))


@given(vrids, priorities, st.integers(1, 255), v4_lists, v4, v4, passwords)
def test_every_field_of_version_2_is_read_as_the_speaker_reads_it(
    vrid: int,
    priority: int,
    seconds: int,
    addresses: list[str],
    source: str,
    destination: str,
    password: bytes | None,
) -> None:
    interval = Duration(seconds * SECOND)
    ends = packed(source), packed(destination)
    payload = speaker.encode(2, vrid, priority, interval, list(map(packed, addresses)), *ends, password)
    assert_the_same(heard(payload, source, destination), speaker.decode(payload, *ends, 255))


@given(vrids, priorities, st.integers(1, 4095), v6_lists)
def test_what_scapy_builds_is_read_back_over_ipv6(
    vrid: int, priority: int, centiseconds: int, addresses: list[str]
) -> None:
    layer = VRRPv3(vrid=vrid, priority=priority, adv=centiseconds, addrlist=addresses)
    decoded = decode(Ether(bytes(Ether() / IPv6(src=V6, dst=V6_GROUP, hlim=255) / layer)))
    assert isinstance(decoded, Advertisement)
    assert (decoded.version, decoded.virtual_router_id, decoded.priority) == (3, vrid, priority)
    assert decoded.interval_milliseconds == 10 * centiseconds
    assert list(map(packed, decoded.addresses)) == list(map(packed, addresses))


@pytest.mark.parametrize(("version", "width"), [(2, 4), (3, 4), (3, 16)])
def test_as_many_addresses_as_the_count_can_say_are_read(version: int, width: int) -> None:
    source, destination = (V4, V4_GROUP) if width == 4 else (V6, V6_GROUP)
    addresses = [bytes([10]) + bytes(width - 2) + bytes([last]) for last in range(255)]
    payload = speaker.encode(version, 51, 100, SECOND, addresses, packed(source), packed(destination))
    decoded = heard(payload, source, destination)
    assert isinstance(decoded, Advertisement)
    assert list(map(packed, decoded.addresses)) == addresses


def test_what_scapy_builds_of_version_2_is_read_back() -> None:
    layer = VRRP(vrid=7, priority=20, adv=3, addrlist=[V4_VIP], authtype=1, auth1=0x31313131)
    decoded = decode(Ether(bytes(Ether(src=MAC) / IP(src=V4, dst=V4_GROUP, ttl=255) / layer)), "eth0")
    assert decoded == Advertisement(
        at=decoded.at if decoded else 0,
        link="eth0",
        source=V4,
        destination=V4_GROUP,
        mac=MAC,
        ttl=255,
        version=2,
        virtual_router_id=7,
        priority=20,
        interval_milliseconds=3000,
        addresses=(V4_VIP,),
        checksum=ChecksumForm.NOTHING,
        authentication=Authentication.SIMPLE_PASSWORD,
    )


# ----- what the speaker refuses -----

KIND_OF_COUNTER = {
    Counter.IP_TTL_ERRORS: FaultKind.TIME_TO_LIVE,
    Counter.VERSION_ERRORS: FaultKind.VERSION,
    Counter.INVALID_TYPE_PKTS_RCVD: FaultKind.TYPE,
    Counter.PACKET_LENGTH_ERRORS: FaultKind.LENGTH,
    Counter.CHECKSUM_ERRORS: FaultKind.CHECKSUM,
    Counter.ADDRESS_COUNT_ZERO: FaultKind.ADDRESS_COUNT_ZERO,
    Counter.INTERVAL_ZERO: FaultKind.INTERVAL_ZERO,
    Counter.AUTH_TYPE_MISMATCH: FaultKind.AUTHENTICATION,
}


def assert_both_agree(payload: bytes, source: str, destination: str, ttl: int) -> None:
    """Both accept with the same fields, or both refuse, and the speaker's one reason is among the faults.

    VRID 0 alone is a difference: no virtual router of the speaker can have it, so that its decoder need not care.
    """
    ours = heard(payload, source, destination, ttl)
    theirs = outcome(payload, source, destination, ttl)
    if isinstance(theirs, Counter):
        assert KIND_OF_COUNTER[theirs] in kinds(ours)
    elif theirs.vrid == 0:
        assert kinds(ours) == {FaultKind.VIRTUAL_ROUTER_ID_ZERO}
    else:
        assert_the_same(ours, theirs)


def outcome(payload: bytes, source: str, destination: str, ttl: int) -> speaker.Advertisement | Counter:
    try:
        return speaker.decode(payload, packed(source), packed(destination), ttl)
    except speaker.PacketError as error:
        return error.counter


def with_right_checksum(payload: bytes, source: str, destination: str, has_pseudo_header: bool = True) -> bytes:
    """Mutated packets get as far as the rules behind the checksum."""
    if len(payload) < 8:
        return payload
    covered = payload[:6] + b"\0\0" + payload[8:]
    if has_pseudo_header and payload[0] >> 4 == 3:
        numbers = struct.pack("!II" if ":" in source else "!HH", len(payload), 112)
        covered += packed(source) + packed(destination) + numbers
        if len(payload) % 2:
            return payload  # an odd length is wrong anyhow
    return payload[:6] + struct.pack("!H", internet_checksum(covered)) + payload[8:]


ends = st.sampled_from(
    [(V4, V4_GROUP), (V4, "10.0.0.2"), (V6, V6_GROUP), (V6, "fe80::2"), ("fd00::1", "fd00::2"), ("fd00::1", V6_GROUP)]
)
ttls = st.sampled_from([255, 255, 255, 64, 254, 1])


@given(st.binary(max_size=80), ends, ttls)
@example(b"", (V4, V4_GROUP), 255)
@example(bytes(8), (V6, V6_GROUP), 255)
def test_of_any_bytes_both_say_the_same(payload: bytes, between: tuple[str, str], ttl: int) -> None:
    assert_both_agree(payload, *between, ttl)


@given(
    st.sampled_from([GOOD_2, GOOD_3, GOOD_6]),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 255)), max_size=3),
    st.integers(-12, 20),
    st.booleans(),
    ends,
    ttls,
)
@example(GOOD_3, [(1, 0)], 0, True, (V4, V4_GROUP), 255)
@example(GOOD_2, [(4, 2)], 0, True, (V4, V4_GROUP), 255)
@example(GOOD_6, [], 0, True, (V6, "fe80::2"), 64)
@example(GOOD_2, [], 8, True, (V6, V6_GROUP), 255)
@example(GOOD_3, [(0, 0x3A)], 12, True, (V4, V4_GROUP), 255)
@example(GOOD_2, [(3, 200)], -7, True, (V4, V4_GROUP), 255)
def test_of_mutated_packets_both_say_the_same(
    payload: bytes,
    changes: list[tuple[int, int]],
    longer: int,
    is_sum_mended: bool,
    between: tuple[str, str],
    ttl: int,
) -> None:
    mutated = bytearray(payload + bytes(longer) if longer > 0 else payload[: len(payload) + longer])
    for at, value in changes:
        if at < len(mutated):
            mutated[at] = value
    final = with_right_checksum(bytes(mutated), *between) if is_sum_mended else bytes(mutated)
    assert_both_agree(final, *between, ttl)


@given(st.binary(max_size=120))
def test_no_frame_raises(wire: bytes) -> None:
    decode(Raw(wire))  # what scapy makes of less than a link's header
    decode(Ether(bytes(12) + b"\x08\x00" + wire))
    decode(Ether(bytes(12) + b"\x08\x06" + wire))
    decode(Ether(bytes(12) + b"\x86\xdd" + wire))


@given(st.binary(max_size=60), st.sampled_from([135, 136]))
def test_no_neighbour_discovery_raises(rest: bytes, kind: int) -> None:
    decode(frame(bytes([kind]) + rest, V6, "ff02::1", protocol=58))


# ----- what is told of a broken packet -----


def test_every_broken_rule_is_told_with_its_figures() -> None:
    payload = with_right_checksum(GOOD_3[:1] + b"\x00\x64\x00\x00\x00\x00\x00", V4, V4_GROUP)
    decoded = heard(payload[:6] + b"\xba\xad", ttl=64)
    assert isinstance(decoded, Malformed)
    assert [fault.detail for fault in decoded.faults] == [
        "TTL 64, not 255",
        "VRID 0",
        "no address",
        "interval 0",
        "checksum 0xbaad is wrong",
    ]
    assert (decoded.version, decoded.virtual_router_id, decoded.priority) == (3, 0, 100)


def test_a_length_is_told_with_what_it_should_be() -> None:
    decoded = heard(GOOD_3 + bytes(4))
    assert isinstance(decoded, Malformed)
    assert decoded.faults[0].detail == "16 bytes, not the 12 of 1 address"
    assert kinds(heard(GOOD_3[:10])) == {FaultKind.LENGTH, FaultKind.CHECKSUM}


def test_less_than_a_header_is_told_without_fields() -> None:
    decoded = heard(GOOD_3[:7])
    assert isinstance(decoded, Malformed)
    assert [fault.detail for fault in decoded.faults] == ["7 bytes, less than the header's 8"]
    assert (decoded.version, decoded.virtual_router_id) == (None, None)


def test_both_forms_of_the_checksum_over_ipv4_are_told_apart() -> None:
    forms = []
    for has_pseudo_header in (True, False):
        decoded = heard(with_right_checksum(GOOD_3, V4, V4_GROUP, has_pseudo_header))
        assert isinstance(decoded, Advertisement)
        forms.append(decoded.checksum)
    assert forms == [ChecksumForm.PSEUDO_HEADER, ChecksumForm.NOTHING]


def test_over_ipv6_there_is_one_form_of_the_checksum() -> None:
    assert kinds(heard(with_right_checksum(GOOD_6, V6, V6_GROUP, False), V6, V6_GROUP)) == {FaultKind.CHECKSUM}


def test_a_fragment_is_not_taken_for_a_whole_packet() -> None:
    wire = bytes(Ether() / IP(src=V4, dst=V4_GROUP, ttl=255, proto=112, flags="MF") / Raw(GOOD_3))
    assert kinds(decode(Ether(wire))) == {FaultKind.FRAGMENT}


def test_a_capture_that_has_not_the_whole_packet_is_told_from_a_short_packet() -> None:
    wire = bytes(frame(GOOD_3, V4, V4_GROUP))[:40]
    assert kinds(decode(Ether(wire))) == {FaultKind.NOT_CAPTURED_WHOLE}
    assert kinds(decode(Ether(bytes(frame(GOOD_6, V6, V6_GROUP))[:60]))) == {FaultKind.NOT_CAPTURED_WHOLE}


def test_another_hop_limit_between_link_local_addresses_is_only_remarked_on() -> None:
    decoded = heard(with_right_checksum(GOOD_6, V6, "fe80::2"), V6, "fe80::2", 64)
    assert isinstance(decoded, Advertisement)
    assert decoded.remarks == ("hop limit 64 instead of 255, between link-local addresses",)


def test_reserved_bits_are_remarked_on() -> None:
    decoded = heard(with_right_checksum(GOOD_3[:4] + b"\xf0" + GOOD_3[5:], V4, V4_GROUP))
    assert isinstance(decoded, Advertisement)
    assert decoded.remarks == ("reserved bits 0xf",)


# ----- where a packet was heard -----


@pytest.mark.parametrize("interface", ["", "eth0"])
def test_a_vlan_is_part_of_the_link(interface: str) -> None:
    tagged = Ether(src=MAC) / Dot1Q(vlan=7) / IP(src=V4, dst=V4_GROUP, ttl=255, proto=112) / Raw(GOOD_3)
    decoded = decode(Ether(bytes(tagged)), interface)
    assert isinstance(decoded, Advertisement)
    assert decoded.link == f"{interface}.7"


def test_a_capture_of_any_interface_is_read_too() -> None:
    cooked = CookedLinux(lladdrtype=1, lladdrlen=6, src=bytes.fromhex("02000000000b0000"), proto=0x0800)
    wire = bytes(cooked / IP(src=V4, dst=V4_GROUP, ttl=255, proto=112) / Raw(GOOD_3))
    decoded = decode(CookedLinux(wire))
    assert isinstance(decoded, Advertisement)
    assert decoded.mac == MAC


def test_other_packets_are_none() -> None:
    assert decode(Ether(bytes(Ether() / IP(src=V4, dst="10.0.0.2") / UDP(dport=53)))) is None
    assert decode(Ether(bytes(Ether() / IPv6(src=V6, dst=V6_GROUP) / UDP(dport=53)))) is None


# ----- ARP and neighbour discovery -----

MAC_BYTES = bytes.fromhex(MAC.replace(":", ""))


def resolved(wire: bytes) -> tuple[str, Role, str, str]:
    decoded = decode(Ether(wire))
    assert isinstance(decoded, Resolution)
    return decoded.protocol, decoded.role, decoded.address, decoded.mac


def test_the_speakers_announcements_are_read() -> None:
    assert resolved(gratuitous_arp(MAC_BYTES, packed(V4_VIP))) == ("ARP", Role.ANNOUNCEMENT, V4_VIP, MAC)
    assert resolved(unsolicited(MAC_BYTES, packed(V6_VIP), False)) == ("NDP", Role.ANNOUNCEMENT, V6_VIP, MAC)


def test_the_speakers_questions_are_read() -> None:
    wire = arp_request(MAC_BYTES, packed(V4), packed(V4_VIP))
    assert resolved(wire) == ("ARP", Role.QUESTION, V4_VIP, MAC)
    wire = neighbour_solicitation(MAC_BYTES, packed(V6), packed(V6_VIP))
    assert resolved(wire) == ("NDP", Role.QUESTION, V6_VIP, MAC)


def test_answers_are_told_from_announcements() -> None:
    reply = Ether(src=MAC) / ARP(op=2, hwsrc=MAC, psrc=V4_VIP, hwdst="02:00:00:00:00:99", pdst=V4)
    assert resolved(bytes(reply)) == ("ARP", Role.ANSWER, V4_VIP, MAC)
    ip = IPv6(src=V6_VIP, dst=V6, hlim=255)
    answer = Ether(src="02:00:00:00:00:99") / ip / ICMPv6ND_NA(tgt=V6_VIP, S=1) / ICMPv6NDOptDstLLAddr(lladdr=MAC)
    assert resolved(bytes(answer)) == ("NDP", Role.ANSWER, V6_VIP, MAC)


def test_without_an_option_the_frame_tells_the_mac() -> None:
    answer = Ether(src=MAC) / IPv6(src=V6_VIP, dst=V6, hlim=255) / ICMPv6ND_NA(tgt=V6_VIP, S=1)
    assert resolved(bytes(answer)) == ("NDP", Role.ANSWER, V6_VIP, MAC)


def test_a_neighbour_advertisement_from_beyond_a_router_is_malformed() -> None:
    forged = Ether(src=MAC) / IPv6(src="fd00::9", dst=V6, hlim=63) / ICMPv6ND_NA(tgt=V6_VIP, cksum=1)
    decoded = decode(Ether(bytes(forged)))
    assert isinstance(decoded, Malformed)
    assert decoded.address == V6_VIP
    assert [fault.detail for fault in decoded.faults] == ["hop limit 63, not 255", "checksum 0x0001 is wrong"]


def test_arp_that_is_not_about_ipv4_over_ethernet_is_none() -> None:
    assert decode(Ether(bytes(Ether() / ARP(hwtype=6, psrc=V4, pdst=V4)))) is None
    assert decode(Ether(bytes(Ether() / ARP(op=8, psrc=V4, pdst=V4_VIP)))) is None


def test_a_solicitation_with_a_source_option_tells_who_asks() -> None:
    asked = IPv6(src=V6, dst="ff02::1:ff00:200", hlim=255) / ICMPv6ND_NS(tgt=V6_VIP) / ICMPv6NDOptSrcLLAddr(lladdr=MAC)
    assert resolved(bytes(Ether(src="02:00:00:00:00:99") / asked)) == ("NDP", Role.QUESTION, V6_VIP, MAC)


# ----- real packets -----


def test_every_frame_of_a_real_keepalived_is_valid() -> None:
    lines = (Path(__file__).parent / "captures" / "keepalived.hex").read_text(encoding="ascii").splitlines()[1:]
    decoded = [decode(Ether(bytes.fromhex(line.split()[1]))) for line in lines]
    adverts = [packet for packet in decoded if isinstance(packet, Advertisement)]
    announced = {packet.address for packet in decoded if isinstance(packet, Resolution)}
    assert len(adverts) + sum(isinstance(packet, Resolution) for packet in decoded) == len(lines)
    assert announced == {"10.77.0.200", "10.77.0.201", "fe80::200"}
    assert {(one.version, one.virtual_router_id, one.interval_milliseconds, one.checksum) for one in adverts} == {
        (2, 51, 1000, ChecksumForm.NOTHING),
        (3, 52, 100, ChecksumForm.PSEUDO_HEADER),
        (3, 53, 100, ChecksumForm.PSEUDO_HEADER),
    }
    assert {one.authentication for one in adverts if one.version == 2} == {Authentication.SIMPLE_PASSWORD}
    assert 0 in {one.priority for one in adverts if one.virtual_router_id == 53}
