"""A closed VIP is closed before its address is there, until it is gone, whoever dies or flushes; or it is said."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from holdfast_api.reasons import Obstacle
from holdfast_api.resources import PRIORITY_OWNER, HostPorts
from holdfast_speaker.engine.host_ports import WAIT_BEFORE_A_HOLD
from holdfast_speaker.host.closed_ports import CHECK_EVERY, TRY_AGAIN_AFTER
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration
from holdfast_testing.engine_lan import Lan, SimulatedHost, packed, router
from holdfast_testing.sim.packet_filter import ICMP, ICMPV6, TCP

VIP, VIP6, OTHER = "10.9.0.200", "fd00::200", "10.9.0.201"
CLOSED: dict[str, Any] = {"host_ports": HostPorts.CLOSED}
EXPOSED = "the ports of this host are reached through it: nf_tables: operation not supported (ENOTSUP)"


def closed(host: SimulatedHost) -> set[str] | None:
    """What is in the table; None where there is none."""
    found = host.kernel.packet_filter.closed
    return None if found is None else {text for text in (VIP, VIP6, OTHER, "10.9.0.1") if packed(text) in found}


def lets_in(host: SimulatedHost, address: str = VIP, protocol: int = TCP, **how: bool) -> bool:
    return host.kernel.packet_filter.lets_in(packed(address), protocol, **how)


def one_host() -> tuple[Lan, SimulatedHost]:
    lan = Lan("n1")
    lan.hosts[0].add("fd00::1/64", flags=2)
    return lan, lan.hosts[0]


def test_it_is_closed_from_the_configuration_on_so_that_a_takeover_waits_for_nothing() -> None:
    lan, n1 = one_host()
    waited: list[int] = []
    n1.kernel.await_closed_ports = lambda within: waited.append(within) or 0  # type: ignore[method-assign, func-returns-value]
    n1.start(router("web", f"{VIP}/24", f"{VIP6}/64", **CLOSED))
    assert closed(n1) == {VIP, VIP6}
    assert not n1.has(VIP)
    lan.run(3.0)
    assert n1.state() == "Master"
    assert waited == []
    assert not lets_in(n1)
    assert not lets_in(n1, VIP6)
    assert lets_in(n1, "10.9.0.1")
    assert lets_in(n1, protocol=ICMP)
    assert lets_in(n1, VIP6, ICMPV6)
    assert not lets_in(n1, protocol=ICMPV6)
    assert lets_in(n1, from_loopback=True)


def test_an_open_vip_has_no_table() -> None:
    lan, n1 = one_host()
    n1.start(router())
    lan.run(3.0)
    assert n1.state() == "Master"
    assert closed(n1) is None


def test_an_edit_opens_and_closes_what_is_held_without_a_move() -> None:
    lan, n1 = one_host()
    n1.start(router())
    lan.run(3.0)
    for fields, table in ((CLOSED, {VIP}), ({}, None), (CLOSED, {VIP})):
        n1.configure(router(**fields))
        lan.run(0.1)
        assert closed(n1) == table
        assert n1.state() == "Master"


def test_an_address_that_is_added_to_a_held_vip_is_closed_before_it_is_there() -> None:
    lan, n1 = one_host()
    n1.start(router(**CLOSED))
    lan.run(3.0)
    seen: list[bool] = []
    n1.kernel.answered = lambda _request, _errno: seen.append(lets_in(n1, OTHER))
    n1.configure(router("web", f"{VIP}/24", f"{OTHER}/24", **CLOSED))
    assert n1.has(OTHER)
    assert seen == [False]


def test_an_address_that_goes_is_open_again_when_it_is_gone() -> None:
    lan, n1 = one_host()
    n1.start(router("web", f"{VIP}/24", f"{OTHER}/24", **CLOSED))
    lan.run(3.0)
    seen: list[bool] = []
    n1.kernel.answered = lambda _request, _errno: seen.append(lets_in(n1, OTHER))
    n1.configure(router(**CLOSED))
    assert seen == [False]
    assert closed(n1) == {VIP}
    n1.configure()
    assert closed(n1) is None


def test_an_address_that_changes_hands_is_as_its_new_virtual_ip_has_it() -> None:
    lan, n1 = one_host()
    n1.start(router("web", f"{VIP}/24", f"{OTHER}/24", **CLOSED), router("db", "10.9.0.99/24", vrid=52))
    lan.run(3.0)
    n1.configure(router(**CLOSED), router("db", "10.9.0.99/24", f"{OTHER}/24", vrid=52))
    lan.run(0.1)
    assert n1.has(OTHER)
    assert closed(n1) == {VIP}


def test_flushed_rules_are_back_and_it_is_told() -> None:
    lan, n1 = one_host()
    n1.start(router(**CLOSED))
    lan.run(3.0)
    n1.kernel.packet_filter.flush()
    assert lets_in(n1)
    lan.run(CHECK_EVERY / SECOND + 0.001)
    assert closed(n1) == {VIP}
    assert n1.log.messages("warning") == ["somebody changed the rules that close this host's ports; they are back"]


def test_without_nf_tables_it_is_held_all_the_same_and_told_until_there_is_one() -> None:
    lan, n1 = one_host()
    n1.kernel.packet_filter.refuses = errno.EOPNOTSUPP
    n1.start(router("web", **CLOSED), router("db", "10.9.0.99/24", vrid=52))
    lan.run(3.0)
    assert n1.state() == "Master"
    assert n1.warnings == [EXPOSED], "only of what is to be closed"
    assert len(n1.log.messages("error")) == 1
    n1.kernel.packet_filter.refuses = 0
    lan.run(TRY_AGAIN_AFTER / SECOND + 0.1)
    assert closed(n1) == {VIP}
    assert n1.warnings == []


@pytest.mark.parametrize("takes", [Duration(20 * MILLISECOND), Duration(4 * SECOND)], ids=["a little", "too long"])
def test_a_slow_packet_filter_delays_an_edit_for_a_moment_at_most(takes: Duration) -> None:
    lan, n1 = one_host()
    n1.kernel._spend = lambda duration: setattr(lan.clock, "at", lan.clock.at + duration)
    n1.start(router(**CLOSED))
    lan.run(3.0)
    n1.kernel.packet_filter.takes = takes
    began = lan.clock.at
    n1.configure(router("web", f"{VIP}/24", f"{OTHER}/24", **CLOSED))
    assert lan.clock.at - began == min(takes, WAIT_BEFORE_A_HOLD)
    assert n1.has(OTHER)
    assert lets_in(n1, OTHER) == (takes > WAIT_BEFORE_A_HOLD)
    assert bool(n1.warnings) == (takes > WAIT_BEFORE_A_HOLD)
    lan.run(5.0)
    assert closed(n1) == {VIP, OTHER}
    assert n1.warnings == []


def test_an_engine_that_died_leaves_it_closed_to_the_next_one() -> None:
    lan, n1 = one_host()
    n1.start(router(**CLOSED))
    lan.run(3.0)
    left = n1.die()
    n1.kernel.process_ends()
    assert closed(n1) == {VIP}
    n1.start(router(**CLOSED), former=left)
    lan.run(0.01)
    assert n1.state() == "Master"
    assert closed(n1) == {VIP}


def test_what_the_one_before_it_closed_and_nobody_asks_for_is_opened_at_the_start() -> None:
    lan, n1 = one_host()
    n1.start(router(**CLOSED))
    lan.run(3.0)
    left = n1.die()
    n1.kernel.process_ends()
    n1.kernel.packet_filter.closed = frozenset({packed(VIP), packed(OTHER)})
    n1.start(router("db", "10.9.0.99/24", vrid=52), former=left)
    assert closed(n1) == {OTHER}, "which another engine of this host may have closed"


def test_a_stop_leaves_no_table_and_a_hand_over_does() -> None:
    lan, n1 = one_host()
    n1.start(router(**CLOSED))
    lan.run(3.0)
    n1.running.hand_over(lan.clock.now())
    assert closed(n1) == {VIP}
    n1.running.stop(lan.clock.now())
    assert closed(n1) is None
    assert not n1.has(VIP)


def test_the_hosts_own_address_is_never_closed() -> None:
    lan, n1 = one_host()
    n1.add(f"{VIP}/24")
    n1.add(f"{OTHER}/24")
    n1.start(
        router(**CLOSED), router("own", f"{OTHER}/24", vrid=52, priority=PRIORITY_OWNER, nopreempt=False, **CLOSED)
    )
    lan.run(3.0)
    assert n1.instance().router.obstacles == {Obstacle.ADDRESS_IN_USE}
    assert n1.state("own") == "Master"
    assert closed(n1) is None
    n1.remove(f"{VIP}/24")
    lan.run(3.0)
    assert n1.state() == "Master"
    assert closed(n1) == {VIP}
