"""The log of operator and agents: one line for each record on standard error, as text or as JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType

import msgspec

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


class TextLines(logging.Formatter):
    r"""Time, level, message. A line break, as tracebacks have them, is written as `\n`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = f"{_time(record)} {record.levelname.lower()} {record.getMessage()}"
        if record.exc_info:
            line += f" traceback={self.formatException(record.exc_info)}"
        return line.replace("\n", "\\n")


class JSONLines(logging.Formatter):
    """time, level, what every line of this process has, logger, message, and the traceback where there is one."""

    def __init__(self, everywhere: Mapping[str, str] | None = None) -> None:
        """`everywhere`: fields that every line has, such as the node's name, as the engine's lines have it."""
        super().__init__()
        self._everywhere = dict(everywhere or {})

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            **self._everywhere,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def configure(lines: logging.Formatter, level: str) -> None:
    """Make every logger of this process write so, and an error that ends it too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(lines)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    sys.excepthook = _log_death


def _log_death(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("the program failed: %s", error, exc_info=(kind, error, traceback))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
