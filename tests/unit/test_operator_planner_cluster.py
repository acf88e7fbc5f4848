"""The cluster's plan: who is accepted, what runs where, and what the status says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast_api.cluster import Condition, Link
from holdfast_operator.planner.cluster.view import NodeView
from holdfast_testing.planner_world import LATER, MUCH_LATER, NOW, World, condition, routers

# ----- who takes part, and with what -----


def test_every_node_with_a_speaker_takes_part_with_the_others_as_members() -> None:
    world = World("n1", "n2", "n3")
    del world.speakers["n3"]
    world.heard = {"n1", "n2"}
    world.apply("web")
    plan = world.plan()
    made = routers(plan)
    assert set(made) == {"n1", "n2"}
    assert set(plan.speakers) == {"n1", "n2", "n3"}, "a node without VIPs is told so"
    assert made["n1"].members == ["10.0.0.1", "10.0.0.2"]
    assert made["n1"].foreign_routers == "Refuse"
    assert made["n1"].virtual_router_id == made["n2"].virtual_router_id
    assert condition(plan, "Accepted")[0] == "True"
    assert condition(plan, "Programmed")[:2] == ("False", "WaitingForSpeakers")


def test_before_any_speaker_has_said_anything_a_virtual_ip_waits_and_is_not_refused() -> None:
    world = World("n1", "n2")
    world.speakers.clear()
    world.apply("web")
    plan = world.reconcile(observed=False)
    assert condition(plan, "Accepted")[0] == "True"
    assert condition(plan, "Programmed")[:2] == ("False", "WaitingForSpeakers")
    assert condition(plan, "Ready")[:2] == ("False", "NotHeld")
    assert plan.statuses["shop/web"].state == "Pending"
    assert plan.notices == ()
    world.report("n1")
    assert set(routers(world.plan())) == {"n1"}


def test_names_and_selector_must_both_fit() -> None:
    world = World("n1", "n2", "n3")
    expression = {"key": "zone", "operator": "In", "values": ["1", "2"]}
    world.apply("web", nodes={"names": ["n2", "n3"], "selector": {"matchExpressions": [expression]}})
    assert set(routers(world.plan())) == {"n2"}


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "zone", "operator": "NotIn", "values": ["1"]}, {"n2"}),
        ({"key": "rack", "operator": "NotIn", "values": ["1"]}, {"n1", "n2"}),
        ({"key": "zone", "operator": "Exists"}, {"n1", "n2"}),
        ({"key": "zone", "operator": "DoesNotExist"}, set()),
    ],
)
def test_label_selectors_mean_what_they_mean_in_kubernetes(expression: dict[str, Any], fits: set[str]) -> None:
    world = World("n1", "n2")
    world.apply("web", nodes={"selector": {"matchExpressions": [expression]}})
    assert set(routers(world.plan())) == fits


def test_priorities_health_and_drain_are_each_nodes_own() -> None:
    world = World("n1", "n2")
    world.nodes["n1"] = NodeView("n1", {}, is_cordoned=True)
    world.apply(
        "web",
        nodes={"priorities": [{"nodeName": "n2", "priority": 150}]},
        track={"pods": {"selector": {"matchLabels": {"app": "web"}}}, "whenFailing": "Release"},
    )
    plan = world.plan()
    made = routers(plan)
    assert (made["n1"].priority, made["n2"].priority) == (100, 150)
    assert (made["n1"].draining, made["n2"].draining) == (True, False)
    assert made["n1"].tracks_services
    assert made["n1"].recovery_hold_milliseconds == 2000
    assert plan.speakers["n1"].tracking[0].virtual_ip == "shop/web"


def test_health_check_node_ports_are_what_each_nodes_agent_looks_at() -> None:
    world = World("n1", "n2")
    world.apply("web", track={"healthCheckNodePorts": [31805, 31806]})
    plan = world.plan()
    for name, router in routers(plan).items():
        assert router.tracks_services
        assert router.recovery_hold_milliseconds == 1000
        assert plan.speakers[name].tracking[0].health_check_node_ports == [31805, 31806]


def test_a_probe_that_names_its_nodes_is_told_to_their_agents_alone() -> None:
    world = World("n1", "n2", "n3")
    probes = [{"name": "a", "tcpSocket": {"port": 80}, "nodes": ["n1", "n2"]}]
    probes += [{"name": "b", "tcpSocket": {"port": 81}, "nodes": ["n2"]}]
    world.apply("web", track={"probes": probes})
    plan = world.plan()
    told = {name: [probe for one in plan.speakers[name].tracking for probe in one.probes] for name in world.nodes}
    assert {name: [probe.name for probe in of_one] for name, of_one in told.items()} == {
        "n1": ["a"],
        "n2": ["a", "b"],
        "n3": [],
    }
    assert {name: router.tracks_services for name, router in routers(plan).items()} == {
        "n1": True,
        "n2": True,
        "n3": False,
    }
    assert [probe.nodes for of_one in told.values() for probe in of_one] == [[], [], []], (
        "an agent of an earlier version does not know the field"
    )


def test_a_command_is_refused_in_a_cluster_whatever_nodes_it_names() -> None:
    world = World("n1", "n2")
    world.apply("web", track={"probes": [{"name": "a", "exec": {"command": ["x"]}, "nodes": ["n9"]}]})
    plan = world.plan()
    assert routers(plan) == {}
    assert plan.statuses["shop/web"].conditions[0].reason == "Invalid"


def test_nodes_that_were_left_equal_take_over_one_after_another() -> None:
    world = World("n1", "n2", "n3", "n4")
    world.apply("web", nodes={"priorities": [{"nodeName": "n4", "priority": 100}]})
    by_node = {name: router.priority for name, router in routers(world.plan()).items()}
    assert by_node.pop("n4") == 100, "what the user chose is not touched"
    assert sorted(by_node.values()) == [70, 80, 90]
    world.apply("other", addresses=["10.0.0.50/24"])
    orders = {
        tuple(sorted(found, key=lambda name: found[name]))
        for number in range(8)
        if world.apply(f"v{number}", addresses=[f"10.0.0.{60 + number}/24"]) is None
        for found in [{name: one.priority for name, one in routers(world.plan(), f"shop/v{number}").items()}]
    }
    assert len(orders) > 1, "each VirtualIP has an order of its own"


def test_nodes_that_were_left_equal_stay_equal_where_priorities_move_vips() -> None:
    world = World("n1", "n2")
    world.apply("web", nopreempt=False)
    assert {router.priority for router in routers(world.plan()).values()} == {100}


def test_a_node_without_a_subnet_for_the_vip_takes_no_part() -> None:
    world = World("n1", "n2")
    world.links["n2"] = [Link(name="eth0", addresses=["192.168.7.2/24"])]
    world.report("n2")
    world.apply("web")
    assert set(routers(world.plan())) == {"n1"}


def test_unicast_is_sent_to_one_address_of_each_member_from_which_that_member_sends() -> None:
    world = World("n1", "n2")
    world.links["n1"] = [Link(name="eth0", addresses=["10.0.0.1/24", "10.0.0.51/24"])]
    world.report("n1")
    world.apply("web", transport="Unicast")
    made = routers(world.plan())
    assert made["n2"].unicast_peers == ["10.0.0.1", "10.0.0.2"]
    assert made["n1"].source_addresses == ["10.0.0.1"]
    assert made["n2"].members == ["10.0.0.1", "10.0.0.2", "10.0.0.51"], "whatever it sends from, it is n1"


def test_who_is_sent_to_is_left_out_where_it_is_all_members() -> None:
    """An engine of an earlier version refuses a configuration that has the field."""
    world = World("n1", "n2")
    world.apply("web", transport="Unicast", externalPeers=["10.0.0.9"])
    made = routers(world.plan())["n1"]
    assert (made.members, made.unicast_peers) == (["10.0.0.1", "10.0.0.2", "10.0.0.9"], [])


def test_a_member_is_a_node_with_all_of_its_addresses_on_the_link() -> None:
    """A DHCP renewal reorders them, and the user's choice of a source may be edited on one node before the others."""
    world = World("n1", "n2")
    own = ["10.0.0.1/24", "10.0.0.51/24", "10.7.0.1/16", "fd00::1/64", "fe80::1/64"]
    world.links["n1"] = [Link(name="eth0", addresses=own), Link(name="eth1", addresses=["10.8.0.1/24"])]
    world.report("n1")
    world.apply("web", nodes={"sourceAddresses": [{"nodeName": "n1", "address": "10.0.0.51"}]})
    made = routers(world.plan())
    assert made["n2"].members == ["10.0.0.1", "10.0.0.2", "10.0.0.51", "10.7.0.1"]
    assert made["n1"].source_addresses == ["10.0.0.51"]
    world.apply("web", addresses=["10.0.0.100/24", "fd00::64/64"])
    assert routers(world.plan())["n2"].members[4:] == ["fd00::1", "fe80::1", "fe80::2"]


