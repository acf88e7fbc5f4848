"""An address that somebody has is not taken, is told, and is taken when it is free; no takeover is delayed by it."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast_api.reasons import Obstacle
from holdfast_api.resources import ConflictDetection, ForeignRouters
from holdfast_testing.engine_lan import Lan, SimulatedHost, router

VIP, VIP6 = "10.9.0.200", "fd00::200"
KNOWN: dict[str, Any] = {"members": ["10.9.0.1", "10.9.0.2"], "foreign_routers": ForeignRouters.REFUSE}


def beside_a_printer(address: str = f"{VIP}/24") -> tuple[Lan, SimulatedHost, SimulatedHost, SimulatedHost]:
    """Two hosts without engines, and a third that has the address."""
    lan = Lan("n1", "n2", "printer")
    n1, n2, printer = lan.hosts
    for number, host in enumerate(lan.hosts, start=1):
        host.add(f"fd00::{number}/64", flags=2)
    printer.add(address, flags=2 if ":" in address else 0)
    return lan, n1, n2, printer


@pytest.mark.parametrize("address", [f"{VIP}/24", f"{VIP6}/64"], ids=["IPv4", "IPv6"])
def test_an_address_that_another_host_has_is_not_taken_until_it_is_free(address):
    lan, n1, n2, printer = beside_a_printer(address)
    for host in (n1, n2):
        host.start(router("web", address))
    lan.run(30.0)
    plain = address.partition("/")[0]
    for host in (n1, n2):
        assert host.instance().router.obstacles == {Obstacle.ADDRESS_CONFLICT}
        assert host.warnings == [f"{plain} is in use by 02:00:00:00:00:03"]
        assert len(host.log.messages("error")) == 1
        assert not host.has(plain)
    printer.remove(address)
    lan.run(14.0)
    assert sorted([n1.state(), n2.state()]) == ["Backup", "Master"]
    assert (n1.warnings, n2.warnings) == ([], [])


def test_the_kernel_of_a_holder_that_died_delays_its_successor_by_three_seconds_at_most():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.kernel.expires_late = 1_250_000_000
    n1.start(router())
    lan.run(3.0)
    n1.die()
    n2.start(router())
    assert lan.until(lambda: n2.state() == "Master", within_seconds=10) < 6.0


def test_conflict_detection_warn_tells_and_takes_it_also_by_an_edit():
    lan, n1, _, _ = beside_a_printer()
    n1.start(router(conflict_detection=ConflictDetection.WARN))
    lan.run(2.0)
    assert (n1.state(), n1.warnings) == ("Master", [f"{VIP} is in use by 02:00:00:00:00:03"])
    lan, n1, _, _ = beside_a_printer()
    n1.start(router())
    lan.run(2.0)
    assert n1.state() == "Initialize"
    n1.configure(router(conflict_detection=ConflictDetection.WARN))
    lan.run(2.0)
    assert (n1.state(), n1.warnings) == ("Master", [f"{VIP} is in use by 02:00:00:00:00:03"])


def test_other_addresses_by_an_edit_are_asked_for_at_once():
    lan, n1, _, _ = beside_a_printer()
    n1.start(router())
    lan.run(5.0)
    n1.configure(router("web", "10.9.0.201/24"))
    lan.run(2.0)
    assert (n1.state(), n1.warnings, n1.has("10.9.0.201")) == ("Master", [], True)


def test_a_link_that_comes_back_during_a_conflict_ends_nothing_before_it_was_asked_again():
    lan, n1, _, printer = beside_a_printer()
    n1.start(router())
    lan.run(2.0)
    n1.kernel.set_carrier(n1.eth0, False)
    lan.run(20.0)
    n1.kernel.set_carrier(n1.eth0, True)
    lan.run(20.0)
    assert not n1.has(VIP)
    printer.remove(f"{VIP}/24")
    lan.run(14.0)
    assert n1.has(VIP)


def test_who_answers_is_followed_once_it_is_heard_as_a_master():
    """It was edited first: the newcomer's virtual router began while the address was another one's."""
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.start(router("old", f"{VIP}/24", vrid=60))
    lan.run(2.0)
    n2.start(router(priority=110))
    lan.run(2.0)
    assert n2.instance().router.obstacles == {Obstacle.ADDRESS_CONFLICT}
    n1.configure(router())
    lan.run(3.0)
    assert (n1.state(), n2.state(), n2.warnings) == ("Master", "Backup", [])
    n1.die()
    lan.run(3.0)
    assert lan.holders() == ["n2"]


def test_copies_on_the_loopback_of_members_are_no_conflict():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n2.add(f"{VIP}/32", 1)
    n1.start(router(**KNOWN))
    lan.run(2.0)
    n2.start(router(**KNOWN))
    lan.run(2.0)
    assert (n1.state(), n2.state(), n1.warnings) == ("Master", "Backup", [])


def test_an_address_that_somebody_takes_while_it_is_held_is_told_until_that_is_over():
    lan = Lan("n1", "n2", "printer")
    n1, n2, printer = lan.hosts
    n1.start(router(announcement_interval_seconds=2))
    lan.run(2.0)
    n2.start(router())
    lan.run(8.0)
    printer.add(f"{VIP}/24")
    lan.run(6.0)
    assert n1.warnings == [f"{VIP} is in use by 02:00:00:00:00:03"]
    assert (n1.state(), n2.state()) == ("Master", "Backup")
    printer.remove(f"{VIP}/24")
    lan.run(6.0)
    assert n1.warnings == []


def test_an_engine_that_goes_on_as_master_asks_as_well():
    lan = Lan("n1", "printer")
    n1, printer = lan.hosts
    configuration = router(announcement_interval_seconds=2)
    n1.start(configuration)
    lan.run(2.0)
    n1.start(configuration, former=n1.die())
    lan.run(1.0)
    printer.add(f"{VIP}/24")
    lan.run(12.0)
    assert n1.warnings == [f"{VIP} is in use by 02:00:00:00:00:02"]


@pytest.mark.parametrize("interval_ms", [100, 1000])
@pytest.mark.parametrize("gap_seconds", [0.0, 0.05, 0.3, 0.7])
def test_two_that_begin_at_one_time_are_no_conflict_to_each_other(interval_ms, gap_seconds):
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.start(router(advertisement_interval_milliseconds=interval_ms))
    lan.run(gap_seconds)
    n2.start(router(priority=110, advertisement_interval_milliseconds=interval_ms))
    lan.run(8.0)
    assert sorted([n1.state(), n2.state()]) == ["Backup", "Master"]
    assert n1.log.messages("error") + n2.log.messages("error") == []


def test_a_takeover_from_a_master_that_was_heard_is_not_delayed():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.kernel.expires_late = 1_250_000_000
    n1.start(router())
    lan.run(2.0)
    n2.start(router())
    lan.run(2.0)
    n1.die()
    assert lan.until(lambda: n2.has(VIP)) < 0.4
    lan.run(8.0)
    assert n2.log.messages("error", "warning") == []


def test_nor_where_the_engine_was_restarted_since_also_while_the_address_answers():
    lan = Lan("n1", "n2", "printer")
    n1, n2, printer = lan.hosts
    n1.start(router())
    lan.run(2.0)
    n2.start(router())
    lan.run(2.0)
    assert n2.running.published_routers()[0].heard == [4]
    n1.die()
    printer.add(f"{VIP}/32")
    n2.start(router(), former=n2.die())
    n2.start(router(), former=n2.die())
    assert lan.until(lambda: n2.has(VIP)) < 4.0, "as long as a hand-over may have asked for"
    assert n2.log.messages("error", "warning") == []


def test_where_answers_cannot_be_heard_the_addresses_are_taken_and_that_is_told():
    lan = Lan("n1")
    (n1,) = lan.hosts
    hear = n1.wire.hear_neighbours
    n1.wire.hear_neighbours = lambda indexes: dict.fromkeys(indexes, 24)  # EMFILE
    n1.start(router(announcement_interval_seconds=2))
    lan.run(2.0)
    assert n1.state() == "Master"
    assert n1.warnings == ["whether somebody else has its addresses could not be asked: too many open files (EMFILE)"]
    n1.wire.hear_neighbours = hear
    lan.run(10.0)
    assert n1.warnings == []


def test_who_goes_on_answering_for_a_held_address_is_told_of_once():
    lan, n1, _, printer = beside_a_printer("10.9.0.77/24")
    n1.start(router(announcement_interval_seconds=1))
    lan.run(8.0)
    printer.add(f"{VIP}/24")
    lan.run(60.0)
    sentence = f"{VIP} is in use by 02:00:00:00:00:03"
    assert n1.log.messages("warning") == [f"somebody else answers for it: {sentence}"]
    assert n1.warnings == [sentence]
