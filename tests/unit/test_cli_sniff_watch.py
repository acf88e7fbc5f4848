"""Packets in, changes out: what is told, what is not told again, and when."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_cli.sniff.changes import (
    AddressAnnounced,
    AddressesChanged,
    Band,
    Change,
    Claim,
    FellSilent,
    IntervalChanged,
    InvalidHeard,
    MasterChanged,
    MoveReason,
    OneMaster,
    PriorityChanged,
    Released,
    RouterHeard,
    TwoMasters,
)
from holdfast_cli.sniff.packets import Advertisement, ChecksumForm, Fault, FaultKind, Malformed, Resolution, Role
from holdfast_cli.sniff.watch import Watch

MILLISECOND = 1_000_000
START = 1_800_000_000_000 * MILLISECOND
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
VIP = "10.0.0.200"
MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


def advert(source: str, at: float, priority: int = 100, **fields: Any) -> Advertisement:
    """`at` in milliseconds."""
    given_fields = {
        "link": "eth0",
        "destination": "224.0.0.18",
        "mac": MAC_A,
        "ttl": 255,
        "version": 3,
        "virtual_router_id": 51,
        "interval_milliseconds": 100,
        "addresses": (VIP,),
        "checksum": ChecksumForm.PSEUDO_HEADER,
        **fields,
    }
    return Advertisement(at=START + int(at * MILLISECOND), source=source, priority=priority, **given_fields)


def steady(source: str, first: int, last: int, priority: int = 100, **fields: Any) -> list[Advertisement]:
    return [advert(source, at, priority, **fields) for at in range(first, last + 1, 100)]


def told(*packets: Any, until: float | None = None) -> list[Change]:
    """All changes but that the first router was heard."""
    watch = Watch()
    changes = [change for packet in packets for change in watch.hear(packet)]
    if until is not None:
        changes += watch.tick(START + int(until * MILLISECOND))
    assert isinstance(changes[0], RouterHeard)
    return changes[1:]


def after(change: Change) -> float:
    """Milliseconds since the start."""
    return round((change.at - START) / MILLISECOND, 3)


def of(changes: list[Change], *kinds: type) -> list[Any]:
    return [change for change in changes if isinstance(change, kinds)]


# ----- routers and Masters -----


def test_the_first_advertisement_of_a_router_is_told_with_all_its_fields() -> None:
    watch = Watch()
    (change,) = watch.hear(advert(A, 0, 150, version=2, interval_milliseconds=1000, checksum=ChecksumForm.NOTHING))
    assert isinstance(change, RouterHeard)
    assert (change.source, change.version, change.priority, change.band) == (A, 2, 150, Band.HEALTHY)
    assert (change.interval_milliseconds, change.addresses, change.family) == (1000, (VIP,), 4)
    assert change.silent_milliseconds is None


def test_what_goes_on_as_before_is_not_told() -> None:
    assert told(*steady(A, 0, 5000)) == []


def test_a_master_that_falls_silent_is_told_when_a_backup_of_its_priority_would_take_over() -> None:
    changes = told(*steady(A, 0, 1000, priority=128), until=1351)
    assert changes == [
        FellSilent(
            at=changes[0].at,
            link="eth0",
            virtual_router_id=51,
            family=4,
            source=A,
            priority=128,
            interval_milliseconds=100,
            silent_milliseconds=350.0,
        )
    ]
    assert after(changes[0]) == 1350
    assert told(*steady(A, 0, 1000, priority=128), until=1349) == []


def test_version_2_has_a_skew_in_seconds() -> None:
    packet = advert(A, 0, 128, version=2, interval_milliseconds=1000)
    assert told(packet, until=3499) == []
    assert after(told(packet, until=3600)[0]) == 3500


def test_a_takeover_from_a_silent_master_is_told_with_the_gap() -> None:
    changes = told(*steady(A, 0, 1000, 150), *steady(B, 1361, 2000))
    assert [type(change) for change in changes] == [FellSilent, RouterHeard, MasterChanged]
    moved = of(changes, MasterChanged)[0]
    assert (moved.from_source, moved.to_source, moved.reason) == (A, B, MoveReason.SILENT)
    assert (moved.from_priority, moved.to_priority, moved.gap_milliseconds) == (150, 100, 361.0)


def test_a_backup_with_a_shorter_skew_takes_over_before_the_masters_own_would_have_passed() -> None:
    changes = told(*steady(A, 0, 1000, 60), advert(B, 1304, 50), until=1400)
    assert [type(change) for change in changes] == [FellSilent, RouterHeard, MasterChanged]
    assert after(changes[0]) == 1304


def test_a_released_master_is_not_silent_as_well() -> None:
    changes = told(*steady(A, 0, 1000, 150), advert(A, 1050, 0), advert(A, 1051, 0), advert(B, 1111), until=1300)
    assert [type(change) for change in changes] == [Released, RouterHeard, MasterChanged]
    assert of(changes, Released)[0].from_priority == 150
    moved = of(changes, MasterChanged)[0]
    assert (moved.reason, moved.from_priority, moved.gap_milliseconds) == (MoveReason.RELEASED, 150, 60.0)


def test_a_release_is_told_also_of_a_router_that_was_not_heard_before() -> None:
    watch = Watch()
    (released,) = watch.hear(advert(A, 0, 0))
    assert isinstance(released, Released)
    assert released.from_priority is None
    moved = of(watch.hear(advert(B, 60)), MasterChanged)[0]
    assert (moved.from_source, moved.from_priority, moved.reason) == (A, None, MoveReason.RELEASED)


def test_a_master_that_comes_back_is_heard_again() -> None:
    changes = told(*steady(A, 0, 1000), *steady(A, 4000, 5000))
    assert [type(change) for change in changes] == [FellSilent, RouterHeard]
    assert of(changes, RouterHeard)[0].silent_milliseconds == 3000.0


def test_a_router_that_was_master_before_is_told_as_master_again() -> None:
    changes = told(*steady(A, 0, 1000), *steady(B, 1400, 3000), *steady(A, 3350, 4000))
    assert [type(change) for change in changes] == [FellSilent, RouterHeard, MasterChanged, FellSilent, MasterChanged]
    moved = of(changes, MasterChanged)[-1]
    assert (moved.from_source, moved.to_source) == (B, A)


def test_a_higher_priority_takes_over_without_a_conflict() -> None:
    changes = told(*steady(A, 0, 1000, 100), *steady(B, 1050, 3000, 150))
    assert [type(change) for change in changes] == [RouterHeard, MasterChanged]
    moved = of(changes, MasterChanged)[0]
    assert (moved.reason, moved.gap_milliseconds) == (MoveReason.HIGHER_PRIORITY, 50.0)


def test_at_the_same_priority_the_higher_address_takes_over() -> None:
    assert of(told(advert(B, 0), advert(C, 50)), MasterChanged)[0].reason is MoveReason.HIGHER_ADDRESS


@pytest.mark.parametrize(("low", "high"), [("10.0.0.9", "10.0.0.10"), ("fe80::9", "fe80::10")])
def test_addresses_are_compared_as_numbers(low: str, high: str) -> None:
    assert of(told(advert(high, 0), advert(low, 50)), TwoMasters)
    assert of(told(advert(low, 0), advert(high, 50)), MasterChanged)


# ----- several Masters -----


def test_two_masters_are_told_once_and_when_it_is_over() -> None:
    both = sorted([*steady(A, 0, 1000, 150), *steady(B, 50, 650, 100)], key=lambda packet: packet.at)
    changes = told(*both, *steady(A, 1100, 2000, 150))
    assert [type(change) for change in changes] == [RouterHeard, TwoMasters, OneMaster]
    assert of(changes, TwoMasters)[0].masters == (Claim(A, 150), Claim(B, 100))
    alone = of(changes, OneMaster)[0]
    assert (alone.source, alone.lasted_milliseconds) == (A, 600.0)


def test_an_old_master_that_does_not_obey_the_new_one_is_told() -> None:
    changes = told(*steady(A, 0, 1000, 100), advert(B, 1050, 150), advert(A, 1100, 100))
    assert [type(change) for change in changes] == [RouterHeard, MasterChanged, TwoMasters]
    assert of(changes, TwoMasters)[0].masters[0].source == B


def test_a_third_master_is_told_too() -> None:
    conflicts = of(told(advert(C, 0), advert(B, 10), advert(A, 20), advert(B, 30), advert(A, 40)), TwoMasters)
    assert [len(conflict.masters) for conflict in conflicts] == [2, 3]


def test_a_conflict_ends_with_a_release() -> None:
    changes = told(advert(A, 0, 150), advert(B, 50), advert(A, 100, 150), advert(B, 150), advert(B, 200, 0))
    assert [type(change) for change in changes] == [RouterHeard, TwoMasters, Released, OneMaster]
    assert of(changes, OneMaster)[0].source == A
    assert of(changes, OneMaster)[0].lasted_milliseconds == 150.0


def test_the_loser_becomes_master_when_the_winner_falls_silent() -> None:
    both = sorted([*steady(A, 0, 1000, 150), *steady(B, 50, 2000, 100)], key=lambda packet: packet.at)
    changes = told(*both)
    assert [type(change) for change in changes] == [RouterHeard, TwoMasters, FellSilent, OneMaster, MasterChanged]
    assert of(changes, MasterChanged)[0].to_source == B


# ----- what a Master says -----


def test_a_failing_priority_is_told_with_its_band() -> None:
    (change,) = told(advert(A, 0, 200), advert(A, 100, 39), advert(A, 200, 39))
    assert isinstance(change, PriorityChanged)
    assert (change.from_priority, change.to_priority) == (200, 39)
    assert (change.from_band, change.to_band) == (Band.HEALTHY, Band.FAILING)


def test_another_interval_is_told_and_is_waited_for() -> None:
    changes = told(*steady(A, 0, 1000), advert(A, 1100, interval_milliseconds=1000), until=4000)
    assert len(changes) == 1
    (change,) = of(changes, IntervalChanged)
    assert (change.from_milliseconds, change.to_milliseconds) == (100, 1000)


def test_other_addresses_are_told() -> None:
    (change,) = told(advert(A, 0), advert(A, 100, addresses=(VIP, "10.0.0.201")))
    assert isinstance(change, AddressesChanged)
    assert (change.from_addresses, change.to_addresses) == ((VIP,), (VIP, "10.0.0.201"))


@pytest.mark.parametrize("other", [{"link": "eth1"}, {"virtual_router_id": 52}])
def test_virtual_routers_are_told_apart(other: dict[str, Any]) -> None:
    changes = told(advert(A, 0), advert(B, 50, **other), advert(A, 100), advert(B, 150, **other))
    assert [type(change) for change in changes] == [RouterHeard]


def test_both_families_are_told_apart_and_both_versions_are_not() -> None:
    changes = told(advert(A, 0), advert("fe80::1", 50))
    assert [type(change) for change in changes] == [RouterHeard]
    assert of(told(advert(B, 0), advert(A, 50, version=2, interval_milliseconds=1000)), TwoMasters)


def test_silence_of_several_is_told_in_its_order() -> None:
    watch = Watch()
    for vrid, at in ((51, 30), (52, 10), (53, 20)):
        watch.hear(advert(A, at, virtual_router_id=vrid))
    assert watch.deadline() == START + int((10 + 300 + 156 / 256 * 100) * MILLISECOND)
    silent = watch.tick(START + 1000 * MILLISECOND)
    assert [change.virtual_router_id for change in silent if isinstance(change, FellSilent)] == [52, 53, 51]
    assert watch.deadline() is None
    assert watch.virtual_routers == 3


# ----- invalid packets -----


def malformed(at: float, source: str = C, **fields: Any) -> Malformed:
    return Malformed(
        at=START + int(at * MILLISECOND),
        link="eth0",
        protocol="VRRP",
        source=source,
        destination="224.0.0.18",
        mac=MAC_B,
        ttl=64,
        faults=(Fault(FaultKind.TIME_TO_LIVE, "TTL 64, not 255"),),
        virtual_router_id=51,
        **fields,
    )


def test_invalid_packets_are_told_once_a_minute_with_their_number() -> None:
    watch = Watch()
    changes = [change for at in range(0, 61_000, 1000) for change in watch.hear(malformed(at))]
    assert [type(change) for change in changes] == [InvalidHeard, InvalidHeard]
    assert [change.packets for change in changes if isinstance(change, InvalidHeard)] == [1, 60]


def test_invalid_packets_move_nothing() -> None:
    packets = sorted(
        [*steady(A, 0, 1000), *(malformed(at, priority=255) for at in range(5, 1000, 100))], key=lambda p: p.at
    )
    assert [type(change) for change in told(*packets)] == [InvalidHeard]


def test_a_broken_neighbour_advertisement_is_told_only_of_a_vip() -> None:
    watch = Watch()
    watch.hear(advert("fe80::1", 0, addresses=("fe80::200",)))
    assert watch.hear(malformed(1, address="fe80::300")) == []
    assert [type(change) for change in watch.hear(malformed(2, address="fe80::200"))] == [InvalidHeard]


# ----- ARP and neighbour discovery -----


def claim(at: float, mac: str = MAC_A, role: Role = Role.ANNOUNCEMENT, address: str = VIP) -> Resolution:
    moment = START + int(at * MILLISECOND)
    return Resolution(at=moment, link="eth0", protocol="ARP", role=role, address=address, mac=mac, source=address)


def test_a_burst_of_announcements_is_one_change() -> None:
    changes = told(advert(A, 0), *(claim(at) for at in (1, 2, 3, 4)))
    assert len(changes) == 1
    (change,) = of(changes, AddressAnnounced)
    assert (change.previous_mac, change.virtual_router_id) == (None, 51)


def test_announcements_later_and_from_another_mac_are_changes() -> None:
    changes = of(told(advert(A, 0), claim(1), claim(5001), claim(5002, MAC_B)), AddressAnnounced)
    assert [(after(change), change.mac, change.previous_mac) for change in changes] == [
        (1, MAC_A, None),
        (5001, MAC_A, MAC_A),
        (5002, MAC_B, MAC_A),
    ]


def test_an_answer_is_a_change_only_from_another_mac() -> None:
    answers = (claim(2, role=Role.ANSWER), claim(3, MAC_B, Role.ANSWER), claim(4, MAC_B, Role.ANSWER))
    changes = of(told(advert(A, 0), claim(1), *answers), AddressAnnounced)
    assert [(change.role, change.mac) for change in changes] == [(Role.ANNOUNCEMENT, MAC_A), (Role.ANSWER, MAC_B)]


def test_questions_and_other_addresses_are_no_changes() -> None:
    assert told(advert(A, 0), claim(1, role=Role.QUESTION), claim(2, address="10.0.0.77")) == []


def test_a_virtual_router_mac_is_enough_to_know_a_vip() -> None:
    (change,) = Watch().hear(claim(0, "00:00:5e:00:01:33"))
    assert isinstance(change, AddressAnnounced)
    assert change.virtual_router_id is None


def test_what_concerns_no_virtual_router_is_told_apart() -> None:
    watch = Watch()
    assert not watch.concerns(claim(0))
    watch.hear(advert(A, 1))
    assert watch.concerns(claim(2))
    assert watch.concerns(claim(3, role=Role.QUESTION))
    assert watch.concerns(malformed(4))


# ----- whatever is heard -----

moments = st.integers(0, 600)
speakers = st.tuples(
    moments, st.sampled_from([A, B, C]), st.sampled_from([0, 1, 49, 100, 150, 255]), st.sampled_from([10, 100])
)


@given(st.lists(speakers, max_size=40))
def test_the_story_has_no_gap_whatever_is_heard(script: list[tuple[int, str, int, int]]) -> None:
    watch = Watch()
    changes: list[Change] = []
    now = 0
    for pause, source, priority, interval in script:
        now += pause
        changes += watch.hear(advert(source, now, priority, interval_milliseconds=interval))
    changes += watch.tick(START + 10**6 * MILLISECOND)
    assert all(one.at <= other.at for one, other in itertools.pairwise(changes))
    assert watch.deadline() is None
    master = ""
    for change in changes:
        match change:
            case RouterHeard() if not master:
                master = change.source
            case Released() if not master:
                master = change.source
            case MasterChanged():
                assert change.from_source == master
                assert change.to_source != master
                master = change.to_source
            case FellSilent():
                assert change.source == master
    assert len(of(changes, OneMaster)) <= len(of(changes, TwoMasters))
