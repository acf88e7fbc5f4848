"""When the operator reconciles. Times are waited for, never measured."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

from holdfast_operator.reconciler import Reconciler, Rhythm
from holdfast_testing.operator_world import QUICK, play, populate, until


def live(scene, once, rhythm=QUICK):
    """Run the scene beside a reconciler."""

    async def run():
        reconciler = Reconciler(once, Random(1), rhythm)
        running = asyncio.create_task(reconciler.run())
        try:
            await scene(reconciler)
        finally:
            running.cancel()
            await asyncio.wait({running})

    asyncio.run(run())


class Passes:
    """Passes that end when they are let, and what came of them."""

    def __init__(self, *results: bool) -> None:
        self.results = list(results)
        self.began = self.ended = 0
        self.at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def once(self) -> bool:
        self.began += 1
        assert self.began == self.ended + 1, "two at a time"
        await self.gate.wait()
        self.ended += 1
        return self.results.pop(0) if self.results else True


def test_it_begins_with_a_pass_without_being_asked():
    passes = Passes()

    async def scene(reconciler):
        await until(lambda: passes.ended == 1)

    live(scene, passes.once)


def test_changes_at_the_same_time_are_one_pass():
    passes = Passes()

    async def scene(reconciler):
        for _ in range(1000):
            reconciler.mark()
        await until(lambda: passes.ended == 1)
        await asyncio.sleep(10 * QUICK.debounce)
        assert passes.began == 1

    live(scene, passes.once)


def test_a_change_during_a_pass_leads_to_one_more_after_it():
    passes = Passes()
    passes.gate.clear()

    async def scene(reconciler):
        await until(lambda: passes.began == 1)
        reconciler.mark()
        reconciler.mark()
        await asyncio.sleep(0)
        assert passes.began == 1
        passes.gate.set()
        await until(lambda: passes.ended == 2)

    live(scene, passes.once)


def test_a_pass_that_failed_is_tried_again_without_a_change():
    passes = Passes(False, False, True)

    async def scene(reconciler):
        await until(lambda: passes.ended == 3)

    live(scene, passes.once)


def test_without_a_change_there_is_a_pass_now_and_then():
    passes = Passes()

    async def scene(reconciler):
        await until(lambda: passes.ended >= 3)

    live(scene, passes.once, Rhythm(debounce=0, resync=0.01))


def test_what_is_waited_for_is_looked_at_again_in_time():
    passes = Passes()
    waits = [0.01, 0.01, None]

    async def run():
        rhythm = replace(QUICK, resync=3600.0)
        reconciler = Reconciler(passes.once, Random(1), rhythm, lambda: waits[min(passes.ended, 2)])
        running = asyncio.create_task(reconciler.run())
        await until(lambda: passes.ended == 2)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(run())


def test_it_says_since_when_a_pass_is_under_way():
    passes = Passes()
    passes.gate.clear()

    async def scene(reconciler):
        await until(lambda: reconciler.busy_since is not None)
        passes.gate.set()
        await until(lambda: reconciler.busy_since is None)

    live(scene, passes.once)


def test_a_deletion_that_no_watch_told_is_found():
    async def scene(bench):
        populate(bench.fake, ("shop/web", "shop/mail"), nodes=("n1",))
        await bench.settle()
        bench.fake.remove("virtualips", "shop/web", silently=True)
        await bench.once()
        routers = bench.fake.get("speakerconfigs", "n1")["spec"]["virtualRouters"]
        assert [router["name"] for router in routers] == ["shop/mail"]

    play(scene)


def test_an_api_server_that_fails_is_a_failure_that_passes():
    async def scene(bench):
        populate(bench.fake)
        fault = bench.fake.fail("GET", "", status=500)
        assert not await bench.once()
        assert "GET" in bench.reconciliation.obstacle
        assert bench.count("reconciles_total", result="failure") == 1
        bench.fake.faults.remove(fault)
        assert await bench.once()
        assert bench.reconciliation.obstacle == ""

    play(scene)


def test_an_api_server_that_asks_to_be_left_alone_is():
    async def scene(bench):
        populate(bench.fake)
        bench.fake.fail("GET", "/api/v1/nodes", status=503, retry_after=7)
        assert not await bench.reconciliation.once()
        assert bench.reconciliation.leave_alone_seconds == 7

    play(scene)


def test_a_pass_that_failed_is_not_tried_again_before_the_api_server_said():
    passes = Passes(False, True)

    async def run():
        waits = []

        def leave_alone():
            waits.append(passes.ended)
            return 0.02

        reconciler = Reconciler(passes.once, Random(1), QUICK, leave_alone=leave_alone)
        running = asyncio.create_task(reconciler.run())
        await until(lambda: passes.ended == 2)
        running.cancel()
        assert waits == [1]

    asyncio.run(run())


def test_a_change_is_looked_at_however_often_passes_have_failed():
    passes = Passes(*[False] * 5)

    async def scene(reconciler):
        await until(lambda: passes.ended == 5)
        for wanted in (6, 7, 8):
            passes.results.append(False)
            reconciler.mark()
            await until(lambda wanted=wanted: passes.ended >= wanted)

    live(scene, passes.once, replace(QUICK, first_retry=0.01, last_retry=3600.0))
