"""The next hops of this host's routes, read beside everything else: a host may have a million routes.

That routes have changed is heard, and which they are by now is read anew: an event does not say what it replaces, and
where a link or an address goes, the IPv4 routes that go with it go without a word (net/ipv4/fib_frontend.c,
fib_flush). It is read in small pieces, one in a turn of the loop, and after a pause, so that neither a full table nor
one that never rests makes a timer late.
"""

from __future__ import annotations

import select
import socket

from holdfast_speaker.engine.ports import NextHop
from holdfast_speaker.host import clock, filters, rtnetlink
from holdfast_speaker.host.failure import SystemCallFailure
from holdfast_speaker.host.netlink_messages import (
    DUMP_INTERRUPTED,
    NLMSG_DONE,
    NLMSG_ERROR,
    NetlinkMalformed,
    error_code,
    messages,
)
from holdfast_speaker.host.timer import Timer
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant

_GROUPS = 0x40 | 0x400  # RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
_PIECE_BYTES = 4096
"""Some sixty routes, a third of a millisecond."""

_EVENTS_BYTES = 16 * 1024
"""Of the queue of events: that some were lost says as much as they do."""

_AT_START_WITHIN = Duration(10 * MILLISECOND)
_PAUSE = SECOND
_SHARE = 20
"""Of the time, reading takes one part in so many at most."""


class NextHops:
    """Reads them. `fileno` is readable when `step` has something to do. The constructor raises EnvironmentFailure."""

    def __init__(self) -> None:
        try:
            self._events = _open()
            self._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _EVENTS_BYTES)
            filters.attach(self._events, rtnetlink.ROUTES_WITH_NEXT_HOPS)
            self._events.bind((0, _GROUPS))
            self._dump = _open()
        except OSError as error:
            raise SystemCallFailure("cannot watch the kernel's routes", error) from error
        self._timer = Timer()
        self._poller = select.epoll()
        for descriptor in (self._events.fileno(), self._dump.fileno(), self._timer.fileno()):
            self._poller.register(descriptor, select.EPOLLIN)
        self._told: tuple[NextHop, ...] = ()
        self._sequence = 0
        self._found: set[NextHop] | None = None
        """What was read so far; None: nothing is being read."""
        self._is_whole = True
        """Whether nothing is missing of what is being read."""
        self._doubted = False
        """Whether it is to be read again."""
        self._began = self._read_again_at = Instant(0)

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._poller.fileno()

    def close(self) -> None:
        """Close everything."""
        for opened in (self._events, self._dump, self._timer, self._poller):
            opened.close()

    def first(self) -> tuple[NextHop, ...]:
        """Those that some milliseconds tell, sorted; default routes come first. The rest comes with `step`."""
        self._begin()
        found = set[NextHop]() if self._found is None else self._found
        end = clock.now() + _AT_START_WITHIN
        while self._found is not None and clock.now() < end:
            self._read_a_piece()
        self._told = tuple(sorted(found))
        return self._told

    def doubt(self) -> None:
        """Routes may have changed: read them again after a pause."""
        if not self._doubted:
            self._doubted = True
            # Until then nobody is woken for more of the same, nor for an error: some will be lost (epoll_ctl(2)).
            self._poller.unregister(self._events.fileno())
            if self._found is None:
                self._timer.arm(self._read_again_at)

    def step(self) -> tuple[NextHop, ...] | None:
        """Go on a little. All of them, sorted, once it is known that they are others than before."""
        if self._found is not None:
            return self._read_a_piece()
        if not self._doubted and _forget(self._events):
            self.doubt()
        if self._doubted and clock.now() >= self._read_again_at:
            self._begin()
        return None

    def _begin(self) -> None:
        self._timer.read()
        _forget(self._events)  # what it tells of is read now
        if self._doubted:
            self._doubted = False
            self._poller.register(self._events.fileno(), select.EPOLLIN)
        self._began, self._found, self._is_whole = clock.now(), set(), True
        self._sequence += 1
        try:
            self._dump.send(rtnetlink.route_dump_request(self._sequence))
        except OSError:
            self._is_whole = False
            self._end()

    def _read_a_piece(self) -> tuple[NextHop, ...] | None:
        found = self._found
        if found is None:
            return None
        try:
            datagram = self._dump.recv(_PIECE_BYTES)
            for kind, flags, sequence, start, end in messages(datagram):
                if sequence != self._sequence:  # of a reading that was given up
                    continue
                self._is_whole = self._is_whole and not flags & DUMP_INTERRUPTED
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    self._is_whole = self._is_whole and not error_code(datagram, start, end)
                    self._end()
                    break
                found.update(rtnetlink.next_hops_in(kind, datagram, start, end))
        except BlockingIOError:
            return None
        except (OSError, NetlinkMalformed):  # no reason to give anything up: it is read again
            self._is_whole = False
            self._end()
        if self._found is not None:
            return None
        # Where something changed in the middle of it, what is missing is not proven to be gone.
        hops = tuple(sorted(found if self._is_whole else found.union(self._told)))
        if hops == self._told:
            return None
        self._told = hops
        return hops

    def _end(self) -> None:
        self._found = None
        now = clock.now()
        self._read_again_at = Instant(now + max(_PAUSE, Duration(_SHARE * (now - self._began))))
        if self._doubted:
            self._timer.arm(self._read_again_at)
        elif not self._is_whole:
            self.doubt()


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    opened.setblocking(False)
    return opened


def _forget(events: socket.socket) -> bool:
    """Take what is queued; whether there was anything, or some was lost (ENOBUFS)."""
    was_there = False
    for _ in range(_EVENTS_BYTES):
        try:
            events.recv(_PIECE_BYTES)
        except BlockingIOError:
            break
        except OSError:
            pass
        was_there = True
    return was_there
