"""What the cluster's planner sees and says: plain values, so that the same view gives the same plan."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast_api.cluster import Condition, SpeakerConfig, SpeakerConfigSpec, VirtualIPStatus
from holdfast_api.pools import AddressPoolStatus


@dataclass(frozen=True, slots=True)
class NodeView:
    """A Node, as far as the planner looks."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    is_cordoned: bool = False
    """spec.unschedulable, or a taint that evicts or says the node goes: others take its VIPs, make before break."""
    internal_addresses: Sequence[str] = ()
    external_addresses: Sequence[str] = ()
    pod_networks: Sequence[str] = ()
    """spec.podCIDRs: where the addresses of its pods are from."""
    is_ready: bool = True
    """Whether the control plane hears of the node; what one that it does not hear of has said may be long past."""


@dataclass(frozen=True, slots=True)
class ClusterRules:
    """What the administrator told the operator on its command line."""

    pools_required: bool | None = None
    """Whether an address must be in an AddressPool; None: as soon as there ever was one."""
    service_networks: Sequence[str] = ()
    """Service CIDRs beside those that ServiceCIDR objects name."""
    allowed_probe_networks: Sequence[str] = ()
    """Where a probe may go beside loopback, its node's own addresses and the VIP's."""
    control_planes: bool = False
    """Whether control planes take part in elections where spec.nodes does not name them."""
    services_without_class: bool = False
    """Whether Services of type LoadBalancer that name no class are ours as well."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """All of the cluster's input to the plan."""

    virtual_ips: Sequence[Mapping[str, Any]]
    """As the API server lists them; one that does not decode is refused by itself."""
    nodes: Sequence[NodeView]
    speakers: Mapping[str, SpeakerConfig] = field(default_factory=dict)
    """By node name: what is in force, and what each node's agent says of it."""
    pools: Sequence[Mapping[str, Any]] = ()
    """AddressPools as the API server lists them."""
    pools_ever: bool = False
    """Whether there ever was an AddressPool, though it may be gone by now."""
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The labels of each namespace."""
    service_networks: Sequence[str] = ()
    """What the cluster's ServiceCIDR objects name."""
    service_addresses: Sequence[str] = ()
    """The addresses inside of the cluster that Services have. Before Kubernetes 1.33 no object tells their networks."""
    api_server_addresses: Sequence[str] = ()
    """Where the API server is: the endpoints of the Service default/kubernetes."""
    heard: frozenset[str] | None = None
    """Nodes whose speaker's pod is Ready; None where nobody could tell."""
    services: Sequence[Mapping[str, Any]] | None = None
    """Services as the API server lists them; None: they are none of ours, and what was made for them stays."""
    rules: ClusterRules = ClusterRules()


class EventType(enum.StrEnum):
    """Types of core/v1 Events."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Notice:
    """An Event to be posted about a VirtualIP."""

    virtual_ip: str
    """namespace/name."""
    type: EventType
    reason: str
    """CamelCase, one of a closed set: Moved, Refused, SplitBrainSuspected, ..."""
    message: str


@dataclass(frozen=True, slots=True)
class ServiceNotice:
    """An Event to be posted about a Service. It is posted once what the plan says of the Service is written."""

    service: str
    """namespace/name."""
    type: EventType
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What is to be written into a Service of type LoadBalancer that is ours, or was."""

    is_ours: bool
    """Whether it is to have the finalizer service.kubernetes.io/load-balancer-cleanup: from before it is given anything
    until all of that is gone."""
    ingress: Sequence[str] = ()
    """status.loadBalancer.ingress: addresses without prefix length, each with ipMode VIP. Once told, an address stays
    there for as long as the Service has it, whoever holds it."""
    conditions: Sequence[Condition] = ()
    """Ours among status.conditions; others' stay."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What is to be written. What equals what is there is not written."""

    speakers: Mapping[str, SpeakerConfigSpec]
    """By node name, for every node, and for one that is gone until it holds nothing any more.

    A SpeakerConfig whose node is not here is to be deleted.
    """
    statuses: Mapping[str, VirtualIPStatus]
    """By namespace/name: the operator's part (its `nodes` are empty: those belong to the agents)."""
    departed: Mapping[str, Sequence[str]]
    """By namespace/name: nodes whose entry in status.nodes is to be removed, as they take part no longer."""
    notices: Sequence[Notice]
    annotations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By node name: what its SpeakerConfig is to be annotated with, beside where the plan is from."""
    look_again_seconds: float | None = None
    """After so long the same view gives another plan; None: never."""
    heard: frozenset[str] = frozenset()
    """The nodes whose words count: see ClusterView.heard."""
    pools: Mapping[str, AddressPoolStatus] = field(default_factory=dict)
    """By name."""
    services: Mapping[str, ServiceStatus] = field(default_factory=dict)
    """By namespace/name: every Service that is ours, or of which something of ours is left."""
    virtual_ips: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By namespace/name: the VirtualIPs of Services as they are to be: apiVersion, kind, metadata, spec. The rest of
    the plan reckons with them already."""
    ended: Sequence[str] = ()
    """namespace/name of VirtualIPs that were made for Services and are to be deleted."""
    service_notices: Sequence[ServiceNotice] = ()