def test_what_a_node_is_told_of_timing_and_conflicts_is_what_the_user_wrote() -> None:
    world = World("n1")
    world.apply("web", startDelaySeconds=30, announcementIntervalSeconds=0, conflictDetection="Warn")
    made = routers(world.plan())["n1"]
    assert (made.start_delay_milliseconds, made.announcement_interval_seconds, made.conflict_detection) == (
        30_000,
        0,
        "Warn",
    )


def test_what_a_node_is_told_of_its_ports_is_what_the_user_wrote_and_nothing_where_they_stay_open() -> None:
    world = World("n1")
    world.apply("web", hostPorts="Closed")
    world.apply("mail", addresses=["10.0.0.101/24"], hostPorts="Open")
    world.apply("plain", addresses=["10.0.0.102/24"])
    told = msgspec.to_builtins(world.plan().speakers["n1"])["virtualRouters"]
    assert {router["name"]: router.get("hostPorts") for router in told} == {
        "shop/web": "Closed",
        "shop/mail": None,
        "shop/plain": None,
    }


@pytest.mark.parametrize("added", [["10.0.0.100/24", "fd00::64/64"], ["fd00::64/64", "10.0.0.100/24"]])
def test_a_family_that_no_node_can_speak_takes_nothing_away(added: list[str]) -> None:
    world = World("n1", "n2")
    for name, address in (("n1", "10.0.0.1/24"), ("n2", "10.0.0.2/24")):
        world.links[name] = [Link(name="eth0", addresses=[address])]
        world.report(name)
    world.apply("web")
    world.settle()
    before = routers(world.plan())
    world.apply("web", addresses=added)
    plan = world.plan()
    after = routers(plan)
    assert condition(plan, "Accepted")[0] == "True"
    assert set(after) == set(before) == {"n1", "n2"}
    assert [one.members for one in after.values()] == [one.members for one in before.values()]
    wanted = None if added[0].startswith("10.") else "eth0"
    assert {one.interface for one in after.values()} == {wanted}, "an earlier engine goes by the first address alone"


