"""Who gets an address or a VRID that more than one VirtualIP wants. Pure.

What is in force comes first: a new or edited VirtualIP never takes an address or a VRID from one that runs. Of those
that are new the older one is served first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from holdfast_api.addresses import Interface
from holdfast_api.cluster import ConditionReason
from holdfast_api.resources import VirtualIP
from holdfast_operator.planner.cluster.membership import Membership
from holdfast_operator.planner.cluster.presence import Presence
from holdfast_operator.planner.cluster.segments import WITNESSES, Segments
from holdfast_operator.planner.cluster.sharing import Inputs, Routers, router_name
from holdfast_operator.planner.host.links import families, interfaces, is_link_local
from holdfast_operator.planner.host.vrid import choices

Place = tuple[str, str]
"""An address with where it means the same: a link-local one on its link, any other everywhere ("")."""

Seat = tuple[str, int, int]
"""A virtual router is known by its link, family and VRID (RFC 9568 section 5.2.3)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a VirtualIP is not put in force."""

    reason: ConditionReason
    message: str
    """Names the field."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A VirtualIP that is put in force."""

    virtual_ip: VirtualIP
    membership: Membership
    vrid: int
    tolerated: Refusal | None = None
    """What it would be refused for if it did not run with it already; people are told."""
    router: str = ""
    """The name of the virtual router that it shares; empty: it has one of its own."""


Verdict = Accepted | Refusal


