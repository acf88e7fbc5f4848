"""AddressPools in the whole operator: read, planned, told and remembered, on an API server in memory."""

from __future__ import annotations

from holdfast_api.cluster import POOLS_REQUIRED_ANNOTATION
from holdfast_operator.planner.cluster.plan import plan_cluster
from holdfast_testing.operator_world import Bench, play, populate, put_virtual_ip, tell_links

EDGE = {"metadata": {"name": "edge"}, "spec": {"addresses": ["10.0.0.20-10.0.0.29"], "autoAssign": True}}
POOL_STATUS = "/apis/holdfast.dev/v1alpha1/addresspools/edge/status"


async def settle(bench: Bench) -> None:
    """Until nothing is written any more."""
    bench.plan = plan_cluster
    for _ in range(6):
        assert await bench.once()
        tell_links(bench.fake, *(node["metadata"]["name"] for node in bench.fake.all("nodes")))
        if not bench.written():
            return


def accepted(bench: Bench, key: str = "shop/web") -> tuple[str, str]:
    conditions = bench.fake.get("virtualips", key)["status"]["conditions"]
    (found,) = (one for one in conditions if one["type"] == "Accepted")
    return found["status"], found["reason"]


def test_a_pools_status_is_told_once():
    async def scene(bench):
        populate(bench.fake)
        put_virtual_ip(bench.fake, "shop/web", "10.0.0.20/24")
        bench.fake.put("addresspools", EDGE)
        await settle(bench)
        status = bench.fake.get("addresspools", "edge")["status"]
        assert (status["capacity"], status["assigned"], status["available"]) == (10, 1, 9)
        assert [(one["type"], one["status"]) for one in status["conditions"]] == [("Accepted", "True")]
        assert await bench.once()
        assert bench.written() == []

    play(scene)


def test_a_pool_without_anything_left_tells_a_zero():
    async def scene(bench):
        populate(bench.fake)
        put_virtual_ip(bench.fake, "shop/web", "10.0.0.20/24")
        bench.fake.put("addresspools", {"metadata": {"name": "edge"}, "spec": {"addresses": ["10.0.0.20"]}})
        await settle(bench)
        assert bench.fake.get("addresspools", "edge")["status"]["available"] == 0

    play(scene)


def test_an_address_is_given_and_kept_by_another_operator():
    async def scene(bench):
        populate(bench.fake, ())
        bench.fake.put("addresspools", EDGE)
        bench.fake.put("virtualips", {"metadata": {"namespace": "shop", "name": "web"}, "spec": {}})
        await settle(bench)
        assert bench.fake.get("virtualips", "shop/web")["status"]["addresses"] == ["10.0.0.20"]
        lower = {"metadata": {"name": "edge"}, "spec": {"addresses": ["10.0.0.10-10.0.0.29"], "autoAssign": True}}
        bench.fake.put("addresspools", lower)
        successor = Bench(bench.fake, bench.api)
        await settle(successor)
        assert bench.fake.get("virtualips", "shop/web")["status"]["addresses"] == ["10.0.0.20"]
        (router,) = bench.fake.get("speakerconfigs", "n1")["spec"]["virtualRouters"]
        assert router["addresses"] == ["10.0.0.20"]

    play(scene)


def test_that_there_was_a_pool_is_remembered_by_the_next_operator():
    async def scene(bench):
        populate(bench.fake)
        put_virtual_ip(bench.fake, "shop/web", "10.0.0.20/24")
        bench.fake.put("addresspools", EDGE)
        await settle(bench)
        bench.fake.remove("addresspools", "edge")
        put_virtual_ip(bench.fake, "shop/new", "10.0.0.50/24")
        successor = Bench(bench.fake, bench.api)
        await settle(successor)
        assert accepted(bench, "shop/new") == ("False", "AddressNotPermitted")
        # What ran goes on.
        assert accepted(bench) == ("False", "AddressNotPermitted")
        speaker = bench.fake.get("speakerconfigs", "n1")
        assert [router["name"] for router in speaker["spec"]["virtualRouters"]] == ["shop/web"]
        assert speaker["metadata"]["annotations"][POOLS_REQUIRED_ANNOTATION] == "true"

    play(scene)


def test_a_pools_status_that_is_not_taken_fails_alone_and_is_told_later():
    async def scene(bench):
        populate(bench.fake)
        bench.plan = plan_cluster
        bench.fake.put("addresspools", EDGE)
        bench.fake.fail("PATCH", POOL_STATUS, status=500, times=1)
        assert not await bench.once()
        assert "status" not in bench.fake.get("addresspools", "edge")
        assert bench.fake.get("virtualips", "shop/web")["status"]["conditions"]
        await settle(bench)
        assert bench.fake.get("addresspools", "edge")["status"]["capacity"] == 10

    play(scene)
