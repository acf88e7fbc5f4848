"""The cluster itself keeps what the other tests here rely on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from holdfast_testing.cluster_client import Probing
from holdfast_testing.kind_cluster import ClusterError, KindCluster

pytestmark = pytest.mark.kind

NAMESPACE = "holdfast-cluster-test"
NEEDED = {"NET_ADMIN": 12, "NET_RAW": 13, "IPC_LOCK": 14, "SYS_NICE": 23}
"""What an engine is to have, by number in linux/capability.h."""

PODS = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      hostNetwork: {host_network}
      terminationGracePeriodSeconds: 0
      containers:
        - name: pause
          image: {image}
          imagePullPolicy: Never
          securityContext:
            capabilities: {{drop: [ALL], add: [{capabilities}]}}
            seccompProfile: {{type: RuntimeDefault}}
            readOnlyRootFilesystem: true
"""


@pytest.fixture
def namespace(cluster: KindCluster) -> Iterator[str]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE)


def pods_on_workers(
    cluster: KindCluster, name: str, *, host_network: bool = False, capabilities: str = ""
) -> dict[str, dict[str, str]]:
    """One pod per worker: its address and the id of its container, by the worker's name."""
    images = cluster.node_exec(cluster.workers()[0].name, "ctr", "-n", "k8s.io", "images", "ls", "-q").split()
    image = next(found for found in images if "/pause:" in found)
    cluster.apply(
        PODS.format(
            name=name,
            namespace=NAMESPACE,
            image=image,
            host_network=str(host_network).lower(),
            capabilities=capabilities,
        )
    )
    cluster.kubectl("rollout", "status", f"daemonset/{name}", "-n", NAMESPACE, "--timeout=60s")
    return {
        pod["spec"]["nodeName"]: {
            "address": pod["status"]["podIP"],
            "container": pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://"),
        }
        for pod in cluster.items("pods", "-n", NAMESPACE, "-l", f"app={name}")
    }


def reaches(cluster: KindCluster, node: str, address: str) -> bool:
    """Whether a port on which nobody listens refuses; kind's own node image has no ping."""
    try:
        cluster.node_exec(node, "timeout", "1", "bash", "-c", f"</dev/tcp/{address}/1")
    except ClusterError as error:
        return "Connection refused" in str(error)
    return True


def reaches_pod(cluster: KindCluster, source: str, name: str, target: str) -> bool:
    pods = cluster.items("pods", "-n", NAMESPACE, "-l", f"app={name}")
    address = next(str(pod["status"].get("podIP", "none yet")) for pod in pods if pod["spec"]["nodeName"] == target)
    return reaches(cluster, source, address)


def test_one_control_plane_and_three_workers_are_ready(cluster: KindCluster) -> None:
    assert [node.is_control_plane for node in cluster.nodes()] == [True, False, False, False]
    addresses = {
        node["metadata"]["name"]: [
            found["address"] for found in node["status"]["addresses"] if found["type"] == "InternalIP"
        ]
        for node in cluster.items("nodes")
    }
    assert {node.name: str(node.address) for node in cluster.nodes()} == {
        name: found[0] for name, found in addresses.items()
    }
    for node in cluster.nodes():
        cluster.wait_until_ready(node.name)


def test_this_machine_is_on_the_nodes_link(cluster: KindCluster) -> None:
    segment = cluster.segment()
    assert {node.address in segment.subnet for node in cluster.nodes()} == {True}
    with Probing(str(cluster.workers()[0].address)) as probing:
        cluster.wait_for(lambda: probing.result().sent > 200, 10, "200 probes")
    assert probing.result().lost == 0


def test_a_pod_on_the_host_network_has_an_engine_s_capabilities_and_no_other(
    cluster: KindCluster, namespace: str
) -> None:
    pods = pods_on_workers(cluster, "capable", host_network=True, capabilities=", ".join(NEEDED))
    assert sorted(pods) == [node.name for node in cluster.workers()]
    for node, pod in pods.items():
        tasks = cluster.node_exec(node, "ctr", "-n", "k8s.io", "tasks", "ls")
        pid = next(line.split()[1] for line in tasks.splitlines() if line.startswith(pod["container"]))
        status = dict(line.split(":\t") for line in cluster.node_exec(node, "cat", f"/proc/{pid}/status").splitlines())
        assert int(status["CapEff"], 16) == sum(1 << number for number in NEEDED.values())
        namespaces = cluster.node_exec(node, "readlink", f"/proc/{pid}/ns/net", "/proc/1/ns/net").split()
        assert namespaces[0] == namespaces[1]


