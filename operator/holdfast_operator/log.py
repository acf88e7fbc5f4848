"""The operator's log: one line for each record on standard error, as text or as JSON."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

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
    """time, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def configure(log_format: str, level: str) -> None:
    """Make every logger of this process write so; kopf, which tells each step, only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines() if log_format == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # It warns at every start that it handles no signals, being in a thread of its own.
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
