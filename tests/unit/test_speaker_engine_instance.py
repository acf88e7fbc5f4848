"""Which link a VirtualIP lives on and what it sends from, on a simulated host whose links and addresses change."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast_api.reasons import Obstacle
from holdfast_api.resources import ForeignRouters
from holdfast_speaker.vrrp.instants import SECOND, Instant
from holdfast_testing.engine_lan import Lan, SimulatedHost, packed, router

VIP = "10.9.0.200"
MEMBERS = {"members": ["10.9.0.1", "10.9.0.2"], "foreign_routers": ForeignRouters.REFUSE}


def link_of(host: SimulatedHost) -> str:
    """The name of the link that the VIP lives on."""
    link = host.instance().link
    return link.name if link is not None else ""


def pair(interval_ms: int = 100, **fields: Any) -> tuple[Lan, SimulatedHost, SimulatedHost, SimulatedHost]:
    """n1 is Master, n2 is Backup, and a client is beside them."""
    lan = Lan("n1", "n2", "client")
    n1, n2, client = lan.hosts
    fields |= {"advertisement_interval_milliseconds": interval_ms}
    n1.start(router(priority=110, **fields))
    lan.until(lambda: n1.state() == "Master")
    n2.start(router(**fields))
    lan.run(1.0 + 4 * interval_ms / 1000)
    for host in (n1, n2):
        host.log.lines.clear()
        host.kernel.deleted.clear()
    return lan, n1, n2, client


# ----- what is sent from -----


@pytest.mark.parametrize("interval_ms", [100, 1000])
@pytest.mark.parametrize("away_intervals", [0.0, 0.5, 0.9, 1.5, 1.8])
@pytest.mark.parametrize("members", [{}, MEMBERS], ids=["members unknown", "members known"])
def test_an_own_address_that_comes_back_before_the_backups_miss_anything_costs_nothing(
    interval_ms, away_intervals, members
):
    lan, n1, n2, client = pair(interval_ms, **members)
    n1.remove("10.9.0.1/24")
    seen = lan.probe(client, VIP, away_intervals * interval_ms / 1000)
    n1.add("10.9.0.1/24")
    assert set(seen) <= {"n1"}, "the host answers all the time"
    assert lan.probe(client, VIP, 5 * interval_ms / 1000).keys() == {"n1"}
    assert (n1.state(), n2.state(), lan.holders()) == ("Master", "Backup", ["n1"])
    assert VIP not in n1.kernel.deleted


@pytest.mark.parametrize("nopreempt", [True, False])
@pytest.mark.parametrize("in_a_cluster", [True, False])
def test_a_master_that_was_given_an_address_that_the_others_refuse_yields_to_whoever_takes_over(
    in_a_cluster, nopreempt
):
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    for host in lan.hosts:
        host.node_addresses = ["10.9.0.1", "10.9.0.2"] if in_a_cluster else []
    other = router("other", "10.9.0.201/24", vrid=52)
    n2.start(other)
    n1.start(router(priority=110, nopreempt=nopreempt, **MEMBERS))
    lan.until(lambda: n1.state() == "Master")
    n2.configure(other, router(nopreempt=nopreempt, **MEMBERS))
    lan.run(2.0)
    assert lan.holders() == ["n1"]
    n1.remove("10.9.0.1/24")
    n1.add("10.9.0.77/24")
    lan.run(1.0)
    assert lan.holders() == (["n2"] if in_a_cluster else ["n1", "n2"])
    edited = {"members": ["10.9.0.2", "10.9.0.77"], "foreign_routers": ForeignRouters.REFUSE}
    n2.configure(other, router(nopreempt=nopreempt, **edited))
    n1.configure(router(priority=110, nopreempt=nopreempt, **edited))
    lan.run(1.0)
    assert lan.holders() == (["n2"] if in_a_cluster and nopreempt else ["n1"])


def test_an_own_address_that_stays_away_is_a_move_without_a_hole():
    lan, n1, n2, client = pair()
    n1.remove("10.9.0.1/24")
    seen = lan.probe(client, VIP, 3.0)
    assert seen.get(None, 0) <= 12, "a tenth of a second: the Backup takes over as it is given up"
    assert (n1.instance().router.obstacles, n2.state()) == ({Obstacle.NO_SOURCE_ADDRESS}, "Master")


def test_a_renewal_that_reorders_the_addresses_changes_nothing():
    lan, n1, n2, _ = pair(**MEMBERS)
    n1.add("10.9.0.11/24")
    lan.run(0.5)
    n1.kernel.add_address(n1.eth0, packed("10.9.0.1"), 24, valid_seconds=3600, exclusive=False)
    lan.run(2.0)
    assert n1.instance().sources == {4: packed("10.9.0.1")}
    assert (n1.state(), n2.state(), n2.log.messages()) == ("Master", "Backup", [])


def test_a_source_that_went_and_came_behind_another_stays_the_source():
    lan, n1, n2, _ = pair(**MEMBERS)
    n1.kernel.interfaces[n1.eth0].promote_secondaries = True
    n1.add("10.9.0.11/24")
    n1.remove("10.9.0.1/24")
    lan.run(0.05)
    n1.add("10.9.0.1/24")
    n1.kernel.lose_events()  # what is known is in the kernel's order from now on
    lan.run(2.0)
    assert n1.running.table.sources(n1.eth0, 4)[0] == packed("10.9.0.11")
    assert n1.instance().sources == {4: packed("10.9.0.1")}
    assert (n1.state(), n2.state(), n2.warnings) == ("Master", "Backup", [])


def test_a_host_that_is_renumbered_among_its_known_addresses_moves_nothing():
    members = {"members": ["10.9.0.1", "10.9.0.11", "10.9.0.2"], "foreign_routers": ForeignRouters.REFUSE}
    lan, n1, n2, _ = pair(**members)
    n1.remove("10.9.0.1/24")
    lan.run(0.02)
    n1.add("10.9.0.11/24")
    lan.run(2.0)
    assert n1.instance().sources == {4: packed("10.9.0.11")}
    assert (n1.state(), n2.state(), n2.warnings) == ("Master", "Backup", [])


def test_of_several_addresses_the_one_that_the_others_know_is_taken():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.add("10.9.0.11/24")
    n1.start(router(members=["10.9.0.11", "10.9.0.2"], foreign_routers=ForeignRouters.REFUSE))
    assert n1.instance().sources == {4: packed("10.9.0.11")}


def test_a_vip_of_any_virtual_ip_is_no_source():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.add("10.9.0.201/24")
    n1.remove("10.9.0.1/24")
    n1.start(router(interface="eth0"), router("other", "10.9.0.201/24", vrid=52, interface="eth0"))
    assert n1.instance().router.obstacles == {Obstacle.NO_SOURCE_ADDRESS}
    assert n1.instance().sources == {}


def test_a_configured_source_that_is_not_there_is_named():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(router(source_addresses=["10.9.0.9"]))
    detail = n1.instance().obstacle_details[Obstacle.NO_SOURCE_ADDRESS]
    assert detail == "eth0 has no IPv4 address to send from: the configured source address is not on it"
    n1.add("10.9.0.9/24")
    lan.run(2.0)
    assert (n1.state(), n1.instance().sources) == ("Master", {4: packed("10.9.0.9")})


def test_addresses_that_cannot_be_used_are_named_as_what_they_are():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.kernel.interfaces[n1.eth0].detects_duplicates = True
    for address in list(n1.kernel.interfaces[n1.eth0].v6):
        n1.kernel.remove_address(n1.eth0, address.address, address.prefix_length)
    n2.add("fe80::77/64", flags=2)
    n1.add("fe80::77/64")
    n1.start(router("web", "fd00::200/64", interface="eth0"))
    assert "checked for duplicates" in n1.instance().obstacle_details[Obstacle.NO_SOURCE_ADDRESS]
    lan.run(3.0)
    assert "another host has its address" in n1.instance().obstacle_details[Obstacle.NO_SOURCE_ADDRESS]


# ----- the link -----


def test_naming_the_interface_that_was_found_anyway_moves_nothing_nor_does_taking_the_name_back():
    lan, n1, n2, client = pair()
    for interface in ("eth0", None):
        for host, priority in ((n1, 110), (n2, 100)):
            host.configure(router(priority=priority, interface=interface))
        assert lan.probe(client, VIP, 1.0) == {"n1": 100}
    assert (n1.kernel.deleted, n1.log.messages(), n2.log.messages()) == ([], [], [])


def test_an_address_that_is_edited_into_another_subnet_takes_the_virtual_ip_there():
    lan = Lan("n1")
    (n1,) = lan.hosts
    eth1 = n1.kernel.add_link("eth1", bytes((2, 0, 0, 0, 1, 1)))
    n1.kernel.set_up(eth1, True)
    n1.add("10.8.0.1/24", eth1)
    n1.start(router())
    lan.until(lambda: n1.state() == "Master")
    n1.configure(router("web", "10.8.0.200/24"))
    lan.run(0.01)
    assert not n1.has(VIP)
    lan.run(2.0)
    assert (n1.state(), link_of(n1)) == ("Master", "eth1")
    assert n1.has("10.8.0.200")


@pytest.mark.parametrize("pause", [0.0, 0.05, 3.0])
def test_a_subnet_that_moves_to_a_bridge_over_the_nic_takes_the_vip_along_and_back(pause):
    lan, n1, n2, client = pair()
    kernel = n1.kernel
    bridge = kernel.add_link("br0", bytes((2, 0, 0, 0, 0, 1)), bridge=True, own_mac=False)
    kernel.enslave(n1.eth0, bridge)
    kernel.set_up(bridge, True)
    n1.remove("10.9.0.1/24")
    lan.run(pause)
    n1.add("10.9.0.1/24", bridge)
    lan.run(6.0)
    assert link_of(n1) == "br0"
    assert sorted([n1.state(), n2.state()]) == ["Backup", "Master"]
    n2.die()
    lan.run(4.0)
    assert (n1.state(), client.wire.where(packed(VIP))) == ("Master", "n1")
    n1.remove("10.9.0.1/24", bridge)
    kernel.release(n1.eth0)
    kernel.remove_link(bridge)
    n1.add("10.9.0.1/24")
    lan.run(6.0)
    assert (n1.state(), link_of(n1)) == ("Master", "eth0")


def test_a_wider_prefix_that_was_there_first_is_left_for_the_subnet_itself():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.remove("10.9.0.1/24")
    vpn = n1.kernel.add_link("tun0", bytes(6), answers_arp=False)
    n1.kernel.set_up(vpn, True)
    n1.add("10.200.0.1/8", vpn)
    n1.start(router())
    lan.run(3.0)
    assert link_of(n1) == "tun0"
    n1.add("10.9.0.1/24")
    lan.run(3.0)
    assert link_of(n1) == "eth0"
    assert (n1.state(), n1.has(VIP)) == ("Master", True)


def test_a_wider_prefix_is_no_place_to_go_while_the_subnet_is_away_for_a_moment():
    lan, n1, n2, client = pair()
    vpn = n1.kernel.add_link("tun0", bytes(6), answers_arp=False)
    n1.kernel.set_up(vpn, True)
    n1.add("10.200.0.1/8", vpn)
    lan.run(0.5)
    n1.remove("10.9.0.1/24")
    assert lan.probe(client, VIP, 0.08) == {"n1": 8}
    n1.add("10.9.0.1/24")
    lan.run(2.0)
    assert (link_of(n1), n1.state(), n2.state()) == ("eth0", "Master", "Backup")
    assert VIP not in n1.kernel.deleted


def test_a_virtual_ip_of_another_name_is_the_same_router_with_its_history():
    lan, n1, n2, _ = pair()
    before = n1.instance().last_move
    for host, priority in ((n2, 100), (n1, 110)):
        host.configure(router("other", priority=priority))
        lan.run(1.0)
    assert (n1.state("other"), n2.state("other")) == ("Master", "Backup")
    assert n1.instance("other").last_move == before
    assert set(n1.running.instances) == {"default/other"}
    n1.configure()
    lan.run(1.0)
    assert (lan.holders(), n1.running.instances) == (["n2"], {})


def test_the_source_in_use_stays_however_long_another_is_before_it():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.add("10.9.0.7/24")
    n1.start(router())
    instance, table = n1.instance(), n1.running.table
    instance.sources[4] = packed("10.9.0.7")
    for second in (0, 5, 60):
        instance.find_sources(table, frozenset(), Instant(lan.clock.now() + second * SECOND))
        assert instance.sources[4] == packed("10.9.0.7")
