"""What changed on the wire, as values. One virtual router on the wire is a link, an IP version and a VRID."""

from __future__ import annotations

import enum

from msgspec import Struct

from holdfast_api.naming import kubernetes_name
from holdfast_cli.sniff.packets import Authentication, ChecksumForm, Event, Fault, Role


class Band(enum.StrEnum):
    """What a priority says: RFC 9568 section 5.2.4, and Holdfast's health bands between."""

    RELEASE = "Release"
    FAILING = "Failing"
    HEALTHY = "Healthy"
    OWNER = "Owner"


def band(priority: int) -> Band:
    """The band of a priority, 0 to 255.

    >>> [band(priority).value for priority in (0, 1, 49, 50, 254, 255)]
    ['Release', 'Failing', 'Failing', 'Healthy', 'Healthy', 'Owner']
    """
    if priority == 0:
        return Band.RELEASE
    if priority == 255:
        return Band.OWNER
    return Band.FAILING if priority < 50 else Band.HEALTHY


class MoveReason(enum.StrEnum):
    """Why another router is Master, as far as the wire tells."""

    RELEASED = "Released"
    """The former Master sent priority 0."""
    SILENT = "Silent"
    """The former Master was not heard for three of its intervals."""
    HIGHER_PRIORITY = "HigherPriority"
    HIGHER_ADDRESS = "HigherAddress"
    """At the same priority (RFC 9568 section 6.4.3)."""


class _RouterChange(Event, frozen=True, kw_only=True):
    virtual_router_id: int
    family: int
    """4 or 6."""


class RouterHeard(_RouterChange, frozen=True, kw_only=True):
    """A router advertises for the first time, or again after it was silent or had released."""

    source: str
    destination: str
    mac: str
    version: int
    priority: int
    band: Band
    interval_milliseconds: int
    addresses: tuple[str, ...]
    checksum: ChecksumForm
    authentication: Authentication
    remarks: tuple[str, ...]
    silent_milliseconds: float | None
    """Since its last advertisement; None for the first."""


class MasterChanged(_RouterChange, frozen=True, kw_only=True):
    """Another router advertises as Master."""

    from_source: str
    to_source: str
    reason: MoveReason
    from_priority: int | None
    """The last one that was not 0; None when only its priority 0 was heard."""
    to_priority: int
    gap_milliseconds: float
    """From the former Master's last packet to the new one's first."""


class PriorityChanged(_RouterChange, frozen=True, kw_only=True):
    """A Master advertises another priority."""

    source: str
    from_priority: int
    to_priority: int
    from_band: Band
    to_band: Band


class IntervalChanged(_RouterChange, frozen=True, kw_only=True):
    """A Master advertises another interval."""

    source: str
    from_milliseconds: int
    to_milliseconds: int


class AddressesChanged(_RouterChange, frozen=True, kw_only=True):
    """A Master advertises other addresses."""

    source: str
    from_addresses: tuple[str, ...]
    to_addresses: tuple[str, ...]


class Released(_RouterChange, frozen=True, kw_only=True):
    """A router sent priority 0: it is no longer Master (RFC 9568 section 5.2.4)."""

    source: str
    from_priority: int | None
    """The one before; None when it was not heard before."""


class FellSilent(_RouterChange, frozen=True, kw_only=True):
    """The Master was not heard for three intervals and its skew, when a Backup would take over."""

    source: str
    priority: int
    interval_milliseconds: int
    silent_milliseconds: float


class Claim(Struct, frozen=True, rename=kubernetes_name):
    """A router that advertises as Master."""

    source: str
    priority: int


class TwoMasters(_RouterChange, frozen=True, kw_only=True):
    """A router advertises that should obey another one, which advertises too. The one to obey comes first."""

    masters: tuple[Claim, ...]


class OneMaster(_RouterChange, frozen=True, kw_only=True):
    """Of several Masters one is left."""

    source: str
    lasted_milliseconds: float
    """From the first conflict to the last packet of another Master."""


class AddressAnnounced(Event, frozen=True, kw_only=True):
    """A gratuitous ARP or unsolicited neighbour advertisement for a VIP, or an answer from another MAC than before."""

    protocol: str
    role: Role
    address: str
    mac: str
    previous_mac: str | None
    source: str
    virtual_router_id: int | None
    """None for an address that only its virtual router MAC tells from others."""
    family: int


class InvalidHeard(Event, frozen=True, kw_only=True):
    """Packets that every receiver has to discard; told again after a minute when they go on."""

    protocol: str
    source: str
    destination: str
    mac: str
    virtual_router_id: int | None
    family: int
    priority: int | None
    faults: tuple[Fault, ...]
    packets: int
    """How many like this since it was last told, this one included."""


RouterChange = (
    RouterHeard
    | MasterChanged
    | PriorityChanged
    | IntervalChanged
    | AddressesChanged
    | Released
    | FellSilent
    | TwoMasters
    | OneMaster
)
Change = RouterChange | AddressAnnounced | InvalidHeard
