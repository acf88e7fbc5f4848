"""Pods decide which node is healthy."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from holdfast_testing.kind_cluster import KindCluster
from holdfast_testing.kubernetes_vips import IMAGE, OFF_CPU_MS, Holdfast, Vip

pytestmark = pytest.mark.kind

LABELS = {"app": "tracked"}


class Service:
    """A DaemonSet whose pods are ready as long as a file is there."""

    def __init__(self, cluster: KindCluster) -> None:
        self.cluster = cluster
        container = {
            "name": "service",
            "image": ":".join(IMAGE),
            "imagePullPolicy": "Never",
            "command": ["sh", "-c", "touch /tmp/ready; exec sleep infinity"],
            "readinessProbe": {
                "exec": {"command": ["test", "-e", "/tmp/ready"]},
                "periodSeconds": 1,
                "failureThreshold": 1,
            },
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        }
        self.manifest = json.dumps(
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": {"name": "tracked", "namespace": "default"},
                "spec": {
                    "selector": {"matchLabels": LABELS},
                    "template": {
                        "metadata": {"labels": LABELS},
                        "spec": {
                            "terminationGracePeriodSeconds": 0,
                            "containers": [container],
                            "volumes": [{"name": "tmp", "emptyDir": {}}],
                        },
                    },
                },
            }
        )

    def start(self) -> None:
        self.cluster.apply(self.manifest)
        self.cluster.kubectl("rollout", "status", "daemonset/tracked", "--timeout=120s")

    def set_ready(self, node: str, ready: bool) -> None:
        pods = self.cluster.items("pods", "-l", "app=tracked", f"--field-selector=spec.nodeName={node}")
        command = "touch /tmp/ready" if ready else "rm -f /tmp/ready"
        self.cluster.kubectl("exec", pods[0]["metadata"]["name"], "--", "sh", "-c", command)


@pytest.fixture
def service(cluster: KindCluster, holdfast: Holdfast) -> Iterator[Service]:
    made = Service(cluster)
    made.start()
    yield made
    cluster.delete(made.manifest)


def tracked_vip(cluster: KindCluster, name: str, when_failing: str) -> Vip:
    workers = [node.name for node in cluster.workers()]
    track = {"pods": {"selector": {"matchLabels": LABELS}, "minReady": 1}, "whenFailing": when_failing}
    return Vip(cluster, name, cluster.free_address(), workers, {"track": track}).apply()


def test_a_pod_that_is_not_ready_moves_the_vip_and_its_recovery_does_not(
    cluster: KindCluster, service: Service
) -> None:
    vip = tracked_vip(cluster, "tracked", "Degrade").ready()
    try:
        holder = vip.held_by_one()
        with vip.probing() as probing:
            service.set_ready(holder, False)
            cluster.wait_for(lambda: vip.holders and vip.holders != [holder], 30, "another holder")
            time.sleep(1)
            assert probing.result().lost <= OFF_CPU_MS, "the other is there before this one goes"
            successor = vip.held_by_one()
            cluster.wait_for(lambda: vip.node_entry(holder).get("health") == "Failing", 20, "the health is told")
            assert "ready" in vip.node_entry(holder)["healthMessage"]
            service.set_ready(holder, True)
            cluster.wait_for(lambda: vip.node_entry(holder).get("health") == "Healthy", 30, "the recovery is told")
            time.sleep(3)
            assert probing.result().moves == 1
        assert vip.held_by_one() == successor
        # The new holder's reason: the former one advertised a failing priority.
        assert vip.status["transitions"][-1]["reason"] == "MasterFailing"
    finally:
        vip.delete()


@pytest.mark.parametrize("when_failing", ["Degrade", "Release"])
def test_when_no_pod_is_ready_anywhere(cluster: KindCluster, service: Service, when_failing: str) -> None:
    vip = tracked_vip(cluster, f"everywhere-{when_failing.lower()}", when_failing).ready()
    try:
        for node in vip.nodes:
            service.set_ready(node, False)
        everywhere = vip.nodes
        cluster.wait_for(
            lambda: all(vip.node_entry(node).get("health") == "Failing" for node in everywhere),
            60,
            "all fail",
        )
        time.sleep(2)
        if when_failing == "Degrade":
            assert vip.held_by_one(), "somebody holds it as the last resort"
        else:
            assert vip.holders == [], "nobody holds what nobody serves"
            assert vip.condition("Ready")["status"] == "False"
        service.set_ready(vip.nodes[0], True)
        cluster.wait_for(lambda: vip.holders == [vip.nodes[0]], 60, "the first that serves again holds it")
    finally:
        vip.delete()
