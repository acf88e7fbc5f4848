"""A Kubernetes API server in memory, as far as Holdfast asks: with the faults that a real one has only in bad hours.

Discovery, list, watch (bookmarks, 410), get, create, replace with resourceVersion conflicts, merge patch, server-side
apply with field managers and map lists, the status subresource, delete with preconditions. Of our own kinds it knows
defaults and limits of what is applied; patterns and rules (CEL) it does not look at.

    async with FakeAPI() as api:
        api.put("nodes", {"metadata": {"name": "n1"}})
        ...a client against api.url...
        assert api.writes() == []
"""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from aiohttp import web

from holdfast_testing.field_ownership import Ownership
from holdfast_testing.schemas import schema_of, violations, with_defaults

Object = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """A kind that the server knows."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    has_status: bool = False
    list_keys: Mapping[tuple[str, ...], str] = field(default_factory=dict, hash=False)
    """Map lists (x-kubernetes-list-type: map): their path and their key."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def prefix(self) -> str:
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    @property
    def definition(self) -> str:
        return f"{self.plural}.{self.group}"


RESOURCES = (
    Resource(
        "holdfast.dev",
        "v1alpha1",
        "virtualips",
        "VirtualIP",
        has_status=True,
        list_keys={
            ("status", "nodes"): "nodeName",
            ("status", "conditions"): "type",
            ("metadata", "ownerReferences"): "uid",
        },
    ),
    Resource(
        "holdfast.dev",
        "v1alpha1",
        "speakerconfigs",
        "SpeakerConfig",
        namespaced=False,
        has_status=True,
        list_keys={("status", "conditions"): "type"},
    ),
    Resource(
        "holdfast.dev",
        "v1alpha1",
        "addresspools",
        "AddressPool",
        namespaced=False,
        has_status=True,
        list_keys={("status", "conditions"): "type"},
    ),
    Resource("", "v1", "namespaces", "Namespace", namespaced=False),  # kopf waits until it is discovered
    Resource("", "v1", "nodes", "Node", namespaced=False, has_status=True),
    Resource("", "v1", "pods", "Pod", has_status=True),
    Resource("", "v1", "services", "Service", has_status=True, list_keys={("status", "conditions"): "type"}),
    Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", namespaced=False, has_status=True),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Resource("coordination.k8s.io", "v1", "leases", "Lease"),
    Resource("events.k8s.io", "v1", "events", "Event"),
    Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False),
)
CUSTOM = tuple(resource for resource in RESOURCES if resource.group == "holdfast.dev")

Name = tuple[str, str]
"""Namespace (empty: none) and name."""


@dataclass
class Fault:
    """What befalls requests: the first matching one that is not used up."""

    method: str
    path: str
    """A part of the path."""
    status: int | None = None
    seconds: float = 0
    """How long the answer takes."""
    drop: bool = False
    """Close the connection without an answer, before anything is done."""
    agent: str = ""
    """A part of the User-Agent."""
    times: int | None = None
    """None: for ever."""
    retry_after: object = None
    """What the header Retry-After says."""
    met: int = 0
    """How many requests it has befallen."""

    def matches(self, request: web.Request) -> bool:
        return (
            self.times != 0
            and self.method in ("*", request.method)
            and self.path in request.path
            and self.agent in request.headers.get("User-Agent", "")
        )


