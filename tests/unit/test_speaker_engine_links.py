"""The table of links, and what is chosen from it."""

from __future__ import annotations

import socket

from holdfast_speaker.engine.links import LinkTable, has_subnet_of, interface_for, source_address
from holdfast_speaker.host.netlink import (
    ADDRESS_PROTOCOL,
    AddressAdded,
    AddressRemoved,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
)

TENTATIVE, DAD_FAILED = 0x40, 0x08
LINK_SCOPE = 253


def packed(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def link(index, name, *, loopback=False):
    return Link(index, name, admin_up=True, carrier=True, mac=bytes(6), loopback=loopback)


def on(index, text, *, protocol=0, flags=0x80, scope=0):
    address, _, prefix_length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return LinkAddress(index, family, packed(address), int(prefix_length), protocol, flags, scope, None)


def table(links, addresses=()):
    made = LinkTable()
    made.replace(links, addresses)
    return made


LO, ETH0, ETH1 = link(1, "lo", loopback=True), link(2, "eth0"), link(3, "eth1")


def test_links_are_found_by_name_and_index():
    known = table([LO, ETH0])
    assert known.link("eth0") == ETH0
    assert known.by_index[2] == ETH0
    assert known.link("eth1") is None


def test_addresses_keep_the_kernels_order():
    first, second = on(2, "10.0.0.9/24"), on(2, "10.0.0.1/24")
    assert table([ETH0], [first, second]).addresses(2) == [first, second]


def test_a_dump_replaces_everything():
    known = table([ETH0], [on(2, "10.0.0.9/24")])
    known.replace([ETH1], [])
    assert (known.link("eth0"), known.addresses(2), known.link("eth1")) == (None, [], ETH1)


def test_a_renamed_link_is_found_by_its_new_name_only():
    known = table([ETH0])
    known.apply(LinkChanged(link(2, "wan")))
    assert (known.link("eth0"), known.link("wan")) == (None, link(2, "wan"))


def test_two_links_can_swap_their_names():
    known = table([ETH0, ETH1])
    for event in (link(2, "spare"), link(3, "eth0"), link(2, "eth1")):
        known.apply(LinkChanged(event))
    assert (known.link("eth0"), known.link("eth1"), known.link("spare")) == (
        link(3, "eth0"),
        link(2, "eth1"),
        None,
    )


def test_a_removed_link_takes_its_addresses_along():
    known = table([ETH0], [on(2, "10.0.0.9/24")])
    known.apply(LinkRemoved(2))
    assert (known.link("eth0"), known.by_index, known.addresses(2)) == (None, {}, [])


def test_the_removal_of_what_is_not_known_changes_nothing():
    known = table([ETH0], [on(2, "10.0.0.9/24")])
    known.apply(LinkRemoved(9))
    known.apply(AddressRemoved(on(9, "10.0.0.9/24")))
    known.apply(AddressRemoved(on(2, "10.0.0.9/32")))
    assert known.addresses(2) == [on(2, "10.0.0.9/24")]


def test_addresses_come_and_go():
    known = table([ETH0])
    known.apply(AddressAdded(on(2, "fe80::1/64", flags=TENTATIVE)))
    known.apply(AddressAdded(on(2, "fe80::1/64")))
    assert known.addresses(2) == [on(2, "fe80::1/64")]
    known.apply(AddressRemoved(on(2, "fe80::1/64")))
    assert known.addresses(2) == []


def test_the_interface_is_the_one_whose_subnet_holds_the_first_address():
    known = table([ETH0, ETH1], [on(2, "10.0.0.9/24"), on(3, "10.0.1.9/24")])
    assert interface_for(known, [(packed("10.0.1.200"), 24), (packed("10.0.0.200"), 24)]) == ETH1
    assert interface_for(known, [(packed("10.0.2.200"), None)]) is None
    assert interface_for(known, []) is None


def test_the_longest_prefix_wins_and_then_the_first_link():
    known = table([ETH1, ETH0], [on(3, "10.0.0.8/24"), on(2, "10.0.0.9/8")])
    assert interface_for(known, [(packed("10.0.0.200"), None)]) == ETH1
    known = table([ETH1, ETH0], [on(3, "10.0.0.8/24"), on(2, "10.0.0.9/24")])
    assert interface_for(known, [(packed("10.0.0.200"), None)]) == ETH0


def test_loopback_our_own_and_single_addresses_do_not_decide_the_interface():
    vip = packed("10.0.0.200")
    assert interface_for(table([LO], [on(1, "10.0.0.9/8")]), [(vip, None)]) is None
    assert interface_for(table([ETH0], [on(2, "10.0.0.9/24", protocol=ADDRESS_PROTOCOL)]), [(vip, None)]) is None
    assert interface_for(table([ETH0], [on(2, "10.0.0.200/32")]), [(vip, None)]) is None


def test_an_ipv6_address_finds_its_interface_and_not_one_of_ipv4():
    known = table([ETH0, ETH1], [on(2, "0.0.0.0/0"), on(3, "2001:db8::9/64")])
    assert interface_for(known, [(packed("2001:db8::c8"), None)]) == ETH1


def test_a_link_local_address_decides_only_when_there_is_no_other():
    known = table([ETH0, ETH1], [on(2, "fe80::2/64"), on(3, "fe80::3/64"), on(3, "2001:db8::9/64")])
    assert interface_for(known, [(packed("fe80::c8"), 64), (packed("2001:db8::c8"), 64)]) == ETH1
    assert interface_for(known, [(packed("fe80::c8"), 64)]) == ETH0


def v4_source(known, excluded=frozenset(), wanted=None):
    return source_address(known, 2, socket.AF_INET, excluded, wanted)


def v6_source(known, excluded=frozenset(), wanted=None):
    return source_address(known, 2, socket.AF_INET6, excluded, wanted)


def test_the_ipv4_source_is_the_first_global_address_that_is_no_vip():
    known = table(
        [ETH0],
        [
            on(2, "169.254.0.1/16", scope=LINK_SCOPE),
            on(2, "10.0.0.200/24", protocol=ADDRESS_PROTOCOL),
            on(2, "10.0.0.201/24"),
            on(2, "10.0.0.9/24"),
            on(2, "10.0.0.10/24"),
        ],
    )
    assert v4_source(known, {packed("10.0.0.201")}) == packed("10.0.0.9")


def test_the_ipv6_source_is_the_first_link_local_address_that_is_usable():
    known = table(
        [ETH0],
        [
            on(2, "2001:db8::9/64"),
            on(2, "fe80::c8/64", scope=LINK_SCOPE, protocol=ADDRESS_PROTOCOL),
            on(2, "fe80::1/64", scope=LINK_SCOPE, flags=TENTATIVE),
            on(2, "fe80::2/64", scope=LINK_SCOPE, flags=DAD_FAILED),
            on(2, "fe80::3/64", scope=LINK_SCOPE),
        ],
    )
    assert v6_source(known) == packed("fe80::3")
    assert v6_source(known, {packed("fe80::3")}) is None


def test_a_wanted_source_is_taken_as_soon_as_it_is_usable_and_nothing_else_instead():
    known = table([ETH0], [on(2, "10.0.0.9/24"), on(2, "2001:db8::9/64", flags=TENTATIVE)])
    assert v4_source(known, wanted=packed("10.0.0.9")) == packed("10.0.0.9")
    assert v4_source(known, wanted=packed("10.0.0.10")) is None
    assert v6_source(known, wanted=packed("2001:db8::9")) is None
    known.apply(AddressAdded(on(2, "2001:db8::9/64")))
    assert v6_source(known, wanted=packed("2001:db8::9")) == packed("2001:db8::9")


def test_a_link_without_a_usable_address_has_no_source():
    assert v4_source(table([ETH0])) is None
    assert v4_source(table([ETH0], [on(3, "10.0.0.9/24")])) is None


def test_a_link_has_the_subnet_of_an_address_when_an_address_of_its_own_lies_there():
    known = table([ETH0], [on(2, "10.0.0.9/24"), on(2, "10.0.1.200/24", protocol=ADDRESS_PROTOCOL)])
    assert has_subnet_of(known, 2, packed("10.0.0.200"))
    assert not has_subnet_of(known, 2, packed("10.0.1.201"))
    assert not has_subnet_of(known, 3, packed("10.0.0.200"))
