"""kopf watches, and says when to look: `on.event` handlers that write nothing and return nothing.

kopf runs in a thread with a loop of its own, because at its end it cancels every task of the loop it is in. It ends on
any error in a stream but an expired resourceVersion; then the process ends too, and Kubernetes starts it anew.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import kopf
from kubernetes.aio.client import Configuration

from holdfast_api.cluster import GROUP, VERSION
from holdfast_api.errors import EnvironmentFailure
from holdfast_operator.reader import node_view

WATCHES_END_WITHIN_SECONDS: Final = 8.0
"""kopf gives what it has started 5 s to end."""

_ANSWERS_WITHIN_SECONDS = 2.0

Login = Callable[[], Awaitable[Configuration]]


class Watches:
    """The watches of VirtualIPs, SpeakerConfigs and Nodes."""

    def __init__(self, login: Login, seen: Callable[[str], None]) -> None:
        self._login = login
        self._seen = seen
        self._digests: dict[tuple[str, str], object] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    async def run(self) -> None:
        """Until cancelled; `seen` is called in the caller's loop. Raises EnvironmentFailure when a watch has ended."""
        home = asyncio.get_running_loop()
        ended: asyncio.Future[None] = home.create_future()
        seen = self._seen

        def look(resource: str) -> None:
            home.call_soon_threadsafe(seen, resource)

        def work() -> None:
            error: BaseException | None = None
            try:
                asyncio.run(self._watch(look))
            except BaseException as raised:  # noqa: BLE001  # handed over to the other thread, which raises it
                error = raised
            home.call_soon_threadsafe(_settle, ended, error)

        threading.Thread(target=work, name="watches", daemon=True).start()
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            await self._end(ended)
            raise
        raise EnvironmentFailure("the watches have ended")

    async def answer(self) -> bool:
        """Whether the loop that the watches run in turns."""
        if self._loop is None:
            return True  # not started yet, or just about to
        try:
            turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop)
            async with asyncio.timeout(_ANSWERS_WITHIN_SECONDS):
                await asyncio.wrap_future(turn)
        except (TimeoutError, RuntimeError):  # RuntimeError: the loop is closed
            return False
        return True

    async def _end(self, ended: asyncio.Future[None]) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            await asyncio.wait({ended}, timeout=WATCHES_END_WITHIN_SECONDS)

    async def _watch(self, look: Callable[[str], None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        _hush_kopf()
        await kopf.operator(
            registry=self._registry(look),
            settings=_settings(),
            clusterwide=True,
            standalone=True,
            stop_flag=self._stop,
        )

    def _registry(self, look: Callable[[str], None]) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry, id="login")
        async def login(**_: Any) -> kopf.ConnectionInfo:
            return await _connection_info(await self._login())

        def watch(resource: str, digest: Callable[[Mapping[str, Any]], object]) -> Callable[..., Awaitable[None]]:
            async def handle(event: Mapping[str, Any], **_: Any) -> None:
                if self._is_news((resource, event["object"]["metadata"]["uid"]), event, digest):
                    look(resource)

            return handle

        kopf.on.event(GROUP, VERSION, "virtualips", registry=registry, id="virtualips")(
            watch("virtualips", _virtual_ip)
        )
        kopf.on.event(GROUP, VERSION, "speakerconfigs", registry=registry, id="speakerconfigs")(
            watch("speakerconfigs", _speaker)
        )
        kopf.on.event("", "v1", "nodes", registry=registry, id="nodes")(watch("nodes", node_view))
        return registry

    def _is_news(
        self, key: tuple[str, str], event: Mapping[str, Any], digest: Callable[[Mapping[str, Any]], object]
    ) -> bool:
        if event["type"] == "DELETED":
            self._digests.pop(key, None)
            return True
        value = digest(event["object"])
        if self._digests.get(key) == value:
            return False
        self._digests[key] = value
        return True


def _virtual_ip(raw: Mapping[str, Any]) -> object:
    # Without the operator's own part of the status: what was just written is no news.
    metadata = raw["metadata"]
    return (
        metadata["generation"],
        metadata.get("deletionTimestamp"),
        metadata.get("labels"),
        metadata.get("annotations"),
        metadata.get("ownerReferences"),
        raw.get("status", {}).get("nodes"),
    )


def _speaker(raw: Mapping[str, Any]) -> object:
    metadata = raw["metadata"]
    return (
        metadata["generation"],
        metadata.get("deletionTimestamp"),
        metadata.get("annotations"),
        raw.get("status"),
    )


def _hush_kopf() -> None:
    """It tells each step: that is for those who debug."""
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger("kopf").setLevel(logging.WARNING)
        # It warns at every start that it handles no signals, being in a thread of its own.
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


def _settle(ended: asyncio.Future[None], error: BaseException | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(EnvironmentFailure(f"the watches have ended: {error!r}"))


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True  # the Lease decides who writes; every replica watches
    settings.posting.enabled = False  # Events are posted by the recorder
    settings.scanning.disabled = True  # what is watched is known, and needs no right to list definitions or namespaces
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 3
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 245
    settings.process.ultimate_exiting_timeout = WATCHES_END_WITHIN_SECONDS
    # Nothing is ever persisted by on.event handlers; should kopf try to, it shall be under a name of our own.
    settings.persistence.finalizer = f"{GROUP}/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    return settings


async def _connection_info(configuration: Configuration) -> kopf.ConnectionInfo:
    # kopf's own login for service accounts asks for kubernetes.default.svc: not every cluster has DNS.
    header = await configuration.get_api_key_with_prefix("BearerToken") or ""
    _, _, token = header.rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        token=token.strip() or None,
    )
