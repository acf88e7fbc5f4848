"""The laws of one virtual router: whatever happens to it, in whatever order."""

from __future__ import annotations

from collections import Counter as Multiset
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast_api.errors import ConfigurationError
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_speaker.vrrp.actions import (
    NOTHING,
    Action,
    Actions,
    AnnounceAddresses,
    Refused,
    SendAdvertisement,
    Transitioned,
)
from holdfast_speaker.vrrp.configuration import Configuration, Family, band
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import CENTISECOND, MILLISECOND, SECOND, Duration, Instant, master_down_interval
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, MULTICAST_GROUP_V6, Advertisement, decode
from holdfast_speaker.vrrp.router import LONGEST_PATIENCE, Checkpoint, VirtualRouter
from holdfast_speaker.vrrp.states import TRANSITIONS, Backup, Initialize, Master
from holdfast_testing.sim.timeline import EPOCH

V4 = [bytes((10, 0, 0, last)) for last in (1, 2, 3)]
V6 = [bytes.fromhex("fe80") + bytes(13) + bytes((last,)) for last in (2, 1, 3)]
V4_VIP, V6_VIP = bytes((10, 0, 0, 200)), bytes.fromhex("fe80") + bytes(13) + b"\xc8"
V4_SIDE = Family(V4[0], (V4_VIP,), (MULTICAST_GROUP_V4,))
V4_TO_PEERS = Family(V4[0], (V4_VIP,), tuple(V4[1:]), frozenset(V4[1:]))
V6_SIDE = Family(V6[0], (V6_VIP,), (MULTICAST_GROUP_V6,))
V4_KNOWN, V6_KNOWN = replace(V4_SIDE, members=frozenset(V4[1:])), replace(V6_SIDE, members=frozenset(V6[1:]))

