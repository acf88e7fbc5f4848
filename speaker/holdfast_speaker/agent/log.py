"""The agent's log: one JSON object a line on standard error, with the same names as the engine's."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from types import TracebackType

import msgspec


class JSONLines(logging.Formatter):
    """time, level, node, message, and the traceback where there is one."""

    def __init__(self, node_name: str) -> None:
        super().__init__()
        self._node_name = node_name

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry = {
            "time": at,
            "level": record.levelname.lower(),
            "node": self._node_name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def configure(level: str, node_name: str) -> None:
    """Make every logger of this process write so."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines(node_name))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    sys.excepthook = _log_death


def _log_death(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("the agent failed: %s", error, exc_info=(kind, error, traceback))
