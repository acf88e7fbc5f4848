"""LIST, then WATCH for ever: a store that equals what the API server has, up to the time that news take.

Any error inside a watch, 410 among them, leads to another LIST, whose difference finds what was deleted meanwhile.

An etcd that was restored from a backup has lower resource versions than what was seen before. A watch that goes on from
the former ones hears nothing at all, until the new ones have come so far. So after a watch that broke, stayed silent or
ended before its time, the API server is asked where it is before the next one; and a list is always believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from holdfast_api.naming import kubernetes_name
from holdfast_kube.api_server import GONE, NOT_FOUND, APIFailure, APIServer
from holdfast_kube.back_off import BackOff
from holdfast_kube.objects import Metadata, goes_back

_WATCH_SECONDS = (240, 300)
"""How long the API server is asked to keep a watch: not the same for every agent."""

FIRST_PAUSE_SECONDS: Final = 0.2
LAST_PAUSE_SECONDS: Final = 15.0

_LOSES_THE_PLACE = frozenset({400, NOT_FOUND, GONE, 504})
"""HTTP statuses after which only a list helps: the resource version is too old, or one that the server never had."""

_log = logging.getLogger(__name__)


class KubernetesObject(Protocol):
    """Anything with metadata."""

    @property
    def metadata(self) -> Metadata:
        """metav1.ObjectMeta."""


Observed = TypeVar("Observed", bound=KubernetesObject)
Taken = TypeVar("Taken", contravariant=True)

Key = tuple[str, str]
"""Namespace and name."""


class Store(Protocol[Taken]):
    """Who keeps what a reflector sees."""

    def replace(self, objects: Mapping[Key, Taken]) -> None:
        """This is all there is."""

    def put(self, key: Key, item: Taken) -> None:
        """This one is there, new or changed."""

    def remove(self, key: Key) -> None:
        """This one is gone."""


class Listener(Protocol):
    """Who is told whether the API server speaks."""

    def heard(self, resource: str) -> None:
        """It answered, or sent an event or a bookmark."""

    def failed(self, resource: str, failure: APIFailure) -> None:
        """A list or a watch failed."""


class _ListMetadata(msgspec.Struct, rename=kubernetes_name):
    resource_version: str = ""


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Problem(msgspec.Struct):
    """metav1.Status in an ERROR event."""

    message: str = ""
    code: int = 0


class Reflector(Generic[Observed]):
    """Keeps one store up to date, for ever."""

    def __init__(
        self,
        api: APIServer,
        path: str,
        kind: type[Observed],
        store: Store[Observed],
        listener: Listener,
        *,
        resource: str,
        query: Mapping[str, str] | None = None,
        unknown: Callable[[], None] = lambda: None,
        longest_pause_seconds: float = LAST_PAUSE_SECONDS,
    ) -> None:
        """`unknown` is called when the API server does not know the resource (any more)."""
        self._api = api
        self._path = path
        self._query = dict(query or {})
        self._decoder: msgspec.json.Decoder[Observed] = msgspec.json.Decoder(kind)
        self._store = store
        self._listener = listener
        self._resource = resource
        self._unknown = unknown
        self._longest_pause_seconds = longest_pause_seconds
        self._version = ""
        """Where the next watch begins; empty: with a list."""
        self._is_doubtful = False
        """Whether the API server may not be where it was."""

    async def run(self) -> None:
        """Never returns."""
        back_off = BackOff(FIRST_PAUSE_SECONDS, self._longest_pause_seconds)
        while True:
            is_place_new, at_least = not self._version, 0.0
            try:
                if not is_place_new and self._is_doubtful and not await self._is_place_known():
                    self._version = ""
                    is_place_new = True
                if is_place_new:
                    await self._list()
                self._is_doubtful = False
                has_failed = not await self._watch()
            except APIFailure as failure:
                at_least = failure.retry_after_seconds
                if failure.status != GONE:  # which only says that the next thing is a list
                    self._listener.failed(self._resource, failure)
                if failure.status in _LOSES_THE_PLACE:
                    self._version = ""
                self._is_doubtful = self._is_doubtful or not failure.status
                # An API server that is back often does not know the place of a watch; it answers, so ask at once.
                has_failed = failure.status != GONE or is_place_new
            if has_failed:
                await asyncio.sleep(back_off.failed(at_least))
            else:
                back_off.succeeded()
                await asyncio.sleep(back_off.pause())

    async def _list(self) -> None:
        try:
            body = await self._api.list_raw(self._path, self._query)
        except APIFailure as failure:
            if failure.status == NOT_FOUND:
                self._unknown()
                raise APIFailure("its CustomResourceDefinition is not there", NOT_FOUND) from failure
            raise
        try:
            found = msgspec.json.decode(body, type=_List)
            items = [self._decoder.decode(item) for item in found.items or ()]
        except msgspec.DecodeError as error:
            raise APIFailure(f"the list of {self._resource} cannot be read: {error}") from error
        self._listener.heard(self._resource)
        self._store.replace({_key(item.metadata): item for item in items})
        self._version = found.metadata.resource_version

    async def _is_place_known(self) -> bool:
        """Whether the API server has come as far as the last watch; one object of the collection tells. Raises
        APIFailure."""
        body = await self._api.list_raw(self._path, {"limit": "1"})
        try:
            now = msgspec.json.decode(body, type=_List).metadata.resource_version
        except msgspec.DecodeError as error:
            raise APIFailure(f"the list of {self._resource} cannot be read: {error}") from error
        if goes_back(self._version, now):
            _log.warning("the API server has gone back to an earlier state, perhaps that of a backup: listing anew")
            return False
        return True

    async def _watch(self) -> bool:
        """Until the API server ends it. Returns whether it said anything; raises APIFailure."""
        seconds = random.randint(*_WATCH_SECONDS)  # noqa: S311  # no secret: spreads load
        clock = asyncio.get_running_loop().time
        began = clock()
        query = {
            **self._query,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        told = False
        async with contextlib.aclosing(self._api.watch(self._path, query)) as lines:
            async for line in lines:
                self._listener.heard(self._resource)
                if line:
                    self._take_in(line)
                    told = True
        # One that ends before its time was ended by an API server that stops, and may start as another one.
        self._is_doubtful = clock() - began < seconds - 1
        return told

    def _take_in(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=_Event)
            if event.type == "ERROR":
                self._version = ""
                problem = msgspec.json.decode(event.object, type=_Problem)
                raise APIFailure(f"the watch ended: {problem.message}", problem.code or GONE)
            item: Any = self._decoder.decode(event.object)
        except msgspec.DecodeError as error:
            self._version = ""
            raise APIFailure(f"an event of {self._resource} cannot be read: {error}") from error
        version = item.metadata.resource_version
        if goes_back(self._version, version):
            self._version = ""
            raise APIFailure(f"the watch of {self._resource} goes back", GONE)
        key = _key(item.metadata)
        match event.type:
            case "ADDED" | "MODIFIED":
                self._store.put(key, item)
            case "DELETED":
                self._store.remove(key)
            case _:  # BOOKMARK: nothing but a place to go on from
                pass
        self._version = version or self._version


def _key(metadata: Metadata) -> Key:
    return metadata.namespace, metadata.name