def test_the_last_holder_is_known_to_the_others() -> None:
    world = World("n1", "n2")
    world.apply("web")
    world.settle()
    world.say("shop/web", "n2", "Master")
    made = routers(world.plan())
    assert (made["n1"].last_holder_elsewhere, made["n2"].last_holder_elsewhere) == (True, False)


# ----- refusals -----


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        ({"priority": 300}, "Invalid", "spec.priority"),
        ({"addresses": ["224.0.0.1/24"]}, "Invalid", "spec.addresses[0]"),
        ({"addresses": ["198.51.100.1/24"]}, "NoMatchingSubnet", "spec.addresses[0]"),
        ({"interface": "eth7"}, "NoMatchingSubnet", "spec.interface"),
        ({"nodes": {"names": ["n9"]}}, "NoNodeSelected", "spec.nodes.names"),
        ({"nodes": {"selector": {"matchLabels": {"a": "b"}}}}, "NoNodeSelected", "spec.nodes.selector"),
        ({"virtualRouterID": 7}, "VirtualRouterIDInUse", "spec.virtualRouterID"),
        ({"addresses": ["10.0.0.50/24"]}, "AddressInUse", "spec.addresses[0]"),
        ({"track": {"probes": [{"name": "a", "exec": {"command": ["x"]}}]}}, "Invalid", "spec.track.probes[0].exec"),
        ({"notify": [{"command": ["x"]}]}, "Invalid", "spec.notify"),
    ],
)
def test_a_refusal_names_the_field_and_disturbs_nobody(spec: dict[str, Any], reason: str, field: str) -> None:
    world = World("n1", "n2")
    world.apply("other", addresses=["10.0.0.50/24"], virtualRouterID=7)
    before = routers(world.settle(), "shop/other")
    world.apply("web", **spec)
    plan = world.reconcile()
    status, found, message = condition(plan, "Accepted")
    assert (status, found) == ("False", reason)
    assert field in message
    assert plan.statuses["shop/web"].state == "Refused"
    assert [notice.reason for notice in plan.notices] == ["Refused"]
    assert routers(plan, "shop/other") == before
    assert world.reconcile().notices == (), "told once"


