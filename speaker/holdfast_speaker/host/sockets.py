"""Sockets for VRRP and for announcements, each bound to one link.

They survive that the link goes down or vanishes: their calls then raise SystemCallFailure. A link that comes anew is
another link with another index, and group memberships go with the link, so its sockets have to be opened anew too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from holdfast_speaker.engine.frames import neighbour_answer
from holdfast_speaker.engine.ports import Datagram, NeighbourAnswer
from holdfast_speaker.host import filters
from holdfast_speaker.host.failure import SystemCallFailure
from holdfast_speaker.host.memberships import Memberships
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, MULTICAST_GROUP_V6, PROTOCOL

_HOPS = 255  # RFC 9568 sections 5.1.1.3 and 5.1.2.3
_INTERNETWORK_CONTROL = 0xC0  # RFC 2474 section 4.2.2.2: class selector 6
_PRIORITY_CONTROL = 7  # linux/pkt_sched.h, TC_PRIO_CONTROL: before bulk traffic in the queue of the link

# Constants of socket(7), ip(7) and ipv6(7) that the module socket lacks in Python 3.11.
_SO_BINDTOIFINDEX = 62
_SO_RCVBUFFORCE = 33
_IP_PKTINFO = 8
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29

_ETH_P_ALL = 3  # linux/if_ether.h
_RECEIVE_BUFFER_BYTES = 1024 * 1024
_LONGEST = 8192
"""More than the longest advertisement: 255 IPv6 addresses are 4088 bytes."""

_MEMBERSHIP_V4 = struct.Struct("@4s4si")
_MEMBERSHIP_V6 = struct.Struct("@16si")
_PACKET_INFORMATION_V4 = struct.Struct("@i4s4s")
_HOP_LIMIT = struct.Struct("@i")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_MEMBERSHIP_V6.size) + socket.CMSG_SPACE(_HOP_LIMIT.size)
_IPV4_MINIMUM = 20
_IPV6_HEADER = 40


_Ancillary = tuple[tuple[int, int, bytes]]
_SocketAddress = tuple[str, int] | tuple[str, int, int, int]


class VRRPSocket:
    """Sends and receives the payloads of IP protocol 112 on one link, in one family.

    It hears the VRRP group (224.0.0.18 or ff02::12) and what is sent to an address of this host. It does not hear
    what this host itself sends to the group. The constructor raises SystemCallFailure.
    """

    malformed: int
    """How many packets were dropped because their IP header contradicts itself."""

    def __init__(self, index: int, family: int, receiver: socket.socket | None = None) -> None:
        """Listen on a new socket, or go on with one that another process opened so."""
        self.index = index
        self.family = family
        self.malformed = 0
        self._sources: dict[bytes, _Ancillary] = {}
        self._destinations: dict[bytes, _SocketAddress] = {}
        with contextlib.ExitStack() as opened:
            try:
                self.receiver = opened.enter_context(receiver or _silent_socket(index, family))
                if receiver is None:
                    _listen(self.receiver, index)
                self._sender = opened.enter_context(_silent_socket(index, family))
                _prepare_to_send(self._sender, index)
            except OSError as error:
                raise SystemCallFailure("cannot open a VRRP socket", error) from error
            opened.pop_all()

    def fileno(self) -> int:
        """The descriptor to wait on for packets."""
        return self.receiver.fileno()

    @property
    def inodes(self) -> frozenset[int]:
        """What the kernel lists this socket by (/proc/net/raw)."""
        return frozenset(os.fstat(opened.fileno()).st_ino for opened in (self.receiver, self._sender))

    def close(self) -> None:
        """Close the socket."""
        self.receiver.close()
        self._sender.close()

    def receive(self, limit: int) -> list[Datagram]:
        """What has arrived, `limit` packets at most. Raises SystemCallFailure when the socket fails."""
        received: list[Datagram] = []
        receive = self._receive_v4 if self.family == socket.AF_INET else self._receive_v6
        try:
            for _ in range(limit):
                datagram = receive()
                if datagram is None:
                    self.malformed += 1
                else:
                    received.append(datagram)
        except BlockingIOError:
            pass
        except OSError as error:
            if not received:
                raise SystemCallFailure("cannot receive VRRP packets", error) from error
        return received

    def _receive_v4(self) -> Datagram | None:
        packet = self.receiver.recv(_LONGEST)
        if len(packet) < _IPV4_MINIMUM:
            return None
        header_length = (packet[0] & 0x0F) * 4
        total_length = packet[2] << 8 | packet[3]
        if not _IPV4_MINIMUM <= header_length <= total_length <= len(packet):
            return None
        return Datagram(packet[header_length:total_length], packet[12:16], packet[16:20], packet[8])

    def _receive_v6(self) -> Datagram | None:
        payload, ancillary, flags, address = self.receiver.recvmsg(_LONGEST, _ANCILLARY_BYTES)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            return None
        destination = b""
        hops = -1
        for _, kind, value in ancillary:
            if kind == socket.IPV6_PKTINFO:
                destination = value[:16]
            elif kind == socket.IPV6_HOPLIMIT:
                (hops,) = _HOP_LIMIT.unpack(value)
        if not destination:
            return None
        source = socket.inet_pton(socket.AF_INET6, address[0])
        return Datagram(payload, source, destination, hops)

    def renew(self, memberships: Memberships) -> int:
        """Join the group anew where the link has forgotten it; the errno where it cannot be joined.

        A link that is a member is left alone: to leave and to join would be told to the switches.
        """
        v4 = self.family == socket.AF_INET
        if memberships.is_member(self.index, MULTICAST_GROUP_V4 if v4 else MULTICAST_GROUP_V6):
            return 0
        if v4:
            level, leave, join = socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, socket.IP_ADD_MEMBERSHIP
            group = _MEMBERSHIP_V4.pack(MULTICAST_GROUP_V4, bytes(4), self.index)
        else:
            level, leave, join = socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, socket.IPV6_JOIN_GROUP
            group = _MEMBERSHIP_V6.pack(MULTICAST_GROUP_V6, self.index)
        with contextlib.suppress(OSError):  # the socket's own list has it, or has not
            self.receiver.setsockopt(level, leave, group)
        try:
            self.receiver.setsockopt(level, join, group)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def mute(self) -> None:
        """Have the kernel drop what comes in. Raises OSError."""
        filters.attach(self.receiver, filters.DROP_ALL)

    def unmute(self) -> None:
        """Hear again. Raises OSError."""
        filters.detach(self.receiver)

    def send(self, payload: bytes, destination: bytes, source: bytes) -> int:
        """Send one packet from an address of this host.

        Returns the errno where it cannot be sent: the address is not on this host, the link is down, the host's
        firewall drops it; 0 otherwise.
        """
        # The source goes with each packet, because the kernel checks that of a bound IPv6 socket only when it is bound.
        try:
            self._sender.sendmsg(
                (payload,),
                self._sources.get(source) or self._source(source),
                0,
                self._destinations.get(destination) or self._destination(destination),
            )
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _source(self, source: bytes) -> _Ancillary:
        if self.family == socket.AF_INET:
            information = (
                socket.IPPROTO_IP,
                _IP_PKTINFO,
                _PACKET_INFORMATION_V4.pack(self.index, source, bytes(4)),
            )
        else:
            information = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _MEMBERSHIP_V6.pack(source, self.index))
        return self._sources.setdefault(source, (information,))

    def _destination(self, destination: bytes) -> _SocketAddress:
        text = socket.inet_ntop(self.family, destination)
        address = (text, 0) if self.family == socket.AF_INET else (text, 0, 0, self.index)
        return self._destinations.setdefault(destination, address)


def _silent_socket(index: int, family: int) -> socket.socket:
    """A raw socket on one link that queues nothing that arrives."""
    opened = socket.socket(family, socket.SOCK_RAW, PROTOCOL)
    try:
        filters.attach(opened, filters.DROP_ALL)
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, index)
    except OSError:
        opened.close()
        raise
    return opened


def _listen(receiver: socket.socket, index: int) -> None:
    _enlarge(receiver)
    if receiver.family == socket.AF_INET:
        level = socket.IPPROTO_IP
        receiver.setsockopt(level, _IP_MULTICAST_ALL, 0)
        receiver.setsockopt(level, socket.IP_ADD_MEMBERSHIP, _MEMBERSHIP_V4.pack(MULTICAST_GROUP_V4, bytes(4), index))
    else:
        level = socket.IPPROTO_IPV6
        receiver.setsockopt(level, _IPV6_MULTICAST_ALL, 0)
        receiver.setsockopt(level, socket.IPV6_RECVPKTINFO, 1)
        receiver.setsockopt(level, socket.IPV6_RECVHOPLIMIT, 1)
        receiver.setsockopt(level, socket.IPV6_JOIN_GROUP, _MEMBERSHIP_V6.pack(MULTICAST_GROUP_V6, index))
    _forget_other_links(receiver)
    filters.detach(receiver)


def _enlarge(receiver: socket.socket) -> None:
    try:
        receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    except PermissionError:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)


def _forget_other_links(receiver: socket.socket) -> None:
    """Drop what arrived, on whatever link, before the socket was bound to its own."""
    with contextlib.suppress(BlockingIOError):
        while True:
            receiver.recv(1)


def _prepare_to_send(sender: socket.socket, index: int) -> None:
    if sender.family == socket.AF_INET:
        level = socket.IPPROTO_IP
        sender.setsockopt(level, socket.IP_MULTICAST_IF, _MEMBERSHIP_V4.pack(bytes(4), bytes(4), index))
        sender.setsockopt(level, socket.IP_MULTICAST_TTL, _HOPS)
        sender.setsockopt(level, socket.IP_MULTICAST_LOOP, 0)
        sender.setsockopt(level, socket.IP_TTL, _HOPS)
        sender.setsockopt(level, socket.IP_TOS, _INTERNETWORK_CONTROL)
    else:
        level = socket.IPPROTO_IPV6
        sender.setsockopt(level, socket.IPV6_MULTICAST_IF, index)
        sender.setsockopt(level, socket.IPV6_MULTICAST_HOPS, _HOPS)
        sender.setsockopt(level, socket.IPV6_MULTICAST_LOOP, 0)
        sender.setsockopt(level, socket.IPV6_UNICAST_HOPS, _HOPS)
        sender.setsockopt(level, socket.IPV6_TCLASS, _INTERNETWORK_CONTROL)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY_CONTROL)


class AnnouncementSocket:
    """Sends whole Ethernet frames on one link. The constructor raises SystemCallFailure."""

    def __init__(self, index: int, opened: socket.socket | None = None) -> None:
        """Open a socket, or go on with one that another process opened so."""
        self._index = index
        if opened is not None:
            self.socket = opened
            return
        try:
            # With protocol 0 a packet socket receives nothing (packet(7)).
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.socket.setblocking(False)
            self._bind()
        except OSError as error:
            raise SystemCallFailure("cannot open a socket for announcements", error) from error

    def renew(self) -> None:
        """Be of the link again, which may have been removed and be back: the kernel unbinds its sockets then.

        Where it cannot be, sending tells why.
        """
        with contextlib.suppress(OSError):
            self._bind()

    def _bind(self) -> None:
        self.socket.bind((socket.if_indextoname(self._index), 0))

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def send(self, frame: bytes) -> int:
        """Send one frame. Returns the errno where it cannot be sent: the link is down or gone; 0 otherwise."""
        try:
            self.socket.send(frame)
        except OSError as error:
            return error.errno or errno.EIO
        return 0


class OwnHostSocket:
    """Receives the VRRP that this host sends on one link, whichever program does.

    The kernel copies every packet that leaves the link for it: it is to be open only where there is such a program.
    The constructor raises SystemCallFailure.
    """

    def __init__(self, index: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            self._socket.setblocking(False)
            filters.attach(self._socket, filters.VRRP_OF_THIS_HOST)
            self._socket.bind((socket.if_indextoname(index), _ETH_P_ALL))
        except OSError as error:
            raise SystemCallFailure("cannot open a socket for what this host sends", error) from error

    def fileno(self) -> int:
        """Readable when this host has sent VRRP."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def receive(self, limit: int) -> list[Datagram]:
        """What was sent, `limit` packets at most; nothing where the link is gone."""
        sent = []
        for _ in range(limit):
            try:
                datagram = _unpacked(self._socket.recv(_LONGEST))
            except OSError:  # nothing more, or the link went down: netlink tells of that
                break
            if datagram is not None:
                sent.append(datagram)
        return sent


