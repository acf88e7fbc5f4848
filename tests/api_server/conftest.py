"""A kube-apiserver with Holdfast's definitions, roles and admission policies, as the chart renders them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.api_server import (
    LocalAPIServer,
    Programs,
    build_programs,
    find_programs,
    local_api_server,
)
from holdfast_testing.installed_chart import install_chart, render_chart
from holdfast_testing.required import absent, is_required

Object = dict[str, Any]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder has the marker, or it would start a server in each of several processes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.api_server)


@pytest.fixture(scope="session")
def programs() -> Programs:
    found = find_programs()
    if found is None and is_required("kind"):
        found = build_programs()
    if found is None:
        absent("kind", "kube-apiserver, etcd and helm are not built: `scripts/cluster tools` does that")
    return found


@pytest.fixture(scope="session")
def bare_api_server(programs: Programs) -> Iterator[LocalAPIServer]:
    """Nothing of Holdfast is installed, as long as nobody asks for `api_server`."""
    with local_api_server(programs) as server:
        yield server


@pytest.fixture(scope="session")
def rendered(programs: Programs) -> list[Object]:
    """The chart with its default values."""
    return render_chart(programs)


@pytest.fixture(scope="session")
def api_server(bare_api_server: LocalAPIServer, rendered: list[Object]) -> LocalAPIServer:
    """Holdfast's definitions, service accounts, roles and policies are in force. Tests share it: clean up."""
    install_chart(bare_api_server, rendered)
    return bare_api_server
