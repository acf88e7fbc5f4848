"""`holdfast run`."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import click

from holdfast_cli.commands.options import FILES, INTERFACE
from holdfast_cli.standalone.spawn import Spawned, fork_engine


@click.command(short_help="Hold VIPs on this host, from VirtualIP files.")
@FILES
@click.option("--node-name", required=True, metavar="NAME", help="This host's name, as nodes.priorities has it.")
@INTERFACE
@click.option(
    "--state-dir",
    default=Path("/run/holdfast"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where this host's state is kept, best on a tmpfs.",
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "notice", "warning", "error"]),
    help="The least level that is shown; to become Master and to be it no more is notice.",
)
@click.option(
    "--log-format",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
    help="Lines for people, or JSON objects.",
)
@click.option(
    "--journal",
    is_flag=True,
    help="Keep what the engine is told and decides, for why and replay: a few MiB of memory; with 255 VIPs, a pause of "
    "some 6 ms every 13 s.",
)
@click.option(
    "--notify",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Run each executable of that folder, in the order of their names, for each change of state of each VIP.",
)
@click.pass_obj
def command(
    begun: Spawned | None,
    files: tuple[Path, ...],
    node_name: str,
    interface: str | None,
    state_dir: Path,
    log_level: str,
    log_format: str,
    journal: bool,
    notify: Path | None,
) -> None:
    """Hold VIPs on this host, from VirtualIP files, in the foreground and in the current network namespace.

    SIGHUP or a changed file: the files are read again; what did not change is not disturbed, and a file that is broken
    or empty changes nothing (to hold none any more, write `items: []`). SIGTERM: every VIP is given up cleanly.

    A second run with the same state directory waits for the first.

    \b
    Example:
      holdfast run -f /etc/holdfast/vip.yaml --node-name n1
    """
    if not node_name.strip():
        raise click.BadParameter("must not be empty", param_hint="--node-name")
    spawned = begun or fork_engine()

    from holdfast_cli.standalone.feed import Feed
    from holdfast_cli.standalone.past_moves import keep_moves, kept_moves

    feed = Feed(list(files), node_name, interface, state_dir)
    look = feed.look()
    plan = feed.plan(look)
    past_moves = kept_moves(state_dir)  # before the engine publishes its own state there
    spawned.begin(plan.configuration, state_dir, journal=journal)

    # What takes longest to import, while the engine begins.
    from holdfast_cli.standalone.log import Log
    from holdfast_cli.standalone.notifier import Notifier
    from holdfast_cli.standalone.supervisor import Supervisor

    log = Log(log_level, log_format, node_name)
    try:
        keep = functools.partial(keep_moves, state_dir, past_moves)
        notifier = Notifier(notify, state_dir, node_name, log)
        status = Supervisor(feed, look, plan, spawned, log, keep, notifier).run()
    finally:
        log.close()
    sys.exit(status)
