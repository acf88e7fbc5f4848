"""`holdfast status`."""

from __future__ import annotations

import enum
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
import yaml

from holdfast_api.errors import EnvironmentFailure
from holdfast_api.messages import GetStatus, RouterStatus, Status
from holdfast_api.reasons import Health, State
from holdfast_cli.client import ask
from holdfast_cli.commands.options import STATE_DIRECTORY
from holdfast_cli.standalone.maintenance import asked_for
from holdfast_cli.standalone.notify_record import with_notify_warnings

_COLOURS = {State.MASTER: "green", State.BACKUP: "blue", State.INITIALIZE: "red"}


@click.command(short_help="Show what the engine on this host does.")
@STATE_DIRECTORY
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@click.option(
    "--check", is_flag=True, help="Say how it is in a line, and with the exit status, as monitoring plugins do."
)
def command(state_dir: Path, output: str, check: bool) -> None:
    """Show each virtual router of this host: state, why, priority, health, who holds it, counters, and the timers.

    With --check the exit status is 0 where each VIP is held here or by a Master that is heard, 1 where there is a
    warning besides, 2 where a VIP is neither, and 3 where no engine answers.

    \b
    Example:
      holdfast status
      holdfast status -o json | jq '.routers[].state'
      holdfast status --check
    """
    try:
        answer = ask(state_dir, GetStatus())
    except EnvironmentFailure as failure:
        if not check:
            raise
        click.echo(f"{Verdict.UNKNOWN.name}: {failure}")
        sys.exit(Verdict.UNKNOWN)
    if not isinstance(answer, Status):
        raise EnvironmentFailure("the engine answered something else than its status")
    answer = with_notify_warnings(answer, state_dir)
    if check:
        verdict, lines = judge(answer)
        click.echo("\n".join(lines))
        sys.exit(verdict)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2))
    elif output == "yaml":
        click.echo(yaml.safe_dump(msgspec.to_builtins(answer), sort_keys=False), nl=False)
    else:
        asked = asked_for(state_dir)
        click.echo("\n".join(_lines(answer, asked.sentence if asked is not None else "")))


class Verdict(enum.IntEnum):
    """Exit statuses, as those of monitoring plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def judge(status: Status) -> tuple[Verdict, list[str]]:
    """How it is, and a line that says so; where it is not well, a line for each reason."""
    found = [(Verdict.WARNING, warning) for warning in status.warnings]
    for router in status.routers:
        found += [(verdict, f"{router.virtual_ip}: {reason}") for verdict, reason in _judge(router)]
    verdict = max((one for one, _ in found), default=Verdict.OK)
    held = sum(router.state is State.MASTER for router in status.routers)
    first = f"{verdict.name}: {len(status.routers)} VIPs, {held} held by {status.node_name}"
    return verdict, [first, *(f"{one.name}: {reason}" for one, reason in sorted(found, reverse=True))]


def _judge(router: RouterStatus) -> Iterator[tuple[Verdict, str]]:
    if router.state is State.INITIALIZE:
        yield Verdict.CRITICAL, router.obstacle_detail or "it takes no part"
    elif router.state is State.BACKUP and not router.master:
        yield Verdict.CRITICAL, "no Master is heard"
    if router.health is not Health.HEALTHY:
        yield Verdict.WARNING, f"{router.health}: {router.health_detail}".removesuffix(": ")
    for warning in router.warnings:
        if warning != router.obstacle_detail:
            yield Verdict.WARNING, warning


def _lines(status: Status, maintenance: str = "") -> list[str]:
    late, real = status.lateness, status.real_time
    lines = [
        f"node {status.node_name}: engine {status.version}, process {status.pid}, up {_age(status.started)}, "
        f"configuration generation {status.generation}",
        f"timers: {late.samples} fired, late by p50 {late.p50_microseconds} us, p99 {late.p99_microseconds} us, "
        f"max {late.max_microseconds} us",
        f"real time: {real.scheduling}; memory {real.memory}; garbage collection {real.garbage_collection}; "
        f"CPU latency {real.cpu_latency}",
    ]
    if maintenance:
        lines.append(click.style(maintenance, fg="yellow"))
    if status.restarts:
        lines.append(click.style(f"restarts: {status.restarts}, the last at {status.last_death}", fg="yellow"))
    lines += [click.style(f"warning: {warning}", fg="yellow") for warning in status.warnings]
    if status.link_counters:
        lines.append("packets of other virtual routers: " + _counted(status.link_counters))
    for router in status.routers:
        lines += ["", *_router_lines(router)]
    if not status.routers:
        lines += ["", "no VirtualIP"]
    return lines


def _router_lines(router: RouterStatus) -> list[str]:
    state = click.style(router.state, fg=_COLOURS[router.state], bold=True)
    interface = router.interface or "(no interface yet)"
    effective = f", advertised as {router.effective_priority}" if router.effective_priority != router.priority else ""
    if router.unproved:
        effective = f", advertises {router.effective_priority} until it hears another router"
    health = router.health if router.health is Health.HEALTHY else click.style(router.health, fg="red")
    detail = f" ({router.health_detail})" if router.health_detail and router.health is not Health.HEALTHY else ""
    lines = [
        f"{click.style(router.virtual_ip, bold=True)}  {state} for {_age(router.since)}",
        f"  addresses  {', '.join(router.addresses)} on {interface}",
        f"  protocol   VRRPv{router.version}, virtual router ID {router.virtual_router_id}, "
        f"every {router.advertisement_interval_milliseconds} ms{_learned(router)}",
        f"  priority   {router.priority}{effective}",
        f"  health     {health}{detail}",
    ]
    if router.reason is not None:
        moves = "1 move" if router.transitions == 1 else f"{router.transitions} moves"
        lines.append(f"  last move  {router.reason}: {router.message} ({moves})")
    if router.master:
        after = router.takes_over_after_milliseconds
        patience = f"; this host takes over after {after} ms of silence" if after else ""
        lines.append(f"  master     {router.master} with priority {router.master_priority}{patience}")
    if router.obstacle_detail:
        lines.append(click.style(f"  obstacle   {router.obstacle_detail}", fg="red"))
    warnings = [warning for warning in router.warnings if warning != router.obstacle_detail]
    lines += [click.style(f"  warning    {warning}", fg="yellow") for warning in warnings]
    if router.counters:
        lines.append(f"  counters   {_counted(router.counters)}")
    return lines


def _learned(router: RouterStatus) -> str:
    if router.advertised_interval_milliseconds > router.advertisement_interval_milliseconds:
        return f" (late, so it says {router.advertised_interval_milliseconds} ms)"
    if router.learned_interval_milliseconds == router.advertisement_interval_milliseconds:
        return ""
    return f" (its Master: every {router.learned_interval_milliseconds} ms)"


def _counted(counters: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counters.items() if count)


def _age(since: str) -> str:
    """As kubectl shows ages: 45s, 3m12s, 5h7m, 2d3h."""
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