configurations = st.builds(
    Configuration,
    vrid=st.just(51),
    families=st.sampled_from([(V4_SIDE,), (V6_SIDE,), (V4_SIDE, V6_SIDE), (V4_TO_PEERS,), (V4_KNOWN, V6_KNOWN)]),
    priority=st.sampled_from([50, 100, 150, 254, 255]),
    interval=st.sampled_from([CENTISECOND, Duration(10 * CENTISECOND), SECOND]),
    nopreempt=st.booleans(),
    preempt_delay=st.sampled_from([Duration(0), SECOND]),
    release_when_failing=st.booleans(),
    recovery_hold=st.sampled_from([Duration(0), Duration(3 * SECOND)]),
    quiet_period=st.sampled_from([Duration(0), SECOND]),
    obey_foreign=st.booleans(),
    start_delay=st.sampled_from([Duration(0), Duration(7 * SECOND)]),
    announcement_interval=st.sampled_from([Duration(0), SECOND, Duration(60 * SECOND)]),
    partial=st.booleans(),
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

    @rule(
        obstacle=st.sampled_from(sorted(set(Obstacle) - {Obstacle.STOPPED, Obstacle.SERVICE_FAILED})),
        at_once=st.booleans(),
    )
    def obstructed(self, obstacle: Obstacle, at_once: bool) -> None:
        was_master = self.router.holds_addresses
        self.judge(self.router.obstruct(obstacle, self.now, at_once=at_once))
        waits = was_master and not at_once and self.router.obstacles == {Obstacle.LINK_DOWN}
        assert waits or self.router.state == Initialize()

    @rule()
    def the_carrier_goes(self) -> None:
        self.judge(self.router.obstruct(Obstacle.LINK_DOWN, self.now))

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

    @rule(width=st.sampled_from([4, 16]))
    def hearing_is_proven(self, width: int) -> None:
        before, was_unproved = self.router.next_deadline(), self.router.unproved
        self.judge(self.router.hearing_proven(width, self.now))
        after = self.router.next_deadline()
        assert was_unproved or before == after or (before is not None and after is not None and after < before)

    @rule()
    def goes_on_from_what_is_written(self) -> None:
        written = msgspec.json.encode(self.router.checkpoint())
        again = VirtualRouter(self.router.configuration)
        again.restore(msgspec.json.decode(written, type=Checkpoint))
        assert again.checkpoint() == self.router.checkpoint()
        self.router = again

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
        before, self.state_before = self.state_before, self.router.state_name
        if [move.reason for move in moves[:-1]] == [Reason.LINK_DOWN]:
            # A carrier that came back too late, before anybody polled: what poll would have said comes first.
            assert (before, moves[0].to_state) == (State.MASTER, State.INITIALIZE)
            assert moves[1].reason in (Reason.LINK_UP, Reason.ADDRESS_OWNER)
        else:
            assert [(move.from_state, move.to_state) for move in moves] == (
                [(before, self.state_before)] if before is not self.state_before else []
            )
        for move in moves:
            assert move.at == self.now
            assert move.reason in TRANSITIONS[move.from_state, move.to_state]
        if moves:
            assert moves[-1].priority == self.router.effective_priority
            assert moves[-1].unproved is self.router.unproved
        ranks = list(map(rank, actions))
        assert ranks == sorted(ranks)
        for action in actions:
            if isinstance(action, SendAdvertisement):
                self.judge_sent(action, moves[-1].peer_priority if moves else 0)
        if self.is_cut_off:
            assert not set(map(type, actions)) & {SendAdvertisement, AnnounceAddresses}

    def judge_sent(self, sent: SendAdvertisement, winner: int) -> None:
        advertisement = decode(sent.payload, sent.source, sent.destination, 255)
        configuration = self.router.configuration
        assert advertisement.vrid == configuration.vrid
        assert advertisement.priority == sent.priority
        # A late Master says more than its own interval (ADR 38).
        assert configuration.interval <= advertisement.interval <= LONGEST_PATIENCE * configuration.interval
        match self.router.state_name:
            case State.MASTER:
                assert sent.priority == self.router.effective_priority
                assert advertisement.interval == self.router.advertised_interval
            case State.BACKUP:  # who yields loses once more, against everybody in its band
                assert sent.priority in (1, 50)
                assert sent.priority < winner
            case State.INITIALIZE:
                assert sent.priority == 0
        assert not self.router.unproved or sent.priority == 50

    @invariant()
    def addresses_are_held_exactly_while_master(self) -> None:
        assert self.router.holds_addresses is (self.router.state_name is State.MASTER)

    @invariant()
    def a_router_with_an_obstacle_is_out_or_cut_off_and_one_without_is_in(self) -> None:
        assert bool(self.router.obstacles) is (self.router.state == Initialize() or self.is_cut_off)
        assert not self.is_cut_off or self.router.obstacles == {Obstacle.LINK_DOWN}

    @property
    def is_cut_off(self) -> bool:
        return isinstance(self.router.state, Master) and self.router.state.cut_off is not None

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
    return (Refused, Transitioned, SendAdvertisement, AnnounceAddresses).index(type(action))


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
    now = Instant(now + SECOND + late)
    actions = router.poll(now)
    if late > 3 * SECOND:  # it listens first
        assert actions == NOTHING
        now = router.next_deadline() or now
        actions = router.poll(now)
    assert sum(isinstance(action, SendAdvertisement) for action in actions) == 1
    assert now < (router.next_deadline() or 0)


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
        (Obstacle.CANNOT_SEND, False),
        (Obstacle.TOO_FEW_DESCRIPTORS, False),
        (Obstacle.ADDRESS_CONFLICT, True),
        (Obstacle.INTERFACE_MISSING, False),
        (Obstacle.NO_SOURCE_ADDRESS, False),
        (Obstacle.SERVICE_FAILED, True),
        (Obstacle.ADDRESS_IN_USE, True),
        (Obstacle.VIRTUAL_ROUTER_ID_IN_USE, True),
        (Obstacle.KERNEL_REFUSED, True),
        (Obstacle.ADDRESS_NOT_PERMITTED, True),
    ],
)
def test_a_master_says_farewell_where_it_can_still_send(obstacle: Obstacle, farewell: bool) -> None:
    router, now = master()
    actions = router.obstruct(obstacle, now, "because", at_once=True)
    sent = [action for action in actions if isinstance(action, SendAdvertisement)]
    assert [decode(action.payload, action.source, action.destination, 255).priority for action in sent] == [
        0
    ] * farewell
    assert isinstance(actions[0], Transitioned)
    assert (actions[0].reason, actions[0].detail) == (Reason(obstacle.value), "because")


