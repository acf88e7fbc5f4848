"""An upgrade from the release before, whose image and chart are built from its commit; it takes Holdfast away first."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_testing.figures import Figures
from holdfast_testing.kind_cluster import ROOT, KindCluster
from holdfast_testing.kubernetes_vips import IMAGE, SYSTEM, Holdfast, Vip
from holdfast_testing.link_watch import AddressWatch
from holdfast_testing.required import absent

pytestmark = [pytest.mark.kind, pytest.mark.full]

BEFORE = "bcacb6e"
IMAGE_BEFORE = ("holdfast", "before")
COUNT = 20
SLOW = {"advertisementIntervalMilliseconds": 1000}
"""So that what moves does so for the upgrade, and not because a busy machine let an engine stand still for 360 ms."""
DEFINITIONS = ["virtualips.holdfast.dev", "speakerconfigs.holdfast.dev", "addresspools.holdfast.dev"]


@pytest.fixture
def former(cluster: KindCluster, holdfast: Holdfast, tmp_path: Path) -> Iterator[Path]:
    """The former release installed, as if nothing else had ever been; its tree."""
    tree = tmp_path / "before"
    tree.mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", BEFORE], capture_output=True, check=False)
    if archive.returncode:
        absent("kind", f"this clone has no commit {BEFORE}: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
    cluster.build_image(tree, ":".join(IMAGE_BEFORE))
    holdfast.uninstall()
    cluster.kubectl("delete", "crd", "--ignore-not-found", *DEFINITIONS)
    for node in cluster.nodes():
        cluster.node_exec(node.name, "rm", "-rf", "/run/holdfast")
    holdfast.install(chart=tree / "charts" / "holdfast", image=IMAGE_BEFORE)
    yield tree
    shutil.rmtree(tree)
    holdfast.install("--reset-values")


def documented_upgrade() -> list[str]:
    """The words after `helm` of the upgrade in docs/kubernetes.md."""
    chapter = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8").split("## Upgrade", 1)[1]
    line = next(re.finditer(r"(?m)^helm (upgrade .*?[^\\])$", chapter, re.DOTALL))[1].replace("\\\n", " ")
    return [word.replace("./charts", str(ROOT / "charts")) for word in shlex.split(line)]


def test_an_upgrade_from_the_release_before_moves_nothing(
    cluster: KindCluster, holdfast: Holdfast, former: Path, figures: Figures
) -> None:
    workers = [node.name for node in cluster.workers()]
    control_plane = cluster.control_plane().name
    vips = [
        Vip(cluster, f"upgraded-{number}", address, workers, dict(SLOW))
        for number, address in enumerate(cluster.free_addresses(COUNT - 2))
    ]
    foreign = {"name": "far", "tcpSocket": {"host": str(cluster.segment().gateway), "port": 9}, "periodSeconds": 1}
    vips.append(Vip(cluster, "upgraded-control-plane", cluster.free_address(), [control_plane], dict(SLOW)))
    vips.append(
        Vip(cluster, "upgraded-probed", cluster.free_address(), workers, {"track": {"probes": [foreign]}, **SLOW})
    )
    names = [f"vip/{vip.name}" for vip in vips]
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": [json.loads(vip.manifest) for vip in vips]})
    try:
        cluster.apply(everything)
        cluster.kubectl("wait", "--for=condition=Ready", *names, "--timeout=120s")
        time.sleep(5)
        before = {vip.name: vip.held_by_one() for vip in vips}
        moves = {vip.name: vip.status.get("moves", 0) for vip in vips}
        speakers = holdfast.speakers()
        started = time.monotonic()
        with AddressWatch(cluster) as watch, vips[0].probing() as first, vips[-1].probing() as last:
            image = [f"--set=image.tag={IMAGE[1]}", "--wait", "--timeout=240s"]
            cluster.helm(*documented_upgrade(), *image)
            cluster.kubectl("-n", SYSTEM, "rollout", "status", "daemonset/holdfast-speaker", "--timeout=240s")
            cluster.wait_for(
                lambda: set(holdfast.speakers().values()).isdisjoint(speakers.values()), 60, "new speakers"
            )
            took = time.monotonic() - started
            time.sleep(20)  # for what the new operator has to say of everything
        held = {vip.name: watch.ever_held(vip.address) for vip in vips}
        lost = [probing.result().lost for probing in (first, last)]
        moved = [name for name, nodes in held.items() if nodes != {before[name]}]
        figures.add(f"upgrade from {BEFORE} with {COUNT} VIPs: took", "s", took)
        figures.add(f"upgrade from {BEFORE} with {COUNT} VIPs: moves", "moves", len(moved))
        figures.add(f"upgrade from {BEFORE} with {COUNT} VIPs: lost probes of 1 ms", "probes", *lost)
        assert moved == [], held
        assert lost == [0, 0]
        assert {vip.name: vip.held_by_one() for vip in vips} == before
        assert {vip.name: vip.status.get("moves", 0) for vip in vips} == moves
    finally:
        cluster.kubectl("delete", "--ignore-not-found", *names)
        cluster.give_back(vip.address for vip in vips)
