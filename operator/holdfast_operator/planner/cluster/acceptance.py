"""Which VirtualIPs can be put in force, and why the others cannot. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import structs

from holdfast_api.addresses import Address, parse_interface
from holdfast_api.cluster import PLANNED_FROM_ANNOTATION, ConditionReason, SpeakerConfig, VirtualIPStatus
from holdfast_api.documents import path_and_reason
from holdfast_api.resources import VirtualIP
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_kube.objects import key_of
from holdfast_operator.planner.cluster import lenient, sharing
from holdfast_operator.planner.cluster.claims import (
    Accepted,
    Candidate,
    Place,
    Refusal,
    Tenure,
    Verdict,
    places_of,
    seats_of,
    settle,
)
from holdfast_operator.planner.cluster.forbidden import Forbidden
from holdfast_operator.planner.cluster.membership import Context, Membership, find_members, segments_of
from holdfast_operator.planner.cluster.permission import (
    Permissions,
    Permit,
    Request,
    Want,
    addresses_of,
    given_up,
    running_addresses,
)
from holdfast_operator.planner.cluster.pools import Pools
from holdfast_operator.planner.cluster.view import ClusterView
from holdfast_operator.planner.host.policies import Violation, violations

Verdicts = Mapping[str, Verdict]
Running = Mapping[str, Mapping[str, VirtualRouterConfiguration]]
"""What runs by the VirtualIP's key and the node's name."""


def in_force(speakers: Mapping[str, SpeakerConfig]) -> Running:
    """What the nodes have been told to run; of a virtual router that several share, the part of each."""
    running: dict[str, dict[str, VirtualRouterConfiguration]] = {}
    for name, speaker in sorted(speakers.items()):
        for router in speaker.spec.virtual_routers:
            for key, part in sharing.alone(router).items():
                running.setdefault(key, {})[name] = part
    return running


def vrids_told(speakers: Mapping[str, SpeakerConfig]) -> Mapping[str, int]:
    """The VRIDs that engines run with though no plan says so, by the word of more than half of those who run it.

    Only while a node is not planned yet: SpeakerConfigs that were made anew with their definition say nothing. What
    is planned has its VRID, and so has what more nodes say it of: no agent's invention takes one from them.
    """
    votes: dict[str, Counter[int]] = {}
    for speaker in speakers.values():
        if PLANNED_FROM_ANNOTATION not in speaker.metadata.annotations:
            own = {router.name: router.virtual_router_id for router in speaker.status.virtual_routers}
            for key, vrid in own.items():  # one vote each, however often it is said
                votes.setdefault(key, Counter())[vrid] += 1
    most = {key: counted.most_common(1)[0] for key, counted in votes.items()}
    found = {key: (vrid, count) for key, (vrid, count) in most.items() if 2 * count > votes[key].total()}
    planned = {router.virtual_router_id for speaker in speakers.values() for router in speaker.spec.virtual_routers}
    by_most = {vrid: max(count for other, count in found.values() if other == vrid) for vrid, _ in found.values()}
    return {key: vrid for key, (vrid, count) in found.items() if vrid not in planned and count == by_most[vrid]}


@dataclass(frozen=True, slots=True)
class Judgement:
    """On all VirtualIPs of a cluster."""

    verdicts: Verdicts
    given: Mapping[str, Sequence[str]]
    """By key: the addresses of those that were given theirs, which they keep, accepted or not."""
    given_up: Mapping[str, frozenset[Address]]
    """By key: what runs and must run no more, whatever is said of the VirtualIP."""
    shared: Mapping[str, str]
    """By key: the name of the virtual router that it shares, or goes on with, if it shares one."""

    def kept(self, key: str, router: VirtualRouterConfiguration) -> VirtualRouterConfiguration | None:
        """What goes on of a VirtualIP that is refused; None: nothing."""
        lost = self.given_up.get(key, frozenset())
        left = [text for text in router.addresses if (found := parse_interface(text)) is None or found.ip not in lost]
        return structs.replace(router, addresses=left) if left else None


def judge(
    context: Context,
    statuses: Mapping[str, VirtualIPStatus],
    pools: Pools,
    forbidden: Forbidden,
    wants: Mapping[str, Want] = MappingProxyType({}),
    going: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Judgement:
    """A verdict on each VirtualIP, by its key; in whatever order they are listed.

    `wants` is what those are to be given that are made for Services, and `going` the addresses of those that are being
    taken off the nodes: nobody else gets them before they are gone.
    """
    refused: dict[str, Verdict] = {}
    requests: list[Request] = []
    view = context.view
    running = in_force(view.speakers)
    given: dict[str, Sequence[str]] = dict(going)
    kept = {key: addresses_of(addresses) for key, addresses in going.items()}
    for raw in sorted(view.virtual_ips, key=key_of):
        key, found = key_of(raw), _by_itself(raw)
        if isinstance(found, Refusal):
            refused[key] = found
            given[key] = statuses[key].addresses if _is_given_addresses(raw) else []
            kept[key] = running_addresses(running.get(key, {})) | addresses_of(given[key])
            continue
        requests.append(
            Request(
                virtual_ip=found,
                given=raw["spec"].keys(),
                created=str(raw["metadata"].get("creationTimestamp", "")),
                running=running.get(found.key, {}),
                remembered=statuses[found.key].addresses,
                want=wants.get(key),
            )
        )
    told = vrids_told(view.speakers)
    record = sharing.recorded(view.speakers, statuses)
    permissions = Permissions(context, requests, kept, pools, forbidden)
    candidates: list[Candidate] = []
    for request in requests:
        permit = permissions.permits[request.key]
        addresses = permit.virtual_ip.spec.addresses
        if request.is_given_addresses and addresses:
            given[request.key] = addresses
        if request.want is not None:
            known = {*request.own, *request.virtual_ip.spec.addresses}
            new = [text for text in addresses if text not in known] if permit.refusal is None else []
            given[request.key] = [*request.own, *new]
        candidate = _candidate(
            request,
            permit,
            permissions,
            context,
            statuses[request.key],
            told.get(request.key),
            shares=request.key in record,
        )
        if isinstance(candidate, Refusal):
            refused[request.key] = candidate
        else:
            candidates.append(candidate)
    tenures = {key: _tenure(routers, context) for key, routers in running.items()}
    places = {key: _places(addresses) for key, addresses in given.items()}
    candidates = sharing.with_homes(candidates, record)
    shared = {key: one.name for key, one in record.items()}
    settled = settle(candidates, refused.keys(), tenures, context.segments, places, shared)
    lost = {key: given_up(routers, forbidden) for key, routers in running.items()}
    given_back = {key: addresses for key, addresses in lost.items() if addresses}
    return Judgement(refused | settled, given, given_back, _shared_by(refused | settled, shared))


def _shared_by(verdicts: Verdicts, in_force: Mapping[str, str]) -> dict[str, str]:
    found = {key: v.router if isinstance(v, Accepted) else in_force.get(key, "") for key, v in verdicts.items()}
    return {key: name for key, name in found.items() if name}


def _is_given_addresses(raw: Mapping[str, Any]) -> bool:
    """Whether the author of one that cannot be read left its addresses to the cluster."""
    spec = raw.get("spec")
    return isinstance(spec, Mapping) and "addresses" not in spec


def _candidate(
    request: Request,
    permit: Permit,
    permissions: Permissions,
    context: Context,
    status: VirtualIPStatus,
    told_vrid: int | None,
    *,
    shares: bool,
) -> Candidate | Refusal:
    if permit.refusal is not None:
        return permit.refusal
    virtual_ip = permit.virtual_ip
    found = violations(virtual_ip)
    if found:
        return _invalid(found)
    membership = find_members(virtual_ip, context.among(permit.nodes), request.running, status.nodes)
    refusal = _without_home(virtual_ip, membership, context.view)
    if refusal is not None:
        return refusal
    at_home = permissions.against_home(request, virtual_ip, membership)
    permit = dataclasses.replace(permit, objections=(*permit.objections, *at_home))
    if permit.refusal is not None:
        return permit.refusal
    return Candidate(
        virtual_ip=virtual_ip,
        membership=membership,
        vrid_in_use=_vrid_in_use(request.running, status, permit.vrids, told_vrid),
        created=request.created,
        vrids=permit.vrids,
        tolerated=permit.tolerated,
        sharing=sharing.inputs_of(
            virtual_ip,
            membership,
            None if permit.nodes is context.view.nodes else {node.name for node in permit.nodes},
            permit.pools,
        )
        if _can_share(membership, request, context, shares=shares)
        else None,
        is_edited=virtual_ip.metadata.generation > status.observed_generation,
    )


def _can_share(membership: Membership, request: Request, context: Context, *, shares: bool) -> bool:
    """Whether it can have a virtual router that others share: all of its nodes can run that, or it has one already."""
    presence, names = context.presence, [member.node.name for member in membership.members]
    if shares:
        return not names or any(presence.can_go_on_sharing(name, shares=name in request.running) for name in names)
    return all(presence.can_share(name) for name in names)


def _places(addresses: Sequence[str]) -> frozenset[Place]:
    """Of addresses that mean the same everywhere, which all are that a cluster gives."""
    return frozenset(
        place for text in addresses if (found := parse_interface(text)) is not None for place in places_of(found, ())
    )


def _tenure(routers: Mapping[str, VirtualRouterConfiguration], context: Context) -> Tenure:
    """What a VirtualIP takes up by what is in force, whatever its specification says by now."""
    segments = segments_of(routers, context)
    parsed = {
        (address, router.virtual_router_id)
        for router in routers.values()
        for text in router.addresses
        if (address := parse_interface(text)) is not None
    }
    return Tenure(
        places=frozenset(place for address, _ in parsed for place in places_of(address, segments)),
        seats=frozenset(seat for address, vrid in parsed for seat in seats_of(segments, {address.version}, vrid)),
    )


def _by_itself(raw: Mapping[str, Any]) -> VirtualIP | Refusal:
    try:
        virtual_ip = _read(raw)
    except msgspec.ValidationError as error:
        where, reason = path_and_reason(error)
        return Refusal(ConditionReason.INVALID, f"{where}: {reason}" if where else reason)
    # What a template can say is not known yet: nothing is wrong that could be right with it.
    permissive = virtual_ip
    if "nopreempt" not in raw["spec"]:
        permissive = structs.replace(virtual_ip, spec=structs.replace(virtual_ip.spec, nopreempt=False))
    found = violations(permissive)
    if found:
        return _invalid(found)
    executed = [index for index, probe in enumerate(virtual_ip.spec.track.probes) if probe.exec is not None]
    if executed:
        message = "must be left out in a cluster, where no program of the node can be run: use tcpSocket or httpGet"
        return Refusal(ConditionReason.INVALID, f"spec.track.probes[{executed[0]}].exec: {message}")
    if virtual_ip.spec.notify:
        message = "must be left out in a cluster, where no program of the node is run: watch the status or the Events"
        return Refusal(ConditionReason.INVALID, f"spec.notify: {message}")
    return virtual_ip


def _read(raw: Mapping[str, Any]) -> VirtualIP:
    """Raises msgspec.ValidationError. Fields of another version's definition are passed over: see unknown_fields."""
    try:
        return msgspec.convert(raw, VirtualIP)
    except msgspec.ValidationError:
        known, unknown = lenient.without_unknown_fields(raw, VirtualIP)
        if not unknown:
            raise
    return msgspec.convert(known, VirtualIP)


