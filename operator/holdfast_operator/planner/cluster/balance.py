"""How evenly the nodes hold what there is, and the moves that a person can ask for. Pure; ADR 37.

Nothing is moved for balance by itself. The annotation holdfast.dev/rebalance of an AddressPool asks for it, once for
each value: the fewest moves that even out what the nodes hold, of VirtualIPs with addresses of that pool alone, one
after the other. What is to be done next follows from what is held now, so that a restart of the operator forgets
nothing but how often it has moved; and that stands in the pool's status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from holdfast_api.addresses import parse_interface
from holdfast_api.cluster import NodeStatus, VirtualIPStatus
from holdfast_api.pools import AddressPoolStatus, Rebalance, RebalanceState
from holdfast_api.reasons import Health, State
from holdfast_operator.planner.cluster.claims import Accepted, Verdict
from holdfast_operator.planner.cluster.first_holds import is_able, lot, wish
from holdfast_operator.planner.cluster.holding import seconds_since
from holdfast_operator.planner.cluster.membership import Context
from holdfast_operator.planner.cluster.pools import Pools

MOVES_WITHIN_SECONDS = 30
"""A node that has not taken over by then does not: the rebalance ends, and says so."""


@dataclass(frozen=True, slots=True)
class Held:
    """A virtual router that a node holds."""

    holder: str
    addresses: int
    able: Sequence[str] = ()
    """The nodes that could take it over: as healthy, and where the user wants it as much."""


@dataclass(frozen=True, slots=True)
class Move:
    """One that would make it more even."""

    virtual_ip: str
    """namespace/name; those that share its virtual router move with it."""
    from_node: str
    to_node: str


@dataclass(frozen=True, slots=True)
class Balance:
    """What there is to say and to do."""

    pools: Mapping[str, AddressPoolStatus]
    """By name, with how uneven they are, and how far a rebalance is."""
    step: Rebalance | None
    """The move that is under way; None: none is."""
    look_again_seconds: float | None


def rebalance(
    context: Context,
    pools: Pools,
    pool_statuses: Mapping[str, AddressPoolStatus],
    verdicts: Mapping[str, Verdict],
    shared: Mapping[str, str],
    olds: Mapping[str, VirtualIPStatus],
    statuses: Mapping[str, VirtualIPStatus],
    now: str,
) -> Balance:
    """How uneven each pool is, and what moves next, if somebody asked for it. One moves at a time, of all pools.

    `shared` names the virtual routers of those that share one: these move together, and the first of them that is held
    stands for all.
    """
    virtual_ips: dict[str, list[str]] = {}
    for key in sorted(statuses):
        if statuses[key].holder:
            virtual_ips.setdefault(shared.get(key, key), []).append(key)
    held: dict[str, Held] = {}
    of_all: dict[str, Held] = {}
    """By each VirtualIP, also where another one stands for those that share a virtual router."""
    of_pool: dict[str, set[str]] = {}
    for keys in virtual_ips.values():
        key, one = keys[0], statuses[keys[0]]
        addresses = sum(len(statuses[other].addresses) for other in keys)
        held[key] = held_by(context, verdicts[key], olds[key].nodes, one.holder, addresses)
        of_all.update(dict.fromkeys(keys, held[key]))
        first = next((found for text in one.addresses if (found := parse_interface(text)) is not None), None)
        pool = pools.of(first.ip) if first is not None else None
        if pool is not None:
            of_pool.setdefault(pool.name, set()).add(key)
    told: dict[str, AddressPoolStatus] = {}
    under_way: Rebalance | None = None
    for name, status in sorted(pool_statuses.items()):
        left = moves(held, frozenset(of_pool.get(name, ())))
        step = next_step(pools.requested(name), pools.last_rebalance(name), left, of_all, now)
        if step is not None and step.virtual_ip:
            if under_way is not None:
                step = structs.replace(step, virtual_ip="", from_node="", to_node="", since="")
            else:
                under_way = step
        told[name] = structs.replace(status, imbalance=len(left), rebalance=step)
    if under_way is None:
        return Balance(told, None, None)
    return Balance(told, under_way, max(0.0, MOVES_WITHIN_SECONDS - seconds_since(under_way.since, now)))


def held_by(context: Context, verdict: Verdict, entries: Sequence[NodeStatus], holder: str, addresses: int) -> Held:
    """A virtual router, and who could take it over. With `nopreempt: false` priorities decide, and nobody could."""
    states = {entry.node_name: entry for entry in entries}
    at = states.get(holder)
    if (
        not isinstance(verdict, Accepted)
        or not verdict.virtual_ip.spec.nopreempt
        or at is None
        or at.state is not State.MASTER
        or at.health is not Health.HEALTHY
    ):
        return Held(holder, addresses)
    spec = verdict.virtual_ip.spec
    wishes = {
        member.node.name: wish(spec.nodes, spec.priority, member.node)
        for member in verdict.membership.members
        if is_able(member, context)
    }
    if holder not in wishes:
        return Held(holder, addresses)
    able = [
        name
        for name, wished in sorted(wishes.items())
        if name != holder
        and wished >= wishes[holder]
        and (entry := states.get(name)) is not None
        and entry.state is State.BACKUP
        and entry.health is Health.HEALTHY
    ]
    return Held(holder, addresses, tuple(able))


def moves(held: Mapping[str, Held], named: frozenset[str]) -> list[Move]:
    """The moves that even out what the nodes hold, the one that helps most first; of the VirtualIPs that are named."""
    load: Counter[str] = Counter()
    alike: dict[Held, list[str]] = {}
    for key, one in held.items():
        load[one.holder] += one.addresses
        if key in named and one.able and one.addresses:
            alike.setdefault(one, []).append(key)
    for one, keys in alike.items():
        keys.sort(key=lambda key: lot(key, one.holder), reverse=True)
    found: list[Move] = []
    while True:
        possible = [
            (one.addresses * (gap - one.addresses), one, to)
            for one, keys in alike.items()
            if keys
            for to in one.able
            if (gap := load[one.holder] - load[to]) > one.addresses
        ]
        if not possible:
            return found
        _, one, to = min(possible, key=lambda item: (-item[0], load[item[2]], item[1].holder, item[2], item[1].able))
        key = alike[one].pop()
        load[one.holder] -= one.addresses
        load[to] += one.addresses
        found.append(Move(key, one.holder, to))


def next_step(
    requested: str, old: Rebalance | None, left: Sequence[Move], held: Mapping[str, Held], now: str
) -> Rebalance | None:
    """Where a rebalance is by now; None: nobody ever asked for one. A person's word is taken once."""
    if old is not None and old.state is RebalanceState.RUNNING and not requested:
        words = "the annotation was taken off"
        return Rebalance(requested=old.requested, state=RebalanceState.INCOMPLETE, moved=old.moved, message=words)
    if not requested or (old is not None and old.requested == requested and old.state is not RebalanceState.RUNNING):
        return old
    current = old if old is not None and old.requested == requested else None
    moved = current.moved if current is not None else 0
    if current is not None and current.virtual_ip:
        one = held.get(current.virtual_ip)
        if one is not None and one.holder == current.to_node:
            moved += 1
        elif one is not None and one.holder == current.from_node and current.to_node in one.able:
            if seconds_since(current.since, now) < MOVES_WITHIN_SECONDS:
                return current
            words = f"{current.virtual_ip} has not moved from {current.from_node} to {current.to_node}"
            return Rebalance(requested=requested, state=RebalanceState.INCOMPLETE, moved=moved, message=words)
    if not left:
        return Rebalance(requested=requested, state=RebalanceState.COMPLETE, moved=moved)
    return Rebalance(
        requested=requested,
        state=RebalanceState.RUNNING,
        moved=moved,
        virtual_ip=left[0].virtual_ip,
        from_node=left[0].from_node,
        to_node=left[0].to_node,
        since=now,
    )
