"""From keepalived's configurations to VirtualIPs."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast_api.documents import read_text, write_text
from holdfast_api.errors import ConfigurationError, ConfigurationErrors
from holdfast_cli.convert import report
from holdfast_cli.convert.blocks import everything, statements
from holdfast_cli.convert.hosts import read_host, router_id, router_id_statement
from holdfast_cli.convert.ledger import Kind, Ledger, Note, Place, Statement
from holdfast_cli.convert.merge import find_routers, join_families, settle_groups, share_tracking
from holdfast_cli.convert.source import Source
from holdfast_cli.convert.virtual_ips import Converted, Writer

_NODE_NAME_LENGTH_MAX = 253


@dataclass(frozen=True)
class Input:
    """One host's configuration; without a name the node is named after its router_id or its file."""

    path: Path
    node: str = ""

    @functools.cached_property
    def content(self) -> bytes:
        """What the file has. Read once: of a pipe nothing is left then. Raises ConfigurationErrors."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
            raise ConfigurationErrors([ConfigurationError(reason, file=str(self.path))]) from error


@dataclass(frozen=True, slots=True)
class Conversion:
    """The VirtualIPs as YAML, what was made of what, and the account that it is drawn from."""

    yaml: str
    report: list[str]
    converted: list[Converted]
    ledger: Ledger
    statements: list[Statement]
    """Every statement of every file, with those in blocks."""


def convert(inputs: Sequence[Input], config_id: str = "", *, strict: bool = False, sticky: bool = False) -> Conversion:
    """VirtualIPs from the configurations of one or more hosts.

    `config_id` is keepalived's --config-id, which `@` lines are for; the default is each node's name. `strict` refuses
    what keepalived complains of, also where it runs all the same. `sticky`: no VIP moves back. Raises
    ConfigurationErrors with everything that keepalived refuses, or that no VirtualIP can say.
    """
    ledger = Ledger(strict=strict)
    read = [_read(given, config_id, ledger) for given in inputs]
    ledger.raise_errors()
    nodes = _node_names(inputs, read)
    if len(inputs) == 1 and not inputs[0].node and (found := router_id_statement(read[0])) is not None:
        text = f"the host is called {nodes[0]}: `holdfast run --node-name` has to say the same; NAME=FILE says another"
        ledger.remark(found, text)
    hosts = [
        read_host(node, Place(str(given.path), 1), tree, ledger)
        for node, given, tree in zip(nodes, inputs, read, strict=True)
    ]
    ledger.raise_errors()
    for host in hosts:
        share_tracking(host, ledger)
    routers = join_families(find_routers(hosts), hosts)
    settle_groups(hosts, routers, ledger)
    writer = Writer(ledger, len(hosts), sticky=sticky)
    converted = [made for router in routers for made in writer.convert(router)]
    files = [str(given.path) for given in inputs]
    if not converted:
        ledger.refuse(Place(files[0], 1), "vrrp_instance", "no file has one with a virtual address: nothing to convert")
    ledger.raise_errors()
    yaml = write_text([made.virtual_ip for made in converted])
    read_text(yaml, "the converted configuration")
    return Conversion(
        yaml,
        list(report.lines(converted, ledger.notes, files)),
        converted,
        ledger,
        [statement for tree in read for statement in everything(tree)],
    )


def _read(given: Input, config_id: str, ledger: Ledger) -> list[Statement]:
    identity = config_id or given.node or _name_of_file(given.path) or _host_name()
    source = Source(identity, ledger)
    lines = source.read(given.path, given.content)
    if source.has_conditions and not config_id and not given.node:
        text = f"the config-id is taken to be {identity}; --config-id or NAME=FILE says another one"
        ledger.note(Note(Place(str(given.path), 1), "@", Kind.NOTE, text))
    return statements(lines, ledger)


def _host_name() -> str:
    """keepalived's default for the config-id and the router_id."""
    return socket.gethostname().partition(".")[0]


def _name_of_file(path: Path) -> str:
    """n1 for n1.conf and for n1/keepalived.conf; empty for /etc/keepalived/keepalived.conf, which says nothing."""
    names = (path.stem, path.absolute().parent.name)
    return next((name for name in names if name not in ("", "keepalived", "etc")), "")


def _node_names(inputs: Sequence[Input], read: Sequence[list[Statement]]) -> list[str]:
    """A name for each host: as given, else the first of the ways to name them that tells them apart."""
    ways: list[Callable[[int], str]] = [
        lambda index: router_id(read[index]),
        lambda index: _name_of_file(inputs[index].path),
    ]
    if len(inputs) == 1:
        ways.append(lambda _: _host_name())
    for way in ways:
        names = [given.node or way(index) for index, given in enumerate(inputs)]
        if all(0 < len(name) <= _NODE_NAME_LENGTH_MAX for name in names) and len(set(names)) == len(names):
            return names
    raise ConfigurationErrors(
        [
            ConfigurationError(
                "has no router_id and no file name that tells it from the other hosts: give NAME=FILE",
                file=str(given.path),
            )
            for given in inputs
            if not given.node
        ]
        or [ConfigurationError("must be different for each file", field="node name")]
    )
