"""Many clients of a TCP service at the same time, in a process of their own: each asks, waits for a line, asks again.

Run as `python -m holdfast_testing.load_client ADDRESS PORT CLIENTS PERIOD_MILLISECONDS`; it ends with its standard
input, and then prints what the clients saw as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

ANSWER_SECONDS = 5.0
"""Longer than what a lost SYN waits to be sent again (1 s, then 2 s: RFC 6298); who waits longer has failed."""
START_SECONDS = 20


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What all clients saw together."""

    requests: int
    failed: int
    """Refused, reset, or without an answer."""
    failing_ms: float
    """From when the first of those asked until the last of them asked."""
    problems: tuple[str, ...]
    """What those were told, each once."""
    longest_wait_ms: float
    """Of one that was answered."""
    silence_ms: float
    """The longest time in which no client got an answer."""
    answered_by: tuple[str, ...]
    """The first word of the answers, each once."""
    seen_as: tuple[str, ...]
    """The second one, each once: the client's address, as the server saw it."""


class Load:
    """Clients from the moment the block is entered until it is left."""

    def __init__(self, address: str, port: int, clients: int = 20, period_ms: int = 100) -> None:
        self._arguments = [address, str(port), str(clients), str(period_ms)]
        self._process: subprocess.Popen[str] | None = None
        self._result: LoadResult | None = None

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "holdfast_testing.load_client", *self._arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the clients did not start; they say above why"
        return self

    def result(self) -> LoadResult:
        """What they saw; after the block."""
        assert self._result is not None, "the block has not ended"
        return self._result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        try:
            told, _ = self._process.communicate(timeout=ANSWER_SECONDS + START_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._result = msgspec.json.decode(told, type=LoadResult)


class _Clients:
    def __init__(self, address: str, port: int, period: float) -> None:
        self._target = address, port
        self._period = period
        self._ended = asyncio.Event()
        self.answered: list[float] = []
        self.problems: list[tuple[float, str]] = []
        """When who failed had asked, and what it was told."""
        self.longest = 0.0
        self.words: tuple[set[str], set[str]] = set(), set()

    async def run(self, count: int) -> tuple[float, float]:
        """Until standard input ends; when they began and were told to end, of the monotonic clock."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        begun = time.monotonic()
        clients = [asyncio.create_task(self._client(number / count * self._period)) for number in range(count)]
        await self._ask()
        print("ready", flush=True)
        await reader.read()
        ended = time.monotonic()
        self._ended.set()
        await asyncio.gather(*clients)
        return begun, max([ended, *self.answered[-1:]])

    async def _client(self, delay: float) -> None:
        due = time.monotonic() + delay
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), max(0.0, due - time.monotonic()))
            if not self._ended.is_set():
                await self._ask()
            due = max(due + self._period, time.monotonic())

    async def _ask(self) -> None:
        asked = time.monotonic()
        try:
            answer = await asyncio.wait_for(self._answer(), ANSWER_SECONDS)
        except TimeoutError:
            self.problems.append((asked, "no answer"))
            return
        except OSError as error:
            self.problems.append((asked, os.strerror(error.errno) if error.errno else str(error)))
            return
        if len(answer) != 2:
            self.problems.append((asked, "closed without an answer"))
            return
        now = time.monotonic()
        self.answered.append(now)
        self.longest = max(self.longest, now - asked)
        for seen, word in zip(self.words, answer, strict=True):
            seen.add(word)

    async def _answer(self) -> list[str]:
        reader, writer = await asyncio.open_connection(*self._target)
        try:
            writer.write(b"?\n")
            return (await reader.readline()).decode(errors="replace").split()
        finally:
            writer.close()


def main(address: str, port: int, count: int, period_ms: int) -> None:
    """Be the clients."""
    clients = _Clients(address, port, period_ms / 1e3)
    begun, ended = asyncio.run(clients.run(count))
    moments = [begun, *clients.answered, ended]
    failing = [asked for asked, _ in clients.problems]
    answered_by, seen_as = (tuple(sorted(words)) for words in clients.words)
    result = LoadResult(
        requests=len(clients.answered) + len(clients.problems),
        failed=len(clients.problems),
        failing_ms=(max(failing) - min(failing)) * 1e3 if failing else 0.0,
        problems=tuple(sorted({said for _, said in clients.problems})),
        longest_wait_ms=clients.longest * 1e3,
        silence_ms=max((later - earlier for earlier, later in pairwise(moments)), default=0.0) * 1e3,
        answered_by=answered_by,
        seen_as=seen_as,
    )
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
