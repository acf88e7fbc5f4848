"""Which of the selected nodes can hold a VirtualIP, on which link, and what their addresses there are. Pure."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from holdfast_api.addresses import Interface, parse_address, parse_interface
from holdfast_api.cluster import NODE_ADDRESSES_MAX, Link, SpeakerConfig
from holdfast_api.resources import VirtualIP
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.links import families, interfaces, is_link_local, telling
from holdfast_operator.planner.selection import is_open, selected
from holdfast_operator.planner.view import NodeView


@dataclass(frozen=True, slots=True)
class Member:
    """A node that takes part in the election."""

    node: NodeView
    is_known: bool
    """Its speaker has said which links it has."""
    addresses: Sequence[str] = ()
    """All that it has on the link, of the families that the VirtualIP has: whoever sends from one of them is it."""
    sources: Sequence[str] = ()
    """Where its advertisements come from by themselves: all of its IPv4 addresses, the link-local ones over IPv6."""
    first_sources: Sequence[str] = ()
    """Of each family the one that it is told to use, where it is told."""
    interface: str | None = None
    """Named only where the engine might take another one than that whose addresses the others were told."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Who takes part in a VirtualIP's election."""

    members: Sequence[Member]
    link: str
    """What people are told that it lives on: an interface or a network."""
    segments: frozenset[str]
    """VirtualIPs that have one of these in common meet on a link: see `_segments`."""
    refused: Sequence[str] = field(default_factory=tuple)
    """Nodes that were selected and have no link for it."""

    @property
    def is_complete(self) -> bool:
        """Whether every member's addresses are known."""
        return all(member.sources for member in self.members)

    @property
    def addresses(self) -> list[str]:
        """Of all members, for each of them: an engine leaves its own out."""
        return _sorted(member.addresses for member in self.members)

    @property
    def sources(self) -> list[str]:
        """As `addresses`, without those that nobody sends from unless he is told to."""
        return _sorted(member.sources for member in self.members)

    @property
    def first_sources(self) -> list[str]:
        """One of each member and family."""
        return _sorted(member.first_sources for member in self.members)


@dataclass(frozen=True, slots=True)
class _Home:
    """Where a VIP would live on a node."""

    link: Link
    network: str
    """The one that holds it, or the interface's name where the user chose that."""
    must_be_named: bool = False
    """The engine might take another one."""


def find_members(virtual_ip: VirtualIP, nodes: Sequence[NodeView], speakers: Mapping[str, SpeakerConfig]) -> Membership:
    """A node whose speaker has not said anything yet is taken on trust, if the user asks for it by name or label."""
    spec, addresses = virtual_ip.spec, telling(interfaces(virtual_ip))
    known: list[Member] = []
    silent: list[NodeView] = []
    refused: list[str] = []
    networks: set[str] = set()
    segments: set[str] = set()
    for node in sorted(selected(spec.nodes, nodes), key=lambda node: node.name):
        speaker = speakers.get(node.name)
        links = speaker.status.links if speaker else []
        if not links:
            silent.append(node)
            continue
        found = _link(spec.interface, addresses, links)
        if found is None:
            refused.append(node.name)
            continue
        networks.add(found.network)
        segments |= _segments(node.name, found.link)
        known.append(_member(virtual_ip, node, found))
    own = str(addresses[0].network)
    name = spec.interface or (min(networks) if networks else own)
    trusted = [] if is_open(spec.nodes) else [_on_trust(virtual_ip, node, networks) for node in silent]
    members = sorted([*known, *trusted], key=lambda member: member.node.name)
    return Membership(tuple(members), name, frozenset(segments or {own}), tuple(refused))


def segments_of(
    routers: Mapping[str, VirtualRouterConfiguration], speakers: Mapping[str, SpeakerConfig]
) -> frozenset[str]:
    """The links on which a virtual router runs, by what is in force on each node. Empty: it runs nowhere."""
    segments: set[str] = set()
    for node, router in routers.items():
        addresses = _parsed(router.addresses)
        if not addresses:
            continue
        found = _link(router.interface, telling(addresses), speakers[node].status.links)
        segments |= _segments(node, found.link) if found is not None else {str(telling(addresses)[0].network)}
    return frozenset(segments)


def node_addresses(nodes: Sequence[NodeView], speakers: Mapping[str, SpeakerConfig]) -> list[str]:
    """Every address that some node has on a link of its own, as far as is known: the same for all, sorted."""
    reported = {
        str(interface.ip)
        for speaker in speakers.values()
        for link in speaker.status.links
        for interface in _parsed(link.addresses)
    }
    internal = {text for node in nodes for text in node.internal_addresses if parse_address(text) is not None}
    return sorted(reported | internal, key=_order)[:NODE_ADDRESSES_MAX]


