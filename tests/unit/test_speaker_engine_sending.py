"""What cannot be sent is told, is an obstacle, and is tried again; what can be sent is what neighbours need to know."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from holdfast_api.reasons import Health, Obstacle
from holdfast_api.resources import Transport
from holdfast_speaker.vrrp.counters import Counter
from holdfast_testing.engine_lan import Lan, SimulatedHost, packed, router

VIP, VIP6 = "10.9.0.200", "fd00::200"


def pair(*addresses: str, **fields: int) -> tuple[Lan, SimulatedHost, SimulatedHost, SimulatedHost]:
    lan = Lan("n1", "n2", "client")
    n1, n2, client = lan.hosts
    for number, host in enumerate(lan.hosts, start=1):
        host.add(f"fd00::{number}/64", flags=2)
    n1.start(router("web", *addresses, priority=110, **fields))
    lan.until(lambda: n1.state() == "Master")
    n2.start(router("web", *addresses, **fields))
    lan.run(2.0)
    return lan, n1, n2, client


def drops(*widths: int):
    return lambda _index, width: errno.EPERM if width in widths else 0


def test_a_master_whose_firewall_drops_what_it_sends_gives_way_and_comes_back_without_it():
    lan, n1, n2, _ = pair()
    sent = n1.instance().router.counters[Counter.ADVERTISEMENT_SENT]
    n1.wire.refuse_sending = drops(4, 16)
    lan.run(0.35)
    assert n1.instance().router.obstacles == {Obstacle.CANNOT_SEND}
    assert "the firewall of this host drops it (EPERM)" in n1.instance().obstacle_details[Obstacle.CANNOT_SEND]
    lan.run(0.2)
    assert lan.holders() == ["n2"]
    lan.run(10.0)
    assert n1.instance().router.counters[Counter.ADVERTISEMENT_SENT] == sent, "what did not leave is not counted"
    assert lan.holders() == ["n2"], "one holder all the time"
    n1.wire.refuse_sending = drops()
    lan.run(6.0)
    assert n1.state() == "Backup", "the next try told it"
    n2.die()
    lan.run(2.0)
    assert n1.state() == "Master"


def test_a_host_that_is_alone_tries_after_1_s_and_then_after_twice_as_long_each_time():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.wire.refuse_sending = drops(4)
    n1.start(router())
    lan.until(lambda: bool(n1.instance().router.obstacles))
    tries = []
    for tenth in range(1200):
        before = n1.instance().router.counters[Counter.SEND_ERRORS]
        lan.run(0.1)
        assert not n1.has(VIP)
        if n1.instance().router.counters[Counter.SEND_ERRORS] > before:
            tries.append(tenth // 10)
    assert tries == [0, 2, 6, 14, 30, 60, 90]
    assert [message for message in n1.log.messages() if "Master ->" in message] == [
        "Master -> Initialize: no advertisement could be sent for three intervals: no IPv4 advertisement leaves eth0: "
        "the firewall of this host drops it (EPERM): let VRRP, IP protocol 112, out"
    ]
    n1.wire.refuse_sending = drops()
    lan.run(35.0)
    assert n1.state() == "Master"


def test_a_try_is_a_farewell_that_takes_nothing_from_a_master():
    lan, n1, n2, _ = pair()
    n1.wire.refuse_sending = drops(4, 16)
    lan.run(1.0)
    n1.wire.refuse_sending = drops()
    farewells = n1.instance().router.counters[Counter.PRIORITY_ZERO_PKTS_SENT]
    lan.run(2.0)
    assert n1.instance().router.counters[Counter.PRIORITY_ZERO_PKTS_SENT] == farewells + 1
    assert (n1.state(), n2.state(), n2.instance().last_move.moves) == ("Backup", "Master", 1)


def test_a_full_queue_for_less_than_three_intervals_is_told_and_costs_nothing():
    lan, n1, n2, _ = pair()
    n1.wire.refuse_sending = lambda _index, _width: errno.ENOBUFS
    lan.run(0.15)
    n1.wire.refuse_sending = drops()
    lan.run(1.0)
    assert (n1.state(), n2.state(), lan.holders()) == ("Master", "Backup", ["n1"])
    assert n1.log.messages("error") == ["an advertisement could not be sent: no buffer space (ENOBUFS)"]


def test_of_both_families_the_one_that_leaves_is_kept_and_a_healthier_node_takes_over():
    lan, n1, n2, client = pair(f"{VIP}/24", f"{VIP6}/64")
    n1.wire.refuse_sending = drops(16)
    lan.run(2.0)
    assert (n1.state(), n2.state()) == ("Backup", "Master")
    assert (lan.holders(VIP), lan.holders(VIP6)) == (["n2"], ["n2"])
    alone = Lan("n1")
    (host,) = alone.hosts
    host.add("fd00::1/64", flags=2)
    host.start(router("web", f"{VIP}/24", f"{VIP6}/64"))
    alone.run(2.0)
    host.wire.refuse_sending = drops(16)
    alone.run(0.6)
    assert (host.state(), host.has(VIP), host.has(VIP6)) == ("Master", True, False)
    assert "no IPv6 advertisement leaves eth0" in host.warnings[0]
    assert client is not None


def test_what_cannot_be_sent_in_two_families_is_told_with_its_reason_for_each():
    lan, n1, _, _ = pair(f"{VIP}/24", f"{VIP6}/64")
    n1.wire.refuse_sending = drops(4, 16)
    lan.run(1.0)
    told = " ".join(n1.log.messages("error"))
    assert "no IPv4 advertisement leaves eth0: the firewall" in told
    assert "no IPv6 advertisement leaves eth0: the firewall" in told
    assert "unknown" not in told


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_a_mac_address_that_changes_under_a_master_is_announced_at_once(address):
    lan, n1, _, client = pair(f"{VIP}/24", f"{VIP6}/64")
    assert lan.probe(client, address, 0.1) == {"n1": 10}
    n1.kernel.set_mac(n1.eth0, bytes((2, 7, 7, 7, 7, 7)))
    assert lan.probe(client, address, 1.0).get(None, 0) <= 1
    assert "the MAC address of the link changed; announcing" in n1.log.messages("info")


def test_announcements_repeat_while_the_vip_is_held_and_never_where_nobody_wants_them():
    for every, lost in ((1, 110), (0, 300)):
        lan, _, _, client = pair(f"{VIP}/24", announcement_interval_seconds=every)
        lan.run(8.0)
        client.wire.where(packed(VIP))
        client.wire._neighbours[client.eth0, packed(VIP)] = bytes(6)
        assert lan.probe(client, VIP, 3.0).get(None, 0) <= lost


def test_one_peer_of_several_that_cannot_be_sent_to_is_in_status_and_in_the_log_once_a_minute():
    lan = Lan("n1")
    (n1,) = lan.hosts
    send = n1.wire.send
    n1.wire.send = lambda index, one: errno.EPERM if one.destination == packed("10.9.0.2") else send(index, one)
    n1.start(router(transport=Transport.UNICAST, members=["10.9.0.1", "10.9.0.2", "10.9.0.3"]))
    lan.run(90.0)
    assert n1.state() == "Master"
    assert len(n1.log.messages("error")) == 2
    (warning,) = n1.warnings
    assert warning.startswith("advertisements to 10.9.0.2 cannot be sent: the firewall")
    n1.configure(router(transport=Transport.UNICAST, members=["10.9.0.1", "10.9.0.3"]))
    assert n1.warnings == []


def where_one_hears_nothing_of_the_holder(**fields: Any) -> tuple[Lan, SimulatedHost, SimulatedHost, SimulatedHost]:
    """With Unicast: n1 has the higher priority and holds, and its firewall drops what goes to n2."""
    lan = Lan("n1", "n2", "n3")
    n1, n2, n3 = lan.hosts
    asked = {"transport": Transport.UNICAST, "members": ["10.9.0.1", "10.9.0.2", "10.9.0.3"], **fields}
    n1.start(router(priority=150, **asked))
    lan.run(3.0)
    for host in (n2, n3):
        host.start(router(**asked))
    lan.run(3.0)
    send = n1.wire.send
    n1.wire.send = lambda index, one: errno.EPERM if one.destination == packed("10.9.0.2") else send(index, one)
    lan.run(5.0)
    return lan, n1, n2, n3


def test_who_holds_and_cannot_be_heard_leaves_the_vip_to_the_peer_that_hears_nothing_of_it():
    lan, n1, n2, n3 = where_one_hears_nothing_of_the_holder()
    assert (n1.state(), n2.state(), n3.state(), lan.holders()) == ("Backup", "Master", "Backup", ["n2"])
    assert n1.instance().last_move.message == (
        "no advertisement to 10.9.0.2 could be sent for three intervals: it holds the addresses, and is sent nothing"
    )
    lan.run(60.0)
    assert n1.instance().last_move.moves == 2, "that is where it stays"


def test_where_priorities_decide_they_decide_about_a_peer_that_hears_nothing_too():
    _, n1, n2, _ = where_one_hears_nothing_of_the_holder(nopreempt=False)
    assert (n1.state(), n2.state()) == ("Master", "Master")


def test_nor_is_the_vip_left_to_a_peer_that_fails():
    lan, n1, n2, n3 = where_one_hears_nothing_of_the_holder(tracks_services=True)
    for host, health in ((n1, Health.HEALTHY), (n2, Health.FAILING), (n3, Health.FAILING)):
        host.running.report_health("web", health, "", lan.clock.now())
    lan.run(10.0)
    moves = n1.instance().last_move.moves
    lan.run(10.0)
    assert (n1.state(), n2.state(), n3.state()) == ("Master", "Master", "Backup")
    assert n1.instance().last_move.moves == moves


def test_what_could_not_be_sent_before_the_vip_was_held_again_is_no_reason_to_give_it_up():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.start(router(nopreempt=False))
    lan.until(lambda: n1.state() == "Master")
    send = n1.wire.send
    n1.wire.send = lambda index, one: send(index, one) if one.payload[2] else errno.ENOBUFS
    n2.start(router(nopreempt=False, priority=120))
    lan.until(lambda: n2.state() == "Master")
    lan.run(60.0)
    n2.die()
    refusals = [errno.ENOBUFS]
    n1.wire.send = lambda index, one: refusals.pop() if refusals else send(index, one)
    lan.run(5.0)
    assert refusals == []
    assert not [message for message in n1.log.messages() if message.startswith("Master -> Initialize")]
    assert n1.state() == "Master"
