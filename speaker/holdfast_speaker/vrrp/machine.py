"""The state machine of RFC 9568 section 6.4 with Holdfast's health bands: packets and time.

Every rule of the protocol that moves a VIP is in this file; router.py adds what the node and the user change. It is
given the time and what was received, and answers with what to do; it reads no clock and does no I/O. Where the RFC's
Active_Down_Timer, Adver_Timer and Skew_Time appear, the comment names the section. A router has one family or two
(IPv4, IPv6) that share its state (ADR 0003).
"""

from __future__ import annotations

from collections import Counter as Multiset
from collections.abc import Mapping
from dataclasses import replace

from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_api.resources import PRIORITY_OWNER
from holdfast_speaker.vrrp.actions import NOTHING, Actions, AnnounceAddresses, SendAdvertisement, Transitioned
from holdfast_speaker.vrrp.admission import admits
from holdfast_speaker.vrrp.configuration import NEVER, STEPPING_ASIDE, Configuration, Family, band, failing_priority
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import (
    MILLISECOND,
    ZERO,
    Duration,
    Instant,
    learned_interval_limit,
    master_down_interval,
    skew_time,
)
from holdfast_speaker.vrrp.packet import Advertisement
from holdfast_speaker.vrrp.sending import advertisements
from holdfast_speaker.vrrp.states import Backup, Heard, Initialize, Master, RouterState, Silence

ALLOWED: Mapping[State, frozenset[State]] = {
    State.INITIALIZE: frozenset({State.BACKUP, State.MASTER}),
    State.BACKUP: frozenset({State.MASTER, State.INITIALIZE}),
    State.MASTER: frozenset({State.BACKUP, State.INITIALIZE}),
}
"""RFC 9568 section 6.3, the transition diagram."""

ANNOUNCE_AFTER: tuple[Duration, ...] = tuple(Duration(ms * MILLISECOND) for ms in (100, 500, 2000, 5000))
"""When announcements are repeated after the first: switches and hosts lose broadcasts just when a network changes."""


