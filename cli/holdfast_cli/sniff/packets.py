"""What is heard on the wire, as values: IP and MAC addresses as text, times as nanoseconds since the epoch.

As JSON each is an object whose `event` is the name of its class; intervals are in milliseconds.
"""

from __future__ import annotations

import enum

from msgspec import Struct

from holdfast_api.naming import kubernetes_name


class Event(Struct, frozen=True, kw_only=True, rename=kubernetes_name, tag_field="event", tag=True):
    """Anything that a line tells."""

    at: int
    """Nanoseconds since the epoch; written as `time`."""
    link: str
    """The interface, with `.VLAN` where a frame is tagged; empty where a capture does not say."""


def family_of(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


class FaultKind(enum.StrEnum):
    """Why every receiver has to discard a packet."""

    TIME_TO_LIVE = "TimeToLive"
    VERSION = "Version"
    TYPE = "Type"
    LENGTH = "Length"
    CHECKSUM = "Checksum"
    VIRTUAL_ROUTER_ID_ZERO = "VirtualRouterIDZero"
    ADDRESS_COUNT_ZERO = "AddressCountZero"
    INTERVAL_ZERO = "IntervalZero"
    AUTHENTICATION = "Authentication"
    FRAGMENT = "Fragment"
    NOT_CAPTURED_WHOLE = "NotCapturedWhole"


class Fault(Struct, frozen=True):
    """One rule that a packet breaks, with the figures."""

    kind: FaultKind
    detail: str


class ChecksumForm(enum.StrEnum):
    """What the checksum of a VRRP packet covers besides the packet."""

    NOTHING = "WithoutPseudoHeader"
    PSEUDO_HEADER = "WithPseudoHeader"


class Authentication(enum.StrEnum):
    """The authentication of VRRPv2 (RFC 2338 section 5.3.6); the password is never shown."""

    NONE = "None"
    SIMPLE_PASSWORD = "SimplePassword"  # noqa: S105 - the name of a method, not a password


class Advertisement(Event, frozen=True, kw_only=True):
    """A VRRP ADVERTISEMENT that a receiver has to process."""

    source: str
    destination: str
    mac: str
    ttl: int
    version: int
    virtual_router_id: int
    priority: int
    interval_milliseconds: int
    addresses: tuple[str, ...]
    checksum: ChecksumForm
    authentication: Authentication = Authentication.NONE
    remarks: tuple[str, ...] = ()
    """What is odd about it and allowed."""

    @property
    def family(self) -> int:
        """4 or 6."""
        return family_of(self.source)


class Malformed(Event, frozen=True, kw_only=True):
    """A packet of VRRP or neighbour discovery that a receiver has to discard, as far as it could be read."""

    protocol: str
    """VRRP or NDP."""
    source: str
    destination: str
    mac: str
    ttl: int
    faults: tuple[Fault, ...]
    version: int | None = None
    virtual_router_id: int | None = None
    priority: int | None = None
    address: str | None = None
    """NDP: whose address it claims to tell."""


class Role(enum.StrEnum):
    """What a packet of ARP or neighbour discovery does."""

    QUESTION = "Question"
    ANSWER = "Answer"
    ANNOUNCEMENT = "Announcement"


class Resolution(Event, frozen=True, kw_only=True):
    """A packet of ARP (RFC 826) or neighbour discovery (RFC 4861) about one address."""

    protocol: str
    """ARP or NDP."""
    role: Role
    address: str
    """The one that is asked for, answered for or announced."""
    mac: str
    """Where the address is; of a question, who asks."""
    source: str
    """The IP address of the sender."""


Packet = Advertisement | Malformed | Resolution
