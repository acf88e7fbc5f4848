"""Who leads, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import pytest
from kubernetes.aio.client import Configuration

from holdfast_kube.api_server import APIServer
from holdfast_operator.leader import Elector, LeaseName, Timing
from holdfast_operator.process import PATIENCE
from holdfast_testing.fake_api import FakeAPI
from holdfast_testing.operator_world import until

TIMING = Timing(lease_seconds=15, renew_seconds=10, retry_seconds=0.01)
PATH = "holdfast-system/holdfast-operator"


class Replica:
    """An elector, with a clock that only the test moves."""

    def __init__(self, api, name, timing):
        self.now = 1000.0
        self.terms = 0
        self.leads = False
        self.ends_with = asyncio.Event()
        self.elector = Elector(api, LeaseName(*PATH.split("/")), name, Random(1), lambda: self.now, timing)

    async def lead(self):
        self.terms += 1
        self.leads = True
        try:
            await self.ends_with.wait()
            raise RuntimeError("the reconciler is broken")
        finally:
            self.leads = False


@contextlib.asynccontextmanager
async def replica(fake, name, timing=TIMING):
    async with APIServer(Configuration(host=fake.url), name, PATIENCE) as api:
        made = Replica(api, name, timing)
        running = asyncio.create_task(made.elector.run(made.lead))
        made.running = running
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.wait({running})


def play(scene):
    async def run():
        async with FakeAPI() as fake:
            await scene(fake)

    asyncio.run(run())


def lease(fake):
    return fake.get("leases", PATH)["spec"]


def renewals(fake, name):
    return [request for request in fake.requests if request.method == "PUT" and name in request.agent]


async def asks(fake, name):
    """Wait until it has asked for the Lease twice more: what it knew before, it has thought over."""
    seen = len([request for request in fake.requests if name in request.agent])
    await until(lambda: len([request for request in fake.requests if name in request.agent]) >= seen + 2)


def test_a_lease_that_nobody_holds_is_taken():
    async def scene(fake):
        async with replica(fake, "a") as a:
            await until(lambda: a.leads)
            assert a.elector.is_leader()
            held = lease(fake)
            assert (held["holderIdentity"], held["leaseDurationSeconds"], held["leaseTransitions"]) == ("a", 15, 0)

    play(scene)


def test_it_is_renewed_and_keeps_its_beginning():
    async def scene(fake):
        async with replica(fake, "a") as a:
            await until(lambda: a.leads)
            acquired = lease(fake)["acquireTime"]
            await until(lambda: len(renewals(fake, "a")) >= 3)
            assert a.terms == 1
            assert (lease(fake)["acquireTime"], lease(fake)["leaseTransitions"]) == (acquired, 0)

    play(scene)


def test_another_replica_waits_as_long_as_it_sees_renewals():
    async def scene(fake):
        async with replica(fake, "a") as a, replica(fake, "b") as b:
            await until(lambda: a.leads or b.leads)
            waiting, holding = (b, "a") if a.leads else (a, "b")
            for _ in range(5):
                renewed = len(renewals(fake, holding))
                await until(lambda seen=renewed: len(renewals(fake, holding)) > seen)
                await asks(fake, "b" if holding == "a" else "a")
                waiting.now += TIMING.lease_seconds - 1
            assert not waiting.leads

    play(scene)


def test_a_lease_that_is_not_renewed_is_taken_after_its_duration_on_the_takers_own_clock():
    async def scene(fake):
        fake.put(
            "leases",
            {
                "metadata": {"namespace": "holdfast-system", "name": "holdfast-operator"},
                "spec": {
                    "holderIdentity": "dead",
                    "leaseDurationSeconds": 15,
                    "leaseTransitions": 3,
                    # Long ago, or still to come: clocks of other hosts are not believed.
                    "renewTime": "2001-01-01T00:00:00.000000Z",
                },
            },
        )
        async with replica(fake, "a") as a:
            await asks(fake, "a")
            a.now += 14.9
            await asks(fake, "a")
            assert not a.leads
            a.now += 0.2
            await until(lambda: a.leads)
            assert (lease(fake)["holderIdentity"], lease(fake)["leaseTransitions"]) == ("a", 4)

    play(scene)


def test_a_leader_that_cannot_renew_stops_before_anybody_else_begins():
    async def scene(fake):
        async with replica(fake, "a") as a:
            await until(lambda: a.leads)
            fake.fail("*", "/leases", status=500)
            a.now += TIMING.renew_seconds - 0.1
            assert a.elector.is_leader()
            a.now += 0.2
            # At once and without a turn of the loop: also in a process that was frozen for so long.
            assert not a.elector.is_leader()
            await until(lambda: not a.leads)

    play(scene)


def test_a_leader_whose_requests_hang_stops_in_time():
    async def scene(fake):
        timing = Timing(lease_seconds=1, renew_seconds=0.2, retry_seconds=0.01)
        async with replica(fake, "a", timing) as a:
            loop = asyncio.get_running_loop()
            a.elector._clock = loop.time
            await until(lambda: a.leads)
            fake.fail("PUT", "/leases", seconds=3600)
            await until(lambda: not a.leads)

    play(scene)


def test_a_lease_lost_is_taken_again_when_it_can_be():
    async def scene(fake):
        async with replica(fake, "a") as a:
            await until(lambda: a.leads)
            fault = fake.fail("*", "/leases", status=500)
            a.now += TIMING.renew_seconds
            await until(lambda: not a.leads)
            fake.faults.remove(fault)
            await until(lambda: a.leads)
            assert a.terms == 2

    play(scene)


def test_when_stopped_it_gives_the_lease_back_after_its_work_has_ended():
    async def scene(fake):
        async with replica(fake, "a") as a:
            await until(lambda: a.leads)
        assert not a.leads
        assert lease(fake)["holderIdentity"] == ""
        async with replica(fake, "b") as b:
            await until(lambda: b.leads)  # without its clock having moved
            assert lease(fake)["leaseTransitions"] == 1

    play(scene)


def test_a_lease_that_another_took_is_not_given_back():
    async def scene(fake):
        async with replica(fake, "a") as a:
            await until(lambda: a.leads)
            stolen = fake.get("leases", PATH)
            stolen["spec"]["holderIdentity"] = "b"
            fake.put("leases", stolen)
            await until(lambda: not a.leads)
        assert lease(fake)["holderIdentity"] == "b"

    play(scene)


def test_of_two_that_ask_at_once_one_gets_it():
    async def scene(fake):
        async with replica(fake, "a") as a, replica(fake, "b") as b:
            await until(lambda: a.leads or b.leads)
            await asks(fake, "a")
            await asks(fake, "b")
            assert a.leads is not b.leads

    play(scene)


def test_a_lease_that_somebody_deleted_is_made_anew_without_a_pause():
    async def scene(fake):
        async with replica(fake, "a") as a:
            await until(lambda: a.leads)
            fake.remove("leases", PATH)
            await until(lambda: fake.get("leases", PATH) is not None)
            assert (a.leads, a.terms) == (True, 1)

    play(scene)


def test_work_that_ends_with_an_error_ends_the_process_and_frees_the_lease():
    async def scene(fake):
        async with replica(fake, "a") as a:
            await until(lambda: a.leads)
            a.ends_with.set()
            with pytest.raises(RuntimeError, match="the reconciler is broken"):
                await a.running
            assert lease(fake)["holderIdentity"] == ""

    play(scene)
