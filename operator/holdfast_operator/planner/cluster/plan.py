"""The plan of a whole cluster: from everything that the API server has to what is to be written there. Pure.

The same view gives the same plan, in whatever order its parts come, and what was planned already is planned again byte
for byte: so nothing is written in a steady state, nor after a restart of the operator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from holdfast_api.addresses import Address, parse_interface
from holdfast_api.cluster import (
    NODES_MAX,
    POOLS_REQUIRED_ANNOTATION,
    ConditionType,
    NodeStatus,
    SpeakerConditionType,
    SpeakerConfig,
    SpeakerConfigSpec,
    TakeOver,
    Tracking,
    VirtualIPStatus,
)
from holdfast_api.pools import Rebalance
from holdfast_api.speaker import MEMBERS_MAX, VirtualRouterConfiguration
from holdfast_kube.objects import key_of
from holdfast_operator.planner.cluster.acceptance import Judgement, Running, in_force, judge, unknown_fields
from holdfast_operator.planner.cluster.balance import rebalance
from holdfast_operator.planner.cluster.capacity import within_capacity
from holdfast_operator.planner.cluster.claims import Accepted, Refusal, Verdict, leads, with_leads
from holdfast_operator.planner.cluster.departures import Leaving, Stage, leaving
from holdfast_operator.planner.cluster.first_holds import first_holds, told_of
from holdfast_operator.planner.cluster.forbidden import Forbidden
from holdfast_operator.planner.cluster.holding import Hearsay, find_holding
from holdfast_operator.planner.cluster.membership import Context, node_addresses, place_of
from holdfast_operator.planner.cluster.pools import Pools
from holdfast_operator.planner.cluster.presence import Presence
from holdfast_operator.planner.cluster.routers import kept_on, routers_of, tracking_of
from holdfast_operator.planner.cluster.segments import Segments, parsed
from holdfast_operator.planner.cluster.services import Demand
from holdfast_operator.planner.cluster.services_status import services_plan
from holdfast_operator.planner.cluster.sharing import holders_of, joined, listed_before
from holdfast_operator.planner.cluster.status import (
    Facts,
    agents_that_own,
    decode_status,
    hearsay_of,
    next_status,
    short_name,
)
from holdfast_operator.planner.cluster.view import ClusterPlan, ClusterView, Notice

_Assignment = tuple[VirtualRouterConfiguration, Tracking | None]


def plan_cluster(view: ClusterView, now: str) -> ClusterPlan:
    """What is to be in force; `now` (RFC 3339) dates what changes. Never raises for what users may write."""
    nodes = tuple(sorted(view.nodes, key=lambda node: node.name))
    whole = view = dataclasses.replace(view, nodes=nodes)
    pools, forbidden = Pools(view), Forbidden(view)
    alive = {key_of(raw): raw for raw in view.virtual_ips if "deletionTimestamp" not in raw["metadata"]}
    demand = Demand(view, alive, pools)
    running = in_force(view.speakers)
    presence, segments = Presence(view, now), Segments(view.speakers)
    while True:
        raws = demand.raws
        view = dataclasses.replace(view, virtual_ips=tuple(raws.values()))
        context = Context(view, presence, segments)
        olds = {key: decode_status(raw) for key, raw in raws.items()}
        created = {key: str(raw["metadata"].get("creationTimestamp", "")) for key, raw in raws.items()}
        judgement = judge(context, olds, pools, forbidden, demand.wants, demand.going)
        verdicts = with_leads(within_capacity(judgement.verdicts, running, created), running, created, presence)
        if demand.settle(verdicts):
            break
    raws = demand.raws  # a VirtualIP for Services that would be refused is not made
    verdicts = {key: verdict for key, verdict in verdicts.items() if key in raws}
    heard, by_address = heard_nodes(view, context.presence), _nodes_by_address(view)
    hearsay = {key: hearsay_of(raw, olds[key].nodes, heard, by_address) for key, raw in raws.items()}
    last_holders = holders_of({key: _last_holder(olds[key], hearsay[key], now) for key in raws}, judgement.shared)
    decided = first_holds(context, verdicts, judgement.shared, running, olds, last_holders, created)
    assigned = _assign(context, judgement, verdicts, running, olds, created, last_holders, decided.orders)
    statuses: dict[str, VirtualIPStatus] = {}
    departed: dict[str, list[str]] = {}
    notices: list[Notice] = []
    for key in sorted(raws):
        mine = {node: routers[key][0] for node, routers in assigned.items() if key in routers}
        stays = {*mine, *(one.name for one in _leaving(context, key, verdicts[key], running, olds[key]))}
        entries = [entry for entry in olds[key].nodes if entry.node_name in stays]
        said = {short_name(entry.node_name) for entry in olds[key].nodes} | agents_that_own(raws[key])
        gone = sorted(said - {short_name(name) for name in stays})
        if gone:
            departed[key] = gone
        facts = dataclasses.replace(
            _facts(
                raws[key], key, view, verdicts[key], running.get(key, {}), mine, entries, now, olds[key], hearsay[key]
            ),
            shares=key in judgement.shared,
        )
        statuses[key], told = next_status(olds[key], facts)
        had = _addresses(verdicts[key], judgement.given.get(key, ()), mine)
        statuses[key] = structs.replace(
            statuses[key], addresses=had, virtual_router=judgement.shared.get(key, "") if mine else ""
        )
        notices += told
    pool_statuses = pools.statuses(_all_addresses(statuses), forbidden.spans, now)
    balanced = rebalance(context, pools, pool_statuses, verdicts, judgement.shared, olds, statuses, now)
    take_overs = _take_overs(balanced.step, verdicts, assigned)
    addresses, listed = node_addresses(nodes, view.speakers, segments), listed_before(view.speakers)
    speakers = {
        node: _speaker(
            SpeakerConfigSpec(
                node_name=node,
                node_addresses=addresses[node],
                virtual_routers=_entries(routers, judgement.shared, listed),
                tracking=[tracking for _, (_, tracking) in sorted(routers.items()) if tracking is not None],
                take_overs=take_overs.get(node, []),
            ),
            decided.nominees,
            view.speakers.get(node),
        )
        for node, routers in sorted(assigned.items())
        if _needs_a_configuration(node, routers, context)
    }
    services = services_plan(
        whole, demand, verdicts, statuses, running=running, pools=pools, forbidden=forbidden, presence=presence, now=now
    )
    annotations = context.presence.annotations()
    ever = {POOLS_REQUIRED_ANNOTATION: "true"} if view.pools_ever or view.pools else {}
    return ClusterPlan(
        speakers=speakers,
        statuses=statuses,
        departed=departed,
        notices=tuple(notices),
        annotations={node: found for node in speakers if (found := {**annotations.get(node, {}), **ever})},
        look_again_seconds=min(
            (
                seconds
                for seconds in (context.presence.look_again_seconds(), balanced.look_again_seconds)
                if seconds is not None
            ),
            default=None,
        ),
        heard=heard,
        pools=balanced.pools,
        services=services.statuses,
        virtual_ips=demand.manifests(verdicts),
        ended=services.ended,
        service_notices=services.notices,
    )


def _addresses(verdict: Verdict, given: Sequence[str], mine: Mapping[str, VirtualRouterConfiguration]) -> list[str]:
    """What a VirtualIP has: what it is to run with; of one that is refused what it was given, or what it runs with."""
    if isinstance(verdict, Accepted):
        return list(verdict.virtual_ip.spec.addresses)
    running = next((list(router.addresses) for _, router in sorted(mine.items())), [])
    return list(given) or running


def _all_addresses(statuses: Mapping[str, VirtualIPStatus]) -> frozenset[Address]:
    texts = (text for status in statuses.values() for text in status.addresses)
    return frozenset(found.ip for text in texts if (found := parse_interface(text)) is not None)


def _needs_a_configuration(node: str, routers: Mapping[str, _Assignment], context: Context) -> bool:
    """Whether a node is there, or holds something yet: else its SpeakerConfig goes, once its agent knows that."""
    presence = context.presence
    if presence.is_there(node) or routers:
        return True
    if context.view.speakers[node].spec.virtual_routers:
        return True  # it is emptied first
    return not (presence.is_blank(node) or presence.has_answered(node) or presence.is_lost(node))


def _assign(
    context: Context,
    judgement: Judgement,
    verdicts: Mapping[str, Verdict],
    running: Running,
    olds: Mapping[str, VirtualIPStatus],
    created: Mapping[str, str],
    last_holders: Mapping[str, str],
    orders: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, _Assignment]]:
    """What runs on each node by the VirtualIP's key; of a refused one what ran before."""
    view = context.view
    nodes = {node.name: node for node in view.nodes}
    assigned: dict[str, dict[str, _Assignment]] = {name: {} for name in [*nodes, *view.speakers]}
    accepted = {key: verdict for key, verdict in verdicts.items() if isinstance(verdict, Accepted)}
    led = {
        name: routers_of(accepted[key], running.get(key, {}), last_holders[key], context.presence, orders.get(name, ()))
        for name, key in leads(accepted, running, created).items()
    }
    for key, verdict in sorted(verdicts.items()):
        in_force_of = running.get(key, {})
        holder = last_holders[key]
        common = led.get(judgement.shared.get(key, ""))
        if isinstance(verdict, Accepted):
            addresses = verdict.virtual_ip.spec.addresses
            own = common or routers_of(verdict, in_force_of, holder, context.presence, orders.get(key, ()))
            for name, router in own.items():
                tracking = tracking_of(verdict.virtual_ip, name)
                assigned[name][key] = structs.replace(router, name=key, addresses=addresses), tracking
            continue
        if common is not None:  # it goes on with its addresses, and with the election of the others
            left = next((part for router in in_force_of.values() if (part := judgement.kept(key, router))), None)
            for name, router in common.items():
                if left is None:
                    continue
                told = _tracking_in_force(view.speakers[name], key) if name in view.speakers else None
                assigned[name][key] = structs.replace(router, name=key, addresses=left.addresses), told
            continue
        leaves = {one.name: one for one in _leaving(context, key, verdict, running, olds[key])}
        for name, router in in_force_of.items():
            left = judgement.kept(key, router)
            if left is not None and (name in nodes or (name in leaves and leaves[name].stage is Stage.DRAINED)):
                is_drained = name not in nodes or nodes[name].is_cordoned
                kept = kept_on(name, left, holder, draining=is_drained)
                assigned[name][key] = kept, _tracking_in_force(view.speakers[name], key)
    for name, routers in assigned.items():
        for key in _in_the_way(name, routers, context, running, created, judgement.shared):
            del routers[key]
    return assigned


