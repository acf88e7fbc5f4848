"""The chart, and a helm that renders it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast_testing.kind_cluster import ROOT, SCRIPT, KindCluster, missing_means, run
from holdfast_testing.required import absent, is_required

CHART = ROOT / "charts" / "holdfast"

Object = dict[str, Any]
Render = Callable[..., list[Object]]
"""What `helm template` makes of values; every object."""

EVERYTHING_ON: Object = {
    "namespace": {"create": True},
    "operator": {"networkPolicy": {"enabled": True}},
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def chart() -> Path:
    return CHART


@pytest.fixture(scope="session")
def everything_on() -> Object:
    """Values that switch on what is off by default."""
    return EVERYTHING_ON


@pytest.fixture(scope="session")
def default_values() -> Object:
    values: Object = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return values


def _built_helm() -> str:
    """The one that scripts/cluster builds; empty while it has not."""
    paths = dict(line.split("=", 1) for line in run([str(SCRIPT), "paths"]).splitlines())
    return paths["helm"] if Path(paths["helm"]).is_file() else ""


@pytest.fixture(scope="session")
def helm() -> str:
    """HOLDFAST_HELM, the one of the machine, or the one that scripts/cluster has built."""
    found = os.environ.get("HOLDFAST_HELM") or shutil.which("helm") or _built_helm()
    if not found and is_required("kind"):
        KindCluster.up()
        found = _built_helm()
    if not found:
        absent("kind", "no helm: neither HOLDFAST_HELM nor PATH nor scripts/cluster, which would build one, has it")
    return found


@pytest.fixture(scope="session")
def cluster() -> KindCluster:
    """The cluster of scripts/cluster, running."""
    reason = missing_means()
    if reason and not is_required("kind"):
        pytest.skip(reason)
    return KindCluster.up()


@pytest.fixture(scope="session")
def template(helm: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`helm template` with these values, whatever its exit status."""

    def run_helm(values: Object, *words: str) -> subprocess.CompletedProcess[str]:
        command = [
            helm,
            "template",
            "holdfast",
            str(CHART),
            "--namespace",
            "holdfast-system",
            "--values",
            "-",
            *words,
        ]
        return subprocess.run(command, input=json.dumps(values), text=True, capture_output=True, check=False)

    return run_helm


@pytest.fixture(scope="session")
def render(template: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    @functools.cache
    def rendered(values: str, words: tuple[str, ...]) -> str:
        finished = template(json.loads(values), *words)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def parsed(values: Object | None = None, *words: str) -> list[Object]:
        documents = yaml.safe_load_all(rendered(json.dumps(values or {}), words))
        return [document for document in documents if document]

    return parsed
