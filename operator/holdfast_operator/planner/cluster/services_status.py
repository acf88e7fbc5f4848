"""What is written into Services: addresses, conditions, and what is worth an Event. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from holdfast_api.addresses import Address
from holdfast_api.cluster import GROUP, Condition, ConditionType, VirtualIPStatus
from holdfast_api.services import (
    CLEANUP_FINALIZER,
    POOL_ANNOTATION,
    ServiceConditionReason,
    ServiceConditionType,
)
from holdfast_kube.objects import key_of
from holdfast_operator.planner.cluster.acceptance import Running
from holdfast_operator.planner.cluster.claims import Accepted, Refusal, Verdict
from holdfast_operator.planner.cluster.forbidden import Forbidden
from holdfast_operator.planner.cluster.permission import running_addresses
from holdfast_operator.planner.cluster.pools import Pools
from holdfast_operator.planner.cluster.presence import Presence
from holdfast_operator.planner.cluster.services import Demand, addresses_of
from holdfast_operator.planner.cluster.services_records import Record, is_made_for_services, owners_of
from holdfast_operator.planner.cluster.services_sharing import Complaint, Group
from holdfast_operator.planner.cluster.services_wishes import Wish, has_our_class
from holdfast_operator.planner.cluster.view import ClusterView, EventType, ServiceNotice, ServiceStatus

_MESSAGE_MAX = 1024
_KEPT = "; it goes on with what was in force before"


@dataclass(frozen=True, slots=True)
class ServicesPlan:
    """Of all Services that are ours, or were."""

    statuses: Mapping[str, ServiceStatus]
    """By namespace/name."""
    ended: Sequence[str]
    """VirtualIPs that no Service has and no node runs any more."""
    notices: Sequence[ServiceNotice]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the plan of the VirtualIPs came to."""

    demand: Demand
    verdicts: Mapping[str, Verdict]
    statuses: Mapping[str, VirtualIPStatus]
    running: Running
    pools: Pools
    forbidden: Forbidden


def services_plan(
    view: ClusterView,
    demand: Demand,
    verdicts: Mapping[str, Verdict],
    statuses: Mapping[str, VirtualIPStatus],
    running: Running,
    pools: Pools,
    forbidden: Forbidden,
    presence: Presence,
    now: str,
) -> ServicesPlan:
    """What is to be said to each; `view` is the cluster with all VirtualIPs, also those that are being deleted."""
    if view.services is None:
        return ServicesPlan({}, (), ())
    facts = _Facts(demand, verdicts, statuses, running, pools, forbidden)
    raws = {key_of(raw): raw for raw in view.services}
    found: dict[str, ServiceStatus] = {}
    notices: list[ServiceNotice] = []
    of_service = {wish.key: group for group in demand.grouping.groups for wish in group.members}
    for wish in sorted(demand.wishes, key=lambda wish: wish.key):
        finding = _finding(wish, of_service.get(wish.key), facts)
        old = _conditions(raws[wish.key])
        condition = _condition(finding, old, raws[wish.key], now)
        ingress = _ingress(wish, of_service.get(wish.key), facts)
        exposed = _exposed(of_service.get(wish.key), facts, raws[wish.key])
        found[wish.key] = ServiceStatus(True, ingress, (condition, *exposed))
        notices += _notices(wish.key, old.get(condition.type), condition)
    owned = {uid for raw in view.virtual_ips if is_made_for_services(raw) for uid in owners_of(raw)}
    for key, raw in sorted(raws.items()):
        if key not in found and (leaving := _leaving(raw, view, owned, now)) is not None:
            status, told = leaving
            found[key] = status
            notices += told
    ended = [record.key for record in demand.grouping.going if not _is_on_a_node(record, view, presence)]
    return ServicesPlan(found, sorted(ended), notices)


# ----- of one that is ours -----


def _ingress(wish: Wish, group: Group | None, facts: _Facts) -> list[str]:
    """Its addresses, as far as a node has held them once, and none that must be given up."""
    has = _has(wish, group, facts)
    if group is None or not has:
        return []
    router = facts.running.get(group.key, {}).get(facts.statuses[group.key].holder)
    held = running_addresses({"": router} if router is not None else {})
    return [
        str(address)
        for address in has.values()
        if (address in held or address in wish.told) and not facts.forbidden.must_be_given_up(address, ())
    ]


_Status = Literal["True", "False"]
_Finding = tuple[_Status, str, str]


def _finding(wish: Wish, group: Group | None, facts: _Facts) -> _Finding:
    """Whether it has what it asks for, and why not."""
    has = _has(wish, group, facts)
    problem = _problem(wish, group, facts)
    if problem is not None:
        return "False", problem.reason, problem.message + (_KEPT if has else "")
    told = " and ".join(_of_pool(address, facts.pools) for address in has.values())
    by = f", by VirtualIP {group.key}" if group is not None else ""
    without = "".join(f"; no IPv{version} address is left for it" for version in wish.versions if version not in has)
    return "True", ServiceConditionReason.ASSIGNED, f"{told}{by}{without}"


def _problem(wish: Wish, group: Group | None, facts: _Facts) -> Complaint | None:
    if wish.key in facts.demand.grouping.complaints:
        return facts.demand.grouping.complaints[wish.key]
    if group is None:
        return None
    refusal, verdict = facts.demand.refusals.get(group.key), facts.verdicts.get(group.key)
    if not isinstance(verdict, Accepted):
        return _translated(refusal or verdict, wish)
    if refusal is not None and not _is_met(wish, group, facts):
        return _translated(refusal, wish)
    return _translated(verdict.tolerated, wish)


