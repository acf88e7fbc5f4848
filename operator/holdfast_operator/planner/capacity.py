"""What one node's SpeakerConfig has room for. Pure.

What runs comes first, then the older; a VirtualIP that runs is kept off a node that is full, and a new one is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from holdfast_api.cluster import VIRTUAL_ROUTERS_MAX, ConditionReason
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.claims import Accepted, Refusal, Verdict

_TOLD_MAX = 4


def within_capacity(
    verdicts: Mapping[str, Verdict],
    running: Mapping[str, Mapping[str, VirtualRouterConfiguration]],
    created: Mapping[str, str],
) -> dict[str, Verdict]:
    """The verdicts, so that no node runs more than fits; `created` is when each VirtualIP was made, by its key."""
    there = Counter(node for routers in running.values() for node in routers)
    found = dict(verdicts)
    waiting = [
        (not running.get(key), created.get(key, ""), key, verdict)
        for key, verdict in verdicts.items()
        if isinstance(verdict, Accepted)
    ]
    for is_new, _, key, verdict in sorted(waiting, key=lambda one: one[:3]):
        new_to = [one for one in verdict.membership.members if one.node.name not in running.get(key, {})]
        full = {one.node.name for one in new_to if there[one.node.name] >= VIRTUAL_ROUTERS_MAX}
        if full and is_new:
            found[key] = _refusal(sorted(full))
            continue
        there.update(one.node.name for one in new_to if one.node.name not in full)
        if full:
            members = tuple(one for one in verdict.membership.members if one.node.name not in full)
            membership = replace(verdict.membership, members=members, full=tuple(sorted(full)))
            found[key] = replace(verdict, membership=membership)
    return found


def some_of(names: Sequence[str]) -> str:
    """The first of them, for people."""
    return ", ".join(names[:_TOLD_MAX]) + (f" and {len(names) - _TOLD_MAX} more" if len(names) > _TOLD_MAX else "")


def _refusal(full: Sequence[str]) -> Refusal:
    return Refusal(
        ConditionReason.NODE_FULL,
        f"spec.nodes: must leave out {some_of(full)}: {VIRTUAL_ROUTERS_MAX} VirtualIPs run there, as many as fit",
    )