@dataclass(frozen=True)
class Recorded:
    """A request that was answered."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    agent: str
    status: int


@dataclass(frozen=True)
class Backup:
    """What etcd had."""

    version: int
    objects: dict[Resource, dict[Name, Object]]
    owners: dict[str, Ownership]


class Refusal(Exception):
    """An answer with a status of 400 or more."""

    def __init__(self, status: int, message: str, retry_after: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


class FakeAPI:
    """Runs in the event loop it is entered in."""

    def __init__(self, *, bookmark_seconds: float = 1.0) -> None:
        self.url = ""
        self.faults: list[Fault] = []
        self.requests: list[Recorded] = []
        self.token = ""
        """The only token that is taken; empty: anybody is."""
        self._bookmark_seconds = bookmark_seconds
        self._version = 1
        self._compacted = 0
        self._objects: dict[Resource, dict[Name, Object]] = {resource: {} for resource in RESOURCES}
        self._owners: dict[str, Ownership] = {}
        self._log: list[tuple[int, Resource, str, Object]] = []
        self._changed = asyncio.Condition()
        self._streams: set[web.StreamResponse] = set()
        self._transports: set[Any] = set()
        for resource in CUSTOM:
            self.define(resource.plural)

    async def __aenter__(self) -> FakeAPI:
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.drop_watches()
        await self._runner.cleanup()

    # ----- what a test does -----

    def put(self, plural: str, value: Mapping[str, Any]) -> Object:
        """Create or replace an object, behind everybody's back."""
        resource = resource_of(plural)
        new = copy.deepcopy(dict(value))
        metadata = new.setdefault("metadata", {})
        if resource.namespaced:
            metadata.setdefault("namespace", "default")
        name = (metadata.get("namespace", ""), metadata["name"])
        if (old := self._objects[resource].get(name)) is None:
            return copy.deepcopy(self._insert(resource, name, new))
        new["metadata"] = {**old["metadata"], **metadata}
        if resource.has_status and "status" in old:
            new.setdefault("status", old["status"])
        return copy.deepcopy(self._update(resource, name, new))

    def set_status(self, plural: str, key: str, status: Mapping[str, Any], *, manager: str) -> None:
        """Server-side apply of a status, whatever another version's schema had; `key` is namespace/name or name."""
        resource, body = resource_of(plural), {"status": copy.deepcopy(dict(status))}
        self._apply(resource, _name(key), body, manager, "status", is_validated=False)

    def get(self, plural: str, key: str) -> Object | None:
        """An object as it is; None: it is not there."""
        found = self._objects[resource_of(plural)].get(_name(key))
        return copy.deepcopy(found)

    def all(self, plural: str) -> list[Object]:
        """Every object of a kind."""
        return copy.deepcopy(list(self._objects[resource_of(plural)].values()))

    def remove(self, plural: str, key: str, *, silently: bool = False) -> None:
        """Delete an object, whatever finalizers it has; silently: no watch will ever tell."""
        self._delete(resource_of(plural), _name(key), silently=silently)

    def begin_to_remove(self, plural: str, key: str) -> None:
        """Somebody deletes an object: it goes once it has no finalizer."""
        self._end(resource_of(plural), _name(key))

    def define(self, plural: str) -> None:
        """Create the CustomResourceDefinition, with a uid of its own."""
        resource = resource_of(plural)
        definition = {"metadata": {"name": resource.definition}, "spec": {"group": resource.group}}
        self.put("customresourcedefinitions", definition)

    def begin_deletion(self, plural: str) -> None:
        """Somebody has deleted the CustomResourceDefinition: its objects go, and it goes after them."""
        definition = self.get("customresourcedefinitions", resource_of(plural).definition)
        assert definition is not None
        definition["metadata"]["deletionTimestamp"] = _now()
        self.put("customresourcedefinitions", definition)
        for namespace, name in list(self._objects[resource_of(plural)]):
            self.remove(plural, f"{namespace}/{name}" if namespace else name)

    def undefine(self, plural: str) -> None:
        """The CustomResourceDefinition is gone, and everything of its kind."""
        self.begin_deletion(plural)
        self.remove("customresourcedefinitions", resource_of(plural).definition)
        self.drop_watches()

    def fail(self, method: str, path: str, **what: Any) -> Fault:
        """Let requests fail from now on; remove the fault from `faults` to let them pass."""
        self.faults.append(Fault(method, path, **what))
        return self.faults[-1]

    def back_up(self) -> Backup:
        """Everything there is, as of now."""
        return Backup(self._version, copy.deepcopy(self._objects), copy.deepcopy(self._owners))

    def restore(self, backup: Backup) -> None:
        """An etcd from a backup, and API servers that were started anew: resource versions go on from there."""
        self._version = self._compacted = backup.version
        self._objects = copy.deepcopy(backup.objects)
        self._owners = copy.deepcopy(backup.owners)
        self._log.clear()
        self.drop_watches()

    def compact(self) -> None:
        """Forget history: a watch that goes on from before gets 410 Gone."""
        self._compacted = self._version
        self._log.clear()

    def drop_watches(self) -> None:
        """Cut every watch's connection."""
        for transport in list(self._transports):
            transport.abort()

    async def say_in_watches(self, event: Mapping[str, Any]) -> None:
        """Something into every open watch: an ERROR, as an API server that stops sends it."""
        for stream in list(self._streams):
            await stream.write(json.dumps(event).encode() + b"\n")

    def writes(self) -> list[Recorded]:
        """Requests that changed something, or could have: without those for Leases."""
        return [
            request
            for request in self.requests
            if request.method != "GET" and request.status < 400 and "/leases" not in request.path
        ]

    @property
    def watch_count(self) -> int:
        """Open watches."""
        return len(self._streams)

    # ----- the store -----

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _insert(self, resource: Resource, name: Name, value: Object) -> Object:
        value["apiVersion"], value["kind"] = resource.api_version, resource.kind
        value["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 1}
        return self._keep(resource, name, value, "ADDED")

    def _update(self, resource: Resource, name: Name, value: Object) -> Object:
        old = self._objects[resource][name]
        value["apiVersion"], value["kind"] = resource.api_version, resource.kind
        value["metadata"] = {
            **value["metadata"],
            **{key: old["metadata"][key] for key in ("uid", "creationTimestamp", "generation", "resourceVersion")},
        }
        if value == old:
            return old  # a write that changes nothing is none
        if value.get("spec") != old.get("spec"):
            value["metadata"]["generation"] += 1
        return self._keep(resource, name, value, "MODIFIED")

    def _keep(self, resource: Resource, name: Name, value: Object, kind: str) -> Object:
        value["metadata"]["resourceVersion"] = str(self._next())
        self._objects[resource][name] = value
        self._tell(resource, kind, value)
        return value

    def _end(self, resource: Resource, name: Name) -> Object:
        """Delete it, or let it wait for its finalizers."""
        found = self._objects[resource][name]
        if not found["metadata"].get("finalizers"):
            return self._delete(resource, name)
        metadata = {**found["metadata"], "deletionTimestamp": _now()}
        return self._update(resource, name, {**found, "metadata": metadata})

    def _delete(self, resource: Resource, name: Name, *, silently: bool = False) -> Object:
        gone = self._objects[resource].pop(name)
        self._owners.pop(gone["metadata"]["uid"], None)
        gone["metadata"]["resourceVersion"] = str(self._next())
        if not silently:
            self._tell(resource, "DELETED", gone)
        return gone

    def _tell(self, resource: Resource, kind: str, value: Object) -> None:
        self._log.append((self._version, resource, kind, copy.deepcopy(value)))
        try:
            asyncio.get_running_loop().create_task(self._notify())
        except RuntimeError:  # before it runs
            return

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _apply(
        self, resource: Resource, name: Name, body: Object, manager: str, subresource: str, *, is_validated: bool = True
    ) -> Object:
        # An apply of a status without one owns nothing; one that is empty is a field of its own.
        status = {"status": body["status"]} if "status" in body else {}
        wanted = status if subresource else _without_status(body)
        owner = (manager, subresource)
        part = "status" if subresource else "spec"
        old = self._objects[resource].get(name)
        if old is not None:
            if body.get("metadata", {}).get("uid") not in (None, old["metadata"]["uid"]):
                raise Refusal(422, "metadata.uid: field is immutable")
            if body.get("metadata", {}).get("resourceVersion") not in (None, old["metadata"]["resourceVersion"]):
                raise Refusal(409, "the object has been modified; please apply your changes to the latest version")
            ownership = self._owners.setdefault(old["metadata"]["uid"], Ownership(resource.list_keys))
            new = ownership.apply(old, wanted, owner)
            if is_validated:
                _admit(resource, new, part)
            new["metadata"]["managedFields"] = ownership.managed_fields
            return self._update(resource, name, new)
        if body.get("metadata", {}).get("uid"):
            raise Refusal(409, "uid mismatch: the provided object specified a uid, and no existing object was found")
        if subresource:
            raise Refusal(404, f"{resource.plural} {name[1]!r} not found")
        ownership = Ownership(resource.list_keys)
        new = ownership.apply({"metadata": {"name": name[1]} | _namespace(name)}, wanted, owner)
        if is_validated:
            _admit(resource, new, part)
        new["metadata"]["managedFields"] = ownership.managed_fields
        created = self._insert(resource, name, new)
        self._owners[created["metadata"]["uid"]] = ownership
        return created

    # ----- HTTP -----

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if raw else None
        headers: Mapping[str, str] = {}
        try:
            if self.token and request.headers.get("Authorization", "").partition(" ")[2] != self.token:
                raise Refusal(401, "Unauthorized")
            fault = next((fault for fault in self.faults if fault.matches(request)), None)
            if fault is not None:
                await self._befall(fault, request)
            if "watch" in request.query:
                return await self._watch(request)
            answer, status = self._answer(request, body), 200
        except Refusal as refusal:
            status, headers = refusal.status, refusal.headers
            answer = {"kind": "Status", "status": "Failure", "message": str(refusal), "code": status}
        if request.method == "POST" and status == 200:
            status = 201
        self.requests.append(
            Recorded(
                request.method,
                request.path,
                dict(request.query),
                body,
                request.headers.get("User-Agent", ""),
                status,
            )
        )
        return web.json_response(answer, status=status, headers=headers)

    async def _befall(self, fault: Fault, request: web.Request) -> None:
        fault.met += 1
        if fault.times is not None:
            fault.times -= 1
        await asyncio.sleep(fault.seconds)
        if fault.drop:
            assert request.transport is not None
            request.transport.abort()
            await asyncio.sleep(3600)  # cancelled as the connection is gone
        if fault.status is not None:
            raise Refusal(fault.status, f"fault: {request.method} {request.path}", fault.retry_after)

    def _answer(self, request: web.Request, body: Any) -> Any:
        if (discovered := self._discover(request.path)) is not None:
            return discovered
        resource, name, subresource = self._parse(request.path)
        if request.method == "GET":
            return self._read(resource, name, request)
        if request.method == "POST":
            return self._create(resource, name, body)
        found = self._objects[resource].get(name)
        if request.method == "PATCH" and "apply-patch" in request.headers["Content-Type"]:
            return self._apply(resource, name, body, request.query["fieldManager"], subresource)
        if found is None:
            raise Refusal(404, f"{resource.plural} {name[1]!r} not found")
        if request.method == "PUT":
            return self._replace(resource, name, found, body)
        if request.method == "PATCH" and "json-patch" in request.headers["Content-Type"]:
            return self._update(resource, name, _patched(found, body))
        if request.method == "PATCH" and "strategic" in request.headers["Content-Type"]:
            new = self._update(resource, name, _with_finalizers(found, body))
            is_over = "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers")
            return self._delete(resource, name) if is_over else new
        if request.method == "PATCH":
            return self._update(resource, name, _merged(found, body))
        if request.method == "DELETE":
            uid = ((body or {}).get("preconditions") or {}).get("uid")
            if uid not in (None, found["metadata"]["uid"]):
                raise Refusal(409, "the UID in the precondition does not match the UID in record")
            return self._end(resource, name)
        raise Refusal(405, request.method)

    def _read(self, resource: Resource, name: Name, request: web.Request) -> Object:
        if name[1]:
            if (found := self._objects[resource].get(name)) is None:
                raise Refusal(404, f"{resource.plural} {name[1]!r} not found")
            return found
        items = [item for item in self._objects[resource].values() if _is_asked_for(item, name[0], request.query)]
        return {
            "apiVersion": resource.api_version,
            "kind": f"{resource.kind}List",
            "metadata": {"resourceVersion": str(self._version)},
            "items": items,
        }

    def _create(self, resource: Resource, name: Name, body: Object) -> Object:
        created = (name[0], body["metadata"]["name"])
        if created in self._objects[resource]:
            raise Refusal(409, f"{resource.plural} {created[1]!r} already exists")
        return self._insert(resource, created, body)

    def _replace(self, resource: Resource, name: Name, found: Object, body: Object) -> Object:
        version = body["metadata"].get("resourceVersion")
        if version not in (None, found["metadata"]["resourceVersion"]):
            raise Refusal(409, "the object has been modified; please apply your changes to the latest version")
        return self._update(resource, name, body)

    def _served(self) -> Iterator[Resource]:
        for resource in RESOURCES:
            if resource not in CUSTOM or self.get("customresourcedefinitions", resource.definition) is not None:
                yield resource

    def _discover(self, path: str) -> Object | None:
        served = list(self._served())
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = dict.fromkeys((resource.group, resource.version) for resource in served if resource.group)
            return {"kind": "APIGroupList", "groups": [_group(group, version) for group, version in groups]}
        of_version = [resource for resource in served if resource.prefix == path]
        if not of_version:
            return None
        return {"kind": "APIResourceList", "groupVersion": of_version[0].api_version, "resources": _listing(of_version)}

    def _parse(self, path: str) -> tuple[Resource, Name, str]:
        for resource in self._served():
            if not path.startswith(f"{resource.prefix}/"):
                continue
            parts = path.removeprefix(f"{resource.prefix}/").split("/")
            namespace = ""
            if parts[0] == "namespaces" and len(parts) > 2:
                namespace, parts = parts[1], parts[2:]
            if parts[0] == resource.plural:
                return resource, (namespace, parts[1] if len(parts) > 1 else ""), parts[2] if len(parts) > 2 else ""
        raise Refusal(404, "404 page not found")

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        resource, name, _ = self._parse(request.path)
        since = int(request.query.get("resourceVersion", "0"))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._streams.add(response)
        self._transports.add(request.transport)
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "3600"))):
                await self._stream(response, resource, name[0], since, request.query)
        except (TimeoutError, ConnectionError):
            return response
        finally:
            self._streams.discard(response)
            self._transports.discard(request.transport)
        return response

    async def _stream(
        self, response: web.StreamResponse, resource: Resource, namespace: str, since: int, query: Mapping[str, str]
    ) -> None:
        async def say(kind: str, value: Mapping[str, Any]) -> None:
            await response.write(json.dumps({"type": kind, "object": value}).encode() + b"\n")

        while resource in list(self._served()):
            if since < self._compacted:
                await say("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
                return
            news = self._news(resource, since)
            for version, _, kind, value in news:
                since = version
                if _is_asked_for(value, namespace, query):
                    await say(kind, value)
            if news or not await self._is_quiet() or self._news(resource, since):
                continue
            if "allowWatchBookmarks" in query:
                since = self._version
                metadata = {"resourceVersion": str(since)}
                bookmark = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
                await say("BOOKMARK", bookmark)

    def _news(self, resource: Resource, since: int) -> list[tuple[int, Resource, str, Object]]:
        return [entry for entry in self._log if entry[0] > since and entry[1] is resource]

    async def _is_quiet(self) -> bool:
        try:
            async with asyncio.timeout(self._bookmark_seconds), self._changed:
                await self._changed.wait()
        except TimeoutError:
            return True
        return False


def _admit(resource: Resource, value: Object, part: str) -> None:
    """Give a part of an object the defaults of its kind. Raises Refusal where the kind's schema does not take it."""
    schema = schema_of(resource.kind).get("properties", {}).get(part, {})
    if part in value:
        value[part] = with_defaults(value[part], schema)
        if found := list(violations(value[part], schema, part)):
            raise Refusal(422, f"{resource.kind} is invalid: {'; '.join(found)}")


def resource_of(plural: str) -> Resource:
    return next(resource for resource in RESOURCES if resource.plural == plural)


def _name(key: str) -> Name:
    namespace, _, name = key.rpartition("/")
    return namespace, name


def _namespace(name: Name) -> Object:
    return {"namespace": name[0]} if name[0] else {}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _without_status(body: Object) -> Object:
    kept = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "status")}
    kept["metadata"] = {
        key: value
        for key, value in body.get("metadata", {}).items()
        if key in ("labels", "annotations", "ownerReferences")
    }
    return kept


