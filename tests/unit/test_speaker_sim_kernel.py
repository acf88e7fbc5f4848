"""Simulated hosts on simulated links: what goes wrong on demand, and who hears and finds whom."""

from __future__ import annotations

import errno
import heapq
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from holdfast_speaker.engine import frames
from holdfast_speaker.engine.ports import (
    AddAddress,
    AddressAdded,
    AddressRemoved,
    AddRoute,
    KernelAddress,
    LinkChanged,
    Listener,
    NeighbourAnswer,
    RemoveAddress,
)
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, MULTICAST_GROUP_V6
from holdfast_testing.sim.kernel import SimulatedKernel
from holdfast_testing.sim.wire import QUEUE_LENGTH, Segment, SimulatedWire

ETH0 = 2


def packed(text: str) -> bytes:
    return ip_address(text).packed


VIP, VIP6 = packed("10.9.0.200"), packed("fd00::c8")
HELD, HELD6 = KernelAddress(ETH0, VIP, 32), KernelAddress(ETH0, VIP6, 128)
MULTICAST = {4: MULTICAST_GROUP_V4, 16: MULTICAST_GROUP_V6}


class World:
    """A clock, and hosts a, b, c with eth0 on one segment: 10.9.0.1, .2, .3 and fd00::1, ::2, ::3."""

    def __init__(self) -> None:
        self.now = Instant(1000 * SECOND)
        self._due: list[tuple[Instant, int, Callable[[], None]]] = []
        self._count = 0
        self.segment = Segment(self.at)
        self.hosts = [self._host(name, number) for number, name in enumerate("abc", start=1)]

    def _host(self, name: str, number: int) -> SimulatedWire:
        kernel = SimulatedKernel(lambda: self.now, self.spend)
        assert kernel.add_link("eth0", bytes((2, 0, 0, 0, 0, number))) == ETH0
        kernel.interfaces[ETH0].detects_duplicates = False
        kernel.set_up(ETH0, True)
        kernel.add_address(ETH0, packed(f"10.9.0.{number}"), 24)
        kernel.add_address(ETH0, packed(f"fd00::{number}"), 64)
        kernel.changes()
        wire = SimulatedWire(name, kernel, lambda: self.now)
        self.segment.plug(wire, ETH0)
        assert wire.listen({Listener(ETH0, 4), Listener(ETH0, 16)}, set()) == {}
        return wire

    def at(self, when: Instant, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (when, self._count, do))

    def spend(self, duration: Duration) -> None:
        self.now = Instant(self.now + duration)

    def run(self, duration: int) -> None:
        end = Instant(self.now + duration)
        while self._due and self._due[0][0] <= end:
            self.now, _, do = heapq.heappop(self._due)
            do()
        self.now = end


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def host(world: World) -> SimulatedWire:
    return world.hosts[0]


def advertisement(source: str, destination: str | None = None) -> SendAdvertisement:
    address = packed(source)
    return SendAdvertisement(address, packed(destination) if destination else MULTICAST[len(address)], b"v", 100)


def heard(wire: SimulatedWire, width: int = 4) -> int:
    return len(wire.receive(Listener(ETH0, width), 100))


# ----- the kernel's bad days -----


def test_an_address_goes_as_late_as_was_chosen_and_tells_so(world: World, host: SimulatedWire) -> None:
    host.kernel.expires_late = Duration(SECOND)
    assert host.kernel.apply([AddAddress(HELD, 1), AddRoute(ETH0, packed("10.9.0.0"), 24, VIP, 1)]) == [0, 0]
    assert host.kernel.next_deadline() == world.now + 2 * SECOND
    world.run(2 * SECOND - 1)
    assert host.kernel.changes() == []
    world.run(1)
    (event,) = host.kernel.changes() or []
    assert isinstance(event, AddressRemoved)
    assert event.address.ours
    assert not [route for route in host.kernel.routes if route.source == VIP and not route.local]


