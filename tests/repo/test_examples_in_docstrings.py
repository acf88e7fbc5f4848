"""The examples in docstrings are run, so that they stay true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest


def test_every_example_in_a_docstring_holds(packages: dict[str, Path], tree: list[Path]) -> None:
    attempted = 0
    for path in tree:
        top = next((top for name, top in packages.items() if path.is_relative_to(top / name)), None)
        if top is None or path.suffix != ".py" or ">>> " not in path.read_text(encoding="utf-8"):
            continue
        module = ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__")
        outcome = doctest.testmod(importlib.import_module(module))
        if outcome.failed:
            pytest.fail(f"{module}: {outcome.failed} of {outcome.attempted} examples; the output above shows them")
        attempted += outcome.attempted
    assert attempted
