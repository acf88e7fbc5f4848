"""Links between simulated hosts: sockets for VRRP, ARP and neighbour discovery, and a switch, in virtual time.

Hosts have the links and addresses that their simulated kernels have, and answer for these as Linux does. What gets
lost, is late or arrives twice is the test's to say. What a host knows of its neighbours' MAC addresses does not age: it
is what was last heard, which is the worst that it can be on a real one for half a minute.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from holdfast_speaker.engine.ports import Datagram, Listener, NeighbourAnswer
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import MILLISECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import MULTICAST_GROUPS
from holdfast_testing.sim.interfaces import Interface
from holdfast_testing.sim.ipv6 import MINIMUM_MTU
from holdfast_testing.sim.kernel import SimulatedKernel

TTL = 255
QUEUE_LENGTH = 4000
"""Packets that a socket keeps for a process that does not run; more are dropped."""

TRAVEL_TIME = Duration(MILLISECOND // 10)
_BROADCAST = b"\xff" * 6
_GROUPS = frozenset(MULTICAST_GROUPS.values())

_ARP, _IPV6 = b"\x08\x06", b"\x86\xdd"
_ARP_ADDRESSES = struct.Struct("!6s4s6s4s")
_ARP_REQUEST = 1
_ICMPV6 = 58
_SOLICITATION, _ADVERTISEMENT = 135, 136
_OVERRIDE = 0x20

Travel = Callable[[str, str, int], Iterable[Duration]]
"""From which host to which, in the family of this width: how long each copy that arrives takes. None: it is lost."""


class Neighbour(NamedTuple):
    """An ARP packet or a neighbour discovery message."""

    wanted: bytes
    """The address whose MAC address is asked for; empty where nothing is asked."""
    claimed: bytes
    """The address that is said to be at `mac`; empty where nobody says so."""
    sender: bytes
    """From which address it comes; all zero in a probe."""
    mac: bytes
    destination: bytes
    """The MAC address that the frame is sent to."""
    overrides: bool = True
    """Whether those who know another MAC address for what is claimed shall forget that one."""


def parse(frame: bytes) -> Neighbour | None:
    """What a frame says to neighbours; None for frames of other kinds."""
    destination = frame[:6]
    if frame[12:14] == _ARP and len(frame) >= 42:
        mac, sender, _, target = _ARP_ADDRESSES.unpack_from(frame, 22)
        asks = int.from_bytes(frame[20:22], "big") == _ARP_REQUEST and sender != target
        return Neighbour(target if asks else b"", sender if any(sender) else b"", sender, mac, destination)
    if frame[12:14] != _IPV6 or len(frame) < 78 or frame[20] != _ICMPV6:
        return None
    mac, sender, target = frame[6:12], frame[22:38], frame[62:78]
    if frame[54] == _SOLICITATION:
        return Neighbour(target, b"", sender, mac, destination)
    if frame[54] == _ADVERTISEMENT:
        return Neighbour(b"", target, sender, mac, destination, overrides=bool(frame[58] & _OVERRIDE))
    return None


@dataclass(eq=False)
class Segment:
    """A broadcast domain: what hosts' links are plugged into. `at` calls back at a later instant."""

    at: Callable[[Instant, Callable[[], None]], None]
    travel: Travel = lambda _sender, _receiver, _width: (TRAVEL_TIME,)
    cuts: set[tuple[str, str, int]] = field(default_factory=set)
    """(sender, receiver, width): nothing gets from one host to another in that family."""
    blocked: set[str] = field(default_factory=set)
    """Hosts whose port does not forward, neither way: a switch that has only just seen the link."""
    snooped: set[tuple[str, int]] = field(default_factory=set)
    """(host, width): a snooping switch does not forward the VRRP group of that family to it."""
    plugs: list[tuple[SimulatedWire, int]] = field(default_factory=list)

    def plug(self, wire: SimulatedWire, index: int) -> None:
        """A host's link is on this segment from now on; its carrier is the test's to switch."""
        self.plugs.append((wire, index))
        wire.segments[index] = self

    def unplug(self, wire: SimulatedWire, index: int) -> None:
        """It is no longer."""
        self.plugs.remove((wire, index))
        del wire.segments[index]

    def passes(self, sender: str, receiver: str, width: int) -> bool:
        """Whether anything gets from one host to another now."""
        if self.blocked and (sender in self.blocked or receiver in self.blocked):
            return False
        return (sender, receiver, width) not in self.cuts

    def others(self, sender: SimulatedWire, width: int) -> list[tuple[SimulatedWire, int]]:
        """The other hosts that hear this one, and the link that each has here."""
        return [(w, index) for w, index in self.plugs if w is not sender and self.passes(sender.name, w.name, width)]

    def deliver(
        self, sender: SimulatedWire, width: int, arrive: Callable[[SimulatedWire, int], None], *, group: bool = False
    ) -> None:
        """Let something arrive at every other host that hears this one, after its travel."""
        for receiver, index in self.others(sender, width):
            if group and (receiver.name, width) in self.snooped:
                continue
            for delay in self.travel(sender.name, receiver.name, width):
                self._arrive_later(Instant(sender.now() + delay), receiver, index, arrive)

    def _arrive_later(
        self, at: Instant, receiver: SimulatedWire, index: int, arrive: Callable[[SimulatedWire, int], None]
    ) -> None:
        def arrives() -> None:
            if receiver.hears(index) and receiver.name not in self.blocked:
                arrive(receiver, receiver.upper(index))

        self.at(at, arrives)


