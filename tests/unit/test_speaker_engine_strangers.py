"""VRIDs of routers that are none of ours."""

from __future__ import annotations

from holdfast_speaker.engine.links import LinkTable
from holdfast_speaker.engine.strangers import REMEMBERED, Strangers
from holdfast_speaker.host.netlink import Link
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import SECOND, Instant
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, encode

SOURCE = bytes((10, 0, 0, 9))
NOW = Instant(100 * SECOND)


def advertisement(vrid: int) -> bytes:
    return encode(3, vrid, 100, SECOND, (bytes((10, 0, 0, 200)),), SOURCE, MULTICAST_GROUP_V4, None)


def table(*names: str) -> LinkTable:
    made = LinkTable()
    links = [
        Link(index, name, admin_up=True, carrier=True, mac=bytes(6), loopback=False)
        for index, name in enumerate(names, start=2)
    ]
    made.replace(links, ())
    return made


def test_their_vrids_are_told_by_link_each_once() -> None:
    strangers = Strangers()
    for index, vrid in (2, 77), (2, 5), (3, 77), (2, 77):
        strangers.hear(index, advertisement(vrid), SOURCE, MULTICAST_GROUP_V4, 255, NOW)
    assert strangers.by_link(table("eth0", "eth1"), NOW) == {"eth0": [5, 77], "eth1": [77]}
    assert strangers.counters == {Counter.VRID_ERRORS: 4}


def test_what_is_no_advertisement_of_this_link_takes_no_vrid() -> None:
    strangers = Strangers()
    strangers.hear(2, advertisement(77), SOURCE, MULTICAST_GROUP_V4, 64, NOW)
    strangers.hear(2, bytes((0x31, 77)) + bytes(10), SOURCE, MULTICAST_GROUP_V4, 255, NOW)
    strangers.hear(2, b"\x31", SOURCE, MULTICAST_GROUP_V4, 255, NOW)
    assert strangers.by_link(table("eth0"), NOW) == {}
    assert strangers.counters == {Counter.VRID_ERRORS: 2, Counter.PACKET_LENGTH_ERRORS: 1}


def test_a_vrid_counts_as_taken_for_an_hour_after_its_last_advertisement() -> None:
    strangers = Strangers()
    later = Instant(NOW + 600 * SECOND)
    for at in (NOW, later):
        strangers.hear(2, advertisement(77), SOURCE, MULTICAST_GROUP_V4, 255, at)
    assert strangers.by_link(table("eth0"), Instant(later + REMEMBERED - 1)) == {"eth0": [77]}
    assert strangers.by_link(table("eth0"), Instant(later + REMEMBERED)) == {}


def test_nodes_of_the_cluster_are_no_strangers_whenever_that_becomes_known() -> None:
    strangers = Strangers()
    strangers.hear(2, advertisement(77), SOURCE, MULTICAST_GROUP_V4, 255, NOW)
    strangers.know(["10.0.0.9", "fe80::9"])
    strangers.hear(2, advertisement(78), SOURCE, MULTICAST_GROUP_V4, 255, NOW)
    assert strangers.by_link(table("eth0"), NOW) == {}
    strangers.know([])
    assert strangers.by_link(table("eth0"), NOW) == {}
    strangers.hear(2, advertisement(78), SOURCE, MULTICAST_GROUP_V4, 255, NOW)
    assert strangers.by_link(table("eth0"), NOW) == {"eth0": [78]}


def test_made_up_sources_do_not_fill_the_memory() -> None:
    strangers = Strangers()
    payload = encode(2, 77, 100, SECOND, (bytes((10, 0, 0, 200)),), SOURCE, MULTICAST_GROUP_V4, None)
    for number in range(5000):
        strangers.hear(2, payload, bytes((10, 0, *divmod(number, 256))), MULTICAST_GROUP_V4, 255, NOW)
    strangers.hear(2, advertisement(78), SOURCE, MULTICAST_GROUP_V4, 255, NOW)
    assert strangers.by_link(table("eth0"), NOW) == {"eth0": [77]}
    later = Instant(NOW + REMEMBERED)
    assert strangers.by_link(table("eth0"), later) == {}
    strangers.hear(2, advertisement(78), SOURCE, MULTICAST_GROUP_V4, 255, later)
    assert strangers.by_link(table("eth0"), later) == {"eth0": [78]}


