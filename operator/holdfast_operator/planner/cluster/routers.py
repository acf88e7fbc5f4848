"""What each node's speaker runs for a VirtualIP that is accepted. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from msgspec import structs

from holdfast_api.addresses import parse_address
from holdfast_api.cluster import Tracking
from holdfast_api.resources import (
    HEALTHY_PRIORITY_MAX,
    HEALTHY_PRIORITY_MIN,
    ForeignRouters,
    Transport,
    VirtualIP,
)
from holdfast_api.speaker import MEMBERS_MAX, VirtualRouterConfiguration
from holdfast_operator.planner.cluster.claims import Accepted
from holdfast_operator.planner.cluster.departures import Stage
from holdfast_operator.planner.cluster.first_holds import lot
from holdfast_operator.planner.cluster.membership import Member
from holdfast_operator.planner.cluster.presence import Presence
from holdfast_operator.planner.host.routers import specified

PODS_RECOVERY_HOLD_MS = 2000
"""The readiness of pods on several nodes reaches their agents over the API server at different times (ADR 0007)."""

HEALTH_CHECK_RECOVERY_HOLD_MS = 1000
"""The kube-proxies of several nodes learn of endpoints within a second of one another, and are asked at different
times.

No longer than that: where the only endpoint of a Service moves to another node, the VIP follows it, and until then it
is with one that ends (ADR 0035).
"""

PRIORITY_STEP = 10
"""Between nodes whose user gave them no priority of their own: their timers then end one after another (Skew_Time)."""


def priorities_of(
    accepted: Accepted, running: Mapping[str, VirtualRouterConfiguration], order: Sequence[str] = ()
) -> dict[str, int]:
    """The priority of each member.

    Nodes of equal priority take over at the same moment, and the address decides which of them stays: two holders for
    some milliseconds. So under `nopreempt`, where a priority is nothing but the order in which Backups take over, those
    that the user left equal get one after another: in the given order, and beyond it in one of each virtual router's
    own. So what a node leaves when it dies is spread over the others. What a node has by now (`running`) it keeps,
    whoever comes and goes.
    """
    virtual_ip = accepted.virtual_ip
    spec = virtual_ip.spec
    chosen = {entry.node_name: entry.priority for entry in spec.nodes.priorities}
    names = [member.node.name for member in accepted.membership.members]
    places = {name: place for place, name in enumerate(order)}
    left = sorted(
        (name for name in names if name not in chosen),
        key=lambda name: (places.get(name, len(places)), lot(accepted.router or virtual_ip.key, name)),
    )
    if not spec.nopreempt or spec.priority > HEALTHY_PRIORITY_MAX:
        return {**dict.fromkeys(left, spec.priority), **chosen}
    free = [value for value in _steps(spec.priority) if value not in chosen.values()]
    kept = {name: running[name].priority for name in left if name in running}
    below = [value for value in free if value <= spec.priority]
    usable = below if len(left) <= len(below) else free
    found = dict(chosen)
    if free[0] in kept.values() and (usable is free or max(kept.values()) == free[0]):  # else the user has edited it
        for name, value in kept.items():
            if value in usable and value not in found.values():
                found[name] = value
    free = [value for value in free if value not in found.values()]
    return found | dict(zip((name for name in left if name not in found), free, strict=False))


def _steps(highest: int) -> list[int]:
    """Different priorities, the widest steps first: down to the lowest healthy one, and then above the user's own.

    >>> _steps(70)[:6]
    [70, 60, 50, 65, 55, 68]
    """
    down = (value for step in (PRIORITY_STEP, 5, 2, 1) for value in range(highest, HEALTHY_PRIORITY_MIN - 1, -step))
    return [*dict.fromkeys(down), *range(highest + 1, HEALTHY_PRIORITY_MAX + 1)]


def routers_of(
    accepted: Accepted,
    running: Mapping[str, VirtualRouterConfiguration],
    holder: str,
    presence: Presence,
    order: Sequence[str] = (),
) -> dict[str, VirtualRouterConfiguration]:
    """The part of each node, by its name: of the members, and of those that are drained on their way out.

    `running` is what each node was told last, `holder` who holds the VIP as far as is known, or empty, `order` that in
    which the nodes of a new one are to take over. A node that comes is drained until those that run it already know its
    addresses: they would refuse what it says.
    """
    known = _known(accepted)
    common = _common(accepted, known)
    priorities = priorities_of(accepted, running, order)
    chosen: dict[str, list[str]] = {}
    for entry in accepted.virtual_ip.spec.nodes.source_addresses:
        chosen.setdefault(entry.node_name, []).append(entry.address)
    made: dict[str, VirtualRouterConfiguration] = {}
    for member in accepted.membership.members:
        name, before = member.node.name, running.get(member.node.name)
        unknown = _unknown_to_others(member, known.members, running, presence)
        made[name] = structs.replace(
            common,
            members=[address for address in known.members if address not in unknown],
            priority=priorities[name],
            interface=common.interface or member.interface,
            tracks_services=tracks_services(accepted.virtual_ip, name),
            source_addresses=chosen.get(name) or (list(member.first_sources) if known.are_sources_told else []),
            draining=member.node.is_cordoned or (bool(unknown) and (before is None or before.draining)),
            last_holder_elsewhere=_is_elsewhere(holder, router_node=name),
        )
    for one in accepted.membership.leaving:
        if one.stage is Stage.DRAINED and one.router is not None:
            made[one.name] = structs.replace(
                common,
                virtual_router_id=one.router.virtual_router_id,
                priority=one.router.priority,
                interface=one.router.interface,
                tracks_services=tracks_services(accepted.virtual_ip, one.name),
                source_addresses=one.router.source_addresses,
                draining=True,
                last_holder_elsewhere=_is_elsewhere(holder, router_node=one.name),
            )
    return made


def _unknown_to_others(
    member: Member,
    told: Sequence[str],
    running: Mapping[str, VirtualRouterConfiguration],
    presence: Presence,
) -> Set[str]:
    """The addresses of this node that some of those that run it would refuse yet.

    The node itself is not told of them before all others have answered, and so knows that it is not heard. What it was
    told once is not asked again.
    """
    name = member.node.name
    before = set(running[name].members) if name in running else set()
    new = (set(member.addresses) & set(told)) - before
    if not new:
        return new
    refusing = [
        other
        for other, router in sorted(running.items())
        if other != name and not _obeys(router, new, is_running=presence.has_answered(other))
    ]
    return new if [other for other in refusing if presence.is_worth_waiting_for(other)] else set()


def _obeys(router: VirtualRouterConfiguration, addresses: Set[str], *, is_running: bool) -> bool:
    does = router.foreign_routers is ForeignRouters.OBEY or addresses <= set(router.members)
    return is_running and does


def _common(accepted: Accepted, known: _Known) -> VirtualRouterConfiguration:
    """What is the same on every node."""
    spec = accepted.virtual_ip.spec
    alone = specified(accepted.virtual_ip, accepted.vrid)
    return structs.replace(
        alone,
        members=known.members,
        unicast_peers=known.unicast_peers,
        # Where somebody's addresses are not known yet, to refuse strangers would be to refuse that node.
        foreign_routers=spec.foreign_routers if accepted.membership.is_complete else ForeignRouters.OBEY,
        recovery_hold_milliseconds=max(
            alone.recovery_hold_milliseconds,
            PODS_RECOVERY_HOLD_MS if spec.track.pods else 0,
            HEALTH_CHECK_RECOVERY_HOLD_MS if spec.track.health_check_node_ports else 0,
        ),
    )


def kept_on(
    name: str, router: VirtualRouterConfiguration, holder: str, *, draining: bool
) -> VirtualRouterConfiguration:
    """The part of one that is refused by now: as it was, except for what no specification says."""
    return structs.replace(router, draining=draining, last_holder_elsewhere=_is_elsewhere(holder, router_node=name))


def _is_elsewhere(holder: str, *, router_node: str) -> bool:
    return holder not in ("", router_node)


@dataclass(frozen=True, slots=True)
class _Known:
    """What each node is told of the others: the same lists for all of them."""

    members: list[str]
    unicast_peers: list[str]
    are_sources_told: bool
    """Whether each node is told which of its addresses to send from; else its engine chooses."""


def _known(accepted: Accepted) -> _Known:
    """A member is a node with all of its addresses on the link, as many of them as can be told.

    Where they are more than MEMBERS_MAX, only those that nodes send from by themselves are told. Where even these are
    too many, each node is told one of each family to send from, and the others are told that one: 64 nodes and 64
    external peers always fit.

    With Unicast each member is sent to at one address of each family, and is told to send from the same: an engine of
    an earlier version obeys no other.
    """
    membership = accepted.membership
    peers = [str(address) for text in accepted.virtual_ip.spec.external_peers if (address := parse_address(text))]

    def and_peers(addresses: list[str]) -> list[str]:
        return [*addresses, *(peer for peer in peers if peer not in addresses)]

    choices = [and_peers(addresses) for addresses in (membership.addresses, membership.sources)]
    told = and_peers(membership.first_sources)[:MEMBERS_MAX]
    members = next((addresses for addresses in choices if len(addresses) <= MEMBERS_MAX), told)
    is_unicast = accepted.virtual_ip.spec.transport is Transport.UNICAST
    return _Known(
        members=members,
        # Left out where it says nothing: an engine of an earlier version refuses a configuration that has the field.
        unicast_peers=told if is_unicast and told != members else [],
        are_sources_told=is_unicast or members is told,
    )


def tracks_services(virtual_ip: VirtualIP, node_name: str) -> bool:
    """Whether the agent of this node has anything to watch for it."""
    track = virtual_ip.spec.track
    return bool(track.probes_on(node_name)) or track.pods is not None or bool(track.health_check_node_ports)


def tracking_of(virtual_ip: VirtualIP, node_name: str) -> Tracking | None:
    """What the agent of this node watches for it; None: nothing."""
    if not tracks_services(virtual_ip, node_name):
        return None
    track = virtual_ip.spec.track
    return Tracking(
        virtual_ip=virtual_ip.key,
        pods=track.pods,
        # Without the list of nodes, which an agent of an earlier version does not know.
        probes=[structs.replace(probe, nodes=[]) for probe in track.probes_on(node_name)],
        health_check_node_ports=track.health_check_node_ports,
    )
