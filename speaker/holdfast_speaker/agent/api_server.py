"""Raw requests to the Kubernetes API server, on the client's credentials and connections.

JSON is handed on as bytes: typed objects of the client would cost thirty times as much for each event.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Mapping
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_kube_config
from kubernetes.aio.config.incluster_config import load_incluster_config

from holdfast_api.errors import ConfigurationError, EnvironmentFailure

_TOO_MANY_REQUESTS = 429
_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 15.0
_LIST_SECONDS = 60.0

STALL_SECONDS: Final = 90.0
"""A watch that says nothing for longer is dead: the API server sends a bookmark every minute."""

_SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 25_000),
)
"""A host that is gone does not close its connections: the kernel finds out within 25 s (tcp(7))."""

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ConfigException)


class APIFailure(EnvironmentFailure):
    """The API server did not answer (status 0) or did not do what it was asked (its HTTP status)."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def is_refusal(self) -> bool:
        """The API server is there and says no; else it is away, or too busy for the moment."""
        return 400 <= self.status < 500 and self.status != _TOO_MANY_REQUESTS


class _ErrorBody(msgspec.Struct):
    """metav1.Status, as far as people want to read it."""

    message: str = ""


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


class APIServer:
    """Every method raises APIFailure. Needs a running event loop; close it at the end."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._agent = f"holdfast-agent/{version('holdfast')}"

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> APIServer:
        """With the pod's service account, or a kubeconfig file. Nothing is sent yet.

        Raises ConfigurationError where there are no usable credentials.
        """
        configuration = Configuration()
        try:
            if kubeconfig is None:
                load_incluster_config(client_configuration=configuration)
            else:
                await load_kube_config(config_file=kubeconfig, client_configuration=configuration, persist_config=False)
        except ConfigException as error:
            raise ConfigurationError(str(error), file=kubeconfig or "service account") from error
        except OSError as error:
            raise ConfigurationError(f"cannot be read: {error}", file=kubeconfig or "service account") from error
        client = ApiClient(configuration)
        client.rest_client = _RESTClient(configuration)
        return cls(client)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def get(self, path: str) -> bytes:
        """One object as it is now: a read that no cache answers."""
        return await self._read("GET", path, {}, _REQUEST_SECONDS)

    async def list(self, path: str, query: Mapping[str, str]) -> bytes:
        """A whole list as it is now."""
        return await self._read("GET", path, query, _LIST_SECONDS)

    async def apply_status(self, path: str, body: Mapping[str, Any], field_manager: str) -> bytes:
        """Server-side apply to `path`/status; returns the object as it is after that."""
        query = {"fieldManager": field_manager, "force": "true"}
        return await self._read("PATCH", f"{path}/status", query, _REQUEST_SECONDS, body)

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """The events of a watch, one JSON object each, until the API server ends it; first an empty line: it began."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=STALL_SECONDS)
        response = await self._request("GET", path, {**query, "watch": "true"}, timeout)
        unfinished = b""
        try:
            yield b""
            async for chunk in response.content.iter_any():
                *lines, unfinished = (unfinished + chunk).split(b"\n")
                for line in lines:
                    yield line
        except _FAILURES as error:
            raise _failure(error) from error
        finally:
            response.close()

    async def _read(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        seconds: float,
        body: Mapping[str, Any] | None = None,
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS)
        response = await self._request(method, path, query, timeout, body)
        try:
            return await response.read()
        except _FAILURES as error:
            raise _failure(error) from error
        finally:
            response.release()

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        body: Mapping[str, Any] | None = None,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "User-Agent": self._agent}
        if body is not None:
            headers["Content-Type"] = "application/apply-patch+yaml"
        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            answer = await self._client.rest_client.request(
                method,
                f"{self._client.configuration.host}{path}?{urlencode(query)}",
                headers=headers,
                body=body,
                _request_timeout=timeout,
            )
            response: aiohttp.ClientResponse = answer.response
            if response.status < 400:
                return response
            try:
                told = await response.read()
            finally:
                response.release()
        except _FAILURES as error:
            raise _failure(error) from error
        raise APIFailure(_message(told) or f"{method} {path}: HTTP status {response.status}", response.status)


def _failure(error: Exception) -> APIFailure:
    if isinstance(error, TimeoutError):
        return APIFailure("the API server does not answer in time")
    return APIFailure(f"the API server cannot be reached: {error}")


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_ErrorBody).message
    except msgspec.DecodeError:  # a proxy's page, or nothing
        return ""
