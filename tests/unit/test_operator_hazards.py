"""Accidents that hold everything, as pure decisions and as the operator lives through them."""

from __future__ import annotations

import logging

import pytest

from holdfast_api.cluster import PLANNED_FROM_ANNOTATION
from holdfast_operator.hazards import Cause, Held, check_lost
from holdfast_testing.operator_world import play, populate, put_virtual_ip


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
        routers = bench.fake.get("speakerconfigs", "n1")["spec"]["virtualRouters"]
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
        assert bench.fake.get("speakerconfigs", "n1")["spec"]["virtualRouters"] == routers
        assert bench.fake.get("speakerconfigs", "n1")["metadata"]["generation"] == 1
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


def test_a_configuration_of_another_version_is_not_written_over():
    async def scene(bench):
        populate(bench.fake)
        await bench.once()
        speaker = bench.fake.get("speakerconfigs", "n1")
        speaker["spec"]["virtualRouters"][0]["colour"] = "red"
        bench.fake.put("speakerconfigs", speaker)
        bench.written()
        assert not await bench.once()
        assert bench.written() == []
        assert "SpeakerConfig n1 cannot be read" in bench.reconciliation.obstacle
        assert bench.count("held", cause="SpeakerConfigUnreadable") == 1

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
