"""What tests measure, for people: named samples, told at the end of a run and kept in a file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Figure:
    """Samples of one thing."""

    name: str
    unit: str
    samples: tuple[float, ...]

    def __str__(self) -> str:
        if len(self.samples) == 1:
            return f"{self.name}: {self.samples[0]:g} {self.unit}"
        least, middle, most = min(self.samples), statistics.median(self.samples), max(self.samples)
        return (
            f"{self.name}: {least:g} / {middle:g} / {most:g} {self.unit} (least, median, most of {len(self.samples)})"
        )


class Figures:
    """The figures of a run, in the order in which they were told."""

    def __init__(self, path: Path) -> None:
        """`path` is where they are kept, as JSON with every sample, from the first one on: a run may be interrupted."""
        self._path = path
        self._samples: dict[tuple[str, str], list[float]] = {}

    def add(self, name: str, unit: str, *samples: float) -> None:
        """Note samples; those of one name and unit belong together. OSError when they cannot be kept."""
        self._samples.setdefault((name, unit), []).extend(round(sample, 1) for sample in samples)
        told = [{"name": name, "unit": unit, "samples": samples} for (name, unit), samples in self._samples.items()]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def tell(self, terminal: pytest.TerminalReporter, title: str) -> None:
        """A section at the end of a run."""
        terminal.section(title)
        for figure in self:
            terminal.write_line(str(figure))

    def __iter__(self) -> Iterator[Figure]:
        return iter(Figure(name, unit, tuple(samples)) for (name, unit), samples in self._samples.items() if samples)