def unknown_fields(raw: Mapping[str, Any]) -> list[str]:
    """What its author wrote, or the resource's definition gave it, and this version does not know: without effect."""
    try:
        msgspec.convert(raw, VirtualIP)
    except msgspec.ValidationError:
        return lenient.without_unknown_fields(raw, VirtualIP)[1]
    return []


def _invalid(found: Sequence[Violation]) -> Refusal:
    return Refusal(ConditionReason.INVALID, "; ".join(f"{one.field}: {one.message}" for one in found))


def _vrid_in_use(
    running: Mapping[str, VirtualRouterConfiguration],
    status: VirtualIPStatus,
    allowed: frozenset[int] | None,
    told: int | None,
) -> int | None:
    for router in running.values():
        return router.virtual_router_id
    vrid = told or status.virtual_router_id or None
    return vrid if allowed is None or vrid in allowed else None


def _without_home(virtual_ip: VirtualIP, membership: Membership, view: ClusterView) -> Refusal | None:
    spec = virtual_ip.spec
    if membership.members:
        return None
    if membership.refused:
        where = f"spec.interface: {spec.interface}" if spec.interface else f"spec.addresses[0]: {spec.addresses[0]}"
        nodes = "; ".join(_told(name, view) for name in membership.refused[:8])
        what = "is an interface of none" if spec.interface else "must be in a subnet"
        return Refusal(ConditionReason.NO_MATCHING_SUBNET, f"{where} {what} of the selected nodes ({nodes})")
    if membership.is_kept_free:
        message = "spec.nodes: must name a control plane, or a node that is kept free of load balancers, to select it"
        return Refusal(ConditionReason.NO_NODE_SELECTED, message)
    if spec.nodes.names or spec.nodes.selector is not None:
        field = "spec.nodes.names" if spec.nodes.selector is None else "spec.nodes.selector"
        return Refusal(ConditionReason.NO_NODE_SELECTED, f"{field}: must select a node, and none of the cluster fits")
    return None  # every node with a speaker, and none has said so yet: nothing that the user could mend


def _told(name: str, view: ClusterView) -> str:
    links = view.speakers[name].status.links
    return f"{name}: " + ", ".join(f"{link.name} {' '.join(link.addresses[:4])}" for link in links[:4])
