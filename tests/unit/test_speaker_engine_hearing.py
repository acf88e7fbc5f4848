"""Whoever has not heard anybody takes nothing from a holder, and a flap of the carrier moves nothing."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast_api.resources import ForeignRouters, Transport
from holdfast_speaker.engine.ports import Datagram, Listener
from holdfast_speaker.vrrp.instants import SECOND
from holdfast_speaker.vrrp.packet import encode
from holdfast_testing.engine_lan import Lan, SimulatedHost, packed, router

VIP = "10.9.0.200"
KNOWN: dict[str, Any] = {"members": ["10.9.0.1", "10.9.0.2"], "foreign_routers": ForeignRouters.REFUSE}
UNICAST = KNOWN | {"transport": Transport.UNICAST}


def incumbent(priority: int = 100, **fields: Any) -> tuple[Lan, SimulatedHost, SimulatedHost, SimulatedHost]:
    """n2 holds the VIP, and n1 is about to start."""
    lan = Lan("n1", "n2", "client")
    n1, n2, client = lan.hosts
    n2.start(router(priority=priority, **fields))
    lan.until(lambda: n2.state() == "Master")
    lan.run(5.0)
    n2.kernel.deleted.clear()
    return lan, n1, n2, client


@pytest.mark.parametrize("members", [{}, KNOWN], ids=["members unknown", "members known"])
def test_an_answer_to_arp_is_no_proof_that_the_group_is_heard(members):
    lan, n1, n2, _ = incumbent(**members)
    lan.segment.snooped.add(("n1", 4))
    n1.start(router(priority=110, **members))
    lan.run(0.9)
    lan.segment.snooped.clear()
    lan.run(3.0)
    assert (n1.state(), n2.state(), n2.kernel.deleted) == ("Backup", "Master", [])


@pytest.mark.parametrize("late_seconds", [0.9, 2.0, 8.0, 30.0])
@pytest.mark.parametrize("priorities", [(110, 100), (100, 110), (100, 100), (254, 51)])
@pytest.mark.parametrize("fields", [KNOWN, UNICAST], ids=["multicast", "unicast"])
def test_a_port_that_forwards_late_takes_nothing_from_the_incumbent(late_seconds, priorities, fields):
    lan, n1, n2, client = incumbent(priorities[1], **fields)
    lan.segment.blocked.add("n1")
    n1.start(router(priority=priorities[0], **fields))
    lan.run(late_seconds)
    lan.segment.blocked.clear()
    seen = lan.probe(client, VIP, 3.0)
    assert (n1.state(), n2.state(), lan.holders(), n2.kernel.deleted) == ("Backup", "Master", ["n2"], [])
    assert seen.get("n1", 0) <= 20, "who asked while both had it is told at once"
    assert None not in seen


def test_where_members_are_unknown_a_start_delay_does_the_same():
    lan, n1, n2, _ = incumbent()
    lan.segment.blocked.add("n1")
    n1.start(router(priority=110, start_delay_milliseconds=10_000))
    lan.run(8.0)
    lan.segment.blocked.clear()
    lan.run(5.0)
    assert (n1.state(), n2.state(), n2.kernel.deleted) == ("Backup", "Master", [])


def test_who_is_alone_among_known_members_holds_with_the_lowest_healthy_priority_and_says_so():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.start(router(priority=110, **KNOWN))
    lan.run(3.0)
    assert (n1.state(), n1.instance().router.unproved, n1.instance().router.effective_priority) == ("Master", True, 50)
    n2.start(router("other", "10.9.0.210/24", vrid=52, **KNOWN))
    lan.run(4.0)
    assert not n1.instance().router.unproved, "any VRRP advertisement of another host is a proof"
    assert n1.instance().router.effective_priority == 110


def flap(lan: Lan, host: SimulatedHost, seconds: float) -> None:
    host.kernel.set_carrier(host.eth0, False)
    lan.run(seconds)
    host.kernel.set_carrier(host.eth0, True)


@pytest.mark.parametrize(("interval_ms", "away_seconds"), [(1000, 0.05), (1000, 2.4), (100, 0.02), (100, 0.24)])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("fields", [{}, KNOWN], ids=["members unknown", "members known"])
@pytest.mark.parametrize("priorities", [(110, 100), (100, 110), (100, 100)])
def test_a_carrier_flap_that_the_backups_do_not_notice_moves_nothing(
    interval_ms, away_seconds, phase, fields, priorities
):
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    fields = fields | {"advertisement_interval_milliseconds": interval_ms}
    n1.start(router(priority=priorities[0], **fields))
    lan.until(lambda: n1.state() == "Master")
    n2.start(router(priority=priorities[1], **fields))
    lan.run(6.0 + phase * interval_ms / 1000)
    n1.kernel.deleted.clear()
    flap(lan, n1, away_seconds)
    lan.run(5 * interval_ms / 1000)
    assert (n1.state(), n2.state(), lan.holders()) == ("Master", "Backup", ["n1"])
    assert (n1.kernel.deleted, n2.log.messages("warning", "error")) == ([], [])


@pytest.mark.parametrize("late_seconds", [2.0, 8.0])
@pytest.mark.parametrize("away_seconds", [0.02, 0.25, 5.0])
def test_a_port_that_forwards_late_after_a_flap_takes_nothing_from_who_took_over(late_seconds, away_seconds):
    lan = Lan("n1", "n2", "client")
    n1, n2, client = lan.hosts
    n1.start(router(priority=110, **KNOWN))
    lan.run(2.0)
    n2.start(router(**KNOWN))
    lan.run(3.0)
    lan.segment.blocked.add("n1")
    flap(lan, n1, away_seconds)
    lan.run(late_seconds)
    assert n2.state() == "Master"
    n2.kernel.deleted.clear()
    lan.segment.blocked.clear()
    seen = lan.probe(client, VIP, 3.0)
    assert (n1.state(), n2.state(), n2.kernel.deleted, lan.holders()) == ("Backup", "Master", [], ["n2"])
    assert seen.keys() <= {"n1", "n2"}
    assert seen.get("n1", 0) <= 20


@pytest.mark.parametrize("winner", ["n1", "n2"])
def test_when_two_parts_of_a_network_are_joined_neighbours_learn_at_once_who_holds(winner):
    lan = Lan("n1", "n2", "client")
    n1, n2, client = lan.hosts
    n1.start(router(priority=110 if winner == "n1" else 100))
    lan.run(2.0)
    n2.start(router(priority=100 if winner == "n1" else 110))
    lan.run(2.0)
    loser = "n2" if winner == "n1" else "n1"
    parts = [(winner, other, 4) for other in (loser, "client")] + [(other, winner, 4) for other in (loser, "client")]
    lan.segment.cuts.update(parts)
    lan.run(2.0)
    assert client.wire.where(packed(VIP)) == loser
    lan.segment.cuts.clear()
    seen = lan.probe(client, VIP, 3.0)
    assert lan.holders() == [winner]
    assert seen.get(None, 0) <= 1
    assert seen[winner] >= 280


@pytest.mark.parametrize("interval", [100, 1000, 5000])
def test_a_peer_that_answers_again_and_again_is_a_proof_at_whatever_interval(interval):
    lan = Lan("n1", "n2")
    n1, _ = lan.hosts
    n1.start(router(advertisement_interval_milliseconds=interval, **UNICAST))
    lan.run(60.0)
    assert n1.state() == "Master"
    assert not n1.instance().router.unproved


def stranger_beside(interval: int) -> tuple[Lan, SimulatedHost]:
    """n1 has just heard another virtual router on its link for the first time."""
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n2.start(router("other", "10.9.0.222/24", vrid=77))
    lan.until(lambda: n2.state("other") == "Master")
    n1.start(router(advertisement_interval_milliseconds=interval))
    lan.run(0.2)
    assert not n1.instance().router.proven, "an interval and a half later it counts"
    return lan, n1


@pytest.mark.parametrize("away_seconds", [0.0, 0.2])
def test_what_was_heard_before_the_carrier_went_is_no_proof_after_it(away_seconds):
    lan, n1 = stranger_beside(1000)
    lan.segment.blocked.add("n1")
    n1.kernel.set_carrier(n1.eth0, False)
    if away_seconds:
        lan.run(away_seconds)
    n1.kernel.set_carrier(n1.eth0, True)
    lan.run(2.5)
    assert not n1.instance().router.proven


def test_a_link_that_is_another_one_by_now_has_to_be_heard_itself():
    lan, n1 = stranger_beside(100)
    lan.run(1.0)
    assert n1.instance().router.proven
    lan.segment.unplug(n1.wire, n1.eth0)
    n1.kernel.remove_link(n1.eth0)
    n1.eth0 = n1.kernel.add_link("eth0", bytes((2, 0, 0, 0, 0, 1)), index=n1.eth0)
    n1.kernel.set_up(n1.eth0, True)
    n1.add("10.9.0.1/24")
    lan.run(2.0)
    assert not n1.instance().router.proven
    lan.segment.plug(n1.wire, n1.eth0)
    lan.run(2.0)
    assert n1.instance().router.proven


def test_a_vip_that_moves_to_a_link_where_others_were_heard_is_proved_there():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    eth1 = n1.kernel.add_link("eth1", bytes((2, 0, 0, 0, 1, 1)))
    n1.kernel.set_up(eth1, True)
    n1.add("10.8.0.1/24", eth1)
    n2.start(router("other", "10.9.0.222/24", vrid=77))
    beside = router("beside", "10.9.0.230/24", vrid=80)
    known = KNOWN | {"members": ["10.9.0.1", "10.8.0.1", "10.9.0.7"]}
    n1.start(router(interface="eth1", **known), beside)
    lan.run(5.0)
    assert n1.instance().router.unproved
    n1.configure(router(interface="eth0", **known), beside)
    lan.run(5.0)
    assert (n1.state(), n1.instance().router.unproved) == ("Master", False)


def test_what_another_engine_on_the_same_host_sends_is_no_proof():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(router())
    lan.run(0.1)
    own, group = packed("10.9.0.1"), packed("224.0.0.18")
    packet = encode(3, 77, 100, SECOND, (packed("10.9.0.222"),), own, group, None)
    n1.running.receive(Listener(n1.eth0, 4), [Datagram(packet, own, group, 255)], lan.clock.now())
    lan.run(0.5)
    assert not n1.instance().router.proven
    other = packed("10.9.0.7")
    packet = encode(3, 77, 100, SECOND, (packed("10.9.0.222"),), other, group, None)
    n1.running.receive(Listener(n1.eth0, 4), [Datagram(packet, other, group, 255)], lan.clock.now())
    lan.run(0.5)
    assert n1.instance().router.proven == {4}
