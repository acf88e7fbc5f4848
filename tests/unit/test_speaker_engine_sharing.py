"""VirtualIPs that share a virtual router: they move together, and whatever becomes of one disturbs no other."""

from __future__ import annotations

import errno
import random
from typing import Any

import msgspec
import pytest

from holdfast_api.messages import RouterStatus
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_api.resources import ForeignRouters
from holdfast_api.speaker import SharingVirtualIP, VirtualRouterConfiguration
from holdfast_speaker.engine import reports
from holdfast_speaker.engine.door import Door
from holdfast_speaker.engine.ports import LIFETIME_SECONDS, AddAddress, KernelAddress
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.vrrp.counters import Counter
from holdfast_testing.engine_lan import Lan, SimulatedHost, router

MEMBERS = ["10.9.0.1", "10.9.0.2"]


def shared(addresses: dict[str, str], *, listed: int = 20, vrid: int = 51, **fields: Any) -> VirtualRouterConfiguration:
    """A virtual router of VirtualIPs with an address each, of 100 ms."""
    every = [f"{address}/24" for address in addresses.values()]
    return VirtualRouterConfiguration(
        name=f"shared/{vrid}",
        addresses=every[:listed],
        virtual_router_id=vrid,
        advertisement_interval_milliseconds=100,
        members=MEMBERS,
        foreign_routers=ForeignRouters.REFUSE,
        virtual_ips=[
            SharingVirtualIP(name=f"shop/{name}", addresses=[f"{address}/24"]) for name, address in addresses.items()
        ],
        **fields,
    )


THREE = {"a": "10.9.0.101", "b": "10.9.0.102", "c": "10.9.0.103"}
D = {"d": "10.9.0.104"}


def statuses(host: SimulatedHost) -> dict[str, RouterStatus]:
    engine = host.running
    return {
        status.virtual_ip.removeprefix("shop/"): status
        for instance in engine.instances.values()
        for status in reports.virtual_ip_statuses(instance, engine.warnings_of(instance, host.lan.clock.now()))
    }


def states(host: SimulatedHost) -> dict[str, str]:
    return {name: status.state.value for name, status in statuses(host).items()}


def told(host: SimulatedHost) -> list[tuple[str, str, str, str]]:
    """The transitions since this was last asked."""
    found = [
        (one.virtual_ip.removeprefix("shop/"), one.from_state.value, one.to_state.value, one.reason.value)
        for one in host.running.transitions
    ]
    host.running.transitions.clear()
    return found


def pair(**fields: Any) -> tuple[Lan, SimulatedHost, SimulatedHost]:
    """n1 holds a, b and c, and n2 follows it."""
    lan = Lan("n1", "n2", "printer")
    n1, n2, _ = lan.hosts
    n1.start(shared(THREE, priority=110, **fields))
    n2.start(shared(THREE, **fields))
    lan.run(3.0)
    assert set(states(n1).values()) == {"Master"}
    assert set(states(n2).values()) == {"Backup"}
    for host in (n1, n2):
        told(host)
    return lan, n1, n2


def test_all_of_them_are_held_by_one_node_and_each_is_told():
    lan, n1, _ = pair()
    assert all(lan.holders(address) == ["n1"] for address in THREE.values())
    found = statuses(n1)
    assert {status.virtual_router for status in found.values()} == {"shared/51"}
    assert found["b"].addresses == ["10.9.0.102/24"]
    assert [one.reason for one in reports.history(n1.running.instances, "shop/b", None).transitions] == [
        Reason.STARTED,
        Reason.NO_MASTER_HEARD,
    ]


def test_when_the_holder_dies_all_move_with_one_transition_each():
    lan, n1, n2 = pair()
    n1.die()
    lan.run(3.0)
    assert all(lan.holders(address) == ["n2"] for address in THREE.values())
    assert told(n2) == [(name, "Backup", "Master", "MasterSilent") for name in THREE]


def test_only_what_is_listed_is_advertised():
    lan, n1, _ = pair(listed=2)
    family = n1.running.instances["shared/51"].router.configuration.families[0]
    assert len(family.addresses) == 2
    assert len(family.beside) == 1
    assert all(lan.holders(address) == ["n1"] for address in THREE.values())


