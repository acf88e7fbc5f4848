"""The plot as SVG."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))  # bench/ is a folder of scripts and is not installed

from bench.figures import Series
from bench.plot import box_plot, quartiles

SVG = "{http://www.w3.org/2000/svg}"
SAMPLES = st.lists(st.floats(0, 1e7), max_size=12)


@given(st.text("abc<>&\"'", max_size=8), SAMPLES, SAMPLES)
def test_any_samples_make_a_well_formed_plot_with_a_dot_for_each(
    title: str, holdfast: list[float], keepalived: list[float]
) -> None:
    plot = ElementTree.fromstring(box_plot([Series(title, "ms", None, holdfast, keepalived)], "a & b"))
    dots = plot.findall(f"{SVG}circle")
    assert len(dots) == len(holdfast) + len(keepalived)
    assert all(0 <= float(dot.get("cx", "")) <= float(plot.get("width", "")) for dot in dots)


def test_twice_as_long_is_twice_as_far_from_the_axis() -> None:
    plot = ElementTree.fromstring(box_plot([Series("outage", "ms", None, [10], [20])], ""))
    axis = next(float(line.get("x1", "")) for line in plot.findall(f"{SVG}line") if line.get("stroke") == "#999")
    one, other = (float(dot.get("cx", "")) - axis for dot in plot.findall(f"{SVG}circle"))
    assert other == pytest.approx(2 * one, abs=0.2)


def test_a_series_without_samples_has_no_row() -> None:
    plot = box_plot([Series("measured", "ms", None, [1.0]), Series("interrupted", "ms")], "")
    assert "measured" in plot
    assert "interrupted" not in plot


def test_quartiles_are_inclusive_and_of_one_sample_that_sample() -> None:
    assert quartiles([1, 2, 3, 4, 5]) == (2, 3, 4)
    assert quartiles([7]) == (7, 7, 7)
