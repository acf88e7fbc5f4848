"""A cluster as the planner sees it: an API server's objects, and agents that do what they are told."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from holdfast_api.cluster import (
    POOLS_REQUIRED_ANNOTATION,
    Link,
    SpeakerConfig,
    SpeakerConfigMetadata,
    SpeakerConfigSpec,
    SpeakerConfigStatus,
    agent_field_manager,
)
from holdfast_api.services import CLEANUP_FINALIZER
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.cluster.plan import plan_cluster
from holdfast_operator.planner.cluster.sharing import alone
from holdfast_operator.planner.cluster.view import ClusterPlan, ClusterRules, ClusterView, NodeView

NOW = "2026-11-23T12:00:00.000Z"
LATER = "2026-11-23T12:00:05.000Z"
MUCH_LATER = "2026-11-23T12:05:00.000Z"


class World:
    """An API server's objects, and agents that do what they are told."""

    def __init__(self, *nodes: str) -> None:
        self.virtual_ips: dict[str, dict[str, Any]] = {}
        self.nodes = {
            name: NodeView(name, {"zone": name[-1]}, internal_addresses=(f"10.0.0.{index}",))
            for index, name in enumerate(nodes, start=1)
        }
        self.speakers: dict[str, SpeakerConfig] = {}
        self.heard: set[str] | None = None
        """Nodes whose speaker's pod is Ready; None: nobody could tell."""
        self.rules = ClusterRules()
        self.services_made = self.vips_made = 0
        self.pools: dict[str, dict[str, Any]] = {}
        self.pools_ever = False
        self.services: dict[str, dict[str, Any]] | None = None
        """None: nobody looks at Services."""
        self.else_seen: dict[str, Any] = {}
        """Other fields of the view."""
        self.links = {
            name: [Link(name="eth0", addresses=[f"10.0.0.{index}/24", f"fe80::{index}/64"])]
            for index, name in enumerate(nodes, start=1)
        }
        for name in nodes:
            self.report(name)

    def report(self, name: str, **changes: Any) -> None:
        """The agent of a node says what runs there."""
        speaker = self.speakers.get(name) or SpeakerConfig(
            metadata=SpeakerConfigMetadata(name=name, generation=1), spec=SpeakerConfigSpec(node_name=name)
        )
        status = SpeakerConfigStatus(
            **{
                "observed_generation": speaker.metadata.generation,
                "links": self.links[name],
                "shares_virtual_routers": True,
                **changes,
            }
        )
        self.speakers[name] = msgspec.structs.replace(speaker, status=status)

    def apply(self, name: str, namespace: str = "shop", **spec: Any) -> None:
        """`kubectl apply`; `addresses=None` leaves them to the cluster."""
        key = f"{namespace}/{name}"
        known = self.virtual_ips.get(key)
        self.virtual_ips[key] = {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "VirtualIP",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": key,
                "generation": known["metadata"]["generation"] + 1 if known else 1,
                "creationTimestamp": known["metadata"]["creationTimestamp"]
                if known
                else f"2026-11-23T11:00:{len(self.virtual_ips):02}Z",
            },
            "spec": {"addresses": ["10.0.0.100/24"], **spec},
            "status": known["status"] if known else {},
        }
        if self.virtual_ips[key]["spec"]["addresses"] is None:
            del self.virtual_ips[key]["spec"]["addresses"]

    def apply_pool(self, name: str, *addresses: str, **spec: Any) -> None:
        """`kubectl apply` of an AddressPool."""
        known = self.pools.get(name)
        self.pools[name] = {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "AddressPool",
            "metadata": {
                "name": name,
                "generation": known["metadata"]["generation"] + 1 if known else 1,
                "creationTimestamp": known["metadata"]["creationTimestamp"]
                if known
                else f"2026-11-23T10:00:{len(self.pools):02}Z",
            },
            "spec": {"addresses": list(addresses), **spec},
            "status": known["status"] if known else {},
        }

    def apply_service(self, name: str, namespace: str = "shop", **spec: Any) -> None:
        """`kubectl apply` of a Service of type LoadBalancer; `annotations` are those without their domain."""
        self.services = {} if self.services is None else self.services
        key, annotations = f"{namespace}/{name}", spec.pop("annotations", {})
        known = self.services.get(key)
        self.services_made += known is None
        self.services[key] = {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": known["metadata"]["uid"] if known else f"{key}-{self.services_made}",
                "creationTimestamp": known["metadata"]["creationTimestamp"]
                if known
                else f"2026-11-23T11:{self.services_made // 60:02}:{self.services_made % 60:02}Z",
                "annotations": {f"holdfast.dev/{name}": value for name, value in annotations.items()},
                "finalizers": known["metadata"]["finalizers"] if known else [],
            },
            "spec": {
                "type": "LoadBalancer",
                "loadBalancerClass": "holdfast.dev/vrrp",
                "ipFamilyPolicy": "SingleStack",
                "ipFamilies": ["IPv4"],
                "ports": [{"port": 80, "protocol": "TCP"}],
                "selector": {"app": name},
                **spec,
            },
            "status": known["status"] if known else {},
        }

    def delete_service(self, name: str, namespace: str = "shop") -> None:
        """`kubectl delete`: with a finalizer it is there until that is taken away."""
        service = (self.services or {})[f"{namespace}/{name}"]
        if service["metadata"]["finalizers"]:
            service["metadata"]["deletionTimestamp"] = NOW
        else:
            del (self.services or {})[f"{namespace}/{name}"]

    def hold(self, key: str, node: str, since: str = NOW) -> None:
        """A node has the VirtualIP and says so."""
        self.say(key, node, "Master", since)

    def _write_services(self, plan: ClusterPlan) -> None:
        for key, manifest in plan.virtual_ips.items():
            known = self.virtual_ips.get(key)
            if (
                known is not None
                and known["spec"] == manifest["spec"]
                and manifest["metadata"].items() <= (known["metadata"].items())
            ):
                continue
            self.vips_made += known is None
            fresh = {
                "uid": f"{key}-{self.vips_made}",
                "creationTimestamp": f"2026-11-23T11:59:{self.vips_made % 60:02}Z",
            }
            metadata = {**(known["metadata"] if known else fresh), **copy.deepcopy(manifest["metadata"])}
            metadata["generation"] = metadata.get("generation", 0) + 1
            self.virtual_ips[key] = {
                **copy.deepcopy(manifest),
                "metadata": metadata,
                "status": known["status"] if known else {},
            }
        for key in plan.ended:
            del self.virtual_ips[key]
        for key, told in plan.services.items():
            service = (self.services or {})[key]
            finalizers = [one for one in service["metadata"]["finalizers"] if one != CLEANUP_FINALIZER]
            service["metadata"]["finalizers"] = [*finalizers, CLEANUP_FINALIZER] if told.is_ours else finalizers
            ingress = [{"ip": address, "ipMode": "VIP"} for address in told.ingress]
            conditions = [msgspec.to_builtins(one) for one in told.conditions]
            service["status"] = ({"loadBalancer": {"ingress": ingress}} if ingress else {}) | (
                {"conditions": conditions} if conditions else {}
            )
            if "deletionTimestamp" in service["metadata"] and not service["metadata"]["finalizers"]:
                del (self.services or {})[key]

    def say(self, key: str, node: str, state: str, since: str = NOW, *, at: str = "", **fields: Any) -> None:
        """A node's agent writes its entry, and the API server takes it `at` that time of its own clock."""
        entries = self.virtual_ips[key]["status"].setdefault("nodes", [])
        entries[:] = [entry for entry in entries if entry["nodeName"] != node]
        entries.append(
            {"nodeName": node, "state": state, "since": since, "priority": 100, "health": "Healthy", **fields}
        )
        if at:
            managed = self.virtual_ips[key]["metadata"].setdefault("managedFields", [])
            manager = agent_field_manager(node)
            managed[:] = [one for one in managed if one["manager"] != manager]
            managed.append({"manager": manager, "operation": "Apply", "subresource": "status", "time": at})

    @property
    def view(self) -> ClusterView:
        """What the operator reads."""
        return ClusterView(
            tuple(self.virtual_ips.values()),
            tuple(self.nodes.values()),
            self.speakers,
            heard=None if self.heard is None else frozenset(self.heard),
            pools=tuple(self.pools.values()),
            pools_ever=self.pools_ever,
            services=None if self.services is None else tuple(self.services.values()),
            **{"rules": self.rules, **self.else_seen},
        )

    def plan(self, now: str = NOW) -> ClusterPlan:
        """What the operator would write."""
        return plan_cluster(self.view, now)

    def reconcile(self, now: str = NOW, *, observed: bool = True) -> ClusterPlan:
        """Plan, write what was planned, and let the agents take it up."""
        plan = self.plan(now)
        for node, spec in plan.speakers.items():
            before = self.speakers.get(node)
            annotations = dict(plan.annotations.get(node, {}))
            if before is not None and before.metadata.annotations != annotations:
                metadata = msgspec.structs.replace(before.metadata, annotations=annotations)
                before = self.speakers[node] = msgspec.structs.replace(before, metadata=metadata)
            if before is None or before.spec != spec:
                generation = before.metadata.generation + 1 if before else 1
                status = before.status if before else SpeakerConfigStatus()
                metadata = SpeakerConfigMetadata(name=node, generation=generation, annotations=annotations)
                self.speakers[node] = SpeakerConfig(metadata=metadata, spec=spec, status=status)
                if observed and node in self.links:
                    self.report(node)
        for node in set(self.speakers) - set(plan.speakers):
            del self.speakers[node]
        self.pools_ever = any(POOLS_REQUIRED_ANNOTATION in kept for kept in plan.annotations.values())
        self._write_services(plan)
        for pool_name, pool_status in plan.pools.items():
            if pool_name in self.pools:
                self.pools[pool_name]["status"] = msgspec.to_builtins(pool_status)
        for key, status in plan.statuses.items():
            if key in self.virtual_ips:
                own = self.virtual_ips[key]["status"].get("nodes", [])
                kept = [entry for entry in own if entry["nodeName"] not in plan.departed.get(key, ())]
                self.virtual_ips[key]["status"] = {**msgspec.to_builtins(status), "nodes": kept}
        return plan

    def settle(self, now: str = NOW) -> ClusterPlan:
        """Until nothing changes."""
        for _ in range(3):
            plan = self.reconcile(now)
        return plan

    def delete(self, name: str, namespace: str = "shop") -> None:
        """`kubectl delete`."""
        self.virtual_ips.pop(f"{namespace}/{name}", None)


def routers(plan: ClusterPlan, key: str = "shop/web") -> dict[str, VirtualRouterConfiguration]:
    """What the VirtualIP runs with, by node; of a virtual router that it shares, its part."""
    return {
        node: alone(router)[key]
        for node, spec in plan.speakers.items()
        for router in spec.virtual_routers
        if key in router.virtual_ip_names
    }


def condition(plan: ClusterPlan, kind: str, key: str = "shop/web") -> tuple[str, str, str]:
    """Status, reason and message."""
    found = next(one for one in plan.statuses[key].conditions if one.type == kind)
    return found.status, found.reason, found.message
