"""What tests need of the machine, and what they say where it is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from holdfast_testing.namespaces import Namespaces, missing_means

# How long an example takes says something of the machine that it ran on, and nothing of the code.
hypothesis.settings.register_profile("holdfast", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("holdfast")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need network namespaces where there are none, or fail them where HOLDFAST_REQUIRE says so."""
    if item.get_closest_marker("netns") is None:
        return
    reason = missing_means()
    if not reason:
        return
    if "netns" in os.environ.get("HOLDFAST_REQUIRE", "").replace(",", " ").split():
        pytest.fail(f"HOLDFAST_REQUIRE has netns, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    """Network namespaces that are gone after the test."""
    with Namespaces() as made:
        yield made
