"""The control socket: JSON lines from agents and people, never blocking the loop.

However many clients there are and whatever they send, a turn of the loop takes in a few of them and answers each one
request at most. The client that was silent for longest makes room for a new one; where there is none, and no descriptor
left, a new one is turned away.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from holdfast_api.errors import UNDECODABLE, EnvironmentFailure
from holdfast_api.messages import Answer, GetStatus, Refused, Request, Subscribe, Transition
from holdfast_speaker.host.log import Log

_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_LINE_LIMIT = 4 * 1024 * 1024
_BACKLOG_LIMIT = 8 * 1024 * 1024
_CLIENTS_LIMIT = 64
_WAITING_LIMIT = 64
"""Clients that the kernel keeps for us until the next turn (listen(2))."""

_ACCEPTED_PER_TURN = 16
_ANSWERED_PER_TURN = 4
_PIECE = 65536

Handler = Callable[[Request], Answer]


@dataclass(slots=True)
class Connection:
    """One client: what it sent so far of its next line, and what it has not read yet."""

    stream: socket.socket
    trusted: bool = False
    """It came with the process: the supervisor's end, whose close is a reason to stop."""
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    subscribed: bool = False
    heard_at: int = 0
    """When it was last heard: a number that grows with each turn."""

    @property
    def is_dispensable(self) -> bool:
        """Whether it may be closed for another client's sake."""
        return not self.trusted and not self.subscribed


