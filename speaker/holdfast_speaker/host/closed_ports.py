"""Keeps the node's own ports unreachable through VIPs: the table `holdfast` of nf_tables, as a level (ADR 0034).

A change of the rules waits for the kernel's lock on all rules of the network namespace, which whoever writes very many
(kube-proxy, firewalld) has for a long time. So it is made on a thread of its own, beside the loop. The thread, and its
socket, are there while an address is closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Collection
from typing import Final

from holdfast_api.errors import EnvironmentFailure
from holdfast_speaker.engine.ports import PortsClosed
from holdfast_speaker.host import clock, nftables, realtime
from holdfast_speaker.host.failure import SystemCallFailure
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant

CHECK_EVERY: Final = Duration(200 * MILLISECOND)
"""How often is asked whether somebody has changed any rule. That takes no lock, and some microseconds."""

BELIEVED_FOR: Final = Duration(5 * SECOND)
"""How long after the last look the addresses of a table that is the same, with the same rules, are believed to be the
same: to read them takes as long as there are many, and whoever flushes rules removes the table or its rules."""

TRY_AGAIN_AFTER: Final = Duration(5 * SECOND)
"""After the kernel refused: the module may be there by then."""

_ATTEMPTS = 10
_NETLINK_NETFILTER = 12
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER_BYTES = 4 * 1024 * 1024
_RECEIVE_BYTES = 65536


class _Refused(Exception):
    """The kernel answered with an errno."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Table:
    """The table on the kernel. Every method raises OSError or EnvironmentFailure where nf_tables cannot be had."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            with contextlib.suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 1, 0))
        self._sequence = 0
        self._generation: int | None = None
        """The one that was in force when the table was last as it should be."""
        self._known = nftables.Found(is_ours=False, is_there=False)
        """What was there then."""
        self._read_at = Instant(0)
        """When its addresses were last read."""

    def close(self) -> None:
        """Close the socket; the table stays."""
        self._socket.close()

    def is_unchanged(self) -> bool:
        """Whether nobody has changed any rule of this network namespace since `keep` last returned."""
        return self._generation is not None and self._generation == self._in_force()

    def keep(self, addresses: frozenset[bytes], others: Collection[bytes]) -> bool:
        """Have these addresses closed and `others` open; whether something had to be changed.

        What else is closed was closed by another engine of this network namespace, and stays.
        """
        for _ in range(_ATTEMPTS):
            generation = self._in_force()
            try:
                found = self._known if generation == self._generation else self.read()
            except _Refused as refused:
                if refused.code not in (errno.EINTR, errno.ENOENT):
                    raise OSError(refused.code, os.strerror(refused.code)) from refused
                continue  # somebody changes rules in this moment
            wanted = found.addresses.difference(others) | addresses
            changes = _changes(found, wanted)
            code = self._commit(changes, generation) if changes else 0
            if not code:
                # Somebody may have changed something right after that: then it is read, and not believed, next time.
                follows = self._in_force() == _after(generation)
                self._generation = (_after(generation) if follows else None) if changes else generation
                self._known = nftables.Found(bool(wanted), bool(wanted), found.handle, wanted)
                return bool(changes)
            if code not in (errno.ERESTART, errno.EEXIST, errno.ENOENT):
                raise OSError(code, os.strerror(code))
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def read(self) -> nftables.Found:
        """What there is of the table. Of one that is as it was, the addresses are believed for a while."""
        try:
            handle = nftables.handle_in(self._ask(nftables.table_request(self._next())))
        except _Refused as refused:
            if refused.code != errno.ENOENT:
                raise
            return nftables.Found(is_ours=False, is_there=False)
        chains = self._ask_for_all(nftables.chains_request(self._next()))
        rules = self._ask_for_all(nftables.rules_request(self._next()))
        now = clock.now()
        is_known = self._known.is_ours and handle == self._known.handle and nftables.is_as_made(chains, rules)
        if is_known and now - self._read_at < BELIEVED_FOR:
            return self._known
        self._read_at = now
        addresses: set[bytes] = set()
        has_sets = True
        for width in (4, 16):
            try:
                for payload in self._ask_for_all(nftables.elements_request(width, self._next())):
                    addresses |= nftables.addresses_in(payload, width)
            except _Refused as refused:
                if refused.code != errno.ENOENT:
                    raise
                has_sets = False
        is_ours = has_sets and nftables.is_as_made(chains, rules)
        return nftables.Found(is_ours, True, handle, frozenset(addresses))

    def _in_force(self) -> int:
        try:
            payload = self._ask(nftables.generation_request(self._next()))
        except _Refused as refused:
            raise OSError(refused.code, os.strerror(refused.code)) from refused
        return nftables.generation_in(payload)

    def _next(self) -> int:
        self._sequence = self._sequence + 1 & 0x7FFFFFFF
        return self._sequence

    def _ask(self, request: bytes) -> bytes:
        """The payload of the answer to what asks for one thing. Raises _Refused."""
        self._socket.send(request)
        while True:
            for _, code, payload in nftables.answers_in(self._receive(), self._sequence):
                if code:
                    raise _Refused(code)
                return payload

    def _ask_for_all(self, request: bytes) -> list[bytes]:
        """The payloads of the answer to what asks for all of a kind. Raises _Refused."""
        self._socket.send(request)
        payloads: list[bytes] = []
        is_whole = True
        while True:
            for is_last, code, payload in nftables.answers_in(self._receive(), self._sequence):
                is_whole = is_whole and code != errno.EINTR
                if not is_last:
                    payloads.append(payload)
                elif code or not is_whole:
                    raise _Refused(code or errno.EINTR)
                else:
                    return payloads

    def _commit(self, changes: list[nftables.Change], generation: int) -> int:
        first = self._next()
        self._sequence = first + len(changes) + 1
        self._socket.send(nftables.transaction(changes, generation, first))
        while (code := nftables.outcome_in(self._receive(), first, first + len(changes))) is None:
            pass
        self._discard()
        return code

    def _discard(self) -> None:
        """Errors of the other changes of a transaction, which say nothing more."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError as error:
            raise EnvironmentFailure("nf_tables did not answer within one second") from error
        except OSError as error:
            raise SystemCallFailure("cannot read the answer of nf_tables", error) from error


