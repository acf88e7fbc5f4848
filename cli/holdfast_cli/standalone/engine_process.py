"""The engine as a child process: its log on a pipe, its control connection on a socket pair."""

from __future__ import annotations

import asyncio
import os
import signal

import msgspec

from holdfast_api.messages import Answer, Request
from holdfast_cli.standalone.log import Log
from holdfast_cli.standalone.spawn import Spawned

_LIMIT = 16 * 1024 * 1024
_DECODER: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class EngineProcess:
    """What `fork_engine` began, followed by an event loop."""

    def __init__(self, spawned: Spawned, writer: asyncio.StreamWriter, log: asyncio.StreamReader) -> None:
        self._pid = spawned.pid
        self._writer = writer
        self._log = log
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        descriptor = os.pidfd_open(self._pid)
        asyncio.get_running_loop().add_reader(descriptor, self._reap, descriptor)

    @classmethod
    async def follow(cls, spawned: Spawned) -> tuple[EngineProcess, asyncio.StreamReader]:
        """Returns it and the reader of its answers."""
        log = asyncio.StreamReader(limit=_LIMIT)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(log), os.fdopen(spawned.log, "rb"))
        reader, writer = await asyncio.open_connection(sock=spawned.control, limit=_LIMIT)
        return cls(spawned, writer, log), reader

    def _reap(self, descriptor: int) -> None:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(self._pid, 0)
        self._ended.set_result(os.waitstatus_to_exitcode(status))

    def send(self, request: Request) -> None:
        """Queue one request; answers come in order on the reader."""
        self._writer.write(msgspec.json.encode(request) + b"\n")

    async def relay_log(self, log: Log) -> None:
        """Show the engine's log until it ends."""
        while True:
            try:
                line = await self._log.readline()
            except ValueError:  # a line of more than _LIMIT bytes, whose beginning is thrown away
                continue
            if not line:
                return
            log.relay(line)

    async def wait(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        return await asyncio.shield(self._ended)

    async def stop(self, patience_seconds: float) -> None:
        """Tell it to give everything up; one that does not is killed, and the kernel takes its addresses."""
        if self._ended.done():
            return
        os.kill(self._pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), patience_seconds)
        except TimeoutError:
            os.kill(self._pid, signal.SIGKILL)
            await self.wait()


def decode_answer(line: bytes) -> Answer:
    """One line of the reader."""
    return _DECODER.decode(line)
