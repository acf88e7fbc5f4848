"""What one virtual router is told, in the core's own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast_api.resources import HEALTHY_PRIORITY_MAX, HEALTHY_PRIORITY_MIN, PRIORITY_OWNER
from holdfast_speaker.vrrp.instants import SECOND, ZERO, Duration

ANNOUNCEMENT_INTERVAL: Final = Duration(60 * SECOND)

STEPPING_ASIDE = HEALTHY_PRIORITY_MIN - 1
"""Of a Master that wants to be replaced, for whatever reason but failing services: above all failing priorities."""

FAILING_PRIORITY_MAX = STEPPING_ASIDE - 1


@dataclass(frozen=True, slots=True)
class Family:
    """The IPv4 or the IPv6 side of a virtual router. Addresses are packed bytes in network order."""

    source: bytes
    """The primary address of RFC 9568: where advertisements come from (IPv6: link-local)."""
    addresses: tuple[bytes, ...]
    destinations: tuple[bytes, ...]
    """The multicast group, or each peer."""
    members: frozenset[bytes] | None = None
    """Every other router's source address; None where they are not known."""
    beside: frozenset[bytes] = frozenset()
    """Addresses of the virtual router that its advertisements do not list (keepalived: virtual_ipaddress_excluded)."""

    @property
    def width(self) -> int:
        """4 for IPv4, 16 for IPv6."""
        return len(self.source)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A virtual router on one link: one per VRID, with one or two families that share one state (ADR 0003)."""

    vrid: int
    families: tuple[Family, ...]
    version: int = 3
    priority: int = 100
    interval: Duration = SECOND
    nopreempt: bool = True
    preempt_delay: Duration = ZERO
    obey_foreign: bool = True
    password: bytes | None = None
    release_when_failing: bool = False
    recovery_hold: Duration = ZERO
    """How long a Backup that recovered waits before it takes over from a failing Master (ADR 0007)."""
    quiet_period: Duration = SECOND
    """How long a node that starts distrusts silence, as long as it has no proof that it hears."""
    start_delay: Duration = ZERO
    """How long after a start, and after its link came up, this node does not take over, whatever it hears."""
    announcement_interval: Duration = ANNOUNCEMENT_INTERVAL
    """How often a Master announces its addresses after the first few times; ZERO: no more."""
    partial: bool = False
    """This node can serve only some of the VIP's families now, and `families` are those. It counts as failing."""
    alone: bool = False
    """No other node is to take part: a short silence is evidence enough."""
    unlisted: bool = False
    """The others refuse what this node sends, because its address is not among the members' (ADR 0028)."""

    @property
    def knows_others(self) -> bool:
        """Whether only known members are obeyed, and there is another one than this node."""
        members = [family.members for family in self.families]
        return not self.obey_foreign and None not in members and any(members)

    @property
    def owner(self) -> bool:
        """This node owns the addresses itself (RFC 9568 section 5.2.4)."""
        return self.priority == PRIORITY_OWNER

    def family(self, width: int) -> Family | None:
        """The side whose addresses have this many bytes."""
        for family in self.families:
            if len(family.source) == width:
                return family
        return None


def band(priority: int) -> int:
    """The health band of an advertised priority: 0 failing, 1 healthy, 2 the owner (design: health bands)."""
    if priority == PRIORITY_OWNER:
        return 2
    return 1 if priority >= HEALTHY_PRIORITY_MIN else 0


def failing_priority(priority: int) -> int:
    """The configured priority scaled into 1 to 48: an ordinary low priority to every other router.

    >>> failing_priority(50), failing_priority(254), failing_priority(255)
    (1, 48, 48)
    """
    above = min(priority, HEALTHY_PRIORITY_MAX) - HEALTHY_PRIORITY_MIN
    return 1 + above * (FAILING_PRIORITY_MAX - 1) // (HEALTHY_PRIORITY_MAX - HEALTHY_PRIORITY_MIN)
