"""The states of RFC 9568 section 6.4, and which of them become which.

Each state owns its deadlines, so that a timer of another state cannot exist. The states are values, and tagged: JSON
says which one it holds in the field `type` (`msgspec.convert(value, RouterState)`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from holdfast_api.reasons import Obstacle, Reason, State
from holdfast_speaker.vrrp.instants import ZERO, Duration, Instant

# ----- Initialize: RFC 9568 section 6.4.1 -----


class Initialize(Struct, frozen=True, tag=True):
    """Not taking part, because there is an obstacle."""


# ----- Backup: RFC 9568 section 6.4.2 -----


class FirstHold(enum.StrEnum):
    """Who is to hold a virtual router first that nobody is known to hold: the planner has chosen one node (ADR 37)."""

    HERE = "Here"
    ELSEWHERE = "Elsewhere"


class Heard(Struct, frozen=True):
    """The last advertisement of a Master."""

    source: bytes
    priority: int
    interval: Duration
    """As it was adopted: the advertised one, at most the limit."""
    at: Instant


class Challenge(enum.StrEnum):
    """Why a Master that is heard is replaced when the running timer ends."""

    FAILING = "Failing"
    """Its services fail, and this node is healthy (ADR 0004)."""
    STEPPING_ASIDE = "SteppingAside"
    """It asked for it (ADR 0012)."""
    LOWER_PRIORITY = "LowerPriority"
    """This router preempts."""
    OWNER = "Owner"
    """The addresses are this node's own."""


class Listening(Struct, frozen=True, tag=True):
    """No Master was heard yet."""

    down_at: Instant
    heard: None = None
    heard_before: bool = False
    """But the process before this one had heard one."""


class Following(Struct, frozen=True, tag=True):
    """A Master is heard, and nothing is to be done as long as it is."""

    down_at: Instant
    heard: Heard
    beside: Heard | None = None
    """The last word of another Master beside this one, as where two do not hear each other."""
    again: bool = False
    """It is no late word of one that was replaced: both were heard since the other was."""


class Challenging(Struct, frozen=True, tag=True):
    """A Master is heard that does not stop the timer: it is replaced."""

    down_at: Instant
    heard: Heard
    challenge: Challenge


class Released(Struct, frozen=True, tag=True):
    """The Master gave the addresses up; `heard` is what it said before, if anything was heard."""

    down_at: Instant
    heard: Heard | None


Knowledge = Listening | Following | Challenging | Released
"""What a Backup knows of the Master in one family. `down_at` is Active_Down_Timer: when nobody holds the addresses any
more, or may be challenged."""


class Backup(Struct, frozen=True, tag=True):
    """It takes over when the timer of its last family has run out."""

    known: tuple[Knowledge, ...]
    """One per family of the configuration, in its order."""
    not_before: Instant | None = None
    """A node that starts distrusts silence until then; None once it has proof that it hears."""
    delayed_until: Instant | None = None
    """A node that starts does not take over before, whatever it hears (Configuration.start_delay)."""
    preempt_at: Instant | None = None
    """When the preempt delay ends that the first advertisement of a lower priority began."""
    overslept: bool = False
    """The last poll came so late that the silence may be our own; it got two more intervals."""
    first_hold_at: Instant | None = None
    """This node was chosen to hold the addresses first: then it does, if it is healthy and has heard nobody yet."""

    @property
    def due(self) -> Instant:
        """When this Backup takes over."""
        due = max(known.down_at for known in self.known)
        if self.not_before is not None:
            due = max(due, self.not_before)
        if self.first_hold_at is not None:
            due = min(due, self.first_hold_at)
        return due if self.delayed_until is None else max(due, self.delayed_until)

    def all_down_at(self, down_at: Instant) -> tuple[Knowledge, ...]:
        """The same knowledge with another end of the silence."""
        return tuple(replace(known, down_at=down_at) for known in self.known)


# ----- Master: RFC 9568 section 6.4.3, where it is called Active -----


class WishKind(enum.StrEnum):
    """What a user can want of a virtual router."""

    TAKE_OVER = "TakeOver"
    STEP_ASIDE = "StepAside"


