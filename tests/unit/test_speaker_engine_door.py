"""What an engine holds is bounded by what it was started with, whoever tells it another: the door of the engine."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from holdfast_api.errors import ConfigurationError
from holdfast_api.reasons import Obstacle, Reason, State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine import reports
from holdfast_speaker.engine.door import Door
from holdfast_speaker.engine.journal import RecordedEngine
from holdfast_speaker.engine.replay import play
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_testing.engine_lan import Lan, SimulatedHost, packed, router
from holdfast_testing.sim.routes import Route

VIP, OUTSIDE, GATEWAY = "10.9.0.200", "10.9.1.200", "10.9.0.254"
ALLOWED = Door(("10.9.0.0/24", "fd00::/64"))
IN_A_POD = Door(refuses_next_hops=True)
NOT_PERMITTED = {Obstacle.ADDRESS_NOT_PERMITTED}


def started(*addresses: str, door: Door = ALLOWED, former: Sequence[PublishedRouter] = ()) -> tuple[Lan, SimulatedHost]:
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(router("web", *addresses), door=door, former=former)
    return lan, n1


def lead_through(host: SimulatedHost, gateway: str, link: int | None = None) -> None:
    """`ip route add default via`."""
    width = len(packed(gateway))
    route = Route(
        link or host.eth0, bytes(width), 0, metric=1024 if width == 16 else 0, scope=0, gateway=packed(gateway)
    )
    assert host.kernel.add_route(route) == 0


def lead_no_longer(host: SimulatedHost) -> None:
    """`ip route del default`."""
    assert host.kernel.remove_route(host.eth0, bytes(4), 0, 0) == 0


# ----- the allowed networks -----


@pytest.mark.parametrize(
    "addresses",
    [(f"{OUTSIDE}/24",), (f"{VIP}/24", f"{OUTSIDE}/24"), ("fd00::c8/64", "fd01::c8/64")],
    ids=["alone", "beside one that is allowed", "IPv6"],
)
def test_a_virtual_ip_with_an_address_outside_is_refused_whole_and_says_why(addresses):
    lan, n1 = started(*addresses)
    n1.configure(router("web", *addresses), router("other", "10.9.0.201/24", vrid=52))
    lan.run(3.0)
    outside = next(text.partition("/")[0] for text in addresses if text.startswith((OUTSIDE, "fd01")))
    assert lan.holders(outside) == lan.holders(VIP) == []
    assert n1.instance().router.obstacles == NOT_PERMITTED
    status = reports.router_status(n1.instance(), [], host_ports_exposed=False)
    assert (
        status.obstacle_detail
        == f"{outside} is in none of the networks that this engine may hold: 10.9.0.0/24, fd00::/64"
    )
    assert lan.holders("10.9.0.201") == ["n1"], "the rest of the configuration is in force"
    told = [message for message in n1.log.messages("error") if outside in message]
    assert len(told) == 1


def test_whoever_asks_for_a_switchover_of_what_is_refused_is_told_why():
    lan, n1 = started(f"{OUTSIDE}/24")
    with pytest.raises(ConfigurationError, match="AddressNotPermitted"):
        n1.running.switchover("web", "n1", lan.clock.now())


def test_the_owner_of_an_address_outside_does_not_speak_for_it():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.add(f"{OUTSIDE}/24")
    n1.start(router("web", f"{OUTSIDE}/24", priority=255), door=ALLOWED)
    lan.run(1.0)
    assert n1.state() == "Initialize"


def test_without_networks_every_address_may_be_held():
    lan, n1 = started(f"{OUTSIDE}/24", door=Door())
    n1.add("10.9.1.1/24")
    lan.run(2.0)
    assert lan.holders(OUTSIDE) == ["n1"]


def test_an_edit_that_asks_for_more_is_refused_and_what_runs_goes_on():
    lan, n1 = started(f"{VIP}/24")
    lan.run(2.0)
    for _ in range(2):
        n1.configure(router("web", f"{VIP}/24", f"{OUTSIDE}/24", priority=200))
        lan.run(1.0)
    assert (lan.holders(VIP), lan.holders(OUTSIDE), n1.state()) == (["n1"], [], "Master")
    assert n1.warnings == [
        f"an edit is refused: {OUTSIDE} is in none of the networks that this engine may hold: 10.9.0.0/24, fd00::/64"
    ]
    assert len(n1.log.messages("error")) == 1
    assert [item.addresses for item in n1.running.configuration.virtual_routers] == [[f"{VIP}/24"]]
    n1.configure(router("web", f"{VIP}/24", "10.9.0.201/24"))
    lan.run(1.0)
    assert (n1.warnings, lan.holders("10.9.0.201")) == ([], ["n1"])


def test_what_a_former_engine_held_outside_is_gone_at_once():
    lan, n1 = started(f"{VIP}/24", door=Door())
    n1.configure(router("web", f"{VIP}/24"), router("other", f"{OUTSIDE}/24", vrid=52, interface="eth0"))
    lan.run(2.0)
    assert lan.holders(OUTSIDE) == ["n1"]
    left = n1.die()
    assert {item.state for item in left} == {State.MASTER}
    n1.start(
        router("web", f"{VIP}/24"),
        router("other", f"{OUTSIDE}/24", vrid=52, interface="eth0"),
        former=left,
        door=ALLOWED,
    )
    assert (lan.holders(VIP), lan.holders(OUTSIDE)) == (["n1"], [])
    lan.run(2.0)
    assert (lan.holders(VIP), lan.holders(OUTSIDE)) == (["n1"], [])
    assert n1.instance("other").router.obstacles == NOT_PERMITTED


def test_what_is_refused_takes_no_virtual_router_id_and_no_source_from_others():
    lan, n1 = started(f"{VIP}/24")
    lan.run(2.0)
    n1.configure(router("web", f"{VIP}/24"), router("a", "10.9.0.1/24", f"{OUTSIDE}/24"))
    lan.run(2.0)
    assert (n1.state(), lan.holders(VIP)) == ("Master", ["n1"])
    assert n1.instance().sources == {4: packed("10.9.0.1")}
    assert packed("10.9.0.1") not in n1.running.vips, "the planner is told that it is the host's own"


def test_what_is_refused_has_no_virtual_router_id_from_the_beginning():
    lan = Lan("n1")
    (n1,) = lan.hosts
    n1.start(router("a", "10.9.0.1/24", f"{OUTSIDE}/24"), router("web", f"{VIP}/24"), door=ALLOWED)
    lan.run(3.0)
    assert (n1.state(), lan.holders(VIP)) == ("Master", ["n1"])


def test_the_api_server_is_never_taken_also_where_it_was_held():
    lan, n1 = started(f"{VIP}/24", door=Door())
    lan.run(2.0)
    left = n1.die()
    n1.start(router("web", f"{VIP}/24"), former=left, door=Door(api_server_addresses=(VIP,)))
    assert lan.holders(VIP) == []
    assert (
        reports.router_status(n1.instance(), [], host_ports_exposed=False).obstacle_detail
        == f"{VIP} is the API server's"
    )


def test_the_door_is_in_the_journal_and_decides_the_same_again():
    lan = Lan("n1")
    (n1,) = lan.hosts
    recorded = RecordedEngine("n1", n1.kernel, n1.wire, lan.clock, n1.log, door=ALLOWED)
    for addresses in (["10.9.0.200/24"], ["10.9.0.200/24", f"{OUTSIDE}/24"]):
        configuration = SpeakerConfiguration(node_name="n1", virtual_routers=[router("web", *addresses)])
        recorded.configure(configuration, lan.clock.now())
    lead_through(n1, VIP)
    recorded.take_in(lan.clock.now())
    for _ in range(20):
        due = recorded.engine.next_deadline()
        assert due is not None
        lan.clock.at = due
        recorded.poll(due)
    lines = recorded.journal.lines()
    assert b'"allowed_networks":["10.9.0.0/24","fd00::/64"]' in lines[0]
    played = list(play(lines))
    assert [one.difference for one in played] == [""] * len(played)
    assert any(b"Master" in one.replayed for one in played)
    assert all(one.recorded == one.replayed for one in played)


# ----- next hops -----


def test_in_a_pod_a_next_hop_of_the_host_is_refused_until_no_route_leads_through_it():
    lan = Lan("n1")
    (n1,) = lan.hosts
    lead_through(n1, GATEWAY)
    n1.start(router("web", f"{GATEWAY}/24"), door=IN_A_POD)
    lan.run(3.0)
    assert (lan.holders(GATEWAY), n1.instance().router.obstacles) == ([], NOT_PERMITTED)
    assert n1.log.messages("error") == [f"cannot run: a route of this host leads through {GATEWAY} on eth0"]
    lead_no_longer(n1)
    lan.run(3.0)
    assert lan.holders(GATEWAY) == ["n1"]


def test_elsewhere_a_next_hop_of_the_host_is_held_and_told():
    lan = Lan("n1")
    (n1,) = lan.hosts
    lead_through(n1, GATEWAY)
    n1.start(router("web", f"{GATEWAY}/24"))
    lan.run(3.0)
    assert (lan.holders(GATEWAY), n1.warnings) == (["n1"], [f"a route of this host leads through {GATEWAY} on eth0"])


def test_a_vip_that_is_held_stays_when_a_route_leads_through_it_and_that_is_told():
    lan, n1 = started(f"{GATEWAY}/24", door=IN_A_POD)
    lan.run(3.0)
    lead_through(n1, GATEWAY)
    lan.run(3.0)
    assert (lan.holders(GATEWAY), n1.warnings) == (["n1"], [f"a route of this host leads through {GATEWAY} on eth0"])
    lead_no_longer(n1)
    lan.run(1.0)
    assert n1.warnings == []


def test_a_backup_through_whose_vip_a_route_leads_takes_it_over_all_the_same_when_its_holder_dies():
    lan = Lan("n1", "n2")
    n1, n2 = lan.hosts
    n1.start(router("web", f"{GATEWAY}/24", priority=110), door=IN_A_POD)
    lan.run(2.0)
    n2.start(router("web", f"{GATEWAY}/24"), door=IN_A_POD)
    lan.run(2.0)
    lead_through(n2, GATEWAY)
    lan.run(1.0)
    left = n2.die()
    n2.start(router("web", f"{GATEWAY}/24"), door=IN_A_POD, former=left)
    lan.run(1.0)
    n1.kernel.set_up(n1.eth0, False)
    lan.run(3.0)
    assert (n2.state(), lan.holders(GATEWAY)) == ("Master", ["n2"])


def test_a_backup_that_never_heard_a_holder_gives_up_when_a_route_leads_through_its_vip():
    lan, n1 = started(f"{GATEWAY}/24", door=IN_A_POD)
    lan.run(0.05)
    assert n1.state() == "Backup"
    lead_through(n1, GATEWAY)
    lan.run(3.0)
    assert (lan.holders(GATEWAY), n1.state()) == ([], "Initialize")
    assert n1.instance().last_move.reason is Reason.ADDRESS_NOT_PERMITTED


def test_an_edit_that_adds_a_next_hop_is_refused_and_made_once_no_route_leads_through_it():
    lan, n1 = started(f"{VIP}/24", door=IN_A_POD)
    lan.run(2.0)
    lead_through(n1, GATEWAY)
    lan.run(0.5)
    n1.configure(router("web", f"{VIP}/24", f"{GATEWAY}/24"))
    lan.run(2.0)
    assert (lan.holders(VIP), lan.holders(GATEWAY)) == (["n1"], [])
    assert n1.warnings == [f"an edit is refused: a route of this host leads through {GATEWAY} on eth0"]
    lead_no_longer(n1)
    lan.run(2.0)
    assert (lan.holders(VIP), lan.holders(GATEWAY), n1.warnings) == (["n1"], ["n1"], [])


def test_a_link_local_next_hop_is_one_on_its_own_link_alone():
    lan, n1 = started("fe80::fe/64", door=IN_A_POD)
    eth1 = n1.kernel.add_link("eth1", bytes((2, 0, 0, 0, 0, 99)))
    n1.kernel.set_up(eth1, True)
    n1.configure(router("web", "fe80::fe/64", interface="eth0"))
    lead_through(n1, "fe80::fe", eth1)
    lan.run(3.0)
    assert lan.holders("fe80::fe") == ["n1"]


def test_status_tells_the_next_hops_of_each_link():
    lan, n1 = started()
    lead_through(n1, GATEWAY)
    lan.run(0.5)
    assert {link.name: link.next_hops for link in reports.link_statuses(n1.running.table, set())} == {"eth0": [GATEWAY]}


def test_what_was_refused_is_held_once_it_asks_for_what_may_be():
    lan, n1 = started(f"{OUTSIDE}/24")
    lan.run(1.0)
    n1.configure(router("web", "10.9.0.100/24"))
    lan.run(2.0)
    assert lan.holders("10.9.0.100") == ["n1"]
