"""Which hosts really have the VIP: every change of address in their kernels, by rtnetlink(7)."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRSocket
from pyroute2.netlink import NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_GETADDR,
    RTM_NEWADDR,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV6_IFADDR,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab.namespaces import run_inside

_GROUPS = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR

# An address as a kernel tells of it: with prefix length and link, because a host can have it twice.
_Entry = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class AddressChange:
    """An address came to a host or went from it."""

    at_ns: int
    """CLOCK_MONOTONIC, when the kernel's message was read; after an Overrun, when all addresses were read anew."""
    host: str
    address: str
    present: bool


@dataclass(frozen=True, slots=True)
class Overrun:
    """A host's kernel told of more changes than could be read (netlink(7), ENOBUFS), and some were not seen.

    The addresses are then read anew: what is different comes after this, and what is known is right again.
    """

    at_ns: int
    """CLOCK_MONOTONIC."""
    host: str


class AddressWatch:
    """Watches the hosts' addresses from outside, until `close`.

    A thread of its own reads what the kernels tell, and notes when: the time of a change depends neither on who polls
    when, nor on how long others take to decode.
    """

    def __init__(self, namespaces: Mapping[str, str], *, receive_bytes: int = 1 << 20) -> None:
        """`namespaces`: host name to network namespace; `receive_bytes`: how much of each host may wait to be read.

        What the hosts have now are the first changes. EnvironmentFailure when a namespace is not there.
        """
        self.history: list[AddressChange] = []
        with contextlib.ExitStack() as stack:
            self._hosts = [
                stack.enter_context(contextlib.closing(_Host(host, namespace, receive_bytes)))
                for host, namespace in namespaces.items()
            ]
            self._ending = os.eventfd(0, os.EFD_CLOEXEC)
            stack.callback(os.close, self._ending)
            self._closing = stack.pop_all()
        self._thread = threading.Thread(target=self._read, name="address-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        os.eventfd_write(self._ending, 1)
        self._thread.join()
        self._closing.close()

    def poll(self) -> list[AddressChange | Overrun]:
        """What came since the last call, in order of time; EnvironmentFailure when a host cannot be watched."""
        news = sorted((one for host in self._hosts for one in host.news()), key=lambda one: one.at_ns)
        self.history.extend(one for one in news if isinstance(one, AddressChange))
        return news

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._ending, selectors.EVENT_READ)
            for host in self._hosts:
                selector.register(host, selectors.EVENT_READ, host.receive)
            while True:
                for key, _ in selector.select():
                    if key.fd == self._ending:
                        return
                    key.data()

    def shared_ms(self, address: str, start_ns: int, end_ns: int) -> float:
        """For how much of that time more than one host had the address, in milliseconds."""
        changes = [change for change in self.history if change.address == address]
        # Two polls may divide what two hosts told at once.
        return shared_ms(sorted(changes, key=lambda change: change.at_ns), start_ns, end_ns)

    def left_after_ms(self, host: str, address: str, start_ns: int, end_ns: int) -> float | None:
        """How many milliseconds after the start the address went from the host; None when it stayed till the end."""
        gone = (host, address, False)
        for change in self.history:
            if (change.host, change.address, change.present) == gone and start_ns <= change.at_ns <= end_ns:
                return (change.at_ns - start_ns) / 1e6
        return None


class _Host:
    """One host's kernel. Its datagrams are received in one thread, and understood in another."""

    def __init__(self, name: str, namespace: str, receive_bytes: int) -> None:
        def subscribe() -> IPRSocket:
            # Of pyroute2's sockets the one that asyncio has no hand in: it is read at once, and outlives an overrun.
            opened = IPRSocket(rcvbuf=receive_bytes)
            opened.bind(groups=_GROUPS)
            return opened

        self._name = name
        self._socket = run_inside(namespace, subscribe)
        self._received: deque[tuple[int, bytes | None]] = deque()
        self._entries: set[_Entry] = set()
        self._times: Counter[str] = Counter()
        self._dumps = 0
        # Of the dump that is being read; None: no dump is.
        self._dumped: set[_Entry] | None = None
        self._is_outdated = False
        self._request_dump()

    def fileno(self) -> int:
        """The socket, for those who wait for it."""
        return int(self._socket.socket.fileno())

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def receive(self) -> None:
        """Note what has come, and when; does not wait."""
        while True:
            try:
                data = self._socket.socket.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                data = None
            self._received.append((time.monotonic_ns(), data))

    def news(self) -> Iterator[AddressChange | Overrun]:
        """What was received since the last call, understood; EnvironmentFailure when the kernel refuses to tell."""
        while self._received:
            now, data = self._received.popleft()
            if data is None:
                yield Overrun(now, self._name)
                self._is_outdated = True
                self._request_dump()
                continue
            for message in self._socket.marshal.parse(data):
                yield from self._understand(message, now)

    def _request_dump(self) -> None:
        # A socket has one dump at a time.
        if self._dumped is not None:
            return
        self._dumps += 1
        self._dumped = set()
        self._is_outdated = False
        self._socket.put(ifaddrmsg(), RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, msg_seq=self._dumps)

    def _understand(self, message: Any, now: int) -> Iterator[AddressChange]:
        header = message["header"]
        if header["flags"] & NLM_F_DUMP_INTR and header["sequence_number"] == self._dumps:
            self._is_outdated = True
        if header["type"] == NLMSG_ERROR:
            raise EnvironmentFailure(f"{self._name}: its addresses cannot be watched: {header['error']}")
        if header["type"] == NLMSG_DONE:
            yield from self._end_dump(now)
        if header["type"] in (RTM_NEWADDR, RTM_DELADDR):
            yield from self._note(_entry(message), now, is_there=header["type"] == RTM_NEWADDR)

    def _end_dump(self, now: int) -> Iterator[AddressChange]:
        found, self._dumped = self._dumped, None
        if self._is_outdated or found is None:
            self._request_dump()
            return
        for entry in self._entries - found:
            yield from self._note(entry, now, is_there=False)

    def _note(self, entry: _Entry, now: int, *, is_there: bool) -> Iterator[AddressChange]:
        if self._dumped is not None:
            (self._dumped.add if is_there else self._dumped.discard)(entry)
        # The holder refreshes its lifetime all the time: only a coming or a going is a change.
        if (entry in self._entries) == is_there:
            return
        address = entry[0]
        had = self._times[address] > 0
        (self._entries.add if is_there else self._entries.discard)(entry)
        self._times[address] += 1 if is_there else -1
        if (self._times[address] > 0) != had:
            yield AddressChange(now, self._name, address, is_there)


def _entry(message: Any) -> _Entry:
    # IFA_LOCAL is the host's own address where IPv4 tells both; IPv6 tells IFA_ADDRESS alone.
    return str(message.get("local") or message.get("address")), int(message["prefixlen"]), int(message["index"])


def shared_ms(changes: list[AddressChange], start_ns: int, end_ns: int) -> float:
    """For how much of the time from start to end more than one host had an address, by its changes in order of time."""
    holders: set[str] = set()
    shared, since = 0, start_ns
    for change in changes:
        at = min(max(change.at_ns, start_ns), end_ns)
        if len(holders) > 1:
            shared += at - since
        since = at
        if change.present:
            holders.add(change.host)
        else:
            holders.discard(change.host)
    if len(holders) > 1:
        shared += end_ns - since
    return shared / 1e6
