"""Configurations of the kinds that people have: each is converted, and every line of it is accounted for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast_api.documents import read_text
from holdfast_testing.keepalived_files import convert_texts, unsettled

TEXT = (Path(__file__).parents[1] / "data" / "keepalived" / "field.txt").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^---- (.*)\n((?:(?!---- ).*\n)*)", TEXT, re.MULTILINE))


@pytest.mark.parametrize("name", FILES)
def test_each_line_is_carried_over_or_in_the_report(tmp_path: Path, name: str) -> None:
    conversion = convert_texts(tmp_path, FILES[name])
    assert [statement.words for statement in unsettled(conversion)] == []
    assert [document.virtual_ip for document in read_text(conversion.yaml, "converted")] == [
        made.virtual_ip for made in conversion.converted
    ]


@pytest.mark.parametrize("name", FILES)
def test_two_hosts_with_the_file_are_one_group_whose_members_hold_the_same(tmp_path: Path, name: str) -> None:
    conversion = convert_texts(
        tmp_path, FILES[name], re.sub(r"priority (\d+)$", r"priority 60", FILES[name], flags=re.M)
    )
    for made in conversion.converted:
        assert made.virtual_ip.spec.nodes.names == ["n1", "n2"]
        assert len(set(made.virtual_ip.spec.addresses)) == len(made.virtual_ip.spec.addresses)
        assert all(50 <= entry.priority <= 254 for entry in made.virtual_ip.spec.nodes.priorities)
