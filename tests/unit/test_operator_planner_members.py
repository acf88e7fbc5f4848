"""Who belongs to an election, and how nodes come and go: no holder is ever a stranger to the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import msgspec
import pytest

from holdfast_api.cluster import STANDS_ASIDE_ANNOTATION, Link
from holdfast_operator.planner.cluster import capacity
from holdfast_operator.planner.cluster.view import ClusterPlan, ClusterRules, NodeView
from holdfast_testing.planner_world import LATER, MUCH_LATER, NOW, World, condition, routers

MEMBERS = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def held(*names: str) -> World:
    """n1 holds it, and the others follow."""
    world = World(*(names or ("n1", "n2", "n3")))
    world.apply("web")
    world.settle()
    for name in world.nodes:
        world.say("shop/web", name, "Master" if name == "n1" else "Backup")
    world.settle()
    return world


def waits(plan: ClusterPlan) -> dict[str, dict[str, str]]:
    """By node: since when the plan has waited for it, as it is remembered."""
    told = {
        node: {name: value for name, value in found.items() if name != STANDS_ASIDE_ANNOTATION}
        for node, found in plan.annotations.items()
    }
    return {node: found for node, found in told.items() if found}


def takes_over(world: World, name: str, *former: str) -> None:
    world.say("shop/web", name, "Master", LATER, reason="HigherPriority")
    for other in former:
        world.say("shop/web", other, "Backup", LATER)


# ----- leaving -----


def selector_is_edited(world: World) -> None:
    world.apply("web", nodes={"names": ["n2", "n3"]})


def label_is_taken_off(world: World) -> None:
    world.apply("web", nodes={"selector": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}})
    world.settle()
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], labels={})


def node_is_deleted(world: World) -> None:
    del world.nodes["n1"]
    world.heard = {"n1", "n2", "n3"}


def subnet_is_gone(world: World) -> None:
    world.links["n1"] = [Link(name="eth0", addresses=["192.168.7.1/24"])]
    world.report("n1")


LEAVE: list[Callable[[World], None]] = [selector_is_edited, label_is_taken_off, node_is_deleted, subnet_is_gone]


@pytest.mark.parametrize("leave", LEAVE)
def test_a_holder_that_leaves_is_drained_then_dismissed_then_forgotten(leave: Callable[[World], None]) -> None:
    world = held()
    leave(world)
    for _ in range(3):
        plan = world.reconcile(LATER)
        made = routers(plan)
        assert made["n1"].draining, "it is asked to hand over, and goes on until somebody takes over"
        assert made["n2"].members == made["n3"].members == MEMBERS
        assert not any(made[name].draining for name in ("n2", "n3"))
        assert plan.departed == {}
        assert plan.statuses["shop/web"].holder == "n1"
    takes_over(world, "n2", "n1")
    plan = world.reconcile(LATER, observed=False)
    assert set(routers(plan)) == {"n2", "n3"}, "its configuration goes"
    assert routers(plan)["n2"].members == MEMBERS, "and its addresses not before its agent knows"
    assert world.reconcile(LATER, observed=False).departed == {}
    for name in world.speakers:
        world.report(name)
    plan = world.reconcile(LATER)
    assert plan.departed == {"shop/web": ["n1"]}
    assert routers(plan)["n2"].members == ["10.0.0.2", "10.0.0.3"]


@pytest.mark.parametrize("leave", LEAVE)
def test_a_backup_that_leaves_is_drained_too_before_it_is_trusted_to_hold_nothing(
    leave: Callable[[World], None],
) -> None:
    world = held()
    takes_over(world, "n2", "n1")
    world.settle(LATER)
    leave(world)
    plan = world.reconcile(LATER, observed=False)
    assert routers(plan)["n1"].draining
    world.report("n1")
    assert "n1" not in routers(world.reconcile(LATER))
    assert routers(world.settle(LATER))["n2"].members == ["10.0.0.2", "10.0.0.3"]


def test_a_node_that_belongs_again_while_it_leaves_goes_on() -> None:
    world = held()
    selector_is_edited(world)
    assert routers(world.reconcile(LATER))["n1"].draining
    world.apply("web")
    made = routers(world.reconcile(LATER))
    assert not made["n1"].draining
    assert made["n2"].members == MEMBERS


def test_who_leaves_takes_part_in_an_edit_until_it_has_left() -> None:
    world = held()
    world.apply("web", addresses=["10.0.0.100/24", "10.0.0.101/24"], nodes={"names": ["n2", "n3"]}, priority=120)
    made = routers(world.reconcile(LATER))
    assert made["n1"].addresses == made["n2"].addresses
    assert made["n1"].draining


@pytest.mark.parametrize("edit", [{"addresses": ["10.0.0.77/24"]}, {"virtualRouterID": 9}])
def test_who_leaves_with_what_nobody_wants_any_more_has_nothing_to_hand_over(edit: dict[str, object]) -> None:
    world = held()
    world.apply("web", nodes={"names": ["n2", "n3"]}, **edit)
    plan = world.reconcile(LATER)
    assert "n1" not in routers(plan)
    assert "10.0.0.1" in routers(plan)["n2"].members
    assert "10.0.0.1" not in routers(world.settle(LATER))["n2"].members


def test_with_unicast_who_leaves_is_sent_to_until_it_has_left() -> None:
    world = held()
    world.apply("web", transport="Unicast")
    world.settle()
    world.apply("web", transport="Unicast", nodes={"names": ["n2", "n3"]})
    made = routers(world.reconcile(LATER))
    assert (made["n2"].unicast_peers or made["n2"].members) == MEMBERS


def at(seconds: int) -> str:
    return f"2026-11-23T12:{seconds // 60:02}:{seconds % 60:02}.000Z"


def test_a_node_that_leaves_and_is_not_heard_is_waited_for_a_minute_by_whoever_operates() -> None:
    world = held()
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], is_ready=False)
    selector_is_edited(world)
    plan = world.reconcile(at(0))
    assert waits(plan) == {"n1": {"holdfast.dev/not-heard-since": at(0)}}
    assert plan.look_again_seconds == 60
    plan = world.reconcile(at(59))
    assert set(routers(plan)) == {"n1", "n2", "n3"}
    assert waits(plan)["n1"] == {"holdfast.dev/not-heard-since": at(0)}, "no memory but what stands there"
    plan = world.reconcile(at(60), observed=False)
    assert set(routers(plan)) == {"n2", "n3"}
    assert routers(plan)["n2"].members == MEMBERS, "its configuration first"
    plan = world.reconcile(at(61))
    assert routers(plan)["n2"].members == ["10.0.0.2", "10.0.0.3"]
    assert plan.departed == {"shop/web": ["n1"]}
    assert waits(world.reconcile(at(62))) == {}


def test_a_node_that_is_heard_again_has_its_minute_anew() -> None:
    world = held()
    selector_is_edited(world)
    world.heard = {"n2", "n3"}
    takes_over(world, "n2", "n3")
    world.reconcile(at(0))
    world.heard = {"n1", "n2", "n3"}
    assert waits(world.reconcile(at(50))) == {}
    world.heard = {"n2", "n3"}
    assert waits(world.reconcile(at(100)))["n1"] == {"holdfast.dev/not-heard-since": at(100)}
    assert "n1" in routers(world.plan(at(159)))


def test_a_holder_whose_agent_alone_is_away_goes_on_as_long_as_the_others_follow_it() -> None:
    """Its engine needs no agent: to forget its addresses would make two holders for certain."""
    world = held()
    selector_is_edited(world)
    world.heard = {"n2", "n3"}
    world.reconcile(at(0))
    plan = world.reconcile(at(300))
    assert "n1" in routers(plan)
    assert routers(plan)["n2"].members == MEMBERS
    takes_over(world, "n2", "n3")
    assert "n1" not in routers(world.reconcile(at(301))), "now somebody else is it"


@pytest.mark.parametrize("since", ["yesterday", "2999-01-01T00:00:00Z", "2026-11-23T12:00:00"])
def test_a_memory_that_cannot_be_true_begins_anew(since: str) -> None:
    world = held()
    selector_is_edited(world)
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], is_ready=False)
    speaker = world.speakers["n1"]
    metadata = msgspec.structs.replace(speaker.metadata, annotations={"holdfast.dev/not-heard-since": since})
    world.speakers["n1"] = msgspec.structs.replace(speaker, metadata=metadata)
    assert waits(world.plan(at(90)))["n1"] == {"holdfast.dev/not-heard-since": at(90)}


def test_the_speaker_config_of_a_node_that_is_gone_is_emptied_and_goes_when_its_agent_has_answered() -> None:
    world = held()
    del world.nodes["n2"]
    world.heard = {"n1", "n2", "n3"}
    world.reconcile(LATER)
    plan = world.reconcile(LATER, observed=False)
    assert plan.speakers["n2"].virtual_routers == []
    assert "n2" in world.reconcile(LATER, observed=False).speakers
    world.report("n2")
    assert set(world.reconcile(LATER).speakers) == {"n1", "n3"}


def test_the_speaker_config_of_a_node_that_is_gone_and_silent_goes_after_a_minute() -> None:
    world = held()
    del world.nodes["n1"]
    del world.links["n1"]
    takes_over(world, "n2", "n3")
    seen = [set(world.reconcile(at(second)).speakers) for second in (0, 30, 60, 61)]
    assert seen == [{"n1", "n2", "n3"}] * 3 + [{"n2", "n3"}]
    assert routers(world.plan(at(62)))["n2"].members == ["10.0.0.2", "10.0.0.3"]


def test_a_place_for_a_node_that_never_spoke_goes_with_the_node() -> None:
    world = held()
    world.nodes["n4"] = NodeView("n4")
    world.reconcile(observed=False)
    del world.nodes["n4"]
    assert set(world.plan().speakers) == {"n1", "n2", "n3"}


def test_a_refused_virtual_ip_leaves_a_node_that_is_gone_like_any_other() -> None:
    world = held()
    world.apply("web", priority=300)
    world.settle()
    node_is_deleted(world)
    plan = world.reconcile(LATER)
    assert routers(plan)["n1"].draining
    assert condition(plan, "Accepted")[0] == "False"
    takes_over(world, "n2", "n1")
    plan = world.settle(LATER)
    assert set(routers(plan)) == {"n2", "n3"}
    assert "n1" not in plan.speakers


# ----- coming -----


def test_a_node_that_comes_takes_nothing_until_those_that_run_it_know_its_addresses() -> None:
    world = World("n1", "n2", "n3")
    world.apply("web", nodes={"names": ["n1", "n2"]}, nopreempt=False)
    world.settle()
    nodes = {"names": ["n1", "n2", "n3"], "priorities": [{"nodeName": "n3", "priority": 200}]}
    world.apply("web", nodes=nodes, nopreempt=False)
    plan = world.reconcile(observed=False)
    assert routers(plan)["n3"].draining
    assert routers(plan)["n1"].members == MEMBERS
    world.report("n3")
    world.report("n1")
    assert routers(world.reconcile(observed=False))["n3"].draining, "n2 would refuse it"
    world.report("n2")
    assert not routers(world.reconcile())["n3"].draining


def test_an_agent_that_never_answers_keeps_nobody_out_for_longer_than_a_minute() -> None:
    world = World("n1", "n2", "n3")
    world.apply("web", nodes={"names": ["n1", "n2"]})
    world.settle()
    world.apply("web")
    plan = world.reconcile(at(0), observed=False)
    assert set(waits(plan)) == {"n1", "n2"}
    assert waits(plan)["n1"] == {"holdfast.dev/awaited-since": at(0)}
    world.report("n1")
    world.report("n3")
    plan = world.reconcile(at(59), observed=False)
    assert (routers(plan)["n3"].draining, set(waits(plan))) == (True, {"n2"})
    assert not routers(world.reconcile(at(60), observed=False))["n3"].draining


def test_a_new_virtual_ip_waits_for_nobody() -> None:
    world = World("n1", "n2")
    world.apply("web")
    assert not any(router.draining for router in routers(world.plan()).values())


# ----- nodes that have not said anything yet -----


def test_a_selected_node_that_has_not_spoken_is_known_by_the_addresses_of_its_node_object() -> None:
    world = World("n1", "n2")
    del world.speakers["n2"]
    world.apply("web", nodes={"names": ["n1", "n2"]})
    assert routers(world.plan())["n1"].members == ["10.0.0.1", "10.0.0.2"]


def test_when_all_speaker_configs_are_made_anew_the_first_to_report_does_not_refuse_the_holder() -> None:
    world = held()
    world.speakers.clear()
    world.reconcile(observed=False)
    world.report("n2")
    made = routers(world.plan())
    assert (made["n2"].members, made["n2"].foreign_routers) == (MEMBERS, "Refuse")


@pytest.mark.parametrize("addresses", [["fd00::64/64"], ["10.0.0.100/24", "fd00::64/64"]])
def test_whoever_sends_from_what_no_node_object_has_is_obeyed_for_a_minute(addresses: list[str]) -> None:
    world = World("n1", "n2")
    for index, name in enumerate(world.nodes, start=1):
        world.links[name] = [
            Link(name="eth0", addresses=[f"10.0.0.{index}/24", f"fd00::{index}/64", f"fe80::{index}/64"])
        ]
    world.heard = set(world.nodes)
    world.speakers.clear()
    world.report("n1")
    world.apply("web", addresses=addresses)
    assert routers(world.reconcile(at(0)))["n1"].foreign_routers == "Obey"
    world.speakers["n2"] = msgspec.structs.replace(world.speakers["n2"], status=type(world.speakers["n2"].status)())
    assert routers(world.reconcile(at(59), observed=False))["n1"].foreign_routers == "Obey"
    assert routers(world.plan(at(60)))["n1"].foreign_routers == "Refuse", "it may never speak"
    world.report("n2")
    assert routers(world.plan(at(59)))["n1"].foreign_routers == "Refuse"


def test_a_node_without_a_speaker_opens_the_door_to_nobody() -> None:
    world = World("n1", "n2", "n3")
    del world.speakers["n3"]
    world.heard = {"n1", "n2"}
    for index, name in enumerate(("n1", "n2"), start=1):
        world.links[name] = [Link(name="eth0", addresses=[f"fd00::{index}/64", f"fe80::{index}/64"])]
        world.report(name)
    world.apply("web", addresses=["fd00::64/64"], nodes={"names": ["n1", "n2", "n3"]})
    assert routers(world.plan())["n1"].foreign_routers == "Refuse"


def test_a_speaker_config_that_somebody_deleted_takes_nothing_from_the_holder() -> None:
    world = World("n1", "n2")
    for index, name in enumerate(world.nodes, start=1):
        world.links[name].append(Link(name="eth1", addresses=[f"10.7.0.{index}/24"]))
        world.report(name)
    world.apply("web", addresses=["10.7.0.100/24"])
    world.settle()
    world.say("shop/web", "n1", "Master")
    world.say("shop/web", "n2", "Backup")
    world.settle()
    del world.speakers["n1"]
    for _ in range(3):
        assert "10.7.0.1" in routers(world.reconcile(observed=False))["n2"].members
    world.report("n1")
    assert routers(world.settle())["n2"].members == ["10.7.0.1", "10.7.0.2"]


# ----- links and addresses of nodes -----


def test_another_address_replaces_the_former_one_at_once() -> None:
    world = held()
    world.links["n1"] = [Link(name="eth0", addresses=["10.0.0.51/24"])]
    world.report("n1")
    plan = world.reconcile()
    assert routers(plan)["n2"].members == ["10.0.0.2", "10.0.0.3", "10.0.0.51"]
    assert not routers(plan)["n1"].draining


@pytest.mark.parametrize("name", ["br0", "macvlan0"])
@pytest.mark.parametrize("length", [24, 28])
def test_a_second_interface_in_the_subnet_moves_nothing(name: str, length: int) -> None:
    world = held()
    world.say("shop/web", "n1", "Master", interface="eth0")
    before = routers(world.settle())
    world.links["n1"] = [*world.links["n1"], Link(name=name, addresses=[f"10.0.0.99/{length}"])]
    world.report("n1")
    after = routers(world.settle())
    assert after["n1"] == msgspec.structs.replace(before["n1"], interface="eth0")
    assert after["n2"] == before["n2"]


def test_to_name_the_interface_that_is_in_use_changes_nothing_else() -> None:
    world = held()
    before = routers(world.settle())
    world.apply("web", interface="eth0")
    after = routers(world.settle())
    assert after == {name: msgspec.structs.replace(router, interface="eth0") for name, router in before.items()}


# ----- more nodes than can take part -----


def crowd(number: int, *, first: int = 1) -> World:
    world = World(*(f"n{index:03}" for index in range(first, first + number)))
    for index, name in enumerate(world.nodes, start=1):
        world.links[name] = [Link(name="eth0", addresses=[f"10.0.{index // 200}.{index % 200 + 1}/16"])]
        world.report(name)
    return world


def test_of_more_than_64_nodes_64_take_part_and_the_condition_says_so() -> None:
    world = crowd(66)
    world.apply("web", addresses=["10.0.9.9/16"])
    plan = world.settle()
    assert len(routers(plan)) == 64
    status, _, message = condition(plan, "Accepted")
    assert status == "True"
    assert message == "the specification is in force"
    told = condition(plan, "Programmed")[2]
    assert "take no part: n065 (64 nodes take part, as many as can), n066 (64 nodes take part, as many as can)" in told
    assert len(routers(plan)["n001"].members) == 64


def test_those_in_force_stay_when_more_come_and_give_way_one_after_another_when_they_leave() -> None:
    world = crowd(64, first=2)
    world.apply("web", addresses=["10.0.9.9/16"])
    before = set(routers(world.settle()))
    world.nodes["n001"] = NodeView("n001", {}, internal_addresses=("10.0.7.1",))
    world.links["n001"] = [Link(name="eth0", addresses=["10.0.7.1/16"])]
    world.report("n001")
    assert set(routers(world.settle())) == before
    world.say("shop/web", "n002", "Master")
    del world.nodes["n002"]
    world.heard = set(before)
    assert "n001" not in routers(world.settle()), "there is no room while n002 still holds it"
    world.say("shop/web", "n003", "Master", LATER)
    world.say("shop/web", "n002", "Backup", LATER)
    world.settle(LATER)
    made = routers(world.settle(LATER))
    assert set(made) == (before - {"n002"}) | {"n001"}
    assert len({router.priority for router in made.values()}) == 64


@pytest.mark.parametrize("priority", [50, 55, 100, 254])
@pytest.mark.parametrize("number", [1, 7, 64])
def test_priorities_are_distinct_for_any_number_of_nodes(number: int, priority: int) -> None:
    world = crowd(number)
    world.apply("web", addresses=["10.0.9.9/16"], priority=priority)
    given = {router.priority for router in routers(world.settle()).values()}
    assert len(given) == number
    assert priority in given
    assert given <= set(range(50, 255))


def test_a_node_that_comes_or_goes_changes_nobody_elses_priority() -> None:
    world = held("n1", "n2", "n3", "n4")
    before = {name: router.priority for name, router in routers(world.settle()).items()}
    world.nodes["n5"] = NodeView("n5", {}, internal_addresses=("10.0.0.5",))
    world.links["n5"] = [Link(name="eth0", addresses=["10.0.0.5/24"])]
    world.report("n5")
    after = {name: router.priority for name, router in routers(world.settle()).items()}
    assert {name: after[name] for name in before} == before


def test_an_edited_priority_is_everybodys_at_once() -> None:
    world = World("n1", "n2", "n3")
    world.apply("web", priority=100)
    world.settle()
    for priority in (140, 90):
        world.apply("web", priority=priority)
        given = sorted(router.priority for router in routers(world.settle()).values())
        assert given == [priority - 20, priority - 10, priority]


# ----- nodes that stand aside -----

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def with_label(label: str) -> World:
    world = World("n1", "n2")
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], labels={"zone": "1", label: ""})
    return world


@pytest.mark.parametrize("label", [CONTROL_PLANE, "node-role.kubernetes.io/master", EXCLUDED])
def test_a_node_that_is_kept_free_takes_part_only_where_it_is_named(label: str) -> None:
    world = with_label(label)
    world.apply("web")
    assert set(routers(world.plan())) == {"n2"}
    world.apply("web", nodes={"selector": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}})
    assert set(routers(world.plan())) == {"n2"}, "a selector that does not ask for it does not name it"
    world.apply("web", nodes={"names": ["n1", "n2"]})
    assert set(routers(world.plan())) == {"n1", "n2"}
    for selector in ({"matchLabels": {label: ""}}, {"matchExpressions": [{"key": label, "operator": "Exists"}]}):
        world.apply("web", nodes={"selector": selector})
        assert set(routers(world.plan())) == {"n1"}


@pytest.mark.parametrize("label", [CONTROL_PLANE, EXCLUDED])
def test_what_runs_on_a_node_that_is_kept_free_since_before_an_upgrade_stays(label: str) -> None:
    world = held()
    for name, speaker in world.speakers.items():  # as an operator left them that knew nothing of such labels
        kept = {key: value for key, value in speaker.metadata.annotations.items() if key != STANDS_ASIDE_ANNOTATION}
        metadata = msgspec.structs.replace(speaker.metadata, annotations=kept)
        world.speakers[name] = msgspec.structs.replace(speaker, metadata=metadata)
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], labels={label: ""})
    assert routers(world.settle()) == routers(held().settle())
    assert routers(world.settle()) == routers(held().settle()), "it is remembered"
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], labels={})
    world.settle()
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], labels={label: ""})
    assert routers(world.plan())["n1"].draining, "a label that goes and comes again is a new one"


@pytest.mark.parametrize("label", [CONTROL_PLANE, EXCLUDED])
def test_a_label_that_comes_later_drains_the_node_and_its_going_lets_it_take_part_again(label: str) -> None:
    world = held()
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], labels={label: ""})
    assert routers(world.plan())["n1"].draining
    world.settle()
    takes_over(world, "n2", "n1")
    assert set(routers(world.settle(LATER))) == {"n2", "n3"}
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], labels={})
    assert set(routers(world.settle(LATER))) == {"n1", "n2", "n3"}


def test_an_administrator_may_let_control_planes_take_part() -> None:
    world = with_label(CONTROL_PLANE)
    world.rules = ClusterRules(control_planes=True)
    world.apply("web")
    assert set(routers(world.plan())) == {"n1", "n2"}


def test_where_every_node_is_kept_free_the_author_is_told_how_to_have_one() -> None:
    world = with_label(CONTROL_PLANE)
    del world.nodes["n2"]
    world.apply("web")
    status, reason, message = condition(world.plan(), "Accepted")
    assert (status, reason) == ("False", "NoNodeSelected")
    assert "must name" in message


# ----- what one agent says -----


def test_a_vrid_in_force_does_not_change_on_one_nodes_word() -> None:
    world = World("n1", "n2", "n3", "n4")
    for name, address in (("n3", "10.1.0.3/24"), ("n4", "10.1.0.4/24")):
        world.links[name] = [Link(name="eth0", addresses=[address])]
        world.report(name)
    world.apply("a", addresses=["10.0.0.100/24"], virtualRouterID=7)
    world.apply("b", addresses=["10.1.0.100/24"], virtualRouterID=7)
    world.settle()
    world.apply("b", addresses=["10.1.0.100/24"])
    world.settle()
    world.links["n1"] = [Link(name="eth0", addresses=["10.0.0.1/24", "10.1.0.9/24"])]
    world.report("n1")
    plan = world.settle()
    assert plan.statuses["shop/b"].virtual_router_id == 7
    assert set(routers(plan, "shop/a")) == {"n1", "n2"}
    assert set(routers(plan, "shop/b")) == {"n3", "n4"}, "where they would meet on its word, only the first runs"
    world.links["n2"] = [Link(name="eth0", addresses=["10.0.0.2/24", "10.1.0.8/24"])]
    world.report("n2")
    assert world.settle().statuses["shop/b"].virtual_router_id != 7, "now they really meet"


def test_a_wide_subnet_that_one_node_reports_makes_nobody_meet() -> None:
    world = World("n1", "n2", "n3")
    world.links["n3"] = [Link(name="eth0", addresses=["10.1.0.3/24"])]
    world.report("n3")
    world.apply("a", addresses=["10.0.0.100/24"], virtualRouterID=7, nodes={"names": ["n1", "n2"]})
    world.apply("b", addresses=["10.1.0.100/24"], virtualRouterID=7)
    world.settle()
    world.links["n1"] = [Link(name="eth0", addresses=["10.0.0.1/8"])]
    world.report("n1")
    plan = world.settle()
    assert condition(plan, "Accepted", "shop/a")[0] == condition(plan, "Accepted", "shop/b")[0] == "True"


@pytest.mark.parametrize("vrids", [range(1, 256), range(1, 255)])
def test_one_agent_that_hears_strangers_everywhere_blocks_nobody(vrids: range) -> None:
    world = World("n1", "n2", "n3")
    world.links["n1"] = [
        Link(name="eth0", addresses=["10.0.0.1/24"], foreign_virtual_router_ids=list(vrids)),
    ]
    world.report("n1")
    world.apply("web", nodes={"names": ["n2", "n3"]})
    plan = world.settle()
    assert condition(plan, "Accepted")[0] == "True"
    if 255 not in vrids:
        assert plan.statuses["shop/web"].virtual_router_id == 255, "it is believed where that costs nothing"


def test_what_several_nodes_hear_is_not_given_away() -> None:
    world = World("n1", "n2")
    for index, name in enumerate(world.nodes, start=1):
        link = Link(name="eth0", addresses=[f"10.0.0.{index}/24"], foreign_virtual_router_ids=list(range(1, 256)))
        world.links[name] = [link]
        world.report(name)
    world.apply("web")
    assert condition(world.plan(), "Accepted")[1] == "NoVirtualRouterIDLeft"


def test_one_agent_with_thousands_of_addresses_crowds_out_nobody() -> None:
    world = World("n1", "n2")
    world.links["n1"] = [
        Link(name=f"eth{link}", addresses=[f"10.{link}.{last // 60}.{last % 60 + 1}/8" for last in range(60)])
        for link in range(60)
    ]
    world.report("n1")
    world.links["n2"].append(Link(name="eth1", addresses=["10.7.0.2/8"]))
    world.report("n2")
    told = world.plan().speakers["n2"].node_addresses
    assert len(told) <= 1000
    assert {"10.0.0.1", "10.0.0.2", "10.7.0.2", "fe80::2"} <= set(told)


# ----- what fits -----


def full_nodes(number: int) -> tuple[World, ClusterPlan]:
    world = World("n1", "n2")
    for name in world.nodes:
        for vlan in range(1, 6):
            world.links[name].append(Link(name=f"vlan{vlan}", addresses=[f"10.{vlan}.0.{name[1]}/16"]))
        world.report(name)
    for count in range(number):
        vlan, last = count % 5 + 1, count // 5 + 1
        world.apply(f"v{count:04}", addresses=[f"10.{vlan}.{1 + last // 250}.{1 + last % 250}/16"])
    return world, world.reconcile()


def test_nothing_is_planned_beyond_what_a_speaker_config_has_room_for() -> None:
    world, plan = full_nodes(1002)
    assert [len(speaker.virtual_routers) for speaker in plan.speakers.values()] == [1000, 1000]
    created = {key: raw["metadata"]["creationTimestamp"] for key, raw in world.virtual_ips.items()}
    refused = [key for key in plan.statuses if condition(plan, "Accepted", key)[1] == "NodeFull"]
    youngest = sorted(created, key=lambda key: (created[key], key))[-2:]
    assert sorted(refused) == sorted(youngest)
    assert "n1, n2" in condition(plan, "Accepted", refused[0])[2]
    again = world.reconcile()
    assert {key for key in again.statuses if condition(again, "Accepted", key)[1] == "NodeFull"} == set(refused)


def test_nor_beyond_what_etcd_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of them fit into so many bytes."""
    monkeypatch.setattr(capacity, "BYTES_MAX", 4_000)
    world = World("n1", "n2", "n3")
    for number in range(4):
        world.apply(f"v{number}", addresses=[f"10.0.0.{50 + number}/24"], nodes={"names": ["n1", "n2"]})
    plan = world.settle()
    assert [len(plan.speakers[name].virtual_routers) for name in ("n1", "n2", "n3")] == [3, 3, 0]
    assert condition(plan, "Accepted", "shop/v3")[1] == "NodeFull"
    world.apply("v3", addresses=["10.0.0.53/24"], nodes={"names": ["n3"]})
    world.settle()
    world.apply("v3", addresses=["10.0.0.53/24"])
    plan = world.settle()
    assert condition(plan, "Accepted", "shop/v3")[0] == "True", "what runs is kept off the nodes that are full"
    assert set(routers(plan, "shop/v3")) == {"n3"}
    assert "n1 (as many VirtualIPs run there as fit)" in condition(plan, "Programmed", "shop/v3")[2]
    world.delete("v0")
    world.settle()
    assert set(routers(world.settle(), "shop/v3")) == {"n1", "n2", "n3"}


