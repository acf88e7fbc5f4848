"""One connection to the engine's control socket: requests and their answers in order, transitions in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from holdfast_api.errors import EnvironmentFailure
from holdfast_api.messages import Answer, Request, Started, Transition

_LINE_BYTES_MAX = 16 * 1024 * 1024
_ANSWER_SECONDS = 5.0
_DECODER: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
_ENCODER = msgspec.json.Encoder()


class EngineAway(EnvironmentFailure):
    """The engine cannot be talked to now."""


class EngineConnection:
    """Connected until `ended` is done."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        identity: tuple[int, int],
        on_transition: Callable[[Transition], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_transition = on_transition
        self._waiting: deque[asyncio.Future[Answer]] = deque()
        self.identity = identity
        """Of the socket file: another one at the same path is another engine's."""
        self.ended = asyncio.create_task(self._read(), name="answers of the engine")

    @classmethod
    async def open(cls, path: Path, on_transition: Callable[[Transition], None]) -> EngineConnection:
        """Connect to the engine that listens at `path`. Raises EngineAway."""
        try:
            identity = identity_of(path)
            reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_BYTES_MAX)
        except FileNotFoundError as error:
            raise EngineAway(f"there is no engine: {path} does not exist") from error
        except PermissionError as error:
            raise EngineAway(f"no permission to connect to {path}: the engine's --agent-group must be ours") from error
        except OSError as error:
            raise EngineAway(f"no engine listens on {path}: {error.strerror or error}") from error
        return cls(reader, writer, identity, on_transition)

    async def ask(self, request: Request, seconds: float = _ANSWER_SECONDS) -> Answer:
        """Send one request and wait for its answer. Raises EngineAway, and hangs up on an engine that is too slow."""
        if self.ended.done():
            raise EngineAway("the engine closed the connection")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._writer.write(_ENCODER.encode(request) + b"\n")
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            self.close()
            raise EngineAway(f"the engine did not answer within {seconds:.0f} s") from error

    def close(self) -> None:
        """Hang up; who waits for an answer is told EngineAway."""
        self._writer.close()

    async def _read(self) -> None:
        """Hand on what the engine says until it hangs up. What it says last is the reason for those who wait."""
        reason = "the engine closed the connection"
        try:
            while line := await self._reader.readline():
                self._take_in(_DECODER.decode(line))
        except msgspec.DecodeError as error:
            # Cut off in the middle, or of another version: in either case nothing after it can be trusted.
            reason = f"the engine said what this agent does not understand: {error}"
        except (OSError, ValueError) as error:
            reason = f"the connection to the engine broke: {error}"
        self._writer.close()
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(EngineAway(reason))
                waiting.exception()  # whoever still waits gets it; whoever was cancelled needs no warning of it

    def _take_in(self, answer: Answer) -> None:
        match answer:
            case Transition():
                self._on_transition(answer)
            case Started():
                pass
            case _:
                if self._waiting and not (waiting := self._waiting.popleft()).done():
                    waiting.set_result(answer)


def identity_of(path: Path) -> tuple[int, int]:
    """Device and inode. Raises OSError."""
    found = path.stat()
    return found.st_dev, found.st_ino