class StateMachine:
    """One virtual router as packets and time move it.

    After every call the driver enforces `holds_addresses`, then does the returned actions in their order.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.state: RouterState = Initialize()
        self.obstacles: frozenset[Obstacle] = frozenset()
        self.health = Health.HEALTHY
        self.counters: Multiset[Counter] = Multiset()
        self.recovered_at: Instant | None = None  # the next process has to know it, too (ADR 0007)
        self._packets: dict[tuple[int, int], tuple[SendAdvertisement, ...]] = {}

    # ----- what the driver asks -----

    @property
    def holds_addresses(self) -> bool:
        """The level that the kernel's addresses follow: there exactly while this router is Master."""
        return isinstance(self.state, Master)

    @property
    def state_name(self) -> State:
        """The state as users know it."""
        match self.state:
            case Initialize():
                return State.INITIALIZE
            case Backup():
                return State.BACKUP
            case Master():
                return State.MASTER

    @property
    def effective_priority(self) -> int:
        """What this router advertises as Master: its own priority in the band of its health, or the user's wish."""
        own = self._own_priority
        if isinstance(self.state, Master) and self.state.wished_priority is not None:
            return self.state.wished_priority if band(own) else own
        return own

    @property
    def _own_priority(self) -> int:
        if self.health is Health.HEALTHY:
            return self.configuration.priority
        return failing_priority(self.configuration.priority)

    def next_deadline(self) -> Instant | None:
        """When poll() has something to do. Calling it earlier is harmless, later is late."""
        match self.state:
            case Initialize():
                return None
            case Backup():
                return self.state.due
            case Master(next_advertisement_at=advertisement, announce_at=announcements):
                return min(advertisement, announcements[0]) if announcements else advertisement

    # ----- start and stop -----

    def start(
        self, now: Instant, health: Health = Health.HEALTHY, obstacles: frozenset[Obstacle] = frozenset()
    ) -> Actions:
        """RFC 9568 section 6.4.1, Startup."""
        self.health = health
        self.obstacles = obstacles
        if self._releases:
            self.obstacles |= {Obstacle.SERVICE_FAILED}
        if self.obstacles:
            return NOTHING
        return self._begin(now, Reason.STARTED, self._quiet_until(now))

    def stop(self, now: Instant, reason: Reason = Reason.STOPPED) -> Actions:
        """RFC 9568 section 6.4.2 and 6.4.3, Shutdown: a Master says so with priority 0."""
        self.obstacles |= {Obstacle.STOPPED}
        return self._leave(now, reason, "", farewell=True)

    def _begin(self, now: Instant, reason: Reason, not_before: int) -> Actions:
        if self._own_priority == PRIORITY_OWNER:
            return self._promote(now, Reason.ADDRESS_OWNER)
        silence = Silence(self._down_at(now, self.configuration.interval), None, Reason.NO_MASTER_HEARD)
        silences = (silence,) * len(self.configuration.families)
        return (self._enter(Backup(silences, Instant(not_before)), now, reason),)

    @property
    def _releases(self) -> bool:
        return self.configuration.release_when_failing and self.health is not Health.HEALTHY

    def _leave(self, now: Instant, reason: Reason, detail: str, *, farewell: bool) -> Actions:
        if isinstance(self.state, Initialize):
            return NOTHING
        says_farewell = farewell and self.holds_addresses
        transition = self._enter(Initialize(), now, reason, detail=detail)
        return (transition, *self._advertise(0)) if says_farewell else (transition,)

    # ----- packets: RFC 9568 section 6.4.2 and 6.4.3 -----

    def receive(self, advertisement: Advertisement, now: Instant) -> Actions:
        """A packet of this VRID whose form is valid. Whatever is not obeyed is counted."""
        if not admits(self.configuration, advertisement, self.counters):
            return NOTHING
        match self.state:
            case Initialize():
                self.counters[Counter.NOT_RUNNING] += 1
                return NOTHING
            case Backup():
                return self._receive_as_backup(self.state, advertisement, now)
            case Master():
                return self._receive_as_master(self.state, advertisement, now)

    def _receive_as_backup(self, state: Backup, advertisement: Advertisement, now: Instant) -> Actions:
        index = self._family_index(advertisement)
        silence = state.silences[index]
        priority = advertisement.priority
        preempt_at = state.preempt_at
        known = silence.heard
        if known is not None and known.source != advertisement.source:
            if priority == 0:
                # Only the Master can give the addresses up: a stray farewell must not interrupt a living one.
                self.counters[Counter.STRAY_FAREWELLS] += 1
                return NOTHING
            is_followed = silence.because is Reason.MASTER_SILENT and now - known.at < known.interval
            if is_followed and band(priority) < band(known.priority):
                # A failing Master that has been replaced just now, and whose last word was overtaken on its way.
                self.counters[Counter.LOWER_PRIORITY] += 1
                return NOTHING
        if priority == 0:
            # Section 6.4.2: the Master leaves; the timer is Skew_Time of the interval known so far.
            interval = known.interval if known else self.configuration.interval
            down_at = Instant(now + self._skew_time(interval))
            if silence.because is Reason.MASTER_STEPPED_ASIDE:  # it asked before, and that time counts (ADR 0012)
                down_at = min(silence.down_at, down_at)
            silence = Silence(down_at, silence.heard, Reason.MASTER_RELEASED)
        elif self._may_challenge(advertisement, now):
            # Beyond the RFC: a Master of a lower band is replaced after Skew_Time, not Active_Down_Interval (ADR 0004).
            self.counters[Counter.LOWER_PRIORITY] += 1
            heard = self._heard(advertisement, now)
            down_at = min(silence.down_at, Instant(now + self._skew_time(heard.interval)))
            because = Reason.MASTER_STEPPED_ASIDE if priority == STEPPING_ASIDE else Reason.MASTER_FAILING
            silence = Silence(down_at, heard, Reason.ADDRESS_OWNER if self.configuration.owner else because)
        elif (
            priority >= self._own_priority or self.configuration.nopreempt or band(priority) < band(self._own_priority)
        ):
            # Section 6.4.2: this is the Master; learn its interval and wait for its silence.
            heard = self._heard(advertisement, now)
            silence = Silence(self._down_at(now, heard.interval), heard, Reason.MASTER_SILENT)
            preempt_at = None
        else:
            preempt_at = preempt_at or Instant(now + self.configuration.preempt_delay)
            heard = self._heard(advertisement, now)
            if now < preempt_at:
                silence = Silence(self._down_at(now, heard.interval), heard, Reason.MASTER_SILENT)
            else:
                # Section 6.4.2: a lower priority is discarded, so that the running timer ends its time.
                self.counters[Counter.LOWER_PRIORITY] += 1
                silence = Silence(silence.down_at, heard, Reason.HIGHER_PRIORITY)
        silences = (*state.silences[:index], silence, *state.silences[index + 1 :])
        # An advertisement is the proof that this node hears: from now on silence means something.
        self.state = Backup(silences, NEVER, preempt_at)
        return NOTHING

    def _may_challenge(self, advertisement: Advertisement, now: Instant) -> bool:
        if band(advertisement.priority) >= band(self._own_priority):
            return False
        return self.recovered_at is None or now >= self.recovered_at + self.configuration.recovery_hold

    def _receive_as_master(self, state: Master, advertisement: Advertisement, now: Instant) -> Actions:
        ours, theirs = self.effective_priority, advertisement.priority
        family = self.configuration.families[self._family_index(advertisement)]
        if theirs == 0:
            return self._answer(state, now)  # section 6.4.3
        if self.configuration.owner and ours == theirs:
            self.counters[Counter.OWNER_CONFLICTS] += 1  # erratum 8298: two owners are reported, and neither yields
            return self._answer(state, now)
        if self._stalled(state, now) and band(theirs) >= band(ours):
            # Others had every right to take over while this process did not run; they keep what they took.
            return self._yield_to(advertisement, now, Reason.SUPERSEDED_WHILE_STALLED)
        if theirs > ours or (theirs == ours and self._loses_tie(state, advertisement, family, now)):  # section 6.4.3
            return self._yield_to(advertisement, now, self._reason_to_yield(state, theirs))
        self.counters[Counter.LOWER_PRIORITY] += 1
        if family is self.configuration.families[0]:
            self.state = state = replace(state, rival_at=now)
        answer = self._answer(state, now)
        return (*answer, AnnounceAddresses()) if answer else NOTHING

    def _loses_tie(self, state: Master, advertisement: Advertisement, family: Family, now: Instant) -> bool:
        """Section 6.4.3: of equals the higher address stays, in the first family that they hear each other in.

        Two Masters whose addresses are in one order over IPv4 and in the other over IPv6 would both yield otherwise.
        """
        decided_at = state.rival_at if family is not self.configuration.families[0] else None
        if decided_at is not None and now - decided_at < 2 * self.configuration.interval:
            return False
        return advertisement.source > family.source

    def _reason_to_yield(self, state: Master, theirs: int) -> Reason:
        if state.stepping_aside:
            return Reason.SWITCHOVER
        if band(theirs) > band(self.effective_priority):
            return Reason.HEALTHIER_MASTER
        return Reason.HIGHER_PRIORITY if theirs > self.effective_priority else Reason.HIGHER_ADDRESS

    def _stalled(self, state: Master, now: Instant) -> bool:
        """Whether the last advertisement is so old that every Backup had to take over: three intervals and more."""
        return now - state.next_advertisement_at > 2 * self.configuration.interval

    def _answer(self, state: Master, now: Instant) -> Actions:
        """Section 6.4.3: assert Master at once, so that the rival and the bridges learn it.

        A flood of rivals is answered four times an interval, not each time.
        """
        if state.answered_at is not None and now - state.answered_at < self.configuration.interval // 4:
            return NOTHING
        due = Instant(now + self.configuration.interval)
        self.state = replace(state, next_advertisement_at=due, answered_at=now)
        return self._advertise(self.effective_priority)

    def _yield_to(self, advertisement: Advertisement, now: Instant, reason: Reason) -> Actions:
        """Section 6.4.3: Backup, with the new Master's interval."""
        heard = self._heard(advertisement, now)
        silence = Silence(self._down_at(now, heard.interval), heard, Reason.MASTER_SILENT)
        return (
            self._enter(
                Backup((silence,) * len(self.configuration.families)),
                now,
                reason,
                peer=advertisement.source,
                peer_priority=advertisement.priority,
            ),
        )

    # ----- time -----

    def poll(self, now: Instant) -> Actions:
        """What is due by now."""
        match self.state:
            case Initialize():
                return NOTHING
            case Backup():
                return self._poll_backup(self.state, now)
            case Master():
                return self._poll_master(self.state, now)

    def _poll_backup(self, state: Backup, now: Instant) -> Actions:
        if now < state.due:
            return NOTHING
        last = max(state.silences, key=lambda silence: silence.down_at)
        interval = last.heard.interval if last.heard else self.configuration.interval
        if now - state.due > interval and not state.overslept:
            # This process did not run when it should have: what it did not hear is no evidence of silence.
            grace = Instant(now + interval + self._skew_time(interval))
            silences = tuple(replace(silence, down_at=grace) for silence in state.silences)
            self.state = replace(state, silences=silences, overslept=True)
            return NOTHING
        return self._promote(now, last.because, last.heard)

    def _promote(
        self,
        now: Instant,
        reason: Reason,
        heard: Heard | None = None,
        wished_priority: int | None = None,
        wish_ends_at: Instant | None = None,
    ) -> Actions:
        """Section 6.4.2: addresses (the level), advertisement, gratuitous ARP and unsolicited NA, in order."""
        due = Instant(now + self.configuration.interval)
        transition = self._enter(
            Master(due, self._announcements(now), wished_priority=wished_priority, wish_ends_at=wish_ends_at),
            now,
            reason,
            peer=heard.source if heard else None,
            peer_priority=heard.priority if heard else 0,
            silent=Duration(now - heard.at) if heard else ZERO,
        )
        return (transition, *self._advertise(self.effective_priority), AnnounceAddresses())

    def _poll_master(self, state: Master, now: Instant) -> Actions:
        if state.wish_ends_at is not None and now >= state.wish_ends_at:
            state = replace(state, wished_priority=None, wish_ends_at=None, stepping_aside=False)
            self.state = state
        actions: Actions = NOTHING
        due = state.next_advertisement_at
        if now >= due:
            # Section 6.4.3. One advertisement however late it is, and back into step unless the step is lost.
            step = Instant(due + self.configuration.interval)
            later = step if step > now else Instant(now + self.configuration.interval)
            self.state = state = replace(state, next_advertisement_at=later)
            actions = self._advertise(self.effective_priority)
        if state.announce_at and now >= state.announce_at[0]:
            self.state = replace(state, announce_at=tuple(at for at in state.announce_at if at > now))
            actions = (*actions, AnnounceAddresses())
        return actions

    # ----- pieces -----

    def _quiet_until(self, now: Instant) -> Instant:
        """Until when silence is no evidence; staggered by priority, as everything else is that ends in a promotion."""
        return Instant(now + self.configuration.quiet_period + self._skew_time(self.configuration.interval))

    def _assert_now(self, now: Instant) -> Actions:
        """A Master whose priority or addresses changed says so at once, whatever its timer says."""
        if not isinstance(self.state, Master):
            return NOTHING
        due = Instant(now + self.configuration.interval)
        self.state = replace(self.state, next_advertisement_at=due)
        return self._advertise(self.effective_priority)

    def _enter(
        self,
        state: RouterState,
        now: Instant,
        reason: Reason,
        *,
        peer: bytes | None = None,
        peer_priority: int = 0,
        silent: Duration = ZERO,
        detail: str = "",
    ) -> Transitioned:
        """The only place where one state becomes another."""
        before = self.state_name
        self.state = state
        after = self.state_name
        if after not in ALLOWED[before]:
            raise AssertionError(f"{before} to {after} for {reason}")
        return Transitioned(now, before, after, reason, self.effective_priority, peer, peer_priority, silent, detail)

    def _family_index(self, advertisement: Advertisement) -> int:
        # One family or two, and what came was admitted: it is the first, or else the second.
        return 0 if self.configuration.families[0].width == len(advertisement.source) else 1

    def _heard(self, advertisement: Advertisement, now: Instant) -> Heard:
        limit = learned_interval_limit(self.configuration.interval)
        if advertisement.interval > limit:
            self.counters[Counter.INTERVAL_CAPPED] += 1
        return Heard(advertisement.source, advertisement.priority, min(advertisement.interval, limit), now)

    def _skew_time(self, interval: Duration) -> Duration:
        return skew_time(self.configuration.version, self._own_priority, interval)

    def _down_at(self, now: Instant, interval: Duration) -> Instant:
        return Instant(now + master_down_interval(self.configuration.version, self._own_priority, interval))

    def _announcements(self, now: Instant) -> tuple[Instant, ...]:
        return tuple(Instant(now + after) for after in ANNOUNCE_AFTER)

    def _advertise(self, priority: int, interval: Duration | None = None) -> tuple[SendAdvertisement, ...]:
        """An advertisement to every destination of every family, encoded once for each priority and interval."""
        configuration = self.configuration
        interval = interval or configuration.interval
        key = (priority, interval)
        if key not in self._packets:
            self._packets[key] = advertisements(configuration, priority, interval)
        packets = self._packets[key]
        self.counters[Counter.ADVERTISEMENT_SENT] += len(packets)
        if priority == 0:
            self.counters[Counter.PRIORITY_ZERO_PKTS_SENT] += len(packets)
        return packets
