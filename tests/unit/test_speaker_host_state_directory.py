"""The state directory never stops an engine: what is not readable is ignored, what cannot be written is a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast_api.reasons import State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine.state import PublishedRouter, PublishedState
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.state_directory import StateDirectory

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
