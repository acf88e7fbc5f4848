"""`holdfast convert`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast_api.errors import EnvironmentFailure

if TYPE_CHECKING:
    from holdfast_cli.convert import Conversion, Input
    from holdfast_cli.convert.manifests import ConvertedManifests

    Converted = Conversion | ConvertedManifests


@click.command(short_help="Make VirtualIPs from keepalived's files, kube-vip's and MetalLB's.")
@click.argument("files", metavar="[NAME=]FILE...", nargs=-1, required=True)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME",
    help="A host's name as a node: one for each FILE, in their order. Another way to write NAME=FILE.",
)
@click.option(
    "-i",
    "--config-id",
    default="",
    metavar="ID",
    help="Which @ID lines count, as in keepalived. The default is each host's name, as given or as its file's.",
)
@click.option("--strict", is_flag=True, help="Refuse what keepalived complains of, also where it runs all the same.")
@click.option("--sticky", is_flag=True, help="No VIP moves back when a host returns, whatever the files say.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the YAML there, not to stdout.",
)
def command(
    files: Sequence[str], nodes: Sequence[str], config_id: str, strict: bool, sticky: bool, output: Path | None
) -> None:
    """Make VirtualIPs from keepalived configurations, one FILE for each host.

    Instances of several hosts that are one virtual router become one VirtualIP. The YAML goes to stdout; what has no
    counterpart, or behaves otherwise than in keepalived, goes to stderr with file and line, what differs first. A host
    without NAME is called by its router_id, or else by its file's name.

    Manifests of kube-vip and of MetalLB (IPAddressPool, L2Advertisement) become AddressPools, and a VirtualIP of the
    API server.

    \b
    Example:
      holdfast convert n1=/tmp/n1/keepalived.conf n2=/tmp/n2/keepalived.conf -o vip.yaml
    """
    from holdfast_cli.convert import convert
    from holdfast_cli.convert.manifests import are_manifests, convert_manifests

    inputs = _inputs(files, nodes)
    converted: Converted = (
        convert_manifests(inputs) if are_manifests(inputs) else convert(inputs, config_id, strict=strict, sticky=sticky)
    )
    for line in converted.report:
        click.echo(line, err=True)
    if output is None:
        click.echo(converted.yaml, nl=False)
        return
    try:
        output.write_text(converted.yaml, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailure(f"{output} cannot be written: {error.strerror}") from error


def _inputs(files: Sequence[str], nodes: Sequence[str]) -> list[Input]:
    from holdfast_cli.convert import Input

    if nodes and len(nodes) != len(files):
        raise click.BadParameter(
            f"must be given once for each FILE: {len(files)} times, not {len(nodes)}", param_hint="--node"
        )
    if nodes:
        return [Input(Path(file), node) for file, node in zip(files, nodes, strict=True)]
    inputs = []
    for file in files:
        node, equals, path = file.partition("=")
        # A file whose own name has an equals sign is still that file.
        named = equals and node and path and not Path(file).exists()
        inputs.append(Input(Path(path), node) if named else Input(Path(file)))
    return inputs
