"""Who holds a new virtual router first, and who comes after him: the nodes that have least. Pure; ADR 37.

First come, first held would give nearly all new virtual routers to the one node that is a little faster. So the planner
names a nominee for each that nobody can know a holder of. It counts once, for engines to which the virtual router is
new: whoever holds it afterwards keeps it, however uneven that is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    """What is decided of virtual routers that nobody is known to hold, by their names."""

    nominees: Mapping[str, str]
    """The node that is to hold it first."""
    orders: Mapping[str, Sequence[str]]
    """Of those that are new: the nodes in the order in which they take over from each other."""


def first_holds(
    context: Context,
    verdicts: Mapping[str, Verdict],
    shared: Mapping[str, str],
    running: Mapping[str, Mapping[str, VirtualRouterConfiguration]],
    olds: Mapping[str, VirtualIPStatus],
    holders: Mapping[str, str],
    created: Mapping[str, str],
) -> FirstHolds:
    """A nominee for each new virtual router, and who comes after him, so that a dead node's are spread as evenly.

    `shared` names the virtual routers of those that share one: these have one nominee, and who comes later is held by
    whoever holds the others. Once the nodes were told of one, its nominee stays, until somebody is known to hold it:
    nobody is told another.
    """
    speakers = context.view.speakers.values()
    told = {first.virtual_router: first.node_name for one in speakers for first in one.spec.first_holds}
    known_to_run = {router.name for speaker in speakers for router in speaker.status.virtual_routers}
    load = Load()
    after: Counter[tuple[str, str]] = Counter()
    """How much a node leaves to each other one when it dies."""
    nominees: dict[str, str] = {}
    new: list[tuple[str, str, Accepted]] = []
    virtual_ips = _by_router(verdicts, shared)
    for name, keys in virtual_ips.items():
        in_force = next((running[key] for key in keys if running.get(key)), {})
        holder = next((holders[key] for key in keys if holders[key]), "")
        nominee = holder or (told.get(name, "") if in_force else "")
        accepted = next((found for key in keys if isinstance(found := verdicts[key], Accepted)), None)
        if nominee:
            size = _size(keys, verdicts, running)
            load.add(nominee, size)
            others = [node for node in in_force if node != nominee]
            if others:
                after[nominee, max(others, key=lambda node: in_force[node].priority)] += size
            if not holder:
                nominees[name] = nominee
        elif accepted is not None and not in_force:
            new.append((min(created.get(key, "") for key in keys), name, accepted))
    orders: dict[str, Sequence[str]] = {}
    for _, name, verdict in sorted(new, key=lambda one: one[:2]):
        keys = virtual_ips[name]
        size = _size(keys, verdicts, running)
        is_unheld = all(key not in known_to_run and not olds[key].nodes for key in keys)
        able = candidates(context, verdict) if is_unheld else ()
        nodes = [member.node.name for member in verdict.membership.members]
        first = min(able, key=lambda node: (load.of(node), lot(name, node)), default="")
        if first:
            nominees[name] = first
            load.add(first, size)
        ordered = sorted(nodes, key=lambda node: (node != first, after[first, node], lot(name, node)))
        orders[name] = ordered
        if first and len(ordered) > 1:
            after[first, ordered[1]] += size
    return FirstHolds(nominees, orders)


def _by_router(keys: Iterable[str], shared: Mapping[str, str]) -> dict[str, list[str]]:
    """The VirtualIPs of each virtual router, by its name."""
    found: dict[str, list[str]] = {}
    for key in sorted(keys):
        found.setdefault(shared.get(key, key), []).append(key)
    return found


def _size(
    keys: Iterable[str],
    verdicts: Mapping[str, Verdict],
    running: Mapping[str, Mapping[str, VirtualRouterConfiguration]],
) -> int:
    """How many addresses a virtual router has, with these VirtualIPs."""
    return sum(_addresses(verdicts[key], running.get(key, {})) for key in keys)


def _addresses(verdict: Verdict, running: Mapping[str, VirtualRouterConfiguration]) -> int:
    if isinstance(verdict, Accepted):
        return len(verdict.virtual_ip.spec.addresses)
    return next((len(router.addresses) for router in running.values()), 0)


def lot(key: str, name: str) -> bytes:
    """Decides between nodes that are alike, for each virtual router by itself. A CRC would not do: between two names of
    one length the same bit of every key decides, so that some orders of three nodes never come."""
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
