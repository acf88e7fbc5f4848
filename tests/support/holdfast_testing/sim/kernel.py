"""The kernel of a simulated host: links, addresses, routes and netlink of one network namespace, in virtual time.

It does what Linux does, as a differential test shows (tests/netns/test_sim_kernel.py), and on demand what Linux does on
bad days: it refuses, loses events, is slow, and changes in the middle of a dump. Nothing in it waits or draws lots.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence

from holdfast_speaker.engine.ports import (
    ADDRESS_PROTOCOL,
    ROUTE_METRIC,
    AddAddress,
    AddressAdded,
    AddressRemoved,
    AddRoute,
    Event,
    KernelAddress,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
    NextHop,
    NextHopsChanged,
    RemoveAddress,
    RemoveRoute,
    Request,
)
from holdfast_speaker.vrrp.instants import ZERO, Duration, Instant
from holdfast_testing.sim.interfaces import NODAD, NOPREFIXROUTE, PERMANENT, Address, Interface
from holdfast_testing.sim.ipv4 import IPv4
from holdfast_testing.sim.ipv6 import IPv6, scope_of
from holdfast_testing.sim.packet_filter import PacketFilter
from holdfast_testing.sim.routes import SCOPE_GLOBAL, SCOPE_HOST, SCOPE_LINK, Route, Routes

LOOPBACK = 1
"""The index of `lo`."""

NEVER = Instant(1 << 62)

_LOOPBACK_MTU = 65536
_LOOPBACK_NET = 127


class SimulatedKernel:
    """Implements `Kernel` of holdfast_speaker.engine.ports; everything else is for tests to act on a host.

    Links are named by their index. Whatever can be refused answers with an errno, 0 where it succeeded.
    """

    def __init__(
        self,
        now: Callable[[], Instant],
        spend: Callable[[Duration], None] = lambda _duration: None,
        *,
        tells_protocol: bool = True,
    ) -> None:
        """A host with nothing but `lo`.

        `spend` makes this host's clock go on by so much: a call that waits for the kernel. Without `tells_protocol` it
        is a kernel before 5.18, which does not say who put an address there.
        """
        self._now = now
        self._spend = spend
        self._tells_protocol = tells_protocol
        self.interfaces: dict[int, Interface] = {}
        self.routes = Routes(now)
        self.ipv4 = IPv4(self.interfaces, self.routes, self._tell_address)
        self.ipv6 = IPv6(self.interfaces, self.routes, self._tell_address, now)
        self._last_index = 0
        self._events: list[Event] = []
        self._lost = False
        self._told: dict[int, Link] = {}
        self._told_next_hops: Sequence[NextHop] = ()
        self._routes_seen = 0
        self._half_dumps: list[Callable[[], None]] = []
        self._renewal: tuple[Instant, Sequence[Request]] | None = None
        self._results: Sequence[int] | None = None
        self.packet_filter = PacketFilter(now, self._something_changed)
        self._quiet_until: Instant | None = None
        """Nothing happens by itself before; None: that has to be found out."""

        self.expires_late = ZERO
        """How much later than it said the kernel removes an address: up to 1.25 s (include/net/addrconf.h rounds)."""
        self.apply_takes = ZERO
        """How long `apply` waits for the kernel's lock."""
        self.renewal_takes = ZERO
        """How long a renewal beside the loop waits for it."""
        self.refuse: Callable[[Request], int] = lambda _request: 0
        """The errno with which a request of the engine is refused."""
        self.changed: Callable[[], None] = lambda: None
        """Called whenever a link or an address is not what it was."""
        self.answered: Callable[[Request, int], None] = lambda _request, _errno: None
        """Called with each request of the engine that was carried out, and its errno."""

        self.add_link("lo", bytes(6), loopback=True, mtu=_LOOPBACK_MTU)
        self.add_address(LOOPBACK, bytes((127, 0, 0, 1)), 8, scope=SCOPE_HOST)
        self.set_up(LOOPBACK, True)
        self._events.clear()

    # ----- time -----

    def next_deadline(self) -> Instant | None:
        """When something happens by itself next."""
        times = [at for address in self._addresses() for at in (address.expires, address.usable_at) if at is not None]
        if self._renewal is not None:
            times.append(self._renewal[0])
        if (at := self.packet_filter.next_deadline()) is not None:
            times.append(at)
        return min(times, default=None)

    def advance(self) -> None:
        """Let happen what is due by now. Every other method does so first."""
        if self._quiet_until is not None and self._now() < self._quiet_until:
            return
        while (due := self.next_deadline()) is not None and due <= self._now():
            if self.packet_filter.next_deadline() == due:
                self.packet_filter.advance()
                continue
            if self._renewal is not None and self._renewal[0] <= due:
                _, requests = self._renewal
                self._renewal = None
                self._results = [self._answer(request) for request in requests]
                continue
            address = next(a for a in self._addresses() if due in (a.expires, a.usable_at))
            if address.expires == due:
                self._delete(address)
            else:
                self.ipv6.end_detection(address)
        self._quiet_until = due or NEVER

    def _addresses(self) -> Iterable[Address]:
        interfaces = sorted(self.interfaces.items())
        return [address for _, interface in interfaces for address in (*interface.v4, *interface.v6)]

    # ----- links -----

    def add_link(
        self,
        name: str,
        mac: bytes,
        *,
        index: int | None = None,
        mtu: int = 1500,
        loopback: bool = False,
        bridge: bool = False,
        answers_arp: bool = True,
        own_mac: bool = True,
    ) -> int:
        """A new link, switched off; its index: the wanted one, or one that never was."""
        self.advance()
        index = index or self._last_index + 1
        assert index not in self.interfaces, f"index {index} is in use"
        self._last_index = max(index, self._last_index)
        self.interfaces[index] = Interface(
            index,
            name,
            mac,
            mtu=mtu,
            loopback=loopback,
            bridge=bridge,
            answers_arp=answers_arp,
            own_mac=own_mac,
            ipv6=mtu >= 1280,
        )
        self._tell_link(index)
        return index

    def index(self, name: str) -> int:
        """The index of the link of that name. Raises StopIteration where there is none."""
        return next(interface.index for interface in self.interfaces.values() if interface.name == name)

    def remove_link(self, index: int) -> None:
        """It is destroyed, or goes to another network namespace."""
        self.advance()
        interface = self.interfaces[index]
        for port in self.ports(interface):
            port.controller = 0
            self._tell_link(port.index)
        if interface.admin_up:
            self._switch_off(interface)
        self.ipv4.link_gone(interface)
        self.ipv6.link_gone(interface)
        controller = self.interfaces[interface.controller] if interface.controller else None
        interface.controller = 0  # nobody is told that, as the link itself goes
        if controller is not None:
            self._left(controller)
        del self.interfaces[index]
        self.routes.remove(lambda route: route.index == index)
        self._told.pop(index, None)
        self._something_changed()
        self._tell(LinkRemoved(index))
        if controller is not None:
            self._look_at_ports(controller)

    def rename(self, index: int, name: str) -> None:
        """Another name, also while it is up (since Linux 6.2)."""
        self.advance()
        interface = self.interfaces[index]
        interface.name = name
        self._tell_link(index)
        for address in interface.v4:
            # Its label is the link's name (net/ipv4/devinet.c, inetdev_changename).
            self._tell_address(address, True)

    def set_mac(self, index: int, mac: bytes) -> None:
        """Another MAC address; nobody is told on the link."""
        self.advance()
        interface = self.interfaces[index]
        interface.own_mac = True
        self._change_mac(interface, mac)
        if interface.controller:
            self._take_mac_of_ports(self.interfaces[interface.controller])

    def set_mtu(self, index: int, mtu: int) -> None:
        """Below 1280 everything of IPv6 vanishes, until it is 1280 again."""
        self.advance()
        interface = self.interfaces[index]
        interface.own_mtu = True
        self._change_mtu(interface, mtu)

    def _change_mtu(self, interface: Interface, mtu: int) -> None:
        if interface.mtu == mtu:
            return
        interface.mtu = mtu
        self._tell_link(interface.index)
        self.ipv6.mtu_changed(interface)
        if interface.controller:
            self._take_mtu_of_ports(self.interfaces[interface.controller])

    def set_up(self, index: int, up: bool) -> None:
        """Switched on or off by an administrator."""
        self.advance()
        interface = self.interfaces[index]
        if interface.admin_up == up:
            return
        if up:
            interface.admin_up = True
            # That packets can pass is noticed a moment later (net/core/link_watch.c).
            self._tell_link(index, carrier=interface.loopback)
            self.ipv4.link_up(interface)
            self.ipv6.link_up(interface)
            interface.cable = interface.cable or self._has_live_port(interface)
            self._carrier_changed(interface)
        else:
            self._switch_off(interface)
        self._look_at_ports_of_controller(interface)

    def _switch_off(self, interface: Interface) -> None:
        interface.admin_up = False
        interface.count_carrier()
        self._tell_link(interface.index)
        self.ipv4.link_down(interface)
        self.ipv6.link_down(interface)

    def set_carrier(self, index: int, carrier: bool) -> None:
        """The cable is plugged or pulled, or the other end is switched on or off."""
        self.advance()
        interface = self.interfaces[index]
        interface.cable = carrier
        self._carrier_changed(interface)
        self._look_at_ports_of_controller(interface)

    def enslave(self, index: int, controller: int) -> None:
        """It becomes a port of a bridge or bond. It keeps its addresses, but nothing that arrives gets to them."""
        self.advance()
        self.interfaces[index].controller = controller
        self._tell_link(index)
        self._take_mac_of_ports(self.interfaces[controller])
        self._take_mtu_of_ports(self.interfaces[controller])
        self._look_at_ports_of_controller(self.interfaces[index])

    def release(self, index: int) -> None:
        """It is a port no longer."""
        self.advance()
        port = self.interfaces[index]
        controller, port.controller = self.interfaces[port.controller], 0
        self._tell_link(index)
        self._left(controller)
        self._look_at_ports(controller)

    def _left(self, controller: Interface) -> None:
        """A bridge or bond has a port less, and does not notice yet whether it has a carrier without it."""
        self._take_mtu_of_ports(controller)
        self._take_mac_of_ports(controller)

    def ports(self, controller: Interface) -> list[Interface]:
        """The ports of a bridge or bond."""
        return [port for port in self.interfaces.values() if port.controller == controller.index]

    def _take_mac_of_ports(self, controller: Interface) -> None:
        """br_stp_recalculate_bridge_id."""
        if controller.bridge and not controller.own_mac:
            self._change_mac(controller, min((port.mac for port in self.ports(controller)), default=bytes(6)))

    def _change_mac(self, interface: Interface, mac: bytes) -> None:
        if interface.mac == mac:
            return
        interface.mac = mac
        if interface.bridge:
            # Another MAC is another bridge identifier: its ports are looked at anew (br_stp_change_bridge_id).
            interface.cable = interface.admin_up and self._has_live_port(interface)
        self._tell_link(interface.index)

    def _take_mtu_of_ports(self, controller: Interface) -> None:
        """br_mtu_auto_adjust."""
        if controller.bridge and not controller.own_mtu:
            self._change_mtu(controller, min((port.mtu for port in self.ports(controller)), default=1500))

    def _has_live_port(self, controller: Interface) -> bool:
        return any(port.operational for port in self.ports(controller))

    def _look_at_ports_of_controller(self, port: Interface) -> None:
        if port.controller:
            self._look_at_ports(self.interfaces[port.controller])

    def _look_at_ports(self, controller: Interface) -> None:
        """br_port_state_selection."""
        if controller.admin_up:
            controller.cable = self._has_live_port(controller)
            self._carrier_changed(controller)

    def _carrier_changed(self, interface: Interface) -> None:
        interface.count_carrier()
        self._tell_link(interface.index)
        if interface.cable:
            self.ipv6.carrier_on(interface)

    # ----- sysctl -----

    def set_disable_ipv6(self, index: int, disabled: bool) -> None:
        """net.ipv6.conf.<link>.disable_ipv6."""
        self.advance()
        interface = self.interfaces[index]
        if interface.disable_ipv6 == disabled:
            return
        interface.disable_ipv6 = disabled
        if disabled:
            self.ipv6.link_down(interface)
        elif interface.admin_up:
            self.ipv6.link_up(interface)
            self._carrier_changed(interface)

    # ----- addresses -----

    def add_address(
        self,
        index: int,
        address: bytes,
        prefix_length: int,
        *,
        scope: int | None = None,
        flags: int = 0,
        valid_seconds: int | None = None,
        preferred_seconds: int | None = None,
        protocol: int = 0,
        exclusive: bool = True,
    ) -> int:
        """RTM_NEWADDR: `ip address add`; without `exclusive` `ip address replace`."""
        self.advance()
        interface = self.interfaces.get(index)
        if interface is None:
            return errno.ENODEV
        if len(address) == 16 and (refusal := self.ipv6.refusal(interface)):
            return refusal
        there = self._find(interface, address, prefix_length)
        if there is not None and exclusive:
            return errno.EEXIST
        if len(address) == 4:
            new = Address(index, address, prefix_length, SCOPE_GLOBAL if scope is None else scope, flags, protocol)
        else:
            new = Address(index, address, prefix_length, scope_of(address), flags, protocol)
        lives = there or new
        was_permanent = bool(lives.flags & PERMANENT)
        lives.live_for(valid_seconds, preferred_seconds, self._now(), self.expires_late)
        lives.protocol = protocol
        if there is None:
            if len(address) == 4:
                return self.ipv4.insert(interface, new)
            self.ipv6.insert(interface, new)
        elif len(address) == 4:
            self._tell_address(there, True)
        else:
            self.ipv6.modify(interface, there, flags, was_permanent=was_permanent)
        return 0

    def remove_address(self, index: int, address: bytes, prefix_length: int) -> int:
        """RTM_DELADDR."""
        self.advance()
        interface = self.interfaces.get(index)
        if interface is None:
            return errno.ENODEV
        if len(address) == 16 and not interface.ipv6:
            return errno.ENXIO
        there = self._find(interface, address, prefix_length)
        if there is None or there.prefix_length != prefix_length:
            return errno.EADDRNOTAVAIL
        self._delete(there)
        return 0

    def _find(self, interface: Interface, address: bytes, prefix_length: int) -> Address | None:
        if len(address) == 4:
            return self.ipv4.find(interface, address, prefix_length)
        return self.ipv6.find(interface, address)

    def _delete(self, address: Address) -> None:
        interface = self.interfaces[address.index]
        if len(address.address) == 4:
            self.ipv4.delete(interface, address)
        else:
            self.ipv6.delete(interface, address)

    # ----- routes -----

    def add_route(self, route: Route, *, replace: bool = False, onlink: bool = False) -> int:
        """RTM_NEWROUTE: `ip route add`; with `onlink` nobody asks whether the gateway can be reached."""
        self.advance()
        if len(route.network) == 4:
            return self.ipv4.add_route(route, replace=replace, onlink=onlink)
        return self.ipv6.add_route(route, replace=replace)

    def remove_route(self, index: int, network: bytes, prefix_length: int, metric: int) -> int:
        """RTM_DELROUTE."""
        self.advance()
        found = self.routes.remove(
            lambda route: (route.index, *route.place) == (index, False, network, prefix_length, metric)
        )
        return 0 if found else errno.ESRCH

    def source_for(self, destination: bytes) -> bytes | None:
        """From which address the host's own traffic would come; None where there is no route, or no source."""
        self.advance()
        route = self.routes.lookup(destination)
        if route is None:
            return None
        return self.ipv4.source(route) if len(destination) == 4 else self.ipv6.source(route, destination)

    def answers(self, address: bytes, index: int, asker: bytes) -> bool:
        """Whether a neighbour with the address `asker` on that link is answered when it asks who has an address and
        then talks to it: the address is the host's own, packets pass, and the way back leads out there."""
        self.advance()
        if not self.takes(address, index):
            return False
        back = self.routes.lookup(asker)
        return back is not None and not back.local and back.index == index

    def takes(self, address: bytes, index: int) -> bool:
        """Whether the host answers ARP or neighbour solicitation for an address on a link.

        IPv4 addresses are the whole host's, IPv6 addresses the link's (net/ipv4/arp.c, net/ipv6/ndisc.c).
        """
        interface = self.interfaces.get(index)
        if interface is None or interface.controller or not interface.answers_arp:
            return False
        if not interface.operational:
            return False
        if len(address) == 4:
            return address[0] != _LOOPBACK_NET and self.routes.is_local(address)
        return any(r.local and r.index == index and r.network == address for r in self.routes)

    # ----- netlink, and what goes wrong with it -----

    @property
    def readable(self) -> bool:
        """Whether `changes` has something to tell."""
        self._look_at_next_hops()
        return bool(self._events) or self._lost or self.packet_filter.readable

    def lose_events(self) -> None:
        """ENOBUFS: what is queued is gone, and the next call of `changes` says so."""
        self.advance()
        self._events.clear()
        self._lost = True

    def interrupt_dump(self, change: Callable[[], None]) -> None:
        """The next dump has half of a change in it: links and IPv4 from before, IPv6 from after it."""
        self._half_dumps.append(change)

    def _look_at_next_hops(self) -> None:
        """Tell of the next hops where they are others: what Linux tells is each route, and none of its own."""
        if self._routes_seen == self.routes.version:
            return
        self._routes_seen = self.routes.version
        found = self._next_hops()
        if found != self._told_next_hops:
            self._told_next_hops = found
            self._tell(NextHopsChanged(found))

    def _next_hops(self) -> tuple[NextHop, ...]:
        return tuple(sorted({NextHop(route.index, route.gateway) for route in self.routes if route.gateway}))

    def _tell_link(self, index: int, *, carrier: bool = True) -> None:
        self._something_changed()
        link = self.interfaces[index].shown(carrier)
        if self._told.get(index) != link:
            self._told[index] = link
            self._tell(LinkChanged(link))

    def _tell_address(self, address: Address, there: bool) -> None:
        self._something_changed()
        shown = address.shown(self._now(), tells_protocol=self._tells_protocol)
        if not there:
            self._tell(AddressRemoved(shown))
        elif not shown.ours:
            self._tell(AddressAdded(shown))

    def _something_changed(self) -> None:
        self._quiet_until = None
        self.changed()

    def _tell(self, event: Event) -> None:
        if not self._lost:
            self._events.append(event)

    def process_ends(self) -> None:
        """Whoever was told of changes is gone, and a renewal of its that waited is not made."""
        self.advance()
        self._events.clear()
        self._lost = False
        self._half_dumps.clear()
        self._renewal = self._results = None
        self.packet_filter.process_ends()

    def process_stands_still(self, stands_still: bool) -> None:
        """A process that is frozen keeps nothing; when it runs again, what is overdue comes first."""
        self.packet_filter.stands_still = stands_still
        self._something_changed()

    # ----- the port of the engine -----

    def changes(self) -> Sequence[Event] | None:
        """As Kernel.changes."""
        self.advance()
        if self._lost:
            self._lost = False
            return None
        self._look_at_next_hops()
        events, self._events = self._events, []
        return [*events, *self.packet_filter.events()]

    def dump(self) -> tuple[Sequence[Link], Sequence[LinkAddress], bool]:
        """As Kernel.dump."""
        self.advance()
        links = [link.shown() for _, link in sorted(self.interfaces.items())]
        v4 = self._dump(4)
        consistent = not self._half_dumps
        if self._half_dumps:
            self._half_dumps.pop(0)()
        return links, [*v4, *self._dump(16)], consistent

    def _dump(self, width: int) -> list[LinkAddress]:
        return [
            address.shown(self._now(), tells_protocol=self._tells_protocol)
            for address in self._addresses()
            if len(address.address) == width
        ]

    def next_hops(self) -> Sequence[NextHop]:
        """As Kernel.next_hops."""
        self.advance()
        self._routes_seen = self.routes.version
        self._told_next_hops = self._next_hops()
        return self._told_next_hops

    def apply(self, requests: Sequence[Request]) -> Sequence[int]:
        """As Kernel.apply."""
        if self.apply_takes:
            self._spend(self.apply_takes)
        self.advance()
        return [self._answer(request) for request in requests]

    def is_renewing(self) -> bool:
        """As Kernel.is_renewing."""
        self.advance()
        return self._renewal is not None

    def begin_renewal(self, requests: Sequence[Request]) -> None:
        """As Kernel.begin_renewal."""
        self.advance()
        assert self._renewal is None, "one is under way"
        self._renewal = (Instant(self._now() + self.renewal_takes), list(requests))
        self._quiet_until = None
        self.advance()

    def end_renewal(self) -> Sequence[int] | None:
        """As Kernel.end_renewal."""
        self.advance()
        if self._renewal is not None:
            self._spend(Duration(self._renewal[0] - self._now()))
            self.advance()
        results, self._results = self._results, None
        return results

    def close_ports(self, number: int, addresses: frozenset[bytes], no_longer: frozenset[bytes]) -> None:
        """As Kernel.close_ports."""
        self.advance()
        self.packet_filter.close(number, addresses, no_longer)
        self._something_changed()
        self.advance()

    def await_closed_ports(self, within: Duration) -> int:
        """As Kernel.await_closed_ports."""
        self.advance()
        if left := self.packet_filter.left_to_wait():
            self._spend(min(left, within))
            self.advance()
        return self.packet_filter.outcome()

    def forwards_ipv6(self, name: str) -> bool:
        """As Kernel.forwards_ipv6."""
        return any(i.forwards_ipv6 for i in self.interfaces.values() if i.name == name)

    def _answer(self, request: Request) -> int:
        code = self._carry_out(request)
        self.answered(request, code)
        return code

    def _carry_out(self, request: Request) -> int:
        refused = self.refuse(request)
        if refused:
            return refused
        match request:
            case AddAddress(KernelAddress(index, address, prefix_length), valid_seconds, exclusive):
                is_ipv6 = len(address) == 16
                return self.add_address(
                    index,
                    address,
                    prefix_length,
                    scope=SCOPE_HOST,
                    flags=NOPREFIXROUTE | (NODAD if is_ipv6 else 0),
                    valid_seconds=valid_seconds,
                    preferred_seconds=0 if is_ipv6 else valid_seconds,
                    protocol=ADDRESS_PROTOCOL,
                    exclusive=exclusive,
                )
            case RemoveAddress(KernelAddress(index, address, prefix_length), keeps_others):
                interface = self.interfaces.get(index)
                if interface is None:
                    return errno.ENODEV
                before, interface.promote_secondaries = (
                    interface.promote_secondaries,
                    keeps_others or interface.promote_secondaries,
                )
                code = self.remove_address(index, address, prefix_length)
                interface.promote_secondaries = before
                return code
            case AddRoute(index, network, prefix_length, source, valid_seconds):
                route = Route(
                    index,
                    network,
                    prefix_length,
                    metric=ROUTE_METRIC,
                    protocol=ADDRESS_PROTOCOL,
                    scope=SCOPE_LINK if len(network) == 4 else SCOPE_GLOBAL,
                    source=source,
                    expires=None if len(network) == 4 else Instant(self._now() + valid_seconds * 1_000_000_000),
                )
                return self.add_route(route, replace=True)
            case RemoveRoute(index, network, prefix_length, _):
                return self.remove_route(index, network, prefix_length, ROUTE_METRIC)
