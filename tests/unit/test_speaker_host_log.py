"""The log never waits and never raises, and no line is garbled by another."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from holdfast_speaker.host.log import Log


class Pipe:
    """A log, and who reads it."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.stream = open(writer, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # for the test
        self.log = Log(self.stream)

    def read(self) -> list[dict[str, Any]]:
        content = b""
        while True:
            try:
                piece = os.read(self.reader, 65536)
            except BlockingIOError:
                break
            if not piece:
                break
            content += piece
        return [json.loads(line) for line in content.splitlines()]

    def close(self) -> None:
        self.stream.close()
        os.close(self.reader)


def test_a_line_says_what_and_how_bad_it_is() -> None:
    pipe = Pipe()
    pipe.log.warning("look", virtualIP="a/b", code=3)
    (line,) = pipe.read()
    assert {key: value for key, value in line.items() if key != "time"} == {
        "level": "warning",
        "message": "look",
        "virtualIP": "a/b",
        "code": 3,
    }
    pipe.close()


def test_what_a_full_pipe_does_not_take_is_counted_and_told_when_there_is_room() -> None:
    pipe = Pipe()
    for number in range(10_000):
        pipe.log.info(f"line {number}")
    there = pipe.read()
    assert [line["message"] for line in there] == [f"line {number}" for number in range(len(there))]
    pipe.log.error("room")
    pipe.log.error("and more")
    first, second = pipe.read()
    assert first["linesLost"] == 10_000 - len(there)
    assert "linesLost" not in second
    pipe.close()


def test_a_line_that_is_longer_than_a_pipe_takes_whole_is_cut_where_it_says_least() -> None:
    pipe = Pipe()
    pipe.log.error("x" * 100_000 + " the end", traceback="y" * 100_000 + " the reason", code=3)
    for number in range(2000):
        pipe.log.info("z" * 9000 + str(number))
    line, *others = pipe.read()
    assert line["message"].endswith(" the end")
    assert line["traceback"].endswith(" the reason")
    assert line["code"] == 3
    assert {len(other["message"]) for other in others} <= set(range(2000, 2200))
    pipe.close()


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EBADF, errno.EFBIG])
def test_whatever_the_descriptor_refuses_is_only_counted(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()

    def refuse(descriptor: int, content: bytes) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        pipe.log.info("lost")
        pipe.log.info("lost too")
    pipe.log.info("there")
    (line,) = pipe.read()
    assert line["linesLost"] == 2
    pipe.close()


def test_a_closed_descriptor_and_a_reader_that_is_gone_are_no_reason_to_stop() -> None:
    pipe = Pipe()
    os.close(pipe.reader)
    pipe.log.info("nobody reads")
    descriptor = pipe.stream.fileno()
    pipe.stream.close()
    pipe.log.info("nobody writes")
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def test_a_line_that_a_full_disk_cut_off_stays_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = (tmp_path / "log").open("w", encoding="utf-8")
    log = Log(written)
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:20]))
        log.info("cut")
    log.info("whole")
    log.info("and another")
    written.close()
    cut, whole, another = (tmp_path / "log").read_bytes().splitlines()
    assert len(cut) == 20
    assert json.loads(whole)["linesLost"] == 1
    assert json.loads(another)["message"] == "and another"


def test_what_a_dead_engine_lost_is_told_by_its_keeper() -> None:
    pipe = Pipe()
    child = os.fork()
    if child == 0:
        for _ in range(10_000):
            pipe.log.info("from the engine")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    there = len(pipe.read())
    pipe.log.error("from the keeper")
    assert pipe.read()[0]["linesLost"] == 10_000 - there
    pipe.close()


def test_half_characters_and_things_that_are_no_json_are_written_somehow() -> None:
    pipe = Pipe()
    pipe.log.info("a file named \udcff", where=Path("/x"), what={1, 2})
    pipe.log.info("a thing", what=object())
    half, thing = pipe.read()
    assert half["message"] == "a file named \\udcff"
    assert half["where"] == "/x"
    assert "object" in thing["what"]
    pipe.close()
