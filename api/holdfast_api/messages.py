"""Messages of the engine's control socket: JSON, one per line, both ways.

A client sends requests and gets one answer to each, in order. After Subscribe, Transition lines come in between.
"""

from __future__ import annotations

from msgspec import Struct, field

from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_api.speaker import SpeakerConfiguration


class _Message(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename=kubernetes_name,
    tag_field="type",
    tag=True,
):
    pass


class _Answer(Struct, frozen=True, kw_only=True, rename=kubernetes_name, tag_field="type", tag=True):
    """Not strict: in a rolling update an agent reads the answers of an engine that is newer, and may say more."""


# ----- requests -----


class Configure(_Message, frozen=True, kw_only=True):
    """Run this from now on; unchanged virtual routers are not disturbed."""

    configuration: SpeakerConfiguration


class ExpectFirstHolds(_Message, frozen=True, kw_only=True):
    """Which node is to hold which virtual router first, of those that are new with the next Configure.

    A request of its own, so that an engine of an earlier version refuses it and nothing else; and no engine acts on it
    again when it starts anew.
    """

    nominees: dict[str, str]
    """Node names by the names of virtual routers."""


class ReportHealth(_Message, frozen=True, kw_only=True):
    """The health of the services behind one VIP on this node, and why."""

    virtual_ip: str
    health: Health
    detail: str = ""


class GetStatus(_Message, frozen=True, kw_only=True):
    """Ask for the engine's Status."""


class Switchover(_Message, frozen=True, kw_only=True):
    """Move a VIP on the user's wish, make before break.

    `to` names the node that shall hold it. On that node the engine takes over; on the holder it steps aside for
    the best healthy Backup.
    """

    virtual_ip: str
    to: str


class GetHistory(_Message, frozen=True, kw_only=True):
    """Ask for the last moves of a VIP on this node, and for its journal where one is kept."""

    virtual_ip: str


class Subscribe(_Message, frozen=True, kw_only=True):
    """Send every Transition from now on to this connection."""


Request = Configure | ExpectFirstHolds | ReportHealth | GetStatus | GetHistory | Switchover | Subscribe


# ----- answers -----


class Transition(_Answer, frozen=True, kw_only=True):
    """One change of state, with the facts behind it."""

    virtual_ip: str
    from_state: State
    to_state: State
    reason: Reason
    message: str
    """The reason and its facts as a sentence for people."""
    time: str
    """UTC, RFC 3339, milliseconds."""
    peer: str = ""
    """Address of the router whose advertisement (or silence) decided it."""
    peer_priority: int = 0
    silent_milliseconds: int = 0
    """Of one that took over from a Master that was silent, or gave the addresses up: since its last advertisement. At
    most so long nobody held them; after any other move it is 0."""


class History(_Answer, frozen=True, kw_only=True):
    """The last transitions of a VIP on this node, oldest first, and its journal as lines of JSON."""

    virtual_ip: str
    transitions: list[Transition]
    journal: list[str]


class RouterStatus(
    Struct, frozen=True, kw_only=True, rename=kubernetes_name, omit_defaults=False, forbid_unknown_fields=False
):
    """One VirtualIP and its virtual router as they are now."""

    virtual_ip: str
    addresses: list[str]
    interface: str
    virtual_router_id: int
    version: int
    state: State
    since: str
    """UTC, RFC 3339: when this state was entered."""
    reason: Reason | None
    """Of the last move; None before the first."""
    message: str
    priority: int
    """Configured."""
    effective_priority: int
    """Advertised now (or would be as Master)."""
    health: Health
    health_detail: str
    obstacles: list[Obstacle]
    obstacle_detail: str
    master: str
    """Address of the Master that this node hears; empty when it is Master itself or hears none."""
    master_priority: int
    advertisement_interval_milliseconds: int
    learned_interval_milliseconds: int
    transitions: int
    """Moves to Master and away from it since the engine started."""
    counters: dict[str, int]
    """Named after RFC 8347 (ietf-vrrp) where it has the counter."""
    warnings: list[str] = field(default_factory=list)
    """What a person should look at: somebody else answers for an address, advertisements are refused, ..."""
    unproved: bool = False
    """It is Master and has heard nobody on its link since that came up, so that it advertises the lowest priority."""
    host_ports_exposed: bool = False
    """Its host ports are to be closed, and cannot be: what listens on this node is reached through it where it is held.
    """
    virtual_router: str = ""
    """The name of the virtual router that it shares with others; empty: it has one of its own."""
    advertised_interval_milliseconds: int = 0
    """What its advertisements say as Master: longer than configured while they leave late. 0: an older engine."""
    takes_over_after_milliseconds: int = 0
    """Of a Backup that hears a Master: how long after its last advertisement it takes over. 0: it does not, or an older
    engine."""


class Lateness(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """How late timers fire, in microseconds, since the engine started."""

    samples: int
    p50_microseconds: int
    p99_microseconds: int
    max_microseconds: int


class RealTime(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """Which real-time means are in force, in words for people: what was wanted, or the next best that was had."""

    scheduling: str
    memory: str
    garbage_collection: str
    cpu_latency: str


class LinkStatus(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """A link that a VIP can live on."""

    name: str
    addresses: list[str]
    """Its own addresses with prefix length, without VIPs and without those that come and go; sorted, at most 64."""
    next_hops: list[str] = []
    """Through what routes of this host lead there: its default gateways and others, whoever set them; sorted, at most
    64."""


class Status(_Answer, frozen=True, kw_only=True):
    """Everything about the engine that `holdfast status` shows."""

    node_name: str
    version: str
    pid: int
    started: str
    generation: int
    routers: list[RouterStatus]
    link_counters: dict[str, int]
    """Packets that belong to no virtual router of ours."""
    lateness: Lateness
    real_time: RealTime
    warnings: list[str]
    foreign_virtual_router_ids: dict[str, list[int]] = field(default_factory=dict)
    """By interface: VRIDs that were heard within the last hour from others than the configured nodeAddresses."""
    links: list[LinkStatus] | None = None
    """By name, at most 64. None: an older engine, which does not say."""
    restarts: int = 0
    """How often the keeper had to fork the engine anew."""
    last_death: str = ""
    """When, and what of, the last one died."""
    shares_virtual_routers: bool = False
    """Whether it takes virtual routers that several VirtualIPs share. False: an older engine, which refuses them."""


class Started(_Answer, frozen=True, kw_only=True):
    """An engine begins to serve a connection that it inherited; sent without being asked."""

    generation: int
    """Of the configuration that it runs already; 0: none."""


class Done(_Answer, frozen=True, kw_only=True):
    """The request was carried out."""

    message: str = ""


class Refused(_Answer, frozen=True, kw_only=True):
    """The request was not carried out; nothing changed."""

    reason: str


Answer = Status | History | Done | Refused | Transition | Started
