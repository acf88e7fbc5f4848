"""`holdfast validate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast_cli.commands.options import FILES, INTERFACE

if TYPE_CHECKING:
    from holdfast_operator.planner.host.standalone import HostPlan


@click.command(short_help="Say what `holdfast run` would say of VirtualIP files.")
@FILES
@click.option("--node-name", metavar="NAME", help="The host that they are for; by default each host that they name.")
@INTERFACE
@click.option(
    "--before",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The files as they are in force: say what an edit of them does.",
)
def command(files: tuple[Path, ...], node_name: str | None, interface: str | None, before: tuple[Path, ...]) -> None:
    """Say what `holdfast run` would say of VirtualIP files. Nothing is touched, and nobody has to be root.

    Exit status 0: they would be put in force, with or without warnings, which are on stderr. 2: they would be refused,
    and a running `holdfast run` would keep what it has.

    \b
    Example:
      holdfast validate -f vip.yaml
      holdfast validate -f vip.yaml --before /etc/holdfast/vip.yaml
    """
    plans = _plans(files, node_name, interface)
    warnings = [warning for plan in plans.values() for warning in [*plan.warnings, *_unusable(plan)]]
    for warning in dict.fromkeys(warnings):
        click.echo(f"warning: {warning}", err=True)
    for name, plan in plans.items():
        count = len(plan.configuration.virtual_routers)
        click.echo(f"{name or 'any host'}: {count} VirtualIP{'' if count == 1 else 's'}")
    if before:
        former = _plans(before, node_name, interface)
        for name, plan in plans.items():
            for line in _edit(former.get(name) or next(iter(former.values())), plan):
                click.echo(f"{name or 'any host'}: {line}")


def _plans(files: tuple[Path, ...], node_name: str | None, interface: str | None) -> dict[str, HostPlan]:
    """By the host's name; empty where the files name none. Raises ConfigurationErrors."""
    from holdfast_api.documents import read_paths
    from holdfast_cli.standalone.feed import Feed

    if node_name:
        names = [node_name]
    else:
        documents = read_paths(list(files))
        names = sorted({name for document in documents for name in document.virtual_ip.named_nodes}) or [""]
    feeds = {name: Feed(list(files), name, interface) for name in names}
    return {name: feed.plan(feed.look()) for name, feed in feeds.items()}


def _unusable(plan: HostPlan) -> Iterator[str]:
    """The commands of notify that this host would not run."""
    from holdfast_cli.standalone.executables import Unusable, identity_of, require_usable

    for name, notifications in plan.notifications.items():
        for one in notifications:
            try:
                require_usable(one.command[0], identity_of(one.user, one.group), as_root=True)
            except Unusable as why:
                yield f"VirtualIP {name}: spec.notify: on this host {one.command[0]} {why}"


def _edit(before: HostPlan, after: HostPlan) -> list[str]:
    """What an engine that runs `before` does when it is told `after`."""
    former = {one.name: one for one in before.configuration.virtual_routers}
    lines = []
    for one in after.configuration.virtual_routers:
        was = former.pop(one.name, None)
        if was is None:
            lines.append(f"{one.name}: new")
        elif (was.virtual_router_id, was.version) != (one.virtual_router_id, one.version):
            lines.append(
                f"{one.name}: its virtual router ends and another begins, and nobody holds the addresses meanwhile: "
                f"virtualRouterID {was.virtual_router_id} -> {one.virtual_router_id}, "
                f"version {was.version} -> {one.version}"
            )
        elif was != one:
            lines.append(f"{one.name}: changed, and held on")
    lines += [f"{name}: given up" for name in former]
    return lines or ["nothing changes for the engine"]
