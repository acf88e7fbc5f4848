"""TCP connections to hosts by name, where no name server and no address keeps anybody else waiting."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Sequence

from holdfast_speaker.health.threads import in_own_thread

Place = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]
"""A family and an address of it, as connect(2) takes it."""

_HEAD_START_SECONDS = 0.25
"""Of one address before the next one is tried too (RFC 8305 section 5)."""


class Names:
    """Looks host names up, each in a thread of its own: a name server that does not answer delays only its own names.

    Whoever asks for a name that is being looked up waits for the same answer, so that there are never more threads than
    names. Needs a running event loop.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Task[list[Place]]] = {}

    async def places(self, host: str, port: int) -> list[Place]:
        """Where the host is, in the system's order of preference. Raises OSError (socket.gaierror is one)."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            found = await asyncio.shield(self._lookup(host))
        else:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            found = [(family, (host, 0))]
        return [(family, (where[0], port, *where[2:])) for family, where in found]

    def is_waiting_for(self, host: str) -> bool:
        """Whether the name is being looked up."""
        return host in self._under_way

    def _lookup(self, host: str) -> asyncio.Task[list[Place]]:
        lookup = self._under_way.get(host)
        if lookup is None:
            lookup = asyncio.create_task(in_own_thread(functools.partial(_look_up, host)))
            self._under_way[host] = lookup
            lookup.add_done_callback(functools.partial(self._ended, host))
        return lookup

    def _ended(self, host: str, lookup: asyncio.Task[list[Place]]) -> None:
        del self._under_way[host]
        if not lookup.cancelled():
            lookup.exception()  # somebody may have asked and not waited: that is no error to be told


def _look_up(host: str) -> list[Place]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        # Without descriptors no name is found either, in whatever words; this says so.
        socket.socket().close()
        raise
    # The zone of a link-local address is in the last number too.
    places = [(family, (str(where[0]).partition("%")[0], *where[1:])) for family, _, _, _, where in found]
    return list(dict.fromkeys(places))


async def first_to_connect(places: Sequence[Place]) -> socket.socket:
    """A connection to one of them: the first that accepts. They are tried in order, and do not wait for one another.

    Raises OSError: that of the last one that was tried.
    """
    left = list(places)
    attempts: set[asyncio.Task[socket.socket]] = set()
    error: OSError = OSError("no address")
    try:
        while left or attempts:
            if left:
                attempts.add(asyncio.create_task(_connect(*left.pop(0))))
            patience = _HEAD_START_SECONDS if left else None
            ended, _ = await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for attempt in ended:
                attempts.discard(attempt)
                try:
                    return attempt.result()
                except OSError as refused:
                    error = refused
        raise error
    finally:
        for attempt in attempts:
            _abandon(attempt)


async def _connect(family: socket.AddressFamily, where: tuple[object, ...]) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, where)
    except BaseException:
        connection.close()
        raise
    return connection


def _abandon(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancel() and not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
