"""What is kept of former engines' moves, how much of it, and what `holdfast why` makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_api.messages import History, Transition
from holdfast_api.reasons import Reason, State
from holdfast_cli.commands import why
from holdfast_cli.standalone import past_moves
from holdfast_cli.standalone.past_moves import keep_moves, kept_moves, together
from holdfast_speaker.engine.state import PublishedRouter, PublishedState
from holdfast_speaker.host.state_directory import StateDirectory
from holdfast_testing.engine_lan import RecordedLog


def move(number: int, name: str = "shop/web", message: str = "") -> Transition:
    return Transition(
        virtual_ip=name,
        from_state=State.BACKUP,
        to_state=State.MASTER,
        reason=Reason.MASTER_SILENT,
        message=message,
        time=f"2026-01-01T00:00:{number // 1000:02}.{number % 1000:03}Z",
    )


def published(folder: Path, *moves: Transition) -> None:
    router = PublishedRouter(
        virtual_ip="shop/web", state=State.MASTER, since="", reason=None, addresses=[], history=list(moves)
    )
    StateDirectory(folder, RecordedLog()).publish(PublishedState(node_name="n1", pid=1, routers=[router]))


def test_what_one_engine_published_is_there_after_the_next_ones(tmp_path: Path) -> None:
    for number in range(3):
        published(tmp_path, move(number))
        keep_moves(tmp_path, kept_moves(tmp_path))
    assert kept_moves(tmp_path) == [move(0), move(1), move(2)]


def test_of_each_vip_the_newest_are_kept(tmp_path: Path) -> None:
    keep_moves(tmp_path, [move(number, name) for number in range(200) for name in ("shop/web", "shop/db")])
    kept = kept_moves(tmp_path)
    assert len(kept) == 2 * past_moves.KEPT
    assert kept[0] == move(200 - past_moves.KEPT)


def test_however_many_vips_there_are_the_file_has_a_limit(tmp_path: Path) -> None:
    keep_moves(tmp_path, [move(number, f"shop/v{number}", "x" * 1000) for number in range(3000)])
    assert (tmp_path / "moves.jsonl").stat().st_size <= past_moves.SIZE_MAX
    assert kept_moves(tmp_path)[-1].virtual_ip == "shop/v2999"


@pytest.mark.parametrize("content", [b"", b"\xff\n", b"{}\n[1", b'{"type":"Transition"}'])
def test_a_file_that_is_damaged_hinders_nothing(tmp_path: Path, content: bytes) -> None:
    keep_moves(tmp_path, [move(1)])
    with (tmp_path / "moves.jsonl").open("ab") as file:
        file.write(content)
    assert kept_moves(tmp_path) == [move(1)]
    keep_moves(tmp_path, [*kept_moves(tmp_path), move(2)])
    assert kept_moves(tmp_path) == [move(1), move(2)]


def test_nothing_is_kept_where_nothing_can_be_written_or_read(tmp_path: Path) -> None:
    assert kept_moves(tmp_path / "nowhere") == []
    with pytest.raises(OSError, match="No such file"):
        keep_moves(tmp_path / "nowhere", [move(1)])
    (tmp_path / "moves.jsonl").mkdir()
    with pytest.raises(OSError, match="directory"):
        keep_moves(tmp_path, [move(1)])


def test_a_move_is_told_once_and_in_its_place() -> None:
    assert together([move(2), move(1)], [move(1), move(3)]) == [move(1), move(2), move(3)]


def test_why_tells_what_was_before_the_engine_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keep_moves(tmp_path, [move(1), move(2, "shop/db")])
    answer = History(virtual_ip="shop/web", transitions=[move(1), move(3)], journal=[])
    monkeypatch.setattr(why, "ask", lambda *_: answer)
    told = CliRunner().invoke(why.command, ["web", "-o", "json", "--state-dir", str(tmp_path)])
    assert told.exit_code == 0, told.output
    moves = json.loads(told.stdout)["moves"]
    assert [one["transition"]["time"] for one in moves] == [move(1).time, move(3).time]
    assert moves[0]["transition"]["reason"] == "MasterSilent"


@pytest.mark.parametrize("failure", [EnvironmentFailure("no engine answers"), ConfigurationError("no VirtualIP web")])
def test_why_tells_what_the_state_directory_has_where_the_engine_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: Exception
) -> None:
    def ask(*_: object) -> None:
        raise failure

    monkeypatch.setattr(why, "ask", ask)
    published(tmp_path, structs.replace(move(1), message="it was silent"))
    told = CliRunner().invoke(why.command, ["web", "--state-dir", str(tmp_path)])
    assert told.exit_code == 0
    assert told.stderr == f"from the state directory: {failure}\n"
    assert told.stdout.endswith("Backup -> Master  MasterSilent: it was silent\n")
    unknown = CliRunner().invoke(why.command, ["db", "--state-dir", str(tmp_path)])
    assert unknown.exception is failure
