"""What each node's speaker runs for a VirtualIP that is accepted. Pure."""

from __future__ import annotations

import zlib

from msgspec import structs

from holdfast_api.cluster import Tracking
from holdfast_api.resources import HEALTHY_PRIORITY_MIN, ForeignRouters, Transport, VirtualIP
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.addresses import parse_address
from holdfast_operator.planner.claims import Accepted
from holdfast_operator.planner.membership import Member
from holdfast_operator.planner.standalone import recovery_hold_ms
from holdfast_operator.planner.view import NodeView

PODS_RECOVERY_HOLD_MS = 2000
"""The readiness of pods on several nodes reaches their agents over the API server at different times (ADR 0007)."""

MEMBERS_MAX = 256
"""Of VirtualRouterConfiguration.members. 64 nodes and 64 external peers fit with one address of each family."""

PRIORITY_STEP = 10
"""Between nodes whose user gave them no priority of their own: their timers then end one after another (Skew_Time)."""


def priorities_of(accepted: Accepted) -> dict[str, int]:
    """The priority of each member.

    Nodes of equal priority take over at the same moment, and the address decides which of them stays: two holders for
    some milliseconds. So under `nopreempt`, where a priority is nothing but the order in which Backups take over, those
    that the user left equal get one after another, in an order of each VirtualIP's own, which also spreads them.
    """
    virtual_ip = accepted.virtual_ip
    spec = virtual_ip.spec
    chosen = {entry.node_name: entry.priority for entry in spec.nodes.priorities}
    names = [member.node.name for member in accepted.membership.members]
    left = sorted(
        (name for name in names if name not in chosen), key=lambda name: zlib.crc32(f"{virtual_ip.key} {name}".encode())
    )
    room = (spec.priority - HEALTHY_PRIORITY_MIN) // max(1, len(left) - 1)
    step = min(PRIORITY_STEP, room) if spec.nopreempt else 0
    return {**{name: spec.priority - step * rank for rank, name in enumerate(left)}, **chosen}


def router_on(member: Member, accepted: Accepted, holder: str) -> VirtualRouterConfiguration:
    """One node's part; `holder` is the node that holds the VIP as far as is known, or empty."""
    virtual_ip, membership = accepted.virtual_ip, accepted.membership
    spec, name = virtual_ip.spec, member.node.name
    sources = [entry.address for entry in spec.nodes.source_addresses if entry.node_name == name]
    if not sources and _tells_source_addresses(accepted):
        sources = list(member.first_sources)
    return VirtualRouterConfiguration(
        name=virtual_ip.key,
        addresses=spec.addresses,
        virtual_router_id=accepted.vrid,
        version=spec.version,
        priority=priorities_of(accepted)[name],
        nopreempt=spec.nopreempt,
        preempt_delay_milliseconds=1000 * spec.preempt_delay_seconds,
        advertisement_interval_milliseconds=spec.advertisement_interval_milliseconds,
        interface=spec.interface or member.interface,
        transport=spec.transport,
        members=_members(accepted),
        # Where somebody's addresses are not known yet, to refuse strangers would be to refuse that node.
        foreign_routers=spec.foreign_routers if membership.is_complete else ForeignRouters.OBEY,
        source_addresses=sources,
        simple_password=spec.authentication.simple_password if spec.authentication else None,
        when_failing=spec.track.when_failing,
        tracked_interfaces=spec.track.interfaces,
        tracks_services=tracks_services(virtual_ip),
        recovery_hold_milliseconds=max(
            recovery_hold_ms(spec.track.probes), PODS_RECOVERY_HOLD_MS if spec.track.pods else 0
        ),
        draining=member.node.is_cordoned,
        last_holder_elsewhere=_is_elsewhere(holder, router_node=name),
    )


def kept_on(node: NodeView, router: VirtualRouterConfiguration, holder: str) -> VirtualRouterConfiguration:
    """The part of one that is refused by now: as it was, except for what no specification says."""
    return structs.replace(
        router, draining=node.is_cordoned, last_holder_elsewhere=_is_elsewhere(holder, router_node=node.name)
    )


def _is_elsewhere(holder: str, *, router_node: str) -> bool:
    return holder not in ("", router_node)


def _members(accepted: Accepted) -> list[str]:
    """Every address that a member may send from, the same list on all nodes; one of each family where that is told."""
    membership = accepted.membership
    if not _tells_source_addresses(accepted):
        return _with_peers(membership.addresses, accepted)
    chosen = {source for member in membership.members for source in member.first_sources}
    return _with_peers([address for address in membership.addresses if address in chosen], accepted)


def _with_peers(addresses: list[str], accepted: Accepted) -> list[str]:
    peers = [str(address) for text in accepted.virtual_ip.spec.external_peers if (address := parse_address(text))]
    return [*addresses, *(peer for peer in peers if peer not in addresses)]


def _tells_source_addresses(accepted: Accepted) -> bool:
    """With Unicast each member is sent to at one address, so that it must send from the same.

    Otherwise the engine chooses, from however many the node has, and all of them are named to the others: if that can
    be done.
    """
    if accepted.virtual_ip.spec.transport is Transport.UNICAST:
        return True
    return len(_with_peers(accepted.membership.addresses, accepted)) > MEMBERS_MAX


def tracks_services(virtual_ip: VirtualIP) -> bool:
    """Whether an agent has anything to watch for it."""
    return bool(virtual_ip.spec.track.probes) or virtual_ip.spec.track.pods is not None


def tracking_of(virtual_ip: VirtualIP) -> Tracking | None:
    """What an agent watches for it; None: nothing."""
    if not tracks_services(virtual_ip):
        return None
    track = virtual_ip.spec.track
    return Tracking(virtual_ip=virtual_ip.key, pods=track.pods, probes=track.probes)
