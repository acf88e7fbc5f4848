"""`holdfast replay`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from holdfast_api.errors import ConfigurationError, EnvironmentFailure


@click.command(short_help="Play a journal again, and compare.")
@click.argument("journal", metavar="FILE", type=click.Path(path_type=Path))
def command(journal: Path) -> None:
    """Give a recorded journal to the virtual router of this version, and print every transition.

    Exit status 0: the same transitions, byte for byte. 1: this version decides otherwise; both are printed.

    \b
    Example:
      holdfast why shop/web --journal web.journal
      holdfast replay web.journal
    """
    from holdfast_speaker.vrrp.journal import play

    try:
        lines = journal.read_bytes().splitlines()
    except OSError as error:
        raise EnvironmentFailure(f"{journal} cannot be read: {error.strerror}") from error
    differences = 0
    try:
        for played in play(lines):
            same = played.recorded == played.replayed
            differences += not same
            click.echo(f"{'same' if same else 'DIFFERS'}  {played.verb}  {played.replayed.decode()}")
            if not same:
                click.echo(f"recorded  {played.recorded.decode()}")
    except ConfigurationError as error:
        raise ConfigurationError(error.reason, file=str(journal), field=error.field) from error
    sys.exit(1 if differences else 0)
