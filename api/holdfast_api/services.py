"""What Holdfast and the authors of Services of type LoadBalancer say to each other: in core/v1, beside its own fields.

docs/reference/service.md explains each to a person.
"""

from __future__ import annotations

import enum
from typing import Final

from holdfast_api.cluster import GROUP

LOAD_BALANCER_CLASS: Final = f"{GROUP}/vrrp"
"""spec.loadBalancerClass of the Services that are given addresses."""

POOL_ANNOTATION: Final = f"{GROUP}/pool"
"""The AddressPool that a Service's addresses are to be from."""

ADDRESSES_ANNOTATION: Final = f"{GROUP}/addresses"
"""The addresses that a Service is to have, separated by commas, one of a family at most."""

SHARING_KEY_ANNOTATION: Final = f"{GROUP}/sharing-key"
"""Services of one namespace that have the same here share their addresses. Of a VirtualIP: whose it is by this key."""

SERVICE_VIP_LABEL: Final = f"{GROUP}/service-vip"
"""Of a VirtualIP that was made for Services, with the value "true"."""

CLEANUP_FINALIZER: Final = "service.kubernetes.io/load-balancer-cleanup"
"""Kubernetes' own: a Service that has it is not gone before what it was given is."""


class ServiceConditionType(enum.StrEnum):
    """The conditions of a Service that are Holdfast's."""

    ADDRESS_ASSIGNED = f"{GROUP}/AddressAssigned"
    """It has the addresses that it asks for. False: what it had it keeps."""
    HOST_PORTS_EXPOSED = f"{GROUP}/HostPortsExposed"
    """As its VirtualIP says it; there only while it is so."""


class ServiceConditionReason(enum.StrEnum):
    """Why such a condition is what it is, beside the reasons for which a VirtualIP is refused."""

    ASSIGNED = "Assigned"
    INVALID = "Invalid"
    """An annotation cannot be read, or does not fit the Service's families."""
    NAME_IN_USE = "NameInUse"
    """A user's VirtualIP has the name that its own would have."""
    SHARING_CONFLICT = "SharingConflict"
    """It has the sharing key of Services that it cannot share an address with."""
    RELEASED = "Released"
    """It is no load balancer of ours any more, and what it had is being taken off the nodes."""
