"""Gives Services what a plan has for them, and takes it back: whoever dies between two of these writes leaves nothing
that the next leader does not find.

    1. the finalizer of a Service        before it is given anything
    2. its VirtualIP                     which says what it was given
    3. SpeakerConfigs                    writer.py: nothing is held that no VirtualIP stands for
    4. the Service's status              where kube-proxy and people find the address
    5. a VirtualIP's deletion            after no node is told to hold it any more
    6. the finalizer's removal           last: then the Service may be gone

A status is applied: what others say there, conditions of theirs and the addresses that they gave to a Service which is
not ours, has other owners and stays.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from holdfast_api.cluster import GROUP, OPERATOR_FIELD_MANAGER, Condition
from holdfast_api.resources import VirtualIPSpec
from holdfast_api.services import CLEANUP_FINALIZER
from holdfast_kube.api_server import CONFLICT, NOT_FOUND, APIServer, Object
from holdfast_kube.back_off import BackOffs
from holdfast_operator.planner.cluster.services_records import is_a_service, owners_of
from holdfast_operator.planner.cluster.view import ClusterPlan, ServiceStatus
from holdfast_operator.reader import Cluster
from holdfast_operator.surroundings import SERVICES
from holdfast_operator.writer import Attempts, Write, Writer, virtual_ip_path

_GONE: Final = (NOT_FOUND, CONFLICT)
"""The API server's answers to what is meant for an object of a certain uid that is there no more."""


