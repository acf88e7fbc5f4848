"""The sockets of routing netlink: one that asks, one that listens. The messages are in `rtnetlink`."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Sequence

from holdfast_api.errors import EnvironmentFailure
from holdfast_speaker.engine.ports import (
    ADDRESS_PROTOCOL,
    AddressAdded,
    AddressRemoved,
    Event,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
)
from holdfast_speaker.host import filters, rtnetlink
from holdfast_speaker.host.failure import SystemCallFailure
from holdfast_speaker.host.netlink_messages import (
    DUMP_INTERRUPTED,
    NLMSG_DONE,
    NLMSG_ERROR,
    NetlinkMalformed,
    error_code,
    messages,
)
from holdfast_speaker.host.rtnetlink import (
    address_removal,
    address_request,
    parse,
    route_addition,
    route_removal,
)

__all__ = [
    "ADDRESS_PROTOCOL",
    "AddressAdded",
    "AddressRemoved",
    "Event",
    "Link",
    "LinkAddress",
    "LinkChanged",
    "LinkRemoved",
    "MonitorSocket",
    "NetlinkMalformed",
    "Overrun",
    "RequestSocket",
    "address_removal",
    "address_request",
    "parse",
    "route_addition",
    "route_removal",
]

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_SO_RCVBUFFORCE = 33
_RECEIVE_BYTES = 65536
_BUFFER_BYTES = 4 * 1024 * 1024
_BATCH = 100
_DUMP_ATTEMPTS = 3
_DATAGRAMS_PER_READ = 64
_DISCARDED_AT_MOST = 100_000
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR


class Overrun(EnvironmentFailure):
    """Events were lost, because they came faster than they were read: dump links and addresses again."""


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with contextlib.suppress(PermissionError):
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    return opened


class RequestSocket:
    """Asks the kernel and waits for its answer, one second at most. Every method raises EnvironmentFailure."""

    def __init__(self) -> None:
        try:
            self._socket = _open()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 1, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        except OSError as error:
            raise SystemCallFailure("cannot ask the kernel for its links and addresses", error) from error
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def dump(self) -> tuple[list[Link], list[LinkAddress], bool]:
        """All links, all addresses of both families, and whether nothing changed in the middle of it.

        Where links or addresses change all the time, something may be missing after the last attempt.
        """
        links, links_whole = self._dump(rtnetlink.link_dump_request)
        addresses, addresses_whole = self._dump(rtnetlink.address_dump_request)
        return (
            [event.link for event in links if isinstance(event, LinkChanged)],
            [event.address for event in addresses if isinstance(event, AddressAdded)],
            links_whole and addresses_whole,
        )

    def dump_links(self) -> list[Link]:
        """All links, as far as they can be told."""
        events, _ = self._dump(rtnetlink.link_dump_request)
        return [event.link for event in events if isinstance(event, LinkChanged)]

    def dump_addresses(self) -> list[LinkAddress]:
        """All addresses of both families, as far as they can be told."""
        events, _ = self._dump(rtnetlink.address_dump_request)
        return [event.address for event in events if isinstance(event, AddressAdded)]

    def apply(self, requests: Sequence[bytes]) -> list[int]:
        """Carry out requests in their order; the errno of each, 0 where it succeeded."""
        results: list[int] = []
        for first in range(0, len(requests), _BATCH):
            results += self._apply_batch(requests[first : first + _BATCH])
        return results

    def is_own(self, index: int, address: bytes) -> bool:
        """Whether the host takes what is sent to this address on the link as its own, and answers."""
        wanted = self._next_sequence(1)
        self._send(rtnetlink.route_request(index, address, wanted))
        while True:
            datagram = self._receive()
            for kind, _, sequence, start, _ in messages(datagram):
                if sequence == wanted:
                    return rtnetlink.leads_here(kind, datagram, start)

    def _apply_batch(self, requests: Sequence[bytes]) -> list[int]:
        base = self._next_sequence(len(requests))
        self._send(rtnetlink.batch(requests, base))
        results = [0] * len(requests)
        while True:
            datagram = self._receive()
            for kind, _, sequence, start, end in messages(datagram):
                if kind != NLMSG_ERROR or not base <= sequence < base + len(requests):
                    continue
                results[sequence - base] = error_code(datagram, start, end)
                if sequence == base + len(requests) - 1:
                    return results

    def _dump(self, request: Callable[[int], bytes]) -> tuple[list[Event], bool]:
        """What is there, and whether it is whole. Of several attempts that differ the later counts."""
        seen: dict[object, Event] = {}
        for _ in range(_DUMP_ATTEMPTS):
            events, whole = self._dump_once(request)
            if whole:
                return events, True
            seen |= {rtnetlink.identity(event): event for event in events}
        return list(seen.values()), False

    def _dump_once(self, request: Callable[[int], bytes]) -> tuple[list[Event], bool]:
        """The answer to one dump request, and whether nothing changed in the middle of it."""
        wanted = self._next_sequence(1)
        self._send(request(wanted))
        events: list[Event] = []
        consistent = True
        while True:
            datagram = self._receive()
            for answer, flags, sequence, start, end in messages(datagram):
                if sequence != wanted:
                    continue
                consistent = consistent and not flags & DUMP_INTERRUPTED
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    code = error_code(datagram, start, end)
                    if code:
                        raise SystemCallFailure("cannot list links or addresses", OSError(code, ""))
                    return events, consistent
                event = rtnetlink.event_in(answer, datagram, start, end)
                if event is not None:
                    events.append(event)

    def _next_sequence(self, count: int) -> int:
        first = self._sequence + 1
        if first + count > 0xFFFFFFFF:
            first = 1
        self._sequence = first + count - 1
        return first

    def _send(self, message: bytes | bytearray) -> None:
        try:
            self._socket.send(message)
        except OSError as error:
            raise SystemCallFailure("cannot send a netlink request", error) from error

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError as error:
            raise EnvironmentFailure("the kernel did not answer a netlink request within one second") from error
        except OSError as error:
            raise SystemCallFailure("cannot read the answer to a netlink request", error) from error


class MonitorSocket:
    """Hears of changes of links and addresses, but not of additions and renewals of our own addresses.

    Open it before the dumps that it shall keep up to date. Raises EnvironmentFailure when it cannot be opened.
    """

    def __init__(self) -> None:
        try:
            self._socket = _open()
            self._socket.setblocking(False)
            filters.attach(self._socket, rtnetlink.ALL_BUT_OUR_RENEWALS)
            self._socket.bind((0, _GROUPS))
        except OSError as error:
            raise SystemCallFailure("cannot watch the kernel's links and addresses", error) from error

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def read(self) -> list[Event]:
        """The events of at most 64 datagrams; what is left stays readable.

        Raises Overrun when the kernel had to drop events, SystemCallFailure when the socket fails.
        """
        events: list[Event] = []
        for _ in range(_DATAGRAMS_PER_READ):
            datagram = self._receive()
            if datagram is None:
                break
            events += parse(datagram)
        return events

    def _receive(self) -> bytes | None:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise SystemCallFailure("cannot read events of links and addresses", error) from error
        self._discard()
        raise Overrun("events of links and addresses were lost")

    def _discard(self) -> None:
        """Forget what is queued: after the dump that follows, it would be older than what is known."""
        with contextlib.suppress(OSError):
            for _ in range(_DISCARDED_AT_MOST):
                self._socket.recv(_RECEIVE_BYTES)
