"""What is refused and may mean two holders: a line a minute, and a warning as long as it goes on."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast_api.resources import ForeignRouters
from holdfast_speaker.engine.ports import Datagram, Listener
from holdfast_speaker.vrrp.instants import MILLISECOND, Duration
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, encode
from holdfast_testing.engine_lan import Lan, SimulatedHost, packed, router

ROGUE = "10.9.0.66"


def said(
    *addresses: str, priority: int = 254, ttl: int = 255, version: int = 3, password: bytes | None = None
) -> Datagram:
    source = packed(ROGUE)
    interval = Duration((1000 if version == 2 else 100) * MILLISECOND)
    vips = tuple(map(packed, addresses or ("10.9.0.200",)))
    payload = encode(version, 51, priority, interval, vips, source, MULTICAST_GROUP_V4, password)
    return Datagram(payload, source, MULTICAST_GROUP_V4, ttl)


def holder(**fields: Any) -> tuple[Lan, SimulatedHost]:
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(router(**fields))
    lan.until(lambda: n1.state() == "Master")
    return lan, n1


KINDS: dict[str, tuple[dict[str, Any], Datagram, str]] = {
    "TTL": ({}, said(ttl=64), "has passed a router"),
    "version": ({}, said(version=2), "another VRRP version"),
    "list": ({}, said("10.9.0.77"), "none of its addresses is ours"),
    "a list of priority 0": ({}, said("10.9.0.77", priority=0), "none of its addresses is ours"),
    "stranger": (
        {"members": ["10.9.0.2"], "foreign_routers": ForeignRouters.REFUSE},
        said(),
        "not among the known members",
    ),
    "password": (
        {"version": 2, "simple_password": "a", "advertisement_interval_milliseconds": 1000},
        said(version=2, password=b"b"),
        "its password is another one",
    ),
    "no password": (
        {"version": 2, "simple_password": "a", "advertisement_interval_milliseconds": 1000},
        said(version=2),
        "one of the two has a password",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_line_a_minute_and_a_warning_and_moves_nothing(kind):
    fields, datagram, why = KINDS[kind]
    lan, n1 = holder(**fields)
    listener = Listener(n1.eth0, 4)
    for _ in range(1300):  # 130 s
        n1.running.receive(listener, [datagram], lan.clock.now())
        lan.run(0.1)
    lines = [message for message in n1.log.messages("warning") if "refused" in message]
    assert len(lines) == 3
    assert all(why in line for line in lines)
    (warning,) = n1.warnings
    assert why in warning
    assert ROGUE in warning
    assert n1.state() == "Master"
    lan.run(301.0)
    assert n1.warnings == []


def test_two_teams_with_one_vrid_hold_both_vips_and_know_of_each_other():
    lan = Lan("a", "k", "client")
    a, k, client = lan.hosts
    a.start(router())
    lan.run(2.0)
    k.start(router("web", "10.9.0.210/24"))
    lan.run(3.0)
    assert (a.state(), k.state()) == ("Master", "Master")
    assert client.wire.where(packed("10.9.0.200")) == "a"
    assert client.wire.where(packed("10.9.0.210")) == "k"
    for host, other in ((a, "10.9.0.2"), (k, "10.9.0.1")):
        assert any(f"advertisements from {other} are refused" in text for text in host.warnings)


def test_a_member_whose_list_was_edited_first_is_no_other_virtual_router():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.start(router(priority=110))
    lan.run(2.0)
    n2.start(router())
    lan.run(2.0)
    n1.configure(router("web", "10.9.0.201/24", priority=110))
    lan.run(2.0)
    assert (n1.state(), n2.state()) == ("Master", "Backup")
    n2.configure(router("web", "10.9.0.201/24"))
    lan.run(2.0)
    assert (n1.state(), n2.state(), n1.warnings, n2.warnings) == ("Master", "Backup", [], [])
