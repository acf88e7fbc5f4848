"""Which networks are one link: by what several nodes say. Pure.

VirtualIPs that meet on a link cannot have one VRID there. That two networks are on one link is believed where two nodes
have both on one of their links, or where nobody else has one of the two: what a single agent says may keep its own
node out of an election, and moves nobody else's VIP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from holdfast_api.addresses import Interface, parse_interface
from holdfast_api.cluster import Link, SpeakerConfig
from holdfast_operator.planner.host.links import is_link_local

WITNESSES = 2
"""So many nodes have to say it before somebody else's VIP changes for it."""


class Segments:
    """The links of a cluster, each known by one of the networks on it."""

    def __init__(self, speakers: Mapping[str, SpeakerConfig]) -> None:
        self._known_by: dict[str, set[str]] = {}
        self._joined: dict[str, str] = {}
        together: dict[tuple[str, str], set[str]] = {}
        self._foreign: dict[tuple[str, int], set[str]] = {}
        self._networks: dict[str, list[str]] = {}
        for node, speaker in speakers.items():
            for link in speaker.status.links:
                networks = self._networks[place(node, link)] = _networks_of(link)
                for network in networks:
                    self._known_by.setdefault(network, set()).add(node)
                for pair in combinations(networks, 2):
                    together.setdefault(pair, set()).add(node)
        for (one, other), nodes in sorted(together.items()):
            only_theirs = self._known_by[one] <= nodes or self._known_by[other] <= nodes
            if len(nodes) >= WITNESSES or only_theirs:
                self._join(one, other)
        for node, speaker in speakers.items():
            for link in speaker.status.links:
                for segment in self.of(self.networks(node, link)) or {place(node, link)}:
                    for vrid in link.foreign_virtual_router_ids:
                        self._foreign.setdefault((segment, vrid), set()).add(node)

    def _join(self, one: str, other: str) -> None:
        first, second = sorted((self._find(one), self._find(other)))
        if first != second:
            self._joined[second] = first

    def _find(self, network: str) -> str:
        while network in self._joined:
            network = self._joined[network]
        return network

    def networks(self, node: str, link: Link) -> Sequence[str]:
        """The networks on a node's link, which it shares with other nodes; sorted."""
        return self._networks.get(place(node, link), ())

    def of(self, networks: Iterable[str]) -> set[str]:
        """The links that these networks are on."""
        return {self._find(network) for network in networks}

    def believed(self, claims: Sequence[Iterable[str]], own: str) -> frozenset[str]:
        """The links on which a VirtualIP lives.

        Each claim is what one of its nodes says of its link there; `own` is the network that the user wrote.
        """
        said = Counter(network for claim in claims for network in set(claim))
        if own in said:
            said[own] += 1
        believed = [network for network, times in said.items() if times >= WITNESSES]
        return frozenset(self.of(believed or said))

    def foreign(self, segments: Iterable[str], vrid: int) -> int:
        """How many nodes hear a router there with that VRID that is none of ours."""
        return len({node for segment in segments for node in self._foreign.get((segment, vrid), ())})

    def nodes_on(self, segments: Iterable[str]) -> int:
        """How many nodes are there."""
        wanted = set(segments)
        return len(
            {node for network, nodes in self._known_by.items() if self._find(network) in wanted for node in nodes}
        )


def place(node: str, link: Link) -> str:
    """A link by the node's own name for it."""
    return f"{node}/{link.name}"


def _networks_of(link: Link) -> list[str]:
    return sorted(
        {
            str(own.network)
            for own in parsed(link.addresses)
            if own.network.prefixlen < own.max_prefixlen and not is_link_local(own)
        }
    )


def parsed(texts: Sequence[str]) -> list[Interface]:
    """Those that are addresses: a node's agent may be of another version than this."""
    return [interface for text in texts if (interface := parse_interface(text)) is not None]
