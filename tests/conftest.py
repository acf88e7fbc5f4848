"""What tests need of the machine, and what they say where it is not there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import hypothesis
import pytest

from holdfast_testing.namespaces import Namespaces, missing_means
from holdfast_testing.required import absent

# How long an example takes says something of the machine that it ran on, and nothing of the code.
hypothesis.settings.register_profile("holdfast", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("holdfast")


_JUDGES_MOVES = re.compile(r"transitions|holders\(|holder\b.*==|\bmoves\b|PROMISE|is_kept|one_holder")
"""Words of a test that asserts "no move" or "one holder"."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asserts that nothing moved, or that one holds, gets one try, whatever the command line says.

    One such failure among three tries is a second holder in one of three cases. What measures milliseconds on a machine
    that others share may be tried again.
    """
    for item in items:
        function = getattr(item, "function", None)
        if function is not None and _JUDGES_MOVES.search(inspect.getsource(function)):
            item.add_marker(pytest.mark.flaky(reruns=0))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need network namespaces where there are none, or fail them where HOLDFAST_REQUIRE says so."""
    if item.get_closest_marker("netns") is None:
        return
    reason = missing_means()
    if not reason:
        return
    absent("netns", reason)


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    """Network namespaces that are gone after the test."""
    with Namespaces() as made:
        yield made
