"""The laws of the cluster's plan: they hold whatever users wrote, in whatever order."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.cluster import Link
from holdfast_operator.planner.cluster.plan import plan_cluster
from holdfast_operator.planner.cluster.view import ClusterPlan, ClusterView
from holdfast_testing.planner_world import LATER, NOW, World, condition, routers

Spec = dict[str, Any]

names = st.sampled_from(["a", "b", "c", "d", "e"])
addresses = st.sampled_from([f"10.{link}.0.{last}/24" for link in (0, 1) for last in range(60, 64)])
specs = st.fixed_dictionaries(
    {"addresses": st.lists(addresses, min_size=1, max_size=2)},
    optional={
        "virtualRouterID": st.sampled_from([1, 2, 300]),
        "interface": st.sampled_from(["eth0", "eth1"]),
        "priority": st.sampled_from([40, 100, 200]),
        "nodes": st.sampled_from([{"names": ["n1"]}, {"names": ["n9"]}, {"selector": {"matchLabels": {"zone": "2"}}}]),
        "version": st.just(2),
    },
)
worlds = st.dictionaries(names, specs, max_size=5)
edits = st.lists(st.tuples(names, st.none() | specs), max_size=6)
"""One after another, with None for a deletion: so that some run on with what they were before a refusal."""


def apply(world: World, name: str, spec: Spec | None) -> None:
    if spec is None:
        world.delete(name)
    else:
        world.apply(name, **copy.deepcopy(spec))


def made(specs_by_name: dict[str, Spec], history: Sequence[tuple[str, Spec | None]] = ()) -> World:
    world = World("n1", "n2", "n3")
    for index, node in enumerate(world.nodes, start=1):
        world.links[node] = [
            Link(name=f"eth{link}", addresses=[f"10.{link}.0.{index}/24", f"fe80::{link}:{index}/64"])
            for link in (0, 1)
        ]
        world.report(node)
    for name, spec in [*sorted(specs_by_name.items()), *history]:
        apply(world, name, spec)
        world.settle()
    return world


@given(worlds, edits)
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_planned_again_byte_for_byte_and_says_nothing(
    specs_by_name: dict[str, Spec], history: list[tuple[str, Spec | None]]
) -> None:
    world = made(specs_by_name, history)
    settled = world.settle()
    again = world.plan(LATER)
    assert msgspec.json.encode(again.speakers) == msgspec.json.encode(settled.speakers)
    assert msgspec.json.encode(again.statuses) == msgspec.json.encode(settled.statuses)
    assert again.notices == ()


@given(worlds, edits, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_what_is_listed_does_not_matter(
    specs_by_name: dict[str, Spec], history: list[tuple[str, Spec | None]], random: Any
) -> None:
    world = made(specs_by_name, history[:-1])
    for name, spec in history[-1:]:
        apply(world, name, spec)
    view = world.view
    virtual_ips, nodes, speakers = list(view.virtual_ips), list(view.nodes), list(view.speakers.items())
    for part in (virtual_ips, nodes, speakers):
        random.shuffle(part)
    shuffled = plan_cluster(ClusterView(virtual_ips, nodes, dict(speakers)), NOW)
    assert msgspec.json.encode(shuffled.speakers) == msgspec.json.encode(plan_cluster(view, NOW).speakers)
    assert shuffled == plan_cluster(view, NOW)


@given(worlds, edits, names, st.none() | specs)
@settings(max_examples=100, deadline=None)
def test_a_change_of_one_virtual_ip_disturbs_no_other_that_runs(
    specs_by_name: dict[str, Spec], history: list[tuple[str, Spec | None]], name: str, spec: Spec | None
) -> None:
    world = made(specs_by_name, history)
    before = world.settle()
    apply(world, name, spec)
    after = world.plan()
    for key in set(before.statuses) - {f"shop/{name}"}:
        if condition(before, "Accepted", key)[0] == "True":
            assert routers(after, key) == routers(before, key)
        # One that waits for something may get it now; otherwise it goes on, and never stops.
        assert set(routers(after, key)) >= set(routers(before, key)) or condition(after, "Accepted", key)[0] == "True"


@given(worlds, edits)
@settings(max_examples=100, deadline=None)
def test_no_two_that_run_have_an_address_or_a_vrid_on_a_link_in_common(
    specs_by_name: dict[str, Spec], history: list[tuple[str, Spec | None]]
) -> None:
    world = made(specs_by_name)
    for name, spec in [*history, ("none", None)]:
        plan = world.plan()
        assert_nothing_is_had_twice(plan)
        world.settle()
        apply(world, name, spec)


def assert_nothing_is_had_twice(plan: ClusterPlan) -> None:
    owners: dict[tuple[object, ...], str] = {}
    for speaker in plan.speakers.values():
        for router in speaker.virtual_routers:
            link = router.interface or f"eth{router.addresses[0].split('.')[1]}"
            taken = [(text.partition("/")[0],) for text in router.addresses]
            for thing in [*taken, (link, router.virtual_router_id)]:
                assert owners.setdefault(thing, router.name) == router.name, thing


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
requirements = st.dictionaries(st.sampled_from(["key", "operator", "values", "x"]), json_values | st.just("In"))
selectors = st.fixed_dictionaries({"selector": st.fixed_dictionaries({"matchExpressions": st.lists(requirements)})})
fields = st.sampled_from(["addresses", "nodes", "track", "interface", "version", "virtualRouterID", "externalPeers"])


@given(st.dictionaries(fields, json_values, max_size=4), st.none() | selectors, json_values)
@settings(max_examples=150, deadline=None)
def test_no_garbage_in_one_virtual_ip_raises_or_disturbs_another(spec: Spec, nodes: Spec | None, status: Any) -> None:
    world = World("n1", "n2")
    world.apply("good")
    before = routers(world.settle(), "shop/good")
    world.apply("bad", **spec, **({"nodes": nodes} if nodes is not None and "nodes" not in spec else {}))
    world.virtual_ips["shop/bad"]["status"] = status
    assert routers(world.plan(), "shop/good") == before


@given(st.lists(st.text(max_size=20), max_size=3))
@settings(max_examples=100, deadline=None)
def test_no_garbage_that_a_speaker_reports_raises(texts: list[str]) -> None:
    world = World("n1", "n2")
    world.apply("web")
    world.links["n2"] = [Link(name="eth0", addresses=texts)]
    world.report("n2")
    assert "n1" in routers(world.plan())