def _leaving(context: Context, key: str, verdict: Verdict, running: Running, old: VirtualIPStatus) -> Sequence[Leaving]:
    """The nodes on their way out; of a VirtualIP that is refused those that are gone."""
    if isinstance(verdict, Accepted):
        return verdict.membership.leaving
    in_force_of = running.get(key, {})
    named = {*in_force_of, *(entry.node_name for entry in old.nodes)}
    gone = sorted(name for name in named if not context.presence.is_there(name) or name not in in_force_of)
    found = (leaving(name, in_force_of.get(name), old.nodes, context.presence) for name in gone)
    return [one for one in found if one is not None]


def _in_the_way(
    node: str,
    routers: Mapping[str, _Assignment],
    context: Context,
    running: Running,
    created: Mapping[str, str],
    shared: Mapping[str, str],
) -> list[str]:
    """What would meet another VirtualIP of its VRID on a link of this node alone: it runs on the others.

    That the two meet elsewhere, too, would take another node's word; then one of them would have another VRID.
    """
    speaker = context.view.speakers.get(node)
    owners: dict[tuple[str, int, int], str] = {}
    out = []
    order = sorted(routers, key=lambda key: (node not in running.get(key, {}), created.get(key, ""), key))
    for key in order:
        router, _ = routers[key]
        link = place_of(router, speaker)
        versions = {address.version for address in parsed(router.addresses)}
        seats = [(link, version, router.virtual_router_id) for version in versions] if link is not None else []
        owner = shared.get(key, key)
        if any(owners.setdefault(seat, owner) != owner for seat in seats) and node not in running.get(key, {}):
            out.append(key)
    return out


