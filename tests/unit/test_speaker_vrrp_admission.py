"""Which advertisements are listened to, and what is counted of each (RFC 9568 section 7.1)."""

from __future__ import annotations

from collections import Counter as Multiset
from dataclasses import replace

import pytest

from holdfast_speaker.vrrp.admission import admits
from holdfast_speaker.vrrp.configuration import Configuration, Family
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import SECOND, Duration
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, Advertisement

OURS, PEER, STRANGER = (bytes((10, 0, 0, last)) for last in (1, 2, 9))
VIPS = (bytes((10, 0, 0, 200)), bytes((10, 0, 0, 201)))
FAMILY = Family(OURS, VIPS, (MULTICAST_GROUP_V4,))
KNOWN = replace(FAMILY, members=frozenset({PEER}))
VERSION_3 = Configuration(51, (FAMILY,))
VERSION_2 = Configuration(51, (FAMILY,), version=2)
SECRET = replace(VERSION_2, password=b"secret")
REFUSES = Configuration(51, (KNOWN,), obey_foreign=False)
OBEYS = Configuration(51, (KNOWN,), obey_foreign=True)
GOOD = Advertisement(3, 51, 100, SECOND, VIPS, PEER)
GOOD_2 = GOOD._replace(version=2)
OTHER_FAMILY = GOOD._replace(source=bytes(15) + b"\x02", addresses=(bytes(16),))


@pytest.mark.parametrize(
    ("configuration", "advertisement", "counter"),
    [
        (VERSION_3, GOOD_2, Counter.VERSION_ERRORS),
        (VERSION_2, GOOD, Counter.VERSION_ERRORS),
        (VERSION_3, OTHER_FAMILY, Counter.VERSION_ERRORS),
        (VERSION_3, GOOD._replace(source=OURS), Counter.OWN_PACKETS),
        (REFUSES, GOOD._replace(source=STRANGER), Counter.FOREIGN_ROUTERS),
        (VERSION_2, GOOD_2._replace(password=b"secret"), Counter.AUTH_TYPE_MISMATCH),
        (SECRET, GOOD_2, Counter.AUTH_TYPE_MISMATCH),
        (SECRET, GOOD_2._replace(password=b"Secret"), Counter.AUTH_FAILURES),
    ],
)
def test_what_is_refused_has_one_counter_and_is_not_received(
    configuration: Configuration, advertisement: Advertisement, counter: Counter
) -> None:
    counters: Multiset[Counter] = Multiset()
    assert not admits(configuration, advertisement, counters)
    assert counters == {counter: 1}


@pytest.mark.parametrize(
    ("configuration", "advertisement", "counter"),
    [
        (OBEYS, GOOD._replace(source=STRANGER), Counter.FOREIGN_ROUTERS),
        (VERSION_3, GOOD._replace(priority=0), Counter.PRIORITY_ZERO_PKTS_RCVD),
        (VERSION_3, GOOD._replace(addresses=VIPS[:1]), Counter.ADDRESS_LIST_ERRORS),
        (VERSION_3, GOOD._replace(interval=Duration(2 * SECOND)), Counter.INTERVAL_ERRORS),
        (VERSION_2, GOOD_2._replace(interval=Duration(2 * SECOND)), Counter.INTERVAL_ERRORS),
        (VERSION_3, GOOD._replace(pseudo_header=False), Counter.CHECKSUM_WITHOUT_PSEUDO_HEADER),
    ],
)
def test_what_is_odd_is_counted_and_obeyed(
    configuration: Configuration, advertisement: Advertisement, counter: Counter
) -> None:
    counters: Multiset[Counter] = Multiset()
    assert admits(configuration, advertisement, counters)
    assert counters == {Counter.ADVERTISEMENT_RCVD: 1, counter: 1}


@pytest.mark.parametrize(
    ("configuration", "advertisement"),
    [
        (VERSION_3, GOOD),
        (VERSION_3, GOOD._replace(addresses=VIPS[::-1])),
        (VERSION_3, GOOD._replace(source=STRANGER)),
        (REFUSES, GOOD),
        (VERSION_2, GOOD_2),
        (SECRET, GOOD_2._replace(password=b"secret")),
        # A configured interval of 0.125 s cannot be told from 0.12 s on the wire.
        (replace(VERSION_3, interval=Duration(SECOND // 8)), GOOD._replace(interval=Duration(SECOND * 12 // 100))),
    ],
)
def test_what_is_right_is_received_and_nothing_else_is_counted(
    configuration: Configuration, advertisement: Advertisement
) -> None:
    counters: Multiset[Counter] = Multiset()
    assert admits(configuration, advertisement, counters)
    assert counters == {Counter.ADVERTISEMENT_RCVD: 1}
