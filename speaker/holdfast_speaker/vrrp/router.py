"""One virtual router: the state machine, and what its node and its user change.

Health, obstacles (link, addresses, kernel), another configuration, and a switchover on the user's wish.
"""

from __future__ import annotations

from dataclasses import replace

from holdfast_api.errors import ConfigurationError
from holdfast_api.reasons import Health, Obstacle, Reason
from holdfast_api.resources import HEALTHY_PRIORITY_MAX, HEALTHY_PRIORITY_MIN, PRIORITY_OWNER
from holdfast_speaker.vrrp.actions import NOTHING, Actions, AnnounceAddresses
from holdfast_speaker.vrrp.configuration import NEVER, STEPPING_ASIDE, Configuration
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant, skew_time
from holdfast_speaker.vrrp.machine import StateMachine
from holdfast_speaker.vrrp.states import Backup, Master, Silence

HAND_OVER_INTERVAL = SECOND
"""What a Master advertises last before it hands over: Backups then wait three seconds and their skew."""

_OBSTACLES_TO_SENDING = frozenset({Obstacle.LINK_DOWN, Obstacle.INTERFACE_MISSING, Obstacle.NO_SOURCE_ADDRESS})

_CHALLENGES = frozenset(
    {Reason.MASTER_FAILING, Reason.MASTER_STEPPED_ASIDE, Reason.HIGHER_PRIORITY, Reason.ADDRESS_OWNER}
)


