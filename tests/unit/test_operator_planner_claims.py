"""Who gets an address or a VRID: what runs comes first, also what runs on against its specification."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from holdfast_api.cluster import PLANNED_FROM_ANNOTATION, Link, VirtualRouterInForce
from holdfast_operator.planner.cluster.view import NodeView
from holdfast_operator.planner.host.vrid import first_choice
from holdfast_testing.planner_world import World, condition, routers


def two_links() -> World:
    """Each node is on two links, which have nothing to do with each other."""
    world = World("n1", "n2")
    for index, name in enumerate(world.nodes, start=1):
        world.links[name] = [
            Link(name="eth0", addresses=[f"10.0.0.{index}/24", f"fd00::{index}/64", f"fe80::{index}/64"]),
            Link(name="eth1", addresses=[f"10.1.0.{index}/24", f"fe80::1:{index}/64"]),
        ]
        world.report(name)
    return world


def in_force(world: World) -> dict[str, tuple[list[str], int]]:
    """Addresses and VRID of all that n1 runs."""
    return {
        router.name.removeprefix("shop/"): (router.addresses, router.virtual_router_id)
        for router in world.settle().speakers["n1"].virtual_routers
    }


def test_a_refused_edit_on_one_link_takes_no_vrid_from_another_link() -> None:
    world = two_links()
    world.apply("web")
    vrid = routers(world.settle())["n1"].virtual_router_id
    world.apply("other", addresses=["10.1.0.100/24"], virtualRouterID=vrid)
    before = routers(world.settle())
    world.apply("other", addresses=["10.1.0.100/24"], virtualRouterID=vrid, priority=300)
    plan = world.plan()
    assert condition(plan, "Accepted", "shop/other")[0] == "False"
    assert routers(plan) == before


def test_a_vrid_stays_with_whoever_was_refused_another_one() -> None:
    world = World("n1")
    world.apply("web", virtualRouterID=10)
    world.apply("other", addresses=["10.0.0.50/24"], virtualRouterID=20)
    world.settle()
    world.apply("web", virtualRouterID=20)
    world.settle()
    world.apply("new", addresses=["10.0.0.51/24"], virtualRouterID=10)
    assert in_force(world) == {"web": (["10.0.0.100/24"], 10), "other": (["10.0.0.50/24"], 20)}
    message = condition(world.plan(), "Accepted", "shop/new")[2]
    assert message == "spec.virtualRouterID: must be unique on the link 10.0.0.0/24: 10 is that of shop/web"


def test_an_address_stays_with_whoever_was_refused_another_one() -> None:
    world = World("n1")
    world.apply("web")
    world.apply("other", addresses=["10.0.0.50/24"])
    world.settle()
    world.apply("web", addresses=["10.0.0.50/24"])
    world.settle()
    world.apply("new", addresses=["10.0.0.100/24"])
    assert {name: addresses for name, (addresses, _) in in_force(world).items()} == {
        "web": ["10.0.0.100/24"],
        "other": ["10.0.0.50/24"],
    }
    message = condition(world.plan(), "Accepted", "shop/new")[2]
    assert message == "spec.addresses[0]: must be in one VirtualIP: 10.0.0.100/24 is in shop/web"


def test_an_address_stays_with_whoever_adds_another_one_though_an_older_one_waits_for_it() -> None:
    world = World("n1")
    world.apply("older", addresses=["10.0.0.7/24"])
    world.apply("web")
    world.settle()
    world.apply("older", addresses=["10.0.0.100/24"])
    world.settle()
    world.apply("web", addresses=["10.0.0.100/24", "10.0.0.101/24"])
    assert {name: addresses for name, (addresses, _) in in_force(world).items()} == {
        "older": ["10.0.0.7/24"],
        "web": ["10.0.0.100/24", "10.0.0.101/24"],
    }


def test_two_that_swap_their_addresses_both_get_what_they_want() -> None:
    world = World("n1")
    world.apply("web")
    world.apply("other", addresses=["10.0.0.50/24"])
    world.settle()
    world.apply("web", addresses=["10.0.0.50/24"])
    world.apply("other")
    assert {name: addresses for name, (addresses, _) in in_force(world).items()} == {
        "web": ["10.0.0.50/24"],
        "other": ["10.0.0.100/24"],
    }


def test_an_address_is_free_as_soon_as_its_owner_is_gone() -> None:
    world = World("n1")
    world.apply("web")
    world.settle()
    world.apply("new")
    assert condition(world.settle(), "Accepted", "shop/new")[1] == "AddressInUse"
    world.delete("web")
    assert condition(world.plan(), "Accepted", "shop/new")[0] == "True"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"addresses": ["10.0.0.50/24"], "interface": "eth0"}, id="one names its interface"),
        pytest.param({"addresses": ["10.0.0.50"]}, id="one has no prefix length"),
        pytest.param({"addresses": ["10.0.0.50/25"]}, id="one has another prefix length"),
        pytest.param({"addresses": ["fd00::50/64"]}, id="one is of the other's second family"),
        pytest.param({"addresses": ["fe80::50/64"], "interface": "eth0"}, id="one is link-local"),
    ],
)
def test_a_vrid_is_one_on_a_link_however_the_link_is_found(other: dict[str, Any]) -> None:
    world = two_links()
    world.apply("web", addresses=["10.0.0.100/24", "fd00::100/64"], virtualRouterID=10)
    world.apply("other", virtualRouterID=10, **other)
    assert condition(world.plan(), "Accepted", "shop/other")[:2] == ("False", "VirtualRouterIDInUse")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"addresses": ["10.1.0.50/24"]}, id="another link"),
        pytest.param({"addresses": ["fd00::50/64"]}, id="another family"),
    ],
)
def test_a_vrid_can_be_used_again_on_another_link_or_in_another_family(other: dict[str, Any]) -> None:
    world = two_links()
    world.apply("web", virtualRouterID=10)
    world.apply("other", virtualRouterID=10, **other)
    assert condition(world.plan(), "Accepted", "shop/other")[0] == "True"


def test_a_link_local_address_is_another_one_on_another_link() -> None:
    world = two_links()
    world.apply("web", addresses=["fe80::100/64"], interface="eth0")
    world.apply("other", addresses=["fe80::100/64"], interface="eth1")
    world.apply("third", addresses=["fe80::100/64"], interface="eth1")
    plan = world.plan()
    assert condition(plan, "Accepted", "shop/other")[0] == "True"
    assert condition(plan, "Accepted", "shop/third")[:2] == ("False", "AddressInUse")


def test_of_two_new_ones_the_older_is_served_and_a_pinned_vrid_before_all_allocated_ones() -> None:
    world = World("n1")
    world.apply("web")
    wanted = routers(world.plan())["n1"].virtual_router_id
    world.apply("pinned", addresses=["10.0.0.51/24"], virtualRouterID=wanted)
    world.apply("thief")
    plan = world.plan()
    assert routers(plan, "shop/pinned")["n1"].virtual_router_id == wanted
    assert routers(plan)["n1"].virtual_router_id != wanted
    assert condition(plan, "Accepted", "shop/thief")[1] == "AddressInUse"


def test_where_two_interfaces_would_do_the_engine_is_told_which() -> None:
    world = World("n1", "n2")
    world.links["n1"] = [Link(name="eth0", addresses=["10.0.0.1/24"]), Link(name="eth1", addresses=["10.0.0.11/24"])]
    world.report("n1")
    world.apply("web")
    made = routers(world.plan())
    assert (made["n1"].interface, made["n2"].interface) == ("eth0", None)
    assert made["n1"].members == ["10.0.0.1", "10.0.0.2"], "those of that interface, and no other"


def test_the_internal_ip_of_a_silent_node_counts_only_on_the_link_of_the_vip() -> None:
    world = World("n1", "n2")
    del world.speakers["n2"]
    world.links["n1"] = [Link(name="eth0", addresses=["192.168.7.1/24"])]
    world.report("n1")
    world.apply("web", addresses=["192.168.7.100/24"], nodes={"names": ["n1", "n2"]})
    world.heard = {"n1", "n2"}
    made = routers(world.plan())["n1"]
    assert (made.members, made.foreign_routers) == (["192.168.7.1"], "Obey")


def test_with_more_addresses_than_can_be_named_each_node_is_told_one_to_send_from() -> None:
    world = World("n1", "n2", "n3", "n4", "n5")
    for index, name in enumerate(world.nodes):
        own = [f"10.0.0.{50 * index + last}/24" for last in range(1, 50)]
        world.links[name] = [Link(name="eth0", addresses=[*own, f"10.9.{index}.1/24", f"10.9.{index}.2/24"])]
        world.report(name)
    world.apply("web", addresses=["10.0.0.250/24"])
    made = routers(world.plan())["n1"]
    assert (len(made.members), made.source_addresses) == (255, [])
    world.apply("web", addresses=["10.0.0.250/24"], externalPeers=["10.0.0.251", "10.0.0.252"])
    made = routers(world.plan())
    first = [f"10.0.0.{50 * index + 1}" for index in range(5)]
    assert made["n1"].members == [*first, "10.0.0.251", "10.0.0.252"]
    assert [made[name].source_addresses for name in sorted(made)] == [[address] for address in first]


def test_with_more_addresses_than_can_be_named_those_that_nobody_sends_from_are_left_out_first() -> None:
    world = World("n1", "n2", "n3", "n4", "n5")
    for index, name in enumerate(world.nodes):
        privacy = [f"fd00::{index}:{last:x}/64" for last in range(1, 60)]
        world.links[name] = [Link(name="eth0", addresses=[f"10.0.0.{index + 1}/24", f"fe80::{index + 1}/64", *privacy])]
        world.report(name)
    world.apply("web", addresses=["10.0.0.250/24", "fd00::ffff/64"])
    made = routers(world.plan())["n1"]
    numbers = range(1, 6)
    assert made.members == [*(f"10.0.0.{number}" for number in numbers), *(f"fe80::{number}" for number in numbers)]
    assert made.source_addresses == [], "they fit, so that each engine may choose"


def strangers(world: World, node: str, *vrids: int) -> None:
    """A node hears routers that are none of the cluster's."""
    (link,) = world.links[node]
    world.links[node] = [structs.replace(link, foreign_virtual_router_ids=list(vrids))]
    world.report(node)


