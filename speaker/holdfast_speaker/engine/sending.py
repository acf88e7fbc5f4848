"""What goes out on a link: advertisements and announcements; and when it is that a virtual router cannot send."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace

from msgspec import Struct

from holdfast_speaker.engine.errnos import told
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.ports import FAMILY_NAMES, Log, Wire
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant

_PAUSE_MAXIMUM = Duration(30 * SECOND)

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


class Sending:
    """Sends for every instance, counts what really left, and knows who cannot send."""

    def __init__(self, wire: Wire, log: Log) -> None:
        self._wire = wire
        self._log = log
        self._failures: dict[_Family, _Failure] = {}
        self._pauses: dict[str, Duration] = {}

    def checkpoint(self) -> SendingCheckpoint:
        """Who cannot send, and since when."""
        failures = [(family, replace(failure)) for family, failure in self._failures.items()]
        return SendingCheckpoint(failures, dict(self._pauses))

    def restore(self, known: SendingCheckpoint) -> None:
        """Know what another one knew."""
        self._failures = {family: replace(failure) for family, failure in known.failures}
        self._pauses = dict(known.pauses)

    def send(self, instance: Instance, action: SendAdvertisement, now: Instant) -> bool:
        """Send one advertisement. Returns whether the family it belongs to can no longer be served.

        That is so after three intervals in which the host let none out, be it to one of several destinations.
        """
        if instance.link is None:
            return False
        family = (instance.name, len(action.source))
        code = self._wire.send(instance.link.index, action)
        counters = instance.router.counters
        if not code:
            counters[Counter.ADVERTISEMENT_SENT] += 1
            if not action.priority:
                counters[Counter.PRIORITY_ZERO_PKTS_SENT] += 1
            if self._failures:
                self._failures.pop(family, None)
            if self._pauses:
                self._pauses.pop(instance.name, None)
            return False
        counters[Counter.SEND_ERRORS] += 1
        failure = self._failures.get(family)
        if failure is None:
            failure = self._failures[family] = _Failure(now, code)
            self._log.error(
                f"an advertisement could not be sent: {_why(code)}",
                virtualIP=instance.name,
                interface=instance.link.name,
            )
        failure.code = code
        return now - failure.since >= 2 * instance.interval  # and one before the first that failed

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

    def announce(self, instance: Instance) -> None:
        """Gratuitous ARP and unsolicited neighbour advertisements for all addresses that are served."""
        if instance.link is None:
            return
        code = self._wire.transmit(instance.link.index, instance.announcements)
        if code:
            self._log.error(f"the addresses could not be announced: {told(code)}", virtualIP=instance.name)


def _why(code: int) -> str:
    if code == errno.EPERM:  # what a netfilter hook's DROP looks like to the sender (net/netfilter/core.c)
        return "the firewall of this host drops it (EPERM): let VRRP, IP protocol 112, out"
    return told(code)
