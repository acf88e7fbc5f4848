"""Raw JSON requests to the Kubernetes API server, on the client's credentials and connections."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_kube_config
from kubernetes.aio.config.incluster_config import load_incluster_config

from holdfast_api import __version__
from holdfast_api.errors import ConfigurationError, EnvironmentFailure

Object = dict[str, Any]
"""A Kubernetes object as JSON has it."""

WRITE_SECONDS: Final = 5.0
"""No write is under way for longer: less than what lies between a lost Lease and the next leader's first write."""

LIST_SECONDS: Final = 30.0

NOT_FOUND: Final = 404
CONFLICT: Final = 409

_CONNECT_SECONDS = 3.0
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ConfigException)


class APIFailure(EnvironmentFailure):
    """The API server did not answer (status 0), or refused with that HTTP status."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


async def load_configuration() -> Configuration:
    """Where the API server is and who we are: KUBECONFIG, else the pod's service account, else ~/.kube/config.

    Raises ConfigurationError where none of them can be used.
    """
    configuration = Configuration()
    path = os.environ.get("KUBECONFIG")
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
    return configuration


class _RESTClient(RESTClientObject):
    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, socket_factory=_open)


def _open(address_info: tuple[Any, Any, int, str, Any]) -> socket.socket:
    # A control plane that lost its power closes no connection: without this its name would be asked for minutes.
    family, kind, protocol, _, _ = address_info
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    for level, option, value in _KEEPALIVE:
        opened.setsockopt(level, option, value)
    return opened


class _Status(msgspec.Struct):
    """metav1.Status, as far as people want to read it."""

    message: str = ""


class APIServer:
    """Every method raises APIFailure. An asynchronous context manager, to be entered in a running event loop."""

    def __init__(self, configuration: Configuration, identity: str) -> None:
        self._client = ApiClient(configuration)
        self._client.rest_client = _RESTClient(configuration)
        self._headers = {
            "Accept": "application/json",
            "User-Agent": f"holdfast-operator/{__version__} ({identity})",
        }

    async def __aenter__(self) -> APIServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.close()

    async def get(self, path: str, seconds: float = WRITE_SECONDS) -> Object:
        """An object, or a whole list, as it is now: without a resourceVersion no cache may answer with less."""
        return await self._request("GET", path, seconds=seconds)

    async def create(self, path: str, body: Mapping[str, Any]) -> Object:
        """POST; `path` is the collection's."""
        return await self._request("POST", path, body=body, content_type="application/json")

    async def replace(self, path: str, body: Mapping[str, Any]) -> Object:
        """PUT; with a resourceVersion in it, 409 where the object has changed since."""
        return await self._request("PUT", path, body=body, content_type="application/json")

    async def merge(self, path: str, body: Mapping[str, Any]) -> Object:
        """PATCH (RFC 7386)."""
        return await self._request("PATCH", path, body=body, content_type="application/merge-patch+json")

    async def apply(self, path: str, body: Mapping[str, Any], field_manager: str) -> Object:
        """Server-side apply: `body` is everything that the field manager owns; what it owned before goes."""
        query = {"fieldManager": field_manager, "force": "true"}
        return await self._request("PATCH", path, query=query, body=body, content_type="application/apply-patch+yaml")

    async def delete(self, path: str, uid: str) -> Object:
        """Delete that very object, and none that has its name by now."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        return await self._request("DELETE", path, body=body, content_type="application/json")

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        seconds: float = WRITE_SECONDS,
    ) -> Object:
        headers = dict(self._headers)
        if content_type is not None:
            headers["Content-Type"] = content_type
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            answer = await self._client.rest_client.request(
                method,
                url,
                headers=headers,
                body=body,
                _request_timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT_SECONDS),
            )
            told = await answer.read()
        except TimeoutError as error:
            raise APIFailure(f"{method} {path}: the API server does not answer in time") from error
        except _FAILURES as error:
            raise APIFailure(f"{method} {path}: the API server cannot be reached: {error}") from error
        if answer.status >= 400:
            raise APIFailure(f"{method} {path}: {_message(told) or f'HTTP status {answer.status}'}", answer.status)
        return _decoded(told, f"{method} {path}")


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
