"""The page on VirtualIP.status explains every condition and reason that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast_api.cluster import ConditionReason, ConditionType, VirtualIPState, agent_field_manager

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "status.md").read_text(encoding="utf-8")


def test_every_condition_and_every_reason_is_explained() -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    assert set(sections) == {kind.value for kind in ConditionType} | {"Events"}
    told = {reason for kind in ConditionType for reason in re.findall(r"^\| `(\w+)` \|", sections[kind], re.MULTILINE)}
    assert told == {reason.value for reason in ConditionReason}


def test_every_state_is_explained() -> None:
    for state in VirtualIPState:
        assert f"`{state}`" in PAGE


def test_field_managers_of_long_node_names_fit_and_differ() -> None:
    long = "n" * 200
    names = {agent_field_manager(long + last) for last in "ab"}
    assert len(names) == 2
    assert all(len(name) <= 128 for name in names)
