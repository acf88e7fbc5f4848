"""A client of the engine's control socket, for commands."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from holdfast_api.errors import UNDECODABLE, ConfigurationError, EnvironmentFailure
from holdfast_api.messages import Answer, GetStatus, Refused, Request, Status

_TIMEOUT_SECONDS = 5.0


def ask(state_directory: Path, request: Request) -> Answer:
    """Send one request to the engine of a state directory and return its answer.

    Raises EnvironmentFailure where no engine answers, ConfigurationError where it refuses.
    """
    path = state_directory / "engine.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.settimeout(_TIMEOUT_SECONDS)
        try:
            stream.connect(str(path))
            stream.sendall(msgspec.json.encode(request) + b"\n")
            line = _line(stream)
        except TimeoutError as error:
            raise EnvironmentFailure(
                f"the engine behind {path} does not answer within {_TIMEOUT_SECONDS:g} s"
            ) from error
        except OSError as error:
            raise EnvironmentFailure(
                f"no engine answers on {path}: {error.strerror or error} (does holdfast run with this --state-dir?)"
            ) from error
    try:
        answer: Answer = msgspec.json.decode(line, type=Answer)
    except UNDECODABLE as error:
        raise EnvironmentFailure(f"the engine behind {path} speaks another language: {error}") from error
    if isinstance(answer, Refused):
        raise ConfigurationError(answer.reason)
    return answer


def ask_status(state_directory: Path) -> Status:
    """How the engine is now. Raises as `ask` does."""
    answer = ask(state_directory, GetStatus())
    if not isinstance(answer, Status):
        raise EnvironmentFailure("the engine answered something else than its status")
    return answer


def _line(stream: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        part = stream.recv(65536)
        if not part:
            raise ConnectionResetError("it closed the connection")
        received += part
    return bytes(received)
