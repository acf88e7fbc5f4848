"""The states of RFC 9568 section 6.4. Each owns its deadlines, so that a timer of another state cannot exist."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast_api.reasons import Reason
from holdfast_speaker.vrrp.configuration import NEVER
from holdfast_speaker.vrrp.instants import Duration, Instant


@dataclass(frozen=True, slots=True)
class Heard:
    """The last advertisement of a Master."""

    source: bytes
    priority: int
    interval: Duration
    """As it was adopted: the advertised one, at most the limit."""
    at: Instant


@dataclass(frozen=True, slots=True)
class Initialize:
    """RFC 9568 section 6.4.1: not taking part, because there is an obstacle."""


@dataclass(frozen=True, slots=True)
class Silence:
    """What a Backup knows of one family."""

    down_at: Instant
    """Active_Down_Timer: when nobody holds the addresses any more, or may be challenged."""
    heard: Heard | None
    because: Reason
    """What a promotion at `down_at` would mean."""


@dataclass(frozen=True, slots=True)
class Backup:
    """RFC 9568 section 6.4.2."""

    silences: tuple[Silence, ...]
    """One per family of the configuration, in its order; the Backup takes over when the last one has run out."""
    not_before: Instant = NEVER
    """A node that starts distrusts silence until then; NEVER once it has proof that it hears."""
    preempt_at: Instant | None = None
    """When the preempt delay ends that the first advertisement of a lower priority began."""
    overslept: bool = False
    """The last poll came so late that the silence may be our own; it got one more interval."""

    @property
    def due(self) -> Instant:
        """When this Backup takes over."""
        return max(self.not_before, max(silence.down_at for silence in self.silences))


@dataclass(frozen=True, slots=True)
class Master:
    """RFC 9568 section 6.4.3, where it is called Active."""

    next_advertisement_at: Instant
    """Adver_Timer."""
    announce_at: tuple[Instant, ...] = ()
    """When the gratuitous ARP and unsolicited neighbour advertisements are repeated, ascending."""
    answered_at: Instant | None = None
    """When a rival of lower priority was last answered."""
    rival_at: Instant | None = None
    """When a Master that does not win against this one was last heard in the first family."""
    wished_priority: int | None = None
    """A switchover on the user's wish: advertised instead of our own priority until `wish_ends_at`."""
    wish_ends_at: Instant | None = None
    """None: the wish lasts as long as this state."""
    stepping_aside: bool = False
    """The wish is to give the addresses to a healthy Backup."""


RouterState = Initialize | Backup | Master
