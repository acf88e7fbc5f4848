"""What is written, and what is not, against an API server in memory."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
import pytest

from holdfast_api.cluster import (
    NOT_HEARD_SINCE_ANNOTATION,
    PLANNED_FROM_ANNOTATION,
    SpeakerConfigSpec,
    VirtualIPState,
    VirtualIPStatus,
)
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_operator.writer import AT_ONCE, UNANSWERED_AT_MOST, NotLeader
from holdfast_testing.operator_world import play, populate, put_virtual_ip, simple_plan, tell_links, tell_master

SPEAKERS = "/apis/holdfast.dev/v1alpha1/speakerconfigs"
WEB = "/apis/holdfast.dev/v1alpha1/namespaces/shop/virtualips/web"


def test_a_new_cluster_gets_a_configuration_for_each_node_and_a_status_for_each_virtual_ip():
    async def scene(bench):
        populate(bench.fake)
        assert await bench.once()
        assert sorted(bench.written()) == [
            ("PATCH", f"{WEB}/status"),
            ("PATCH", f"{SPEAKERS}/n1"),
            ("PATCH", f"{SPEAKERS}/n2"),
        ]
        assert bench.fake.get("virtualips", "shop/web")["status"] == {
            "observedGeneration": 1,
            "state": "Pending",
            "moves": 0,
        }
        assert bench.count("writes_total", resource="speakerconfigs", verb="apply") == 2

    play(scene)


def test_a_node_gets_its_configuration_once_its_agent_has_said_what_runs():
    async def scene(bench):
        populate(bench.fake)
        assert await bench.once()
        assert bench.fake.get("speakerconfigs", "n1")["spec"] == {"nodeName": "n1"}
        tell_links(bench.fake, "n1")
        assert await bench.once()
        routers = bench.fake.get("speakerconfigs", "n1")["spec"]["virtualRouters"]
        assert [router["name"] for router in routers] == ["shop/web"]
        assert bench.fake.get("speakerconfigs", "n2")["spec"] == {"nodeName": "n2"}

    play(scene)


def test_configurations_are_written_before_words_about_them():
    async def scene(bench):
        populate(bench.fake)
        await bench.once()
        assert bench.written()[-1] == ("PATCH", f"{WEB}/status")

    play(scene)


def test_nothing_is_written_when_nothing_has_changed():
    async def scene(bench):
        populate(bench.fake, ("shop/web", "shop/mail"))
        await bench.once()
        bench.written()
        assert await bench.once()
        assert bench.written() == []

    play(scene)


def test_defaults_that_the_api_server_fills_in_are_no_difference():
    async def scene(bench):
        populate(bench.fake)
        await bench.settle()
        speaker = bench.fake.get("speakerconfigs", "n1")
        speaker["spec"]["virtualRouters"][0]["version"] = 3
        speaker["spec"]["tracking"] = []
        bench.fake.put("speakerconfigs", speaker)
        bench.written()
        await bench.once()
        assert bench.written() == []

    play(scene)


def test_the_order_of_the_api_servers_lists_is_no_difference():
    async def scene(bench):
        populate(bench.fake, ("shop/web", "shop/mail"))
        await bench.settle()
        speaker = bench.fake.get("speakerconfigs", "n1")
        speaker["spec"]["virtualRouters"].reverse()
        bench.fake.put("speakerconfigs", speaker)
        bench.written()
        await bench.once()
        assert bench.written() == []

    play(scene)


def test_what_somebody_else_wrote_into_a_configuration_is_put_right():
    async def scene(bench):
        populate(bench.fake, nodes=("n1",))
        await bench.settle()
        wanted = bench.fake.get("speakerconfigs", "n1")
        edited = bench.fake.get("speakerconfigs", "n1")
        edited["spec"]["virtualRouters"][0]["virtualRouterID"] = 99
        bench.fake.put("speakerconfigs", edited)
        await bench.once()
        assert bench.fake.get("speakerconfigs", "n1")["spec"] == wanted["spec"]

    play(scene)


def test_a_status_that_cannot_be_read_is_written_anew():
    async def scene(bench):
        populate(bench.fake, nodes=("n1",))
        await bench.once()
        bench.fake.set_status("virtualips", "shop/web", {"state": "Nonsense"}, manager="somebody")
        await bench.once()
        assert bench.fake.get("virtualips", "shop/web")["status"]["state"] == "Pending"

    play(scene)


def test_the_entries_of_the_agents_are_left_alone():
    async def scene(bench):
        populate(bench.fake)
        tell_master(bench.fake, "shop/web", "n1")
        await bench.once()
        put_virtual_ip(bench.fake, "shop/web", "10.0.0.2")
        await bench.once()
        status = bench.fake.get("virtualips", "shop/web")["status"]
        assert [entry["nodeName"] for entry in status["nodes"]] == ["n1", "n2"]
        assert status["holder"] == "n1"

    play(scene)


def test_what_the_plan_leaves_out_goes_from_the_status():
    async def scene(bench):
        populate(bench.fake)
        tell_master(bench.fake, "shop/web", "n1")
        await bench.once()
        assert bench.fake.get("virtualips", "shop/web")["status"]["holder"] == "n1"
        tell_master(bench.fake, "shop/web", "nobody")
        await bench.once()
        assert "holder" not in bench.fake.get("virtualips", "shop/web")["status"]

    play(scene)


def test_a_node_that_is_gone_takes_its_configuration_and_its_entries_with_it():
    async def scene(bench):
        populate(bench.fake)
        tell_master(bench.fake, "shop/web", "n1")
        await bench.once()
        bench.fake.remove("nodes", "n2")
        bench.written()
        await bench.once()
        assert sorted(bench.written()) == [("DELETE", f"{SPEAKERS}/n2"), ("PATCH", f"{WEB}/status")]
        assert bench.fake.get("speakerconfigs", "n2") is None
        entries = bench.fake.get("virtualips", "shop/web")["status"]["nodes"]
        assert [entry["nodeName"] for entry in entries] == ["n1"]
        await bench.once()
        assert bench.written() == []

    play(scene)


def test_whoever_leaves_owns_nothing_any_more():
    """An empty status would be something: the API server keeps a field manager that owns it, of each node there was."""

    async def scene(bench):
        populate(bench.fake)
        await bench.once()
        tell_master(bench.fake, "shop/web", "n1")
        bench.fake.remove("nodes", "n2")
        await bench.once()
        of_the_agent = [one for one in bench.fake.writes() if one.query.get("fieldManager") == "holdfast-agent-n2"]
        assert [sorted(one.body) for one in of_the_agent] == [["apiVersion", "kind", "metadata"]]
        of_statuses = [one for one in bench.fake.writes() if one.path == f"{WEB}/status"]
        assert of_statuses[-1] == of_the_agent[-1], "after what the operator says: a status may not become empty"

    play(scene)


def test_a_virtual_ip_that_vanished_meanwhile_is_no_failure():
    async def scene(bench):
        def plan(view, now):
            bench.fake.remove("virtualips", "shop/web")
            return simple_plan(view, now)

        populate(bench.fake)
        bench.plan = plan
        assert await bench.once()
        assert bench.fake.all("virtualips") == []
        assert bench.count("write_failures_total", resource="virtualips/status", verb="apply") == 0

    play(scene)


def test_a_configuration_that_was_made_anew_meanwhile_is_not_deleted():
    async def scene(bench):
        def plan(view, now):
            bench.fake.remove("speakerconfigs", "n2")
            bench.fake.put("speakerconfigs", {"metadata": {"name": "n2"}, "spec": {"nodeName": "n2"}})
            return simple_plan(view, now)

        populate(bench.fake)
        await bench.once()
        bench.fake.remove("nodes", "n2")
        bench.plan = plan
        assert not await bench.once()
        assert bench.fake.get("speakerconfigs", "n2") is not None

    play(scene)


def test_one_refused_write_keeps_no_other_from_being_written():
    async def scene(bench):
        populate(bench.fake)
        bench.fake.fail("PATCH", "speakerconfigs/n1", status=500)
        assert not await bench.once()
        assert bench.fake.get("speakerconfigs", "n1") is None
        assert bench.fake.get("speakerconfigs", "n2") is not None
        assert bench.fake.get("virtualips", "shop/web")["status"]["state"] == "Pending"
        assert bench.count("write_failures_total", resource="speakerconfigs", verb="apply") == 1

    play(scene)


def test_a_connection_that_breaks_is_a_failure_that_is_made_good():
    async def scene(bench):
        populate(bench.fake)
        bench.fake.fail("PATCH", "speakerconfigs/n1", drop=True, times=1)
        assert not await bench.once()
        assert await bench.once()
        assert bench.fake.get("speakerconfigs", "n1") is not None

    play(scene)


def test_a_thousand_statuses_are_written_a_few_at_a_time_and_once_each():
    async def scene(bench):
        keys = tuple(f"shop/web-{number}" for number in range(1000))
        populate(bench.fake, keys, nodes=("n1",))
        most = under_way = 0

        async def count(fault, request):
            nonlocal most, under_way
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

        bench.fake._befall = count
        bench.fake.fail("PATCH", "/status")
        assert await bench.once()
        assert most <= AT_ONCE
        assert sorted(path for _, path in bench.written() if path.endswith("/status")) == sorted(
            f"/apis/holdfast.dev/v1alpha1/namespaces/shop/virtualips/web-{number}/status" for number in range(1000)
        )

    play(scene)


def test_whoever_does_not_lead_writes_nothing():
    async def scene(bench):
        populate(bench.fake)
        bench.may_write = False
        with pytest.raises(NotLeader):
            await bench.once()
        assert bench.written() == []

    play(scene)


def test_a_lease_that_is_lost_between_two_writes_stops_the_second():
    async def scene(bench):
        def plan(view, now):
            return ClusterPlan({"n1": SpeakerConfigSpec(node_name="n1")}, simple_plan(view, now).statuses, {}, ())

        populate(bench.fake)
        bench.plan = plan
        answer = bench.fake._answer

        def answer_and_lose(request, body):
            if request.method == "PATCH":
                bench.may_write = False
            return answer(request, body)

        bench.fake._answer = answer_and_lose
        with pytest.raises(NotLeader):
            await bench.once()
        assert bench.written() == [("PATCH", f"{SPEAKERS}/n1")]

    play(scene)


def test_the_state_is_written_even_where_it_is_the_default():
    assert "state" not in msgspec.to_builtins(VirtualIPStatus())

    async def scene(bench):
        populate(bench.fake)
        bench.plan = lambda view, now: ClusterPlan({}, {"shop/web": VirtualIPStatus()}, {}, ())
        await bench.once()
        assert bench.fake.get("virtualips", "shop/web")["status"]["state"] == VirtualIPState.PENDING.value

    play(scene)


def test_every_configuration_says_what_it_was_planned_from():
    async def scene(bench):
        populate(bench.fake)
        await bench.settle()
        definition = bench.fake.get("customresourcedefinitions", "virtualips.holdfast.dev")
        annotations = bench.fake.get("speakerconfigs", "n1")["metadata"]["annotations"]
        assert annotations == {PLANNED_FROM_ANNOTATION: definition["metadata"]["uid"]}
        await bench.once()
        assert bench.written() == []

    play(scene)


def test_what_the_plan_has_to_remember_is_written_once_and_taken_away():
    async def scene(bench):
        populate(bench.fake)
        await bench.settle()
        before = bench.fake.get("speakerconfigs", "n1")["metadata"]
        remembered = {"n1": {NOT_HEARD_SINCE_ANNOTATION: "2026-11-23T12:00:00.000Z"}}
        bench.plan = lambda view, now: dataclasses.replace(simple_plan(view, now), annotations=remembered)
        await bench.once()
        found = bench.fake.get("speakerconfigs", "n1")["metadata"]
        assert found["annotations"] == before["annotations"] | remembered["n1"]
        assert found["generation"] == before["generation"], "no engine is bothered"
        bench.written()
        await bench.once()
        assert bench.written() == []
        bench.plan = simple_plan
        await bench.once()
        assert bench.fake.get("speakerconfigs", "n1")["metadata"]["annotations"] == before["annotations"]

    play(scene)


def test_before_an_agent_has_said_what_links_it_has_nothing_is_marked_as_planned():
    async def scene(bench):
        populate(bench.fake)
        await bench.once()
        assert "annotations" not in bench.fake.get("speakerconfigs", "n1")["metadata"]
        tell_links(bench.fake, "n1")
        await bench.once()
        assert PLANNED_FROM_ANNOTATION in bench.fake.get("speakerconfigs", "n1")["metadata"]["annotations"]
        assert "annotations" not in bench.fake.get("speakerconfigs", "n2")["metadata"]

    play(scene)


def by_links(view, now):
    """A planner that gives routers only to nodes whose links it knows, as the real one does."""
    plan = simple_plan(view, now)
    speakers = {
        name: spec if name in view.speakers and view.speakers[name].status.links else SpeakerConfigSpec(node_name=name)
        for name, spec in plan.speakers.items()
    }
    return dataclasses.replace(plan, speakers=speakers)


def test_a_configuration_that_somebody_deleted_comes_back_with_all_that_the_node_runs():
    async def scene(bench):
        populate(bench.fake)
        bench.plan = by_links
        await bench.settle()
        before = bench.fake.get("speakerconfigs", "n1")
        assert before["spec"]["virtualRouters"]
        for name in ("n1", "n2"):
            bench.fake.remove("speakerconfigs", name)
        await bench.once()
        anew = bench.fake.get("speakerconfigs", "n1")
        assert anew["metadata"]["uid"] != before["metadata"]["uid"]
        assert anew["metadata"]["annotations"] == before["metadata"]["annotations"]
        assert anew["spec"] == before["spec"]
        bench.written()
        await bench.once()  # its agent has not said anything yet
        assert bench.written() == []
        bench.fake.remove("virtualips", "shop/web")
        await bench.once()
        assert "virtualRouters" not in bench.fake.get("speakerconfigs", "n1")["spec"]

    play(scene)


def test_what_a_node_said_is_forgotten_with_the_node():
    async def scene(bench):
        populate(bench.fake)
        bench.plan = by_links
        await bench.settle()
        bench.fake.remove("nodes", "n2")
        await bench.once()
        bench.fake.put("nodes", {"metadata": {"name": "n2"}})
        await bench.once()
        assert "virtualRouters" not in bench.fake.get("speakerconfigs", "n2")["spec"]

    play(scene)


def test_what_is_said_no_more_goes_though_somebody_else_owns_it_too():
    async def scene(bench):
        populate(bench.fake)
        await bench.settle()
        tell_master(bench.fake, "shop/web", "n1")
        await bench.once()
        told = bench.fake.get("virtualips", "shop/web")["status"]
        assert told["holder"] == "n1"
        bench.fake.set_status("virtualips", "shop/web", {"holder": "n1", "moves": 3}, manager="somebody")
        tell_master(bench.fake, "shop/web", "nobody")
        assert await bench.once()
        status = bench.fake.get("virtualips", "shop/web")["status"]
        assert "holder" not in status
        assert "moves" not in status
        assert [entry["state"] for entry in status["nodes"]] == ["Backup", "Backup"]

    play(scene)


# ----- what cannot be written -----


def names(fake, node_name):
    speaker = fake.get("speakerconfigs", node_name)
    return {router["name"] for router in speaker["spec"]["virtualRouters"]}


def test_an_object_that_fails_for_ever_delays_nothing_else():
    async def scene(bench):
        populate(bench.fake)
        await bench.settle()
        bench.fake.fail("PATCH", "/speakerconfigs/n1", status=422)
        put_virtual_ip(bench.fake, "shop/mail")
        for _ in range(5):
            assert await bench.reconciliation.once(), "it got through, so that nothing waits for a back-off of its own"
        assert "1 objects cannot be written: speakerconfigs/n1" in bench.reconciliation.obstacle
        assert "shop/mail" in names(bench.fake, "n2")
        tried = [one for one in bench.fake.requests if one.path.endswith("/n1") and one.method == "PATCH"]
        assert len(tried) == 1
        assert 0 < bench.reconciliation.look_again_seconds() <= 0.5
        bench.fake.faults.clear()
        bench.tried_again += bench.reconciliation.look_again_seconds()
        assert await bench.reconciliation.once()
        assert names(bench.fake, "n1") == names(bench.fake, "n2")
        assert bench.reconciliation.look_again_seconds() is None

    play(scene)


def test_another_wish_for_an_object_that_failed_is_tried_at_once():
    async def scene(bench):
        populate(bench.fake)
        await bench.settle()
        fault = bench.fake.fail("PATCH", "/speakerconfigs/n1", status=500)
        put_virtual_ip(bench.fake, "shop/mail")
        await bench.reconciliation.once()
        bench.fake.faults.remove(fault)
        put_virtual_ip(bench.fake, "shop/more")
        await bench.reconciliation.once()
        assert "shop/more" in names(bench.fake, "n1")

    play(scene)


def test_an_object_is_left_alone_for_as_long_as_the_api_server_asks():
    async def scene(bench):
        populate(bench.fake)
        await bench.settle()
        bench.fake.fail("PATCH", "/speakerconfigs/n1", status=429, retry_after=20, times=1)
        put_virtual_ip(bench.fake, "shop/mail")
        await bench.reconciliation.once()
        assert bench.reconciliation.look_again_seconds() == 20

    play(scene)


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}, {"drop": True}])
def test_an_api_server_that_takes_nothing_is_not_asked_for_each_object(fault):
    async def scene(bench):
        populate(bench.fake, nodes=tuple(f"n{number}" for number in range(100)))
        made = bench.fake.fail("PATCH", "/speakerconfigs/", **fault)
        assert not await bench.once()
        assert UNANSWERED_AT_MOST <= made.met <= AT_ONCE + UNANSWERED_AT_MOST
        bench.fake.faults.clear()
        assert await bench.once()

    play(scene)


def test_what_is_beyond_the_schema_is_refused_and_costs_that_object():
    async def scene(bench):
        populate(bench.fake, ("shop/web", "shop/mail"), nodes=("n1",))
        too_long = VirtualIPStatus(holder="n" * 254)
        bench.plan = lambda view, now: ClusterPlan(
            {}, {"shop/web": too_long, "shop/mail": VirtualIPStatus(holder="n1")}, {}, ()
        )
        assert not await bench.once()
        assert "virtualips/shop/web" in bench.reconciliation.obstacle
        assert bench.fake.get("virtualips", "shop/mail")["status"]["holder"] == "n1"

    play(scene)
