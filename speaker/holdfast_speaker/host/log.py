"""The engine's log: JSON lines on standard error that never block the loop.

Whoever started the engine reads the pipe and shows the lines to people. Where a line cannot be written (the pipe is
full or nobody reads it, the disk is full, the descriptor is closed) it is lost, and the next that can says how many.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import struct
from typing import TextIO

import msgspec

from holdfast_speaker.host import clock

_STANDARD_ERROR = 2
_ENCODER = msgspec.json.Encoder(enc_hook=str)
_LONGEST_TEXTS = (2048, 512, 64)
"""Characters: texts are cut to the first of these that makes a line short enough."""

_SHARED = struct.Struct("@qq")  # lines lost; 1: the last line was cut off


class Log:
    """Writes one JSON object a line: time, level, message, and what else is known. Nothing here raises.

    A line is no longer than what a pipe takes whole or not at all (pipe(7), PIPE_BUF). What is lost is counted for the
    keeper and its engines together.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._descriptor = _STANDARD_ERROR if stream is None else stream.fileno()
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)
        with contextlib.suppress(OSError):  # closed
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
        lost, cut = _SHARED.unpack_from(self._shared)
        if lost:
            facts = {**facts, "linesLost": lost}
        try:
            line = _line({"time": clock.timestamp(), "level": level, "message": message, **facts})
            # What was written of a line that was cut off stays a line of its own.
            written = os.write(self._descriptor, b"\n" + line if cut else line)
        except (OSError, MemoryError):
            _SHARED.pack_into(self._shared, 0, lost + 1, cut)
            return
        if written < len(line) + cut:
            _SHARED.pack_into(self._shared, 0, lost + 1, 1)
        else:
            _SHARED.pack_into(self._shared, 0, 0, 0)


def _line(document: dict[str, object]) -> bytes:
    line = _encode(document)
    for limit in _LONGEST_TEXTS:
        if len(line) < select.PIPE_BUF:
            break
        line = _encode({key: _cut(value, limit) for key, value in document.items()})
    return line


def _encode(document: dict[str, object]) -> bytes:
    try:
        return _ENCODER.encode(document) + b"\n"
    except (UnicodeEncodeError, TypeError, RecursionError):  # half a character, as file names may have
        plain = {key: str(value).encode(errors="backslashreplace").decode() for key, value in document.items()}
        return _ENCODER.encode(plain) + b"\n"


def _cut(value: object, limit: int) -> object:
    """The end of a text says more than its beginning: it is the last line of a traceback."""
    text = value if isinstance(value, str) else str(value)
    return value if len(text) <= limit else f"({len(text) - limit} characters before) {text[-limit:]}"
