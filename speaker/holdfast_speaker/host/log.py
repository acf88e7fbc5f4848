"""The engine's log: JSON lines on standard error that never block the loop.

Whoever started the engine reads the pipe and shows the lines to people. A full pipe loses lines, and says how many once
there is room again.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

import msgspec

from holdfast_speaker.host import clock

_ENCODER = msgspec.json.Encoder()


class Log:
    """Writes one JSON object a line: time, level, message, and what else is known."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._descriptor = stream.fileno()
        self._lost = 0
        os.set_blocking(self._descriptor, False)

    def info(self, message: str, **facts: object) -> None:
        """Something that people want to know."""
        self._write("info", message, facts)

    def warning(self, message: str, **facts: object) -> None:
        """Something that people should look at; the engine goes on."""
        self._write("warning", message, facts)

    def error(self, message: str, **facts: object) -> None:
        """Something that keeps a VIP from being held here."""
        self._write("error", message, facts)

    def _write(self, level: str, message: str, facts: dict[str, object]) -> None:
        if self._lost:
            facts = {**facts, "linesLost": self._lost}
        line = _ENCODER.encode({"time": clock.timestamp(), "level": level, "message": message, **facts}) + b"\n"
        try:
            os.write(self._descriptor, line)
        except (BlockingIOError, BrokenPipeError):
            self._lost += 1
        else:
            self._lost = 0
