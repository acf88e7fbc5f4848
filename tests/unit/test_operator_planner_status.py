"""What the operator says of a VirtualIP: of specifications that are refused, and of nodes that say nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast_api.cluster import NODES_MAX, Condition, Link, agent_field_manager
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.planner_world import LATER, MUCH_LATER, NOW, World, condition, routers

WEB = "shop/web"


def held(*names: str) -> World:
    world = World(*(names or ("n1", "n2")))
    world.heard = set(world.nodes)
    world.apply("web")
    world.settle()
    world.say(WEB, "n1", "Master", reason="NoMasterHeard")
    world.say(WEB, "n2", "Backup")
    world.settle()
    return world


def conditions(plan: ClusterPlan) -> dict[str, Condition]:
    return {one.type: one for one in plan.statuses[WEB].conditions}


def kstatus(world: World) -> str:
    """What kstatus makes of an object (sigs.k8s.io/cli-utils, kstatus/README.md): by it Flux, Argo and kpt go."""
    found = world.virtual_ips[WEB]
    told = {one["type"]: one["status"] for one in found["status"].get("conditions", [])}
    if found["status"].get("observedGeneration", 0) != found["metadata"]["generation"]:
        return "InProgress"
    if told.get("Stalled") == "True":
        return "Failed"
    return "Current" if told.get("Ready", "True") == "True" else "InProgress"


# ----- a specification that is refused -----


def test_a_refused_edit_is_a_failure_to_whoever_waits_and_the_vip_is_held() -> None:
    world = held()
    assert kstatus(world) == "Current"
    world.apply("web", addresses=["198.51.100.7/24"])
    assert kstatus(world) == "InProgress"
    plan = world.settle(LATER)
    assert kstatus(world) == "Failed"
    status, reason, message = condition(plan, "Stalled")
    assert (status, reason) == ("True", "NoMatchingSubnet")
    assert "spec.addresses[0]" in message
    assert plan.statuses[WEB].observed_generation == 2
    assert condition(plan, "Ready") == ("True", "Held", "n1 holds it, with the last good specification")


def test_whoever_waits_for_ready_with_a_refused_edit_waits_on() -> None:
    """`kubectl wait --for=condition=Ready` passes over a condition that is about an earlier generation."""
    world = held()
    world.apply("web", priority=300)
    plan = world.settle(LATER)
    assert {kind: one.observed_generation for kind, one in conditions(plan).items()} == {
        "Accepted": 2,
        "Programmed": 2,
        "Ready": 1,
        "SplitBrain": 1,
        "Stalled": 2,
    }
    world.apply("web", priority=90)
    plan = world.settle(MUCH_LATER)
    assert {one.observed_generation for one in conditions(plan).values()} == {3}
    assert "Stalled" not in conditions(plan)
    assert kstatus(world) == "Current"


def test_one_that_was_never_good_is_told_at_once_that_it_is_not_ready() -> None:
    world = World("n1", "n2")
    world.apply("web", priority=300)
    plan = world.reconcile()
    assert kstatus(world) == "Failed"
    assert condition(plan, "Ready")[:2] == ("False", "NotAccepted")
    assert conditions(plan)["Ready"].observed_generation == 1


def test_one_that_is_new_is_not_ready_at_once() -> None:
    world = World("n1", "n2")
    world.apply("web")
    world.reconcile()
    assert kstatus(world) == "InProgress"


# ----- nodes that are not heard -----


def test_programmed_does_not_wait_for_the_dead() -> None:
    world = held()
    assert world.heard is not None
    world.heard.discard("n2")
    world.apply("web", priority=90)
    world.reconcile(LATER, observed=False)
    assert condition(world.plan(LATER), "Programmed") == (
        "False",
        "WaitingForSpeakers",
        "not in force yet on n1; not heard: n2",
    )
    world.report("n1")
    assert condition(world.reconcile(LATER), "Programmed") == (
        "True",
        "Programmed",
        "the engine of every node that is heard runs this specification; not heard: n2",
    )
    world.heard.add("n2")
    assert condition(world.reconcile(LATER), "Programmed")[:2] == ("True", "Programmed")


def test_one_that_came_back_is_waited_for_until_it_runs_what_was_edited_meanwhile() -> None:
    world = held()
    assert world.heard is not None
    world.heard.discard("n2")
    world.apply("web", priority=90)
    world.reconcile(LATER, observed=False)
    world.heard.add("n2")
    world.report("n1")
    assert condition(world.plan(LATER), "Programmed")[:2] == ("False", "WaitingForSpeakers")


def test_when_none_that_is_to_run_it_is_heard_nobody_knows() -> None:
    world = held()
    world.heard = set()
    plan = world.reconcile(LATER)
    assert condition(plan, "Programmed") == (
        "Unknown",
        "SpeakersNotHeard",
        "no node that is to run it is heard; not heard: n1, n2",
    )
    assert condition(plan, "Ready")[:2] == ("Unknown", "HolderNotHeard")


def test_a_vip_whose_nodes_were_never_heard_is_not_called_unheld() -> None:
    world = World("n1", "n2")
    world.speakers.clear()
    world.heard = set()
    world.apply("web", nodes={"names": ["n1", "n2"]})
    plan = world.settle()
    assert condition(plan, "Ready")[:2] == ("Unknown", "HolderNotHeard")
    assert "n1, n2" in condition(plan, "Ready")[2]


def test_what_a_node_said_that_is_not_heard_is_no_reason_why_nobody_holds_it() -> None:
    world = held()
    assert world.heard is not None
    for node in ("n1", "n2"):
        world.say(WEB, node, "Initialize", LATER, obstacles=["CannotSend"], message="the firewall")
    world.heard.discard("n2")
    world.say(WEB, "n2", "Initialize", LATER, obstacles=["ServiceFailed"])
    assert condition(world.reconcile(LATER), "Ready")[:2] == ("False", "CannotSend")


# ----- nodes that take no part -----


def test_a_node_that_was_asked_for_and_takes_no_part_is_named_with_the_reason() -> None:
    world = World("n1", "n2", "n3")
    world.links["n3"] = [Link(name="eth0", addresses=["192.0.2.3/24"])]
    world.report("n3")
    world.apply("web", nodes={"names": ["n1", "n2", "n3", "nx"]})
    plan = world.settle()
    assert set(routers(plan)) == {"n1", "n2"}
    assert condition(plan, "Programmed") == (
        "True",
        "Programmed",
        "every node's engine runs this specification; take no part: n3 (no interface in the subnet), nx (no such node)",
    )


def test_a_node_without_the_interface_that_is_named_takes_no_part() -> None:
    world = World("n1", "n2")
    world.links["n2"] = [Link(name="ens1", addresses=["10.0.0.2/24"])]
    world.report("n2")
    world.apply("web", interface="eth0")
    assert condition(world.settle(), "Programmed")[2].endswith("take no part: n2 (no such interface)")


# ----- bounds -----


def test_conditions_are_bounded_whatever_the_number_of_nodes_and_the_length_of_words() -> None:
    names = [f"node-{number:02}-{'x' * 200}" for number in range(NODES_MAX)]
    world = World(*names)
    refusal: dict[str, Any] = {
        "type": "Applied",
        "status": "False",
        "reason": "Refused",
        "message": "m" * 32000,
        "lastTransitionTime": NOW,
    }
    world.apply("web", nodes={"names": names})
    for changes in ({}, {"conditions": [msgspec.convert(refusal, Condition)]}):
        world.settle()
        for name in names:
            world.report(name, **changes)
        plan = world.plan()
        assert all(len(one.message) <= 2048 for one in plan.statuses[WEB].conditions)
    world.heard = set()
    for one in world.plan().statuses[WEB].conditions:
        assert len(one.message) <= 2048
    assert "and 56 more" in condition(world.plan(), "Programmed")[2]


@pytest.mark.parametrize("heard", [None, {"n1", "n2"}, {"n2"}, set()], ids=["unknown", "both", "n2", "none"])
def test_what_was_written_is_written_again_byte_for_byte(heard: set[str] | None) -> None:
    world = held()
    world.heard = heard
    world.say(WEB, "n2", "Master", LATER, reason="MasterSilent")
    world.settle(LATER)
    assert world.plan(MUCH_LATER).statuses == world.reconcile(MUCH_LATER).statuses
    assert world.plan(MUCH_LATER).statuses == world.plan("2026-11-23T13:00:00.000Z").statuses


# ----- who has left -----


def test_whoever_takes_no_part_is_to_own_nothing_though_its_entry_is_gone_already() -> None:
    """What an operator of 0.1 left behind: a field manager without fields for each node that had ever taken part."""
    world = held()
    managed = world.virtual_ips[WEB]["metadata"].setdefault("managedFields", [])
    for manager in ("holdfast-agent-n1", "holdfast-agent-gone", "holdfast-operator", "kubectl"):
        managed.append({"manager": manager, "operation": "Apply", "fieldsV1": {"f:status": {}}})
    assert world.plan().departed == {WEB: ["gone"]}


def test_a_node_with_a_name_that_is_cut_for_its_field_manager_is_known_by_it() -> None:
    long = ["n" * 200 + last for last in "ab"]
    world = World(*long)
    world.apply("web")
    world.settle()
    for name in long:
        world.say(WEB, name, "Backup", at="2026-11-23T12:00:00Z")
    assert world.plan().departed == {}
    world.virtual_ips[WEB]["metadata"]["managedFields"].append({"manager": agent_field_manager("n" * 200 + "c")})
    (gone,) = world.plan().departed[WEB]
    assert agent_field_manager(gone) == agent_field_manager("n" * 200 + "c")


# ----- a definition of the next version -----


def test_a_field_of_the_next_versions_definition_is_passed_over_and_told() -> None:
    """In an upgrade the definition comes before the operator, and gives every VirtualIP its new defaults."""
    world = held()
    spec = world.virtual_ips[WEB]["spec"]
    spec["announceBurst"] = 3
    spec["track"] = {"probes": [{"name": "p", "tcpSocket": {"port": 80, "tls": True}}], "quorum": 2}
    world.virtual_ips[WEB]["metadata"]["generation"] = 2
    plan = world.settle(LATER)
    assert condition(plan, "Accepted") == (
        "True",
        "Accepted",
        "the specification is in force; not known to this version, and without effect: spec.announceBurst, "
        "spec.track.probes[0].tcpSocket.tls, spec.track.quorum",
    )
    assert [probe.name for probe in plan.speakers["n1"].tracking[0].probes] == ["p"]


def test_a_wrong_value_beside_an_unknown_field_is_refused_by_its_own_name() -> None:
    world = World("n1", "n2")
    world.apply("web", announceBurst=3, priority="high")
    status, _, message = condition(world.settle(), "Accepted")
    assert status == "False"
    assert message.startswith("spec.priority")


# ----- host ports -----


def test_a_holder_that_cannot_close_its_ports_is_told_as_long_as_it_holds() -> None:
    world = held()
    world.say(WEB, "n2", "Backup", hostPortsExposed=True)
    assert "HostPortsExposed" not in conditions(world.settle()), "who does not hold it exposes nothing"
    world.say(WEB, "n1", "Master", reason="NoMasterHeard", hostPortsExposed=True)
    plan = world.plan()
    status, reason, message = condition(plan, "HostPortsExposed")
    assert (status, reason) == ("True", "PacketFilterRefused")
    assert message.startswith("what listens on n1 is reached through it")
    assert [notice.reason for notice in plan.notices] == ["HostPortsExposed"]
    assert condition(plan, "Ready")[0] == "True"
    world.settle()
    assert not world.plan().notices
    world.say(WEB, "n1", "Master", reason="NoMasterHeard")
    assert "HostPortsExposed" not in conditions(world.settle(LATER))
