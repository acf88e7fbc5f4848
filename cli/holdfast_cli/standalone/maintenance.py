"""Maintenance of a host: a wish in the state directory, where `holdfast run` looks for it, also when it starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from holdfast_api.errors import UNDECODABLE, EnvironmentFailure
from holdfast_api.naming import kubernetes_name
from holdfast_api.speaker import SpeakerConfiguration

_FILE = "maintenance.json"


class Maintenance(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """What was asked for. Times are UTC, RFC 3339, by the host's clock."""

    since: str
    until: str = ""
    """Empty: until somebody ends it."""

    @property
    def sentence(self) -> str:
        """For people, the same as long as it lasts."""
        return f"maintenance since {self.since}, until {self.until or 'holdfast maintenance off'}"

    def is_over(self, now: datetime) -> bool:
        """Whether it has ended by itself."""
        return bool(self.until) and datetime.fromisoformat(self.until) <= now


def begin(state_directory: Path, lasts: timedelta | None) -> Maintenance:
    """Ask for it; None: until it is ended. Raises EnvironmentFailure where that cannot be kept."""
    now = datetime.now(UTC)
    until = _text(now + lasts) if lasts is not None else ""
    asked = Maintenance(since=_text(now), until=until)
    part = state_directory / f".{_FILE}.part"
    try:
        part.write_bytes(msgspec.json.encode(asked) + b"\n")
        part.replace(state_directory / _FILE)
    except OSError as error:
        raise EnvironmentFailure(f"{state_directory / _FILE} cannot be written: {error.strerror}") from error
    return asked


def end(state_directory: Path) -> None:
    """Ask for it no longer. Raises EnvironmentFailure."""
    try:
        (state_directory / _FILE).unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFailure(f"{state_directory / _FILE} cannot be removed: {error.strerror}") from error


def asked_for(state_directory: Path) -> Maintenance | None:
    """What is asked for now; None: nothing, or nothing that can be read."""
    try:
        asked = msgspec.json.decode((state_directory / _FILE).read_bytes(), type=Maintenance)
        return None if asked.is_over(datetime.now(UTC)) else asked
    except (OSError, ValueError, TypeError, *UNDECODABLE):
        return None


def under_maintenance(configuration: SpeakerConfiguration, asked: Maintenance | None) -> SpeakerConfiguration:
    """The same, of a host that gives everything up that another healthy one takes."""
    if asked is None:
        return configuration
    routers = [
        structs.replace(router, draining=True, draining_reason=asked.sentence)
        for router in configuration.virtual_routers
    ]
    return structs.replace(configuration, virtual_routers=routers)


def _text(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
