"""Sockets outlive the engine that opened them, with what is queued in them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

from holdfast_speaker.host.safekeeping import Safekeeping


def in_a_child(do: Callable[[], None]) -> None:
    """Run something in a process that is killed as soon as it has done it."""
    child = os.fork()
    if child == 0:
        do()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_socket_is_there_for_the_next_engine_with_its_queue() -> None:
    keeping = Safekeeping()
    far = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def engine() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs.send(b"queued")
        keeping.put((7, 4), ours)

    in_a_child(engine)
    far.close()
    keeping.collect()
    taken = keeping.take((7, 4))
    assert taken is not None
    assert taken.recv(100) == b"queued"
    taken.close()
    again = keeping.take((7, 4))
    assert again is not None, "the keeper keeps its copy"
    again.close()


def test_what_an_engine_dropped_is_closed_and_forgotten() -> None:
    keeping = Safekeeping()
    ours, theirs = socket.socketpair()

    def put() -> None:
        keeping.put((7, 4), ours)

    in_a_child(put)
    ours.close()
    keeping.collect()
    assert keeping.keys == {(7, 4)}

    def drop() -> None:
        keeping.drop((7, 4))

    in_a_child(drop)
    keeping.collect()
    assert keeping.keys == set()
    assert keeping.take((7, 4)) is None
    assert theirs.recv(1) == b"", "no copy is open any more"
    theirs.close()


def test_a_second_socket_under_one_key_takes_the_firsts_place() -> None:
    keeping = Safekeeping()
    for text in (b"first", b"second"):

        def put(text: bytes = text) -> None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            theirs.send(text)
            keeping.put((7, 4), ours)

        in_a_child(put)
    keeping.collect()
    taken = keeping.take((7, 4))
    assert taken is not None
    assert taken.recv(100) == b"second"
    taken.close()
