"""VIPs on a (simulated) kernel: held as a level, each by one owner, and nothing of the host's own is touched."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import pytest

from holdfast_api.reasons import Obstacle, State
from holdfast_speaker.engine.addresses import HeldAddresses
from holdfast_speaker.engine.ports import AddAddress, KernelAddress, Link, LinkAddress, RemoveAddress, Request
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.vrrp.instants import SECOND, Instant
from holdfast_testing.engine_lan import Lan, SimulatedHost, WatchedKernel, packed, router
from holdfast_testing.sim.routes import Route

VIP = "10.9.0.200"


def master(*addresses: str, promotes: bool = False, **fields: Any) -> tuple[Lan, SimulatedHost, SimulatedHost]:
    """n1 holds the addresses, and a client is beside it."""
    lan = Lan("n1", "client")
    n1, client = lan.hosts
    n1.kernel.interfaces[n1.eth0].promote_secondaries = promotes
    n1.start(router("web", *addresses, **fields))
    lan.until(lambda: n1.state() == "Master")
    n1.kernel.deleted.clear()
    return lan, n1, client


def own(host: SimulatedHost) -> tuple[list[Any], list[Any]]:
    """Addresses and routes that Holdfast did not make."""
    _, addresses, _ = host.kernel.dump()
    return (
        sorted((item.index, item.address, item.prefix_length) for item in addresses if not item.ours),
        sorted(
            (r.network, r.prefix_length, r.gateway or b"")
            for r in host.kernel.routes
            if not r.local and r.protocol != 72
        ),
    )


def routes_of_ours(host: SimulatedHost) -> list[Route]:
    return [route for route in host.kernel.routes if route.protocol == 72]


PROMOTES = pytest.mark.parametrize("promotes", [False, True])


@PROMOTES
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_host_has_its_addresses_and_routes_when_the_vip_goes_also_after_they_were_renewed(promotes, end):
    lan, n1, _ = master(f"{VIP}/24", "10.9.0.201/24", promotes=promotes)
    gateway = Route(n1.eth0, bytes(4), 0, gateway=packed("10.9.0.254"))
    n1.kernel.add_route(gateway)
    before = own(n1)
    n1.remove("10.9.0.1/24")
    lan.run(0.03)
    assert n1.kernel.source_for(packed("192.0.2.1")) is None
    n1.add("10.9.0.1/24")
    n1.kernel.add_route(gateway)
    lan.run(1.0)
    assert n1.kernel.source_for(packed("192.0.2.1")) == packed("10.9.0.1"), "never the VIP"
    if end == "stop":
        n1.running.stop(lan.clock.now())
    else:
        n1.die()
    lan.run(3.0)
    assert not n1.has(VIP)
    assert own(n1) == before


def test_where_the_link_has_no_prefix_a_route_comes_with_the_vip_and_goes_when_there_is_one():
    lan = Lan("n1", "client")
    n1, client = lan.hosts
    n1.add("10.77.0.1/24")
    n1.remove("10.9.0.1/24")
    n1.start(router(interface="eth0"))
    lan.until(lambda: n1.state() == "Master")
    (route,) = routes_of_ours(n1)
    assert (route.network, route.prefix_length, route.metric) == (packed("10.9.0.0"), 24, 2048)
    assert client.wire.where(packed(VIP)) == "n1"
    n1.add("10.9.0.1/24")
    lan.run(0.5)
    assert routes_of_ours(n1) == []
    assert n1.kernel.source_for(packed("10.9.0.2")) == packed("10.9.0.1")
    n1.remove("10.9.0.1/24")
    lan.run(0.05)
    assert len(routes_of_ours(n1)) == 1
    assert client.wire.where(packed(VIP)) == "n1"


@pytest.mark.parametrize("own_address", ["10.9.0.1/32", "10.9.0.1/25"])
def test_an_address_of_the_host_in_the_subnet_says_how_it_is_reached(own_address):
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.remove("10.9.0.1/24")
    n1.add(own_address)
    n1.start(router("web", f"{VIP}/24", "10.9.0.201/24", interface="eth0"))
    lan.until(lambda: n1.state() == "Master")
    assert routes_of_ours(n1) == []


def test_a_route_that_went_with_the_link_comes_back_with_the_next_renewal():
    lan = Lan("n1", "client")
    n1, client = lan.hosts
    n1.add("10.77.0.1/24")
    n1.remove("10.9.0.1/24")
    n1.start(router(interface="eth0"))
    lan.until(lambda: n1.state() == "Master")
    n1.kernel.routes.remove(lambda route: route.protocol == 72)
    lan.run(0.4)
    assert client.wire.where(packed(VIP)) == "n1"


# ----- one owner at a time -----

A, B, C = "10.9.0.201/24", "10.9.0.202/24", "10.9.0.203/24"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([("aa", 51, [A]), ("bb", 52, [C, B])], [("aa", 51, [A, B]), ("bb", 52, [C])]),
        ([("aa", 51, [A, B]), ("bb", 52, [C])], [("aa", 51, [A]), ("bb", 52, [C, B])]),
        ([("aa", 51, [A]), ("bb", 52, [B])], [("aa", 51, [B]), ("bb", 52, [A])]),
        (
            [("aa", 51, [A]), ("bb", 52, [B]), ("cc", 53, [C])],
            [("aa", 51, [B]), ("bb", 52, [C]), ("cc", 53, [A])],
        ),
        ([("aa", 51, [A]), ("bb", 52, [B])], [("aa", 51, [A, B])]),
        ([("aa", 51, [A, B])], [("zz", 51, [B, A])]),
        ([("aa", 51, [A])], [("aa", 51, ["10.9.0.201/32"])]),
    ],
    ids=["to an older", "to a newer", "swapped", "in a circle", "from a removed one", "renamed", "another length"],
)
def test_what_is_wanted_before_and_after_an_edit_never_leaves_the_kernel(before, after):
    lan = Lan("n1", "n2", "client")
    n1, n2, client = lan.hosts

    def version(of, priority):
        return [router(name, *addresses, vrid=vrid, priority=priority) for name, vrid, addresses in of]

    n1.start(*version(before, 110))
    lan.run(3.0)
    n2.start(*version(before, 100))
    lan.run(2.0)
    n1.kernel.deleted.clear()
    for host, priority in ((n2, 100), (n1, 110)):
        host.configure(*version(after, priority))
        lan.run(0.2)
    lan.run(3.0)
    wanted = [text.partition("/")[0] for _, _, addresses in after for text in addresses]
    assert n1.kernel.deleted == []
    assert {address: lan.holders(address) for address in wanted} == {address: ["n1"] for address in wanted}
    assert {client.wire.where(packed(address)) for address in wanted} == {"n1"}
    for name, _, _ in after:
        assert (n1.state(name), n2.state(name)) == ("Master", "Backup")
        assert n1.running.addresses.owned(f"default/{name}") == n1.instance(name).kernel_addresses


def test_an_address_that_goes_to_a_new_virtual_ip_is_held_by_that_one_once_it_has_listened():
    lan, n1, _ = master(A, B)
    n1.configure(router("web", A), router("new", B, vrid=52))
    lan.run(0.1)
    assert "10.9.0.201" not in n1.kernel.deleted
    lan.until(lambda: n1.has("10.9.0.202"), within_seconds=3)
    assert n1.state("new") == "Master"


# ----- what somebody else does -----


def test_an_address_that_somebody_deletes_is_put_back_at_once_and_announced():
    lan, n1, client = master()
    n1.remove(f"{VIP}/32")
    lan.run(0.01)
    assert n1.has(VIP)
    assert "an address was taken away and is put back" in n1.log.messages("warning")
    assert n1.warnings == []
    assert client.wire.where(packed(VIP)) == "n1"


def test_who_takes_an_address_away_again_and_again_is_told_of_and_not_fought():
    lan, n1, _ = master()
    for _ in range(50):
        if n1.has(VIP):
            n1.remove(f"{VIP}/32")
        lan.run(0.1)
    assert len(n1.log.messages("warning")) <= 10, "five times, then once a second"
    assert "taken away again and again" in n1.warnings[0]
    lan.run(1.5)
    assert n1.has(VIP)
    lan.run(30.0)
    assert n1.warnings == []


def test_what_holdfast_itself_takes_away_is_no_attack():
    lan, n1, _ = master(A, B)
    for addresses in ((A,), (A, B), (B,), (A, B)):  # before anybody reads what the kernel says of it
        n1.configure(router("web", *addresses))
    lan.run(0.5)
    assert n1.log.messages("warning", "error") == []
    assert (n1.has("10.9.0.201"), n1.has("10.9.0.202")) == (True, True)


def test_an_address_that_somebody_puts_there_in_the_last_moment_is_not_taken_over():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(router())
    lan.run(1.0)
    assert n1.state() == "Backup"
    n1.add(f"{VIP}/32")
    n1.running.poll(Instant(lan.clock.at + SECOND))  # it has not read of it yet
    _, addresses, _ = n1.kernel.dump()
    assert [item.valid_seconds for item in addresses if item.address == packed(VIP)] == [None]
    assert n1.state() != "Master"
    lan.run(1.0)
    assert n1.instance().router.obstacles >= {Obstacle.ADDRESS_IN_USE}


@pytest.mark.parametrize("tells_protocol", [True, False], ids=["Linux 5.18", "older"])
def test_a_copy_that_somebody_put_on_the_link_is_not_ours(tells_protocol):
    lan = Lan("n1", "n2", tells_protocol=tells_protocol)
    n1, n2 = lan.hosts
    n1.start(router(priority=110))
    lan.until(lambda: n1.state() == "Master")
    n2.start(router())
    lan.run(2.0)
    n1.add(f"{VIP}/24")
    lan.run(1.0)
    assert n1.instance().router.obstacles == {Obstacle.ADDRESS_IN_USE}
    assert n2.state() == "Master"
    n1.remove(f"{VIP}/24")
    lan.run(1.0)
    assert (n1.state(), lan.holders()) == ("Backup", ["n2"])


@pytest.mark.parametrize("kind", ["lo", "no ARP", "off", "kube-ipvs0"])
def test_a_copy_where_no_neighbour_asks_is_how_hosts_take_packets_for_a_vip(kind):
    lan, n1, client = master()
    link = 1
    if kind != "lo":
        name = kind if kind == "kube-ipvs0" else "other0"
        link = n1.kernel.add_link(name, bytes((2, 9, 9, 9, 9, 9)), answers_arp=kind != "no ARP")
        n1.kernel.set_up(link, kind != "off")
    n1.add(f"{VIP}/32", link)
    lan.run(1.0)
    assert (n1.state(), client.wire.where(packed(VIP))) == ("Master", "n1")


def test_a_copy_on_another_link_with_neighbours_is_given_way_to():
    lan, n1, _ = master()
    other = n1.kernel.add_link("eth1", bytes((2, 9, 9, 9, 9, 9)))
    n1.kernel.set_up(other, True)
    n1.add(f"{VIP}/32", other)
    lan.run(0.1)
    assert n1.instance().router.obstacles == {Obstacle.ADDRESS_IN_USE}
    assert "is on eth1 already" in n1.instance().obstacle_details[Obstacle.ADDRESS_IN_USE]


# ----- what the kernel refuses, loses and forgets -----


def test_a_family_whose_renewal_is_refused_is_given_up_for_a_while_and_the_other_kept():
    lan = Lan("n1", "client")
    n1, client = lan.hosts
    n1.add("fd00::1/64", flags=2)
    n1.start(router("web", f"{VIP}/24", "fd00::200/64"))
    lan.until(lambda: n1.state() == "Master")

    def refuses_ipv6(request: Request) -> int:
        return errno.EACCES if isinstance(request, AddAddress) and len(request.address.address) == 16 else 0

    n1.kernel.refuse = refuses_ipv6
    lan.run(1.5)
    assert (n1.state(), n1.has(VIP), n1.has("fd00::200")) == ("Master", True, False)
    assert "permission denied (EACCES)" in n1.warnings[0]
    assert client.wire.where(packed(VIP)) == "n1"
    n1.kernel.refuse = lambda _request: 0
    lan.until(lambda: n1.has("fd00::200"), within_seconds=7)
    assert n1.warnings == []


def test_lost_events_and_a_dump_that_is_interrupted_cost_nothing_and_what_was_missed_is_mended():
    lan, n1, _ = master()
    n1.kernel.interrupt_dump(lambda: n1.add("10.66.0.1/32"))
    n1.remove(f"{VIP}/32")
    n1.kernel.lose_events()
    lan.run(0.1)
    assert n1.has(VIP)
    lan.run(2.0)
    assert packed("10.66.0.1") in n1.running.table.own(n1.eth0), "the second dump was whole"
    assert n1.state() == "Master"


class HalfADump:
    """A kernel that lost events, and in the middle of whose next dump everything changes."""

    def __init__(self, kernel: WatchedKernel) -> None:
        self.dumps: list[bool] = []
        self._kernel = kernel

    def changes(self) -> None:
        return None

    def next_hops(self) -> tuple[()]:
        return ()

    def dump(self) -> tuple[Any, Any, bool]:
        links, addresses, _ = self._kernel.dump()
        self.dumps.append(len(self.dumps) != 1)
        return (links, addresses, True) if self.dumps[-1] else ([], [], False)


def test_what_an_interrupted_dump_lacks_is_not_proven_to_be_gone_and_it_is_read_again():
    lan = Lan("n1")
    (n1,) = lan.hosts
    kernel = HalfADump(n1.kernel)
    held = HeldAddresses(kernel, n1.log)  # type: ignore[arg-type]
    now = lan.clock.now()
    changes = held.take_in(now)
    assert changes.gone == frozenset()
    assert packed("10.9.0.1") in held.table.own(n1.eth0)
    due = held.next_deadline()
    assert due is not None
    held.poll(due)
    assert kernel.dumps == [True, False, True]
    assert held.next_deadline() is None


@pytest.mark.parametrize("tells_protocol", [True, False], ids=["Linux 5.18", "older"])
def test_the_next_engine_goes_on_with_what_the_one_before_held(tells_protocol):
    lan = Lan("n1", "n2", tells_protocol=tells_protocol)
    n1, n2 = lan.hosts
    for number, host in enumerate(lan.hosts, start=1):
        host.add(f"fd00::{number}/64", flags=2)
    configuration = router("web", f"{VIP}/24", "fd00::200/64", priority=110)
    n1.start(configuration)
    lan.until(lambda: n1.state() == "Master")
    n2.start(router("web", f"{VIP}/24", "fd00::200/64"))
    lan.run(2.0)
    n1.kernel.deleted.clear()
    n1.start(configuration, former=n1.die())
    lan.run(3.0)
    assert n1.kernel.deleted == []
    assert (n1.state(), n2.state(), n1.log.messages("warning", "error")) == ("Master", "Backup", [])


@pytest.mark.parametrize("tells_protocol", [True, False], ids=["Linux 5.18", "older"])
def test_what_an_engine_before_held_and_nobody_wants_any_more_goes(tells_protocol):
    lan = Lan("n1", tells_protocol=tells_protocol)
    (n1,) = lan.hosts
    n1.start(router("web", A, B))
    lan.until(lambda: n1.state() == "Master")
    n1.start(router("web", A), former=n1.die())
    lan.run(0.1)
    assert (n1.has("10.9.0.201"), n1.has("10.9.0.202"), n1.state()) == (True, False, "Master")


@pytest.mark.parametrize("tells_protocol", [True, False], ids=["Linux 5.18", "older"])
@PROMOTES
@pytest.mark.parametrize("renewed", [False, True], ids=["own address first", "own address renewed"])
def test_a_subnet_that_an_older_engine_put_there_becomes_a_host_address(tells_protocol, promotes, renewed):
    lan = Lan("n1", "client", tells_protocol=tells_protocol)
    n1, client = lan.hosts
    n1.kernel.interfaces[n1.eth0].promote_secondaries = promotes
    if renewed:
        n1.remove("10.9.0.1/24")
    n1.kernel.add_address(n1.eth0, packed(VIP), 24, flags=0x200, valid_seconds=1, protocol=72)
    if renewed:
        n1.add("10.9.0.1/24")
    before = own(n1)[0]
    former = PublishedRouter(
        virtual_ip="default/web", state=State.MASTER, since="", reason=None, addresses=[f"{VIP}/24"]
    )
    n1.start(router(), former=[former])
    seen = lan.probe(client, VIP, 3.0)
    assert seen == {"n1": 300}
    _, addresses, _ = n1.kernel.dump()
    assert [item.prefix_length for item in addresses if item.address == packed(VIP)] == [32]
    n1.running.stop(lan.clock.now())
    lan.run(3.0)
    if tells_protocol:
        assert own(n1)[0] == before
    assert n1.has("10.9.0.1"), "the host's own address stays"


def test_a_subnet_of_an_older_engine_that_cannot_be_removed_is_kept_by_every_engine_after_it():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.remove("10.9.0.1/24")
    n1.kernel.add_address(n1.eth0, packed(VIP), 24, flags=0x200, valid_seconds=1, protocol=72)
    n1.add("10.9.0.1/24")  # a secondary of it, on a host that promotes none
    apply = n1.kernel.apply

    def in_a_container(requests: Sequence[Request]) -> list[int]:
        return [
            errno.EROFS if isinstance(request, RemoveAddress) and request.keeps_others else apply([request])[0]
            for request in requests
        ]

    n1.kernel.apply = in_a_container
    left = [
        PublishedRouter(virtual_ip="default/web", state=State.MASTER, since="", reason=None, addresses=[f"{VIP}/24"])
    ]
    for _ in range(3):
        n1.start(router(), former=left)
        lan.run(3.0)
        assert n1.state() == "Master"
        assert n1.has("10.9.0.1"), "the host's own address stays"
        left = n1.die()


def test_dumps_that_lack_an_address_again_and_again_do_not_take_it_away():
    lan, n1, _ = master()
    dump = n1.kernel.dump

    def interrupted() -> tuple[Sequence[Link], Sequence[LinkAddress], bool]:
        links, addresses, _ = dump()
        return links, [item for item in addresses if item.address != packed(VIP)], False

    n1.kernel.dump = interrupted
    n1.kernel.lose_events()
    lan.run(60.0)
    assert n1.kernel.deleted == []
    assert n1.warnings == []


def test_an_address_that_is_there_already_is_refused_and_not_renewed_in_passing():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start()
    key = KernelAddress(n1.eth0, packed(VIP), 32)
    n1.kernel.add_address(n1.eth0, packed(VIP), 32)
    assert n1.running.addresses.give("default/web", [key], {}, lan.clock.now()) == {key: errno.EEXIST}
    assert n1.running.addresses.owned("default/web") == frozenset()
