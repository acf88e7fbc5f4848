"""Notices become Events, once."""

from __future__ import annotations

from holdfast_operator.events import NOTE_BYTES_MAX, SERIES_EVERY_SECONDS
from holdfast_operator.planner.cluster.view import ClusterPlan, EventType, Notice
from holdfast_testing.operator_world import Bench, play, populate, tell_master

PATH = "/apis/events.k8s.io/v1/namespaces/shop/events"


def notes(bench: Bench) -> list[str]:
    return [event["note"] for event in bench.fake.all("events")]


def always(message="somebody else answers"):
    """A planner that never stops saying it."""
    return lambda view, now: ClusterPlan(
        {}, {}, {}, [Notice("shop/web", EventType.WARNING, "SplitBrainSuspected", message)]
    )


def test_a_move_is_told_once():
    async def scene(bench):
        populate(bench.fake)
        tell_master(bench.fake, "shop/web", "n1")
        await bench.once()
        await bench.once()
        assert notes(bench) == ["held by n1 now"]
        tell_master(bench.fake, "shop/web", "n2")
        await bench.once()
        await bench.once()
        assert notes(bench) == ["held by n1 now", "held by n2 now"]

    play(scene)


def test_an_event_has_what_kubectl_describe_looks_for():
    async def scene(bench):
        populate(bench.fake)
        tell_master(bench.fake, "shop/web", "n1")
        await bench.once()
        (event,) = bench.fake.all("events")
        assert event["regarding"] == {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "VirtualIP",
            "namespace": "shop",
            "name": "web",
            "uid": bench.fake.get("virtualips", "shop/web")["metadata"]["uid"],
        }
        assert (event["type"], event["reason"], event["action"]) == ("Normal", "Moved", "Moved")
        assert event["metadata"]["namespace"] == "shop"
        assert event["reportingController"] == "holdfast.dev/operator"
        assert event["reportingInstance"] == "operator-1"

    play(scene)


def test_what_is_not_in_the_status_yet_is_not_told_yet():
    async def scene(bench):
        populate(bench.fake)
        tell_master(bench.fake, "shop/web", "n1")
        fault = bench.fake.fail("PATCH", "virtualips/web/status", status=500)
        await bench.once()
        await bench.once()
        assert notes(bench) == []
        bench.fake.faults.remove(fault)
        await bench.once()
        assert notes(bench) == ["held by n1 now"]

    play(scene)


def test_another_replica_that_says_the_same_of_the_same_state_adds_nothing():
    async def scene(bench):
        populate(bench.fake)
        other = Bench(bench.fake, bench.api)
        bench.plan = other.plan = always()
        assert await bench.once()
        assert await other.once()
        assert notes(bench) == ["somebody else answers"]
        assert other.count("write_failures_total", resource="events", verb="create") == 0

    play(scene)


def test_what_is_said_again_and_again_becomes_a_series():
    async def scene(bench):
        populate(bench.fake)
        bench.plan = always()
        for _ in range(3):
            await bench.once()
        assert [method for method, path in bench.written() if path.startswith(PATH)] == ["POST"]
        bench.now += SERIES_EVERY_SECONDS
        await bench.once()
        await bench.once()
        assert [method for method, path in bench.written() if path.startswith(PATH)] == ["PATCH"]
        (event,) = bench.fake.all("events")
        assert event["series"]["count"] == 4

    play(scene)


def test_an_event_that_is_refused_is_counted_and_holds_nothing_up():
    async def scene(bench):
        populate(bench.fake)
        tell_master(bench.fake, "shop/web", "n1")
        bench.fake.fail("POST", "/events", status=403)
        assert await bench.once()
        assert bench.count("write_failures_total", resource="events", verb="create") == 1

    play(scene)


def test_a_long_message_is_cut_between_characters():
    async def scene(bench):
        populate(bench.fake)
        bench.plan = always("x" + "é" * NOTE_BYTES_MAX)
        await bench.once()
        (note,) = notes(bench)
        assert len(note.encode()) == NOTE_BYTES_MAX - 1
        assert note.endswith("é")

    play(scene)


def test_a_notice_about_a_virtual_ip_that_is_gone_is_left_out():
    async def scene(bench):
        populate(bench.fake)
        bench.plan = always()
        bench.fake.remove("virtualips", "shop/web")
        assert await bench.once()
        assert notes(bench) == []

    play(scene)
