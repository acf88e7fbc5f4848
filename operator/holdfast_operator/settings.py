"""What the command line and the environment say."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from holdfast_api.errors import ConfigurationError
from holdfast_kube.listening import Address
from holdfast_operator.planner.cluster.view import ClusterRules
from holdfast_operator.surroundings import SPEAKER_PODS

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def _identity() -> str:
    # A pod that restarts keeps its name, and must not take the lease of its former process for its own.
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process runs."""

    namespace: str
    """Where the Lease and the speakers' pods are."""
    lease_name: str
    health_address: Address
    identity: str = field(default_factory=_identity)
    """The Lease's holder: one process, not one pod."""
    rules: ClusterRules = field(default_factory=ClusterRules)
    speaker_pods: str = SPEAKER_PODS
    """The label selector of the speakers' pods."""
    services: bool = True
    """Whether Services of type LoadBalancer are given addresses."""

    @classmethod
    def of(
        cls,
        namespace: str | None,
        lease_name: str,
        health_address: str,
        rules: ClusterRules | None = None,
        speaker_pods: str = SPEAKER_PODS,
        *,
        services: bool = True,
    ) -> Self:
        """From what was given. Raises ConfigurationError."""
        namespace = namespace or _own_namespace()
        if not _DNS_LABEL.fullmatch(namespace):
            raise ConfigurationError(f"{namespace!r} is no name of a namespace", field="--namespace")
        if not _DNS_SUBDOMAIN.fullmatch(lease_name):
            raise ConfigurationError(f"{lease_name!r} is no name of a Lease", field="--lease-name")
        address = Address.parse(health_address, "--health-address")
        rules = rules or ClusterRules()
        return cls(namespace, lease_name, address, rules=rules, speaker_pods=speaker_pods, services=services)


def parse_networks(text: str, field: str) -> tuple[str, ...]:
    """Networks of both families, between commas. Raises ConfigurationError, which names the field.

    >>> parse_networks("10.96.0.0/12, fd00:10:96::/112", "--service-networks")
    ('10.96.0.0/12', 'fd00:10:96::/112')
    """
    networks = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            networks.append(str(ipaddress.ip_network(part)))
        except ValueError as error:
            raise ConfigurationError(f"must be networks between commas: {error}", field=field) from error
    return tuple(networks)


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(
            f"must be given outside of a pod ({_NAMESPACE_FILE}: {error.strerror})", field="--namespace"
        ) from error


def api_servers_service(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The API server's Service, as a pod is told: so much is known where nobody says what networks Services have.

    Some providers tell a name there, which is no network.

    >>> api_servers_service({"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    ('10.96.0.1/32',)
    """
    try:
        return (str(ipaddress.ip_network(environment.get("KUBERNETES_SERVICE_HOST", ""))),)
    except ValueError:
        return ()