@dataclass(eq=False)
class _Socket:
    """A VRRP socket on a link as it was when the group was joined."""

    interface: Interface
    ipv6_lost: int
    queue: deque[Datagram] = field(default_factory=deque)

    def is_member(self, interface: Interface | None, width: int) -> bool:
        """Whether the link still knows that the group was joined."""
        return interface is self.interface and (width == 4 or interface.ipv6_lost == self.ipv6_lost)


class SimulatedWire:
    """Implements `Wire` of holdfast_speaker.engine.ports for one host.

    It implements `Arrivals` of holdfast_speaker.engine.turn, too: `readable`, `overheard` and `answering` say what can
    be taken.
    """

    def __init__(self, name: str, kernel: SimulatedKernel, now: Callable[[], Instant]) -> None:
        self.name = name
        self.kernel = kernel
        self.now = now
        self.segments: dict[int, Segment] = {}
        """By the index of the link that is plugged into it."""
        self.dropped = 0
        """Packets that found a full queue."""
        self.refuse_opening: Callable[[Listener], int] = lambda _listener: 0
        """The errno with which a socket is refused (EMFILE)."""
        self.refuse_sending: Callable[[int, int], int] = lambda _index, _width: 0
        """By link and width: the errno with which an advertisement is refused (EPERM: a firewall; ENOBUFS)."""
        self.refuse_frames: Callable[[int], int] = lambda _index: 0
        """The same for whole frames, which no firewall sees."""
        self.arrived: Callable[[], None] = lambda: None
        """Called when something waits to be read."""
        self.reached: Callable[[int, Datagram], None] = lambda _index, _datagram: None
        """Called with every packet to the VRRP group that gets to a link of this host, heard or not."""
        self.sent: Callable[[int, SendAdvertisement, int], None] = lambda _index, _advertisement, _errno: None
        """Called with every advertisement of this host's, and the errno."""
        self.transmitted: Callable[[int, Sequence[bytes], int], None] = lambda _index, _frames, _errno: None
        """Called with whole frames of this host's, and the errno."""
        self._sockets: dict[Listener, _Socket] = {}
        self._kept: set[Listener] = set()
        """Of a process that died: the next one joins their groups again when it takes them."""
        self._wanted: list[Listener] = []
        self._frame_sockets: dict[int, Interface] = {}
        self._ears: dict[int, tuple[Interface, deque[NeighbourAnswer]]] = {}
        self._neighbours: dict[tuple[int, bytes], bytes] = {}
        kernel.ipv6.duplicate = self._is_duplicate

    # ----- the port of the engine -----

    def listen(self, wanted: Set[Listener], overheard: Set[Listener]) -> Mapping[Listener, int]:
        """As Wire.listen."""
        for listener in self._sockets.keys() - wanted - overheard:
            del self._sockets[listener]
            self._kept.discard(listener)
        for index in self._frame_sockets.keys() - {listener.link for listener in wanted}:
            del self._frame_sockets[index]
        refused: dict[Listener, int] = {}
        self._wanted.clear()
        for listener in sorted(wanted | overheard):
            if listener in self._kept:
                self._kept.discard(listener)
                code = self.renew({listener}).get(listener, 0)
            else:
                code = 0 if listener in self._sockets else self._open(listener)
            if code == 0 and listener in wanted:
                self._wanted.append(listener)
                self._frame_sockets.setdefault(listener.link, self.kernel.interfaces[listener.link])
            if code and listener in wanted:
                refused[listener] = code
        return refused

    def renew(self, listeners: Collection[Listener]) -> Mapping[Listener, int]:
        """As Wire.renew. A socket on a link that was removed is opened anew, too."""
        refused: dict[Listener, int] = {}
        for listener in listeners:
            queue = self._sockets[listener].queue if listener in self._sockets else deque()
            code = self._open(listener)
            if code:
                refused[listener] = code
                continue
            self._sockets[listener].queue.extend(queue)
            if listener.link in self._frame_sockets:
                self._frame_sockets[listener.link] = self.kernel.interfaces[listener.link]
        return refused

    def _open(self, listener: Listener) -> int:
        interface = self._interface(listener.link)
        if interface is None:
            return errno.ENODEV
        if listener.width == 16 and not interface.ipv6 and interface.mtu < MINIMUM_MTU:
            return errno.EINVAL
        code = self.refuse_opening(listener)
        if code == 0:
            self._sockets[listener] = _Socket(interface, interface.ipv6_lost)
        return code

    def hear_neighbours(self, indexes: Set[int]) -> Mapping[int, int]:
        """As Wire.hear_neighbours."""
        for index in self._ears.keys() - indexes:
            del self._ears[index]
        refused: dict[int, int] = {}
        for index in sorted(indexes):
            interface = self._interface(index)
            if interface is None:
                refused[index] = errno.ENODEV
            elif index not in self._ears or self._ears[index][0] is not interface:
                self._ears[index] = (interface, deque())
        return refused

    def send(self, index: int, advertisement: SendAdvertisement) -> int:
        """As Wire.send; errors as raw sockets with IP_PKTINFO and IPV6_PKTINFO have them."""
        code = self._send(index, advertisement)
        self.sent(index, advertisement, code)
        return code

    def _send(self, index: int, advertisement: SendAdvertisement) -> int:
        self.kernel.advance()
        width = len(advertisement.source)
        if Listener(index, width) not in self._sockets:
            return errno.ENOTCONN
        code = self._refusal(index, advertisement.source) or self.refuse_sending(index, width)
        if code:
            return code
        datagram = Datagram(advertisement.payload, advertisement.source, advertisement.destination, TTL)
        if advertisement.destination in _GROUPS:
            for segment in self._segments(index):
                segment.deliver(self, width, lambda receiver, link: receiver.take_in(link, datagram), group=True)
            return 0
        mac = self._resolve(index, advertisement.destination)
        for segment in self._segments(index):
            segment.deliver(self, width, lambda receiver, link: receiver.take_in_unicast(link, mac, datagram))
        return 0

    def _refusal(self, index: int, source: bytes) -> int:
        interface = self._interface(index)
        if len(source) == 4:
            if not self.kernel.routes.is_local(source):
                return errno.ENETUNREACH
            if interface is None:
                return errno.ENODEV
            return 0 if interface.admin_up else errno.ENETUNREACH
        if interface is None:
            return errno.ENODEV
        if self.kernel.ipv6.usable(source) is None:
            return errno.EINVAL
        return 0 if interface.admin_up and interface.ipv6 and not interface.disable_ipv6 else errno.ENETUNREACH

    def transmit(self, index: int, frames: Sequence[bytes]) -> int:
        """As Wire.transmit. A packet socket that was bound to a link before that was removed stays useless."""
        code = self._transmit(index, frames)
        self.transmitted(index, frames, code)
        return code

    def _transmit(self, index: int, frames: Sequence[bytes]) -> int:
        interface = self._interface(index)
        if index not in self._frame_sockets:
            return errno.ENOTCONN
        if interface is None or interface is not self._frame_sockets[index]:
            return errno.ENXIO
        if not interface.admin_up:
            return errno.ENETDOWN
        code = self.refuse_frames(index)
        if code:
            return code
        for frame in frames:
            said = parse(frame)
            if said is not None:
                self._say(index, said)
        return 0

    # ----- what comes in, for whoever drives the host -----

    def listeners(self) -> list[Listener]:
        """As Arrivals.listeners."""
        return list(self._wanted)

    def readable(self) -> list[Listener]:
        """The sockets on which something waits, of virtual routers of ours."""
        return [listener for listener in self._wanted if self._sockets[listener].queue]

    def overheard(self) -> list[Listener]:
        """The sockets on which something waits, where only others' virtual routers live."""
        return [one for one, opened in self._sockets.items() if opened.queue and one not in self._wanted]

    def receive(self, listener: Listener, limit: int) -> list[Datagram]:
        """Take from a socket what waits, the oldest first."""
        opened = self._sockets.get(listener)
        return [opened.queue.popleft() for _ in range(min(limit, len(opened.queue)))] if opened else []

    def answering(self) -> list[int]:
        """The links on which neighbours' answers wait."""
        return [index for index, (_, queue) in self._ears.items() if queue]

    def answers(self, index: int, limit: int) -> list[NeighbourAnswer]:
        """Take neighbours' answers on a link, the oldest first."""
        queue = self._ears[index][1] if index in self._ears else deque[NeighbourAnswer]()
        return [queue.popleft() for _ in range(min(limit, len(queue)))]

    def is_member(self, listener: Listener) -> bool:
        """Whether the link knows that a socket joined the group on it, so that what is sent to that is heard."""
        opened = self._sockets.get(listener)
        return opened is not None and opened.is_member(self._interface(listener.link), listener.width)

    def process_dies(self) -> None:
        """The process is killed: another one keeps the sockets that VRRP uses, and what waits in them."""
        self._ears.clear()
        self._kept = set(self._sockets)

    def close(self) -> None:
        """The process ends: its sockets are closed. The kernel answers neighbours as before."""
        self._sockets.clear()
        self._kept.clear()
        self._wanted.clear()
        self._frame_sockets.clear()
        self._ears.clear()

    # ----- the host's kernel, and its neighbours -----

    def where(self, address: bytes) -> str | None:
        """Which host takes what this one sends to an address now; None where it gets nowhere."""
        self.kernel.advance()
        route = self.kernel.routes.lookup(address)
        if route is None or route.local:
            return self.name if route is not None else None
        mac = self._resolve(route.index, route.gateway or address)
        for segment in self._segments(route.index):
            for other, index in segment.others(self, len(address)):
                if other.hears(index) and other.has_mac(index, mac):
                    return other.name if route.gateway or other.kernel.takes(address, other.upper(index)) else None
        return None

    def forget_neighbours(self) -> None:
        """Nothing is known of anybody's MAC address, as after a long silence."""
        self._neighbours.clear()

    def hears(self, index: int) -> bool:
        """Whether what arrives at a link that is plugged in gets to the host."""
        interface = self._interface(index)
        if interface is None or not interface.operational:
            return False
        return interface.controller == 0 or self.kernel.interfaces[interface.controller].admin_up

    def upper(self, index: int) -> int:
        """The link that gets what arrives on this one: the bridge or bond that it is a port of."""
        return self.kernel.interfaces[index].controller or index

    def has_mac(self, index: int, mac: bytes | None) -> bool:
        """Whether a frame to that MAC address is for this host."""
        return self.kernel.interfaces[self.upper(index)].mac == mac

    def take_in(self, index: int, datagram: Datagram) -> None:
        """A packet to the VRRP group arrives."""
        self.reached(index, datagram)
        listener = Listener(index, len(datagram.source))
        if self.is_member(listener):
            self._queue(self._sockets[listener], datagram)

    def take_in_unicast(self, index: int, mac: bytes | None, datagram: Datagram) -> None:
        """A packet to one address arrives."""
        width = len(datagram.source)
        opened = self._sockets.get(Listener(index, width))
        interface = self.kernel.interfaces[index]
        if opened is None or opened.interface is not interface:
            return
        if interface.mac == mac and self.kernel.takes(datagram.destination, index):
            self._queue(opened, datagram)

    def _queue(self, opened: _Socket, datagram: Datagram) -> None:
        if len(opened.queue) < QUEUE_LENGTH:
            opened.queue.append(datagram)
            self.arrived()
        else:
            self.dropped += 1

    def hear(self, index: int, said: Neighbour) -> None:
        """An ARP packet or a neighbour discovery message arrives (net/ipv4/arp.c, net/ipv6/ndisc.c)."""
        interface = self.kernel.interfaces[index]
        if said.destination[0] & 1 == 0 and said.destination != interface.mac:
            return
        if said.claimed:
            if (index, said.claimed) in self._neighbours and said.overrides:
                self._neighbours[index, said.claimed] = said.mac
            if index in self._ears and len(self._ears[index][1]) < QUEUE_LENGTH:
                self._ears[index][1].append(NeighbourAnswer(said.claimed, said.mac))
                self.arrived()
        if said.wanted and self.kernel.takes(said.wanted, index) and not self.kernel.routes.is_local(said.sender):
            self._answer(index, said, interface.mac)

    def _answer(self, index: int, question: Neighbour, mac: bytes) -> None:
        is_probe = not any(question.sender)
        if not is_probe:
            self._neighbours[index, question.sender] = question.mac
        to = _BROADCAST if is_probe and len(question.sender) == 16 else question.mac
        self._say(index, Neighbour(b"", question.wanted, question.wanted, mac, to))

    def _say(self, index: int, said: Neighbour) -> None:
        for segment in self._segments(index):
            segment.deliver(self, len(said.sender), lambda receiver, link: receiver.hear(link, said))

    def _resolve(self, index: int, address: bytes) -> bytes | None:
        """The MAC address that this host has for a neighbour; one that it does not know answers at once."""
        known = self._neighbours.get((index, address))
        if known is not None:
            return known
        for segment in self._segments(index):
            for other, link in segment.others(self, len(address)):
                if not other.hears(link) or not other.kernel.takes(address, other.upper(link)):
                    continue
                if segment.passes(other.name, self.name, len(address)):
                    mac = other.kernel.interfaces[other.upper(link)].mac
                    self._neighbours[index, address] = mac
                    return mac
        return None

    def _is_duplicate(self, interface: Interface, address: bytes) -> bool:
        return any(
            other.hears(link)
            and other.kernel.takes(address, other.upper(link))
            and segment.passes(other.name, self.name, 16)
            for segment in self._segments(interface.index)
            for other, link in segment.others(self, 16)
        )

    def _segments(self, index: int) -> list[Segment]:
        """What a packet that is sent on a link gets to: by every port of a bridge."""
        interface = self._interface(index)
        if interface is None:
            return []
        ports = self.kernel.ports(interface) if interface.bridge else [interface]
        return [self.segments[port.index] for port in ports if port.index in self.segments and port.operational]

    def _interface(self, index: int) -> Interface | None:
        return self.kernel.interfaces.get(index)