def test_a_renewal_takes_its_time_and_counts_from_its_end(world: World, host: SimulatedWire) -> None:
    host.kernel.renewal_takes = Duration(400 * MILLISECOND)
    host.kernel.begin_renewal([AddAddress(HELD, 1)])
    assert host.kernel.is_renewing()
    began = world.now
    assert host.kernel.end_renewal() == [0]
    assert world.now == began + 400 * MILLISECOND
    assert host.kernel.end_renewal() is None
    assert host.kernel.next_deadline() == world.now + SECOND


def test_a_slow_kernel_takes_time_from_who_asks(world: World, host: SimulatedWire) -> None:
    host.kernel.apply_takes = Duration(SECOND)
    began = world.now
    host.kernel.apply([AddAddress(HELD, 1)])
    assert world.now == began + SECOND


def test_requests_are_refused_one_by_one(host: SimulatedWire) -> None:
    host.kernel.refuse = lambda request: errno.EPERM if isinstance(request, RemoveAddress) else 0
    assert host.kernel.apply([AddAddress(HELD, 1), RemoveAddress(HELD)]) == [0, errno.EPERM]


def test_events_are_lost_with_what_was_queued(host: SimulatedWire) -> None:
    host.kernel.set_carrier(ETH0, False)
    host.kernel.lose_events()
    host.kernel.set_carrier(ETH0, True)
    assert host.kernel.readable
    assert host.kernel.changes() is None
    assert host.kernel.changes() == []
    host.kernel.rename(ETH0, "net0")
    assert any(isinstance(event, LinkChanged) for event in host.kernel.changes() or [])


def test_an_interrupted_dump_has_half_of_the_change(host: SimulatedWire) -> None:
    host.kernel.interrupt_dump(lambda: host.kernel.set_mtu(ETH0, 1200))
    links, addresses, consistent = host.kernel.dump()
    assert not consistent
    assert {link.mtu for link in links if link.index == ETH0} == {1500}
    assert {address.index for address in addresses if len(address.address) == 16} == {1}
    assert host.kernel.dump()[2]


def test_additions_of_ours_are_told_only_by_a_kernel_that_does_not_know_whose_they_are() -> None:
    for tells, expected in ((True, []), (False, [0])):
        kernel = SimulatedKernel(lambda: Instant(0), tells_protocol=tells)
        kernel.add_link("eth0", bytes(6))
        kernel.set_up(ETH0, True)
        kernel.changes()
        kernel.apply([AddAddress(HELD, 1)])
        told = [event.address.protocol for event in kernel.changes() or [] if isinstance(event, AddressAdded)]
        assert told == expected


# ----- VRRP on the wire -----


@pytest.mark.parametrize(("width", "source"), [(4, "10.9.0.1"), (16, "fd00::1")])
def test_the_group_is_heard_by_the_others_and_not_by_oneself(world: World, width: int, source: str) -> None:
    a, b, c = world.hosts
    assert a.send(ETH0, advertisement(source)) == 0
    assert not b.readable()
    world.run(SECOND)
    assert b.readable() == [Listener(ETH0, width)]
    (datagram,) = b.receive(Listener(ETH0, width), 10)
    assert datagram == (b"v", packed(source), MULTICAST[width], 255)
    assert (heard(a, width), heard(c, width)) == (0, 1)


def test_a_packet_to_one_host_is_heard_by_that_one(world: World) -> None:
    a, b, c = world.hosts
    a.send(ETH0, advertisement("10.9.0.1", "10.9.0.2"))
    a.send(ETH0, advertisement("10.9.0.1", "10.9.0.77"))
    world.run(SECOND)
    assert (heard(b), heard(c)) == (1, 0)


