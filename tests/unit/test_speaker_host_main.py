"""What an engine begins with: what another one left, or anew, and then it says why."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast_api.messages import Transition
from holdfast_api.reasons import State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine.door import Door
from holdfast_speaker.engine.state import PublishedRouter, PublishedState, Snapshot
from holdfast_speaker.host import __main__ as host
from holdfast_speaker.host import clock
from holdfast_speaker.host.arguments import parse
from holdfast_speaker.host.boot import boot_id
from holdfast_speaker.host.inheritance import Inheritance
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.state_directory import StateDirectory
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Instant

ROUTER = PublishedRouter(virtual_ip="a/b", state=State.MASTER, since="", reason=None, addresses=["10.0.0.9/24"])


class World:
    """A state directory and a log that can be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written = (folder / "log").open("w", encoding="utf-8")
        self.log = Log(self._written)
        self.directory = StateDirectory(folder, self.log)

    def said(self) -> list[str]:
        lines: list[dict[str, Any]] = [json.loads(line) for line in (self.folder / "log").read_bytes().splitlines()]
        return [line["message"] for line in lines]

    def publish(self, ago: int = 0, **fields: Any) -> None:
        left = {"node_name": "n1", "pid": 1, "routers": [ROUTER], "boot": boot_id()}
        self.directory.publish(PublishedState(**{**left, "handed_over_at": clock.now() - ago, **fields}))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_hand_over_of_just_now_is_taken_up(world: World) -> None:
    world.publish(ago=MILLISECOND)
    state = host._handed_over(world.directory, Inheritance(follows_another=True), clock.now(), world.log)
    assert state is not None
    assert state.routers == [ROUTER]
    assert world.said() == []


NOTHING_THAT_COUNTS: dict[str, tuple[Callable[[World], object], str]] = {
    "nothing": (lambda world: None, "left no state that can be read"),
    "no state": (lambda world: (world.folder / "state.json").write_bytes(b'{"routers":'), "left no state that can be"),
    "too old": (lambda world: world.publish(ago=5 * SECOND), "handed over 5.0 s ago, which is too long"),
    "to come": (lambda world: world.publish(ago=-5 * SECOND), "handed over -5.0 s ago, which is too long"),
    "another boot": (lambda world: world.publish(boot="another"), "left a state of another boot of this machine"),
    "no hand-over": (lambda world: world.publish(handed_over_at=0), "did not hand over"),
}


@pytest.mark.parametrize(("left", "told"), NOTHING_THAT_COUNTS.values(), ids=NOTHING_THAT_COUNTS)
def test_a_successor_that_finds_nothing_that_counts_begins_anew_and_says_why(
    world: World, left: Callable[[World], object], told: str
) -> None:
    left(world)
    assert host._handed_over(world.directory, Inheritance(follows_another=True), clock.now(), world.log) is None
    assert [message for message in world.said() if message.startswith(f"the former engine {told}")]
    assert len([message for message in world.said() if message.endswith("beginning anew")]) == 1


def test_who_follows_nobody_has_nothing_to_say_about_it(world: World) -> None:
    world.publish(handed_over_at=0)
    assert host._handed_over(world.directory, Inheritance(), clock.now(), world.log) is None
    assert world.said() == []


def inherited(*, resumes: bool, silent_seconds: float = 0) -> Inheritance:
    inheritance = Inheritance(resumes=resumes)
    state = PublishedState(node_name="n1", pid=1, routers=[ROUTER])
    assert inheritance.keep(Snapshot(configuration=SpeakerConfiguration(node_name="n1", generation=7), state=state))
    inheritance.memory.beat(Instant(clock.now() - int(silent_seconds * SECOND)))
    return inheritance


def test_the_snapshot_of_an_engine_that_just_died_is_gone_on_from(world: World) -> None:
    inheritance = inherited(resumes=True, silent_seconds=5)
    snapshot = host._snapshot(inheritance, world.log)
    assert snapshot is not None
    assert snapshot.state.routers == [ROUTER]
    assert inheritance.resumes
    assert world.said() == []


