"""On which link of a host a VirtualIP will live, as far as that can be told without the host's kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_interface

from holdfast_api.addresses import Interface, parse_interface
from holdfast_api.resources import VirtualIP


def interfaces(virtual_ip: VirtualIP) -> list[Interface]:
    """The addresses that parse."""
    return [found for found in map(parse_interface, virtual_ip.spec.addresses) if found is not None]


def families(virtual_ip: VirtualIP) -> frozenset[int]:
    """4, 6 or both."""
    return frozenset(interface.version for interface in interfaces(virtual_ip))


def is_link_local(interface: Interface) -> bool:
    """Whether the address means something else on every link (RFC 4291 section 2.5.6)."""
    return interface.version == 6 and interface.ip.is_link_local


def telling(addresses: Sequence[Interface]) -> list[Interface]:
    """The addresses whose subnets tell the link, the most telling first: the first of each family.

    Link-local addresses fit every link, so they decide only when there are no others. The second one decides where no
    link has a subnet for the first: a family that a node cannot speak takes the other one away from nobody.
    """
    wide = [address for address in addresses if not is_link_local(address)]
    first = {address.version: address for address in reversed(wide or addresses)}
    return sorted(first.values(), key=list(addresses).index)


def link_key(virtual_ip: VirtualIP, default_interface: str | None, networks: Mapping[str, Sequence[str]]) -> str:
    """A name for the link, equal for VirtualIPs that meet on one: an interface, or else a network.

    It is the engine's own choice: the interface named, else the default, else the one whose subnet holds the telling
    address (the longest prefix wins). Where the host has no such subnet yet, it is the address's own network.
    """
    named = virtual_ip.spec.interface or default_interface
    if named is not None:
        return named
    addresses = telling(interfaces(virtual_ip))
    for address in addresses:
        fitting = [
            (own.network.prefixlen, name)
            for name, texts in networks.items()
            for own in map(ip_interface, texts)
            if own.network.prefixlen < own.max_prefixlen and address.ip in own.network
        ]
        if fitting:
            # Of several interfaces in one subnet any will do here, but always the same.
            return max(fitting)[1]
    return str(addresses[0].network)
