"""A Service behind a VIP, with each of kube-proxy's modes; last of all the one that the cluster was made with."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_testing.cluster_client import Probing
from holdfast_testing.figures import Figures
from holdfast_testing.kind_cluster import KindCluster
from holdfast_testing.kubernetes_vips import OFF_CPU_MS, MakeVip, Vip
from holdfast_testing.served_pods import ServedPods

pytestmark = [pytest.mark.kind, pytest.mark.full]

OWN_MODE = "nftables"
"""Of tests/e2e/cluster/kind.yaml."""


def set_mode(cluster: KindCluster, mode: str) -> None:
    """kube-proxy's mode and, as its documentation asks of ipvs with load balancers on the link, strictARP."""
    found = cluster.get("configmap", "kube-proxy", "-n", "kube-system")
    settings = re.sub(r"(?m)^mode: .*$", f"mode: {mode}", found["data"]["config.conf"])
    settings = re.sub(r"strictARP: \w+", f"strictARP: {str(mode == 'ipvs').lower()}", settings)
    patch = json.dumps({"data": {"config.conf": settings}})
    cluster.kubectl("patch", "configmap", "kube-proxy", "-n", "kube-system", "--patch", patch)
    cluster.kubectl("rollout", "restart", "daemonset", "kube-proxy", "-n", "kube-system")
    cluster.kubectl("rollout", "status", "daemonset", "kube-proxy", "-n", "kube-system", "--timeout=120s")


@pytest.fixture
def proxied(cluster: KindCluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """kube-proxy in the mode that the test is for; a mode that this kernel cannot is a skip that says so."""
    mode = request.param
    if mode == "ipvs" and not Path("/proc/net/ip_vs").exists():
        pytest.skip("this kernel has no ip_vs, or has not loaded it: kube-proxy's ipvs mode was not tried")
    set_mode(cluster, mode)
    yield mode
    set_mode(cluster, OWN_MODE)
    cluster.repair_services()


def lost_in_a_planned_move(cluster: KindCluster, vip: Vip, served: ServedPods) -> int:
    """New connections lost while the holder is cordoned."""
    holder = vip.held_by_one()
    cluster.wait_for(lambda: served.is_reached(vip.address), 60, "an answer through the VIP")
    with Probing(vip.address, served.port) as probing, cluster.cordoned(holder):
        cluster.wait_for(lambda: len(vip.holders) == 1 and vip.holders != [holder], 30, "another holder")
        time.sleep(2)
    assert probing.result().is_answered
    return probing.result().lost


@pytest.mark.parametrize("proxied", ["iptables", "ipvs", "nftables"], indirect=True)
def test_a_vip_before_a_service_moves_without_a_loss(
    cluster: KindCluster, make_vip: MakeVip, figures: Figures, proxied: str
) -> None:
    vip = make_vip(f"proxied-{proxied}").ready()
    with ServedPods(cluster, "proxied", external_addresses=[vip.address]).running() as served:
        lost = lost_in_a_planned_move(cluster, vip, served)
        figures.add(f"kube-proxy in {proxied} mode, planned move: connections lost", "connections", lost)
        assert lost == 0


def test_an_address_that_ipvs_mode_would_put_on_every_node_is_held_by_one_all_the_same(
    cluster: KindCluster, make_vip: MakeVip, figures: Figures
) -> None:
    """What kube-proxy does with a Service's external addresses in ipvs mode, without ip_vs in the kernel."""
    vip = make_vip("everywhere").ready()
    holder = vip.held_by_one()
    begin = f"""
        sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
        ip link add kube-ipvs0 type bridge
        ip address add {vip.address}/32 dev kube-ipvs0
    """
    end = """
        ip link delete kube-ipvs0
        sysctl -q -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0
    """
    on_eth0 = f"ip -oneline address show dev eth0 to {vip.address}/32"

    def holders() -> list[str]:
        return [name for name in vip.nodes if cluster.node_exec(name, "sh", "-c", on_eth0)]

    try:
        with vip.probing() as probing:
            for node in vip.nodes:
                cluster.node_exec(node, "sh", "-c", begin)
            time.sleep(4)
            assert holders() == [holder]
            with cluster.cordoned(holder):
                cluster.wait_for(lambda: len(holders()) == 1 and holders() != [holder], 30, "another holder")
                time.sleep(1)
        result = probing.result()
        figures.add("VIP on kube-ipvs0 of every node, planned move: lost probes of 1 ms", "probes", result.lost)
        assert result.moves == 1
        assert result.lost <= OFF_CPU_MS, result.gaps
        assert vip.condition("Ready")["status"] == "True"
    finally:
        for node in vip.nodes:
            cluster.node_exec(node, "sh", "-c", end)
