"""`holdfast replay`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from holdfast_api.errors import UNDECODABLE, ConfigurationError, EnvironmentFailure
from holdfast_api.messages import Transition


@click.command(short_help="Play a journal again, and compare.")
@click.argument("journal", metavar="FILE", type=click.Path(path_type=Path))
def command(journal: Path) -> None:
    """Give a recorded journal to the engine of this version, and print every transition: when, of which VIP and which
    addresses, from which state to which, and why.

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
            _print("same" if same else "DIFFERS", played.verb, played.replayed, played.addresses)
            if not same:
                _print("recorded", played.verb, played.recorded, played.addresses)
            if played.difference:
                click.echo(f"DIFFERS  {played.verb}  {played.difference}; nothing is played after that")
    except ConfigurationError as error:
        raise ConfigurationError(error.reason, file=str(journal), field=error.field) from error
    sys.exit(1 if differences else 0)


def _print(verdict: str, verb: str, content: bytes, addresses: Mapping[str, Sequence[str]]) -> None:
    try:
        transitions = msgspec.json.decode(content, type=list[Transition])
    except UNDECODABLE:  # a journal that was edited
        click.echo(f"{verdict}  {verb}  {content.decode(errors='replace')}")
        return
    if not transitions and verdict != "same":
        click.echo(f"{verdict}  {verb}  nothing moves")
    for one in transitions:
        held = ", ".join(addresses.get(one.virtual_ip, ()))
        move = f"{one.from_state} -> {one.to_state}"
        click.echo(f"{verdict}  {verb}  {one.time}  {one.virtual_ip}  {held}  {move}  {one.reason}: {one.message}")