def test_one_that_is_added_is_asked_for_then_held_and_no_other_is_touched():
    lan, n1, n2 = pair()
    n1.kernel.deleted.clear()
    n2.configure(shared(THREE | D))
    lan.run(0.05)
    n1.configure(shared(THREE | D, priority=110))
    assert states(n1) == {"a": "Master", "b": "Master", "c": "Master", "d": "Initialize"}
    assert not n1.has(D["d"])
    took = lan.until(lambda: n1.has(D["d"]), within_seconds=1.0)
    assert 0 < took < 0.35
    lan.run(1.0)
    assert n1.kernel.deleted == []
    assert told(n1) == [("d", "Initialize", "Master", "Started")]
    assert told(n2) == [("d", "Initialize", "Backup", "Started")]
    assert n2.running.instances["shared/51"].router.counters[Counter.OTHER_VIRTUAL_ROUTERS] == 0


def test_one_that_is_removed_is_gone_and_no_other_is_touched():
    lan, n1, n2 = pair()
    n1.kernel.deleted.clear()
    left = {name: address for name, address in THREE.items() if name != "b"}
    for host, priority in ((n1, 110), (n2, 100)):
        host.configure(shared(left, priority=priority))
    lan.run(1.0)
    assert n1.kernel.deleted == ["10.9.0.102"]
    assert told(n1) == [("b", "Master", "Initialize", "Removed")]
    assert told(n2) == [("b", "Backup", "Initialize", "Removed")]
    assert states(n1) == {"a": "Master", "c": "Master"}


def test_a_whole_virtual_router_that_is_removed_is_told_of_each():
    lan, n1, n2 = pair()
    n2.configure()
    n1.configure()
    assert told(n1) == [(name, "Master", "Initialize", "Removed") for name in THREE]
    assert all(lan.holders(address) == [] for address in THREE.values())


def test_an_address_that_somebody_else_has_withholds_its_virtual_ip_alone_until_it_is_free():
    lan, n1, n2 = pair()
    printer = lan.hosts[2]
    printer.add(f"{D['d']}/24")
    for host, priority in ((n2, 100), (n1, 110)):
        host.configure(shared(THREE | D, priority=priority))
    lan.run(2.0)
    assert states(n1) == {"a": "Master", "b": "Master", "c": "Master", "d": "Initialize"}
    assert statuses(n1)["d"].obstacles == [Obstacle.ADDRESS_CONFLICT]
    assert statuses(n1)["d"].obstacle_detail == "10.9.0.104 is in use by 02:00:00:00:00:03"
    assert statuses(n1)["a"].obstacles == []
    assert lan.holders(D["d"]) == ["printer"]
    printer.remove(f"{D['d']}/24")
    lan.until(lambda: n1.has(D["d"]), within_seconds=14)
    assert states(n1)["d"] == "Master"
    assert [item for item in told(n1) if item[0] != "d"] == []


def test_at_a_first_hold_too_the_others_are_held():
    lan = Lan("n1", "n2", "printer")
    lan.hosts[2].add("10.9.0.102/24")
    lan.hosts[0].start(shared(THREE, priority=110))
    lan.hosts[1].start(shared(THREE))
    lan.run(4.0)
    assert states(lan.hosts[0]) == {"a": "Master", "b": "Initialize", "c": "Master"}
    assert statuses(lan.hosts[0])["b"].reason is Reason.ADDRESS_CONFLICT
    assert lan.holders("10.9.0.102") == ["printer"]


def test_where_somebody_else_has_all_of_them_the_virtual_router_is_out_and_one_that_comes_is_held():
    lan = Lan("n1", "n2", "printer")
    n1, _, printer = lan.hosts
    printer.add("10.9.0.101/24")
    n1.start(shared({"a": "10.9.0.101"}))
    lan.run(4.0)
    assert n1.running.instances["shared/51"].router.obstacles == {Obstacle.ADDRESS_CONFLICT}
    n1.configure(shared({"a": "10.9.0.101", "b": "10.9.0.102"}))
    lan.run(4.0)
    assert states(n1) == {"a": "Initialize", "b": "Master"}
    assert n1.has("10.9.0.102")


def test_an_address_that_this_host_has_already_withholds_its_virtual_ip_alone():
    lan, n1, n2 = pair()
    n1.add("10.9.0.104/32")
    for host, priority in ((n2, 100), (n1, 110)):
        host.configure(shared(THREE | D, priority=priority))
    lan.run(2.0)
    assert states(n1) == {"a": "Master", "b": "Master", "c": "Master", "d": "Initialize"}
    assert statuses(n1)["d"].obstacles == [Obstacle.ADDRESS_IN_USE]
    n1.remove("10.9.0.104/32")
    lan.run(2.0)
    assert states(n1)["d"] == "Master"


