"""What the speaker's process is told when it begins: by its command line, or by `holdfast run`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_network

from msgspec import Struct


class Arguments(Struct, frozen=True, kw_only=True):
    """As the command line's --help explains them."""

    node_name: str
    state_directory: str
    parent: int
    """The process with which this one ends."""
    control_descriptor: int | None = None
    """Of a connection on which a supervisor says what to do; nothing is touched before its first word."""
    agent_group: int | None = None
    allowed_networks: Sequence[str] = ()
    api_server_addresses: Sequence[str] = ()
    step_aside_milliseconds: int = 400
    journal: bool = False


def parse(words: Sequence[str] | None = None) -> Arguments:
    """From a command line, the process's own where none is given. Ends the process where it is none."""
    import argparse  # `holdfast run` has no need of it

    def networks(text: str) -> list[str]:
        """Prefixes with a comma between them; an address is one of full length."""
        try:
            return [str(ip_network(item.strip())) for item in text.split(",") if item.strip()]
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    parser = argparse.ArgumentParser(
        prog="holdfast-engine",
        description="Hold what the last good configuration in the state directory says, or what an agent tells on the "
        "control socket. The log goes to standard error, JSON lines.",
    )
    parser.add_argument("--node-name", required=True)
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--agent-group", type=int, metavar="GID", help="may use the control socket too")
    parser.add_argument(
        "--allowed-network",
        type=networks,
        action="extend",
        default=[],
        metavar="PREFIX[,PREFIX...]",
        help="hold addresses of these alone, whatever the configuration says; may be repeated",
    )
    parser.add_argument(
        "--api-server-address",
        type=networks,
        action="extend",
        default=[],
        metavar="ADDRESS[,ADDRESS...]",
        help="never hold these; in a pod KUBERNETES_SERVICE_HOST is one of them",
    )
    parser.add_argument("--step-aside-milliseconds", type=int, default=400, help="how long a stop waits for Backups")
    parser.add_argument("--journal", action="store_true")
    told = parser.parse_args(words)
    return Arguments(
        node_name=told.node_name,
        state_directory=told.state_dir,
        parent=os.getppid(),
        agent_group=told.agent_group,
        allowed_networks=told.allowed_network,
        api_server_addresses=told.api_server_address,
        step_aside_milliseconds=told.step_aside_milliseconds,
        journal=told.journal,
    )
