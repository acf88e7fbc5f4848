"""One run of a probe: a command, a TCP connection, or an HTTP request, within its timeout in total."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping

from holdfast_api.errors import ConfigurationError, PeerError
from holdfast_api.resources import HTTPGetAction, Probe, TCPSocketAction
from holdfast_speaker.health.commands import Command
from holdfast_speaker.health.connections import Names, first_to_connect
from holdfast_speaker.health.policy import Result, failure

_LINE_BYTES_MAX = 8192
_HEAD_LINES_MAX = 128
_BODY_BYTES_MAX = 10 * 1024  # what the kubelet reads of it

_LENGTH = re.compile(rb"[0-9]{1,18}")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")


class Prober:
    """Runs one probe. Its runs follow one another: the caller awaits one before it begins the next."""

    def __init__(
        self,
        probe: Probe,
        names: Names | None = None,
        permits: Callable[[str], bool] = lambda _address: True,
        environment: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`names`: shared with other probes, which wait for the same answers then. `permits`: whether it may connect to
        an address; a run that may not says nothing of the service. `environment`: the variables that a command has
        besides this process's own."""
        self._probe = probe
        self._permits = permits
        self._names = names or Names()
        self._command = Command(probe.exec.command, environment) if probe.exec is not None else None

    async def run(self) -> Result:
        """One run. What goes wrong with the service is a result and no exception."""
        probe = self._probe
        if self._command is not None:
            return await self._command.run(probe.timeout_seconds)
        if probe.tcp_socket is not None:
            return await self._connects(probe.tcp_socket)
        if probe.http_get is not None:
            return await self._answers(probe.http_get)
        raise AssertionError(f"probe {probe.name} has no action: the planner's policies refuse it")

    async def _connects(self, action: TCPSocketAction) -> Result:
        where = f"TCP {action.host} port {action.port}"
        try:
            async with asyncio.timeout(self._probe.timeout_seconds):
                connection = await self._connection(action)
        except TimeoutError:
            return Result(False, f"{where} {self._missed(action.host, 'accept')}")
        except NotPermitted as error:
            return Result(False, f"{where}: {error}", is_conclusive=False)
        except OSError as error:
            return failure(f"{where}: {_reason(error)}", error)
        except ValueError as error:  # no host can have that name
            return Result(False, f"{where}: {error}")
        connection.close()
        return Result(True)

    async def _answers(self, action: HTTPGetAction) -> Result:
        where = f"{action.scheme} {action.host} port {action.port}"
        try:
            async with asyncio.timeout(self._probe.timeout_seconds):
                connection = await self._connection(action)
                status = await _get(action, connection)
        except TimeoutError:
            return Result(False, f"{where} {self._missed(action.host, 'answer')}")
        except NotPermitted as error:
            return Result(False, f"{where}: {error}", is_conclusive=False)
        except _NotHTTP as error:
            return Result(False, f"{where}: {error}")
        except OSError as error:
            return failure(f"{where}: {_reason(error)}", error)
        except ValueError as error:  # no host can have that name
            return Result(False, f"{where}: {error}")
        if status in action.expect_status or (not action.expect_status and 200 <= status < 400):
            return Result(True)
        return Result(False, f"{where} answered {action.path} with status {status}")

    async def _connection(self, action: TCPSocketAction | HTTPGetAction) -> socket.socket:
        """Raises NotPermitted, or OSError. Judged by address and not by name, which may lead elsewhere tomorrow."""
        places = await self._names.places(action.host, action.port)
        permitted = [place for place in places if self._permits(place[1][0])]
        if places and not permitted:
            raise NotPermitted("probes may not go there from this node (allowedProbeNetworks)")
        return await first_to_connect(permitted)

    def _missed(self, host: str, what: str) -> str:
        within = f"within {self._probe.timeout_seconds} s"
        return (
            f"is a name that was not looked up {within}"
            if self._names.is_waiting_for(host)
            else f"did not {what} {within}"
        )


class NotPermitted(ConfigurationError):
    """The administrator does not let probes go there."""


class _NotHTTP(PeerError):
    """The answer is none that HTTP/1.1 has."""


async def _get(action: HTTPGetAction, connection: socket.socket) -> int:
    """The status of the answer to a GET, whose body is read and thrown away.

    Raises _NotHTTP, or OSError where the connection fails (ssl.SSLError is one).
    """
    context = _lenient_context() if action.scheme == "HTTPS" else None
    name = action.host if context else None
    try:
        reader, writer = await asyncio.open_connection(
            sock=connection, ssl=context, server_hostname=name, limit=_LINE_BYTES_MAX
        )
    except BaseException:
        connection.close()
        raise
    try:
        host = f"[{action.host}]" if ":" in action.host else action.host
        writer.write(
            f"GET {action.path} HTTP/1.1\r\nHost: {host}:{action.port}\r\n"
            "User-Agent: holdfast-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        while True:
            status, length = await _head(reader)
            # RFC 9110 section 15.2: any number of interim answers may come first; 101 was not asked for.
            if not 100 <= status < 200 or status == 101:
                break
        if status != 204 and status != 304:
            await _pass_over_body(reader, length)
        return status
    finally:
        writer.transport.abort()


async def _head(reader: asyncio.StreamReader) -> tuple[int, int | None]:
    """Status, and the length of the body where it is told."""
    match = _STATUS_LINE.fullmatch(await _line(reader))
    if match is None:
        raise _NotHTTP("its answer is not HTTP/1.1")
    length = None
    for _ in range(_HEAD_LINES_MAX):
        line = await _line(reader)
        if not line.strip():
            return int(match[1]), length
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and _LENGTH.fullmatch(value.strip()):
            length = int(value)
    raise _NotHTTP("its answer has too many header lines")


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readline()
    except ValueError as error:
        raise _NotHTTP(f"its answer has a line of more than {_LINE_BYTES_MAX} bytes") from error
    if not line:
        raise _NotHTTP("it closed the connection before its answer was complete")
    if not line.endswith(b"\n"):
        raise _NotHTTP("it closed the connection in the middle of a line of its answer's head")
    return line


async def _pass_over_body(reader: asyncio.StreamReader, length: int | None) -> None:
    # A connection closed on unread data is reset, which many servers log as an error of theirs.
    left = min(_BODY_BYTES_MAX, length if length is not None else _BODY_BYTES_MAX)
    while left > 0 and (read := await reader.read(left)):
        left -= len(read)
    if left > 0 and length is not None:  # RFC 9112 section 8: the answer is incomplete
        raise _NotHTTP("it closed the connection in the middle of its answer's body")


@functools.cache
def _lenient_context() -> ssl.SSLContext:
    """TLS that checks no certificate, as the kubelet's probes: the question is whether it answers, not who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: OSError) -> str:
    # asyncio words its own errors at length ("Connect call failed ..."); the system's word for the number is enough.
    # ssl.SSLError and socket.gaierror have numbers of their own.
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)
