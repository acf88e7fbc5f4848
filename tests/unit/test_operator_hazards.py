"""Accidents that hold everything, as pure decisions and as the operator lives through them."""

from __future__ import annotations

import dataclasses
import logging
from datetime import UTC, datetime

import pytest

from holdfast_api.cluster import (
    LOST_FOR_GOOD_ANNOTATION,
    PLANNED_FROM_ANNOTATION,
    SpeakerConfig,
    SpeakerConfigMetadata,
    SpeakerConfigSpec,
    SpeakerConfigStatus,
)
from holdfast_operator.hazards import Cause, Held, check_lost, seconds_to_wait
from holdfast_operator.planner.cluster.presence import PATIENCE_SECONDS
from holdfast_testing.operator_world import play, populate, put_speaker_pod, put_virtual_ip, simple_plan


def speaker(*names, origin="old"):
    annotations = {PLANNED_FROM_ANNOTATION: origin} if origin else {}
    return {"metadata": {"annotations": annotations}, "spec": {"virtualRouters": [{"name": name} for name in names]}}


def test_virtual_ips_that_went_with_their_definition_are_not_deleted_ones():
    with pytest.raises(Held, match="without a/x, a/y, which") as raised:
        check_lost([], {"n1": speaker("a/y", "a/x"), "n2": speaker("a/x")}, "new")
    assert raised.value.cause is Cause.VIRTUAL_IPS_LOST


def test_as_long_as_one_of_them_is_missing_it_is_the_same_accident():
    with pytest.raises(Held, match="without a/y, which"):
        check_lost(["a/x", "a/z"], {"n1": speaker("a/x", "a/y")}, "new")


@pytest.mark.parametrize(
    ("virtual_ips", "speakers"),
    [
        pytest.param(["a/x"], {"n1": speaker("a/x")}, id="all are there again"),
        pytest.param([], {"n1": speaker("a/x", origin="new")}, id="deleted under today's definition"),
        pytest.param([], {"n1": speaker()}, id="nothing runs"),
        pytest.param([], {"n1": speaker("a/x", origin=None)}, id="confirmed by a person"),
        pytest.param([], {"n1": {"metadata": {}, "spec": {"nodeName": "n1"}}}, id="no annotations, no routers"),
        pytest.param([], {}, id="a new cluster"),
    ],
)
def test_all_else_is_what_people_do(virtual_ips, speakers):
    check_lost(virtual_ips, speakers, "new")


def test_a_definition_that_is_being_deleted_holds_everything():
    async def scene(bench):
        populate(bench.fake)
        await bench.once()
        bench.written()
        bench.fake.begin_deletion("virtualips")
        assert bench.fake.all("virtualips") == []
        assert not await bench.once()
        assert bench.written() == []
        assert "virtualips.holdfast.dev is being deleted" in bench.reconciliation.obstacle
        assert bench.count("held", cause="CustomResourceDefinitionBeingDeleted") == 1
        assert bench.count("reconciles_total", result="held") == 1

    play(scene)


@pytest.mark.parametrize("plural", ["virtualips", "speakerconfigs"])
def test_a_definition_that_is_gone_holds_everything(plural):
    async def scene(bench):
        populate(bench.fake)
        await bench.once()
        bench.written()
        bench.fake.undefine(plural)
        assert not await bench.once()
        assert bench.written() == []
        assert bench.count("held", cause="CustomResourceDefinitionMissing") == 1

    play(scene)


def test_a_definition_that_is_there_again_holds_until_its_virtual_ips_are_too():
    async def scene(bench):
        populate(bench.fake, ("shop/web", "shop/mail"))
        await bench.settle()
        before = bench.fake.get("speakerconfigs", "n1")
        bench.fake.undefine("virtualips")
        bench.fake.define("virtualips")
        bench.written()
        assert not await bench.once()
        put_virtual_ip(bench.fake, "shop/web")
        assert not await bench.once()
        assert bench.written() == []
        assert bench.count("held", cause="VirtualIPsLost") == 1
        put_virtual_ip(bench.fake, "shop/mail")
        assert await bench.once()
        assert bench.count("held", cause="VirtualIPsLost") == 0
        after = bench.fake.get("speakerconfigs", "n1")
        assert after["spec"] == before["spec"]
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        bench.written()
        await bench.once()
        assert bench.written() == []

    play(scene)


def test_after_the_accident_a_deleted_virtual_ip_is_a_deleted_one_again():
    async def scene(bench):
        populate(bench.fake, nodes=("n1",))
        await bench.settle()
        bench.fake.undefine("virtualips")
        bench.fake.define("virtualips")
        put_virtual_ip(bench.fake, "shop/web")
        assert await bench.once()
        bench.fake.remove("virtualips", "shop/web")
        assert await bench.once()
        assert "virtualRouters" not in bench.fake.get("speakerconfigs", "n1")["spec"]

    play(scene)


