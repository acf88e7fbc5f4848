"""Whether a virtual router listens to an advertisement at all: RFC 9568 section 7.1, and the known members.

What the RFC says to log and not to drop (address list, interval) is counted and obeyed.
"""

from __future__ import annotations

from collections import Counter as Multiset

from holdfast_speaker.vrrp.configuration import Configuration, Family
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import CENTISECOND
from holdfast_speaker.vrrp.packet import Advertisement


def admits(configuration: Configuration, advertisement: Advertisement, counters: Multiset[Counter]) -> bool:
    """Whether the advertisement is for this router's election; what is wrong or odd about it is counted."""
    family = configuration.family(len(advertisement.source))
    refusal = _refusal(configuration, family, advertisement, counters)
    if refusal is not None or family is None:
        counters[refusal or Counter.VERSION_ERRORS] += 1
        return False
    counters[Counter.ADVERTISEMENT_RCVD] += 1
    if advertisement.priority == 0:
        counters[Counter.PRIORITY_ZERO_PKTS_RCVD] += 1
    if advertisement.addresses != family.addresses and set(advertisement.addresses) != set(family.addresses):
        counters[Counter.ADDRESS_LIST_ERRORS] += 1
    # A Master's own interval counts, as it would be on the wire; VRRPv2 routers must agree (RFC 3768 section 7.1),
    # and one that does not is still the holder: it is obeyed, and its interval is learned as in VRRPv3 (ADR 0008).
    if advertisement.interval // CENTISECOND != configuration.interval // CENTISECOND:
        counters[Counter.INTERVAL_ERRORS] += 1
    if advertisement.version == 3 and not advertisement.pseudo_header:
        counters[Counter.CHECKSUM_WITHOUT_PSEUDO_HEADER] += 1
    return True


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
