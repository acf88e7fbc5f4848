"""How a node leaves an election: drained, then without its configuration, and known to the others until then. Pure.

One plan that took a node's configuration and its addresses at once would have the others refuse a holder that still
advertises: two holders. What the plan has to remember stands in the objects themselves: what a node was told (its
SpeakerConfig), what its agent says of it (its entry of status.nodes), and since when it is not heard (presence.py).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast_api.cluster import NodeStatus
from holdfast_api.reasons import State
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.cluster.presence import Presence


class Stage(enum.Enum):
    """How far a node has got on its way out. In both the others still know its addresses."""

    DRAINED = enum.auto()
    """It keeps its configuration, and hands over to whoever is healthy, as a cordoned node does."""
    DISMISSED = enum.auto()
    """Its configuration is gone; its agent has not said yet that its engine knows."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A node on its way out."""

    name: str
    stage: Stage
    router: VirtualRouterConfiguration | None
    """What it was told last."""


def leaving(
    name: str,
    router: VirtualRouterConfiguration | None,
    entries: Sequence[NodeStatus],
    presence: Presence,
    *,
    can_hand_over: bool = True,
) -> Leaving | None:
    """Where a node is that takes part no longer; None: nothing of it is left.

    `router` is what it was told last, `can_hand_over` whether that is still the same virtual router as the others'.
    """
    entry = next((entry for entry in entries if entry.node_name == name), None)
    if router is None:
        if entry is None or presence.has_answered(name) or presence.is_lost(name):
            return None
        return Leaving(name, Stage.DISMISSED, None)
    if not can_hand_over or _is_past(name, entries, presence):
        return Leaving(name, Stage.DISMISSED, router)
    if entry is not None and entry.state is State.MASTER:
        return Leaving(name, Stage.DRAINED, router)
    # What it said of itself may be a moment old: it is drained before it is trusted to hold nothing.
    is_drained = router.draining and presence.has_answered(name)
    stage = Stage.DRAINED if presence.is_heard(name) and not is_drained else Stage.DISMISSED
    return Leaving(name, stage, router)


def _is_past(name: str, entries: Sequence[NodeStatus], presence: Presence) -> bool:
    """Whether a node that is not heard can hold nothing any more.

    Where only its agent is away, its engine goes on: then it holds the VIP indeed as long as the others, who are heard,
    say that they follow somebody, and nobody of them is it.
    """
    if not presence.is_lost(name):
        return False
    others = [entry.state for entry in entries if entry.node_name != name and presence.is_heard(entry.node_name)]
    follows_somebody = State.BACKUP in others and State.MASTER not in others
    return not (presence.is_ready(name) and follows_somebody)