def _unpacked(packet: bytes) -> Datagram | None:
    """The datagram in an IP packet; None where it is too short."""
    if packet[:1] and packet[0] >> 4 == 4 and len(packet) >= _IPV4_MINIMUM:
        begins = (packet[0] & 0x0F) * 4
        return Datagram(packet[begins : packet[2] << 8 | packet[3]], packet[12:16], packet[16:20], packet[8])
    if packet[:1] and packet[0] >> 4 == 6 and len(packet) >= _IPV6_HEADER:
        return Datagram(packet[_IPV6_HEADER:], packet[8:24], packet[24:40], packet[7])
    return None


class NeighbourSocket:
    """Receives what neighbours on one link answer to ARP and neighbour discovery.

    The constructor raises SystemCallFailure.
    """

    def __init__(self, index: int) -> None:
        try:
            # Closed for everything (protocol 0) until the filter stands, then bound to all protocols.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setblocking(False)
            filters.attach(self._socket, filters.NEIGHBOUR_ANSWERS)
            self._socket.bind((socket.if_indextoname(index), _ETH_P_ALL))
        except OSError as error:
            raise SystemCallFailure("cannot open a socket for neighbours' answers", error) from error

    def fileno(self) -> int:
        """Readable when a neighbour answered."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def receive(self, limit: int) -> list[NeighbourAnswer]:
        """Who answered, at most `limit` frames' worth; nobody where the link is gone."""
        answers: list[NeighbourAnswer] = []
        for _ in range(limit):
            try:
                answer = neighbour_answer(self._socket.recv(_LONGEST))
            except OSError:  # nothing more, or the link went down: netlink tells of that
                break
            if answer is not None:
                answers.append(answer)
        return answers
