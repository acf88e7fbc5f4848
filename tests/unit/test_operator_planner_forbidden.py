"""What no VirtualIP of a cluster can have, pools or not; what is given up at once; what one agent's word is worth."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from holdfast_api.cluster import Link
from holdfast_operator.planner.cluster.view import ClusterPlan, ClusterRules
from holdfast_testing.planner_world import World, condition, routers


def accepted(plan: ClusterPlan, key: str = "shop/web") -> tuple[str, str]:
    return condition(plan, "Accepted", key)[:2]


def words(plan: ClusterPlan, key: str = "shop/web") -> str:
    return condition(plan, "Accepted", key)[2]


REFUSED = ("False", "AddressNotPermitted")


@pytest.fixture
def world() -> World:
    found = World("n1", "n2", "n3")
    found.else_seen |= {
        "service_networks": ("10.96.0.0/16", "fd00:96::/112"),
        "service_addresses": ("10.0.0.77", "fd00::77"),
        "api_server_addresses": ("172.18.0.2", "fd00:18::2"),
        "rules": ClusterRules(service_networks=("10.97.0.0/16",)),
    }
    for index, name in enumerate(found.nodes, start=1):
        found.nodes[name] = dataclasses.replace(
            found.nodes[name],
            internal_addresses=(f"10.0.0.{index}", f"fd00::{index}"),
            external_addresses=(f"203.0.113.{index}",),
            pod_networks=(f"10.244.{index}.0/24", f"fd00:244:{index}::/64"),
        )
        found.links[name] = [
            Link(
                name="eth0",
                addresses=[f"10.0.0.{index}/24", f"10.0.0.{index}1/24", f"fd00::{index}/64", f"fe80::{index}/64"],
                next_hops=["10.0.0.254", "fd00::fe", "fe80::fe"],
            )
        ]
        found.report(name)
    return found


@pytest.mark.parametrize("with_pool", [False, True])
@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("10.0.0.77/24", "the address of a Service inside of the cluster"),
        ("fd00::77/64", "the address of a Service inside of the cluster"),
        ("10.0.0.2/24", "an address of node n2"),
        ("10.0.0.2", "an address of node n2"),
        ("fd00::2/64", "an address of node n2"),
        ("203.0.113.3/32", "an address of node n3"),
        ("10.0.0.21/24", "an address of node n2"),
        ("172.18.0.2/32", "an address of the API server"),
        ("fd00:18::2", "an address of the API server"),
        ("10.0.0.254/24", "a router that node n1 sends through"),
        ("fd00::fe/64", "a router that node n1 sends through"),
        ("10.96.0.1/32", "an address of a Service, in 10.96.0.0/16"),
        ("10.97.0.10/32", "an address of a Service, in 10.97.0.0/16"),
        ("fd00:96::1", "an address of a Service, in fd00:96::/112"),
        ("10.244.2.7/24", "an address of a pod, in 10.244.2.0/24"),
        ("fd00:244:1::5/64", "an address of a pod, in fd00:244:1::/64"),
        ("169.254.169.254/32", "a link-local IPv4 address"),
        ("0.0.0.7", "an address of this host"),
        ("10.0.0.255", "the network's own or the broadcast address of a network of node n1"),
        ("10.0.0.0", "the network's own or the broadcast address of a network of node n1"),
    ],
)
def test_it_is_refused_and_the_message_says_what_it_is(world: World, address: str, what: str, with_pool: bool) -> None:
    if with_pool:
        world.apply_pool("all", "0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
    world.apply("web", addresses=[address], interface="eth0")
    plan = world.settle()
    assert accepted(plan) == REFUSED
    assert words(plan).startswith(f"spec.addresses[0]: must not be {what}")
    assert routers(plan) == {}


@pytest.mark.parametrize(
    "address", ["127.0.0.9", "::1", "224.0.0.18", "ff02::12", "0.0.0.0", "255.255.255.255", "::ffff:10.0.0.2"]
)
def test_what_is_no_hosts_anywhere_stays_invalid(world: World, address: str) -> None:
    world.apply("web", addresses=[address], interface="eth0")
    assert accepted(world.settle()) == ("False", "Invalid")


def test_an_ipv4_address_that_kubernetes_writes_as_one_of_ipv6_is_meant_too(world: World) -> None:
    world.else_seen["api_server_addresses"] = ("::ffff:10.0.0.99",)
    world.apply("web", addresses=["10.0.0.99/24"])
    assert accepted(world.settle()) == REFUSED


@pytest.mark.parametrize(
    ("address", "expected"), [("fe80::2", REFUSED), ("fe80::fe", REFUSED), ("fe80::99", ("True", "Accepted"))]
)
def test_link_local_addresses_of_ipv6_are_had_but_for_those_of_nodes_and_routers_on_the_link(
    world: World, address: str, expected: tuple[str, str]
) -> None:
    world.apply("web", addresses=[f"{address}/64"], interface="eth0")
    assert accepted(world.settle()) == expected


def test_a_link_local_address_of_another_link_is_another_one(world: World) -> None:
    for name in world.nodes:
        world.links[name].append(Link(name="cni0", addresses=["fe80::99/64"], next_hops=["fe80::aa"]))
        world.report(name)
    for name, address in (("web", "fe80::99/64"), ("router", "fe80::aa/64")):
        world.apply(name, addresses=[address], interface="eth0")
    plan = world.settle()
    assert accepted(plan) == accepted(plan, "shop/router") == ("True", "Accepted")


# ----- routes that come with an address -----


@pytest.mark.parametrize(
    "address", ["198.51.100.7/1", "198.51.100.7/2", "10.77.0.7/8", "172.18.9.9/16", "fd00::77:1/16"]
)
def test_no_prefix_leads_the_nodes_own_traffic_away(world: World, address: str) -> None:
    """Where a node has no address in the network, the VIP brings it a route: to whoever answers there."""
    for name in world.nodes:
        world.links[name].append(Link(name="eth1", addresses=[]))
        world.report(name)
    world.apply("web", addresses=[address], interface="eth1")
    plan = world.settle()
    assert accepted(plan) == REFUSED
    assert "must have a longer prefix" in words(plan)
    assert routers(plan) == {}


def test_nor_one_of_a_second_address(world: World) -> None:
    world.apply("web", addresses=["10.0.0.100/24", "198.51.100.7/1"])
    assert accepted(world.settle()) == REFUSED


@pytest.mark.parametrize("address", ["198.51.100.7/24", "198.51.100.7", "fd00:77::1/64"])
def test_a_network_of_its_own_is_had_where_no_node_has_an_address(world: World, address: str) -> None:
    for name in world.nodes:
        world.links[name].append(Link(name="eth1", addresses=[]))
        world.report(name)
    world.apply("web", addresses=[address], interface="eth1")
    assert accepted(world.settle()) == ("True", "Accepted")


def test_a_node_without_an_address_in_it_takes_part_where_others_have_the_network(world: World) -> None:
    world.links["n3"] = [Link(name="eth0", addresses=["192.0.2.3/24"])]
    world.report("n3")
    world.apply("web", addresses=["10.0.0.100/24"], interface="eth0")
    plan = world.settle()
    assert accepted(plan) == ("True", "Accepted")
    assert sorted(routers(plan)) == ["n1", "n2", "n3"]


# ----- in force -----


@pytest.mark.parametrize("who", ["node", "api"])
def test_what_a_node_or_the_api_server_has_is_given_up_at_once(world: World, who: str) -> None:
    world.apply("web", addresses=["10.0.0.100/24", "10.0.0.101/24"])
    assert len(routers(world.settle())) == 3
    if who == "node":
        world.nodes["n3"] = dataclasses.replace(world.nodes["n3"], internal_addresses=("10.0.0.100",))
    else:
        world.else_seen["api_server_addresses"] = ("10.0.0.100",)
    plan = world.plan()
    assert accepted(plan) == REFUSED
    assert {tuple(router.addresses) for router in routers(plan).values()} == {("10.0.0.101/24",)}
    assert "Refused" in {notice.reason for notice in plan.notices}


@pytest.mark.parametrize("edit", [{"priority": 7}, {"addresses": ["10.9.9.9/24"]}, {"addresses": ["10.0.0.101/24"]}])
def test_it_is_given_up_whatever_else_is_said_of_the_virtual_ip(world: World, edit: dict[str, Any]) -> None:
    world.apply("web", addresses=["10.0.0.100/24"])
    world.settle()
    world.nodes["n3"] = dataclasses.replace(world.nodes["n3"], internal_addresses=("10.0.0.100",))
    world.apply("web", **{"addresses": ["10.0.0.100/24"], **edit})
    for speaker in world.plan().speakers.values():
        assert all("10.0.0.100/24" not in router.addresses for router in speaker.virtual_routers)


def test_what_was_given_up_does_not_come_back_by_itself(world: World) -> None:
    world.apply("web", addresses=["10.0.0.100/24"])
    world.settle()
    world.nodes["n3"] = dataclasses.replace(world.nodes["n3"], internal_addresses=("10.0.0.100",))
    plan = world.settle()
    assert routers(plan) == {}
    assert plan.statuses["shop/web"].state == "Refused"
    world.nodes["n3"] = dataclasses.replace(world.nodes["n3"], internal_addresses=("10.0.0.3",))
    assert accepted(world.settle()) == ("True", "Accepted")


@pytest.mark.parametrize(
    "seen",
    [
        {"service_networks": ("10.0.0.96/28",)},
        {"rules": ClusterRules(service_networks=("10.0.0.96/28",))},
    ],
)
def test_networks_that_come_later_take_nothing_that_runs_and_tell(world: World, seen: dict[str, Any]) -> None:
    world.apply("web")
    before = routers(world.settle())
    world.else_seen |= seen
    plan = world.settle()
    assert routers(plan) == before
    assert accepted(plan) == REFUSED


def test_an_upgrade_takes_nothing_that_runs(world: World) -> None:
    """What an operator of an earlier version put in force, on every kind of address that is forbidden by now."""
    world.else_seen.clear()
    for name in world.nodes:
        world.links[name] = [Link(name="eth0", addresses=world.links[name][0].addresses[:1])]
        world.report(name)
    wanted = ["10.0.0.254/24", "10.96.0.10/32", "10.244.2.9/32", "10.0.0.77/24"]
    for name, node in world.nodes.items():
        world.nodes[name] = dataclasses.replace(node, pod_networks=())
    world.apply("web", addresses=wanted)
    before = routers(world.settle())
    assert len(before) == 3
    upgraded = World("n1", "n2", "n3")
    world.else_seen |= {"service_networks": ("10.96.0.0/16",)}
    for name in world.nodes:
        world.nodes[name] = dataclasses.replace(upgraded.nodes[name], pod_networks=("10.244.2.0/24",))
        world.links[name] = [
            Link(name="eth0", addresses=[*world.links[name][0].addresses, "10.0.0.77/24"], next_hops=["10.0.0.254"])
        ]
        world.report(name)
    plan = world.settle()
    assert {tuple(router.addresses) for router in routers(plan).values()} == {tuple(wanted)}
    assert accepted(plan) == REFUSED
    for told in ("a router", "a Service", "a pod", "an address of node"):
        assert told in words(plan)


# ----- hearsay -----


@pytest.mark.parametrize(
    "lie",
    [
        Link(name="eth7", addresses=["10.9.0.1/24"], next_hops=["10.0.0.100"]),
        Link(name="eth7", addresses=["10.0.0.101/31", "10.0.0.97/30"]),
        Link(name="eth7", addresses=["10.0.0.99/28"], next_hops=["10.0.0.100", "10.0.0.0"]),
    ],
)
def test_what_one_agent_says_refuses_and_moves_nothing_that_runs(world: World, lie: Link) -> None:
    world.apply("web")
    before = routers(world.settle())
    world.links["n3"].append(lie)
    world.report("n3")
    plan = world.settle()
    assert accepted(plan) == ("True", "Accepted")
    # Of its own node it may say where the VIP lives.
    for name in before:
        assert routers(plan)[name].addresses == before[name].addresses
        assert routers(plan)[name].virtual_router_id == before[name].virtual_router_id
    world.apply("web", priority=120)
    assert max(router.priority for router in routers(world.settle()).values()) == 120


def test_an_agent_that_says_its_node_has_the_address_is_told_and_blocks_nothing(world: World) -> None:
    world.apply("web")
    before = routers(world.settle())
    world.links["n3"].append(Link(name="eth7", addresses=["10.0.0.100/32"]))
    world.report("n3")
    plan = world.settle()
    assert accepted(plan) == REFUSED
    assert "an address of node n3" in words(plan)
    assert routers(plan) == before
    world.apply("web", priority=120)
    assert max(router.priority for router in routers(world.settle()).values()) == 120


def test_a_router_that_most_nodes_name_is_told_though_it_runs(world: World) -> None:
    world.apply("web")
    before = routers(world.settle())
    for name in ("n1", "n2"):
        world.links[name] = [Link(name="eth0", addresses=world.links[name][0].addresses, next_hops=["10.0.0.100"])]
        world.report(name)
    plan = world.settle()
    assert accepted(plan) == REFUSED
    assert routers(plan) == before


def test_one_agents_word_keeps_a_new_one_from_the_address(world: World) -> None:
    world.links["n3"] = [Link(name="eth0", addresses=world.links["n3"][0].addresses, next_hops=["10.0.0.100"])]
    world.report("n3")
    world.apply("web")
    assert accepted(world.settle()) == REFUSED


def test_garbage_of_an_agent_is_no_address(world: World) -> None:
    world.links["n3"].append(Link(name="x", addresses=["?", "10.0.0.100/99"], next_hops=["via", "10.0.0.100/24", ""]))
    world.report("n3")
    world.apply("web")
    assert accepted(world.settle()) == ("True", "Accepted")


def test_a_zone_of_a_next_hop_is_passed_over(world: World) -> None:
    world.links["n3"] = [Link(name="eth0", addresses=world.links["n3"][0].addresses, next_hops=["fe80::77%eth0"])]
    world.report("n3")
    world.apply("web", addresses=["fe80::77/64"], interface="eth0")
    assert accepted(world.settle()) == REFUSED


# ----- priority 255 -----

OWNED = {"nopreempt": False, "nodes": {"priorities": [{"nodeName": "n1", "priority": 255}]}}


@pytest.mark.parametrize("pool", [None, {}, {"nodeOwned": True, "namespaces": {"names": ["bank"]}}])
def test_no_node_owns_an_address_unless_a_pool_says_so(world: World, pool: dict[str, Any] | None) -> None:
    if pool is not None:
        world.apply_pool("edge", "10.0.0.1", "10.0.0.100", **pool)
    for address in ("10.0.0.1/24", "10.0.0.100/24"):
        world.apply("web", addresses=[address], **OWNED)
        plan = world.settle()
        assert accepted(plan) == REFUSED
        assert "spec.nodes.priorities[0].priority: must be below 255" in words(plan)


def test_with_such_a_pool_the_owner_has_its_own_address_and_no_other_nodes(world: World) -> None:
    world.apply_pool("edge", "10.0.0.1-10.0.0.3", nodeOwned=True)
    world.apply("web", addresses=["10.0.0.1/24"], **OWNED)
    world.apply("theft", addresses=["10.0.0.2/24"], **OWNED)
    world.apply("quiet", addresses=["10.0.0.3/24"])
    plan = world.settle()
    assert accepted(plan) == ("True", "Accepted")
    assert routers(plan)["n1"].priority == 255
    assert accepted(plan, "shop/theft") == accepted(plan, "shop/quiet") == REFUSED


def test_not_even_such_a_pool_gives_an_address_of_the_api_server(world: World) -> None:
    world.else_seen["api_server_addresses"] = ("10.0.0.1",)
    world.apply_pool("edge", "10.0.0.1", nodeOwned=True)
    world.apply("web", addresses=["10.0.0.1/24"], **OWNED)
    assert accepted(world.settle()) == REFUSED


def test_an_owner_that_runs_goes_on_when_the_pool_is_gone(world: World) -> None:
    world.apply_pool("edge", "10.0.0.1", nodeOwned=True)
    world.apply("web", addresses=["10.0.0.1/24"], **OWNED)
    before = routers(world.settle())
    world.pools.clear()
    plan = world.settle()
    assert routers(plan) == before
    assert accepted(plan) == REFUSED


# ----- probes -----


def probing(**probe: Any) -> dict[str, Any]:
    return {"track": {"probes": [{"name": "p", **probe}]}}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::1", "127.9.9.9", "10.0.0.100", "10.0.0.2", "10.0.0.21", "::ffff:127.0.0.1"]
)
def test_a_probe_may_go_to_loopback_the_nodes_and_the_vip(world: World, host: str) -> None:
    for action in ("tcpSocket", "httpGet"):
        world.apply("web", **probing(**{action: {"port": 80, "host": host}}))
        assert accepted(world.settle()) == ("True", "Accepted")


@pytest.mark.parametrize(
    "host",
    ["10.96.0.1", "169.254.169.254", "0.0.0.0", "::", "example.net", "127.1", "0x7f000001", "10.0.0.99", "2130706433"],
)
def test_and_nowhere_else(world: World, host: str) -> None:
    for action in ("tcpSocket", "httpGet"):
        world.apply("web", **probing(**{action: {"port": 80, "host": host}}))
        plan = world.settle()
        assert accepted(plan) == ("False", "ProbeNotPermitted")
        assert words(plan).startswith(f"spec.track.probes[0].{action}.host: must be a loopback address")


def test_a_probe_may_go_to_the_nodes_that_are_selected_and_no_others(world: World) -> None:
    world.apply("web", nodes={"names": ["n1"]}, **probing(tcpSocket={"port": 80, "host": "10.0.0.2"}))
    assert accepted(world.settle()) == ("False", "ProbeNotPermitted")


@pytest.mark.parametrize(
    ("networks", "host", "status"),
    [
        (("192.0.2.0/24",), "192.0.2.7", "True"),
        (("192.0.2.0/24",), "192.0.3.7", "False"),
        (("192.0.2.0/24",), "example.net", "True"),  # where it leads the agents see
        (("0.0.0.0/0",), "2001:db8::7", "False"),
    ],
)
def test_the_administrator_can_allow_more(world: World, networks: tuple[str, ...], host: str, status: str) -> None:
    world.else_seen["rules"] = ClusterRules(allowed_probe_networks=networks)
    world.apply("web", **probing(tcpSocket={"port": 80, "host": host}))
    assert accepted(world.settle())[0] == status


@pytest.mark.parametrize(("period", "status"), [(90, "False"), (100, "True")])
def test_a_probe_runs_ten_times_a_second_at_most(world: World, period: int, status: str) -> None:
    world.apply("web", **probing(tcpSocket={"port": 80}, periodMilliseconds=period))
    plan = world.settle()
    assert accepted(plan)[0] == status
    assert ("spec.track.probes[0].periodMilliseconds: must be at least 100" in words(plan)) == (status == "False")


@pytest.mark.parametrize("nodes", [[], ["n1"]])
def test_a_probe_in_force_stays_over_the_upgrade_until_it_is_edited(world: World, nodes: list[str]) -> None:
    world.else_seen["rules"] = ClusterRules(allowed_probe_networks=("0.0.0.0/0", "::/0"))
    world.apply("web", **probing(tcpSocket={"port": 80, "host": "192.0.2.7"}, nodes=nodes))
    before = world.settle().speakers
    world.else_seen["rules"] = ClusterRules()
    plan = world.settle()
    assert accepted(plan) == ("False", "ProbeNotPermitted")
    assert plan.speakers == before
    world.apply("web", **probing(tcpSocket={"port": 81, "host": "192.0.2.7"}))
    assert world.settle().speakers == before
