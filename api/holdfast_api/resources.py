"""The VirtualIP resource (group holdfast.dev, version v1alpha1), as users write it.

The shape is the same in a cluster and in a file for `holdfast run`. Decoding is strict: an unknown field, a wrong type
or a value out of range is refused with the path of the field. What crosses fields is checked by the planner's policies.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from holdfast_api.naming import kubernetes_name

API_VERSION: Final = "holdfast.dev/v1alpha1"

PRIORITY_OWNER = 255
"""RFC 9568 section 5.2.4: the router that owns the addresses itself."""

HEALTHY_PRIORITY_MIN = 50
"""Priorities 1 to 49 are the failing band: a user never configures them (design: health bands)."""

HEALTHY_PRIORITY_MAX = 254

HEALTH_CHECK_NODE_PORTS_MAX: Final = 16
"""Services with externalTrafficPolicy Local behind one VirtualIP."""


class Transport(enum.StrEnum):
    """How advertisements travel: to the VRRP multicast group, or to each member by itself."""

    MULTICAST = "Multicast"
    UNICAST = "Unicast"


class ForeignRouters(enum.StrEnum):
    """What to do with an advertisement from a router that is not a known member."""

    REFUSE = "Refuse"
    OBEY = "Obey"


class ConflictDetection(enum.StrEnum):
    """What a node does that finds somebody else with an address of the VIP: leave it to them, or take it and say so."""

    REFUSE = "Refuse"
    WARN = "Warn"


class VirtualRouterSharing(enum.StrEnum):
    """Whether a VirtualIP may share its virtual router, and so its election, with others of the same inputs."""

    OWN = "Own"
    SHARED = "Shared"


class HostPorts(enum.StrEnum):
    """Whether what listens on the node that holds the VIP is reached through it (sshd, kubelet, ...)."""

    OPEN = "Open"
    CLOSED = "Closed"


class WhenFailing(enum.StrEnum):
    """What a node does whose tracked services fail: stay a holder of last resort, or give the VIP up."""

    DEGRADE = "Degrade"
    RELEASE = "Release"


class NotifyState(enum.StrEnum):
    """What a command is told of: the states of keepalived's notify scripts."""

    MASTER = "Master"
    BACKUP = "Backup"
    FAULT = "Fault"
    """It takes no part: something keeps it in Initialize."""
    STOP = "Stop"
    """It was told to stop, or its VirtualIP was removed."""


class _Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=kubernetes_name, omit_defaults=True):
    pass


NodeName = Annotated[str, Meta(min_length=1, max_length=253)]
UserName = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.@]*$")]
InterfaceName = Annotated[str, Meta(min_length=1, max_length=15, pattern=r"^[^/\s]+$")]
AddressText = Annotated[str, Meta(min_length=2, max_length=49)]
HTTPStatus = Annotated[int, Meta(ge=200, le=599)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Metadata(Struct, frozen=True, kw_only=True, rename=kubernetes_name, omit_defaults=True):
    """The part of metav1.ObjectMeta that Holdfast reads; the rest (uid, annotations, ...) is ignored."""

    name: Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
    namespace: Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] = "default"
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    generation: int = 0


class LabelSelector(_Model, frozen=True, kw_only=True):
    """metav1.LabelSelector; only a cluster can evaluate it."""

    match_labels: dict[str, str] = field(default_factory=dict)
    match_expressions: list[dict[str, Any]] = field(default_factory=list)


class NodePriority(_Model, frozen=True, kw_only=True):
    """The priority of one node; 255 says that the node owns the addresses itself (RFC 9568 section 5.2.4)."""

    node_name: NodeName
    priority: Annotated[int, Meta(ge=HEALTHY_PRIORITY_MIN, le=PRIORITY_OWNER)]


class NodeSourceAddress(_Model, frozen=True, kw_only=True):
    """The address that one node's advertisements come from; by default its interface's first address."""

    node_name: NodeName
    address: AddressText


class NodePreference(_Model, frozen=True, kw_only=True):
    """How much a VirtualIP would rather begin on some nodes: those with the labels, or one by its name."""

    selector: LabelSelector | None = None
    node_name: NodeName | None = None
    weight: Annotated[int, Meta(ge=1, le=100)]


