"""Packets and changes as lines: for people, and as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import click
import msgspec

from holdfast_cli.sniff.changes import (
    AddressAnnounced,
    AddressesChanged,
    Band,
    Change,
    FellSilent,
    IntervalChanged,
    InvalidHeard,
    MasterChanged,
    MoveReason,
    OneMaster,
    PriorityChanged,
    Released,
    RouterHeard,
    TwoMasters,
    band,
)
from holdfast_cli.sniff.packets import (
    Advertisement,
    Authentication,
    ChecksumForm,
    Fault,
    Malformed,
    Packet,
    Resolution,
    Role,
    family_of,
)

_ABOUT_WIDTH = len("255/IPv4")
_LABEL_WIDTH = len("ADDRESSES")


class _Told(NamedTuple):
    label: str
    """Of a packet in lower case, of a change in capitals."""
    sentence: str
    colour: str | None = None


def time_of(at: int) -> str:
    """UTC, RFC 3339, microseconds.

    >>> time_of(1_700_000_000_123_456_789)
    '2023-11-14T22:13:20.123456Z'
    """
    seconds, nanoseconds = divmod(at, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds // 1000:06d}Z"


def as_json(event: Packet | Change) -> str:
    """One object on one line: `event` (its kind), `time`, and the fields of its kind."""
    fields = msgspec.to_builtins(event)
    line = {"event": fields.pop("event"), "time": time_of(fields.pop("at")), **fields}
    return msgspec.json.encode(line).decode()


def as_text(event: Packet | Change) -> str:
    """One line for people."""
    told = _packet(event) if isinstance(event, Packet) else _change(event)
    place = f"{event.link} {_about(event):{_ABOUT_WIDTH}}".lstrip()
    label = f"{told.label:{_LABEL_WIDTH}}"
    if told.colour is not None:
        label = click.style(label, fg=told.colour, bold=True)
    return f"{time_of(event.at)[11:]} {place} {label} {told.sentence}"


def _about(event: Packet | Change) -> str:
    """Which virtual router: its VRID, where one is known, and its IP version."""
    if isinstance(event, Resolution):
        return f"-/IPv{family_of(event.address)}"
    family = family_of(event.source) if isinstance(event, Malformed) else event.family
    return f"{'-' if event.virtual_router_id is None else event.virtual_router_id}/IPv{family}"


def span(milliseconds: float) -> str:
    """A duration as people say it.

    >>> span(3.25), span(36.1), span(361.4), span(3609.4)
    ('3.2 ms', '36.1 ms', '361 ms', '3.609 s')
    """
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.3f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.1f} ms"


def _every(milliseconds: int) -> str:
    return f"{milliseconds // 1000} s" if milliseconds % 1000 == 0 else f"{milliseconds} ms"


def _priority(priority: int | None) -> str:
    """With what it says, where that is more than a number."""
    if priority is None:
        return "unknown"
    kind = band(priority)
    return str(priority) if kind is Band.HEALTHY else f"{priority} {kind.value.lower()}"


def _form(checksum: ChecksumForm, family: int, version: int) -> str:
    """Only VRRPv3 over IPv4 has a choice."""
    if (version, family) != (3, 4):
        return ""
    return f", checksum {'with' if checksum is ChecksumForm.PSEUDO_HEADER else 'without'} pseudo-header"


def _reasons(faults: tuple[Fault, ...]) -> str:
    return "; ".join(fault.detail for fault in faults)


# ----- packets -----


def _packet(packet: Packet) -> _Told:
    match packet:
        case Advertisement():
            return _Told("advert", _advertisement(packet))
        case Malformed():
            return _Told("invalid", _malformed(packet), "red")
        case Resolution():
            return _Told(packet.protocol.lower(), _resolution(packet))


def _advertisement(packet: Advertisement) -> str:
    return (
        f"{packet.source} > {packet.destination}: VRRPv{packet.version}, ttl {packet.ttl}, "
        f"priority {_priority(packet.priority)}, every {_every(packet.interval_milliseconds)}, "
        f"{' '.join(packet.addresses)}{_details(packet)}"
    )


def _malformed(packet: Malformed) -> str:
    version = "" if packet.version is None else f"v{packet.version}"
    priority = "" if packet.priority is None else f", priority {_priority(packet.priority)}"
    about = "" if packet.address is None else f", about {packet.address}"
    what = f"{packet.protocol}{version}, ttl {packet.ttl}{priority}{about}"
    return f"{packet.source} > {packet.destination}: {what}: {_reasons(packet.faults)}"


def _resolution(packet: Resolution) -> str:
    if packet.role is Role.QUESTION:
        return f"who has {packet.address}? asks {packet.source} ({packet.mac})"
    verb = "announces itself at" if packet.role is Role.ANNOUNCEMENT else "answers: it is at"
    return f"{packet.address} {verb} {packet.mac}"


def _details(event: Advertisement | RouterHeard) -> str:
    """What only some packets have: only VRRPv3 over IPv4 has a choice of checksums, only VRRPv2 passwords."""
    details = []
    if (event.version, event.family) == (3, 4):
        pseudo = "with" if event.checksum is ChecksumForm.PSEUDO_HEADER else "without"
        details.append(f"checksum {pseudo} pseudo-header")
    if event.authentication is Authentication.SIMPLE_PASSWORD:
        details.append("simple password")
    return "".join(f", {detail}" for detail in (*details, *event.remarks))


# ----- changes -----


def _change(change: Change) -> _Told:
    match change:
        case AddressAnnounced():
            return _announced(change)
        case InvalidHeard():
            more = f" ({change.packets} packets)" if change.packets > 1 else ""
            who = f"{change.source} > {change.destination}"
            return _Told("INVALID", f"{who}: {change.protocol}: {_reasons(change.faults)}{more}", "red")
        case RouterHeard():
            return _Told("ROUTER", _heard(change), "green")
        case MasterChanged():
            return _Told("MASTER", _moved(change), "green")
        case PriorityChanged():
            sentence = f"{change.source}: {_priority(change.from_priority)} -> {_priority(change.to_priority)}"
            return _Told("PRIORITY", sentence, "red" if change.to_band is Band.FAILING else "yellow")
        case IntervalChanged():
            spans = f"every {_every(change.from_milliseconds)} -> every {_every(change.to_milliseconds)}"
            return _Told("INTERVAL", f"{change.source}: {spans}", "yellow")
        case AddressesChanged():
            was, now = " ".join(change.from_addresses), " ".join(change.to_addresses)
            return _Told("ADDRESSES", f"{change.source}: {was} -> {now}", "yellow")
        case Released():
            before = "" if change.from_priority is None else f" (priority {_priority(change.from_priority)})"
            return _Told("RELEASE", f"{change.source}{before} leaves: priority 0", "yellow")
        case FellSilent():
            return _Told("SILENT", _silent(change), "red")
        case TwoMasters():
            return _Told(f"{len(change.masters)} MASTERS", _conflict(change), "red")
        case OneMaster():
            lasted = f": they were more for {span(change.lasted_milliseconds)}" if change.lasted_milliseconds else ""
            return _Told("1 MASTER", f"{change.source} alone again{lasted}", "green")


def _heard(change: RouterHeard) -> str:
    again = "" if change.silent_milliseconds is None else f" again after {span(change.silent_milliseconds)}"
    return (
        f"{change.source}{again}: VRRPv{change.version}, priority {_priority(change.priority)}, "
        f"every {_every(change.interval_milliseconds)}, {' '.join(change.addresses)}, to {change.destination}"
        f"{_details(change)}"
    )


def _moved(change: MasterChanged) -> str:
    new = f"{change.to_source} (priority {_priority(change.to_priority)})"
    gap = span(change.gap_milliseconds)
    match change.reason:
        case MoveReason.RELEASED:
            return f"{new}: {change.from_source} released {gap} before"
        case MoveReason.SILENT:
            return f"{new}: {change.from_source} was last heard {gap} before"
        case MoveReason.HIGHER_PRIORITY:
            return f"{new} takes over from {change.from_source} (priority {_priority(change.from_priority)})"
        case MoveReason.HIGHER_ADDRESS:
            return f"{new} takes over from {change.from_source}: same priority, higher address"


def _silent(change: FellSilent) -> str:
    return (
        f"{change.source} (priority {_priority(change.priority)}, every {_every(change.interval_milliseconds)}): "
        f"nothing for {span(change.silent_milliseconds)}"
    )


def _conflict(change: TwoMasters) -> str:
    claims = " and ".join(f"{one.source} (priority {_priority(one.priority)})" for one in change.masters)
    return f"{claims}; by the protocol {change.masters[0].source} stays"


def _announced(change: AddressAnnounced) -> _Told:
    was = f" (was at {change.previous_mac})" if change.previous_mac not in (None, change.mac) else ""
    if change.role is Role.ANSWER:
        return _Told("ANSWERS", f"{change.address} answers from {change.mac}{was}", "red")
    how = "gratuitous ARP" if change.protocol == "ARP" else "unsolicited neighbour advertisement"
    return _Told("ANNOUNCED", f"{change.address} is at {change.mac}{was}: {how}", "cyan")
