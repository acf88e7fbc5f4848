"""VirtualIPs that share a virtual router: who does, with how many, and that nobody moves because of somebody else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.cluster import VIRTUAL_ROUTERS_MAX, Link, SpeakerConfigSpec, SpeakerConfigStatus
from holdfast_api.pools import REBALANCE_ANNOTATION
from holdfast_api.speaker import SHARED_ADDRESSES_MAX, VirtualRouterConfiguration
from holdfast_operator.planner.cluster.sharing import OF_THE_VRIDS
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.planner_world import LATER, World, condition, routers

MANY = 255 // OF_THE_VRIDS


def shared_world(*nodes: str, prefix: int = 24) -> World:
    world = World(*(nodes or ("n1", "n2")))
    for number, name in enumerate(world.nodes, start=1):
        world.links[name] = [Link(name="eth0", addresses=[f"10.0.0.{number}/{prefix}", f"fe80::{number}/64"])]
        world.report(name)
    return world


def share(world: World, number: int, **spec: Any) -> str:
    """A VirtualIP that may share; its key."""
    address = f"10.0.{(99 + number) // 250}.{1 + (99 + number) % 250}/16"
    world.apply(f"v{number:05}", **{"addresses": [address], "virtualRouterSharing": "Shared", **spec})
    return f"shop/v{number:05}"


def homes(plan: ClusterPlan) -> dict[str, str]:
    """By VirtualIP: the entry that it is in, the same on all nodes."""
    found: dict[str, set[str]] = {}
    for spec in plan.speakers.values():
        for router in spec.virtual_routers:
            for key in router.virtual_ip_names:
                found.setdefault(key, set()).add(router.name)
    assert all(len(names) == 1 for names in found.values())
    return {key: names.pop() for key, names in found.items()}


def entries(spec: SpeakerConfigSpec) -> dict[str, VirtualRouterConfiguration]:
    return {router.name: router for router in spec.virtual_routers}


def test_while_vrids_are_plenty_each_has_a_virtual_router_that_others_may_join_later():
    world = shared_world(prefix=16)
    keys = [share(world, number) for number in range(MANY + 2)]
    plan = world.settle()
    where = homes(plan)
    assert len(set(where.values())) == MANY
    assert (
        plan.statuses[keys[0]].virtual_router
        == where[keys[0]]
        == f"{plan.statuses[keys[0]].virtual_router_id}@10.0.0.0/16"
    )
    together = [key for key in keys if list(where.values()).count(where[key]) > 1]
    assert len(together) == 4
    (one, other) = [key for key in together if where[key] == where[together[0]]]
    assert plan.statuses[one].virtual_router_id == plan.statuses[other].virtual_router_id
    entry = entries(plan.speakers["n1"])[where[one]]
    assert [part.name for part in entry.virtual_ips] == sorted([one, other])
    assert sorted(entry.addresses) == sorted(text for part in entry.virtual_ips for text in part.addresses)
    assert condition(plan, "Programmed", one)[0] == "True"


def test_what_was_planned_is_planned_again_byte_for_byte_and_nothing_is_written():
    world = shared_world(prefix=16)
    for number in range(2 * MANY):
        share(world, number)
    first = world.settle()
    again = world.plan()
    assert msgspec.json.encode(again.speakers) == msgspec.json.encode(first.speakers)


def test_255_virtual_routers_of_a_link_carry_10000_addresses():
    world = shared_world("n1", prefix=16)
    for number in range(500):
        addresses = [f"10.0.{1 + number // 10}.{(number % 10) * 20 + index}/16" for index in range(1, 21)]
        share(world, number, addresses=addresses)
    plan = world.reconcile()
    assert {status.state.value for status in plan.statuses.values()} == {"Pending"}
    sizes = [len(router.every_address) for router in plan.speakers["n1"].virtual_routers]
    assert sum(sizes) == 10_000
    assert len(sizes) <= 255
    assert max(sizes) <= SHARED_ADDRESSES_MAX
    assert all(len(router.addresses) <= 20 for router in plan.speakers["n1"].virtual_routers)


def test_they_are_even_over_the_virtual_routers():
    world = shared_world("n1", prefix=16)
    for number in range(500):
        share(world, number)
    sizes = [len(router.every_address) for router in world.reconcile().speakers["n1"].virtual_routers]
    assert (min(sizes), max(sizes)) == (7, 8)


@pytest.mark.parametrize(
    "spec",
    [
        {"priority": 120},
        {"nopreempt": False},
        {"advertisementIntervalMilliseconds": 200},
        {"nodes": {"names": ["n1"]}},
        {"track": {"probes": [{"name": "p", "tcpSocket": {"port": 80}}]}},
        {"hostPorts": "Closed"},
        {"addresses": ["2001:db8::1/64"], "interface": "eth0"},
    ],
    ids=str,
)
def test_another_election_is_another_virtual_router(spec):
    world = shared_world(prefix=16)
    world.apply_pool("few", "10.0.0.0/16", "2001:db8::/64", virtualRouterIDs={"first": 1, "last": 4})
    for number in range(2):
        share(world, number)
    other = share(world, 9, **spec)
    where = homes(world.settle())
    assert len(set(where.values())) == 2
    assert list(where.values()).count(where[other]) == 1


def test_one_that_says_nothing_or_own_has_its_virtual_router_by_itself():
    world = shared_world(prefix=16)
    for number in range(2 * MANY):
        share(world, number)
    own = share(world, 900, virtualRouterSharing="Own")
    plan = world.settle()
    assert homes(plan)[own] == own
    assert plan.statuses[own].virtual_router == ""


def test_the_256th_election_of_its_own_is_refused_with_that_reason_and_one_that_shares_is_not():
    world = shared_world(prefix=16)
    first = share(world, 0)
    for number in range(1, 255):
        share(world, number, virtualRouterSharing="Own")
    world.settle()
    late, joining = share(world, 300, virtualRouterSharing="Own"), share(world, 301)
    plan = world.settle()
    assert condition(plan, "Accepted", late)[1] == "NoVirtualRouterIDLeft"
    assert homes(plan)[joining] == homes(plan)[first]


def test_one_that_is_refused_by_an_edit_stays_in_its_virtual_router_with_what_it_had():
    world = shared_world(prefix=16)
    world.apply_pool("few", "10.0.0.0/16", virtualRouterIDs={"first": 1, "last": 4})
    one, other = share(world, 0), share(world, 1)
    before = world.settle()
    share(world, 0, addresses=["10.0.0.100/16", "no address"])
    plan = world.settle()
    assert condition(plan, "Accepted", one)[0] == "False"
    assert plan.speakers == before.speakers
    assert plan.statuses[one].virtual_router == plan.statuses[other].virtual_router != ""


def test_one_that_had_a_virtual_router_by_itself_keeps_its_vrid_when_it_may_be_shared_and_back():
    world = shared_world(prefix=16)
    key = share(world, 0, virtualRouterSharing="Own")
    vrid = world.settle().statuses[key].virtual_router_id
    share(world, 0)
    plan = world.settle()
    assert (plan.statuses[key].virtual_router, plan.statuses[key].virtual_router_id) == (f"{vrid}@10.0.0.0/16", vrid)
    share(world, 0, virtualRouterSharing="Own")
    plan = world.settle()
    assert (plan.statuses[key].virtual_router, plan.statuses[key].virtual_router_id) == ("", vrid)
    assert homes(plan)[key] == key


def test_one_of_several_that_is_edited_leaves_and_the_others_stay():
    world = shared_world(prefix=16)
    world.apply_pool("few", "10.0.0.0/16", virtualRouterIDs={"first": 1, "last": 4})
    keys = [share(world, number) for number in range(5)]
    before = world.settle()
    share(world, 0, priority=120)
    plan = world.settle()
    assert homes(plan)[keys[0]] != homes(before)[keys[0]]
    assert {homes(plan)[key] for key in keys[1:]} == {homes(before)[key] for key in keys[1:]}


@pytest.mark.parametrize("edited", [[0], [1], [0, 1]])
def test_nobody_leaves_because_others_were_edited_however_many(edited):
    world = shared_world(prefix=16)
    world.apply_pool("few", "10.0.0.0/16", virtualRouterIDs={"first": 1, "last": 4})
    keys = [share(world, number) for number in range(3 if len(edited) > 1 else 2)]
    before = world.settle()
    for number in edited:
        share(world, number, priority=120)
    plan = world.settle()
    assert {homes(plan)[key] for key in keys if keys.index(key) not in edited} == {homes(before)[keys[0]]}
    assert all(homes(plan)[keys[number]] != homes(before)[keys[number]] for number in edited)


def test_an_edit_of_all_of_them_moves_none():
    world = shared_world(prefix=16)
    world.apply_pool("few", "10.0.0.0/16", virtualRouterIDs={"first": 1, "last": 4})
    keys = [share(world, number) for number in range(5)]
    before = world.settle()
    for number in range(5):
        share(world, number, advertisementIntervalMilliseconds=100)
    plan = world.settle()
    assert homes(plan) == homes(before)
    assert routers(plan, keys[0])["n1"].advertisement_interval_milliseconds == 100


def test_a_status_is_the_record_where_the_speaker_configs_are_gone():
    world = shared_world(prefix=16)
    for number in range(2 * MANY):
        share(world, number)
    before = world.settle()
    world.speakers = {}
    for name in world.nodes:
        world.report(name)
    plan = world.settle()
    assert homes(plan) == homes(before)
    assert [entry.virtual_router_id for entry in plan.speakers["n1"].virtual_routers] == [
        entry.virtual_router_id for entry in before.speakers["n1"].virtual_routers
    ]


def test_a_node_that_comes_has_all_of_them_and_the_same_lists():
    world = shared_world("n1", "n2", "n3", prefix=16)
    late = world.nodes.pop("n3")
    del world.speakers["n3"]
    for number in range(80):
        share(world, number)
    world.settle()
    world.nodes["n3"] = late
    world.report("n3")
    plan = world.settle()
    one, other = entries(plan.speakers["n1"]), entries(plan.speakers["n3"])
    assert one.keys() == other.keys()
    for name, entry in one.items():
        assert (entry.virtual_ips, entry.addresses) == (other[name].virtual_ips, other[name].addresses)
        assert entry.priority != other[name].priority


def test_a_conflict_about_one_is_told_of_that_one_though_its_backups_know_nothing_of_it():
    world = shared_world(prefix=16)
    world.apply_pool("few", "10.0.0.0/16", virtualRouterIDs={"first": 1, "last": 4})
    keys = [share(world, number) for number in range(2)]
    world.settle()
    for key in keys:
        world.say(key, "n2", "Backup")
    world.hold(keys[0], "n1")
    world.say(keys[1], "n1", "Initialize", obstacles=["AddressConflict"], message="10.0.0.101 is in use by 02:00")
    plan = world.settle()
    assert condition(plan, "Ready", keys[0])[1] == "Held"
    assert condition(plan, "Ready", keys[1])[1:] == (
        "AddressConflict",
        "no node holds it, as another host has its address: 10.0.0.101 is in use by 02:00",
    )


# ----- who holds them -----


def nominees(plan: ClusterPlan) -> dict[str, str]:
    """By virtual router; what one node is told all are told."""
    told: dict[str, str] = {}
    for spec in plan.speakers.values():
        for first in spec.first_holds:
            assert told.setdefault(first.virtual_router, first.node_name) == first.node_name
    return told


def take_office(world: World, holders: dict[str, str]) -> None:
    """Each virtual router is held by that node, and the agents say so of all that share it."""
    for name, speaker in world.speakers.items():
        for router in speaker.spec.virtual_routers:
            for key in router.virtual_ip_names:
                world.say(key, name, "Master" if holders.get(router.name) == name else "Backup")


def addresses_by_holder(world: World, holders: dict[str, str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for router in world.speakers["n1"].spec.virtual_routers:
        found[holders[router.name]] += len(router.every_address)
    return found


@pytest.mark.parametrize("at_once", [1, 250, 1000])
def test_1000_services_are_spread_over_3_nodes_within_a_tenth(at_once: int) -> None:
    world = shared_world("n1", "n2", "n3", prefix=16)
    holders: dict[str, str] = {}
    for number in range(0, 1000, at_once):
        for one in range(number, number + at_once):
            share(world, one)
        if at_once == 1 and 70 < number < 999:
            continue  # what comes then joins what is held
        holders = nominees(world.settle()) | holders
        take_office(world, holders)
    world.settle()
    spread = addresses_by_holder(world, holders)
    assert set(spread) == {"n1", "n2", "n3"}
    assert max(spread.values()) <= 1.1 * 1000 / 3
    assert min(spread.values()) >= 0.9 * 1000 / 3


def test_what_a_dead_node_leaves_is_spread_over_the_others() -> None:
    world = shared_world("n1", "n2", "n3", "n4", prefix=16)
    for number in range(1000):
        share(world, number)
    plan = world.settle()
    heirs: Counter[str] = Counter()
    for name, holder in nominees(plan).items():
        if holder == "n1":
            left = {node: entries(plan.speakers[node])[name] for node in ("n2", "n3", "n4")}
            heirs[max(left, key=lambda node: left[node].priority)] += len(left["n2"].every_address)
    assert max(heirs.values()) - min(heirs.values()) <= 20


def test_those_that_share_have_one_nominee_and_one_that_joins_has_none() -> None:
    world = shared_world(prefix=16)
    world.apply_pool("few", "10.0.0.0/16", virtualRouterIDs={"first": 1, "last": 4})
    first, second = share(world, 0), share(world, 1)
    plan = world.settle()
    where = homes(plan)
    assert where[first] == where[second]
    assert set(nominees(plan)) == {where[first]}
    take_office(world, nominees(plan))
    world.settle()
    share(world, 2)
    plan = world.settle()
    assert set(nominees(plan)) == set()


def test_one_that_comes_is_told_as_held_elsewhere_by_who_does_not_hold_the_others() -> None:
    world = shared_world(prefix=16)
    world.apply_pool("few", "10.0.0.0/16", virtualRouterIDs={"first": 1, "last": 4})
    share(world, 0)
    name = next(iter(nominees(world.settle())))
    take_office(world, {name: "n2"})
    world.settle()
    share(world, 1)
    plan = world.settle()
    told = {node: entries(spec)[name].last_holder_elsewhere for node, spec in plan.speakers.items()}
    assert told == {"n1": True, "n2": False}


def test_a_rebalance_moves_whole_virtual_routers_by_what_they_hold() -> None:
    world = shared_world(prefix=16)
    world.apply_pool("few", "10.0.0.0/16", virtualRouterIDs={"first": 1, "last": 16})
    for number in range(8):
        share(world, number)
    names = sorted(set(homes(world.settle()).values()))
    assert len(names) == 4
    holders = dict.fromkeys(names, "n1")
    take_office(world, holders)
    world.settle(LATER)
    assert world.plan(LATER).pools["few"].imbalance == 2
    world.pools["few"]["metadata"]["annotations"] = {REBALANCE_ANNOTATION: "monday"}
    for _ in range(5):
        plan = world.settle(LATER)
        for node, spec in plan.speakers.items():
            for one in spec.take_overs:
                holders[homes(plan)[one.virtual_router]] = node
        take_office(world, holders)
    assert world.pools["few"]["status"]["rebalance"] == {"requested": "monday", "state": "Complete", "moved": 2}
    assert addresses_by_holder(world, holders) == {"n1": 4, "n2": 4}


# ----- an upgrade -----


def an_older_world(*nodes: str) -> World:
    """The engines are of a version that takes no shared virtual router."""
    world = shared_world(*nodes, prefix=16)
    for name in world.nodes:
        older(world, name)
    return world


def older(world: World, name: str) -> None:
    world.report(name, shares_virtual_routers=False, engine_version="0.1.0")


def without_names(spec: SpeakerConfigSpec) -> list[VirtualRouterConfiguration]:
    alike = [msgspec.structs.replace(one, name="", virtual_ips=[]) for one in spec.virtual_routers]
    return sorted(alike, key=lambda one: one.virtual_router_id)


def test_while_one_engine_is_older_each_has_its_own_and_then_nothing_changes_but_the_name() -> None:
    world = an_older_world()
    keys = [share(world, number) for number in range(100)]
    before = world.reconcile(observed=False)
    assert {homes(before)[key] for key in keys} == set(keys)
    for name in world.nodes:
        older(world, name)
        take_office(world, dict.fromkeys(keys, "n1"))
    before = world.reconcile(observed=False)
    world.report("n2")
    older(world, "n1")
    assert world.plan().speakers == before.speakers
    world.report("n1")
    after = world.settle()
    assert all(len(router.virtual_ips) == 1 for router in after.speakers["n1"].virtual_routers)
    for name in world.nodes:
        assert without_names(after.speakers[name]) == without_names(before.speakers[name])
    assert not nominees(after)
    late = share(world, 200)
    assert len(routers(world.settle(), late)) == 2


def test_a_node_of_an_older_version_that_comes_is_told_none_that_is_shared_and_people_learn_why() -> None:
    world = shared_world("n1", "n2", "n3", prefix=16)
    late = world.nodes.pop("n3")
    del world.speakers["n3"]
    key = share(world, 0)
    before = world.settle()
    world.nodes["n3"] = late
    world.report("n3")
    older(world, "n3")
    plan = world.reconcile(observed=False)
    assert set(routers(plan, key)) == {"n1", "n2"}
    assert homes(plan) == homes(before)
    message = condition(plan, "Programmed", key)[2] + condition(plan, "Accepted", key)[2]
    assert "n3 (its engine has not said that it takes shared virtual routers)" in message
    world.report("n3")
    assert set(routers(world.settle(), key)) == {"n1", "n2", "n3"}


def test_a_speaker_config_that_was_made_anew_loses_nothing_that_was_shared() -> None:
    world = shared_world(prefix=16)
    keys = [share(world, number) for number in range(3)]
    before = world.settle()
    speaker = world.speakers["n2"]
    world.speakers["n2"] = msgspec.structs.replace(speaker, status=SpeakerConfigStatus())
    plan = world.plan()
    assert homes(plan) == homes(before)
    assert all("n2" in routers(plan, key) for key in keys)


def test_when_all_engines_are_older_again_each_has_its_own_again() -> None:
    world = shared_world(prefix=16)
    keys = [share(world, number) for number in range(MANY + 10)]
    world.settle()
    for name in world.nodes:
        older(world, name)
    plan = world.reconcile(observed=False)
    assert homes(plan) == {key: key for key in keys}
    assert not any(router.virtual_ips for spec in plan.speakers.values() for router in spec.virtual_routers)


def test_a_node_whose_engine_is_away_keeps_its_part() -> None:
    world = shared_world(prefix=16)
    share(world, 0)
    before = world.settle()
    world.report("n2", shares_virtual_routers=False, engine_version="")
    assert world.plan().speakers == before.speakers


# ----- room -----


def test_a_node_is_told_of_no_more_to_watch_than_it_can_be_told() -> None:
    world = shared_world(prefix=16)
    track = {"probes": [{"name": "p", "tcpSocket": {"port": 80}}]}
    keys = [share(world, number, track=track) for number in range(VIRTUAL_ROUTERS_MAX + 1)]
    free = share(world, 2000)
    plan = world.reconcile()
    assert len(plan.speakers["n1"].tracking) == VIRTUAL_ROUTERS_MAX
    refused = [key for key in keys if condition(plan, "Accepted", key)[1] == "NodeFull"]
    assert len(refused) == 1
    assert condition(plan, "Accepted", free)[1] != "NodeFull"
    assert condition(world.reconcile(), "Accepted", refused[0])[1] == "NodeFull"


# ----- Services -----


def test_services_share_and_one_with_local_has_an_election_of_its_own() -> None:
    world = shared_world("n1", "n2", "n3", prefix=16)
    world.apply_pool("lan", "10.0.8.0/22", autoAssign=True)
    for number in range(300):
        world.apply_service(f"s{number:03}")
    world.apply_service("local", externalTrafficPolicy="Local", healthCheckNodePort=31000)
    plan = world.settle()
    own = [key for key, name in homes(plan).items() if key == name]
    assert len(homes(plan)) == 301
    assert [world.virtual_ips[key]["spec"]["virtualRouterSharing"] for key in own] == ["Own"]
    assert len(plan.speakers["n1"].virtual_routers) == MANY + 1
    assert {router.host_ports.value for router in plan.speakers["n1"].virtual_routers} == {"Closed"}


# ----- nobody is disturbed -----


def election(entry: VirtualRouterConfiguration) -> VirtualRouterConfiguration:
    """What is the same whoever shares it."""
    return msgspec.structs.replace(entry, addresses=[], virtual_ips=[])


steps = st.lists(
    st.tuples(st.sampled_from(["add", "delete", "edit", "own"]), st.integers(0, 30), st.sampled_from([100, 120])),
    min_size=5,
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_nobody_moves_because_somebody_else_comes_goes_or_is_edited(events):
    world = shared_world(prefix=16)
    world.apply_pool("few", "10.0.0.0/16", virtualRouterIDs={"first": 1, "last": 20})
    before: dict[str, str] = {}
    listed: dict[str, list[str]] = {}
    entry_of: dict[tuple[str, str], VirtualRouterConfiguration] = {}
    told_first: dict[str, str] = {}
    for verb, number, priority in events:
        key = f"shop/v{number:05}"
        if verb == "delete":
            world.delete(f"v{number:05}")
        elif verb == "own":
            share(world, number, virtualRouterSharing="Own")
        elif verb == "add" and key not in world.virtual_ips:
            share(world, number)
        elif verb == "edit":
            share(world, number, priority=priority)
        plan = world.settle()
        after = homes(plan)
        moved = {one for one in after.keys() & before.keys() if after[one] != before[one]}
        assert moved <= {key}
        assert all(nominees(plan)[name] == node for name, node in told_first.items() if name in nominees(plan))
        told_first = nominees(plan)
        before = after
        for node, spec in plan.speakers.items():
            for name, entry in entries(spec).items():
                told = entry_of.get((node, name))
                if told is not None and key not in {*entry.virtual_ip_names, *told.virtual_ip_names}:
                    assert entry == told
                elif told is not None and entry.virtual_ips and verb != "edit":
                    assert election(entry) == election(told)
            addresses = [text for router in spec.virtual_routers for text in router.every_address]
            assert len(addresses) == len(set(addresses))
            vrids = [router.virtual_router_id for router in spec.virtual_routers]
            assert len(vrids) == len(set(vrids))
            for router in spec.virtual_routers:
                assert not router.virtual_ips or set(router.addresses) <= set(router.every_address)
                assert len(router.every_address) <= SHARED_ADDRESSES_MAX
                gone = set(listed.get(router.name, ())) - set(router.addresses)
                assert not gone & set(router.every_address)
        # What is gone and comes again is new.
        entry_of = {(node, name): one for node, spec in plan.speakers.items() for name, one in entries(spec).items()}
        listed = {router.name: router.addresses for router in plan.speakers["n1"].virtual_routers}
