"""Raw JSON requests to the Kubernetes API server, on the credentials and connections of the Kubernetes client.

Lists and watches are handed on as bytes: typed objects of the client would cost thirty times as much for each event.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_kube_config
from kubernetes.aio.config.incluster_config import SERVICE_TOKEN_FILENAME, load_incluster_config

from holdfast_api.errors import ConfigurationError, EnvironmentFailure

Object = dict[str, Any]
"""A Kubernetes object as JSON has it."""

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409
GONE: Final = 410
TOO_MANY_REQUESTS: Final = 429

STALL_SECONDS: Final = 90.0
"""A watch that says nothing for longer is dead: the API server sends a bookmark every minute."""

_SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 25_000),
)
"""A control plane that lost its power closes no connection: the kernel finds out within 25 s (tcp(7))."""

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ConfigException)


_CONCERN_ALL = frozenset({0, UNAUTHORIZED, TOO_MANY_REQUESTS, 503})

_RETRY_AFTER_SECONDS_MAX = 60.0
"""No proxy can say more and be believed."""


class APIFailure(EnvironmentFailure):
    """The API server did not answer (status 0), or did not do what it was asked (its HTTP status)."""

    def __init__(self, reason: str, status: int = 0, retry_after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        """What it asked to be left alone for (RFC 9110 section 10.2.3), as with 429 and 503; 0: nothing said."""

    @property
    def is_refusal(self) -> bool:
        """The API server is there and says no; else it is away, or too busy for the moment."""
        return 400 <= self.status < 500 and self.status != TOO_MANY_REQUESTS

    @property
    def concerns_one_object(self) -> bool:
        """Others may well be taken: a policy, a webhook or a quota stands in the way of this one alone."""
        return self.status not in _CONCERN_ALL


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an answer may take, in seconds."""

    connect: float
    request: float
    """For anything but a list."""
    list: float


async def load_configuration(kubeconfig: str | None = None) -> Configuration:
    """Where the API server is and who we are. Nothing is sent yet.

    The file that is given, else KUBECONFIG, else the pod's service account, else ~/.kube/config. Raises
    ConfigurationError where there are no usable credentials.
    """
    configuration = Configuration()
    path = kubeconfig or os.environ.get("KUBECONFIG")
    in_cluster = not path and "KUBERNETES_SERVICE_HOST" in os.environ
    source = "service account" if in_cluster else path or "~/.kube/config"
    if not in_cluster and not any(Path(part).expanduser().is_file() for part in source.split(os.pathsep)):
        raise ConfigurationError("no such file, and this is no pod", file=source)
    try:
        if in_cluster:
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(config_file=path, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError) as error:
        raise ConfigurationError(str(error), file=source) from error
    if in_cluster:
        configuration.refresh_api_key_hook = _take_token  # type: ignore[assignment]  # annotated with its first value
    return configuration


def _take_token(configuration: Configuration) -> None:
    """The token as the kubelet wrote it last: the client's own loader looks at most once a minute.

    Raises OSError; that is a request that failed.
    """
    configuration.api_key["BearerToken"] = f"bearer {Path(SERVICE_TOKEN_FILENAME).read_text(encoding='utf-8').strip()}"


class _RESTClient(RESTClientObject):
    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, socket_factory=_open)


def _open(address_info: tuple[Any, Any, int, str, Any]) -> socket.socket:
    family, kind, protocol, _, _ = address_info
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    for level, option, value in _SOCKET_OPTIONS:
        opened.setsockopt(level, option, value)
    return opened


class _Status(msgspec.Struct):
    """metav1.Status, as far as people want to read it."""

    message: str = ""


