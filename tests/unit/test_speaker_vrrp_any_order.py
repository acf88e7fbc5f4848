"""The laws of one virtual router: whatever happens to it, in whatever order."""

from __future__ import annotations

from collections import Counter as Multiset
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast_api.errors import ConfigurationError
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_speaker.vrrp.actions import Action, Actions, AnnounceAddresses, SendAdvertisement, Transitioned
from holdfast_speaker.vrrp.configuration import Configuration, Family, band
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import CENTISECOND, MILLISECOND, SECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, MULTICAST_GROUP_V6, Advertisement, decode
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_speaker.vrrp.states import TRANSITIONS, Backup, Initialize, Master
from holdfast_testing.virtual_lan import EPOCH

V4 = [bytes((10, 0, 0, last)) for last in (1, 2, 3)]
V6 = [bytes.fromhex("fe80") + bytes(13) + bytes((last,)) for last in (2, 1, 3)]
V4_VIP, V6_VIP = bytes((10, 0, 0, 200)), bytes.fromhex("fe80") + bytes(13) + b"\xc8"
V4_SIDE = Family(V4[0], (V4_VIP,), (MULTICAST_GROUP_V4,))
V4_TO_PEERS = Family(V4[0], (V4_VIP,), tuple(V4[1:]), frozenset(V4[1:]))
V6_SIDE = Family(V6[0], (V6_VIP,), (MULTICAST_GROUP_V6,))

configurations = st.builds(
    Configuration,
    vrid=st.just(51),
    families=st.sampled_from([(V4_SIDE,), (V6_SIDE,), (V4_SIDE, V6_SIDE), (V4_TO_PEERS,)]),
    priority=st.sampled_from([50, 100, 150, 254, 255]),
    interval=st.sampled_from([CENTISECOND, Duration(10 * CENTISECOND), SECOND]),
    nopreempt=st.booleans(),
    preempt_delay=st.sampled_from([Duration(0), SECOND]),
    release_when_failing=st.booleans(),
    recovery_hold=st.sampled_from([Duration(0), Duration(3 * SECOND)]),
    quiet_period=st.sampled_from([Duration(0), SECOND]),
)
spans = st.sampled_from([0, 1, MILLISECOND, CENTISECOND, 500 * MILLISECOND, SECOND, 5 * SECOND, 60 * SECOND])
healths = st.sampled_from(Health)


