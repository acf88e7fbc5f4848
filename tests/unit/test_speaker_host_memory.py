"""What survives an engine: the last whole snapshot, and when it last ran."""

from __future__ import annotations

import os
import signal
import time

from hypothesis import given
from hypothesis import strategies as st

from holdfast_speaker.host.memory import Memory
from holdfast_speaker.vrrp.instants import Duration, Instant


def test_new_memory_holds_nothing() -> None:
    memory = Memory()
    assert memory.read() == b""
    assert memory.heartbeat == 0


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=8))
def test_the_last_snapshot_is_read_whatever_was_there_before(snapshots: list[bytes]) -> None:
    memory = Memory()
    for snapshot in snapshots:
        assert memory.write(snapshot)
    assert memory.read() == snapshots[-1]


def test_a_snapshot_that_is_too_large_leaves_none_rather_than_one_that_is_not_true_any_more() -> None:
    memory = Memory()
    assert memory.write(b"small")
    assert not memory.write(bytes(17 * 1024 * 1024))
    assert memory.read() == b""
    assert memory.write(b"small again")
    assert memory.read() == b"small again"


def test_patience_and_heartbeat_are_apart() -> None:
    memory = Memory()
    memory.beat(Instant(1))
    memory.patience = Duration(2)
    assert (memory.heartbeat, memory.patience) == (1, 2)


def test_what_a_child_wrote_before_it_was_killed_is_read_by_the_parent() -> None:
    memory = Memory()
    child = os.fork()
    if child == 0:
        memory.beat(Instant(4711))
        memory.write(b"from the child")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert memory.read() == b"from the child"
    assert memory.heartbeat == 4711


def test_a_writer_killed_at_any_moment_leaves_a_whole_snapshot() -> None:
    memory = Memory()
    memory.write(b"a" * 100_000)
    for delay in range(20):
        child = os.fork()
        if child == 0:
            while True:
                for letter in (b"b", b"c", b"d"):
                    memory.write(letter * 100_000)
        time.sleep(0.001 + delay / 20_000)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        snapshot = memory.read()
        assert len(snapshot) == 100_000
        assert len(set(snapshot)) == 1