def test_an_address_that_may_not_be_held_withholds_its_virtual_ip_alone():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(shared(THREE | {"d": "10.8.0.1"}), door=Door(("10.9.0.0/24",)))
    lan.run(4.0)
    assert states(n1) == {"a": "Master", "b": "Master", "c": "Master", "d": "Initialize"}
    assert statuses(n1)["d"].obstacles == [Obstacle.ADDRESS_NOT_PERMITTED]
    n1.configure(shared({"d": "10.8.0.1"}))
    lan.run(2.0)
    assert states(n1) == {"d": "Initialize"}


def test_an_address_that_the_kernel_refuses_withholds_its_virtual_ip_alone_for_a_while():
    lan, n1, n2 = pair()
    refused = AddAddress(KernelAddress(n1.eth0, bytes((10, 9, 0, 104)), 32), LIFETIME_SECONDS, exclusive=True)
    n1.kernel.refuse = lambda request: errno.ENOBUFS if request == refused else 0
    for host, priority in ((n2, 100), (n1, 110)):
        host.configure(shared(THREE | D, priority=priority))
    lan.run(2.0)
    assert states(n1) == {"a": "Master", "b": "Master", "c": "Master", "d": "Initialize"}
    assert statuses(n1)["d"].obstacles == [Obstacle.KERNEL_REFUSED]
    n1.kernel.refuse = lambda _request: 0
    lan.run(6.0)
    assert states(n1)["d"] == "Master"


def test_one_that_moves_from_another_virtual_router_of_the_same_node_does_not_leave_the_kernel():
    lan, n1, n2 = pair()
    for host, priority in ((n1, 110), (n2, 100)):
        host.configure(shared(THREE, priority=priority), shared(D, vrid=52, priority=priority))
        lan.run(4.0)
    assert lan.holders(D["d"]) == ["n1"]
    n1.kernel.deleted.clear()
    left = {"a": THREE["a"], "b": THREE["b"]}
    for host, priority in ((n2, 100), (n1, 110)):
        host.configure(shared(left, priority=priority), shared(D | {"c": THREE["c"]}, vrid=52, priority=priority))
    lan.run(1.0)
    assert n1.kernel.deleted == []
    assert lan.holders(THREE["c"]) == ["n1"]


def test_one_that_had_its_virtual_router_by_itself_keeps_it_when_it_may_be_shared_and_back():
    lan = Lan("n1", "n2")
    own = router("web", "10.9.0.101/24", members=MEMBERS, foreign_routers=ForeignRouters.REFUSE)
    may_be_shared = msgspec.structs.replace(
        own, name="shared/51", virtual_ips=[SharingVirtualIP(name="default/web", addresses=["10.9.0.101/24"])]
    )
    for host in lan.hosts:
        host.start(own)
    lan.run(4.0)
    (holder,) = [host for host in lan.hosts if host.state() == "Master"]
    holder.kernel.deleted.clear()
    told(holder)
    for configuration in (may_be_shared, own):
        for host in lan.hosts:
            host.configure(configuration)
        lan.run(1.0)
        assert told(holder) == []
        assert holder.kernel.deleted == []
        assert statuses(holder)["default/web"].reason is Reason.NO_MASTER_HEARD


def test_what_tracks_the_same_fails_together_and_what_is_not_known_yet_does_not_count():
    lan, n1, n2 = pair(tracks_services=True)
    for name in ("shop/a", "shop/b"):
        for host in (n1, n2):
            host.running.report_health(name, Health.HEALTHY, "", lan.clock.now())
    lan.run(1.0)
    assert statuses(n1)["c"].health is Health.HEALTHY
    n1.running.report_health("shop/a", Health.FAILING, "nobody answers", lan.clock.now())
    lan.run(1.0)
    assert set(states(n2).values()) == {"Master"}


def test_a_switchover_of_one_moves_all_and_says_so():
    lan, _, n2 = pair()
    assert n2.running.switchover("shop/b", "n2", lan.clock.now()) == (
        "shop/b is held by n2 now, with all that share its virtual router: shop/a, shop/c"
    )
    lan.run(1.0)
    assert all(lan.holders(address) == ["n2"] for address in THREE.values())


