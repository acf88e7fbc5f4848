"""The wire port over sockets: for each link in use one socket for each family, and one for whole frames.

Copies of them outlive the engine (kept_sockets.py), so that the next one finds what arrived meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterator, Mapping, Sequence, Set

from holdfast_speaker.engine.ports import OWN_HOST, Datagram, Listener, NeighbourAnswer
from holdfast_speaker.host import clock
from holdfast_speaker.host.failure import SystemCallFailure
from holdfast_speaker.host.families import FAMILIES
from holdfast_speaker.host.kept_sockets import KeptSockets
from holdfast_speaker.host.memberships import Memberships
from holdfast_speaker.host.programs import others_speak_vrrp
from holdfast_speaker.host.sockets import AnnouncementSocket, NeighbourSocket, OwnHostSocket, VRRPSocket
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant

_ANNOUNCER = 0
"""The width under which sockets for frames are kept. (To close a packet socket takes the kernel milliseconds, and the
death of an engine is known only after that.)"""

_MUTED_FOR = Duration(SECOND)
"""How long the kernel drops what comes in on a link that is only overheard, after it flooded."""

_LOOK_EVERY = Duration(10 * SECOND)
"""How often it is looked whether another program of this host speaks VRRP."""

_NOT_LISTENING = errno.ENOTCONN


class Wire:
    """Only what is in use is open."""

    def __init__(self, kept_sockets: KeptSockets, *, overhears: bool = False) -> None:
        """`overhears`: hear also what other programs of this host send, on every link that is listened on."""
        self._kept_sockets = kept_sockets
        self._overhears = overhears
        self._links: frozenset[int] = frozenset()
        self._own_host: dict[int, OwnHostSocket] = {}
        self._look_at = Instant(0)
        self._listeners: dict[Listener, VRRPSocket] = {}
        self._overheard: dict[Listener, VRRPSocket] = {}
        self._announcers: dict[int, AnnouncementSocket] = {}
        self._neighbours: dict[int, NeighbourSocket] = {}
        self._muted: dict[Listener, Instant] = {}
        self.epoch = 0
        """Grows whenever the set of descriptors changes, so that the loop knows to watch others."""

    # ----- the port: what is listened on -----

    def listen(self, wanted: Set[Listener], overheard: Set[Listener]) -> Mapping[Listener, int]:
        """As ports.Wire has it."""
        links = {listener.link for listener in wanted}
        for key in self._kept_sockets.keys - wanted - {(link, _ANNOUNCER) for link in links}:
            self._kept_sockets.drop(key)
        for listener in self._listeners.keys() - wanted:
            self._close(self._listeners, listener)
        for listener in self._overheard.keys() - overheard:
            self._close(self._overheard, listener)
        for link in self._announcers.keys() - links:
            self._announcers.pop(link).close()
        refused: dict[Listener, int] = {}
        memberships = Memberships()
        for listener in sorted(wanted):
            try:
                self._open(listener, memberships)
            except SystemCallFailure as failure:
                refused[listener] = failure.errno
        for listener in sorted(overheard - self._overheard.keys()):
            # Nothing of ours is there that would miss it.
            with contextlib.suppress(SystemCallFailure):
                self._overheard[listener] = VRRPSocket(listener.link, FAMILIES[listener.width])
                self.epoch += 1
        self._links = frozenset(listener.link for listener in (*self._listeners, *self._overheard))
        self._hear_own_host()
        return refused

    def _hear_own_host(self) -> None:
        """Hear what this host sends, if another program of it speaks VRRP."""
        if not self._overhears:
            return
        self._look_at = Instant(clock.now() + _LOOK_EVERY)
        ours = [opened.inodes for opened in (*self._listeners.values(), *self._overheard.values())]
        wanted = self._links if others_speak_vrrp(frozenset().union(*ours)) else frozenset()
        for index in self._own_host.keys() - wanted:
            self._own_host.pop(index).close()
            self.epoch += 1
        for index in sorted(wanted - self._own_host.keys()):
            with contextlib.suppress(SystemCallFailure):
                self._own_host[index] = OwnHostSocket(index)
                self.epoch += 1

    def _open(self, listener: Listener, memberships: Memberships) -> None:
        if listener.link not in self._announcers:
            kept = self._kept_sockets.take((listener.link, _ANNOUNCER))
            announcer = self._announcers[listener.link] = AnnouncementSocket(listener.link, kept)
            if kept is None:
                self._kept_sockets.put((listener.link, _ANNOUNCER), announcer.socket)
        if listener not in self._listeners:
            kept = self._kept_sockets.take((listener.link, listener.width))
            self._listeners[listener] = VRRPSocket(listener.link, FAMILIES[listener.width], kept)
            self.epoch += 1
            if kept is None:
                self._kept_sockets.put((listener.link, listener.width), self._listeners[listener].receiver)
            elif code := self._listeners[listener].renew(memberships):
                # Its link may have left between the engine before this one and now.
                self._close(self._listeners, listener)
                raise SystemCallFailure("cannot join the group", OSError(code, ""))

    def _close(self, sockets: dict[Listener, VRRPSocket], listener: Listener) -> None:
        sockets.pop(listener).close()
        self._muted.pop(listener, None)
        self.epoch += 1

    def renew(self, listeners: Collection[Listener]) -> Mapping[Listener, int]:
        """As ports.Wire has it."""
        memberships = Memberships()
        for link in {listener.link for listener in listeners} & self._announcers.keys():
            self._announcers[link].renew()
        codes = {one: self._listeners[one].renew(memberships) for one in listeners if one in self._listeners}
        return {listener: code for listener, code in codes.items() if code}

    def hear_neighbours(self, indexes: Set[int]) -> Mapping[int, int]:
        """As ports.Wire has it."""
        refused: dict[int, int] = {}
        for index in self._neighbours.keys() - indexes:
            self._neighbours.pop(index).close()
            self.epoch += 1
        for index in sorted(indexes - self._neighbours.keys()):
            try:
                self._neighbours[index] = NeighbourSocket(index)
            except SystemCallFailure as failure:
                refused[index] = failure.errno
            else:
                self.epoch += 1
        return refused

    # ----- the port: what goes out -----

    def send(self, index: int, advertisement: SendAdvertisement) -> int:
        """As ports.Wire has it."""
        listener = self._listeners.get(Listener(index, len(advertisement.source)))
        if listener is None:
            return _NOT_LISTENING
        return listener.send(advertisement.payload, advertisement.destination, advertisement.source)

    def transmit(self, index: int, frames: Sequence[bytes]) -> int:
        """As ports.Wire has it."""
        announcer = self._announcers.get(index)
        if announcer is None:
            return _NOT_LISTENING
        refused = 0
        for frame in frames:
            refused = announcer.send(frame) or refused
        return refused

    # ----- what comes in: turn.Arrivals -----

    def listeners(self) -> Collection[Listener]:
        """As turn.Arrivals has it."""
        return list(self._listeners)

    def receive(self, listener: Listener, limit: int) -> Sequence[Datagram]:
        """As turn.Arrivals has it."""
        if listener.width == OWN_HOST:
            programs = self._own_host.get(listener.link)
            return programs.receive(limit) if programs is not None else ()
        opened = self._listeners.get(listener)
        if opened is not None:
            return self._received(opened, limit)
        opened = self._overheard.get(listener)
        if opened is None:
            return ()
        datagrams = self._received(opened, limit)
        if len(datagrams) == limit and listener not in self._muted:
            with contextlib.suppress(OSError):
                opened.mute()
                self._muted[listener] = Instant(clock.now() + _MUTED_FOR)
        return datagrams

    @staticmethod
    def _received(opened: VRRPSocket, limit: int) -> list[Datagram]:
        try:
            return opened.receive(limit)
        except SystemCallFailure:  # the link went down or away: netlink tells, and what becomes of it is decided there
            return []

    def answers(self, index: int, limit: int) -> Sequence[NeighbourAnswer]:
        """As turn.Arrivals has it."""
        opened = self._neighbours.get(index)
        return opened.receive(limit) if opened is not None else ()

    def unmute(self, now: Instant) -> None:
        """Listen again to what flooded a while ago, and look whether another program of this host speaks by now."""
        if self._links and now >= self._look_at:
            self._hear_own_host()
        for listener in [listener for listener, until in self._muted.items() if until <= now]:
            del self._muted[listener]
            if listener in self._overheard:
                with contextlib.suppress(OSError):
                    self._overheard[listener].unmute()

    def next_deadline(self) -> Instant | None:
        """When something is to be listened to again, or looked for."""
        looks = [self._look_at] if self._overhears and self._links else []
        return min((*self._muted.values(), *looks), default=None)

    # ----- what the loop watches -----

    def descriptors(self) -> Iterator[int]:
        """Everything that can become readable."""
        yield from (opened.fileno() for opened in self._listeners.values())
        yield from (opened.fileno() for opened in self._overheard.values())
        yield from (opened.fileno() for opened in self._neighbours.values())
        yield from (opened.fileno() for opened in self._own_host.values())

    def readable(self, ready: Collection[int]) -> tuple[list[Listener], list[Listener], list[int]]:
        """What ready descriptors stand for: listeners, overheard ones, and links whose neighbours answered."""
        own_host = [Listener(link, OWN_HOST) for link, opened in self._own_host.items() if opened.fileno() in ready]
        return (
            [one for one, opened in self._listeners.items() if opened.fileno() in ready],
            [*(one for one, opened in self._overheard.items() if opened.fileno() in ready), *own_host],
            [index for index, opened in self._neighbours.items() if opened.fileno() in ready],
        )
