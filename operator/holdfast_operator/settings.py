"""What the command line and the environment say."""

from __future__ import annotations

import os
import re
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from holdfast_api.errors import ConfigurationError
from holdfast_kube.listening import Address

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
    """Where the Lease is."""
    lease_name: str
    health_address: Address
    identity: str = field(default_factory=_identity)
    """The Lease's holder: one process, not one pod."""

    @classmethod
    def of(cls, namespace: str | None, lease_name: str, health_address: str) -> Self:
        """From what was given. Raises ConfigurationError."""
        namespace = namespace or _own_namespace()
        if not _DNS_LABEL.fullmatch(namespace):
            raise ConfigurationError(f"{namespace!r} is no name of a namespace", field="--namespace")
        if not _DNS_SUBDOMAIN.fullmatch(lease_name):
            raise ConfigurationError(f"{lease_name!r} is no name of a Lease", field="--lease-name")
        return cls(namespace, lease_name, Address.parse(health_address, "--health-address"))


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(
            f"must be given outside of a pod ({_NAMESPACE_FILE}: {error.strerror})", field="--namespace"
        ) from error
