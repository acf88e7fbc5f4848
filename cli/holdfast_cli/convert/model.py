"""One host's VRRP configuration, as keepalived would run it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from holdfast_api.resources import NotifyState
from holdfast_cli.convert.ledger import Place, Statement

DEFAULT_PRIORITY = 100
DEFAULT_VERSION = 2


@dataclass(frozen=True, slots=True)
class Address:
    """One entry of virtual_ipaddress or virtual_ipaddress_excluded."""

    interface: IPv4Interface | IPv6Interface
    statement: Statement
    excluded: bool
    """Not in keepalived's advertisements."""


@dataclass(frozen=True, slots=True)
class Script:
    """A vrrp_script; times in milliseconds."""

    name: str
    statement: Statement
    command: tuple[str, ...]
    interval_ms: int
    timeout_ms: int | None
    rise: int
    fall: int
    weight: int
    reverse: bool
    said: dict[str, Statement] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Notify:
    """A notify script of an instance or a sync group."""

    statement: Statement
    states: tuple[NotifyState, ...]
    """Empty: all."""
    command: tuple[str, ...]
    user: str | None
    group: str | None


@dataclass(frozen=True, slots=True)
class Globals:
    """What global_defs says of all instances of the host."""

    version: int | None = None
    strict: Statement | None = None
    """vrrp_strict."""
    start_delay: Statement | None = None
    start_delay_seconds: Decimal = Decimal(0)
    """vrrp_startup_delay."""
    script_user: tuple[str, ...] = ()
    """The user of scripts, and the group, if they are given."""


@dataclass(frozen=True, slots=True)
class TrackedScript:
    """An entry of track_script: the weight that counts here, of the entry or else of the script."""

    script: Script
    weight: int
    reverse: bool
    statement: Statement
    ignored: bool = False
    """keepalived does not track it, as the script is defined further down."""


@dataclass(frozen=True, slots=True)
class TrackedInterface:
    """An entry of track_interface."""

    name: str
    weight: int
    reverse: bool
    statement: Statement


Tracked = TrackedScript | TrackedInterface


@dataclass(eq=False, slots=True)
class Instance:
    """A vrrp_instance of one host."""

    node: str
    name: str
    statement: Statement
    said: dict[str, Statement] = field(default_factory=dict)
    """The statement that counts of each keyword."""
    interface: str = ""
    """Empty if none is given, as unicast allows."""
    virtual_router_id: int = 0
    version: int = DEFAULT_VERSION
    family: int = 4
    priority: int = DEFAULT_PRIORITY
    starts_as_master: bool = False
    nopreempt: bool = False
    preempt_delay: Decimal = Decimal(0)
    """Seconds."""
    start_delay: Decimal = Decimal(0)
    """Seconds."""
    interval_ms: int = 1000
    password: str = ""
    strict: bool | None = None
    """strict_mode; None where it is not there."""
    addresses: list[Address] = field(default_factory=list)
    scripts: list[TrackedScript] = field(default_factory=list)
    interfaces: list[TrackedInterface] = field(default_factory=list)
    source: IPv4Address | IPv6Address | None = None
    peers: list[IPv4Address | IPv6Address] = field(default_factory=list)
    notify: list[Notify] = field(default_factory=list)
    group_notify: list[Notify] = field(default_factory=list)
    """Of the sync groups that are told with this instance."""

    @property
    def tracked(self) -> list[Tracked]:
        """Scripts and interfaces."""
        return [*self.scripts, *self.interfaces]

    def where(self, keyword: str) -> Statement:
        """The statement with the keyword, or the instance's own where it has none."""
        return self.said.get(keyword, self.statement)


@dataclass(eq=False, slots=True)
class SyncGroup:
    """A vrrp_sync_group of one host."""

    name: str
    statement: Statement
    members: list[Instance] = field(default_factory=list)
    scripts: list[TrackedScript] = field(default_factory=list)
    interfaces: list[TrackedInterface] = field(default_factory=list)
    notify: list[Notify] = field(default_factory=list)
    weights_count: bool = False
    """sync_group_tracking_weight; without it no weight counts."""

    @property
    def tracked(self) -> list[Tracked]:
        """Scripts and interfaces."""
        return [*self.scripts, *self.interfaces]


@dataclass(eq=False, slots=True)
class Host:
    """One host: its name as a node, and what its configuration has."""

    node: str
    place: Place
    instances: list[Instance]
    groups: list[SyncGroup]
