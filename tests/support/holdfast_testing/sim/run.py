"""One seed from its bad time to the end, many seeds, and what is kept of one that fails."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections import Counter as Multiset
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from holdfast_api.errors import ConfigurationError
from holdfast_api.reasons import Health
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_testing.sim.host import Host
from holdfast_testing.sim.laws import Laws
from holdfast_testing.sim.options import Fault, draw
from holdfast_testing.sim.world import EPOCH, RECOVERY_HOLD, Violation, World

CHECK_EVERY = Duration(500 * MILLISECOND)


@dataclass
class Report:
    """What was simulated."""

    seeds: int = 0
    simulated: int = 0
    """Nanoseconds of virtual time in which the routers ran."""
    events: int = 0
    moves: Multiset[str] = field(default_factory=Multiset)
    faults: Multiset[str] = field(default_factory=Multiset)

    def add(self, other: Report) -> None:
        """Sum up."""
        self.seeds += other.seeds
        self.simulated += other.simulated
        self.events += other.events
        self.moves += other.moves
        self.faults += other.faults

    @property
    def hours(self) -> float:
        """Of virtual time."""
        return self.simulated / 3600e9


class Run:
    """One seed."""

    def __init__(self, seed: int, make: type[VirtualRouter] = VirtualRouter) -> None:
        self.world = World(draw(seed), make)
        self.laws = Laws(self.world)
        self.faults: Multiset[str] = Multiset()

    def play(self) -> Report:
        """Raises Violation, with its trace kept, where a law does not hold."""
        world = self.world
        try:
            self._play()
        except (Violation, AssertionError) as violation:
            folder = self.keep(str(violation))
            raise Violation(
                f"seed {world.options.seed}, commit {_commit()}: {violation} (kept in {folder})"
            ) from violation
        return Report(1, world.now - EPOCH, world.events, world.moves, self.faults)

    def _play(self) -> None:
        world, random = self.world, self.world.random
        for host in world.hosts.values():
            world.at(world.now + random.randrange(SECOND), lambda host=host: world.start(host))  # type: ignore[misc]  # B023
        world.start_foreign()
        self._pass(8 * SECOND + 4 * world.options.interval)
        end = world.now + world.options.bad_time
        while world.now < end:
            self._fault(random.choice(world.options.faults), random.choice(list(world.hosts.values())))
            self._pass(random.choice([MILLISECOND, world.options.interval, 3 * SECOND, 10 * SECOND, 20 * SECOND]))
        self._mend()
        self._pass(2 * self.laws.stuck_bound + 30 * SECOND)
        self.laws.settled()
        before = sum(world.moves.values())
        self._pass(20 * world.options.interval + 5 * SECOND)
        if sum(world.moves.values()) != before:
            raise Violation("it moves though nothing happens any more")

    def _pass(self, duration: int) -> None:
        end = self.world.now + duration
        while self.world.now < end:
            self.world.run(min(CHECK_EVERY, end - self.world.now))
            self.laws.check()

    def _fault(self, fault: Fault, host: Host) -> None:
        world, random = self.world, self.world.random
        if not host.powered or host.frozen:
            return
        self.faults[fault] += 1
        world.say(f"-- {fault}: {host.name}")
        lasting = random.choice([2 * MILLISECOND, world.options.interval * 2, 2 * SECOND, 10 * SECOND])
        other = random.choice([name for name in [*world.hosts, "foreign"] if name != host.name])
        match fault:
            case Fault.POWER_OFF:
                world.power_off(host)
                world.at(world.now + lasting + SECOND, lambda: self._power_on(host))
            case Fault.ENGINE_KILLED:
                world.kill_engine(host)
            case Fault.HAND_OVER:
                world.hand_over(host)
            case Fault.STOP:
                world.stop(host)
                world.at(world.now + lasting, lambda: self._start_again(host))
            case Fault.FREEZE | Fault.PAUSE:
                world.freeze(host)
                lost = fault is Fault.PAUSE
                world.at(world.now + lasting, lambda: self._thaw(host, queue_lost=lost))
            case Fault.ONE_WAY_CUT | Fault.CUT:
                pairs = [(host.name, other), (other, host.name)][: 2 if fault is Fault.CUT else 1]
                self._cut(pairs)
                world.at(world.now + lasting, lambda: self._heal(pairs))
            case Fault.LINK_DOWN:
                world.set_link(host, up=False)
                world.at(world.now + lasting, lambda: world.set_link(host, up=True))
            case Fault.HEALTH:
                self._set_health(host, Health.FAILING if host.health is Health.HEALTHY else Health.HEALTHY)
            case Fault.BACKEND:
                for one in world.hosts.values():  # each notices at its own time
                    for health, begins in (Health.FAILING, 0), (Health.HEALTHY, lasting + RECOVERY_HOLD):
                        notices = world.now + begins + random.randrange(RECOVERY_HOLD)
                        world.at(notices, functools.partial(self._set_health, one, health))
            case Fault.RECONFIGURE:
                host.configuration = replace(host.configuration, priority=random.randrange(50, 255, 5))
                world.tell(host, lambda router, now: router.reconfigure(host.configuration, now))
            case Fault.KERNEL_REFUSES:
                world.refuse(host)
                world.at(world.now + lasting, lambda: self._kernel_is_well(host))
            case Fault.SLOW_KERNEL:
                host.kernel_delay = Duration(random.randrange(MILLISECOND // 10, 8 * MILLISECOND))
            case Fault.SWITCHOVER:
                self._switch_over(host)

    def _set_health(self, host: Host, health: Health) -> None:
        if health is host.health:
            return
        host.health = health
        host.recovered_at = self.world.now if health is Health.HEALTHY else None
        self.world.tell(host, lambda router, now: router.report_health(health, now))

    def _thaw(self, host: Host, *, queue_lost: bool) -> None:
        if host.frozen:
            self.world.thaw(host, queue_lost=queue_lost)

    def _power_on(self, host: Host) -> None:
        if not host.powered:
            host.powered = True
            self.world.start(host)

    def _start_again(self, host: Host) -> None:
        if host.powered and host.router is None:
            self.world.start(host)

    def _cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        for pair in pairs:
            self.world.cuts[pair] = self.world.now
            self._disturb(pair)

    def _heal(self, pairs: Iterable[tuple[str, str]]) -> None:
        for pair in pairs:
            if self.world.cuts.pop(pair, None) is not None:
                self._disturb(pair)

    def _disturb(self, pair: tuple[str, str]) -> None:
        # Whoever is cut off may hold beside the others, and how that ends is everybody's business.
        for host in self.world.hosts.values():
            host.disturbed_at = self.world.now

    def _kernel_is_well(self, host: Host) -> None:
        host.kernel_refuses = False
        host.disturbed_at = self.world.now

    def _switch_over(self, host: Host) -> None:
        def wish(router: VirtualRouter, now: Instant) -> tuple[object, ...]:
            try:
                return router.step_aside(now) if router.holds_addresses else router.take_over(now)
            except ConfigurationError:
                return ()

        self.world.tell(host, wish)  # type: ignore[arg-type]  # actions, or none
        for one in self.world.hosts.values():
            one.disturbed_at = self.world.now

    def _mend(self) -> None:
        world = self.world
        world.say("-- everything is mended")
        world.loss = world.duplication = 0.0
        self._heal(list(world.cuts))
        for host in world.hosts.values():
            host.disturbed_at = world.now  # what was lost until now may have been two of three in a row
            host.kernel_refuses, host.kernel_delay = False, Duration(0)
            if host.frozen:
                world.thaw(host, queue_lost=False)
            if not host.link_up:
                world.set_link(host, up=True)
            self._power_on(host)
            self._start_again(host)

    def keep(self, violation: str) -> Path:
        """A trace for people, and what every router knew at the end; the folder."""
        top = Path(os.environ.get("HOLDFAST_ARTIFACTS") or tempfile.gettempdir())
        folder = top / f"holdfast-simulation-{self.world.options.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"seed {self.world.options.seed}", str(self.world.options), violation, "", *self.world.trace]
        (folder / "trace.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for host in self.world.hosts.values():
            if host.router is not None:
                known = msgspec.json.encode(host.router.checkpoint(), order="sorted")
                (folder / f"{host.name}.json").write_bytes(known + b"\n")
        return folder


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return found.stdout.strip() or "unknown"


def simulate(seeds: Iterable[int]) -> Report:
    """All of them; raises Violation at the first that breaks a law."""
    report = Report()
    for seed in seeds:
        report.add(Run(seed).play())
    return report