def test_nobody_is_given_the_vrid_of_a_stranger_on_the_link() -> None:
    world = World("n1", "n2", "n3")
    wanted = first_choice("shop/web")
    strangers(world, "n3", wanted)
    world.apply("web", nodes={"names": ["n1", "n2"]})
    assert routers(world.settle())["n1"].virtual_router_id == wanted % 255 + 1


def test_every_engine_knows_the_addresses_of_all_nodes_on_its_links() -> None:
    world = World("n1", "n2")
    world.apply("web", nodes={"names": ["n1"]})
    plan = world.settle()
    for name in world.nodes:
        assert plan.speakers[name].node_addresses == ["10.0.0.1", "10.0.0.2", "fe80::1", "fe80::2"]
        assert plan.speakers[name].engine_configuration(1).node_addresses == plan.speakers[name].node_addresses


def test_a_node_on_another_link_or_a_new_address_there_changes_nothing_elsewhere() -> None:
    world = two_links()
    world.apply("web")
    before = world.settle().speakers
    world.nodes["n3"] = NodeView("n3", {}, internal_addresses=("10.2.0.3",))
    world.links["n3"] = [Link(name="eth0", addresses=["10.2.0.3/24", "fe80::3/64"])]
    world.report("n3")
    plan = world.settle()
    assert {name: plan.speakers[name] for name in before} == before
    assert plan.speakers["n3"].node_addresses == ["10.2.0.3", "fe80::3"]
    world.links["n3"] = [Link(name="eth0", addresses=["10.1.0.3/24", "fe80::3/64"])]
    world.report("n3")
    plan = world.settle()
    assert {"10.1.0.3", "fe80::3"} <= set(plan.speakers["n1"].node_addresses)
    assert {"10.1.0.1", "fe80::1:1"} <= set(plan.speakers["n3"].node_addresses)
    assert not {"10.0.0.1", "fd00::1"} & set(plan.speakers["n3"].node_addresses)


