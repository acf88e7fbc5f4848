"""/healthz, /readyz and /metrics over HTTP."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from holdfast_api.errors import EnvironmentFailure
from holdfast_kube.listening import Address
from holdfast_operator.health import application, serving

ANY_PORT = Address("127.0.0.1", 0)


def ask(path, alive="", ready=""):
    """Status and text of the answer."""

    async def run():
        registry = CollectorRegistry()
        Gauge("answer", "To everything.", registry=registry).set(42)
        obstacles = {"alive": alive, "ready": ready}

        async def is_alive():
            return obstacles["alive"]

        async def is_ready():
            return obstacles["ready"]

        async with (
            serving(application(is_alive, is_ready, registry), ANY_PORT) as address,
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{address.port}{path}") as response,
        ):
            return response.status, await response.text()

    return asyncio.run(run())


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_all_well(path):
    assert ask(path) == (200, "ok\n")


def test_each_gives_its_own_reason():
    assert ask("/healthz", alive="the loop is stuck", ready="no") == (503, "the loop is stuck\n")
    assert ask("/readyz", alive="no", ready="nothing has been listed yet") == (503, "nothing has been listed yet\n")


def test_metrics_are_in_prometheus_text_format():
    status, text = ask("/metrics")
    assert status == 200
    assert "answer 42.0" in text.splitlines()


def test_an_address_that_is_taken_is_said_so():
    async def run():
        async def fine():
            return ""

        served = application(fine, fine, CollectorRegistry())
        async with serving(served, ANY_PORT) as address:
            with pytest.raises(EnvironmentFailure, match=rf"cannot listen on 127.0.0.1:{address.port}: "):
                async with serving(application(fine, fine, CollectorRegistry()), address):
                    pass

    asyncio.run(run())
