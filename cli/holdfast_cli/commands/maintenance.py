"""`holdfast maintenance`."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import click

from holdfast_api.errors import EnvironmentFailure
from holdfast_api.messages import RouterStatus, Status
from holdfast_api.reasons import Health, State
from holdfast_cli.client import ask_status
from holdfast_cli.commands.options import STATE_DIRECTORY
from holdfast_cli.standalone import maintenance

_LOOK_EVERY_SECONDS = 0.1
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORM = re.compile(r"(?:[0-9]{1,6}[smhd])+")


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        parts = re.findall(r"([0-9]+)([smhd])", value) if _FORM.fullmatch(value) else []
        lasts = timedelta(seconds=sum(int(number) * _SECONDS[unit] for number, unit in parts))
        if timedelta(0) < lasts <= timedelta(days=366):
            return lasts
        told = f"must be a duration such as 30m, 1h, 1h30m or 2d, at most a year, and is {value!r}"
        raise click.BadParameter(told, ctx, param)


@click.command(short_help="Give every VIP of this host up, and take none.")
@click.argument("wish", metavar="on|off", type=click.Choice(["on", "off"]))
@click.option("--for", "lasts", type=_Duration(), metavar="DURATION", help="With on: it ends by itself (30m, 1h, 2d).")
@click.option("--timeout", default=10, show_default=True, metavar="SECONDS", type=click.IntRange(1, 600))
@STATE_DIRECTORY
def command(wish: str, lasts: timedelta | None, timeout: int, state_dir: Path) -> None:
    """Give every VIP of this host up, make before break, and take none while another host can.

    It stays so over restarts of holdfast run, until `off` or for as long as --for says. A VIP that no healthy host
    takes stays here, and goes as soon as one can take it; the exit status is 1 where that is so when the timeout is
    over. When it ends, VIPs stay where they are (with nopreempt: false they come back).

    \b
    Example: before the host is rebooted, and after it
      holdfast maintenance on --for 1h
      holdfast maintenance off
    """
    if wish == "off":
        if lasts is not None:
            raise click.BadParameter("goes with `on` alone", param_hint="--for")
        maintenance.end(state_dir)
        # It is off also where nothing runs that could say so.
        with contextlib.suppress(EnvironmentFailure):
            _wait(state_dir, timeout, lambda router: not router.health_detail.startswith("maintenance"))
        click.echo("maintenance is off")
        return
    asked = maintenance.begin(state_dir, lasts)
    try:
        status = _wait(state_dir, timeout, lambda router: _is_drained(router) and router.state is not State.MASTER)
    except EnvironmentFailure:
        click.echo(f"{asked.sentence}: no engine answers here, and one that starts begins with it")
        return
    if not all(map(_is_drained, status.routers)):
        raise EnvironmentFailure(f"holdfast run has not acted on it within {timeout} s: is it of this version?")
    held = [router.virtual_ip for router in status.routers if router.state is State.MASTER]
    if held:
        raise EnvironmentFailure(
            f"{asked.sentence}: still held here, as no healthy host took it over within {timeout} s: {', '.join(held)}"
        )
    click.echo(f"{asked.sentence}: no VIP is held here")


def _is_drained(router: RouterStatus) -> bool:
    return router.health is not Health.HEALTHY or router.state is State.INITIALIZE


def _wait(state_dir: Path, timeout: int, is_done: Callable[[RouterStatus], bool]) -> Status:
    """Until it is so of every router, or the time is over. Raises EnvironmentFailure where no engine answers."""
    end = time.monotonic() + timeout
    while True:
        status = ask_status(state_dir)
        if all(map(is_done, status.routers)) or time.monotonic() > end:
            return status
        time.sleep(_LOOK_EVERY_SECONDS)
