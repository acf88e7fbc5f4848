"""Two replicas, of which the leader says nothing any more: it died with the node that held the VIP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from holdfast_operator.leader import Timing
from holdfast_operator.process import Operator
from holdfast_operator.reconciler import Rhythm
from holdfast_testing.fake_api import FakeAPI
from holdfast_testing.operator_world import WATCHES, operator, populate, tell_master, until

LONG_LEASE = Timing(lease_seconds=3600, renew_seconds=3000, retry_seconds=0.05)
RHYTHM = Rhythm(debounce=0.005, resync=3600, first_retry=0.01, last_retry=0.05, stand_in=0.05)
WEB = "shop/web"

Scene = Callable[[FakeAPI, Operator, str], Awaitable[None]]


def play(scene: Scene) -> None:
    """With two replicas: the one that stands by, and the name of the other, which leads and then writes nothing."""

    async def run() -> None:
        async with FakeAPI() as fake:
            populate(fake)
            tell_master(fake, WEB, "n1")
            async with operator(fake, "one", timing=LONG_LEASE, rhythm=RHYTHM) as one:
                await until(lambda: holder(fake) == "n1" and fake.all("events"))
                async with operator(fake, "two", timing=LONG_LEASE, rhythm=RHYTHM) as two:
                    await until(lambda: fake.watch_count >= 2 * WATCHES)
                    assert one._elector.is_leader()
                    await scene(fake, two, "one")

    asyncio.run(run())


def holder(fake: FakeAPI) -> str:
    status = (fake.get("virtualips", WEB) or {}).get("status", {})
    return str(status.get("holder", ""))


def writers(fake: FakeAPI) -> list[str]:
    return [
        request.agent.partition("(")[2].strip(")") for request in fake.writes() if request.path.endswith("/web/status")
    ]


def test_who_holds_it_is_said_though_the_leader_is_dead() -> None:
    async def scene(fake: FakeAPI, two: Operator, leader: str) -> None:
        fake.fail("PATCH", "/virtualips", agent=f"({leader})", status=500)
        fake.requests.clear()
        tell_master(fake, WEB, "n2")
        await until(lambda: holder(fake) == "n2")
        await until(lambda: [event["note"] for event in fake.all("events")] == ["held by n1 now", "held by n2 now"])
        written = [request for request in fake.writes() if request.agent.endswith("(two)")]
        assert {request.path.rpartition("/")[0].rpartition("/")[2] for request in written} == {"web", "shop"}
        assert not [request for request in written if "speakerconfigs" in request.path], "words, and nothing else"
        assert not two._elector.is_leader()

    play(scene)


def test_a_leader_that_says_it_itself_is_not_spoken_for() -> None:
    async def scene(fake: FakeAPI, two: Operator, leader: str) -> None:
        fake.requests.clear()
        for name in ("n2", "n1", "n2"):
            tell_master(fake, WEB, name)
            await until(lambda name=name: holder(fake) == name)
            await asyncio.sleep(3 * RHYTHM.stand_in)
        assert set(writers(fake)) == {leader}

    play(scene)


def test_whoever_says_otherwise_is_not_answered_back() -> None:
    """A leader of another version may make something else of the same words."""

    async def scene(fake: FakeAPI, two: Operator, leader: str) -> None:
        fake.fail("PATCH", "/virtualips", agent=f"({leader})", status=500)
        tell_master(fake, WEB, "n2")
        await until(lambda: holder(fake) == "n2")
        fake.requests.clear()
        for _ in range(3):
            fake.set_status("virtualips", WEB, {"holder": "n1", "state": "Held"}, manager="holdfast-operator")
            two._standby.mark()
            await asyncio.sleep(5 * RHYTHM.stand_in)
        assert writers(fake).count("two") == 0
        assert holder(fake) == "n1"

    play(scene)


def test_a_status_that_somebody_writes_meanwhile_is_left_to_him() -> None:
    async def scene(fake: FakeAPI, two: Operator, leader: str) -> None:
        fake.fail("PATCH", "/virtualips", agent=f"({leader})", status=500)
        failures = two.metrics.registry.get_sample_value(
            "holdfast_operator_write_failures_total", {"resource": "virtualips/status", "verb": "apply"}
        )
        cluster, plan = await two._reconciliation.look()
        tell_master(fake, WEB, "n2")
        assert await two._standby._writer.write_statuses_as_read(plan, cluster, [WEB]) == frozenset()
        assert failures == two.metrics.registry.get_sample_value(
            "holdfast_operator_write_failures_total", {"resource": "virtualips/status", "verb": "apply"}
        )

    play(scene)
