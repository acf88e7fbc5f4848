"""`holdfast switchover`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from holdfast_api.errors import EnvironmentFailure
from holdfast_api.messages import Done, RouterStatus, Switchover
from holdfast_api.reasons import State
from holdfast_cli.client import ask, ask_status
from holdfast_cli.commands.options import STATE_DIRECTORY

_LOOK_EVERY_SECONDS = 0.05


@click.command(short_help="Move a VIP to another host, make before break.")
@click.argument("virtual_ip", metavar="VIP")
@click.option("--to", required=True, metavar="HOST", help="The host that shall hold it.")
@click.option("--timeout", default=10, show_default=True, metavar="SECONDS", type=click.IntRange(1, 600))
@STATE_DIRECTORY
def command(virtual_ip: str, to: str, timeout: int, state_dir: Path) -> None:
    """Move a VIP to HOST: it holds the addresses before the old holder lets them go, so that nothing is lost.

    Run it on HOST itself. On the holder, with another host's name, it steps aside for the best healthy Backup, which is
    HOST where there are two of them. Where the files name hosts, another HOST than those is refused. With nopreempt:
    false the VIP comes back to the healthy host with the highest priority, and that is said.

    \b
    Example: on n2
      holdfast switchover shop/web --to n2
    """
    answer = ask(state_dir, Switchover(virtual_ip=virtual_ip, to=to))
    if not isinstance(answer, Done):
        raise EnvironmentFailure("the engine answered something else than a result")
    click.echo(answer.message)
    status = ask_status(state_dir)
    wanted = State.MASTER if status.node_name == to else State.BACKUP
    router = _wait(state_dir, virtual_ip, wanted, timeout)
    if router.state is not wanted:
        raise EnvironmentFailure(
            f"nobody took {router.virtual_ip} within {timeout} s; {status.node_name} still holds it"
        )
    if wanted is State.BACKUP:
        click.echo(f"{router.virtual_ip} is held by {router.master} now (priority {router.master_priority})")


def _wait(state_dir: Path, name: str, wanted: State, timeout: int) -> RouterStatus:
    end = time.monotonic() + timeout
    while True:
        routers = ask_status(state_dir).routers
        router = next(item for item in routers if name in (item.virtual_ip, item.virtual_ip.partition("/")[2]))
        if router.state is wanted or time.monotonic() > end:
            return router
        time.sleep(_LOOK_EVERY_SECONDS)