def test_a_running_virtual_ip_that_becomes_invalid_goes_on_as_it_was() -> None:
    world = World("n1", "n2")
    world.apply("web", track={"probes": [{"name": "a", "tcpSocket": {"port": 80}}]})
    good = world.settle()
    world.apply("web", priority=300)
    plan = world.reconcile()
    assert routers(plan) == routers(good)
    assert plan.speakers["n1"].tracking == good.speakers["n1"].tracking
    assert "last good" in condition(plan, "Accepted")[2]
    assert plan.statuses["shop/web"].state != "Refused"
    world.apply("web", priority=120)
    mended = world.reconcile()
    assert max(router.priority for router in routers(mended).values()) == 120
    assert "Accepted" in [notice.reason for notice in mended.notices]


def test_a_refused_virtual_ip_is_drained_from_a_node_like_any_other() -> None:
    world = World("n1", "n2")
    world.apply("web")
    world.settle()
    world.apply("web", priority=300)
    world.settle()
    world.nodes["n1"] = NodeView("n1", is_cordoned=True)
    world.say("shop/web", "n2", "Master")
    made = routers(world.plan())
    assert (made["n1"].draining, made["n2"].draining) == (True, False)
    assert (made["n1"].last_holder_elsewhere, made["n2"].last_holder_elsewhere) == (True, False)


def test_an_edited_virtual_ip_cannot_take_the_address_of_one_that_runs_though_it_is_older() -> None:
    world = World("n1")
    world.apply("older", addresses=["10.0.0.50/24"])
    world.apply("web")
    world.settle()
    world.apply("older", addresses=["10.0.0.100/24"])
    plan = world.reconcile()
    assert condition(plan, "Accepted", "shop/older")[:2] == ("False", "AddressInUse")
    assert condition(plan, "Accepted")[0] == "True"
    assert routers(plan, "shop/older")["n1"].addresses == ["10.0.0.50/24"]


def test_a_pinned_vrid_cannot_take_one_that_was_allocated() -> None:
    world = World("n1")
    world.apply("web")
    vrid = routers(world.settle())["n1"].virtual_router_id
    world.apply("new", addresses=["10.0.0.51/24"], virtualRouterID=vrid)
    plan = world.reconcile()
    assert condition(plan, "Accepted", "shop/new")[:2] == ("False", "VirtualRouterIDInUse")
    assert routers(plan)["n1"].virtual_router_id == vrid


def test_255_fit_on_a_link_and_the_next_is_told_so() -> None:
    world = World("n1")
    for number in range(256):
        world.apply(
            f"v{number:03}",
            addresses=[f"10.0.{number // 200 + 1}.{number % 200 + 1}/32"],
            interface="eth0",
        )
    plan = world.plan()
    vrids = [router.virtual_router_id for router in plan.speakers["n1"].virtual_routers]
    assert sorted(vrids) == list(range(1, 256))
    refused = [key for key in plan.statuses if condition(plan, "Accepted", key)[1] == "NoVirtualRouterIDLeft"]
    assert len(refused) == 1


