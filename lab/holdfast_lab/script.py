"""What the demo plays with: keepalived's configurations of two hosts, and the VirtualIPs that they are converted to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from holdfast_api.documents import read_text
from holdfast_api.errors import EnvironmentFailure
from holdfast_api.resources import VirtualIP, WhenFailing
from holdfast_lab.lab import holdfast_command

_HOSTS = ("n1", "n2")
_DIFFERS = ": differs: "


@dataclass(frozen=True, slots=True)
class Script:
    """What the demo plays with."""

    virtual_ips: Sequence[VirtualIP]
    configurations: dict[str, Path]
    """Per host, the keepalived configuration that they were converted from."""
    differences: tuple[str, ...]
    """What behaves otherwise than in keepalived, as `holdfast convert` tells it: file, line and why."""


def write_script(*, release: bool) -> Script:
    """Convert the example configurations, with `whenFailing: Release` if asked for.

    Raises EnvironmentFailure when the examples are not there, or `holdfast convert` refuses them.
    """
    folder = _examples_folder() / "keepalived"
    configurations = {host: folder / f"{host}.conf" for host in _HOSTS}
    finished = subprocess.run(
        holdfast_command("convert", *(f"{host}={file}" for host, file in configurations.items())),
        text=True,
        capture_output=True,
        check=False,
    )
    if finished.returncode != 0:
        raise EnvironmentFailure(f"`holdfast convert` failed: {' '.join(finished.stderr.split())}")
    virtual_ips = [document.virtual_ip for document in read_text(finished.stdout, "the converted configuration")]
    if release:
        virtual_ips = [_releasing(virtual_ip) for virtual_ip in virtual_ips]
    return Script(virtual_ips, configurations, _differences(finished.stderr, folder))


def _examples_folder() -> Path:
    """In a checkout beside the packages' folders; installed, where pip puts an application's data."""
    places = [Path(__file__).resolve().parents[2] / "examples", Path(sys.prefix) / "share" / "holdfast" / "examples"]
    for place in places:
        if (place / "keepalived").is_dir():
            return place
    raise EnvironmentFailure(f"the demo's configurations are not there: {' or '.join(map(str, places))}/keepalived")


def _differences(report: str, folder: Path) -> tuple[str, ...]:
    return tuple(line.replace(f"{folder}/", "") for line in report.splitlines() if _DIFFERS in line)


def _releasing(virtual_ip: VirtualIP) -> VirtualIP:
    track = msgspec.structs.replace(virtual_ip.spec.track, when_failing=WhenFailing.RELEASE)
    return msgspec.structs.replace(virtual_ip, spec=msgspec.structs.replace(virtual_ip.spec, track=track))
