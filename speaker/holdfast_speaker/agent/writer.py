"""Writes what is due in a ledger: server-side apply, coalesced, a few at a time, with back-off."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from holdfast_api.cluster import GROUP, VERSION, agent_field_manager
from holdfast_kube.api_server import NOT_FOUND, APIFailure, APIServer
from holdfast_kube.back_off import BackOff
from holdfast_kube.objects import Metadata
from holdfast_kube.reflector import FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS
from holdfast_speaker.agent.ledger import Fields, Ledger

AT_ONCE = 4
"""Requests under way at the same time, however many entries are due."""

_COALESCE_SECONDS = (0.05, 0.15)
"""Entries that change together are written together, and not by every node in the same millisecond."""

_LULL_SECONDS = 0.02
"""News of a thousand objects at once are not a thousand looks at the ledger."""

_LOOK_EVERY_SECONDS = 1.0

POSTPONED_SECONDS = 15.0
"""An object whose write fails is left alone for so long: a policy, a webhook or a quota may stand in its way alone."""

POSTPONED_AT_MOST = 8
"""So many in one round, and it is not one object's matter any more: all others wait, as when the API server is away."""

_PERMANENT = frozenset({400, 422})
"""HTTP statuses by which the API server says that it will not take this, however often it is sent."""

_log = logging.getLogger(__name__)


class _Answer(msgspec.Struct):
    metadata: Metadata
    status: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """How entries of one ledger are written and read."""

    resource: str
    """The resource's plural name."""
    path: Callable[[str], str]
    """The object's path, from the entry's name."""
    body: Callable[[str, Fields | None], dict[str, Any]]
    """What is applied."""
    read: Callable[[Mapping[str, Any]], Fields | None]
    """The entry in the object's status."""


class Writer:
    """Runs for ever; `wake` when the ledger may have changed."""

    def __init__(self, api: APIServer, node_name: str, ledger: Ledger, form: Form) -> None:
        self._api = api
        self._manager = agent_field_manager(node_name)
        self._ledger = ledger
        self._form = form
        self._wake = asyncio.Event()
        self._back_off_ends = asyncio.Event()
        self._told = ""
        self._postponed = 0
        self._leave_alone_seconds = 0.0
        self.results: Counter[str] = Counter()
        """How many requests ended so: applied, gone, refused, failed."""

    @property
    def resource(self) -> str:
        """The plural name of what it writes."""
        return self._form.resource

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    def hurry(self) -> None:
        """The API server is there again: wait no longer."""
        self._back_off_ends.set()
        self._wake.set()

    async def run(self) -> None:
        """Never returns."""
        back_off = BackOff(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
        while True:
            await self._something_to_do()
            await asyncio.sleep(random.uniform(*_COALESCE_SECONDS))  # noqa: S311  # no secret: spreads load
            if await self.write_all():
                back_off.succeeded()
                continue
            self._wake.set()
            self._back_off_ends.clear()
            await _within(self._back_off_ends, back_off.failed(self._leave_alone_seconds))

    async def write_all(self) -> bool:
        """Write what is due now, the newest truth of each. Returns whether the API server took what it could."""
        names = deque(self._ledger.due())
        self._leave_alone_seconds = 0.0
        self._postponed = 0
        outcomes = await asyncio.gather(*(self._write_some(names) for _ in range(min(AT_ONCE, len(names)))))
        return all(outcomes)

    async def _something_to_do(self) -> None:
        while not self._ledger.due():
            next_due = self._ledger.next_due()
            await _within(self._wake, None if next_due is None else _LOOK_EVERY_SECONDS)
            self._wake.clear()
            await asyncio.sleep(_LULL_SECONDS)

    async def _write_some(self, names: deque[str]) -> bool:
        while names:
            name = names.popleft()
            try:
                await self._write(name)
            except APIFailure as failure:
                self.results["failed"] += 1
                if str(failure) != self._told:
                    self._told = str(failure)
                    _log.warning("the status of %s %s waits to be written: %s", self._form.resource, name, failure)
                self._leave_alone_seconds = max(self._leave_alone_seconds, failure.retry_after_seconds)
                if failure.concerns_one_object:
                    self._postponed += 1
                    self._ledger.postpone(name, POSTPONED_SECONDS)
                    if self._postponed < POSTPONED_AT_MOST:
                        continue
                names.clear()
                return False
        return True

    async def _write(self, name: str) -> None:
        wanted = self._ledger.wanted(name)
        try:
            body = self._form.body(name, wanted)
            applied = msgspec.convert(
                await self._api.apply(f"{self._form.path(name)}/status", body, self._manager), _Answer
            )
        except APIFailure as failure:
            if failure.status == NOT_FOUND:  # deleted a moment ago, which is nobody's fault
                self.results["gone"] += 1
                self._ledger.see_gone(name)
                return
            if failure.status in _PERMANENT:
                self.results["refused"] += 1
                self._ledger.refused(name, wanted)
                _log.error("the API server refused the status of %s %s: %s", self._form.resource, name, failure)
                return
            raise
        except msgspec.ValidationError as error:
            raise APIFailure(f"the answer cannot be read: {error}") from error
        self.results["applied"] += 1
        self._told = ""
        self._ledger.wrote(name, wanted, applied.metadata.resource_version, self._form.read(applied.status))


def _document(kind: str, metadata: dict[str, str], status: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "status": status}


def virtual_ip_form(node_name: str) -> Form:
    """One entry of VirtualIP.status.nodes each; names are namespace/name."""

    def path(name: str) -> str:
        namespace, _, of_its_own = name.partition("/")
        return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/virtualips/{of_its_own}"

    def body(name: str, fields: Fields | None) -> dict[str, Any]:
        namespace, _, of_its_own = name.partition("/")
        metadata = {"namespace": namespace, "name": of_its_own}
        # What a manager applied before and leaves out now is removed. The empty list has to be there: without it a
        # status that had nothing else would become null, which the API server (1.34) refuses.
        return _document("VirtualIP", metadata, {"nodes": [dict(fields)] if fields is not None else []})

    def read(status: Mapping[str, Any]) -> Fields | None:
        return own_entry(status.get("nodes"), node_name)

    return Form("virtualips", path, body, read)


def speaker_config_form() -> Form:
    """The whole status of a SpeakerConfig; names are node names."""
    return Form(
        "speakerconfigs",
        lambda name: f"/apis/{GROUP}/{VERSION}/speakerconfigs/{name}",
        lambda name, fields: _document("SpeakerConfig", {"name": name}, dict(fields or {})),
        lambda status: dict(status) or None,
    )


def own_entry(nodes: Any, node_name: str) -> Fields | None:
    """This node's entry of VirtualIP.status.nodes; None where it has none."""
    entries = nodes if isinstance(nodes, list) else []
    return next((entry for entry in entries if entry.get("nodeName") == node_name), None)


async def _within(event: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
