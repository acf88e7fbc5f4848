"""The whole engine on simulated hosts: half of a VirtualIP, floods, suspended hosts, many VirtualIPs."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from ipaddress import IPv6Address

import pytest
from msgspec import structs

from holdfast_api.errors import ConfigurationError
from holdfast_api.reasons import Health, Obstacle, Reason
from holdfast_api.resources import ForeignRouters
from holdfast_speaker.engine.ports import Datagram, Listener
from holdfast_speaker.engine.reports import virtual_ip_statuses
from holdfast_speaker.vrrp.instants import MILLISECOND, Duration
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, encode
from holdfast_testing.engine_lan import Lan, SimulatedHost, packed, router

VIP, VIP6 = "10.9.0.200", "fd00::200"


def both_families() -> tuple[Lan, SimulatedHost, SimulatedHost, SimulatedHost]:
    lan = Lan("n1", "n2", "client")
    n1, n2, client = lan.hosts
    for number, host in enumerate(lan.hosts, start=1):
        host.add(f"fd00::{number}/64", flags=2)
    n1.start(router("web", f"{VIP}/24", f"{VIP6}/64", priority=110))
    lan.run(2.0)
    n2.start(router("web", f"{VIP}/24", f"{VIP6}/64"))
    lan.run(2.0)
    return lan, n1, n2, client


# ----- half is not nothing -----


def test_a_node_that_loses_a_family_gives_way_to_one_that_has_both():
    lan, n1, _, client = both_families()
    n1.kernel.set_disable_ipv6(n1.eth0, True)
    seen = lan.probe(client, VIP, 3.0)
    assert (lan.holders(VIP), lan.holders(VIP6)) == (["n2"], ["n2"])
    assert None not in seen
    assert (n1.state(), n1.instance().router.effective_priority) == ("Backup", 14)


def test_where_no_node_has_both_one_of_them_holds_what_can_be_held_and_both_again_later():
    lan, n1, n2, client = both_families()
    for host in (n2, n1):
        host.kernel.set_disable_ipv6(host.eth0, True)
    seen = lan.probe(client, VIP, 3.0)
    assert seen == {"n1": 300}
    assert (lan.holders(VIP), lan.holders(VIP6)) == (["n1"], [])
    assert "IPv6" in n1.warnings[0]
    for number, host in enumerate((n1, n2), start=1):
        host.kernel.set_disable_ipv6(host.eth0, False)
        host.add(f"fd00::{number}/64", flags=2)
    lan.run(5.0)
    assert (lan.holders(VIP), lan.holders(VIP6)) == (["n1"], ["n1"])
    assert (n1.warnings, n2.warnings) == ([], [])


def test_a_family_that_is_added_and_that_no_node_speaks_takes_nothing_away():
    lan = Lan("n1", "n2", "client")
    n1, n2, client = lan.hosts
    for host in (n1, n2):
        host.kernel.set_disable_ipv6(host.eth0, True)
    n1.start(router(priority=110))
    lan.run(2.0)
    n2.start(router())
    lan.run(2.0)
    for host, priority in ((n1, 110), (n2, 100)):
        host.configure(router("web", f"{VIP}/24", f"{VIP6}/64", priority=priority))
    assert lan.probe(client, VIP, 3.0) == {"n1": 300}


# ----- floods, and who did not run -----


def rival(priority: int) -> Datagram:
    source = packed("10.9.0.66")
    payload = encode(3, 51, priority, Duration(100 * MILLISECOND), (packed(VIP),), source, MULTICAST_GROUP_V4)
    return Datagram(payload, source, MULTICAST_GROUP_V4, 255)


@pytest.mark.parametrize("priority", [1, 0], ids=["a rival", "a farewell"])
def test_a_flood_is_answered_with_one_announcement_a_second(priority):
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(router())
    lan.run(10.0)
    announced: list[bytes] = []
    transmit = n1.wire.transmit
    vip = packed(VIP)

    def noted(index: int, frames: Sequence[bytes]) -> int:
        announced.extend(frame for frame in frames if frame[28:32] == vip)
        return transmit(index, frames)

    n1.wire.transmit = noted
    for _ in range(3000):
        n1.running.receive(Listener(n1.eth0, 4), [rival(priority)], lan.clock.now())
        lan.run(0.001)
    assert 2 <= len(announced) <= 4
    assert n1.state() == "Master"


def test_a_host_that_was_suspended_yields_to_who_took_over_meanwhile():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.start(router(priority=110))
    lan.run(2.0)
    n2.start(router())
    lan.run(2.0)
    n1.asleep = True
    lan.run(60.0)
    assert n2.state() == "Master"
    n1.asleep = False
    lan.run(1.0)
    assert (n1.state(), n2.state(), lan.holders()) == ("Backup", "Master", ["n2"])
    assert n1.instance().last_move.reason is Reason.SUPERSEDED_WHILE_STALLED


# ----- what is known -----


def test_not_knowing_the_health_is_no_reason_to_forget_it():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(router(tracks_services=True))
    for health in (Health.HEALTHY, Health.UNKNOWN):
        n1.running.report_health("default/web", health, "", lan.clock.now())
    assert n1.instance().router.health is Health.HEALTHY


def test_a_list_that_names_this_node_alone_names_no_other():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    own, other = "10.9.0.1", "10.9.0.2"
    n1.add("10.9.0.7/24")
    n1.start(router(members=[own, "10.9.0.7"], foreign_routers=ForeignRouters.REFUSE))
    n2.start(router("both", "10.9.0.210/24", vrid=52, members=[own, other], foreign_routers=ForeignRouters.REFUSE))
    lan.run(3.0)
    assert n1.instance().router.configuration.families[0].members == frozenset()
    assert n2.instance("both").router.configuration.families[0].members == {packed(own)}
    assert not n1.instance().router.unproved, "there is nobody whom it could have heard"


# ----- many -----


def test_an_event_of_another_link_is_looked_at_by_nobody_whom_it_does_not_concern():
    lan = Lan("n1")
    (n1,) = lan.hosts
    other = n1.kernel.add_link("veth1", bytes((2, 0, 0, 0, 9, 9)))
    n1.start(*(router(f"v{number}", f"10.9.0.{number}/24", vrid=number) for number in range(20, 60)))
    lan.run(3.0)
    looked: list[int] = []
    look = n1.running._look
    n1.running._look = lambda instances, now: looked.append(len(instances)) or look(instances, now)
    n1.kernel.set_up(other, True)
    n1.add("172.16.0.1/32", other)
    lan.run(0.1)
    assert looked == []
    n1.add("10.9.0.61/24")
    lan.run(0.1)
    assert looked == [], "its subnet was there"
    n1.add("10.9.0.30/24", other)
    lan.run(0.1)
    assert 0 < sum(looked) <= 80


def test_what_a_link_has_is_worked_out_once_for_all_that_live_there():
    lan = Lan("n1")
    (n1,) = lan.hosts
    asked: list[str] = []
    n1.kernel.forwards_ipv6 = lambda name: asked.append(name) or False
    n1.start(*(router(f"v{number}", f"10.9.0.{number}/24", vrid=number) for number in range(20, 60)))
    assert asked == ["eth0"]


def test_many_that_begin_together_are_all_held_by_one_node_each():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    many = [router(f"v{number}", f"10.9.0.{number}/24", vrid=number) for number in range(20, 60)]
    n1.start(*many)
    n2.start(*many)
    lan.run(4.0)
    for number in range(20, 60):
        assert len(lan.holders(f"10.9.0.{number}")) == 1


def test_a_wish_for_a_virtual_ip_that_is_not_there_is_refused_and_changes_nothing():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(router())
    lan.run(2.0)
    with pytest.raises(ConfigurationError, match="there is no VirtualIP other"):
        n1.running.switchover("other", "n2", lan.clock.now())
    assert n1.state() == "Master"


def test_a_wish_for_a_host_that_nobody_knows_is_refused_and_changes_nothing():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.start(router(priority=110))
    n2.start(router())
    lan.run(5.0)
    known = {router().name: ["n1", "n2"]}
    n1.running.configure(structs.replace(n1.running.configuration, node_names=known), lan.clock.now())
    with pytest.raises(ConfigurationError, match=r"no host of \S+ is named n9; known are: n1, n2"):
        n1.running.switchover("web", "n9", lan.clock.now())
    lan.run(2.0)
    assert n1.state() == "Master"
    n1.running.switchover("web", "n2", lan.clock.now())
    lan.run(2.0)
    assert n2.state() == "Master"


def test_a_wish_for_a_host_in_maintenance_is_refused_and_says_so():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.start(router())
    lan.run(5.0)
    n2.start(router(draining=True, draining_reason="maintenance since noon"))
    lan.run(2.0)
    with pytest.raises(ConfigurationError, match="this node takes no VIP: maintenance since noon"):
        n2.running.switchover("web", "n2", lan.clock.now())
    assert n1.state() == "Master"


def test_a_wish_of_a_preempting_router_says_that_the_vip_will_come_back_and_it_does():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.start(router(priority=110, nopreempt=False))
    n2.start(router(nopreempt=False))
    lan.run(5.0)
    assert "it will come back to the healthy host" in n1.running.switchover("web", "n2", lan.clock.now())
    lan.run(10.0)
    assert n1.state() == "Master"
    told = n2.running.switchover("web", "n2", lan.clock.now())
    assert "it will come back to the healthy host with the highest priority when n2 gives it up" in told
    lan.run(10.0)
    assert n2.state() == "Master"


def test_a_backup_says_after_how_much_silence_it_takes_over():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    for host in lan.hosts:
        host.start(router(advertisement_interval_milliseconds=20, priority=110 if host is n1 else 100))
    lan.run(5.0)

    def told(host: SimulatedHost) -> int:
        (status,) = virtual_ip_statuses(host.instance(), [])
        return status.takes_over_after_milliseconds

    assert told(n2) == 73, "three intervals and the skew of 12.1875 ms, rounded up"
    assert told(n1) == 0


def test_an_engine_without_virtual_ips_takes_in_what_happens_and_is_never_due():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start()
    n1.add("10.9.0.77/24")
    lan.run(1.0)
    assert n1.running.next_deadline() is None
    assert packed("10.9.0.77") in n1.running.table.own(n1.eth0)


# ----- what stands in the way of one, and goes with another -----


def two_links() -> tuple[Lan, SimulatedHost, int]:
    lan = Lan("n1")
    (n1,) = lan.hosts
    eth1 = n1.kernel.add_link("eth1", bytes((2, 0, 0, 0, 1, 1)))
    n1.kernel.set_up(eth1, True)
    n1.add("10.8.0.1/24", eth1)
    return lan, n1, eth1


def test_a_virtual_router_id_is_free_as_soon_as_who_had_it_is_on_another_link():
    lan, n1, eth1 = two_links()
    n1.start(router("a", "10.9.0.200/24"), router("b", "10.9.0.101/24"))
    lan.run(2.0)
    assert n1.instance("b").router.obstacles == {Obstacle.VIRTUAL_ROUTER_ID_IN_USE}
    n1.add("10.9.0.129/25", eth1)  # fits the first alone
    lan.run(2.0)
    assert (n1.state("a"), n1.state("b")) == ("Master", "Master")


def test_of_two_with_one_virtual_router_id_that_meet_on_a_link_who_comes_is_out_also_after_a_restart():
    lan, n1, eth1 = two_links()
    both = router("a", "10.9.0.200/24"), router("b", "10.8.0.201/24")
    n1.start(*both)
    lan.run(2.0)
    assert (n1.state("a"), n1.state("b")) == ("Master", "Master")
    n1.add("10.9.0.129/25", eth1)
    for _ in range(2):
        lan.run(2.0)
        assert n1.instance("a").router.obstacles == {Obstacle.VIRTUAL_ROUTER_ID_IN_USE}
        assert not n1.has("10.9.0.200"), "whoever hears nothing holds nothing"
        assert n1.has("10.8.0.201")
        assert n1.instance("b").last_move.moves == 1
        n1.start(*both, former=n1.die())


def test_a_copy_of_a_vip_counts_as_long_as_its_link_is_up():
    lan, n1, eth1 = two_links()
    n1.add("10.9.0.200/32", eth1)
    n1.start(router())
    lan.run(2.0)
    assert n1.instance().router.obstacles == {Obstacle.ADDRESS_IN_USE}
    n1.kernel.set_up(eth1, False)
    lan.run(2.0)
    assert n1.state() == "Master"
    n1.kernel.set_up(eth1, True)
    lan.run(1.0)
    assert n1.instance().router.obstacles == {Obstacle.ADDRESS_IN_USE}


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOBUFS])
def test_what_was_refused_on_one_link_says_nothing_of_the_next(code):
    lan, n1, eth1 = two_links()
    n1.wire.refuse_sending = lambda index, _width: 0 if index == eth1 else code
    n1.start(router())
    lan.run(60.0)  # by now it waits for half a minute between two attempts
    lan.until(lambda: n1.instance().router.obstacles == {Obstacle.CANNOT_SEND})
    n1.configure(router(interface="eth1"))
    lan.run(2.0)
    assert n1.state() == "Master"


def test_a_source_that_does_not_come_back_is_replaced_though_nothing_else_happens():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.add("fd00::1/64", flags=2)
    n1.start(router("web", "fd00::200/64", advertisement_interval_milliseconds=40_000))
    lan.until(lambda: n1.state() == "Master", within_seconds=200, step=1.0)
    (first,) = n1.instance().sources.values()
    n1.add("fe80::51/64", flags=2)
    lan.run(20.0)
    n1.remove(f"{IPv6Address(first)}/64")
    lan.run(2.0)
    assert n1.instance().sources == {16: packed("fe80::51")}


@pytest.mark.parametrize(
    "after",
    [
        [router("b", "10.9.0.200/24", vrid=51), router("a", "10.9.0.201/24", vrid=52)],
        [
            router("old", "10.9.0.200/24", vrid=51),
            router("a", "10.9.0.203/24", vrid=53),
            router("b", "10.9.0.201/24", vrid=52),
        ],
        [router("b", "10.9.0.200/24", vrid=51), router("c", "10.9.0.201/24", vrid=52)],
    ],
    ids=["swapped", "left to a new one", "in a row"],
)
def test_names_that_change_among_virtual_ips_move_none_of_them(after):
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(router("a", "10.9.0.200/24", vrid=51), router("b", "10.9.0.201/24", vrid=52))
    lan.run(2.0)
    n1.kernel.deleted.clear()
    n1.configure(*after)
    lan.run(2.0)
    assert n1.kernel.deleted == []
    assert {n1.state(item.name.removeprefix("default/")) for item in after} == {"Master"}
    n1.configure()
    assert lan.holders("10.9.0.200") == lan.holders("10.9.0.201") == []
