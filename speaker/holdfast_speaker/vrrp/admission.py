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

_MOST_REMEMBERED = 32
"""More routers than this do not share a virtual router; and nobody who makes sources up shall fill the memory."""


class Acquaintances(Struct, frozen=True):
    """Who is known to be of this virtual router although no configuration names it."""

    met: tuple[bytes, ...] = ()
    """Sources that advertised a list with an address of ours, the latest last."""
    former: frozenset[bytes] = frozenset()
    """Our addresses before the last edit of them: others may not have made theirs yet."""

    def with_source(self, source: bytes) -> Acquaintances:
        """One more, if it is one more; the oldest is forgotten where there are too many."""
        if source in self.met:
            return self
        return Acquaintances((*self.met, source)[-_MOST_REMEMBERED:], self.former)

    def after_edit(self, before: Configuration, after: Configuration) -> Acquaintances:
        """The same from now on. A family that comes or goes is no edit of the other's addresses."""
        former = set(self.former)
        for family in before.families:
            now = after.family(family.width)
            if now is not None and set(now.addresses) != set(family.addresses):
                former = {address for address in former if len(address) != family.width}.union(family.addresses)
        return Acquaintances(self.met, frozenset(former))


def admit(
    configuration: Configuration,
    acquaintances: Acquaintances,
    advertisement: Advertisement,
    counters: Multiset[Counter],
) -> Acquaintances | Counter:
    """Who is known after it, where the advertisement is for this router's election, or why it is refused.

    What is wrong or odd about it is counted.
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
        meets = not acquaintances.former.union(family.addresses).isdisjoint(advertisement.addresses)
        if not (meets or _is_known(family, acquaintances, advertisement.source)):
            counters[Counter.OTHER_VIRTUAL_ROUTERS] += 1
            return Counter.OTHER_VIRTUAL_ROUTERS
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
