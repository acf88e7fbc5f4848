"""The real loop: whom it watches while sockets come and go."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from holdfast_speaker.host.control import open_listener
from holdfast_speaker.host.driver import Driver
from holdfast_speaker.host.inheritance import Inheritance
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.state_directory import StateDirectory


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Of a node that holds nothing, with a control socket. Signals stay pytest's."""
    monkeypatch.setattr(Driver, "_catch_signals", lambda _: socket.socketpair()[0])
    log = Log((tmp_path / "log").open("w", encoding="utf-8"))
    listener = open_listener(tmp_path / "engine.sock")
    return Driver("n1", StateDirectory(tmp_path, log), Inheritance(listener=listener), log)


def test_a_client_with_the_number_of_a_socket_that_was_just_closed_is_answered(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = socket.socket(socket.AF_UNIX)
    on_the_wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    number = on_the_wire.fileno()
    wire = driver._wire
    monkeypatch.setattr(wire, "descriptors", lambda: [number] if on_the_wire.fileno() >= 0 else [])
    wire.epoch += 1
    driver.turn(0)

    def close_and_read(*_: object) -> tuple[list[int], list[int], list[int]]:
        if on_the_wire.fileno() >= 0:
            on_the_wire.close()
            wire.epoch += 1
        return [], [], []

    # The wire's socket is closed in the turn that takes the client in: the kernel gives its number to the next one.
    monkeypatch.setattr(wire, "readable", close_and_read)
    client.connect(str(tmp_path / "engine.sock"))
    client.sendall(b'{"type":"GetStatus"}\n')
    driver.turn(0)
    assert list(driver._control.connections) == [number]
    driver.turn(0)
    driver.turn(0)
    client.settimeout(5)
    assert client.recv(65536).startswith(b'{"type":"Status","nodeName":"n1"')