class AnyOrder(RuleBasedStateMachine):
    """One virtual router, and everything that a driver may do with it."""

    @initialize(configuration=configurations, health=healths, obstructed=st.booleans())
    def start(self, configuration: Configuration, health: Health, obstructed: bool) -> None:
        self.now = EPOCH
        self.router = VirtualRouter(configuration)
        self.state_before = self.router.state_name
        obstacles = frozenset({Obstacle.LINK_DOWN}) if obstructed else frozenset[Obstacle]()
        self.judge(self.router.start(self.now, health, obstacles))

    @rule(span=spans)
    def time_passes(self, span: int) -> None:
        self.now = Instant(self.now + span)

    @rule()
    def polled_when_due(self) -> None:
        deadline = self.router.next_deadline()
        if deadline is not None:
            self.now = max(self.now, deadline)
        self.poll()

    @rule()
    def polled_early_or_late(self) -> None:
        self.poll()

    def poll(self) -> None:
        actions = self.router.poll(self.now)
        later = self.router.next_deadline()
        assert later is None or later > self.now
        destinations = Multiset(action.destination for action in actions if isinstance(action, SendAdvertisement))
        assert all(count == 1 for count in destinations.values())
        self.judge(actions)

    @rule(
        which=st.integers(0, 2),
        priority=st.sampled_from([0, 1, 12, 49, 50, 100, 101, 254, 255]),
        interval=st.sampled_from([CENTISECOND, SECOND, Duration(4095 * CENTISECOND)]),
        ipv6=st.booleans(),
    )
    def an_advertisement_arrives(self, which: int, priority: int, interval: Duration, ipv6: bool) -> None:
        source, vip = (V6[which], V6_VIP) if ipv6 else (V4[which], V4_VIP)
        self.judge(self.router.receive(Advertisement(3, 51, priority, interval, (vip,), source), self.now))

    @rule(health=healths)
    def health_is_reported(self, health: Health) -> None:
        self.judge(self.router.report_health(health, self.now))
        assert self.router.health is health

    @rule(obstacle=st.sampled_from(sorted(set(Obstacle) - {Obstacle.STOPPED, Obstacle.SERVICE_FAILED})))
    def obstructed(self, obstacle: Obstacle) -> None:
        self.judge(self.router.obstruct(obstacle, self.now))
        assert self.router.state == Initialize()

    @rule()
    def cleared(self) -> None:
        for obstacle in sorted(self.router.obstacles - {Obstacle.SERVICE_FAILED, Obstacle.STOPPED}):
            self.judge(self.router.clear(obstacle, self.now))

    @rule(configuration=configurations)
    def reconfigured(self, configuration: Configuration) -> None:
        was_master = self.router.holds_addresses
        self.judge(self.router.reconfigure(configuration, self.now))
        releases = configuration.release_when_failing and self.router.health is not Health.HEALTHY
        assert not was_master or self.router.holds_addresses or releases

    @rule()
    def hearing_is_proven(self) -> None:
        before = self.router.next_deadline()
        self.router.hearing_proven()
        after = self.router.next_deadline()
        assert before == after or (before is not None and after is not None and after < before)

    @rule()
    def asked_to_take_over(self) -> None:
        before = self.router.state
        try:
            actions = self.router.take_over(self.now)
        except ConfigurationError:
            assert self.router.state == before
            return
        self.judge(actions)
        assert self.router.holds_addresses

    @rule()
    def asked_to_step_aside(self) -> None:
        before = self.router.state
        try:
            actions = self.router.step_aside(self.now)
        except ConfigurationError:
            assert self.router.state == before
            return
        self.judge(actions)
        assert band(self.router.effective_priority) == 0

    @precondition(lambda self: Obstacle.STOPPED not in self.router.obstacles)
    @rule()
    def stopped_and_started_anew(self) -> None:
        self.judge(self.router.stop(self.now))
        assert self.router.state == Initialize()
        self.start(self.router.configuration, self.router.health, obstructed=False)

    def judge(self, actions: Actions) -> None:
        """What holds of the actions of every call."""
        moves = [action for action in actions if isinstance(action, Transitioned)]
        assert len(moves) <= 1
        before, self.state_before = self.state_before, self.router.state_name
        assert [(move.from_state, move.to_state) for move in moves] == (
            [(before, self.state_before)] if before is not self.state_before else []
        )
        for move in moves:
            assert move.at == self.now
            assert move.reason in TRANSITIONS[move.from_state, move.to_state]
            assert move.priority == self.router.effective_priority
        ranks = list(map(rank, actions))
        assert ranks == sorted(ranks)
        for action in actions:
            if isinstance(action, SendAdvertisement):
                self.judge_sent(action)

    def judge_sent(self, sent: SendAdvertisement) -> None:
        advertisement = decode(sent.payload, sent.source, sent.destination, 255)
        configuration = self.router.configuration
        assert (advertisement.vrid, advertisement.interval) == (configuration.vrid, configuration.interval)
        expected = self.router.effective_priority if self.router.holds_addresses else 0
        assert advertisement.priority == expected

    @invariant()
    def addresses_are_held_exactly_while_master(self) -> None:
        assert self.router.holds_addresses is (self.router.state_name is State.MASTER)

    @invariant()
    def a_router_with_an_obstacle_is_out_and_one_without_is_in(self) -> None:
        assert bool(self.router.obstacles) is (self.router.state == Initialize())

    @invariant()
    def only_initialize_has_no_deadline(self) -> None:
        assert (self.router.next_deadline() is None) is (self.router.state == Initialize())

    @invariant()
    def a_router_that_releases_is_out_while_failing(self) -> None:
        if self.router.configuration.release_when_failing and self.router.health is not Health.HEALTHY:
            assert Obstacle.SERVICE_FAILED in self.router.obstacles

    @invariant()
    def something_is_known_of_every_family(self) -> None:
        if isinstance(self.router.state, Backup):
            assert len(self.router.state.known) == len(self.router.configuration.families)

    @invariant()
    def announcements_are_ahead_in_order(self) -> None:
        if isinstance(self.router.state, Master):
            assert all(one < other for one, other in pairwise(self.router.state.announce_at))


