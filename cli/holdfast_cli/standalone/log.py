"""The log of `holdfast run`: the supervisor's lines and the engine's, for people or as JSON."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

from holdfast_api.errors import UNDECODABLE

_LEVELS = ("debug", "info", "warning", "error")
_SHOWN_FACTS = ("detail", "address", "linesLost")


class Log:
    """Writes to standard error."""

    def __init__(self, level: str, form: str, node_name: str) -> None:
        self._least = _LEVELS.index(level)
        self._json = form == "json"
        self._node_name = node_name

    def write(self, level: str, message: str, **facts: Any) -> None:
        """One line of the supervisor's own."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._show({"time": now, "level": level, "message": message, **facts})

    def relay(self, line: bytes) -> None:
        """One line that the engine wrote: JSON, or whatever an interpreter prints when it dies."""
        try:
            entry = msgspec.json.decode(line, type=dict[str, Any])
        except UNDECODABLE:
            self.write("error", f"engine: {line.decode(errors='replace').rstrip()}")
            return
        self._show(entry)

    def _show(self, entry: dict[str, Any]) -> None:
        level = entry.get("level", "info")
        if level in _LEVELS and _LEVELS.index(level) < self._least:
            return
        line = msgspec.json.encode({"node": self._node_name, **entry}).decode() if self._json else self._text(entry)
        print(line, file=sys.stderr, flush=True)

    def _text(self, entry: dict[str, Any]) -> str:
        parts = [entry["time"], entry["level"].upper().ljust(7), self._node_name]
        if entry.get("virtualIP"):
            parts.append(entry["virtualIP"])
        parts.append(entry["message"])
        parts += [f"({entry[fact]})" for fact in _SHOWN_FACTS if entry.get(fact)]
        return " ".join(parts)
