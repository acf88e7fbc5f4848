"""What happens on a lab, as lines of a timeline: from the hosts' logs, their kernels, and the client's probes."""

from __future__ import annotations

import enum
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from holdfast_lab.record import Software


class Kind(enum.Enum):
    """Where a line of the timeline comes from."""

    DONE = enum.auto()
    """What the lab did."""
    SAID = enum.auto()
    """What a host's VRRP software says that it does."""
    KERNEL = enum.auto()
    """Which addresses a host's kernel really has."""
    CLIENT = enum.auto()
    """What the client notices."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a timeline."""

    at_ns: int
    """CLOCK_MONOTONIC."""
    kind: Kind
    where: str
    """A host, or the client."""
    text: str


_KEEPALIVED_STATE = re.compile(r"\((?P<instance>[^)]+)\) (?P<text>Entering \w+ STATE)")


class LogTail:
    """The lines that a host's software adds to its log, as happenings."""

    def __init__(self, host: str, path: Path, software: Software, names: Mapping[str, str]) -> None:
        """`names`: addresses and whose they are, so that people read host names."""
        self._host = host
        self._path = path
        self._software = software
        self._names = {**names}
        self._pattern = re.compile("|".join(rf"(?<![\w.:]){re.escape(a)}(?![\w:])" for a in self._names) or r"(?!)")
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def poll(self) -> Iterator[Happening]:
        """What was added since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read()
        except FileNotFoundError:
            return
        self._offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        for line in lines:
            happening = self._read(line.decode(errors="replace"))
            if happening is not None:
                yield happening

    def _read(self, line: str) -> Happening | None:
        if self._software is Software.KEEPALIVED:
            found = _KEEPALIVED_STATE.search(line)
            return self._said(found["text"], time.monotonic_ns()) if found else None
        try:
            fields = json.loads(line)
            message, level = str(fields["message"]), str(fields["level"])
        except (ValueError, TypeError, KeyError):
            return self._said(line, time.monotonic_ns()) if line.strip() else None
        if "toState" not in fields and level not in ("warning", "error"):
            return None
        return self._said(message, monotonic_of(str(fields.get("time", ""))))

    def _said(self, text: str, at_ns: int) -> Happening:
        return Happening(at_ns, Kind.SAID, self._host, self._pattern.sub(lambda m: self._names[m[0]], text))


def monotonic_of(timestamp: str) -> int:
    """CLOCK_MONOTONIC at a moment given in RFC 3339; now when it is not readable as that."""
    now = time.monotonic_ns()
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return now
    return now - int((time.time() - moment.timestamp()) * 1e9)