def rank(action: Action) -> int:
    """Transitioned, SendAdvertisement, AnnounceAddresses: the order that vrrp/actions.py promises."""
    return (Transitioned, SendAdvertisement, AnnounceAddresses).index(type(action))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# ----- laws that are told better one by one -----


def backup(**changes: object) -> VirtualRouter:
    """A Backup of priority 100 that started at EPOCH."""
    router = VirtualRouter(replace(Configuration(51, (V4_SIDE,)), **changes))  # type: ignore[arg-type]  # by name
    router.start(EPOCH)
    return router


def master(**changes: object) -> tuple[VirtualRouter, Instant]:
    """A Master, and the instant at which it became one."""
    router = backup(**changes)
    now = router.next_deadline()
    assert now is not None
    router.poll(now)
    assert router.holds_addresses
    return router, now


def heard(priority: int, source: bytes = V4[1], interval: Duration = SECOND) -> Advertisement:
    return Advertisement(3, 51, priority, interval, (V4_VIP,), source)


def test_the_transition_table_is_the_diagram_of_the_rfc() -> None:
    assert {(one.value, other.value) for one, other in TRANSITIONS} == {
        ("Initialize", "Backup"),
        ("Initialize", "Master"),
        ("Backup", "Master"),
        ("Backup", "Initialize"),
        ("Master", "Backup"),
        ("Master", "Initialize"),
    }


def test_a_transition_that_the_table_does_not_have_is_refused() -> None:
    router = VirtualRouter(Configuration(51, (V4_SIDE,)))
    with pytest.raises(AssertionError, match="Initialize to Initialize"):
        router._enter(Initialize(), EPOCH, Reason.STOPPED)
    with pytest.raises(AssertionError, match="Initialize to Master for MasterSilent"):
        router._enter(Master(EPOCH), EPOCH, Reason.MASTER_SILENT)


@given(st.integers(0, 3_609_374_999))
def test_a_poll_before_the_deadline_does_nothing(early: int) -> None:
    router = backup()
    before = router.state
    assert router.poll(Instant(EPOCH + early)) == ()
    assert router.state == before


@given(st.integers(0, 100 * SECOND))
def test_a_late_master_sends_one_advertisement_and_not_a_burst(late: int) -> None:
    router, now = master()
    actions = router.poll(Instant(now + SECOND + late))
    assert sum(isinstance(action, SendAdvertisement) for action in actions) == 1


def test_a_master_that_is_a_little_late_gets_back_into_step() -> None:
    router, now = master()
    router.poll(Instant(now + SECOND + 300 * MILLISECOND))
    assert isinstance(router.state, Master)
    assert router.state.next_advertisement_at == now + 2 * SECOND


def test_only_the_silence_of_every_family_promotes() -> None:
    router = backup(families=(V4_SIDE, V6_SIDE))
    router.receive(heard(200), EPOCH)
    later = Instant(EPOCH + 2 * SECOND)
    router.receive(Advertisement(3, 51, 200, SECOND, (V6_VIP,), V6[1]), later)
    assert router.next_deadline() == later + 3_609_375_000


