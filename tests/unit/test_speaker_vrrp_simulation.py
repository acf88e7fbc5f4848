"""Two to four nodes on a bad link for a while, then on a good one: who holds the VIP, and what moved it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import msgspec
import pytest

from holdfast_api.messages import Transition
from holdfast_api.reasons import Health, Reason, State
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.configuration import band, failing_priority
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
from holdfast_testing.sim.machine import ETH0
from holdfast_testing.virtual_lan import VIRTUAL_IP, HoldsAddresses, VirtualLan, Wanted

INTERVAL = Duration(100 * MILLISECOND)
STEPS = 25

SETTLING = 15 * SECOND
"""Longer than a capped interval's silence, the longest wish, and every hold used here."""


@dataclass
class Group:
    """A group of nodes with equal rules, and a random history."""

    random: Random
    size: int
    nopreempt: bool
    two_families: bool
    loss: float = 0.0
    slowest: int = MILLISECOND
    lan: VirtualLan = field(init=False)
    priorities: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        names = "abcd"[: self.size]
        # Different priorities where there are two families: equal ones end in the known bug of crossed addresses.
        pool = range(50, 255, 7) if self.two_families else (100, 100, 100, 150, 200)
        self.priorities = dict(zip(names, self.random.sample(list(pool), self.size), strict=True))
        self.lan = VirtualLan({name: self.wanted(name) for name in names}, self.travel)

    def wanted(self, name: str) -> Wanted:
        number = "abcd".index(name) + 1
        router = VirtualRouterConfiguration(
            name=VIRTUAL_IP,
            addresses=["10.0.0.200/24", "fe80::200"] if self.two_families else ["10.0.0.200/24"],
            virtual_router_id=51,
            priority=self.priorities[name],
            advertisement_interval_milliseconds=INTERVAL // MILLISECOND,
            nopreempt=self.nopreempt,
            tracks_services=True,
            recovery_hold_milliseconds=1000,
        )
        own = ((bytes((10, 0, 0, number)), 24), (bytes.fromhex("fe80") + bytes(13) + bytes((number,)), 64))
        return Wanted((router,), own)

    def edit(self, name: str, priority: int) -> None:
        self.priorities[name] = priority
        wanted = self.wanted(name)
        router = msgspec.structs.replace(wanted.routers[0], priority=priority)
        self.lan.want(name, Wanted((router,), wanted.own))

    def travel(self, _sender: str, _receiver: str) -> Duration | None:
        """A link that loses and delays; delays differ, so that packets overtake each other."""
        if self.random.random() < self.loss:
            return None
        return Duration(self.random.randrange(self.slowest // 20, self.slowest))

    def health(self, name: str) -> Health:
        return self.lan.hosts[name].health[VIRTUAL_IP]

    def flip_health(self, name: str) -> None:
        healthy = self.health(name) is Health.HEALTHY
        self.lan.report_health(name, Health.FAILING if healthy else Health.HEALTHY)

    def start_all(self) -> None:
        for name in self.lan.hosts:
            self.lan.start(name)
            self.lan.run(self.random.randrange(SECOND))

    def something_happens(self) -> None:
        """One random event at a random node, if it makes sense there; then some time."""
        lan, name = self.lan, self.random.choice(list(self.lan.hosts))
        host = lan.hosts[name]
        match self.random.randrange(8):
            case 0 if host.runs:
                lan.kill(name)
            case 1 if host.runs:
                lan.stop(name)
            case 0 | 1 | 2 if host.process is None:
                lan.start(name)
            case 2 if host.runs:
                host.freeze(after_epoll=self.random.random() < 0.5)
            case 3 if host.frozen:
                host.thaw(queue_lost=self.random.random() < 0.3)
            case 4 | 5 if host.runs:
                self.flip_health(name)
            case 6:
                lan.cut(name, self.random.choice(list(lan.hosts)))
            case 7:
                lan.heal()
        lan.run(self.random.choice([MILLISECOND, INTERVAL, SECOND, 3 * SECOND]))

    def heal(self) -> None:
        """From here on nothing is lost, and everybody runs; health stays what it is."""
        self.loss, self.slowest = 0.0, MILLISECOND
        self.lan.heal()
        for name, host in self.lan.hosts.items():
            if host.frozen:
                host.thaw()
            if host.process is None:
                self.lan.start(name)
        self.lan.run(SETTLING)

    def priority(self, name: str) -> int:
        own = self.priorities[name]
        return own if self.health(name) is Health.HEALTHY else failing_priority(own)

    def moves_since(self, instant: Instant) -> list[tuple[str, Transition]]:
        return [
            (happening.node, happening.what)
            for happening in self.lan.happenings
            if isinstance(happening.what, Transition) and happening.at > instant
        ]


def group(seed: int) -> Group:
    random = Random(seed)
    return Group(random, random.randint(2, 4), nopreempt=random.random() < 0.7, two_families=random.random() < 0.3)


def chaos(seed: int) -> Group:
    """A group after a bad time, healed."""
    made = group(seed)
    made.loss, made.slowest = 0.1, 2 * INTERVAL
    made.start_all()
    for _ in range(STEPS):
        made.something_happens()
    made.heal()
    return made


SEEDS = range(100)


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_bad_time_one_of_the_healthiest_holds_and_stays(seed: int) -> None:
    made = chaos(seed)
    assert len(made.lan.holders()) == 1
    (holder,) = made.lan.holders()
    best = max(made.priority(name) for name in made.lan.hosts)
    if made.nopreempt:
        assert band(made.priority(holder)) == band(best)
    else:
        assert made.priority(holder) == best
    settled = made.lan.now
    made.lan.run(10 * SECOND)
    assert made.moves_since(settled) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_every_takeover_of_a_bad_time_has_a_reason_that_holds(seed: int) -> None:
    made = chaos(seed)
    moves = made.moves_since(Instant(0))
    for name, move in moves:
        if move.reason is Reason.MASTER_FAILING:
            assert band(move.peer_priority) < band(made.priorities[name])
        if move.reason is Reason.HEALTHIER_MASTER:
            assert band(move.peer_priority) > 0
        if move.to_state is State.MASTER and made.nopreempt:
            assert move.reason is not Reason.HIGHER_PRIORITY
        if move.reason is Reason.MASTER_SILENT:
            # The learned interval is everybody's, or the grace after an oversleep.
            assert move.silent_milliseconds >= 3 * INTERVAL // MILLISECOND
    assert any(move.to_state is State.MASTER for _, move in moves)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_advertises_only_what_its_kernel_holds_and_leaves_before_it_says_so(seed: int) -> None:
    made = chaos(seed)
    holding = dict.fromkeys(made.lan.hosts, False)
    missing: dict[str, Instant] = {}
    yielded: dict[str, Instant] = {}
    sent = 0
    for happening in made.lan.happenings:
        match happening.what:
            case HoldsAddresses(held=held):
                holding[happening.node] = held
                if held and missing.get(happening.node) == happening.at:
                    del missing[happening.node]
            case Transition(from_state=State.MASTER):
                yielded[happening.node] = happening.at
                if missing.get(happening.node) == happening.at:
                    del missing[happening.node]
            case SendAdvertisement(priority=0):
                assert not holding[happening.node]
            case SendAdvertisement():
                sent += 1
                if not holding[happening.node] and yielded.get(happening.node) != happening.at:
                    # Who was frozen answers what waited for it first. In the same turn it yields, or finds what its
                    # kernel took.
                    missing[happening.node] = happening.at
    assert not missing
    assert sent > STEPS


def no_reason_to_move(made: Group, holder: str) -> None:
    """Something happens that moves a VIP elsewhere: a recovery, a restart, an edit, a link that comes back, a pause."""
    lan = made.lan
    name = made.random.choice([name for name in lan.hosts if name != holder])
    host = lan.hosts[name]
    match made.random.randrange(8):
        case 0 if host.runs:
            lan.stop(name)
        case 1 if host.runs:
            lan.kill(name)
        case 0 | 1:
            lan.start(name)
        case 2:
            made.flip_health(name)
        case 3:
            made.edit(made.random.choice([name, holder]), made.random.randrange(50, 255))
        case 4 if host.powered and host.kernel.interfaces[ETH0].operational:
            host.act(lambda kernel: kernel.set_carrier(ETH0, False))
        case 4 if host.powered:
            lan.switch_on(name)
        case 5 if host.runs:
            host.freeze(after_epoll=made.random.random() < 0.5)
            frozen = made.random.randrange(10 * SECOND)
            lan.run(frozen)
            # A queue that is lost in a pause no longer than the Backups' patience cannot be told from a silence.
            host.thaw(queue_lost=frozen > 6 * INTERVAL and made.random.random() < 0.5)
        case 6:
            lan.hosts[holder].freeze()
            lan.run(made.random.randrange(2 * INTERVAL))
            lan.hosts[holder].thaw()
        case 7:
            lan.cut(holder, name)
            lan.run(made.random.randrange(2 * INTERVAL))
            lan.heal()
    # An advertisement is heard before the next thing happens: two deaf moments in a row are a reason.
    lan.run(2 * INTERVAL + made.random.randrange(SECOND))


@pytest.mark.parametrize("seed", SEEDS)
def test_with_nopreempt_nothing_moves_without_a_reason(seed: int) -> None:
    random = Random(seed)
    made = Group(random, random.randint(2, 4), nopreempt=True, two_families=random.random() < 0.3)
    made.start_all()
    made.lan.run(SETTLING)
    (holder,) = made.lan.holders()
    settled = made.lan.now
    for _ in range(STEPS):
        no_reason_to_move(made, holder)
        assert made.lan.holders() == [holder]
    promoted = [move for _, move in made.moves_since(settled) if move.to_state is State.MASTER]
    assert promoted == []
