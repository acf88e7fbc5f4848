"""The next hops that are read from a kernel are those that its routes have, and every change is noticed."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from holdfast_speaker.engine.ports import NextHop, NextHopsChanged
from holdfast_speaker.host.kernel import NetlinkKernel
from holdfast_speaker.host.next_hops import NextHops
from holdfast_testing.namespaces import Namespace, Namespaces

pytestmark = pytest.mark.netns

PATIENCE_SECONDS = 10.0


@pytest.fixture
def host(namespaces: Namespaces) -> Namespace:
    """A host with eth0 and eth1: 10.9.0.1, fd00::1, and 10.8.0.1."""
    made, far = namespaces.add("host"), namespaces.add("far")
    for name in ("eth0", "eth1"):
        namespaces.connect(made, name, far, f"far-{name}")
    made.ip("address add 10.9.0.1/24 dev eth0")
    made.ip("address add fd00::1/64 dev eth0 nodad")
    made.ip("address add 10.8.0.1/24 dev eth1")
    return made


def hops(host: Namespace, **by_link: str) -> set[NextHop]:
    return {
        NextHop(host.index(link), ip_address(text).packed) for link, texts in by_link.items() for text in texts.split()
    }


def opened(host: Namespace, make: Callable[[], NextHops]) -> NextHops:
    with host.inside():
        return make()


def test_they_are_told_of_every_kind_of_route(host: Namespace) -> None:
    for route in (
        "default via 10.9.0.254",
        "198.51.100.0/24 via 10.9.0.253 table 77",
        "203.0.113.0/24 nexthop via 10.9.0.252 dev eth0 weight 1 nexthop via 10.8.0.254 dev eth1 weight 2",
        "192.0.2.0/24 via inet6 fe80::9 dev eth0",
        "172.16.0.0/16 dev eth1",
        "blackhole 172.17.0.0/16",
    ):
        host.ip(f"route add {route}")
    host.ip("route add default via fd00::fe dev eth0")
    host.ip("route add 2001:db8::/32 nexthop via fe80::7 dev eth0 nexthop via fe80::8 dev eth1")
    host.ip("nexthop add id 7 via 10.9.0.251 dev eth0")
    host.ip("route add 172.18.0.0/16 nhid 7")
    known = opened(host, NextHops)
    assert set(known.first()) == hops(
        host,
        eth0="10.9.0.254 10.9.0.253 10.9.0.252 10.9.0.251 fe80::9 fd00::fe fe80::7",
        eth1="10.8.0.254 fe80::8",
    )
    known.close()


class Watched:
    """The kernel port of a host, and what it told last."""

    def __init__(self, host: Namespace) -> None:
        with host.inside():
            self.kernel = NetlinkKernel()
        self.told = set(self.kernel.next_hops())

    def until(self, wanted: set[NextHop]) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while self.told != wanted and time.monotonic() < end:
            for event in self.kernel.changes() or ():
                if isinstance(event, NextHopsChanged):
                    self.told = set(event.next_hops)
            time.sleep(0.01)
        assert self.told == wanted


def test_a_route_that_comes_is_changed_or_goes_is_noticed(host: Namespace) -> None:
    watched = Watched(host)
    assert watched.told == set()
    host.ip("route add default via 10.9.0.254")
    watched.until(hops(host, eth0="10.9.0.254"))
    host.ip("route replace default via 10.9.0.253")
    watched.until(hops(host, eth0="10.9.0.253"))
    host.ip("route add default via fe80::1 dev eth1")
    watched.until(hops(host, eth0="10.9.0.253", eth1="fe80::1"))
    host.ip("route delete default")
    watched.until(hops(host, eth1="fe80::1"))


@pytest.mark.parametrize("how", ["link set eth0 down", "address delete 10.9.0.1/24 dev eth0", "link delete eth0"])
def test_routes_that_go_without_a_word_are_noticed_too(host: Namespace, how: str) -> None:
    host.ip("route add default via 10.9.0.254")
    watched = Watched(host)
    assert watched.told == hops(host, eth0="10.9.0.254")
    host.ip(how)
    watched.until(set())


def test_a_full_table_is_read_in_many_small_pieces_and_default_routes_first(host: Namespace) -> None:
    lines = [f"route add 100.{high}.{low}.0/24 via 10.8.0.{2 + low % 200}" for high in range(80) for low in range(256)]
    host.ip("route add default via 10.9.0.254", *lines)
    known = opened(host, NextHops)
    (gateway,) = hops(host, eth0="10.9.0.254")
    assert gateway in known.first()
    pieces, end = 1, time.monotonic() + PATIENCE_SECONDS
    while known._found is not None and time.monotonic() < end:
        known.step()
        pieces += 1
    assert len(known._told) == 201
    assert pieces > 100
    known.close()


def test_routes_that_never_rest_wake_nobody_all_the_time_and_hide_no_gateway(host: Namespace, tmp_path: Path) -> None:
    routes = [f"100.64.{low}.0/24" for low in range(200)]
    host.ip(*[f"route add {route} via 10.8.0.2 dev eth1" for route in routes])
    file = tmp_path / "routes"
    file.write_text(
        "\n".join(
            f"route replace {route} via 10.8.0.{3 + turn % 5} dev eth1" for turn in range(2000) for route in routes
        ),
        encoding="ascii",
    )
    restless = host.start(["ip", "-batch", str(file)])
    with host.inside():
        kernel = NetlinkKernel()
    (gateway,) = hops(host, eth0="10.9.0.254")
    assert gateway not in kernel.next_hops()
    host.ip("route add default via 10.9.0.254")
    woken, told, end = 0, set[NextHop](), time.monotonic() + 3
    while time.monotonic() < end:
        if select.select([kernel.fileno()], [], [], 0.2)[0]:
            woken += 1
            changed = [event for event in kernel.changes() or () if isinstance(event, NextHopsChanged)]
            told = set(changed[-1].next_hops) if changed else told
    assert restless.poll() is None, "the routes rest"
    restless.kill()
    restless.wait()
    assert gateway in told
    assert woken < 300
