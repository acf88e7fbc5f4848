"""The log of `holdfast run`: the supervisor's lines and the engine's, for people or as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from holdfast_api.errors import UNDECODABLE
from holdfast_api.reasons import State
from holdfast_cli.standalone.output import Output

_PRIORITIES = {"debug": 7, "info": 6, "notice": 5, "warning": 4, "error": 3}
"""The levels, the least first, and what syslog(3) and sd-daemon(3) have for them."""

_LEVELS = tuple(_PRIORITIES)
_SHOWN_FACTS = ("detail", "address", "linesLost")
_STANDARD_ERROR = 2


class Log:
    """Writes to standard error. Nothing here waits for whoever reads it, and nothing raises."""

    def __init__(self, level: str, form: str, node_name: str) -> None:
        self._least = _LEVELS.index(level)
        self._json = form == "json"
        self._node_name = node_name
        self._is_journal = _is_the_journal(_STANDARD_ERROR)
        self._output = Output(_STANDARD_ERROR, self._tell_lost)

    def write(self, level: str, message: str, **facts: Any) -> None:
        """One line of the supervisor's own."""
        self._show(_entry(level, message, **facts))

    def relay(self, line: bytes) -> None:
        """One line that the engine wrote: JSON, or whatever an interpreter prints when it dies."""
        try:
            entry = msgspec.json.decode(line, type=dict[str, Any])
        except UNDECODABLE:
            self.write("error", f"engine: {line.decode(errors='replace').rstrip()}")
            return
        if State.MASTER in (entry.get("fromState"), entry.get("toState")):
            entry = {**entry, "level": "notice"}
        self._show(entry)

    @contextlib.contextmanager
    def taking_what_python_prints(self) -> Iterator[None]:
        """Meanwhile what goes to `logging` and `sys.stderr` (tracebacks, warnings) comes here, a line each."""
        handler = _Handler(self.write)
        root, standard_error = logging.getLogger(), sys.stderr
        root.addHandler(handler)
        sys.stderr = _Lines(self.write)
        try:
            yield
        finally:
            sys.stderr = standard_error
            root.removeHandler(handler)

    def trace(self) -> None:
        """The exception that is being handled."""
        for line in traceback.format_exc().splitlines():
            self.write("error", line)

    def close(self, within_seconds: float = 1.0) -> None:
        """Write what waits, if somebody takes it within that time."""
        self._output.close(within_seconds)

    def _show(self, entry: dict[str, Any]) -> None:
        level = entry.get("level", "info")
        if level in _LEVELS and _LEVELS.index(level) < self._least:
            return
        self._output.put(self._line(entry))

    def _line(self, entry: dict[str, Any]) -> bytes:
        if not self._is_journal:
            return self._bare_line(entry)
        return b"<%d>" % _PRIORITIES.get(str(entry.get("level")), _PRIORITIES["info"]) + self._bare_line(entry)

    def _bare_line(self, entry: dict[str, Any]) -> bytes:
        if not self._json:
            return self._text(entry).encode(errors="backslashreplace") + b"\n"
        entry = {"node": self._node_name, **entry}
        try:
            return msgspec.json.encode(entry) + b"\n"
        except (UnicodeEncodeError, TypeError, ValueError):  # a file's name that is no UTF-8; a fact that is not JSON's
            return json.dumps(entry, default=str).encode() + b"\n"

    def _text(self, entry: dict[str, Any]) -> str:
        level = str(entry.get("level", "info"))
        parts = [level.upper().ljust(7), self._node_name]
        if not self._is_journal:
            parts.insert(0, entry.get("time", ""))
        if entry.get("virtualIP"):
            parts.append(entry["virtualIP"])
        parts.append(entry.get("message", ""))
        parts += [f"({entry[fact]})" for fact in _SHOWN_FACTS if entry.get(fact)]
        return " ".join(map(str, parts))

    def _tell_lost(self, lines: int, why: str) -> bytes:
        return self._line(_entry("warning", f"lines of this log were lost: {why}", linesLost=lines))


def _is_the_journal(descriptor: int) -> bool:
    """Whether what is written there goes to systemd's journal, which has time and priority of its own
    (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(descriptor)
    except OSError:  # closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _entry(level: str, message: str, **facts: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"time": now, "level": level, "message": message, **facts}


_Write = Callable[[str, str], None]


class _Handler(logging.Handler):
    """Of Python's own logging: the levels that we have, a line each."""

    def __init__(self, write: _Write) -> None:
        super().__init__(logging.WARNING)
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Raises nothing."""
        try:
            text = self.format(record)
        except (TypeError, ValueError) as error:  # arguments that do not fit the message
            text = f"{record.msg!r}: {error}"
        for line in text.splitlines():
            self._write("error" if record.levelno >= logging.ERROR else "warning", line)


class _Lines(io.TextIOBase):
    """What is printed, a line each."""

    def __init__(self, write: _Write) -> None:
        self._write = write
        self._begun = ""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """As every text stream does."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._write("error", line)
        return len(text)