def test_cuts_loss_duplicates_and_ports_that_do_not_forward(world: World) -> None:
    a, b, c = world.hosts

    def both_hear() -> tuple[int, int]:
        a.send(ETH0, advertisement("10.9.0.1"))
        world.run(SECOND)
        return heard(b), heard(c)

    world.segment.cuts.add(("a", "b", 4))
    assert both_hear() == (0, 1)
    b.send(ETH0, advertisement("10.9.0.2"))
    world.run(SECOND)
    assert heard(a) == 1  # one way only
    world.segment.cuts.clear()
    heard(c)
    world.segment.snooped.add(("c", 4))
    assert both_hear() == (1, 0)
    world.segment.snooped.clear()
    world.segment.blocked.add("b")
    assert both_hear() == (0, 1)
    world.segment.blocked.clear()
    world.segment.travel = lambda _, receiver, __: (Duration(0), Duration(SECOND)) if receiver == "b" else ()
    assert both_hear() == (2, 0)


def test_a_socket_forgets_its_group_with_ipv6_and_with_the_link(world: World) -> None:
    a, b, _ = world.hosts
    b.kernel.set_mtu(ETH0, 1200)
    assert b.renew({Listener(ETH0, 16)}) == {Listener(ETH0, 16): errno.EINVAL}
    b.kernel.set_mtu(ETH0, 1500)
    a.send(ETH0, advertisement("fd00::1"))
    world.run(SECOND)
    assert heard(b, 16) == 0
    assert b.renew({Listener(ETH0, 16)}) == {}
    a.send(ETH0, advertisement("fd00::1"))
    world.run(SECOND)
    assert heard(b, 16) == 1

    b.kernel.remove_link(ETH0)
    b.kernel.add_link("eth0", bytes((2, 0, 0, 0, 0, 2)), index=ETH0)
    b.kernel.set_up(ETH0, True)
    a.send(ETH0, advertisement("10.9.0.1"))
    world.run(SECOND)
    assert heard(b) == 0
    assert b.renew({Listener(ETH0, 4)}) == {}
    a.send(ETH0, advertisement("10.9.0.1"))
    world.run(SECOND)
    assert heard(b) == 1


def test_sending_and_opening_are_refused(host: SimulatedWire) -> None:
    host.refuse_sending = lambda _, width: errno.EPERM if width == 4 else 0
    assert host.send(ETH0, advertisement("10.9.0.1")) == errno.EPERM
    assert host.send(ETH0, advertisement("fd00::1")) == 0
    host.refuse_sending = lambda _, __: 0
    assert host.send(ETH0, advertisement("10.9.0.2")) == errno.ENETUNREACH
    assert host.send(ETH0, advertisement("fd00::2")) == errno.EINVAL
    host.kernel.set_up(ETH0, False)
    assert host.transmit(ETH0, [bytes(60)]) == errno.ENETDOWN
    host.listen(set(), set())
    host.refuse_opening = lambda _: errno.EMFILE
    assert host.listen({Listener(ETH0, 4)}, set()) == {Listener(ETH0, 4): errno.EMFILE}
    host.refuse_opening = lambda _: 0
    assert host.listen({Listener(ETH0, 4)}, set()) == {}


def test_what_a_full_queue_cannot_take_is_dropped(world: World) -> None:
    a, b, _ = world.hosts
    for _ in range(QUEUE_LENGTH + 5):
        a.send(ETH0, advertisement("10.9.0.1"))
    world.run(SECOND)
    assert b.dropped == 5


def test_a_bridge_gets_what_its_port_hears(world: World) -> None:
    a, b, _ = world.hosts
    kernel = b.kernel
    bridge = kernel.add_link("br0", bytes((2, 0, 0, 0, 0, 9)), bridge=True, own_mac=False)
    kernel.set_up(bridge, True)
    kernel.enslave(ETH0, bridge)
    kernel.remove_address(ETH0, packed("10.9.0.2"), 24)
    kernel.add_address(bridge, packed("10.9.0.2"), 24)
    assert b.listen({Listener(ETH0, 4), Listener(bridge, 4)}, set()) == {}
    a.send(ETH0, advertisement("10.9.0.1"))
    b.send(bridge, advertisement("10.9.0.2"))
    world.run(SECOND)
    assert b.readable() == [Listener(bridge, 4)]
    assert heard(a) == 1
    assert a.where(packed("10.9.0.2")) == "b"


