"""The table of links, and what is chosen from it."""

from __future__ import annotations

import socket

from holdfast_api.messages import LinkStatus
from holdfast_speaker.engine.links import LinkTable, interface_for, is_usable, why_no_source
from holdfast_speaker.engine.ports import (
    ADDRESS_PROTOCOL,
    AddressAdded,
    AddressRemoved,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
)
from holdfast_speaker.engine.reports import link_statuses

TENTATIVE, DAD_FAILED, TEMPORARY = 0x40, 0x08, 0x01
LINK_SCOPE, HOST_SCOPE = 253, 254


def packed(text):
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def link(index, name, *, loopback=False, up=True, controller=0):
    return Link(index, name, admin_up=up, carrier=up, mac=bytes(6), loopback=loopback, controller=controller)


def on(index, text, *, protocol=0, flags=0x80, scope=0, valid_seconds=None):
    address, _, prefix_length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return LinkAddress(index, family, packed(address), int(prefix_length), protocol, flags, scope, valid_seconds)


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
    assert interface_for(known, [(packed("10.0.2.200"), 32)]) is None


def test_the_longest_prefix_wins_and_then_the_first_link():
    known = table([ETH1, ETH0], [on(3, "10.0.0.8/24"), on(2, "10.0.0.9/8")])
    assert interface_for(known, [(packed("10.0.0.200"), 32)]) == ETH1
    known = table([ETH1, ETH0], [on(3, "10.0.0.8/24"), on(2, "10.0.0.9/24")])
    assert interface_for(known, [(packed("10.0.0.200"), 32)]) == ETH0


def test_a_port_whose_bridge_has_the_subnet_too_is_not_chosen():
    vip = [(packed("10.0.0.200"), 24)]
    port, bridge = link(2, "eth0", controller=5), link(5, "br0")
    for length in (16, 24, 25):  # what a port hears, its bridge hears in its place, whatever its own prefix is
        known = table([port, bridge], [on(2, f"10.0.0.129/{length}"), on(5, "10.0.0.129/24")])
        assert interface_for(known, vip) == bridge


def test_a_link_of_a_vrf_is_chosen_although_that_is_its_controller():
    known = table([link(2, "eth0", controller=5), link(5, "red")], [on(2, "10.0.0.1/24")])
    assert interface_for(known, [(packed("10.0.0.200"), 24)]) == link(2, "eth0", controller=5)


def test_loopback_our_own_and_single_addresses_do_not_decide_the_interface():
    vip = packed("10.0.0.200")
    assert interface_for(table([LO], [on(1, "10.0.0.9/8")]), [(vip, 32)]) is None
    assert interface_for(table([ETH0], [on(2, "10.0.0.9/24", protocol=ADDRESS_PROTOCOL)]), [(vip, 32)]) is None
    assert interface_for(table([ETH0], [on(2, "10.0.0.200/32")]), [(vip, 32)]) is None


def test_an_ipv6_address_finds_its_interface_and_not_one_of_ipv4():
    known = table([ETH0, ETH1], [on(2, "0.0.0.0/0"), on(3, "2001:db8::9/64")])
    assert interface_for(known, [(packed("2001:db8::c8"), 32)]) == ETH1


def test_a_link_local_address_decides_only_when_there_is_no_other():
    known = table([ETH0, ETH1], [on(2, "fe80::2/64"), on(3, "fe80::3/64"), on(3, "2001:db8::9/64")])
    assert interface_for(known, [(packed("fe80::c8"), 64), (packed("2001:db8::c8"), 64)]) == ETH1
    assert interface_for(known, [(packed("fe80::c8"), 64)]) == ETH0


def sources(known, width):
    return list(known.sources(2, width))


def test_ipv4_sources_are_the_addresses_that_are_no_vips_those_of_global_scope_first():
    known = table(
        [ETH0],
        [
            on(2, "169.254.0.1/16", scope=LINK_SCOPE),
            on(2, "10.7.0.1/32", scope=HOST_SCOPE),
            on(2, "10.0.0.200/24", protocol=ADDRESS_PROTOCOL),
            on(2, "10.0.0.201/24"),
            on(2, "10.0.0.9/24"),
            on(2, "10.0.0.10/24"),
        ],
    )
    expected = ["10.0.0.201", "10.0.0.9", "10.0.0.10", "169.254.0.1"]
    assert sources(known, 4) == [packed(text) for text in expected]


def test_ipv6_sources_are_the_link_local_addresses_that_are_usable():
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
    assert sources(known, 16) == [packed("fe80::3")]


def test_what_a_link_sends_from_and_what_is_its_own_follows_every_change():
    known = table([ETH0], [on(2, "10.0.0.9/24")])
    assert (sources(known, 4), known.own(2)) == ([packed("10.0.0.9")], {packed("10.0.0.9")})
    known.apply(AddressAdded(on(2, "10.0.0.10/24")))
    assert sources(known, 4) == [packed("10.0.0.9"), packed("10.0.0.10")]
    known.apply(AddressRemoved(on(2, "10.0.0.9/24")))
    assert (sources(known, 4), known.own(2)) == ([packed("10.0.0.10")], {packed("10.0.0.10")})
    known.apply(AddressAdded(on(2, "10.0.0.10/24", flags=DAD_FAILED)))
    assert sources(known, 4) == []
    known.apply(LinkRemoved(2))
    assert (sources(known, 4), known.own(2)) == ([], frozenset())