@dataclass(frozen=True, slots=True)
class Tenure:
    """What a VirtualIP runs with, by what is in force on the nodes, and keeps if it is refused."""

    places: frozenset[Place] = frozenset()
    seats: frozenset[Seat] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A VirtualIP whose specification is good by itself."""

    virtual_ip: VirtualIP
    membership: Membership
    vrid_in_use: int | None
    created: str
    vrids: frozenset[int] | None = None
    """Those that it can be given; None: all. What it has it keeps."""
    tolerated: Refusal | None = None
    sharing: Inputs | None = None
    """What it has in common with those whose virtual router it may share; None: it does not share."""
    router: str = ""
    """The shared virtual router that it is in, and stays in."""
    is_edited: bool = False
    """Whether its author has edited it since it was planned last."""

    def accepted(self, vrid: int, router: str = "") -> Accepted:
        """It is put in force with that VRID, in that shared virtual router or in one of its own."""
        return Accepted(self.virtual_ip, self.membership, vrid, self.tolerated, router)

    @property
    def owner(self) -> str:
        """Whose the VRID is."""
        return self.router or self.key

    @property
    def key(self) -> str:
        """namespace/name."""
        return self.virtual_ip.key

    @property
    def pinned(self) -> int | None:
        """The VRID that the user chose."""
        return self.virtual_ip.spec.virtual_router_id

    def places(self) -> list[frozenset[Place]]:
        """What each address takes up, in their order."""
        return [places_of(address, self.membership.segments) for address in interfaces(self.virtual_ip)]

    def seats(self, vrid: int) -> frozenset[Seat]:
        """What that VRID takes up."""
        return seats_of(self.membership.segments, families(self.virtual_ip), vrid)


def places_of(address: Interface, segments: Iterable[str]) -> frozenset[Place]:
    """What an address takes up on these links."""
    return frozenset((segment, str(address.ip)) for segment in (segments if is_link_local(address) else [""]))


def seats_of(segments: Collection[str], versions: Collection[int], vrid: int) -> frozenset[Seat]:
    """What a VRID takes up on these links, in these families."""
    return frozenset((segment, version, vrid) for segment in segments for version in versions)


def settle(
    candidates: Sequence[Candidate],
    refused: Collection[str],
    tenures: Mapping[str, Tenure],
    segments: Segments,
    given: Mapping[str, Collection[Place]] = MappingProxyType({}),
    shared: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Verdict]:
    """A verdict on each candidate; `refused` are the keys of those that were refused before it came to this.

    `segments` knows which VRIDs others use on a link: nobody is given one of them, and who has one keeps it. `given` is
    what the cluster gave to a VirtualIP, which keeps it for as long as it lives, whether it runs or not; `shared` says
    in which shared virtual router it is by what is in force.

    Whoever is refused goes on with what it has, which nobody else can get then. So it is asked again, until no further
    one is refused.
    """
    ordered = sorted(candidates, key=lambda candidate: (candidate.created, candidate.key))
    keeping = frozenset(refused)
    while True:
        verdicts = _verdicts(ordered, keeping, tenures, segments, given, shared)
        now = {key for key, verdict in verdicts.items() if isinstance(verdict, Refusal)}
        if now <= keeping:
            return verdicts
        keeping |= now


def _verdicts(
    ordered: Sequence[Candidate],
    keeping: Collection[str],
    tenures: Mapping[str, Tenure],
    segments: Segments,
    given: Mapping[str, Collection[Place]],
    shared: Mapping[str, str],
) -> dict[str, Verdict]:
    """If those in `keeping` keep all that they have, and the others what they have and still want."""
    places: dict[Place, str] = {}
    seats: dict[Seat, str] = {}
    for key in sorted(keeping):
        tenure = tenures.get(key, Tenure())
        _reserve(places, tenure.places, key)
        _reserve(seats, tenure.seats, shared.get(key, key))
    for candidate in ordered:
        _reserve(places, tenures.get(candidate.key, Tenure()).places & _all_places(candidate), candidate.key)
        if candidate.vrid_in_use is not None and candidate.pinned in (None, candidate.vrid_in_use):
            _reserve(seats, candidate.seats(candidate.vrid_in_use), candidate.owner)
    for key in sorted(given):
        _reserve(places, given[key], key)
    verdicts: dict[str, Verdict] = {}
    without_vrid: list[Candidate] = []
    for candidate in ordered:
        refusal = _address_in_use(candidate, places) or _vrid_in_use(candidate, seats)
        if refusal is not None:
            verdicts[candidate.key] = refusal
            continue
        _reserve(places, _all_places(candidate), candidate.key)
        vrid = candidate.pinned or candidate.vrid_in_use
        if vrid is None or _owner(candidate.seats(vrid), seats, candidate.owner) is not None:
            without_vrid.append(candidate)
            continue
        _reserve(seats, candidate.seats(vrid), candidate.owner)
        verdicts[candidate.key] = candidate.accepted(vrid, candidate.router)
    routers = Routers(_sizes(keeping, tenures, shared), shared.values())
    for candidate in ordered:
        verdict = verdicts.get(candidate.key)
        if isinstance(verdict, Accepted) and candidate.sharing is not None:
            routers.add(verdict, candidate.sharing)
    # Last, so that nobody is given what another's user chose.
    for candidate in sorted(without_vrid, key=lambda candidate: candidate.key):
        if candidate.sharing is None:
            verdicts[candidate.key] = _with_free_vrid(candidate, seats, segments)
        else:
            verdicts[candidate.key] = _with_others(candidate, candidate.sharing, routers, seats, segments)
    return verdicts


def _sizes(keeping: Collection[str], tenures: Mapping[str, Tenure], shared: Mapping[str, str]) -> dict[str, int]:
    """By shared virtual router: how many addresses those have in it that keep what they have."""
    found: dict[str, int] = {}
    for key in keeping:
        if key in shared and key in tenures:
            addresses = {address for _, address in tenures[key].places}
            found[shared[key]] = found.get(shared[key], 0) + len(addresses)
    return found


def _with_others(
    candidate: Candidate, inputs: Inputs, routers: Routers, seats: dict[Seat, str], segments: Segments
) -> Verdict:
    """In a virtual router that others share; while VRIDs are plenty in one that others will share."""
    home = routers.with_room(candidate)
    verdict: Verdict
    if home is not None and not routers.may_be_more(candidate):
        verdict = candidate.accepted(home.vrid, home.name)
    else:
        verdict = _with_free_vrid(candidate, seats, segments, routers)
        if isinstance(verdict, Refusal) and home is not None:
            verdict = candidate.accepted(home.vrid, home.name)
    if isinstance(verdict, Accepted):
        routers.add(verdict, inputs)
    return verdict


def _all_places(candidate: Candidate) -> frozenset[Place]:
    return frozenset().union(*candidate.places())


def _address_in_use(candidate: Candidate, places: Mapping[Place, str]) -> Refusal | None:
    for index, wanted in enumerate(candidate.places()):
        other = _owner(wanted, places, candidate.key)
        if other is not None:
            text = candidate.virtual_ip.spec.addresses[index]
            message = f"spec.addresses[{index}]: must be in one VirtualIP: {text} is in {other}"
            return Refusal(ConditionReason.ADDRESS_IN_USE, message)
    return None


def _vrid_in_use(candidate: Candidate, seats: Mapping[Seat, str]) -> Refusal | None:
    if candidate.pinned is None:
        return None
    other = _owner(candidate.seats(candidate.pinned), seats, candidate.key)
    if other is None:
        return None
    message = f"spec.virtualRouterID: must be unique on the link {candidate.membership.link}"
    return Refusal(ConditionReason.VIRTUAL_ROUTER_ID_IN_USE, f"{message}: {candidate.pinned} is that of {other}")


def _with_free_vrid(
    candidate: Candidate, seats: dict[Seat, str], segments: Segments, routers: Routers | None = None
) -> Verdict:
    """One that nobody uses; where there is none, one that a single node of several says to hear a stranger use."""
    there = candidate.membership.segments
    doubtful: int | None = None
    for vrid in choices(candidate.key):
        if candidate.vrids is not None and vrid not in candidate.vrids:
            continue
        wanted = candidate.seats(vrid)
        if _owner(wanted, seats, candidate.key) is not None:
            continue
        witnesses = segments.foreign(there, vrid)
        if not witnesses:
            return _founded(candidate, vrid, seats, routers)
        if doubtful is None and witnesses < WITNESSES <= segments.nodes_on(there):
            doubtful = vrid
    if doubtful is not None:
        return _founded(candidate, doubtful, seats, routers)
    ids = "1 to 255" if candidate.vrids is None else "the range of its AddressPools"
    message = (
        f"spec.virtualRouterID: must be given: the ids from {ids} are used up on the link, here or by other routers"
    )
    return Refusal(ConditionReason.NO_VIRTUAL_ROUTER_ID_LEFT, message)


def _founded(candidate: Candidate, vrid: int, seats: dict[Seat, str], routers: Routers | None) -> Accepted:
    """With that VRID, alone or as the first of several."""
    name = "" if routers is None else router_name(vrid, candidate.membership.link, routers.names)
    _reserve(seats, candidate.seats(vrid), name or candidate.key)
    return candidate.accepted(vrid, name)


_Thing = TypeVar("_Thing", Place, Seat)


def _reserve(owners: dict[_Thing, str], wanted: Iterable[_Thing], key: str) -> None:
    for thing in wanted:
        owners.setdefault(thing, key)


def _owner(wanted: Iterable[_Thing], owners: Mapping[_Thing, str], key: str) -> str | None:
    """Who else has any of it; the first by name, so that the answer is always the same."""
    return min((owners[thing] for thing in wanted if owners.get(thing, key) != key), default=None)


def leads(verdicts: Mapping[str, Accepted], running: Collection[str], created: Mapping[str, str]) -> dict[str, str]:
    """By shared virtual router: whose nodes and priorities are those of all; one that runs, if any does."""
    found: dict[str, str] = {}
    for key in sorted(verdicts, key=lambda key: (key not in running, created.get(key, ""), key)):
        if verdicts[key].router:
            found.setdefault(verdicts[key].router, key)
    return found


def with_leads(
    verdicts: Mapping[str, Verdict],
    running: Mapping[str, Collection[str]],
    created: Mapping[str, str],
    presence: Presence,
) -> dict[str, Verdict]:
    """The verdicts, where all that share a virtual router have the members of the one that leads: such as can run it.

    `running` are the nodes that each VirtualIP runs on.
    """
    accepted = {key: verdict for key, verdict in verdicts.items() if not isinstance(verdict, Refusal)}
    memberships = {
        name: _without_older(accepted[key].membership, running.get(key, ()), presence)
        for name, key in leads(accepted, running, created).items()
    }
    common = {
        key: replace(verdict, membership=memberships[verdict.router])
        for key, verdict in accepted.items()
        if verdict.router
    }
    return {**verdicts, **common}


def _without_older(membership: Membership, running: Collection[str], presence: Presence) -> Membership:
    older = tuple(
        name
        for member in membership.members
        if not presence.can_go_on_sharing(name := member.node.name, shares=name in running)
    )
    if not older:
        return membership
    members = tuple(member for member in membership.members if member.node.name not in older)
    return replace(membership, members=members, older=older)
