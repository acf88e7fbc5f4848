"""Lines on their way to standard error, which never keep the one who writes them waiting.

Standard error is somebody else's: a pipe that nobody reads any more, a full disk, a terminal that was closed. A write
there can wait for ever or fail at any time, and whoever holds a VIP can do neither.
"""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable

LINES_MAX = 2000
"""That wait while nobody takes them; what comes then is lost."""

_BYTES_MAX = 4 * 1024 * 1024
_TRY_AGAIN_SECONDS = 1.0


class Output:
    """A thread that writes lines to a descriptor, in order; lines that cannot be written are counted.

    How many were lost is told in a line of its own as soon as one can be written again.
    """

    def __init__(self, descriptor: int, tell_lost: Callable[[int, str], bytes]) -> None:
        """`tell_lost`: the line for so many lost lines, and for why."""
        self._descriptor = descriptor
        self._tell_lost = tell_lost
        # Its put may interrupt itself: a destructor that Python runs in the middle of it may write too.
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._counting = threading.RLock()
        self._bytes_waiting = 0
        self._lost = 0
        self._why = ""
        self._is_torn = False
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue one line, which ends with a newline."""
        with self._counting:
            if self._waiting.qsize() >= LINES_MAX or self._bytes_waiting + len(line) > _BYTES_MAX:
                self._lost += 1
                self._why = "nobody read it"
                return
            self._bytes_waiting += len(line)
        self._waiting.put(line)

    def close(self, within_seconds: float) -> None:
        """Write what waits, if that can be done in time. What hangs then goes on hanging, and with the process."""
        self._waiting.put(None)
        self._thread.join(within_seconds)

    def _work(self) -> None:
        while True:
            try:
                line = self._waiting.get(timeout=_TRY_AGAIN_SECONDS if self._lost else None)
            except queue.Empty:
                self._own_up()
                continue
            if line is None:
                self._own_up()
                return
            with self._counting:
                self._bytes_waiting -= len(line)
            self._pass_on(line)
            if self._waiting.empty():
                self._own_up()

    def _pass_on(self, line: bytes) -> None:
        why = self._write(line)
        if why:
            with self._counting:
                self._lost += 1
                self._why = why

    def _own_up(self) -> None:
        with self._counting:
            lost, why = self._lost, self._why
        if lost and not self._write(self._tell_lost(lost, why)):
            with self._counting:
                self._lost -= lost

    def _write(self, line: bytes) -> str:
        """Returns why it could not be written; empty: it was."""
        begun = b"\n" if self._is_torn else b""
        data = begun + line
        left = memoryview(data)
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # somebody who shares the descriptor made it so
                    select.select([], [self._descriptor], [])
        except OSError as error:
            written = len(data) - len(left)
            self._is_torn = written > len(begun) or (self._is_torn and written == 0)
            return error.strerror or str(error)
        self._is_torn = False
        return ""
