"""What docs/security.md says that somebody cannot do is tried by tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.fixture(scope="module")
def rows(root: Path) -> list[str]:
    """Every row of the tables of what cannot be done."""
    found, is_inside = list[str](), False
    for line in (root / "docs" / "security.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| cannot |"):
            is_inside = True
        elif not line.startswith("|"):
            is_inside = False
        elif is_inside and not line.startswith("|---"):
            found.append(line)
    return found


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_thing_that_cannot_be_done_names_a_test_that_tries_it(rows: list[str]) -> None:
    assert len(rows) > 20
    assert [row for row in rows if not TEST.search(row)] == []


def test_the_tests_that_are_named_are_there(root: Path, rows: list[str]) -> None:
    named = {match for row in rows for match in TEST.findall(row)}
    missing = [
        f"{path}::{name}"
        for path, name in sorted(named)
        if not (root / path).is_file() or name not in functions(root / path)
    ]
    assert missing == []


def test_every_attempt_on_the_api_server_is_in_the_document(root: Path, rows: list[str]) -> None:
    named = {match for row in rows for match in TEST.findall(row)}
    tried = {
        (f"tests/api_server/{path.name}", name)
        for path in (root / "tests" / "api_server").glob("test_*.py")
        for name in functions(path)
        if name.startswith("test_") and "_cannot_" in name
    }
    assert tried
    assert tried - named == set()