class Wish(Struct, frozen=True):
    """A switchover that a user asked for: another priority is advertised instead of our own."""

    kind: WishKind
    priority: int
    ends_at: Instant | None
    """None: it lasts as long as this router is Master."""


class CutOff(Struct, frozen=True):
    """The link of a Master has no carrier. It waits as long as its Backups do, so that a flap moves nothing."""

    until: Instant
    """They may take over from then on."""
    detail: str


class Lateness(Struct, frozen=True):
    """How late the advertisements of a Master are whose machine is busy: ADR 38."""

    begun: Instant
    """When the time began in which the worst is looked for."""
    worst: Duration
    """In that time."""
    before: Duration = ZERO
    """In the time before it."""

    @property
    def lately(self) -> Duration:
        """What is to be reckoned with."""
        return max(self.worst, self.before)


class Master(Struct, frozen=True, tag=True):
    """It holds the addresses and advertises."""

    next_advertisement_at: Instant
    """Adver_Timer."""
    announce_at: tuple[Instant, ...] = ()
    """When the gratuitous ARP and unsolicited neighbour advertisements are repeated, ascending."""
    answered_at: Instant | None = None
    """When a rival of lower priority was last answered."""
    answer_announced_at: Instant | None = None
    """When the addresses were last announced because of one."""
    priority_zero_answered_at: Instant | None = None
    """The same because one gave way."""
    rival_at: Instant | None = None
    """When a Master that does not win against this one was last heard in the first family."""
    wish: Wish | None = None
    cut_off: CutOff | None = None
    """Nothing is sent or heard while it is set."""
    yields_until: Instant | None = None
    """Its link was down a moment ago: until then a rival that is as healthy keeps what it may have taken."""
    since: Instant | None = None
    """When it became Master; None: in a process before this one."""
    asserts_at: Instant | None = None
    """It asks with the lowest healthy priority who has a better right, because it heard the first other host of its
    link or did not run for a while; its own counts from then on."""
    doubts_until: Instant | None = None
    """It did not run for so long that others had to take over: until then whoever is as healthy keeps what it took."""
    patience_until: Instant | None = None
    """The process before this one asked the Backups to wait that long."""
    lateness: Lateness | None = None
    """None: its advertisements are in time."""
    resumed: bool = False
    """It has not advertised yet in this process; next_advertisement_at is when the one before it was last seen to run,
    which may have been just before an advertisement or just after one."""


RouterState = Initialize | Backup | Master

# ----- from one to the other: RFC 9568 section 6.3 -----

_LEAVES: Final = frozenset(Reason(obstacle.value) for obstacle in Obstacle) | {Reason.REMOVED}

TRANSITIONS: Final[Mapping[tuple[State, State], frozenset[Reason]]] = {
    (State.INITIALIZE, State.BACKUP): frozenset(
        {Reason.STARTED, Reason.LINK_UP, Reason.SERVICE_RECOVERED, Reason.OBSTACLE_GONE}
    ),
    (State.INITIALIZE, State.MASTER): frozenset({Reason.ADDRESS_OWNER}),
    (State.BACKUP, State.MASTER): frozenset(
        {
            Reason.ADDRESS_OWNER,
            Reason.NO_MASTER_HEARD,
            Reason.MASTER_SILENT,
            Reason.MASTER_RELEASED,
            Reason.MASTER_FAILING,
            Reason.MASTER_STEPPED_ASIDE,
            Reason.HIGHER_PRIORITY,
            Reason.SWITCHOVER,
        }
    ),
    (State.BACKUP, State.INITIALIZE): _LEAVES,
    (State.MASTER, State.BACKUP): frozenset(
        {
            Reason.HIGHER_PRIORITY,
            Reason.HIGHER_ADDRESS,
            Reason.HEALTHIER_MASTER,
            Reason.SWITCHOVER,
            Reason.SUPERSEDED_WHILE_STALLED,
            Reason.SUPERSEDED_WHILE_CUT_OFF,
            Reason.CANNOT_SEND,
        }
    ),
    (State.MASTER, State.INITIALIZE): _LEAVES,
}
"""Every transition that there is, with its reasons. The diagram of docs/architecture.md is made from it."""
