"""What the machine's links and addresses mean for virtual routers: what keeps them out of the election."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from holdfast_api.reasons import Obstacle
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.host.kernel import Kernel, text
from holdfast_speaker.host.netlink import AddressAdded, AddressRemoved, Event, LinkChanged, LinkRemoved


def find_obstacles(
    instance: Instance,
    kernel: Kernel,
    sources: Mapping[int, bytes],
    refused: Mapping[int, str],
    by_vrid: Mapping[tuple[int, int, int], Instance],
) -> dict[Obstacle, str]:
    """The obstacles and a sentence about each.

    `sources` are the addresses to send from by width, `refused` says why links cannot be listened on, by index, and
    `by_vrid` who has a virtual router ID on a link and in a family.
    """
    link = instance.link
    if link is None:
        name = instance.configuration.interface
        missing = f"there is no interface {name}" if name else "no interface has a subnet that holds its address"
        return {Obstacle.INTERFACE_MISSING: missing}
    found: dict[Obstacle, str] = {}
    if not link.operational:
        found[Obstacle.LINK_DOWN] = f"{link.name} is down" if not link.admin_up else f"{link.name} has no carrier"
    elif link.index in refused:
        found[Obstacle.LINK_DOWN] = refused[link.index]
    lacking = ["IPv4" if width == 4 else "IPv6 link-local" for width in instance.widths if width not in sources]
    if lacking:
        found[Obstacle.NO_SOURCE_ADDRESS] = f"{link.name} has no {' and no '.join(lacking)} address to send from"
    foreign = kernel.foreign(instance.kernel_addresses)
    if foreign:
        where = kernel.table.by_index[foreign[0].index].name
        found[Obstacle.ADDRESS_IN_USE] = f"{text(foreign[0])} is on {where} already, not put there by Holdfast"
    for width in instance.widths:
        vrid = instance.configuration.virtual_router_id
        other = by_vrid.get((link.index, width, vrid))
        if other is not None and other is not instance:
            found[Obstacle.VIRTUAL_ROUTER_ID_IN_USE] = f"{other.name} has virtual router ID {vrid} on {link.name}"
    return found


def concerns(event: Event, instances: Collection[Instance]) -> bool:
    """Whether an event may change anything for them: a busy node makes and removes links of pods all the time."""
    match event:
        case LinkChanged(link):
            names = {name for item in instances for name in item.configuration.tracked_interfaces}
            names |= {item.configuration.interface or "" for item in instances}
            return link.name in names or _lives_on(link.index, instances)
        case LinkRemoved(index):
            return _lives_on(index, instances) or any(item.configuration.tracked_interfaces for item in instances)
        case AddressAdded(address) | AddressRemoved(address):
            vips = {vip for item in instances for vip, _ in item.addresses}
            return not address.ours and (_lives_on(address.index, instances) or address.address in vips)


def _lives_on(index: int, instances: Collection[Instance]) -> bool:
    """Whether some VirtualIP lives on this link, or has not found its own yet."""
    return any(item.link is None or item.link.index == index for item in instances)


def first_by_vrid(instances: Mapping[str, Instance]) -> dict[tuple[int, int, int], Instance]:
    """Who has the packets of a link (its index), a width and a virtual router ID: the first by name."""
    found: dict[tuple[int, int, int], Instance] = {}
    for name in sorted(instances):
        instance = instances[name]
        if instance.link is not None:
            for width in instance.widths:
                found.setdefault((instance.link.index, width, instance.configuration.virtual_router_id), instance)
    return found
