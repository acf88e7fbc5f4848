"""Who holds a new virtual router first, and who comes after him: the nodes that have least. Pure; ADR 37.

First come, first held would give nearly all new virtual routers to the one node that is a little faster. So the planner
names a nominee for each that nobody can know a holder of. It counts once, for engines to which the virtual router is
new: whoever holds it afterwards keeps it, however uneven that is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from msgspec import structs

from holdfast_api.cluster import FirstHold, SpeakerConditionType, SpeakerConfig, SpeakerConfigSpec, VirtualIPStatus
from holdfast_api.resources import PRIORITY_OWNER, ForeignRouters, NodeSelection
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_kube.selectors import selects
from holdfast_operator.planner.cluster.claims import Accepted, Verdict
from holdfast_operator.planner.cluster.membership import Context, Member
from holdfast_operator.planner.cluster.view import NodeView


@dataclass(slots=True)
class Load:
    """What each node holds, or is to hold first: addresses, and virtual routers where these are as many."""

    addresses: Counter[str] = field(default_factory=Counter)
    routers: Counter[str] = field(default_factory=Counter)

    def add(self, node: str, addresses: int) -> None:
        """One more virtual router, with so many addresses."""
        self.addresses[node] += addresses
        self.routers[node] += 1

    def of(self, node: str) -> tuple[int, int]:
        """To be compared."""
        return self.addresses[node], self.routers[node]


@dataclass(frozen=True, slots=True)
class FirstHolds:
    """What is decided of virtual routers that nobody is known to hold, by the VirtualIP's key."""

    nominees: Mapping[str, str]
    """The node that is to hold it first."""
    orders: Mapping[str, Sequence[str]]
    """Of those that are new: the nodes in the order in which they take over from each other."""


def first_holds(
    context: Context,
    verdicts: Mapping[str, Verdict],
    running: Mapping[str, Mapping[str, VirtualRouterConfiguration]],
    olds: Mapping[str, VirtualIPStatus],
    holders: Mapping[str, str],
    created: Mapping[str, str],
) -> FirstHolds:
    """A nominee for each new virtual router, and who comes after him, so that a dead node's are spread as evenly.

    Once the nodes were told of one, its nominee stays, until somebody is known to hold it: nobody is told another.
    """
    speakers = context.view.speakers.values()
    told = {first.virtual_router: first.node_name for one in speakers for first in one.spec.first_holds}
    known_to_run = {router.name for speaker in speakers for router in speaker.status.virtual_routers}
    load = Load()
    after: Counter[tuple[str, str]] = Counter()
    """How much a node leaves to each other one when it dies."""
    nominees: dict[str, str] = {}
    new: list[tuple[str, str, Accepted]] = []
    for key, verdict in sorted(verdicts.items()):
        in_force = running.get(key, {})
        nominee = holders[key] or (told.get(key, "") if in_force else "")
        if nominee:
            size = size_of(verdict, in_force)
            load.add(nominee, size)
            others = [name for name in in_force if name != nominee]
            if others:
                after[nominee, max(others, key=lambda name: in_force[name].priority)] += size
            if not holders[key]:
                nominees[key] = nominee
        elif isinstance(verdict, Accepted) and not in_force:
            new.append((created.get(key, ""), key, verdict))
    orders: dict[str, Sequence[str]] = {}
    for _, key, verdict in sorted(new, key=lambda one: one[:2]):
        size = size_of(verdict, {})
        is_unheld = key not in known_to_run and not olds[key].nodes
        able = candidates(context, verdict) if is_unheld else ()
        names = [member.node.name for member in verdict.membership.members]
        first = min(able, key=lambda name: (load.of(name), lot(key, name)), default="")
        if first:
            nominees[key] = first
            load.add(first, size)
        ordered = sorted(names, key=lambda name: (name != first, after[first, name], lot(key, name)))
        orders[key] = ordered
        if first and len(ordered) > 1:
            after[first, ordered[1]] += size
    return FirstHolds(nominees, orders)


def size_of(verdict: Verdict, running: Mapping[str, VirtualRouterConfiguration]) -> int:
    """How many addresses a virtual router has."""
    if isinstance(verdict, Accepted):
        return len(verdict.virtual_ip.spec.addresses)
    return next((len(router.addresses) for router in running.values()), 0)


def lot(key: str, name: str) -> bytes:
    """Decides between nodes that are alike, for each VirtualIP by itself. A CRC would not do: between two names of one
    length the same bit of every key decides, so that some orders of three nodes never come."""
    return blake2b(f"{key} {name}".encode(), digest_size=8).digest()


def candidates(context: Context, accepted: Accepted) -> Sequence[str]:
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
    wanted = {
        member.node.name: wish(spec.nodes, spec.priority, member.node)
        for member in membership.members
        if is_able(member, context)
    }
    highest = max(wanted.values(), default=(PRIORITY_OWNER, 0))
    if highest[0] == PRIORITY_OWNER:  # it holds at once
        return ()
    return [name for name, wished in wanted.items() if wished == highest]


def wish(selection: NodeSelection, priority: int, node: NodeView) -> tuple[int, int]:
    """How much a user wants it on a node, to be compared: by its priority, and by the weights of what fits it."""
    chosen = next((entry.priority for entry in selection.priorities if entry.node_name == node.name), priority)
    weights = (
        preference.weight
        for preference in selection.preferences
        if preference.node_name == node.name
        or (preference.selector is not None and selects(preference.selector, node.labels))
    )
    return chosen, sum(weights)


def is_able(member: Member, context: Context) -> bool:
    """Whether the node is there, is not being emptied, and its engine takes what it is told."""
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
    routers: Collection[str],
    nominees: Mapping[str, str],
    spec: SpeakerConfigSpec,
    before: SpeakerConfigSpec | None,
) -> list[FirstHold]:
    """What a node is told of who holds its routers first. What it was told before stays while nothing else changes, as
    it is past by then and not worth a write."""
    now = [FirstHold(virtual_router=key, node_name=nominees[key]) for key in sorted(routers) if key in nominees]
    if before is None or not before.first_holds:
        return now
    is_same = structs.replace(before.in_order(), first_holds=[]) == spec
    return before.first_holds if is_same and all(one in before.first_holds for one in now) else now
