"""Where probes may go from this node in a cluster: what the agent itself holds to, whoever planned them (ADR 0030).

The planner refuses the same to a VirtualIP's author. Who has the operator's token writes SpeakerConfigs, and would have
every node scan networks that nobody reaches from a pod.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import msgspec

from holdfast_api.errors import ConfigurationError
from holdfast_api.resources import Probe

PERIOD_MIN_MS: Final = 100
"""How often at most a probe runs in a cluster."""

_ANY_PORT = 9  # nothing is sent to it


class ProbeTargets:
    """Loopback, this node's own addresses, those of the VIP, and what the administrator allows."""

    def __init__(self, allowed_networks: Iterable[str], addresses_of: Callable[[str], Iterable[str]]) -> None:
        """`addresses_of` tells the addresses of a VirtualIP (namespace/name) that the engine runs.

        Raises ConfigurationError for what is no network.
        """
        self._allowed = tuple(map(_network, allowed_networks))
        self._addresses_of = addresses_of

    def permits(self, virtual_ip: str, host: str) -> bool:
        """Whether a probe of this VirtualIP may connect to an address; a zone of it says nothing."""
        address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address.is_loopback or any(address in network for network in self._allowed):
            return True
        own = {ip_address(text.partition("/")[0]) for text in self._addresses_of(virtual_ip)}
        return address in own or _is_this_hosts(address)


def in_a_cluster(probe: Probe) -> Probe:
    """The probe as it is run here: not more often than a cluster allows."""
    if probe.period_ms >= PERIOD_MIN_MS:
        return probe
    return msgspec.structs.replace(probe, period_seconds=None, period_milliseconds=PERIOD_MIN_MS)


def _is_this_hosts(address: IPv4Address | IPv6Address) -> bool:
    """Whether the kernel takes the address as its own: what it sends there comes from that very address
    (net/ipv4/route.c, ip_route_output_key_hash; RFC 6724 rule 1). Nothing is sent."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((str(address), _ANY_PORT))
        except OSError:  # no route, no such family
            return False
        return ip_address(str(asking.getsockname()[0]).partition("%")[0]) == address


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigurationError(str(error), field="--allowed-probe-network") from None
