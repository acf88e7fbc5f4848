"""Which VirtualIPs can be put in force, and why the others cannot. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from holdfast_api.addresses import parse_interface
from holdfast_api.cluster import ConditionReason, SpeakerConfig, VirtualIPStatus
from holdfast_api.documents import path_and_reason
from holdfast_api.resources import VirtualIP
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.claims import Candidate, Refusal, Tenure, Verdict, places_of, seats_of, settle
from holdfast_operator.planner.membership import Context, Membership, find_members, segments_of
from holdfast_operator.planner.policies import violations
from holdfast_operator.planner.view import ClusterView

Verdicts = Mapping[str, Verdict]
Running = Mapping[str, Mapping[str, VirtualRouterConfiguration]]
"""What runs by the VirtualIP's key and the node's name."""


def key_of(raw: Mapping[str, Any]) -> str:
    """namespace/name of an object as the API server gives it."""
    metadata = raw["metadata"]
    return f"{metadata.get('namespace', 'default')}/{metadata['name']}"


def in_force(speakers: Mapping[str, SpeakerConfig]) -> Running:
    """What the nodes have been told to run."""
    running: dict[str, dict[str, VirtualRouterConfiguration]] = {}
    for name, speaker in sorted(speakers.items()):
        for router in speaker.spec.virtual_routers:
            running.setdefault(router.name, {})[name] = router
    return running


def judge(context: Context, statuses: Mapping[str, VirtualIPStatus]) -> Verdicts:
    """A verdict on each VirtualIP, by its key; in whatever order they are listed."""
    refused: dict[str, Verdict] = {}
    candidates: list[Candidate] = []
    view = context.view
    running = in_force(view.speakers)
    for raw in sorted(view.virtual_ips, key=key_of):
        key = key_of(raw)
        found = _by_itself(raw)
        if isinstance(found, Refusal):
            refused[key] = found
            continue
        membership = find_members(found, context, running.get(key, {}), statuses[key].nodes)
        refusal = _without_home(found, membership, view)
        if refusal is not None:
            refused[key] = refusal
            continue
        candidates.append(
            Candidate(
                virtual_ip=found,
                membership=membership,
                vrid_in_use=_vrid_in_use(running.get(key, {}), statuses[key]),
                created=str(raw["metadata"].get("creationTimestamp", "")),
            )
        )
    tenures = {key: _tenure(routers, context) for key, routers in running.items()}
    return refused | settle(candidates, refused.keys(), tenures, context.segments)


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
        virtual_ip = msgspec.convert(raw, VirtualIP)
    except msgspec.ValidationError as error:
        where, reason = path_and_reason(error)
        return Refusal(ConditionReason.INVALID, f"{where}: {reason}" if where else reason)
    if not virtual_ip.spec.addresses:
        return Refusal(ConditionReason.INVALID, "spec.addresses: must be given")
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
