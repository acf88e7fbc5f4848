"""The laws of what pools give: they hold whatever users and administrators wrote, in whatever order."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.addresses import parse_interface
from holdfast_operator.planner.cluster.plan import plan_cluster
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.planner_world import LATER, NOW, World, condition, routers

Spec = dict[str, Any]
Step = tuple[str, str, Spec | None]
"""A pool or a VirtualIP, its name, and its specification; None deletes it."""

pool_specs = st.fixed_dictionaries(
    {
        "addresses": st.lists(
            st.sampled_from(
                ["10.0.0.60-10.0.0.62", "10.0.0.62-10.0.0.64", "10.0.0.63", "10.0.0.68/30", "192.0.2.0/24"]
            ),
            min_size=1,
            max_size=2,
            unique=True,
        )
    },
    optional={
        "autoAssign": st.booleans(),
        "namespaces": st.sampled_from([{"names": ["shop"]}, {"selector": {"matchLabels": {"team": "bank"}}}, {}]),
        "namespaceQuota": st.sampled_from([{"addresses": 1}, {"addresses": 2, "virtualRouterIDs": 1}]),
        "virtualRouterIDs": st.sampled_from([{"first": 1, "last": 2}, {"first": 3, "last": 9}]),
        "virtualIPTemplate": st.sampled_from(
            [{"interface": "eth0"}, {"nodes": {"names": ["n1"]}}, {"nopreempt": False}]
        ),
    },
)
vip_specs = st.fixed_dictionaries(
    {
        "addresses": st.none()
        | st.lists(st.sampled_from([f"10.0.0.{last}/24" for last in range(60, 65)]), min_size=1, max_size=2)
    },
    optional={
        "addressPool": st.sampled_from(["p", "q"]),
        "virtualRouterID": st.sampled_from([1, 3]),
        "nodes": st.sampled_from([{"names": ["n1"]}, {"names": ["n9"]}]),
        "priority": st.sampled_from([40, 120]),
    },
)
steps = st.one_of(
    st.tuples(st.just("pool"), st.sampled_from(["p", "q", "r"]), st.none() | pool_specs),
    st.tuples(
        st.just("vip"), st.sampled_from(["shop/a", "shop/b", "shop/c", "bank/a", "bank/b"]), st.none() | vip_specs
    ),
)
histories = st.lists(steps, max_size=12)


def take(world: World, step: Step) -> None:
    kind, name, spec = step
    spec = copy.deepcopy(spec)
    if kind == "pool":
        if spec is None:
            world.pools.pop(name, None)
        else:
            world.apply_pool(name, *spec.pop("addresses"), **spec)
        return
    namespace, _, bare = name.partition("/")
    if spec is None:
        world.delete(bare, namespace)
    else:
        world.apply(bare, namespace, **spec)


def made(history: list[Step]) -> World:
    world = World("n1", "n2")
    world.else_seen["namespaces"] = {"shop": {"team": "shop"}, "bank": {"team": "bank"}}
    for step in history:
        take(world, step)
        world.settle()
    return world


def ips(texts: list[str]) -> set[str]:
    return {str(found.ip) for text in texts if (found := parse_interface(text)) is not None}


@given(histories)
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_planned_again_byte_for_byte(history: list[Step]) -> None:
    world = made(history)
    settled = world.settle()
    again = world.plan(LATER)
    for part in ("speakers", "statuses", "pools"):
        assert msgspec.json.encode(getattr(again, part)) == msgspec.json.encode(getattr(settled, part))
    assert again.notices == ()


@given(histories, histories, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_what_is_listed_does_not_matter(before: list[Step], at_once: list[Step], random: Any) -> None:
    world = made(before)
    for step in at_once:
        take(world, step)
    view = world.view
    pools, virtual_ips, nodes = list(view.pools), list(view.virtual_ips), list(view.nodes)
    for part in (pools, virtual_ips, nodes):
        random.shuffle(part)
    shuffled = dataclasses.replace(view, pools=pools, virtual_ips=virtual_ips, nodes=nodes)
    assert plan_cluster(shuffled, NOW) == plan_cluster(view, NOW)


@given(histories, histories)
@settings(max_examples=80, deadline=None)
def test_what_was_given_never_changes_while_it_lives(before: list[Step], after: list[Step]) -> None:
    world = made(before)
    for step in after:
        given_before = {
            key: raw["status"]["addresses"]
            for key, raw in world.virtual_ips.items()
            if "addresses" not in raw["spec"] and raw["status"].get("addresses")
        }
        generations = {key: raw["metadata"]["uid"] for key, raw in world.virtual_ips.items()}
        was_deleted = step[0] == "vip" and step[2] is None
        take(world, step)
        plan = world.settle()
        for key, addresses in given_before.items():
            raw = world.virtual_ips.get(key)
            if raw is None or "addresses" in raw["spec"] or (was_deleted and key == step[1]) or key not in generations:
                continue
            assert plan.statuses[key].addresses == addresses
            for router in routers(plan, key).values():
                assert router.addresses == addresses


@given(histories, histories)
@settings(max_examples=80, deadline=None)
def test_an_administrators_step_takes_no_address_from_what_runs(before: list[Step], after: list[Step]) -> None:
    world = made(before)
    for step in (step for step in after if step[0] == "pool"):
        settled = world.settle()
        # An edit that was refused may be what comes into force now.
        keys = [
            key for key, status in settled.statuses.items() if all(one.type != "Stalled" for one in status.conditions)
        ]
        was = {(key, node): router for key in keys for node, router in routers(settled, key).items()}
        take(world, step)
        plan = world.settle()
        for (key, node), router in was.items():
            # Who waited for an address may be given one.
            assert routers(plan, key)[node].addresses == router.addresses
            assert routers(plan, key)[node].virtual_router_id == router.virtual_router_id


@given(histories, histories)
@settings(max_examples=80, deadline=None)
def test_nobody_gets_what_another_has_nor_more_than_its_quota(before: list[Step], at_once: list[Step]) -> None:
    world = made(before)
    had_before = {key: ips(raw["status"].get("addresses", [])) for key, raw in world.virtual_ips.items()}
    for step in at_once:
        take(world, step)
    plan = world.plan()
    owners = Counter(address for status in plan.statuses.values() for address in ips(status.addresses))
    assert all(count == 1 for count in owners.values())
    for name, raw in world.pools.items():
        assert_quota(plan, name, raw, had_before)


def assert_quota(plan: ClusterPlan, name: str, raw: dict[str, Any], had_before: dict[str, set[str]]) -> None:
    """Whoever is accepted without a complaint is within the quota, with all others of its namespace that are."""
    if plan.pools[name].conditions[0].status == "False":
        return
    quota = raw["spec"].get("namespaceQuota", {}).get("addresses")
    if quota is None:
        return
    ranges = {
        "10.0.0.60-10.0.0.62": (60, 62),
        "10.0.0.62-10.0.0.64": (62, 64),
        "10.0.0.63": (63, 63),
        "10.0.0.68/30": (69, 70),
    }
    inside = {
        f"10.0.0.{last}"
        for entry in raw["spec"]["addresses"]
        if entry in ranges
        for last in range(ranges[entry][0], ranges[entry][1] + 1)
    }
    for namespace in ("shop", "bank"):
        keys = [key for key in plan.statuses if key.startswith(f"{namespace}/")]
        accepted = [key for key in keys if condition(plan, "Accepted", key)[0] == "True"]
        had = {key: ips(plan.statuses[key].addresses) & inside for key in accepted}
        assert sum(map(len, had.values())) <= quota
        new = {key for key in keys if ips(plan.statuses[key].addresses) & inside - had_before.get(key, set())}
        total = sum(len(ips(plan.statuses[key].addresses) & inside) for key in keys)
        assert total <= quota or not new


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["namespaces", "virtualRouterIDs", "virtualIPTemplate", "namespaceQuota", "autoAssign"])


@given(st.lists(st.text(max_size=12) | json_values, max_size=3), st.dictionaries(fields, json_values), json_values)
@settings(max_examples=150, deadline=None)
def test_no_garbage_in_one_pool_raises_or_takes_anything(addresses: list[Any], spec: Spec, status: Any) -> None:
    world = World("n1", "n2")
    world.apply("web")
    before = routers(world.settle())
    world.apply_pool("bad", *addresses, **spec)
    world.pools["bad"]["status"] = status
    assert routers(world.plan()) == before
