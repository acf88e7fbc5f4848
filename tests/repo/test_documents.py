from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

import pytest

from holdfast_api.reasons import Health, Obstacle, Reason, State


@pytest.fixture(scope="module")
def explained(root: Path) -> dict[str, set[str]]:
    """The values that docs/reasons.md has a row for, by the heading above their table."""
    heading, rows = "", dict[str, set[str]]()
    for line in (root / "docs" / "reasons.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip()
        elif match := re.match(r"\| `(\w+)` \|", line):
            assert match[1] not in rows.setdefault(heading, set()), f"{match[1]} is explained twice"
            rows[heading].add(match[1])
    return rows


@pytest.mark.parametrize(
    ("heading", "values"),
    [("States", State), ("Health", Health), ("Reasons", Reason), ("Obstacles", Obstacle)],
)
def test_every_value_is_explained_and_nothing_else(
    explained: dict[str, set[str]], heading: str, values: type[StrEnum]
) -> None:
    assert explained.get(heading) == {value.value for value in values}


def test_decisions_are_numbered_without_gaps(root: Path) -> None:
    names = sorted(path.name for path in (root / "docs" / "adr").glob("*.md"))
    assert names
    for number, name in enumerate(names, start=1):
        assert re.fullmatch(rf"{number:04d}-[a-z0-9-]+\.md", name)


def test_decisions_have_their_number_status_and_parts(root: Path) -> None:
    for path in (root / "docs" / "adr").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(path.name[:4])}. ")
        headings = [line for line in text.splitlines() if line.startswith("## ")]
        assert headings == ["## Context", "## Decision", "## Consequences"], path.name
        status = r"proposed|accepted(, in part replaced by ADR \d{4})?|replaced by ADR \d{4}"
        assert re.search(rf"^Status: ({status})$", text, re.MULTILINE), path.name


def test_every_decision_that_a_file_names_is_there(root: Path, tree: list[Path]) -> None:
    numbers = {path.name[:4] for path in (root / "docs" / "adr").glob("*.md")}
    for path in tree:
        if path.suffix in {".py", ".md", ".toml", ".service"}:
            named = set(re.findall(r"ADR (\d{4})", path.read_text(encoding="utf-8")))
            assert named <= numbers, path.name


def test_every_make_command_that_a_document_names_is_a_target(root: Path, tree: list[Path]) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    documents = [path for path in tree if path.suffix == ".md"] + [root / ".ci" / "run"]
    named = set[str]()
    for path in documents:
        named |= set(re.findall(r"(?:^|`|sudo )make ([a-z0-9-]+)\b", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test", "lint"} <= named
    assert named <= targets
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == targets


def test_continuous_integration_runs_the_test_command_of_the_readme(root: Path) -> None:
    assert re.search(r"^\s*make test$", (root / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert "make test" in (root / "README.md").read_text(encoding="utf-8")


def test_links_between_documents_lead_somewhere(root: Path, tree: list[Path]) -> None:
    broken = []
    for path in (path for path in tree if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(root)}: {target}")
    assert broken == []
