"""The netlink codec against pyroute2 as the independent writer, and against hostile bytes."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from holdfast_speaker.host import rtnetlink
from holdfast_speaker.host.netlink import (
    ADDRESS_PROTOCOL,
    AddressAdded,
    AddressRemoved,
    Event,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
    NetlinkMalformed,
    address_removal,
    address_request,
    parse,
)
from holdfast_speaker.host.netlink_messages import NLMSG_DONE

V4 = socket.inet_aton("192.168.213.200")
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::c8")
REQUEST_ACK = 0x1 | 0x4
CREATE_REPLACE = 0x400 | 0x100
NODAD = 0x2
NOPREFIXROUTE = 0x200
AF_BRIDGE = 7


def address_message(kind, family, text, prefix_length, *, flags=0, header=0, scope=0, index=7, attributes=()):
    message = ifaddrmsg()
    message["header"]["type"] = kind
    message["header"]["flags"] = header
    message["family"] = family
    message["prefixlen"] = prefix_length
    message["flags"] = flags
    message["scope"] = scope
    message["index"] = index
    message["attrs"] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text), *attributes]
    message.encode()
    return bytes(message.data)


def link_message(kind, *, family=0, index=7, flags=0, attributes=(("IFLA_IFNAME", "eth7"),)):
    message = ifinfmsg()
    message["header"]["type"] = kind
    message["family"] = family
    message["index"] = index
    message["flags"] = flags
    message["attrs"] = list(attributes)
    message.encode()
    return bytes(message.data)


def lifetimes(preferred, valid):
    return ("IFA_CACHEINFO", {"ifa_preferred": preferred, "ifa_valid": valid, "cstamp": 0, "tstamp": 0})


def test_the_request_for_an_ipv4_address_is_pyroute2s():
    oracle = address_message(
        rtnetlink._RTM_NEWADDR,
        socket.AF_INET,
        "192.168.213.200",
        24,
        header=REQUEST_ACK | CREATE_REPLACE,
        attributes=[lifetimes(3, 3), ("IFA_FLAGS", NOPREFIXROUTE), ("IFA_PROTO", ADDRESS_PROTOCOL)],
    )
    assert address_request(7, V4, 24, valid_seconds=3) == oracle


def test_the_request_for_an_ipv6_address_is_pyroute2s_and_asks_for_no_duplicate_detection():
    oracle = address_message(
        rtnetlink._RTM_NEWADDR,
        socket.AF_INET6,
        "2001:db8::c8",
        64,
        header=REQUEST_ACK | CREATE_REPLACE,
        attributes=[lifetimes(0, 3), ("IFA_FLAGS", NODAD | NOPREFIXROUTE), ("IFA_PROTO", ADDRESS_PROTOCOL)],
    )
    assert address_request(7, V6, 64, valid_seconds=3) == oracle


def test_an_ipv4_address_of_full_length_has_the_scope_of_the_host():
    scopes = {}
    for address, prefix_length in ((V4, 32), (V4, 24), (V6, 128), (V6, 64)):
        decoded = ifaddrmsg(address_request(7, address, prefix_length, valid_seconds=3))
        decoded.decode()
        scopes[address, prefix_length] = decoded["scope"]
    assert scopes == {(V4, 32): 254, (V4, 24): 0, (V6, 128): 0, (V6, 64): 0}


@pytest.mark.parametrize(
    ("source", "network", "length", "flags", "scope"),
    [(V4, "192.168.213.0", 24, 0x400 | 0x800, 253), (V6, "2001:db8::", 64, 0x400 | 0x100, 0)],
)
def test_the_request_for_a_route_to_a_vips_subnet_is_as_pyroute2_reads_it(source, network, length, flags, scope):
    family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
    packed = socket.inet_pton(family, network)
    decoded = rtmsg(rtnetlink.route_addition(7, packed, length, source, 1))
    decoded.decode()
    assert decoded["header"]["flags"] == REQUEST_ACK | flags
    assert (decoded["family"], decoded["dst_len"], decoded["scope"], decoded["proto"], decoded["table"]) == (
        family,
        length,
        scope,
        ADDRESS_PROTOCOL,
        254,
    )
    told = {name: decoded.get_attr(name) for name in ("RTA_DST", "RTA_OIF", "RTA_PREFSRC", "RTA_PRIORITY")}
    assert told == {
        "RTA_DST": network,
        "RTA_OIF": 7,
        "RTA_PREFSRC": socket.inet_ntop(family, source),
        "RTA_PRIORITY": 2048,
    }
    removal = rtmsg(rtnetlink.route_removal(7, packed, length, source))
    removal.decode()
    assert (removal["header"]["type"], removal.get_attr("RTA_DST")) == (25, network)


@pytest.mark.parametrize(("address", "text", "family"), [(V4, "192.168.213.200", 2), (V6, "2001:db8::c8", 10)])
def test_a_removal_is_pyroute2s(address, text, family):
    oracle = address_message(rtnetlink._RTM_DELADDR, family, text, 24, header=REQUEST_ACK)
    assert address_removal(7, address, 24) == oracle


def test_a_sequence_number_goes_into_the_header():
    request = address_request(7, V4, 24, valid_seconds=3, sequence=0x01020304)
    assert struct.unpack_from("=I", request, 8) == (0x01020304,)


def test_a_batch_numbers_its_requests_and_asks_for_the_last_acknowledgement_only():
    requests = [
        address_request(7, V4, 24, valid_seconds=3),
        address_removal(7, V6, 64),
        address_request(7, V6, 64, valid_seconds=3),
    ]
    joined = bytes(rtnetlink.batch(requests, 41))
    headers = []
    at = 0
    for request in requests:
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", joined, at)
        assert joined[at + 16 : at + length] == request[16:]
        headers.append((kind, flags, sequence))
        at += len(request)
    assert headers == [
        (rtnetlink._RTM_NEWADDR, 0x501, 41),
        (rtnetlink._RTM_DELADDR, 0x1, 42),
        (rtnetlink._RTM_NEWADDR, 0x505, 43),
    ]


def test_an_address_that_is_added_is_read_with_all_it_has():
    datagram = address_message(
        rtnetlink._RTM_NEWADDR,
        socket.AF_INET6,
        "2001:db8::c8",
        64,
        flags=0x80,
        scope=253,
        attributes=[lifetimes(0, 3), ("IFA_FLAGS", 0x222), ("IFA_PROTO", ADDRESS_PROTOCOL)],
    )
    address = LinkAddress(7, socket.AF_INET6, V6, 64, ADDRESS_PROTOCOL, 0x222, 253, 3)
    assert parse(datagram) == [AddressAdded(address)]
    assert address.ours


def test_an_address_of_somebody_else_is_not_ours_and_may_stay_forever():
    datagram = address_message(
        rtnetlink._RTM_NEWADDR,
        socket.AF_INET,
        "192.168.213.200",
        24,
        flags=0x80,
        attributes=[lifetimes(0xFFFFFFFF, 0xFFFFFFFF)],
    )
    (event,) = parse(datagram)
    assert event == AddressAdded(LinkAddress(7, socket.AF_INET, V4, 24, 0, 0x80, 0, None))
    assert not event.address.ours


def test_several_messages_in_one_datagram_are_read_in_order():
    datagram = (
        address_message(rtnetlink._RTM_DELADDR, socket.AF_INET, "192.168.213.200", 24)
        + link_message(rtnetlink._RTM_DELLINK)
        + struct.pack("=IHHIIi", 20, NLMSG_DONE, 0, 0, 0, 0)
    )
    assert parse(datagram) == [
        AddressRemoved(LinkAddress(7, socket.AF_INET, V4, 24, 0, 0, 0, None)),
        LinkRemoved(7),
    ]


UP, LOOPBACK, RUNNING, LOWER_UP = 0x1, 0x8, 0x40, 0x10000


@pytest.mark.parametrize(
    ("flags", "admin_up", "carrier"),
    [
        (0, False, False),
        (UP, True, False),
        (UP | RUNNING | LOWER_UP, True, True),
        (UP | LOWER_UP, True, False),  # dormant: there is a carrier, and packets cannot pass yet
        (UP | RUNNING, True, False),
    ],
)
def test_a_link_is_operational_when_it_is_up_and_packets_can_pass(flags, admin_up, carrier):
    datagram = link_message(
        rtnetlink._RTM_NEWLINK,
        flags=flags,
        attributes=[("IFLA_IFNAME", "eth7"), ("IFLA_ADDRESS", "02:00:00:00:00:07")],
    )
    link = Link(7, "eth7", admin_up, carrier, bytes.fromhex("020000000007"), loopback=False, mtu=0)
    assert parse(datagram) == [LinkChanged(link)]
    assert link.operational == (admin_up and carrier)


def test_a_link_tells_how_often_it_lost_its_carrier_where_the_kernel_counts():
    attributes = [("IFLA_IFNAME", "eth7"), ("IFLA_CARRIER_UP_COUNT", 4), ("IFLA_CARRIER_DOWN_COUNT", 3)]
    assert parse(link_message(rtnetlink._RTM_NEWLINK, attributes=attributes))[0].link.carrier_down_count == 3
    assert parse(link_message(rtnetlink._RTM_NEWLINK))[0].link.carrier_down_count == 0


def test_a_loopback_link_is_known_as_such():
    (event,) = parse(link_message(rtnetlink._RTM_NEWLINK, flags=UP | LOOPBACK))
    assert event.link.loopback


def test_a_port_that_leaves_its_bridge_is_not_a_link_that_is_gone():
    assert parse(link_message(rtnetlink._RTM_DELLINK, family=AF_BRIDGE)) == []


def test_a_wireless_event_says_nothing_about_the_link():
    attributes = [("IFLA_IFNAME", "wlan0"), ("IFLA_WIRELESS", "00ff")]
    assert parse(link_message(rtnetlink._RTM_NEWLINK, attributes=attributes)) == []


WHOLE = [
    address_request(7, V4, 24, valid_seconds=3),
    address_removal(7, V6, 64),
    link_message(rtnetlink._RTM_NEWLINK),
]


@pytest.mark.parametrize("whole", WHOLE, ids=["NEWADDR", "DELADDR", "NEWLINK"])
def test_a_truncated_message_is_refused_by_name(whole):
    for length in range(1, len(whole)):
        with pytest.raises(NetlinkMalformed, match="netlink"):
            parse(whole[:length])


def test_a_message_shorter_than_its_header_is_refused():
    with pytest.raises(NetlinkMalformed, match="says 0 bytes"):
        parse(bytes(16))


def test_an_attribute_longer_than_its_message_is_refused():
    message = bytearray(address_removal(7, V4, 24))
    struct.pack_into("=H", message, 24, 200)
    with pytest.raises(NetlinkMalformed, match="attribute says 200 bytes"):
        parse(bytes(message))


def test_an_address_of_a_wrong_length_is_refused():
    message = bytearray(address_removal(7, V4, 24))
    message[16] = socket.AF_INET6
    with pytest.raises(NetlinkMalformed, match="an address of 4 bytes"):
        parse(bytes(message))


@given(st.binary(max_size=80))
def test_no_bytes_make_parsing_fail_otherwise_than_by_name(datagram):
    with contextlib.suppress(NetlinkMalformed):
        assert all(isinstance(event, Event) for event in parse(datagram))


@given(st.sampled_from(WHOLE), st.integers(0, 200), st.binary(min_size=1, max_size=8))
def test_no_damage_to_a_message_makes_parsing_fail_otherwise_than_by_name(whole, at, damage):
    at %= len(whole)
    with contextlib.suppress(NetlinkMalformed):
        assert all(isinstance(event, Event) for event in parse(whole[:at] + damage + whole[at + len(damage) :]))
