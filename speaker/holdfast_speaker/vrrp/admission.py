"""Whether a virtual router listens to an advertisement: RFC 9568 section 7.1, the known members, and whose it is.

What the RFC says to log and not to drop (address list, interval) is counted and obeyed, with one exception: lists that
have no address in common are two virtual routers that happen to have one VRID.
"""

from __future__ import annotations

from collections import Counter as Multiset
from typing import Final

from msgspec import Struct

from holdfast_speaker.vrrp.configuration import Configuration, Family
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import CENTISECOND
from holdfast_speaker.vrrp.packet import Advertisement

MAY_BE_A_SPLIT_BRAIN: Final = frozenset(
    {
        Counter.VERSION_ERRORS,
        Counter.AUTH_TYPE_MISMATCH,
        Counter.AUTH_FAILURES,
        Counter.FOREIGN_ROUTERS,
        Counter.OTHER_VIRTUAL_ROUTERS,
    }
)
"""What whoever sends it may hold our addresses with, while it is refused here."""

_Advertised = tuple[bytes, tuple[bytes, ...]]
"""A source, and a list that it advertises."""

_MOST_REMEMBERED = 32
"""More routers than this do not share a virtual router; and nobody who makes sources up shall fill the memory."""


class Acquaintances(Struct, frozen=True):
    """Who is known to be of this virtual router although no configuration names it."""

    met: tuple[bytes, ...] = ()
    """Sources that advertised a list with an address of ours, the latest last."""
    former: frozenset[bytes] = frozenset()
    """Our addresses before the last edit of them: others may not have made theirs yet."""
    edits: tuple[_Advertised, ...] = ()
    """Lists without an address of ours from whom we follow: their edit may have come first."""
    strangers: tuple[_Advertised, ...] = ()
    """The same from hosts that have advertised a list of ours since: that is another program's."""

    def with_source(self, source: bytes) -> Acquaintances:
        """One more, if it is one more; the oldest is forgotten where there are too many."""
        met = self.met if source in self.met else (*self.met, source)[-_MOST_REMEMBERED:]
        if not self.edits:
            return self if met is self.met else Acquaintances(met, self.former, strangers=self.strangers)
        beside = [edit for edit in self.edits if edit[0] == source]
        others = tuple(edit for edit in self.edits if edit[0] != source)
        return Acquaintances(met, self.former, others, (*self.strangers, *beside)[-_MOST_REMEMBERED:])

    def with_edit(self, edit: _Advertised) -> Acquaintances:
        """One that we follow advertises this now."""
        if edit in self.edits:
            return self
        return Acquaintances(self.met, self.former, (*self.edits, edit)[-_MOST_REMEMBERED:], self.strangers)

    def after_edit(self, before: Configuration, after: Configuration) -> Acquaintances:
        """The same from now on. A family that comes or goes is no edit of the other's addresses."""
        former = set(self.former)
        is_edit = False
        for family in before.families:
            now = after.family(family.width)
            if now is not None and set(now.addresses) != set(family.addresses):
                former = {address for address in former if len(address) != family.width}.union(family.addresses)
                is_edit = True
        if is_edit:
            return Acquaintances(self.met, frozenset(former))
        return Acquaintances(self.met, frozenset(former), self.edits, self.strangers)


def admit(
    configuration: Configuration,
    acquaintances: Acquaintances,
    advertisement: Advertisement,
    counters: Multiset[Counter],
    followed: bytes | None = None,
) -> Acquaintances | Counter:
    """Who is known after it, where the advertisement is for this router's election, or why it is refused.

    What is wrong or odd about it is counted. `followed` is the Master that this router follows as a Backup: a list of
    its that has no address of ours may be an edit that has come to it first. Everybody else's is refused, also a known
    member's: on its host another program may use our VRID.
    """
    family = configuration.family(len(advertisement.source))
    refusal = _refusal(configuration, family, advertisement, counters)
    if refusal is not None or family is None:
        refusal = refusal or Counter.VERSION_ERRORS
        counters[refusal] += 1
        return refusal
    meets = True
    if advertisement.addresses != family.addresses and set(advertisement.addresses) != set(family.addresses):
        counters[Counter.ADDRESS_LIST_ERRORS] += 1
        # What is not listed here may be listed by one whose configuration is older or newer.
        meets = not acquaintances.former.union(family.addresses, family.beside).isdisjoint(advertisement.addresses)
        edit = (advertisement.source, advertisement.addresses)
        if not meets:
            is_followed = advertisement.source == followed and edit not in acquaintances.strangers
            if not (is_followed and _is_known(family, acquaintances, advertisement.source)):
                counters[Counter.OTHER_VIRTUAL_ROUTERS] += 1
                return Counter.OTHER_VIRTUAL_ROUTERS
            acquaintances = acquaintances.with_edit(edit)
    counters[Counter.ADVERTISEMENT_RCVD] += 1
    if advertisement.priority == 0:
        counters[Counter.PRIORITY_ZERO_PKTS_RCVD] += 1
    # A Master's own interval counts, as it would be on the wire; VRRPv2 routers must agree (RFC 3768 section 7.1),
    # and one that does not is still the holder: it is obeyed, and its interval is learned as in VRRPv3 (ADR 0008).
    if advertisement.interval // CENTISECOND != configuration.interval // CENTISECOND:
        counters[Counter.INTERVAL_ERRORS] += 1
    if advertisement.version == 3 and not advertisement.pseudo_header:
        counters[Counter.CHECKSUM_WITHOUT_PSEUDO_HEADER] += 1
    return acquaintances.with_source(advertisement.source) if meets else acquaintances


def _is_known(family: Family, acquaintances: Acquaintances, source: bytes) -> bool:
    """Whether it is one of us with whatever list: its configuration is another until an edit has come to it, too."""
    return source in acquaintances.met or (family.members is not None and source in family.members)


def _refusal(
    configuration: Configuration,
    family: Family | None,
    advertisement: Advertisement,
    counters: Multiset[Counter],
) -> Counter | None:
    if family is None or advertisement.version != configuration.version:
        return Counter.VERSION_ERRORS
    if advertisement.source == family.source:
        return Counter.OWN_PACKETS
    if family.members is not None and advertisement.source not in family.members:
        if not configuration.obey_foreign:
            return Counter.FOREIGN_ROUTERS
        counters[Counter.FOREIGN_ROUTERS] += 1
    if (advertisement.password is None) != (configuration.password is None):
        return Counter.AUTH_TYPE_MISMATCH
    if advertisement.password != configuration.password:
        return Counter.AUTH_FAILURES
    return None
