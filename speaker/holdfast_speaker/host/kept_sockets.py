"""Sockets that outlive an engine: it hands copies to its keeper, and the next engine finds them, queue and all."""

from __future__ import annotations

import os
import socket

Key = tuple[int, int]
"""Interface index and width: 4 and 16 for VRRP sockets, 0 for announcements."""

_MESSAGE_BYTES = 256


class KeptSockets:
    """Both ends of the channel and the copies kept so far; an engine inherits all of it at the fork.

    Nothing here raises or waits: a socket that is not kept is opened anew by the next engine.
    """

    def __init__(self) -> None:
        self._keepers, self._engines = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._keepers.setblocking(False)
        self._engines.setblocking(False)
        self._kept: dict[Key, int] = {}

    # ----- the engine's side -----

    def put(self, key: Key, kept: socket.socket) -> None:
        """Have the keeper hold a copy."""
        self._kept[key] = -1
        try:
            socket.send_fds(self._engines, [_encode("put", key)], [kept.fileno()])
        except OSError:  # the keeper does not keep up, or is gone; too many descriptors are on their way
            return

    def take(self, key: Key) -> socket.socket | None:
        """A socket that an engine before this one left; None where there is none that can be used any more."""
        descriptor = self._kept.get(key, -1)
        if descriptor < 0:
            return None
        try:
            taken = socket.socket(fileno=os.dup(descriptor))
        except OSError:  # too few descriptors
            return None
        if _is_on_its_link(taken, key[0]):
            return taken
        taken.close()
        return None

    def drop(self, key: Key) -> None:
        """Have the keeper close its copy."""
        if self._kept.pop(key, None) is not None:
            try:
                self._engines.send(_encode("drop", key))
            except OSError:  # the copy of a socket that is of no use stays, until one takes its place
                return

    @property
    def keys(self) -> set[Key]:
        """What is kept."""
        return set(self._kept)

    # ----- the keeper's side -----

    def fileno(self) -> int:
        """Readable when an engine handed something over."""
        return self._keepers.fileno()

    def collect(self) -> None:
        """Take in everything that the engine handed over or let go."""
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._keepers, _MESSAGE_BYTES, 1)
            except OSError:  # nothing more
                return
            verb, key = _decode(message)
            self._close(key)
            if verb == "put" and descriptors:  # none came where this process has too many
                self._kept[key] = descriptors[0]

    def _close(self, key: Key) -> None:
        descriptor = self._kept.pop(key, -1)
        if descriptor >= 0:
            os.close(descriptor)


def _is_on_its_link(taken: socket.socket, index: int) -> bool:
    """A packet socket loses its link with it (net/packet/af_packet.c), and knows none that comes later."""
    if taken.family != socket.AF_PACKET:
        return True
    try:
        name: str = taken.getsockname()[0]
        return bool(name) and socket.if_nametoindex(name) == index
    except OSError:
        return False


def _encode(verb: str, key: Key) -> bytes:
    return f"{verb} {key[0]} {key[1]}".encode()


def _decode(message: bytes) -> tuple[str, Key]:
    verb, index, width = message.decode().split()
    return verb, (int(index), int(width))
