"""The control socket: JSON lines from agents and people, never blocking the loop."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
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
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise EnvironmentFailure(f"control socket {path} cannot be made: {error.strerror or error}") from error
    return listener


class ControlServer:
    """Listens on a unix socket, whose mode says who may talk, and talks on inherited connections."""

    def __init__(self, handler: Handler, log: Log) -> None:
        self._handler = handler
        self._log = log
        self._listener: socket.socket | None = None
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

    def accept(self) -> Connection | None:
        """Take one waiting connection."""
        if self._listener is None:
            return None
        try:
            stream, _ = self._listener.accept()
        except OSError:  # gone again before it was taken
            return None
        stream.setblocking(False)
        connection = Connection(stream)
        self.connections[stream.fileno()] = connection
        return connection

    def read(self, connection: Connection) -> bool:
        """Answer what came in. Returns False when the client is gone (or talks nonsense) and was closed."""
        try:
            data = connection.stream.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.close(connection)
            return False
        connection.received += data
        while (end := connection.received.find(b"\n")) >= 0:
            line = bytes(connection.received[:end])
            del connection.received[: end + 1]
            self._send(connection, self._answer(connection, line))
        if len(connection.received) > _LINE_LIMIT:
            self._log.warning("a control client sent a line without end; closing it")
            self.close(connection)
            return False
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

    def publish(self, transition: Transition) -> None:
        """Tell every subscriber."""
        for connection in list(self.connections.values()):
            if connection.subscribed:
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
        """Forget a client."""
        self.connections.pop(connection.stream.fileno(), None)
        connection.stream.close()