class APIServer:
    """Every method raises APIFailure. An asynchronous context manager, to be entered in a running event loop."""

    def __init__(self, configuration: Configuration, user_agent: str, patience: Patience) -> None:
        """`user_agent` names the program and its version; audit logs have it."""
        self._client = ApiClient(configuration)
        self._client.rest_client = _RESTClient(configuration)
        self._user_agent = user_agent
        self._patience = patience

    async def __aenter__(self) -> APIServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    # ----- reads: without a resourceVersion no cache may answer with less than there is -----

    async def get(self, path: str) -> Object:
        """One object as it is now."""
        return _decoded(await self._send("GET", path), f"GET {path}")

    async def get_raw(self, path: str) -> bytes:
        """One object as it is now, undecoded."""
        return await self._send("GET", path)

    async def list_at(self, path: str) -> tuple[list[Object], str]:
        """Every object of a collection as it is now, and the resource version at which it is so."""
        found = _decoded(await self.list_raw(path), f"GET {path}")
        return found["items"] or [], found["metadata"].get("resourceVersion", "")

    async def list(self, path: str, query: Mapping[str, str] | None = None) -> list[Object]:
        """Every object of a collection as it is now."""
        items: list[Object] | None = _decoded(await self.list_raw(path, query), f"GET {path}")["items"]
        return items or []

    async def list_raw(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """A whole list as it is now, undecoded."""
        return await self._send("GET", path, query=query, seconds=self._patience.list)

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """The events of a watch, one JSON object each, until the API server ends it; first an empty line: it began."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._patience.connect, sock_read=STALL_SECONDS)
        response = await self._request("GET", path, {**query, "watch": "true"}, timeout)
        unfinished = b""
        try:
            yield b""
            async for chunk in response.content.iter_any():
                *lines, unfinished = (unfinished + chunk).split(b"\n")
                for line in lines:
                    yield line
        except _FAILURES as error:
            raise _unreached(f"GET {path}", error) from error
        finally:
            response.close()

    # ----- writes: each returns the object as it is after that -----

    async def create(self, path: str, body: Mapping[str, Any], field_manager: str = "") -> Object:
        """POST; `path` is the collection's. Without a field manager the user agent is it."""
        query = {"fieldManager": field_manager} if field_manager else None
        return await self._write("POST", path, body, "application/json", query)

    async def replace(self, path: str, body: Mapping[str, Any]) -> Object:
        """PUT; with a resourceVersion in it, 409 where the object has changed since."""
        return await self._write("PUT", path, body, "application/json")

    async def merge(self, path: str, body: Mapping[str, Any]) -> Object:
        """PATCH (RFC 7386)."""
        return await self._write("PATCH", path, body, "application/merge-patch+json")

    async def merge_strategically(self, path: str, body: Mapping[str, Any], field_manager: str) -> Object:
        """PATCH of a kind that is Kubernetes' own: lists that are sets are added to and taken from."""
        query = {"fieldManager": field_manager}
        return await self._write("PATCH", path, body, "application/strategic-merge-patch+json", query)

    async def apply(self, path: str, body: Mapping[str, Any], field_manager: str) -> Object:
        """Server-side apply: `body` is everything that the field manager owns; what it owned before goes."""
        query = {"fieldManager": field_manager, "force": "true"}
        return await self._write("PATCH", path, body, "application/apply-patch+yaml", query)

    async def patch(self, path: str, operations: Sequence[Object], field_manager: str) -> Object:
        """JSON Patch (RFC 6902): all of the operations or none; a `test` of one that does not hold is status 422."""
        query = {"fieldManager": field_manager}
        return await self._write("PATCH", path, operations, "application/json-patch+json", query)

    async def delete(self, path: str, uid: str) -> Object:
        """Delete that very object, and none that has its name by now."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        return await self._write("DELETE", path, body, "application/json")

    async def _write(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | Sequence[Object],
        content_type: str,
        query: Mapping[str, str] | None = None,
    ) -> Object:
        answer = await self._send(method, path, query=query, body=body, content_type=content_type)
        return _decoded(answer, f"{method} {path}")

    # ----- the wire -----

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | Sequence[Object] | None = None,
        content_type: str = "",
        seconds: float | None = None,
    ) -> bytes:
        total = self._patience.request if seconds is None else seconds
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=self._patience.connect)
        response = await self._request(method, path, query or {}, timeout, body, content_type)
        try:
            return await response.read()
        except _FAILURES as error:
            raise _unreached(f"{method} {path}", error) from error
        finally:
            response.release()

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        body: Mapping[str, Any] | Sequence[Object] | None = None,
        content_type: str = "",
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "User-Agent": self._user_agent}
        if content_type:
            headers["Content-Type"] = content_type
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            answer = await self._client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
            response: aiohttp.ClientResponse = answer.response
            if response.status < 400:
                return response
            try:
                told = await response.read()
            finally:
                response.release()
        except _FAILURES as error:
            raise _unreached(f"{method} {path}", error) from error
        words = _message(told) or f"HTTP status {response.status}"
        raise APIFailure(f"{method} {path}: {words}", response.status, _retry_after(response.headers))


def _unreached(what: str, error: Exception) -> APIFailure:
    if isinstance(error, TimeoutError):
        return APIFailure(f"{what}: the API server does not answer in time")
    return APIFailure(f"{what}: the API server cannot be reached: {error}")


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds: the API server gives no dates."""
    told = headers.get("Retry-After", "")
    return min(float(told), _RETRY_AFTER_SECONDS_MAX) if told.isascii() and told.isdigit() else 0.0


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Status).message
    except msgspec.DecodeError:  # a proxy's page, or nothing
        return ""


def _decoded(body: bytes, what: str) -> Object:
    try:
        return msgspec.json.decode(body, type=Object)
    except msgspec.DecodeError as error:
        raise APIFailure(f"{what}: the answer is no JSON object: {error}") from error