@pytest.mark.parametrize(("resumes", "silent_seconds"), [(False, 0), (True, 100)], ids=["released", "long ago"])
def test_states_that_do_not_count_any_more_are_forgotten_for_every_engine_to_come(
    world: World, resumes: bool, silent_seconds: float
) -> None:
    inheritance = inherited(resumes=resumes, silent_seconds=silent_seconds)
    first = host._snapshot(inheritance, world.log)
    assert first is not None
    assert first.configuration.generation == 7
    assert not inheritance.resumes
    # The keeper has the next one go on, because this one died.
    inheritance.resumes = True
    inheritance.memory.beat(clock.now())
    following = host._snapshot(inheritance, world.log)
    assert following is not None
    assert following.state.routers == []
    assert following.configuration.generation == 7


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"configuration":{},"state":{}}', b"null"])
def test_a_snapshot_that_is_not_readable_is_one_line_and_begins_anew(world: World, content: bytes) -> None:
    inheritance = Inheritance(resumes=True)
    inheritance.memory.write(content)
    assert host._snapshot(inheritance, world.log) is None
    assert host._snapshot(inheritance, world.log) is None
    (told,) = world.said()
    assert told.startswith("what the engine before this one left is not readable, beginning anew: ")


def test_a_snapshot_that_is_too_large_is_kept_without_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    move = {"type": "Transition", "virtualIP": "a/b", "fromState": "Backup", "toState": "Master"}
    whole = msgspec.convert({**move, "reason": "Switchover", "message": "x" * 10_000, "time": ""}, Transition)
    state = PublishedState(node_name="n1", pid=1, routers=[msgspec.structs.replace(ROUTER, history=[whole])])
    monkeypatch.setattr("holdfast_speaker.host.memory._SLOT_BYTES", 5000)
    inheritance = Inheritance()
    assert inheritance.keep(Snapshot(configuration=SpeakerConfiguration(node_name="n1"), state=state))
    kept = msgspec.json.decode(inheritance.memory.read(), type=Snapshot)
    assert kept.state.routers == [ROUTER]


def test_a_snapshot_that_is_too_large_without_the_past_too_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    inheritance = inherited(resumes=True)
    monkeypatch.setattr("holdfast_speaker.host.memory._SLOT_BYTES", 100)
    state = PublishedState(node_name="n1", pid=1, routers=[ROUTER])
    assert not inheritance.keep(Snapshot(configuration=SpeakerConfiguration(node_name="n1"), state=state))
    assert inheritance.memory.read() == b""


def door(monkeypatch: pytest.MonkeyPatch, *arguments: str, server: str = "10.96.0.1") -> Door:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", server)
    return host._door(parse(["--node-name=n1", "--state-dir=/nowhere", *arguments]))


def test_on_a_host_every_address_may_be_held_unless_somebody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert door(monkeypatch) == Door()
    networks = ["--allowed-network=10.9.0.0/24, fd00::/8", "--allowed-network=10.8.0.1"]
    assert door(monkeypatch, *networks).allowed_networks == ("10.9.0.0/24", "fd00::/8", "10.8.0.1/32")


@pytest.mark.parametrize(
    ("server", "addresses"),
    [
        ("10.96.0.1", ("192.0.2.1/32", "10.96.0.1/32")),
        ("fd00::1", ("192.0.2.1/32", "fd00::1/128")),
        ("api.example", ("192.0.2.1/32",)),
        ("", ("192.0.2.1/32",)),
    ],
)
def test_in_a_pod_the_api_server_and_next_hops_are_never_held(
    monkeypatch: pytest.MonkeyPatch, server: str, addresses: tuple[str, ...]
) -> None:
    told = door(monkeypatch, "--agent-group=65533", "--api-server-address=192.0.2.1", server=server)
    assert told == Door(api_server_addresses=addresses, refuses_next_hops=True)


@pytest.mark.parametrize("unread", [b"", b"x"], ids=["closed", "reset"])
def test_a_supervisor_that_goes_without_a_word_is_no_failure(unread: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(unread)
    theirs.close()
    assert not host._is_told_something(ours.fileno())
    ours.close()
