"""Which advertisements are listened to, and what is counted of each (RFC 9568 section 7.1)."""

from __future__ import annotations

from collections import Counter as Multiset
from dataclasses import replace

import pytest

from holdfast_speaker.vrrp.admission import Acquaintances, admit
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
NOBODY = Acquaintances()
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
    assert admit(configuration, NOBODY, advertisement, counters) is counter
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
    assert isinstance(admit(configuration, NOBODY, advertisement, counters), Acquaintances)
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
    assert isinstance(admit(configuration, NOBODY, advertisement, counters), Acquaintances)
    assert counters == {Counter.ADVERTISEMENT_RCVD: 1}


OTHERS = GOOD._replace(addresses=(bytes((10, 0, 0, 210)),))


@pytest.mark.parametrize("configuration", [VERSION_3, OBEYS])
@pytest.mark.parametrize("priority", [0, 100, 255])
def test_a_list_without_a_common_address_is_another_virtual_routers(
    configuration: Configuration, priority: int
) -> None:
    counters: Multiset[Counter] = Multiset()
    stranger = OTHERS._replace(source=STRANGER, priority=priority)
    assert admit(configuration, NOBODY, stranger, counters) is Counter.OTHER_VIRTUAL_ROUTERS
    assert counters[Counter.ADDRESS_LIST_ERRORS] == counters[Counter.OTHER_VIRTUAL_ROUTERS] == 1
    assert counters[Counter.ADVERTISEMENT_RCVD] == 0


@pytest.mark.parametrize(
    ("configuration", "acquaintances"),
    [
        (REFUSES, NOBODY),
        (OBEYS, NOBODY),
        (VERSION_3, NOBODY.with_source(PEER)),
        (VERSION_3, Acquaintances(former=frozenset(OTHERS.addresses))),
    ],
    ids=["a member", "a member among others", "heard with our list before", "it has our former list"],
)
def test_who_is_one_of_us_is_obeyed_with_a_list_that_has_no_common_address(
    configuration: Configuration, acquaintances: Acquaintances
) -> None:
    counters: Multiset[Counter] = Multiset()
    assert isinstance(admit(configuration, acquaintances, OTHERS, counters, followed=PEER), Acquaintances)
    assert counters == {Counter.ADVERTISEMENT_RCVD: 1, Counter.ADDRESS_LIST_ERRORS: 1}


@pytest.mark.parametrize("followed", [None, STRANGER])
def test_a_member_that_is_not_followed_is_refused_with_a_list_that_has_no_common_address(
    followed: bytes | None,
) -> None:
    """keepalived on a node of the cluster has picked our VRID."""
    counters: Multiset[Counter] = Multiset()
    assert admit(REFUSES, NOBODY, OTHERS, counters, followed) is Counter.OTHER_VIRTUAL_ROUTERS


def test_a_list_that_is_heard_beside_ours_from_one_host_is_another_programs() -> None:
    counters: Multiset[Counter] = Multiset()
    known = NOBODY
    for advertisement in (GOOD, OTHERS, GOOD):
        found = admit(REFUSES, known, advertisement, counters, followed=PEER)
        assert isinstance(found, Acquaintances)
        known = found
    assert admit(REFUSES, known, OTHERS, counters, followed=PEER) is Counter.OTHER_VIRTUAL_ROUTERS
    edited = replace(REFUSES, families=(replace(KNOWN, addresses=OTHERS.addresses),))
    assert known.after_edit(REFUSES, replace(REFUSES, priority=50)) == known
    assert known.after_edit(REFUSES, edited) == Acquaintances((PEER,), frozenset(VIPS))


def test_who_was_heard_with_an_address_of_ours_is_remembered_and_nobody_else() -> None:
    counters: Multiset[Counter] = Multiset()
    met = admit(VERSION_3, NOBODY, GOOD._replace(addresses=(VIPS[1], *OTHERS.addresses)), counters)
    assert met == Acquaintances((PEER,))
    found = admit(REFUSES, NOBODY, OTHERS, counters, followed=PEER)
    assert isinstance(found, Acquaintances)
    assert found.met == (), "a member by its name alone"


def test_so_many_are_remembered_and_no_more() -> None:
    acquaintances = NOBODY
    for number in range(100):
        acquaintances = acquaintances.with_source(bytes((10, 0, 1, number)))
    assert len(acquaintances.met) == 32
    assert acquaintances.met[-1] == bytes((10, 0, 1, 99))


def test_the_former_list_is_the_one_before_the_last_edit_of_it() -> None:
    edited = replace(VERSION_3, families=(replace(FAMILY, addresses=OTHERS.addresses),))
    acquaintances = NOBODY.after_edit(VERSION_3, edited)
    assert acquaintances.former == set(VIPS)
    assert acquaintances.after_edit(edited, replace(edited, priority=50)) == acquaintances
    assert acquaintances.after_edit(edited, replace(edited, families=())) == acquaintances
    assert acquaintances.after_edit(edited, VERSION_3).former == set(OTHERS.addresses)
