"""Services of type LoadBalancer on the tests' cluster, and pods behind them that tell who asked whom."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast_testing.kind_cluster import ClusterError, KindCluster
from holdfast_testing.kubernetes_vips import IMAGE

CLASS = "holdfast.dev/vrrp"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
GIVEN_SECONDS = 30

_SERVER = """
import asyncio, signal, socket

async def serve(reader, writer):
    try:
        while await reader.readline():
            writer.write(f"{socket.gethostname()} {writer.get_extra_info('peername')[0]}\\n".encode())
    except OSError:
        pass
    finally:
        writer.close()

async def main():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    servers = [await asyncio.start_server(serve, None, port, backlog=4096) for port in PORTS]
    await ended.wait()

asyncio.run(main())
"""

PORTS = (18081, 18082)
"""What each pod listens on: Services that share an address have a port each."""

LEAVING_SECONDS = 10
"""How long a pod that is to end goes on answering, while nodes and clients learn that it goes."""


@dataclass
class Backends:
    """A Deployment of pods that answer each line with their own name and the client's address."""

    cluster: KindCluster
    name: str
    replicas: int = 3
    node: str = ""
    """Where all of them are; empty: one on each worker, as far as they go."""
    namespace: str = "default"

    @property
    def labels(self) -> dict[str, str]:
        """What Services select them by."""
        return {"app": self.name}

    def manifest(self, version: str) -> str:
        """As JSON, which is YAML; another version is another pod."""
        labels = {**self.labels, "deployment": f"{self.name}{self.node}"}
        container = {
            "name": "server",
            "image": ":".join(IMAGE),
            "imagePullPolicy": "Never",
            "command": ["python3", "-c", _SERVER.replace("PORTS", repr(PORTS))],
            "env": [{"name": "VERSION", "value": version}],
            "readinessProbe": {"tcpSocket": {"port": PORTS[0]}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"sleep": {"seconds": LEAVING_SECONDS}}},
        }
        spread = {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels},
        }
        place = {"nodeName": self.node} if self.node else {"topologySpreadConstraints": [spread]}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self._deployment, "namespace": self.namespace},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        **place,
                        "terminationGracePeriodSeconds": LEAVING_SECONDS + 10,
                        "containers": [container],
                    },
                },
            },
        }
        return json.dumps(deployment)

    @property
    def _deployment(self) -> str:
        return f"{self.name}-{self.node}" if self.node else self.name

    def apply(self, version: str = "1") -> Backends:
        """`kubectl apply`, until every pod is of this version and Ready; those before may still be ending."""
        self.cluster.apply(self.manifest(version))
        self.cluster.kubectl(
            "rollout", "status", f"deployment/{self._deployment}", "-n", self.namespace, "--timeout=180s"
        )
        return self

    def scale(self, replicas: int) -> None:
        """So many pods from now on; those that are too many begin to end."""
        self.replicas = replicas
        self.cluster.kubectl("scale", f"deployment/{self._deployment}", "-n", self.namespace, f"--replicas={replicas}")

    def delete(self) -> None:
        """`kubectl delete`, at once."""
        words = ("deployment", self._deployment, "-n", self.namespace)
        self.cluster.kubectl("delete", *words, "--ignore-not-found", "--wait=false")
        pods = ("pods", "-n", self.namespace, "-l", f"deployment={self.name}{self.node}")
        self.cluster.kubectl("delete", *pods, "--grace-period=0", "--force", "--ignore-not-found")

    @contextlib.contextmanager
    def running(self) -> Iterator[Backends]:
        """Ready inside of the block, gone after it."""
        try:
            yield self.apply()
        finally:
            self.delete()


