"""What the core wants done: edges for packets and announcements. The addresses are a level, not an action.

The order is a contract. After every call the driver first makes the kernel's addresses what
`VirtualRouter.holds_addresses` says, and then carries out the actions in their order. So on promotion a neighbour sees
the address, the advertisement, the gratuitous ARP; on release the address goes before priority 0 invites the next.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast_api.reasons import Reason, State
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import ZERO, Duration, Instant


@dataclass(frozen=True, slots=True)
class SendAdvertisement:
    """One advertisement to one destination."""

    source: bytes
    destination: bytes
    payload: bytes
    priority: int
    """What the payload says; 0: this Master stops."""


@dataclass(frozen=True, slots=True)
class AnnounceAddresses:
    """Gratuitous ARP (IPv4) and unsolicited neighbour advertisements (IPv6) for every address."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A well-formed advertisement was not obeyed, and whoever sent it may hold the addresses beside this router."""

    counter: Counter
    """Why, and what it was counted as."""
    source: bytes


@dataclass(frozen=True, slots=True)
class Transitioned:
    """The state changed: why, and the facts behind it."""

    at: Instant
    from_state: State
    to_state: State
    reason: Reason
    priority: int
    """Our effective priority after the change."""
    peer: bytes | None = None
    """The router whose advertisement, or silence, decided it."""
    peer_priority: int = 0
    silent: Duration = ZERO
    """How long nothing was heard from that router (or from any, since this node began to listen)."""
    detail: str = ""
    unproved: bool = False
    """A Master that has not heard anybody on this link yet, and advertises the lowest healthy priority."""


Action = SendAdvertisement | AnnounceAddresses | Transitioned | Refused
Actions = tuple[Action, ...]
NOTHING: Actions = ()
