"""A journal is bounded and whole, and plays to the same transitions and requests; anything else is refused by line."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_api.messages import History
from holdfast_api.reasons import Health
from holdfast_cli.commands import replay, why
from holdfast_speaker.engine import journal, reports
from holdfast_speaker.engine.inputs import Inputs
from holdfast_speaker.engine.journal import RecordedEngine
from holdfast_speaker.engine.ports import Request
from holdfast_speaker.engine.replay import Played, play, read
from holdfast_speaker.vrrp.instants import Instant
from holdfast_testing.recording import Lan, Node, configuration, story, vip

SUPPORT = Path(__file__).parents[1] / "support"

VERSION_1 = (
    b'{"checkpoint":{"configuration":{"addresses":["CgAACQ=="]},"health":"Healthy","obstacles":[],"recovered_at":null,'
    b'"state":{"Initialize":{}}},"journal":1,"virtualIP":"shop/web"}'
)


def holder(milliseconds: int = 1500, **spec: Any) -> Node:
    """A node that holds a VIP."""
    node = Lan().add()
    node.inputs.configure(configuration(node, vip("web", 51, "10.0.0.200/24", **spec)), node.lan.time)
    node.lan.run(milliseconds)
    return node


@cache
def short() -> tuple[bytes, ...]:
    """The journal of a node that started, held, and stopped."""
    node = holder()
    node.inputs.stop(node.lan.time)
    return tuple(node.journal)


@cache
def long() -> tuple[bytes, ...]:
    return tuple(story().journal)


def same(played: list[Played]) -> list[bool]:
    return [one.recorded == one.replayed and not one.difference for one in played]


def edited(lines: tuple[bytes, ...], change: Callable[[dict[str, Any]], object]) -> list[bytes]:
    """A journal in which a change was made to every input; one that changes nothing is left as it is."""
    found = []
    for line in lines:
        told = json.loads(line)
        if told.get("line") == "input":
            change(told)
        found.append(line if told == json.loads(line) else msgspec.json.encode(told))
    return found


# ----- recording -----


def test_everything_that_an_engine_is_told_is_recorded_and_can_be_played() -> None:
    inputs = {name for name, _ in inspect.getmembers(Inputs, inspect.isfunction) if not name.startswith("_")}
    recorded = {name for name, _ in inspect.getmembers(RecordedEngine, inspect.isfunction) if not name.startswith("_")}
    node = holder()
    now = node.lan.time
    calls: dict[str, tuple[Any, ...]] = {
        "go_on_from": ([], now),
        "clean_up_after": ([],),
        "expect_first_holds": ({"web": "n2"},),
        "switchover": ("web", "n2", now),
        "receive": (node.listeners()[0], [], now),
        "hear": (node.link, [], now),
        "report_health": ("web", Health.HEALTHY, "", now),
        "configure": (configuration(node), now),
        "take_in": (now,),
        "poll": (Instant(now + 10**9),),
        "step_aside": (now,),
        "hand_over": (now,),
        "stop": (now,),
    }
    assert recorded == inputs == calls.keys()
    for name, arguments in calls.items():
        getattr(node.inputs, name)(*arguments)
    verbs = {json.loads(line).get("verb") for line in node.journal}
    assert inputs <= verbs
    assert all(same(list(play(node.journal))))


def test_a_poll_before_anything_is_due_is_no_input() -> None:
    node = holder()
    before = len(node.journal)
    for _ in range(100):
        node.inputs.poll(node.lan.time)
    assert len(node.journal) == before


def test_what_cannot_be_done_is_an_input_and_still_refused() -> None:
    node = holder()
    with pytest.raises(ConfigurationError, match="no VirtualIP db"):
        node.inputs.switchover("db", "n2", node.lan.time)
    assert json.loads(node.journal[-2])["verb"] == "switchover"
    assert all(same(list(play(node.journal))))


def test_to_ask_for_a_status_changes_nothing() -> None:
    node = story()
    before = node.engine.checkpoint()
    reports.status(node.engine, node.lan.time, pid=1, real_time=None, warnings=[], restarts=0, last_death="")
    assert node.engine.checkpoint() == before


def test_a_journal_is_bounded_and_plays_from_any_of_its_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 5000)
    found: dict[bytes, list[bytes]] = {}

    def collect(node: Node) -> None:
        lines = node.journal
        segments = node.recorded.journal._segments if node.recorded else []
        assert len(segments) <= 2
        assert all(segment.size < max(5000, 2 * len(segment.head)) + 20_000 for segment in segments)
        found[lines[0]] = lines

    story(collect)
    assert len(found) > 8
    for lines in found.values():
        played = list(play(lines))
        assert all(same(played)), played


def test_of_a_journal_that_is_too_long_for_an_answer_the_last_segment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 5000)
    node = story()
    whole = node.journal
    monkeypatch.setattr(journal, "ANSWER_BYTES", 10)
    part = node.journal
    assert len(part) < len(whole)
    assert part[1:-1] == whole[-len(part) + 1 : -1]
    assert all(same(list(play(part))))


def test_a_value_that_comes_again_is_written_once() -> None:
    adverts = [line for line in short() if b'"payload"' in line]
    sent = sum(question[0] == "send" for line in short()[1:] for question in json.loads(line).get("asked", []))
    assert sent > 5
    assert len(adverts) == 2, "one priority while it holds, and 0 when it stops"


def test_what_the_kernel_failed_to_answer_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    node = holder()

    def fail(_requests: list[Request]) -> list[int]:
        raise EnvironmentFailure("the kernel does not answer")

    monkeypatch.setattr(node.kernel, "apply", fail)
    node.inputs.stop(node.lan.time)
    assert b'{"failure":"the kernel does not answer"}' in b"\n".join(node.journal)
    assert all(same(list(play(node.journal))))


# ----- playing -----


def test_a_whole_life_plays_to_the_same_transitions() -> None:
    played = list(play(long()))
    assert len(played) > 15
    assert all(same(played))


def test_an_engine_that_decides_otherwise_is_seen() -> None:
    lines = [line.replace(b'"NoMasterHeard"', b'"MasterSilent"') for line in short()]
    assert same(list(play(lines))) == [True, False, True]


def without_questions(told: dict[str, Any]) -> None:
    told["asked"] = [question for question in told.get("asked", []) if question[0] != "send"]


def with_one_more(told: dict[str, Any]) -> None:
    if told["verb"] == "stop":
        told["asked"].append(["send", [2, {}], 0])


def with_another(told: dict[str, Any]) -> None:
    for question in told.get("asked", []):
        if question[0] == "send":
            question[1] = [3, {}]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without_questions, r"send\(.* is asked where transmit\(.* was recorded"),
        (with_one_more, r"nothing is asked where send\(2,\{\}\) was recorded"),
        (with_another, r"send\(2,.* is asked where send\(3,\{\}\) was recorded"),
    ],
)
def test_an_engine_that_asks_otherwise_is_seen_and_nothing_is_played_after_it(
    change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    lines = edited(short(), change)
    *before, last = play(lines)
    assert all(same(before))
    assert re.match(r"line \d+: " + sentence, last.difference)
    number = int(last.difference.split()[1].rstrip(":"))
    assert lines[number - 1] != short()[number - 1]


def run(arguments: list[str], seed: int, given: bytes = b"") -> bytes:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(SUPPORT)}
    command = [sys.executable, "-m", "holdfast_testing.recording", *arguments]
    return subprocess.run(command, input=given, env=environment, check=True, capture_output=True).stdout


def test_decisions_and_requests_do_not_depend_on_the_order_of_hashes() -> None:
    journals = {run([], seed) for seed in range(4)}
    assert len(journals) == 1
    (recorded,) = journals
    played = {run(["play"], seed, recorded) for seed in range(4)}
    assert len(played) == 1
    assert all(before == now and not difference for _, before, now, difference in json.loads(played.pop()))


# ----- what is no journal -----

HEAD = short()[:1]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            [VERSION_1],
            "line 1: .* of version 1, written by an earlier Holdfast, of one .*; Holdfast .* replays version 2$",
        ),
        (
            [b'{"journal":3,"holdfast":"7.1"}'],
            "line 1: .* version 3, written by Holdfast 7.1; .* replays version 2$",
        ),
        ([], "line 1: is not the head of a journal: there is nothing"),
        ([b""], "line 1: is not a line of a journal"),
        ([b"[]"], "line 1: is not the head of a journal"),
        ([b"7"], "line 1: is not the head of a journal"),
        ([b'{"journal":true}'], "line 1: is not the head of a journal"),
        ([b'{"journal":2}'], "line 1: is not the head of a journal of Holdfast"),
        ([b"{"], "line 1: is not a line of a journal"),
        ([b"\xff\x00\x17ELF"], "line 1: is not a line of a journal"),
        ([b"[" * 100_000], "line 1: is not a line of a journal"),
        ([b'{"apiVersion":"v1","kind":"List"}'], "line 1: is not the head of a journal"),
        ([*HEAD, b'{"line":"input","verb":"sing","at":1}'], "line 2: is not a line of a journal"),
        ([*HEAD, b'{"line":"input","verb":"poll"}'], "line 2: is not a line of a journal: poll has no time"),
        ([*HEAD, b'{"line":"input","verb":"hear","at":1,"arguments":{"is":7}}'], "line 2: .*there is no value 7"),
        ([*HEAD, b'{"line":"input","verb":"receive","at":1,"arguments":[1]}'], "line 2: is not a line of a journal"),
        ([*short()[:-1]], f"line {len(short())}: the journal is cut off here"),
        ([*short()[:5], short()[5][:-3]], "line 6: is not a line of a journal"),
        ([*HEAD, short()[-1]], "line 2: .* lines shall be before it: some are not there"),
    ],
)
def test_what_is_no_journal_is_refused_by_line(lines: list[bytes], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        list(play(lines))
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_any_lines_play_or_are_refused(text: list[bytes]) -> None:
    for head in ([], HEAD):
        with contextlib.suppress(ConfigurationError):
            list(play([*head, *text]))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_journal_plays_or_is_refused(data: st.DataObject) -> None:
    lines = [*short()]
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.integers(0, len(lines) - 1))
        line = lines[number]
        at = data.draw(st.integers(0, len(line) - 1))
        put = data.draw(st.sampled_from([b"", b"0", b"9", b"-", b'"', b"null", b"[]", b",", b"a", b"\xff"]))
        lines[number] = line[:at] + put + line[at + data.draw(st.integers(0, 6)) :]
    with contextlib.suppress(ConfigurationError):
        list(play(lines))


# ----- commands -----


def test_replay_prints_every_transition(tmp_path: Path) -> None:
    file = tmp_path / "web.journal"
    file.write_bytes(b"\n".join(short()) + b"\n")
    told = CliRunner().invoke(replay.command, [str(file)])
    assert told.exit_code == 0
    assert [line.split("  ")[:2] for line in told.output.splitlines()] == [
        ["same", "configure"],
        ["same", "poll"],
        ["same", "stop"],
    ]
    _, _, time, virtual_ip, addresses, move, why = told.output.splitlines()[1].split("  ")
    assert datetime.fromisoformat(time)
    assert (virtual_ip, addresses, move) == ("default/web", "10.0.0.200/24", "Backup -> Master")
    assert why == "NoMasterHeard: no Master was heard"


def test_replay_prints_both_where_this_version_decides_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "web.journal"
    file.write_bytes(b"\n".join(short()).replace(b'"NoMasterHeard"', b'"MasterSilent"'))
    told = CliRunner().invoke(replay.command, [str(file)])
    assert told.exit_code == 1
    assert [line.split("  ")[0] for line in told.output.splitlines()] == ["same", "DIFFERS", "recorded", "same"]


def test_replay_says_in_one_line_what_is_asked_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "web.journal"
    file.write_bytes(b"\n".join(edited(short(), with_one_more)))
    told = CliRunner().invoke(replay.command, [str(file)])
    assert told.exit_code == 1
    assert told.output.splitlines()[-1].startswith("DIFFERS  stop  line ")
    assert len(told.output.splitlines()) == 4


def test_replay_names_the_file_and_the_line_of_what_is_no_journal(tmp_path: Path) -> None:
    file = tmp_path / "web.journal"
    file.write_bytes(VERSION_1)
    told = CliRunner().invoke(replay.command, [str(file)])
    assert isinstance(told.exception, ConfigurationError)
    assert str(told.exception).startswith(f"{file}: line 1: is the head of a journal of version 1")


def test_why_tells_what_was_heard_last_of_this_vip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    node = story()
    instance = node.engine.instances["default/web"]
    answer = reports.history(node.engine.instances, instance.name, node.recorded.journal if node.recorded else None)
    assert isinstance(answer, History)
    monkeypatch.setattr(why, "ask", lambda _directory, _request: answer)
    file = tmp_path / "web.journal"
    told = CliRunner().invoke(why.command, ["web", "--journal", str(file), "--state-dir", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert "Master -> Backup  Switchover" in told.output
    assert "last heard of 10.0.0.12: priority 100, 0.000 s before" in told.output
    assert "last heard of 10.0.0.11" not in told.output
    assert all(same(list(play(file.read_bytes().splitlines()))))


def test_a_journal_is_read_without_being_played() -> None:
    head, inputs = read(long())
    assert head.node == "n1"
    assert sum(recorded.verb == "configure" for recorded in inputs) == 4
