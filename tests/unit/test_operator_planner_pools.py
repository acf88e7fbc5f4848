"""AddressPools: what they hold, whom they admit, what they give, and that what was given stays."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from holdfast_api.cluster import Link
from holdfast_api.resources import Transport
from holdfast_operator.planner.cluster.view import ClusterPlan, ClusterRules
from holdfast_testing.planner_world import LATER, World, condition, routers


def accepted(plan: ClusterPlan, key: str = "shop/web") -> tuple[str, str]:
    return condition(plan, "Accepted", key)[:2]


def words(plan: ClusterPlan, key: str = "shop/web") -> str:
    return condition(plan, "Accepted", key)[2]


def had(plan: ClusterPlan, key: str = "shop/web") -> list[str]:
    return plan.statuses[key].addresses


def pool_condition(plan: ClusterPlan, name: str) -> tuple[str, str, str]:
    (found,) = plan.pools[name].conditions
    return found.status, found.reason, found.message


@pytest.fixture
def world() -> World:
    found = World("n1", "n2", "n3")
    found.else_seen["namespaces"] = {"shop": {"team": "shop"}, "bank": {"team": "bank"}}
    return found


# ----- permission -----


def test_without_a_pool_every_address_may_be_had(world: World) -> None:
    world.apply("web")
    plan = world.settle()
    assert accepted(plan) == ("True", "Accepted")
    assert had(plan) == ["10.0.0.100/24"]
    assert not world.pools_ever


def test_as_soon_as_there_is_a_pool_an_address_must_be_in_one(world: World) -> None:
    world.apply_pool("edge", "10.0.0.200-10.0.0.210")
    world.apply("web")
    plan = world.settle()
    assert accepted(plan) == ("False", "AddressNotPermitted")
    assert "spec.addresses[0]: 10.0.0.100 is in no AddressPool" in words(plan)
    assert "may have those of edge (10.0.0.200-10.0.0.210)" in words(plan)
    assert routers(plan) == {}
    world.apply("web", addresses=["10.0.0.205/24"])
    assert accepted(world.settle()) == ("True", "Accepted")


@pytest.mark.parametrize(
    ("namespaces", "admitted"),
    [
        ({}, True),
        ({"names": ["shop"]}, True),
        ({"names": ["bank"]}, False),
        ({"selector": {"matchLabels": {"team": "shop"}}}, True),
        ({"selector": {"matchLabels": {"team": "bank"}}}, False),
        ({"names": ["bank"], "selector": {"matchLabels": {"team": "shop"}}}, True),
        ({"names": ["shop"], "selector": {"matchLabels": {"team": "bank"}}}, True),
        ({"selector": {}}, True),
        ({"selector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["bank"]}]}}, True),
    ],
)
def test_names_and_selector_admit_their_union(world: World, namespaces: dict[str, Any], admitted: bool) -> None:
    world.apply_pool("edge", "10.0.0.0/24", namespaces=namespaces)
    world.apply("web")
    assert accepted(world.settle())[0] == str(admitted)


def test_a_namespace_whose_labels_nobody_told_is_selected_by_none(world: World) -> None:
    world.else_seen["namespaces"] = {}
    selector = {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}
    world.apply_pool("edge", "10.0.0.0/24", namespaces={"selector": selector})
    world.apply("web")
    assert accepted(world.settle()) == ("False", "AddressNotPermitted")


def test_the_message_names_the_pools_that_would_do(world: World) -> None:
    world.apply_pool("bank", "10.0.0.100", namespaces={"names": ["bank"]})
    world.apply_pool("shop", "10.0.0.64/29", namespaces={"names": ["shop"]})
    world.apply("web")
    told = words(world.settle())
    assert "AddressPool bank, which does not admit namespace shop" in told
    assert "shop (10.0.0.64/29)" in told


def test_the_last_pools_deletion_opens_no_door(world: World) -> None:
    world.apply_pool("edge", "10.0.0.200-10.0.0.210")
    world.settle()
    world.pools.clear()
    world.apply("web")
    assert accepted(world.settle()) == ("False", "AddressNotPermitted")
    world.else_seen["rules"] = ClusterRules(pools_required=False)
    assert accepted(world.settle()) == ("True", "Accepted")


def test_pools_can_be_required_before_there_is_one(world: World) -> None:
    world.else_seen["rules"] = ClusterRules(pools_required=True)
    world.apply("web")
    plan = world.settle()
    assert accepted(plan) == ("False", "AddressNotPermitted")
    assert "no AddressPool admits namespace shop" in words(plan)


def test_of_two_that_overlap_the_younger_is_refused(world: World) -> None:
    world.apply_pool("z-older", "10.0.0.100-10.0.0.110", "fd00::/64")
    world.apply_pool("a-younger", "10.0.0.200", "fd00::7", autoAssign=True)
    world.apply("web", addresses=["10.0.0.200/24"])
    plan = world.settle()
    status, reason, message = pool_condition(plan, "a-younger")
    assert (status, reason) == ("False", "Overlaps")
    assert "fd00::7 meets AddressPool z-older" in message
    assert pool_condition(plan, "z-older")[:2] == ("True", "Accepted")
    assert "AddressPool a-younger, which is refused itself" in words(plan)
    world.apply_pool("z-older", "10.0.0.100-10.0.0.110")
    plan = world.settle()
    assert pool_condition(plan, "a-younger")[:2] == ("True", "Accepted")
    assert accepted(plan) == ("True", "Accepted")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("10.0.0.5/24", "spec.addresses[0]: must be the prefix 10.0.0.0/24 or the address 10.0.0.5, not 10.0.0.5/24"),
        ("10.0.0.9-10.0.0.5", "spec.addresses[0]: must begin with the lower address: 10.0.0.5-10.0.0.9"),
        ("10.0.0.1-fd00::1", "spec.addresses[0]: must be of one family"),
        ("10.0.0.1-", "spec.addresses[0]: must be an IPv4 or IPv6 address"),
        ("::ffff:10.0.0.1", "spec.addresses[0]: must be written as the IPv4 address that it is"),
    ],
)
def test_what_is_no_range_refuses_its_pool_and_no_other(world: World, entry: str, message: str) -> None:
    world.apply_pool("bad", entry)
    world.apply_pool("good", "10.0.0.100")
    world.apply("web")
    plan = world.settle()
    assert pool_condition(plan, "bad")[:2] == ("False", "Invalid")
    assert pool_condition(plan, "bad")[2].startswith(message)
    assert accepted(plan) == ("True", "Accepted")


@pytest.mark.parametrize(
    "spec",
    [
        {"virtualRouterIDs": {"first": 9, "last": 3}},
        {"nodeOwned": True, "autoAssign": True},
        {"namespaces": {"selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}},
        {"virtualIPTemplate": {"nodes": {"selector": {"matchExpressions": [{"operator": "Exists"}]}}}},
        {"namespaceQuota": {"addresses": "many"}},
    ],
)
def test_what_no_pool_can_say_is_told_by_its_field(world: World, spec: dict[str, Any]) -> None:
    world.apply_pool("bad", "10.0.0.100", **spec)
    status, reason, message = pool_condition(world.settle(), "bad")
    assert (status, reason) == ("False", "Invalid")
    assert message.startswith("spec.")


def test_a_field_of_a_later_version_refuses_no_pool_and_is_told(world: World) -> None:
    world.apply_pool("edge", "10.0.0.100", surprise=1, virtualIPTemplate={"burst": 3, "interface": "eth0"})
    world.apply("web")
    plan = world.settle()
    assert accepted(plan) == ("True", "Accepted")
    status, _, message = pool_condition(plan, "edge")
    assert status == "True"
    assert "without effect: spec.surprise, spec.virtualIPTemplate.burst" in message


@pytest.mark.parametrize(
    ("entry", "capacity"),
    [("10.9.0.0/24", 254), ("10.9.0.0/31", 2), ("10.9.0.7", 1), ("10.9.0.0-10.9.0.255", 256), ("fd00::/126", 3)],
)
def test_a_prefix_stands_for_what_a_host_there_can_have(world: World, entry: str, capacity: int) -> None:
    world.apply_pool("edge", entry)
    assert world.settle().pools["edge"].capacity == capacity


def test_a_pool_tells_how_much_is_left(world: World) -> None:
    world.apply_pool("edge", "10.0.0.1-10.0.0.10", "10.0.0.255", autoAssign=True)
    world.apply("web", addresses=["10.0.0.10/24"])
    world.apply("given", addresses=None)
    status = world.settle().pools["edge"]
    # Three of them are the nodes' own, one is a broadcast address.
    assert (status.capacity, status.assigned, status.available) == (11, 2, 5)


def test_a_pool_of_ipv6_tells_as_much_as_a_number_can(world: World) -> None:
    world.apply_pool("edge", "fd00::/32")
    assert world.settle().pools["edge"].available == 2**53 - 1


# ----- assignment -----


def test_addresses_that_are_left_out_are_given(world: World) -> None:
    world.apply_pool("edge", "10.0.0.1-10.0.0.20", autoAssign=True)
    world.apply("web", addresses=None)
    world.apply("other", addresses=None)
    plan = world.settle()
    # The lowest that is no node's own, to the older one.
    assert (had(plan), had(plan, "shop/other")) == (["10.0.0.4"], ["10.0.0.5"])
    assert {tuple(router.addresses) for router in routers(plan).values()} == {("10.0.0.4",)}
    assert len(routers(plan)) == 3


def test_one_of_each_family_of_the_pool(world: World) -> None:
    for node in world.links:
        world.links[node].append(Link(name="eth0.6", addresses=["fd00::1/64"]))
        world.report(node)
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", "fd00::50-fd00::60", autoAssign=True)
    world.apply("web", addresses=None)
    world.apply("old", addresses=None, version=2)
    plan = world.settle()
    assert had(plan) == ["10.0.0.50", "fd00::50"]
    assert had(plan, "shop/old") == ["10.0.0.51"]


def test_the_pool_that_is_named_gives_though_it_gives_nobody_by_itself(world: World) -> None:
    world.apply_pool("a", "10.0.0.50-10.0.0.60", autoAssign=True)
    world.apply_pool("b", "10.0.0.70-10.0.0.80")
    world.apply("web", addresses=None, addressPool="b")
    assert had(world.settle()) == ["10.0.0.70"]


def test_an_address_must_be_in_the_pool_that_is_named(world: World) -> None:
    world.apply_pool("a", "10.0.0.50-10.0.0.60")
    world.apply_pool("b", "10.0.0.70-10.0.0.80")
    world.apply("web", addresses=["10.0.0.50/24"], addressPool="b")
    plan = world.settle()
    assert accepted(plan) == ("False", "AddressNotPermitted")
    assert "spec.addressPool names b" in words(plan)


@pytest.mark.parametrize(
    ("pool", "spec", "reason", "told"),
    [
        ({}, {}, "NoAddressLeft", "no AddressPool with autoAssign admits namespace shop; spec.addressPool may be edge"),
        ({"autoAssign": True, "namespaces": {"names": ["bank"]}}, {}, "NoAddressLeft", "admits namespace shop"),
        ({}, {"addressPool": "none"}, "AddressNotPermitted", "there is no AddressPool none"),
        ({"namespaces": {"names": ["bank"]}}, {"addressPool": "edge"}, "AddressNotPermitted", "does not admit"),
        ({"nodeOwned": True}, {"addressPool": "edge"}, "NoAddressLeft", "no address is left to be given"),
    ],
)
def test_who_can_be_given_none_is_told_why(
    world: World, pool: dict[str, Any], spec: dict[str, Any], reason: str, told: str
) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", **pool)
    world.apply("web", addresses=None, **spec)
    plan = world.settle()
    assert accepted(plan) == ("False", reason)
    assert told in words(plan)
    assert had(plan) == []


def test_a_pool_that_is_used_up_says_so_and_the_next_one_gives(world: World) -> None:
    world.apply_pool("a", "10.0.0.50", autoAssign=True)
    world.apply("web", addresses=None)
    world.apply("more", addresses=None)
    plan = world.settle()
    assert had(plan) == ["10.0.0.50"]
    assert accepted(plan, "shop/more") == ("False", "NoAddressLeft")
    world.apply_pool("b", "10.0.0.60", autoAssign=True)
    assert had(world.settle(), "shop/more") == ["10.0.0.60"]


def test_a_pool_that_no_selected_node_has_a_link_for_is_passed_over(world: World) -> None:
    world.apply_pool("far", "192.0.2.0/24", autoAssign=True)
    world.apply_pool("near", "10.0.0.50", autoAssign=True)
    world.apply("web", addresses=None)
    assert had(world.settle()) == ["10.0.0.50"]


def test_what_was_given_stays_over_a_pools_edit_and_deletion(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", autoAssign=True)
    world.apply("web", addresses=None)
    before = routers(world.settle())
    world.apply_pool("edge", "10.0.0.70-10.0.0.80", autoAssign=True)
    plan = world.settle()
    assert accepted(plan) == ("False", "AddressNotPermitted")
    assert "goes on" in words(plan)
    assert (had(plan), routers(plan)) == (["10.0.0.50"], before)
    world.pools.clear()
    plan = world.settle()
    assert (had(plan), routers(plan)) == (["10.0.0.50"], before)


def test_what_was_given_stays_though_its_status_was_lost(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", autoAssign=True)
    world.apply("web", addresses=None)
    world.settle()
    world.apply_pool("edge", "10.0.0.40-10.0.0.60", autoAssign=True)
    world.virtual_ips["shop/web"]["status"] = {}
    assert had(world.settle()) == ["10.0.0.50"]


def test_what_was_given_stays_though_nobody_runs_it(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", autoAssign=True)
    world.apply("web", addresses=None, nodes={"names": ["n9"]})
    plan = world.settle()
    assert (accepted(plan), had(plan)) == (("False", "NoNodeSelected"), ["10.0.0.50"])
    world.apply("older-wish", addresses=["10.0.0.50/24"])
    world.virtual_ips["shop/older-wish"]["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"
    world.apply_pool("edge", "10.0.0.40-10.0.0.60", autoAssign=True)
    plan = world.settle()
    assert accepted(plan, "shop/older-wish") == ("False", "AddressInUse")
    world.apply("web", addresses=None)
    assert had(world.settle()) == ["10.0.0.50"]


def test_an_address_that_was_chosen_and_is_left_out_now_is_kept(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", autoAssign=True)
    world.apply("web", addresses=["10.0.0.55/24"])
    before = routers(world.settle())
    world.apply("web", addresses=None)
    assert routers(world.settle()) == before


def test_nobody_is_given_what_another_chose_in_the_same_moment(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", autoAssign=True)
    world.apply("web", addresses=None)
    world.apply("younger", addresses=["10.0.0.50/24"])
    plan = world.settle()
    assert (had(plan), had(plan, "shop/younger")) == (["10.0.0.51"], ["10.0.0.50/24"])


def test_nobody_keeps_others_from_an_address_by_asking_for_what_it_may_not_have(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50", autoAssign=True, namespaces={"names": ["shop"]})
    world.apply("squatter", namespace="bank", addresses=["10.0.0.50/24"])
    world.apply("web", addresses=None)
    assert had(world.settle()) == ["10.0.0.50"]


def test_a_status_that_somebody_else_wrote_gives_no_right(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", namespaces={"names": ["bank"]})
    world.apply("web", addresses=None)
    world.virtual_ips["shop/web"]["status"] = {"addresses": ["10.0.0.50", "nonsense"]}
    plan = world.settle()
    assert accepted(plan) == ("False", "AddressNotPermitted")
    assert routers(plan) == {}


# ----- quotas and VRIDs -----


def test_a_namespace_gets_as_many_addresses_as_it_may_have(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", autoAssign=True, namespaceQuota={"addresses": 2})
    for name in ("a", "b", "c"):
        world.apply(name, addresses=None)
    world.apply("a", namespace="bank", addresses=None)
    plan = world.settle()
    assert [accepted(plan, f"shop/{name}")[1] for name in ("a", "b", "c")] == ["Accepted", "Accepted", "QuotaExceeded"]
    assert "namespace shop may have 2 addresses of AddressPool edge" in words(plan, "shop/c")
    assert accepted(plan, "bank/a") == ("True", "Accepted")
    world.delete("a")
    assert accepted(world.settle(), "shop/c") == ("True", "Accepted")


def test_at_its_quota_a_virtual_ip_may_change_an_address_for_another(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", namespaceQuota={"addresses": 1})
    world.apply("web", addresses=["10.0.0.50/24"])
    world.settle()
    world.apply("web", addresses=["10.0.0.51/24"])
    assert accepted(world.settle()) == ("True", "Accepted")
    world.apply("web", addresses=["10.0.0.51/24", "10.0.0.52/24"])
    plan = world.settle()
    assert accepted(plan) == ("False", "QuotaExceeded")
    assert {tuple(router.addresses) for router in routers(plan).values()} == {("10.0.0.51/24",)}


def test_of_vrids_too(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", namespaceQuota={"virtualRouterIDs": 1})
    world.apply("web", addresses=["10.0.0.50/24", "10.0.0.51/24"])
    world.apply("more", addresses=["10.0.0.52/24"])
    plan = world.settle()
    assert (accepted(plan)[1], accepted(plan, "shop/more")[1]) == ("Accepted", "QuotaExceeded")


def test_a_smaller_quota_takes_nothing_and_tells_the_younger(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", autoAssign=True)
    for name in ("a", "b"):
        world.apply(name, addresses=None)
    before = world.settle()
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", autoAssign=True, namespaceQuota={"addresses": 1})
    plan = world.settle()
    assert [accepted(plan, f"shop/{name}")[1] for name in ("a", "b")] == ["Accepted", "QuotaExceeded"]
    assert routers(plan, "shop/b") == routers(before, "shop/b")


def test_vrids_are_those_of_the_pool(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", autoAssign=True, virtualRouterIDs={"first": 7, "last": 8})
    for name in ("a", "b", "c"):
        world.apply(name, addresses=None)
    world.apply("pinned", addresses=["10.0.0.60/24"], virtualRouterID=9)
    plan = world.settle()
    assert {plan.statuses[f"shop/{name}"].virtual_router_id for name in ("a", "b")} == {7, 8}
    assert accepted(plan, "shop/c") == ("False", "NoVirtualRouterIDLeft")
    assert accepted(plan, "shop/pinned") == ("False", "NotPermittedByPool")
    assert "must be from 7 to 8" in words(plan, "shop/pinned")


def test_a_vrid_in_force_stays_when_a_pool_says_others(world: World) -> None:
    world.apply("web", virtualRouterID=9)
    before = routers(world.settle())
    world.apply_pool("edge", "10.0.0.100", virtualRouterIDs={"first": 7, "last": 8})
    plan = world.settle()
    assert accepted(plan) == ("False", "NotPermittedByPool")
    assert routers(plan) == before


# ----- the template -----


def test_a_template_says_what_the_author_left_out(world: World) -> None:
    template = {"advertisementIntervalMilliseconds": 100, "transport": "Unicast", "nopreempt": False}
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", virtualIPTemplate=template)
    world.apply("web", addresses=["10.0.0.50/24"], preemptDelaySeconds=5)
    stored = {"advertisementIntervalMilliseconds": 1000, "transport": "Multicast", "nopreempt": True}
    world.apply("old", addresses=["10.0.0.51/24"], **stored)
    plan = world.settle()
    (router, *_) = routers(plan).values()
    assert (router.advertisement_interval_milliseconds, router.transport, router.nopreempt) == (
        100,
        Transport.UNICAST,
        False,
    )
    (router, *_) = routers(plan, "shop/old").values()
    assert (router.advertisement_interval_milliseconds, router.transport, router.nopreempt) == (
        1000,
        Transport.MULTICAST,
        True,
    )


def test_version_2_is_left_its_whole_seconds(world: World) -> None:
    template = {"advertisementIntervalMilliseconds": 100}
    world.apply_pool("edge", "10.0.0.50", virtualIPTemplate=template)
    world.apply("web", addresses=["10.0.0.50/24"], version=2)
    plan = world.settle()
    assert accepted(plan) == ("True", "Accepted")
    assert next(iter(routers(plan).values())).advertisement_interval_milliseconds == 1000


def test_what_crosses_fields_is_judged_with_the_templates_values(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50", virtualIPTemplate={"nopreempt": True})
    world.apply("web", addresses=["10.0.0.50/24"], preemptDelaySeconds=5)
    plan = world.settle()
    assert accepted(plan) == ("False", "Invalid")
    assert "spec.preemptDelaySeconds" in words(plan)


def test_the_templates_interface_binds(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", virtualIPTemplate={"interface": "eth0"})
    world.apply("web", addresses=["10.0.0.50/24"])
    world.apply("other", addresses=["10.0.0.51/24"], interface="eth1")
    plan = world.settle()
    assert {router.interface for router in routers(plan).values()} == {"eth0"}
    assert accepted(plan, "shop/other") == ("False", "NotPermittedByPool")


def test_the_templates_nodes_bind(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", virtualIPTemplate={"nodes": {"names": ["n1", "n2"]}})
    world.apply("web", addresses=["10.0.0.50/24"])
    world.apply("other", addresses=["10.0.0.51/24"], nodes={"names": ["n2", "n3"]})
    world.apply("none", addresses=["10.0.0.52/24"], nodes={"names": ["n3"]})
    plan = world.settle()
    assert sorted(routers(plan)) == ["n1", "n2"]
    assert sorted(routers(plan, "shop/other")) == ["n2"]
    assert accepted(plan, "shop/none") == ("False", "NoNodeSelected")


@pytest.mark.parametrize(
    "template",
    [{"interface": "eth9"}, {"nodes": {"names": ["n1"]}}, {"nodes": {"selector": {"matchLabels": {"a": "b"}}}}],
)
def test_a_first_pools_template_moves_nothing_that_runs(world: World, template: dict[str, Any]) -> None:
    world.apply("web")
    before = routers(world.settle())
    world.apply_pool("edge", "10.0.0.100", virtualIPTemplate=template)
    plan = world.settle()
    assert routers(plan) == before
    assert accepted(plan) == ("False", "NotPermittedByPool")


def test_a_template_that_names_the_interface_in_use_is_obeyed(world: World) -> None:
    world.apply("web")
    world.settle()
    world.apply_pool("edge", "10.0.0.100", virtualIPTemplate={"interface": "eth0"})
    assert accepted(world.settle()) == ("True", "Accepted")


# ----- in force stays -----


def test_a_first_pool_refuses_nothing_that_runs_and_says_so(world: World) -> None:
    world.apply("web")
    before = routers(world.settle())
    world.apply_pool("edge", "10.0.0.200-10.0.0.210")
    plan = world.reconcile()
    assert routers(plan) == before
    assert accepted(plan) == ("False", "AddressNotPermitted")
    assert [(notice.reason, notice.type) for notice in plan.notices] == [("Refused", "Warning")]
    assert condition(world.settle(), "Programmed")[0] == "True"


def test_what_runs_unpermitted_follows_its_nodes_and_its_authors_other_edits(world: World) -> None:
    world.apply("web")
    world.settle()
    world.apply_pool("edge", "10.0.0.200-10.0.0.210")
    world.apply("web", priority=150)
    world.nodes["n4"] = dataclasses.replace(world.nodes["n1"], name="n4", internal_addresses=("10.0.0.4",))
    world.links["n4"] = [Link(name="eth0", addresses=["10.0.0.4/24", "fe80::4/64"])]
    world.report("n4")
    plan = world.settle()
    assert sorted(routers(plan)) == ["n1", "n2", "n3", "n4"]
    assert max(router.priority for router in routers(plan).values()) == 150
    assert "10.0.0.4" in next(iter(routers(plan).values())).members


def test_what_runs_unpermitted_gets_no_further_address_that_is_not(world: World) -> None:
    world.apply("web")
    before = routers(world.settle())
    world.apply_pool("edge", "10.0.0.200-10.0.0.210")
    world.apply("web", addresses=["10.0.0.100/24", "10.0.0.101/24"])
    plan = world.settle()
    assert routers(plan) == before
    assert "10.0.0.101 is in no AddressPool" in words(plan)


def test_once_given_up_it_cannot_be_had_again(world: World) -> None:
    world.apply("web")
    world.settle()
    world.apply_pool("edge", "10.0.0.200-10.0.0.210")
    world.apply("web", addresses=["10.0.0.200/24"])
    assert accepted(world.settle()) == ("True", "Accepted")
    world.apply("web")
    assert accepted(world.settle()) == ("False", "AddressNotPermitted")


def test_a_pool_that_admits_again_is_told(world: World) -> None:
    world.apply("web")
    world.settle()
    world.apply_pool("edge", "10.0.0.200-10.0.0.210")
    world.settle()
    world.apply_pool("edge", "10.0.0.100-10.0.0.210")
    plan = world.reconcile(LATER)
    assert accepted(plan) == ("True", "Accepted")
    assert [notice.reason for notice in plan.notices] == ["Accepted"]


def test_an_unchanged_pool_is_planned_again_byte_for_byte(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50-10.0.0.60", autoAssign=True)
    world.apply_pool("bad", "10.0.0.60")
    world.apply("web", addresses=None)
    settled = world.settle()
    assert msgspec.json.encode(world.plan(LATER).pools) == msgspec.json.encode(settled.pools)


def test_a_pools_status_that_cannot_be_read_is_written_anew(world: World) -> None:
    world.apply_pool("edge", "10.0.0.50")
    world.pools["edge"]["status"] = {"capacity": "many"}
    assert world.settle().pools["edge"].capacity == 1
