"""From the pods of this node to the health of the services behind a VIP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from holdfast_api.errors import ConfigurationError
from holdfast_api.listing import some_of
from holdfast_api.reasons import Health
from holdfast_api.resources import TrackedPods
from holdfast_kube.reflector import Key
from holdfast_kube.selectors import selects
from holdfast_speaker.agent.objects import Pod

RISE_SECONDS = 1.0
"""How long pods must be well before a node that failed is thought healthy; getting worse counts at once."""

_NAMED = 3


class Verdict(NamedTuple):
    """A health, and why."""

    health: Health
    detail: str = ""


def judge(tracked: TrackedPods, pods: Iterable[Pod]) -> Verdict:
    """Whether enough of these pods, all of the VIP's namespace and node, are selected and ready."""
    try:
        selected = [pod for pod in pods if selects(tracked.selector, pod.metadata.labels or {})]
    except ConfigurationError as error:
        return Verdict(Health.UNKNOWN, f"track.pods.selector: {error}")
    ready = sum(pod.is_ready for pod in selected)
    if ready >= tracked.min_ready:
        return Verdict(Health.HEALTHY)
    told = f"{ready} of at least {tracked.min_ready} tracked pods on this node are ready"
    if not selected:
        return Verdict(Health.FAILING, f"{told}: the selector selects none")
    others = sorted(f"{pod.metadata.name} {pod.state}" for pod in selected if not pod.is_ready)
    return Verdict(Health.FAILING, f"{told}: {some_of(others, _NAMED)}" if others else told)


@dataclass(frozen=True, slots=True)
class Steadied:
    """A verdict that gets worse at once, and better only when that has held for RISE_SECONDS."""

    shown: Verdict
    well_since: float | None = None

    def after(self, seen: Verdict, now: float) -> Steadied:
        """With what is seen now (seconds of any clock that does not jump)."""
        if self.shown.health is not Health.FAILING or seen.health is not Health.HEALTHY:
            return Steadied(seen)
        since = now if self.well_since is None else self.well_since
        return Steadied(seen) if now - since >= RISE_SECONDS else Steadied(self.shown, since)

    @property
    def due(self) -> float | None:
        """When it changes by itself, if the pods stay as they are."""
        return None if self.well_since is None else self.well_since + RISE_SECONDS


class PodStore:
    """The pods of this node, by namespace. `is_known` once the API server has listed them."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._by_namespace: dict[str, dict[str, Pod]] = {}
        self.is_known = False

    def of(self, namespace: str) -> Iterable[Pod]:
        """Those of one namespace."""
        return self._by_namespace.get(namespace, {}).values()

    def replace(self, objects: Mapping[Key, Pod]) -> None:
        """This is all there is."""
        self._by_namespace = {}
        for (namespace, name), pod in objects.items():
            self._by_namespace.setdefault(namespace, {})[name] = pod
        self.is_known = True
        self._changed()

    def put(self, key: Key, item: Pod) -> None:
        """This one is there, new or changed."""
        self._by_namespace.setdefault(key[0], {})[key[1]] = item
        self._changed()

    def remove(self, key: Key) -> None:
        """This one is gone."""
        self._by_namespace.get(key[0], {}).pop(key[1], None)
        self._changed()
