"""The operator's part of VirtualIP.status, and what is worth an Event. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from holdfast_api.cluster import (
    TRANSITIONS_MAX,
    Condition,
    ConditionReason,
    ConditionType,
    MoveRecord,
    NodeStatus,
    VirtualIPState,
    VirtualIPStatus,
    agent_field_manager,
)
from holdfast_api.listing import some_of
from holdfast_api.reasons import Health, Obstacle, State
from holdfast_operator.planner.cluster import lenient
from holdfast_operator.planner.cluster.claims import Refusal
from holdfast_operator.planner.cluster.holding import (
    NOT_HEARD_AFTER_SECONDS,
    Hearsay,
    find_holding,
    parsed_time,
    recorded_moves,
    seconds_since,
)
from holdfast_operator.planner.cluster.view import EventType, Notice

_MESSAGE_MAX = 2048
"""Of a condition: what a person reads, whatever the number of nodes."""

_TOLD_MAX = 4
_NAMED_MAX = 8
_TOLD_OF_ALL_NODES = frozenset(
    {ConditionReason.CANNOT_SEND, ConditionReason.ADDRESS_CONFLICT, ConditionReason.ADDRESS_NOT_PERMITTED}
)
"""What keeps every node from holding it, and is mended outside of the cluster."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(\.\d{1,9})?\d*([Zz]|[+-]\d\d:\d\d)")

_ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of one VirtualIP at the moment."""

    key: str
    generation: int
    now: str
    refusal: Refusal | None
    runs: bool
    """Something of it is in force: its specification, or the last good one."""
    vrid: int | None
    waiting_for: Sequence[str]
    """Nodes that are heard and whose engine does not run it yet."""
    refused_by: Sequence[str]
    """Nodes whose engine refuses it, with its words."""
    not_heard: Sequence[str]
    """Nodes that are to run it and are not heard."""
    is_heard: bool
    """Whether any node that is to run it is heard."""
    left_out: Sequence[str]
    """Nodes that were asked for and take no part, each with the reason."""
    unknown: Sequence[str]
    """Fields of the specification that this version does not know."""
    entries: Sequence[NodeStatus]
    """Of the nodes that take part."""
    hearsay: Hearsay
    tolerated: Refusal | None = None
    """What it would be refused for if it did not run with it already."""
    shares: bool = False
    """Whether it shares its virtual router with others: then a Backup follows who holds these."""


def decode_status(raw: Mapping[str, Any]) -> VirtualIPStatus:
    """What the API server has, but for what cannot be read: see lenient.py."""
    status = raw.get("status")
    if not isinstance(status, Mapping):
        return VirtualIPStatus()
    entries = status.get("nodes")
    own = lenient.read({name: value for name, value in status.items() if name != "nodes"}, VirtualIPStatus)
    found = [_entry(entry) for entry in entries] if isinstance(entries, list) else []
    nodes = {entry.node_name: entry for entry in found if entry is not None}
    return msgspec.structs.replace(
        own or VirtualIPStatus(), nodes=sorted(nodes.values(), key=lambda entry: entry.node_name)
    )


def _entry(raw: Any) -> NodeStatus | None:
    """One node's words. Whose they are, and in which state it is, has to be readable, and the rest need not."""
    if not isinstance(raw, Mapping):
        return None
    told = dict(raw)
    found = _TIME.fullmatch(since) if isinstance(since := raw.get("since"), str) else None
    told["since"] = "".join(part or "" for part in found.groups()) if found else ""
    stand_ins: dict[str, Any] = {"priority": 0, "health": Health.UNKNOWN.value}
    try:
        for name, stand_in in stand_ins.items():
            told.setdefault(name, stand_in)
        return msgspec.convert(told, NodeStatus)
    except msgspec.ValidationError:
        if told["health"] not in set(Health):
            told["health"] = Health.UNKNOWN.value
        if not isinstance(told["priority"], int) or not 0 <= told["priority"] <= 255:
            told["priority"] = 0
        return lenient.read(told, NodeStatus)