def test_a_person_can_confirm_that_they_are_gone():
    async def scene(bench):
        populate(bench.fake, nodes=("n1",))
        await bench.settle()
        bench.fake.undefine("virtualips")
        bench.fake.define("virtualips")
        assert not await bench.once()
        await bench.api.merge(
            "/apis/holdfast.dev/v1alpha1/speakerconfigs/n1",
            {"metadata": {"annotations": {PLANNED_FROM_ANNOTATION: None}}},
        )
        assert await bench.once()
        assert "virtualRouters" not in bench.fake.get("speakerconfigs", "n1")["spec"]

    play(scene)


# ----- both definitions at once: nobody but the agents remembers -----


def definition_uid(bench):
    return bench.fake.get("customresourcedefinitions", "virtualips.holdfast.dev")["metadata"]["uid"]


def tell_what_runs(bench, node, *names, vrid=51, origin=""):
    """What the agent of a node applies whose engine runs these VirtualIPs."""
    status = {
        "links": [{"name": "eth0", "addresses": ["10.0.0.9/24"]}],
        "virtualRouters": [{"name": name, "virtualRouterID": vrid} for name in names],
        "plannedFrom": origin,
    }
    bench.fake.set_status("speakerconfigs", node, status, manager=f"holdfast-agent-{node}")


async def both_made_anew(bench, *nodes, origin="old"):
    """By an operator that knows nothing: the one that knew has ended with the definitions. Agents answer at once."""
    populate(bench.fake, (), nodes)
    assert await bench.once()
    for node in nodes:
        tell_what_runs(bench, node, "shop/mail", "shop/web", origin=origin)
    bench.written()


def spec_of(bench, node):
    return bench.fake.get("speakerconfigs", node)["spec"]


def is_planned(bench, node):
    return PLANNED_FROM_ANNOTATION in bench.fake.get("speakerconfigs", node)["metadata"].get("annotations", {})


@pytest.mark.parametrize("origin", ["old", ""], ids=["of the former definition", "from nobody knows where"])
def test_when_both_definitions_are_there_again_what_engines_run_is_waited_for(origin):
    async def scene(bench):
        await both_made_anew(bench, "n1", "n2", origin=origin)
        for present in ([], ["shop/web"]):
            for key in present:
                put_virtual_ip(bench.fake, key)
            assert await bench.once()
            assert [path for _, path in bench.written() if "speakerconfigs" in path] == []
            assert bench.count("held", cause="VirtualIPsLost") == 1
        put_virtual_ip(bench.fake, "shop/mail")
        assert await bench.once()
        assert bench.count("held", cause="VirtualIPsLost") == 0
        for node in ("n1", "n2"):
            assert [router["name"] for router in spec_of(bench, node)["virtualRouters"]] == ["shop/web", "shop/mail"]
            assert is_planned(bench, node)
        bench.fake.remove("virtualips", "shop/mail")
        assert await bench.once()
        assert [router["name"] for router in spec_of(bench, "n1")["virtualRouters"]] == ["shop/web"]

    play(scene)


def test_what_was_deleted_under_todays_definition_is_not_waited_for():
    async def scene(bench):
        await both_made_anew(bench, "n1", origin=definition_uid(bench))
        assert await bench.once()
        assert is_planned(bench, "n1")
        assert bench.count("held", cause="VirtualIPsLost") == 0

    play(scene)


def test_a_person_can_confirm_that_what_engines_run_is_gone(caplog):
    async def scene(bench):
        await both_made_anew(bench, "n1", "n2")
        assert await bench.once()
        typed = caplog.messages[-1].partition("`")[2].rstrip("`").split()
        *command, n1, n2, word = typed
        assert (command, n1, n2) == (["kubectl", "annotate", "speakerconfigs"], "n1", "n2")
        annotation, _, value = word.partition("=")
        assert (annotation, value) == (LOST_FOR_GOOD_ANNOTATION, definition_uid(bench))
        change = {"metadata": {"annotations": {annotation: value}}}
        await bench.api.merge("/apis/holdfast.dev/v1alpha1/speakerconfigs/n1", change)
        assert await bench.once()
        assert [is_planned(bench, node) for node in ("n1", "n2")] == [True, False]

    with caplog.at_level(logging.WARNING, logger="holdfast_operator.reconciler"):
        play(scene)


def test_one_agent_that_invents_what_it_runs_holds_up_its_own_node_alone():
    async def scene(bench):
        populate(bench.fake, nodes=("n1", "n2"))
        assert await bench.once()
        tell_what_runs(bench, "n1", "shop/web")
        tell_what_runs(bench, "n2", "shop/web", "shop/invented")
        assert await bench.once()
        assert spec_of(bench, "n1")["virtualRouters"]
        assert [is_planned(bench, node) for node in ("n1", "n2")] == [True, False]
        assert bench.reconciliation.obstacle == ""
        put_virtual_ip(bench.fake, "shop/more")
        assert await bench.once()
        assert [router["name"] for router in spec_of(bench, "n1")["virtualRouters"]] == ["shop/web", "shop/more"]

    play(scene)