def test_a_router_runs_when_its_last_obstacle_is_gone() -> None:
    router, now = master()
    router.obstruct(Obstacle.INTERFACE_MISSING, now)
    router.obstruct(Obstacle.ADDRESS_IN_USE, now)
    assert router.clear(Obstacle.INTERFACE_MISSING, now) == ()
    (transition,) = router.clear(Obstacle.ADDRESS_IN_USE, now)
    assert isinstance(transition, Transitioned)
    assert transition.reason is Reason.OBSTACLE_GONE


def test_an_advertisement_to_a_router_that_is_out_is_counted() -> None:
    router, now = master()
    router.obstruct(Obstacle.KERNEL_REFUSED, now)
    assert router.receive(heard(200), now) == ()
    assert router.counters[Counter.NOT_RUNNING] == 1


def test_what_is_to_be_sent_is_not_counted_as_sent() -> None:
    router, now = master()
    router.stop(now)
    assert router.counters == {}, "the engine counts what has left"


def test_a_carrier_that_comes_back_too_late_before_anybody_polled_has_cost_the_addresses() -> None:
    router, now = master()
    router.obstruct(Obstacle.LINK_DOWN, now, "eth0 has no carrier")
    deadline = router.next_deadline()
    patience = master_down_interval(3, router.configuration.priority, SECOND)
    assert deadline == now + patience - SECOND // 16, "as long as a Backup of its own priority waits, and a little less"
    left, begun = router.clear(Obstacle.LINK_DOWN, deadline)
    assert isinstance(left, Transitioned)
    assert isinstance(begun, Transitioned)
    assert (left.reason, left.detail) == (Reason.LINK_DOWN, "eth0 has no carrier")
    assert (begun.reason, begun.to_state) == (Reason.LINK_UP, State.BACKUP)


def test_a_master_that_was_stalled_when_its_carrier_goes_leaves_at_once() -> None:
    router, now = master()
    (left,) = router.obstruct(Obstacle.LINK_DOWN, Instant(now + 4 * SECOND))
    assert isinstance(left, Transitioned)
    assert left.to_state is State.INITIALIZE


def test_a_carrier_that_flaps_again_and_again_costs_nothing() -> None:
    router, now = master()
    for _ in range(20):
        assert router.obstruct(Obstacle.LINK_DOWN, now) == ()
        now = Instant(now + 2 * SECOND)
        assert router.poll(now) == ()
        actions = router.clear(Obstacle.LINK_DOWN, now)
        assert [type(action) for action in actions] == [SendAdvertisement, AnnounceAddresses]
    assert router.holds_addresses


def test_a_master_that_is_cut_off_does_not_hand_over_and_is_asked_for_nothing() -> None:
    router, now = master()
    router.obstruct(Obstacle.LINK_DOWN, now)
    assert router.hand_over(now) == ()
    for wish in (router.take_over, router.step_aside):
        with pytest.raises(ConfigurationError):
            wish(now)


def test_a_link_that_was_down_has_to_be_proven_anew() -> None:
    router, now = master()
    router.hearing_proven(4, now)
    router.obstruct(Obstacle.ADDRESS_IN_USE, now)
    router.clear(Obstacle.ADDRESS_IN_USE, now)
    assert router.proven == {4}
    assert not router.distrusts_silence
    router.obstruct(Obstacle.LINK_DOWN, now)
    router.clear(Obstacle.LINK_DOWN, now)
    assert router.proven == frozenset()
    assert router.distrusts_silence


