"""Whether another node seems to hold a VIP that this node holds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from holdfast_api.messages import RouterStatus
from holdfast_api.reasons import State
from holdfast_speaker.vrrp.counters import Counter

SUSPICION_SECONDS = 10.0
"""The protocol settles two Masters that hear each other within one interval; what lasts longer is no hand-over."""

_SAMPLE_SECONDS = 4.0
"""Looks that come faster than this say nothing about whether a rival keeps advertising: intervals may be longer."""

_RIVALS = (Counter.LOWER_PRIORITY, Counter.OWNER_CONFLICTS)
"""What a Master counts when another one advertises and it does not yield."""


class SplitBrainWatch:
    """Two signs, each enough when it lasts: another node says so in the status, or its advertisements keep coming.

    The first is seen where the nodes do not hear each other and both reach the API server, the second where they hear
    each other (or a stranger uses the same VRID) and neither yields.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._rivals_heard: dict[str, int] = {}
        self._sampled_at = float("-inf")

    def look(self, routers: Iterable[RouterStatus], masters_elsewhere: Collection[str]) -> None:
        """Take in a status of the engine; `masters_elsewhere` is what the API server's status says."""
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
            if router.state is State.MASTER and (keeps_coming or name in masters_elsewhere):
                since[name] = self._since.get(name, now)
        self._since, self._rivals_heard = since, heard

    def suspected(self, name: str) -> bool:
        """Whether it has lasted long enough."""
        began = self._since.get(name)
        return began is not None and self._clock() - began >= SUSPICION_SECONDS
