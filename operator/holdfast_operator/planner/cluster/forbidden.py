"""Addresses that no VirtualIP of a cluster can have, pools or not. Pure.

What Node objects and the API server's endpoints say is the cluster's own word. What agents report is hearsay: the word
of one agent keeps a new VirtualIP from an address, and takes none away from one that runs with it.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from holdfast_api.addresses import Address, Interface, parse_found, parse_interface
from holdfast_operator.planner.cluster.segments import place
from holdfast_operator.planner.cluster.spans import Span, Spans, span_of
from holdfast_operator.planner.cluster.view import ClusterView

_KINDS: Final[Mapping[str, str]] = {
    "0.0.0.0/8": "an address of this host on this network (RFC 1122)",
    "127.0.0.0/8": "a loopback address",
    "169.254.0.0/16": "a link-local IPv4 address, as metadata services have them",
    "224.0.0.0/4": "a multicast address",
    "255.255.255.255/32": "the broadcast address",
    "::/128": "the unspecified address",
    "::1/128": "the loopback address",
    "ff00::/8": "a multicast address",
}
"""Link-local addresses of IPv6 are not among them: with these VRRP over IPv6 begins (RFC 9568 section 5.2.9)."""

Place = tuple[str, Address]
"""An address with where it means the same: a link-local one on its link, any other everywhere ("")."""


@dataclass(frozen=True, slots=True)
class Ban:
    """Why no VirtualIP can have an address."""

    words: str
    """As in "must not be ..."."""
    is_given_up: bool = False
    """Whether also one that runs with it gives it up at once."""
    owner: str = ""
    """The node that has the address, where it is a node's."""


class Forbidden:
    """What is forbidden in a cluster."""

    def __init__(self, view: ClusterView) -> None:
        self._nodes: dict[Address, list[str]] = {}
        for node in view.nodes:
            for text in (*node.internal_addresses, *node.external_addresses):
                if (address := _address(text)) is not None:
                    self._nodes.setdefault(address, []).append(node.name)
        self._api_servers = {found for text in view.api_server_addresses if (found := _address(text)) is not None}
        self._services = {found for text in view.service_addresses if (found := _address(text)) is not None}
        self._networks = [
            *((ip_network(text), words) for text, words in _KINDS.items()),
            *_networks([*view.service_networks, *view.rules.service_networks], "an address of a Service, in"),
            *_networks([text for node in view.nodes for text in node.pod_networks], "an address of a pod, in"),
        ]
        self._in_networks = Spans(
            Span(network.version, int(network.network_address), int(network.broadcast_address))
            for network, _ in self._networks
        )
        self._reporting = sum(bool(speaker.status.links) for speaker in view.speakers.values())
        self._own: dict[Place, set[str]] = {}
        self._next_hops: dict[Place, set[str]] = {}
        self._edges: dict[Place, set[str]] = {}
        for node_name, speaker in sorted(view.speakers.items()):
            for link in speaker.status.links:
                link_name = place(node_name, link)
                for text in link.addresses:
                    interface = parse_interface(text)
                    if interface is None:
                        continue
                    self._own.setdefault(_place(interface.ip, link_name), set()).add(node_name)
                    for edge in _edges(interface):
                        self._edges.setdefault(("", edge), set()).add(node_name)
                for text in link.next_hops:
                    if (hop := _address(text)) is not None:
                        self._next_hops.setdefault(_place(hop, link_name), set()).add(node_name)

    def bans(self, address: Address, places: Collection[str], *, is_in_force: bool) -> Iterator[Ban]:
        """Everything that speaks against it. `places` are where a link-local address would live (see `segments.place`).

        An agent's word that its own node has the address is always told; that others are its routers, or that a
        network ends there, counts against an address that is in force only where most agents say so.
        """
        if address in self._nodes:
            names = self._nodes[address]
            yield Ban(f"an address of node {names[0]}", is_given_up=True, owner=names[0] if len(names) == 1 else "")
        if address in self._api_servers:
            yield Ban("an address of the API server", is_given_up=True)
        if address in self._services:
            yield Ban("the address of a Service inside of the cluster")
        if address in self._in_networks:
            yield from (Ban(words) for network, words in self._networks if address in network)
        where = [(found, address) for found in places] if _is_of_a_link(address) else [("", address)]
        own = {name for found in where for name in self._own.get(found, ())} - set(self._nodes.get(address, ()))
        if own:
            yield Ban(f"an address of node {min(own)}", owner=min(own) if len(own) == 1 else "")
        hearsay = (
            (self._next_hops, "a router that {} sends through"),
            (self._edges, "the network's own or the broadcast address of a network of {}"),
        )
        for told, words in hearsay:
            names_told = {name for found in where for name in told.get(found, ())}
            if names_told and (not is_in_force or self._most_say_so(names_told)):
                yield Ban(words.format(f"node {min(names_told)}"))

    def _most_say_so(self, names: Collection[str]) -> bool:
        return len(names) > 1 and 2 * len(names) > self._reporting

    def must_be_given_up(self, address: Address, owners: Collection[str]) -> bool:
        """Whether a Node object has it, of another node than one of its `owners`, or the API server's endpoints."""
        return address in self._api_servers or bool(set(self._nodes.get(address, ())) - set(owners))

    @functools.cached_property
    def spans(self) -> Spans:
        """All of it: what nobody is given by itself."""
        single = [*self._nodes, *self._api_servers, *self._services]
        single += [address for told in (self._own, self._next_hops, self._edges) for _, address in told]
        return Spans([*map(span_of, single), *self._in_networks])


def _networks(texts: Collection[str], words: str) -> Iterator[tuple[IPv4Network | IPv6Network, str]]:
    for text in sorted(set(texts)):
        try:
            network = ip_network(text, strict=False)
        except ValueError:  # of a node or an administrator: the operator has said so when it was read
            continue
        yield network, f"{words} {network}"


def _address(text: str) -> Address | None:
    """As Kubernetes, a kernel or an agent writes it, with or without a zone."""
    return parse_found(text.partition("%")[0])


def _is_of_a_link(address: Address) -> bool:
    return isinstance(address, IPv6Address) and address.is_link_local


def _place(address: Address, link_name: str) -> Place:
    return (link_name if _is_of_a_link(address) else "", address)


def _edges(own: Interface) -> list[Address]:
    """The network's own address and that of its broadcast, where it has them (RFC 3021)."""
    network = own.network
    if isinstance(own.ip, IPv4Address) and 0 < network.prefixlen < 31:
        return [network.network_address, network.broadcast_address]
    return []
