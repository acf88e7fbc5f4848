"""What Prometheus is answered, by an agent and by an operator, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp

from holdfast_api.reasons import Obstacle, Reason, State
from holdfast_kube.listening import Address
from holdfast_operator import health
from holdfast_operator.metrics import Metrics
from holdfast_operator.planner.cluster.view import ServiceStatus
from holdfast_speaker.vrrp.counters import Counter
from holdfast_testing import planner_world
from holdfast_testing.agent_fixtures import (
    PODS,
    SPEAKERS,
    VIRTUAL_IPS,
    World,
    pod,
    router,
    speaker_config,
    until,
    virtual_ip,
)

WEB = "shop/web"


def scraped_agent() -> str:
    """What an agent answers after a move, with everything that can be counted."""

    async def run() -> str:
        async with World() as world:
            return await _after_a_move(world)

    return asyncio.run(run())


async def _after_a_move(world: World) -> str:
    world.api.put(VIRTUAL_IPS, virtual_ip("web"))
    world.api.put(PODS, pod("web-1"))
    world.api.put(SPEAKERS, speaker_config(router(WEB)))
    agent = await world.start_agent()
    await until(lambda: world.api.entry("web") and world.api.condition("Applied"))
    counters = {counter.value: number for number, counter in enumerate(Counter, start=1)}
    world.engine.change(WEB, counters=counters, obstacles=[Obstacle.LINK_DOWN], warnings=["a", "b"], unproved=True)
    world.engine.move(WEB, State.MASTER, Reason.MASTER_SILENT, silent_ms=310)
    await until(lambda: world.api.entry("web")["state"] == "Master")
    metrics = agent.metrics
    assert metrics is not None
    await until(lambda: metrics.port)
    return await _get(f"http://127.0.0.1:{metrics.port}/metrics")


def scraped_operator(
    cluster: planner_world.World, now: str = planner_world.NOW, services: Mapping[str, ServiceStatus] | None = None
) -> str:
    """What the leading replica answers after a look at that cluster, with these Services beside it."""
    metrics = Metrics()
    plan = cluster.reconcile(now)
    metrics.tell_virtual_ips(plan.statuses)
    metrics.tell_speakers(plan.speakers, plan.heard)
    metrics.tell_services({**plan.services, **(services or {})})
    metrics.tell_pools(plan.pools)
    metrics.is_leader.set(1)
    metrics.listed()

    async def nothing() -> str:
        return ""

    async def run() -> str:
        served = health.application(nothing, nothing, metrics.registry)
        async with health.serving(served, Address("127.0.0.1", 0)) as address:
            return await _get(f"http://{address.host}:{address.port}/metrics")

    return asyncio.run(run())


async def _get(url: str) -> str:
    async with aiohttp.ClientSession() as session:
        answer = await session.get(url)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return await answer.text()
