"""What one agent says of its node, true or not, moves and blocks nothing of what other nodes run."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.cluster import Link, VirtualRouterInForce
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.planner_world import LATER, MUCH_LATER, NOW, World

LIAR = "n4"
HONEST = ("n1", "n2", "n3")
ADDRESSES = (
    *(f"10.0.0.{last}" for last in (1, 2, 3, 4, 5, 50, 100, 101, 254)),
    *("fe80::1", "fe80::2", "fe80::4", "fe80::ff", "192.0.2.1", "0.0.0.0", "127.0.0.1", "::", "nonsense", ""),
)
LENGTHS = ("/0", "/8", "/24", "/25", "/32", "/64", "/128", "")

links = st.builds(
    Link,
    name=st.sampled_from(["eth0", "eth1", "lo"]),
    addresses=st.lists(st.builds("{}{}".format, st.sampled_from(ADDRESSES), st.sampled_from(LENGTHS)), max_size=8),
    foreign_virtual_router_ids=st.one_of(
        st.lists(st.integers(1, 255), max_size=5, unique=True), st.just(list(range(1, 256)))
    ),
    next_hops=st.lists(st.sampled_from(ADDRESSES), max_size=8),
)
reports = st.fixed_dictionaries(
    {},
    optional={
        "links": st.lists(links, max_size=3, unique_by=lambda link: link.name),
        "observed_generation": st.integers(0, 1_000_000),
        "warnings": st.lists(st.text(max_size=20), max_size=3),
        "virtual_routers": st.lists(
            st.builds(
                VirtualRouterInForce,
                name=st.sampled_from(["shop/web", "shop/mail", "shop/pinned", "shop/invented"]),
                virtual_router_id=st.integers(1, 255),
            ),
            max_size=5,
        ),
        "planned_from": st.sampled_from(["", "another"]),
    },
)
entries = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["Initialize", "Backup", "Master", "Emperor"]),
        "since": st.sampled_from(["", NOW, LATER, "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "never"]),
        "priority": st.sampled_from([0, 1, 100, 255, -1]),
        "health": st.sampled_from(["Healthy", "Failing", "Unknown", "Splendid"]),
    },
    optional={
        "reason": st.sampled_from(["Switchover", "AddressOwner", "Sabotage"]),
        "obstacles": st.lists(st.sampled_from(["AddressConflict", "LinkDown", "Sabotage"]), max_size=3),
        "interface": st.sampled_from(["eth0", "eth1", ""]),
    },
)


@functools.cache
def running(*, liar_takes_part: bool) -> World:
    """Three VirtualIPs that run on three honest nodes, and on the liar's, which has told the truth so far."""
    world = World(*HONEST, LIAR)
    names = [*HONEST, LIAR] if liar_takes_part else list(HONEST)
    world.apply("web", nodes={"names": names})
    world.apply("mail", addresses=["10.0.0.101/24", "fe80::ffff/64"], nodes={"names": names}, transport="Unicast")
    world.apply("pinned", addresses=["10.0.0.102/24"], nodes={"names": names}, virtualRouterID=9)
    world.settle()
    for key in world.virtual_ips:
        for node in names:
            world.say(key, node, "Master" if node == "n1" else "Backup")
    world.settle()
    return world


def what_runs(plan: ClusterPlan) -> dict[str, dict[str, VirtualRouterConfiguration]]:
    return {node: {router.name: router for router in plan.speakers[node].virtual_routers} for node in HONEST}


def order(plan: dict[str, dict[str, VirtualRouterConfiguration]], key: str) -> list[str]:
    """Who takes over before whom. The numbers may change with those who take part: among equals they are given out."""
    return sorted(HONEST, key=lambda node: (-plan[node][key].priority, node))


def of_others(router: VirtualRouterConfiguration) -> dict[str, Any]:
    """What of it is no liar's business: all but who the other members are, and who was heard to hold it last."""
    kept = (
        *("addresses", "virtual_router_id", "version", "nopreempt", "preempt_delay_milliseconds"),
        *("advertisement_interval_milliseconds", "interface", "transport", "foreign_routers", "draining"),
        *("when_failing", "conflict_detection", "host_ports", "start_delay_milliseconds"),
        *("tracks_services", "simple_password"),
    )
    return {name: getattr(router, name) for name in kept}


@pytest.mark.parametrize("takes_part", [True, False], ids=["a member", "no member"])
@settings(max_examples=50)
@given(report=reports, said=st.lists(entries, min_size=3, max_size=3), heard=st.booleans())
def test_what_one_agent_says_moves_and_blocks_nothing_that_runs_on_others(
    takes_part: bool, report: dict[str, Any], said: list[dict[str, Any]], heard: bool
) -> None:
    world = copy.deepcopy(running(liar_takes_part=takes_part))
    before = what_runs(world.plan())
    if heard:
        world.heard = {*HONEST, LIAR}
    world.links[LIAR] = report.get("links", world.links[LIAR])
    world.report(LIAR, **report)
    for key, entry in zip(sorted(world.virtual_ips), said, strict=True):
        world.say(key, LIAR, **entry)
    for now in (LATER, MUCH_LATER):
        after = what_runs(world.reconcile(now))
        assert {node: set(routers) for node, routers in after.items()} == {
            node: set(routers) for node, routers in before.items()
        }
        for node in HONEST:
            for key, router in before[node].items():
                assert of_others(after[node][key]) == of_others(router), (node, key)
                lost = set(router.members) - set(after[node][key].members)
                assert lost <= {"10.0.0.4", "fe80::4"}, (node, key)
                assert order(after, key) == order(before, key)
