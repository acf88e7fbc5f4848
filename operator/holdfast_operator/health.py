"""/healthz, /readyz and /metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from holdfast_api.errors import EnvironmentFailure
from holdfast_kube.certificate import Certificate
from holdfast_kube.listening import Address
from holdfast_kube.scrape_access import ScrapeAccess, for_who_may_scrape

Obstacle = Callable[[], Awaitable[str]]
"""Why the answer is no; empty: yes."""


def application(
    is_alive: Obstacle, is_ready: Obstacle, registry: CollectorRegistry, access: ScrapeAccess | None = None
) -> web.Application:
    """Status 200 with `ok`, or 503 with the reason. `access`: who may read /metrics; without it, everybody."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(await is_alive())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(await is_ready())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    served = web.Application(middlewares=[for_who_may_scrape(access)] if access is not None else [])
    served.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return served


def _answer(obstacle: str) -> web.Response:
    return web.Response(status=503 if obstacle else 200, text=(obstacle or "ok") + "\n")


@contextlib.asynccontextmanager
async def serving(
    served: web.Application, address: Address, certificate: Certificate | None = None
) -> AsyncGenerator[Address, None]:
    """Serve, over TLS where there is a certificate; yields the address with the port that was given.

    Raises EnvironmentFailure where that is taken.
    """
    runner = web.AppRunner(served, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            context = certificate.context if certificate is not None else None
            await web.SockSite(runner, address.bind(), ssl_context=context).start()
        except OSError as error:
            raise EnvironmentFailure(f"cannot listen on {address.host}:{address.port}: {error.strerror}") from error
        following = asyncio.create_task(certificate.follow()) if certificate is not None else None
        try:
            yield Address(address.host, runner.addresses[0][1])
        finally:
            if following is not None:
                following.cancel()
    finally:
        await runner.cleanup()
