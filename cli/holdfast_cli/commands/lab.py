"""`holdfast lab`: hosts as network namespaces on this machine."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from holdfast_api.errors import ConfigurationError, EnvironmentFailure, HoldfastError
from holdfast_api.messages import RouterStatus

if TYPE_CHECKING:
    from holdfast_lab.lab import Lab
    from holdfast_lab.status import HostState

_WORDS_LOG = "holdfast_lab.words"
_KINDS = ("power", "freeze", "service", "link", "partition")


def _open(name: str) -> Lab:
    """The lab of that name, for a command that does something to it and so needs root."""
    from holdfast_lab.lab import Lab
    from holdfast_lab.network import require_means

    require_means()
    return Lab.open(name)


class _Group(click.Group):
    """Its commands need what the extra `lab` brings, and say so where that is not installed."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise EnvironmentFailure(f"the lab needs the Python package {error.name}: holdfast[lab]") from error


class _Words(logging.Handler):
    """Prints the command lines that do what the lab does."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


def _complete_host(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from holdfast_lab.record import LabStore

    try:
        record = LabStore(context.params.get("name") or "lab").load()
    except HoldfastError:
        return []
    names = [host.name for host in record.hosts]
    if context.info_name == "exec":
        names.append(record.client.name)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_NAME = click.option("--name", default="lab", show_default=True, metavar="NAME", help="Which lab, of several.")
_HOST = click.argument("host", shell_complete=_complete_host)


@click.group(cls=_Group, short_help="Hosts as network namespaces on one machine, to try things out.")
@click.option("-v", "--verbose", is_flag=True, help="Print each change of the network as the command that makes it.")
def command(verbose: bool) -> None:
    """Hosts as network namespaces on this machine, on one switch with a client: to see a VIP move, and stay.

    Needs root. Nothing of this machine's own network is touched, and `down` removes all that `up` made.

    \b
    Example: a lab for your own VirtualIPs
      holdfast lab up vip.yaml
      holdfast lab status
      holdfast lab fail n1 --kind power
      holdfast lab exec client -- curl http://10.77.0.200
      holdfast lab heal n1
      holdfast lab down
    """
    if verbose:
        words = logging.getLogger(_WORDS_LOG)
        words.setLevel(logging.INFO)
        words.addHandler(_Words())


@command.command(short_help="Make a lab for VirtualIPs.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--hosts", metavar="n1,n2,...", help="Names of the hosts; else those that the VirtualIPs name, or n1,n2.")
@_NAME
def up(files: tuple[Path, ...], hosts: str | None, name: str) -> None:
    """Make a lab for the VirtualIPs in FILE (or a folder) and start Holdfast and a service on each of its hosts.

    Each host has one interface and an address in every VIP's subnet: .11, .12, ...; the client has .100. The service
    answers every HTTP GET with the host's name, on the ports that the VirtualIPs' probes look at (else on 80).

    \b
    Example:
      holdfast lab up vip.yaml --hosts n1,n2,n3
    """
    from holdfast_api.documents import read_paths
    from holdfast_lab.lab import Lab
    from holdfast_lab.network import require_means
    from holdfast_lab.plan import plan_lab
    from holdfast_operator.planner.host.standalone import HostView, plan_host

    names = [host.strip() for host in hosts.split(",")] if hosts else []
    documents = read_paths(list(files))
    plan = plan_lab(documents, names)
    warnings: dict[str, None] = {}
    for planned in plan.hosts:
        # As `holdfast run` on this host will: what it would refuse is told before anything is made.
        view = HostView(planned.name, plan.interface, {plan.interface: planned.addresses})
        warnings |= dict.fromkeys(plan_host(documents, view, 1).warnings)
    require_means()
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    lab = Lab.create(name, plan, lambda _: list(files))
    for host in lab.record.hosts:
        click.echo(f"{host.name}: {', '.join(host.addresses)}")
    click.echo(f"client: {', '.join(lab.record.client.addresses)}")
    address = lab.record.virtual_addresses[0]
    url = f"http://[{address}]" if ":" in address else f"http://{address}"
    port = f":{lab.record.ports[0]}" if lab.record.ports[0] != 80 else ""
    option = f" --name {name}" if name != "lab" else ""
    click.echo(f"Try: holdfast lab status{option}; holdfast lab exec{option} client -- curl {url}{port}")


@command.command(short_help="Take a lab down.")
@_NAME
def down(name: str) -> None:
    """Take a lab down: its processes, its namespaces with their links, its folder below /run/holdfast-lab.

    Also what `up` had made when it was killed. When there is no such lab, nothing happens.

    \b
    Example:
      holdfast lab down
    """
    from holdfast_lab.lab import Lab
    from holdfast_lab.network import require_means
    from holdfast_lab.record import LabStore

    require_means()
    if LabStore(name).exists():
        Lab.open(name).down()
    else:
        click.echo(f"no lab {name} is up")


@command.command(
    "exec", short_help="Run a command on a host, or the client.", context_settings={"ignore_unknown_options": True}
)
@_NAME
@_HOST
@click.argument("arguments", nargs=-1, required=True, metavar="[--] CMD...", type=click.UNPROCESSED)
def execute(name: str, host: str, arguments: tuple[str, ...]) -> None:
    """Run a command in a host's network (or the client's: HOST `client`).

    \b
    Example:
      holdfast lab exec client -- ping 10.77.0.200
      holdfast lab exec n1 -- ip address show eth0
    """
    entered = _open(name).inside(host, list(arguments))
    sys.stdout.flush()
    try:
        os.execvp(entered[0], entered)  # noqa: S606  # the command is what the user asked for, and there is no shell
    except OSError as error:
        raise EnvironmentFailure(f"{entered[0]} cannot be run: {error.strerror}") from error


@command.command(short_help="Show what a lab's hosts do.")
@_NAME
def status(name: str) -> None:
    """Show each host: what failed of it, its service, what its Holdfast says, and which VIPs its kernel really has.

    \b
    Example:
      holdfast lab status
    """
    from holdfast_lab.status import states

    _print_table(states(_open(name)))


def _print_table(found: list[HostState]) -> None:
    header = ["HOST", "CONDITION", "SERVICE", "VIRTUALIP", "STATE", "PRIORITY", "HEALTH", "SINCE", "REALLY HAS"]
    rows = [header]
    for host in found:
        known = [host.name, host.condition, host.service]
        rows += [[*known, *_router_cells(router, host.has)] for router in host.routers]
        if not host.routers:
            rows.append([*known, "-", "-", "-", "-", "-", " ".join(host.has) or "-"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _router_cells(router: RouterStatus, has: tuple[str, ...]) -> list[str]:
    own = {address.partition("/")[0] for address in router.addresses}
    return [
        router.virtual_ip,
        router.state,
        str(router.effective_priority),
        router.health,
        router.since,
        " ".join(address for address in has if address in own) or "-",
    ]


@command.command(short_help="Let a host fail.")
@_NAME
@_HOST
@click.option("--kind", required=True, type=click.Choice(_KINDS), help="How it fails.")
def fail(name: str, host: str, kind: str) -> None:
    """Let a host fail.

    \b
    power      everything on it is gone at once, and its link is dead
    freeze     Holdfast stands still (SIGSTOP), the kernel goes on
    service    the service that the probes look at stops
    link       the cable is pulled: no carrier
    partition  the other hosts are out of reach, the client is not

    \b
    Example:
      holdfast lab fail n1 --kind power
    """
    from holdfast_lab.record import Failure

    if not _open(name).fail(host, Failure(kind)):
        click.echo(f"{host} has failed like that already")


@command.command(short_help="Undo every failure of a host.")
@_NAME
@_HOST
def heal(name: str, host: str) -> None:
    """Undo every failure of a host. One that was powered off boots: nothing of before is in its memory.

    \b
    Example:
      holdfast lab heal n1
    """
    healed = _open(name).heal(host)
    click.echo(f"{host}: healed from {', '.join(healed)}" if healed else f"nothing had failed on {host}")


@command.command(short_help="Play eight scenes: failures, returns, a switchover.")
@click.option("--compare", is_flag=True, help="Play the same with the real keepalived beside it, at the same times.")
@click.option("--release", is_flag=True, help="Play with `whenFailing: Release`: nobody holds when all services fail.")
@click.option("--keepalived", metavar="HOST", help="This host (n1 or n2) runs keepalived beside a Holdfast.")
def demo(compare: bool, release: bool, keepalived: str | None) -> None:
    """Play eight scenes, in under a minute: two hosts with keepalived's configurations, converted.

    Exit status 0 when every promise was kept, 1 otherwise. Nothing is left behind.

    \b
    Example:
      holdfast lab demo --compare
      holdfast lab demo --keepalived n2
    """
    if compare and release:
        raise ConfigurationError("keepalived's configuration here knows no Release", field="--compare --release")
    if keepalived is not None and (compare or release):
        raise ConfigurationError("goes with neither --compare nor --release", field="--keepalived")
    from holdfast_lab.demo import Interrupted, play_demo

    try:
        kept = play_demo(compare=compare, release=release, keepalived_on=keepalived)
    except Interrupted as interrupted:
        sys.exit(128 + interrupted.number)
    sys.exit(0 if kept else 1)
