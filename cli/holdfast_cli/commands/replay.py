"""`holdfast replay`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from holdfast_api.errors import ConfigurationError, EnvironmentFailure


@click.command(short_help="Play a journal again, and compare.")
@click.argument("journal", metavar="FILE", type=click.Path(path_type=Path))
def command(journal: Path) -> None:
    """Give a recorded journal to the engine of this version, and print every transition.

    Its kernel, its network and its clock answer what they answered then. Exit status 0: the same transitions, byte for
    byte, and the same requests to the kernel and packets. 1: this version decides otherwise; both are printed.

    \b
    Example:
      holdfast why shop/web --journal web.journal
      holdfast replay web.journal
    """
    from holdfast_speaker.engine.replay import play

    try:
        lines = journal.read_bytes().splitlines()
    except OSError as error:
        raise EnvironmentFailure(f"{journal} cannot be read: {error.strerror}") from error
    differences = 0
    try:
        for played in play(lines):
            same = played.recorded == played.replayed
            differences += not same or bool(played.difference)
            if not same or played.replayed != b"[]":
                click.echo(f"{'same' if same else 'DIFFERS'}  {played.verb}  {played.replayed.decode()}")
            if not same:
                click.echo(f"recorded  {played.recorded.decode()}")
            if played.difference:
                click.echo(f"DIFFERS  {played.verb}  {played.difference}; nothing is played after that")
    except ConfigurationError as error:
        raise ConfigurationError(error.reason, file=str(journal), field=error.field) from error
    sys.exit(1 if differences else 0)