def test_a_node_that_has_not_said_its_links_yet_is_known_where_its_node_object_places_it() -> None:
    world = two_links()
    for name, address in (("n3", "10.1.0.3"), ("n4", "10.2.0.4")):
        world.nodes[name] = NodeView(name, {}, internal_addresses=(address,))
    told = world.settle().speakers["n1"].node_addresses
    assert "10.1.0.3" in told
    assert "10.2.0.4" not in told


def test_nodes_on_links_of_which_nobody_knows_the_network_know_each_other() -> None:
    world = World("n1", "n2", "n3")
    for index, name in enumerate(("n1", "n2"), start=1):
        world.links[name].append(Link(name="eth1", addresses=[f"fe80::9:{index}/64"]))
        world.report(name)
    plan = world.settle()
    assert "fe80::9:2" in plan.speakers["n1"].node_addresses
    assert "fe80::9:2" not in plan.speakers["n3"].node_addresses


def test_a_stranger_on_another_link_takes_nothing() -> None:
    world = two_links()
    wanted = first_choice("shop/web")
    for name in world.nodes:
        inner, outer = world.links[name]
        world.links[name] = [inner, structs.replace(outer, foreign_virtual_router_ids=[wanted])]
        world.report(name)
    world.apply("web")
    assert routers(world.settle())["n1"].virtual_router_id == wanted


