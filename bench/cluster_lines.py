"""How the bench's processes talk: a JSON object a line, commands to a child's standard input, news from its output.

Times are of CLOCK_MONOTONIC, which is the same for every process of a machine.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from holdfast_api.errors import EnvironmentFailure

Line = dict[str, Any]


def tell(**fields: Any) -> None:
    """News from a child."""
    print(json.dumps(fields), flush=True)


async def commands() -> AsyncIterator[Line]:
    """What a child is told, until its parent closes the pipe."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


class Child:
    """A process of the bench; what it writes to standard error goes to a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self._name, self._log = name, log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._news: Queue[Line] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._news.put(json.loads(line))

    def say(self, **fields: Any) -> None:
        """A command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(fields) + "\n")
        self._process.stdin.flush()

    def forget(self) -> None:
        """Pass over the news so far."""
        while not self._news.empty():
            self._news.get()

    def wait_for(self, wanted: Callable[[Line], bool], seconds: float) -> Line | None:
        """The next news of that kind, the others are passed over; None: there was none in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                line = self._news.get(timeout=min(left, 1.0))
            except Empty:
                if self._process.poll() is not None:
                    last = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
                    raise EnvironmentFailure(f"{self._name} has ended: {' | '.join(last)}") from None
                continue
            if wanted(line):
                return line
        return None

    def end(self) -> None:
        """End it, with nothing that it would say."""
        self._process.kill()
        self._process.wait()
