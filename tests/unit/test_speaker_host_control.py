"""The control socket answers what comes, in pieces or not, and no client can hold the loop up."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import msgspec

from holdfast_api.messages import Answer, Done, Refused, Request
from holdfast_speaker.host import control
from holdfast_speaker.host.control import Connection, ControlServer
from holdfast_speaker.host.log import Log

NOWHERE = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # for the whole module


def server() -> ControlServer:
    def handler(request: Request) -> Answer:
        return Done(message=type(request).__name__)

    return ControlServer(handler, Log(NOWHERE))


def connected() -> tuple[ControlServer, Connection, socket.socket]:
    served = server()
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    return served, served.adopt(ours), theirs


def answers(stream: socket.socket, count: int) -> list[Answer]:
    reader = io.BufferedReader(socket.SocketIO(stream, "r"))
    return [msgspec.json.decode(reader.readline(), type=Answer) for _ in range(count)]


def test_a_request_in_pieces_and_two_in_one_piece_are_answered_in_order() -> None:
    served, connection, client = connected()
    for piece in (b'{"type":"Get', b'Status"}\n{"type":"GetHistory","virtualIP":"a"}\n'):
        client.sendall(piece)
        assert served.read(connection)
    assert answers(client, 2) == [Done(message="GetStatus"), Done(message="GetHistory")]


def test_nonsense_is_refused_and_the_connection_stays() -> None:
    served, connection, client = connected()
    client.sendall(b'nonsense\n{"type":"Sing"}\n{"type":"GetStatus"}\n')
    assert served.read(connection)
    first, second, third = answers(client, 3)
    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    assert third == Done(message="GetStatus")


def test_a_client_that_is_gone_is_forgotten() -> None:
    served, connection, client = connected()
    client.close()
    assert not served.read(connection)
    assert served.connections == {}


def test_a_line_without_end_is_cut_off() -> None:
    served, connection, client = connected()
    client.setblocking(False)
    open_still = True
    for _ in range(control._LINE_LIMIT // 1024):
        try:
            client.send(b"x" * 65536)
        except BlockingIOError:
            pass
        except BrokenPipeError:
            break
        open_still = served.read(connection)
        if not open_still:
            break
    assert not open_still
    assert served.connections == {}


def test_a_client_that_never_reads_is_let_go_when_too_much_waits_for_it() -> None:
    served, connection, client = connected()
    connection.subscribed = True
    for _ in range(control._BACKLOG_LIMIT // 1_000_000 + 2):
        served.tell(connection, Done(message="x" * 1_000_000))
    assert served.connections == {}
    client.close()


def mode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mode & 0o777, found.st_gid


def test_the_socket_is_its_owners_alone_unless_a_group_is_named(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with control.open_listener(path):
        assert mode(path) == (0o600, os.getegid())
    with control.open_listener(path, os.getegid()):
        assert mode(path) == (0o660, os.getegid())


def test_bytes_that_are_no_text_are_refused() -> None:
    served, connection, client = connected()
    client.sendall(b'{"type":"\xff"}\n{"type":"GetStatus"}\n')
    assert served.read(connection)
    first, second = answers(client, 2)
    assert isinstance(first, Refused)
    assert second == Done(message="GetStatus")
