"""The command `holdfast`: a group whose subcommands are imported when they are used, so that each starts fast.

Exit status: 0 done, 1 the machine refused (or a promise was not kept), 2 bad input, found before anything was touched.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from holdfast_api.errors import ConfigurationError, ConfigurationErrors, EnvironmentFailure, HoldfastError

if TYPE_CHECKING:
    from holdfast_cli.standalone.spawn import Spawned

_COMMANDS = {
    "run": "Hold VIPs on this host, from VirtualIP files.",
    "validate": "Say what `holdfast run` would say of VirtualIP files.",
    "status": "Show what the engine on this host does.",
    "switchover": "Move a VIP to another host, make before break.",
    "maintenance": "Give every VIP of this host up, and take none.",
    "why": "Tell why a VIP moved.",
    "replay": "Play a journal again, and compare.",
    "sniff": "Show VRRP on the wire: who is Master, what changes, what is wrong.",
    "convert": "Make VirtualIPs from keepalived's files, kube-vip's and MetalLB's.",
    "lab": "Hosts as network namespaces on one machine, to try things out.",
    "completion": "Print the shell's completion script.",
}


class LazyGroup(click.Group):
    """Knows the names and one line of each subcommand, and imports only the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a first afternoon, not of the alphabet."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import holdfast_cli.commands.NAME, whose `command` it is."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"holdfast_cli.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="holdfast")
def holdfast() -> None:
    """Keep a virtual IP where it works: sticky, never stuck.

    \b
    Example: hold what vip.yaml says, on this host
      holdfast run -f vip.yaml --node-name n1
    """


def obey(spawned: Spawned | None) -> None:
    """Do what the command line says, and end. `spawned`: the engine's process, where it was begun already."""
    try:
        holdfast(prog_name="holdfast", obj=spawned)
    except ConfigurationErrors as errors:
        _end(2, *errors.errors)
    except ConfigurationError as error:
        _end(2, error)
    except EnvironmentFailure as failure:
        _end(1, failure)


def _end(status: int, *errors: HoldfastError) -> NoReturn:
    # Where nobody reads what is said, the status still does.
    with contextlib.suppress(OSError):
        for error in errors:
            click.echo(f"error: {error}", err=True)
    sys.exit(status)