def test_nodes_reach_pods_of_every_node(cluster: KindCluster, namespace: str) -> None:
    pods = pods_on_workers(cluster, "reachable")
    for node, pod in itertools.product(cluster.nodes(), pods.values()):
        address = pod["address"]
        cluster.wait_for(partial(reaches, cluster, node.name, address), 10, f"{node.name} to {address}")


def test_every_node_serves_the_addresses_of_services(cluster: KindCluster) -> None:
    service = cluster.get("service", "kubernetes")["spec"]["clusterIP"]
    for node in cluster.nodes():
        cluster.wait_for(
            partial(cluster.node_exec, node.name, "curl", "--fail", "-sk", f"https://{service}/livez"),
            30,
            f"the API server at {service} from {node.name}",
        )


def test_free_addresses_are_nobody_s_and_given_once(cluster: KindCluster) -> None:
    given = {cluster.free_address() for _ in range(3)}
    assert len(given) == 3
    assert [address for address in given if cluster.holders(address)] == []


@pytest.mark.parametrize("port", [None, 10250], ids=["icmp", "tcp"])
def test_the_client_sees_an_address_go_and_return(cluster: KindCluster, port: int | None) -> None:
    holder, *_ = cluster.workers()
    address = cluster.free_address()
    hosts = {node.name: node.mac for node in cluster.workers()}

    def change(what: str) -> None:
        cluster.node_exec(holder.name, "ip", "address", what, f"{address}/32", "dev", "eth0")

    change("add")
    try:
        assert cluster.holders(address) == [holder.name]
        with Probing(address, port, hosts) as probing:
            cluster.wait_for(lambda: probing.result().sent > 300, 10, "300 probes")
            assert (before := probing.result()).is_answered
            change("delete")
            cluster.wait_for(lambda: probing.result().lost > 300, 10, "300 lost probes")
            change("add")
            cluster.wait_for(lambda: probing.result().is_answered, 10, "answers again")
        after = probing.result()
    finally:
        change("delete")
    assert before.holder == (holder.name if port is None else None)
    assert before.lost <= 10  # the first probes wait for the neighbour
    assert len([gap for gap in after.gaps if gap.milliseconds > 200]) == 1
    assert after.longest_outage_ms == max(gap.milliseconds for gap in after.gaps) > 200
    assert after.moves == 0


def test_a_killed_node_returns_with_its_addresses_and_pods(cluster: KindCluster, namespace: str) -> None:
    pods_on_workers(cluster, "returning")
    victim, other, _ = cluster.workers()
    with Probing(str(victim.address)) as probing:
        cluster.kill_node(victim.name)
        cluster.wait_for(lambda: probing.result().lost > 0, 10, "silence")
    assert cluster.holders(str(victim.address)) == []
    cluster.start_node(victim.name)
    assert cluster.node(victim.name) == victim
    cluster.kubectl("rollout", "status", "daemonset/returning", "-n", NAMESPACE, "--timeout=60s")
    for source, target in ((victim, other), (other, victim)):
        # The pod's address is another one after the start, and the kubelet reports it late.
        cluster.wait_for(
            partial(reaches_pod, cluster, source.name, "returning", target.name),
            30,
            f"{source.name} to the pod of {target.name}",
        )


def test_the_api_server_stops_and_starts(cluster: KindCluster) -> None:
    with cluster.without_api_server():
        with pytest.raises(ClusterError, match="get nodes"):
            cluster.kubectl("get", "nodes")
        assert {reaches(cluster, cluster.control_plane().name, str(node.address)) for node in cluster.workers()} == {
            True
        }
    assert len(cluster.items("nodes")) == 4


def test_the_logs_of_every_node_are_kept(cluster: KindCluster, tmp_path: Path) -> None:
    cluster.collect_logs(tmp_path)
    for node in cluster.nodes():
        assert "kubelet" in (tmp_path / f"{node.name}-kubelet.log").read_text(encoding="utf-8")
        assert str(node.address) in (tmp_path / f"{node.name}-network.txt").read_text(encoding="utf-8")
    assert "kube-proxy" in (tmp_path / "describe-pods.txt").read_text(encoding="utf-8")
