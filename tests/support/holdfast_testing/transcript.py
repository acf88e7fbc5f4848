"""What a screen would show of a play, kept for whoever reads why a test failed."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast_lab.happenings import Happening
from holdfast_lab.player import Verdict
from holdfast_lab.scenes import Scene
from holdfast_lab.stage import Stage


class Transcript:
    """The timeline of a play."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self._lines)

    def scene(self, number: int, scene: Scene) -> None:
        """A scene begins."""
        self._lines.append(f"{number} {scene.title}")

    def happening(self, stage: Stage, happening: Happening, seconds: float) -> None:
        """Something happened."""
        self._lines.append(f"  {seconds:+.3f} {happening.where}: {happening.text}")

    def verdict(self, verdict: Verdict) -> None:
        """A scene was judged."""
        self._lines.append(f"  {verdict.observation} {verdict.complaints}")

    def tick(self, stages: Sequence[Stage]) -> None:
        """Nothing moves in a transcript."""
