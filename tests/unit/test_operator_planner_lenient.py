"""What another version wrote is read as far as it can be."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from holdfast_operator.planner.cluster import lenient


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    count: int = 1


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    title: str
    one: Inner | None = None
    several: Annotated[list[Inner], msgspec.Meta(max_length=2)] = []
    numbers: list[int] = []


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ({"title": "t", "colour": "red"}, Outer("t")),
        ({"title": "t", "one": {"name": "n", "colour": "red"}}, Outer("t", Inner("n"))),
        ({"title": "t", "one": {"name": "n", "count": "many"}}, Outer("t", Inner("n"))),
        ({"title": "t", "one": {"count": 2}, "numbers": [1]}, Outer("t", numbers=[1])),
        ({"title": "t", "several": [{"name": "a", "colour": "red"}, {"count": 2}]}, Outer("t", several=[Inner("a")])),
        ({"title": "t", "several": [{"name": "a"}] * 3}, Outer("t", several=[Inner("a")] * 2)),
        ({"title": "t", "numbers": [1, "two", 3]}, Outer("t", numbers=[1, 3])),
        ({"title": "t", "numbers": "none"}, Outer("t")),
        ({"title": 7, "numbers": [1]}, None),
        ({"numbers": [1]}, None),
        ("no object", None),
        (None, None),
    ],
)
def test_what_cannot_be_read_costs_itself_alone(raw, read):
    assert lenient.read(raw, Outer) == read
