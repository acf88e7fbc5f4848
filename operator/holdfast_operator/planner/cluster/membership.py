"""Which of the selected nodes can hold a VirtualIP, on which link, and what their addresses there are. Pure."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from holdfast_api.addresses import Interface, parse_address
from holdfast_api.cluster import NODE_ADDRESSES_MAX, NODES_MAX, Link, NodeStatus, SpeakerConfig
from holdfast_api.resources import ForeignRouters, VirtualIP
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.cluster.departures import Leaving, leaving
from holdfast_operator.planner.cluster.presence import Presence
from holdfast_operator.planner.cluster.segments import Segments, parsed, place
from holdfast_operator.planner.cluster.selection import fits_any, is_open, selected
from holdfast_operator.planner.cluster.view import ClusterView, NodeView
from holdfast_operator.planner.host.links import families, interfaces, telling

_NOWHERE = ""
"""The link of which only that is known that none of its addresses is of a network."""


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
class Context:
    """What is known of the whole cluster."""

    view: ClusterView
    presence: Presence
    segments: Segments

    def among(self, nodes: Sequence[NodeView]) -> Context:
        """The same, where only some of the nodes can take part."""
        return self if nodes is self.view.nodes else replace(self, view=replace(self.view, nodes=nodes))


@dataclass(frozen=True, slots=True)
class Membership:
    """Who takes part in a VirtualIP's election."""

    members: Sequence[Member]
    link: str
    """What people are told that it lives on: an interface or a network."""
    segments: frozenset[str]
    """VirtualIPs that have one of these in common meet on a link."""
    places: frozenset[str] = frozenset()
    """Where it lives on each node: see `segments.place`."""
    refused: Sequence[str] = ()
    """Nodes that were selected and have no link for it."""
    left_out: Sequence[str] = ()
    """Nodes that were selected and could hold it, beyond NODES_MAX."""
    full: Sequence[str] = ()
    """Nodes that were selected and have no room for it."""
    older: Sequence[str] = ()
    """Nodes that were selected and whose engine takes no virtual router that several VirtualIPs share."""
    leaving: Sequence[Leaving] = ()
    """Nodes that take part no longer, and are known to the others for a while."""
    expected: Sequence[Member] = ()
    """Nodes that have not said anything yet and may run it already: they are known by what their Node objects say."""
    former: Sequence[str] = ()
    """Addresses that the members were told before, of nodes that are on their way or silent."""
    former_peers: Sequence[str] = ()
    """The same of those that are sent to with Unicast."""
    is_kept_free: bool = False
    """The only nodes that fit are kept free of such things, unless they are named."""
    is_complete: bool = True
    """Whether nobody whose addresses are unknown may take part already."""

    @property
    def addresses(self) -> list[str]:
        """Of all members, for each of them: an engine leaves its own out."""
        return _sorted([*(member.addresses for member in self._all), self.former])

    @property
    def sources(self) -> list[str]:
        """As `addresses`, without those that nobody sends from unless he is told to."""
        return _sorted([*(member.sources for member in self._all), self.former])

    @property
    def first_sources(self) -> list[str]:
        """One of each member and family."""
        return _sorted([*(member.first_sources for member in self._all), self.former_peers])

    @property
    def _all(self) -> Sequence[Member]:
        return [*self.members, *self.expected]


@dataclass(frozen=True, slots=True)
class _Home:
    """Where a VIP would live on a node."""

    link: Link
    network: str
    """The one that holds it, or the interface's name where the user chose that."""
    must_be_named: bool = False
    """The engine might take another one."""


