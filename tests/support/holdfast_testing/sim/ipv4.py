"""IPv4 addresses of a simulated host and the routes that come with them: net/ipv4/devinet.c and fib_frontend.c."""

from __future__ import annotations

import errno
from collections.abc import Callable

from holdfast_testing.sim.interfaces import NOPREFIXROUTE, SECONDARY, Address, Interface
from holdfast_testing.sim.routes import PROTOCOL_KERNEL, SCOPE_HOST, SCOPE_LINK, Route, Routes, prefix

Tell = Callable[[Address, bool], None]
"""An address is there (True), new or changed, or gone (False)."""


class IPv4:
    """Of all links of a host."""

    def __init__(self, interfaces: dict[int, Interface], routes: Routes, tell: Tell) -> None:
        self._interfaces = interfaces
        self._routes = routes
        self._tell = tell

    # ----- addresses -----

    @staticmethod
    def find(interface: Interface, address: bytes, prefix_length: int) -> Address | None:
        """IPv4 addresses are known by address and mask."""
        return next((a for a in interface.v4 if (a.address, a.prefix_length) == (address, prefix_length)), None)

    def insert(self, interface: Interface, new: Address) -> int:
        """A new address; the errno (__inet_insert_ifa)."""
        new.flags &= ~SECONDARY
        behind = 0
        for at, other in enumerate(interface.v4):
            if not other.secondary and new.scope <= other.scope:
                behind = at + 1
            if other.shares_subnet(new):
                if other.scope != new.scope:
                    return errno.EINVAL
                new.flags |= SECONDARY
        interface.v4.insert(len(interface.v4) if new.secondary else behind, new)
        self._tell(new, True)
        self._add_routes(interface, new)
        return 0

    def delete(self, interface: Interface, gone: Address, *, dying: bool = False) -> None:
        """Take an address away, with its secondaries unless one is promoted (__inet_del_ifa).

        `dying`: the whole link loses IPv4, and nothing is promoted.
        """
        promoted: Address | None = None
        if not gone.secondary and not dying:
            secondaries = [a for a in interface.v4 if a.secondary and a.shares_subnet(gone)]
            if interface.promote_secondaries:
                promoted = secondaries[0] if secondaries else None
            else:
                for secondary in secondaries:
                    interface.v4.remove(secondary)
                    self._tell(secondary, False)
                    self._delete_routes(interface, secondary, gone)
        place = self._place_of_promoted(interface, gone, promoted) if promoted else 0
        followers = [a for a in interface.v4 if promoted and a.secondary and a.shares_subnet(gone)]
        for follower in followers:
            self._forget_local(follower, gone)
        primary = self._primary(interface, gone)
        interface.v4.remove(gone)
        self._tell(gone, False)
        self._delete_routes(interface, gone, primary)
        if promoted is not None:
            interface.v4.remove(promoted)
            interface.v4.insert(place, promoted)
            promoted.flags &= ~SECONDARY
            self._tell(promoted, True)
            for address in followers:
                self._add_routes(interface, address)
        if not interface.v4:
            self._routes.remove(lambda route: route.index == interface.index and len(route.network) == 4)

    @staticmethod
    def _place_of_promoted(interface: Interface, gone: Address, promoted: Address) -> int:
        """Where a promoted address goes, counted without itself and the one that is gone."""
        first = interface.v4.index(gone)
        between = range(first + 1, interface.v4.index(promoted))
        primaries = [at for at in between if not interface.v4[at].secondary and gone.scope <= interface.v4[at].scope]
        return max(primaries, default=first)

    # ----- the link -----

    def link_up(self, interface: Interface) -> None:
        """The routes of its addresses are there."""
        for address in interface.v4:
            self._add_routes(interface, address)

    def link_down(self, interface: Interface) -> None:
        """Every route by it is gone, but its addresses are still the host's own (fib_disable_ip)."""
        self._routes.remove(lambda r: r.index == interface.index and not r.local and len(r.network) == 4)

    def link_gone(self, interface: Interface) -> None:
        """Its addresses are gone one after the other (inetdev_destroy)."""
        while interface.v4:
            self.delete(interface, interface.v4[0], dying=True)

    # ----- routes -----

    def _add_routes(self, interface: Interface, address: Address) -> None:
        """fib_add_ifaddr."""
        primary = self._primary(interface, address)
        self._routes.append(
            Route(
                interface.index,
                address.address,
                32,
                protocol=PROTOCOL_KERNEL,
                scope=SCOPE_HOST,
                source=primary.address,
                local=True,
            )
        )
        if interface.loopback and address.prefix_length < 32:
            self._routes.append(
                Route(
                    interface.index,
                    address.network,
                    address.prefix_length,
                    protocol=PROTOCOL_KERNEL,
                    scope=SCOPE_HOST,
                    source=address.address,
                    local=True,
                )
            )
            return
        if not interface.admin_up or address.secondary or address.prefix_length == 32:
            return
        if not address.flags & NOPREFIXROUTE:
            self._routes.append(self._connected(address))

    @staticmethod
    def _connected(address: Address) -> Route:
        return Route(
            address.index,
            address.network,
            address.prefix_length,
            protocol=PROTOCOL_KERNEL,
            scope=SCOPE_LINK,
            source=address.address,
        )

    def _delete_routes(self, interface: Interface, gone: Address, primary: Address) -> None:
        """fib_del_ifaddr: what no other address of the link needs."""
        if not gone.secondary and not gone.flags & NOPREFIXROUTE:
            unwanted = self._connected(gone)
            self._routes.remove(lambda route: route == unwanted)
        same = [other for other in interface.v4 if other.address == gone.address]
        if any(self._primary(interface, other).address == primary.address for other in same):
            return
        self._forget_local(gone, primary)
        # Routes whose source is the host's own no longer are flushed (fib_sync_down_addr).
        if not self._routes.is_local(gone.address):
            self._routes.remove(lambda route: route.source == gone.address and not route.local)

    def _forget_local(self, address: Address, primary: Address) -> None:
        self._routes.remove(
            lambda route: (
                route.local
                and route.index == address.index
                and (route.network, route.prefix_length) == (address.address, 32)
                and route.source == primary.address
            )
        )

    @staticmethod
    def _primary(interface: Interface, address: Address) -> Address:
        if not address.secondary:
            return address
        return next((a for a in interface.v4 if not a.secondary and a.shares_subnet(address)), address)

    def add_route(self, route: Route, *, replace: bool, onlink: bool = False) -> int:
        """The errno (fib_create_info, fib_table_insert)."""
        interface = self._interfaces.get(route.index)
        if interface is None:
            return errno.ENODEV
        if route.gateway is None or onlink:
            if not interface.admin_up:
                return errno.ENETDOWN
        else:
            way = self._routes.lookup(route.gateway, route.index)
            if way is None or way.gateway is not None:
                return errno.ENETUNREACH
        if route.source is not None and not self._routes.is_local(route.source):
            return errno.EINVAL
        if not replace and any(other.place == route.place for other in self._routes):
            return errno.EEXIST
        self._routes.put(route)
        return 0

    # ----- the source of the host's own packets -----

    def source(self, route: Route) -> bytes | None:
        """fib_result_prefsrc; None where there is none, so that the packet would come from 0.0.0.0."""
        if route.local:
            return route.source
        return route.source or self._select(route.index, route.gateway, route.scope)

    def _select(self, index: int, towards: bytes | None, scope: int) -> bytes | None:
        """inet_select_addr."""
        candidates = [a for a in self._interfaces[index].v4 if not a.secondary and a.scope <= scope]
        for address in candidates:
            if towards is None or prefix(towards, address.prefix_length) == address.network:
                return address.address
        if candidates:
            return candidates[0].address
        for interface in self._interfaces.values():
            for address in interface.v4:
                if not address.secondary and address.scope != SCOPE_LINK and address.scope <= scope:
                    return address.address
        return None
