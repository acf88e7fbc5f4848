"""The kernel's side of address lifetimes: what fences a holder that died, and what keeps one that lives."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Iterator

import pytest

from holdfast_speaker.host.netlink import (
    ADDRESS_PROTOCOL,
    AddressAdded,
    AddressRemoved,
    LinkAddress,
    MonitorSocket,
    RequestSocket,
    address_removal,
    address_request,
    route_addition,
    route_removal,
)
from holdfast_testing.namespaces import Namespace, Namespaces

pytestmark = pytest.mark.netns

V4 = socket.inet_aton("10.9.0.200")
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8:9::c8")
BOTH = pytest.mark.parametrize(("vip", "prefix_length"), [(V4, 24), (V6, 64)], ids=["IPv4", "IPv6"])
TENTATIVE, NODAD, DEPRECATED, NOPREFIXROUTE = 0x40, 0x02, 0x20, 0x200


def subnet_of(vip: bytes) -> str:
    return "10.9.0.0/24" if len(vip) == 4 else "2001:db8:9::/64"


class Host:
    """A namespace with eth0 on a cable, and the sockets that are under test in it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.index = namespace.index("eth0")
        with namespace.inside():
            self.monitor = MonitorSocket()
            self.requests = RequestSocket()

    def close(self) -> None:
        self.monitor.close()
        self.requests.close()

    def renewal(self, vip: bytes, prefix_length: int, *, seconds: int = 1) -> bytes:
        return address_request(self.index, vip, prefix_length, valid_seconds=seconds)

    def routes(self, vip: bytes) -> list[dict[str, str]]:
        return self.namespace.ip_json("-4" if len(vip) == 4 else "-6", "route", "show", "dev", "eth0")

    def found(self, vip: bytes) -> LinkAddress | None:
        return next((a for a in self.requests.dump_addresses() if a.address == vip), None)

    def removed_within(self, vip: bytes, seconds: float) -> LinkAddress | None:
        """The address as the kernel reports its removal; None when it does not."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            select.select([self.monitor], [], [], left)
            for event in self.monitor.read():
                if isinstance(event, AddressRemoved) and event.address.address == vip:
                    return event.address
        return None


@pytest.fixture
def host(namespaces: Namespaces) -> Iterator[Host]:
    one, other = namespaces.add("one"), namespaces.add("other")
    namespaces.connect(one, "eth0", other, "eth0")
    made = Host(one)
    yield made
    made.close()


@BOTH
def test_an_address_disappears_by_itself_when_nobody_renews_it(host: Host, vip, prefix_length):
    assert host.requests.apply([host.renewal(vip, prefix_length)]) == [0]
    assert host.found(vip) is not None
    removed = host.removed_within(vip, 3)
    assert removed is not None
    assert removed.ours
    assert host.found(vip) is None


@BOTH
def test_an_address_that_was_renewed_before_disappears_as_soon_when_renewing_stops(host: Host, vip, prefix_length):
    for _ in range(4):
        assert host.requests.apply([host.renewal(vip, prefix_length)]) == [0]
        time.sleep(0.3)
    assert host.removed_within(vip, 3) is not None


def test_addresses_that_are_renewed_stay_without_a_gap(host: Host):
    both = [host.renewal(V4, 24), host.renewal(V6, 64)]
    for _ in range(12):
        assert host.requests.apply(both) == [0, 0]
        assert host.removed_within(V4, 0.3) is None
        assert host.found(V4) is not None
        assert host.found(V6) is not None


def test_a_renewal_is_never_answered_by_a_removal_event(host: Host):
    both = [host.renewal(V4, 24), host.renewal(V6, 64)]
    events = []
    for _ in range(6):
        host.requests.apply(both)
        time.sleep(0.3)
        events += host.monitor.read()
    assert [event for event in events if getattr(event, "address", None) and event.address.ours] == []


def test_an_ipv4_address_carries_our_protocol_and_its_lifetime(host: Host):
    host.requests.apply([host.renewal(V4, 24, seconds=3)])
    address = host.found(V4)
    assert address is not None
    assert (address.index, address.prefix_length, address.protocol) == (host.index, 24, ADDRESS_PROTOCOL)
    assert address.valid_seconds is not None
    assert 1 <= address.valid_seconds <= 3
    assert address.flags & NOPREFIXROUTE
    assert address.ours


def test_an_ipv6_address_is_usable_at_once_and_no_source_of_the_hosts_own(host: Host):
    host.namespace.ip("address add 2001:db8:9::1/64 dev eth0 nodad")
    for _ in range(2):  # renewed, it is still the same
        host.requests.apply([host.renewal(V6, 64, seconds=3)])
        address = host.found(V6)
        assert address is not None
        assert address.ours
        assert address.flags & (TENTATIVE | NODAD | DEPRECATED | NOPREFIXROUTE) == NODAD | DEPRECATED | NOPREFIXROUTE
        with host.namespace.inside(), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as listener:
            listener.bind(("2001:db8:9::c8", 0))
    route = host.namespace.ip_json("route", "get", "2001:db8:9::2")
    assert route[0]["prefsrc"] == "2001:db8:9::1"


@BOTH
def test_no_route_to_the_subnet_comes_with_an_address(host: Host, vip, prefix_length):
    host.requests.apply([host.renewal(vip, prefix_length, seconds=3)])
    assert subnet_of(vip) not in [route["dst"] for route in host.routes(vip)]


@BOTH
def test_a_route_to_the_subnet_of_a_vip_goes_when_the_vip_goes(host: Host, vip, prefix_length):
    bits = 8 * len(vip)
    network = (int.from_bytes(vip, "big") >> (bits - prefix_length) << (bits - prefix_length)).to_bytes(
        bits // 8, "big"
    )
    route = route_addition(host.index, network, prefix_length, vip, 1)
    assert host.requests.apply([host.renewal(vip, bits), route]) == [0, 0]
    assert subnet_of(vip) in [found["dst"] for found in host.routes(vip)]
    host.requests.apply(
        [address_removal(host.index, vip, bits), route_removal(host.index, network, prefix_length, vip)]
    )
    assert subnet_of(vip) not in [found["dst"] for found in host.routes(vip)]


def test_an_ipv4_vip_is_no_source_of_the_hosts_own(host: Host):
    host.namespace.ip("address add 10.9.0.1/24 dev eth0")
    host.requests.apply([host.renewal(V4, 32, seconds=60)])
    host.namespace.ip(
        "address delete 10.9.0.1/24 dev eth0",
        "address add 10.9.0.1/24 dev eth0",
        "route add default via 10.77.0.1 dev eth0 onlink",
        "route add 172.16.0.0/12 dev eth0",
    )
    for destination in ("10.9.0.2", "192.0.2.1", "172.16.0.1"):
        assert host.namespace.ip_json("route", "get", destination)[0]["prefsrc"] == "10.9.0.1"


@BOTH
def test_an_address_is_removed_on_request_and_the_second_request_says_that_it_is_absent(host: Host, vip, prefix_length):
    removal = address_removal(host.index, vip, prefix_length)
    assert host.requests.apply([host.renewal(vip, prefix_length), removal, removal]) == [
        0,
        0,
        errno.EADDRNOTAVAIL,
    ]
    assert host.found(vip) is None
    assert host.removed_within(vip, 1) is not None


def test_every_request_of_a_large_batch_gets_its_own_answer(host: Host):
    requests, expected = [], []
    for number in range(350):
        address = socket.inet_aton(f"10.8.{number // 200}.{number % 200 + 1}")
        missing = number % 7 == 0
        requests.append(address_request(host.index + 1000 * missing, address, 32, valid_seconds=60))
        expected.append(errno.ENODEV if missing else 0)
    assert host.requests.apply(requests) == expected
    assert sum(address.ours for address in host.requests.dump_addresses()) == expected.count(0)


def test_no_request_needs_no_answer(host: Host):
    assert host.requests.apply([]) == []


def test_the_monitor_hears_of_foreign_addresses_but_not_of_our_renewals(host: Host):
    host.requests.apply([host.renewal(V4, 24), host.renewal(V6, 64)])
    host.namespace.ip("address add 10.9.0.7/24 dev eth0", "address add 2001:db8:9::7/64 dev eth0 nodad")
    host.requests.apply([host.renewal(V4, 24), host.renewal(V6, 64)])
    added = [event.address for event in host.monitor.read() if isinstance(event, AddressAdded)]
    assert {socket.inet_aton("10.9.0.7"), socket.inet_pton(socket.AF_INET6, "2001:db8:9::7")} <= {
        address.address for address in added
    }
    assert not any(address.ours for address in added)


def test_the_monitor_hears_when_somebody_deletes_our_address(host: Host):
    host.requests.apply([host.renewal(V4, 24, seconds=60)])
    host.namespace.ip("address delete 10.9.0.200/24 dev eth0")
    removed = host.removed_within(V4, 2)
    assert removed is not None
    assert removed.ours


@BOTH
def test_a_new_address_does_not_take_over_what_somebody_else_put_there(host: Host, vip, prefix_length):
    text = socket.inet_ntop(socket.AF_INET if len(vip) == 4 else socket.AF_INET6, vip)
    host.namespace.ip(f"address add {text}/{prefix_length} dev eth0")
    request = address_request(host.index, vip, prefix_length, valid_seconds=1, exclusive=True)
    assert host.requests.apply([request]) == [errno.EEXIST]
    address = host.found(vip)
    assert address is not None
    assert (address.ours, address.valid_seconds) == (False, None)
    # Which is what a renewal would do to it.
    assert host.requests.apply([host.renewal(vip, prefix_length)]) == [0]
    address = host.found(vip)
    assert address is not None
    assert address.valid_seconds is not None


def test_an_ipv6_address_is_the_hosts_own_a_moment_after_it_was_added(namespaces: Namespaces) -> None:
    one, other = namespaces.add("one"), namespaces.add("other")
    namespaces.connect(one, "eth0", other, "eth0")
    index = one.index("eth0")
    with one.inside():
        requests = RequestSocket()
        address = socket.inet_pton(socket.AF_INET6, "fd00::99")
        assert not requests.is_own(index, address)
        assert requests.apply([address_request(index, address, 128, valid_seconds=60)]) == [0]
        end = time.monotonic() + 2.0
        while not requests.is_own(index, address) and time.monotonic() < end:
            time.sleep(0.0001)
        assert requests.is_own(index, address)
        assert not requests.is_own(index, socket.inet_pton(socket.AF_INET6, "fd00::98"))
