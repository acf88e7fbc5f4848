"""What operator and speakers tell each other through the API server: VirtualIP.status, and the resource SpeakerConfig.

Every struct here is also a schema in crds/; a test holds one against the other. Who writes what, server-side applied:

    VirtualIP.status.nodes[one entry]     that node's agent, field manager `holdfast-agent-NODE`
    the rest of VirtualIP.status          the operator, field manager `holdfast-operator`
    SpeakerConfig.spec                    the operator
    SpeakerConfig.status                  the agent of that node
"""

from __future__ import annotations

import enum
import hashlib
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field, structs

from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_api.resources import API_VERSION, NodeName, Port, Probe, TrackedPods
from holdfast_api.speaker import MEMBERS_MAX, SpeakerConfiguration, VirtualRouterConfiguration

GROUP: Final = "holdfast.dev"
VERSION: Final = "v1alpha1"

NODES_MAX: Final = 64
"""Nodes that can take part in one election."""

NODE_ADDRESSES_MAX: Final = 1000
"""Addresses of nodes that an engine knows as no strangers'."""

VIRTUAL_ROUTERS_MAX: Final = 1000
"""Virtual routers that one node's SpeakerConfig has room for."""

TRANSITIONS_MAX: Final = 20
"""Moves that a VirtualIP's status remembers."""

OPERATOR_FIELD_MANAGER: Final = "holdfast-operator"

NOT_HEARD_SINCE_ANNOTATION: Final = f"{GROUP}/not-heard-since"
"""Of the SpeakerConfig of a node that leaves and is not heard: since when (RFC 3339). It outlives the operator."""

AWAITED_SINCE_ANNOTATION: Final = f"{GROUP}/awaited-since"
"""Of a SpeakerConfig whose agent is heard and has not answered what others wait for: since when (RFC 3339)."""

STANDS_ASIDE_ANNOTATION: Final = f"{GROUP}/stands-aside"
"""Of every SpeakerConfig: whether the node was kept free of load balancers at the last plan ("true", "false"), or was
so already when an operator first looked at that: "kept", and what ran there before an upgrade goes on."""

PLANNED_FROM_ANNOTATION: Final = f"{GROUP}/planned-from"
"""Of a SpeakerConfig: the uid of the CustomResourceDefinition whose VirtualIPs it was planned from.

Without it, it is no plan yet: only a place for the node's agent to say what links there are.
"""

LOST_FOR_GOOD_ANNOTATION: Final = f"{GROUP}/lost-for-good"
"""Of a SpeakerConfig, by a person: the uid of today's CustomResourceDefinition of VirtualIPs. What the node runs and
this definition has no VirtualIP for is meant to be gone."""

POOLS_REQUIRED_ANNOTATION: Final = f"{GROUP}/pools-required"
"""Of every SpeakerConfig, with the value "true": there was an AddressPool once, so that a plan without any is no reason
to take any address."""


def agent_field_manager(node_name: str) -> str:
    """The field manager of one node's agent: its own, or one node would remove the others' entries.

    The API server takes at most 128 characters; a longer node name is cut and told apart by its hash.

    >>> agent_field_manager("worker-1")
    'holdfast-agent-worker-1'
    """
    name = f"holdfast-agent-{node_name}"
    if len(name) <= 128:
        return name
    return f"{name[:111]}-{hashlib.sha256(node_name.encode()).hexdigest()[:16]}"


class _Model(Struct, frozen=True, kw_only=True, rename=kubernetes_name, omit_defaults=True):
    pass


# ----- VirtualIP.status -----


class ConditionType(enum.StrEnum):
    """The conditions of a VirtualIP."""

    ACCEPTED = "Accepted"
    """The specification is valid, in conflict with no other, and some node can run it."""
    PROGRAMMED = "Programmed"
    """Every node's engine that shall run it runs this generation."""
    READY = "Ready"
    """Exactly one node holds it."""
    SPLIT_BRAIN = "SplitBrain"
    """More than one node says that it holds it, for longer than the protocol needs to settle that."""
    STALLED = "Stalled"
    """The newest specification is refused, and only another one mends that; there only while it is so (kstatus)."""
    HOST_PORTS_EXPOSED = "HostPortsExposed"
    """What listens on its holder is reached through it, though its specification says Closed; there only while it is.
    """


