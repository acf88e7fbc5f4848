"""Virtual routers that are none of ours, on any link of this node: whoever allocates VRIDs leaves theirs alone."""

from __future__ import annotations

from collections import Counter as Multiset
from collections.abc import Container, Iterable, Set

from msgspec import Struct

from holdfast_api.addresses import packed
from holdfast_speaker.engine.links import LinkTable
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import PacketError, decode

REMEMBERED = Duration(3600 * SECOND)
"""How long after its last advertisement a VRID counts as taken: its routers may be down for repair."""

_LOOK_AGAIN_AFTER = SECOND
"""A stranger may advertise every 10 ms, or flood."""

_MAX = 1024
"""How many are remembered, so that nobody who makes sources up can have them fill the memory."""


_Router = tuple[int, int, bytes]
"""The index of a link, a VRID, and the source of its advertisements."""


class StrangersCheckpoint(Struct, frozen=True):
    """Everything that Strangers knows. Counters decide nothing."""

    known: frozenset[bytes]
    heard: list[tuple[_Router, Instant]]
    own_host: list[tuple[tuple[int, int], tuple[Instant, Instant]]] = []


class Strangers:
    """Counts packets that belong to no virtual router of ours, and remembers whose they are."""

    def __init__(self) -> None:
        self.counters: Multiset[Counter] = Multiset()
        self._known: frozenset[bytes] = frozenset()
        self._heard: dict[_Router, Instant] = {}
        self._own_host: dict[tuple[int, int], tuple[Instant, Instant]] = {}
        """By a link's index and a VRID that another program of this host uses: when it was heard first and last."""
        self._old_at = Instant(0)
        """None of them is old enough to be forgotten before."""

    def checkpoint(self) -> StrangersCheckpoint:
        """Whom it knows and whom it heard."""
        return StrangersCheckpoint(self._known, list(self._heard.items()), list(self._own_host.items()))

    def restore(self, known: StrangersCheckpoint) -> None:
        """Know what another one knew."""
        self._known, self._heard, self._old_at = known.known, dict(known.heard), Instant(0)
        self._own_host = dict(known.own_host)

    def know(self, addresses: Iterable[str]) -> None:
        """These, and no others, are no strangers': nodes of the cluster run virtual routers that this one does not."""
        self._known = frozenset(map(packed, addresses))
        self._heard = {router: at for router, at in self._heard.items() if router[2] not in self._known}

    def keep_links(self, there: Container[int]) -> None:
        """Who was heard on a link with another index than these is forgotten: that link is gone."""
        self._heard = {router: at for router, at in self._heard.items() if router[0] in there}
        self._own_host = {place: times for place, times in self._own_host.items() if place[0] in there}

    def hear(self, index: int, payload: bytes, source: bytes, destination: bytes, ttl: int, now: Instant) -> bool:
        """Take in one packet from the link of that index. Whether it was looked at, and is an advertisement."""
        if len(payload) < 2:  # RFC 9568 section 5.2: the second byte is the VRID
            self.counters[Counter.PACKET_LENGTH_ERRORS] += 1
            return False
        self.counters[Counter.VRID_ERRORS] += 1
        key = (index, payload[1], source)
        last = self._heard.get(key)
        is_known = source in self._known
        if not is_known and (now - last < _LOOK_AGAIN_AFTER if last is not None else self._is_full(now)):
            return False
        try:
            decode(payload, source, destination, ttl)
        except PacketError:
            return False
        if not is_known:
            self._heard[key] = now
        return True

    def hear_own_host(
        self,
        index: int,
        payload: bytes,
        source: bytes,
        destination: bytes,
        ttl: int,
        ours: Set[bytes],
        now: Instant,
    ) -> None:
        """Take in what this host has sent on a link. `ours`: the addresses of our virtual router of that VRID there.

        It counts once it is heard again after a second: what is read now we may have sent ourselves, before an edit.
        """
        try:
            advertisement = decode(payload, source, destination, ttl)
        except PacketError:
            return
        place = (index, advertisement.vrid)
        if not ours.isdisjoint(advertisement.addresses):
            self._own_host.pop(place, None)
        elif advertisement.priority:
            first, last = self._own_host.get(place, (now, now))
            self._own_host[place] = (first if now - last < REMEMBERED else now, now)

    def _is_full(self, now: Instant) -> bool:
        """Whether there is no room for one more, also after the old ones are forgotten."""
        if len(self._heard) >= _MAX and now >= self._old_at:
            self._heard = {router: at for router, at in self._heard.items() if now - at < REMEMBERED}
            # A flood from a thousand made-up sources shall not cost a look at all of them for each packet.
            self._old_at = Instant(min(self._heard.values(), default=now) + REMEMBERED)
        return len(self._heard) >= _MAX

    def by_link(self, table: LinkTable, now: Instant) -> dict[str, list[int]]:
        """Their VRIDs by the interface's name, sorted; of either family.

        To ask for a status changes nothing: what an engine does depends on its inputs alone (journal.py).
        """
        heard = {
            (index, vrid)
            for (index, vrid, _), at in self._heard.items()
            if now - at < REMEMBERED and index in table.by_index
        }
        heard |= {
            (index, vrid)
            for (index, vrid), (first, last) in self._own_host.items()
            if last - first >= _LOOK_AGAIN_AFTER and now - last < REMEMBERED and index in table.by_index
        }
        found: dict[str, list[int]] = {}
        for index, vrid in sorted(heard):
            found.setdefault(table.by_index[index].name, []).append(vrid)
        return found
