"""The laws of what Services are given: they hold whatever users and administrators wrote, in whatever order."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.addresses import parse_interface
from holdfast_api.cluster import Link
from holdfast_operator.planner.cluster.plan import plan_cluster
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.planner_world import LATER, NOW, World

Spec = dict[str, Any]
Step = tuple[str, str, Spec | None]
"""A pool, a VirtualIP, a Service or who holds what; its name; and its specification, None deletes it."""

LAST = st.integers(60, 65)
pool_specs = st.fixed_dictionaries(
    {
        "addresses": st.lists(
            st.sampled_from(["10.0.0.60-10.0.0.61", "10.0.0.61-10.0.0.64", "fd00::60", "fd00::61-fd00::62"]),
            min_size=1,
            max_size=2,
            unique=True,
        ),
        "autoAssign": st.booleans(),
    },
    optional={
        "namespaces": st.sampled_from([{"names": ["shop"]}, {"selector": {"matchLabels": {"team": "bank"}}}]),
        "namespaceQuota": st.sampled_from([{"addresses": 1}, {"addresses": 2}]),
        "virtualIPTemplate": st.sampled_from([{"nodes": {"names": ["n1"]}}, {"hostPorts": "Open"}]),
    },
)
families = st.sampled_from(
    [
        {"ipFamilies": ["IPv4"]},
        {"ipFamilies": ["IPv6"]},
        {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"},
        {"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack"},
    ]
)
service_specs = st.fixed_dictionaries(
    {
        "families": families,
        "annotations": st.fixed_dictionaries(
            {},
            optional={
                "pool": st.sampled_from(["p", "q"]),
                "addresses": LAST.map(lambda last: f"10.0.0.{last}") | st.sampled_from(["fd00::61", "nonsense"]),
                "sharing-key": st.sampled_from(["one", "two"]),
            },
        ),
        "ports": st.lists(st.sampled_from([80, 443]), min_size=1, max_size=2, unique=True).map(
            lambda ports: [{"port": port} for port in ports]
        ),
        "externalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
        "type": st.sampled_from(["LoadBalancer", "LoadBalancer", "ClusterIP"]),
    }
)
vip_specs = st.fixed_dictionaries({"addresses": st.none() | LAST.map(lambda last: [f"10.0.0.{last}/24"])})
steps = st.one_of(
    st.tuples(st.just("pool"), st.sampled_from(["p", "q"]), st.none() | pool_specs),
    st.tuples(st.just("vip"), st.sampled_from(["shop/a", "shop/own"]), st.none() | vip_specs),
    st.tuples(st.just("service"), st.sampled_from(["shop/a", "shop/b", "shop/c", "bank/a"]), st.none() | service_specs),
    st.tuples(st.just("service"), st.sampled_from(["shop/a", "shop/b", "bank/a"]), service_specs),
    st.tuples(st.just("holder"), st.sampled_from(["shop/a", "shop/b", "bank/a"]), st.none()),
)
histories = st.lists(steps, max_size=10)


def take(world: World, step: Step) -> None:
    kind, name, spec = step
    spec, (namespace, _, bare) = copy.deepcopy(spec), name.partition("/")
    if kind == "pool":
        if spec is None:
            world.pools.pop(name, None)
        else:
            world.apply_pool(name, *spec.pop("addresses"), **spec)
    elif kind == "holder" and name in world.virtual_ips:
        world.hold(name, "n2")
    elif kind == "vip" and name in (key for key, raw in world.virtual_ips.items() if "labels" in raw["metadata"]):
        pass  # what a user does to a Service's VirtualIP is not the matter here
    elif kind == "vip" and spec is None:
        world.delete(bare, namespace)
    elif kind == "vip" and spec is not None:
        world.apply(bare, namespace, **spec)
    elif kind == "service" and spec is None:
        if name in (world.services or {}):
            world.delete_service(bare, namespace)
    elif (
        kind == "service"
        and spec is not None
        and "deletionTimestamp" not in ((world.services or {}).get(name, {"metadata": {}})["metadata"])
    ):
        world.apply_service(bare, namespace, **spec.pop("families"), **spec)


def made(history: list[Step]) -> World:
    world = World("n1", "n2")
    world.services = {}
    world.else_seen["namespaces"] = {"shop": {"team": "shop"}, "bank": {"team": "bank"}}
    for index, node in enumerate(world.nodes, start=1):
        own = [f"10.0.0.{index}/24", f"fd00::{index}/64", f"fe80::{index}/64"]
        world.links[node] = [Link(name="eth0", addresses=own)]
        world.report(node)
    world.apply_pool("p", "10.0.0.60-10.0.0.62", "fd00::60", autoAssign=True)
    for step in history:
        take(world, step)
        settle(world)
    return world


def settle(world: World) -> ClusterPlan:
    """What goes takes a pass more than what comes, and what waits for that one more."""
    for _ in range(6):
        plan = world.reconcile()
    return plan


def ips(texts: list[str]) -> set[str]:
    return {str(found.ip) for text in texts if (found := parse_interface(text)) is not None}


def encoded(plan: ClusterPlan) -> bytes:
    return msgspec.json.encode(
        [plan.virtual_ips, plan.speakers, plan.statuses, plan.services, plan.pools, list(plan.ended)]
    )


@given(histories)
@settings(max_examples=40, deadline=None)
def test_what_was_written_is_planned_again_byte_for_byte_and_says_nothing(history: list[Step]) -> None:
    world = made(history)
    settled = settle(world)
    again = world.plan(LATER)
    assert encoded(again) == encoded(settled)
    assert (list(again.notices), list(again.service_notices), list(again.ended)) == ([], [], [])


@given(histories, histories, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_what_is_listed_does_not_matter(before: list[Step], at_once: list[Step], random: Any) -> None:
    world = made(before)
    for step in at_once:
        take(world, step)
    view = world.view
    shuffled = {part: list(getattr(view, part)) for part in ("pools", "virtual_ips", "nodes", "services")}
    for part in shuffled.values():
        random.shuffle(part)
    assert encoded(plan_cluster(dataclasses.replace(view, **shuffled), NOW)) == encoded(plan_cluster(view, NOW))


@given(histories, histories)
@settings(max_examples=40, deadline=None)
def test_nobody_is_given_what_another_has(before: list[Step], at_once: list[Step]) -> None:
    world = made(before)
    for step in at_once:
        take(world, step)
    for _ in range(3):
        plan = world.reconcile()
        owners = Counter(address for status in plan.statuses.values() for address in ips(status.addresses))
        of_services = {address for made in plan.virtual_ips.values() for address in ips(made["spec"]["addresses"])}
        assert all(owners[address] == 1 for address in of_services)


@given(histories, steps)
@settings(max_examples=60, deadline=None)
def test_what_a_service_has_changes_by_nobodys_step_but_its_own(before: list[Step], step: Step) -> None:
    world = made(before)
    had = {
        key: (ips(made["spec"]["addresses"]), [one["name"] for one in made["metadata"]["ownerReferences"]])
        for key, made in settle(world).virtual_ips.items()
    }
    ingress = {key: list(status.ingress) for key, status in world.plan().services.items()}
    take(world, step)
    plan = settle(world)
    kind, subject, _ = step
    for key, (addresses, owners) in had.items():
        namespace = key.partition("/")[0]
        services = {f"{namespace}/{name}" for name in owners}
        if kind == "service" and subject in services:
            continue
        assert addresses <= ips(plan.virtual_ips[key]["spec"]["addresses"])
        for service in services:
            is_shared = "sharing-key" in str((world.services or {})[service]["metadata"]["annotations"])
            if not is_shared:
                assert set(ingress[service]) <= set(plan.services[service].ingress)
