"""The control socket answers what comes, in pieces or not, and no client can hold the loop up."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

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
    assert served.read(connection)
    assert answers(client, 2) == [Done(message="GetStatus"), Done(message="GetHistory")]


def test_nonsense_is_refused_and_the_connection_stays() -> None:
    served, connection, client = connected()
    client.sendall(b'nonsense\n{"type":"Sing"}\n{"type":"GetStatus"}\n')
    assert [served.read(connection) for _ in range(3)] == [True] * 3
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
    assert [served.read(connection) for _ in range(2)] == [True] * 2
    first, second = answers(client, 2)
    assert isinstance(first, Refused)
    assert second == Done(message="GetStatus")


class Clients:
    """A server that listens, and those who connect to it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "engine.sock"
        self.listener = control.open_listener(self.path)
        self.served = server()
        self.served.listen_on(self.listener)
        self.streams: list[socket.socket] = []

    def connect(self) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(5)
        stream.connect(str(self.path))
        self.streams.append(stream)
        return stream

    def is_open(self, stream: socket.socket) -> bool:
        stream.setblocking(False)
        try:
            return stream.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True

    def close(self) -> None:
        for opened in (self.listener, *self.streams, *(item.stream for item in self.served.connections.values())):
            opened.close()


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    made = Clients(tmp_path)
    yield made
    made.close()


def test_one_request_of_a_client_is_answered_in_a_turn_and_the_others_wait_where_they_are() -> None:
    served, connection, client = connected()
    client.sendall(b'{"type":"GetStatus"}\n' * 1000)
    for _ in range(3):
        assert served.serve([connection.stream.fileno()])
    client.setblocking(False)
    assert client.recv(65536).count(b"\n") == 3
    assert select.select([connection.stream], [], [], 0)[0] != []


def test_a_turn_answers_a_few_clients_and_the_next_one_others(clients: Clients) -> None:
    streams = [clients.connect() for _ in range(12)]
    assert len(clients.served.accept()) == 12
    for stream in streams:
        stream.sendall(b'{"type":"GetStatus"}\n' * 10)
    for _ in range(3):
        assert clients.served.serve(list(clients.served.connections))
    for stream in streams:
        assert stream.recv(65536).count(b"\n") == 1


def test_the_end_of_the_supervisor_is_told_and_that_of_a_client_is_not(clients: Clients) -> None:
    clients.connect().close()
    clients.served.accept()
    assert clients.served.serve(list(clients.served.connections))
    ours, theirs = socket.socketpair()
    clients.served.adopt(ours)
    theirs.close()
    assert not clients.served.serve(list(clients.served.connections))


def test_any_number_of_clients_leaves_the_newest_and_who_subscribed(clients: Clients) -> None:
    subscriber = clients.connect()
    subscriber.sendall(b'{"type":"Subscribe"}\n')
    clients.served.accept()
    clients.served.serve(list(clients.served.connections))
    subscriber.recv(65536)
    for _ in range(300):
        last = clients.connect()
        clients.served.accept()
    assert len(clients.served.connections) == control._CLIENTS_LIMIT + 1
    assert clients.is_open(subscriber)
    assert clients.is_open(last)
    assert not clients.is_open(clients.streams[1])


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    fewest = os.dup(0)
    os.close(fewest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fewest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_without_descriptors_a_client_is_turned_away_and_nothing_is_left_waiting(clients: Clients) -> None:
    waiting = [clients.connect() for _ in range(3)]
    with no_descriptor_left():
        for _ in waiting:
            assert clients.served.accept() == []
            assert clients.served.is_behind
        assert clients.served.accept() == []
        assert not clients.served.is_behind
    assert [clients.is_open(stream) for stream in waiting] == [False, False, False]
    clients.connect()
    assert len(clients.served.accept()) == 1


def test_without_descriptors_the_client_that_was_silent_for_longest_makes_room(clients: Clients) -> None:
    first, second = clients.connect(), clients.connect()
    assert len(clients.served.accept()) == 2
    third = clients.connect()
    with no_descriptor_left():
        assert len(clients.served.accept()) == 1
    assert [clients.is_open(stream) for stream in (first, second, third)] == [False, True, True]