# ----- IPv6 alone -----


def test_a_cluster_of_ipv6_alone_is_one_like_any_other() -> None:
    world = World("n1", "n2", "n3")
    for index, name in enumerate(world.nodes, start=1):
        world.nodes[name] = NodeView(name, {}, internal_addresses=(f"fd00::{index}",))
        world.links[name] = [Link(name="eth0", addresses=[f"fd00::{index}/64", f"fe80::{index}/64"])]
        world.report(name)
    world.apply("web", addresses=["fd00::64/64"])
    plan = world.settle()
    made = routers(plan)
    assert set(made) == {"n1", "n2", "n3"}
    assert made["n1"].members == ["fd00::1", "fd00::2", "fd00::3", "fe80::1", "fe80::2", "fe80::3"]
    assert plan.speakers["n1"].node_addresses == made["n1"].members
    assert made["n1"].foreign_routers == "Refuse"
    world.say("shop/web", "n1", "Master")
    world.apply("web", addresses=["fd00::64/64"], nodes={"names": ["n2", "n3"]})
    assert "fe80::1" in routers(world.reconcile())["n2"].members


def test_much_later_nothing_is_waited_for() -> None:
    world = held()
    assert (waits(world.plan(MUCH_LATER)), world.plan(NOW).look_again_seconds) == ({}, None)
