"""What this engine may hold, whoever tells it to: given at its start by who runs the node, and by nobody later.

An operator's or an agent's token says what an engine shall hold. It cannot say this (ADR 0030).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from msgspec import Struct

from holdfast_api.listing import some_of

_NETWORKS_TOLD = 4
"""How many of the allowed networks a sentence names."""


class Door(Struct, frozen=True):
    """The rules of one engine; the same for its whole life."""

    allowed_networks: tuple[str, ...] = ()
    """Every address that is held is in one of these; empty: whatever the configuration says."""
    api_server_addresses: tuple[str, ...] = ()
    """Of the cluster's API server: never held, as nobody could take such a VIP away again."""
    refuses_next_hops: bool = False
    """Whether the next hop of a route of this host is refused too, unless it is a VIP in force: in a pod. Elsewhere
    that is a warning, as pairs of firewalls route through their VIP."""

    def why_not(self, addresses: Iterable[tuple[bytes, int]]) -> str:
        """Why one of these (packed, with prefix length) is never held here, as a sentence; empty: all may be.

        >>> Door(("10.9.0.0/24",)).why_not([(bytes((10, 9, 0, 200)), 24), (bytes((10, 8, 0, 1)), 24)])
        '10.8.0.1 is in none of the networks that this engine may hold: 10.9.0.0/24'
        """
        allowed, servers = _networks(self.allowed_networks), _networks(self.api_server_addresses)
        for packed, _ in addresses:
            address = ip_address(packed)
            if any(address in network for network in servers):
                return f"{address} is the API server's"
            if allowed and not any(address in network for network in allowed):
                told = some_of(self.allowed_networks, _NETWORKS_TOLD)
                return f"{address} is in none of the networks that this engine may hold: {told}"
        return ""


OPEN = Door()
"""Whatever the configuration says."""


@functools.cache
def _networks(texts: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, texts))