def _is_asked_for(item: Object, namespace: str, query: Mapping[str, str]) -> bool:
    if namespace and item["metadata"].get("namespace") != namespace:
        return False
    labels = item["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", "").split(",")):
        label, _, wanted = term.partition("=")
        if labels.get(label) != wanted:
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, wanted = term.partition("=")
        value: Any = item
        for part in path.split("."):
            value = value.get(part, {})
        if value != wanted.lstrip("="):
            return False
    return True


def _patched(old: Object, operations: list[Object]) -> Object:
    """JSON Patch (RFC 6902), as far as it tests, removes and replaces."""
    patched = copy.deepcopy(old)
    for operation in operations:
        *steps, last = (
            int(step) if step.isdigit() else step.replace("~1", "/") for step in operation["path"].split("/")[1:]
        )
        target: Any = patched
        for step in steps:
            target = target[step]
        if operation["op"] == "test":
            if target[last] != operation["value"]:
                raise Refusal(422, f"the server rejected our request: {operation['path']} is not what was tested for")
        elif operation["op"] == "remove":
            del target[last]
        elif operation["op"] == "replace":
            target[last] = operation["value"]
        else:
            raise Refusal(400, f"{operation['op']} is no operation that is known here")
    return patched


def _with_finalizers(old: Object, patch: Object) -> Object:
    """A strategic merge patch, as far as it adds and removes finalizers."""
    metadata = patch["metadata"]
    if metadata.get("uid") not in (None, old["metadata"]["uid"]):
        raise Refusal(422, "metadata.uid: field is immutable")
    gone = metadata.get("$deleteFromPrimitiveList/finalizers", [])
    there = old["metadata"].get("finalizers", [])
    finalizers = [one for one in dict.fromkeys([*there, *metadata.get("finalizers", [])]) if one not in gone]
    kept = {key: value for key, value in old["metadata"].items() if key != "finalizers"}
    return {**old, "metadata": kept | ({"finalizers": finalizers} if finalizers else {})}


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = _merged(new.get(key), value)
    return new


def _group(group: str, version: str) -> Object:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _listing(resources: list[Resource]) -> list[Object]:
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    entries = []
    for resource in resources:
        entry = {
            "name": resource.plural,
            "singularName": resource.kind.lower(),
            "kind": resource.kind,
            "namespaced": resource.namespaced,
        }
        entries.append({**entry, "verbs": verbs})
        if resource.has_status:
            entries.append({**entry, "name": f"{resource.plural}/status", "verbs": ["get", "patch", "update"]})
    return entries