def test_once_a_node_is_planned_no_invention_holds_it_up():
    async def scene(bench):
        populate(bench.fake, nodes=("n1",))
        await bench.settle()
        tell_what_runs(bench, "n1", "shop/invented", origin="old")
        bench.fake.remove("virtualips", "shop/web")
        assert await bench.once()
        assert "virtualRouters" not in spec_of(bench, "n1")
        assert bench.count("held", cause="VirtualIPsLost") == 0

    play(scene)


def test_who_has_not_said_yet_what_it_runs_is_waited_for_as_long_as_it_may_be_heard():
    async def scene(bench):
        populate(bench.fake, nodes=("n1", "n2", "n3"))
        for node in ("n1", "n2"):
            put_speaker_pod(bench.fake, node)
        bench.plan = heard_by_their_pods
        assert await bench.once()
        tell_what_runs(bench, "n1", "shop/web")
        assert await bench.once()
        assert [is_planned(bench, node) for node in ("n1", "n2", "n3")] == [False, False, False]
        assert 0 < bench.reconciliation.look_again_seconds() <= PATIENCE_SECONDS
        tell_what_runs(bench, "n2", "shop/web")
        assert await bench.once()
        assert [is_planned(bench, node) for node in ("n1", "n2", "n3")] == [True, True, False]

    play(scene)


def heard_by_their_pods(view, now):
    return dataclasses.replace(simple_plan(view, now), heard=view.heard or frozenset())


def config(status=None, **annotations):
    kept = {f"holdfast.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    metadata = SpeakerConfigMetadata(name="n", annotations=kept)
    return SpeakerConfig(
        metadata=metadata, spec=SpeakerConfigSpec(node_name="n"), status=status or SpeakerConfigStatus()
    )


@pytest.mark.parametrize(
    ("speakers", "heard", "seconds"),
    [
        pytest.param({"n1": config()}, {"n1"}, 50, id="a new one"),
        pytest.param({"n1": config()}, {}, 0, id="of a node that is not heard"),
        pytest.param({"n1": config(planned_from="new")}, {"n1"}, 0, id="one that is planned"),
        pytest.param({"n1": config(SpeakerConfigStatus(engine_version="1"))}, {"n1"}, 0, id="it has spoken"),
        pytest.param({"n0": config(), "n1": config()}, {"n0", "n1"}, 50, id="one that is late for longer"),
        pytest.param({"n0": config()}, {"n0"}, -20, id="too late"),
    ],
)
def test_a_silent_agent_is_waited_for_for_a_minute_at_most(speakers, heard, seconds):
    made = {"n0": "2026-11-27T05:00:00Z", "n1": "2026-11-27T05:01:10Z"}
    now = datetime(2026, 11, 27, 5, 1, 20, tzinfo=UTC)
    assert seconds_to_wait(speakers, made, heard, now) == seconds


def test_a_cluster_without_nodes_is_not_believed():
    async def scene(bench):
        populate(bench.fake)
        await bench.once()
        bench.fake.remove("nodes", "n1")
        bench.fake.remove("nodes", "n2")
        bench.written()
        assert not await bench.once()
        assert bench.written() == []
        assert bench.count("held", cause="NoNodes") == 1

    play(scene)


def _colour(spec):
    spec["virtualRouters"][0]["colour"] = "red"


def _another_word(spec):
    spec["virtualRouters"][0]["transport"] = "Pigeon"


def _nothing_is_right(spec):
    spec["virtualRouters"] = [{"name": router["name"]} for router in spec["virtualRouters"]]
    spec["nodeName"] = "Not A Name"


@pytest.mark.parametrize("change", [_colour, _another_word, _nothing_is_right])
def test_a_configuration_of_another_version_becomes_one_of_this_and_holds_up_nobody(change):
    async def scene(bench):
        populate(bench.fake)
        await bench.settle()
        planned = bench.fake.get("speakerconfigs", "n1")["spec"]
        other = bench.fake.get("speakerconfigs", "n2")["spec"]
        speaker = bench.fake.get("speakerconfigs", "n1")
        change(speaker["spec"])
        bench.fake.put("speakerconfigs", speaker)
        bench.written()
        assert await bench.once()
        assert bench.fake.get("speakerconfigs", "n1")["spec"] == planned
        assert bench.fake.get("speakerconfigs", "n2")["spec"] == other
        bench.written()
        assert await bench.once()
        assert bench.written() == []

    play(scene)


def test_it_is_said_once_and_so_is_its_end(caplog):
    async def scene(bench):
        populate(bench.fake)
        bench.fake.undefine("virtualips")
        for _ in range(3):
            await bench.once()
        bench.fake.define("virtualips")
        await bench.once()
        await bench.once()

    with caplog.at_level(logging.INFO, logger="holdfast_operator.reconciler"):
        play(scene)
    assert [record.message for record in caplog.records] == [
        "nothing is written, the nodes keep what they run: the API server knows no virtualips",
        "everything is as it should be again",
    ]
