"""Posts Notices as Events (events.k8s.io/v1): one for each, and a series where the same is said again."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from holdfast_api.resources import API_VERSION
from holdfast_kube.api_server import CONFLICT, APIFailure, APIServer, Object
from holdfast_kube.objects import key_of
from holdfast_operator.planner.cluster.view import Notice, ServiceNotice
from holdfast_operator.writer import Writer

NOTE_BYTES_MAX: Final = 1024
SERIES_EVERY_SECONDS: Final = 60.0
"""A series is written at most so often, however often the same is said."""

_FORGOTTEN_AFTER_SECONDS = 3600.0
"""The API server forgets Events after an hour, too (kube-apiserver --event-ttl)."""

_REMEMBERED_MAX = 4096
_NAME_MAX = 253

Key = tuple[str, str, str]
"""The uid of the object that it is about, reason and message."""


@dataclass(slots=True)
class _Series:
    path: str
    count: int
    said_at: float
    written_at: float


class EventRecorder:
    """Lives as long as the process leads."""

    def __init__(self, api: APIServer, writer: Writer, identity: str, clock: Callable[[], float]) -> None:
        self._api = api
        self._writer = writer
        self._identity = identity[:128]
        self._clock = clock
        self._series: OrderedDict[Key, _Series] = OrderedDict()

    async def post(self, notices: Sequence[tuple[Notice | ServiceNotice, Object]]) -> None:
        """Each notice with the object that it is about. An Event that cannot be posted is counted, and lost."""
        outcomes = await asyncio.gather(
            *(self._say(notice, about) for notice, about in notices), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, APIFailure):
                raise outcome

    async def _say(self, notice: Notice | ServiceNotice, about: Object) -> None:
        key = (about["metadata"]["uid"], notice.reason, notice.message)
        now = self._clock()
        series = self._series.get(key)
        if series is None or now - series.said_at >= _FORGOTTEN_AFTER_SECONDS:
            await self._create(key, notice, about, now)
            return
        series.count += 1
        series.said_at = now
        self._series.move_to_end(key)
        if now - series.written_at >= SERIES_EVERY_SECONDS:
            series.written_at = now
            body = {"series": {"count": series.count, "lastObservedTime": _micro_time()}}
            await self._writer.request("events", "patch", key_of(about), lambda: self._api.merge(series.path, body))

    async def _create(self, key: Key, notice: Notice | ServiceNotice, about: Object, now: float) -> None:
        collection = f"/apis/events.k8s.io/v1/namespaces/{about['metadata']['namespace']}/events"
        event = self._event(notice, about)
        self._series[key] = _Series(f"{collection}/{event['metadata']['name']}", 1, now, now)
        if len(self._series) > _REMEMBERED_MAX:
            self._series.popitem(last=False)

        async def create() -> Object:
            try:
                return await self._api.create(collection, event)
            except APIFailure as failure:
                if failure.status != CONFLICT:
                    raise
                return event  # a former leader has said it of the same state of the same object

        await self._writer.request("events", "create", key_of(about), create)

    def _event(self, notice: Notice | ServiceNotice, about: Object) -> Object:
        metadata = about["metadata"]
        said_of = (metadata["uid"], metadata["resourceVersion"], notice.reason, notice.message)
        digest = hashlib.sha256("\0".join(said_of).encode()).hexdigest()[:16]
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "namespace": metadata["namespace"],
                "name": f"{metadata['name'][: _NAME_MAX - len(digest) - 1].rstrip('-.')}.{digest}",
            },
            "eventTime": _micro_time(),
            "reportingController": "holdfast.dev/operator",
            "reportingInstance": self._identity,
            "action": notice.reason,
            "reason": notice.reason,
            "type": notice.type.value,
            "note": notice.message.encode()[:NOTE_BYTES_MAX].decode(errors="ignore"),
            "regarding": {
                **_kind(notice),
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }


def _kind(notice: Notice | ServiceNotice) -> Object:
    if isinstance(notice, ServiceNotice):
        return {"apiVersion": "v1", "kind": "Service"}
    return {"apiVersion": API_VERSION, "kind": "VirtualIP"}


def _micro_time() -> str:
    """metav1.MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
