"""What one node's engine is told: the planner's result for a node, and the file it starts from when nobody is there."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from holdfast_api.naming import kubernetes_name
from holdfast_api.resources import ConflictDetection, ForeignRouters, HostPorts, Transport, WhenFailing

MEMBERS_MAX: Final = 256
"""Of the addresses of members. An engine of an earlier version refuses a configuration that has more."""


SHARED_ADDRESSES_MAX: Final = 64
"""Addresses of a virtual router that several VirtualIPs share, but for one that has more of them by itself: they move
together, and small ones can be spread over nodes."""


class SharingVirtualIP(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=kubernetes_name, omit_defaults=True
):
    """One of several VirtualIPs that share a virtual router."""

    name: str
    """namespace/name."""
    addresses: Annotated[list[str], Meta(min_length=1, max_length=40)]


class VirtualRouterConfiguration(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=kubernetes_name, omit_defaults=True
):
    """One virtual router as this node's engine runs it: everything resolved, nothing left to choose but the interface.

    A field that was added later has a default that means what was done before it was there, and is left out then: an
    engine of an earlier version refuses what it does not know.
    """

    name: str
    """namespace/name of the VirtualIP; where `virtual_ips` is given, the virtual router's own name."""
    addresses: Annotated[list[str], Meta(min_length=1, max_length=40)]
    """As the user wrote them, with prefix length where given. Where `virtual_ips` is given, those of their addresses
    that its advertisements list: at most 20 of each family."""
    virtual_router_id: Annotated[int, Meta(ge=1, le=255)]
    version: Literal[2, 3] = 3
    priority: Annotated[int, Meta(ge=50, le=255)] = 100
    nopreempt: bool = True
    preempt_delay_milliseconds: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    advertisement_interval_milliseconds: Annotated[int, Meta(ge=10, le=40950, multiple_of=10)] = 1000
    interface: str | None = None
    """None: the interface whose subnet holds the first address."""
    transport: Transport = Transport.MULTICAST
    members: Annotated[list[str], Meta(max_length=MEMBERS_MAX)] = field(default_factory=list)
    """Every address of the other routers of this virtual router on its link, where they are known.

    A member is obeyed from whichever of them it sends. The same list on all nodes: an engine leaves its own out.
    """
    unicast_peers: Annotated[list[str], Meta(max_length=MEMBERS_MAX)] = field(default_factory=list)
    """With Unicast, who is sent to: one address of each member in each family. Empty: every one of `members`."""
    foreign_routers: ForeignRouters = ForeignRouters.OBEY
    source_addresses: Annotated[list[str], Meta(max_length=2)] = field(default_factory=list)
    """At most one per family; by default the interface's first address that is not a VIP."""
    simple_password: Annotated[str, Meta(max_length=8)] | None = None
    when_failing: WhenFailing = WhenFailing.DEGRADE
    start_delay_milliseconds: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    """How long after its start, and after its link came back, it takes nothing from silence: its port may forward late.
    """
    announcement_interval_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 60
    """How often a holder tells its neighbours again where the addresses are (ARP, NDP); 0: never."""
    conflict_detection: ConflictDetection = ConflictDetection.REFUSE
    host_ports: HostPorts = HostPorts.OPEN
    tracked_interfaces: Annotated[list[str], Meta(max_length=16)] = field(default_factory=list)
    tracks_services: bool = False
    """Somebody will report this node's service health; until the first report it counts as failing."""
    recovery_hold_milliseconds: Annotated[int, Meta(ge=0, le=60_000)] = 0
    """How long a Backup whose services recovered waits before it takes over from a failing Master."""
    draining: bool = False
    """The node is being emptied: it counts as failing, and goes on as the holder of last resort if nobody else can."""
    draining_reason: Annotated[str, Meta(max_length=256)] = ""
    """Why, for people. Empty: the node is being emptied."""
    last_holder_elsewhere: bool = False
    """The last known holder is another node: be slow to believe in silence when starting."""
    sole_member: bool = False
    """No other node is to run it, although routers that are not known are obeyed: a plain host's `nodes.names`."""
    virtual_ips: Annotated[list[SharingVirtualIP], Meta(max_length=SHARED_ADDRESSES_MAX)] = field(default_factory=list)
    """The VirtualIPs that share it. Empty: it is that of one VirtualIP, whose name it has."""

    @property
    def virtual_ip_names(self) -> list[str]:
        """namespace/name of its VirtualIP, or of those that share it."""
        return [one.name for one in self.virtual_ips] or [self.name]

    @property
    def every_address(self) -> list[str]:
        """Those that it has, listed in its advertisements or not."""
        return [text for one in self.virtual_ips for text in one.addresses] or self.addresses


class SpeakerConfiguration(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=kubernetes_name, omit_defaults=True
):
    """All that one node's engine runs."""

    node_name: str
    generation: int = 0
    node_addresses: list[str] = field(default_factory=list)
    """Of every node of the cluster on a link of this one: who advertises another virtual router from one of them is no
    stranger."""
    virtual_routers: list[VirtualRouterConfiguration] = field(default_factory=list)
    node_names: dict[str, list[str]] = field(default_factory=dict)
    """By VirtualIP (namespace/name): the nodes that can hold it, where somebody named them. Absent: not known."""
