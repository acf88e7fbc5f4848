"""What goes out on a link: advertisements and announcements; and when it is that a virtual router cannot send."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from msgspec import Struct

from holdfast_speaker.engine.errnos import told
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.ports import FAMILY_NAMES, Log, Wire
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant

_PAUSE_MAXIMUM = Duration(30 * SECOND)

LOG_EVERY = Duration(60 * SECOND)
"""How often people are told that nothing leaves for one destination: it may be so every other packet."""

_ABOUT = "sending to "
"""What warnings are about: a destination among several."""

_Family = tuple[str, int]
"""A VirtualIP's name and a width."""


@dataclass(slots=True)
class _Failure:
    """Nothing has left in one family of a virtual router since then."""

    since: Instant
    code: int


class SendingCheckpoint(Struct, frozen=True):
    """Everything that Sending knows."""

    failures: list[tuple[_Family, _Failure]]
    pauses: dict[str, Duration]
    unsent: list[tuple[str, bytes, Instant]] = []


class Sending:
    """Sends for every instance, counts what really left, and knows who cannot send."""

    def __init__(self, wire: Wire, log: Log) -> None:
        self._wire = wire
        self._log = log
        self._failures: dict[_Family, _Failure] = {}
        self._pauses: dict[str, Duration] = {}
        self._unsent: dict[tuple[str, bytes], Instant] = {}
        self._told_at: dict[tuple[str, bytes], Instant] = {}

    def checkpoint(self) -> SendingCheckpoint:
        """Who cannot send, and since when. What people are told of it decides nothing."""
        failures = [(family, replace(failure)) for family, failure in self._failures.items()]
        unsent = [(name, destination, since) for (name, destination), since in self._unsent.items()]
        return SendingCheckpoint(failures, dict(self._pauses), unsent)

    def restore(self, known: SendingCheckpoint) -> None:
        """Know what another one knew."""
        self._failures = {family: replace(failure) for family, failure in known.failures}
        self._pauses = dict(known.pauses)
        self._unsent = {(name, destination): since for name, destination, since in known.unsent}

    def send(self, instance: Instance, action: SendAdvertisement, now: Instant) -> bool:
        """Send one advertisement. Returns whether the family it belongs to can no longer be served.

        That is so after three intervals in which the host let none out, be it to one of several destinations.
        """
        if instance.link is None:
            return False
        family = (instance.name, len(action.source))
        code = self._wire.send(instance.link.index, action)
        counters = instance.router.counters
        if instance.unicast:
            self._note_peer(instance, action.destination, now, left=not code)
        if not code:
            counters[Counter.ADVERTISEMENT_SENT] += 1
            if not action.priority:
                counters[Counter.PRIORITY_ZERO_PKTS_SENT] += 1
            if self._failures:
                self._failures.pop(family, None)
            if self._pauses:
                self._pauses.pop(instance.name, None)
            if instance.unicast:
                instance.warn(_about(action), "")
            return False
        counters[Counter.SEND_ERRORS] += 1
        self._tell(instance, action, code, now)
        failure = self._failures.setdefault(family, _Failure(now, code))
        failure.code = code
        return now - failure.since >= 2 * instance.interval  # and one before the first that failed

    def _note_peer(self, instance: Instance, peer: bytes, now: Instant, *, left: bool) -> None:
        """Know the peers to which nothing leaves for three intervals, though it may leave to others."""
        router = instance.router
        if left:
            if self._unsent.pop((instance.name, peer), None) is not None:
                router.unreachable -= {peer}
        elif now - self._unsent.setdefault((instance.name, peer), now) >= 2 * instance.interval:
            router.unreachable |= {peer}

    def leaves(self, instance: Instance, farewells: Sequence[SendAdvertisement], now: Instant) -> bool:
        """Send these in one family, as a try. Returns whether one of them left, or there was nothing to send."""
        for farewell in farewells:
            family = (instance.name, len(farewell.source))
            self.send(instance, farewell, now)
            if self._failures.pop(family, None) is None:
                return True
        return not farewells

    def _tell(self, instance: Instance, action: SendAdvertisement, code: int, now: Instant) -> None:
        """Which advertisement does not leave: at once in status, and in the log not too often."""
        peer = str(ip_address(action.destination))
        if instance.unicast:
            instance.warn(_about(action), f"advertisements to {peer} cannot be sent: {_why(code)}")
        told_at = self._told_at.get((instance.name, action.destination))
        if told_at is not None and now - told_at < LOG_EVERY:
            return
        self._told_at[instance.name, action.destination] = now
        interface = instance.link.name if instance.link else None
        self._log.error(
            f"an advertisement could not be sent: {_why(code)}",
            virtualIP=instance.name,
            interface=interface,
            destination=peer,
        )

    def begin_anew(self, instance: Instance) -> None:
        """Its state, or where it sends to, is another one: what failed before says nothing of what is sent now."""
        for width in (4, 16):
            self._failures.pop((instance.name, width), None)
        self._forget_peers(instance.name)
        instance.router.unreachable = frozenset()
        for about in [about for about in instance.warnings if about.startswith(_ABOUT)]:
            instance.warn(about, "")

    def why(self, instance: Instance, width: int) -> str:
        """A sentence about a family that cannot be sent in; the next attempt begins with a clean slate."""
        failure = self._failures.pop((instance.name, width), None)
        interface = instance.link.name if instance.link else "nowhere"
        why = _why(failure.code) if failure else "unknown"
        return f"no {FAMILY_NAMES[width]} advertisement leaves {interface}: {why}"

    def pause(self, name: str) -> Duration:
        """How long to wait before a VirtualIP that could not send is tried again: 1 s, and twice as long each time."""
        pause = self._pauses.get(name, SECOND)
        self._pauses[name] = min(Duration(2 * pause), _PAUSE_MAXIMUM)
        return pause

    def forget(self, name: str) -> None:
        """A VirtualIP is no longer run here."""
        self._pauses.pop(name, None)
        for family in [family for family in self._failures if family[0] == name]:
            del self._failures[family]
        for key in [key for key in self._told_at if key[0] == name]:
            del self._told_at[key]
        self._forget_peers(name)

    def _forget_peers(self, name: str) -> None:
        for key in [key for key in self._unsent if key[0] == name]:
            del self._unsent[key]

    def announce(self, instance: Instance) -> None:
        """Gratuitous ARP and unsolicited neighbour advertisements for all addresses that are served."""
        if instance.link is None:
            return
        code = self._wire.transmit(instance.link.index, instance.announcements)
        if code:
            self._log.error(f"the addresses could not be announced: {told(code)}", virtualIP=instance.name)


def _about(action: SendAdvertisement) -> str:
    return _ABOUT + action.destination.hex()


def _why(code: int) -> str:
    if code == errno.EPERM:  # what a netfilter hook's DROP looks like to the sender (net/netfilter/core.c)
        return "the firewall of this host drops it (EPERM): let VRRP, IP protocol 112, out"
    return told(code)
