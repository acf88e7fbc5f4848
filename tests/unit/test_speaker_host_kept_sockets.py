"""Sockets outlive the engine that opened them, with what is queued in them."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Callable

from holdfast_speaker.host.kept_sockets import KeptSockets


def in_a_child(do: Callable[[], None]) -> None:
    """Run something in a process that is killed as soon as it has done it."""
    child = os.fork()
    if child == 0:
        do()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_socket_is_there_for_the_next_engine_with_its_queue() -> None:
    kept_sockets = KeptSockets()
    far = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def engine() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs.send(b"queued")
        kept_sockets.put((7, 4), ours)

    in_a_child(engine)
    far.close()
    kept_sockets.collect()
    taken = kept_sockets.take((7, 4))
    assert taken is not None
    assert taken.recv(100) == b"queued"
    taken.close()
    again = kept_sockets.take((7, 4))
    assert again is not None, "the keeper keeps its copy"
    again.close()


def test_what_an_engine_dropped_is_closed_and_forgotten() -> None:
    kept_sockets = KeptSockets()
    ours, theirs = socket.socketpair()

    def put() -> None:
        kept_sockets.put((7, 4), ours)

    in_a_child(put)
    ours.close()
    kept_sockets.collect()
    assert kept_sockets.keys == {(7, 4)}

    def drop() -> None:
        kept_sockets.drop((7, 4))

    in_a_child(drop)
    kept_sockets.collect()
    assert kept_sockets.keys == set()
    assert kept_sockets.take((7, 4)) is None
    assert theirs.recv(1) == b"", "no copy is open any more"
    theirs.close()


def test_a_second_socket_under_one_key_takes_the_firsts_place() -> None:
    kept_sockets = KeptSockets()
    for text in (b"first", b"second"):

        def put(text: bytes = text) -> None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            theirs.send(text)
            kept_sockets.put((7, 4), ours)

        in_a_child(put)
    kept_sockets.collect()
    taken = kept_sockets.take((7, 4))
    assert taken is not None
    assert taken.recv(100) == b"second"
    taken.close()


def test_too_many_at_once_wait_for_nobody_and_the_first_ones_are_kept() -> None:
    kept_sockets = KeptSockets()
    ours, theirs = socket.socketpair()

    def put() -> None:
        for index in range(1, 2000):
            kept_sockets.put((index, 4), ours)
            kept_sockets.drop((index + 10_000, 4))

    in_a_child(put)
    kept_sockets.collect()
    first = kept_sockets.take((1, 4))
    assert first is not None
    for opened in first, ours, theirs:
        opened.close()


def test_without_a_keeper_and_without_descriptors_nothing_is_raised() -> None:
    kept_sockets = KeptSockets()
    ours, theirs = socket.socketpair()
    kept_sockets.put((7, 4), ours)
    kept_sockets.collect()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (ours.fileno(), limits[1]))
    try:
        assert kept_sockets.take((7, 4)) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    kept_sockets._keepers.close()
    kept_sockets.put((8, 4), ours)
    kept_sockets.drop((8, 4))
    for opened in ours, theirs:
        opened.close()
