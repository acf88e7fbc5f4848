"""The whole operator, with kopf's watches and the Lease, against an API server in memory."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from holdfast_api.errors import EnvironmentFailure
from holdfast_operator.leader import Timing
from holdfast_operator.reconciler import Rhythm
from holdfast_testing.fake_api import FakeAPI
from holdfast_testing.operator_world import (
    WATCHES,
    operator,
    populate,
    put_virtual_ip,
    simple_plan,
    tell_links,
    tell_master,
    until,
)

LEASE = "holdfast-system/holdfast-operator"
LONG_LEASE = Timing(lease_seconds=15, renew_seconds=10, retry_seconds=0.05)


def play(scene):
    async def run():
        async with FakeAPI() as fake:
            await scene(fake)

    asyncio.run(run())


async def agents_answer(fake, *node_names):
    """Each says what its engine runs, as soon as it has a SpeakerConfig and somebody listens."""
    await until(lambda: fake.watch_count == WATCHES and all(fake.get("speakerconfigs", name) for name in node_names))
    tell_links(fake, *node_names)


def routers(fake, node_name):
    speaker = fake.get("speakerconfigs", node_name) or {"spec": {}}
    return [router["name"] for router in speaker["spec"].get("virtualRouters", [])]


async def settled(fake, made):
    """Wait until it has listed everything twice more and written nothing."""
    while True:
        passes, writes = lists(fake), len(fake.writes())
        made._reconciler.mark()
        await until(lambda seen=passes: lists(fake) > seen)
        await until(lambda: made._reconciler.busy_since is None)
        if len(fake.writes()) == writes:
            return


def lists(fake):
    return len([one for one in fake.requests if "definitions/speakerconfigs" in one.path])


def test_from_the_first_virtual_ip_to_its_end():
    async def scene(fake):
        populate(fake, ())
        async with operator(fake, "a") as a:
            await agents_answer(fake, "n1", "n2")
            put_virtual_ip(fake, "shop/web")
            await until(lambda: routers(fake, "n1") == routers(fake, "n2") == ["shop/web"])
            tell_master(fake, "shop/web", "n2")
            await until(lambda: fake.get("virtualips", "shop/web")["status"].get("holder") == "n2")
            await until(lambda: [event["note"] for event in fake.all("events")] == ["held by n2 now"])
            fake.put("nodes", {"metadata": {"name": "n3"}})
            await agents_answer(fake, "n3")
            await until(lambda: routers(fake, "n3") == ["shop/web"])
            fake.remove("virtualips", "shop/web")
            await until(lambda: not any(routers(fake, name) for name in ("n1", "n2", "n3")))
            assert (await a.is_alive(), await a.is_ready()) == ("", "")

    play(scene)


def test_nothing_is_written_after_a_restart():
    async def scene(fake):
        populate(fake)
        tell_master(fake, "shop/web", "n1")
        async with operator(fake, "a") as a:
            await until(lambda: fake.all("events"))
            await until(lambda: fake.watch_count == WATCHES)
            await settled(fake, a)
        fake.requests.clear()
        async with operator(fake, "b") as b:
            await until(lambda: fake.watch_count == WATCHES)
            await settled(fake, b)
        assert fake.writes() == []

    play(scene)


def test_a_heartbeat_of_a_node_is_no_reason_to_look():
    async def scene(fake):
        populate(fake)
        async with operator(fake, "a") as a:
            await until(lambda: fake.watch_count == WATCHES)
            await settled(fake, a)
            seen = a.metrics.registry.get_sample_value("holdfast_operator_watch_events_total", {"resource": "nodes"})
            node = fake.get("nodes", "n1")
            for at in ("then", "now"):
                node["status"] = {"conditions": [{"type": "Ready", "status": "False", "lastHeartbeatTime": at}]}
                fake.put("nodes", node)
            node["spec"] = {"unschedulable": True}
            fake.put("nodes", node)

            def events():
                return a.metrics.registry.get_sample_value(
                    "holdfast_operator_watch_events_total", {"resource": "nodes"}
                )

            await until(lambda: events() == seen + 1)

    play(scene)


def test_deletions_that_a_new_list_of_the_watch_swallowed_are_found():
    async def scene(fake):
        populate(fake, ("shop/web", "shop/mail"))
        async with operator(fake, "a", rhythm=Rhythm(debounce=0.005, resync=0.2)):
            await agents_answer(fake, "n1", "n2")
            await until(lambda: len(routers(fake, "n1")) == 2)
            fake.compact()  # from here on the watches have to list anew
            fake.remove("virtualips", "shop/web", silently=True)
            fake.drop_watches()
            await until(lambda: routers(fake, "n1") == ["shop/mail"])

    play(scene)


def test_kopf_writes_nothing_into_the_objects():
    async def scene(fake):
        populate(fake)
        async with operator(fake, "a") as a:
            await until(lambda: fake.watch_count == WATCHES)
            await settled(fake, a)
        assert [one for one in fake.requests if "kopf" in one.agent and one.method != "GET"] == []
        assert "annotations" not in fake.get("virtualips", "shop/web")["metadata"]
        assert "finalizers" not in fake.get("virtualips", "shop/web")["metadata"]

    play(scene)


def test_a_watch_needs_no_right_that_the_operator_does_not_have():
    async def scene(fake):
        populate(fake)
        async with operator(fake, "a"):
            await until(lambda: fake.watch_count == WATCHES)
        asked = {one.path for one in fake.requests if "kopf" in one.agent}
        group = "/apis/holdfast.dev/v1alpha1"
        discovery = {"/api", "/api/v1", "/apis", "/apis/apiextensions.k8s.io/v1", group}
        assert asked - discovery == {f"{group}/virtualips", f"{group}/speakerconfigs", "/api/v1/nodes"}

    play(scene)


def test_an_error_in_a_watch_ends_the_process_and_frees_the_lease():
    async def scene(fake):
        async def live():
            async with operator(fake, "a") as a:
                await until(lambda: fake.watch_count == WATCHES and a._elector.is_leader())
                await fake.say_in_watches({"type": "ERROR", "object": {"kind": "Status", "code": 500}})
                await until(lambda: fake.get("leases", LEASE)["spec"]["holderIdentity"] == "")

        populate(fake)
        with pytest.raises(EnvironmentFailure, match="the watches have ended"):
            await live()

    play(scene)


def test_without_definitions_it_waits_and_says_so():
    async def scene(fake):
        fake.undefine("virtualips")
        fake.undefine("speakerconfigs")
        fake.put("nodes", {"metadata": {"name": "n1"}})
        async with operator(fake, "a") as a:
            assert await a.is_ready() != ""
            held = {"cause": "CustomResourceDefinitionMissing"}
            await until(lambda: a.metrics.registry.get_sample_value("holdfast_operator_held", held) == 1)
            assert "the API server knows no" in await a.is_ready()
            assert await a.is_alive() == ""
            assert fake.writes() == []
            fake.define("virtualips")
            fake.define("speakerconfigs")
            await until(lambda: fake.get("speakerconfigs", "n1") and fake.watch_count == WATCHES)
            await until(lambda: a._reconciliation.obstacle == "")
            assert await a.is_ready() == ""

    play(scene)


def test_a_definition_that_is_deleted_under_it_releases_nothing():
    async def scene(fake):
        populate(fake)
        async with operator(fake, "a") as a:
            await agents_answer(fake, "n1", "n2")
            await until(lambda: routers(fake, "n1"))
            await settled(fake, a)
            fake.requests.clear()
            fake.begin_deletion("virtualips")
            await until(lambda: a._reconciliation.obstacle)
            assert "is being deleted" in await a.is_ready()
            assert (fake.writes(), routers(fake, "n1")) == ([], ["shop/web"])

    play(scene)


def test_when_stopped_it_hands_over_at_once():
    async def scene(fake):
        populate(fake)
        async with operator(fake, "a", timing=LONG_LEASE) as a, operator(fake, "b", timing=LONG_LEASE) as b:
            await until(lambda: a._elector.is_leader() or b._elector.is_leader())
            first, second = (a, b) if a._elector.is_leader() else (b, a)
            assert not second._elector.is_leader()
            await until(lambda: fake.watch_count == 2 * WATCHES)
            assert (await second.is_ready(), await second.is_alive()) == ("", "")
            first.stop()
            await until(second._elector.is_leader)
            assert not first._elector.is_leader()

    play(scene)


def test_two_replicas_never_both_write():
    async def scene(fake):
        populate(fake, tuple(f"shop/web-{number}" for number in range(20)))
        async with operator(fake, "one") as one, operator(fake, "two") as two:
            for _ in range(3):
                await until(lambda: one._elector.is_leader() or two._elector.is_leader())
                leader, other = ("one", two) if one._elector.is_leader() else ("two", one)
                # It loses the way to its Lease, in the midst of work for both.
                fault = fake.fail("*", "/leases", agent=f"({leader})", drop=True)
                while not other._elector.is_leader():
                    for number in range(20):
                        tell_master(fake, f"shop/web-{number}", f"n{1 + fake._version % 2}")
                    await asyncio.sleep(0.02)
                await settled(fake, other)
                fake.faults.remove(fault)
        writers = ["one" if "(one)" in request.agent else "two" for request in fake.writes()]
        assert set(writers) == {"one", "two"}
        changes = sum(before != after for before, after in itertools.pairwise(writers))
        assert changes <= 3, "they wrote in turns"

    play(scene)


def test_a_leader_without_its_lease_writes_no_more():
    async def scene(fake):
        populate(fake)
        async with operator(fake, "a") as a:
            await agents_answer(fake, "n1", "n2")
            await until(lambda: routers(fake, "n1") and routers(fake, "n2"))
            fake.fail("*", "/leases", status=500)
            await until(lambda: not a._elector.is_leader())
            fake.requests.clear()
            put_virtual_ip(fake, "shop/mail")
            await until(lambda: any("/leases" in one.path for one in fake.requests))
            assert fake.writes() == []
            assert routers(fake, "n1") == ["shop/web"]
            assert a.metrics.registry.get_sample_value("holdfast_operator_is_leader") == 0

    play(scene)


def test_a_leader_without_its_lease_tells_nothing_of_the_cluster_any_more():
    """Another replica does, and one that goes on with what it knew would be counted beside it."""

    def told(metrics):
        of_the_cluster = {"node", "virtual_ip", "service", "pool"}
        samples = (sample for family in metrics.registry.collect() for sample in family.samples)
        return {sample.name for sample in samples if not of_the_cluster.isdisjoint(sample.labels)}

    async def scene(fake):
        populate(fake)
        async with operator(fake, "a") as a:
            await agents_answer(fake, "n1", "n2")
            await until(lambda: "holdfast_operator_node_virtual_ips_held" in told(a.metrics))
            assert "holdfast_operator_speaker_heard" in told(a.metrics)
            fake.fail("*", "/leases", status=500)
            await until(lambda: told(a.metrics) == set())

    play(scene)


def test_an_error_in_the_planner_ends_the_process():
    def broken(view, now):
        raise ZeroDivisionError

    async def scene(fake):
        async def live():
            async with operator(fake, "a", plan=broken):
                await until(lambda: fake.get("leases", LEASE))
                await until(lambda: fake.get("leases", LEASE)["spec"]["holderIdentity"] == "")

        populate(fake)
        with pytest.raises(ZeroDivisionError):
            await live()
        assert fake.writes() == []

    play(scene)


def test_the_planner_is_told_the_time_in_utc():
    told = []

    def plan(view, now):
        told.append(now)
        return simple_plan(view, now)

    async def scene(fake):
        populate(fake)
        async with operator(fake, "a", plan=plan):
            await until(lambda: told and fake.watch_count == WATCHES)
        assert told[0].endswith("Z")
        assert "T" in told[0]

    play(scene)
