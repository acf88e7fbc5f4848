"""The cluster that the tests in this folder share, and what is kept of it when one of them fails."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_testing.kind_cluster import ROOT, KindCluster, missing_means
from holdfast_testing.kubernetes_vips import Holdfast

TEST_SECONDS = 300
"""For a test itself; the start of the cluster has its own limits."""

_cluster = pytest.StashKey[KindCluster]()


def pytest_configure(config: pytest.Config) -> None:
    """The marker is known wherever this folder is collected."""
    config.addinivalue_line("markers", "kind: needs a Kubernetes cluster of several nodes: root, or a docker engine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test of a cluster hangs for ever."""
    for item in items:
        if item.get_closest_marker("kind") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS, func_only=True))


@pytest.fixture(scope="session")
def running_cluster(request: pytest.FixtureRequest) -> KindCluster:
    """The cluster; started when none runs, and left running for the next time."""
    reason = missing_means()
    if reason:
        if "kind" in os.environ.get("HOLDFAST_REQUIRE", "").replace(",", " ").split():
            pytest.fail(f"HOLDFAST_REQUIRE has kind, but {reason}", pytrace=False)
        pytest.skip(reason)
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        cluster = KindCluster.up()
    request.config.stash[_cluster] = cluster
    return cluster


@pytest.fixture
def cluster(running_cluster: KindCluster) -> Iterator[KindCluster]:
    """The cluster, with every node and the API server running again after the test."""
    yield running_cluster
    running_cluster.restore()


def logs_folder(item: pytest.Item) -> Path:
    """Where the logs of a failed test go: under HOLDFAST_LOGS, by default build/e2e-logs of the checkout."""
    top = Path(os.environ.get("HOLDFAST_LOGS") or ROOT / "build" / "e2e-logs")
    return top / re.sub(r"[^\w.-]+", "_", item.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:  # pragma: no cover - pytest's own protocol
    """On failure, keep what every pod and node says before anything is put right again."""
    report: pytest.TestReport = yield
    cluster = item.config.stash.get(_cluster, None)
    if report.failed and cluster is not None and item.get_closest_marker("kind"):
        folder = logs_folder(item)
        cluster.collect_logs(folder)
        (folder / "failure.txt").write_text(report.longreprtext, encoding="utf-8")  # a rerun's own is shown nowhere
        report.sections.append(("the cluster's logs", str(folder)))
        cluster.restore()
        report.sections.append(
            ("nodes whose Services had to be repaired", ", ".join(cluster.repair_services()) or "none")
        )
    return report


@pytest.fixture(scope="session")
def installed(running_cluster: KindCluster, request: pytest.FixtureRequest) -> Holdfast:
    """Holdfast from this checkout: image built and loaded, chart installed."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        running_cluster.build_image()
    holdfast = Holdfast(running_cluster)
    holdfast.install()
    return holdfast


@pytest.fixture
def holdfast(installed: Holdfast, cluster: KindCluster) -> Holdfast:
    """Holdfast as installed, on a cluster whose nodes all run."""
    return installed
