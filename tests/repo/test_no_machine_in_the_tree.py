"""The tree says nothing about the machine, the user or the mirror that somebody worked with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

# Put together here, so that this file does not hold what it looks for.
REGISTRIES = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("pypi", "python"))]
INDEX_OPTIONS = ["--" + option for option in ("index-url", "extra-index-url", "find-links", "trusted-host")]
HOMES = ["/" + folder + "/" for folder in ("home", "Users", "work", "farm")] + ["/" + "root/."]

FORBIDDEN = re.compile(
    "|".join(
        [
            *(re.escape(text) for text in REGISTRIES + INDEX_OPTIONS),
            # As a path of its own: the same word inside a longer path or an address of the web is none.
            *(rf"(?<![\w./~-]){re.escape(text)}" for text in HOMES),
        ]
    )
)


def findings(text: str) -> list[str]:
    return [match.group() for match in FORBIDDEN.finditer(text)]


@pytest.mark.parametrize("text", [*REGISTRIES, *INDEX_OPTIONS, *(f'"{home}x"' for home in HOMES)])
def test_the_pattern_finds_what_it_is_for(text: str) -> None:
    assert findings(text)


@pytest.mark.parametrize(
    "text",
    [
        *(f"{before}{home}x" for before in ("https://example.net", "src") for home in HOMES),
        "framework/x",
        "/run/holdfast",
    ],
)
def test_the_pattern_leaves_other_text_alone(text: str) -> None:
    assert findings(text) == []


def test_no_file_names_a_registry_or_a_folder_of_somebody(root: Path, tree: list[Path]) -> None:
    found = {}
    for path in tree:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if hits := findings(text):
            found[str(path.relative_to(root))] = hits
    assert found == {}
