"""No listener is deaf for good: whatever happened to its link, it hears again, or an obstacle says why."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from holdfast_api.reasons import Obstacle
from holdfast_testing.engine_lan import Lan, SimulatedHost, packed, router

V4, V6 = "10.9.0.200/24", "fd00::200/64"
WHO = pytest.mark.parametrize("which", [0, 1], ids=["holder", "backup"])


def pair(*addresses: str, **fields: Any) -> tuple[Lan, list[SimulatedHost]]:
    """n1 is Master, n2 is Backup, and a client is beside them, all with IPv6."""
    lan = Lan("n1", "n2", "client")
    n1, n2, _ = lan.hosts
    for number, host in enumerate(lan.hosts, start=1):
        host.add(f"fd00::{number}/64", flags=2)
    n1.start(router("web", *addresses, priority=110, **fields))
    lan.until(lambda: n1.state() == "Master")
    n2.start(router("web", *addresses, **fields))
    lan.run(2.0)
    assert n2.state() == "Backup"
    return lan, [n1, n2]


def everybody_hears(lan: Lan, *addresses: str) -> None:
    """There is one holder, and the other takes over when it dies."""
    n1, n2, client = lan.hosts
    assert sorted([n1.state(), n2.state()]) == ["Backup", "Master"]
    holder, backup = (n1, n2) if n1.state() == "Master" else (n2, n1)
    for address in addresses:
        assert lan.holders(address.partition("/")[0]) == [holder.name]
    holder.die()
    lan.run(5.0)
    assert backup.state() == "Master"
    for address in addresses:
        assert client.wire.where(packed(address.partition("/")[0])) == backup.name


def low_mtu(host: SimulatedHost) -> None:
    host.kernel.set_mtu(host.eth0, 1200)


def mtu_again(host: SimulatedHost) -> None:
    host.kernel.set_mtu(host.eth0, 1500)


def disabled(host: SimulatedHost) -> None:
    host.kernel.set_disable_ipv6(host.eth0, True)


def enabled(host: SimulatedHost) -> None:
    host.kernel.set_disable_ipv6(host.eth0, False)


@WHO
@pytest.mark.parametrize("addresses", [(V6,), (V4, V6)], ids=["IPv6", "both"])
@pytest.mark.parametrize("seconds", [0.0, 2.0])
@pytest.mark.parametrize(("goes", "comes"), [(low_mtu, mtu_again), (disabled, enabled)], ids=["MTU", "disable_ipv6"])
def test_ipv6_that_vanishes_and_comes_back_leaves_nobody_deaf(
    which: int,
    addresses: tuple[str, ...],
    seconds: float,
    goes: Callable[[SimulatedHost], None],
    comes: Callable[[SimulatedHost], None],
):
    lan, hosts = pair(*addresses)
    goes(hosts[which])
    lan.run(seconds)
    comes(hosts[which])
    hosts[which].add(f"fd00::{which + 1}/64", flags=2)
    lan.run(6.0)
    everybody_hears(lan, *addresses)


@WHO
@pytest.mark.parametrize("named", [{}, {"interface": "eth0"}], ids=["found", "named"])
@pytest.mark.parametrize("same_index", [True, False], ids=["same index", "another index"])
@pytest.mark.parametrize("seconds", [0.0, 2.0])
@pytest.mark.parametrize("addresses", [(V4,), (V4, V6)], ids=["IPv4", "both"])
def test_a_link_that_is_removed_and_made_anew_leaves_nobody_deaf(
    which: int, named: dict[str, str], same_index: bool, seconds: float, addresses: tuple[str, ...]
):
    lan, hosts = pair(*addresses, **named)
    host = hosts[which]
    lan.segment.unplug(host.wire, host.eth0)
    host.kernel.remove_link(host.eth0)
    lan.run(seconds)
    mac = bytes((2, 0, 0, 0, 1, which))
    host.eth0 = host.kernel.add_link("eth0", mac, index=host.eth0 if same_index else None)
    host.kernel.interfaces[host.eth0].detects_duplicates = False
    lan.segment.plug(host.wire, host.eth0)
    host.kernel.set_up(host.eth0, True)
    host.add(f"10.9.0.{which + 1}/24")
    host.add(f"fd00::{which + 1}/64", flags=2)
    lan.run(6.0)
    everybody_hears(lan, *addresses)


def test_while_ipv6_is_away_there_is_an_obstacle_that_says_so():
    lan, (_, n2) = pair(V6)
    low_mtu(n2)
    lan.run(0.01)
    assert n2.instance().router.obstacles
    assert any("IPv6" in detail for detail in n2.instance().obstacle_details.values())


def test_too_few_descriptors_are_an_obstacle_of_its_own_and_tried_again_after_1_2_4_seconds():
    lan = Lan("n1")
    (n1,) = lan.hosts
    tried = []

    def refuses(_listener: object) -> int:
        tried.append(lan.clock.now())
        return errno.EMFILE

    n1.wire.refuse_opening = refuses
    n1.start(router())
    lan.run(8.0)
    assert n1.instance().router.obstacles == {Obstacle.TOO_FEW_DESCRIPTORS}
    assert "too many open files (EMFILE)" in n1.instance().obstacle_details[Obstacle.TOO_FEW_DESCRIPTORS]
    assert sorted({round((at - tried[0]) / 1e9) for at in tried}) == [0, 1, 3, 7]
    n1.wire.refuse_opening = lambda _listener: 0
    lan.run(12.0)
    assert n1.state() == "Master"


def test_of_both_families_the_one_that_can_be_listened_on_is_served():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.add("fd00::1/64", flags=2)
    n1.wire.refuse_opening = lambda listener: errno.EMFILE if listener.width == 16 else 0
    n1.start(router("web", V4, V6))
    lan.run(2.0)
    assert (n1.state(), n1.has("10.9.0.200"), n1.has("fd00::200")) == ("Master", True, False)
    n1.wire.refuse_opening = lambda _listener: 0
    lan.run(5.0)
    assert n1.has("fd00::200")


def test_a_membership_that_was_lost_without_a_word_is_found_within_a_minute():
    lan, (_, n2) = pair(V6)
    n2.kernel.interfaces[n2.eth0].ipv6_lost += 1  # as the kernel does, but no event tells of it
    lan.run(70.0)
    everybody_hears(lan, V6)
