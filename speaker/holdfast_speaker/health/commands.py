"""Running the command of an `exec` probe or of `notify`: to its end or its timeout, with everything that it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from holdfast_speaker.health.policy import Result, failure

_MESSAGE_BYTES = 200
_READ_BYTES = 4096
_PIPE_BYTES = 65536
_GRACE_SECONDS = 0.5
"""How long a killed command may take to go before it is left behind; only one that hangs in the kernel takes longer."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a command is run as, by numbers."""

    user: int
    group: int
    groups: tuple[int, ...]
    """The others that it is in."""


class Command:
    """One command that is run again and again, never twice at the same time."""

    def __init__(
        self,
        words: Sequence[str],
        environment: Callable[[], Mapping[str, str]] = dict,
        given: bytes = b"",
        identity: Identity | None = None,
    ) -> None:
        """`environment`: asked before each run for the variables that the command has besides this process's own.
        `given`: what it reads from its standard input. `identity`: None: as this process is."""
        self._words = words
        self._environment = environment
        self._given = given
        self._identity = identity
        self._left_behind: _Process | None = None

    async def run(self, timeout_seconds: float) -> Result:
        """Run it once. Exit status 0 is success; a command that cannot be started is a failure.

        At the timeout, and when this coroutine is cancelled, the command's whole process group is killed. A command
        that cannot even be killed (it hangs in the kernel) is a failure until it is gone, and no other is started.
        """
        if self._left_behind is not None and not self._left_behind.ended.is_set():
            return Result(False, f"process {self._left_behind.pid} of an earlier run was killed and does not end")
        try:
            process = _Process(self._words, self._environment(), self._given, self._identity)
        except OSError as error:
            return failure(f"{self._words[0]} cannot be started: {error.strerror}", error)
        except ValueError as error:  # characters that no argument and no variable can have
            return Result(False, f"{self._words[0]} cannot be started: {error}")
        try:
            async with asyncio.timeout(timeout_seconds):
                await process.ended.wait()
            return process.result()
        except TimeoutError:
            return Result(False, f"{self._words[0]} did not end within {timeout_seconds:g} s")
        finally:
            await self._clear_away(process)

    async def _clear_away(self, process: _Process) -> None:
        if not process.ended.is_set():
            process.kill()
            self._left_behind = process
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    await process.ended.wait()
        finally:
            process.close_stderr()


class _Process:
    """A started command, followed through its pidfd: no thread per process, and no waiting for inherited pipes.

    asyncio's own subprocesses wait in a thread each on Python 3.11, and hang on a pipe that a grandchild keeps open.
    """

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], given: bytes, identity: Identity | None
    ) -> None:
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tail = b""
        stdin = _file_of(given) if given else subprocess.DEVNULL
        try:
            self._stderr, write_end = os.pipe()
        except OSError:
            _close(stdin)
            raise
        os.set_blocking(self._stderr, False)
        try:
            # The command is the user's own, run without a shell.
            self._popen = subprocess.Popen(  # noqa: S603
                words,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=write_end,
                env={**os.environ, **environment},
                start_new_session=True,
                user=identity.user if identity else None,
                group=identity.group if identity else None,
                extra_groups=identity.groups if identity else None,
            )
        except BaseException:
            os.close(self._stderr)
            raise
        finally:
            os.close(write_end)
            _close(stdin)
        try:
            self._pidfd = os.pidfd_open(self._popen.pid)
        except OSError:  # no file descriptor left: a command that nobody can follow must not run
            self.kill()
            self._popen.wait()
            os.close(self._stderr)
            raise
        self._loop.add_reader(self._stderr, self._read)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def kill(self) -> None:
        """Kill the command and all that it started (its session's process group). Only before `ended`.

        Until it is reaped, which happens on this loop, its id cannot be another's.
        """
        os.killpg(self._popen.pid, signal.SIGKILL)

    def result(self) -> Result:
        """Of a command that has ended."""
        status = self._popen.returncode
        if status == 0:
            return Result(True)
        told = f"killed by signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"exit status {status}"
        self._read(_PIPE_BYTES)
        last = _last_line(self._tail.decode(errors="replace"))
        return Result(False, f"{told}: {last}" if last else told)

    def close_stderr(self) -> None:
        """Stop listening; what still runs and writes gets EPIPE."""
        self._loop.remove_reader(self._stderr)
        os.close(self._stderr)

    def _reap(self) -> None:
        if self._popen.poll() is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self.ended.set()

    def _read(self, size: int = _READ_BYTES) -> None:
        try:
            read = os.read(self._stderr, size)
        except BlockingIOError:
            return
        if read:
            self._tail = (self._tail + read)[-_MESSAGE_BYTES:]
        else:
            self._loop.remove_reader(self._stderr)


def _file_of(given: bytes) -> int:
    """A file in memory, at its beginning: a pipe would keep waiting for one that does not read."""
    descriptor = os.memfd_create("stdin")
    try:
        left = memoryview(given)
        while left:
            left = left[os.write(descriptor, left) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _close(descriptor: int) -> None:
    if descriptor >= 0:  # what subprocess means by DEVNULL is below
        os.close(descriptor)


def _last_line(text: str) -> str:
    """The last line that says something, without what would disturb a terminal."""
    lines = ("".join(filter(str.isprintable, line)).strip() for line in reversed(text.splitlines()))
    return next(filter(None, lines), "")