def find_members(
    virtual_ip: VirtualIP,
    context: Context,
    running: Mapping[str, VirtualRouterConfiguration],
    entries: Sequence[NodeStatus],
) -> Membership:
    """Who takes part, by what users, nodes and agents say, and by what is in force (`running`, by node) and said of it.

    A node whose speaker has not said anything yet is taken on trust, if the user asks for it by name or label.
    """
    spec, addresses = virtual_ip.spec, telling(interfaces(virtual_ip))
    view, presence = context.view, context.presence
    in_use = _links_in_use(running, entries)
    homes: dict[str, _Home] = {}
    candidates: list[Member] = []
    silent: list[NodeView] = []  # until all homes are known
    refused: list[str] = []
    kept = {name for name in running if presence.keeps_what_runs(name)}
    chosen = selected(spec.nodes, view.nodes, view.rules, kept)
    for node in sorted(chosen, key=lambda node: node.name):
        speaker = view.speakers.get(node.name)
        links = speaker.status.links if speaker else []
        if not links:
            silent.append(node)
            continue
        found = _link(spec.interface, addresses, links, in_use.get(node.name))
        if found is None:
            refused.append(node.name)
            continue
        homes[node.name] = found
        candidates.append(_member(virtual_ip, node, found))
    own = str(addresses[0].network)
    networks = {home.network for home in homes.values()}
    trusted = [_on_trust(virtual_ip, node, networks) for node in silent]
    by_name = {member.node.name: member for member in trusted}
    candidates += [one for name, one in by_name.items() if name in running or not is_open(spec.nodes)]
    names = {member.node.name for member in candidates}
    gone = [
        one
        for name in sorted({*running, *(entry.node_name for entry in entries)} - names)
        if (one := _departure(name, virtual_ip, running.get(name), entries, presence)) is not None
    ]
    room = max(0, NODES_MAX - len(gone))
    ordered = sorted(candidates, key=lambda one: (one.node.name not in running, not one.is_known, one.node.name))
    members = sorted(ordered[:room], key=lambda member: member.node.name)
    unasked = [one for name, one in by_name.items() if name not in names]
    expected = _expected(unasked, presence, room - len(members))
    said = {*running, *(entry.node_name for entry in entries)}
    is_settled = not gone and not any(name in said or presence.has_a_speaker(name) for name in by_name)
    known = {address for member in (*members, *expected) for address in member.addresses}
    return Membership(
        members=tuple(members),
        link=spec.interface or (min(networks) if networks else own),
        segments=_segments(homes, context.segments, own),
        places=frozenset(place(name, home.link) for name, home in homes.items()),
        refused=tuple(refused),
        left_out=tuple(sorted(member.node.name for member in ordered[room:])),
        leaving=tuple(gone),
        expected=tuple(expected),
        former=() if is_settled else _former(running, known, lambda router: router.members),
        former_peers=()
        if is_settled
        else _former(running, known, lambda router: router.unicast_peers or router.members),
        is_kept_free=not chosen and fits_any(spec.nodes, view.nodes),
        is_complete=not any(_is_missed(member, presence) for member in trusted) or not _is_open_to_all(running),
    )


def _links_in_use(running: Mapping[str, VirtualRouterConfiguration], entries: Sequence[NodeStatus]) -> dict[str, str]:
    """The link that each node's engine has found, or was told: another one that would do as well changes nothing."""
    found = {entry.node_name: entry.interface for entry in entries if entry.node_name in running and entry.interface}
    return found | {name: router.interface for name, router in running.items() if router.interface is not None}


def _departure(
    name: str,
    virtual_ip: VirtualIP,
    router: VirtualRouterConfiguration | None,
    entries: Sequence[NodeStatus],
    presence: Presence,
) -> Leaving | None:
    wanted = {address.ip for address in interfaces(virtual_ip)}
    has_some = router is not None and any(address.ip in wanted for address in parsed(router.addresses))
    is_same = has_some and virtual_ip.spec.virtual_router_id in (None, router.virtual_router_id if router else None)
    return leaving(name, router, entries, presence, can_hand_over=is_same)


def _expected(trusted: Sequence[Member], presence: Presence, room: int) -> list[Member]:
    """Of the nodes that the user left it open to take: those whose engine may run already."""
    with_speaker = [member for member in trusted if member.addresses and presence.may_have_a_speaker(member.node.name)]
    return with_speaker[: max(0, room)]


def _is_missed(member: Member, presence: Presence) -> bool:
    """Whether it may run already, and nobody knows what it sends from: for a while whoever it may be is obeyed."""
    name = member.node.name
    return not member.sources and presence.has_a_speaker(name) and presence.is_worth_waiting_for(name)


def _is_open_to_all(running: Mapping[str, VirtualRouterConfiguration]) -> bool:
    """Whether nobody has been told yet whom to refuse. Once they have, a node that comes is told to them first."""
    return all(router.foreign_routers is ForeignRouters.OBEY for router in running.values())


def _former(
    running: Mapping[str, VirtualRouterConfiguration],
    known: Collection[str],
    told: Callable[[VirtualRouterConfiguration], Sequence[str]],
) -> tuple[str, ...]:
    return tuple(sorted({address for router in running.values() for address in told(router)} - set(known)))


def _sent_to(router: VirtualRouterConfiguration) -> Sequence[str]:
    return router.unicast_peers or router.members


def _segments(homes: Mapping[str, _Home], segments: Segments, own: str) -> frozenset[str]:
    claims = [
        [home.network] if "/" in home.network else segments.networks(name, home.link) for name, home in homes.items()
    ]
    believed = segments.believed(claims, own)
    places = frozenset(place(name, home.link) for name, home in homes.items())
    return believed or places or frozenset(segments.of([own]))


def segments_of(routers: Mapping[str, VirtualRouterConfiguration], context: Context) -> frozenset[str]:
    """The links on which a virtual router runs, by what is in force on each node. Empty: it runs nowhere."""
    homes: dict[str, _Home] = {}
    own = ""
    for node, router in routers.items():
        addresses = telling(parsed(router.addresses)) if router.addresses else []
        if not addresses:
            continue
        own = own or str(addresses[0].network)
        found = _link(router.interface, addresses, context.view.speakers[node].status.links, None)
        if found is not None:
            homes[node] = found
    return _segments(homes, context.segments, own) if own else frozenset()