def hearsay_of(
    raw: Mapping[str, Any], entries: Sequence[NodeStatus], heard: AbstractSet[str], by_address: Mapping[str, str]
) -> Hearsay:
    """What is known of the entries of one VirtualIP beside their words."""
    times: dict[str, datetime] = {}
    for managed in raw["metadata"].get("managedFields") or ():
        try:
            written = parsed_time(managed["time"])
        except (KeyError, TypeError, ValueError):
            continue
        manager = str(managed.get("manager", ""))
        times[manager] = max(written, times.get(manager, written))
    names = [entry.node_name for entry in entries]
    return Hearsay(
        heard=heard,
        written={name: times[manager] for name in names if (manager := agent_field_manager(name)) in times},
        by_address=by_address,
    )


def agents_that_own(raw: Mapping[str, Any]) -> set[str]:
    """The nodes whose agents are among its field managers, by their short names: also those that own nothing."""
    managers = {str(managed.get("manager", "")) for managed in raw["metadata"].get("managedFields") or ()}
    prefix = agent_field_manager("")
    return {manager.removeprefix(prefix) for manager in managers if manager.startswith(prefix)}


def short_name(node_name: str) -> str:
    """The node's name as far as it is in its agent's field manager, which has the same one for both."""
    return agent_field_manager(node_name).removeprefix(agent_field_manager(""))


def next_status(old: VirtualIPStatus, facts: Facts) -> tuple[VirtualIPStatus, list[Notice]]:
    """The status as it is to be, without `nodes`, and what changed that people are told of."""
    holding = find_holding(facts.entries, old, facts.hearsay, facts.now)
    held_by = holding.holders
    holder = held_by[0].node_name if held_by else ""
    is_split = len(held_by) > 1
    history = recorded_moves(old, holding, facts.now)
    new = history[len(old.transitions) :]
    moves = [move for move in new if move.from_node]
    conditions = _conditions(old, facts, held_by, is_split=is_split)
    status = VirtualIPStatus(
        observed_generation=facts.generation,
        state=_state(facts, conditions, holder, is_split=is_split),
        holder=holder,
        virtual_router_id=facts.vrid,
        moves=old.moves + len(moves),
        last_move=_not_after(new[-1].time, facts.now) if new else old.last_move,
        last_reason=new[-1].reason if new else old.last_reason,
        transitions=history[-TRANSITIONS_MAX:],
        conditions=conditions,
    )
    return status, _notices(old, facts, moves, conditions)


def _not_after(time: str, now: str) -> str:
    """What is shown as an age cannot lie ahead, however a node's clock goes."""
    return now if seconds_since(time, now) < 0 else time


def _state(facts: Facts, conditions: Sequence[Condition], holder: str, *, is_split: bool) -> VirtualIPState:
    if facts.refusal is not None and not facts.runs:
        return VirtualIPState.REFUSED
    if is_split:
        return VirtualIPState.SPLIT_BRAIN
    if any(one.type == ConditionType.READY and one.status == "Unknown" for one in conditions):
        return VirtualIPState.PENDING
    if holder:
        return VirtualIPState.HELD
    return VirtualIPState.UNHELD if facts.entries else VirtualIPState.PENDING


def _conditions(
    old: VirtualIPStatus, facts: Facts, held_by: Sequence[NodeStatus], *, is_split: bool
) -> list[Condition]:
    known = {condition.type: condition for condition in old.conditions}
    found = [_accepted(facts), _programmed(facts), _ready(facts, held_by, is_split), _split(held_by, is_split)]
    if facts.refusal is not None:
        found.append((ConditionType.STALLED, "True", facts.refusal.reason, facts.refusal.message))
    if exposed := [entry.node_name for entry in held_by if entry.host_ports_exposed]:
        found.append(_exposed(exposed))
    merged = []
    for kind, status, reason, message in found:
        before = known.get(kind)
        since = before.last_transition_time if before is not None and before.status == status else facts.now
        generation = facts.generation
        if kind in _OF_WHAT_RUNS and before is not None and facts.refusal is not None and facts.runs:
            generation = before.observed_generation  # what runs, and is held, is an earlier specification
        merged.append(
            Condition(
                type=kind,
                status=status,
                reason=reason,
                message=_cut(message),
                last_transition_time=since,
                observed_generation=generation,
            )
        )
    return merged


_OF_WHAT_RUNS = (ConditionType.READY, ConditionType.SPLIT_BRAIN, ConditionType.HOST_PORTS_EXPOSED)


def _cut(message: str) -> str:
    return message if len(message) <= _MESSAGE_MAX else f"{message[: _MESSAGE_MAX - 3]}..."


