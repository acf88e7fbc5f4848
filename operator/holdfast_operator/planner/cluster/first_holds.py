"""Who holds a new virtual router first: the node that has least to hold by then. Pure; ADR 37.

First come, first held would give nearly all new virtual routers to the one node that is a little faster. So the planner
names a nominee for each that nobody can know a holder of. It counts once, for engines to which the virtual router is
new: whoever holds it afterwards keeps it, however uneven that is.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from holdfast_api.cluster import FirstHold, SpeakerConditionType, SpeakerConfig, SpeakerConfigSpec, VirtualIPStatus
from holdfast_api.resources import PRIORITY_OWNER, ForeignRouters
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.cluster.claims import Accepted, Verdict
from holdfast_operator.planner.cluster.membership import Context, Member

Planned = Mapping[str, Mapping[str, VirtualRouterConfiguration]]
"""What is to run, by the node's name and the VirtualIP's key."""


@dataclass(slots=True)
class Load:
    """What each node holds, or is to hold first: addresses, and virtual routers where these are as many."""

    addresses: dict[str, int] = field(default_factory=dict)
    routers: dict[str, int] = field(default_factory=dict)

    def add(self, node: str, addresses: int) -> None:
        """One more virtual router, with so many addresses."""
        self.addresses[node] = self.addresses.get(node, 0) + addresses
        self.routers[node] = self.routers.get(node, 0) + 1

    def of(self, node: str) -> tuple[int, int]:
        """To be compared."""
        return self.addresses.get(node, 0), self.routers.get(node, 0)


def nominees(
    context: Context,
    verdicts: Mapping[str, Verdict],
    planned: Planned,
    running: Mapping[str, Mapping[str, VirtualRouterConfiguration]],
    olds: Mapping[str, VirtualIPStatus],
    holders: Mapping[str, str],
    created: Mapping[str, str],
) -> dict[str, str]:
    """The node that is to hold each virtual router first that nobody is known to hold, by the VirtualIP's key.

    Once the nodes were told of one, its nominee stays, until somebody is known to hold it: nobody is told another.
    """
    told = {
        first.virtual_router: first.node_name
        for one in context.view.speakers.values()
        for first in one.spec.first_holds
    }
    known_to_run = {
        router.name for speaker in context.view.speakers.values() for router in speaker.status.virtual_routers
    }
    load = Load()
    found: dict[str, str] = {}
    new: list[tuple[str, str, Accepted]] = []
    for key, verdict in sorted(verdicts.items()):
        addresses = next((len(routers[key].addresses) for routers in planned.values() if key in routers), 0)
        if holders[key]:
            load.add(holders[key], addresses)
        elif running.get(key):
            if key in told:
                found[key] = told[key]
                load.add(told[key], addresses)
        elif isinstance(verdict, Accepted) and key not in known_to_run and not olds[key].nodes:
            new.append((created.get(key, ""), key, verdict))
    for _, key, verdict in sorted(new, key=lambda one: one[:2]):
        routers = {node: planned[node][key] for node in planned if key in planned[node]}
        able = [name for name in _candidates(context, verdict) if name in routers and not routers[name].draining]
        if able:
            nominee = min(able, key=lambda name: (load.of(name), zlib.crc32(f"{key} {name}".encode())))
            found[key] = nominee
            load.add(nominee, len(routers[nominee].addresses))
    return found


def _candidates(context: Context, accepted: Accepted) -> Sequence[str]:
    """The nodes that could hold it first. Nobody, where a stranger may hold it that would not be known as one.

    Where the user gave nodes priorities, one of the highest: he wants it there, and without nopreempt it would move.
    """
    spec, membership = accepted.virtual_ip.spec, accepted.membership
    may_be_held_by_strangers = (
        spec.external_peers
        or spec.foreign_routers is ForeignRouters.OBEY
        or not membership.is_complete
        or context.segments.foreign(membership.segments, accepted.vrid)
    )
    if may_be_held_by_strangers:
        return ()
    chosen = {entry.node_name: entry.priority for entry in spec.nodes.priorities}
    able = [member.node.name for member in membership.members if _is_able(member, context)]
    highest = max((chosen.get(name, spec.priority) for name in able), default=PRIORITY_OWNER)
    if highest == PRIORITY_OWNER:  # it holds at once
        return ()
    return [name for name in able if chosen.get(name, spec.priority) == highest]


def _is_able(member: Member, context: Context) -> bool:
    """Whether the node is there, and its engine takes what it is told."""
    name = member.node.name
    speaker = context.view.speakers.get(name)
    return (
        member.is_known
        and not member.node.is_cordoned
        and context.presence.is_heard(name)
        and speaker is not None
        and not _is_refusing(speaker)
    )


def _is_refusing(speaker: SpeakerConfig) -> bool:
    conditions = speaker.status.conditions
    return any(one.type == SpeakerConditionType.APPLIED and one.status == "False" for one in conditions)


def told_of(
    routers: Collection[str], nominated: Mapping[str, str], spec: SpeakerConfigSpec, before: SpeakerConfigSpec | None
) -> list[FirstHold]:
    """What a node is told of who holds its routers first. What it was told before stays while nothing else changes, as
    it is past by then and not worth a write."""
    now = [FirstHold(virtual_router=key, node_name=nominated[key]) for key in sorted(routers) if key in nominated]
    if before is None or not before.first_holds:
        return now
    is_same = structs.replace(_sorted(before), first_holds=[]) == spec
    return before.first_holds if is_same and all(one in before.first_holds for one in now) else now


def _sorted(spec: SpeakerConfigSpec) -> SpeakerConfigSpec:
    return structs.replace(
        spec,
        virtual_routers=sorted(spec.virtual_routers, key=lambda router: router.name),
        tracking=sorted(spec.tracking, key=lambda tracking: tracking.virtual_ip),
    )