def open_listener(path: Path, group: int | None = None) -> socket.socket:
    """Bind the control socket, in place of a dead predecessor's: root's alone, or also a group's (by its number).

    Raises EnvironmentFailure where it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        if group is not None and path.stat().st_gid != group:
            os.chown(path, -1, group)
        path.chmod(0o600 if group is None else 0o660)
        listener.listen(_WAITING_LIMIT)
    except OSError as error:
        listener.close()
        raise EnvironmentFailure(f"control socket {path} cannot be made: {error.strerror or error}") from error
    return listener


_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def _spare_descriptor() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


class ControlServer:
    """Listens on a unix socket, whose mode says who may talk, and talks on inherited connections."""

    def __init__(self, handler: Handler, log: Log) -> None:
        self._handler = handler
        self._log = log
        self._listener: socket.socket | None = None
        self._spare = _spare_descriptor()
        self._turns = 0
        self.is_behind = False
        """Somebody may wait still, though the listener said so only once."""
        self.connections: dict[int, Connection] = {}

    def listen_on(self, listener: socket.socket) -> None:
        """Serve whoever connects there."""
        self._listener = listener

    def adopt(self, stream: socket.socket) -> Connection:
        """Serve a connection that was inherited."""
        stream.setblocking(False)
        connection = Connection(stream, trusted=True)
        self.connections[stream.fileno()] = connection
        return connection

    @property
    def listener_descriptor(self) -> int | None:
        """To be watched for new connections."""
        return self._listener.fileno() if self._listener else None

    def accept(self) -> list[Connection]:
        """Take in clients that wait, a few at most."""
        accepted: list[Connection] = []
        self.is_behind = True
        for _ in range(_ACCEPTED_PER_TURN if self._listener else 0):
            stream = self._accept_one()
            if stream is None:
                break
            stream.setblocking(False)
            self._turns += 1
            connection = Connection(stream, heard_at=self._turns)
            self.connections[stream.fileno()] = connection
            accepted.append(connection)
            self._close_the_quietest(_CLIENTS_LIMIT)
        return [connection for connection in accepted if self.connections.get(connection.stream.fileno()) is connection]

    def _accept_one(self) -> socket.socket | None:
        try:
            return self._accept_now()
        except OSError as error:
            # Without a descriptor the kernel does not look whether anybody waits (accept(2)).
            if error.errno not in _NO_DESCRIPTOR or not self._somebody_waits():
                return None
        try:
            if self._close_the_quietest(0):
                return self._accept_now()
            self._turn_one_away()
        except OSError:  # no memory either: it is tried again
            pass
        return None

    def _accept_now(self) -> socket.socket | None:
        """Who waits, if anybody; raises OSError."""
        if self._listener is None:
            return None
        try:
            return self._listener.accept()[0]
        except BlockingIOError:
            self.is_behind = False
            return None

    def _somebody_waits(self) -> bool:
        poller = select.poll()
        if self._listener is not None:
            poller.register(self._listener, select.POLLIN)
        self.is_behind = bool(poller.poll(0))
        return self.is_behind

    def _turn_one_away(self) -> None:
        """Raises OSError."""
        if self._spare is not None:
            os.close(self._spare)
        try:
            turned_away = self._accept_now()
            if turned_away is not None:
                turned_away.close()
        finally:
            self._spare = _spare_descriptor()

    def _close_the_quietest(self, most: int) -> bool:
        """Close who was silent for longest, where more than so many could be closed. Returns whether there was one."""
        dispensable = [connection for connection in self.connections.values() if connection.is_dispensable]
        if len(dispensable) > most:
            self.close(min(dispensable, key=lambda connection: connection.heard_at))
            return True
        return False

    def serve(self, ready: Collection[int]) -> bool:
        """Answer clients whose descriptors are readable, a few at most: those who waited for longest.

        The rest stays readable. Returns False when a trusted one is gone.
        """
        clients = [self.connections[descriptor] for descriptor in ready if descriptor in self.connections]
        clients.sort(key=lambda connection: (not connection.trusted, connection.heard_at))
        gone = [client for client in clients[:_ANSWERED_PER_TURN] if not self.read(client)]
        return not any(client.trusted for client in gone)

    def read(self, connection: Connection) -> bool:
        """Take in one line at most, and answer it. Returns False when the client is gone and was closed."""
        self._turns += 1
        connection.heard_at = self._turns
        try:
            # What comes after the line stays in the socket, which is readable again in the next turn.
            data = connection.stream.recv(_PIECE, socket.MSG_PEEK)
            end = data.find(b"\n") + 1 or len(data)
            data = connection.stream.recv(end) if data else b""
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.close(connection)
            return False
        connection.received += data
        if len(connection.received) > _LINE_LIMIT:
            self._log.warning("a control client sent a line without end; closing it")
            self.close(connection)
            return False
        if data.endswith(b"\n"):
            line = bytes(connection.received[:-1])
            connection.received.clear()
            self._send(connection, self._answer(connection, line))
        return True

    def _answer(self, connection: Connection, line: bytes) -> Answer:
        try:
            request = _DECODER.decode(line)
        except UNDECODABLE as error:
            return Refused(reason=f"not a request: {error}")
        if isinstance(request, Subscribe):
            connection.subscribed = True
            request = GetStatus()
        return self._handler(request)

    def tell(self, connection: Connection, answer: Answer) -> None:
        """Say something without being asked."""
        self._send(connection, answer)

    def publish(self, transition: Transition, *, only_trusted: bool = False) -> None:
        """Tell every subscriber, or of them those that this process was started with."""
        for connection in list(self.connections.values()):
            if connection.subscribed and (connection.trusted or not only_trusted):
                self._send(connection, transition)

    def _send(self, connection: Connection, answer: Answer) -> None:
        if len(connection.unsent) > _BACKLOG_LIMIT:
            self._log.warning("a control client does not read its answers; closing it")
            self.close(connection)
            return
        connection.unsent += _ENCODER.encode(answer) + b"\n"
        self.flush(connection)

    def flush(self, connection: Connection) -> None:
        """Send what the client takes now."""
        try:
            while connection.unsent:
                del connection.unsent[: connection.stream.send(connection.unsent)]
        except BlockingIOError:
            return
        except OSError:
            self.close(connection)

    def close(self, connection: Connection) -> None:
        """Forget a client; more than once is no error."""
        self.connections.pop(connection.stream.fileno(), None)
        connection.stream.close()