def _listed(names: Sequence[str]) -> str:
    """As many as a person reads."""
    return some_of(names, _NAMED_MAX)


_Finding = tuple[ConditionType, _ConditionStatus, ConditionReason, str]


def _accepted(facts: Facts) -> _Finding:
    if facts.tolerated is not None:
        told = f"{facts.tolerated.message}; it goes on with what was in force before"
        return ConditionType.ACCEPTED, "False", facts.tolerated.reason, told
    if facts.refusal is None:
        unknown = f"; not known to this version, and without effect: {_listed(facts.unknown)}" if facts.unknown else ""
        return ConditionType.ACCEPTED, "True", ConditionReason.ACCEPTED, f"the specification is in force{unknown}"
    kept = "; the last good specification stays in force" if facts.runs else ""
    return ConditionType.ACCEPTED, "False", facts.refusal.reason, facts.refusal.message + kept


def _programmed(facts: Facts) -> _Finding:
    kind = ConditionType.PROGRAMMED
    if facts.refusal is not None:
        return kind, "False", ConditionReason.NOT_ACCEPTED, "the specification is not accepted"
    if facts.refused_by:
        told = [f"{words[: _MESSAGE_MAX // _TOLD_MAX]}" for words in facts.refused_by[:_TOLD_MAX]]
        return kind, "False", ConditionReason.REFUSED_BY_ENGINE, "; ".join(told)
    if facts.waiting_for:
        message = f"not in force yet on {_listed(facts.waiting_for)}{_absent(facts)}"
        return kind, "False", ConditionReason.WAITING_FOR_SPEAKERS, message
    if not facts.is_heard:
        return (
            kind,
            "Unknown",
            ConditionReason.SPEAKERS_NOT_HEARD,
            f"no node that is to run it is heard{_absent(facts)}",
        )
    whose = "every node's engine" if not facts.not_heard else "the engine of every node that is heard"
    return kind, "True", ConditionReason.PROGRAMMED, f"{whose} runs this specification{_absent(facts)}"


def _absent(facts: Facts) -> str:
    """Who else was asked for."""
    silent = f"; not heard: {_listed(facts.not_heard)}" if facts.not_heard else ""
    return silent + (f"; take no part: {_listed(facts.left_out)}" if facts.left_out else "")


def _ready(facts: Facts, held_by: Sequence[NodeStatus], is_split: bool) -> _Finding:
    kind = ConditionType.READY
    if is_split:
        names = " and ".join(sorted(entry.node_name for entry in held_by))
        return kind, "False", ConditionReason.SEVERAL_HOLDERS, f"{names} say that they hold it"
    if not facts.runs and facts.refusal is not None:
        return kind, "False", ConditionReason.NOT_ACCEPTED, "the specification is not accepted"
    kept = ", with the last good specification" if facts.refusal is not None else ""
    if held_by:
        holder = held_by[0].node_name
        witnesses = _witnesses(facts)
        if holder in facts.hearsay.heard:
            return kind, "True", ConditionReason.HELD, f"{holder} holds it{kept}"
        if witnesses:
            message = f"{holder} holds it{kept}: its agent is not heard, but {_listed(witnesses)} would take it over"
            return kind, "True", ConditionReason.HELD, message
        message = f"{holder} held it when it was heard last, and no node that could tell is heard"
        return kind, "Unknown", ConditionReason.HOLDER_NOT_HEARD, message
    if not facts.is_heard and (facts.not_heard or facts.entries):
        message = f"no node that is to run it is heard{_absent(facts)}"
        return kind, "Unknown", ConditionReason.HOLDER_NOT_HEARD, message
    reason, why = _why_not_held(facts)
    return kind, "False", reason, f"no node holds it{why}"


def _witnesses(facts: Facts) -> list[str]:
    """Nodes that are heard and in the election: they would hold it if nobody did."""
    return [
        entry.node_name
        for entry in facts.entries
        if entry.state is State.BACKUP and entry.node_name in facts.hearsay.heard
    ]


