"""Services of type LoadBalancer are given addresses, keep them, and give them back."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast_api.cluster import VirtualRouterInForce
from holdfast_api.services import CLEANUP_FINALIZER
from holdfast_operator.planner.cluster.view import ClusterPlan, ClusterRules
from holdfast_testing.planner_world import LATER, World, routers


@pytest.fixture
def world() -> World:
    found = World("n1", "n2", "n3")
    found.else_seen["namespaces"] = {"shop": {"team": "shop"}, "bank": {"team": "bank"}}
    found.apply_pool("edge", "10.0.0.200-10.0.0.210", autoAssign=True)
    return found


def vip(world: World, key: str = "shop/web") -> list[str]:
    """The addresses that the VirtualIP of a Service has on record."""
    found: list[str] = world.virtual_ips[key]["spec"]["addresses"]
    return found


def assigned(plan: ClusterPlan, key: str = "shop/web") -> tuple[str, str, str]:
    (found,) = plan.services[key].conditions
    return found.status, found.reason, found.message


def told(plan: ClusterPlan, key: str = "shop/web") -> list[str]:
    return list(plan.services[key].ingress)


def events(plan: ClusterPlan, key: str = "shop/web") -> list[tuple[str, str]]:
    return [(one.type.value, one.reason) for one in plan.service_notices if one.service == key]


# ----- a Service is given an address -----


def test_a_service_is_given_an_address_of_a_pool_and_a_virtual_ip_that_it_owns(world: World) -> None:
    world.apply_service("web")
    plan = world.plan()
    made = plan.virtual_ips["shop/web"]
    assert made["spec"] == {
        "addresses": ["10.0.0.200"],
        "virtualRouterSharing": "Shared",
        "hostPorts": "Closed",
    }
    assert made["metadata"]["labels"] == {"holdfast.dev/service-vip": "true"}
    assert made["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "name": "web",
            "uid": "shop/web-1",
            "controller": False,
            "blockOwnerDeletion": False,
        }
    ]
    assert set(routers(plan)) == {"n1", "n2", "n3"}  # in the same pass
    assert plan.services["shop/web"].is_ours
    assert assigned(plan) == ("True", "Assigned", "10.0.0.200 of AddressPool edge, by VirtualIP shop/web")
    assert events(plan) == [("Normal", "AddressAssigned")]


def test_the_address_is_told_once_a_node_holds_it_and_stays_when_nobody_does(world: World) -> None:
    world.apply_service("web")
    assert told(world.settle()) == []
    world.hold("shop/web", "n1")
    assert told(world.settle()) == ["10.0.0.200"]
    world.say("shop/web", "n1", "Initialize", LATER)
    plan = world.settle()
    assert plan.statuses["shop/web"].holder == ""
    assert told(plan) == ["10.0.0.200"]


def test_nothing_is_written_or_said_in_a_steady_state(world: World) -> None:
    world.apply_service("web")
    world.settle()
    world.hold("shop/web", "n1")
    settled = world.settle()
    again = world.plan(LATER)
    assert (again.virtual_ips, again.services, again.speakers) == (
        settled.virtual_ips,
        settled.services,
        settled.speakers,
    )
    assert (list(again.service_notices), list(again.notices), list(again.ended)) == ([], [], [])


@pytest.mark.parametrize(
    ("spec", "without_class", "is_ours"),
    [
        ({}, False, True),
        ({"loadBalancerClass": "example.com/other"}, False, False),
        ({"loadBalancerClass": "example.com/other"}, True, False),
        ({"loadBalancerClass": None}, False, False),
        ({"loadBalancerClass": None}, True, True),
        ({"type": "ClusterIP"}, True, False),
    ],
)
def test_the_class_says_whose_it_is(world: World, spec: dict[str, Any], without_class: bool, is_ours: bool) -> None:
    world.rules = ClusterRules(services_without_class=without_class)
    world.apply_service("web", **spec)
    plan = world.settle()
    assert ("shop/web" in plan.services) is is_ours
    assert ("shop/web" in plan.virtual_ips) is is_ours


def test_what_was_made_for_services_stays_while_nobody_looks_at_services(world: World) -> None:
    world.apply_service("web")
    settled = world.settle()
    world.services = None
    plan = world.settle()
    assert plan.speakers == settled.speakers
    assert (plan.services, plan.virtual_ips, list(plan.ended)) == ({}, {}, [])


# ----- and gives it back -----


@pytest.mark.parametrize("how", ["deletion", "type"])
def test_a_service_that_is_ours_no_more_gives_its_address_back(world: World, how: str) -> None:
    world.apply_service("web")
    world.settle()
    world.hold("shop/web", "n1")
    world.settle()
    if how == "deletion":
        world.delete_service("web")
    else:
        world.apply_service("web", type="ClusterIP", loadBalancerClass=None)
    plan = world.plan()
    assert routers(plan) == {}
    assert plan.services["shop/web"].is_ours  # until no node has it
    assert told(plan) == []
    assert assigned(plan)[:2] == ("False", "Released")
    assert events(plan) == [("Normal", "AddressReleased")]
    assert list(plan.ended) == []
    for _ in range(4):
        plan = world.reconcile()
    assert "shop/web" not in world.virtual_ips
    assert "shop/web" not in plan.services or plan.services["shop/web"].conditions == ()
    if how == "type":
        service = (world.services or {})["shop/web"]
        assert (service["metadata"]["finalizers"], service["status"]) == ([], {})
    else:
        assert "shop/web" not in (world.services or {})


def test_the_finalizer_stays_while_an_engine_says_that_it_runs_it(world: World) -> None:
    world.apply_service("web")
    world.settle()
    world.delete_service("web")
    world.reconcile(observed=False)
    in_force = [VirtualRouterInForce(name="shop/web", virtual_router_id=1)]
    world.report("n2", virtual_routers=in_force)
    plan = world.reconcile()
    assert (list(plan.ended), plan.services["shop/web"].is_ours) == ([], True)
    world.report("n2")
    assert list(world.reconcile().ended) == ["shop/web"]
    assert not world.reconcile().services["shop/web"].is_ours


def test_its_address_is_given_to_nobody_before_it_is_gone(world: World) -> None:
    world.apply_pool("edge", "10.0.0.200", autoAssign=True)
    world.apply_service("web")
    world.settle()
    world.delete_service("web")
    world.apply_service("api")
    plan = world.reconcile()
    assert assigned(plan, "shop/api")[:2] == ("False", "NoAddressLeft")
    for _ in range(4):
        plan = world.reconcile()
    assert vip(world, "shop/api") == ["10.0.0.200"]


def test_a_finalizer_of_somebody_elses_service_is_left_alone(world: World) -> None:
    world.apply_service("web", loadBalancerClass="example.com/other")
    (world.services or {})["shop/web"]["metadata"]["finalizers"] = [CLEANUP_FINALIZER]
    assert world.settle().services == {}