class NodeSelection(_Model, frozen=True, kw_only=True):
    """Which nodes take part in the election, and with which priorities. Empty: every node, with spec.priority."""

    selector: LabelSelector | None = None
    names: Annotated[list[NodeName], Meta(max_length=64)] = field(default_factory=list)
    priorities: Annotated[list[NodePriority], Meta(max_length=64)] = field(default_factory=list)
    preferences: Annotated[list[NodePreference], Meta(max_length=16)] = field(default_factory=list)
    """Who holds it first: the nodes with the highest sum of weights. They move nothing that is held."""
    source_addresses: Annotated[list[NodeSourceAddress], Meta(max_length=64)] = field(default_factory=list)


class ExecAction(_Model, frozen=True, kw_only=True):
    """A command that is run without a shell; exit status 0 is healthy."""

    command: Annotated[list[str], Meta(min_length=1, max_length=64)]


class TCPSocketAction(_Model, frozen=True, kw_only=True):
    """A TCP connection that must be accepted."""

    port: Port
    host: str = "127.0.0.1"


class HTTPGetAction(_Model, frozen=True, kw_only=True):
    """An HTTP GET that must be answered with an expected status; by default 200 to 399, as the kubelet has it."""

    port: Port
    host: str = "127.0.0.1"
    path: Annotated[str, Meta(pattern=r"^/")] = "/"
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    expect_status: Annotated[list[HTTPStatus], Meta(max_length=32)] = field(default_factory=list)


class Probe(_Model, frozen=True, kw_only=True):
    """One check of a service that the VIP leads to; exactly one of exec, tcpSocket and httpGet."""

    name: Annotated[str, Meta(min_length=1, max_length=63)]
    exec: ExecAction | None = None
    tcp_socket: TCPSocketAction | None = None
    http_get: HTTPGetAction | None = None
    nodes: Annotated[list[NodeName], Meta(max_length=64)] = field(default_factory=list)
    """The nodes that run it; on the others it counts as healthy. Empty: all nodes run it."""
    period_seconds: Annotated[int, Meta(ge=1, le=3600)] | None = None
    period_milliseconds: Annotated[int, Meta(ge=10, le=3_600_000)] | None = None
    timeout_seconds: Annotated[int, Meta(ge=1, le=3600)] = 1
    failure_threshold: Annotated[int, Meta(ge=1, le=1000)] = 3
    success_threshold: Annotated[int, Meta(ge=1, le=1000)] = 1

    @property
    def period_ms(self) -> int:
        """The time between two runs, in milliseconds; 10 s when neither period is given, as the kubelet has it."""
        if self.period_milliseconds is not None:
            return self.period_milliseconds
        return 1000 * (self.period_seconds if self.period_seconds is not None else 10)


class TrackedPods(_Model, frozen=True, kw_only=True):
    """Pods of the VIP's own node that must be ready; needs the cluster."""

    selector: LabelSelector
    min_ready: Annotated[int, Meta(ge=1, le=1000)] = 1


class Track(_Model, frozen=True, kw_only=True):
    """What makes a node healthy: all of it must be well. Nothing tracked: always healthy while its link is up."""

    pods: TrackedPods | None = None
    probes: Annotated[list[Probe], Meta(max_length=16)] = field(default_factory=list)
    health_check_node_ports: Annotated[list[Port], Meta(max_length=HEALTH_CHECK_NODE_PORTS_MAX)] = field(
        default_factory=list
    )
    """Ports of the node's own InternalIP where its service proxy (kube-proxy, Cilium) tells whether the node has ready
    endpoints: spec.healthCheckNodePort of Services with externalTrafficPolicy Local; needs the cluster."""
    interfaces: Annotated[list[InterfaceName], Meta(max_length=16)] = field(default_factory=list)
    when_failing: WhenFailing = WhenFailing.DEGRADE

    def probes_on(self, node_name: str) -> list[Probe]:
        """The probes that this node runs."""
        return [probe for probe in self.probes if not probe.nodes or node_name in probe.nodes]