def test_an_address_that_was_asked_for_may_be_of_any_scope_and_must_be_usable():
    known = table([ETH0], [on(2, "10.0.0.9/24"), on(2, "2001:db8::9/64", flags=TENTATIVE)])
    assert is_usable(known, 2, packed("10.0.0.9"))
    assert not is_usable(known, 2, packed("10.0.0.10"))
    assert not is_usable(known, 3, packed("10.0.0.9"))
    assert not is_usable(known, 2, packed("2001:db8::9"))
    known.apply(AddressAdded(on(2, "2001:db8::9/64")))
    assert is_usable(known, 2, packed("2001:db8::9"))


def test_why_there_is_no_source_is_told():
    assert why_no_source(table([ETH0]), 2, 4, None) == ""
    known = table([ETH0], [on(2, "fe80::1/64", flags=DAD_FAILED), on(2, "10.0.0.9/32", scope=HOST_SCOPE)])
    assert "duplicate address detection failed" in why_no_source(known, 2, 16, None)
    assert "not on it" in why_no_source(known, 2, 4, packed("10.0.0.1"))
    assert "scope" in why_no_source(known, 2, 4, None)
    assert "still being checked" in why_no_source(table([ETH0], [on(2, "fe80::1/64", flags=TENTATIVE)]), 2, 16, None)


def test_the_prefix_of_a_link_for_an_address_is_the_longest_of_its_own():
    known = table(
        [ETH0], [on(2, "10.0.0.9/24"), on(2, "10.0.0.9/8"), on(2, "10.0.1.200/28", protocol=ADDRESS_PROTOCOL)]
    )
    assert known.prefix_length_for(2, packed("10.0.0.200")) == 24
    assert known.prefix_length_for(2, packed("10.0.1.201")) == 8
    assert known.prefix_length_for(3, packed("10.0.0.200")) == 0
    known.apply(AddressRemoved(on(2, "10.0.0.9/24")))
    assert known.prefix_length_for(2, packed("10.0.0.200")) == 8
    known.apply(LinkRemoved(2))
    assert known.prefix_length_for(2, packed("10.0.0.200")) == 0


def test_a_renewed_address_keeps_its_place_and_is_counted_once():
    first, second = on(2, "10.0.0.9/24"), on(2, "10.0.0.10/24")
    known = table([ETH0], [first, second])
    known.apply(AddressAdded(first))
    assert known.addresses(2) == [first, second]
    known.apply(AddressRemoved(first))
    known.apply(AddressRemoved(second))
    assert known.prefix_length_for(2, packed("10.0.0.200")) == 0


def test_where_an_address_is_that_is_not_ours():
    here, ours = on(3, "10.0.0.200/32"), on(2, "10.0.0.200/32", protocol=ADDRESS_PROTOCOL)
    known = table([ETH0, ETH1], [here, ours])
    assert list(known.places_of(packed("10.0.0.200"))) == [here]
    assert known.find_ours(2, packed("10.0.0.200")) == [ours]
    known.apply(LinkRemoved(3))
    assert list(known.places_of(packed("10.0.0.200"))) == []


def test_on_a_kernel_that_does_not_say_whose_an_address_is_claimed_ones_are_ours():
    claimed, stays = on(2, "10.0.0.200/32", valid_seconds=1), on(2, "10.0.0.200/24")
    known = table([ETH0])
    known.claimed.add((2, packed("10.0.0.200")))
    known.apply(AddressAdded(claimed))
    known.apply(AddressAdded(stays))
    assert (list(known.ours(2)), list(known.others(2))) == ([claimed], [stays]), "who puts it there to stay is not us"
    known.apply(LinkRemoved(2))
    assert not known.claimed


# ----- the links that are told -----


def test_links_with_a_global_address_are_told_with_all_their_own():
    known = table(
        [link(3, "veth0"), ETH0, link(4, "eth1")],
        [
            on(2, "fe80::1/64", scope=LINK_SCOPE),
            on(2, "2001:db8::1/64"),
            on(2, "10.0.0.1/24"),
            on(2, "10.0.0.2/24", flags=TEMPORARY),  # of IPv4 it says that the address is a secondary one
            on(2, "10.0.0.200/32", protocol=ADDRESS_PROTOCOL),
            on(2, "10.0.0.201/32"),
            on(2, "2001:db8::77/64", flags=TEMPORARY),
            on(2, "2001:db8::88/64", flags=TENTATIVE),
            on(2, "2001:db8::99/64", flags=DAD_FAILED),
            on(3, "fe80::2/64", scope=LINK_SCOPE),
        ],
    )
    assert link_statuses(known, {packed("10.0.0.201")}) == [
        LinkStatus(name="eth0", addresses=["10.0.0.1/24", "10.0.0.2/24", "2001:db8::1/64", "fe80::1/64"])
    ]


def test_loopback_and_links_that_only_keep_services_are_not_told():
    known = table(
        [LO, link(2, "kube-ipvs0", up=False), link(3, "eth0", up=False)],
        [on(1, "127.0.0.1/8"), on(2, "10.96.0.1/32"), on(3, "10.0.0.1/24")],
    )
    assert [one.name for one in link_statuses(known, set())] == ["eth0"]


def test_of_many_links_and_addresses_the_first_are_told():
    addresses = [on(2, f"10.0.{number // 250}.{number % 250}/16") for number in reversed(range(100))]
    addresses += [on(index, f"10.{index}.0.1/16") for index in range(3, 102)]
    told = link_statuses(table([link(index, f"e{index:03}") for index in range(2, 102)], addresses), set())
    assert [one.name for one in told] == [f"e{index:03}" for index in range(2, 66)]
    assert told[0].addresses == sorted(f"10.0.0.{number}/16" for number in range(64))
