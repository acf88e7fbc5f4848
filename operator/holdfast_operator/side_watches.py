"""Watches of the surroundings, which may be absent, forbidden, or of one namespace: kopf ends where a watch fails, and
watches either one namespace or all. What it misses is found by the next list; what changes no plan causes none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast_api.pools import REBALANCE_ANNOTATION
from holdfast_kube.api_server import APIFailure, APIServer
from holdfast_kube.objects import Metadata, Part
from holdfast_kube.reflector import Key, Reflector
from holdfast_operator.surroundings import (
    API_SERVER,
    NAMESPACES,
    POOLS,
    SERVICE_CIDRS,
    SERVICES,
    Source,
    is_of_load_balancers,
    own_annotations,
    ready_on,
)

_LONGEST_PAUSE_SECONDS: Final = 60.0
"""What is absent today may be for as long as the cluster lives; a whole list comes as often."""

_log = logging.getLogger(__name__)


class _Watched(Part, frozen=True, kw_only=True):
    """An object, as far as some plan looks at it."""

    metadata: Metadata
    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    status: dict[str, Any] = msgspec.field(default_factory=dict)
    endpoints: list[dict[str, Any]] | None = None


Digest = Callable[[_Watched], object]
"""What a plan looks at; None: nothing."""


def _pool(found: _Watched) -> object:
    # Its status is the operator's own words.
    metadata = found.metadata
    asked = (metadata.annotations or {}).get(REBALANCE_ANNOTATION)
    return metadata.uid, metadata.generation, metadata.deletion_timestamp, asked


def _namespace(found: _Watched) -> object:
    return found.metadata.labels or {}


def _service_cidr(found: _Watched) -> object:
    return found.spec


def _slice(found: _Watched) -> object:
    return [endpoint.get("addresses") for endpoint in found.endpoints or ()]


def _pod(found: _Watched) -> object:
    return ready_on({"spec": found.spec, "status": found.status})


def _service(found: _Watched) -> object:
    # Of its status and its finalizer, what the operator has just written is no news; the next list finds what others
    # have made of them. Only one that is to lose all of it goes on from there.
    metadata, is_over = found.metadata, found.spec.get("type") != "LoadBalancer"
    if not is_of_load_balancers(found.spec, found.status, metadata.finalizers):
        return None
    return (
        metadata.uid,
        metadata.deletion_timestamp,
        metadata.labels,
        own_annotations(metadata.annotations),
        found.spec,
        metadata.finalizers if is_over else None,
    )


class DigestStore:
    """Keeps of each object what a plan looks at, and says when that is another."""

    def __init__(self, digest: Digest, changed: Callable[[], None]) -> None:
        self._digest = digest
        self._changed = changed
        self._digests: dict[Key, object] = {}

    def replace(self, objects: Mapping[Key, _Watched]) -> None:
        """This is all there is."""
        digests = {key: digest for key, found in objects.items() if (digest := self._digest(found)) is not None}
        if digests != self._digests:
            self._digests = digests
            self._changed()

    def put(self, key: Key, item: _Watched) -> None:
        """This one is there, new or changed."""
        digest = self._digest(item)
        if digest is None:
            self.remove(key)
        elif key not in self._digests or self._digests[key] != digest:
            self._digests[key] = digest
            self._changed()

    def remove(self, key: Key) -> None:
        """This one is gone."""
        if key in self._digests:
            del self._digests[key]
            self._changed()


class _Quiet:
    """The reader tells people what cannot be read: they need not hear it of the watches, too."""

    def heard(self, resource: str) -> None:
        """Nothing new."""

    def failed(self, resource: str, failure: APIFailure) -> None:
        """For those who debug."""
        _log.debug("the watch of %s: %s", resource, failure)


class SideWatches:
    """`run` for as long as the process lives."""

    def __init__(
        self, api: APIServer, speakers: Source, seen: Callable[[str], None], *, with_services: bool = True
    ) -> None:
        """`seen` is called with the resource's plural name."""
        self._api = api
        self._seen = seen
        self._watched: Sequence[tuple[Source, Digest]] = (
            (POOLS, _pool),
            (NAMESPACES, _namespace),
            (SERVICE_CIDRS, _service_cidr),
            (API_SERVER, _slice),
            (speakers, _pod),
            *(((SERVICES, _service),) if with_services else ()),
        )

    async def run(self) -> None:
        """Never returns; ends only with an error of the program."""
        async with asyncio.TaskGroup() as group:
            for source, digest in self._watched:
                group.create_task(self._reflector(source, digest).run())

    def _reflector(self, source: Source, digest: Digest) -> Reflector[_Watched]:
        def changed() -> None:
            self._seen(source.resource)

        return Reflector(
            self._api,
            source.path,
            _Watched,
            DigestStore(digest, changed),
            _Quiet(),
            resource=source.resource,
            query=source.query,
            longest_pause_seconds=_LONGEST_PAUSE_SECONDS,
        )
