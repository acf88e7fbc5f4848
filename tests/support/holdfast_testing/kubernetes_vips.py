"""VirtualIPs on the tests' cluster, and Holdfast installed on it as its README says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from holdfast_testing.cluster_client import Probing
from holdfast_testing.kind_cluster import ROOT, KindCluster, run

SYSTEM = "holdfast-system"
IMAGE = ("holdfast", "e2e")
CHART = ROOT / "charts" / "holdfast"

INTERVAL_MS = 100
BOUND_MS = 3 * INTERVAL_MS + INTERVAL_MS
"""Active_Down_Interval (RFC 9568 section 6.1) is below this for every priority."""

SLACK_MS = 600
"""What a machine of two cores with four nodes on it may add: SCHED_FIFO is refused in its containers."""

OFF_CPU_MS = 5
"""Most probes of 1 ms that a planned move may lose here. A newcomer advertises, and then announces the addresses
(RFC 9568 section 6.4.2): in between it may have to wait for the CPU, as containers on this machine get no real-time
scheduling. On hosts (tests/netns) none may be lost."""


class Holdfast:
    """The release `holdfast`."""

    def __init__(self, cluster: KindCluster) -> None:
        self.cluster = cluster

    def install(self, *more: str, chart: Path = CHART, image: tuple[str, str] = IMAGE) -> None:
        """What the README's quick start types, with the image that was built, and more words for helm."""
        repository, tag = image
        # The tag stays the same: without this, pods that run an older image of it would stay, too.
        built = run(["docker", "image", "inspect", "--format", "{{.Id}}", ":".join(image)]).strip()
        self.cluster.helm(
            "upgrade",
            "--install",
            "holdfast",
            str(chart),
            "--namespace",
            SYSTEM,
            "--create-namespace",
            f"--set=image.repository={repository}",
            f"--set=image.tag={tag}",
            "--set=image.pullPolicy=Never",
            f"--set-string=operator.podAnnotations.image={built}",
            f"--set-string=speaker.podAnnotations.image={built}",
            "--wait",
            "--timeout=180s",
            *more,
        )

    def uninstall(self) -> None:
        """`helm uninstall`, until every pod is gone."""
        self.cluster.helm("uninstall", "holdfast", "--namespace", SYSTEM, "--wait", "--timeout=120s")

    def speakers(self) -> dict[str, str]:
        """The speaker pod of each node, those that end already left out."""
        pods = self.cluster.items("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=speaker")
        return {
            pod["spec"]["nodeName"]: pod["metadata"]["name"]
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"] and pod["spec"].get("nodeName")
        }


@dataclass
class Vip:
    """One VirtualIP, on the workers unless its specification says otherwise."""

    cluster: KindCluster
    name: str
    address: str
    nodes: list[str]
    spec: dict[str, Any] = field(default_factory=dict)
    other_addresses: tuple[str, ...] = ()
    namespace: str = "default"

    @property
    def manifest(self) -> str:
        """As JSON, which is YAML."""
        segment = self.cluster.segment()
        lengths = {4: segment.subnet.prefixlen, 6: segment.subnet_v6.prefixlen if segment.subnet_v6 else 64}
        addresses = [ip_address(text) for text in (self.address, *self.other_addresses)]
        return json.dumps(
            {
                "apiVersion": "holdfast.dev/v1alpha1",
                "kind": "VirtualIP",
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": {
                    "addresses": [f"{address}/{lengths[address.version]}" for address in addresses],
                    "advertisementIntervalMilliseconds": INTERVAL_MS,
                    "nodes": {"names": self.nodes},
                    **self.spec,
                },
            }
        )

    def apply(self, **spec: Any) -> Vip:
        """`kubectl apply`, with these fields of the specification changed for good."""
        self.spec = {**self.spec, **spec}
        self.cluster.apply(self.manifest)
        return self

    def ready(self, seconds: int = 60) -> Vip:
        """`kubectl wait`, until it is held and every node has it in force."""
        for condition in ("Ready", "Programmed"):
            self.cluster.kubectl(
                "wait",
                f"--for=condition={condition}",
                f"vip/{self.name}",
                "-n",
                self.namespace,
                f"--timeout={seconds}s",
            )
        return self

    def delete(self) -> None:
        """`kubectl delete`."""
        self.cluster.kubectl("delete", "vip", self.name, "-n", self.namespace, "--ignore-not-found")

    @property
    def status(self) -> dict[str, Any]:
        """Its status."""
        found: dict[str, Any] = self.cluster.get("vip", self.name, "-n", self.namespace).get("status", {})
        return found

    @property
    def holder(self) -> str:
        """As the status has it."""
        return str(self.status.get("holder", ""))

    @property
    def holders(self) -> list[str]:
        """The nodes whose kernel has the address."""
        return self.cluster.holders(self.address)

    def held_by_one(self, seconds: float = 30) -> str:
        """Wait until one node's kernel has the address, and the status says so."""

        def found() -> str:
            holders = self.holders
            return holders[0] if len(holders) == 1 and self.holder == holders[0] else ""

        return self.cluster.wait_for(found, seconds, f"one holder of {self.address}, in kernel and status")

    def condition(self, kind: str) -> dict[str, Any]:
        """One of its conditions; empty while it is not there."""
        return next((found for found in self.status.get("conditions", []) if found["type"] == kind), {})

    def node_entry(self, node: str) -> dict[str, Any]:
        """What a node says about it; empty while it says nothing."""
        return next((found for found in self.status.get("nodes", []) if found["nodeName"] == node), {})

    def probing(self, address: str = "") -> Probing:
        """A probe every millisecond from this machine, which is on the nodes' link; of the first address by default."""
        return Probing(address or self.address, hosts={node.name: node.mac for node in self.cluster.nodes()})


MakeVip = Callable[..., Vip]
"""The fixture make_vip: the name, `families` ("4", "6" or "46"), and fields of the specification."""


def _forget_that_there_were_pools(cluster: KindCluster) -> None:
    """The operator remembers it in every SpeakerConfig, and puts it back where it is missing from some."""
    operator = ("-n", SYSTEM, "deployment/holdfast-operator")
    cluster.kubectl("scale", *operator, "--replicas=0")
    pods = ("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator")
    cluster.wait_for(lambda: not cluster.items(*pods), 60, "no operator runs")
    cluster.kubectl("annotate", "speakerconfigs", "--all", "holdfast.dev/pools-required-")
    cluster.kubectl("scale", *operator, "--replicas=2")
    cluster.kubectl("rollout", "status", *operator, "--timeout=90s")


@contextlib.contextmanager
def address_pools(cluster: KindCluster, *specs: tuple[str, dict[str, Any]]) -> Iterator[None]:
    """AddressPools inside; afterwards the cluster is as if there had never been one."""
    documents = [
        {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "AddressPool",
            "metadata": {"name": name},
            "spec": spec,
        }
        for name, spec in specs
    ]
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    cluster.apply(everything)
    try:
        yield
    finally:
        cluster.delete(everything)
        _forget_that_there_were_pools(cluster)
