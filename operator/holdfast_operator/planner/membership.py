"""Which of the selected nodes can hold a VirtualIP, on which link, and what their addresses there are. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

from holdfast_api.cluster import Link, SpeakerConfig
from holdfast_api.resources import Transport, VirtualIP
from holdfast_operator.planner.addresses import Interface, parse_address
from holdfast_operator.planner.links import families, interfaces, is_link_local
from holdfast_operator.planner.selection import is_open, selected
from holdfast_operator.planner.view import NodeView


@dataclass(frozen=True, slots=True)
class Member:
    """A node that takes part in the election."""

    node: NodeView
    is_known: bool
    """Its speaker has said which links it has."""
    sources: Sequence[str] = ()
    """Where its advertisements may come from."""
    first_sources: Sequence[str] = ()
    """Of each family the one that it is told to use with Unicast."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Who takes part in a VirtualIP's election."""

    members: Sequence[Member]
    link: str
    """A name for the link, equal for VirtualIPs that meet on one."""
    refused: Sequence[str] = field(default_factory=tuple)
    """Nodes that were selected and have no link for it."""

    @property
    def is_complete(self) -> bool:
        """Whether every member's addresses are known."""
        return all(member.sources for member in self.members)

    @property
    def addresses(self) -> list[str]:
        """Of all members, for each of them: an engine leaves its own out."""
        return sorted({source for member in self.members for source in member.sources}, key=_order)


def find_members(virtual_ip: VirtualIP, nodes: Sequence[NodeView], speakers: Mapping[str, SpeakerConfig]) -> Membership:
    """A node whose speaker has not said anything yet is taken on trust, if the user asks for it by name or label."""
    members: list[Member] = []
    refused: list[str] = []
    networks: set[str] = set()
    for node in selected(virtual_ip.spec.nodes, nodes):
        speaker = speakers.get(node.name)
        links = speaker.status.links if speaker else []
        if not links:
            if not is_open(virtual_ip.spec.nodes):
                sources = _internal(virtual_ip, node)
                members.append(Member(node, is_known=False, sources=sources, first_sources=sources[:1]))
            continue
        found = _link(virtual_ip, links)
        if found is None:
            refused.append(node.name)
            continue
        link, network = found
        networks.add(network)
        members.append(_member(virtual_ip, node, link))
    name = virtual_ip.spec.interface or (min(networks) if networks else _own_network(virtual_ip))
    return Membership(tuple(members), name, tuple(refused))


def _member(virtual_ip: VirtualIP, node: NodeView, link: Link) -> Member:
    wanted = {
        address.version: str(address)
        for entry in virtual_ip.spec.nodes.source_addresses
        if entry.node_name == node.name and (address := parse_address(entry.address)) is not None
    }
    possible: list[str] = []
    first: list[str] = []
    for version in sorted(families(virtual_ip)):
        own = [wanted[version]] if version in wanted else _own(virtual_ip, link, version)
        possible += own
        first += own[:1]
    return Member(node, is_known=True, sources=tuple(possible), first_sources=tuple(first))


def _own(virtual_ip: VirtualIP, link: Link, version: int) -> list[str]:
    """The node's addresses on the link; the one that shares the VIP's subnet first. IPv6: link-local ones alone."""
    addresses = [interface for text in link.addresses if (interface := ip_interface(text)).version == version]
    if version == 6:
        return [str(interface.ip) for interface in addresses if interface.ip.is_link_local]
    vips = [vip.ip for vip in interfaces(virtual_ip) if vip.version == 4]
    return [
        str(interface.ip)
        for interface in sorted(addresses, key=lambda interface: not any(vip in interface.network for vip in vips))
    ]


def _internal(virtual_ip: VirtualIP, node: NodeView) -> tuple[str, ...]:
    """The Node's InternalIPs. Over IPv6 advertisements come from link-local addresses, which are not known here."""
    if families(virtual_ip) != {4}:
        return ()
    return tuple(text for text in node.internal_addresses if ip_address(text).version == 4)


def _telling(virtual_ip: VirtualIP) -> Interface:
    addresses = interfaces(virtual_ip)
    return next((address for address in addresses if not is_link_local(address)), addresses[0])


def _link(virtual_ip: VirtualIP, links: Sequence[Link]) -> tuple[Link, str] | None:
    """The link that the VIP would live on and the network that it is in; as the engine chooses (net/links.py)."""
    telling = _telling(virtual_ip)
    fitting: list[tuple[int, str, Link]] = []
    for link in links:
        if virtual_ip.spec.interface is not None:
            if link.name == virtual_ip.spec.interface:
                return link, virtual_ip.spec.interface
            continue
        for own in map(ip_interface, link.addresses):
            if _holds(own, telling):
                fitting.append((own.network.prefixlen, str(own.network), link))
    if not fitting:
        return None
    _, network, link = max(fitting, key=lambda found: (found[0], found[2].name))
    return link, network


def _holds(own: IPv4Interface | IPv6Interface, telling: Interface) -> bool:
    return own.version == telling.version and own.network.prefixlen < own.max_prefixlen and telling.ip in own.network


def _own_network(virtual_ip: VirtualIP) -> str:
    return str(_telling(virtual_ip).network)


def needs_source_addresses(virtual_ip: VirtualIP) -> bool:
    """With Unicast each member is sent to at one address, so that it must send from the same."""
    return virtual_ip.spec.transport is Transport.UNICAST


def _order(text: str) -> tuple[int, int]:
    address = ip_address(text)
    return address.version, int(address)
