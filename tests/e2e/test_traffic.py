"""What clients of a VIP feel when it moves: TCP to pods through a Service, and to pods on the host's network."""

from __future__ import annotations

import time

import pytest

from holdfast_testing.cluster_client import Probing
from holdfast_testing.figures import Figures
from holdfast_testing.kind_cluster import KindCluster
from holdfast_testing.kubernetes_vips import BOUND_MS, OFF_CPU_MS, SLACK_MS, MakeVip
from holdfast_testing.served_pods import OpenConnection, ServedPods

pytestmark = pytest.mark.kind


@pytest.mark.parametrize("behind", ["a Service", "the host's network"])
def test_a_planned_move_costs_no_new_connection(
    cluster: KindCluster, make_vip: MakeVip, figures: Figures, behind: str
) -> None:
    is_on_host_network = behind != "a Service"
    name = "hosted" if is_on_host_network else "served"
    vip = make_vip(name).ready()
    with ServedPods(cluster, name, is_on_host_network, [vip.address]).running() as served:
        holder = vip.held_by_one()
        cluster.wait_for(lambda: served.is_reached(vip.address), 30, "an answer through the VIP")
        with (
            OpenConnection(vip.address, served.port) as connection,
            Probing(vip.address, served.port) as probing,
            cluster.cordoned(holder),
        ):
            cluster.wait_for(lambda: vip.holders and vip.holders != [holder], 30, "another holder")
            time.sleep(1)
        assert probing.result().is_answered
        figures.add(
            f"TCP to {behind}, planned move: lost of {probing.result().sent // 1000},000s",
            "connections",
            probing.result().lost,
        )
        figures.add(
            f"TCP to {behind}, planned move: an open connection's longest wait", "ms", connection.longest_wait_ms
        )
        assert probing.result().lost <= OFF_CPU_MS, probing.result().gaps
        # The new holder never heard of it. What must not be is a client that waits for ever.
        assert not connection.broke or connection.longest_wait_ms < BOUND_MS + SLACK_MS, connection.broke


@pytest.mark.full
def test_connections_to_a_service_come_back_within_the_bound_when_the_holder_dies(
    cluster: KindCluster, make_vip: MakeVip, figures: Figures
) -> None:
    vip = make_vip("served").ready()
    with ServedPods(cluster, "served", external_addresses=[vip.address]).running() as served:
        holder = vip.held_by_one()
        cluster.wait_for(lambda: served.is_reached(vip.address), 30, "an answer through the VIP")
        with Probing(vip.address, served.port) as probing:
            time.sleep(0.5)
            cluster.kill_node(holder)
            cluster.wait_for(lambda: vip.holders and vip.holders != [holder], 30, "another holder")
            cluster.wait_for(lambda: probing.result().is_answered, 10, "answers")
        # A third of the new connections goes to the dead node's pod until the Service leaves it out; the others arrive.
        outages = [gap.milliseconds for gap in probing.result().gaps]
        assert vip.holders[0] != holder
        figures.add("TCP to a Service, holder killed: connections lost in a row", "ms", *outages)
        assert max(outages, default=0) < BOUND_MS + SLACK_MS
