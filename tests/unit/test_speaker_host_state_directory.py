"""The state directory never stops an engine: what is not readable is ignored, what cannot be written is a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast_api.messages import Transition
from holdfast_api.reasons import Reason, State
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.engine.state import PublishedRouter, PublishedState
from holdfast_speaker.host import clock, state_directory
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.state_directory import StateDirectory
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant

ROUTER = PublishedRouter(virtual_ip="a/b", state=State.MASTER, since="", reason=None, addresses=["10.0.0.9/24"])


NOWHERE = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # for the whole module


def directory(path: Path) -> StateDirectory:
    return StateDirectory(path, Log(NOWHERE))


def test_what_is_saved_is_loaded_by_the_next(tmp_path: Path) -> None:
    state = PublishedState(node_name="n1", pid=1, routers=[ROUTER])
    configuration = SpeakerConfiguration(node_name="n1", generation=7)
    first = directory(tmp_path / "run")
    first.publish(state)
    first.save_configuration(configuration)
    following = directory(tmp_path / "run")
    assert following.load_state() == state
    assert following.load_configuration() == configuration
    assert following.warnings == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_a_corrupt_file_is_ignored_with_a_warning(tmp_path: Path, content: bytes) -> None:
    made = directory(tmp_path / "run")
    (tmp_path / "run" / "state.json").write_bytes(content)
    assert made.load_state() is None
    assert made.warnings == ["state.json was not readable at the start and is ignored"]


def test_a_directory_that_cannot_be_made_is_one_warning_and_no_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made = directory(tmp_path / "file" / "run")
    made.acquire_lock()
    made.publish(PublishedState(node_name="n1", pid=1))
    made.publish(PublishedState(node_name="n1", pid=1))
    assert len([warning for warning in made.warnings if warning.startswith("state.json")]) == 1
    assert not made.successor_waits()


def test_a_configuration_is_for_nobody_else_to_read(tmp_path: Path) -> None:
    directory(tmp_path / "run").save_configuration(SpeakerConfiguration(node_name="n1"))
    assert (tmp_path / "run" / "config.json").stat().st_mode & 0o077 == 0


def test_a_successor_waits_for_the_lock_and_is_seen(tmp_path: Path) -> None:
    made = directory(tmp_path / "run")
    made.acquire_lock()
    assert not made.successor_waits()
    script = (
        "import sys; from pathlib import Path\n"
        "from holdfast_speaker.host.log import Log\n"
        "from holdfast_speaker.host.state_directory import StateDirectory\n"
        "StateDirectory(Path(sys.argv[1]), Log()).acquire_lock()\n"
    )
    waiting = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "run")], stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    assert f"another engine (process {os.getpid()}) runs on" in waiting.stderr.readline()
    while not made.successor_waits():
        assert waiting.poll() is None
    waiting.kill()
    waiting.communicate()
    assert not made.successor_waits()


MOVE = Transition(
    virtual_ip="a/b",
    from_state=State.BACKUP,
    to_state=State.MASTER,
    reason=Reason.MASTER_SILENT,
    message="",
    time="",
)
SLEPT = Duration(90_000 * SECOND)


def test_a_successor_is_told_whether_the_state_was_written(tmp_path: Path) -> None:
    made = directory(tmp_path / "run")
    assert made.publish(PublishedState(node_name="n1", pid=1))
    (tmp_path / "run" / "state.json").unlink()
    (tmp_path / "run" / "state.json").mkdir()
    assert not made.publish(PublishedState(node_name="n1", pid=1))
    (tmp_path / "run" / "state.json").rmdir()
    assert made.publish(PublishedState(node_name="n1", pid=1))
    assert made.warnings == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system without room has to be mounted")
def test_a_full_disk_keeps_the_state_before_and_says_so(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "holdfast-test", tmp_path], check=True)
    try:
        made = directory(tmp_path)
        assert made.publish(PublishedState(node_name="n1", pid=1))
        (tmp_path / "filler").write_bytes(bytes(4096))
        assert not made.publish(PublishedState(node_name="n1", pid=2))
        left = made.load_state()
        assert left is not None
        assert left.pid == 1
        assert made.warnings == ["state.json cannot be written: No space left on device"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_times_are_left_on_the_clock_of_the_first_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "suspended", lambda: SLEPT)
    router = msgspec.structs.replace(ROUTER, recovered_at=Instant(SLEPT + 5))
    state = PublishedState(node_name="n1", pid=1, routers=[router], handed_over_at=SLEPT + 7)
    directory(tmp_path).publish(state)
    written = msgspec.json.decode((tmp_path / "state.json").read_bytes())
    assert written["handedOverAt"] == 7
    assert written["routers"][0]["recoveredAt"] == 5
    monkeypatch.setattr(clock, "suspended", lambda: Duration(2 * SLEPT))
    assert directory(tmp_path).load_state() == state


def test_times_that_the_first_version_left_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "suspended", lambda: SLEPT)
    left = {
        "nodeName": "n1",
        "pid": 1,
        "handedOverAt": 7,
        "boot": "b",
        "version": 1,
        "routers": [
            {
                "virtualIP": "a/b",
                "state": "Master",
                "since": "",
                "reason": "MasterSilent",
                "addresses": ["10.0.0.9/24"],
                "recoveredAt": 5,
                "history": [],
            }
        ],
    }
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(left))
    state = directory(tmp_path).load_state()
    assert state is not None
    assert state.handed_over_at == SLEPT + 7
    assert state.routers[0].recovered_at == SLEPT + 5


def test_nothing_that_the_first_version_does_not_know_is_in_its_part_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = msgspec.structs.replace(MOVE, reason=Reason.HEALTHIER_MASTER)
    monkeypatch.setattr(state_directory, "_FIRST_REASONS", set(Reason) - {Reason.HEALTHIER_MASTER})
    router = msgspec.structs.replace(ROUTER, reason=Reason.HEALTHIER_MASTER, history=[MOVE, newer])
    state = PublishedState(node_name="n1", pid=1, routers=[router])
    directory(tmp_path).publish(state)
    written = msgspec.json.decode((tmp_path / "state.json").read_bytes())
    assert written["routers"][0]["reason"] is None
    assert [move["reason"] for move in written["routers"][0]["history"]] == ["MasterSilent"]
    assert directory(tmp_path).load_state() == state


def test_what_a_later_version_says_in_words_of_its_own_leaves_what_a_router_cannot_go_on_without(
    tmp_path: Path,
) -> None:
    directory(tmp_path).publish(PublishedState(node_name="n1", pid=1, routers=[ROUTER], handed_over_at=10**15))
    file = tmp_path / "state.json"
    later = file.read_bytes().replace(b'"reason":null', b'"reason":"Later","mood":"good"')
    assert b"Later" in later
    file.write_bytes(later.replace(b'"pid":1', b'"pid":1,"later":[1]'))
    state = directory(tmp_path).load_state()
    assert state is not None
    assert state.routers == [ROUTER]


def test_of_a_configuration_that_a_later_version_left_what_is_known_counts(tmp_path: Path) -> None:
    router = VirtualRouterConfiguration(name="a/b", addresses=["10.0.0.9/24"], virtual_router_id=5)
    configuration = SpeakerConfiguration(node_name="n1", generation=7, virtual_routers=[router])
    directory(tmp_path).save_configuration(configuration)
    file = tmp_path / "config.json"
    later = file.read_bytes().replace(b'"generation":7', b'"generation":7,"later":1')
    file.write_bytes(later.replace(b'"virtualRouterID":5', b'"virtualRouterID":5,"later":{}'))
    made = directory(tmp_path)
    assert made.load_configuration() == configuration
    assert made.warnings == []
    file.write_bytes(later.replace(b'"virtualRouterID":5', b'"virtualRouterID":0'))
    assert made.load_configuration() is None
    assert made.warnings == ["config.json was not readable at the start and is ignored"]


def test_a_traceback_with_half_a_character_is_kept(tmp_path: Path) -> None:
    directory(tmp_path).keep_traceback("in \udcff")
    assert (tmp_path / "last-crash.txt").read_text(encoding="utf-8") == "in \\udcff"