def test_who_has_a_vrid_keeps_it_when_a_stranger_comes_with_the_same() -> None:
    world = World("n1", "n2")
    world.apply("web")
    world.apply("pinned", addresses=["10.0.0.50/24"], virtualRouterID=9)
    before = world.settle()
    strangers(world, "n1", first_choice("shop/web"), 9)
    after = world.settle()
    for key in ("shop/web", "shop/pinned"):
        assert routers(after, key) == routers(before, key)


def test_where_strangers_have_every_vrid_left_that_is_said() -> None:
    world = World("n1")
    strangers(world, "n1", *range(1, 256))
    world.apply("web")
    state, reason, message = condition(world.plan(), "Accepted")
    assert (state, reason) == ("False", "NoVirtualRouterIDLeft")
    assert "here or by other routers" in message
    world.apply("web", virtualRouterID=9)
    assert condition(world.plan(), "Accepted")[0] == "True"


def telling(world: World, **vrids: dict[str, int]) -> None:
    """Engines run these VRIDs by the VirtualIP's name, and no plan says so."""
    for node, own in vrids.items():
        told = [VirtualRouterInForce(name=f"shop/{name}", virtual_router_id=vrid) for name, vrid in own.items()]
        world.report(node, virtual_routers=told)


def test_what_engines_run_keeps_its_vrid_though_all_that_was_written_of_it_is_lost() -> None:
    world = World("n1", "n2", "n3")
    telling(world, n1={"web": 77}, n2={"web": 77}, n3={"web": 78})
    world.apply("web")
    assert {router.virtual_router_id for router in routers(world.plan()).values()} == {77}
    world.apply("web", virtualRouterID=9)
    assert {router.virtual_router_id for router in routers(world.plan()).values()} == {9}


@pytest.mark.parametrize(
    "vrids",
    [
        pytest.param({"n1": {"web": 77}, "n2": {"web": 78}}, id="one against one"),
        pytest.param({"n1": {"web": 77}, "n2": {"mail": 77}, "n3": {"mail": 77}}, id="more say it of another"),
    ],
)
def test_one_agent_alone_gives_nobody_a_vrid_against_the_others(vrids: dict[str, dict[str, int]]) -> None:
    world = World("n1", "n2", "n3")
    telling(world, **vrids)
    world.apply("web")
    assert {router.virtual_router_id for router in routers(world.plan()).values()} == {first_choice("shop/web")}


def test_no_agent_takes_a_vrid_from_what_is_planned() -> None:
    world = World("n1", "n2", "n3")
    world.apply("old", addresses=["192.168.7.1/24"])  # it runs nowhere, and is older
    world.apply("web")
    world.settle()
    before = routers(world.plan())
    world.apply("old", addresses=["10.0.0.7/24"])
    telling(world, n3={"old": first_choice("shop/web")})
    assert routers(world.plan()) == before


def test_what_an_agent_says_of_vrids_counts_until_its_node_is_planned() -> None:
    world = World("n1")
    telling(world, n1={"web": 77})
    metadata = structs.replace(world.speakers["n1"].metadata, annotations={PLANNED_FROM_ANNOTATION: "today's"})
    world.speakers["n1"] = structs.replace(world.speakers["n1"], metadata=metadata)
    world.apply("web")
    assert routers(world.plan())["n1"].virtual_router_id == first_choice("shop/web")
