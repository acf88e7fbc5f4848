"""HOLDFAST_REQUIRE: what a machine must be able to run, so that its absence is a failure there and no skip."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def is_required(what: str) -> bool:
    """Whether HOLDFAST_REQUIRE, a list between commas, has it: `netns` or `kind`."""
    return what in os.environ.get("HOLDFAST_REQUIRE", "").replace(",", " ").split()


def absent(what: str, reason: str) -> NoReturn:
    """Fail where HOLDFAST_REQUIRE has what cannot be run for that reason, and skip elsewhere."""
    if is_required(what):
        pytest.fail(f"HOLDFAST_REQUIRE has {what}, but {reason}", pytrace=False)
    pytest.skip(reason)
