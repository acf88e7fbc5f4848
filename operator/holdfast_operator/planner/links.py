"""On which link of a host a VirtualIP will live, as far as that can be told without the host's kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_interface

from holdfast_api.resources import VirtualIP
from holdfast_operator.planner.addresses import Interface, parse_interface


def interfaces(virtual_ip: VirtualIP) -> list[Interface]:
    """The addresses that parse."""
    return [found for found in map(parse_interface, virtual_ip.spec.addresses) if found is not None]


def families(virtual_ip: VirtualIP) -> frozenset[int]:
    """4, 6 or both."""
    return frozenset(interface.version for interface in interfaces(virtual_ip))


def is_link_local(interface: Interface) -> bool:
    """Whether the address means something else on every link (RFC 4291 section 2.5.6)."""
    return interface.version == 6 and interface.ip.is_link_local


def link_key(virtual_ip: VirtualIP, default_interface: str | None, networks: Mapping[str, Sequence[str]]) -> str:
    """A name for the link, equal for VirtualIPs that meet on one: an interface, or else a network.

    It is the engine's own choice: the interface named, else the default, else the one whose subnet holds the first
    address (the longest prefix wins; link-local addresses fit every link, so they decide only when there are no
    others). Where the host has no such subnet yet, it is the address's own network.
    """
    named = virtual_ip.spec.interface or default_interface
    if named is not None:
        return named
    addresses = interfaces(virtual_ip)
    telling = next((address for address in addresses if not is_link_local(address)), addresses[0])
    fitting = [
        (own.network.prefixlen, name)
        for name, texts in networks.items()
        for own in map(ip_interface, texts)
        if own.network.prefixlen < own.max_prefixlen and telling.ip in own.network
    ]
    # Of several interfaces in one subnet any will do here, but always the same.
    return max(fitting)[1] if fitting else str(telling.network)
