"""What one node's SpeakerConfig has room for. Pure.

What runs comes first, then the older; a VirtualIP that runs is kept off a node that is full, and a new one is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from holdfast_api.cluster import VIRTUAL_ROUTERS_MAX, ConditionReason
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.cluster.claims import Accepted, Refusal, Verdict
from holdfast_operator.planner.cluster.routers import tracks_services

BYTES_MAX: Final = 1_400_000
"""Of all virtual routers in one SpeakerConfig, as they are stored: etcd takes 1.5 MiB (--max-request-bytes)."""

_BYTES_EACH = 1_100
"""Of one virtual router without its lists: its fields with their defaults, and managedFields."""

_BYTES_SHARING = 40
"""Of one VirtualIP in a shared virtual router, without its name and addresses."""

_BYTES_AROUND = 4
"""Of an address in a list: quotes, comma and a blank."""

_TOLD_MAX = 4


def within_capacity(
    verdicts: Mapping[str, Verdict],
    running: Mapping[str, Mapping[str, VirtualRouterConfiguration]],
    created: Mapping[str, str],
) -> dict[str, Verdict]:
    """The verdicts, so that no node runs more than fits; `created` is when each VirtualIP was made, by its key."""
    number: Counter[str] = Counter()
    size: Counter[str] = Counter()
    tracked: Counter[str] = Counter()
    counted: set[tuple[str, str]] = set()
    """By node: shared virtual routers that are counted already."""
    shared = {key: verdict.router for key, verdict in verdicts.items() if isinstance(verdict, Accepted)}
    for key in verdicts:
        for node, router in running.get(key, {}).items():
            tracked[node] += router.tracks_services
            if shared.get(key) and (node, shared[key]) in counted:
                size[node] += _bytes_beside(key, router.addresses)
                continue
            counted.add((node, shared.get(key, "")))
            number[node] += 1
            size[node] += _bytes_in_force(router)
    found = dict(verdicts)
    waiting = [
        (not running.get(key), created.get(key, ""), key, verdict)
        for key, verdict in verdicts.items()
        if isinstance(verdict, Accepted)
    ]
    for is_new, _, key, verdict in sorted(waiting, key=lambda one: one[:3]):
        new_to = [one.node.name for one in verdict.membership.members if one.node.name not in running.get(key, {})]
        watched_by = {name for name in new_to if tracks_services(verdict.virtual_ip, name)}
        all_watched = {name for name in watched_by if tracked[name] >= VIRTUAL_ROUTERS_MAX}
        if verdict.router:
            beside = _bytes_beside(key, verdict.virtual_ip.spec.addresses)
            if watched_by:
                beside += _bytes_tracking(verdict)
            more_of = {
                name: beside if (name, verdict.router) in counted else beside + _bytes(verdict) for name in new_to
            }
            full = all_watched | {
                name
                for name in new_to
                if size[name] + more_of[name] > BYTES_MAX
                or ((name, verdict.router) not in counted and number[name] >= VIRTUAL_ROUTERS_MAX)
            }
            if full and is_new:
                found[key] = _refusal(sorted(full))
                continue
            for name in new_to:
                number[name] += (name, verdict.router) not in counted
                size[name] += more_of[name]
                tracked[name] += name in watched_by
                counted.add((name, verdict.router))
            continue
        more = _bytes(verdict)
        full = all_watched | {
            name for name in new_to if number[name] >= VIRTUAL_ROUTERS_MAX or size[name] + more > BYTES_MAX
        }
        if full and is_new:
            found[key] = _refusal(sorted(full))
            continue
        for name in new_to:
            if name not in full:
                number[name] += 1
                size[name] += more
                tracked[name] += name in watched_by
        if full:
            members = tuple(one for one in verdict.membership.members if one.node.name not in full)
            membership = replace(verdict.membership, members=members, full=tuple(sorted(full)))
            found[key] = replace(verdict, membership=membership)
    return found


def _bytes_in_force(router: VirtualRouterConfiguration) -> int:
    return _BYTES_EACH + _listed(router.members) + _listed(router.unicast_peers) + _listed(router.addresses)


def _bytes_beside(key: str, addresses: Sequence[str]) -> int:
    """Of one more VirtualIP in a shared virtual router: its name and its addresses."""
    return _BYTES_SHARING + len(key) + _listed(addresses)


def _bytes(verdict: Accepted) -> int:
    addresses = _listed(verdict.membership.addresses) + _listed(verdict.virtual_ip.spec.addresses)
    return _BYTES_EACH + addresses + _bytes_tracking(verdict)


def _bytes_tracking(verdict: Accepted) -> int:
    return len(msgspec.json.encode(verdict.virtual_ip.spec.track))


def _listed(addresses: Sequence[str]) -> int:
    return sum(map(len, addresses)) + _BYTES_AROUND * len(addresses)


def some_of(names: Sequence[str]) -> str:
    """The first of them, for people."""
    return ", ".join(names[:_TOLD_MAX]) + (f" and {len(names) - _TOLD_MAX} more" if len(names) > _TOLD_MAX else "")


def _refusal(full: Sequence[str]) -> Refusal:
    return Refusal(
        ConditionReason.NODE_FULL,
        f"spec.nodes: must leave out {some_of(full)}: as many VirtualIPs run there as a SpeakerConfig has room for",
    )
