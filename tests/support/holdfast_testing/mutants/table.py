"""The table of mutants in docs/testing.md, between two comments."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from holdfast_testing.mutants.planting import Mutant

BEGIN, END = "<!-- mutants: made by scripts/mutants --write -->", "<!-- end of the mutants -->"


def table(mutants: Iterable[Mutant]) -> str:
    """Markdown: what each mutant does, where, and which test kills it, or why it lives."""
    lines = ["| planted bug | in | found by |", "|---|---|---|"]
    for mutant in mutants:
        test = mutant.killed_by.removeprefix("tests/")
        lines.append(
            f"| {mutant.name} | `{mutant.file}` | {f'`{test}`' if test else 'lives: ' + mutant.lives_because} |"
        )
    return "\n".join(lines)


def table_in(text: str) -> str:
    """What stands between the two comments. Raises ValueError where they are not there."""
    start = text.index(BEGIN) + len(BEGIN)
    return text[start : text.index(END)].strip()


def write_table(path: Path, mutants: Iterable[Mutant]) -> None:
    """Put the table in place of the one that is there."""
    text = path.read_text(encoding="utf-8")
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    path.write_text(f"{text[:begin]}\n\n{table(mutants)}\n\n{text[end:]}", encoding="utf-8")
