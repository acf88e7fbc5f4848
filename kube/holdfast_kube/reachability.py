"""What is known of the API server itself: since when it has not answered, and what people are told about that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from holdfast_kube.api_server import APIFailure

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the API server was away. Unix times in seconds."""

    began: float
    ended: float


class Reachability:
    """Collects the words of several watches.

    Logs once when the API server goes away and once when it is back, and for each resource what it refuses.
    """

    def __init__(self, wall: Callable[[], float], returned: Callable[[], None]) -> None:
        self._wall = wall
        self._returned = returned
        self._heard: dict[str, float] = {}
        self._away: set[str] = set()
        self._refused: dict[str, str] = {}
        self._began: float | None = None
        self.last_outage: Outage | None = None

    @property
    def is_reachable(self) -> bool:
        """Whether it answers every watch, be it with a refusal."""
        return not self._away

    def is_heard(self, resource: str) -> bool:
        """Whether this resource's watch is up."""
        return resource in self._heard and resource not in self._away and resource not in self._refused

    def has_answered(self, resource: str) -> bool:
        """Whether the API server tells of this resource, or has said that it does not."""
        return resource in (self._heard.keys() | self._refused.keys()) - self._away

    def staleness_seconds(self) -> dict[str, float]:
        """For each resource that was heard of: how long ago the API server last said something."""
        now = self._wall()
        return {resource: max(0.0, now - at) for resource, at in self._heard.items()}

    def heard(self, resource: str) -> None:
        """The API server answered, or sent an event or a bookmark."""
        self._heard[resource] = self._wall()
        if self._refused.pop(resource, None) is not None:
            _log.info("the API server tells of %s again", resource)
        self._answered(resource)

    def failed(self, resource: str, failure: APIFailure) -> None:
        """A list or a watch failed."""
        if failure.is_refusal:
            self._answered(resource)
            if self._refused.get(resource) != str(failure):
                _log.warning("the API server does not tell of %s; going on with what is known: %s", resource, failure)
            self._refused[resource] = str(failure)
            return
        if self._began is None:
            self._began = self._wall()
            _log.warning("%s; going on with what is known, as long as it takes", failure)
        self._away.add(resource)

    def _answered(self, resource: str) -> None:
        if resource not in self._away:
            return
        self._away.discard(resource)
        if self._away or self._began is None:
            return
        self.last_outage, self._began = Outage(self._began, self._wall()), None
        _log.info("the API server answers again after %.1f s", self.last_outage.ended - self.last_outage.began)
        self._returned()