class ConditionReason(enum.StrEnum):
    """Why a condition is what it is. docs/reference/status.md explains each to a person."""

    # Accepted
    ACCEPTED = "Accepted"
    INVALID = "Invalid"
    ADDRESS_IN_USE = "AddressInUse"
    VIRTUAL_ROUTER_ID_IN_USE = "VirtualRouterIDInUse"
    NO_VIRTUAL_ROUTER_ID_LEFT = "NoVirtualRouterIDLeft"
    NO_NODE_SELECTED = "NoNodeSelected"
    NO_MATCHING_SUBNET = "NoMatchingSubnet"
    ADDRESS_NOT_PERMITTED = "AddressNotPermitted"
    NO_ADDRESS_LEFT = "NoAddressLeft"
    QUOTA_EXCEEDED = "QuotaExceeded"
    NOT_PERMITTED_BY_POOL = "NotPermittedByPool"
    PROBE_NOT_PERMITTED = "ProbeNotPermitted"
    NODE_FULL = "NodeFull"
    # Programmed
    PROGRAMMED = "Programmed"
    WAITING_FOR_SPEAKERS = "WaitingForSpeakers"
    REFUSED_BY_ENGINE = "RefusedByEngine"
    SPEAKERS_NOT_HEARD = "SpeakersNotHeard"
    NOT_ACCEPTED = "NotAccepted"
    # Ready
    HELD = "Held"
    NOT_HELD = "NotHeld"
    CANNOT_SEND = "CannotSend"
    ADDRESS_CONFLICT = "AddressConflict"
    HOLDER_NOT_HEARD = "HolderNotHeard"
    SEVERAL_HOLDERS = "SeveralHolders"
    # HostPortsExposed
    PACKET_FILTER_REFUSED = "PacketFilterRefused"
    # SplitBrain
    ONE_HOLDER_AT_MOST = "OneHolderAtMost"


