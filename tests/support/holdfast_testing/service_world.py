"""Services in a FakeAPI, and a planner for them that is simple enough to foresee."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from holdfast_api.cluster import Condition
from holdfast_api.services import CLEANUP_FINALIZER
from holdfast_operator.planner.cluster.view import (
    ClusterPlan,
    ClusterView,
    EventType,
    ServiceNotice,
    ServiceStatus,
)
from holdfast_testing.fake_api import FakeAPI
from holdfast_testing.operator_world import simple_plan

LABELS = {"holdfast.dev/service-vip": "true"}
ADDRESSES = "holdfast.dev/addresses"

Object = dict[str, Any]


def put_service(api: FakeAPI, key: str, *, kind: str = "LoadBalancer", address: str = "10.0.0.50") -> Object:
    """A Service as a user applies it."""
    namespace, _, name = key.partition("/")
    metadata = {"namespace": namespace, "name": name, "annotations": {ADDRESSES: address}}
    return api.put("services", {"metadata": metadata, "spec": {"type": kind, "ports": [{"port": 80}]}})


def is_load_balancer(service: Mapping[str, Any]) -> bool:
    return service["spec"]["type"] == "LoadBalancer" and "deletionTimestamp" not in service["metadata"]


def key_of(raw: Mapping[str, Any]) -> str:
    return f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"


def virtual_ip_of(service: Mapping[str, Any]) -> Object:
    """What is made for it: of its name, with the address that its annotation says."""
    metadata = service["metadata"]
    owner = {"apiVersion": "v1", "kind": "Service", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "VirtualIP",
        "metadata": {
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "labels": LABELS,
            "ownerReferences": [{**owner, "controller": False, "blockOwnerDeletion": False}],
        },
        "spec": {"addresses": [metadata["annotations"][ADDRESSES]]},
    }


def condition(status: str) -> Condition:
    return Condition(
        type="holdfast.dev/Known",
        status=status,  # type: ignore[arg-type]  # one of three words
        reason="Because",
        message="",
        last_transition_time="2026-01-01T00:00:00.123Z",
    )


def service_plan(view: ClusterView, now: str) -> ClusterPlan:
    """A VirtualIP for each Service; its address is told once it is held, and a Notice then; goes at once."""
    if view.services is None:
        return simple_plan(view, now)
    ours = {key_of(one): one for one in view.services if is_load_balancer(one)}
    there = {key_of(one): one for one in view.virtual_ips}
    made = {key for key, one in there.items() if one["metadata"].get("labels", {}).items() >= LABELS.items()}
    wanted = {key: virtual_ip_of(one) for key, one in ours.items() if key not in there.keys() - made}
    planned = {
        key: {**wanted[key], "metadata": {**wanted[key]["metadata"], "generation": 1}, **_status(there.get(key))}
        for key in wanted
    }
    users = {key: one for key, one in there.items() if key not in made}
    plan = simple_plan(dataclasses.replace(view, virtual_ips=tuple({**users, **planned}.values())), now)
    services, notices = {}, []
    for service in view.services:
        key = key_of(service)
        told = [one["ip"] for one in service.get("status", {}).get("loadBalancer", {}).get("ingress", [])]
        if key not in ours:
            services[key] = ServiceStatus(is_ours=key in made)
        elif plan.statuses[key].holder if key in wanted else False:
            services[key] = ServiceStatus(True, tuple(wanted[key]["spec"]["addresses"]), (condition("True"),))
            if tuple(told) != services[key].ingress:
                notices.append(
                    ServiceNotice(key, EventType.NORMAL, "AddressTold", f"it has {services[key].ingress[0]}")
                )
        else:
            services[key] = ServiceStatus(True, (), (condition("False"),))
    return dataclasses.replace(
        plan,
        services=services,
        virtual_ips=wanted,
        ended=tuple(sorted(made - wanted.keys())),
        service_notices=tuple(notices),
    )


def _status(there: Mapping[str, Any] | None) -> Object:
    return {"status": there["status"]} if there is not None and "status" in there else {}


def has_finalizer(api: FakeAPI, key: str) -> bool:
    """Whether it cannot be gone before what it was given is."""
    return CLEANUP_FINALIZER in ((api.get("services", key) or {"metadata": {}})["metadata"].get("finalizers") or [])