class ServiceWriter:
    """`give`, then the SpeakerConfigs, then `tell` and `take`: each pass. Raises NotLeader as the Writer does."""

    def __init__(self, api: APIServer, writer: Writer, back_offs: BackOffs | None = None) -> None:
        self._api = api
        self._writer = writer
        self._attempts = Attempts(back_offs or BackOffs(0.5, 30.0, time.monotonic))
        self._done: set[str] = set()
        """What has been written in this pass, as resource/name."""

    def next_attempt_seconds(self) -> float | None:
        """After how long something that could not be written is tried again; None: everything is written."""
        return self._attempts.next_seconds()

    async def give(self, plan: ClusterPlan, cluster: Cluster) -> frozenset[str]:
        """Finalizers and VirtualIPs. Returns those of plan.virtual_ips that are not there: nobody may hold them."""
        self._attempts.begin()
        self._done = set()
        await self._attempts.all(self._new_finalizers(plan, cluster))
        await self._attempts.all(self._virtual_ips(plan, cluster))
        there = {*cluster.virtual_ips, *self._done_of("virtualips")}
        return frozenset(plan.virtual_ips.keys() - there)

    async def tell(self, plan: ClusterPlan, cluster: Cluster, untold: Collection[str]) -> None:
        """The status of each Service, but of those in `untold`."""
        await self._attempts.all(self._statuses(plan, cluster, untold))

    async def take(self, plan: ClusterPlan, cluster: Cluster) -> frozenset[str]:
        """What is to be there no more. Returns what of all three steps could not be written, as resource/name."""
        await self._attempts.all(self._deletions(plan, cluster))
        await self._attempts.all(self._old_finalizers(plan, cluster))
        self._attempts.end()
        return self._attempts.failed

    # ----- what is given -----

    def _new_finalizers(self, plan: ClusterPlan, cluster: Cluster) -> Iterator[Write]:
        for key, status in plan.services.items():
            service = cluster.services.get(key)
            if service is not None and status.is_ours and not _has_finalizer(service):
                change = {"finalizers": [CLEANUP_FINALIZER]}
                yield self._finalizer(key, service, change)

    def _virtual_ips(self, plan: ClusterPlan, cluster: Cluster) -> Iterator[Write]:
        services, finalized = cluster.services, self._done_of("services")
        for key, wanted in plan.virtual_ips.items():
            there = cluster.virtual_ips.get(key)
            if there is not None and ("deletionTimestamp" in there["metadata"] or is_as_wanted(there, wanted)):
                continue  # one that somebody deletes is made anew when it is gone
            if all(_has_finalizer(services.get(owner)) or owner in finalized for owner in owner_keys(wanted)):
                make = functools.partial(self._make, key, wanted)
                amend = functools.partial(self._amend, key, wanted, there) if there is not None else make
                yield Write(f"virtualips/{key}", amend, wanted)

    async def _make(self, key: str, wanted: Mapping[str, Any]) -> None:
        """Not by an apply, which would take over what a user has made meanwhile."""
        collection = virtual_ip_path(key).rpartition("/")[0]
        await self._writer.request(
            "virtualips", "create", key, lambda: self._api.create(collection, wanted, OPERATOR_FIELD_MANAGER)
        )
        self._done.add(f"virtualips/{key}")

    async def _amend(self, key: str, wanted: Mapping[str, Any], there: Object) -> None:
        body = {**wanted, "metadata": {**wanted["metadata"], "uid": there["metadata"]["uid"]}}
        path = virtual_ip_path(key)
        applied = await self._writer.request(
            "virtualips", "apply", key, lambda: self._api.apply(path, body, OPERATOR_FIELD_MANAGER), _GONE
        )
        if applied is None or not (operations := _what_is_left(applied, wanted)):
            return
        # What somebody has added is theirs, and stays when it is left out.
        await self._writer.request(
            "virtualips", "patch", key, lambda: self._api.patch(path, operations, OPERATOR_FIELD_MANAGER)
        )

    # ----- what is told -----

    def _statuses(self, plan: ClusterPlan, cluster: Cluster, untold: Collection[str]) -> Iterator[Write]:
        for key, status in plan.services.items():
            service = cluster.services.get(key)
            if service is not None and key not in untold and not _is_told(status, service.get("status") or {}):
                yield Write(f"services/{key}", functools.partial(self._tell, key, service, status), status, "status")

    async def _tell(self, key: str, service: Object, status: ServiceStatus) -> None:
        told = {
            **({"loadBalancer": {"ingress": _ingress(status)}} if status.ingress else {}),
            **({"conditions": [_document(one) for one in status.conditions]} if status.conditions else {}),
        }
        metadata = {name: service["metadata"][name] for name in ("namespace", "name", "uid")}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata} | ({"status": told} if told else {})
        path = f"{service_path(key)}/status"
        applied = await self._writer.request(
            "services/status", "apply", key, lambda: self._api.apply(path, body, OPERATOR_FIELD_MANAGER), _GONE
        )
        left = ((applied or {}).get("status") or {}).get("loadBalancer", {}).get("ingress")
        if status.is_ours and left and not status.ingress:
            # Of a controller that had it before us: no address of it is the Service's any more.
            operations = [
                {"op": "test", "path": "/status/loadBalancer/ingress", "value": left},
                {"op": "remove", "path": "/status/loadBalancer/ingress"},
            ]
            await self._writer.request(
                "services/status", "patch", key, lambda: self._api.patch(path, operations, OPERATOR_FIELD_MANAGER)
            )

    # ----- what is taken back -----

    def _deletions(self, plan: ClusterPlan, cluster: Cluster) -> Iterator[Write]:
        for key in plan.ended:
            there = cluster.virtual_ips.get(key)
            if there is not None and "deletionTimestamp" not in there["metadata"]:
                yield Write(f"virtualips/{key}", functools.partial(self._delete, key, there["metadata"]["uid"]))

    async def _delete(self, key: str, uid: str) -> None:
        path = virtual_ip_path(key)
        await self._writer.request("virtualips", "delete", key, lambda: self._api.delete(path, uid), _GONE)

    def _old_finalizers(self, plan: ClusterPlan, cluster: Cluster) -> Iterator[Write]:
        ended = (cluster.virtual_ips[key] for key in plan.ended if f"virtualips/{key}" in self._attempts.failed)
        kept = {owner for virtual_ip in ended for owner in owner_keys(virtual_ip)}
        for key, status in plan.services.items():
            service = cluster.services.get(key)
            if service is not None and not status.is_ours and _has_finalizer(service) and key not in kept:
                yield self._finalizer(key, service, {"$deleteFromPrimitiveList/finalizers": [CLEANUP_FINALIZER]})

    def _finalizer(self, key: str, service: Object, change: Object) -> Write:
        """Through the status, as Kubernetes' own controller does it: who may write that alone is kept from the spec."""
        body = {"metadata": {"uid": service["metadata"]["uid"], **change}}
        path = f"{service_path(key)}/status"

        async def write() -> None:
            answer = await self._writer.request(
                "services/status",
                "patch",
                key,
                lambda: self._api.merge_strategically(path, body, OPERATOR_FIELD_MANAGER),
            )
            if answer is not None:
                self._done.add(f"services/{key}")

        return Write(f"services/{key}", write, body, "finalizer")

    def _done_of(self, resource: str) -> set[str]:
        return {name.removeprefix(f"{resource}/") for name in self._done if name.startswith(f"{resource}/")}