def place_of(router: VirtualRouterConfiguration, speaker: SpeakerConfig | None) -> str | None:
    """The name of the link that a virtual router lives on, on one node; None where that is not known."""
    addresses = telling(parsed(router.addresses))
    if speaker is None or not addresses:
        return None
    found = _link(router.interface, addresses, speaker.status.links, None)
    return found.link.name if found is not None else None


def node_addresses(
    nodes: Sequence[NodeView], speakers: Mapping[str, SpeakerConfig], segments: Segments
) -> dict[str, list[str]]:
    """By node: every address that some node has on one of its links, as far as is known, and all of its own; sorted.

    A node that joins or gets an address thus concerns those of its links alone. Where nobody can tell which link it is
    (none of its addresses is of a network) it may be any other node's of that kind.
    """
    on_link: dict[str, dict[str, set[str]]] = {}
    links: dict[str, set[str]] = {}
    networks: dict[str, set[str]] = {}
    for name, speaker in speakers.items():
        for link in speaker.status.links:
            found = segments.networks(name, link)
            networks.setdefault(name, set()).update(found)
            for segment in segments.of(found) or {_NOWHERE}:
                links.setdefault(name, set()).add(segment)
                own = on_link.setdefault(segment, {}).setdefault(name, set())
                own.update(str(interface.ip) for interface in parsed(link.addresses))
    internal = {
        node.name: {text for text in node.internal_addresses if parse_address(text) is not None} for node in nodes
    }
    within = _within(networks, internal)
    told = {}
    for name in {*internal, *speakers}:
        objects = internal.get(name, set()).union(*(within[network] for network in networks.get(name, ())))
        reported: dict[str, set[str]] = {}
        for segment in links.get(name, ()):
            for other, own in on_link[segment].items():
                reported.setdefault(other, set()).update(own)
        told[name] = _as_many_as_fit(objects, list(reported.values()))
    return told


def _within(networks: Mapping[str, Collection[str]], internal: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """By network: the addresses of Node objects in it. There may be a thousand of both."""
    every = sorted({text for own in internal.values() for text in own}, key=_order)
    places = [_order(text) for text in every]
    within = {}
    for text in set[str]().union(*networks.values()):
        network = ip_network(text)
        first = bisect.bisect_left(places, (network.version, int(network.network_address)))
        last = bisect.bisect_right(places, (network.version, int(network.broadcast_address)))
        within[text] = every[first:last]
    return within


def _as_many_as_fit(internal: Collection[str], reported: Sequence[Collection[str]]) -> list[str]:
    """Where they are too many, what Node objects have comes first, and no agent's words crowd out another's."""
    each = max(1, (NODE_ADDRESSES_MAX - len(internal)) // max(1, len(reported)))
    added: set[str] = set()
    for own in reported:
        added.update(sorted({*own} - {*internal}, key=_order)[:each])
    kept = [*sorted(internal, key=_order), *sorted(added, key=_order)][:NODE_ADDRESSES_MAX]
    return sorted(kept, key=_order)


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
        every += [*own, *(str(found.ip) for found in parsed(home.link.addresses) if found.version == version)]
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
    addresses = [interface for interface in parsed(link.addresses) if interface.version == version]
    if version == 6:
        return [str(interface.ip) for interface in addresses if interface.ip.is_link_local]
    vips = [vip.ip for vip in interfaces(virtual_ip) if vip.version == 4]
    return [
        str(interface.ip)
        for interface in sorted(addresses, key=lambda interface: not any(vip in interface.network for vip in vips))
    ]


def _on_trust(virtual_ip: VirtualIP, node: NodeView, networks: Collection[str]) -> Member:
    """Its Node object's addresses stand for what its speaker has not said, where they are on the link of the others.

    Over IPv6 advertisements come from link-local addresses, which no Node object has.
    """
    versions = families(virtual_ip)
    segments = [ip_network(text) for text in networks if "/" in text]
    segments = segments or [address.network for address in telling(interfaces(virtual_ip))]
    own = [
        address
        for text in node.internal_addresses
        if (address := parse_address(text)) is not None and address.version in versions
    ]
    here = tuple(str(address) for address in own if any(address in segment for segment in segments))
    sources = here if versions == {4} else ()
    return Member(node, is_known=False, addresses=here, sources=sources, first_sources=sources[:1])


def _link(
    interface: str | None, addresses: Sequence[Interface], links: Sequence[Link], in_use: str | None
) -> _Home | None:
    """The link that the VIP would live on, as the engine chooses (engine/links.py): the longest prefix wins.

    One that is in use is kept as long as it has a prefix that fits.
    """
    if interface is not None:
        return next((_Home(link, interface) for link in links if link.name == interface), None)
    for rank, address in enumerate(addresses):
        fitting = [
            (-own.network.prefixlen, link.name, str(own.network), link)
            for link in links
            for own in parsed(link.addresses)
            if _holds(own, address)
        ]
        if fitting:
            kept = [found for found in fitting if found[1] == in_use]
            longest, name, network, link = min(kept or fitting, key=lambda found: found[:3])
            others = {other for length, other, _, _ in fitting if length <= longest} - {name}
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
