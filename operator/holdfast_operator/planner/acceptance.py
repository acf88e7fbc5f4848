"""Which VirtualIPs can be put in force, and why the others cannot. Pure.

What is in force comes first: a new or edited VirtualIP never takes an address or a VRID from one that runs. Of those
that are new the older one is served first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from holdfast_api.cluster import NODES_MAX, ConditionReason, SpeakerConfig, VirtualIPStatus
from holdfast_api.documents import path_and_reason
from holdfast_api.resources import VirtualIP
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.links import families, interfaces, is_link_local
from holdfast_operator.planner.membership import Membership, find_members
from holdfast_operator.planner.policies import violations
from holdfast_operator.planner.view import ClusterView
from holdfast_operator.planner.vrid import Claim, allocate


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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A VirtualIP whose specification is good by itself."""

    virtual_ip: VirtualIP
    membership: Membership
    running: VirtualRouterConfiguration | None
    vrid_in_use: int | None
    created: str

    @property
    def key(self) -> str:
        """namespace/name."""
        return self.virtual_ip.key

    @property
    def addresses(self) -> list[tuple[str, str]]:
        """Each with where it means the same: a link-local one on its link, any other everywhere."""
        return [
            (self.membership.link if is_link_local(address) else "", str(address.ip))
            for address in interfaces(self.virtual_ip)
        ]


Verdicts = Mapping[str, Accepted | Refusal]


def key_of(raw: Mapping[str, Any]) -> str:
    """namespace/name of an object as the API server gives it."""
    metadata = raw["metadata"]
    return f"{metadata.get('namespace', 'default')}/{metadata['name']}"


def in_force(speakers: Mapping[str, SpeakerConfig]) -> dict[str, dict[str, VirtualRouterConfiguration]]:
    """What runs by the VirtualIP's key and the node's name."""
    running: dict[str, dict[str, VirtualRouterConfiguration]] = {}
    for name, speaker in sorted(speakers.items()):
        for router in speaker.spec.virtual_routers:
            running.setdefault(router.name, {})[name] = router
    return running


def judge(view: ClusterView, statuses: Mapping[str, VirtualIPStatus]) -> Verdicts:
    """A verdict on each VirtualIP, by its key; in whatever order they are listed."""
    verdicts: dict[str, Accepted | Refusal] = {}
    candidates: list[Candidate] = []
    running = in_force(view.speakers)
    for raw in sorted(view.virtual_ips, key=key_of):
        key = key_of(raw)
        found = _by_itself(raw)
        if isinstance(found, VirtualIP):
            membership = find_members(found, view.nodes, view.speakers)
            candidate = Candidate(
                virtual_ip=found,
                membership=membership,
                running=next(iter(running.get(key, {}).values()), None),
                vrid_in_use=_vrid_in_use(running.get(key, {}), statuses[key]),
                created=str(raw["metadata"].get("creationTimestamp", "")),
            )
            refusal = _without_home(found, membership, view)
            if refusal is None:
                candidates.append(candidate)
                continue
            verdicts[key] = refusal
        else:
            verdicts[key] = found
    candidates.sort(key=lambda one: (_rank(one), one.created, one.key))
    return verdicts | _without_conflicts(candidates, verdicts, running)


def _rank(candidate: Candidate) -> int:
    """0: runs with these addresses already; 1: does not."""
    return int(candidate.running is None or candidate.running.addresses != candidate.virtual_ip.spec.addresses)


def _by_itself(raw: Mapping[str, Any]) -> VirtualIP | Refusal:
    try:
        virtual_ip = msgspec.convert(raw, VirtualIP)
    except msgspec.ValidationError as error:
        where, reason = path_and_reason(error)
        return Refusal(ConditionReason.INVALID, f"{where}: {reason}" if where else reason)
    found = violations(virtual_ip)
    if found:
        return Refusal(ConditionReason.INVALID, "; ".join(f"{one.field}: {one.message}" for one in found))
    executed = [index for index, probe in enumerate(virtual_ip.spec.track.probes) if probe.exec is not None]
    if executed:
        message = "must be left out in a cluster, where no program of the node can be run: use tcpSocket or httpGet"
        return Refusal(ConditionReason.INVALID, f"spec.track.probes[{executed[0]}].exec: {message}")
    return virtual_ip


def _vrid_in_use(running: Mapping[str, VirtualRouterConfiguration], status: VirtualIPStatus) -> int | None:
    for router in running.values():
        return router.virtual_router_id
    return status.virtual_router_id or None


def _without_home(virtual_ip: VirtualIP, membership: Membership, view: ClusterView) -> Refusal | None:
    spec = virtual_ip.spec
    if len(membership.members) > NODES_MAX:
        message = f"spec.nodes: must select {NODES_MAX} nodes at most, and selects {len(membership.members)}"
        return Refusal(ConditionReason.INVALID, message)
    if membership.members:
        return None
    if membership.refused:
        where = f"spec.interface: {spec.interface}" if spec.interface else f"spec.addresses[0]: {spec.addresses[0]}"
        nodes = "; ".join(_told(name, view) for name in membership.refused[:8])
        what = "is an interface of none" if spec.interface else "must be in a subnet"
        return Refusal(ConditionReason.NO_MATCHING_SUBNET, f"{where} {what} of the selected nodes ({nodes})")
    if spec.nodes.names or spec.nodes.selector is not None:
        field = "spec.nodes.names" if spec.nodes.selector is None else "spec.nodes.selector"
        return Refusal(ConditionReason.NO_NODE_SELECTED, f"{field}: must select a node, and none of the cluster fits")
    return None  # every node with a speaker, and none has said so yet: nothing that the user could mend