def service_path(key: str) -> str:
    """Of the Service namespace/name."""
    namespace, _, name = key.partition("/")
    prefix, _, plural = SERVICES.path.rpartition("/")
    return f"{prefix}/namespaces/{namespace}/{plural}/{name}"


def owner_keys(virtual_ip: Mapping[str, Any]) -> set[str]:
    """The Services that own a VirtualIP, as namespace/name."""
    return {f"{virtual_ip['metadata']['namespace']}/{name}" for name in owners_of(virtual_ip).values()}


def services_of(plan: ClusterPlan, virtual_ips: Collection[str]) -> frozenset[str]:
    """The Services that some of the plan's VirtualIPs are for, as namespace/name."""
    return frozenset(owner for key in virtual_ips for owner in owner_keys(plan.virtual_ips[key]))


def is_as_wanted(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a VirtualIP is what it was made as. Compared as models: the API server fills in defaults."""
    return (
        _spec(there) == _spec(wanted)
        and _own(there, "labels") == _own(wanted, "labels")
        and _own(there, "annotations") == _own(wanted, "annotations")
        and owners_of(there) == owners_of(wanted)
    )


def _what_is_left(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Object]:
    """JSON Patch: what stands there beside what is wanted."""
    operations: list[Object] = []
    if _spec(there) != _spec(wanted):
        operations.append({"op": "replace", "path": "/spec", "value": wanted["spec"]})
    for field in ("labels", "annotations"):
        for name in sorted(_own(there, field).keys() - _own(wanted, field)):
            operations.append({"op": "remove", "path": f"/metadata/{field}/{name.replace('/', '~1')}"})
    owners, wanted_owners = there["metadata"].get("ownerReferences") or [], owners_of(wanted)
    for index, owner in reversed(list(enumerate(owners))):  # what comes after one that is removed moves up
        if is_a_service(owner) and owner["uid"] not in wanted_owners:
            path = f"/metadata/ownerReferences/{index}"
            operations += [{"op": "test", "path": path, "value": owner}, {"op": "remove", "path": path}]
    return operations


def _spec(virtual_ip: Mapping[str, Any]) -> object:
    try:
        spec = msgspec.convert(virtual_ip.get("spec") or {}, VirtualIPSpec)
    except msgspec.ValidationError:  # somebody else's words, or another version's
        return None
    # Sets, for which the API server keeps no order.
    return msgspec.structs.replace(spec, addresses=sorted(spec.addresses))


def _own(virtual_ip: Mapping[str, Any], field: str) -> dict[str, str]:
    found = virtual_ip["metadata"].get(field) or {}
    return {name: value for name, value in found.items() if name.startswith(f"{GROUP}/")}


def _has_finalizer(service: Mapping[str, Any] | None) -> bool:
    return service is not None and CLEANUP_FINALIZER in (service["metadata"].get("finalizers") or ())


def _ingress(status: ServiceStatus) -> list[Object]:
    return [{"ip": address, "ipMode": "VIP"} for address in status.ingress]


def _document(condition: Condition) -> Object:
    # metav1.Time has whole seconds.
    changed = datetime.fromisoformat(condition.last_transition_time).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found: Object = msgspec.to_builtins(condition)
    return found | {"lastTransitionTime": changed}


def _is_told(status: ServiceStatus, there: Mapping[str, Any]) -> bool:
    told = [one for one in there.get("conditions") or () if one["type"].startswith(f"{GROUP}/")]
    if _by_type(told) != _by_type([_document(one) for one in status.conditions]):
        return False
    ingress: list[Object] = (there.get("loadBalancer") or {}).get("ingress") or []
    return ingress == _ingress(status) or not (status.is_ours or status.ingress)


def _by_type(conditions: Collection[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Without when they changed: what is said is the same."""
    return {
        one["type"]: {name: value for name, value in one.items() if name != "lastTransitionTime"} for one in conditions
    }