def heard_nodes(view: ClusterView, presence: Presence) -> frozenset[str]:
    """The nodes that speak: their pod is Ready where that is known, and the control plane hears them."""
    return frozenset(name for name in [*(node.name for node in view.nodes), *view.speakers] if presence.is_heard(name))


def _nodes_by_address(view: ClusterView) -> dict[str, str]:
    """Which node has the address; without those that several have, each on a link of its own."""
    owners: dict[str, set[str]] = {}
    for name, speaker in view.speakers.items():
        for link in speaker.status.links:
            for text in link.addresses:
                owners.setdefault(text.partition("/")[0], set()).add(name)
    return {address: names.pop() for address, names in owners.items() if len(names) == 1}


def _last_holder(old: VirtualIPStatus, hearsay: Hearsay, now: str) -> str:
    held_by = find_holding(old.nodes, old, hearsay, now).holders
    if held_by:
        return held_by[0].node_name
    return old.holder or (old.transitions[-1].to_node if old.transitions else "")


def _tracking_in_force(speaker: SpeakerConfig, key: str) -> Tracking | None:
    return next((tracking for tracking in speaker.spec.tracking if tracking.virtual_ip == key), None)


def _take_overs(
    step: Rebalance | None, verdicts: Mapping[str, Verdict], assigned: Mapping[str, Mapping[str, _Assignment]]
) -> dict[str, list[TakeOver]]:
    """What a node is to take over by now."""
    verdict = verdicts.get(step.virtual_ip) if step is not None else None
    if step is None or not isinstance(verdict, Accepted) or step.virtual_ip not in assigned.get(step.to_node, {}):
        return {}
    members = verdict.membership.members
    holder = next((member for member in members if member.node.name == step.from_node), None)
    told = list(holder.addresses)[:MEMBERS_MAX] if holder is not None else []
    return {step.to_node: [TakeOver(virtual_router=step.virtual_ip, holder_addresses=told)]} if told else {}