def _why_not_held(facts: Facts) -> tuple[ConditionReason, str]:
    hindered = [entry for entry in facts.entries if entry.obstacles]
    told = [f"{entry.node_name}: {_words(entry)}" for entry in hindered]
    details = f" ({'; '.join(told[:_TOLD_MAX])})" if told else ""
    # What a node that is not heard said last is no hindrance any more.
    heard = [entry for entry in facts.entries if entry.node_name in facts.hearsay.heard]
    if facts.shares:
        heard = [entry for entry in heard if entry.state is not State.BACKUP]
    shared = set(Obstacle).intersection(*(entry.obstacles for entry in heard)) if heard else set()
    if Obstacle.CANNOT_SEND in shared:
        names = ", ".join(entry.node_name for entry in heard)
        question = f", as no node can send: does the firewall of {names} let IP protocol 112 (VRRP) out?"
        return ConditionReason.CANNOT_SEND, question + details
    for obstacle, reason, why in (
        (Obstacle.ADDRESS_NOT_PERMITTED, ConditionReason.ADDRESS_NOT_PERMITTED, "no node may hold it"),
        (Obstacle.ADDRESS_CONFLICT, ConditionReason.ADDRESS_CONFLICT, "another host has its address"),
    ):
        if obstacle in shared:
            sentences = dict.fromkeys(_words(entry) for entry in heard)
            return reason, f", as {why}: {'; '.join([*sentences][:_TOLD_MAX])}"
    return ConditionReason.NOT_HELD, details


def _words(entry: NodeStatus) -> str:
    return entry.message or entry.health_message or ", ".join(entry.obstacles)


def _split(held_by: Sequence[NodeStatus], is_split: bool) -> _Finding:
    kind = ConditionType.SPLIT_BRAIN
    if is_split:
        names = " and ".join(sorted(entry.node_name for entry in held_by))
        message = f"{names} have both held it for more than {NOT_HEARD_AFTER_SECONDS} s: do they hear each other?"
        return kind, "True", ConditionReason.SEVERAL_HOLDERS, message
    return kind, "False", ConditionReason.ONE_HOLDER_AT_MOST, "no two nodes hold it"


def _exposed(names: Sequence[str]) -> _Finding:
    where = " and ".join(sorted(names))
    message = (
        f"what listens on {where} is reached through it, as nf_tables cannot be had there; what was refused is in the"
        " node's entry of status.nodes"
    )
    return ConditionType.HOST_PORTS_EXPOSED, "True", ConditionReason.PACKET_FILTER_REFUSED, message


def _notices(
    old: VirtualIPStatus, facts: Facts, moves: Sequence[MoveRecord], conditions: Sequence[Condition]
) -> list[Notice]:
    before = {condition.type: condition for condition in old.conditions}
    after = {condition.type: condition for condition in conditions}

    def became(kind: ConditionType, status: str) -> bool:
        was = before[kind].status if kind in before else None
        return kind in after and after[kind].status == status and was != status

    notices = []
    for move in moves:
        why = f"{move.reason or 'unknown reason'}: {move.message}" if move.message else f"{move.reason}"
        notices.append(
            Notice(facts.key, EventType.NORMAL, "Moved", f"from {move.from_node} to {move.to_node}, {why}"[:1024])
        )
    accepted = after[ConditionType.ACCEPTED]
    is_refused = facts.refusal is not None or facts.tolerated is not None
    if is_refused and (
        became(ConditionType.ACCEPTED, "False") or before[ConditionType.ACCEPTED].message != accepted.message
    ):
        message = f"{accepted.reason}: {accepted.message}"
        notices.append(Notice(facts.key, EventType.WARNING, "Refused", message[:1024]))
    if not is_refused and ConditionType.ACCEPTED in before and became(ConditionType.ACCEPTED, "True"):
        notices.append(Notice(facts.key, EventType.NORMAL, "Accepted", accepted.message))
    ready = after[ConditionType.READY]
    is_news = ConditionType.READY not in before or before[ConditionType.READY].reason != ready.reason
    if is_news and ready.reason in _TOLD_OF_ALL_NODES:
        notices.append(Notice(facts.key, EventType.WARNING, ready.reason, ready.message[:1024]))
    if became(ConditionType.SPLIT_BRAIN, "True"):
        message = after[ConditionType.SPLIT_BRAIN].message
        notices.append(Notice(facts.key, EventType.WARNING, "SplitBrainSuspected", message))
    if became(ConditionType.HOST_PORTS_EXPOSED, "True"):
        message = after[ConditionType.HOST_PORTS_EXPOSED].message
        notices.append(Notice(facts.key, EventType.WARNING, ConditionType.HOST_PORTS_EXPOSED, message))
    return notices
