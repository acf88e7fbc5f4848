"""What examples/systemd/holdfast.service says, so that tests follow the file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

UNIT: Final = Path(__file__).parents[3] / "examples" / "systemd" / "holdfast.service"


def settings(name: str) -> list[str]:
    """Every value of a setting, in order."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def bounding_set() -> list[str]:
    """The capabilities that the service and all that it starts can have; several settings add up (systemd.exec(5))."""
    return [name for value in settings("CapabilityBoundingSet") for name in value.split()]


def confined(capabilities: list[str]) -> list[str]:
    """The beginning of a command line that runs the rest with these capabilities and the unit's privileges."""
    bits = "".join(f",+{name.removeprefix('CAP_').lower()}" for name in capabilities)
    no_new_privileges = ["--no-new-privs"] if settings("NoNewPrivileges") == ["yes"] else []
    return ["setpriv", f"--bounding-set=-all{bits}", "--inh-caps=-all", *no_new_privileges]


def stop_command(state_directory: Path) -> list[str]:
    """The command of ExecStop, for another state directory, without the prefix that lets it fail."""
    (line,) = settings("ExecStop")
    line = line.removeprefix("-").replace("/run/holdfast", str(state_directory))
    return shlex.split(line.replace("%n", "holdfast.service").replace("$$", "$"))