def test_a_virtual_ip_that_is_being_deleted_is_gone() -> None:
    world = World("n1")
    world.apply("web")
    world.settle()
    world.virtual_ips["shop/web"]["metadata"]["deletionTimestamp"] = NOW
    plan = world.plan()
    assert routers(plan) == {}
    assert "shop/web" not in plan.statuses


# ----- status -----


def held(*names: str) -> World:
    world = World(*(names or ("n1", "n2")))
    world.apply("web")
    world.settle()
    world.say("shop/web", "n1", "Master", NOW, reason="NoMasterHeard", message="no Master was heard")
    world.say("shop/web", "n2", "Backup", NOW)
    world.settle()
    return world


def test_the_first_holder_comes_from_nobody_and_is_no_move() -> None:
    status = held().plan().statuses["shop/web"]
    assert (status.holder, status.state, status.moves) == ("n1", "Held", 0)
    assert [(move.from_node, move.to_node, move.reason) for move in status.transitions] == [("", "n1", "NoMasterHeard")]
    assert {one.type: one.status for one in status.conditions} == {
        "Accepted": "True",
        "Programmed": "True",
        "Ready": "True",
        "SplitBrain": "False",
    }


def test_a_move_is_told_once_with_both_nodes_the_reason_and_the_outage() -> None:
    world = held()
    world.say("shop/web", "n2", "Master", LATER, reason="MasterSilent", message="it was silent", silentMilliseconds=361)
    plan = world.reconcile(LATER)
    status = plan.statuses["shop/web"]
    assert (status.holder, status.moves, status.last_move, status.last_reason) == ("n2", 1, LATER, "MasterSilent")
    move = status.transitions[-1]
    assert (move.from_node, move.to_node, move.outage_milliseconds, move.time) == ("n1", "n2", 361, LATER)
    assert [(notice.reason, notice.message) for notice in plan.notices] == [
        ("Moved", "from n1 to n2, MasterSilent: it was silent")
    ]
    assert condition(plan, "SplitBrain")[0] == "False", "n1 may be dead, and cannot say so"
    again = world.reconcile(LATER)
    assert again.notices == ()
    assert again.statuses == plan.statuses


def test_a_time_without_a_holder_is_part_of_one_move() -> None:
    world = held()
    world.say("shop/web", "n1", "Initialize", LATER, obstacles=["ServiceFailed"], message="the services fail")
    plan = world.reconcile(LATER)
    assert (plan.statuses["shop/web"].holder, plan.statuses["shop/web"].state) == ("", "Unheld")
    status, reason, message = condition(plan, "Ready")
    assert (status, reason) == ("False", "NotHeld")
    assert "n1: the services fail" in message
    world.say("shop/web", "n2", "Master", MUCH_LATER, reason="MasterReleased")
    plan = world.reconcile(MUCH_LATER)
    assert [(move.from_node, move.to_node) for move in plan.statuses["shop/web"].transitions] == [
        ("", "n1"),
        ("n1", "n2"),
    ]


FIREWALL = "no IPv4 advertisement leaves eth0: the firewall of this host drops it (EPERM)"
IN_USE = "10.0.0.100 is in use by 02:00:00:00:00:07"


def hindered(world: World, node: str, obstacle: str, message: str) -> None:
    world.say("shop/web", node, "Initialize", LATER, reason=obstacle, obstacles=[obstacle], message=message)


def test_where_no_node_can_send_the_firewall_of_all_is_named_once() -> None:
    world = held()
    hindered(world, "n1", "CannotSend", FIREWALL)
    world.say("shop/web", "n2", "Backup", LATER)
    plan = world.reconcile(LATER)
    assert condition(plan, "Ready")[1] == "NotHeld"
    assert plan.notices == ()
    hindered(world, "n2", "CannotSend", FIREWALL)
    plan = world.reconcile(LATER)
    status, reason, message = condition(plan, "Ready")
    assert (status, reason) == ("False", "CannotSend")
    assert "no node can send: does the firewall of n1, n2 let IP protocol 112 (VRRP) out?" in message
    assert f"n1: {FIREWALL}" in message
    assert [(notice.type, notice.reason, notice.message) for notice in plan.notices] == [
        ("Warning", "CannotSend", message)
    ]
    again = world.reconcile(LATER)
    assert (again.notices, condition(again, "Ready")) == ((), (status, reason, message))


