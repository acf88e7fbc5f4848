"""What people and programs read: one line for each kind of packet and change."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest

from holdfast_cli.sniff.changes import (
    AddressAnnounced,
    AddressesChanged,
    Band,
    Change,
    Claim,
    FellSilent,
    IntervalChanged,
    InvalidHeard,
    MasterChanged,
    MoveReason,
    OneMaster,
    PriorityChanged,
    Released,
    RouterHeard,
    TwoMasters,
)
from holdfast_cli.sniff.packets import (
    Advertisement,
    Authentication,
    ChecksumForm,
    Fault,
    FaultKind,
    Malformed,
    Packet,
    Resolution,
    Role,
)
from holdfast_cli.sniff.render import as_json, as_text

AT: dict[str, Any] = {"at": 1_800_000_000_123_456_789, "link": "eth0"}
ROUTER: dict[str, Any] = {**AT, "virtual_router_id": 51, "family": 4}
FAULTS = (Fault(FaultKind.TIME_TO_LIVE, "TTL 64, not 255"), Fault(FaultKind.INTERVAL_ZERO, "interval 0"))
MAC = "02:00:00:00:00:0a"

ADVERT = Advertisement(
    **AT,
    source="10.0.0.1",
    destination="224.0.0.18",
    mac=MAC,
    ttl=255,
    version=2,
    virtual_router_id=51,
    priority=20,
    interval_milliseconds=2000,
    addresses=("10.0.0.200", "10.0.0.201"),
    checksum=ChecksumForm.NOTHING,
    authentication=Authentication.SIMPLE_PASSWORD,
)
HEARD = RouterHeard(
    **ROUTER,
    source="10.0.0.1",
    destination="224.0.0.18",
    mac=MAC,
    version=3,
    priority=255,
    band=Band.OWNER,
    interval_milliseconds=10,
    addresses=("10.0.0.200",),
    checksum=ChecksumForm.NOTHING,
    authentication=Authentication.NONE,
    remarks=("reserved bits 0xf",),
    silent_milliseconds=3000.0,
)
MALFORMED = Malformed(
    **AT,
    protocol="VRRP",
    source="10.0.0.9",
    destination="224.0.0.18",
    mac=MAC,
    ttl=64,
    faults=FAULTS,
    version=3,
    virtual_router_id=51,
    priority=100,
)


def moved(reason: MoveReason) -> MasterChanged:
    ends: dict[str, Any] = {"from_source": "10.0.0.1", "to_source": "10.0.0.2", "from_priority": 39}
    return MasterChanged(**ROUTER, **ends, to_priority=100, reason=reason, gap_milliseconds=361.4)


def announced(role: Role, protocol: str, previous: str | None) -> AddressAnnounced:
    said: dict[str, Any] = {"protocol": protocol, "role": role, "address": "10.0.0.200", "source": "10.0.0.200"}
    return AddressAnnounced(**ROUTER, **said, mac=MAC, previous_mac=previous)


def resolution(role: Role) -> Resolution:
    return Resolution(**AT, protocol="ARP", role=role, address="10.0.0.200", mac=MAC, source="10.0.0.7")


def invalid(packets: int) -> InvalidHeard:
    said: dict[str, Any] = {"protocol": "VRRP", "source": "10.0.0.9", "destination": "224.0.0.18", "mac": MAC}
    return InvalidHeard(**{**ROUTER, "virtual_router_id": None}, **said, priority=None, faults=FAULTS, packets=packets)


LINES: list[tuple[Packet | Change, str]] = [
    (
        ADVERT,
        "51/IPv4  advert    10.0.0.1 > 224.0.0.18: VRRPv2, ttl 255, priority 20 failing, every 2 s, "
        "10.0.0.200 10.0.0.201, simple password",
    ),
    (
        MALFORMED,
        "51/IPv4  invalid   10.0.0.9 > 224.0.0.18: VRRPv3, ttl 64, priority 100: TTL 64, not 255; interval 0",
    ),
    (resolution(Role.QUESTION), f"-/IPv4   arp       who has 10.0.0.200? asks 10.0.0.7 ({MAC})"),
    (resolution(Role.ANSWER), f"-/IPv4   arp       10.0.0.200 answers: it is at {MAC}"),
    (resolution(Role.ANNOUNCEMENT), f"-/IPv4   arp       10.0.0.200 announces itself at {MAC}"),
    (
        HEARD,
        "51/IPv4  ROUTER    10.0.0.1 again after 3.000 s: VRRPv3, priority 255 owner, every 10 ms, 10.0.0.200, "
        "to 224.0.0.18, checksum without pseudo-header, reserved bits 0xf",
    ),
    (
        moved(MoveReason.SILENT),
        "51/IPv4  MASTER    10.0.0.2 (priority 100): 10.0.0.1 was last heard 361 ms before",
    ),
    (moved(MoveReason.RELEASED), "51/IPv4  MASTER    10.0.0.2 (priority 100): 10.0.0.1 released 361 ms before"),
    (
        moved(MoveReason.HIGHER_PRIORITY),
        "51/IPv4  MASTER    10.0.0.2 (priority 100) takes over from 10.0.0.1 (priority 39 failing)",
    ),
    (
        moved(MoveReason.HIGHER_ADDRESS),
        "51/IPv4  MASTER    10.0.0.2 (priority 100) takes over from 10.0.0.1: same priority, higher address",
    ),
    (
        PriorityChanged(
            **ROUTER,
            source="10.0.0.1",
            from_priority=150,
            to_priority=30,
            from_band=Band.HEALTHY,
            to_band=Band.FAILING,
        ),
        "51/IPv4  PRIORITY  10.0.0.1: 150 -> 30 failing",
    ),
    (
        IntervalChanged(**ROUTER, source="10.0.0.1", from_milliseconds=100, to_milliseconds=1000),
        "51/IPv4  INTERVAL  10.0.0.1: every 100 ms -> every 1 s",
    ),
    (
        AddressesChanged(**ROUTER, source="10.0.0.1", from_addresses=("a", "b"), to_addresses=("a",)),
        "51/IPv4  ADDRESSES 10.0.0.1: a b -> a",
    ),
    (
        Released(**ROUTER, source="10.0.0.1", from_priority=100),
        "51/IPv4  RELEASE   10.0.0.1 (priority 100) leaves: priority 0",
    ),
    (Released(**ROUTER, source="10.0.0.1", from_priority=None), "51/IPv4  RELEASE   10.0.0.1 leaves: priority 0"),
    (
        FellSilent(**ROUTER, source="10.0.0.1", priority=100, interval_milliseconds=10, silent_milliseconds=36.1),
        "51/IPv4  SILENT    10.0.0.1 (priority 100, every 10 ms): nothing for 36.1 ms",
    ),
    (
        TwoMasters(**ROUTER, masters=(Claim("10.0.0.1", 150), Claim("10.0.0.2", 100))),
        "51/IPv4  2 MASTERS 10.0.0.1 (priority 150) and 10.0.0.2 (priority 100); by the protocol 10.0.0.1 stays",
    ),
    (
        OneMaster(**ROUTER, source="10.0.0.1", lasted_milliseconds=600.0),
        "51/IPv4  1 MASTER  10.0.0.1 alone again: they were more for 600 ms",
    ),
    (OneMaster(**ROUTER, source="10.0.0.1", lasted_milliseconds=0.0), "51/IPv4  1 MASTER  10.0.0.1 alone again"),
    (
        announced(Role.ANNOUNCEMENT, "ARP", None),
        f"51/IPv4  ANNOUNCED 10.0.0.200 is at {MAC}: gratuitous ARP",
    ),
    (
        announced(Role.ANNOUNCEMENT, "NDP", "02:00:00:00:00:0b"),
        f"51/IPv4  ANNOUNCED 10.0.0.200 is at {MAC} (was at 02:00:00:00:00:0b): unsolicited neighbour advertisement",
    ),
    (
        announced(Role.ANSWER, "ARP", "02:00:00:00:00:0b"),
        f"51/IPv4  ANSWERS   10.0.0.200 answers from {MAC} (was at 02:00:00:00:00:0b)",
    ),
    (invalid(1), "-/IPv4   INVALID   10.0.0.9 > 224.0.0.18: VRRP: TTL 64, not 255; interval 0"),
    (invalid(60), "-/IPv4   INVALID   10.0.0.9 > 224.0.0.18: VRRP: TTL 64, not 255; interval 0 (60 packets)"),
]
KINDS = [type(event).__name__ for event, _ in LINES]


@pytest.mark.parametrize(("event", "line"), LINES, ids=[f"{kind}-{at}" for at, kind in enumerate(KINDS)])
def test_each_kind_has_its_line(event: Packet | Change, line: str) -> None:
    assert click.unstyle(as_text(event)) == f"08:00:00.123456Z eth0 {line}"


@pytest.mark.parametrize(("event", "line"), LINES, ids=[f"{kind}-{at}" for at, kind in enumerate(KINDS)])
def test_each_kind_is_an_object_that_names_its_kind_and_time_first(event: Packet | Change, line: str) -> None:
    text = as_json(event)
    assert "\n" not in text
    fields = json.loads(text)
    assert list(fields)[:3] == ["event", "time", "link"]
    assert fields["event"] == type(event).__name__
    assert fields["time"] == "2027-01-15T08:00:00.123456Z"


def test_every_kind_of_packet_and_change_is_among_them() -> None:
    assert {type(event) for event, _ in LINES} == set((Packet | Change).__args__)


def test_without_an_interface_there_is_no_gap() -> None:
    event = Released(**{**ROUTER, "link": ""}, source="10.0.0.1", from_priority=None)
    assert click.unstyle(as_text(event)) == "08:00:00.123456Z 51/IPv4  RELEASE   10.0.0.1 leaves: priority 0"


def test_only_changes_and_broken_packets_are_coloured() -> None:
    assert as_text(ADVERT) == click.unstyle(as_text(ADVERT))
    assert as_text(moved(MoveReason.SILENT)) != click.unstyle(as_text(moved(MoveReason.SILENT)))


def test_names_of_fields_are_those_of_the_api() -> None:
    fields = json.loads(as_json(moved(MoveReason.SILENT)))
    assert fields == {
        "event": "MasterChanged",
        "time": "2027-01-15T08:00:00.123456Z",
        "link": "eth0",
        "virtualRouterID": 51,
        "family": 4,
        "fromSource": "10.0.0.1",
        "toSource": "10.0.0.2",
        "reason": "Silent",
        "fromPriority": 39,
        "toPriority": 100,
        "gapMilliseconds": 361.4,
    }
