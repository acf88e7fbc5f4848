"""Many VIPs at once."""

from __future__ import annotations

import json
import time

import pytest

from holdfast_testing.figures import Figures
from holdfast_testing.kind_cluster import KindCluster
from holdfast_testing.kubernetes_vips import BOUND_MS, SLACK_MS, Holdfast, Vip
from holdfast_testing.link_watch import AdvertisementWatch

pytestmark = [pytest.mark.kind, pytest.mark.full]

COUNT = 100


def test_a_hundred_vips_of_a_killed_node_move_within_the_bound(
    cluster: KindCluster, holdfast: Holdfast, figures: Figures
) -> None:
    workers = [node.name for node in cluster.workers()]
    vips = [
        Vip(cluster, f"many-{number}", address, workers) for number, address in enumerate(cluster.free_addresses(COUNT))
    ]
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": [json.loads(vip.manifest) for vip in vips]})
    names = [f"vip/{vip.name}" for vip in vips]
    try:
        started = time.monotonic()
        cluster.apply(everything)
        cluster.kubectl("wait", "--for=condition=Ready", *names, "--timeout=120s")
        figures.add(f"{COUNT} VIPs applied: all Ready after", "ms", (time.monotonic() - started) * 1e3)
        time.sleep(5)
        held: dict[str, list[str]] = {name: [] for name in workers}
        for found in cluster.items("vip"):
            if found["metadata"]["name"].startswith("many-"):
                held[found["status"]["holder"]].append(found["metadata"]["name"])
        victim = max(held, key=lambda name: len(held[name]))

        def holders() -> dict[str, str]:
            return {
                found["metadata"]["name"]: found["status"]["holder"]
                for found in cluster.items("vip")
                if found["metadata"]["name"].startswith("many-")
            }

        with AdvertisementWatch(cluster.segment().interface) as watch:
            time.sleep(2)
            cluster.kill_node(victim)
            since = time.monotonic()
            cluster.wait_for(lambda: victim not in holders().values(), 30, f"no status names {victim}")
            figures.add(
                f"{COUNT} VIPs, a node with {len(held[victim])} of them killed: every status is right after",
                "ms",
                (time.monotonic() - since) * 1e3,
            )
            time.sleep(5)
        silences = watch.silences_ms(cluster.node(victim).mac)
        figures.add(
            f"{COUNT} VIPs, a node with {len(held[victim])} of them killed: silence of each", "ms", *silences.values()
        )
        assert len(silences) == len(held[victim])
        assert max(silences.values()) < BOUND_MS + SLACK_MS
        after = holders()
        assert len(after) == COUNT
        stayed = {name: node for node, names in held.items() if node != victim for name in names}
        assert {name: after[name] for name in stayed} == stayed
    finally:
        cluster.kubectl("delete", "--ignore-not-found", *names)
        cluster.give_back(vip.address for vip in vips)