class Authentication(_Model, frozen=True, kw_only=True):
    """VRRPv2 simple text password (RFC 2338 section 5.3.6.2; keepalived: `auth_type PASS`): no secret."""

    simple_password: Annotated[str, Meta(min_length=1, max_length=8, pattern=r"^[\x21-\x7e]+$")]


class Notification(_Model, frozen=True, kw_only=True):
    """A command that is told of each change of state on its own host."""

    command: Annotated[list[str], Meta(min_length=1, max_length=64)]
    states: Annotated[list[NotifyState], Meta(max_length=4)] = field(default_factory=list)
    """The states that it is told of. Empty: all."""
    nodes: Annotated[list[NodeName], Meta(max_length=64)] = field(default_factory=list)
    """The nodes that run it. Empty: all."""
    user: UserName | None = None
    """Whom it runs as; None: as `holdfast run` does."""
    group: UserName | None = None
    """None: the user's own group, and the others that the user is in."""


class VirtualIPSpec(_Model, frozen=True, kw_only=True):
    """What the user wants of one VIP (or several that move together).

    In a cluster an AddressPool's template may say what nopreempt, interval and transport are where they are left
    out; the defaults here are what they are otherwise.
    """

    addresses: Annotated[list[AddressText], Meta(min_length=1, max_length=40)] = field(default_factory=list)
    """Empty where it was left out: a cluster gives it addresses then, from its AddressPools."""
    address_pool: Annotated[str, Meta(min_length=1, max_length=253)] | None = None
    """Where its addresses are from."""
    nopreempt: bool = True
    priority: Annotated[int, Meta(ge=HEALTHY_PRIORITY_MIN, le=HEALTHY_PRIORITY_MAX)] = 100
    nodes: NodeSelection = field(default_factory=NodeSelection)
    advertisement_interval_milliseconds: Annotated[int, Meta(ge=10, le=40950, multiple_of=10)] = 1000
    track: Track = field(default_factory=Track)
    virtual_router_id: Annotated[int, Meta(ge=1, le=255)] | None = None
    version: Literal[2, 3] = 3
    interface: InterfaceName | None = None
    preempt_delay_seconds: Annotated[int, Meta(ge=0, le=1000)] = 0
    start_delay_seconds: Annotated[int, Meta(ge=0, le=3600)] = 0
    announcement_interval_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 60
    conflict_detection: ConflictDetection = ConflictDetection.REFUSE
    host_ports: HostPorts = HostPorts.OPEN
    transport: Transport = Transport.MULTICAST
    external_peers: Annotated[list[AddressText], Meta(max_length=64)] = field(default_factory=list)
    foreign_routers: ForeignRouters = ForeignRouters.REFUSE
    authentication: Authentication | None = None
    virtual_router_sharing: VirtualRouterSharing = VirtualRouterSharing.OWN
    notify: Annotated[list[Notification], Meta(max_length=32)] = field(default_factory=list)

    def notifications_on(self, node_name: str) -> list[Notification]:
        """Those that this node runs."""
        return [one for one in self.notify if not one.nodes or node_name in one.nodes]


class VirtualIP(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=kubernetes_name):
    """One VirtualIP document."""

    api_version: Literal["holdfast.dev/v1alpha1"] = API_VERSION
    kind: Literal["VirtualIP"] = "VirtualIP"
    metadata: Metadata
    spec: VirtualIPSpec
    # Written by the controllers; a file may carry it (kubectl get -o yaml), and nobody reads it from there.
    status: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET

    @property
    def key(self) -> str:
        """`namespace/name`, unique in a cluster and in a set of files."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def named_nodes(self) -> list[str]:
        """The nodes that it says something of: priorities, who takes part, source addresses, who runs what."""
        nodes = self.spec.nodes
        names = [entry.node_name for entry in nodes.priorities]
        names += nodes.names
        names += [entry.node_name for entry in nodes.source_addresses]
        names += [name for probe in self.spec.track.probes for name in probe.nodes]
        names += [name for one in self.spec.notify for name in one.nodes]
        return list(dict.fromkeys(names))