class VirtualRouter(StateMachine):
    """One virtual router on one link. After every call the driver enforces `holds_addresses`, then does the actions."""

    # ----- changes -----

    def report_health(self, health: Health, now: Instant) -> Actions:
        """The services behind the VIP: worse acts at once, better after the hysteresis before this call (ADR 0007)."""
        if health is self.health:
            return NOTHING
        if health is Health.HEALTHY:
            self.recovered_at = now
        self.health = health
        if self._releases:
            return self.obstruct(Obstacle.SERVICE_FAILED, now)
        if Obstacle.SERVICE_FAILED in self.obstacles:
            return self.clear(Obstacle.SERVICE_FAILED, now)
        if isinstance(self.state, Backup) and health is not Health.HEALTHY:
            self.state = self._without_challenges(self.state)
        return self._assert_now(now)

    def _without_challenges(self, state: Backup) -> Backup:
        """What made a healthy node take over from a Master that is heard is no reason for a failing one."""
        silences = tuple(
            Silence(self._down_at(silence.heard.at, silence.heard.interval), silence.heard, Reason.MASTER_SILENT)
            if silence.heard and silence.because in _CHALLENGES
            else silence
            for silence in state.silences
        )
        return replace(state, silences=silences, preempt_at=None)

    def obstruct(self, obstacle: Obstacle, now: Instant, detail: str = "") -> Actions:
        """Something keeps this router from taking part; a Master that can still send says so with priority 0."""
        self.obstacles |= {obstacle}
        reason = Reason(obstacle.value)
        return self._leave(now, reason, detail, farewell=obstacle not in _OBSTACLES_TO_SENDING)

    def clear(self, obstacle: Obstacle, now: Instant) -> Actions:
        """The obstacle is gone. That is no reason to take the addresses: begin as a Backup that listens."""
        if obstacle not in self.obstacles:
            return NOTHING
        self.obstacles -= {obstacle}
        if self.obstacles:
            return NOTHING
        if obstacle is Obstacle.SERVICE_FAILED:
            recovered = self.health is Health.HEALTHY  # or told to degrade instead of releasing
            reason = Reason.SERVICE_RECOVERED if recovered else Reason.OBSTACLE_GONE
            return self._begin(now, reason, NEVER)  # the link was up all the time
        reason = Reason.LINK_UP if obstacle in _OBSTACLES_TO_SENDING else Reason.OBSTACLE_GONE
        return self._begin(now, reason, self._quiet_until(now))

    @property
    def distrusts_silence(self) -> bool:
        """Whether this router began to listen a moment ago and has no proof yet that it hears."""
        return isinstance(self.state, Backup) and self.state.not_before != NEVER

    def hearing_proven(self) -> None:
        """A neighbour's answer came in: from now on silence means that there is no Master."""
        if isinstance(self.state, Backup):
            self.state = replace(self.state, not_before=NEVER)

    def reconfigure(self, configuration: Configuration, now: Instant) -> Actions:
        """Another priority, other addresses, interval, peers, ...: the state stays, a Master tells the others at once.

        The VRID and the version stay; another VRID or version is another virtual router.
        """
        before, self.configuration = self.configuration, configuration
        self._packets.clear()
        if self._releases:
            return self.obstruct(Obstacle.SERVICE_FAILED, now)
        if Obstacle.SERVICE_FAILED in self.obstacles:
            return self.clear(Obstacle.SERVICE_FAILED, now)
        if isinstance(self.state, Backup):
            self.state = self._with_families_of(before, self.state)
            return self._promote(now, Reason.ADDRESS_OWNER) if self._own_priority == PRIORITY_OWNER else NOTHING
        if not isinstance(self.state, Master):
            return NOTHING
        self.state = replace(self.state, announce_at=self._announcements(now))
        return (*self._assert_now(now), AnnounceAddresses())

    def _with_families_of(self, before: Configuration, state: Backup) -> Backup:
        known = dict(zip((family.width for family in before.families), state.silences, strict=True))
        # A family that is new knows as much of the Master as the one that is not.
        silences = tuple(known.get(family.width, state.silences[0]) for family in self.configuration.families)
        return replace(state, silences=silences)

    # ----- the user's wish -----

    def take_over(self, now: Instant) -> Actions:
        """Switchover to this node, make before break: be Master first; the old holder yields when it hears that.

        Raises ConfigurationError, with nothing changed, where this node cannot or should not hold the addresses.
        """
        if isinstance(self.state, Master):
            # It may be stepping aside, or have a wish from before: this one is the last.
            self.state = replace(self.state, wished_priority=None, wish_ends_at=None, stepping_aside=False)
            return self._assert_now(now)
        if not isinstance(self.state, Backup):
            raise ConfigurationError(f"this node is out of the election: {', '.join(sorted(self.obstacles))}")
        if self.health is not Health.HEALTHY:
            raise ConfigurationError("the services on this node are failing")
        heard = max(
            (silence.heard for silence in self.state.silences if silence.heard),
            key=lambda heard: heard.priority,
            default=None,
        )
        if heard is None:
            raise ConfigurationError("no Master was heard yet; where there is none, this node takes the VIP by itself")
        if heard.priority >= HEALTHY_PRIORITY_MAX:
            raise ConfigurationError(f"the holder's priority {heard.priority} leaves none above it")
        if heard.priority < self.configuration.priority:
            return self._promote(now, Reason.SWITCHOVER, heard)
        # Without nopreempt the old holder would take the VIP back as soon as the wish ended.
        ends_at = self._down_at(now, heard.interval) if self.configuration.nopreempt else None
        return self._promote(now, Reason.SWITCHOVER, heard, heard.priority + 1, ends_at)

    @property
    def challenge_time(self) -> Duration:
        """How long the slowest healthy Backup listens to a failing Master before it takes over (ADR 0004)."""
        return skew_time(self.configuration.version, HEALTHY_PRIORITY_MIN, self.configuration.interval)

    def step_aside(self, now: Instant) -> Actions:
        """Switchover away from this Master: advertise a lower band until a healthy Backup takes over (or none).

        The priority is above every failing one, so that no failing Backup preempts.

        Raises ConfigurationError, with nothing changed, where this node is not Master or would be again at once.
        """
        if not isinstance(self.state, Master):
            raise ConfigurationError("this node does not hold the VIP")
        if self._own_priority == PRIORITY_OWNER:
            raise ConfigurationError("this node owns the addresses (priority 255)")
        self.state = replace(
            self.state,
            wished_priority=STEPPING_ASIDE,
            wish_ends_at=self._down_at(now, self.configuration.interval),
            stepping_aside=True,
        )
        return self._assert_now(now)

    # ----- from one process to the next -----

    def hand_over(self, now: Instant) -> Actions:
        """Tell the Backups to wait longer, so that a successor on this node can go on as Master; the state stays.

        VRRPv3: the last advertisement has a larger Max_Advert_Int, which a Backup adopts at once. VRRPv2 knows no such
        thing: the successor has the three intervals that every silence has. Twice, because one may be lost.
        """
        if not isinstance(self.state, Master):
            return NOTHING
        longer = max(self.configuration.interval, HAND_OVER_INTERVAL) if self.configuration.version == 3 else None
        self.state = replace(self.state, next_advertisement_at=Instant(now + self.configuration.interval))
        return 2 * self._advertise(self.effective_priority, longer)

    def resume_as_master(self, last_seen: Instant, recovered_at: Instant | None = None) -> None:
        """Go on as the Master that this router was in another process, which was seen to run at `last_seen`.

        Nothing has moved, so this is no transition. If others took over meanwhile, their advertisements say so: the
        driver reads them before the first poll. `recovered_at` is that of the router in that process.
        """
        self.recovered_at = recovered_at
        self.state = Master(last_seen)

    def resume_as_backup(self, now: Instant, recovered_at: Instant | None = None) -> None:
        """Go on as the Backup that this router was in another process: it has heard the Master, and listens on.

        The Master may be handing over at this moment, and have said so to the process before: that patience counts
        until the next advertisement. VRRPv2 knows no such thing. `recovered_at` is that of the router in that process,
        so that a restart does not end a recovery hold.
        """
        self.recovered_at = recovered_at
        interval = self.configuration.interval
        patience = max(interval, HAND_OVER_INTERVAL) if self.configuration.version == 3 else interval
        silence = Silence(self._down_at(now, patience), None, Reason.NO_MASTER_HEARD)
        self.state = Backup((silence,) * len(self.configuration.families))
