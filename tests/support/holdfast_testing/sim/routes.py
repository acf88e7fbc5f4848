"""The routing tables of a simulated host, of both families: what leads where, and what is the host's own.

As net/ipv4/fib_trie.c and net/ipv6/ip6_fib.c look routes up: what is local first, then the longest prefix, the
smallest metric, the oldest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from holdfast_speaker.vrrp.instants import Instant

SCOPE_GLOBAL, SCOPE_SITE, SCOPE_LINK, SCOPE_HOST, SCOPE_NOWHERE = 0, 200, 253, 254, 255
"""RT_SCOPE_* of linux/rtnetlink.h."""

PROTOCOL_KERNEL, PROTOCOL_BOOT = 2, 3
"""RTPROT_* of linux/rtnetlink.h."""


def prefix(address: bytes, length: int) -> bytes:
    """The address with all bits behind the prefix cleared.

    >>> prefix(bytes((10, 9, 3, 200)), 22)
    b'\\n\\t\\x00\\x00'
    """
    shift = len(address) * 8 - length
    return (int.from_bytes(address, "big") >> shift << shift).to_bytes(len(address), "big")


@dataclass(frozen=True, slots=True)
class Route:
    """A route on a link: to the host itself where it is local."""

    index: int
    network: bytes
    prefix_length: int
    metric: int = 0
    protocol: int = PROTOCOL_BOOT
    scope: int = SCOPE_GLOBAL
    gateway: bytes | None = None
    source: bytes | None = None
    local: bool = False
    expires: Instant | None = None

    def holds(self, address: bytes) -> bool:
        """Whether the address is one that it leads to."""
        if self.prefix_length == 8 * len(address):
            return address == self.network
        return len(address) == len(self.network) and prefix(address, self.prefix_length) == self.network

    @property
    def place(self) -> tuple[bool, bytes, int, int]:
        """What a second one cannot share unless it was appended."""
        return self.local, self.network, self.prefix_length, self.metric


class Routes:
    """All routes, oldest first."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        self._now = now
        self._routes: list[Route] = []
        self.version = 0
        """Grows with every change."""

    def __iter__(self) -> Iterator[Route]:
        now = self._now()
        return iter([route for route in self._routes if route.expires is None or now < route.expires])

    def append(self, route: Route) -> None:
        """Behind those of the same place; nothing where the very same is there."""
        if route not in self._routes:
            self.version += 1
            self._routes.append(route)

    def put(self, route: Route) -> None:
        """In the place of the first that has its place, or behind all."""
        self.version += 1
        for at, other in enumerate(self._routes):
            if other.place == route.place:
                self._routes[at] = route
                return
        self._routes.append(route)

    def remove(self, unwanted: Callable[[Route], bool]) -> bool:
        """Take away every one of which that is true; whether there was any."""
        kept = [route for route in self._routes if not unwanted(route)]
        found = len(kept) < len(self._routes)
        self.version += found
        self._routes = kept
        return found

    def forget_source(self, source: bytes) -> None:
        """Let routes stay that have this source, but have none from now on (fib6_remove_prefsrc)."""
        self._routes = [
            replace(route, source=None) if route.source == source and not route.local else route
            for route in self._routes
        ]

    def lookup(self, destination: bytes, index: int | None = None, *, local: bool = True) -> Route | None:
        """The route to an address: by one link where that is named, without the host's own unless `local`."""
        fitting = [
            route
            for route in self
            if route.holds(destination)
            and ((local and index is None) or not route.local)
            and (index is None or route.index == index)
        ]
        return min(fitting, key=lambda route: (not route.local, -route.prefix_length, route.metric), default=None)

    def is_local(self, address: bytes) -> bool:
        """Whether the address is the host's own."""
        return any(route.local and route.holds(address) for route in self._routes)
