"""The operator's process: `python -m holdfast_operator`.

Exit status: 0 after SIGTERM or SIGINT; 1 where the API server or the machine failed in a way that a new start mends;
2 where it is started wrongly.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import click

from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_kube import log
from holdfast_kube.api_server import load_configuration
from holdfast_kube.certificate import Certificate
from holdfast_operator import process
from holdfast_operator.planner.cluster.plan import plan_cluster
from holdfast_operator.planner.cluster.view import ClusterRules
from holdfast_operator.settings import Settings, api_servers_service, parse_networks
from holdfast_operator.surroundings import SPEAKER_PODS

_log = logging.getLogger(__name__)


@click.command(
    context_settings={
        "auto_envvar_prefix": "HOLDFAST_OPERATOR",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    }
)
@click.version_option(package_name="holdfast")
@click.option(
    "--namespace",
    envvar=["HOLDFAST_OPERATOR_NAMESPACE", "POD_NAMESPACE"],
    help="Where the Lease and the speakers' pods are.  [default: the pod's own namespace]",
)
@click.option("--lease-name", default="holdfast-operator", help="The Lease that decides which replica writes.")
@click.option(
    "--health-address",
    default=":8080",  # the kubelet and Prometheus ask from outside
    metavar="[HOST]:PORT",
    help="Where /healthz, /readyz and /metrics are served.",
)
@click.option(
    "--metrics-tls-dir",
    default="",
    metavar="FOLDER",
    help="With tls.crt and tls.key in it: all of it over TLS, /metrics for who may get it by the cluster's RBAC.",
)
@click.option(
    "--pools-required",
    type=click.Choice(["auto", "true", "false"]),
    default="auto",
    help="Whether a VirtualIP's addresses must be in AddressPools; auto: as soon as there ever was one.",
)
@click.option(
    "--service-networks",
    default="",
    metavar="PREFIX[,PREFIX...]",
    help="Where addresses of Services are from, beside what ServiceCIDR objects (Kubernetes 1.33) say.",
)
@click.option(
    "--allowed-probe-networks",
    default="",
    metavar="PREFIX[,PREFIX...]",
    help="Where probes may go beside loopback, their node's own addresses and the VIP's.",
)
@click.option(
    "--control-planes",
    type=click.Choice(["true", "false"]),
    default="false",
    help="Whether control planes hold VIPs where spec.nodes does not name them.",
)
@click.option(
    "--services",
    type=click.Choice(["true", "false"]),
    default="true",
    help="Whether Services of type LoadBalancer are given addresses.",
)
@click.option(
    "--services-without-class",
    type=click.Choice(["true", "false"]),
    default="false",
    help="Whether those that name no loadBalancerClass are, too.",
)
@click.option("--speaker-pods", default=SPEAKER_PODS, metavar="SELECTOR", help="The labels of the speakers' pods.")
@click.option("--log-format", type=click.Choice(log.FORMATS), default="text", help="One line for each record.")
@click.option("--log-level", type=click.Choice(log.LEVELS), default="info", help="The least that is told.")
def command(
    namespace: str | None,
    lease_name: str,
    health_address: str,
    metrics_tls_dir: str,
    pools_required: str,
    service_networks: str,
    allowed_probe_networks: str,
    control_planes: str,
    services: str,
    services_without_class: str,
    speaker_pods: str,
    log_format: str,
    log_level: str,
) -> int:
    """Plan which node runs which VirtualIP, and tell the speakers; with several replicas, one of them does.

    Every option can be given in the environment: HOLDFAST_OPERATOR_LEASE_NAME is --lease-name. Credentials come from
    KUBECONFIG, else from the pod's service account, else from ~/.kube/config.
    """
    log.configure(log.JSONLines() if log_format == "json" else log.TextLines(), log_level)
    rules = ClusterRules(
        pools_required=None if pools_required == "auto" else pools_required == "true",
        service_networks=(
            *parse_networks(service_networks, "--service-networks"),
            *api_servers_service(os.environ),
        ),
        allowed_probe_networks=parse_networks(allowed_probe_networks, "--allowed-probe-networks"),
        control_planes=control_planes == "true",
        services_without_class=services_without_class == "true",
    )
    settings = Settings.of(namespace, lease_name, health_address, rules, speaker_pods, services=services == "true")
    certificate = Certificate(Path(metrics_tls_dir)) if metrics_tls_dir else None
    asyncio.run(process.run(settings, load_configuration, plan_cluster, certificate))
    return 0


def main() -> int:
    """Run until told to stop; returns the exit status."""
    try:
        status: int = command.main(standalone_mode=False)
    except click.ClickException as error:
        print(f"holdfast-operator: {error.format_message()}", file=sys.stderr)
        return 2
    except ConfigurationError as error:
        print(f"holdfast-operator: {error}", file=sys.stderr)
        return 2
    except EnvironmentFailure as failure:
        _log.error("%s", failure)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
