"""Sockets that outlive an engine: it hands copies to its keeper, and the next engine finds them, queue and all."""

from __future__ import annotations

import os
import socket

Key = tuple[int, int]
"""Interface index and width: 4 and 16 for VRRP sockets, 0 for announcements."""


class Safekeeping:
    """Both ends of the channel and the copies kept so far; an engine inherits all of it at the fork."""

    def __init__(self) -> None:
        self._keepers, self._engines = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._keepers.setblocking(False)
        self._kept: dict[Key, int] = {}

    # ----- the engine's side -----

    def put(self, key: Key, kept: socket.socket) -> None:
        """Have the keeper hold a copy."""
        self._kept[key] = -1
        socket.send_fds(self._engines, [_encode("put", key)], [kept.fileno()])

    def take(self, key: Key) -> socket.socket | None:
        """A socket that an engine before this one left; None where there is none."""
        descriptor = self._kept.get(key, -1)
        return socket.socket(fileno=os.dup(descriptor)) if descriptor >= 0 else None

    def drop(self, key: Key) -> None:
        """Have the keeper close its copy."""
        if self._kept.pop(key, None) is not None:
            self._engines.send(_encode("drop", key))

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
                message, descriptors, _, _ = socket.recv_fds(self._keepers, 256, 1)
            except BlockingIOError:
                return
            verb, key = _decode(message)
            self._close(key)
            if verb == "put" and descriptors:
                self._kept[key] = descriptors[0]

    def _close(self, key: Key) -> None:
        descriptor = self._kept.pop(key, -1)
        if descriptor >= 0:
            os.close(descriptor)


def _encode(verb: str, key: Key) -> bytes:
    return f"{verb} {key[0]} {key[1]}".encode()


def _decode(message: bytes) -> tuple[str, Key]:
    verb, index, family = message.decode().split()
    return verb, (int(index), int(family))
