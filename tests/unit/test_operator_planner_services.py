"""Services of type LoadBalancer are given addresses, keep them, and give them back."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast_api.cluster import Link, VirtualRouterInForce
from holdfast_api.services import CLEANUP_FINALIZER
from holdfast_operator.planner.cluster.view import ClusterPlan, ClusterRules
from holdfast_testing.planner_world import LATER, World, condition, routers


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


def test_one_that_is_deleted_before_it_was_told_anything_goes(world: World) -> None:
    world.apply_service("web", annotations={"pool": "none"})
    (world.services or {})["shop/web"]["metadata"]["finalizers"] = [CLEANUP_FINALIZER]  # and the operator died then
    world.delete_service("web")
    plan = world.plan()
    assert not plan.services["shop/web"].is_ours
    assert events(plan) == []
    world.settle()
    assert world.services == {}


def test_its_address_is_nobodys_while_an_engine_may_still_have_it(world: World) -> None:
    world.apply_pool("edge", "10.0.0.200", autoAssign=True)
    world.apply_service("web")
    world.settle()
    world.delete_service("web")
    world.apply_service("api")
    world.reconcile()
    world.report("n2", virtual_routers=[VirtualRouterInForce(name="shop/web", virtual_router_id=1)])
    for _ in range(3):
        assert assigned(world.reconcile(), "shop/api")[:2] == ("False", "NoAddressLeft")


def test_a_finalizer_of_somebody_elses_service_is_left_alone(world: World) -> None:
    world.apply_service("web", loadBalancerClass="example.com/other")
    (world.services or {})["shop/web"]["metadata"]["finalizers"] = [CLEANUP_FINALIZER]
    assert world.settle().services == {}


# ----- which addresses -----


DUAL: dict[str, Any] = {"ipFamilies": ["IPv4", "IPv6"]}
PREFERRED = {**DUAL, "ipFamilyPolicy": "PreferDualStack"}
REQUIRED = {**DUAL, "ipFamilyPolicy": "RequireDualStack"}


def test_a_service_of_ipv6_alone_is_given_an_ipv6_address(world: World) -> None:
    for index, node in enumerate(world.nodes, start=1):
        world.links[node] = [Link(name="eth0", addresses=[f"fd00::{index}/64", f"fe80::{index}/64"])]
        world.report(node)
    world.apply_pool("six", "fd00::10-fd00::20", autoAssign=True)
    world.apply_service("web", ipFamilies=["IPv6"])
    plan = world.settle()
    assert vip(world) == ["fd00::10"]
    assert assigned(plan)[0] == "True"


def test_a_service_that_no_node_has_a_link_for_is_told(world: World) -> None:
    world.apply_service("web", annotations={"addresses": "10.0.0.205"}, ipFamilies=["IPv4"])
    for node in world.nodes:
        world.links[node] = [Link(name="eth0", addresses=["10.9.0.1/24"])]
        world.report(node)
    plan = world.settle()
    assert assigned(plan)[:2] == ("False", "NoMatchingSubnet")
    assert plan.virtual_ips == {}


@pytest.mark.parametrize("policy", [PREFERRED, REQUIRED])
def test_dual_stack_has_one_of_each_family_of_two_pools(world: World, policy: dict[str, Any]) -> None:
    world.apply_pool("six", "fd00::10-fd00::20", autoAssign=True)
    world.apply_service("web", **policy)
    plan = world.settle()
    assert vip(world) == ["10.0.0.200", "fd00::10"]
    assert assigned(plan)[2] == (
        "10.0.0.200 of AddressPool edge and fd00::10 of AddressPool six, by VirtualIP shop/web"
    )


def test_the_first_family_stands_first(world: World) -> None:
    world.apply_pool("six", "fd00::10-fd00::20", autoAssign=True)
    world.apply_service("web", **{**REQUIRED, "ipFamilies": ["IPv6", "IPv4"]})
    world.settle()
    world.hold("shop/web", "n1")
    assert told(world.settle()) == ["fd00::10", "10.0.0.200"]


def test_a_pool_that_has_both_families_comes_before_two_that_have_one_each(world: World) -> None:
    world.apply_pool("six", "fd00::10-fd00::20", autoAssign=True)
    world.apply_pool("both", "10.0.0.220-10.0.0.229", "fd00::30-fd00::40", autoAssign=True)
    world.apply_service("web", **REQUIRED)
    world.settle()
    assert vip(world) == ["10.0.0.220", "fd00::30"]


def test_prefer_dual_stack_takes_what_there_is_and_the_rest_when_it_comes(world: World) -> None:
    world.apply_service("web", **PREFERRED)
    plan = world.settle()
    assert vip(world) == ["10.0.0.200"]
    status, reason, message = assigned(plan)
    assert (status, reason) == ("True", "Assigned")
    assert "no IPv6 address is left for it" in message
    world.apply_pool("six", "fd00::10-fd00::20", autoAssign=True)
    world.settle()
    assert vip(world) == ["10.0.0.200", "fd00::10"]


def test_require_dual_stack_without_both_is_refused(world: World) -> None:
    world.apply_service("web", **REQUIRED)
    plan = world.settle()
    assert assigned(plan)[:2] == ("False", "NoAddressLeft")
    assert assigned(plan)[2] == "no IPv4 or IPv6 address is left to be given in AddressPool edge"
    assert plan.virtual_ips == {}
    assert events(world.plan()) == []


def test_a_second_family_is_added_and_removed_and_the_first_stays(world: World) -> None:
    world.apply_pool("six", "fd00::10-fd00::20", autoAssign=True)
    world.apply_service("api")
    world.apply_service("web")
    world.settle()
    world.delete_service("api")  # so that a lower one is free
    for _ in range(4):
        world.reconcile()
    assert vip(world) == ["10.0.0.201"]
    world.apply_service("web", **PREFERRED)
    world.settle()
    assert vip(world) == ["10.0.0.201", "fd00::10"]
    world.hold("shop/web", "n2")
    assert told(world.settle()) == ["10.0.0.201", "fd00::10"]
    world.apply_service("web")
    assert told(world.settle()) == ["10.0.0.201"]
    assert vip(world) == ["10.0.0.201"]


def test_a_second_family_that_there_is_not_leaves_the_first_as_it_is(world: World) -> None:
    world.apply_service("web")
    world.settle()
    world.hold("shop/web", "n1")
    world.settle()
    world.apply_service("web", **REQUIRED)
    plan = world.settle()
    assert (vip(world), told(plan)) == (["10.0.0.200"], ["10.0.0.200"])
    status, reason, message = assigned(plan)
    assert (status, reason) == ("False", "NoAddressLeft")
    assert message.endswith("; it goes on with what was in force before")
    assert events(world.plan()) == []


def test_the_annotation_names_a_pool_and_admission_counts(world: World) -> None:
    world.apply_pool("own", "10.0.0.220-10.0.0.221", namespaces={"names": ["shop"]})
    world.apply_service("web", annotations={"pool": "own"})
    world.apply_service("web", "bank", annotations={"pool": "own"})
    plan = world.settle()
    assert vip(world) == ["10.0.0.220"]
    assert world.virtual_ips["shop/web"]["spec"]["addressPool"] == "own"
    assert assigned(plan, "bank/web") == (
        "False",
        "AddressNotPermitted",
        "annotation holdfast.dev/pool: AddressPool own does not admit namespace bank",
    )


@pytest.mark.parametrize("field", [{"annotations": {"addresses": "10.0.0.205"}}, {"loadBalancerIP": "10.0.0.205"}])
def test_a_service_names_its_address(world: World, field: dict[str, Any]) -> None:
    world.apply_service("web", **field)
    world.settle()
    assert vip(world) == ["10.0.0.205"]


def test_what_it_does_not_name_is_given_to_it(world: World) -> None:
    world.apply_pool("six", "fd00::10-fd00::20", autoAssign=True)
    world.apply_service("web", **REQUIRED, loadBalancerIP="10.0.0.205")
    world.settle()
    assert vip(world) == ["10.0.0.205", "fd00::10"]


def test_the_annotation_comes_before_the_deprecated_field(world: World) -> None:
    world.apply_service("web", annotations={"addresses": "10.0.0.205"}, loadBalancerIP="10.0.0.206")
    world.settle()
    assert vip(world) == ["10.0.0.205"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.205/24", "annotation holdfast.dev/addresses: must have no prefix length: write 10.0.0.205"),
        ("web.example", "annotation holdfast.dev/addresses: must be an IPv4 or IPv6 address, not 'web.example'"),
        ("fd00::10", "annotation holdfast.dev/addresses: must be of the Service's spec.ipFamilies, which are IPv4"),
        ("10.0.0.205, 10.0.0.206", "annotation holdfast.dev/addresses: must name one IPv4 address at most"),
    ],
)
def test_what_cannot_be_read_is_told_and_leaves_what_is_in_force(world: World, text: str, words: str) -> None:
    world.apply_service("new", annotations={"addresses": text})
    world.apply_service("web")
    world.settle()
    world.apply_service("web", annotations={"addresses": text})
    plan = world.settle()
    assert assigned(plan, "shop/new")[:2] == ("False", "Invalid")
    assert assigned(plan, "shop/new")[2].startswith(words)
    assert "shop/new" not in plan.virtual_ips
    assert assigned(plan)[1] == "Invalid"
    assert vip(world) == ["10.0.0.200"]
    assert set(routers(plan)) == {"n1", "n2", "n3"}


def test_an_address_that_it_may_not_have_names_the_pools_that_would_do(world: World) -> None:
    world.apply_service("web", annotations={"addresses": "10.0.0.99"})
    plan = world.settle()
    assert assigned(plan) == (
        "False",
        "AddressNotPermitted",
        "annotation holdfast.dev/addresses: 10.0.0.99 is in no AddressPool; namespace shop may have those of"
        " edge (10.0.0.200-10.0.0.210)",
    )
    assert plan.virtual_ips == {}


def test_other_addresses_in_the_annotation_are_a_wish_to_change(world: World) -> None:
    world.apply_service("web")
    world.settle()
    world.hold("shop/web", "n1")
    world.settle()
    world.apply_service("web", annotations={"addresses": "10.0.0.209"})
    plan = world.settle()
    assert (vip(world), told(plan)) == (["10.0.0.209"], ["10.0.0.209"])
    world.apply_service("web")  # nothing asked for: what it has it keeps
    world.settle()
    assert vip(world) == ["10.0.0.209"]


def test_a_change_that_cannot_be_had_keeps_what_is_in_force(world: World) -> None:
    world.apply("other", addresses=["10.0.0.209"])
    world.apply_service("web")
    before = world.settle()
    world.apply_service("web", annotations={"addresses": "10.0.0.209"})
    plan = world.plan()
    assert assigned(plan)[:2] == ("False", "AddressInUse")
    assert "shop/other" in assigned(plan)[2]
    assert assigned(plan)[2].endswith("; it goes on with what was in force before")
    assert events(plan) == [("Warning", "Refused")]
    assert plan.virtual_ips == before.virtual_ips
    assert plan.speakers == before.speakers
    world.settle()
    assert events(world.plan()) == []
    world.delete("other")
    world.settle()
    assert vip(world) == ["10.0.0.209"]


def test_another_pool_in_the_annotation_is_a_wish_to_change(world: World) -> None:
    world.apply_pool("other", "10.0.0.220-10.0.0.221")
    world.apply_service("web", annotations={"pool": "edge"})
    world.settle()
    world.apply_service("web", annotations={"pool": "none"})
    plan = world.settle()
    assert assigned(plan)[2].startswith("annotation holdfast.dev/pool: there is no AddressPool none")
    assert vip(world) == ["10.0.0.200"]
    world.apply_service("web", annotations={"pool": "other"})
    world.settle()
    assert vip(world) == ["10.0.0.220"]


# ----- an address stays with its Service -----


def test_pools_may_change_around_it(world: World) -> None:
    world.apply_service("web")
    world.settle()
    world.hold("shop/web", "n1")
    before = world.settle()
    world.apply_pool("edge", "10.0.0.220-10.0.0.229", autoAssign=True)
    plan = world.settle()
    assert (vip(world), told(plan)) == (["10.0.0.200"], ["10.0.0.200"])
    assert routers(plan) == routers(before)
    assert assigned(plan)[:2] == ("False", "AddressNotPermitted")
    world.pools.clear()
    assert told(world.settle()) == ["10.0.0.200"]
    world.apply_pool("edge", "10.0.0.200-10.0.0.229", autoAssign=True)
    assert assigned(world.settle())[:2] == ("True", "Assigned")


def test_a_namespace_that_is_admitted_no_longer_keeps_what_it_has_and_is_told(world: World) -> None:
    world.apply_service("web")
    before = world.settle()
    world.apply_pool("edge", "10.0.0.200-10.0.0.210", autoAssign=True, namespaces={"names": ["bank"]})
    world.apply_service("new")
    plan = world.settle()
    assert routers(plan) == routers(before)
    assert assigned(plan)[:2] == ("False", "AddressNotPermitted")
    assert "does not admit namespace shop" in assigned(plan)[2]
    assert assigned(plan, "shop/new") == (
        "False",
        "NoAddressLeft",
        "no AddressPool with autoAssign admits namespace shop",
    )


def test_an_address_that_a_node_got_is_given_up_and_not_told_any_more(world: World) -> None:
    world.apply_service("web")
    world.settle()
    world.hold("shop/web", "n1")
    world.settle()
    world.nodes["n9"] = world.nodes["n3"].__class__("n9", internal_addresses=("10.0.0.200",))
    plan = world.settle()
    assert (routers(plan), told(plan)) == ({}, [])
    assert assigned(plan)[:2] == ("False", "AddressNotPermitted")
    assert vip(world) == ["10.0.0.200"]


def test_without_a_speaker_it_still_keeps_what_it_has(world: World) -> None:
    world.apply_service("web", annotations={"addresses": "10.0.0.205"})
    world.apply_service("api")
    world.settle()
    world.speakers.clear()
    world.apply("user", addresses=["10.0.0.205"])
    world.settle()
    assert (vip(world), vip(world, "shop/api")) == (["10.0.0.205"], ["10.0.0.200"])
    assert condition(world.plan(), "Accepted", "shop/user")[1] == "AddressInUse"


def test_a_virtual_ip_that_somebody_deletes_comes_back_with_its_address(world: World) -> None:
    world.apply_service("api")
    world.apply_service("web")
    world.settle()
    world.hold("shop/web", "n1")
    world.settle()
    world.delete_service("api")
    for _ in range(4):
        world.reconcile()
    world.delete("web")
    plan = world.settle()
    assert vip(world) == ["10.0.0.201"]
    assert told(plan) == ["10.0.0.201"]


def test_an_edit_of_its_virtual_ip_is_undone(world: World) -> None:
    world.apply_service("web")
    before = world.settle()
    edited = world.virtual_ips["shop/web"]
    edited["spec"] = {**edited["spec"], "addresses": ["10.0.0.207"], "priority": 200}
    edited["metadata"]["managedFields"] = [
        {"manager": "holdfast-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:hostPorts": {}}}},
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:addresses": {}}}},
    ]
    plan = world.plan()
    assert plan.virtual_ips == before.virtual_ips
    assert routers(plan) == routers(before)


def test_a_virtual_ip_whose_owners_a_user_took_away_gets_them_back(world: World) -> None:
    world.apply_service("web")
    before = world.settle()
    world.virtual_ips["shop/web"]["metadata"]["ownerReferences"] = []
    plan = world.plan()
    assert plan.virtual_ips == before.virtual_ips
    assert plan.ended == before.ended == []


# ----- more Services than addresses -----


def test_the_oldest_is_served_first_and_the_next_as_soon_as_one_is_free(world: World) -> None:
    world.apply_pool("edge", "10.0.0.200-10.0.0.201", autoAssign=True)
    for name in ("c", "b", "a"):
        world.apply_service(name)
    plan = world.settle()
    assert (vip(world, "shop/c"), vip(world, "shop/b")) == (["10.0.0.200"], ["10.0.0.201"])
    assert assigned(plan, "shop/a") == (
        "False",
        "NoAddressLeft",
        "no IPv4 address is left to be given in AddressPool edge",
    )
    world.delete_service("c")
    for _ in range(5):
        world.reconcile()
    assert vip(world, "shop/a") == ["10.0.0.200"]


def test_quotas_count_services(world: World) -> None:
    world.apply_pool("edge", "10.0.0.200-10.0.0.210", autoAssign=True, namespaceQuota={"addresses": 1})
    world.apply_service("web")
    world.apply_service("api")
    plan = world.settle()
    assert assigned(plan)[0] == "True"
    assert assigned(plan, "shop/api")[:2] == ("False", "QuotaExceeded")


def test_of_two_that_name_the_same_address_the_older_has_it(world: World) -> None:
    world.apply_service("z-older", loadBalancerIP="10.0.0.205")
    world.apply_service("a-younger", loadBalancerIP="10.0.0.205")
    plan = world.settle()
    assert vip(world, "shop/z-older") == ["10.0.0.205"]
    assert assigned(plan, "shop/a-younger")[:2] == ("False", "AddressInUse")
    assert "shop/z-older" in assigned(plan, "shop/a-younger")[2]


# ----- names -----


def test_a_users_virtual_ip_of_the_same_name_is_left_alone_and_told(world: World) -> None:
    world.apply("web", addresses=["10.0.0.209"])
    before = world.settle()
    world.apply_service("web")
    plan = world.plan()
    assert plan.virtual_ips == {}
    assert plan.statuses["shop/web"] == before.statuses["shop/web"]
    assert assigned(plan)[:2] == ("False", "NameInUse")
    assert "VirtualIP shop/web" in assigned(plan)[2]
    assert events(plan) == [("Warning", "Refused")]
    world.settle()
    assert events(world.plan()) == []
    world.delete("web")
    world.settle()
    assert vip(world) == ["10.0.0.200"]


def test_a_copy_of_a_services_virtual_ip_is_its_users(world: World) -> None:
    world.apply_service("web")
    world.settle()
    copied = dict(world.virtual_ips["shop/web"])
    copied["metadata"] = {
        **copied["metadata"],
        "name": "copy",
        "managedFields": [{"manager": "kubectl-client-side-apply", "operation": "Update"}],
    }
    copied["spec"] = {"addresses": ["10.0.0.208"]}
    copied["status"] = {}
    world.virtual_ips["shop/copy"] = copied
    plan = world.settle()
    assert list(plan.ended) == []
    assert "shop/copy" in world.virtual_ips


def test_one_that_came_out_of_a_backup_is_its_services(world: World) -> None:
    world.apply_service("web", annotations={"addresses": "10.0.0.205"})
    world.settle()
    world.apply_service("web")
    restored = world.virtual_ips["shop/web"]
    restored["metadata"]["managedFields"] = [
        {"manager": "velero-server", "operation": "Update", "fieldsV1": {"f:spec": {"f:addresses": {}}}}
    ]
    restored["status"] = {}
    assert world.plan().virtual_ips["shop/web"]["spec"]["addresses"] == ["10.0.0.205"]


def test_one_whose_label_a_user_took_away_is_its_services(world: World) -> None:
    world.apply_service("web")
    before = world.settle()
    edited = world.virtual_ips["shop/web"]["metadata"]
    del edited["labels"]
    edited["managedFields"] = [{"manager": "holdfast-operator", "operation": "Apply"}]
    plan = world.plan()
    assert plan.virtual_ips == before.virtual_ips
    assert plan.services == before.services


def test_a_service_that_was_made_anew_under_its_name_has_its_address_again(world: World) -> None:
    world.apply_service("web", annotations={"addresses": "10.0.0.205"})
    world.settle()
    del (world.services or {})["shop/web"]  # without its finalizer
    world.apply_service("web")
    plan = world.settle()
    assert vip(world) == ["10.0.0.205"]
    assert [one["uid"] for one in plan.virtual_ips["shop/web"]["metadata"]["ownerReferences"]] == ["shop/web-2"]
    assert list(plan.ended) == []


def test_a_virtual_ip_whose_service_is_gone_ends(world: World) -> None:
    world.apply_service("web")
    world.settle()
    del (world.services or {})["shop/web"]
    assert list(world.reconcile().ended) == []
    assert list(world.reconcile().ended) == ["shop/web"]


# ----- externalTrafficPolicy -----


def test_local_has_an_election_of_its_own_by_where_its_endpoints_are(world: World) -> None:
    world.apply_service("web", externalTrafficPolicy="Local", healthCheckNodePort=31234)
    world.settle()
    spec = world.virtual_ips["shop/web"]["spec"]
    assert spec["virtualRouterSharing"] == "Own"
    assert spec["track"] == {"healthCheckNodePorts": [31234]}
    world.apply_service("web", externalTrafficPolicy="Cluster")
    world.settle()
    assert world.virtual_ips["shop/web"]["spec"]["virtualRouterSharing"] == "Shared"
    assert "track" not in world.virtual_ips["shop/web"]["spec"]


@pytest.mark.parametrize(("template", "ports"), [({}, "Closed"), ({"hostPorts": "Open"}, "Open")])
def test_only_a_pool_opens_the_nodes_own_ports(world: World, template: dict[str, Any], ports: str) -> None:
    world.apply_pool("edge", "10.0.0.200-10.0.0.210", autoAssign=True, virtualIPTemplate=template)
    world.apply_service("web")
    for plan in (world.plan(), world.settle()):
        assert plan.virtual_ips["shop/web"]["spec"]["hostPorts"] == ports
        assert {router.host_ports.value for router in routers(plan).values()} == {ports}


def test_a_holder_that_cannot_close_its_ports_is_told_to_the_service_as_long_as_it_holds(world: World) -> None:
    world.apply_service("web")
    world.settle()
    world.hold("shop/web", "n1")
    world.settle()
    world.say("shop/web", "n1", "Master", hostPortsExposed=True)
    told = {one.type: one for one in world.settle().services["shop/web"].conditions}
    assert told["holdfast.dev/HostPortsExposed"].status == "True"
    assert told["holdfast.dev/HostPortsExposed"].reason == "PacketFilterRefused"
    assert told["holdfast.dev/AddressAssigned"].status == "True"
    again = world.plan(LATER).services["shop/web"]
    assert {one.type: one for one in again.conditions} == told
    world.say("shop/web", "n1", "Master")
    assert [one.type for one in world.settle().services["shop/web"].conditions] == ["holdfast.dev/AddressAssigned"]