# ----- neighbours -----


@pytest.mark.parametrize("held", [HELD, HELD6])
def test_traffic_follows_an_announcement_and_nothing_else(world: World, held: KernelAddress) -> None:
    a, b, c = world.hosts
    address = held.address
    assert c.where(address) is None
    a.kernel.apply([AddAddress(held, 60)])
    assert c.where(address) == "a"
    a.kernel.apply([RemoveAddress(held)])
    b.kernel.apply([AddAddress(held, 60)])
    assert c.where(address) is None
    mac = b.kernel.interfaces[ETH0].mac
    assert b.transmit(ETH0, [announcement(mac, address)]) == 0
    world.run(SECOND)
    assert c.where(address) == "b"

    b.kernel.set_mac(ETH0, bytes((2, 0, 0, 0, 0, 77)))
    assert c.where(address) is None
    b.transmit(ETH0, [announcement(bytes((2, 0, 0, 0, 0, 77)), address)])
    world.run(SECOND)
    assert c.where(address) == "b"
    b.kernel.set_mac(ETH0, mac)
    c.forget_neighbours()
    assert c.where(address) == "b"


def announcement(mac: bytes, address: bytes) -> bytes:
    if len(address) == 4:
        return frames.gratuitous_arp(mac, address)
    return frames.unsolicited_neighbour_advertisement(mac, address, router=False)


def test_traffic_stays_away_from_who_has_no_way_back_on_the_link(world: World) -> None:
    kernel = world.hosts[0].kernel
    kernel.apply([AddAddress(HELD, 60)])
    assert kernel.answers(VIP, ETH0, packed("10.9.0.3"))
    kernel.remove_address(ETH0, packed("10.9.0.1"), 24)
    assert not kernel.answers(VIP, ETH0, packed("10.9.0.3"))
    kernel.apply([AddRoute(ETH0, packed("10.9.0.0"), 24, VIP, 60)])
    assert kernel.answers(VIP, ETH0, packed("10.9.0.3"))


def test_neighbours_answer_requests_and_probes_but_no_announcement(world: World) -> None:
    a, b, _ = world.hosts
    mac, b_mac = a.kernel.interfaces[ETH0].mac, b.kernel.interfaces[ETH0].mac
    assert a.hear_neighbours({ETH0, 99}) == {99: errno.ENODEV}

    def answers(frame: bytes) -> list[NeighbourAnswer]:
        a.transmit(ETH0, [frame])
        world.run(SECOND)
        assert a.answering() in ([], [ETH0])
        return a.answers(ETH0, 10)

    two, two6 = packed("10.9.0.2"), packed("fd00::2")
    assert answers(frames.arp_request(mac, packed("10.9.0.1"), two)) == [(two, b_mac)]
    assert answers(frames.arp_request(mac, bytes(4), two)) == [(two, b_mac)]
    assert answers(frames.arp_request(mac, packed("10.9.0.1"), packed("10.9.0.99"))) == []
    assert answers(frames.gratuitous_arp(mac, two)) == []
    assert answers(frames.neighbour_solicitation(mac, packed("fd00::1"), two6)) == [(two6, b_mac)]
    assert answers(frames.neighbour_solicitation(mac, bytes(16), two6)) == [(two6, b_mac)]
    b.kernel.set_carrier(ETH0, False)
    assert answers(frames.arp_request(mac, bytes(4), two)) == []


def test_an_address_that_a_neighbour_has_fails_its_duplicate_detection(world: World) -> None:
    a, b, _ = world.hosts
    b.kernel.add_address(ETH0, VIP6, 64)
    a.kernel.interfaces[ETH0].detects_duplicates = True
    a.kernel.changes()
    a.kernel.add_address(ETH0, VIP6, 64)
    world.run(3 * SECOND)
    told = [event.address.flags & 0x48 for event in a.kernel.changes() or [] if isinstance(event, AddressAdded)]
    assert told == [0x40, 0x48]
