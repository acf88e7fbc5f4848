"""IPv6, both families at once, and Unicast, on the cluster's nodes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

import pytest

from holdfast_testing.cluster_client import Probing
from holdfast_testing.figures import Figures
from holdfast_testing.kind_cluster import KindCluster
from holdfast_testing.kubernetes_vips import BOUND_MS, OFF_CPU_MS, SLACK_MS, MakeVip

pytestmark = pytest.mark.kind


def is_answered(probing: Probing) -> bool:
    return probing.result().is_answered


@pytest.mark.parametrize(
    ("families", "transport"),
    [
        ("6", "Multicast"),
        pytest.param("46", "Multicast", marks=pytest.mark.full),
        pytest.param("4", "Unicast", marks=pytest.mark.full),
        ("46", "Unicast"),
    ],
    ids=["IPv6", "dual stack", "Unicast", "dual stack Unicast"],
)
def test_a_planned_move_loses_nothing_in_any_family(
    cluster: KindCluster, make_vip: MakeVip, figures: Figures, families: str, transport: str
) -> None:
    what = {"4": "IPv4", "6": "IPv6", "46": "dual stack"}[families] + f", {transport}"
    vip = make_vip(f"family-{families}-{transport.lower()}", families=families, transport=transport).ready()
    addresses = [vip.address, *vip.other_addresses]
    holder = vip.held_by_one()
    with ExitStack() as stack:
        probings = [stack.enter_context(vip.probing(address)) for address in addresses]
        for probing in probings:
            cluster.wait_for(partial(is_answered, probing), 10, "the neighbour is known")
            probing.begin()
        stack.enter_context(cluster.cordoned(holder))
        cluster.wait_for(
            lambda: all(len(found := cluster.holders(address)) == 1 and found != [holder] for address in addresses),
            30,
            "one other holder of each address",
        )
        time.sleep(1)
    results = [probing.result() for probing in probings]
    figures.add(f"{what}, cordon: lost probes of 1 ms", "probes", *[result.lost for result in results])
    assert all(result.lost <= OFF_CPU_MS for result in results), [result.gaps for result in results]
    assert {cluster.holders(address)[0] for address in addresses} == {vip.held_by_one()}, "one node has both families"


@pytest.mark.full
@pytest.mark.parametrize("transport", ["Multicast", "Unicast"])
def test_a_killed_node_loses_both_families_within_the_bound(
    cluster: KindCluster, make_vip: MakeVip, figures: Figures, transport: str
) -> None:
    vip = make_vip(f"killed-{transport.lower()}", families="46", transport=transport).ready()
    addresses = [vip.address, *vip.other_addresses]
    holder = vip.held_by_one()
    with ExitStack() as stack:
        probings = [stack.enter_context(vip.probing(address)) for address in addresses]
        time.sleep(0.5)
        cluster.kill_node(holder)
        time.sleep(3)
    outages = [probing.result().longest_outage_ms for probing in probings]
    figures.add(f"holder killed, dual stack, {transport}: outage", "ms", *outages)
    assert max(outages) < BOUND_MS + SLACK_MS
    assert all(probing.result().is_answered for probing in probings)
