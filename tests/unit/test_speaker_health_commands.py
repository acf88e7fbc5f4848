"""Commands of probes, with real processes."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from holdfast_speaker.health.commands import Command
from holdfast_speaker.health.policy import Result

LONG = 60.0  # what a command that sleeps would take if nobody killed it
AMPLE = 30.0


def run(*words, timeout=AMPLE):
    return asyncio.run(Command(words).run(timeout))


def shell(script, timeout=AMPLE):
    return run("/bin/sh", "-c", script, timeout=timeout)


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def files_open():
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(condition):
    deadline = time.monotonic() + AMPLE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def test_exit_status_0_is_success():
    assert run("true") == Result(True)


def test_the_exit_status_is_told():
    assert shell("exit 3") == Result(False, "exit status 3")


def test_the_last_line_of_stderr_is_told():
    assert shell("echo first >&2; echo out; echo 'no route' >&2; echo >&2; exit 1") == Result(
        False, "exit status 1: no route"
    )


def test_a_long_last_line_is_cut_to_its_end():
    found = shell("head -c 300000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1")
    assert found.message.endswith("xend")
    assert len(found.message) == len("exit status 1: ") + 199  # the newline is the 200th


def test_characters_that_disturb_a_terminal_are_left_out():
    assert shell("printf 'a\\033[31mb\\377\\n' >&2; exit 1").message == "exit status 1: a[31mb\ufffd"


def test_a_signal_is_told():
    assert shell("kill -TERM $$") == Result(False, "killed by signal 15 (Terminated)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/nonexistent/check", "-x"], "/nonexistent/check cannot be started: No such file or directory"),
        (["/etc/passwd"], "/etc/passwd cannot be started: Permission denied"),
        (["true", "a\0b"], "true cannot be started: embedded null byte"),
    ],
)
def test_a_command_that_cannot_be_started_is_a_failure(words, message):
    assert run(*words) == Result(False, message)


def test_a_command_that_cannot_be_started_leaves_no_file_open():
    before = files_open()
    for _ in range(3):
        run("/nonexistent/check")
        run("true")
    assert files_open() <= before


def test_no_shell_is_involved(tmp_path):
    file = tmp_path / "seen"
    assert run(
        sys.executable,
        "-c",
        "import sys; open(sys.argv[1], 'w').write(sys.argv[2])",
        str(file),
        "$HOME; `id`",
    ).ok
    assert file.read_text() == "$HOME; `id`"


def test_a_command_has_what_it_is_given_besides_the_environment_of_this_process(tmp_path, monkeypatch):
    monkeypatch.setenv("OURS", "of this process")
    file = tmp_path / "seen"
    given = {"GIVEN": "first"}
    command = Command(["/bin/sh", "-c", f'echo "$OURS, $GIVEN" >> {file}'], lambda: given)

    async def twice():
        results = [await command.run(AMPLE)]
        given["GIVEN"] = "second"
        return [*results, await command.run(AMPLE)]

    assert asyncio.run(twice()) == [Result(True), Result(True)]
    assert file.read_text().splitlines() == ["of this process, first", "of this process, second"]


def test_a_variable_that_no_environment_can_have_is_a_failure():
    command = Command(["true"], lambda: {"GIVEN": "a\0b"})
    assert asyncio.run(command.run(AMPLE)) == Result(False, "true cannot be started: embedded null byte")


def test_at_the_timeout_the_command_and_all_that_it_started_are_killed(tmp_path):
    file = tmp_path / "pids"
    found = shell(f"sleep {LONG} & echo $! >> {file}; echo $$ >> {file}; wait", timeout=0.5)
    assert found == Result(False, "/bin/sh did not end within 0.5 s")
    pids = [int(line) for line in file.read_text().split()]
    assert len(pids) == 2
    wait_until(lambda: all(map(gone, pids)))


def test_a_command_that_ignores_signals_is_killed_all_the_same():
    found = shell(f"trap '' TERM INT HUP; sleep {LONG}", timeout=0.3)
    assert found == Result(False, "/bin/sh did not end within 0.3 s")


def test_a_grandchild_that_keeps_stderr_open_does_not_hold_up_the_result(tmp_path):
    file = tmp_path / "pid"
    began = time.monotonic()
    found = shell(f"sleep {LONG} & echo $! > {file}; echo bad >&2; exit 4", timeout=LONG)
    assert found == Result(False, "exit status 4: bad")
    assert time.monotonic() - began < LONG / 2
    os.kill(int(file.read_text()), 9)


def test_endless_output_is_no_more_than_a_timeout():
    assert shell("yes >&2", timeout=0.3) == Result(False, "/bin/sh did not end within 0.3 s")


def test_a_cancelled_run_kills_its_command(tmp_path):
    file = tmp_path / "pid"

    async def cancel():
        task = asyncio.create_task(Command(["/bin/sh", "-c", f"echo $$ > {file}; sleep {LONG}"]).run(LONG))
        while not (file.exists() and file.read_text().strip()):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    wait_until(lambda: gone(int(file.read_text())))


def test_a_command_that_survives_its_killing_is_a_failure_and_nothing_is_started_beside_it(tmp_path, monkeypatch):
    file = tmp_path / "pids"
    command = Command(["/bin/sh", "-c", f"echo $$ >> {file}; exec sleep {LONG}"])

    async def scene():
        # Stands for a process that hangs in the kernel, which no test can make: SIGKILL is not delivered.
        monkeypatch.setattr("os.killpg", lambda pid, signal: None)
        first = await command.run(0.3)
        pid = int(file.read_text())
        second = await command.run(AMPLE)
        monkeypatch.undo()
        os.kill(pid, 9)
        while (third := await command.run(0.3)).message.startswith("process"):
            await asyncio.sleep(0.01)
        return pid, first, second, third

    pid, first, second, third = asyncio.run(scene())
    assert first.message == third.message == "/bin/sh did not end within 0.3 s"
    assert second.message == f"process {pid} of an earlier run was killed and does not end"
    assert len(file.read_text().split()) == 2
