"""Which links are listened on, and whether a socket that is open really hears: a link can forget its groups.

A link loses its memberships with a family (IPv6 below an MTU of 1280, disable_ipv6) or with itself (the same index may
come back), and the sockets are not told. So a listener is doubted whenever something happened to its link, and joins
anew; and once a minute in any case.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from msgspec import Struct

from holdfast_api.reasons import Obstacle
from holdfast_speaker.engine.addresses import Changes
from holdfast_speaker.engine.errnos import told
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.links import LinkTable
from holdfast_speaker.engine.ports import FAMILY_NAMES, AddressRemoved, Listener, Wire
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant

RENEW_EVERY = Duration(60 * SECOND)

_NO_IPV6 = frozenset({errno.EINVAL, errno.ENODEV, errno.EADDRNOTAVAIL})
"""What joining a group says on a link without the family (net/ipv6/mcast.c)."""

_PAUSE_MINIMUM = SECOND
_PAUSE_MAXIMUM = Duration(30 * SECOND)


class ListeningCheckpoint(Struct, frozen=True):
    """Everything that Listening knows."""

    open: frozenset[Listener]
    overheard: frozenset[Listener]
    refused: list[tuple[Listener, int]]
    doubted: frozenset[Listener]
    gone: frozenset[int]
    renew_at: Instant | None
    retry_at: Instant | None
    pause: Duration
    overhears: bool


class Listening:
    """What is listened on, what could not be, and when that is tried again."""

    def __init__(self, wire: Wire, table: LinkTable, *, overhears: bool) -> None:
        self._wire = wire
        self._table = table
        self._overhears = overhears
        self._open: frozenset[Listener] = frozenset()
        self._overheard: frozenset[Listener] = frozenset()
        self._refused: dict[Listener, int] = {}
        self._doubted: set[Listener] = set()
        self._gone: set[int] = set()
        self._renew_at: Instant | None = None
        self._retry_at: Instant | None = None
        self._pause = _PAUSE_MINIMUM

    def checkpoint(self) -> ListeningCheckpoint:
        """What is listened on, and what is in doubt."""
        return ListeningCheckpoint(
            open=self._open,
            overheard=self._overheard,
            refused=list(self._refused.items()),
            doubted=frozenset(self._doubted),
            gone=frozenset(self._gone),
            renew_at=self._renew_at,
            retry_at=self._retry_at,
            pause=self._pause,
            overhears=self._overhears,
        )

    def restore(self, known: ListeningCheckpoint) -> None:
        """Know what another one knew; the wire is asked nothing."""
        self._open, self._overheard = known.open, known.overheard
        self._refused = dict(known.refused)
        self._doubted, self._gone = set(known.doubted), set(known.gone)
        self._renew_at, self._retry_at, self._pause = known.renew_at, known.retry_at, known.pause
        self._overhears = known.overhears

    def why_not(self, listener: Listener) -> tuple[Obstacle, str] | None:
        """Why nothing is heard there; None where it is listened on."""
        code = self._refused.get(listener)
        if code is None:
            return None
        link = self._table.by_index.get(listener.link)
        name, family = link.name if link else "a link", FAMILY_NAMES[listener.width]
        if code in (errno.EMFILE, errno.ENFILE):
            return Obstacle.TOO_FEW_DESCRIPTORS, f"{name} cannot be listened on over {family}: {told(code)}"
        if listener.width == 16 and code in _NO_IPV6:
            return Obstacle.LINK_DOWN, f"{name} has no IPv6 now (it is disabled, or the MTU is below 1280)"
        return Obstacle.LINK_DOWN, f"{name} cannot be listened on over {family}: {told(code)}"

    def doubt(self, changes: Changes) -> None:
        """Something happened to links: their groups may be forgotten."""
        if changes.events is None:
            self._doubted |= self._open
        for listener in self._open:
            if listener.link in changes.changed:
                self._doubted.add(listener)
        for event in changes.events or ():
            if isinstance(event, AddressRemoved) and len(event.address.address) == 16 and not event.address.ours:
                self._doubted.add(Listener(event.address.index, 16))
        self._gone |= changes.gone

    def listen(self, instances: Iterable[Instance], now: Instant) -> None:
        """Listen where the instances live, as far as their links are up, and join anew where that is in doubt."""
        wanted = frozenset(
            listener
            for instance in instances
            if instance.link is not None and instance.link.operational
            for listener in instance.listeners
        )
        overheard = self._others() - wanted if self._overhears else frozenset()
        if self._gone:
            # A link with the same index may be there again: the sockets of the one that is gone hear nothing of it.
            stays = frozenset(listener for listener in wanted & self._open if listener.link not in self._gone)
            self._wire.listen(stays, frozenset(one for one in self._overheard if one.link not in self._gone))
            self._open = stays
            self._gone.clear()
        fresh = wanted - self._open
        if fresh or self._refused or wanted != self._open or overheard != self._overheard:
            self._refused = dict(self._wire.listen(wanted, overheard))
            self._open, self._overheard = wanted, overheard
        doubted = (self._doubted & wanted) - fresh - self._refused.keys()
        self._doubted.clear()
        if doubted:
            refused = self._wire.renew(sorted(doubted))
            self._refused |= refused
            self._doubted |= refused.keys()
        self._plan(now)

    def _plan(self, now: Instant) -> None:
        if not self._open:
            self._renew_at = self._retry_at = None
            return
        if self._renew_at is None:
            # The first time soon: sockets that an engine before this one left may have lost their groups meanwhile.
            self._renew_at = Instant(now + _PAUSE_MINIMUM)
        if not self._refused:
            self._retry_at, self._pause = None, _PAUSE_MINIMUM
        elif self._retry_at is None or self._retry_at <= now:
            self._retry_at = Instant(now + self._pause)
            self._pause = min(Duration(2 * self._pause), _PAUSE_MAXIMUM)

    def _others(self) -> frozenset[Listener]:
        """Each link that is up and has an address of its own, and whose neighbours can be heard."""
        return frozenset(
            Listener(link.index, len(address.address))
            for link in self._table.by_index.values()
            if link.operational and link.answers_arp and not link.loopback
            for address in self._table.others(link.index)
        )

    def next_deadline(self) -> Instant | None:
        """When something is to be joined anew, or tried again."""
        return min((at for at in (self._renew_at, self._retry_at) if at is not None), default=None)

    def poll(self, instances: Iterable[Instance], now: Instant) -> bool:
        """Do what is due. Returns whether it changed where anything is heard."""
        if self._renew_at is not None and self._renew_at <= now:
            self._renew_at = Instant(now + RENEW_EVERY)
            self._doubted |= self._open
        before = dict(self._refused)
        self.listen(instances, now)
        return before != self._refused