class Condition(_Model, frozen=True, kw_only=True):
    """metav1.Condition."""

    type: Annotated[str, Meta(max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Meta(min_length=1, max_length=1024)]
    message: Annotated[str, Meta(max_length=32768)]
    last_transition_time: str
    observed_generation: Annotated[int, Meta(ge=0)] = 0


class VirtualIPState(enum.StrEnum):
    """One word for the printer column STATE."""

    PENDING = "Pending"
    """Accepted, and nobody knows: no node has said anything yet, or none that runs it is heard any more."""
    HELD = "Held"
    UNHELD = "Unheld"
    """No node holds it."""
    SPLIT_BRAIN = "SplitBrain"
    REFUSED = "Refused"
    """The specification is refused and no earlier one is in force."""


class NodeStatus(_Model, frozen=True, kw_only=True):
    """What one node's engine says about a VirtualIP: written by that node's agent when something of it changed."""

    node_name: NodeName
    state: State
    since: Annotated[str, Meta(max_length=64)]
    """UTC, RFC 3339, milliseconds: when this state was entered."""
    priority: Annotated[int, Meta(ge=0, le=255)]
    """As advertised: 1 to 49 while failing."""
    health: Health
    health_message: Annotated[str, Meta(max_length=1024)] = ""
    reason: Reason | None = None
    """Of the last transition of this node."""
    message: Annotated[str, Meta(max_length=1024)] = ""
    """The reason and its facts as a sentence, and warnings; what keeps it in Initialize, where something does."""
    peer: Annotated[str, Meta(max_length=64)] = ""
    """The address of the router whose advertisement or silence decided that transition; empty: none did."""
    silent_milliseconds: Annotated[int, Meta(ge=0)] = 0
    """With state Master: how long nobody had been heard when it took over, which is how long nobody held the VIP."""
    obstacles: Annotated[list[Obstacle], Meta(max_length=16)] = field(default_factory=list)
    """What keeps it in Initialize."""
    interface: Annotated[str, Meta(max_length=15)] = ""
    host_ports_exposed: bool = False
    """Its host ports are to be closed, and this node's kernel cannot: HostPortsExposed where this node holds it."""


class MoveRecord(_Model, frozen=True, kw_only=True):
    """One move of a VirtualIP from a node to another; an empty name stands for nobody."""

    from_node: Annotated[str, Meta(max_length=253)] = field(default="", name="from")
    to_node: Annotated[str, Meta(max_length=253)] = field(default="", name="to")
    reason: Reason | None = None
    message: Annotated[str, Meta(max_length=1024)] = ""
    time: Annotated[str, Meta(max_length=64)]
    """UTC, RFC 3339, milliseconds, by the clock of the new holder."""
    recorded: Annotated[str, Meta(max_length=64)] = ""
    """When the operator learned of it, by its own clock."""
    since: Annotated[str, Meta(max_length=64)] = ""
    """Where the same node left Master and came back to it afterwards: when it did so last, by its clock."""
    outage_milliseconds: Annotated[int, Meta(ge=0)] = 0
    """How long nobody held it, as the new holder estimates; 0 in a planned move."""


class VirtualIPStatus(_Model, frozen=True, kw_only=True):
    """VirtualIP.status."""

    observed_generation: Annotated[int, Meta(ge=0)] = 0
    state: VirtualIPState = VirtualIPState.PENDING
    holder: Annotated[str, Meta(max_length=253)] = ""
    """The node that holds it; empty: nobody."""
    addresses: Annotated[list[Annotated[str, Meta(max_length=49)]], Meta(max_length=40)] = field(default_factory=list)
    """What it has: as its specification says, or as it was given. It keeps them for as long as it lives."""
    virtual_router_id: Annotated[int, Meta(ge=0, le=255)] | None = None
    virtual_router: Annotated[str, Meta(max_length=320)] = ""
    """The virtual router that it shares with others, which move with it; empty: it has one of its own."""
    moves: Annotated[int, Meta(ge=0)] = 0
    last_move: Annotated[str, Meta(max_length=64)] = ""
    last_reason: Reason | None = None
    nodes: Annotated[list[NodeStatus], Meta(max_length=NODES_MAX)] = field(default_factory=list)
    transitions: Annotated[list[MoveRecord], Meta(max_length=TRANSITIONS_MAX)] = field(default_factory=list)
    """The last moves, oldest first."""
    conditions: Annotated[list[Condition], Meta(max_length=8)] = field(default_factory=list)


# ----- SpeakerConfig -----


class Tracking(_Model, frozen=True, kw_only=True):
    """What a node's agent watches for one VirtualIP, to report its health to the engine."""

    virtual_ip: str
    """namespace/name."""
    pods: TrackedPods | None = None
    probes: list[Probe] = field(default_factory=list)
    health_check_node_ports: list[Port] = field(default_factory=list)


class FirstHold(_Model, frozen=True, kw_only=True):
    """A virtual router that nobody was known to hold when it was planned, and the node that is to hold it first."""

    virtual_router: Annotated[str, Meta(max_length=317)]
    """Its name among `virtualRouters`."""
    node_name: NodeName


class TakeOver(_Model, frozen=True, kw_only=True):
    """A virtual router that this node is to take over from its holder, make before break."""

    virtual_router: Annotated[str, Meta(max_length=317)]
    """Its name among `virtualRouters`."""
    holder_addresses: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=MEMBERS_MAX)]
    """Those of the node that holds it: only from one that sends from one of these."""


class SpeakerConfigSpec(_Model, frozen=True, kw_only=True):
    """All that one node's speaker runs: the engine's part, and the agent's."""

    node_name: NodeName
    node_addresses: Annotated[list[str], Meta(max_length=NODE_ADDRESSES_MAX)] = field(default_factory=list)
    """The own addresses of every node that is on one of this node's links, and its own; sorted."""
    virtual_routers: Annotated[list[VirtualRouterConfiguration], Meta(max_length=VIRTUAL_ROUTERS_MAX)] = field(
        default_factory=list
    )
    tracking: Annotated[list[Tracking], Meta(max_length=VIRTUAL_ROUTERS_MAX)] = field(default_factory=list)
    first_holds: Annotated[list[FirstHold], Meta(max_length=VIRTUAL_ROUTERS_MAX)] = field(default_factory=list)
    """Sorted by name. No engine keeps it, and agents of earlier versions pass over it: it counts once, for an engine to
    which the virtual router is new. What has been done stays here until something else changes."""
    take_overs: Annotated[list[TakeOver], Meta(max_length=64)] = field(default_factory=list)
    """Of a rebalance that is under way."""

    def in_order(self) -> SpeakerConfigSpec:
        """The same, with the lists that are maps to the API server in the order of their keys."""
        return structs.replace(
            self,
            virtual_routers=sorted(self.virtual_routers, key=lambda router: router.name),
            tracking=sorted(self.tracking, key=lambda tracking: tracking.virtual_ip),
            first_holds=sorted(self.first_holds, key=lambda first: first.virtual_router),
        )

    def engine_configuration(self, generation: int) -> SpeakerConfiguration:
        """What the engine is told; `generation` is the object's metadata.generation."""
        return SpeakerConfiguration(
            node_name=self.node_name,
            generation=generation,
            node_addresses=self.node_addresses,
            virtual_routers=self.virtual_routers,
        )


