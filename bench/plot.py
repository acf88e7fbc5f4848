"""The figures as SVG: per quantity a row with its own scale, and in it each side's samples, box and median. Pure."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.figures import Series

_WIDTH = 960
_ROW = 62
_TOP = 44
_LEFT = 330
_RIGHT = 110
_COLOURS = {"Holdfast": "#1f77b4", "keepalived": "#d97706"}


def quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile; a single sample is all three."""
    if len(samples) < 2:
        return samples[0], samples[0], samples[0]
    first, middle, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, middle, third


def _text(x: float, y: float, text: str, **attributes: str) -> str:
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>'


def _box(samples: Sequence[float], y: float, colour: str, scale: float) -> list[str]:
    def at(value: float) -> float:
        return _LEFT + value * scale

    first, middle, third = quartiles(samples)
    line = f'stroke="{colour}" stroke-width='
    return [
        f'<line x1="{at(min(samples)):.1f}" x2="{at(max(samples)):.1f}" y1="{y:.1f}" y2="{y:.1f}" {line}"1"/>',
        f'<rect x="{at(first):.1f}" y="{y - 7:.1f}" width="{max(1.0, (third - first) * scale):.1f}" height="14" '
        f'fill="{colour}" fill-opacity="0.25" {line}"1"/>',
        f'<line x1="{at(middle):.1f}" x2="{at(middle):.1f}" y1="{y - 7:.1f}" y2="{y + 7:.1f}" {line}"2.5"/>',
        *(f'<circle cx="{at(value):.1f}" cy="{y:.1f}" r="1.8" fill="{colour}"/>' for value in samples),
    ]


def _row(series: Series, top: float) -> list[str]:
    sides = [(name, found) for name, found in zip(_COLOURS, (series.holdfast, series.keepalived), strict=True) if found]
    # Every scale begins at 0, so that lengths can be compared.
    largest = max((max(found) for _, found in sides), default=0.0)
    # Below a float's normal range the division would give infinity.
    scale = (_WIDTH - _LEFT - _RIGHT) / largest if largest > sys.float_info.min * _WIDTH else 0.0
    parts = [
        _text(_LEFT - 12, top + 26, series.title, text_anchor="end"),
        f'<line x1="{_LEFT}" x2="{_LEFT}" y1="{top + 4:.1f}" y2="{top + _ROW - 12:.1f}" stroke="#999"/>',
        _text(_WIDTH - _RIGHT + 8, top + 26, f"{largest:.4g} {series.unit}", fill="#666"),
    ]
    for offset, (name, found) in zip((14, 36), sides, strict=False):
        parts += _box(found, top + offset, _COLOURS[name], scale)
    return parts


def box_plot(series: Sequence[Series], caption: str) -> str:
    """An SVG 1.1 document; series without samples are left out."""
    shown = [one for one in series if one.holdfast or one.keepalived]
    height = _TOP + _ROW * len(shown) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(12, 24, caption, font_size="14"),
        *(
            _text(_WIDTH - 200 + 100 * number, 24, name, fill=colour, font_weight="bold")
            for number, (name, colour) in enumerate(_COLOURS.items())
        ),
    ]
    for number, one in enumerate(shown):
        parts += _row(one, _TOP + _ROW * number)
    return "\n".join([*parts, "</svg>"]) + "\n"
