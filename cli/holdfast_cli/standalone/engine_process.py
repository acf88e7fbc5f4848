"""The engine as a child process: its log on a pipe, its control connection on a socket pair."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import msgspec

from holdfast_api.messages import Answer, Request
from holdfast_cli.standalone.log import Log

_LIMIT = 16 * 1024 * 1024
_DECODER: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class EngineProcess:
    """Started with `start`; ends with the process that started it, whatever happens to that."""

    def __init__(self, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter) -> None:
        self._process = process
        self._writer = writer

    @classmethod
    async def start(
        cls, node_name: str, state_directory: Path, *, journal: bool
    ) -> tuple[EngineProcess, asyncio.StreamReader]:
        """Start an engine; returns it and the reader of its answers."""
        ours, theirs = socket.socketpair()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "holdfast_speaker.engine",
            f"--node-name={node_name}",
            f"--state-dir={state_directory}",
            f"--control-descriptor={theirs.fileno()}",
            f"--parent={os.getpid()}",
            *(["--journal"] if journal else []),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=_LIMIT,
        )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LIMIT)
        return cls(process, writer), reader

    def send(self, request: Request) -> None:
        """Queue one request; answers come in order on the reader."""
        self._writer.write(msgspec.json.encode(request) + b"\n")

    async def relay_log(self, log: Log) -> None:
        """Show the engine's log until it ends."""
        stream = self._process.stderr
        while stream is not None and (line := await stream.readline()):
            log.relay(line)

    async def wait(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        return await self._process.wait()

    async def stop(self, patience_seconds: float) -> None:
        """Tell it to give everything up; one that does not is killed, and the kernel takes its addresses."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), patience_seconds)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def decode_answer(line: bytes) -> Answer:
    """One line of the reader."""
    return _DECODER.decode(line)
