"""Links as the kernel reports them: carrier, the end of a link, and what only looks like it."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from holdfast_speaker.engine.links import LinkTable
from holdfast_speaker.host.netlink import LinkRemoved, MonitorSocket, Overrun, RequestSocket
from holdfast_testing.namespaces import Namespace, Namespaces

pytestmark = pytest.mark.netns


class Watch:
    """A link table that follows a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace.inside():
            self.monitor = MonitorSocket()
            self.requests = RequestSocket()
        self.table = LinkTable()
        self.removed: list[int] = []
        self.table.replace(self.requests.dump_links(), self.requests.dump_addresses())

    def until(self, condition: Callable[[], bool], seconds: float = 5) -> bool:
        """Follow the events until the condition holds; whether it did in time."""
        end = time.monotonic() + seconds
        while not condition() and (left := end - time.monotonic()) > 0:
            select.select([self.monitor], [], [], left)
            for event in self.monitor.read():
                self.table.apply(event)
                if isinstance(event, LinkRemoved):
                    self.removed.append(event.index)
        return condition()

    def operational(self, name: str) -> bool:
        link = self.table.link(name)
        return link is not None and link.operational

    def close(self) -> None:
        self.monitor.close()
        self.requests.close()


@pytest.fixture
def one(namespaces: Namespaces) -> Namespace:
    return namespaces.add("one")


@pytest.fixture
def other(namespaces: Namespaces, one: Namespace) -> Namespace:
    other = namespaces.add("other")
    namespaces.connect(one, "eth0", other, "eth0")
    return other


@pytest.fixture
def watch(one: Namespace, other: Namespace) -> Iterator[Watch]:
    made = Watch(one)
    yield made
    made.close()


def test_a_dump_shows_links_as_ip_shows_them(one: Namespace, watch: Watch):
    assert watch.until(lambda: watch.operational("eth0"))
    links = {link.name: link for link in watch.requests.dump_links()}
    shown = one.link("eth0")
    assert links["eth0"].index == shown["index"]
    assert links["eth0"].mac == one.mac("eth0")
    assert not links["eth0"].loopback
    assert links["lo"].loopback
    assert links["lo"].operational


def test_carrier_is_lost_and_comes_back_with_the_other_end(one: Namespace, other: Namespace, watch: Watch):
    assert watch.until(lambda: watch.operational("eth0"))
    other.ip("link set eth0 down")
    assert watch.until(lambda: not watch.operational("eth0"))
    link = watch.table.link("eth0")
    assert link is not None
    assert (link.admin_up, link.carrier) == (True, False)
    other.ip("link set eth0 up")
    assert watch.until(lambda: watch.operational("eth0"))


def test_a_link_that_is_switched_off_is_not_up(one: Namespace, watch: Watch):
    assert watch.until(lambda: watch.operational("eth0"))
    one.ip("link set eth0 down")
    assert watch.until(lambda: not watch.operational("eth0"))
    link = watch.table.link("eth0")
    assert link is not None
    assert not link.admin_up


def test_a_bridge_is_up_as_long_as_one_of_its_ports_is(one: Namespace, other: Namespace, watch: Watch):
    one.ip("link add br0 type bridge", "link set br0 up", "link set eth0 master br0")
    assert watch.until(lambda: watch.operational("br0"))
    other.ip("link set eth0 down")
    assert watch.until(lambda: not watch.operational("br0"))
    other.ip("link set eth0 up")
    assert watch.until(lambda: watch.operational("br0"))


def test_a_link_whose_state_nobody_knows_counts_as_up(one: Namespace, watch: Watch):
    one.ip("link add tap0 type ifb", "link set tap0 up")
    assert watch.until(lambda: watch.operational("tap0"))
    assert one.link("tap0")["operstate"] == "UNKNOWN"


def test_a_port_that_leaves_its_bridge_is_still_a_link(one: Namespace, watch: Watch):
    one.ip("link add br0 type bridge", "link set eth0 master br0", "link set eth0 nomaster", "link delete br0")
    assert watch.until(lambda: len(watch.removed) > 0)
    assert watch.table.link("eth0") is not None
    assert watch.table.link("br0") is None


def test_a_link_that_is_deleted_or_renamed_is_known_so(one: Namespace, watch: Watch):
    one.ip("link set eth0 down", "link set eth0 name wan")
    assert watch.until(lambda: watch.table.link("wan") is not None)
    assert watch.table.link("eth0") is None
    one.ip("link delete wan")
    assert watch.until(lambda: watch.table.link("wan") is None)


def test_the_ipv6_source_is_known_when_duplicate_detection_ends(one: Namespace, watch: Watch):
    index = one.index("eth0")
    assert watch.until(lambda: bool(watch.table.sources(index, 16)))
    (source, *_) = watch.table.sources(index, 16)
    assert source is not None
    assert socket.inet_ntop(socket.AF_INET6, source) in one.addresses("eth0")


def test_lost_events_are_said_and_what_follows_is_heard(one: Namespace, watch: Watch):
    watch.monitor._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    one.ip(*(f"address add 10.7.0.{number}/32 dev eth0" for number in range(1, 101)))
    with pytest.raises(Overrun):
        watch.monitor.read()
    assert watch.monitor.read() == []
    one.ip("address add 10.7.1.1/32 dev eth0")
    assert [event.address.address for event in watch.monitor.read()] == [socket.inet_aton("10.7.1.1")]