@dataclass
class LoadBalancer:
    """A Service of type LoadBalancer with Holdfast's class, unless its specification says otherwise."""

    cluster: KindCluster
    name: str
    app: str = ""
    """Whose pods answer: those of the Backends of this name."""
    port: int = 80
    target_port: int = PORTS[0]
    namespace: str = "default"
    annotations: dict[str, str] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> dict[str, Any]:
        """The object."""
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": self.namespace, "annotations": self.annotations},
            "spec": {
                "type": "LoadBalancer",
                "loadBalancerClass": CLASS,
                "selector": {"app": self.app or self.name},
                "ports": [{"name": "lines", "port": self.port, "targetPort": self.target_port}],
                **self.spec,
            },
        }

    def apply(self) -> LoadBalancer:
        """`kubectl apply`."""
        self.cluster.apply(json.dumps(self.manifest))
        return self

    def patch(self, **spec: Any) -> None:
        """Change fields of its specification; None takes one away."""
        words = ("service", self.name, "-n", self.namespace, "--type=merge", "--patch", json.dumps({"spec": spec}))
        self.cluster.kubectl("patch", *words)

    def delete(self) -> None:
        """`kubectl delete`, until it is gone: not before Holdfast has let go of what it had.

        Of a node that has died that is so after two minutes at most: 50 s until the control plane says so, then 60 s.
        """
        self.cluster.kubectl(
            "delete", "service", self.name, "-n", self.namespace, "--ignore-not-found", "--timeout=150s"
        )

    @property
    def object(self) -> dict[str, Any]:
        """As the API server has it."""
        return self.cluster.get("service", self.name, "-n", self.namespace)

    @property
    def ingress(self) -> list[dict[str, Any]]:
        """status.loadBalancer.ingress."""
        found: list[dict[str, Any]] = self.object.get("status", {}).get("loadBalancer", {}).get("ingress", [])
        return found

    @property
    def conditions(self) -> dict[str, dict[str, Any]]:
        """By their type, without Holdfast's group."""
        found = self.object.get("status", {}).get("conditions", [])
        return {condition["type"].removeprefix("holdfast.dev/"): condition for condition in found}

    def addresses(self, count: int = 1, seconds: float = GIVEN_SECONDS) -> list[str]:
        """Wait until so many stand in its status."""

        def told() -> list[str]:
            found = [entry["ip"] for entry in self.ingress]
            return found if len(found) == count else []

        try:
            return self.cluster.wait_for(told, seconds, f"{count} addresses of Service {self.name}")
        except ClusterError as error:
            raise ClusterError(f"{error}; its conditions: {self.conditions}") from None

    def address(self, seconds: float = GIVEN_SECONDS) -> str:
        """Its one address, once that stands in its status."""
        return self.addresses(1, seconds)[0]

    def is_released(self) -> bool:
        """Nothing of a load balancer is left of it."""
        found = self.object
        return not found.get("status", {}).get("loadBalancer", {}).get("ingress") and FINALIZER not in found[
            "metadata"
        ].get("finalizers", [])

    def virtual_ips(self) -> list[dict[str, Any]]:
        """The VirtualIPs that it owns."""
        return [
            found
            for found in self.cluster.items("vip", "-n", self.namespace)
            if any(
                (owner["kind"], owner["name"]) == ("Service", self.name)
                for owner in found["metadata"].get("ownerReferences", ())
            )
        ]

    def held_by_one(self, seconds: float = 30) -> str:
        """Wait until exactly one node's kernel has its first address."""
        address = self.addresses(len(self.ingress) or 1)[0]

        def found() -> str:
            holders = self.cluster.holders(address)
            return holders[0] if len(holders) == 1 else ""

        return self.cluster.wait_for(found, seconds, f"one holder of {address}")

    def answer(self, address: str = "") -> tuple[str, str] | None:
        """The pod that answers through its address, and the client's address as that saw it; None without an answer."""
        return ask(address or self.ingress[0]["ip"], self.port)

    def answered(self, seconds: float = 30, address: str = "") -> tuple[str, str]:
        """Wait for an answer."""
        where = address or self.addresses(len(self.ingress) or 1)[0]
        found = self.cluster.wait_for(lambda: ask(where, self.port), seconds, f"an answer of {where}:{self.port}")
        assert found is not None
        return found


def ask(address: str, port: int, seconds: float = 1) -> tuple[str, str] | None:
    """What pods of Backends answer: their name, and the client's address; None without an answer."""
    try:
        with socket.create_connection((address, port), timeout=seconds) as connection:
            connection.sendall(b"?\n")
            words = connection.recv(200).decode(errors="replace").split()
    except OSError:
        return None
    return (words[0], words[1]) if len(words) == 2 else None


def nodes_of(cluster: KindCluster, backends: Sequence[Backends]) -> dict[str, str]:
    """By the name of each of their pods: the node that it is on."""
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for found in backends
        for pod in cluster.items("pods", "-n", found.namespace, "-l", f"app={found.name}")
        if pod["spec"].get("nodeName")
    }


MakeService = Callable[..., LoadBalancer]
"""The fixture make_service: a name, and fields of a LoadBalancer."""
