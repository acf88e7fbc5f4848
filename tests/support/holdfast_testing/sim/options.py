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

    # the process and its services
    ENGINE_KILLED = "engine killed, forked anew"
    HAND_OVER = "hand-over to a successor"
    STOP = "stop, later start"
    FREEZE = "frozen, queue kept"
    PAUSE = "paused, queue lost"
    HEALTH = "service fails or recovers"
    BACKEND = "what every service needs fails for a while"
    SWITCHOVER = "switchover"
    # the machine
    POWER_OFF = "power off"
    SUSPEND = "suspended"
    LATE_ADDRESS = "power off; its own address comes later than the engine"
    LATE_PORT = "power off; its port forwards late"
    # the link
    ONE_WAY_CUT = "cut one way"
    CUT = "cut both ways"
    LINK_DOWN = "link down"
    CARRIER_FLAP = "carrier flaps, and the port forwards late"
    LINK_REMOVED = "link removed, and back with the same index"
    LINK_RENAMED = "link renamed for a while"
    BRIDGED = "a bridge over the link takes its addresses"
    SMALL_MTU = "MTU below 1280 for a while"
    NO_IPV6 = "disable_ipv6 for a while"
    MAC_CHANGED = "MAC address of the link changed"
    ADDRESS_RENEWED = "own address renewed"
    ADDRESS_GONE = "own address away for a while"
    STRANGER = "another virtual router with the same ID"
    # the kernel
    KERNEL_REFUSES = "kernel refuses the addresses"
    SLOW_KERNEL = "kernel takes its time"
    FIREWALL = "own firewall drops VRRP for a while"
    NO_BUFFERS = "some packets are refused (ENOBUFS)"
    OVERRUN = "notifications lost"
    INTERRUPTED_DUMP = "notifications lost, and the dump interrupted"
    RULES_FLUSHED = "somebody flushes the packet filter"
    NO_FILTER = "the packet filter refuses"
    SLOW_FILTER = "the packet filter takes its time"
    # the user
    RECONFIGURE = "priority edited"
    EDIT_ADDRESS = "an address moved between VirtualIPs, or added"
    EDIT_FAMILY = "a family added or removed"
    EDIT_INTERFACE = "the interface that was found is named, or not"


EDITS = frozenset({Fault.EDIT_ADDRESS, Fault.EDIT_FAMILY, Fault.EDIT_INTERFACE})
"""What asks for no move."""

OF_THE_FILTER = (Fault.RULES_FLUSHED, Fault.NO_FILTER, Fault.SLOW_FILTER)
"""What matters where host ports are closed, and happens there alone."""


@dataclass(frozen=True, slots=True)
class Options:
    """One seed's world."""

    seed: int
    hosts: int
    virtual_ips: int
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
    promote_secondaries: bool
    closed: bool
    """Nothing of the hosts is reached through the VIPs."""
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
    hosts = random.choice([2, 2, 3, 3, 3, 4, 5])
    version = 2 if random.random() < 0.15 else 3
    interval_ms = 1000 if version == 2 else random.choice(INTERVALS_MS)
    foreign = random.random() < 0.15
    pool = [100] * 3 + list(range(50, 255, 5))
    share = random.choice([0.15, 0.3, 0.5])
    others = [fault for fault in Fault if fault not in OF_THE_FILTER]
    faults = tuple(fault for fault in others if random.random() < share) or (Fault.POWER_OFF,)
    # By lots of its own, which leave the other ones what they were.
    closed = Random(f"closed {seed}").random() < 0.4
    if closed:
        faults += tuple(fault for fault in OF_THE_FILTER if Random(f"{fault} {seed}").random() < share)
    interval = Duration(interval_ms * MILLISECOND)
    return Options(
        seed=seed,
        hosts=hosts,
        virtual_ips=random.choice([1, 1, 2]),
        interval=interval,
        version=version,
        nopreempt=random.random() < 0.8,
        when_failing=random.choice([WhenFailing.DEGRADE, WhenFailing.DEGRADE, WhenFailing.RELEASE]),
        two_families=version == 3 and not foreign and random.random() < 0.35,
        priorities=tuple(random.choice(pool) for _ in range(hosts)),
        foreign=foreign,
        foreign_preempts=random.random() < 0.5,
        members_known=not foreign and random.random() < 0.6,
        promote_secondaries=random.random() < 0.5,
        closed=closed,
        loss=random.choice([0.0, 0.0, 0.0, 0.02, 0.1]),
        duplication=random.choice([0.0, 0.0, 0.1]),
        slowest=Duration(random.choice([MILLISECOND // 5, interval // 10, interval // 3])),
        drift_ppm=tuple(random.randint(-200, 200) for _ in range(hosts)),
        faults=faults,
        bad_time=Duration(max(20 * SECOND, min(1500 * interval, 900 * SECOND))),
    )