def test_a_start_with_proof_trusts_silence() -> None:
    router = VirtualRouter(Configuration(51, (V4_SIDE,), quiet_period=Duration(9 * SECOND)))
    router.start(EPOCH, proven=frozenset({4}))
    assert router.next_deadline() == EPOCH + 3_609_375_000


ALONE_MAYBE = {"families": (replace(V4_SIDE, members=frozenset(V4[1:])),), "obey_foreign": False}


def test_the_longer_a_master_that_heard_nobody_has_held_the_less_it_waits_to_assert_itself() -> None:
    waits = []
    for age in (0, 10 * SECOND, 90 * SECOND):
        router, now = master(**ALONE_MAYBE)
        assert router.unproved
        then = Instant(now + age)
        (sent,) = router.hearing_proven(4, then)
        assert isinstance(sent, SendAdvertisement)
        assert sent.priority == 50
        assert isinstance(router.state, Master)
        assert router.state.asserts_at is not None
        waits.append(router.state.asserts_at - then)
        sent, *_ = router.poll(router.state.asserts_at)
        assert isinstance(sent, SendAdvertisement)
        assert sent.priority == 100
    assert waits == [2 * SECOND, SECOND, SECOND // 5]


@pytest.mark.parametrize(("priority", "holds"), [(49, True), (50, True), (51, False), (100, False)])
def test_what_a_master_hears_first_is_compared_with_50(priority: int, holds: bool) -> None:
    router, now = master(**ALONE_MAYBE)
    router.receive(heard(priority), now)
    assert router.holds_addresses is holds
    assert router.proven == {4}


def test_a_rival_after_a_cut_is_minded_for_a_minute() -> None:
    for later, holds in [(59, False), (60, True)]:
        router, now = master()
        router.obstruct(Obstacle.LINK_DOWN, now)
        router.clear(Obstacle.LINK_DOWN, now)
        for second in range(1, later):
            router.poll(Instant(now + second * SECOND))
        router.receive(heard(60), Instant(now + later * SECOND))
        assert router.holds_addresses is holds


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


def test_a_master_that_is_cut_off_minds_nobody_and_learns_nothing() -> None:
    router, now = master(**ALONE_MAYBE)
    router.obstruct(Obstacle.LINK_DOWN, now)
    assert router.receive(heard(200), now) == ()
    assert router.holds_addresses
    assert router.counters[Counter.NOT_RUNNING] == 1


def test_what_was_heard_before_a_cut_is_no_proof_after_it() -> None:
    router, now = master(**ALONE_MAYBE)
    router.hearing_proven(4, now)
    router.obstruct(Obstacle.LINK_DOWN, now)
    router.clear(Obstacle.LINK_DOWN, Instant(now + SECOND))
    sent, *_ = router.poll(Instant(now + 4 * SECOND))
    assert isinstance(sent, SendAdvertisement)
    assert sent.priority == 50


def test_who_is_made_the_owner_of_the_addresses_waits_for_its_start_delay() -> None:
    router = backup(start_delay=Duration(20 * SECOND))
    assert router.reconfigure(replace(router.configuration, priority=255), EPOCH) == ()
    later = Instant(EPOCH + 20 * SECOND)
    assert router.reconfigure(replace(router.configuration, priority=255), later) != ()
    assert router.holds_addresses


def test_after_a_cut_the_wait_before_an_assertion_begins_anew() -> None:
    router, now = master(**ALONE_MAYBE)
    router.hearing_proven(4, now)
    router.obstruct(Obstacle.LINK_DOWN, now)
    router.clear(Obstacle.LINK_DOWN, Instant(now + SECOND))
    again = Instant(now + 10 * SECOND // 9)
    router.hearing_proven(4, again)
    assert isinstance(router.state, Master)
    assert router.state.asserts_at == again + 18 * SECOND // 10