def _told(name: str, view: ClusterView) -> str:
    links = view.speakers[name].status.links
    return f"{name}: " + ", ".join(f"{link.name} {' '.join(link.addresses[:4])}" for link in links[:4])


def _without_conflicts(
    candidates: Sequence[Candidate],
    refused: Mapping[str, Accepted | Refusal],
    running: Mapping[str, Mapping[str, VirtualRouterConfiguration]],
) -> dict[str, Accepted | Refusal]:
    verdicts: dict[str, Accepted | Refusal] = {}
    addresses = dict(_addresses_of_the_refused(refused, running))
    survivors: list[Candidate] = []
    for candidate in candidates:
        taken = [(index, addresses[one]) for index, one in enumerate(candidate.addresses) if one in addresses]
        if taken:
            index, other = taken[0]
            text = candidate.virtual_ip.spec.addresses[index]
            message = f"spec.addresses[{index}]: must be in one VirtualIP: {text} is in {other}"
            verdicts[candidate.key] = Refusal(ConditionReason.ADDRESS_IN_USE, message)
            continue
        addresses.update(dict.fromkeys(candidate.addresses, candidate.key))
        survivors.append(candidate)
    return verdicts | _with_vrids(survivors, _vrids_of_the_refused({**refused, **verdicts}, running))


def _addresses_of_the_refused(
    refused: Mapping[str, Accepted | Refusal], running: Mapping[str, Mapping[str, VirtualRouterConfiguration]]
) -> Iterator[tuple[tuple[str, str], str]]:
    """What a refused VirtualIP goes on holding is not free."""
    for key in refused:
        for router in running.get(key, {}).values():
            for text in router.addresses:
                yield ("", text.partition("/")[0]), key


def _vrids_of_the_refused(
    refused: Mapping[str, Accepted | Refusal], running: Mapping[str, Mapping[str, VirtualRouterConfiguration]]
) -> dict[int, str]:
    """On whatever link: where a refused VirtualIP runs is not looked into."""
    return {router.virtual_router_id: key for key in refused for router in running.get(key, {}).values()}


def _with_vrids(candidates: Sequence[Candidate], kept: Mapping[int, str]) -> dict[str, Accepted | Refusal]:
    verdicts: dict[str, Accepted | Refusal] = {}
    links: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        links.setdefault(candidate.membership.link, []).append(candidate)
    for here in links.values():
        taken: dict[tuple[int, int], str] = {(family, vrid): key for vrid, key in kept.items() for family in (4, 6)}
        open_claims: list[Candidate] = []
        given: dict[str, int] = {}
        # Those that go on with their VRID, then those whose user chose one, then the others.
        for candidate in sorted(here, key=_vrid_rank):
            wanted = candidate.virtual_ip.spec.virtual_router_id or candidate.vrid_in_use
            if wanted is None:
                open_claims.append(candidate)
                continue
            other = _owner(candidate, wanted, taken)
            if other is None:
                given[candidate.key] = wanted
                taken |= {(family, wanted): candidate.key for family in families(candidate.virtual_ip)}
            elif candidate.virtual_ip.spec.virtual_router_id is None:
                open_claims.append(candidate)
            else:
                message = f"spec.virtualRouterID: must be unique on the link {candidate.membership.link}"
                reason = ConditionReason.VIRTUAL_ROUTER_ID_IN_USE
                verdicts[candidate.key] = Refusal(reason, f"{message}: {wanted} is that of {other}")
        given |= _allocated(open_claims, taken)
        for candidate in here:
            if candidate.key in given:
                verdicts[candidate.key] = Accepted(candidate.virtual_ip, candidate.membership, given[candidate.key])
            elif candidate.key not in verdicts:
                message = "spec.virtualRouterID: must be given: the ids from 1 to 255 are used up on the link"
                verdicts[candidate.key] = Refusal(ConditionReason.NO_VIRTUAL_ROUTER_ID_LEFT, message)
    return verdicts


def _vrid_rank(candidate: Candidate) -> tuple[int, str, str]:
    pinned = candidate.virtual_ip.spec.virtual_router_id
    goes_on = candidate.vrid_in_use is not None and pinned in (None, candidate.vrid_in_use)
    return (0 if goes_on else 1 if pinned is not None else 2), candidate.created, candidate.key


def _owner(candidate: Candidate, vrid: int, taken: Mapping[tuple[int, int], str]) -> str | None:
    owners = (taken.get((family, vrid)) for family in sorted(families(candidate.virtual_ip)))
    return next((owner for owner in owners if owner is not None), None)


def _allocated(candidates: Sequence[Candidate], taken: Mapping[tuple[int, int], str]) -> dict[str, int]:
    pinned = [Claim(f"taken {family} {vrid}", frozenset({family}), vrid) for family, vrid in sorted(taken)]
    wanted = [Claim(candidate.key, families(candidate.virtual_ip)) for candidate in candidates]
    allocated = allocate([*pinned, *wanted])
    return {candidate.key: allocated[candidate.key] for candidate in candidates if candidate.key in allocated}
