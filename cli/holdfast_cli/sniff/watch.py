"""Packets in, changes out: no clock, no socket, so that a capture and a live link give the same."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from holdfast_cli.sniff.changes import AddressAnnounced, Change, InvalidHeard
from holdfast_cli.sniff.group import Group
from holdfast_cli.sniff.packets import Advertisement, FaultKind, Malformed, Packet, Resolution, Role, family_of

_SECOND = 1_000_000_000
_BURST = _SECOND
"""Announcements of one address by one MAC with less between them are one announcement."""
_INVALID_AGAIN = 60 * _SECOND
_VIRTUAL_MACS = ("00:00:5e:00:01:", "00:00:5e:00:02:")
"""RFC 9568 section 7.3: what has one is a VIP, also before an advertisement told so."""
_NEVER = sys.maxsize


@dataclass(slots=True)
class _Claimed:
    mac: str
    at: int


@dataclass(slots=True)
class _Invalid:
    told_at: int
    untold: int = 0


class Watch:
    """Everything that one or several links have shown so far."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, int, int], Group] = {}
        self._vips: dict[tuple[str, str], int] = {}
        """The VRID that advertises an address on a link."""
        self._claimed: dict[tuple[str, str], _Claimed] = {}
        self._invalid: dict[tuple[str, str, int | None, tuple[FaultKind, ...]], _Invalid] = {}
        self._next = _NEVER

    @property
    def virtual_routers(self) -> int:
        """How many were heard: links, IP versions and VRIDs."""
        return len(self._groups)

    def deadline(self) -> int | None:
        """Before this time nothing changes by itself (nanoseconds since the epoch); None: never."""
        return None if self._next == _NEVER else self._next

    def tick(self, now: int) -> list[Change]:
        """Who has fallen silent until now. Give it every packet from before this time first."""
        if now < self._next:
            return []
        changes: list[Change] = [change for group in self._groups.values() for change in group.tick(now)]
        deadlines = (group.deadline() for group in self._groups.values())
        self._next = min((deadline for deadline in deadlines if deadline is not None), default=_NEVER)
        return sorted(changes, key=lambda change: change.at)

    def concerns(self, packet: Packet) -> bool:
        """Whether a packet is VRRP's, or about the address of a VIP that was heard of on this link."""
        if isinstance(packet, Resolution):
            return packet.mac.startswith(_VIRTUAL_MACS) or (packet.link, packet.address) in self._vips
        return (
            isinstance(packet, Advertisement) or packet.address is None or (packet.link, packet.address) in self._vips
        )

    def hear(self, packet: Packet) -> list[Change]:
        """What a packet changes, after what its time changes; nothing when it concerns no virtual router."""
        changes = self.tick(packet.at)
        if not self.concerns(packet):
            return changes
        if isinstance(packet, Advertisement):
            return changes + self._advertised(packet)
        if isinstance(packet, Malformed):
            return changes + self._malformed(packet)
        return changes + self._resolved(packet)

    def _advertised(self, heard: Advertisement) -> list[Change]:
        key = (heard.link, heard.family, heard.virtual_router_id)
        group = self._groups.get(key)
        if group is None:
            self._groups[key] = group = Group(*key)
        self._vips.update(((heard.link, address), heard.virtual_router_id) for address in heard.addresses)
        changes: list[Change] = list(group.hear(heard))
        if (deadline := group.deadline()) is not None:
            self._next = min(self._next, deadline)
        return changes

    def _malformed(self, heard: Malformed) -> list[Change]:
        key = (heard.link, heard.source, heard.virtual_router_id, tuple(fault.kind for fault in heard.faults))
        known = self._invalid.get(key)
        if known is not None and heard.at - known.told_at < _INVALID_AGAIN:
            known.untold += 1
            return []
        packets = 1 if known is None else known.untold + 1
        self._invalid[key] = _Invalid(heard.at)
        return [
            InvalidHeard(
                at=heard.at,
                link=heard.link,
                protocol=heard.protocol,
                source=heard.source,
                destination=heard.destination,
                mac=heard.mac,
                virtual_router_id=heard.virtual_router_id,
                family=family_of(heard.source),
                priority=heard.priority,
                faults=heard.faults,
                packets=packets,
            )
        ]

    def _resolved(self, heard: Resolution) -> list[Change]:
        """RFC 9568 section 6.4: a new Master announces every address, so that caches and switches learn of it."""
        if heard.role is Role.QUESTION:
            return []
        key = (heard.link, heard.address)
        before = self._claimed.get(key)
        self._claimed[key] = _Claimed(heard.mac, heard.at)
        if before is None:
            is_news = heard.role is Role.ANNOUNCEMENT
        elif heard.role is Role.ANNOUNCEMENT:
            is_news = heard.mac != before.mac or heard.at - before.at >= _BURST
        else:
            is_news = heard.mac != before.mac
        if not is_news:
            return []
        return [
            AddressAnnounced(
                at=heard.at,
                link=heard.link,
                protocol=heard.protocol,
                role=heard.role,
                address=heard.address,
                mac=heard.mac,
                previous_mac=None if before is None else before.mac,
                source=heard.source,
                virtual_router_id=self._vips.get(key),
                family=family_of(heard.address),
            )
        ]
