"""The sockets of the links in use: VRRP in and out, announcements out."""

from __future__ import annotations

from holdfast_api.errors import EnvironmentFailure
from holdfast_speaker.engine.instance import FAMILIES
from holdfast_speaker.engine.links import LinkTable
from holdfast_speaker.engine.strangers import Strangers
from holdfast_speaker.host.kept_sockets import KeptSockets
from holdfast_speaker.host.sockets import AnnouncementSocket, NeighbourSocket, VRRPSocket
from holdfast_speaker.vrrp.actions import SendAdvertisement

_ANNOUNCER = 0
"""The width under which announcement sockets are kept. (To close a packet socket takes the kernel milliseconds, and the
death of an engine is known only after that.)"""


class Wire:
    """One VRRP socket for each link and family, one announcement socket for each link; only what is in use is open.

    `overhears`: a VRRP socket for each other link, too, for what strangers say there.
    """

    def __init__(self, kept_sockets: KeptSockets, *, overhears: bool = False) -> None:
        self._kept_sockets = kept_sockets
        self._overhears = overhears
        self.strangers = Strangers()
        self._listeners: dict[tuple[int, int], VRRPSocket] = {}
        self._announcers: dict[int, AnnouncementSocket] = {}
        self._overheard: dict[tuple[int, int], VRRPSocket] = {}
        self._by_descriptor: dict[int, tuple[int, int, VRRPSocket]] = {}
        self._ears: dict[int, NeighbourSocket] = {}
        self.epoch = 0
        """Grows whenever the set of descriptors changes, so that the driver knows to watch others."""

    def attend(self, wanted: set[tuple[int, str, int]], table: LinkTable) -> dict[int, str]:
        """Open and close sockets so that exactly (interface index, name, width) are attended, and the rest overheard.

        Returns why, for the index of each link that could not be.
        """
        refused: dict[int, str] = {}
        keys = {(index, width) for index, _, width in wanted}
        for key in self._kept_sockets.keys - keys - {(index, _ANNOUNCER) for index, _ in keys}:
            self._kept_sockets.drop(key)
        for key in self._listeners.keys() - keys:
            self._listeners.pop(key).close()
            self.epoch += 1
        for index in self._announcers.keys() - {index for index, _ in keys}:
            self._announcers.pop(index).close()
            self.stop_asking(index)
        for index, name, width in sorted(wanted):
            try:
                if (index, width) not in self._listeners:
                    self._listeners[index, width] = self._listener(index, width)
                    self.epoch += 1
                if index not in self._announcers:
                    self._announcers[index] = self._announcer(index)
            except EnvironmentFailure as error:
                refused[index] = f"{name} cannot be listened on: {error}"
        if self._overhears:
            self._overhear(table)
        self._by_descriptor = {
            listener.fileno(): (*key, listener)
            for listeners in (self._overheard, self._listeners)
            for key, listener in listeners.items()
        }
        return refused

    def _overhear(self, table: LinkTable) -> None:
        """Listen on each link that is up and has an address of its own, and is not attended."""
        wanted = {
            (link.index, len(address.address))
            for link in table.by_index.values()
            if link.operational and not link.loopback
            for address in table.others(link.index)
        } - self._listeners.keys()
        for key in self._overheard.keys() - wanted:
            self._overheard.pop(key).close()
            self.epoch += 1
        for index, width in sorted(wanted - self._overheard.keys()):
            try:
                self._overheard[index, width] = VRRPSocket(index, FAMILIES[width])
            except EnvironmentFailure:  # nothing of ours is there that would miss it
                continue
            self.epoch += 1

    def _announcer(self, index: int) -> AnnouncementSocket:
        kept = self._kept_sockets.take((index, _ANNOUNCER))
        announcer = AnnouncementSocket(index, kept)
        if kept is None:
            self._kept_sockets.put((index, _ANNOUNCER), announcer.socket)
        return announcer

    def _listener(self, index: int, width: int) -> VRRPSocket:
        kept = self._kept_sockets.take((index, width))
        listener = VRRPSocket(index, FAMILIES[width], kept)
        if kept is None:
            self._kept_sockets.put((index, width), listener.receiver)
        return listener

    @property
    def descriptors(self) -> list[int]:
        """To be watched for packets."""
        return [*self._by_descriptor, *(ear.fileno() for ear in self._ears.values())]

    def attended(self, descriptor: int) -> tuple[int, int, VRRPSocket] | None:
        """The link, the width and the socket of a descriptor, while it is open."""
        return self._by_descriptor.get(descriptor)

    def send(self, index: int, action: SendAdvertisement) -> None:
        """Send an advertisement; raises EnvironmentFailure where the machine refuses."""
        listener = self._listeners.get((index, len(action.source)))
        if listener is None:
            raise EnvironmentFailure("the link is not attended")
        listener.send(action.payload, action.destination, action.source)

    def announce(self, index: int, frames: tuple[bytes, ...]) -> None:
        """Send ready frames; raises EnvironmentFailure where the machine refuses."""
        announcer = self._announcers.get(index)
        if announcer is None:
            raise EnvironmentFailure("the link is not attended")
        for frame in frames:
            announcer.send(frame)

    def ask(self, index: int, requests: tuple[bytes, ...]) -> None:
        """Send ARP requests or neighbour solicitations and listen for the answers; raises EnvironmentFailure."""
        if index not in self._ears:
            self._ears[index] = NeighbourSocket(index)
            self.epoch += 1
        self.announce(index, requests)

    def answers(self, descriptor: int, limit: int) -> tuple[int, list[bytes]] | None:
        """The link and the addresses that answered, where the descriptor is one that listens for answers."""
        for index, ear in self._ears.items():
            if ear.fileno() == descriptor:
                return index, ear.receive(limit)
        return None

    def stop_asking(self, index: int) -> None:
        """Nobody on this link waits for an answer any more."""
        ear = self._ears.pop(index, None)
        if ear is not None:
            ear.close()
            self.epoch += 1