def test_a_new_engine_goes_on_with_what_was_held_and_asks_for_what_was_not():
    lan, n1, n2 = pair()
    printer = lan.hosts[2]
    printer.add(f"{D['d']}/24")
    for host, priority in ((n2, 100), (n1, 110)):
        host.configure(shared(THREE | D, priority=priority))
    lan.run(2.0)
    n1.kernel.deleted.clear()
    left = msgspec.json.decode(msgspec.json.encode(n1.die()), type=list[PublishedRouter])
    n1.start(shared(THREE | D, priority=110), former=left)
    lan.run(1.0)
    assert n1.kernel.deleted == []
    assert states(n1) == {"a": "Master", "b": "Master", "c": "Master", "d": "Initialize"}
    assert lan.holders(D["d"]) == ["printer"]
    assert set(states(n2).values()) == {"Backup"}
    printer.remove(f"{D['d']}/24")
    lan.until(lambda: n1.has(D["d"]), within_seconds=14)


@pytest.mark.parametrize("seed", range(6))
def test_whoever_comes_goes_and_is_in_conflict_nobody_elses_address_is_away_for_a_moment(seed):
    chance = random.Random(seed)
    lan, n1, n2 = pair()
    printer = lan.hosts[2]
    pool = {f"v{number}": f"10.9.0.{number}" for number in range(110, 130)}
    there: dict[str, str] = {}
    taken: set[str] = set()
    for _ in range(30):
        name, address = chance.choice(list(pool.items()))
        if name in there:
            del there[name]
        else:
            there[name] = address
            if chance.random() < 0.2 and address not in taken and not n1.has(address) and not n2.has(address):
                printer.add(f"{address}/24")
                taken.add(address)
        steady = {one for one in there.values() if n1.has(one)} | set(THREE.values())
        wanted = THREE | dict(sorted(there.items()))
        for host, priority in chance.sample([(n1, 110), (n2, 100)], 2):
            host.configure(shared(wanted, listed=chance.choice([3, 20]), priority=priority))
            for _ in range(chance.randrange(8)):
                lan.run(0.02)
                assert all(n1.has(one) for one in steady)
    lan.run(15.0)
    for address in there.values():
        assert lan.holders(address) == (["printer"] if address in taken else ["n1"])
    assert set(states(n1).values()) <= {"Master", "Initialize"}
    assert {State(state) for state in states(n2).values()} == {State.BACKUP}


def own(name: str, address: str, *, vrid: int, priority: int) -> VirtualRouterConfiguration:
    """The same virtual router, of one VirtualIP by itself."""
    one = shared({name: address}, vrid=vrid, priority=priority)
    return msgspec.structs.replace(one, name=f"shop/{name}", virtual_ips=[])


@pytest.mark.parametrize("seed", range(8))
def test_whoever_moves_to_another_virtual_router_or_comes_to_share_its_own_nobody_elses_address_moves(seed):
    chance = random.Random(seed)
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    where = {f"v{number}": chance.choice([51, 52]) for number in range(110, 118)}
    kept = {"k51": 51, "k52": 52, "k53": 53}
    numbers = {name: f"10.9.0.{name[1:]}" for name in where} | {"k51": "10.9.0.51", "k52": "10.9.0.52"}
    numbers["k53"] = "10.9.0.53"
    is_alone = True

    def configurations(host: SimulatedHost) -> list[VirtualRouterConfiguration]:
        found = []
        for vrid, best in ((51, n1), (52, n2), (53, n1)):
            priority = 110 if host is best else 100
            parts = {name: numbers[name] for name, router in sorted((kept | where).items()) if router == vrid}
            if vrid == 53 and is_alone:
                found.append(own("k53", numbers["k53"], vrid=53, priority=priority))
            else:
                found.append(shared(parts, vrid=vrid, priority=priority))
        return found

    for host in (n1, n2):
        host.start(*configurations(host))
    lan.run(3.0)
    for _ in range(25):
        concerned = ""
        if chance.random() < 0.3:
            is_alone = not is_alone
        else:
            concerned = chance.choice(sorted({name for name in numbers if name not in kept}))
            if concerned in where and chance.random() < 0.3:
                del where[concerned]
            else:
                where[concerned] = chance.choice([51, 52])
        holders = {name: lan.holders(address) for name, address in numbers.items() if name != concerned}
        for host in chance.sample([n1, n2], 2):
            host.configure(*configurations(host))
            for _ in range(chance.randrange(6)):
                lan.run(0.02)
                assert {name: lan.holders(address) for name, address in numbers.items() if name != concerned} == holders
        lan.run(chance.choice([0.0, 0.3, 3.0]))
        if concerned:
            lan.run(3.0)
            wanted = {51: ["n1"], 52: ["n2"], 53: ["n1"]}
            assert lan.holders(numbers[concerned]) == wanted.get(where.get(concerned, 0), [])