def test_where_every_node_is_answered_by_another_host_its_mac_is_told_once() -> None:
    world = held()
    for node in ("n1", "n2"):
        hindered(world, node, "AddressConflict", IN_USE)
    plan = world.reconcile(LATER)
    assert condition(plan, "Ready") == (
        "False",
        "AddressConflict",
        f"no node holds it, as another host has its address: {IN_USE}",
    )
    assert [notice.reason for notice in plan.notices] == ["AddressConflict"]
    assert world.reconcile(LATER).notices == ()


def test_where_every_node_refuses_the_address_that_is_told_once() -> None:
    world = held()
    outside = "10.0.0.100 is in none of the networks that this engine may hold: 10.9.0.0/24"
    hindered(world, "n1", "AddressNotPermitted", outside)
    assert condition(world.reconcile(LATER), "Ready")[1] == "NotHeld"
    hindered(world, "n2", "AddressNotPermitted", outside)
    plan = world.reconcile(LATER)
    message = f"no node holds it, as no node may hold it: {outside}"
    assert condition(plan, "Ready") == ("False", "AddressNotPermitted", message)
    assert [(notice.type, notice.reason) for notice in plan.notices] == [("Warning", "AddressNotPermitted")]
    assert world.reconcile(LATER).notices == ()


def test_two_hosts_that_answer_are_both_told() -> None:
    world = held()
    hindered(world, "n1", "AddressConflict", IN_USE)
    hindered(world, "n2", "AddressConflict", IN_USE.replace("07", "08"))
    message = condition(world.reconcile(LATER), "Ready")[2]
    assert "02:00:00:00:00:07" in message
    assert "02:00:00:00:00:08" in message


def test_what_hinders_every_node_is_told_without_regard_to_the_dead() -> None:
    world = held("n1", "n2", "n3")
    for node in ("n1", "n2"):
        hindered(world, node, "CannotSend", FIREWALL)
    world.say("shop/web", "n3", "Backup", NOW)
    assert condition(world.reconcile(LATER), "Ready")[1] == "NotHeld"
    world.nodes["n3"] = NodeView("n3", is_ready=False)
    assert condition(world.reconcile(LATER), "Ready")[1] == "CannotSend"


def test_two_that_hold_it_for_long_are_a_split_brain_unless_one_is_not_heard_of() -> None:
    world = held()
    world.say("shop/web", "n2", "Master", LATER, reason="MasterSilent")
    world.reconcile(LATER)
    plan = world.plan(MUCH_LATER)
    assert condition(plan, "SplitBrain")[0] == "True"
    assert condition(plan, "Ready")[:2] == ("False", "SeveralHolders")
    assert [notice.reason for notice in plan.notices] == ["SplitBrainSuspected"]
    world.nodes["n1"] = NodeView("n1", is_ready=False)
    plan = world.plan(MUCH_LATER)
    assert condition(plan, "SplitBrain")[0] == "False"
    assert plan.statuses["shop/web"].holder == "n2"


def test_a_holder_that_the_control_plane_does_not_hear_of_holds_on() -> None:
    world = held()
    world.nodes["n1"] = NodeView("n1", is_ready=False)
    plan = world.plan(MUCH_LATER)
    assert plan.statuses["shop/web"].holder == "n1"
    assert set(routers(plan)) == {"n1", "n2"}, "the protocol decides who takes part"


AFTER = "2026-11-23T12:00:06.000Z"


