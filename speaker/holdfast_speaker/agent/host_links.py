"""The interfaces of this node that a VIP can live on, with their own addresses, over rtnetlink (no capability)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_address, ip_interface

from holdfast_api.cluster import Link
from holdfast_api.errors import EnvironmentFailure
from holdfast_api.resources import PRIORITY_OWNER
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_speaker.host import netlink

# linux/rtnetlink.h and linux/if_addr.h
_SCOPE_GLOBAL = 0
_IPV6_TEMPORARY = 0x01
_DAD_FAILED = 0x08
_TENTATIVE = 0x40

_LINKS_MAX = 64
_ADDRESSES_MAX = 64

_log = logging.getLogger(__name__)


def read() -> tuple[list[netlink.Link], list[netlink.LinkAddress]] | None:
    """What the kernel has now; None where it does not say. May take a second: not for an event loop."""
    try:
        asking = netlink.RequestSocket()
        try:
            return asking.dump_links(), asking.dump_addresses()
        finally:
            asking.close()
    except EnvironmentFailure as failure:
        _log.warning("%s", failure)
        return None


def usable(
    links: Iterable[netlink.Link], addresses: Sequence[netlink.LinkAddress], vips: Collection[str]
) -> list[Link]:
    """Links with at least one global address of their own, by name, with all their own addresses.

    Left out: loopback; VIPs; addresses that come and go (temporary ones of IPv6) or are not usable yet; and links that
    are down and have no subnet at all, as the ones where kube-proxy (IPVS) keeps its Services.
    """
    excluded = {ip_address(vip).packed for vip in vips}
    found = []
    for link in sorted(links, key=lambda link: link.name):
        own = [one for one in addresses if one.index == link.index and _is_own(one, excluded)]
        has_subnet = any(one.prefix_length < 8 * len(one.address) for one in own)
        if link.loopback or not (link.admin_up or has_subnet):
            continue
        if any(one.scope == _SCOPE_GLOBAL for one in own):
            texts = sorted(f"{ip_address(one.address)}/{one.prefix_length}" for one in own)
            found.append(Link(name=link.name, addresses=texts[:_ADDRESSES_MAX]))
    return found[:_LINKS_MAX]


def vips_of(routers: Iterable[VirtualRouterConfiguration]) -> set[str]:
    """The addresses that are VIPs here, whoever put them on a link; not those that the node owns itself."""
    return {
        str(ip_interface(text).ip)
        for router in routers
        if router.priority != PRIORITY_OWNER
        for text in router.addresses
    }


def _is_own(address: netlink.LinkAddress, excluded: Collection[bytes]) -> bool:
    if address.ours or address.address in excluded or address.flags & (_TENTATIVE | _DAD_FAILED):
        return False
    return not (address.family == socket.AF_INET6 and address.flags & _IPV6_TEMPORARY)