def _changes(found: nftables.Found, wanted: frozenset[bytes]) -> list[nftables.Change]:
    if not wanted:
        return nftables.removal() if found.is_there else []
    if not found.is_ours:
        return nftables.replacement(wanted, is_there=found.is_there)
    return nftables.additions(wanted - found.addresses) + nftables.subtractions(found.addresses - wanted)


def _after(generation: int) -> int:
    """The next one; there is no 0 (net/netfilter/nf_tables_api.c, nft_base_seq_inc)."""
    return (generation + 1 & 0xFFFFFFFF) or 1


class ClosedPorts:
    """The thread, and what it was told and has to tell."""

    def __init__(self) -> None:
        self._told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._condition = threading.Condition()
        self._number = self._done = 0
        self._wanted: frozenset[bytes] = frozenset()
        self._no_longer: frozenset[bytes] = frozenset()
        self._code = 0
        self._events: list[PortsClosed] = []
        self._is_running = False

    def fileno(self) -> int:
        """Readable when `events` has something to tell."""
        return self._told

    def close(self, number: int, addresses: frozenset[bytes], no_longer: Collection[bytes]) -> None:
        """Begin to have these closed, and open again those that earlier calls, or `no_longer`, named besides."""
        with self._condition:
            self._no_longer = (self._no_longer | self._wanted).union(no_longer) - addresses
            self._wanted = addresses
            self._number = number
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="closed-ports", daemon=True).start()
            self._condition.notify_all()

    def wait(self, within: Duration) -> int:
        """Wait until the last one is done; the errno, ETIMEDOUT where it is not done within that."""
        with self._condition:
            is_done = self._condition.wait_for(lambda: self._done == self._number, within / SECOND)
            return self._code if is_done else errno.ETIMEDOUT

    def events(self) -> list[PortsClosed]:
        """What has happened since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._told)
        with self._condition:
            events, self._events = self._events, []
        return events

    def _run(self) -> None:
        realtime.schedule()
        table: Table | None = None
        while True:
            with self._condition:
                pause = TRY_AGAIN_AFTER if self._code else CHECK_EVERY
                self._condition.wait_for(lambda: self._done != self._number, pause / SECOND)
                number, wanted, no_longer = self._number, self._wanted, self._no_longer
                is_new = number != self._done
            changed, code = False, 0
            try:
                table = table or Table()
                if is_new or not table.is_unchanged():
                    changed = table.keep(wanted, no_longer)
            except EnvironmentFailure:
                code = errno.ETIMEDOUT
            except OSError as error:
                code = error.errno or errno.EIO
            if code and table is not None:
                table.close()
                table = None
            if self._is_over(number, code, put_back=changed and not is_new):
                break
        if table is not None:
            table.close()

    def _is_over(self, number: int, code: int, *, put_back: bool) -> bool:
        """Note what came of it; whether there is nothing more to keep closed, so that the thread ends."""
        with self._condition:
            if number != self._done or code != self._code or put_back:
                self._events.append(PortsClosed(number, code, put_back))
                os.eventfd_write(self._told, 1)
            self._done = number
            self._code = code
            is_last = number == self._number
            if is_last and not code:
                self._no_longer = frozenset()
            # Where there is no nf_tables, nothing is closed that would have to be opened.
            self._is_running = not is_last or bool(self._wanted)
            self._condition.notify_all()
            return not self._is_running
