"""What to add to the kernel and what to take away, so that it holds the wanted addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from holdfast_speaker.engine.ports import KernelAddress, LinkAddress


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between the wanted and the present addresses.

    Removals go first: on one link the kernel knows an IPv6 address by its 16 bytes alone, so a new prefix length is a
    new address only after the old one has gone.
    """

    add: tuple[KernelAddress, ...]
    remove: tuple[KernelAddress, ...]
    foreign: tuple[LinkAddress, ...]
    """Where a wanted address is already, put there by somebody else: neither added beside that nor touched."""


def plan(wanted: Set[KernelAddress], present: Iterable[LinkAddress], known: Set[bytes]) -> Plan:
    """What makes the kernel hold `wanted`.

    Only addresses that carry our protocol (LinkAddress.ours) are ever removed, and of these only `known` ones:
    addresses of our configuration or of our last state. Those of another engine on this host expire by themselves.
    """
    wanted_bytes = {address.address for address in wanted}
    held: set[KernelAddress] = set()
    foreign: list[LinkAddress] = []
    for address in present:
        if address.ours:
            held.add(KernelAddress(address.index, address.address, address.prefix_length))
        elif address.address in wanted_bytes:
            foreign.append(address)
    taken = {address.address for address in foreign}
    return Plan(
        add=tuple(sorted(address for address in wanted - held if address.address not in taken)),
        remove=tuple(sorted(address for address in held - wanted if address.address in known)),
        foreign=tuple(foreign),
    )
