"""Which VirtualIPs share a virtual router: those that may, and whose elections have the same inputs. Pure.

What is in force is the record: the entries of SpeakerConfigs, and status.virtualRouter where these are gone. A
VirtualIP stays in its virtual router for as long as it lives and its inputs are those of the others; nobody moves
because somebody else comes or goes. docs/adr/0036 tells why so many, and so small ones.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import structs

from holdfast_api.addresses import parse_interface
from holdfast_api.cluster import SpeakerConfig, VirtualIPStatus
from holdfast_api.resources import VirtualIP, VirtualRouterSharing
from holdfast_api.speaker import SHARED_ADDRESSES_MAX, SharingVirtualIP, VirtualRouterConfiguration
from holdfast_operator.planner.cluster.membership import Membership
from holdfast_operator.planner.host.links import families
from holdfast_operator.planner.host.policies import ADDRESSES_PER_FAMILY_MAX
from holdfast_operator.planner.host.vrid import VRIDS

if TYPE_CHECKING:
    from holdfast_operator.planner.cluster.claims import Accepted, Candidate

OF_THE_VRIDS: Final = 4
"""Shared virtual routers take one VRID in so many, before they grow: the others are left to who needs one alone."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What decides an election."""

    election: Hashable
    """The same for all that share a virtual router."""
    home: Hashable
    """The same, beside that, for one that comes: its pools, and where it lives."""


def inputs_of(
    virtual_ip: VirtualIP, membership: Membership, allowed: Collection[str] | None, pools: Collection[str]
) -> Inputs | None:
    """Of a VirtualIP with its template's values; None: it does not share.

    `allowed` are the nodes that its pools leave it, None: all.
    """
    spec = virtual_ip.spec
    if spec.virtual_router_sharing is VirtualRouterSharing.OWN:
        return None
    rest = structs.replace(spec, addresses=[], address_pool=None)
    election = (
        msgspec.json.encode(rest, order="sorted"),
        families(virtual_ip),
        virtual_ip.metadata.namespace if spec.track.pods is not None else "",
        None if allowed is None else frozenset(allowed),
    )
    return Inputs(election, (frozenset(pools), membership.link, membership.segments))


@dataclass(frozen=True, slots=True)
class Shared:
    """A shared virtual router, as far as it is recorded."""

    name: str
    vrid: int


def recorded(speakers: Mapping[str, SpeakerConfig], statuses: Mapping[str, VirtualIPStatus]) -> dict[str, Shared]:
    """By VirtualIP: which one it shares. What nodes were told comes before what its status says."""
    found = {
        key: Shared(status.virtual_router, status.virtual_router_id)
        for key, status in statuses.items()
        if status.virtual_router and status.virtual_router_id
    }
    told = {router.name: router for _, speaker in sorted(speakers.items()) for router in speaker.spec.virtual_routers}
    for name, router in told.items():
        for one in router.virtual_ips:
            found[one.name] = Shared(name, router.virtual_router_id)
        if not router.virtual_ips:
            found.pop(name, None)  # it has one by itself
    return found


def with_homes(candidates: Sequence[Candidate], record: Mapping[str, Shared]) -> list[Candidate]:
    """The candidates, each with the shared virtual router that it stays in, or founds with the VRID that it has.

    Of those that were together and are no longer of one kind those stay that nobody has edited; else the most.
    """
    together: dict[str, list[Candidate]] = {}
    founding: dict[Hashable, list[Candidate]] = {}
    found: dict[str, Candidate] = {}
    alone = Counter(one.name for one in record.values())
    for candidate in candidates:
        shared = record.get(candidate.key)
        if candidate.sharing is None:
            is_left = shared is not None and alone[shared.name] > 1
            found[candidate.key] = dataclasses.replace(candidate, vrid_in_use=None) if is_left else candidate
        elif shared is not None:
            together.setdefault(shared.name, []).append(candidate)
        elif candidate.vrid_in_use is not None:
            kind = (candidate.vrid_in_use, candidate.sharing.election, candidate.membership.segments)
            founding.setdefault(kind, []).append(candidate)
        else:
            found[candidate.key] = candidate
    taken = {shared.name for shared in record.values()}
    for name, group in together.items():
        kinds: dict[Hashable, list[Candidate]] = {}
        for candidate in sorted(group, key=lambda one: one.key):
            kinds.setdefault(candidate.sharing and candidate.sharing.election, []).append(candidate)
        staying = min(kinds.values(), key=lambda kind: (all(one.is_edited for one in kind), -len(kind), kind[0].key))
        for candidate in group:
            stays = candidate in staying
            found[candidate.key] = dataclasses.replace(
                candidate,
                router=name if stays else "",
                vrid_in_use=record[candidate.key].vrid if stays else None,
            )
    for group in founding.values():
        first = min(group, key=lambda one: one.key)
        name = router_name(first.vrid_in_use or 0, first.membership.link, taken)
        taken.add(name)
        for candidate in group:
            found[candidate.key] = dataclasses.replace(candidate, router=name)
    return [found[candidate.key] for candidate in candidates]


