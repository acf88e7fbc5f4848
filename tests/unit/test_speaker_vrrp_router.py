"""What a virtual router goes on from in another process."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast_api.reasons import Health
from holdfast_speaker.vrrp.actions import AnnounceAddresses, SendAdvertisement
from holdfast_speaker.vrrp.configuration import Configuration, Family
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant, master_down_interval, skew_time
from holdfast_speaker.vrrp.packet import Advertisement, decode
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_speaker.vrrp.states import Master

NOW = Instant(100 * SECOND)


def router(version: int, interval: Duration, **settings: Any) -> VirtualRouter:
    family = Family(bytes((10, 0, 0, 1)), (bytes((10, 0, 0, 200)),), (bytes((224, 0, 0, 18)),))
    return VirtualRouter(Configuration(51, (family,), version=version, interval=interval, priority=192, **settings))


@pytest.mark.parametrize(
    ("version", "interval", "silence"),
    [
        (3, Duration(10 * MILLISECOND), 3 * SECOND + SECOND // 4),
        (3, Duration(2 * SECOND), 6 * SECOND + SECOND // 2),
        (2, SECOND, 3 * SECOND + SECOND // 4),
    ],
)
def test_a_backup_that_is_restarted_has_the_patience_that_a_hand_over_may_have_asked_for(
    version: int, interval: Duration, silence: int
) -> None:
    """The Master may have said to the process before that it hands over: 3 times 1 s and the Skew_Time of 192."""
    backup = router(version, interval)
    backup.resume_as_backup(NOW)
    assert backup.next_deadline() == NOW + silence
    assert backup.poll(Instant(NOW + silence - 1)) == ()
    backup.poll(Instant(NOW + silence))
    assert backup.holds_addresses


@pytest.mark.parametrize(
    ("version", "interval", "asked"), [(3, Duration(100 * MILLISECOND), SECOND), (3, Duration(2 * SECOND), 2 * SECOND)]
)
def test_who_hands_over_asks_for_patience_twice(version: int, interval: Duration, asked: int) -> None:
    master = router(version, interval)
    master.resume_as_master(NOW)
    said = [action for action in master.hand_over(NOW) if isinstance(action, SendAdvertisement)]
    heard = [decode(sent.payload, sent.source, sent.destination, 255) for sent in said]
    assert [(advertisement.priority, advertisement.interval) for advertisement in heard] == [(192, asked)] * 2
    assert master.holds_addresses


def test_a_recovered_service_begins_no_quiet_period_as_the_link_was_up_all_the_time() -> None:
    releasing = router(3, SECOND, release_when_failing=True, quiet_period=Duration(10 * SECOND))
    releasing.start(NOW, Health.FAILING)
    releasing.report_health(Health.HEALTHY, NOW)
    assert releasing.next_deadline() == NOW + master_down_interval(3, 192, SECOND)


def test_a_restart_does_not_end_a_recovery_hold() -> None:
    """ADR 0007; recovered 1 s before the restart, of a hold of 4 s."""
    hold = Duration(4 * SECOND)
    backup = router(3, SECOND, recovery_hold=hold)
    backup.resume_as_backup(NOW, recovered_at=Instant(NOW - SECOND))
    failing = Advertisement(3, 51, 12, SECOND, (bytes((10, 0, 0, 200)),), bytes((10, 0, 0, 2)))
    for second in range(3):
        backup.receive(failing, Instant(NOW + second * SECOND))
        assert backup.next_deadline() == NOW + second * SECOND + master_down_interval(3, 192, SECOND)
    backup.receive(failing, Instant(NOW + 3 * SECOND))
    assert backup.next_deadline() == NOW + 3 * SECOND + skew_time(3, 192, SECOND)


def test_a_master_of_a_former_process_goes_on_announcing() -> None:
    master = router(3, SECOND)
    master.resume_as_master(NOW)
    assert isinstance(master.state, Master)
    soon = NOW + SECOND + SECOND * 51 // 256  # the MAC address may have changed meanwhile
    assert master.state.announce_at == (soon, NOW + 5 * SECOND + 60 * SECOND * 51 // 256)


def test_a_hand_over_that_takes_longer_than_a_stall_is_none_as_the_backups_were_asked_to_wait() -> None:
    peer = bytes((10, 0, 0, 2))
    family = Family(bytes((10, 0, 0, 1)), (bytes((10, 0, 0, 200)),), (peer,), frozenset({peer}))
    interval = Duration(10 * MILLISECOND)
    master = VirtualRouter(Configuration(51, (family,), priority=200, interval=interval, obey_foreign=False))
    master.resume_as_master(NOW)
    (sent,) = (action for action in master.poll(Instant(NOW + SECOND)) if isinstance(action, SendAdvertisement))
    assert sent.priority == 200
    (sent,) = (action for action in master.poll(Instant(NOW + 4 * SECOND)) if isinstance(action, SendAdvertisement))
    assert sent.priority == 50  # that is a stall


def test_a_master_that_left_an_advertisement_out_announces_a_second_later() -> None:
    """The Backup may have slept as well, taken over for want of it, and died."""
    master = router(3, Duration(100 * MILLISECOND))
    master.start(NOW, Health.HEALTHY)
    at = master.next_deadline()
    while at < NOW + 200 * SECOND:  # until only the steady announcements are left
        master.poll(at)
        at = master.next_deadline()
    state = master.state
    assert isinstance(state, Master)
    back = Instant(state.next_advertisement_at + 150 * MILLISECOND)
    assert state.announce_at[0] > back + 2 * SECOND
    master.poll(back)
    announced = []
    at = master.next_deadline()
    while at < back + 2 * SECOND:
        announced += [at for action in master.poll(at) if isinstance(action, AnnounceAddresses)]
        at = master.next_deadline()
    assert announced == [back + SECOND]


def late_by(master: VirtualRouter, lateness: int) -> int:
    """The interval, in milliseconds, that an advertisement says which leaves that late, in milliseconds."""
    assert isinstance(master.state, Master)
    (sent,) = (
        action
        for action in master.poll(Instant(master.state.next_advertisement_at + lateness * MILLISECOND))
        if isinstance(action, SendAdvertisement)
    )
    heard = decode(sent.payload, sent.source, sent.destination, 255)
    return heard.interval // MILLISECOND


def a_master(version: int = 3, milliseconds: int = 100) -> VirtualRouter:
    master = router(version, Duration(milliseconds * MILLISECOND))
    master.start(NOW, Health.HEALTHY)
    master.poll(master.next_deadline())
    assert isinstance(master.state, Master)
    return master


@pytest.mark.parametrize(
    ("lateness", "says"), [(0, 100), (25, 100), (26, 140), (41, 160), (199, 300), (290, 400), (790, 400)]
)
def test_a_master_that_is_late_says_a_longer_interval(lateness: int, says: int) -> None:
    """In steps of 20 ms, the whole centiseconds of a quarter; at most four times its own."""
    master = a_master()
    if lateness < 200:
        assert late_by(master, lateness) == says
    else:  # it was late before: else that is a stall
        late_by(master, 199)
        assert late_by(master, lateness) == says


def a_master_among_known_members() -> VirtualRouter:
    peer = bytes((10, 0, 0, 2))
    family = Family(bytes((10, 0, 0, 1)), (bytes((10, 0, 0, 200)),), (peer,), frozenset({peer}))
    interval = Duration(100 * MILLISECOND)
    master = VirtualRouter(Configuration(51, (family,), priority=200, interval=interval, obey_foreign=False))
    master.resume_as_master(NOW, proven=frozenset({4}))
    while (at := master.next_deadline()) is not None and at < NOW + 3 * SECOND:
        master.poll(at)
    return master


@pytest.mark.parametrize(("lateness", "says"), [(1999, 400), (2001, 100)])
def test_what_stood_still_for_more_than_two_seconds_was_not_slow(lateness: int, says: int) -> None:
    assert late_by(a_master_among_known_members(), lateness) == says


def test_a_master_that_is_in_time_again_says_its_own_interval_within_a_minute() -> None:
    master = a_master()
    assert late_by(master, 60) == 160
    intervals = [late_by(master, 0) for _ in range(700)]
    assert intervals[:299] == [160] * 299
    assert intervals[610:] == [100] * 90


def test_a_late_master_of_version_2_says_its_own_interval_as_others_refuse_another() -> None:
    master = a_master(2, 1000)
    assert late_by(master, 900) == 1000


@pytest.mark.parametrize(("before", "is_a_stall"), [(0, True), (150, False)])
def test_a_late_master_stood_still_only_if_its_backups_have_waited_for_the_interval_that_it_says(
    before: int, is_a_stall: bool
) -> None:
    """Among known members one that stood still asks with 50."""
    master = a_master_among_known_members()
    late_by(master, before)
    assert master.effective_priority == 200
    late_by(master, 250)
    assert master.effective_priority == (50 if is_a_stall else 200)


@pytest.mark.parametrize(("silence", "speaks"), [(3.9, True), (4.1, False)])
def test_an_engine_that_hung_and_was_replaced_speaks_before_its_backups_miss_it(silence: float, speaks: bool) -> None:
    """The process before was seen to run at NOW: nobody took over before three intervals and a Skew_Time from then."""
    interval = Duration(2 * SECOND)
    master = router(3, interval)
    master.resume_as_master(NOW)
    sent = master.poll(Instant(NOW + int(silence * interval)))
    assert any(isinstance(action, SendAdvertisement) for action in sent) is speaks


@pytest.mark.parametrize(("proven", "hears"), [(None, {4}), (frozenset(), set()), (frozenset({4}), {4})])
def test_a_former_process_that_does_not_tell_its_proof_had_it(proven: frozenset[int] | None, hears: set[int]) -> None:
    for resume in (VirtualRouter.resume_as_master, VirtualRouter.resume_as_backup):
        resumed = router(3, SECOND)
        resume(resumed, NOW, None, proven)
        assert resumed.proven == hears