def taken_over_from_a_dead_node(*, is_heard: bool) -> World:
    """n1 died as the holder, and n2 holds it since."""
    world = held("n1", "n2", "n3")
    world.nodes["n1"] = NodeView("n1", is_ready=is_heard)
    world.say("shop/web", "n2", "Master", LATER, reason="MasterSilent")
    world.say("shop/web", "n3", "Backup", NOW)
    world.reconcile(LATER)
    return world


def moves(world: World, now: str) -> list[tuple[str, str]]:
    return [(move.from_node, move.to_node) for move in world.reconcile(now).statuses["shop/web"].transitions]


def test_a_moment_without_a_holder_does_not_bring_it_back_to_the_dead() -> None:
    world = taken_over_from_a_dead_node(is_heard=False)
    world.say("shop/web", "n2", "Backup", AFTER, reason="HigherPriority")
    plan = world.reconcile(AFTER)
    assert (plan.statuses["shop/web"].holder, plan.statuses["shop/web"].state) == ("", "Unheld")
    world.say("shop/web", "n3", "Master", AFTER, reason="HigherPriority")
    assert moves(world, AFTER) == [("", "n1"), ("n1", "n2"), ("n2", "n3")]


def test_one_that_died_a_moment_ago_is_not_the_holder_again_when_the_next_one_fails() -> None:
    world = taken_over_from_a_dead_node(is_heard=True)
    world.say("shop/web", "n2", "Initialize", AFTER, obstacles=["ServiceFailed"])
    assert world.reconcile(AFTER).statuses["shop/web"].holder == ""
    world.say("shop/web", "n3", "Master", AFTER, reason="MasterReleased")
    assert moves(world, AFTER) == [("", "n1"), ("n1", "n2"), ("n2", "n3")]


def test_one_that_still_says_so_when_it_must_have_been_missed_holds_it_indeed() -> None:
    world = taken_over_from_a_dead_node(is_heard=True)
    world.say("shop/web", "n2", "Initialize", AFTER, obstacles=["ServiceFailed"])
    assert moves(world, MUCH_LATER) == [("", "n1"), ("n1", "n2"), ("n2", "n1")]


def test_of_two_that_took_over_at_once_the_one_that_the_other_follows_holds_it() -> None:
    world = held("n1", "n2")
    world.say("shop/web", "n2", "Master", LATER, reason="MasterSilent")
    world.reconcile(LATER)
    world.say("shop/web", "n2", "Backup", AFTER, reason="HigherAddress")
    assert world.reconcile(AFTER).statuses["shop/web"].holder == "n1"


def test_history_is_bounded() -> None:
    world = held()
    for number in range(30):
        time = f"2026-11-23T13:00:{number:02}.000Z"
        world.say("shop/web", "n2" if number % 2 == 0 else "n1", "Master", time, reason="MasterSilent")
        world.say("shop/web", "n1" if number % 2 == 0 else "n2", "Backup", time)
        plan = world.reconcile(time)
    assert len(plan.statuses["shop/web"].transitions) == 20
    assert plan.statuses["shop/web"].moves == 30


def test_programmed_follows_the_speakers_and_says_whom_it_waits_for() -> None:
    world = World("n1", "n2")
    world.apply("web")
    world.reconcile(observed=False)
    world.report("n1")
    assert condition(world.plan(), "Programmed") == ("False", "WaitingForSpeakers", "not in force yet on n2")
    world.report("n2")
    world.reconcile()
    assert condition(world.plan(), "Programmed")[0] == "True"
    world.apply("other", addresses=["10.0.0.51/24"])
    world.reconcile(observed=False)
    assert condition(world.plan(), "Programmed")[0] == "True", "another one's change is not its business"


def test_an_engines_refusal_is_told() -> None:
    world = World("n1")
    world.apply("web")
    world.settle()
    world.apply("web", priority=90)
    world.reconcile(observed=False)
    refusal = {
        "type": "Applied",
        "status": "False",
        "reason": "Refused",
        "message": "too much",
        "lastTransitionTime": NOW,
    }
    world.report("n1", observed_generation=1, conditions=[msgspec.convert(refusal, Condition)])
    assert condition(world.plan(), "Programmed") == ("False", "RefusedByEngine", "n1: too much")
