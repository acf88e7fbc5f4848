"""Last, because it takes Holdfast away from the other tests (its name sorts last)."""

from __future__ import annotations

import pytest

from holdfast_testing.kind_cluster import KindCluster
from holdfast_testing.kubernetes_vips import Holdfast, Vip

pytestmark = pytest.mark.kind


def test_helm_uninstall_leaves_no_address_on_any_node(cluster: KindCluster, holdfast: Holdfast) -> None:
    vip = Vip(cluster, "last", cluster.free_address(), [node.name for node in cluster.workers()]).apply().ready()
    assert vip.held_by_one()
    try:
        holdfast.uninstall()
        cluster.wait_for(lambda: not vip.holders, 15, "no node has the address")
    finally:
        vip.delete()
        holdfast.install()
