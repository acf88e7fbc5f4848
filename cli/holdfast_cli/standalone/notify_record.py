"""What the commands of `notify` were told last, and what went wrong with them: `notify.json` of the state directory.

Whoever starts next knows from it that a VIP that is held on is no change, and `holdfast status` what to warn of.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from msgspec import Struct, field, json
from msgspec.structs import replace

from holdfast_api.errors import UNDECODABLE
from holdfast_api.messages import Status
from holdfast_api.naming import kubernetes_name
from holdfast_api.resources import NotifyState

_NAME = "notify.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class NotifyRecord(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """Of one state directory."""

    boot: str = ""
    """Of the machine, which forgets with a boot what its commands have set up."""
    told: dict[str, NotifyState] = field(default_factory=dict)
    """By VirtualIP: what its commands were told last, to the end."""
    warnings: dict[str, list[str]] = field(default_factory=dict)
    """By VirtualIP; with an empty name those of all."""


def this_boot() -> str:
    """What tells this boot of the machine from others; empty where the kernel does not say."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def read_record(state_directory: Path) -> NotifyRecord:
    """The record; an empty one where there is none that can be read."""
    with contextlib.suppress(OSError, *UNDECODABLE):
        return json.decode((state_directory / _NAME).read_bytes(), type=NotifyRecord)
    return NotifyRecord()


def write_record(state_directory: Path, record: NotifyRecord) -> None:
    """Put it in place of the last one, in one step. Raises OSError."""
    part = state_directory / f".{_NAME}.part"
    part.write_bytes(json.encode(record) + b"\n")
    part.replace(state_directory / _NAME)


def remove_record(state_directory: Path) -> None:
    """Where no command is told of anything. Raises OSError."""
    (state_directory / _NAME).unlink(missing_ok=True)


def with_notify_warnings(status: Status, state_directory: Path) -> Status:
    """The engine's status with what is to be said of the commands."""
    found = read_record(state_directory).warnings
    if not found:
        return status
    routers = [
        replace(router, warnings=[*router.warnings, *found.get(router.virtual_ip, [])]) for router in status.routers
    ]
    return replace(status, warnings=[*status.warnings, *found.get("", [])], routers=routers)
