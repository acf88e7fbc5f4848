"""The image that scripts/cluster builds of the Dockerfile."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from holdfast_api import __version__
from holdfast_testing.kind_cluster import KindCluster, run
from holdfast_testing.required import absent

pytestmark = pytest.mark.kind

IMAGE = "holdfast:e2e"
ADDED_MB = 60
"""What Holdfast may add to its base: an image is pulled by every node, often when something is wrong."""


@pytest.fixture(scope="module")
def image(cluster: KindCluster) -> str:
    if shutil.which("docker") is None:
        absent("kind", "no docker command")
    cluster.build_image()
    return IMAGE


def within(image: str, *command: str) -> str:
    """What a command prints in a container as the chart would start it, without a network."""
    return run(
        ["docker", "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", image, *command], seconds=60
    )


def inspected(image: str) -> dict[str, Any]:
    (found,) = json.loads(run(["docker", "image", "inspect", image]))
    config: dict[str, Any] = found["Config"]
    return config


def test_the_image_says_what_it_is_and_is_nobody_s_root(image: str) -> None:
    config = inspected(image)
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["title"] == "holdfast"
    assert labels["version"] == __version__
    assert labels["licenses"] == "MIT"
    assert config["User"] == "65532:65532"


@pytest.mark.parametrize(
    "module", ["holdfast_operator", "holdfast_speaker.host", "holdfast_speaker.agent", "holdfast_speaker.agent.alive"]
)
def test_every_process_of_the_chart_starts_on_a_read_only_root(image: str, module: str) -> None:
    assert "usage:" in within(image, "python3", "-P", "-m", module, "--help").lower()


def test_the_command_line_is_there_for_people(image: str) -> None:
    assert __version__ in within(image, "holdfast", "--version")


def test_nothing_in_it_builds_or_sniffs(image: str) -> None:
    packages = within(image, "sh", "-c", "ls /opt/holdfast/lib/python3*/site-packages").split()
    assert "holdfast_speaker" in packages
    for unwanted in ("scapy", "pyroute2", "rich", "pip", "hatchling", "pytest", "setuptools"):
        assert unwanted not in packages
    assert within(image, "sh", "-c", "command -v gcc cc make ld || echo none").strip() == "none"
    assert within(image, "sh", "-c", "find /tmp /build -mindepth 1 2>/dev/null || true") == ""


def test_what_is_imported_was_compiled_when_the_image_was_built(image: str) -> None:
    script = (
        "import sys, os, holdfast_operator.__main__\n"
        "import holdfast_speaker.agent.__main__, holdfast_speaker.host.__main__\n"
        "for module in list(sys.modules.values()):\n"
        "    cached = getattr(module, '__cached__', None)\n"
        "    if cached and not os.path.exists(cached): print(module.__name__)\n"
    )
    assert within(image, "python3", "-P", "-W", "ignore", "-c", script).split() == []


def test_it_adds_little_to_its_base(image: str) -> None:
    sizes = run(["docker", "history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image])
    ours = sizes.splitlines()[: next(i for i, line in enumerate(sizes.splitlines()) if "LABEL" in line)]
    added = sum(int(line.split()[0]) for line in ours) / 1_000_000
    assert 10 < added < ADDED_MB
