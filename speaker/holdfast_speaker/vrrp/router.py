"""One virtual router: the state machine of RFC 9568 section 6.4 with Holdfast's health bands.

Every rule that moves a VIP is in this file, in the order of the RFC: Initialize (6.4.1), Backup (6.4.2), Master
(6.4.3, where it is called Active); after it what the RFC does not know: health, obstacles, another configuration,
a user's wish, and the next process. The router is given the time and what was received, and answers with what to do;
it reads no clock and does no I/O. Where the RFC's Active_Down_Timer, Adver_Timer and Skew_Time appear, the comment
names the section. A router has one family or two (IPv4, IPv6) that share its state (ADR 0003).
"""

from __future__ import annotations

from collections import Counter as Multiset
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from holdfast_api.errors import ConfigurationError
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_api.resources import HEALTHY_PRIORITY_MAX, HEALTHY_PRIORITY_MIN, PRIORITY_OWNER
from holdfast_speaker.vrrp.actions import (
    NOTHING,
    Actions,
    AnnounceAddresses,
    Refused,
    SendAdvertisement,
    Transitioned,
)
from holdfast_speaker.vrrp.admission import MAY_BE_A_SPLIT_BRAIN, Acquaintances, admit
from holdfast_speaker.vrrp.configuration import STEPPING_ASIDE, Configuration, Family, band, failing_priority
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import (
    CENTISECOND,
    MILLISECOND,
    SECOND,
    ZERO,
    Duration,
    Instant,
    learned_interval_limit,
    master_down_interval,
    skew_time,
)
from holdfast_speaker.vrrp.packet import Advertisement, encode
from holdfast_speaker.vrrp.states import (
    TRANSITIONS,
    Backup,
    Challenge,
    Challenging,
    CutOff,
    FirstHold,
    Following,
    Heard,
    Initialize,
    Knowledge,
    Lateness,
    Listening,
    Master,
    Released,
    RouterState,
    Wish,
    WishKind,
)

ANNOUNCE_AFTER: tuple[Duration, ...] = tuple(Duration(ms * MILLISECOND) for ms in (100, 500, 2000, 5000))
"""When announcements are repeated after the first: switches and hosts lose broadcasts just when a network changes."""

HAND_OVER_INTERVAL = SECOND
"""What a Master advertises last before it hands over: Backups then wait three seconds and their skew."""

YIELDS_AFTER_A_CUT = Duration(60 * SECOND)
"""How long after its link came back a Master leaves the addresses to a rival that is as healthy."""

LATENESS_LASTS = Duration(30 * SECOND)
"""A Master that was late asks for patience for so long, and for another such time: bursts of other work come again."""

LONGEST_PATIENCE = 4
"""In intervals: no more than this is asked for, as a failure is noticed that much later."""

LONG_STALL = Duration(2 * SECOND)
"""A machine that stood still for longer may have slept or been moved, so that its port forwards late."""

ASKS_AFTER_A_LONG_STALL = Duration(60 * SECOND)
"""How long a Master asks after a long stall who has a better right; after a short one it is three intervals."""

HALF_AS_PATIENT_AFTER = Duration(10 * SECOND)
"""Of a Master that hears somebody for the first time: one that has just begun waits two intervals before it asserts its
own priority, one that has held the addresses for this long waits one, and one that has held them for days does not."""

_NEIGHBOURS_MAY_NOT_KNOW = frozenset(
    {
        Reason.HIGHER_PRIORITY,
        Reason.HIGHER_ADDRESS,
        Reason.HEALTHIER_MASTER,
        Reason.SUPERSEDED_WHILE_CUT_OFF,
        Reason.SUPERSEDED_WHILE_STALLED,
    }
)
"""Why a Master may have yielded to one that has long been Master, beside this one."""

_OBSTACLES_TO_HEARING = frozenset({Obstacle.LINK_DOWN, Obstacle.INTERFACE_MISSING})
"""After them, what was proven on the link before has to be proven again."""

_OBSTACLES_OF_THE_LINK = _OBSTACLES_TO_HEARING | {Obstacle.NO_SOURCE_ADDRESS}
_OBSTACLES_TO_SENDING = _OBSTACLES_OF_THE_LINK | {Obstacle.CANNOT_SEND, Obstacle.TOO_FEW_DESCRIPTORS}

