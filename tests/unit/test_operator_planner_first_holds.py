"""Who is to hold a new virtual router first: whoever has least, and only where nobody can be known to hold it."""

from __future__ import annotations

import dataclasses
from collections import Counter

import msgspec
import pytest

from holdfast_api.cluster import Condition, Link, VirtualRouterInForce
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.planner_world import LATER, World, condition, routers


def nominees(plan: ClusterPlan) -> dict[str, str]:
    """By virtual router; what one node is told all are told that run it."""
    told: dict[str, str] = {}
    for spec in plan.speakers.values():
        for first in spec.first_holds:
            assert told.setdefault(first.virtual_router, first.node_name) == first.node_name
    return told


def apply_many(world: World, count: int, **spec: object) -> None:
    for number in range(count):
        world.apply(f"v{number:03}", addresses=[f"10.0.0.{10 + number}/24"], **spec)


def take_office(world: World, plan: ClusterPlan) -> None:
    """Each nominee holds, and its agent and the others' say so."""
    for key, nominee in nominees(plan).items():
        for node in routers(plan, key):
            world.say(key, node, "Master" if node == nominee else "Backup", LATER)


def test_new_virtual_ips_are_spread_evenly_over_the_nodes() -> None:
    world = World("n1", "n2", "n3", "n4")
    apply_many(world, 200)
    spread = Counter(nominees(world.plan()).values())
    assert set(spread.values()) == {50}


def test_everybody_who_runs_it_is_told_the_nominee() -> None:
    world = World("n1", "n2", "n3")
    world.apply("web")
    plan = world.plan()
    assert all([first.virtual_router for first in spec.first_holds] == ["shop/web"] for spec in plan.speakers.values())


def test_a_node_that_takes_no_part_is_not_written_to() -> None:
    world = World("n1", "n2", "n3")
    world.apply("web")
    before = world.settle().speakers
    world.apply("db", addresses=["10.0.0.101/24"], nodes={"names": ["n1", "n2"]})
    after = world.plan().speakers
    assert [name for name in after if after[name] != before[name]] == ["n1", "n2"]


def test_what_a_node_holds_already_counts() -> None:
    world = World("n1", "n2")
    world.apply("web", addresses=["10.0.0.100/24", "10.0.0.101/24"])
    world.settle()
    world.say("shop/web", "n1", "Master")
    world.say("shop/web", "n2", "Backup")
    world.settle()
    world.apply("db", addresses=["10.0.0.110/24"])
    world.apply("mail", addresses=["10.0.0.111/24"])
    plan = world.plan()
    assert nominees(plan) == {"shop/db": "n2", "shop/mail": "n2"}  # two addresses each then


def test_a_nominee_stays_until_somebody_holds_it() -> None:
    world = World("n1", "n2", "n3")
    apply_many(world, 9)
    first = nominees(world.reconcile())
    apply_many(world, 30)  # the new ones must not change whom the old ones' nodes were told
    again = nominees(world.reconcile())
    assert {key: again[key] for key in first} == first


def test_that_it_is_held_costs_its_holder_no_write() -> None:
    world = World("n1", "n2", "n3")
    world.apply("web")
    plan = world.reconcile()
    nominee = nominees(plan)["shop/web"]
    take_office(world, plan)
    after = world.reconcile()
    assert after.speakers[nominee] == plan.speakers[nominee]
    assert all(not spec.first_holds for name, spec in after.speakers.items() if name != nominee)
    assert world.reconcile().speakers == after.speakers


def test_what_is_past_goes_with_the_next_write() -> None:
    world = World("n1", "n2", "n3")
    world.apply("web")
    take_office(world, world.reconcile())
    world.settle()
    world.apply("db", addresses=["10.0.0.101/24"])
    assert nominees(world.reconcile()).keys() == {"shop/db"}


def test_one_that_is_deleted_and_made_anew_has_a_nominee_of_today() -> None:
    world = World("n1", "n2", "n3")
    world.apply("web")
    take_office(world, world.reconcile())
    world.settle()
    world.delete("web")
    assert not nominees(world.settle())
    apply_many(world, 2)
    take_office(world, world.reconcile())
    world.settle()
    world.apply("web")
    assert nominees(world.reconcile())["shop/web"] not in set(nominees_held(world))


def nominees_held(world: World) -> list[str]:
    return [raw["status"]["holder"] for raw in world.virtual_ips.values() if raw["status"].get("holder")]


def hears_a_stranger(world: World) -> None:
    for name in world.nodes:
        link = world.links[name][0]
        world.links[name] = [Link(name="eth0", addresses=link.addresses, foreign_virtual_router_ids=[77])]
        world.report(name)
    world.apply("web", virtualRouterID=77)


def is_told_by_an_agent(world: World) -> None:
    world.report("n2", virtual_routers=[VirtualRouterInForce(name="shop/web", virtual_router_id=9)])
    world.apply("web")


def has_an_entry(world: World) -> None:
    world.apply("web")
    world.say("shop/web", "n1", "Backup")


def may_be_a_strangers(world: World) -> None:
    world.apply("web", externalPeers=["10.0.0.9"])


def obeys_strangers(world: World) -> None:
    world.apply("web", foreignRouters="Obey")


def has_an_owner(world: World) -> None:
    world.apply("web", nodes={"priorities": [{"nodeName": "n1", "priority": 255}]})