def _has(wish: Wish, group: Group | None, facts: _Facts) -> dict[int, Address]:
    """Its addresses, those of its first family first."""
    if group is None or not facts.demand.is_made(group.key):
        return {}
    has = addresses_of(facts.verdicts.get(group.key), group)
    return {version: has[version] for version in wish.versions if version in has}


def _is_met(wish: Wish, group: Group, facts: _Facts) -> bool:
    """Whether it has what it asks for, though another one of its group has not."""
    has = _has(wish, group, facts)
    is_of_pool = wish.pool in (None, facts.demand.pool_of(group.key))
    return is_of_pool and wish.required <= {*has} and all(has.get(version) == it for version, it in wish.named.items())


def _of_pool(address: Address, pools: Pools) -> str:
    pool = pools.of(address)
    return f"{address} of AddressPool {pool.name}" if pool is not None else str(address)


_ADDRESSES = re.compile(r"(spec|status)\.addresses(\[\d+\])?: (must be given: )?")


def _translated(refusal: Refusal | None, wish: Wish) -> Complaint | None:
    """What is said of its VirtualIP, in the words of the Service."""
    if refusal is None:
        return None
    field = f"{wish.named_in}: " if wish.named_in else ""
    message = _ADDRESSES.sub(field, refusal.message).replace("spec.addressPool", f"annotation {POOL_ANNOTATION}")
    return Complaint(refusal.reason, message)


def _condition(finding: _Finding, old: Mapping[str, Condition], raw: Mapping[str, Any], now: str) -> Condition:
    status, reason, message = finding
    before = old.get(ServiceConditionType.ADDRESS_ASSIGNED)
    return Condition(
        type=ServiceConditionType.ADDRESS_ASSIGNED,
        status=status,
        reason=reason,
        message=message[:_MESSAGE_MAX],
        last_transition_time=before.last_transition_time if before is not None and before.status == status else now,
        observed_generation=int(raw["metadata"].get("generation", 0)),
    )


def _exposed(group: Group | None, facts: _Facts, raw: Mapping[str, Any]) -> list[Condition]:
    """What its VirtualIP says of the holder's own ports, where that is something."""
    status = facts.statuses.get(group.key) if group is not None else None
    told = [one for one in status.conditions if one.type == ConditionType.HOST_PORTS_EXPOSED] if status else []
    return [
        msgspec.structs.replace(
            one,
            type=ServiceConditionType.HOST_PORTS_EXPOSED,
            observed_generation=int(raw["metadata"].get("generation", 0)),
        )
        for one in told
    ]


def _notices(key: str, before: Condition | None, after: Condition) -> list[ServiceNotice]:
    """What is news."""
    if before is not None and (before.status, before.reason, before.message) == (
        after.status,
        after.reason,
        after.message,
    ):
        return []
    if after.status == "True":
        return [ServiceNotice(key, EventType.NORMAL, "AddressAssigned", after.message)]
    return [ServiceNotice(key, EventType.WARNING, "Refused", f"{after.reason}: {after.message}"[:_MESSAGE_MAX])]


# ----- of one that is ours no more -----


def _leaving(
    raw: Mapping[str, Any], view: ClusterView, owned: Collection[str], now: str
) -> tuple[ServiceStatus, list[ServiceNotice]] | None:
    """What is left to be done; None: it is none of ours.

    Its finalizer goes before its condition does: that is what tells that it was ours. Of one that is deleted before it
    was told anything its class does.
    """
    old = _conditions(raw)
    has_something = str(raw["metadata"].get("uid", "")) in owned
    if not has_something and not old and not has_our_class(raw, view.rules):
        return None
    if not has_something and CLEANUP_FINALIZER not in (raw["metadata"].get("finalizers") or ()):
        return (ServiceStatus(False), []) if old else None
    message = "it is no load balancer of ours any more: what it had is given back once no node has it"
    condition = _condition(("False", ServiceConditionReason.RELEASED, message), old, raw, now)
    before = old.get(ServiceConditionType.ADDRESS_ASSIGNED)
    is_news = has_something and (before is None or before.reason != ServiceConditionReason.RELEASED)
    told = [ServiceNotice(key_of(raw), EventType.NORMAL, "AddressReleased", message)] if is_news else []
    return ServiceStatus(has_something, (), (condition,)), told


def _is_on_a_node(record: Record, view: ClusterView, presence: Presence) -> bool:
    """Whether a node runs it yet, or may: by what it was told, and by what its agent says.

    One that is not heard for long can hold nothing any more, and nobody is held up for ever by one agent.
    """
    running = [name for name in sorted(view.speakers) if _runs(record.key, name, view, presence)]
    return bool(running)  # each of them was asked: the plan has to remember whom it waits for


def _runs(key: str, node_name: str, view: ClusterView, presence: Presence) -> bool:
    speaker = view.speakers[node_name]
    is_told = any(key in router.virtual_ip_names for router in speaker.spec.virtual_routers)
    if not is_told and all(router.name != key for router in speaker.status.virtual_routers):
        return False
    if presence.is_heard(node_name):
        return is_told or presence.is_worth_waiting_for(node_name)
    return not presence.is_lost(node_name)


def _conditions(raw: Mapping[str, Any]) -> dict[str, Condition]:
    """Ours, by their type."""
    found = {}
    for one in (raw.get("status") or {}).get("conditions") or ():
        if str(one.get("type", "")).startswith(f"{GROUP}/"):
            try:
                condition = msgspec.convert(one, Condition)
            except msgspec.ValidationError:
                continue
            found[condition.type] = condition
    return found
