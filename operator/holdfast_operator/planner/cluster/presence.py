"""Which nodes are heard, for how long the plan has waited for one that is not, and which stand aside. Pure.

The operator may be restarted in between, so what it has to remember stands in annotations of the node's SpeakerConfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from holdfast_api.cluster import (
    AWAITED_SINCE_ANNOTATION,
    NOT_HEARD_SINCE_ANNOTATION,
    STANDS_ASIDE_ANNOTATION,
    SpeakerConfigStatus,
)
from holdfast_operator.planner.cluster.selection import stands_aside
from holdfast_operator.planner.cluster.view import ClusterView

_FREE, _ASIDE, _KEPT = "false", "true", "kept"

PATIENCE_SECONDS: Final = 60.0
"""How long a node that leaves may be silent before it is taken for dead: its engine's addresses live for seconds, and
the control plane calls a node NotReady after 50 s at most (40 s before Kubernetes 1.32)."""


class Presence:
    """What is known of every node's agent, and whom this plan waits for."""

    def __init__(self, view: ClusterView, now: str) -> None:
        self._view = view
        self._now = now
        self._nodes = {node.name: node for node in view.nodes}
        self._not_heard: set[str] = set()
        self._awaited: set[str] = set()

    # ----- what is known -----

    def is_there(self, name: str) -> bool:
        """Whether the node is one of the cluster."""
        return name in self._nodes

    def is_ready(self, name: str) -> bool:
        """Whether the control plane hears of the node."""
        return name in self._nodes and self._nodes[name].is_ready

    def is_heard(self, name: str) -> bool:
        """Whether its agent speaks: its pod is Ready, and the node itself is not known to be cut off.

        The pod of a node that is gone is there until Kubernetes has collected it. Where nobody tells of pods, a node
        that is gone is not heard.
        """
        node, heard = self._nodes.get(name), self._view.heard
        if node is not None and not node.is_ready:
            return False
        return name in heard if heard is not None else node is not None

    def has_a_speaker(self, name: str) -> bool:
        """Whether its pod is known to be Ready. Without such knowledge nothing can be said of a silent node."""
        return self._view.heard is not None and self.is_heard(name)

    def may_have_a_speaker(self, name: str) -> bool:
        """Whether its pod is Ready, or nobody tells of pods."""
        return self._view.heard is None or name in self._view.heard

    def has_spoken(self, name: str) -> bool:
        """Whether its agent has said which links it has."""
        speaker = self._view.speakers.get(name)
        return speaker is not None and bool(speaker.status.links)

    def has_answered(self, name: str) -> bool:
        """Whether its engine runs what it was told last, by the word of its agent."""
        speaker = self._view.speakers.get(name)
        if speaker is None:
            return not self.is_there(name)
        return speaker.status.observed_generation >= speaker.metadata.generation

    def can_share(self, name: str) -> bool:
        """Whether its engine takes virtual routers that several VirtualIPs share, by the word of its agent."""
        speaker = self._view.speakers.get(name)
        return speaker is not None and speaker.status.shares_virtual_routers

    def can_go_on_sharing(self, name: str, *, shares: bool) -> bool:
        """The same; of one that nobody has heard of yet, or that is away: whether it does so already."""
        speaker = self._view.speakers.get(name)
        is_silent = speaker is None or not speaker.status.engine_version
        return (is_silent and shares) or self.can_share(name)

    def is_blank(self, name: str) -> bool:
        """Whether nobody has ever told the node anything, nor heard of it."""
        speaker = self._view.speakers.get(name)
        return speaker is None or (not speaker.spec.virtual_routers and speaker.status == SpeakerConfigStatus())

    # ----- what stands aside -----

    def keeps_what_runs(self, name: str) -> bool:
        """Whether a node that is kept free of load balancers goes on with what it runs: it did so before an upgrade."""
        return name in self._nodes and self._aside(name) == _KEPT

    def _aside(self, name: str) -> str:
        """What is to be remembered of it. A label that comes to a node that took part takes its VIPs away."""
        if not stands_aside(self._nodes[name], self._view.rules):
            return _FREE
        speaker = self._view.speakers.get(name)
        if speaker is None or not speaker.spec.virtual_routers:
            return _ASIDE
        was = speaker.metadata.annotations.get(STANDS_ASIDE_ANNOTATION, _KEPT)
        return _KEPT if was == _KEPT else _ASIDE

    # ----- whom the plan waits for -----

    def is_lost(self, name: str) -> bool:
        """Whether a node that leaves was not heard for so long that nothing of it can be left. Waits for it if not."""
        if self.is_heard(name):
            return False
        self._not_heard.add(name)
        return self._seconds(name, NOT_HEARD_SINCE_ANNOTATION) >= PATIENCE_SECONDS

    def is_worth_waiting_for(self, name: str) -> bool:
        """Whether a node that is heard will say soon what others wait for: nobody is held up for ever by one agent."""
        if not self.is_heard(name):
            return False
        self._awaited.add(name)
        return self._seconds(name, AWAITED_SINCE_ANNOTATION) < PATIENCE_SECONDS

    def _seconds(self, name: str, annotation: str) -> float:
        since = self._since(name, annotation)
        return (_parsed(self._now) - _parsed(since)).total_seconds()

    def _since(self, name: str, annotation: str) -> str:
        """Since when, by what stands there; from now on, where that says nothing that can be read."""
        speaker = self._view.speakers.get(name)
        text = speaker.metadata.annotations.get(annotation, "") if speaker is not None else ""
        try:
            return text if _parsed(text) <= _parsed(self._now) else self._now
        except ValueError:
            return self._now

    # ----- what is to be remembered -----

    def annotations(self) -> Mapping[str, Mapping[str, str]]:
        """By node: whether it stands aside, and since when the plan has waited for it."""
        found: dict[str, dict[str, str]] = {name: {STANDS_ASIDE_ANNOTATION: self._aside(name)} for name in self._nodes}
        for name, waited in self._waited().items():
            found.setdefault(name, {}).update(waited)
        return found

    def _waited(self) -> Mapping[str, Mapping[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for names, annotation in (
            (self._not_heard, NOT_HEARD_SINCE_ANNOTATION),
            (self._awaited, AWAITED_SINCE_ANNOTATION),
        ):
            for name in sorted(names):
                found.setdefault(name, {})[annotation] = self._since(name, annotation)
        return found

    def look_again_seconds(self) -> float | None:
        """When the first of them has been waited for long enough."""
        left = [
            PATIENCE_SECONDS - self._seconds(name, annotation)
            for name, waited in self._waited().items()
            for annotation in waited
        ]
        return min((seconds for seconds in left if seconds > 0), default=None)


def _parsed(text: str) -> datetime:
    """Raises ValueError for what is no time with a zone."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(text)
    return found