_WHY_CHALLENGED: Final[Mapping[Challenge, Reason]] = {
    Challenge.FAILING: Reason.MASTER_FAILING,
    Challenge.STEPPING_ASIDE: Reason.MASTER_STEPPED_ASIDE,
    Challenge.LOWER_PRIORITY: Reason.HIGHER_PRIORITY,
    Challenge.OWNER: Reason.ADDRESS_OWNER,
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that decides what a virtual router does next. msgspec encodes and decodes it as it is."""

    configuration: Configuration
    state: RouterState
    health: Health
    obstacles: frozenset[Obstacle]
    recovered_at: Instant | None
    listening_since: Instant | None
    proven: frozenset[int]
    acquaintances: Acquaintances
    unreachable: frozenset[bytes] = frozenset()


class VirtualRouter:
    """One virtual router on one link.

    After every call the engine makes the kernel's addresses what `holds_addresses` says, then does the returned
    actions in their order.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.state: RouterState = Initialize()
        self.obstacles: frozenset[Obstacle] = frozenset()
        self.health = Health.HEALTHY
        self.recovered_at: Instant | None = None  # the next process has to know it, too (ADR 0007)
        self.listening_since: Instant | None = None
        self.proven: frozenset[int] = frozenset()
        self.acquaintances = Acquaintances()
        self.unreachable: frozenset[bytes] = frozenset()
        """Peers to which this host lets nothing out: they cannot hear this Master."""
        self.counters: Multiset[Counter] = Multiset()
        self._packets: dict[tuple[int, Duration], tuple[SendAdvertisement, ...]] = {}

    def checkpoint(self) -> Checkpoint:
        """What this router knows now; values, so that nothing is copied."""
        return Checkpoint(
            self.configuration,
            self.state,
            self.health,
            self.obstacles,
            self.recovered_at,
            self.listening_since,
            self.proven,
            self.acquaintances,
            self.unreachable,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Know what a router knew, to go on from there. Counters are no part of it."""
        self.configuration = checkpoint.configuration
        self.state = checkpoint.state
        self.health = checkpoint.health
        self.obstacles = checkpoint.obstacles
        self.recovered_at = checkpoint.recovered_at
        self.listening_since = checkpoint.listening_since
        self.proven = checkpoint.proven
        self.acquaintances = checkpoint.acquaintances
        self.unreachable = checkpoint.unreachable
        self._packets.clear()

    # ----- what the engine asks -----

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
        """What this router advertises as Master: its own priority in the band of its health, or the user's wish.

        As long as it has not heard anybody, and after a stall, the lowest healthy one.
        """
        own = self._own_priority
        if isinstance(self.state, Master) and self.state.wish is not None:
            return self.state.wish.priority if band(own) else own
        return HEALTHY_PRIORITY_MIN if self.unproved or self._is_unlisted else own

    @property
    def advertised_interval(self) -> Duration:
        """Max_Advert_Int of what it sends as Master; longer than its own while its advertisements are late (ADR 38)."""
        return self._said_interval(self.state) if isinstance(self.state, Master) else self.configuration.interval

    @property
    def patience(self) -> Duration:
        """How long after the last advertisement of the Master that it hears it takes over from silence; 0: it hears
        none, or is Master itself."""
        state = self.state
        heard = [known.heard.interval for known in state.known if known.heard] if isinstance(state, Backup) else []
        version, priority = self.configuration.version, self._own_priority
        return max((master_down_interval(version, priority, interval) for interval in heard), default=ZERO)

    @property
    def unproved(self) -> bool:
        """Whether this Master may be one only because it hears nobody: it advertises the lowest healthy priority then.

        With nopreempt, among known members: a switch port that forwards late must not cost the incumbent its VIP, and
        whoever really is the only one left holds it with any priority.
        """
        return (
            isinstance(self.state, Master)
            and self.configuration.nopreempt
            and self.configuration.knows_others
            and (not self._hears or self.state.asserts_at is not None)
            and band(self._own_priority) == 1
            and self.state.wish is None
        )

    @property
    def _is_unlisted(self) -> bool:
        """Whether it is a Master that the others refuse to hear, as with an address that it has been given just now.

        Then one of them takes over, and it is to be the only one.
        """
        asked = self.configuration
        return (
            asked.unlisted and asked.knows_others and isinstance(self.state, Master) and band(self._own_priority) == 1
        )

    @property
    def _hears(self) -> bool:
        return any(family.width in self.proven for family in self.configuration.families)

    @property
    def distrusts_silence(self) -> bool:
        """Whether this router began to listen a moment ago and has no proof yet that it hears."""
        return isinstance(self.state, Backup) and self.state.not_before is not None

    def next_deadline(self) -> Instant | None:
        """When poll() has something to do. Calling it earlier is harmless, later is late."""
        match self.state:
            case Initialize():
                return None
            case Backup():
                return self._due(self.state)
            case Master(cut_off=CutOff(until=until)):
                return until
            case Master(next_advertisement_at=due, announce_at=announcements, asserts_at=asserts_at):
                if announcements:
                    due = min(due, announcements[0])
                return due if asserts_at is None else min(due, asserts_at)

    # ----- every event of RFC 9568 section 6.4: startup, shutdown, an advertisement, a timer -----

    def start(
        self,
        now: Instant,
        health: Health = Health.HEALTHY,
        obstacles: frozenset[Obstacle] = frozenset(),
        proven: frozenset[int] = frozenset(),
        first_hold: FirstHold | None = None,
    ) -> Actions:
        """RFC 9568 section 6.4.1, Startup. `proven`: the widths (4, 16) of the families in which this link is heard.

        `first_hold`: who was chosen to hold the addresses first, where nobody is known to hold them yet. Who is chosen
        trusts a short silence, so its link has to have been up for a while, or be proven.
        """
        self.health = health
        self.obstacles = obstacles
        self.proven = proven
        self.listening_since = now
        if self._releases:
            self.obstacles |= {Obstacle.SERVICE_FAILED}
        if self.obstacles:
            return NOTHING
        started = self._begin(now, Reason.STARTED)
        if first_hold is not None and isinstance(self.state, Backup):
            self.state = self._with_first_hold(self.state, first_hold, now)
        return started

    def stop(self, now: Instant, reason: Reason = Reason.STOPPED) -> Actions:
        """RFC 9568 section 6.4.2 and 6.4.3, Shutdown: a Master says so with priority 0."""
        self.obstacles |= {Obstacle.STOPPED}
        return self._leave(now, reason, with_priority_zero=True)

    def receive(self, advertisement: Advertisement, now: Instant) -> Actions:
        """A packet of this VRID whose form is valid. Whatever is not obeyed is counted."""
        followed = self._followed(advertisement.source)
        admitted = admit(self.configuration, self.acquaintances, advertisement, self.counters, followed)
        if isinstance(admitted, Counter):
            return self._refuse(admitted, advertisement)
        self.acquaintances = admitted
        match self.state:
            case Backup():
                self._prove(len(advertisement.source))
                return self._receive_as_backup(self.state, advertisement, now)
            case Master(cut_off=None):
                return self._receive_as_master(self.state, advertisement, now)
            case _:
                self.counters[Counter.NOT_RUNNING] += 1
                return NOTHING

    def _followed(self, source: bytes) -> bytes | None:
        """The Master that this Backup follows in the family of that source; the source, if nobody was heard yet."""
        if not isinstance(self.state, Backup):
            return None
        for family, known in zip(self.configuration.families, self.state.known, strict=True):
            if family.width == len(source):
                return known.heard.source if known.heard is not None else source
        return None

    def _refuse(self, counter: Counter, advertisement: Advertisement) -> Actions:
        # Over IPv6 a router of IPv4 alone is asked nothing, so that nothing of it is at stake.
        is_ours = self.configuration.family(len(advertisement.source)) is not None
        return (Refused(counter, advertisement.source),) if is_ours and counter in MAY_BE_A_SPLIT_BRAIN else NOTHING

    def _prove(self, width: int) -> None:
        if width not in self.proven:
            self.proven |= {width}

    def poll(self, now: Instant) -> Actions:
        """What is due by now."""
        match self.state:
            case Initialize():
                return NOTHING
            case Backup():
                return self._poll_as_backup(self.state, now)
            case Master():
                return self._poll_as_master(self.state, now)

    # ----- Initialize: RFC 9568 section 6.4.1 -----

    def _begin(self, now: Instant, reason: Reason, detail: str = "", *, trusts_silence: bool = False) -> Actions:
        """The owner of the addresses is Master at once, everybody else listens."""
        delayed_until = self._delayed_until(now)
        if self._own_priority == PRIORITY_OWNER and delayed_until is None:
            return self._promote(now, Reason.ADDRESS_OWNER)
        down_at, not_before = self._down_at(now, self.configuration.interval), None
        if self.configuration.alone:
            down_at = self._after_an_interval(now)
        elif not trusts_silence and not self._hears:
            not_before = self._quiet_until(now)
        known = (Listening(down_at),) * len(self.configuration.families)
        return (self._enter(Backup(known, not_before, delayed_until), now, reason, detail=detail),)

    def _after_an_interval(self, now: Instant) -> Instant:
        """And a little more, as no Master is ever quite on time."""
        interval = self.configuration.interval
        return Instant(now + interval + interval // 16)

    def _with_first_hold(self, state: Backup, first_hold: FirstHold, now: Instant) -> Backup:
        """Who was chosen listens for an interval.

        All others wait for a second at least, as where nobody was heard on the link yet: their configuration may have
        come sooner. So does who was chosen and is not healthy.
        """
        down_at = max(state.due, self._quiet_until(now))
        first_hold_at = self._after_an_interval(now) if first_hold is FirstHold.HERE else None
        return replace(state, known=state.all_down_at(down_at), first_hold_at=first_hold_at)

    def _delayed_until(self, now: Instant) -> Instant | None:
        if self.listening_since is None or now >= self.listening_since + self.configuration.start_delay:
            return None
        return Instant(self.listening_since + self.configuration.start_delay)

    def _quiet_until(self, now: Instant) -> Instant:
        """Until when silence is no evidence; staggered by priority, as everything else is that ends in a promotion."""
        return Instant(now + self.configuration.quiet_period + self._skew_time(self.configuration.interval))

    def _leave(self, now: Instant, reason: Reason, detail: str = "", *, with_priority_zero: bool) -> Actions:
        """Initialize again; a Master that can still send says so with priority 0."""
        if isinstance(self.state, Initialize):
            return NOTHING
        says_so = with_priority_zero and self.holds_addresses and not self.obstacles & _OBSTACLES_TO_SENDING
        transition = self._enter(Initialize(), now, reason, detail=detail)
        return (transition, *self._advertise(0)) if says_so else (transition,)

    # ----- Backup: RFC 9568 section 6.4.2 -----

    def _receive_as_backup(self, state: Backup, advertisement: Advertisement, now: Instant) -> Actions:
        index = self._family_index(advertisement)
        known = state.known[index]
        priority = advertisement.priority
        preempt_at = state.preempt_at
        if self._is_out_of_turn(known, advertisement, now):
            self.state = replace(state, known=_with(state.known, index, self._beside(known, advertisement, now)))
            return NOTHING
        if priority == 0:
            known = self._released(known, now)
        elif self._may_challenge(advertisement, now):
            known = self._challenge_at_once(known, advertisement, now)
        elif (
            self.configuration.nopreempt
            or priority >= self._own_priority
            or band(priority) < band(self._own_priority)  # its band is lower, and the recovery hold is not over
        ):
            known = self._follow(advertisement, now, known)
            preempt_at = None
        else:
            preempt_at = preempt_at or Instant(now + self.configuration.preempt_delay)
            if now < preempt_at:
                known = self._follow(advertisement, now, known)
            else:
                # Section 6.4.2: a lower priority is discarded, so that the running timer ends its time.
                self.counters[Counter.LOWER_PRIORITY] += 1
                known = Challenging(known.down_at, self._heard(advertisement, now), Challenge.LOWER_PRIORITY)
        # An advertisement is the proof that this node hears: from now on silence means something.
        self.state = Backup(_with(state.known, index, known), None, state.delayed_until, preempt_at)
        return NOTHING

    def _is_out_of_turn(self, known: Knowledge, advertisement: Advertisement, now: Instant) -> bool:
        """Whether it comes from another router than the Master that is known, and must not interrupt that one."""
        heard = known.heard
        if heard is None or heard.source == advertisement.source:
            return False
        if advertisement.priority == 0:
            # Only the Master can give the addresses up: priority 0 from another router must not interrupt it.
            self.counters[Counter.STRAY_FAREWELLS] += 1
            return True
        if isinstance(known, Following) and now - heard.at < heard.interval:
            weaker = band(advertisement.priority) < band(heard.priority)
            if weaker or (not self.configuration.nopreempt and advertisement.priority < heard.priority):
                # A Master that was replaced just now: its last advertisement arrived after its successor's first.
                self.counters[Counter.LOWER_PRIORITY] += 1
                return True
        return False

    def _beside(self, known: Knowledge, advertisement: Advertisement, now: Instant) -> Knowledge:
        """What another router than the Master that is followed says: it may be a Master, too, or be one no longer."""
        if not isinstance(known, Following):
            return known
        priority = advertisement.priority
        if priority == 0:
            left = known.beside is not None and known.beside.source == advertisement.source
            return replace(known, beside=None) if left else known
        own = self._own_priority
        if band(priority) < band(own) or (not self.configuration.nopreempt and priority < own):
            return known
        again = known.beside is not None and known.beside.source == advertisement.source
        return replace(known, beside=self._heard(advertisement, now), again=again)

    def _released(self, known: Knowledge, now: Instant) -> Released | Following:
        """Section 6.4.2: the Master leaves; the timer is Skew_Time of the interval known so far.

        Beyond the RFC: two Masters that do not hear each other are followed in turn, and one of them does not speak for
        both. The other is the Master from then on, and has its Active_Down_Interval.
        Who has heard no Master yet does not know whether it was the Master's word, and not that of a node that tries
        whether it can send. Then it waits for an interval more, in which a Master is heard.
        """
        if isinstance(known, Following) and known.beside is not None and known.again:
            silent_at = self._down_at(known.beside.at, known.beside.interval)
            if now < silent_at:
                return Following(silent_at, known.beside)
        if known.heard is None:
            own_interval = self.configuration.interval
            waits_until = Instant(now + own_interval + self._skew_time(own_interval))
            return Released(min(known.down_at, waits_until), None)
        down_at = Instant(now + self._skew_time(known.heard.interval))
        if isinstance(known, Challenging) and known.challenge is Challenge.STEPPING_ASIDE:
            down_at = min(known.down_at, down_at)  # it asked before, and that time counts (ADR 0012)
        return Released(down_at, known.heard)

    def _may_challenge(self, advertisement: Advertisement, now: Instant) -> bool:
        """Whether this is a Master of a lower band, and the recovery hold (ADR 0007) is over."""
        if band(advertisement.priority) >= band(self._own_priority):
            return False
        return self.recovered_at is None or now >= self.recovered_at + self.configuration.recovery_hold

    def _challenge_at_once(self, known: Knowledge, advertisement: Advertisement, now: Instant) -> Challenging:
        """Beyond the RFC: a Master of a lower band is replaced after Skew_Time, not Active_Down_Interval (ADR 0004)."""
        self.counters[Counter.LOWER_PRIORITY] += 1
        heard = self._heard(advertisement, now)
        if self.configuration.owner:
            challenge = Challenge.OWNER
        elif advertisement.priority == STEPPING_ASIDE:
            challenge = Challenge.STEPPING_ASIDE
        else:
            challenge = Challenge.FAILING
        return Challenging(min(known.down_at, Instant(now + self._skew_time(heard.interval))), heard, challenge)

    def _follow(self, advertisement: Advertisement, now: Instant, known: Knowledge | None = None) -> Following:
        """Section 6.4.2: this is the Master; learn its interval and wait for its silence."""
        heard = self._heard(advertisement, now)
        down_at = self._down_at(now, heard.interval)
        # A family that is new knows what the other one does: of a source of that.
        if not isinstance(known, Following) or len(known.heard.source) != len(heard.source):
            return Following(down_at, heard)
        if known.heard.source == heard.source:
            return Following(down_at, heard, known.beside, known.again)
        again = known.beside is not None and known.beside.source == heard.source
        return Following(down_at, heard, known.heard, again)

    def _heard(self, advertisement: Advertisement, now: Instant) -> Heard:
        limit = learned_interval_limit(self.configuration.interval)
        if advertisement.interval > limit:
            self.counters[Counter.INTERVAL_CAPPED] += 1
        return Heard(advertisement.source, advertisement.priority, min(advertisement.interval, limit), now)

    def _poll_as_backup(self, state: Backup, now: Instant) -> Actions:
        """Section 6.4.2: Active_Down_Timer fires."""
        due = self._due(state)
        if now < due:
            return NOTHING
        last = max(state.known, key=lambda known: known.down_at)
        interval = last.heard.interval if last.heard else self.configuration.interval
        if now - due > interval and not state.overslept:
            # This process did not run when it should have: what it did not hear is no evidence of silence.
            # A Master that stalled with it, as all of a hypervisor do, may listen for an interval and a half first.
            grace = Instant(now + 2 * interval + self._skew_time(interval))
            self.state = replace(state, known=state.all_down_at(grace), overslept=True, first_hold_at=None)
            return NOTHING
        return self._promote(now, self._why_promoted(last), last.heard)

    def _due(self, state: Backup) -> Instant:
        """When this Backup takes over; one that fails is not the one that was chosen to hold first."""
        if state.first_hold_at is None or band(self._own_priority):
            return state.due
        return replace(state, first_hold_at=None).due

    def _why_promoted(self, known: Knowledge) -> Reason:
        match known:
            case Listening():
                return Reason.NO_MASTER_HEARD
            case Following():
                return Reason.MASTER_SILENT
            case Challenging(challenge=challenge):
                return _WHY_CHALLENGED[challenge]
            case Released():
                return Reason.MASTER_RELEASED

    def _promote(self, now: Instant, reason: Reason, heard: Heard | None = None, wish: Wish | None = None) -> Actions:
        """Section 6.4.2: addresses (the level), advertisement, gratuitous ARP and unsolicited NA, in order."""
        due = Instant(now + self.configuration.interval)
        transition = self._enter(
            Master(due, self._announcements(now), wish=wish, since=now),
            now,
            reason,
            peer=heard.source if heard else None,
            peer_priority=heard.priority if heard else 0,
            silent=Duration(now - heard.at) if heard else ZERO,
        )
        return (transition, *self._advertise(self.effective_priority), AnnounceAddresses())

    # ----- Master: RFC 9568 section 6.4.3 -----

    def _receive_as_master(self, state: Master, advertisement: Advertisement, now: Instant) -> Actions:
        was_unproved = self.unproved
        actions = self._meet_rival(state, advertisement, now)
        self._prove(len(advertisement.source))
        if was_unproved and isinstance(self.state, Master) and self.state.asserts_at is None:
            announcement = (action for action in actions if isinstance(action, AnnounceAddresses))
            return (*self._prepare_to_assert(self.state, now), *announcement)
        if was_unproved and isinstance(self.state, Master) and self._looks_unproved(advertisement.priority):
            self.state = self._asking_no_longer(self.state, now)
        return actions

    def _asking_no_longer(self, state: Master, now: Instant) -> Master:
        """Another asks, too, so that the answer that this one waits for does not come: both stood still (ADR 0032).

        Whoever holds the addresses with a right to them has two intervals left to say so. Of those that ask, the one
        that has been back for longer waits less, and the others follow it.
        """
        if state.asserts_at is None or state.asserts_at - now <= 2 * self.configuration.interval:
            return state
        until = Instant(now + 2 * self.configuration.interval * (state.asserts_at - now) // ASKS_AFTER_A_LONG_STALL)
        announce_at = tuple(sorted({*state.announce_at, until, Instant(until + SECOND)}))
        return replace(state, asserts_at=until, doubts_until=until, announce_at=announce_at)

    def _prepare_to_assert(self, state: Master, now: Instant) -> Actions:
        """The first other host is heard by a Master that advertised the lowest healthy priority and may stay one.

        It says so once more, so that whoever holds the addresses with a higher one answers, before its own counts. Of
        two that never heard anybody until they heard each other, the one that has been Master for longer waits less.
        """
        if state.since is None:
            wait = 0
        else:
            wait = (
                2 * self.configuration.interval * HALF_AS_PATIENT_AFTER // (HALF_AS_PATIENT_AFTER + now - state.since)
            )
        self.state = replace(state, asserts_at=Instant(now + wait))
        return self._assert_now(now)

    def _meet_rival(self, state: Master, advertisement: Advertisement, now: Instant) -> Actions:
        ours, theirs = self.effective_priority, advertisement.priority
        family = self.configuration.families[self._family_index(advertisement)]
        if theirs == 0:
            return self._announce_after_priority_zero(self._answer(state, now), now)  # section 6.4.3
        if self.configuration.owner and ours == theirs:
            self.counters[Counter.OWNER_CONFLICTS] += 1  # erratum 8298: two owners are reported, and neither yields
            return self._answer(state, now)
        if band(theirs) >= band(ours):
            # Others had every right to take over while this process did not run, or its link was down; they keep it.
            if self._stalled(state, now) or self._doubts(state, now, theirs):
                return self._yield_to(advertisement, now, Reason.SUPERSEDED_WHILE_STALLED)
            if self._was_cut_off(state, now) and not self._looks_unproved(theirs):
                return self._yield_to(advertisement, now, Reason.SUPERSEDED_WHILE_CUT_OFF)
        if self._cannot_be_heard_by(advertisement.source) and band(theirs) >= band(ours):
            return self._yield_to(advertisement, now, Reason.CANNOT_SEND, "it holds the addresses, and is sent nothing")
        # Section 6.4.3. Two that do not hear anybody else have the same priority without meaning it.
        is_tie = theirs == ours and not self.unproved
        if theirs > ours or (is_tie and self._loses_tie(state, advertisement, family, now)):
            return self._yield_to(advertisement, now, self._why_yielded(state, theirs))
        self.counters[Counter.LOWER_PRIORITY] += 1
        if family is self.configuration.families[0]:
            self.state = state = replace(state, rival_at=now)
        if self.unproved and band(theirs) == band(ours):
            # The other may have the better right, and it is not known yet: the neighbours are left as they are.
            return self._answer(state, now)
        return self._announce_against(self._answer(state, now), now)

    def _announce_against(self, answer: Actions, now: Instant) -> Actions:
        """An answer, and the announcement that takes the neighbours back from a rival: once a second at most.

        Once more a second later: a rival announces the addresses after its advertisement, and perhaps after ours.
        """
        state = self.state
        if not isinstance(state, Master):
            return answer
        last = state.answer_announced_at
        if last is not None and now < last:
            return answer
        if answer and (last is None or now - last >= SECOND):
            self._announce_again_at(state, Instant(now + SECOND))
            return (*answer, AnnounceAddresses())
        if last is not None and now < last + SECOND:
            self._announce_again_at(state, Instant(last + SECOND))
        return answer

    def _announce_again_at(self, state: Master, at: Instant) -> None:
        self.state = replace(state, answer_announced_at=at, announce_at=tuple(sorted({*state.announce_at, at})))

    def _announce_after_priority_zero(self, answer: Actions, now: Instant) -> Actions:
        """Who gave way has left neighbours with its MAC address: they are told, once a second at most."""
        state = self.state
        if not isinstance(state, Master) or (
            state.priority_zero_answered_at is not None and now - state.priority_zero_answered_at < SECOND
        ):
            return answer
        self.state = replace(state, priority_zero_answered_at=now)
        return (*answer, AnnounceAddresses())

    def _loses_tie(self, state: Master, advertisement: Advertisement, family: Family, now: Instant) -> bool:
        """Section 6.4.3: of equals the higher address stays, in the first family that they hear each other in.

        Two Masters whose addresses are in one order over IPv4 and in the other over IPv6 would both yield otherwise.
        """
        decided_at = state.rival_at if family is not self.configuration.families[0] else None
        if decided_at is not None and now - decided_at < 2 * self.configuration.interval:
            return False
        return advertisement.source > family.source

    def _stalled(self, state: Master, now: Instant) -> bool:
        """Whether the last advertisement is so old that every Backup had to take over: three intervals and more."""
        return now - state.next_advertisement_at > 3 * self._said_interval(state) - self.configuration.interval

    def _cannot_be_heard_by(self, source: bytes) -> bool:
        """Whether a rival hears nothing that this one says, and so stays Master; with nopreempt it may."""
        return source in self.unreachable and self.configuration.nopreempt and not self.configuration.owner

    def _doubts(self, state: Master, now: Instant, theirs: int) -> bool:
        """Whether it stalled a moment ago, and a rival is one that may have taken over meanwhile."""
        return state.doubts_until is not None and now < state.doubts_until and not self._looks_unproved(theirs)

    def _was_cut_off(self, state: Master, now: Instant) -> bool:
        """Whether its link was down a moment ago; where priorities decide, they decide about that, too."""
        return self.configuration.nopreempt and state.yields_until is not None and now < state.yields_until

    def _looks_unproved(self, priority: int) -> bool:
        """Whether a rival most likely has not heard anybody either: a switch that restarts cuts off everybody."""
        return self.configuration.knows_others and priority == HEALTHY_PRIORITY_MIN

    def _answer(self, state: Master, now: Instant) -> Actions:
        """Section 6.4.3: assert Master at once, so that the rival and the bridges learn it.

        A flood of rivals is answered four times an interval, not each time.
        """
        if state.answered_at is not None and now - state.answered_at < self.configuration.interval // 4:
            return NOTHING
        due = Instant(now + self.configuration.interval)
        self.state = replace(state, next_advertisement_at=due, answered_at=now)
        return self._advertise(self.effective_priority)

    def _yield_to(self, advertisement: Advertisement, now: Instant, reason: Reason, detail: str = "") -> Actions:
        """Section 6.4.3: Backup, with the new Master's interval.

        Beyond the RFC it is heard once more. The other may never have heard this one, as when two parts of a link are
        joined: now it answers, and announces the addresses to the neighbours that know this node's MAC address for
        them. Where it was asked to take over they know already.
        """
        last_word = self._last_word_to(advertisement.priority) if reason in _NEIGHBOURS_MAY_NOT_KNOW else NOTHING
        following = self._follow(advertisement, now)
        backup = Backup((following,) * len(self.configuration.families))
        source, priority = advertisement.source, advertisement.priority
        yielded = self._enter(backup, now, reason, peer=source, peer_priority=priority, detail=detail)
        return (yielded, *last_word)

    def _last_word_to(self, winner: int) -> Actions:
        """An advertisement that loses against the winner and everybody else in the band that this router has.

        The winner may be gone again, and another be Master. No farewell: other Backups may follow this node, and would
        take the addresses over from the winner, too.
        """
        lowest = {0: 1, 1: HEALTHY_PRIORITY_MIN}.get(band(self.effective_priority), winner)
        return self._advertise(lowest) if lowest < winner else NOTHING

    def _why_yielded(self, state: Master, theirs: int) -> Reason:
        if state.wish is not None and state.wish.kind is WishKind.STEP_ASIDE:
            return Reason.SWITCHOVER
        if band(theirs) > band(self.effective_priority):
            return Reason.HEALTHIER_MASTER
        return Reason.HIGHER_PRIORITY if theirs > self.effective_priority else Reason.HIGHER_ADDRESS

    def _poll_as_master(self, state: Master, now: Instant) -> Actions:
        """Section 6.4.3: Adver_Timer fires; and the announcements are repeated."""
        if state.cut_off is not None:
            if now < state.cut_off.until:
                return NOTHING
            return self._leave(now, Reason.LINK_DOWN, state.cut_off.detail, with_priority_zero=False)
        self.state = state = self._without_ended_wish(state, now)
        if self._stalled(state, now):
            self.state = state = self._go_on_after_a_stall(state, now)
        asserts = state.asserts_at is not None and now >= state.asserts_at
        if asserts:
            self.state = state = replace(state, asserts_at=None, next_advertisement_at=now)
        actions: Actions = NOTHING
        due = state.next_advertisement_at
        if now >= due:
            # One advertisement however late it is, and back into step unless the step is lost.
            step = Instant(due + self.configuration.interval)
            later = step if step > now else Instant(now + self.configuration.interval)
            late = Duration(now - due) if not state.resumed else ZERO
            state = replace(state, next_advertisement_at=later, resumed=False)
            if now - due > self.configuration.interval:
                state = self._with_announcement_soon(state, now)
            self.state = state = self._with_lateness(state, late, now)
            actions = self._advertise(self.effective_priority)
        if state.announce_at and now >= state.announce_at[0]:
            self.state = replace(state, announce_at=self._announcements_after(state, now))
            actions = (*actions, AnnounceAddresses())
        elif asserts and state.doubts_until is None:  # from now on it is known who has the better right
            actions = (*actions, AnnounceAddresses())
        return actions

    def _go_on_after_a_stall(self, state: Master, now: Instant) -> Master:
        """Nobody was heard, but what came in meanwhile may be lost, as it is where a machine slept (ADR 0032).

        Among known members it asks with the lowest healthy priority: who took over has a higher one, and answers.
        Where a stranger could preempt that, and in the band of those that fail, it listens for an interval and a half
        before it speaks; but only where everybody had to take over, so that nobody does for want of an advertisement.
        """
        interval = self.configuration.interval
        late = now - state.next_advertisement_at
        told_by = now
        if self._may_be_replaced and (state.patience_until is None or now >= state.patience_until):
            if self.configuration.knows_others and band(self._own_priority) == 1 and state.wish is None:
                told_by = Instant(now + 3 * interval)
                until = Instant(now + ASKS_AFTER_A_LONG_STALL) if late > LONG_STALL else told_by
                state = replace(state, asserts_at=until, doubts_until=until)
            elif late > (5 if state.resumed else 4) * self._said_interval(state) - interval:
                speaks_at, told_by = Instant(now + interval + interval // 2), Instant(now + 3 * interval)
                state = replace(state, next_advertisement_at=speaks_at, doubts_until=told_by)
        # Before who has the addresses now has answered, an announcement would take the neighbours from it.
        announce_at = {max(at, told_by) for at in state.announce_at}
        if late > LONG_STALL:  # somebody may have held them in between
            announce_at |= {told_by, Instant(told_by + SECOND)}
        return self._with_announcement_soon(replace(state, announce_at=tuple(sorted(announce_at))), now)

    def _with_lateness(self, state: Master, late: Duration, now: Instant) -> Master:
        """What a late advertisement tells of the next ones (ADR 38).

        A quarter of an interval is nothing to speak of: a Backup waits for three. What stood still for so long that
        all had to take over did not work slowly, and is another matter (ADR 32).
        """
        known = state.lateness
        if known is not None and now - known.begun >= LATENESS_LASTS:
            known = Lateness(now, ZERO, known.worst) if known.worst else None
        if self.configuration.version == 3 and self.configuration.interval // 4 < late <= LONG_STALL:
            known = replace(known or Lateness(now, late), worst=max(late, known.worst if known else ZERO))
        return state if known is state.lateness else replace(state, lateness=known)

    def _said_interval(self, state: Master) -> Duration:
        """Max_Advert_Int of this Master's advertisements (RFC 9568 section 5.2.7): what the Backups reckon with.

        It sends at its own pace. One that works slowly says a longer interval, longer by how late it was, so that
        Backups wait for three times that in addition; in steps of a quarter, as each has packets of its own.
        """
        interval = self.configuration.interval
        if state.lateness is None:
            return interval
        step = max(interval // 4 // CENTISECOND * CENTISECOND, CENTISECOND)
        longer = interval + -(-state.lateness.lately // step) * step
        return Duration(min(longer, LONGEST_PATIENCE * interval))

    def _with_announcement_soon(self, state: Master, now: Instant) -> Master:
        """An advertisement was left out: who missed it may have held the addresses meanwhile, and died with that.

        Not at once: one that lives answers first. No oftener than once a second, as on a busy machine many are late.
        """
        soon = max(Instant(now + max(self.configuration.interval, SECOND)), state.doubts_until or now)
        if state.announce_at and state.announce_at[0] <= soon:
            return state
        return replace(state, announce_at=(soon, *state.announce_at))

    @property
    def _may_be_replaced(self) -> bool:
        """Whether one that takes over keeps the addresses: with nopreempt, and not from their owner."""
        configuration = self.configuration
        alone = not configuration.obey_foreign and not configuration.knows_others
        return configuration.nopreempt and not configuration.owner and not alone

    def _without_ended_wish(self, state: Master, now: Instant) -> Master:
        ended = state.wish is not None and state.wish.ends_at is not None and now >= state.wish.ends_at
        return self._without_wish(state, now) if ended else state

    def _without_wish(self, state: Master, now: Instant) -> Master:
        """Who asked to be replaced, and was not, announces the addresses: one that took over may not be heard here."""
        asked_for_it = state.wish is not None and state.wish.kind is WishKind.STEP_ASIDE
        state = replace(state, wish=None)
        return self._with_announcement_soon(state, now) if asked_for_it else state

    def _announcements(self, now: Instant) -> tuple[Instant, ...]:
        """The first few announcements after the one of now, and where the steady ones begin.

        Those come at another moment for each VRID, so that many VIPs do not announce all at once.
        """
        first = tuple(Instant(now + after) for after in ANNOUNCE_AFTER)
        every = self.configuration.announcement_interval
        return (*first, Instant(first[-1] + every * self.configuration.vrid // 256)) if every else first

    def _announcements_after(self, state: Master, now: Instant) -> tuple[Instant, ...]:
        """What is left of them at an instant at which some are due; the last one is followed by the next steady one."""
        left = tuple(at for at in state.announce_at if at > now)
        every = self.configuration.announcement_interval
        if left or not every:
            return left
        step = Instant(state.announce_at[-1] + every)
        return (step if step > now else Instant(now + every),)

    def _assert_now(self, now: Instant) -> Actions:
        """A Master whose priority or addresses changed says so at once, whatever its timer says."""
        if not isinstance(self.state, Master) or self.state.cut_off is not None:
            return NOTHING
        due = Instant(now + self.configuration.interval)
        self.state = replace(self.state, next_advertisement_at=due)
        return self._advertise(self.effective_priority)

    # ----- health: ADR 0004, ADR 0007 -----

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
        if isinstance(self.state, Backup):
            self.state = self._without_challenges(self.state)
            if self.state.first_hold_at is not None:  # what is known of its health may come a little later
                self.state = replace(self.state, first_hold_at=max(self.state.first_hold_at, now))
        elif isinstance(self.state, Master) and health is Health.HEALTHY:
            # Everybody had a right to take over while it failed, and one that did may not be heard here.
            self.state = self._with_announcement_soon(self.state, now)
        return self._assert_now(now)

    def _without_challenges(self, state: Backup) -> Backup:
        """What made a healthy node take over from a Master that is heard is no reason for a failing one."""
        if band(self._own_priority):
            return state
        return replace(state, known=tuple(map(self._without_challenge, state.known)), preempt_at=None)

    def _without_challenge(self, known: Knowledge) -> Knowledge:
        if not isinstance(known, Challenging):
            return known
        return Following(self._down_at(known.heard.at, known.heard.interval), known.heard)

    @property
    def _own_priority(self) -> int:
        if self.health is Health.HEALTHY and not self.configuration.partial:
            return self.configuration.priority
        return failing_priority(self.configuration.priority)

    @property
    def _releases(self) -> bool:
        return self.configuration.release_when_failing and self.health is not Health.HEALTHY

    # ----- obstacles: link, addresses, kernel -----

    def obstruct(self, obstacle: Obstacle, now: Instant, detail: str = "", *, at_once: bool = False) -> Actions:
        """Something keeps this router from taking part; a Master that can still send says so with priority 0.

        A Master whose link goes down stays one as long as its Backups wait for it, so that a flap of the carrier moves
        nothing; `at_once` says that this is no flap: somebody switched the link off.
        """
        self.obstacles |= {obstacle}
        if isinstance(self.state, Master) and obstacle is Obstacle.LINK_DOWN and not at_once:
            until = self._others_wait_until(self.state)
            if self.state.cut_off is None and now < until:
                self.state = replace(self.state, cut_off=CutOff(until, detail))
            if self.state.cut_off is not None:
                return NOTHING
        return self._leave(now, Reason(obstacle.value), detail, with_priority_zero=True)

    def _others_wait_until(self, state: Master) -> Instant:
        """As long as a Backup of this priority waits after the last advertisement, and a little less.

        One of a lower priority waits longer, and one of a higher one is Master by then and stays it, whatever this node
        says when its link is back.
        """
        interval = self._said_interval(state)
        sent_at = Instant(state.next_advertisement_at - self.configuration.interval)
        return Instant(self._down_at(sent_at, interval) - interval // 16)

    def clear(self, obstacle: Obstacle, now: Instant) -> Actions:
        """The obstacle is gone. That is no reason to take the addresses: begin as a Backup that listens."""
        if obstacle not in self.obstacles:
            return NOTHING
        self.obstacles -= {obstacle}
        if obstacle in _OBSTACLES_TO_HEARING:
            self.proven = frozenset()
            self.listening_since = now
        if self.obstacles:
            return NOTHING
        if isinstance(self.state, Master):
            return self._go_on_after_a_cut(self.state, now)
        if obstacle is Obstacle.SERVICE_FAILED:
            recovered = self.health is Health.HEALTHY  # or told to degrade instead of releasing
            reason = Reason.SERVICE_RECOVERED if recovered else Reason.OBSTACLE_GONE
            return self._begin(now, reason, trusts_silence=True)  # the link was up all the time
        if obstacle is Obstacle.KERNEL_REFUSED:  # whether that is over shows when it is Master
            return self._begin(now, Reason.OBSTACLE_GONE, "the kernel is asked again")
        return self._begin(now, Reason.LINK_UP if obstacle in _OBSTACLES_OF_THE_LINK else Reason.OBSTACLE_GONE)

    def _go_on_after_a_cut(self, state: Master, now: Instant) -> Actions:
        """The link of a Master is back. In time nothing has moved; too late is what poll() would have said."""
        if state.cut_off is not None and now >= state.cut_off.until:
            left = self._leave(now, Reason.LINK_DOWN, state.cut_off.detail, with_priority_zero=False)
            return (*left, *self._begin(now, Reason.LINK_UP))
        self.state = replace(
            self._without_ended_wish(state, now),
            cut_off=None,
            asserts_at=None,
            yields_until=Instant(now + YIELDS_AFTER_A_CUT),
            announce_at=self._announcements(now),
        )
        return (*self._assert_now(now), AnnounceAddresses())

    def hearing_proven(self, width: int, now: Instant) -> Actions:
        """This link is heard in the family of that width: from now on silence means that there is no Master."""
        was_unproved = self.unproved
        self._prove(width)
        if isinstance(self.state, Backup) and self._hears:
            self.state = replace(self.state, not_before=None)
        if was_unproved and self._hears and isinstance(self.state, Master) and self.state.asserts_at is None:
            return self._prepare_to_assert(self.state, now)
        return NOTHING

    def link_was_cut(self, now: Instant) -> None:
        """The link lost its carrier, and had it again before that was seen: what was proven has to be proven again.

        Otherwise nothing happened: who holds the addresses holds them, and reads first who may have taken over.
        """
        self.proven = frozenset()
        self.listening_since = now
        match self.state:
            case Backup() as state:
                not_before = None if self.configuration.alone else self._quiet_until(now)
                self.state = replace(state, not_before=not_before, delayed_until=self._delayed_until(now))
            case Master(cut_off=None) as state:
                yields_until = Instant(now + YIELDS_AFTER_A_CUT)
                self.state = replace(state, yields_until=yields_until, announce_at=self._announcements(now))

    def announce(self, now: Instant) -> Actions:
        """The neighbours have to learn anew where the addresses are: as after a promotion."""
        if not isinstance(self.state, Master) or self.state.cut_off is not None:
            return NOTHING
        self.state = replace(self.state, announce_at=self._announcements(now))
        return (AnnounceAddresses(),)

    def farewell(self, family: Family) -> tuple[SendAdvertisement, ...]:
        """Priority 0 in a family that this router does not serve now, which it could not say when it left it.

        Who hears it knows already that this node is not Master there; a Master answers, so that nobody is misled.
        """
        return self._encoded_in(family, 0, self.configuration.interval)

    # ----- another configuration -----

    def reconfigure(self, configuration: Configuration, now: Instant) -> Actions:
        """Another priority, other addresses, families, interval, ...: the state stays, a Master says so at once.

        The VRID and the version stay; another VRID or version is another virtual router.
        """
        before, self.configuration = self.configuration, configuration
        self.acquaintances = self.acquaintances.after_edit(before, configuration)
        if before.partial and not configuration.partial:
            self.recovered_at = now
        self._packets.clear()
        if self._releases:
            return self.obstruct(Obstacle.SERVICE_FAILED, now)
        if Obstacle.SERVICE_FAILED in self.obstacles:
            return self.clear(Obstacle.SERVICE_FAILED, now)
        match self.state:
            case Initialize():
                return NOTHING
            case Backup():
                self.state = self._without_challenges(self._with_families_of(before, self.state))
                is_owner = self._own_priority == PRIORITY_OWNER and self._delayed_until(now) is None
                return self._promote(now, Reason.ADDRESS_OWNER) if is_owner else NOTHING
            case Master(cut_off=CutOff()):
                return NOTHING
            case Master():
                self.state = replace(self.state, announce_at=self._announcements(now))
                return (*self._assert_now(now), AnnounceAddresses())

    def _with_families_of(self, before: Configuration, state: Backup) -> Backup:
        known = dict(zip((family.width for family in before.families), state.known, strict=True))
        # A family that is new knows as much of the Master as the one that is not.
        return replace(
            state, known=tuple(known.get(family.width, state.known[0]) for family in self.configuration.families)
        )

    # ----- the user's wish -----

    def take_over(self, now: Instant) -> Actions:
        """Switchover to this node, make before break: be Master first; the old holder yields when it hears that.

        Raises ConfigurationError, with nothing changed, where this node cannot or should not hold the addresses.
        """
        if isinstance(self.state, Master) and self.state.cut_off is None:
            # It may be stepping aside, or have a wish from before: this one is the last.
            self.state = self._without_wish(self.state, now)
            return self._assert_now(now)
        if not isinstance(self.state, Backup):
            raise ConfigurationError(f"this node is out of the election: {', '.join(sorted(self.obstacles))}")
        if self.health is not Health.HEALTHY:
            raise ConfigurationError("the services on this node are failing")
        if self.configuration.partial:
            raise ConfigurationError("this node can serve only some of the addresses now")
        heard = max(
            (known.heard for known in self.state.known if known.heard is not None),
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
        return self._promote(now, Reason.SWITCHOVER, heard, Wish(WishKind.TAKE_OVER, heard.priority + 1, ends_at))

    @property
    def outranks_by_wish(self) -> bool:
        """Whether it is Master only because a user wished it: somebody else has a higher priority."""
        return isinstance(self.state, Master) and self.state.wish is not None

    def step_aside(self, now: Instant) -> Actions:
        """Switchover away from this Master: advertise a lower band until a healthy Backup takes over (or none).

        The priority is above every failing one, so that no failing Backup preempts.

        Raises ConfigurationError, with nothing changed, where this node is not Master or would be again at once.
        """
        if not isinstance(self.state, Master):
            raise ConfigurationError("this node does not hold the VIP")
        if self.state.cut_off is not None:
            raise ConfigurationError("nobody hears this node: its link is down")
        if self._own_priority == PRIORITY_OWNER:
            raise ConfigurationError("this node owns the addresses (priority 255)")
        ends_at = self._down_at(now, self._said_interval(self.state))
        self.state = replace(self.state, wish=Wish(WishKind.STEP_ASIDE, STEPPING_ASIDE, ends_at))
        return self._assert_now(now)

    @property
    def challenge_time(self) -> Duration:
        """How long the slowest healthy Backup listens to a failing Master before it takes over (ADR 0004)."""
        return skew_time(self.configuration.version, HEALTHY_PRIORITY_MIN, self.advertised_interval)

    # ----- from one process to the next: ADR 0009 -----

    def hand_over(self, now: Instant) -> Actions:
        """Tell the Backups to wait longer, so that a successor on this node can go on as Master; the state stays.

        VRRPv3: the last advertisement has a larger Max_Advert_Int, which a Backup adopts at once. VRRPv2 knows no such
        thing: the successor has the three intervals that every silence has. Twice, because one may be lost.
        """
        if not isinstance(self.state, Master) or self.state.cut_off is not None:
            return NOTHING
        said = self._said_interval(self.state)
        longer = max(said, HAND_OVER_INTERVAL) if self.configuration.version == 3 else None
        self.state = replace(self.state, next_advertisement_at=Instant(now + self.configuration.interval))
        return 2 * self._advertise(self.effective_priority, longer)

    def resume_as_master(
        self, last_seen: Instant, recovered_at: Instant | None = None, proven: frozenset[int] | None = None
    ) -> None:
        """Go on as the Master that this router was in another process, which was seen to run at `last_seen`.

        Nothing has moved, so this is no transition. If others took over meanwhile, their advertisements say so: the
        driver reads them before the first poll. `recovered_at` and `proven` are those of the router in that process;
        one that does not tell what it had proof of advertised its own priority, and so does this one.
        """
        self._inherit(recovered_at, proven)
        patience = Instant(last_seen + 2 * HAND_OVER_INTERVAL) if self.configuration.version == 3 else None
        # Once soon, as the link may have another MAC address by now; then the steady ones.
        soon = Instant(last_seen + SECOND + SECOND * self.configuration.vrid // 256)
        announcements = (soon, *self._announcements(last_seen)[len(ANNOUNCE_AFTER) :])
        self.state = Master(last_seen, announcements, patience_until=patience, resumed=True)

    def _inherit(self, recovered_at: Instant | None, proven: frozenset[int] | None) -> None:
        self.recovered_at = recovered_at
        everything = frozenset(family.width for family in self.configuration.families)
        self.proven = everything if proven is None else proven

    def resume_as_backup(
        self,
        now: Instant,
        recovered_at: Instant | None = None,
        proven: frozenset[int] | None = None,
        heard: frozenset[int] = frozenset(),
    ) -> None:
        """Go on as the Backup that this router was in another process: it has heard the Master, and listens on.

        The Master may be handing over at this moment, and have said so to the process before: that patience counts
        until the next advertisement. VRRPv2 knows no such thing. `recovered_at` is that of the router in that process,
        so that a restart does not end a recovery hold; `proven` as in resume_as_master(); `heard` are the widths of the
        families in which it had heard a Master.
        """
        self._inherit(recovered_at, proven)
        interval = self.configuration.interval
        patience = max(interval, HAND_OVER_INTERVAL) if self.configuration.version == 3 else interval
        down_at = self._down_at(now, patience)
        self.state = Backup(
            tuple(Listening(down_at, heard_before=family.width in heard) for family in self.configuration.families)
        )

    @property
    def heard(self) -> frozenset[int]:
        """The widths of the families in which this Backup, or the process before this one, has heard a Master."""
        if not isinstance(self.state, Backup):
            return frozenset()
        pairs = zip(self.configuration.families, self.state.known, strict=True)
        return frozenset(family.width for family, known in pairs if not _is_unheard(known))

    @property
    def awaits_a_master(self) -> bool:
        """Whether this is a Backup that has not heard a Master in one of its families."""
        return isinstance(self.state, Backup) and any(map(_is_unheard, self.state.known))

    # ----- pieces -----

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
        if reason not in TRANSITIONS.get((before, after), ()):
            raise AssertionError(f"{before} to {after} for {reason}")
        priority, unproved = self.effective_priority, self.unproved
        return Transitioned(now, before, after, reason, priority, peer, peer_priority, silent, detail, unproved)

    def _family_index(self, advertisement: Advertisement) -> int:
        # One family or two, and what came was admitted: it is the first, or else the second.
        return 0 if self.configuration.families[0].width == len(advertisement.source) else 1

    def _skew_time(self, interval: Duration) -> Duration:
        return skew_time(self.configuration.version, self._own_priority, interval)

    def _down_at(self, now: Instant, interval: Duration) -> Instant:
        return Instant(now + master_down_interval(self.configuration.version, self._own_priority, interval))

    def _advertise(self, priority: int, interval: Duration | None = None) -> tuple[SendAdvertisement, ...]:
        """An advertisement to every destination of every family, encoded once for each priority and interval."""
        if interval is None:
            interval = self.advertised_interval
        packets = self._packets.get((priority, interval))
        if packets is None:
            packets = self._packets[priority, interval] = self._encoded(priority, interval)
        return packets

    def _encoded(self, priority: int, interval: Duration) -> tuple[SendAdvertisement, ...]:
        return tuple(
            advertisement
            for family in self.configuration.families
            for advertisement in self._encoded_in(family, priority, interval)
        )

    def _encoded_in(self, family: Family, priority: int, interval: Duration) -> tuple[SendAdvertisement, ...]:
        configuration = self.configuration
        return tuple(
            SendAdvertisement(
                family.source,
                destination,
                encode(
                    configuration.version,
                    configuration.vrid,
                    priority,
                    interval,
                    family.addresses,
                    family.source,
                    destination,
                    configuration.password,
                ),
                priority,
            )
            for destination in family.destinations
        )


def _with(everything: tuple[Knowledge, ...], index: int, known: Knowledge) -> tuple[Knowledge, ...]:
    if len(everything) == 1:
        return (known,)
    return (*everything[:index], known, *everything[index + 1 :])


def _is_unheard(known: Knowledge) -> bool:
    return isinstance(known, Listening) and not known.heard_before
