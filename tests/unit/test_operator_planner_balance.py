"""What a person's word moves, and nothing else does: the fewest virtual routers, one after the other."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest

from holdfast_api.pools import REBALANCE_ANNOTATION
from holdfast_operator.planner.cluster.balance import Held, moves
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.planner_world import LATER, MUCH_LATER, NOW, World

ALL = ("n1", "n2", "n3")


def uneven(count: int = 6, **spec: Any) -> World:
    """n1 holds all that a pool has."""
    world = World(*ALL)
    world.apply_pool("shop", "10.0.0.100-10.0.0.149")
    world.apply_pool("other", "10.0.0.150-10.0.0.199")
    for number in range(count):
        world.apply(f"v{number}", addresses=[f"10.0.0.{100 + number}/24"], **spec)
    world.settle()
    for key in world.virtual_ips:
        holds(world, key, "n1", NOW)
    world.settle()
    return world


def holds(world: World, key: str, holder: str, since: str) -> None:
    for name in world.nodes:
        world.say(key, name, "Master" if name == holder else "Backup", since)


def ask(world: World, value: str, pool: str = "shop") -> None:
    world.pools[pool]["metadata"]["annotations"] = {REBALANCE_ANNOTATION: value}


def wanted(plan: ClusterPlan) -> list[tuple[str, str]]:
    """What nodes are told to take over."""
    return [(one.virtual_router, node) for node, spec in plan.speakers.items() for one in spec.take_overs]


def obey(world: World, since: str = LATER) -> tuple[str, str] | None:
    """The next move: it is asked for, the engines do it, and their agents say so."""
    world.reconcile(since)
    asked = wanted(world.reconcile(since))
    assert len(asked) <= 1
    if not asked:
        return None
    key, to = asked[0]
    holds(world, key, to, since)
    return key, to


def spread(world: World) -> Counter[str]:
    return Counter(raw["status"]["holder"] for raw in world.virtual_ips.values())


def told(world: World, pool: str = "shop") -> dict[str, Any]:
    return dict(world.pools[pool]["status"].get("rebalance", {}))


def test_nothing_moves_before_somebody_asks_and_the_status_tells_how_much_would() -> None:
    world = uneven()
    plan = world.settle(LATER)
    assert wanted(plan) == []
    assert (plan.pools["shop"].imbalance, plan.pools["other"].imbalance) == (4, 0)


def test_the_fewest_move_one_after_the_other_and_then_it_is_even() -> None:
    world = uneven()
    ask(world, "monday")
    moved = []
    while (step := obey(world)) is not None:
        moved.append(step[0])
    assert len(moved) == len(set(moved)) == 4
    assert spread(world) == {"n1": 2, "n2": 2, "n3": 2}
    assert told(world) == {"requested": "monday", "state": "Complete", "moved": 4}
    assert world.plan(LATER).pools["shop"].imbalance == 0


def test_each_value_counts_once() -> None:
    world = uneven()
    ask(world, "monday")
    while obey(world) is not None:
        pass
    for key in world.virtual_ips:
        holds(world, key, "n3", MUCH_LATER)
    world.settle(MUCH_LATER)
    assert obey(world, MUCH_LATER) is None
    ask(world, "tuesday")
    assert obey(world, MUCH_LATER) is not None


def test_a_new_operator_goes_on_where_the_last_one_was() -> None:
    world = uneven()
    ask(world, "monday")
    first = wanted(world.reconcile(LATER))
    assert wanted(world.reconcile(LATER)) == first  # nothing but what the API server has is remembered
    assert world.plan(LATER).speakers == {name: one.spec for name, one in world.speakers.items()}


def test_only_what_has_addresses_of_the_named_pool_moves() -> None:
    world = uneven(2)
    for number in range(4):
        world.apply(f"o{number}", addresses=[f"10.0.0.{150 + number}/24"])
    world.settle()
    for key in world.virtual_ips:
        holds(world, key, "n1", NOW)
    world.settle()
    ask(world, "monday")
    moved = []
    while (step := obey(world)) is not None:
        moved.append(step[0])
    assert sorted(moved) == ["shop/v0", "shop/v1"]


def is_failing(world: World) -> None:
    for key in world.virtual_ips:
        world.say(key, "n2", "Backup", health="Failing")


def is_out(world: World) -> None:
    for key in world.virtual_ips:
        world.say(key, "n2", "Initialize")


def is_cordoned(world: World) -> None:
    world.nodes["n2"] = dataclasses.replace(world.nodes["n2"], is_cordoned=True)


def is_not_heard(world: World) -> None:
    world.heard = {"n1", "n3"}


@pytest.mark.parametrize("unfit", [is_failing, is_out, is_cordoned, is_not_heard])
def test_nothing_moves_to_a_node_that_is_less_fit(unfit: Any) -> None:
    world = uneven()
    unfit(world)
    ask(world, "monday")
    targets = set()
    while (step := obey_but(world, "n2", unfit)) is not None:
        targets.add(step[1])
    assert targets == {"n3"}
    assert spread(world) == {"n1": 3, "n3": 3}


def obey_but(world: World, _node: str, unfit: Any) -> tuple[str, str] | None:
    step = obey(world)
    unfit(world)
    return step


@pytest.mark.parametrize(
    "spec",
    [
        {"nopreempt": False},
        {"nodes": {"priorities": [{"nodeName": "n1", "priority": 120}]}},
        {"nodes": {"preferences": [{"nodeName": "n1", "weight": 5}]}},
    ],
    ids=["priorities decide", "the user gave it a priority", "the user prefers it"],
)
def test_what_the_user_wants_where_it_is_stays(spec: dict[str, Any]) -> None:
    world = uneven(**spec)
    ask(world, "monday")
    assert obey(world) is None
    assert told(world)["state"] == "Complete"


def test_a_node_that_does_not_take_over_ends_it_and_is_named() -> None:
    world = uneven()
    ask(world, "monday")
    plan = world.reconcile(LATER)
    (key, to), *_ = wanted(plan)
    assert plan.look_again_seconds is not None
    assert plan.look_again_seconds <= 30
    plan = world.reconcile(MUCH_LATER)
    assert wanted(plan) == []
    assert told(world)["state"] == "Incomplete"
    assert told(world)["message"] == f"{key} has not moved from n1 to {to}"
    assert wanted(world.reconcile(MUCH_LATER)) == []


def test_two_pools_move_one_at_a_time() -> None:
    world = uneven(3)
    for number in range(3):
        world.apply(f"o{number}", addresses=[f"10.0.0.{150 + number}/24"])
    world.settle()
    for key in world.virtual_ips:
        holds(world, key, "n1", NOW)
    world.settle()
    ask(world, "monday")
    ask(world, "monday", "other")
    moved = []
    while (step := obey(world)) is not None:
        moved.append(step[0])
    assert len(moved) == 4
    assert spread(world) == {"n1": 2, "n2": 2, "n3": 2}
    assert told(world)["state"] == told(world, "other")["state"] == "Complete"


def test_an_annotation_that_is_taken_off_ends_it() -> None:
    world = uneven()
    ask(world, "monday")
    obey(world)
    world.pools["shop"]["metadata"]["annotations"] = {}
    assert obey(world) is None


def test_large_ones_move_where_that_takes_fewer_moves() -> None:
    held = {
        "a": Held("n1", 10, ("n2",)),
        **{f"b{number}": Held("n1", 1, ("n2",)) for number in range(10)},
    }
    assert [move.virtual_ip for move in moves(held, frozenset(held))] == ["a"]
