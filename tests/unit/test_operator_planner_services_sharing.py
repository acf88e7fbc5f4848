"""Services of one namespace that have the same sharing key have one address."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.planner_world import World, routers

KEY = {"sharing-key": "front"}
UDP = [{"port": 53, "protocol": "UDP"}]
TCP = [{"port": 53, "protocol": "TCP"}]


@pytest.fixture
def world() -> World:
    found = World("n1", "n2")
    found.apply_pool("edge", "10.0.0.200-10.0.0.210", autoAssign=True)
    return found


def addresses(world: World) -> dict[str, list[str]]:
    """Of each VirtualIP."""
    return {key: raw["spec"]["addresses"] for key, raw in world.virtual_ips.items()}


def owners(plan: ClusterPlan, key: str) -> list[str]:
    return [one["name"] for one in plan.virtual_ips[key]["metadata"]["ownerReferences"]]


def assigned(plan: ClusterPlan, key: str) -> tuple[str, str, str]:
    (found,) = plan.services[key].conditions
    return found.status, found.reason, found.message


def test_services_with_the_same_key_and_different_ports_have_one_address(world: World) -> None:
    world.apply_service("dns-tcp", ports=TCP, annotations=KEY)
    world.apply_service("dns-udp", ports=UDP, annotations=KEY)
    world.apply_service("web", annotations=KEY)
    plan = world.settle()
    assert addresses(world) == {"shop/dns-tcp": ["10.0.0.200"]}
    assert owners(plan, "shop/dns-tcp") == ["dns-tcp", "dns-udp", "web"]
    world.hold("shop/dns-tcp", "n1")
    plan = world.settle()
    assert {tuple(status.ingress) for status in plan.services.values()} == {("10.0.0.200",)}


def test_another_namespace_has_another_address(world: World) -> None:
    world.apply_service("web", annotations=KEY)
    world.apply_service("api", "bank", ports=TCP, annotations=KEY)
    world.settle()
    assert addresses(world) == {"shop/web": ["10.0.0.200"], "bank/api": ["10.0.0.201"]}


def test_the_address_goes_with_the_last_that_has_it(world: World) -> None:
    world.apply_service("web", annotations=KEY)
    world.apply_service("dns", ports=TCP, annotations=KEY)
    world.settle()
    world.hold("shop/web", "n1")
    before = world.settle()
    world.delete_service("web")
    plan = world.reconcile()
    assert plan.services["shop/web"].is_ours
    plan = world.settle()
    assert routers(plan) == routers(before)
    assert "shop/web" not in (world.services or {})
    assert owners(plan, "shop/web") == ["dns"]
    assert list(plan.services["shop/dns"].ingress) == ["10.0.0.200"]
    world.apply_service("web")  # of the same name, and on its own
    world.settle()
    assert addresses(world) == {"shop/web": ["10.0.0.200"], "shop/web.2": ["10.0.0.201"]}
    world.delete_service("dns")
    for _ in range(4):
        world.reconcile()
    assert addresses(world) == {"shop/web.2": ["10.0.0.201"]}


def test_a_service_that_gets_a_key_keeps_its_address_and_others_come_to_it(world: World) -> None:
    world.apply_service("web")
    world.apply_service("dns", ports=TCP)
    world.settle()
    world.apply_service("web", annotations=KEY)
    plan = world.settle()
    assert addresses(world) == {"shop/web": ["10.0.0.200"], "shop/dns": ["10.0.0.201"]}
    world.apply_service("dns", ports=TCP, annotations=KEY)
    for _ in range(4):
        plan = world.reconcile()
    assert addresses(world) == {"shop/web": ["10.0.0.200"]}
    assert owners(plan, "shop/web") == ["dns", "web"]


def test_a_service_that_loses_its_key_leaves_the_address_to_the_others(world: World) -> None:
    world.apply_service("web", annotations=KEY)
    world.apply_service("dns", ports=TCP, annotations=KEY)
    before = world.settle()
    world.apply_service("web")
    plan = world.settle()
    assert routers(plan) == routers(before)
    assert (owners(plan, "shop/web"), owners(plan, "shop/web.2")) == (["dns"], ["web"])
    assert addresses(world) == {"shop/web": ["10.0.0.200"], "shop/web.2": ["10.0.0.201"]}


def test_the_youngest_with_a_port_of_another_is_refused_and_told_of_it(world: World) -> None:
    world.apply_service("web", annotations=KEY)
    world.apply_service("api", annotations=KEY)
    plan = world.settle()
    assert owners(plan, "shop/web") == ["web"]
    assert assigned(plan, "shop/web")[0] == "True"
    assert assigned(plan, "shop/api") == (
        "False",
        "SharingConflict",
        "spec.ports: must not have port 80/TCP: it is that of Service shop/web, which has the same"
        " holdfast.dev/sharing-key",
    )
    assert list(plan.services["shop/api"].ingress) == []


def test_an_edit_of_ports_that_starts_a_conflict_keeps_the_older_as_it_is(world: World) -> None:
    world.apply_service("web", annotations=KEY)
    world.apply_service("dns", ports=TCP, annotations=KEY)
    world.settle()
    world.hold("shop/web", "n1")
    before = world.settle()
    world.apply_service("web", ports=TCP, annotations=KEY)
    plan = world.settle()
    assert routers(plan) == routers(before)
    assert list(plan.services["shop/web"].ingress) == ["10.0.0.200"]
    assert (assigned(plan, "shop/dns")[:2], list(plan.services["shop/dns"].ingress)) == (
        ("False", "SharingConflict"),
        [],
    )
    world.apply_service("web", annotations=KEY)
    assert list(world.settle().services["shop/dns"].ingress) == ["10.0.0.200"]


def test_a_newcomer_takes_no_port_from_who_has_it(world: World) -> None:
    world.apply_service("older")
    world.apply_service("web", annotations=KEY)
    world.settle()
    world.apply_service("older", annotations=KEY)
    plan = world.settle()
    assert assigned(plan, "shop/web")[0] == "True"
    assert assigned(plan, "shop/older")[:2] == ("False", "SharingConflict")
    assert addresses(world) == {"shop/older": ["10.0.0.200"], "shop/web": ["10.0.0.201"]}  # it keeps what it has


@pytest.mark.parametrize(
    ("selectors", "policies", "is_together"),
    [
        (("a", "b"), ("Cluster", "Cluster"), True),
        (("a", "b"), ("Local", "Local"), False),
        (("a", "a"), ("Local", "Local"), True),
        (("a", "b"), ("Cluster", "Local"), False),
        (("a", "a"), ("Local", "Cluster"), True),
    ],
)
def test_with_local_only_the_same_selector(
    world: World, selectors: tuple[str, str], policies: tuple[str, str], is_together: bool
) -> None:
    for name, selector, policy, ports, check in zip(
        ("one", "two"), selectors, policies, (TCP, UDP), (31001, 31002), strict=True
    ):
        local: dict[str, Any] = {"externalTrafficPolicy": policy}
        if policy == "Local":
            local["healthCheckNodePort"] = check
        world.apply_service(name, selector={"app": selector}, ports=ports, annotations=KEY, **local)
    plan = world.settle()
    assert (len(owners(plan, "shop/one")) == 2) is is_together
    if not is_together:
        assert assigned(plan, "shop/two")[1] == "SharingConflict"
        assert "spec.selector" in assigned(plan, "shop/two")[2]
    ports_of_all = [31001 + index for index, policy in enumerate(policies) if policy == "Local"]
    if is_together and ports_of_all:
        assert world.virtual_ips["shop/one"]["spec"]["track"] == {"healthCheckNodePorts": ports_of_all}


def test_no_more_than_its_ports_can_be_probed_share_with_local(world: World) -> None:
    for index in range(17):
        world.apply_service(
            f"s{index:02}",
            selector={"app": "a"},
            ports=[{"port": 1000 + index}],
            annotations=KEY,
            externalTrafficPolicy="Local",
            healthCheckNodePort=31000 + index,
        )
    plan = world.settle()
    assert len(owners(plan, "shop/s00")) == 16
    assert assigned(plan, "shop/s16")[1] == "SharingConflict"


def test_services_that_share_and_name_different_addresses_do_not_go_together(world: World) -> None:
    world.apply_service("web", annotations={**KEY, "addresses": "10.0.0.205"})
    world.apply_service("dns", ports=TCP, annotations={**KEY, "addresses": "10.0.0.206"})
    world.apply_service("api", ports=UDP, annotations=KEY)
    plan = world.settle()
    assert addresses(world) == {"shop/web": ["10.0.0.205"]}
    assert owners(plan, "shop/web") == ["api", "web"]
    assert assigned(plan, "shop/dns") == (
        "False",
        "SharingConflict",
        "annotation holdfast.dev/addresses: must be 10.0.0.205, which Service shop/web has by the same"
        " holdfast.dev/sharing-key",
    )


def test_a_newcomer_changes_nobodys_address(world: World) -> None:
    world.apply_service("web", annotations=KEY)
    world.settle()
    world.apply_service("dns", ports=TCP, annotations={**KEY, "addresses": "10.0.0.206"})
    plan = world.settle()
    assert assigned(plan, "shop/dns")[1] == "SharingConflict"
    assert addresses(world) == {"shop/web": ["10.0.0.200"]}
    world.apply_service("web", annotations={**KEY, "addresses": "10.0.0.206"})
    plan = world.settle()
    assert addresses(world) == {"shop/web": ["10.0.0.206"]}
    assert owners(plan, "shop/web") == ["dns", "web"]


def test_who_asks_for_another_address_than_it_shares_keeps_it(world: World) -> None:
    world.apply_service("web", annotations=KEY)
    world.apply_service("dns", ports=TCP, annotations={**KEY, "addresses": "10.0.0.200"})
    world.settle()
    world.hold("shop/web", "n1")
    world.settle()
    world.apply_service("web", annotations={**KEY, "addresses": "10.0.0.209"})
    plan = world.settle()
    assert addresses(world) == {"shop/web": ["10.0.0.200"]}
    assert list(plan.services["shop/web"].ingress) == ["10.0.0.200"]
    assert assigned(plan, "shop/web")[1] == "SharingConflict"
    assert assigned(plan, "shop/dns")[0] == "True"


def test_each_is_told_the_addresses_of_its_own_families(world: World) -> None:
    world.apply_pool("six", "fd00::10-fd00::20", autoAssign=True)
    world.apply_service("web", annotations=KEY)
    world.apply_service(
        "dns", ports=TCP, annotations=KEY, ipFamilies=["IPv6", "IPv4"], ipFamilyPolicy="RequireDualStack"
    )
    world.settle()
    assert addresses(world) == {"shop/web": ["10.0.0.200", "fd00::10"]}
    world.hold("shop/web", "n1")
    plan = world.settle()
    assert list(plan.services["shop/web"].ingress) == ["10.0.0.200"]
    assert list(plan.services["shop/dns"].ingress) == ["fd00::10", "10.0.0.200"]


def test_one_that_needs_what_there_is_not_harms_none_of_the_others(world: World) -> None:
    world.apply_service("web", annotations=KEY)
    before = world.settle()
    world.apply_service(
        "dns", ports=TCP, annotations=KEY, ipFamilies=["IPv4", "IPv6"], ipFamilyPolicy="RequireDualStack"
    )
    plan = world.settle()
    assert routers(plan) == routers(before)
    assert assigned(plan, "shop/web")[0] == "True"
    assert assigned(plan, "shop/dns")[:2] == ("False", "NoAddressLeft")
