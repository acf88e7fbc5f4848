"""What an engine takes from whoever configures it, before anything of it is put in force.

The planner sends nothing that is refused here; but what comes over a socket or from a disk may be of another version,
edited or damaged, and one wrong address must not stop what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from ipaddress import ip_address, ip_interface
from typing import TypeVar

from holdfast_api.addresses import Address
from holdfast_api.errors import ConfigurationError
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration

Parsed = TypeVar("Parsed")


def vet(configuration: SpeakerConfiguration, node_name: str) -> None:
    """Raises ConfigurationError, with the path of the field, for what this node's engine cannot run."""
    if configuration.node_name != node_name:
        raise ConfigurationError(f"nodeName: is {configuration.node_name!r}, and this is the engine of {node_name!r}")
    for index, text in enumerate(configuration.node_addresses):
        _parsed(ip_address, text, f"nodeAddresses[{index}]")
    names: set[str] = set()
    for index, router in enumerate(configuration.virtual_routers):
        place = f"virtualRouters[{index}]"
        if router.name in names:
            raise ConfigurationError(f"{place}.name: {router.name!r} is there twice")
        names.add(router.name)
        _vet_router(router, place)
        for number, sharing in enumerate(router.virtual_ips):
            if sharing.name in names:
                raise ConfigurationError(f"{place}.virtualIPs[{number}].name: {sharing.name!r} is there twice")
            names.add(sharing.name)


def _vet_router(router: VirtualRouterConfiguration, place: str) -> None:
    listed = [_parsed(ip_interface, text, f"{place}.addresses[{index}]") for index, text in enumerate(router.addresses)]
    versions = {interface.version for interface in listed}
    _vet_sharing(router, {interface.ip for interface in listed}, versions, place)
    if router.version == 2 and versions != {4}:
        raise ConfigurationError(f"{place}.addresses: VRRPv2 has IPv4 addresses only")
    for index, text in enumerate(router.members):
        _parsed(ip_address, text, f"{place}.members[{index}]")
    for index, text in enumerate(router.source_addresses):
        _parsed(ip_address, text, f"{place}.sourceAddresses[{index}]")
    if router.simple_password is not None and not router.simple_password.isascii():
        raise ConfigurationError(f"{place}.simplePassword: must be ASCII")


def _vet_sharing(router: VirtualRouterConfiguration, listed: Set[Address], versions: Set[int], place: str) -> None:
    """The addresses of VirtualIPs that share it: each is that of one, and what is listed is among them."""
    owners: dict[Address, str] = {}
    for number, sharing in enumerate(router.virtual_ips):
        for index, text in enumerate(sharing.addresses):
            field = f"{place}.virtualIPs[{number}].addresses[{index}]"
            found = _parsed(ip_interface, text, field)
            if found.ip in owners:
                raise ConfigurationError(f"{field}: {text} is that of {owners[found.ip]} already")
            if found.version not in versions:
                raise ConfigurationError(f"{field}: no IPv{found.version} address is listed")
            owners[found.ip] = sharing.name
    if router.virtual_ips and (without := listed - owners.keys()):
        raise ConfigurationError(f"{place}.addresses: {min(map(str, without))} is that of no VirtualIP")


def _parsed(parse: Callable[[str], Parsed], text: str, field: str) -> Parsed:
    try:
        return parse(text)
    except ValueError:
        raise ConfigurationError(f"{field}: {text!r} is no IP address") from None
