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
from holdfast_api.listing import some_of
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
    load = _Load()
    for key, verdict in verdicts.items():
        shared = verdict.router if isinstance(verdict, Accepted) else ""
        for node, router in running.get(key, {}).items():
            joins = load.joins(node, shared)
            more = _bytes_beside(key, router.addresses) if joins else _bytes_in_force(router)
            load.add(node, shared, more, is_watched=router.tracks_services)
    found = dict(verdicts)
    waiting = [
        (not running.get(key), created.get(key, ""), key, verdict)
        for key, verdict in verdicts.items()
        if isinstance(verdict, Accepted)
    ]
    for is_new, _, key, verdict in sorted(waiting, key=lambda one: one[:3]):
        new_to = [one.node.name for one in verdict.membership.members if one.node.name not in running.get(key, {})]
        watched_by = {name for name in new_to if tracks_services(verdict.virtual_ip, name)}
        is_watched = bool(watched_by)
        more_of = {
            name: _bytes_more(key, verdict, joins=load.joins(name, verdict.router), is_watched=is_watched)
            for name in new_to
        }
        full = {
            name
            for name, more in more_of.items()
            if not load.takes(name, verdict.router, more, is_watched=name in watched_by)
        }
        if full and is_new:
            found[key] = _refusal(sorted(full))
            continue
        # Those that share a virtual router are on the same nodes, full or not.
        left_out = set() if verdict.router else full
        for name, more in more_of.items():
            if name not in left_out:
                load.add(name, verdict.router, more, is_watched=name in watched_by)
        if left_out:
            members = tuple(one for one in verdict.membership.members if one.node.name not in left_out)
            membership = replace(verdict.membership, members=members, full=tuple(sorted(left_out)))
            found[key] = replace(verdict, membership=membership)
    return found


class _Load:
    """What runs on each node."""

    def __init__(self) -> None:
        self._number: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._watched: Counter[str] = Counter()
        self._shared: set[tuple[str, str]] = set()
        """Nodes, and shared virtual routers that are counted there already."""

    def joins(self, node: str, router: str) -> bool:
        """Whether this shared virtual router runs there already; "" is none."""
        return (node, router) in self._shared

    def takes(self, node: str, router: str, more: int, *, is_watched: bool) -> bool:
        """Whether there is room for one more VirtualIP, of so many bytes."""
        return (
            (self.joins(node, router) or self._number[node] < VIRTUAL_ROUTERS_MAX)
            and self._bytes[node] + more <= BYTES_MAX
            and not (is_watched and self._watched[node] >= VIRTUAL_ROUTERS_MAX)
        )

    def add(self, node: str, router: str, more: int, *, is_watched: bool) -> None:
        """One more VirtualIP."""
        self._number[node] += not self.joins(node, router)
        self._bytes[node] += more
        self._watched[node] += is_watched
        if router:
            self._shared.add((node, router))


def _bytes_in_force(router: VirtualRouterConfiguration) -> int:
    return _BYTES_EACH + _listed(router.members) + _listed(router.unicast_peers) + _listed(router.addresses)


def _bytes_beside(key: str, addresses: Sequence[str]) -> int:
    """Of one more VirtualIP in a shared virtual router: its name and its addresses."""
    return _BYTES_SHARING + len(key) + _listed(addresses)


def _bytes_more(key: str, verdict: Accepted, *, joins: bool, is_watched: bool) -> int:
    """Of a VirtualIP that is new on a node; `joins`: its shared virtual router runs there already."""
    spec = verdict.virtual_ip.spec
    tracking = len(msgspec.json.encode(spec.track))
    router = _BYTES_EACH + _listed(verdict.membership.addresses) + _listed(spec.addresses) + tracking
    if not verdict.router:
        return router
    beside = _bytes_beside(key, spec.addresses) + (tracking if is_watched else 0)
    return beside if joins else beside + router


def _listed(addresses: Sequence[str]) -> int:
    return sum(map(len, addresses)) + _BYTES_AROUND * len(addresses)


def _refusal(full: Sequence[str]) -> Refusal:
    return Refusal(
        ConditionReason.NODE_FULL,
        f"spec.nodes: must leave out {some_of(full, _TOLD_MAX)}: as many VirtualIPs run there as a SpeakerConfig has"
        " room for",
    )
