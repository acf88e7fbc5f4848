from __future__ import annotations

import json
import socket
from ipaddress import ip_address

import pytest
from msgspec import Raw

from holdfast_api.cluster import Link
from holdfast_speaker.agent.configuration import PLANNED_FROM, Configuration
from holdfast_speaker.agent.host_links import read, usable, vips_of
from holdfast_speaker.agent.objects import Metadata, ObservedSpeakerConfig
from holdfast_speaker.agent.reachability import Outage
from holdfast_speaker.agent.speaker_status import EngineFacts, Facts, speaker_status
from holdfast_speaker.host import netlink
from holdfast_testing.agent_fixtures import NODE, router

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:01:00Z"
LINKS = [Link(name="eth0", addresses=["10.0.0.1/24"])]


def found(generation, **spec):
    return ObservedSpeakerConfig(
        metadata=Metadata(name=NODE, uid="u", generation=generation, annotations={PLANNED_FROM: "definition"}),
        spec=Raw(json.dumps({"nodeName": NODE, **spec}).encode()),
    )


@pytest.fixture
def configuration():
    made = Configuration(NODE, lambda: None)
    made.put(("", NODE), found(3))
    return made


def status(configuration, engine, now=NOW, **facts):
    return speaker_status(Facts(configuration, engine, LINKS, **facts), now)


def test_a_generation_in_force_is_applied(configuration):
    told = status(configuration, EngineFacts(is_away=False, version="0.1.0", generation=3, warnings=["w"]))
    assert (told.observed_generation, told.engine_version, told.links, told.warnings) == (3, "0.1.0", LINKS, ["w"])
    (condition,) = told.conditions
    assert (condition.type, condition.status, condition.observed_generation) == ("Applied", "True", 3)


def test_vrids_of_strangers_are_told_with_the_link(configuration):
    heard = {"eth0": [5, 77], "eth9": [6]}
    told = status(configuration, EngineFacts(is_away=False, generation=3, foreign_virtual_router_ids=heard))
    (link,) = told.links
    assert (link.name, link.foreign_virtual_router_ids) == ("eth0", [5, 77])


def test_a_condition_that_stays_keeps_its_time(configuration):
    running = EngineFacts(is_away=False, generation=3)
    before = status(configuration, running).conditions
    assert status(configuration, running, LATER, before=before).conditions == before
    away = status(configuration, EngineFacts(words="gone"), LATER, before=before).conditions[0]
    assert (away.status, away.last_transition_time) == ("Unknown", LATER)


def test_while_a_generation_is_on_its_way_nothing_is_told(configuration):
    assert status(configuration, EngineFacts(is_away=False, generation=2)) is None


def test_an_engine_that_is_away_is_told_with_the_reason(configuration):
    (condition,) = status(configuration, EngineFacts(words="no engine listens")).conditions
    assert (condition.status, condition.reason, condition.message) == ("Unknown", "EngineAway", "no engine listens")


def test_a_refusal_is_told_with_what_stays_in_force(configuration):
    configuration.refused(configuration.newest, "no such thing")
    told = status(configuration, EngineFacts(is_away=False, generation=2))
    assert told.observed_generation == 2
    assert told.conditions[0].status == "False"
    assert told.conditions[0].message == "generation 2 stays in force: no such thing"


def test_an_absence_of_the_api_server_is_told_when_it_is_over_and_was_long(configuration):
    running = EngineFacts(is_away=False, generation=3)
    long = status(configuration, running, outage=Outage(0.0, 61.0)).conditions
    assert long[1].type == "APIServerReachable"
    assert "from 1970-01-01T00:00:00Z to 1970-01-01T00:01:01Z" in long[1].message
    assert len(status(configuration, running, outage=Outage(0.0, 1.0)).conditions) == 1


def test_every_list_fits_the_schema(configuration):
    told = status(configuration, EngineFacts(is_away=False, version="v" * 99, generation=3, warnings=["w" * 2000] * 50))
    assert (len(told.warnings), len(told.warnings[0]), len(told.engine_version)) == (32, 1024, 64)


# ----- links -----


def link(index, name, *, up=True, loopback=False):
    return netlink.Link(index=index, name=name, admin_up=up, carrier=up, mac=bytes(6), loopback=loopback)


def address(index, text, *, ours=False, flags=0, scope=0):
    host, _, length = text.partition("/")
    packed = ip_address(host).packed
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    protocol = netlink.ADDRESS_PROTOCOL if ours else 0
    return netlink.LinkAddress(index, family, packed, int(length), protocol, flags, scope, None)


def test_links_with_a_global_address_are_told_with_all_their_own():
    addresses = [
        address(2, "fe80::1/64", scope=253),
        address(2, "2001:db8::1/64"),
        address(2, "10.0.0.1/24"),
        address(2, "10.0.0.200/24", ours=True),
        address(2, "10.0.0.201/32"),
        address(2, "2001:db8::77/64", flags=0x01),
        address(2, "2001:db8::88/64", flags=0x40),
        address(3, "fe80::2/64", scope=253),
    ]
    links = [link(3, "veth0"), link(2, "eth0"), link(4, "eth1")]
    assert usable(links, addresses, {"10.0.0.201"}) == [
        Link(name="eth0", addresses=["10.0.0.1/24", "2001:db8::1/64", "fe80::1/64"])
    ]


def test_loopback_and_links_that_only_keep_services_are_left_out():
    links = [link(1, "lo", loopback=True), link(2, "kube-ipvs0", up=False), link(3, "eth0", up=False)]
    addresses = [address(1, "127.0.0.1/8"), address(2, "10.96.0.1/32"), address(3, "10.0.0.1/24")]
    assert [one.name for one in usable(links, addresses, ())] == ["eth0"]


def test_many_addresses_are_cut_to_what_the_schema_allows():
    links = [link(index, f"e{index:03}") for index in range(2, 102)]
    addresses = [address(2, f"10.0.{number // 250}.{number % 250}/16") for number in range(100)]
    addresses += [address(index, f"10.{index}.0.1/16") for index in range(3, 102)]
    told = usable(links, addresses, ())
    assert (len(told), len(told[0].addresses)) == (64, 64)


def test_the_kernel_can_be_asked_without_a_capability():
    links, addresses = read()
    assert any(one.loopback for one in links)
    assert isinstance(addresses, list)


def test_an_owner_keeps_its_addresses(configuration):
    configuration.put(
        ("", NODE),
        found(4, virtualRouters=[router("shop/own", 50, priority=255), router("shop/web", 51)]),
    )
    assert vips_of(configuration.newest.spec.virtual_routers) == {"10.0.0.51"}


def test_an_object_that_nobody_planned_yet_is_told_the_links(configuration):
    configuration.put(
        ("", NODE),
        ObservedSpeakerConfig(
            metadata=Metadata(name=NODE, uid="other", generation=1), spec=Raw(json.dumps({"nodeName": NODE}).encode())
        ),
    )
    told = status(configuration, EngineFacts(is_away=False, version="0.1.0", generation=7))
    assert (told.observed_generation, told.links) == (0, LINKS)
    assert (told.conditions[0].status, told.conditions[0].reason) == ("Unknown", "NotPlanned")
    configuration.put(("", NODE), found(8))
    assert status(configuration, EngineFacts(is_away=False, generation=8)).observed_generation == 8
