"""Writes what a plan wants and the API server does not have yet: server-side apply, a few requests at a time."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from holdfast_api.cluster import (
    AWAITED_SINCE_ANNOTATION,
    NOT_HEARD_SINCE_ANNOTATION,
    OPERATOR_FIELD_MANAGER,
    PLANNED_FROM_ANNOTATION,
    POOLS_REQUIRED_ANNOTATION,
    STANDS_ASIDE_ANNOTATION,
    Condition,
    SpeakerConfigSpec,
    VirtualIPStatus,
    agent_field_manager,
)
from holdfast_api.pools import AddressPoolStatus
from holdfast_api.resources import API_VERSION
from holdfast_kube.api_server import CONFLICT, NOT_FOUND, APIFailure, APIServer, Object
from holdfast_kube.back_off import BackOffs
from holdfast_operator.metrics import Metrics
from holdfast_operator.planner.cluster.pools import decode_pool_status
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_operator.reader import SPEAKER_CONFIGS, VIRTUAL_IPS, Cluster
from holdfast_operator.surroundings import POOLS

_OWN_ANNOTATIONS: Final = frozenset(
    {
        PLANNED_FROM_ANNOTATION,
        POOLS_REQUIRED_ANNOTATION,
        NOT_HEARD_SINCE_ANNOTATION,
        AWAITED_SINCE_ANNOTATION,
        STANDS_ASIDE_ANNOTATION,
    }
)

AT_ONCE: Final = 8
"""Requests under way at the same time, however many VirtualIPs moved."""

UNANSWERED_AT_MOST: Final = 3
"""So many in a row that the API server does not answer, or is too busy for: it is left alone until the next pass."""

_MAP_LISTS: Final = {
    "/status/conditions": "type",
    "/spec/virtualRouters": "name",
    "/spec/tracking": "virtualIP",
    "/spec/firstHolds": "virtualRouter",
    "/spec/takeOvers": "virtualRouter",
}
"""Lists that others can own entries of, with the key of these."""
_OF_OTHERS: Final = frozenset({"/status/nodes"})
_DEFAULTS: Final = (("/status/moves", 0),)
"""What the schema puts in the place of what is removed."""

_log = logging.getLogger(__name__)


class NotLeader(Exception):
    """The Lease is lost: another process may write by now."""


@dataclass(frozen=True, slots=True)
class Write:
    """A write that is due, and how."""

    name: str
    """resource/name of the object."""
    call: Callable[[], Awaitable[None]]
    wanted: object = None
    """What is tried at once although something else has failed."""
    part: str = ""
    """Where an object has several writes."""

    @property
    def key(self) -> str:
        """Of what is tried again by itself."""
        return f"{self.name} {self.part}"


@dataclass(slots=True)
class _Turn:
    failures: int = 0
    """In a row, of those that concern every object."""


class Attempts:
    """Writes of one pass after the other: what fails for ever holds up nothing else."""

    def __init__(self, back_offs: BackOffs) -> None:
        self._back_offs = back_offs
        self._failed: set[str] = set()
        self._tried: set[str] = set()

    def begin(self) -> None:
        """A pass begins."""
        self._failed, self._tried = set(), set()

    @property
    def failed(self) -> frozenset[str]:
        """What could not be written in this pass, as resource/name."""
        return frozenset(self._failed)

    def end(self) -> None:
        """The pass is over: what it did not try nobody wants any more."""
        self._back_offs.keep_only(self._tried)

    def next_seconds(self) -> float | None:
        """After how long something that could not be written is tried again; None: everything is written."""
        return self._back_offs.next_seconds()

    async def all(self, writes: Iterator[Write]) -> None:
        """Try those that are due, a few at a time. Raises what is no APIFailure."""
        turn = _Turn()
        slots = asyncio.Semaphore(AT_ONCE)

        async def attempt(write: Write) -> None:
            async with slots:
                await self._attempt(write, turn)

        # Nothing goes on in the background when one of them ends it all.
        outcomes = await asyncio.gather(*map(attempt, writes), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _attempt(self, write: Write, turn: _Turn) -> None:
        self._tried.add(write.key)
        if turn.failures >= UNANSWERED_AT_MOST or not self._back_offs.is_due(write.key, write.wanted):
            self._failed.add(write.name)
            return
        try:
            await write.call()
        except APIFailure as failure:
            turn.failures += not failure.concerns_one_object
            self._failed.add(write.name)
            self._back_offs.failed(write.key, write.wanted, failure.retry_after_seconds)
        else:
            turn.failures = 0
            self._back_offs.succeeded(write.key)


class Writer:
    """Raises NotLeader from every method as soon as `may_write` says no."""

    def __init__(
        self, api: APIServer, may_write: Callable[[], bool], metrics: Metrics, back_offs: BackOffs | None = None
    ) -> None:
        self._api = api
        self._attempts = Attempts(back_offs or BackOffs(0.5, 30.0, time.monotonic))
        self._may_write = may_write
        self._metrics = metrics
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def configure(
        self, plan: ClusterPlan, cluster: Cluster, heard: Collection[str], held: Collection[str] = ()
    ) -> None:
        """The SpeakerConfigs, before `say`: a status is only words.

        `heard` are the nodes whose agents have said what links they have. The others' configurations only give them a
        place to say so, and are not marked as planned. Those of the nodes in `held` stay as they are.
        """
        self._attempts.begin()
        await self._attempts.all(self._speaker_configs(plan, cluster, heard, held))

    async def say(self, plan: ClusterPlan, cluster: Cluster) -> frozenset[str]:
        """The statuses, after `configure`. What of both could not be written, as resource/name; all else is."""
        await self._attempts.all(self._statuses(plan, cluster))
        await self._attempts.all(self._pools(plan, cluster))
        # Last: the API server takes no status that becomes empty.
        await self._attempts.all(self._departures(plan, cluster))
        self._attempts.end()
        return self._attempts.failed

    def next_attempt_seconds(self) -> float | None:
        """After how long something that could not be written is tried again; None: everything is written."""
        return self._attempts.next_seconds()

    async def write_statuses_as_read(
        self, plan: ClusterPlan, cluster: Cluster, keys: Collection[str]
    ) -> frozenset[str]:
        """Those of these VirtualIPs that nobody has written meanwhile; returns which. Raises APIFailure."""
        outcomes = await asyncio.gather(
            *(
                self._apply_status(
                    key,
                    {"status": _status_document(plan.statuses[key])},
                    OPERATOR_FIELD_MANAGER,
                    cluster.virtual_ips[key]["metadata"]["resourceVersion"],
                )
                for key in keys
            )
        )
        return frozenset(key for key, written in zip(keys, outcomes, strict=True) if written is not None)

    async def request(
        self,
        resource: str,
        verb: str,
        what: str,
        call: Callable[[], Awaitable[Object]],
        passed_over: Collection[int] = (NOT_FOUND,),
    ) -> Object | None:
        """One write, counted; the object after it. Raises APIFailure.

        An object that has vanished is none of anybody's concern: with the statuses in `passed_over` it is None.
        """
        async with self._slots:
            if not self._may_write():
                raise NotLeader
            try:
                answer = await call()
            except APIFailure as failure:
                if failure.status in passed_over:
                    _log.debug("%s %s is gone, or another one: %s", resource, what, failure)
                    return None
                self._metrics.write_failures.labels(resource, verb).inc()
                _log.warning("%s %s is not written: %s", resource, what, failure)
                raise
        self._metrics.writes.labels(resource, verb).inc()
        _log.debug("%s %s: %s", resource, what, verb)
        return answer

    def _speaker_configs(
        self, plan: ClusterPlan, cluster: Cluster, heard: Collection[str], held: Collection[str]
    ) -> Iterator[Write]:
        # Who is to hold something first is told first.
        ordered = sorted(
            plan.speakers.items(), key=lambda item: all(one.node_name != item[0] for one in item[1].first_holds)
        )
        for name, spec in ordered:
            there = cluster.speakers.get(name)
            is_planned = name not in held and (name in heard or _origin(there) is not None)
            if name in held and there is not None:
                continue
            if not is_planned and (there is None or not there["spec"].get("virtualRouters")):
                spec = SpeakerConfigSpec(node_name=name)
            marks = dict(plan.annotations.get(name, {}))
            if is_planned:
                marks[PLANNED_FROM_ANNOTATION] = cluster.virtual_ips_uid
            if cluster.pools_ever:
                marks[POOLS_REQUIRED_ANNOTATION] = "true"
            if not _is_in_force(spec, marks, there):
                apply = functools.partial(self._apply_speaker, name, spec, marks)
                yield Write(f"speakerconfigs/{name}", apply, (spec, marks))
        for name, speaker in cluster.speakers.items():
            if name not in plan.speakers:
                delete = functools.partial(self._delete_speaker, name, speaker["metadata"]["uid"])
                yield Write(f"speakerconfigs/{name}", delete)

    async def _apply_speaker(self, name: str, spec: SpeakerConfigSpec, marks: Mapping[str, str]) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": "SpeakerConfig",
            "metadata": {"name": name} | ({"annotations": marks} if marks else {}),
            "spec": msgspec.to_builtins(spec),
        }
        path = f"{SPEAKER_CONFIGS}/{name}"
        applied = await self.request(
            "speakerconfigs", "apply", name, lambda: self._api.apply(path, body, OPERATOR_FIELD_MANAGER)
        )
        operations = _removal_of_strays((applied or {}).get("spec", {}), body["spec"], "/spec")
        await self._patch("speakerconfigs", name, path, operations)

    async def _delete_speaker(self, name: str, uid: str) -> None:
        path = f"{SPEAKER_CONFIGS}/{name}"
        await self.request("speakerconfigs", "delete", name, lambda: self._api.delete(path, uid))

    def _statuses(self, plan: ClusterPlan, cluster: Cluster) -> Iterator[Write]:
        for key, status in plan.statuses.items():
            if key in cluster.virtual_ips and not _is_told(status, cluster.virtual_ips[key].get("status", {})):
                yield Write(f"virtualips/{key}", functools.partial(self._tell, key, _status_document(status)))

    def _pools(self, plan: ClusterPlan, cluster: Cluster) -> Iterator[Write]:
        there = {str(pool["metadata"]["name"]): pool for pool in cluster.surroundings.pools}
        for name, status in plan.pools.items():
            if name in there and decode_pool_status(there[name]) != status:
                yield Write(f"addresspools/{name}", functools.partial(self._tell_pool, name, status))

    async def _tell_pool(self, name: str, status: AddressPoolStatus) -> None:
        # The printer columns have to show a 0, which the encoding leaves out.
        numbers = {"capacity": status.capacity, "assigned": status.assigned, "available": status.available}
        body = {
            "apiVersion": API_VERSION,
            "kind": "AddressPool",
            "metadata": {"name": name},
            "status": msgspec.to_builtins(status) | numbers,
        }
        path = f"{POOLS.path}/{name}/status"
        await self.request(
            "addresspools/status", "apply", name, lambda: self._api.apply(path, body, OPERATOR_FIELD_MANAGER)
        )

    def _departures(self, plan: ClusterPlan, cluster: Cluster) -> Iterator[Write]:
        for key, node_names in plan.departed.items():
            if key in cluster.virtual_ips:
                yield Write(f"virtualips/{key}", functools.partial(self._depart, key, node_names), part="departures")

    async def _tell(self, key: str, status: Object) -> None:
        applied = await self._apply_status(key, {"status": status}, OPERATOR_FIELD_MANAGER)
        # What somebody else owns, too, stays when it is left out.
        await self._patch_status(key, _removal_of_strays(applied or {}, status, "/status"))

    async def _depart(self, key: str, node_names: Sequence[str]) -> None:
        for node_name in node_names:  # one after the other: what comes after an entry that goes moves up
            # Whoever applies nothing owns nothing: his entry goes, and he with it. An empty status would be something:
            # he would be among the field managers for ever.
            applied = await self._apply_status(key, {}, agent_field_manager(node_name))
            await self._patch_status(key, _removal_of_entries(applied or {}, node_name))

    async def _apply_status(self, key: str, fields: Object, field_manager: str, version: str = "") -> Object | None:
        """The status after it; None: it is gone, or another one than `version`, where that resourceVersion is given."""
        namespace, _, name = key.partition("/")
        metadata = {"namespace": namespace, "name": name} | ({"resourceVersion": version} if version else {})
        body = {"apiVersion": API_VERSION, "kind": "VirtualIP", "metadata": metadata, **fields}
        path = f"{virtual_ip_path(key)}/status"
        applied = await self.request(
            "virtualips/status",
            "apply",
            key,
            lambda: self._api.apply(path, body, field_manager),
            (NOT_FOUND, CONFLICT) if version else (NOT_FOUND,),
        )
        return None if applied is None else applied.get("status") or {}

    async def _patch_status(self, key: str, operations: Sequence[Object]) -> None:
        await self._patch("virtualips/status", key, f"{virtual_ip_path(key)}/status", operations)

    async def _patch(self, resource: str, what: str, path: str, operations: Sequence[Object]) -> None:
        """What a patch removes is gone, whoever owns it, and so is that ownership."""
        if operations:
            await self.request(
                resource, "patch", what, lambda: self._api.patch(path, operations, OPERATOR_FIELD_MANAGER)
            )


def _status_document(status: VirtualIPStatus) -> Object:
    body: Object = msgspec.to_builtins(status)
    # The printer column STATE has to show the default too, which the encoding leaves out.
    return body | {"state": status.state.value}


def virtual_ip_path(key: str) -> str:
    """Of the VirtualIP namespace/name."""
    namespace, _, name = key.partition("/")
    prefix, _, plural = VIRTUAL_IPS.rpartition("/")
    return f"{prefix}/namespaces/{namespace}/{plural}/{name}"


def _is_in_force(spec: SpeakerConfigSpec, marks: Mapping[str, str], there: Object | None) -> bool:
    """Whether the API server has it. Compared as models: the API server fills in defaults, which we leave out."""
    if there is None or _marks(there) != marks:
        return False
    try:
        written = msgspec.convert(there["spec"], SpeakerConfigSpec)
    except msgspec.ValidationError:  # another version's
        return False
    return written.in_order() == spec.in_order()


def _origin(speaker: Object | None) -> str | None:
    return _marks(speaker).get(PLANNED_FROM_ANNOTATION) if speaker is not None else None


def _marks(speaker: Object) -> dict[str, str]:
    """The annotations that are the operator's."""
    annotations = speaker["metadata"].get("annotations", {})
    return {name: value for name, value in annotations.items() if name in _OWN_ANNOTATIONS}


