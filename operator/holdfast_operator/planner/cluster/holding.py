"""Who holds a VirtualIP, by what the nodes say of themselves. Pure; docs/adr/0029 says why it goes by no node's clock.

A node that says Master makes a claim, known by the node and the time at which it says that it became Master: that time
is a name here, and is compared with nothing. What the operator has taken note of stands in status.transitions, in the
order in which the API server took it, so a claim that stands there before another one is the older. One that does not
stand there is news, unless the history is full and others have written well after it. Among several that are news the
order is that of the API server's writes (metadata.managedFields), and within one second of them that of VRRP's own
words: who says that he took over from whom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from msgspec import structs

from holdfast_api.cluster import TRANSITIONS_MAX, MoveRecord, NodeStatus, VirtualIPStatus
from holdfast_api.reasons import Reason, State

NOT_HEARD_AFTER_SECONDS = 60
"""A node that died says for ever what it said last.

The control plane calls it NotReady after 50 s at most (node-monitor-grace-period; 40 s before Kubernetes 1.32), and
what a node that is not heard has said is not believed any more. After this time one that still counts as heard lives.
"""

_WELL_BEFORE = timedelta(seconds=10)
"""managedFields have whole seconds, and the API servers of a cluster are not one clock."""

_YIELDED = frozenset(
    {
        Reason.HIGHER_PRIORITY,
        Reason.HEALTHIER_MASTER,
        Reason.HIGHER_ADDRESS,
        Reason.SWITCHOVER,
        Reason.SUPERSEDED_WHILE_STALLED,
        Reason.SUPERSEDED_WHILE_CUT_OFF,
    }
)
"""Why a Master became a Backup: it heard another Master."""


@dataclass(frozen=True, slots=True)
class Hearsay:
    """What tells how much the words of a node are worth."""

    heard: AbstractSet[str]
    """The nodes that speak: what they have said is true now."""
    written: Mapping[str, datetime] = field(default_factory=dict)
    """By node: when the API server took what its agent last wrote of this VirtualIP, by the API server's clock."""
    by_address: Mapping[str, str] = field(default_factory=dict)
    """The node that has the address."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Who holds it."""

    holders: Sequence[NodeStatus]
    """The first one is the holder. More than one: all of them are heard and have held on for long."""
    news: Sequence[NodeStatus]
    """Who became Master since the last look, in that order."""


def find_holding(entries: Sequence[NodeStatus], old: VirtualIPStatus, hearsay: Hearsay, now: str) -> Holding:
    """Who of those that say Master holds it.

    The newest one. An older one holds it where the newest is gone and it is heard: when the newest says itself that it
    follows the older one, or when so much time has passed that the older one cannot be dead any more.
    """
    claims = [entry for entry in entries if entry.state is State.MASTER]
    places = {entry.node_name: place for entry in claims if (place := _place(entry, old)) is not None}
    recorded = sorted(
        (entry for entry in claims if entry.node_name in places), key=lambda entry: places[entry.node_name]
    )
    unknown = [entry for entry in claims if entry.node_name not in places]
    past = [entry for entry in unknown if _is_forgotten(entry, old, hearsay)]
    news = _in_order([entry for entry in unknown if entry not in past], hearsay)
    if news:
        return Holding(holders=news[-1:], news=news)
    last = old.transitions[-1].to_node if old.transitions else ""
    newest = [entry for entry in recorded if entry.node_name == last]
    older = [
        entry
        for entry in [*past, *recorded]
        if entry not in newest and entry.node_name in hearsay.heard and _counts_again(entry, entries, old, hearsay, now)
    ]
    if older and newest and last not in hearsay.heard:
        newest = []
    return Holding(holders=[*newest, *older[::-1]], news=())


def recorded_moves(old: VirtualIPStatus, holding: Holding, now: str) -> list[MoveRecord]:
    """The history with what is new, not cut off yet. A time without a holder is part of the move that ends it."""
    history = list(old.transitions)
    steps = [*holding.news, *holding.holders[:1]]
    for step in steps:
        last = history[-1] if history else None
        if last is not None and last.to_node == step.node_name:
            if step.since and step.since != _name_of(last):
                history[-1] = structs.replace(last, since=step.since)
            continue
        before = last.to_node if last else old.holder
        if before == step.node_name:
            continue
        history.append(
            MoveRecord(
                from_node=before,
                to_node=step.node_name,
                reason=step.reason,
                message=step.message,
                time=step.since or now,
                outage_milliseconds=step.silent_milliseconds if before else 0,
                recorded=now,
            )
        )
    return history


def seconds_since(time: str, now: str) -> float:
    """0 where one of them is no time."""
    try:
        return (parsed_time(now) - parsed_time(time)).total_seconds()
    except ValueError:
        return 0.0


def parsed_time(text: str) -> datetime:
    """Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _name_of(move: MoveRecord) -> str:
    """What the claim that made the move calls its beginning."""
    return move.since or move.time


def _place(entry: NodeStatus, old: VirtualIPStatus) -> int | None:
    """Where in the history the claim stands; None: it is not there. Of an unreadable time: the last of that node."""
    for index in reversed(range(len(old.transitions))):
        move = old.transitions[index]
        if move.to_node == entry.node_name and entry.since in ("", _name_of(move), move.time):
            return index
    return None


def _is_forgotten(entry: NodeStatus, old: VirtualIPStatus, hearsay: Hearsay) -> bool:
    """Whether it is a claim that has fallen out of the history: that is bounded, and others wrote well after it."""
    own = hearsay.written.get(entry.node_name)
    if len(old.transitions) < TRANSITIONS_MAX or own is None:
        return False
    return max(hearsay.written.values()) - own > _WELL_BEFORE


def _in_order(claims: Sequence[NodeStatus], hearsay: Hearsay) -> list[NodeStatus]:
    """The oldest first."""
    written = {
        entry.node_name: hearsay.written.get(entry.node_name, datetime.min.replace(tzinfo=UTC)) for entry in claims
    }

    def successions(entry: NodeStatus) -> int:
        """How many of the others it took over from, less those that took over from it."""
        others = [other for other in claims if written[other.node_name] == written[entry.node_name]]
        took = sum(_names(entry, other, hearsay) for other in others)
        return took - sum(_names(other, entry, hearsay) for other in others)

    return sorted(
        claims,
        key=lambda entry: (
            written[entry.node_name],
            successions(entry),
            entry.node_name in hearsay.heard,
            entry.since,
            entry.node_name,
        ),
    )


def _names(entry: NodeStatus, other: NodeStatus, hearsay: Hearsay) -> bool:
    """Whether the entry's last transition was about the other node."""
    return entry.node_name != other.node_name and hearsay.by_address.get(entry.peer) == other.node_name


def _counts_again(
    entry: NodeStatus, entries: Sequence[NodeStatus], old: VirtualIPStatus, hearsay: Hearsay, now: str
) -> bool:
    """Whether one that was superseded holds it all the same."""
    last = old.transitions[-1]
    successor = next((other for other in entries if other.node_name == last.to_node), None)
    if successor is not None and successor.state is State.BACKUP and successor.reason in _YIELDED:
        # An agent of an earlier version does not say whom it follows.
        return successor.peer not in hearsay.by_address or _names(successor, entry, hearsay)
    return seconds_since(last.recorded or last.time, now) > NOT_HEARD_AFTER_SECONDS
