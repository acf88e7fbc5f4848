"""The state diagram in the documents is the table that the code obeys."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast_api.reasons import Reason, State
from holdfast_testing.state_diagram import PAGE, diagram, with_diagram


def test_the_page_shows_the_table_of_today(root: Path) -> None:
    page = (root / PAGE).read_text(encoding="utf-8")
    assert with_diagram(page) == page, "run scripts/state-diagram"


def test_every_transition_and_every_reason_is_drawn() -> None:
    drawn = diagram({(State.BACKUP, State.MASTER): frozenset({Reason.SWITCHOVER, Reason.MASTER_SILENT})})
    assert "    Backup --> Master: MasterSilent, Switchover\n" in drawn


def test_a_page_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the state diagram"):
        with_diagram("# Architecture\n")