def _is_told(status: VirtualIPStatus, there: Object) -> bool:
    own = {name: value for name, value in there.items() if name != "nodes"}
    try:
        told = msgspec.convert(own, VirtualIPStatus)
    except msgspec.ValidationError:  # somebody else's words, or another version's
        return False
    return "state" in own and _sorted_status(told) == _sorted_status(status)


def _removal_of_entries(there: Object, node_name: str) -> list[Object]:
    """JSON Patch: that node's entry, where somebody else owns it, too."""
    return _removal("/status/nodes", there.get("nodes", []), lambda entry: entry["nodeName"] == node_name)


def _removal_of_strays(there: Object, told: Object, path: str) -> list[Object]:
    """JSON Patch: what stands at `path`, of the operator's part of an object, though it is not told."""
    operations = []
    for name, value in there.items():
        inner = f"{path}/{name}"
        if inner in _OF_OTHERS or (inner, value) in _DEFAULTS:
            continue
        if name not in told:
            operations += _removed(inner, value)
        elif inner in _MAP_LISTS:
            entries = {entry[_MAP_LISTS[inner]]: entry for entry in told[name]}
            for index, entry in reversed(list(enumerate(value))):  # what comes after one that is removed moves up
                wanted = entries.get(entry[_MAP_LISTS[inner]])
                if wanted is None:
                    operations += _removed(f"{inner}/{index}", entry)
                else:
                    operations += _removal_of_strays(entry, wanted, f"{inner}/{index}")
        elif isinstance(value, dict):
            operations += _removal_of_strays(value, told[name], inner)
    return operations


def _removal(path: str, items: Sequence[Object], is_removed: Callable[[Object], bool]) -> list[Object]:
    operations = []
    for index, item in reversed(list(enumerate(items))):
        if is_removed(item):
            operations += _removed(f"{path}/{index}", item)
    return operations


def _removed(path: str, value: Any) -> list[Object]:
    return [{"op": "test", "path": path, "value": value}, {"op": "remove", "path": path}]


def _sorted_status(status: VirtualIPStatus) -> VirtualIPStatus:
    def by_type(condition: Condition) -> str:
        return condition.type

    return msgspec.structs.replace(status, nodes=[], conditions=sorted(status.conditions, key=by_type))
