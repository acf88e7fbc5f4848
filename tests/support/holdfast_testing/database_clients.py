"""Clients of databases that cost next to nothing, so that many can try beside what is measured.

Only what a test's statement needs: a user without a password, one statement, one value back.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from holdfast_testing.examples import Attempts, Refused


def postgresql(address: str, user: str, statement: str) -> Callable[[], str]:
    """The first column of the last row that PostgreSQL answers (PostgreSQL documentation, Message Formats)."""
    names = f"user\0{user}\0database\0postgres\0\0".encode()
    start = struct.pack("!II", len(names) + 8, 0x30000) + names
    query = statement.encode() + b"\0"

    def ask() -> str:
        with _Stream(address, 5432) as stream:
            stream.send(start)
            _until_ready(stream)
            stream.send(b"Q" + struct.pack("!I", len(query) + 4) + query)
            return _until_ready(stream)

    return ask


def _until_ready(stream: _Stream) -> str:
    value = ""
    while True:
        kind, length = struct.unpack("!cI", stream.take(5))
        body = stream.take(length - 4)
        if kind == b"E":
            fields = {field[:1]: field[1:] for field in body.split(b"\0") if field}
            raise Refused(fields[b"M"].decode())
        if kind == b"D":
            (size,) = struct.unpack_from("!I", body, 2)
            value = body[6 : 6 + size].decode()
        if kind == b"Z":
            return value


def mariadb(address: str, user: str, statement: str) -> Callable[[], str]:
    """The first column of the first row that MariaDB answers (MariaDB documentation, Client/Server Protocol)."""
    protocol_41, secure_connection, plugin_auth = 0x200, 0x8000, 0x80000
    capabilities = protocol_41 | secure_connection | plugin_auth
    login = (
        struct.pack("<IIB23x", capabilities, 1 << 24, 33) + user.encode() + b"\0" + b"\0" + b"mysql_native_password\0"
    )

    def ask() -> str:
        with _Stream(address, 3306) as stream:
            _packet(stream)
            _send_packet(stream, 1, login)
            _packet(stream)
            _send_packet(stream, 0, b"\x03" + statement.encode())
            if _packet(stream)[0] == 0:
                return ""
            while _packet(stream)[0] != 0xFE:
                pass
            row = _packet(stream)
            return row[1 : 1 + row[0]].decode()

    return ask


def _send_packet(stream: _Stream, number: int, body: bytes) -> None:
    stream.send(struct.pack("<I", len(body))[:3] + bytes([number]) + body)


def _packet(stream: _Stream) -> bytes:
    header = stream.take(4)
    body = stream.take(int.from_bytes(header[:3], "little"))
    if body[0] == 0xFF:
        raise Refused(body[3:].decode(errors="replace"))
    return body


def redis(address: str, *words: str) -> Callable[[], str]:
    """The status or number that Redis answers (Redis documentation, RESP)."""
    command = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)

    def ask() -> str:
        with _Stream(address, 6379) as stream:
            stream.send(command)
            line = stream.line()
        if line.startswith(b"-"):
            raise Refused(line[1:].decode())
        return line[1:].decode()

    return ask


class _Stream:
    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.create_connection((address, port), timeout=Attempts.PATIENCE_SECONDS)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise Refused("the server hung up")
        return data

    def line(self) -> bytes:
        return self._file.readline().strip()
