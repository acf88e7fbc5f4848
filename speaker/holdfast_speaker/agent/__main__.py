"""The agent's process: `python -m holdfast_speaker.agent --node-name NAME`. It needs no capability."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from holdfast_api import __version__
from holdfast_api.addresses import parse_address
from holdfast_api.errors import ConfigurationError
from holdfast_kube import log
from holdfast_kube.api_server import APIServer, Patience, load_configuration
from holdfast_kube.listening import Address
from holdfast_speaker.agent.agent import LOOPBACK, Agent, Settings

PATIENCE: Final = Patience(connect=5, request=15, list=60)

_log = logging.getLogger(__name__)


def main() -> int:
    """Run until SIGTERM: exit status 0. 1 where it is started wrongly; an error of the program ends it too."""
    arguments = _arguments()
    log.configure(log.JSONLines({"node": arguments.node_name}), arguments.log_level)
    try:
        address = Address.parse(arguments.metrics_address, "--metrics-address") if arguments.metrics_address else None
        networks = [
            text.strip() for given in arguments.allowed_probe_network for text in given.split(",") if text.strip()
        ]
        settings = Settings(
            arguments.node_name,
            arguments.state_dir,
            arguments.cache_dir,
            address,
            arguments.metrics_tls_dir,
            networks,
            _host_addresses(arguments.host_address),
        )
        _raise_descriptor_limit()
        asyncio.run(_run(settings, arguments.kubeconfig))
    except ConfigurationError as error:
        _log.error("%s", error)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="holdfast-agent", description=__doc__)
    parser.add_argument("--node-name", default=os.environ.get("NODE_NAME", ""), help="by default NODE_NAME")
    parser.add_argument("--state-dir", type=Path, default=Path("/run/holdfast"), help="where engine.sock is")
    parser.add_argument("--cache-dir", type=Path, default=Path("/var/lib/holdfast"), help="a volume of this pod")
    parser.add_argument("--metrics-address", default=":9475", metavar="[HOST]:PORT", help="empty: no metrics")
    parser.add_argument(
        "--metrics-tls-dir",
        type=Path,
        help="with tls.crt and tls.key in it: metrics over TLS, for who may get /metrics by the cluster's RBAC",
    )
    parser.add_argument(
        "--allowed-probe-network",
        action="append",
        default=[],
        metavar="PREFIX[,PREFIX...]",
        help="where probes may go besides loopback, this node and the VIP itself; may be repeated",
    )
    parser.add_argument(
        "--host-address",
        action="append",
        default=[],
        metavar="ADDRESS[,ADDRESS...]",
        help="this node's InternalIPs, where its service proxy answers at healthCheckNodePorts; by default loopback",
    )
    parser.add_argument("--kubeconfig", help="by default KUBECONFIG, else the pod's service account")
    parser.add_argument("--log-level", default="info", choices=log.LEVELS)
    arguments = parser.parse_args()
    if not arguments.node_name:
        parser.error("--node-name: is missing, and NODE_NAME is not set")
    return arguments


def _raise_descriptor_limit() -> None:
    """As many as it may have: there is a connection for each healthCheckNodePort."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # fewer than the system allows by now (fs.nr_open)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _host_addresses(given: Sequence[str]) -> list[str]:
    """Raises ConfigurationError for what is no address."""
    found = [text.strip() for texts in given for text in texts.split(",") if text.strip()]
    for text in found:
        if parse_address(text) is None:
            raise ConfigurationError(f"must be an IPv4 or IPv6 address, not {text!r}", field="--host-address")
    return found or list(LOOPBACK)


async def _run(settings: Settings, kubeconfig: str | None) -> None:
    configuration = await load_configuration(kubeconfig)
    async with APIServer(configuration, f"holdfast-agent/{__version__}", PATIENCE) as api:
        agent = Agent(settings, api)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, agent.stop)
        await agent.run()


if __name__ == "__main__":
    sys.exit(main())
