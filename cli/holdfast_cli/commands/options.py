"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

FILES = click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="VirtualIP documents: a YAML file, or a folder of them. May be given several times.",
)
INTERFACE = click.option(
    "--interface", metavar="IF", help="For VirtualIPs that name none; else the one whose subnet holds the VIP."
)
STATE_DIRECTORY = click.option(
    "--state-dir",
    default=Path("/run/holdfast"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="The state directory that holdfast run was given.",
)
