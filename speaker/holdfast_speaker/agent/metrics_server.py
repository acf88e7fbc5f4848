"""HTTP for /metrics. The port is no container port: in a rolling update two agents share the host's for a while."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from holdfast_kube.certificate import Certificate
from holdfast_kube.listening import Address
from holdfast_kube.scrape_access import ScrapeAccess, for_who_may_scrape

_TRY_EVERY_SECONDS = 1.0
_LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class MetricsServer:
    """Serves a registry; `look` brings it up to date before each scrape, within a second or not at all.

    With a certificate over TLS, and then `access` says who may read it.
    """

    def __init__(
        self,
        address: Address,
        registry: CollectorRegistry,
        look: Callable[[], Awaitable[None]],
        certificate: Certificate | None = None,
        access: ScrapeAccess | None = None,
    ) -> None:
        self._address = address
        self._certificate = certificate
        self._access = access
        self._registry = registry
        self._look = look
        self.port: int | None = None
        """Where it listens; None: not yet."""

    async def run(self) -> None:
        """Never returns. As long as the address is another's (a former agent's), tries again."""
        application = web.Application(middlewares=[for_who_may_scrape(self._access)] if self._access else [])
        application.router.add_get("/metrics", self._answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            listener = await self._listen()
            context = self._certificate.context if self._certificate is not None else None
            await web.SockSite(runner, listener, ssl_context=context).start()
            self.port = listener.getsockname()[1]
            if self._certificate is not None:
                await self._certificate.follow()
            await asyncio.get_running_loop().create_future()
        finally:
            await runner.cleanup()

    async def _listen(self) -> socket.socket:
        told = ""
        while True:
            try:
                return self._address.bind()
            except OSError as error:
                if str(error) != told:
                    told = str(error)
                    _log.info("metrics are not served yet: %s", error)
            await asyncio.sleep(_TRY_EVERY_SECONDS)

    async def _answer(self, _: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._look()
        except TimeoutError:  # what was known last is better than nothing
            _log.debug("the engine did not tell its status within %.0f s", _LOOK_SECONDS)
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