def foreign_vrids(speakers: Mapping[str, SpeakerConfig]) -> frozenset[tuple[str, int]]:
    """Segments, and the VRIDs of routers there that some node hears and does not run."""
    return frozenset(
        (segment, vrid)
        for node, speaker in speakers.items()
        for link in speaker.status.links
        if link.foreign_virtual_router_ids
        for segment in _segments(node, link)
        for vrid in link.foreign_virtual_router_ids
    )


def _segments(node: str, link: Link) -> set[str]:
    """What the link is known by: the node's name for it, and the networks on it, which it shares with other nodes."""
    networks = {
        str(own.network)
        for own in _parsed(link.addresses)
        if own.network.prefixlen < own.max_prefixlen and not is_link_local(own)
    }
    return {f"{node}/{link.name}", *networks}


def _member(virtual_ip: VirtualIP, node: NodeView, home: _Home) -> Member:
    wanted = {
        address.version: str(address)
        for entry in virtual_ip.spec.nodes.source_addresses
        if entry.node_name == node.name and (address := parse_address(entry.address)) is not None
    }
    every: list[str] = []
    possible: list[str] = []
    first: list[str] = []
    for version in sorted(families(virtual_ip)):
        own = [wanted[version]] if version in wanted else _own(virtual_ip, home.link, version)
        possible += own
        first += own[:1]
        every += [*own, *(str(found.ip) for found in _parsed(home.link.addresses) if found.version == version)]
    named = home.link.name if home.must_be_named else None
    return Member(
        node,
        is_known=True,
        addresses=tuple(dict.fromkeys(every)),
        sources=tuple(possible),
        first_sources=tuple(first),
        interface=named,
    )


def _own(virtual_ip: VirtualIP, link: Link, version: int) -> list[str]:
    """Where the node sends from by itself; what shares the VIP's subnet first. IPv6: link-local addresses alone."""
    addresses = [interface for interface in _parsed(link.addresses) if interface.version == version]
    if version == 6:
        return [str(interface.ip) for interface in addresses if interface.ip.is_link_local]
    vips = [vip.ip for vip in interfaces(virtual_ip) if vip.version == 4]
    return [
        str(interface.ip)
        for interface in sorted(addresses, key=lambda interface: not any(vip in interface.network for vip in vips))
    ]


def _on_trust(virtual_ip: VirtualIP, node: NodeView, networks: Collection[str]) -> Member:
    """Its InternalIPs stand for what its speaker has not said, where they are on the link of the others.

    Another address than the right one would have the node refused as a stranger. Over IPv6 advertisements come from
    link-local addresses, which no Node object has.
    """
    if families(virtual_ip) != {4}:
        return Member(node, is_known=False)
    segments = [ip_network(text) for text in networks if "/" in text] or [telling(interfaces(virtual_ip))[0].network]
    sources = tuple(
        text
        for text in node.internal_addresses
        if (address := parse_address(text)) is not None and any(address in segment for segment in segments)
    )
    return Member(node, is_known=False, addresses=sources, sources=sources, first_sources=sources[:1])


def _parsed(texts: Sequence[str]) -> list[Interface]:
    """Those that are addresses: a node's agent may be of another version than this."""
    return [interface for text in texts if (interface := parse_interface(text)) is not None]


def _link(interface: str | None, addresses: Sequence[Interface], links: Sequence[Link]) -> _Home | None:
    """The link that the VIP would live on, as the engine chooses (engine/links.py): the longest prefix wins."""
    if interface is not None:
        return next((_Home(link, interface) for link in links if link.name == interface), None)
    for rank, address in enumerate(addresses):
        fitting = [
            (-own.network.prefixlen, link.name, str(own.network), link)
            for link in links
            for own in _parsed(link.addresses)
            if _holds(own, address)
        ]
        if fitting:
            longest, name, network, link = min(fitting, key=lambda found: found[:3])
            others = {other for length, other, _, _ in fitting if length == longest} - {name}
            # An engine of an earlier version goes by the first address alone.
            return _Home(link, network, must_be_named=bool(others) or rank > 0)
    return None


def _holds(own: Interface, vip: Interface) -> bool:
    return own.version == vip.version and own.network.prefixlen < own.max_prefixlen and vip.ip in own.network


def _sorted(of_members: Iterable[Sequence[str]]) -> list[str]:
    return sorted({address for addresses in of_members for address in addresses}, key=_order)


# Of the same few addresses, for every VirtualIP.
@functools.lru_cache(maxsize=16384)
def _order(text: str) -> tuple[int, int]:
    address = ip_address(text)
    return address.version, int(address)
