"""What an API server makes of the chart: installed beside whatever runs there, without a single pod."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast_testing.kind_cluster import ClusterError, KindCluster

pytestmark = pytest.mark.kind

RELEASE = "holdfast-chart-test"


@pytest.fixture(scope="module")
def installed(cluster: KindCluster, chart: Path) -> Iterator[KindCluster]:
    """The chart installed, with nothing that runs; the definitions come with it where they are not there yet."""
    try:
        cluster.kubectl("get", "crd", "virtualips.holdfast.dev", "speakerconfigs.holdfast.dev")
        are_there = "true"
    except ClusterError:
        are_there = "false"
    cluster.helm(
        *("upgrade", "--install", RELEASE, str(chart), "--namespace", RELEASE, "--create-namespace"),
        f"--set=crds.install={'false' if are_there == 'true' else 'true'},crds.keep=false",
        "--set=operator.replicas=0,dashboard.enabled=true",
        "--set-string=speaker.nodeSelector.nowhere=true",
        "--set=operator.networkPolicy.enabled=true",
        "--wait",
        "--timeout=60s",
    )
    try:
        yield cluster
    finally:
        cluster.helm("uninstall", RELEASE, "--namespace", RELEASE, "--wait", "--timeout=60s")
        cluster.kubectl("delete", "namespace", RELEASE, "--ignore-not-found")


def test_the_api_server_takes_every_object(cluster: KindCluster, render: Any, installed: KindCluster) -> None:
    objects = [each for each in render({}, "--namespace", RELEASE) if each["kind"] != "CustomResourceDefinition"]
    stream = "---\n".join(yaml.safe_dump(each) for each in objects)
    taken = cluster.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--force-conflicts", "--validate=strict", "--filename", "-"),
        stdin=stream,
    )
    assert len(taken.splitlines()) == len(objects)


@pytest.mark.parametrize("name", [f"{RELEASE}-speaker", f"{RELEASE}-status-owners"])
def test_the_admission_policies_compile(installed: KindCluster, name: str) -> None:
    """What they refuse is tried in tests/api_server; what the types in their expressions are, a controller tells."""

    def status() -> dict[str, Any]:
        found = installed.get("validatingadmissionpolicy", name).get("status", {})
        return dict(found) if "typeChecking" in found else {}

    found = installed.wait_for(status, 30, "the API server has checked the types of the policy")
    assert found["typeChecking"] == {}
