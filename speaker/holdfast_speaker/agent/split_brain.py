"""Whether another node seems to hold a VIP that this node holds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from holdfast_api.messages import RouterStatus
from holdfast_api.reasons import State
from holdfast_speaker.vrrp.counters import Counter

SUSPICION_SECONDS = 10.0
"""The protocol settles two Masters that hear each other within one interval; what lasts longer is no hand-over."""

_SAMPLE_SECONDS = 4.0
"""Looks that come faster than this say nothing about whether a rival keeps advertising: intervals may be longer."""

_RIVALS = (Counter.LOWER_PRIORITY, Counter.OWNER_CONFLICTS)
"""What a Master counts when another one advertises and it does not yield."""


Claim = tuple[str, str]
"""A node that says it is Master, and what it calls the beginning of that: compared with nothing but itself."""


@dataclass(frozen=True, slots=True)
class Rivals:
    """The other nodes that say they hold a VIP, by the API server."""

    claims: frozenset[Claim]
    is_told_otherwise: bool = False
    """Whether the operator says that another node than this one holds it."""


class SplitBrainWatch:
    """Two signs, each enough when it lasts: another node says so in the status, or its advertisements keep coming.

    The first is seen where the nodes do not hear each other and both reach the API server, the second where they hear
    each other (or a stranger uses the same VRID) and neither yields. What a node had said before this one became Master
    says nothing: it may have died, or its agent may be away. In a true split it is the other one that wonders.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._rivals_heard: dict[str, int] = {}
        self._sampled_at = float("-inf")
        self._former: dict[str, frozenset[Claim]] = {}
        """What others had said already before this node became Master."""

    def look(self, routers: Sequence[RouterStatus], rivals: Mapping[str, Rivals]) -> None:
        """Take in a status of the engine; `rivals` is what the API server's status says."""
        self._former = {router.virtual_ip: self._known_before(router, rivals) for router in routers}
        now = self._clock()
        if now - self._sampled_at < _SAMPLE_SECONDS:
            return
        self._sampled_at = now
        since: dict[str, float] = {}
        heard: dict[str, int] = {}
        for router in routers:
            name = router.virtual_ip
            heard[name] = sum(router.counters.get(counter, 0) for counter in _RIVALS)
            keeps_coming = heard[name] > self._rivals_heard.get(name, heard[name])
            is_claimed = name in rivals and bool(rivals[name].claims - self._former[name])
            if router.state is State.MASTER and (keeps_coming or is_claimed):
                since[name] = self._since.get(name, now)
        self._since, self._rivals_heard = since, heard

    def suspected(self, name: str) -> bool:
        """Whether it has lasted long enough."""
        began = self._since.get(name)
        return began is not None and self._clock() - began >= SUSPICION_SECONDS

    def _known_before(self, router: RouterStatus, rivals: Mapping[str, Rivals]) -> frozenset[Claim]:
        name = router.virtual_ip
        there = rivals.get(name, Rivals(frozenset()))
        if router.state is not State.MASTER:
            return there.claims
        if name not in self._former:  # this agent has just begun, and asks the operator's word
            return frozenset() if there.is_told_otherwise else there.claims
        return self._former[name]