class Link(_Model, frozen=True, kw_only=True):
    """An interface of the node that a VIP can live on."""

    name: Annotated[str, Meta(min_length=1, max_length=15)]
    addresses: Annotated[list[str], Meta(max_length=64)] = field(default_factory=list)
    """Its own addresses with prefix length, without VIPs; sorted."""
    foreign_virtual_router_ids: Annotated[list[Annotated[int, Meta(ge=1, le=255)]], Meta(max_length=255)] = field(
        default_factory=list
    )
    """VRIDs that the node heard there within the last hour, from others than the cluster's nodes, or sent by another
    program of its own; sorted."""
    next_hops: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=64)] = field(default_factory=list)
    """Addresses of the routers on it that the node's own routes lead through, without prefix length; sorted."""


class VirtualRouterInForce(_Model, frozen=True, kw_only=True):
    """A virtual router that the node's engine runs, whatever its SpeakerConfig says."""

    name: Annotated[str, Meta(max_length=317)]
    """namespace/name of its VirtualIP."""
    virtual_router_id: Annotated[int, Meta(ge=1, le=255)]


class SpeakerConfigStatus(_Model, frozen=True, kw_only=True):
    """What the node's agent says about its speaker, when it changes."""

    observed_generation: Annotated[int, Meta(ge=0)] = 0
    """The generation that the engine runs."""
    engine_version: Annotated[str, Meta(max_length=64)] = ""
    shares_virtual_routers: bool = False
    """Whether the engine takes virtual routers that several VirtualIPs share."""
    links: Annotated[list[Link], Meta(max_length=64)] = field(default_factory=list)
    virtual_routers: Annotated[list[VirtualRouterInForce], Meta(max_length=VIRTUAL_ROUTERS_MAX)] = field(
        default_factory=list
    )
    """What the engine runs, sorted by name: it outlives the SpeakerConfig, and the VirtualIPs."""
    planned_from: Annotated[str, Meta(max_length=64)] = ""
    """The annotation `holdfast.dev/planned-from` of the configuration that it is from; empty: not known."""
    warnings: Annotated[list[Annotated[str, Meta(max_length=1024)]], Meta(max_length=32)] = field(default_factory=list)
    conditions: Annotated[list[Condition], Meta(max_length=8)] = field(default_factory=list)
    """Applied: the engine runs the observed generation; False with the engine's reason where it refused it."""


class SpeakerConditionType(enum.StrEnum):
    """The conditions of a SpeakerConfig."""

    APPLIED = "Applied"
    """The engine runs the newest generation."""
    API_SERVER_REACHABLE = "APIServerReachable"
    """Written after an absence of the API server: how long this node went on without it."""


class AppliedReason(enum.StrEnum):
    """Why Applied is what it is."""

    APPLIED = "Applied"
    REFUSED_BY_ENGINE = "RefusedByEngine"
    UNREADABLE = "Unreadable"
    ENGINE_AWAY = "EngineAway"
    NOT_PLANNED = "NotPlanned"


class SpeakerConfigMetadata(_Model, frozen=True, kw_only=True):
    """The part of metav1.ObjectMeta that Holdfast reads."""

    name: NodeName
    generation: int = 0
    resource_version: str = ""
    annotations: dict[str, str] = field(default_factory=dict)


class SpeakerConfig(_Model, frozen=True, kw_only=True):
    """One node's configuration; cluster-scoped, named after the node, written by the operator alone."""

    api_version: Literal["holdfast.dev/v1alpha1"] = API_VERSION
    kind: Literal["SpeakerConfig"] = "SpeakerConfig"
    metadata: SpeakerConfigMetadata
    spec: SpeakerConfigSpec
    status: SpeakerConfigStatus = field(default_factory=SpeakerConfigStatus)
