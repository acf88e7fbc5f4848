"""What a seed decides: who is there, which faults can happen to them, and how bad the link is. Swarm testing: each seed
switches on another subset, so that combinations come up which a mixture of everything would drown."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from random import Random

from holdfast_api.resources import WhenFailing
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration

INTERVALS_MS = (10, 20, 50, 100, 200, 1000)


class Fault(enum.StrEnum):
    """What can happen to a host or between two."""

    POWER_OFF = "power off"
    ENGINE_KILLED = "engine killed, forked anew"
    HAND_OVER = "hand-over to a successor"
    STOP = "stop, later start"
    FREEZE = "frozen, queue kept"
    PAUSE = "paused, queue lost"
    ONE_WAY_CUT = "cut one way"
    CUT = "cut both ways"
    LINK_DOWN = "link down"
    HEALTH = "service fails or recovers"
    BACKEND = "what every service needs fails for a while"
    RECONFIGURE = "priority edited"
    KERNEL_REFUSES = "kernel refuses the addresses"
    SLOW_KERNEL = "kernel takes its time"
    SWITCHOVER = "switchover"


@dataclass(frozen=True, slots=True)
class Options:
    """One seed's world."""

    seed: int
    hosts: int
    interval: Duration
    version: int
    nopreempt: bool
    when_failing: WhenFailing
    two_families: bool
    priorities: tuple[int, ...]
    foreign: bool
    """The last host is a router of another make, which knows no health bands."""
    foreign_preempts: bool
    members_known: bool
    """Each host knows the others' addresses, and obeys nobody else."""
    loss: float
    duplication: float
    slowest: Duration
    """Packets take up to this long, so that they overtake each other."""
    drift_ppm: tuple[int, ...]
    faults: tuple[Fault, ...]
    bad_time: Duration
    """How long faults happen, before everything is mended."""

    @property
    def holdfast_hosts(self) -> int:
        """How many of them run Holdfast."""
        return self.hosts - self.foreign


def draw(seed: int) -> Options:
    """The same seed gives the same world."""
    random = Random(seed)
    hosts = random.randint(2, 5)
    version = 2 if random.random() < 0.15 else 3
    interval_ms = 1000 if version == 2 else random.choice(INTERVALS_MS)
    foreign = random.random() < 0.15
    nopreempt = random.random() < 0.75
    pool = [100] * 3 + list(range(50, 255, 5))
    faults = tuple(fault for fault in Fault if random.random() < 0.45) or (Fault.POWER_OFF,)
    interval = Duration(interval_ms * MILLISECOND)
    return Options(
        seed=seed,
        hosts=hosts,
        interval=interval,
        version=version,
        nopreempt=nopreempt,
        when_failing=random.choice([WhenFailing.DEGRADE, WhenFailing.DEGRADE, WhenFailing.RELEASE]),
        two_families=version == 3 and not foreign and random.random() < 0.25,
        priorities=tuple(random.choice(pool) for _ in range(hosts)),
        foreign=foreign,
        foreign_preempts=random.random() < 0.5,
        loss=random.choice([0.0, 0.0, 0.0, 0.02, 0.1]),
        duplication=random.choice([0.0, 0.0, 0.1]),
        slowest=Duration(random.choice([MILLISECOND // 5, interval // 10, interval // 3])),
        drift_ppm=tuple(random.randint(-200, 200) for _ in range(hosts)),
        faults=faults,
        members_known=not foreign and random.random() < 0.5,
        bad_time=Duration(max(20 * SECOND, min(1500 * interval, 900 * SECOND))),
    )