def test_a_link_that_is_gone_is_forgotten() -> None:
    strangers = Strangers()
    strangers.hear(3, advertisement(77), SOURCE, MULTICAST_GROUP_V4, 255, NOW)
    assert strangers.by_link(table("eth0"), NOW) == {}
    strangers.keep_links({2})
    assert strangers.by_link(table("eth0", "eth1"), NOW) == {}


class _CountedInstant(int):
    """A time that knows how often another one was taken from it."""

    asked = 0

    def __sub__(self, other: int) -> int:
        _CountedInstant.asked += 1
        return int(self) - other


def test_a_flood_from_made_up_sources_costs_no_look_at_all_of_them_for_each_packet() -> None:
    strangers = Strangers()

    def hear(number: int, now: Instant) -> bool:
        source = number.to_bytes(4, "big")
        packet = encode(3, 9, 100, SECOND, (bytes((10, 0, 0, 200)),), source, MULTICAST_GROUP_V4, None)
        return strangers.hear(2, packet, source, MULTICAST_GROUP_V4, 255, now)

    assert all(hear(number, NOW) for number in range(1024))
    now = Instant(_CountedInstant(NOW + SECOND))
    assert not any(hear(number, now) for number in range(2000, 2100))
    assert _CountedInstant.asked < 5000
    assert hear(2000, Instant(NOW + REMEMBERED)), "there is room again"


def own_host(
    strangers: Strangers, vrid: int, *seconds: int, ours: frozenset[bytes] = frozenset(), **fields: int
) -> None:
    """Another program of this host, whose address is a known node's, advertises at these times."""
    payload = encode(3, vrid, fields.get("priority", 100), SECOND, (VIP,), SOURCE, MULTICAST_GROUP_V4, None)
    for second in seconds:
        now = Instant(NOW + second * SECOND)
        strangers.hear_own_host(2, payload, SOURCE, MULTICAST_GROUP_V4, 255, ours, now)


VIP = bytes((10, 0, 0, 200))


def test_another_program_of_this_host_is_a_stranger_though_its_address_is_a_nodes() -> None:
    strangers = Strangers()
    strangers.know(["10.0.0.9"])
    own_host(strangers, 77, 0, 1)
    strangers.know(["10.0.0.9"])
    assert strangers.by_link(table("eth0"), Instant(NOW + SECOND)) == {"eth0": [77]}
    restored = Strangers()
    restored.restore(strangers.checkpoint())
    assert restored.by_link(table("eth0"), Instant(NOW + SECOND)) == {"eth0": [77]}
    assert strangers.by_link(table("eth0"), Instant(NOW + SECOND + REMEMBERED)) == {}
    strangers.keep_links({3})
    assert strangers.by_link(table("eth0"), Instant(NOW + SECOND)) == {}


def test_what_this_engine_sends_itself_is_no_strangers() -> None:
    strangers = Strangers()
    own_host(strangers, 51, 0, 1, 2, ours=frozenset({VIP}))
    assert strangers.by_link(table("eth0"), NOW) == {}


def test_what_this_engine_sent_last_before_an_edit_is_no_strangers() -> None:
    strangers = Strangers()
    own_host(strangers, 51, 0, 1, ours=frozenset({VIP}))
    own_host(strangers, 51, 2)  # read after the VirtualIP was taken from the configuration
    own_host(strangers, 51, 2, 9, priority=0)
    assert strangers.by_link(table("eth0"), Instant(NOW + 9 * SECOND)) == {}
    own_host(strangers, 51, 10, ours=frozenset({VIP}))
    own_host(strangers, 51, 20)
    assert strangers.by_link(table("eth0"), Instant(NOW + 20 * SECOND)) == {}


def test_another_program_with_a_vrid_of_ours_is_told_too() -> None:
    strangers = Strangers()
    own_host(strangers, 51, 0, 1, ours=frozenset({bytes((10, 0, 0, 201))}))
    assert strangers.by_link(table("eth0"), Instant(NOW + SECOND)) == {"eth0": [51]}


def test_what_is_no_advertisement_says_nothing() -> None:
    strangers = Strangers()
    for second in (0, 1):
        now = Instant(NOW + second * SECOND)
        strangers.hear_own_host(2, b"\x31\x05", SOURCE, MULTICAST_GROUP_V4, 255, frozenset(), now)
    assert strangers.by_link(table("eth0"), Instant(NOW + SECOND)) == {}
