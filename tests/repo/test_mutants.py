"""The planted bugs fit the source as it is, and docs/testing.md lists them. `make mutants` plants them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from holdfast_testing.mutants.mutants import MUTANTS
from holdfast_testing.mutants.planting import PACKAGE, Mutant
from holdfast_testing.mutants.table import table, table_in


def test_there_are_at_least_sixty_of_core_and_engine_with_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 60
    assert {mutant.file.partition("/")[0] for mutant in MUTANTS} >= {"vrrp", "engine"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_planted_and_is_another_program(mutant: Mutant) -> None:
    planted = mutant.planted()
    assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse((PACKAGE / mutant.file).read_text(encoding="utf-8")))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_a_test_that_needs_no_root_or_a_reason_to_live(mutant: Mutant, root: Path) -> None:
    assert bool(mutant.killed_by) != bool(mutant.lives_because)
    assert not mutant.killed_by.startswith(("tests/netns", "tests/e2e"))
    assert not mutant.killed_by or (root / mutant.killed_by.partition("::")[0]).is_file()


def test_the_table_in_the_documents_is_this_one(root: Path) -> None:
    assert table_in((root / "docs" / "testing.md").read_text(encoding="utf-8")) == table(MUTANTS)
