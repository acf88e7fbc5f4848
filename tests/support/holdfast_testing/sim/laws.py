"""What must hold at every step of a simulation. Each law can fail: tests plant the bug that it is there for."""

from __future__ import annotations

from holdfast_api.reasons import Health, Reason, State
from holdfast_speaker.vrrp.actions import Transitioned
from holdfast_speaker.vrrp.configuration import band
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant, master_down_interval
from holdfast_testing.sim.host import EXPIRES_LATE, LIFETIME, Host
from holdfast_testing.sim.world import RECOVERY_HOLD, RETRY_AFTER, Violation, World


class Laws:
    """Watches a world; `check` is for what only time shows."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.observe = self.observe
        self._rivals: dict[tuple[str, str], Instant] = {}
        self._stuck: dict[str, Instant] = {}
        self._master_since: dict[str, Instant] = {}
        options = world.options
        interval = options.interval
        # Three intervals of the slowest, or of what a hand-over announces.
        silence = master_down_interval(options.version, 1, Duration(max(interval, SECOND)))
        lossy = 10 if options.loss else 3
        self.one_holder_bound = Duration(lossy * interval + 4 * options.slowest + LIFETIME + EXPIRES_LATE + SECOND // 2)
        """Two that hear each other: the next advertisement of one decides, lost ones aside. A killed or frozen engine's
        addresses go with their lifetime (ADR 0005)."""
        self.stuck_bound = Duration(2 * silence + RECOVERY_HOLD + RETRY_AFTER + lossy * interval + LIFETIME)
        """A healthy node takes over from a failing Master after its Skew_Time, not before its recovery hold is over,
        nor before it has heard that Master: a new quiet period and a hand-over's patience count, too."""
        self.calm = Duration(2 * silence + LIFETIME)
        """What happened before that explains nothing any more."""

    # ----- at each step -----

    def observe(self, host: Host, transition: Transitioned | None) -> None:
        """After everything that a host did."""
        self._address_where_master(host)
        if transition is not None and transition.to_state is State.MASTER:
            self._master_since[host.name] = self.world.now
        if transition is not None and transition.to_state is State.MASTER:
            self._takes_over_with_a_reason(host, transition)
            self._holds_its_recovery(host, transition)
            self._silence_was_silence(host, transition)
        self._one_holder_that_answers()

    def _address_where_master(self, host: Host) -> None:
        """Promise 3: a running engine's kernel holds the addresses exactly while it is Master."""
        if host.router is None or not host.runs or host.kernel_refuses:
            return
        if host.holding != (host.router.state_name is State.MASTER):
            raise Violation(f"{host.name} is {host.router.state_name} and its kernel holds: {host.holding}")

    def _connected(self, one: str, other: str) -> bool:
        return self.world.reaches(one, other) and self.world.reaches(other, one)

    def _one_holder_that_answers(self) -> None:
        """Promise 3: two that hear each other do not both answer for longer than the protocol needs."""
        now = self.world.now
        answering = [host for host in self.world.hosts.values() if host.answers(now)]
        pairs = {
            (one.name, other.name)
            for index, one in enumerate(answering)
            for other in answering[index + 1 :]
            if self._connected(one.name, other.name)
        }
        for pair in list(self._rivals):
            if pair not in pairs:
                del self._rivals[pair]
        for pair in pairs:
            first, second = (self.world.hosts[name] for name in pair)
            since = max(self._rivals.setdefault(pair, now), first.disturbed_at, second.disturbed_at)
            if now - since > self.one_holder_bound:
                raise Violation(f"{pair[0]} and {pair[1]} both answer for {(now - since) / 1e9:.3f} s")

    def _takes_over_with_a_reason(self, host: Host, transition: Transitioned) -> None:
        """Promise 1: under nopreempt nobody takes a VIP from a healthy Master that it hears."""
        world = self.world
        if not world.options.nopreempt or world.loss or world.foreign is not None:
            return
        if transition.reason is Reason.SWITCHOVER or world.now - host.disturbed_at < self.calm:
            return
        mine = host.router.effective_priority if host.router else 0
        for other in world.hosts.values():
            if other is host or not other.runs or not other.holding or other.router is None:
                continue
            if world.now - other.disturbed_at < self.calm or not self._connected(host.name, other.name):
                continue
            if world.now - self._master_since.get(other.name, 0) <= world.options.slowest:
                continue  # both replaced a third, and the first advertisement is still under way
            if band(other.router.effective_priority) >= band(mine):
                raise Violation(f"{host.name} took over from {other.name}, which holds and is as healthy: {transition}")

    def _holds_its_recovery(self, host: Host, transition: Transitioned) -> None:
        """ADR 0007: who has just recovered leaves a failing holder its time, whatever happens to engines meanwhile."""
        if transition.reason is not Reason.MASTER_FAILING or host.recovered_at is None:
            return
        if (passed := self.world.now - host.recovered_at) < RECOVERY_HOLD * 99 // 100:  # clocks drift
            raise Violation(f"{host.name} recovered {passed / 1e9:.3f} s ago and took over from one that fails")

    def _silence_was_silence(self, host: Host, transition: Transitioned) -> None:
        """RFC 9568 section 6.4.2: three intervals without an advertisement; also when the engine reads late, and
        whatever else was lost."""
        if transition.reason is not Reason.MASTER_SILENT or transition.peer is None:
            return
        passed = self.world.now - host.arrivals.get(transition.peer, Instant(0))
        if passed < 3 * self.world.options.interval * 99 // 100:  # clocks drift
            raise Violation(f"{host.name} took over from a silent Master that was heard {passed / 1e9:.3f} s ago")

    # ----- from time to time -----

    def check(self) -> None:
        """Promise 1: no failing node goes on holding for long while a healthy one hears it and is heard."""
        world = self.world
        for holder in world.hosts.values():
            failing = holder.runs and holder.holding and holder.health is not Health.HEALTHY
            healthier = [
                other
                for other in world.hosts.values()
                if other is not holder and world.healthy(other) and self._connected(holder.name, other.name)
            ]
            if not failing or not healthier:
                self._stuck.pop(holder.name, None)
                continue
            since = max(
                self._stuck.setdefault(holder.name, world.now),
                holder.disturbed_at,
                *(other.disturbed_at for other in healthier),
                *world.cuts.values(),
            )
            if world.now - since > self.stuck_bound:
                names = ", ".join(other.name for other in healthier)
                raise Violation(f"{holder.name} fails and holds for {(world.now - since) / 1e9:.3f} s beside {names}")
        self._one_holder_that_answers()

    def settled(self) -> None:
        """After everything was mended and the bounds have passed: one of the healthiest holds, and nobody else."""
        world = self.world
        answering = [host for host in world.hosts.values() if host.answers(world.now)]
        foreign = world.foreign is not None and world.foreign.master
        candidates = [host for host in world.hosts.values() if host.runs and not host.router_is_out]
        if len(answering) + foreign != 1 and (candidates or world.foreign):
            names = [host.name for host in answering] + ["foreign"] * foreign
            raise Violation(f"after everything was mended these hold: {names}")
        if answering and not foreign and world.foreign is None:
            best = max(band(host.router.effective_priority) for host in candidates if host.router)
            (holder,) = answering
            if holder.router is not None and band(holder.router.effective_priority) < best:
                raise Violation(f"{holder.name} holds in a lower band than another's")
            if not world.options.nopreempt:
                highest = max(host.router.effective_priority for host in candidates if host.router)
                if holder.router is not None and holder.router.effective_priority < highest:
                    raise Violation(f"{holder.name} holds, though another has a higher priority and preempts")