@pytest.mark.parametrize(
    ("obstacle", "farewell"),
    [
        (Obstacle.LINK_DOWN, False),
        (Obstacle.INTERFACE_MISSING, False),
        (Obstacle.NO_SOURCE_ADDRESS, False),
        (Obstacle.SERVICE_FAILED, True),
        (Obstacle.ADDRESS_IN_USE, True),
        (Obstacle.VIRTUAL_ROUTER_ID_IN_USE, True),
        (Obstacle.KERNEL_REFUSED, True),
    ],
)
def test_a_master_says_farewell_where_it_can_still_send(obstacle: Obstacle, farewell: bool) -> None:
    router, now = master()
    actions = router.obstruct(obstacle, now, "because")
    sent = [action for action in actions if isinstance(action, SendAdvertisement)]
    assert [decode(action.payload, action.source, action.destination, 255).priority for action in sent] == [
        0
    ] * farewell
    assert isinstance(actions[0], Transitioned)
    assert (actions[0].reason, actions[0].detail) == (Reason(obstacle.value), "because")
    assert router.counters[Counter.PRIORITY_ZERO_PKTS_SENT] == int(farewell)


def test_a_router_runs_when_its_last_obstacle_is_gone() -> None:
    router, now = master()
    router.obstruct(Obstacle.LINK_DOWN, now)
    router.obstruct(Obstacle.ADDRESS_IN_USE, now)
    assert router.clear(Obstacle.LINK_DOWN, now) == ()
    (transition,) = router.clear(Obstacle.ADDRESS_IN_USE, now)
    assert isinstance(transition, Transitioned)
    assert transition.reason is Reason.OBSTACLE_GONE


def test_an_advertisement_to_a_router_that_is_out_is_counted() -> None:
    router, now = master()
    router.obstruct(Obstacle.LINK_DOWN, now)
    assert router.receive(heard(200), now) == ()
    assert router.counters[Counter.NOT_RUNNING] == 1


def test_what_is_sent_is_counted_for_each_destination() -> None:
    router, now = master(families=(V4_TO_PEERS,))
    assert router.counters[Counter.ADVERTISEMENT_SENT] == 2
    router.stop(now)
    assert router.counters[Counter.ADVERTISEMENT_SENT] == 4
    assert router.counters[Counter.PRIORITY_ZERO_PKTS_SENT] == 2


def test_advertisements_of_one_priority_are_encoded_once() -> None:
    router, now = master()
    first = router.poll(Instant(now + SECOND))
    second = router.poll(Instant(now + 2 * SECOND))
    assert next(action for action in first if isinstance(action, SendAdvertisement)) is second[0]


def test_a_changed_configuration_is_encoded_anew() -> None:
    router, now = master()
    actions = router.reconfigure(replace(router.configuration, families=(replace(V4_SIDE, addresses=(V4[2],)),)), now)
    sent = actions[0]
    assert isinstance(sent, SendAdvertisement)
    assert decode(sent.payload, sent.source, sent.destination, 255).addresses == (V4[2],)
    assert actions[-1] == AnnounceAddresses()


def test_nothing_moves_when_the_health_is_reported_again() -> None:
    router, now = master()
    assert router.report_health(Health.HEALTHY, now) == ()


def test_a_master_whose_health_changes_says_so_at_once() -> None:
    router, now = master()
    for health, priority in [(Health.FAILING, 12), (Health.HEALTHY, 100)]:
        (sent,) = router.report_health(health, Instant(now + MILLISECOND))
        assert isinstance(sent, SendAdvertisement)
        assert decode(sent.payload, sent.source, sent.destination, 255).priority == priority


def test_the_transition_tells_how_long_the_master_was_silent() -> None:
    router = backup()
    router.receive(heard(200), Instant(EPOCH + SECOND))
    now = router.next_deadline()
    assert now == EPOCH + SECOND + 3_609_375_000
    (transition, *_) = router.poll(now)
    assert isinstance(transition, Transitioned)
    assert (transition.reason, transition.peer, transition.peer_priority) == (Reason.MASTER_SILENT, V4[1], 200)
    assert transition.silent == 3_609_375_000


def test_a_switchover_outdoes_the_highest_of_what_the_families_hear() -> None:
    router = backup(families=(V4_SIDE, V6_SIDE))
    router.receive(heard(150), EPOCH)
    router.receive(Advertisement(3, 51, 200, SECOND, (V6_VIP,), V6[1]), EPOCH)
    router.take_over(EPOCH)
    assert router.effective_priority == 201
