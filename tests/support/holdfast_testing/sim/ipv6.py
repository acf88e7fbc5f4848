"""IPv6 addresses of a simulated host and the routes that come with them: net/ipv6/addrconf.c."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from holdfast_speaker.vrrp.instants import MILLISECOND, Duration, Instant
from holdfast_testing.sim.interfaces import (
    DADFAILED,
    DEPRECATED,
    NODAD,
    NOPREFIXROUTE,
    PERMANENT,
    TENTATIVE,
    Address,
    Interface,
)
from holdfast_testing.sim.routes import (
    PROTOCOL_KERNEL,
    SCOPE_GLOBAL,
    SCOPE_HOST,
    SCOPE_LINK,
    SCOPE_SITE,
    Route,
    Routes,
    prefix,
)

MINIMUM_MTU = 1280
CONNECTED_METRIC = 256
KERNEL_LINK_LOCAL = 3
"""IFAPROT_KERNEL_LL: a link-local address that the kernel made by itself."""

LOOPBACK = bytes(15) + b"\x01"
_LINK_LOCAL_PREFIX = bytes.fromhex("fe80000000000000")

_LABELS = (
    (LOOPBACK, 128, 0),
    (bytes(12), 96, 3),
    (bytes(10) + b"\xff\xff", 96, 4),
    (bytes.fromhex("20010000"), 32, 6),
    (bytes.fromhex("20010010"), 28, 7),
    (bytes.fromhex("2002"), 16, 2),
    (bytes.fromhex("fc"), 7, 5),
)
"""net/ipv6/addrlabel.c: prefix, its length, label; everything else has label 1."""

Tell = Callable[[Address, bool], None]


def scope_of(address: bytes) -> int:
    """The scope that an address says by itself."""
    if address == LOOPBACK:
        return SCOPE_HOST
    if prefix(address, 10) == bytes.fromhex("fe80") + bytes(14):
        return SCOPE_LINK
    if prefix(address, 10) == bytes.fromhex("fec0") + bytes(14):
        return SCOPE_SITE
    return SCOPE_GLOBAL


def link_local(mac: bytes) -> bytes:
    """The address that the kernel makes of a MAC address (RFC 4291 appendix A)."""
    return _LINK_LOCAL_PREFIX + bytes((mac[0] ^ 0x02,)) + mac[1:3] + b"\xff\xfe" + mac[3:]


class IPv6:
    """Of all links of a host."""

    duplicate: Callable[[Interface, bytes], bool]
    """Whether somebody else on the link has an address: asked when its duplicate address detection ends."""

    detection_takes: Duration
    """How long duplicate address detection takes (RFC 4862 section 5.4)."""

    def __init__(
        self, interfaces: dict[int, Interface], routes: Routes, tell: Tell, now: Callable[[], Instant]
    ) -> None:
        self._interfaces = interfaces
        self._routes = routes
        self._tell = tell
        self._now = now
        self.duplicate = lambda _interface, _address: False
        self.detection_takes = Duration(1500 * MILLISECOND)

    # ----- addresses -----

    @staticmethod
    def find(interface: Interface, address: bytes) -> Address | None:
        """IPv6 addresses are known by their 16 bytes alone."""
        return next((a for a in interface.v6 if a.address == address), None)

    def refusal(self, interface: Interface) -> int:
        """Why a link takes no address; 0 where it does."""
        if not interface.ipv6:
            if interface.mtu < MINIMUM_MTU:
                return errno.EINVAL
            interface.ipv6 = True
        return errno.EACCES if interface.disable_ipv6 else 0

    def insert(self, interface: Interface, new: Address) -> None:
        """A new address (inet6_addr_add)."""
        if not new.flags & NODAD:
            new.flags |= TENTATIVE
        self._link(interface, new)
        self._add_connected(interface, new)
        if not new.flags & NODAD:
            self._tell(new, True)
        self._begin_detection(interface, new)

    @staticmethod
    def _link(interface: Interface, new: Address) -> None:
        """By scope, the widest first, each before those of the same (ipv6_link_dev_addr)."""
        before = (at for at, other in enumerate(interface.v6) if new.scope <= other.scope)
        interface.v6.insert(next(before, len(interface.v6)), new)

    def modify(self, interface: Interface, changed: Address, flags: int, *, was_permanent: bool) -> None:
        """What is there gets other flags; its lifetime was set before (inet6_addr_modify)."""
        had_route = was_permanent and not changed.flags & NOPREFIXROUTE
        changed.flags = changed.flags & (TENTATIVE | DADFAILED | DEPRECATED | PERMANENT) | flags
        if changed.flags & NOPREFIXROUTE:
            if had_route:
                self._cleanup_connected(interface, changed)
        elif had_route and not changed.flags & PERMANENT:
            # The kernel takes the seconds for a time of its clock: the route has expired (modify_prefix_route).
            self._remove_connected(changed)
        else:
            self._add_connected(interface, changed)
        if not changed.flags & TENTATIVE:
            self._tell(changed, True)

    def delete(self, interface: Interface, gone: Address) -> None:
        """ipv6_del_addr."""
        interface.v6.remove(gone)
        self._forget_local(gone)
        self._tell(gone, False)
        if gone.flags & PERMANENT and not gone.flags & NOPREFIXROUTE:
            self._cleanup_connected(interface, gone)
        self._routes.forget_source(gone.address)

    # ----- duplicate address detection -----

    def _begin_detection(self, interface: Interface, address: Address) -> None:
        """addrconf_dad_begin."""
        undetected = not interface.answers_arp or interface.loopback or not interface.detects_duplicates
        if undetected or address.flags & NODAD or not address.flags & TENTATIVE:
            self._complete_detection(address)
        elif interface.ready:
            address.usable_at = Instant(self._now() + self.detection_takes)
        elif not address.flags & PERMANENT:
            self.delete(interface, address)

    def _complete_detection(self, address: Address) -> None:
        address.usable_at = None
        address.kept = False
        address.flags &= ~(TENTATIVE | DADFAILED)
        self._tell(address, True)
        self._routes.append(
            Route(address.index, address.address, 128, protocol=PROTOCOL_KERNEL, source=address.address, local=True)
        )

    def end_detection(self, address: Address) -> None:
        """Its time is over: it is usable, or somebody else has it."""
        interface = self._interfaces[address.index]
        if not self.duplicate(interface, address.address):
            self._complete_detection(address)
            return
        address.usable_at = None
        address.flags |= DADFAILED
        if address.flags & PERMANENT:
            self._tell(address, True)
        else:
            self.delete(interface, address)

    # ----- the link -----

    def link_up(self, interface: Interface) -> None:
        """It was switched on, or is allowed IPv6 again: what stayed comes back (addrconf_notify, NETDEV_UP)."""
        if not interface.disable_ipv6:
            self._restore(interface)

    def carrier_on(self, interface: Interface) -> None:
        """Packets can pass: the first time since it was switched on matters (NETDEV_CHANGE)."""
        if interface.admin_up and not interface.disable_ipv6 and not interface.ready:
            self._become_ready(interface)

    def mtu_changed(self, interface: Interface) -> None:
        """NETDEV_CHANGEMTU."""
        if interface.mtu < MINIMUM_MTU:
            self.link_gone(interface)
        elif not interface.ipv6:
            interface.ipv6 = True
            if interface.cable:
                self.carrier_on(interface)

    def link_down(self, interface: Interface) -> None:
        """It was switched off, or is allowed no IPv6 (addrconf_ifdown): what was permanent may stay."""
        keeps = interface.keep_addresses_on_down and not interface.disable_ipv6
        self._take_all(interface, keep=lambda a: keeps and bool(a.flags & PERMANENT) and a.scope == SCOPE_GLOBAL)

    def link_gone(self, interface: Interface) -> None:
        """It loses IPv6 altogether."""
        self._take_all(interface, keep=lambda _address: False)
        if interface.ipv6:
            interface.ipv6_lost += 1
        # What was set for it is lost as well: it begins with the defaults of the namespace.
        interface.ipv6 = interface.disable_ipv6 = interface.keep_addresses_on_down = False

    def _take_all(self, interface: Interface, keep: Callable[[Address], bool]) -> None:
        interface.ready = False
        self._routes.remove(lambda route: route.index == interface.index and len(route.network) == 16)
        for address in list(interface.v6):
            if keep(address):
                address.usable_at = None
                address.kept = True
                if not address.flags & NODAD:
                    address.flags |= TENTATIVE
                continue
            interface.v6.remove(address)
            self._tell(address, False)

    def _restore(self, interface: Interface) -> None:
        """addrconf_permanent_addr: the routes of the addresses that stayed."""
        for address in interface.v6:
            if address.flags & PERMANENT:
                self._add_connected(interface, address)
                if address.kept and (address.flags & NODAD or not interface.detects_duplicates):
                    self._complete_detection(address)

    def _become_ready(self, interface: Interface) -> None:
        if interface.mtu < MINIMUM_MTU:
            return
        interface.ipv6 = interface.ready = True
        if interface.loopback:
            if self.find(interface, LOOPBACK) is None:
                loopback = Address(interface.index, LOOPBACK, 128, SCOPE_HOST, PERMANENT, 1)
                self._link(interface, loopback)
                self._complete_detection(loopback)
            return
        for address in list(interface.v6):
            if address.flags & TENTATIVE and address.usable_at is None:
                self._begin_detection(interface, address)
        if interface.generates_link_local:
            self._make_link_local(interface)

    def _make_link_local(self, interface: Interface) -> None:
        made = link_local(interface.mac)
        if self.find(interface, made) is None:
            new = Address(interface.index, made, 64, SCOPE_LINK, PERMANENT | TENTATIVE, KERNEL_LINK_LOCAL)
            self._link(interface, new)
            self._add_connected(interface, new)
            # No event says that it is there before it is usable (addrconf_add_linklocal).
            self._begin_detection(interface, new)

    # ----- routes -----

    @staticmethod
    def _connected(address: Address) -> Route:
        return Route(
            address.index,
            address.network,
            address.prefix_length,
            metric=CONNECTED_METRIC,
            protocol=PROTOCOL_KERNEL,
            expires=address.valid_until,
        )

    def _add_connected(self, interface: Interface, address: Address) -> None:
        if not interface.admin_up or interface.loopback or address.flags & NOPREFIXROUTE:
            return
        self._remove_connected(address)
        self._routes.append(self._connected(address))

    def _remove_connected(self, address: Address) -> None:
        self._routes.remove(
            lambda route: (
                route.place == self._connected(address).place
                and route.index == address.index
                and route.protocol == PROTOCOL_KERNEL
            )
        )

    def _cleanup_connected(self, interface: Interface, gone: Address) -> None:
        """check_cleanup_prefix_route: unless another address has a use for it."""
        others = [a for a in interface.v6 if a is not gone and a.shares_subnet(gone)]
        if any(other.flags & (PERMANENT | NOPREFIXROUTE) for other in others):
            return
        self._remove_connected(gone)
        if others:
            self._add_connected(interface, max(others, key=lambda other: other.valid_until or 0))

    def _forget_local(self, gone: Address) -> None:
        self._routes.remove(
            lambda r: r.local and r.index == gone.index and (r.network, r.prefix_length) == (gone.address, 128)
        )

    def add_route(self, route: Route, *, replace: bool) -> int:
        """The errno (ip6_route_info_create, fib6_add_rt2node)."""
        interface = self._interfaces.get(route.index)
        if interface is None:
            return errno.ENODEV
        if not interface.ipv6:
            return errno.ENODEV
        if route.gateway is not None:
            way = self._routes.lookup(route.gateway, route.index)
            if way is None or way.gateway is not None:
                return errno.EHOSTUNREACH
        if interface.disable_ipv6:
            return errno.EACCES
        if not interface.admin_up:
            return errno.ENETDOWN
        if route.source is not None and self.usable(route.source) is None:
            return errno.EINVAL
        if not replace and any(other.place == route.place for other in self._routes):
            return errno.EEXIST
        self._routes.put(route)
        return 0

    # ----- the source of the host's own packets -----

    def source(self, route: Route, destination: bytes) -> bytes | None:
        """RFC 6724, as net/ipv6/addrconf.c has it; None where there is none."""
        if route.source is not None:
            return route.source
        scope = scope_of(destination)
        candidates = list(self._candidates(route.index if scope == SCOPE_LINK else None))
        best = max(candidates, key=lambda a: self._worth(a, destination, scope, route.index), default=None)
        return best.address if best else None

    def _candidates(self, index: int | None) -> Iterator[Address]:
        for interface in self._interfaces.values():
            if index is None or interface.index == index:
                yield from (a for a in interface.v6 if not a.flags & (TENTATIVE | DADFAILED))

    def usable(self, address: bytes) -> Address | None:
        """The address, where the host has it on some link and may use it."""
        return next((a for a in self._candidates(None) if a.address == address), None)

    @staticmethod
    def _worth(address: Address, destination: bytes, scope: int, index: int) -> tuple[object, ...]:
        """The rules 1, 2, 3, 5, 6 and 8 of RFC 6724 section 5, from the first that tells two apart."""
        reach = address.scope if address.scope <= scope else -1000 - address.scope
        differing = int.from_bytes(address.address, "big") ^ int.from_bytes(destination, "big")
        return (
            address.address == destination,
            reach,
            not address.flags & DEPRECATED,
            address.index == index,
            _label(address.address) == _label(destination),
            min(128 - differing.bit_length(), address.prefix_length),
        )


def _label(address: bytes) -> int:
    for start, length, label in _LABELS:
        if prefix(address, length) == start + bytes(16 - len(start)):
            return label
    return 1