def router_name(vrid: int, link: str, taken: Collection[str]) -> str:
    """What people read of a shared virtual router: its VRID, and where it is. It stays for as long as that lives.

    >>> router_name(51, "10.9.0.0/24", {"51@10.9.0.0/24"})
    "51@10.9.0.0/24'"
    """
    name = f"{vrid}@{link}"
    while name in taken:
        name += "'"
    return name


class Routers:
    """The shared virtual routers of a plan, as far as it is made, and which of them has room."""

    def __init__(self, kept: Mapping[str, int], names: Iterable[str]) -> None:
        """`kept`: by name, how many addresses those have in it that are refused. `names`: those that exist."""
        self._size: Counter[str] = Counter(kept)
        self._inputs: dict[str, set[Inputs]] = {}
        self._segments: dict[str, set[str]] = {}
        self._vrids: dict[str, int] = {}
        self.names = set(names)

    def add(self, accepted: Accepted, inputs: Inputs) -> None:
        """A VirtualIP that is in one."""
        self._size[accepted.router] += len(accepted.virtual_ip.spec.addresses)
        self._inputs.setdefault(accepted.router, set()).add(inputs)
        self._segments.setdefault(accepted.router, set()).update(accepted.membership.segments)
        self._vrids[accepted.router] = accepted.vrid
        self.names.add(accepted.router)

    def with_room(self, candidate: Candidate) -> Shared | None:
        """The smallest that it can join; None: there is none."""
        more = len(candidate.virtual_ip.spec.addresses)
        fitting = [
            (self._size[name], self._vrids[name], name)
            for name, inputs in self._inputs.items()
            if candidate.sharing in inputs and self._size[name] + more <= SHARED_ADDRESSES_MAX
        ]
        if not fitting:
            return None
        _, vrid, name = min(fitting)
        return Shared(name, vrid)

    def may_be_more(self, candidate: Candidate) -> bool:
        """Whether VRIDs are plenty yet on its link: then one more is made, before others grow."""
        vrids = candidate.vrids
        segments = candidate.membership.segments
        there = sum(
            not segments.isdisjoint(self._segments[name]) and (vrids is None or vrid in vrids)
            for name, vrid in self._vrids.items()
        )
        return there < max(1, (VRIDS if vrids is None else len(vrids)) // OF_THE_VRIDS)


def holders_of(holders: Mapping[str, str], shared: Mapping[str, str]) -> dict[str, str]:
    """By VirtualIP: who holds it, where all that share a virtual router have one holder, whom the most say.

    One that is withheld by itself has none to tell, and one that comes has none yet.
    """
    said: dict[str, Counter[str]] = {}
    for key, name in shared.items():
        if holders.get(key):
            said.setdefault(name, Counter())[holders[key]] += 1
    by_router = {name: min(count, key=lambda one: (-count[one], one)) for name, count in said.items()}
    return {key: by_router.get(shared[key], holder) if key in shared else holder for key, holder in holders.items()}


# ----- what nodes are told -----


def alone(router: VirtualRouterConfiguration) -> dict[str, VirtualRouterConfiguration]:
    """By VirtualIP: its part of an entry, as if it had that virtual router by itself."""
    if not router.virtual_ips:
        return {router.name: router}
    return {
        one.name: structs.replace(router, name=one.name, addresses=one.addresses, virtual_ips=[])
        for one in router.virtual_ips
    }


def listed_before(speakers: Mapping[str, SpeakerConfig]) -> dict[str, list[str]]:
    """By shared virtual router: what its advertisements list, by what any node was told."""
    found: dict[str, set[str]] = {}
    for speaker in speakers.values():
        for router in speaker.spec.virtual_routers:
            if router.virtual_ips:
                found.setdefault(router.name, set()).update(router.addresses)
    return {name: sorted(addresses) for name, addresses in found.items()}


def joined(
    name: str, common: VirtualRouterConfiguration, parts: Mapping[str, Sequence[str]], before: Sequence[str]
) -> VirtualRouterConfiguration:
    """The entry of a shared virtual router: `parts` are the addresses by VirtualIP, `before` what it listed until now.

    What was listed stays listed, so that nodes whose lists change one after the other know each other's.
    """
    every = [text for _, texts in sorted(parts.items()) for text in texts]
    listed: list[str] = []
    count: Counter[int] = Counter()
    for text in dict.fromkeys([*(text for text in before if text in every), *every]):
        interface = parse_interface(text)
        version = interface.version if interface is not None else 0
        if count[version] < ADDRESSES_PER_FAMILY_MAX:
            count[version] += 1
            listed.append(text)
    return structs.replace(
        common,
        name=name,
        addresses=listed,
        virtual_ips=[SharingVirtualIP(name=key, addresses=list(texts)) for key, texts in sorted(parts.items())],
    )