@pytest.mark.parametrize(
    "known",
    [hears_a_stranger, is_told_by_an_agent, has_an_entry, may_be_a_strangers, obeys_strangers, has_an_owner],
)
def test_there_is_no_nominee_where_somebody_may_hold_it_already(known: object) -> None:
    world = World("n1", "n2", "n3")
    assert callable(known)
    known(world)
    assert not nominees(world.plan())


def is_cordoned(world: World) -> None:
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], is_cordoned=True)


def is_not_ready(world: World) -> None:
    world.nodes["n1"] = dataclasses.replace(world.nodes["n1"], is_ready=False)


def has_no_speaker(world: World) -> None:
    world.heard = {"n2", "n3"}


def refuses_what_it_is_told(world: World) -> None:
    refused = Condition(
        type="Applied", status="False", reason="RefusedByEngine", message="no", last_transition_time=LATER
    )
    world.report("n1", conditions=[refused])


@pytest.mark.parametrize("unable", [is_cordoned, is_not_ready, has_no_speaker, refuses_what_it_is_told])
def test_a_node_that_would_not_come_is_no_nominee(unable: object) -> None:
    world = World("n1", "n2", "n3")
    assert callable(unable)
    unable(world)
    apply_many(world, 20)
    assert Counter(nominees(world.plan()).values()) == {"n2": 10, "n3": 10}


@pytest.mark.parametrize("nopreempt", [True, False])
def test_where_the_user_gave_priorities_it_is_one_of_the_highest(nopreempt: bool) -> None:
    world = World("n1", "n2", "n3")
    priorities = [{"nodeName": "n1", "priority": 60}, {"nodeName": "n2", "priority": 120}]
    apply_many(world, 3, nodes={"priorities": priorities}, nopreempt=nopreempt)
    assert set(nominees(world.plan()).values()) == {"n2"}


def test_the_order_in_which_things_come_changes_nothing() -> None:
    one, other = World("n1", "n2", "n3"), World("n1", "n2", "n3")
    apply_many(one, 7)
    apply_many(other, 7)
    other.virtual_ips = dict(reversed(other.virtual_ips.items()))
    other.nodes = dict(reversed(other.nodes.items()))
    assert msgspec.json.encode(one.plan().speakers) == msgspec.json.encode(other.plan().speakers)


# ----- preferences -----


def test_a_preferred_node_holds_first_and_among_equals_it_is_balance_that_decides() -> None:
    world = World("n1", "n2", "n3", "n4")
    for name, zone in {"n1": "a", "n2": "a", "n3": "b", "n4": "b"}.items():
        world.nodes[name] = dataclasses.replace(world.nodes[name], labels={"zone": zone})
    preferences = [
        {"selector": {"matchLabels": {"zone": "b"}}, "weight": 10},
        {"nodeName": "n1", "weight": 9},
    ]
    apply_many(world, 10, nodes={"preferences": preferences})
    plan = world.plan()
    assert Counter(nominees(plan).values()) == {"n3": 5, "n4": 5}
    assert {router.priority for router in routers(plan, "shop/v000").values()} == {100, 90, 80, 70}


def test_weights_add_up_and_where_the_preferred_is_away_the_next_one_holds() -> None:
    world = World("n1", "n2", "n3")
    preferences = [
        {"nodeName": "n2", "weight": 60},
        {"nodeName": "n3", "weight": 40},
        {"selector": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["3"]}]}, "weight": 30},
    ]
    world.apply("web", nodes={"preferences": preferences})
    assert nominees(world.plan()) == {"shop/web": "n3"}
    world.nodes["n3"] = dataclasses.replace(world.nodes["n3"], is_ready=False)
    assert nominees(world.plan()) == {"shop/web": "n2"}


def test_preferences_that_are_edited_move_nothing_and_change_no_priority() -> None:
    world = World("n1", "n2", "n3")
    world.apply("web")
    take_office(world, world.reconcile())
    before = world.settle().speakers
    world.apply("web", nodes={"preferences": [{"nodeName": name, "weight": 7} for name in ("n1", "n2")]})
    assert world.plan().speakers == before


@pytest.mark.parametrize("preference", [{"weight": 1}, {"weight": 1, "nodeName": "n1", "selector": {}}])
def test_a_preference_for_nothing_or_for_two_things_is_refused(preference: dict[str, object]) -> None:
    world = World("n1", "n2")
    world.apply("web", nodes={"preferences": [preference]})
    status, _, message = condition(world.plan(), "Accepted")
    assert status == "False"
    assert "spec.nodes.preferences[0]: exactly one of selector and nodeName" in message


# ----- what a dead node leaves -----


@pytest.mark.parametrize("count", [3, 4])
def test_what_any_node_leaves_when_it_dies_is_spread_over_all_others(count: int) -> None:
    world = World(*(f"n{number}" for number in range(1, count + 1)))
    for number in range(240):
        world.apply(f"v{number:03}", addresses=[f"10.0.0.{10 + number}/24"])
    plan = world.plan()
    first = nominees(plan)
    for dead in world.nodes:
        heirs: Counter[str] = Counter()
        for key, holder in first.items():
            if holder == dead:
                others = {name: router.priority for name, router in routers(plan, key).items() if name != dead}
                heirs[max(others, key=lambda name: others[name])] += 1
        assert len(heirs) == count - 1
        assert max(heirs.values()) - min(heirs.values()) <= 1
