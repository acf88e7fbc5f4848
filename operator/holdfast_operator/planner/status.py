"""The operator's part of VirtualIP.status, and what is worth an Event. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
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
)
from holdfast_api.reasons import Obstacle, State
from holdfast_operator.planner.claims import Refusal
from holdfast_operator.planner.view import EventType, NodeView, Notice

NOT_HEARD_AFTER_SECONDS = 60
"""A node that died says for ever what it said last.

The control plane calls it NotReady after 50 s at most (node-monitor-grace-period; 40 s before Kubernetes 1.32), and
what a node that is not Ready has said is not believed any more. After this time one that is Ready is alive.
"""

SPLIT_BRAIN_AFTER_SECONDS = NOT_HEARD_AFTER_SECONDS
"""How long two nodes may both say that they hold a VIP: two that still say it after this are both alive."""

_TOLD_MAX = 4
_TOLD_OF_ALL_NODES = frozenset({ConditionReason.CANNOT_SEND, ConditionReason.ADDRESS_CONFLICT})
"""What keeps every node from holding it, and is mended outside of the cluster."""

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
    """Nodes whose engine does not run it yet."""
    refused_by: Sequence[str]
    """Nodes whose engine refuses it, with its words."""
    entries: Sequence[NodeStatus]
    """Of the nodes that take part."""
    nodes: Mapping[str, NodeView]


def decode_status(raw: Mapping[str, Any]) -> VirtualIPStatus:
    """What the API server has; nothing where it is of another version and cannot be read."""
    try:
        status = msgspec.convert(raw.get("status") or {}, VirtualIPStatus)
    except msgspec.ValidationError:
        return VirtualIPStatus()
    return msgspec.structs.replace(status, nodes=sorted(status.nodes, key=lambda entry: entry.node_name))


def holders(
    entries: Sequence[NodeStatus], old: VirtualIPStatus, nodes: Mapping[str, NodeView], now: str
) -> list[NodeStatus]:
    """The nodes that say they hold it and can be believed, the newest first.

    One that the control plane does not hear counts only where nobody else says so: it may be dead, or hold on alone.
    """
    masters = sorted((entry for entry in entries if entry.state is State.MASTER), key=lambda entry: entry.since)[::-1]
    heard = {name for name, node in nodes.items() if node.is_ready}
    masters = [entry for entry in masters if not _is_past(entry, entries, old, entry.node_name in heard, now)]
    believed = [entry for entry in masters if entry.node_name in heard]
    return believed or masters[:1]


def _is_past(entry: NodeStatus, entries: Sequence[NodeStatus], old: VirtualIPStatus, is_heard: bool, now: str) -> bool:
    """Whether another node took it over since, and this one is dead and cannot say so.

    While a third node takes over from that other, there may be a moment in which nobody else says Master: then the
    VIP has not gone back to the dead. But a node that is heard, and that the other says it follows, holds it indeed.
    """
    last = old.transitions[-1] if old.transitions else None
    if last is None or last.to_node == entry.node_name or entry.since >= last.time:
        return False
    if not is_heard:
        return True
    follows = any(other.node_name == last.to_node and other.state is State.BACKUP for other in entries)
    return not follows and _seconds_since(last.time, now) <= NOT_HEARD_AFTER_SECONDS


def next_status(old: VirtualIPStatus, facts: Facts) -> tuple[VirtualIPStatus, list[Notice]]:
    """The status as it is to be, without `nodes`, and what changed that people are told of."""
    held_by = holders(facts.entries, old, facts.nodes, facts.now)
    holder = held_by[0].node_name if held_by else ""
    is_split = len(held_by) > 1 and _seconds_since(held_by[0].since, facts.now) > SPLIT_BRAIN_AFTER_SECONDS
    move = _move(old, held_by[0]) if held_by else None
    is_move = move is not None and move.from_node != ""
    conditions = _conditions(old, facts, held_by, is_split=is_split)
    status = VirtualIPStatus(
        observed_generation=facts.generation,
        state=_state(facts, holder, is_split=is_split),
        holder=holder,
        virtual_router_id=facts.vrid,
        moves=old.moves + is_move,
        last_move=move.time if move else old.last_move,
        last_reason=move.reason if move else old.last_reason,
        transitions=[*old.transitions, *([move] if move else [])][-TRANSITIONS_MAX:],
        conditions=conditions,
    )
    return status, _notices(old, facts, move if is_move else None, conditions)


def _seconds_since(time: str, now: str) -> float:
    try:
        return (_parsed(now) - _parsed(time)).total_seconds()
    except ValueError:
        return 0.0


def _parsed(time: str) -> datetime:
    found = datetime.fromisoformat(time)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _move(old: VirtualIPStatus, holder: NodeStatus) -> MoveRecord | None:
    """The move that brought it to this holder; None where it is there already.

    A time in between without a holder is part of the move. The first holder of all comes from nobody.
    """
    last = old.transitions[-1].to_node if old.transitions else old.holder
    if last == holder.node_name:
        return None
    return MoveRecord(
        from_node=last,
        to_node=holder.node_name,
        reason=holder.reason,
        message=holder.message,
        time=holder.since,
        outage_milliseconds=holder.silent_milliseconds if last else 0,
    )


def _state(facts: Facts, holder: str, *, is_split: bool) -> VirtualIPState:
    if facts.refusal is not None and not facts.runs:
        return VirtualIPState.REFUSED
    if is_split:
        return VirtualIPState.SPLIT_BRAIN
    if holder:
        return VirtualIPState.HELD
    return VirtualIPState.UNHELD if facts.entries else VirtualIPState.PENDING


def _conditions(
    old: VirtualIPStatus, facts: Facts, held_by: Sequence[NodeStatus], *, is_split: bool
) -> list[Condition]:
    known = {condition.type: condition for condition in old.conditions}
    found = [_accepted(facts), _programmed(facts), _ready(facts, held_by, is_split), _split(held_by, is_split)]
    merged = []
    for kind, status, reason, message in found:
        before = known.get(kind)
        since = before.last_transition_time if before is not None and before.status == status else facts.now
        merged.append(
            Condition(
                type=kind,
                status=status,
                reason=reason,
                message=message,
                last_transition_time=since,
                observed_generation=facts.generation,
            )
        )
    return merged


_Finding = tuple[ConditionType, _ConditionStatus, ConditionReason, str]


def _accepted(facts: Facts) -> _Finding:
    if facts.refusal is None:
        return ConditionType.ACCEPTED, "True", ConditionReason.ACCEPTED, "the specification is in force"
    kept = "; the last good specification stays in force" if facts.runs else ""
    return ConditionType.ACCEPTED, "False", facts.refusal.reason, facts.refusal.message + kept


def _programmed(facts: Facts) -> _Finding:
    kind = ConditionType.PROGRAMMED
    if facts.refusal is not None:
        return kind, "False", ConditionReason.NOT_ACCEPTED, "the specification is not accepted"
    if facts.refused_by:
        return kind, "False", ConditionReason.REFUSED_BY_ENGINE, "; ".join(facts.refused_by)
    if facts.waiting_for:
        names = ", ".join(facts.waiting_for)
        return kind, "False", ConditionReason.WAITING_FOR_SPEAKERS, f"not in force yet on {names}"
    return kind, "True", ConditionReason.PROGRAMMED, "every node's engine runs this specification"


def _ready(facts: Facts, held_by: Sequence[NodeStatus], is_split: bool) -> _Finding:
    kind = ConditionType.READY
    if is_split:
        names = " and ".join(sorted(entry.node_name for entry in held_by))
        return kind, "False", ConditionReason.SEVERAL_HOLDERS, f"{names} say that they hold it"
    if held_by:
        return kind, "True", ConditionReason.HELD, f"{held_by[0].node_name} holds it"
    if not facts.runs and facts.refusal is not None:
        return kind, "False", ConditionReason.NOT_ACCEPTED, "the specification is not accepted"
    reason, why = _why_not_held(facts)
    return kind, "False", reason, f"no node holds it{why}"


def _why_not_held(facts: Facts) -> tuple[ConditionReason, str]:
    hindered = [entry for entry in facts.entries if entry.obstacles]
    told = [f"{entry.node_name}: {_words(entry)}" for entry in hindered]
    details = f" ({'; '.join(told[:_TOLD_MAX])})" if told else ""
    # A node that the control plane does not hear can hold nothing, whatever it said last.
    heard = [entry for entry in facts.entries if (node := facts.nodes.get(entry.node_name)) and node.is_ready]
    shared = set(Obstacle).intersection(*(entry.obstacles for entry in heard)) if heard else set()
    if Obstacle.CANNOT_SEND in shared:
        names = ", ".join(entry.node_name for entry in heard)
        question = f", as no node can send: does the firewall of {names} let IP protocol 112 (VRRP) out?"
        return ConditionReason.CANNOT_SEND, question + details
    if Obstacle.ADDRESS_CONFLICT in shared:
        sentences = dict.fromkeys(_words(entry) for entry in heard)
        answers = "; ".join([*sentences][:_TOLD_MAX])
        return ConditionReason.ADDRESS_CONFLICT, f", as another host has its address: {answers}"
    return ConditionReason.NOT_HELD, details


def _words(entry: NodeStatus) -> str:
    return entry.message or entry.health_message or ", ".join(entry.obstacles)


def _split(held_by: Sequence[NodeStatus], is_split: bool) -> _Finding:
    kind = ConditionType.SPLIT_BRAIN
    if is_split:
        names = " and ".join(sorted(entry.node_name for entry in held_by))
        message = f"{names} have both held it for more than {SPLIT_BRAIN_AFTER_SECONDS} s: do they hear each other?"
        return kind, "True", ConditionReason.SEVERAL_HOLDERS, message
    return kind, "False", ConditionReason.ONE_HOLDER_AT_MOST, "no two nodes hold it"


def _notices(
    old: VirtualIPStatus, facts: Facts, move: MoveRecord | None, conditions: Sequence[Condition]
) -> list[Notice]:
    before = {condition.type: condition for condition in old.conditions}
    after = {condition.type: condition for condition in conditions}

    def became(kind: ConditionType, status: str) -> bool:
        was = before[kind].status if kind in before else None
        return after[kind].status == status and was != status

    notices = []
    if move is not None:
        why = f"{move.reason or 'unknown reason'}: {move.message}" if move.message else f"{move.reason}"
        notices.append(
            Notice(facts.key, EventType.NORMAL, "Moved", f"from {move.from_node} to {move.to_node}, {why}"[:1024])
        )
    accepted = after[ConditionType.ACCEPTED]
    if facts.refusal is not None and (
        became(ConditionType.ACCEPTED, "False") or before[ConditionType.ACCEPTED].message != accepted.message
    ):
        message = f"{accepted.reason}: {accepted.message}"
        notices.append(Notice(facts.key, EventType.WARNING, "Refused", message[:1024]))
    if facts.refusal is None and ConditionType.ACCEPTED in before and became(ConditionType.ACCEPTED, "True"):
        notices.append(Notice(facts.key, EventType.NORMAL, "Accepted", accepted.message))
    ready = after[ConditionType.READY]
    is_news = ConditionType.READY not in before or before[ConditionType.READY].reason != ready.reason
    if is_news and ready.reason in _TOLD_OF_ALL_NODES:
        notices.append(Notice(facts.key, EventType.WARNING, ready.reason, ready.message[:1024]))
    if became(ConditionType.SPLIT_BRAIN, "True"):
        message = after[ConditionType.SPLIT_BRAIN].message
        notices.append(Notice(facts.key, EventType.WARNING, "SplitBrainSuspected", message))
    return notices
