"""The cluster that the tests in this folder share, and what is kept of it when one of them fails."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_testing.figures import Figures
from holdfast_testing.kind_cluster import ROOT, KindCluster, missing_means
from holdfast_testing.kubernetes_vips import Holdfast, MakeVip, Vip
from holdfast_testing.required import absent

TEST_SECONDS = 300
"""For a test itself; the start of the cluster has its own limits."""

FULL_SECONDS = 900

_cluster = pytest.StashKey[KindCluster]()
_figures = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    """The markers are known wherever this folder is collected."""
    config.addinivalue_line("markers", "kind: needs a Kubernetes cluster of several nodes: root, or a docker engine")
    config.addinivalue_line("markers", "full: takes minutes; runs with HOLDFAST_FULL=1, which is `make e2e FULL=1`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """No test of a cluster hangs for ever, and what takes minutes waits to be asked for."""
    asked = os.environ.get("HOLDFAST_FULL", "")
    for item in items:
        full = item.get_closest_marker("full")
        if item.get_closest_marker("kind") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(FULL_SECONDS if full else TEST_SECONDS, func_only=True))
        if full and not asked:
            item.add_marker(pytest.mark.skip(reason="takes minutes: make e2e FULL=1"))


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    """What tests measure is told at the end, and kept in build/e2e-figures.json."""
    return request.config.stash.setdefault(_figures, Figures(ROOT / "build" / "e2e-figures.json"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell the figures."""
    if (told := config.stash.get(_figures, None)) is not None:
        told.tell(terminalreporter, "figures of the cluster")


@pytest.fixture(scope="session")
def running_cluster(request: pytest.FixtureRequest) -> KindCluster:
    """The cluster; started when none runs, and left running for the next time."""
    reason = missing_means()
    if reason:
        absent("kind", reason)
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


@pytest.fixture
def make_vip(cluster: KindCluster, holdfast: Holdfast) -> Iterator[MakeVip]:
    """VirtualIPs on all workers, of the address families 4, 6 or both; deleted after the test."""
    made: list[Vip] = []

    def make(name: str, families: str = "4", **spec: object) -> Vip:
        workers = [node.name for node in cluster.workers()]
        addresses = [cluster.free_address() if family == "4" else cluster.free_address_v6() for family in families]
        made.append(Vip(cluster, name, addresses[0], workers, dict(spec), tuple(addresses[1:])))
        return made[-1].apply()

    yield make
    for vip in made:
        vip.delete()
        cluster.give_back([vip.address, *vip.other_addresses])
