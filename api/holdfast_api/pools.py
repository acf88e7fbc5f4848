"""The AddressPool resource (group holdfast.dev, version v1alpha1): which addresses VirtualIPs may have, and whose.

Cluster-scoped and written by the cluster's administrator: who may write VirtualIPs in a namespace may have the
addresses that pools give to that namespace, and no others. Decoding is strict, as for a VirtualIP.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from holdfast_api.cluster import GROUP, Condition
from holdfast_api.naming import kubernetes_name
from holdfast_api.resources import API_VERSION, HostPorts, InterfaceName, LabelSelector, NodeName, Transport

REBALANCE_ANNOTATION: Final = f"{GROUP}/rebalance"
"""Of an AddressPool, by a person: spread what the nodes hold of it evenly. Each new value does it once."""

REQUESTED_MAX: Final = 256
"""Characters of that annotation that are looked at."""

POOL_ENTRIES_MAX: Final = 256
"""Ranges and prefixes that one pool can have."""

ADDRESSES_TOLD_MAX: Final = 2**53 - 1
"""The largest number that a status can tell: an IPv6 /64 has more addresses. Helm reads a larger one as another."""


class PoolConditionReason(enum.StrEnum):
    """Why the condition Accepted of an AddressPool is what it is. docs/reference/addresspool.md explains each."""

    ACCEPTED = "Accepted"
    INVALID = "Invalid"
    OVERLAPS = "Overlaps"
    """An older pool has one of its addresses."""


class _Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=kubernetes_name, omit_defaults=True):
    pass


NamespaceName = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
PoolEntry = Annotated[str, Meta(min_length=2, max_length=79)]


class PoolMetadata(Struct, frozen=True, kw_only=True, rename=kubernetes_name, omit_defaults=True):
    """The part of metav1.ObjectMeta that Holdfast reads."""

    name: Annotated[str, Meta(min_length=1, max_length=253)]
    generation: int = 0


class PoolNamespaces(_Model, frozen=True, kw_only=True):
    """The namespaces whose VirtualIPs may have addresses of the pool: those named and those selected. Neither: all."""

    names: Annotated[list[NamespaceName], Meta(max_length=1000)] = field(default_factory=list)
    selector: LabelSelector | None = None


class VirtualRouterIDRange(_Model, frozen=True, kw_only=True):
    """VRIDs from the first to the last, both included."""

    first: Annotated[int, Meta(ge=1, le=255)]
    last: Annotated[int, Meta(ge=1, le=255)]


class NamespaceQuota(_Model, frozen=True, kw_only=True):
    """What the VirtualIPs of any one namespace can have of the pool at most."""

    addresses: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    virtual_router_ids: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    """Each VirtualIP has one VRID; the same one on another link is another one."""


class TemplateNodes(_Model, frozen=True, kw_only=True):
    """The nodes that can take part: with both names and selector, both must fit."""

    names: Annotated[list[NodeName], Meta(max_length=1000)] = field(default_factory=list)
    selector: LabelSelector | None = None


class VirtualIPTemplate(_Model, frozen=True, kw_only=True):
    """What goes for the VirtualIPs that have addresses of the pool.

    Interface and nodes bind. The rest but host_ports is what a VirtualIP has where its own specification leaves the
    field out.
    """

    interface: InterfaceName | None = None
    nodes: TemplateNodes | None = None
    advertisement_interval_milliseconds: Annotated[int, Meta(ge=10, le=40950, multiple_of=10)] | None = None
    transport: Transport | None = None
    nopreempt: bool | None = None
    host_ports: HostPorts | None = None
    """Of the VirtualIPs of Services only; None: Closed. One that a user made says it by itself."""


class AddressPoolSpec(_Model, frozen=True, kw_only=True):
    """Which addresses, and who may have them."""

    addresses: Annotated[list[PoolEntry], Meta(min_length=1, max_length=POOL_ENTRIES_MAX)]
    """Ranges 10.0.0.10-10.0.0.20, prefixes 10.0.0.0/24 (the addresses that a host there can have), or one address."""
    namespaces: PoolNamespaces = field(default_factory=PoolNamespaces)
    auto_assign: bool = False
    """Whether a VirtualIP that names neither addresses nor a pool may be given one of these."""
    virtual_router_ids: VirtualRouterIDRange | None = None
    """The VRIDs of VirtualIPs that have addresses of the pool."""
    namespace_quota: NamespaceQuota = field(default_factory=NamespaceQuota)
    node_owned: bool = False
    """Whether the addresses are those of nodes themselves: a VirtualIP may give their owner priority 255."""
    virtual_ip_template: VirtualIPTemplate = field(default_factory=VirtualIPTemplate)


class RebalanceState(enum.StrEnum):
    """How far a rebalance is."""

    RUNNING = "Running"
    COMPLETE = "Complete"
    """Nothing is left to move."""
    INCOMPLETE = "Incomplete"
    """One could not be moved, and what was left stays where it is."""


class Rebalance(Struct, frozen=True, kw_only=True, rename=kubernetes_name, omit_defaults=True):
    """The last rebalance that somebody asked for."""

    requested: Annotated[str, Meta(max_length=REQUESTED_MAX)]
    """The value of the annotation."""
    state: RebalanceState
    moved: Annotated[int, Meta(ge=0)] = 0
    """Virtual routers that it has moved."""
    virtual_ip: Annotated[str, Meta(max_length=317)] = ""
    """namespace/name of what it moves now."""
    from_node: Annotated[str, Meta(max_length=253)] = field(default="", name="from")
    to_node: Annotated[str, Meta(max_length=253)] = field(default="", name="to")
    since: Annotated[str, Meta(max_length=64)] = ""
    """When that was asked for (RFC 3339)."""
    message: Annotated[str, Meta(max_length=1024)] = ""


class AddressPoolStatus(Struct, frozen=True, kw_only=True, rename=kubernetes_name, omit_defaults=True):
    """What the operator says of the pool."""

    observed_generation: Annotated[int, Meta(ge=0)] = 0
    capacity: Annotated[int, Meta(ge=0, le=ADDRESSES_TOLD_MAX)] = 0
    assigned: Annotated[int, Meta(ge=0, le=ADDRESSES_TOLD_MAX)] = 0
    """Addresses that VirtualIPs have."""
    available: Annotated[int, Meta(ge=0, le=ADDRESSES_TOLD_MAX)] = 0
    """Addresses that can still be given: neither assigned, nor of a node, a gateway or else forbidden."""
    imbalance: Annotated[int, Meta(ge=0)] = 0
    """Virtual routers that a rebalance would move; 0: what the nodes hold is as even as it can be."""
    rebalance: Rebalance | None = None
    conditions: Annotated[list[Condition], Meta(max_length=8)] = field(default_factory=list)
    """Accepted."""


class AddressPool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=kubernetes_name):
    """One AddressPool."""

    api_version: Literal["holdfast.dev/v1alpha1"] = API_VERSION
    kind: Literal["AddressPool"] = "AddressPool"
    metadata: PoolMetadata
    spec: AddressPoolSpec
    # Decoded by itself, as one of another version must not make the specification unreadable.
    status: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