def _entries(
    routers: Mapping[str, _Assignment], shared: Mapping[str, str], listed: Mapping[str, Sequence[str]]
) -> list[VirtualRouterConfiguration]:
    """What a node is told to run. `shared` names the virtual routers of those that share one, `listed` is what the
    advertisements of these list until now."""
    found: list[VirtualRouterConfiguration] = []
    parts: dict[str, dict[str, VirtualRouterConfiguration]] = {}
    for key, (router, _) in sorted(routers.items()):
        if key in shared:
            parts.setdefault(shared[key], {})[key] = router
        else:
            found.append(router)
    for name, of_each in parts.items():
        common = next(iter(of_each.values()))
        addresses = {key: router.addresses for key, router in of_each.items()}
        found.append(joined(name, common, addresses, listed.get(name, ())))
    return sorted(found, key=lambda router: router.name)


def _speaker(spec: SpeakerConfigSpec, nominees: Mapping[str, str], before: SpeakerConfig | None) -> SpeakerConfigSpec:
    """With what the node is told of who holds its virtual routers first."""
    told = told_of(
        [router.name for router in spec.virtual_routers], nominees, spec, before.spec if before is not None else None
    )
    return structs.replace(spec, first_holds=told)


def _facts(
    raw: Mapping[str, Any],
    key: str,
    view: ClusterView,
    verdict: Verdict,
    running: Mapping[str, VirtualRouterConfiguration],
    mine: Mapping[str, VirtualRouterConfiguration],
    entries: Sequence[NodeStatus],
    now: str,
    old: VirtualIPStatus,
    hearsay: Hearsay,
) -> Facts:
    generation = int(raw["metadata"].get("generation", 0))
    # A node that runs it is not asked again whenever another VirtualIP changes the node's SpeakerConfig.
    is_settled = any(
        condition.type == ConditionType.PROGRAMMED
        and condition.status == "True"
        and condition.observed_generation == generation
        for condition in old.conditions
    )
    refused_by = []
    waiting_for = []
    not_heard = [node for node in sorted(mine) if node not in hearsay.heard]
    for node, router in sorted(mine.items()):
        if node in not_heard:
            continue
        speaker = view.speakers.get(node)
        if speaker is None or not _runs(running.get(node), router):
            waiting_for.append(node)
        elif refusal := _engines_refusal(speaker):
            refused_by.append(f"{node}: {refusal}")
        elif not is_settled and speaker.status.observed_generation < speaker.metadata.generation:
            waiting_for.append(node)
    if isinstance(verdict, Accepted) and not mine:
        waiting_for.append("any node: no speaker has said yet that it runs")
    return Facts(
        key=key,
        generation=generation,
        now=now,
        refusal=verdict if isinstance(verdict, Refusal) else None,
        tolerated=verdict.tolerated if isinstance(verdict, Accepted) else None,
        runs=bool(mine),
        vrid=verdict.vrid if isinstance(verdict, Accepted) else _vrid_of(mine),
        waiting_for=waiting_for,
        refused_by=refused_by,
        not_heard=not_heard,
        is_heard=len(not_heard) < len(mine),
        left_out=_left_out(verdict, view),
        unknown=unknown_fields(raw),
        entries=entries,
        hearsay=hearsay,
    )


def _left_out(verdict: Verdict, view: ClusterView) -> list[str]:
    """The nodes that the user asked for and that take no part, with the reason."""
    if not isinstance(verdict, Accepted):
        return []
    spec, known = verdict.virtual_ip.spec, {node.name for node in view.nodes}
    missing = "no such interface" if spec.interface else "no interface in the subnet"
    membership = verdict.membership
    return [
        *(f"{name} ({missing})" for name in sorted(membership.refused)),
        *(f"{name} (no such node)" for name in sorted(set(spec.nodes.names) - known)),
        *(f"{name} (as many VirtualIPs run there as fit)" for name in membership.full),
        *(f"{name} (its engine has not said that it takes shared virtual routers)" for name in membership.older),
        *(f"{name} ({NODES_MAX} nodes take part, as many as can)" for name in membership.left_out),
    ]


def _runs(told: VirtualRouterConfiguration | None, router: VirtualRouterConfiguration) -> bool:
    """Whether that is what a node is told already. Who held the VIP last is no part of what the user wants."""
    return told is not None and structs.replace(told, last_holder_elsewhere=router.last_holder_elsewhere) == router


def _vrid_of(mine: Mapping[str, VirtualRouterConfiguration]) -> int | None:
    return next((router.virtual_router_id for router in mine.values()), None)


def _engines_refusal(speaker: SpeakerConfig) -> str:
    """Why the engine does not run the SpeakerConfig; empty where it does, or has not said."""
    for condition in speaker.status.conditions:
        if condition.type == SpeakerConditionType.APPLIED and condition.status == "False":
            return condition.message
    return ""
