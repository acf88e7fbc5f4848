"""The log never keeps anybody waiting, never fails, and says what it lost."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import threading

import pytest

from holdfast_cli.standalone.log import Log
from holdfast_cli.standalone.output import LINES_MAX, Output

AMPLE = 30.0


def told(lines: int, why: str) -> bytes:
    return f"lost {lines}: {why}\n".encode()


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


def fill(writer: int) -> int:
    """How many bytes it took."""
    os.set_blocking(writer, False)
    filled = 0
    try:
        while True:
            filled += os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
        return filled


def read(reader: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(reader, size - len(data))
    return data


class Disk:
    """What a descriptor takes: so many bytes until it is full, all at once or in part."""

    def __init__(self, monkeypatch, room: int | None) -> None:
        self.room = room
        self.written = b""
        self.refusals = threading.Semaphore(0)
        self.error = errno.ENOSPC
        monkeypatch.setattr(os, "write", self.write)

    def write(self, _: int, data: memoryview) -> int:
        taken = len(data) if self.room is None else min(self.room, len(data))
        if taken == 0:
            self.refusals.release()
            raise OSError(self.error, os.strerror(self.error))
        self.written += bytes(data[:taken])
        if self.room is not None:
            self.room -= taken
        return taken


def test_lines_are_written_in_order(pipe) -> None:
    reader, writer = pipe
    output = Output(writer, told)
    for number in range(100):
        output.put(b"%d\n" % number)
    output.close(AMPLE)
    assert os.read(reader, 65536).split() == [b"%d" % number for number in range(100)]


def test_who_writes_to_a_pipe_that_nobody_reads_is_not_kept_waiting_and_it_is_told_what_was_lost(pipe) -> None:
    reader, writer = pipe
    filled = fill(writer)
    output = Output(writer, told)
    for number in range(LINES_MAX + 50):
        output.put(b"%d\n" % number)
    output.close(0.0)
    read(reader, filled)
    lines: list[bytes] = []
    while not lines or not lines[-1].startswith(b"lost"):
        lines += os.read(reader, 65536).split(b"\n")[:-1]
    # The first may be in the writer's hands already, which leaves room for one more.
    kept = len(lines) - 1
    assert kept in (LINES_MAX, LINES_MAX + 1)
    assert lines[:kept] == [b"%d" % number for number in range(kept)]
    assert lines[-1] == told(LINES_MAX + 50 - kept, "nobody read it").strip()


@pytest.mark.parametrize("error", [errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF])
def test_what_cannot_be_written_is_counted_and_told_once_there_is_room(monkeypatch, error) -> None:
    disk = Disk(monkeypatch, room=0)
    disk.error = error
    output = Output(2, told)
    for _ in range(3):
        output.put(b"line\n")
    for _ in range(4):  # three lines, and the word for them
        assert disk.refusals.acquire(timeout=AMPLE)
    disk.room = None
    output.put(b"after\n")
    output.close(AMPLE)
    assert sorted(disk.written.splitlines()) == [b"after", told(3, os.strerror(error)).strip()]


def test_what_was_lost_is_told_though_nobody_writes_any_more(monkeypatch) -> None:
    disk = Disk(monkeypatch, room=0)
    output = Output(2, told)
    output.put(b"line\n")
    assert disk.refusals.acquire(timeout=AMPLE)
    disk.room = None
    output.close(AMPLE)
    assert disk.written == told(1, os.strerror(errno.ENOSPC))


def test_a_line_that_was_cut_off_is_not_continued_by_the_next(monkeypatch) -> None:
    disk = Disk(monkeypatch, room=4)
    output = Output(2, told)
    output.put(b"a long line\n")
    assert disk.refusals.acquire(timeout=AMPLE)
    disk.room = None
    output.close(AMPLE)
    assert disk.written == b"a lo\n" + told(1, os.strerror(errno.ENOSPC))


def test_a_descriptor_that_somebody_else_made_non_blocking_is_waited_for(pipe) -> None:
    reader, writer = pipe
    filled = fill(writer)
    os.set_blocking(writer, False)
    output = Output(writer, told)
    output.put(b"line\n")
    read(reader, filled)
    output.close(AMPLE)
    assert os.read(reader, 65536) == b"line\n"


class Lines:
    """In place of Output."""

    def __init__(self, monkeypatch) -> None:
        self.written: list[str] = []
        monkeypatch.setattr("holdfast_cli.standalone.log.Output", lambda *_: self)

    def put(self, line: bytes) -> None:
        self.written.append(line.decode())


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "line",
    [
        b'{"message": 3, "virtualIP": ["x"], "level": {}}\n',
        b"{}\n",
        b"Fatal Python error\n",
        b"\xff\xfe\n",
        b'["a list"]\n',
        b'{"message": "\\ud800"}\n',
    ],
)
def test_whatever_the_engine_says_is_shown_on_one_line(monkeypatch, form, line) -> None:
    lines = Lines(monkeypatch)
    Log("debug", form, "n1").relay(line)
    (shown,) = lines.written
    assert shown.endswith("\n")
    assert "n1" in shown


@pytest.mark.parametrize("form", ["text", "json"])
def test_names_that_are_no_text_are_shown(monkeypatch, form) -> None:
    lines = Lines(monkeypatch)
    Log("debug", form, "n1").write("error", os.fsdecode(b"/etc/\xff.yaml is broken"), where=object())
    assert "is broken" in lines.written[0]
    if form == "json":
        assert json.loads(lines.written[0])["node"] == "n1"


def test_what_python_itself_prints_comes_to_the_log(monkeypatch) -> None:
    lines = Lines(monkeypatch)
    log = Log("info", "json", "n1")
    before = sys.stderr
    with log.taking_what_python_prints():
        logging.getLogger("asyncio").error("Task exception was never retrieved")
        logging.getLogger("asyncio").info("too small to be told")
        print("one\ntwo", file=sys.stderr)
    assert sys.stderr is before
    told_lines = [json.loads(line) for line in lines.written]
    messages = [line["message"] for line in told_lines]
    assert messages == ["Task exception was never retrieved", "one", "two"]


def test_an_error_in_the_program_is_told_with_its_traceback(monkeypatch) -> None:
    lines = Lines(monkeypatch)
    log = Log("info", "text", "n1")
    try:
        raise ZeroDivisionError("planted")
    except ZeroDivisionError:
        log.trace()
    assert any("Traceback" in line for line in lines.written)
    assert "ZeroDivisionError: planted" in lines.written[-1]


def transition(before: str, after: str) -> bytes:
    entry = {"time": "T", "level": "info", "message": "moved", "fromState": before, "toState": after}
    return json.dumps(entry).encode()


def written(monkeypatch, stream: str | None, say, level: str = "info", form: str = "text") -> list[str]:
    """The lines of a log whose standard error is a file, with this in JOURNAL_STREAM; None: what systemd would say."""
    reader, writer = os.pipe()
    try:
        found = os.fstat(writer)
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}" if stream is None else stream)
        monkeypatch.setattr("holdfast_cli.standalone.log._STANDARD_ERROR", writer)
        log = Log(level, form, "n1")
        say(log)
        log.close(AMPLE)
        os.write(writer, b"the end")  # what reads an empty pipe would wait
        return os.read(reader, 65536).decode().splitlines()[:-1]
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(("level", "priority"), [("info", 6), ("warning", 4), ("error", 3)])
def test_the_journal_gets_a_priority_and_no_time(monkeypatch, level, priority) -> None:
    (line,) = written(monkeypatch, None, lambda log: log.write(level, "told"))
    assert line == f"<{priority}>{level.upper():7} n1 told"


def test_the_journal_gets_a_priority_before_json_too(monkeypatch) -> None:
    (line,) = written(monkeypatch, None, lambda log: log.write("warning", "told"), form="json")
    assert line.startswith("<4>{")
    assert json.loads(line[3:])["message"] == "told"


@pytest.mark.parametrize("stream", ["", "0:0", "nonsense"])
def test_a_standard_error_that_is_not_the_journal_gets_a_time_and_no_priority(monkeypatch, stream) -> None:
    (line,) = written(monkeypatch, stream, lambda log: log.write("warning", "told"))
    assert line.startswith("20")
    assert line.endswith("Z WARNING n1 told")


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        ("Backup", "Master", True),
        ("Master", "Backup", True),
        ("Master", "Initialize", True),
        ("Initialize", "Backup", False),
        ("Backup", "Initialize", False),
    ],
)
def test_a_move_is_above_info(monkeypatch, before, after, is_told) -> None:
    lines = written(monkeypatch, None, lambda log: log.relay(transition(before, after)), level="notice")
    assert lines == (["<5>NOTICE  n1 moved"] if is_told else [])
