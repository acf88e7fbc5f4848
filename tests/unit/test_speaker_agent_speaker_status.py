from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import Raw, structs

from holdfast_api.cluster import PLANNED_FROM_ANNOTATION, Link
from holdfast_api.messages import LinkStatus
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_kube.objects import Metadata
from holdfast_kube.reachability import Outage
from holdfast_speaker.agent.configuration import Configuration
from holdfast_speaker.agent.objects import ObservedSpeakerConfig
from holdfast_speaker.agent.speaker_status import (
    MORE_WARNINGS,
    EngineFacts,
    Facts,
    links_of,
    router_warnings,
    speaker_status,
)
from holdfast_testing.agent_fixtures import NODE, FakeEngine, router_status

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:01:00Z"
LINKS = [Link(name="eth0", addresses=["10.0.0.1/24"])]


def found(generation, **spec):
    return ObservedSpeakerConfig(
        metadata=Metadata(
            name=NODE, uid="u", generation=generation, annotations={PLANNED_FROM_ANNOTATION: "definition"}
        ),
        spec=Raw(json.dumps({"nodeName": NODE, **spec}).encode()),
    )


def made_anew():
    return ObservedSpeakerConfig(
        metadata=Metadata(name=NODE, uid="another", generation=1), spec=Raw(json.dumps({"nodeName": NODE}).encode())
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


def test_what_the_engine_runs_is_told_with_the_definition_that_it_was_planned_from(configuration):
    routers = [
        router_status(VirtualRouterConfiguration(name=name, addresses=["10.0.0.9"], virtual_router_id=vrid))
        for name, vrid in (("shop/web", 7), ("shop/mail", 9))
    ]
    running = EngineFacts(is_away=False, generation=3)
    told = status(configuration, running, routers=routers)
    assert told == status(configuration, running, routers=routers[::-1])
    assert [(one.name, one.virtual_router_id) for one in told.virtual_routers] == [("shop/mail", 9), ("shop/web", 7)]
    assert told.planned_from == "definition"
    configuration.put(("", NODE), made_anew())
    after = status(configuration, running, routers=routers)
    assert (after.virtual_routers, after.planned_from) == (told.virtual_routers, "definition")
    assert after.observed_generation == 0


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
    assert told.warnings[-1] == MORE_WARNINGS
    told = status(configuration, EngineFacts(is_away=False, generation=3, warnings=["w"] * 32))
    assert told.warnings == ["w"] * 32


# ----- links -----


def told(**fields):
    """A status of an engine."""
    engine = FakeEngine(Path("unused"))
    return structs.replace(engine.status(), **fields)


def test_links_are_those_of_the_engine_with_the_vrids_of_strangers():
    links = [LinkStatus(name="eth0", addresses=["10.0.0.7/24"]), LinkStatus(name="eth1", addresses=["10.1.0.7/24"])]
    heard = {"eth0": [5, 77], "eth9": [6]}
    assert links_of(told(links=links, foreign_virtual_router_ids=heard), LINKS) == [
        Link(name="eth0", addresses=["10.0.0.7/24"], foreign_virtual_router_ids=[5, 77]),
        Link(name="eth1", addresses=["10.1.0.7/24"]),
    ]


def test_through_what_the_nodes_routes_lead_is_told_with_the_link():
    many = [f"10.0.0.{number}" for number in range(1, 100)]
    links = [LinkStatus(name="eth0", addresses=["10.0.0.7/24"], next_hops=many)]
    assert links_of(told(links=links), []) == [Link(name="eth0", addresses=["10.0.0.7/24"], next_hops=many[:64])]


def test_an_engine_that_has_no_link_says_so():
    assert links_of(told(links=[]), LINKS) == []


def test_of_an_older_engine_the_known_links_stay_with_what_it_hears_on_them():
    assert links_of(told(links=None, foreign_virtual_router_ids={"eth0": [5]}), LINKS) == [
        Link(name="eth0", addresses=["10.0.0.1/24"], foreign_virtual_router_ids=[5])
    ]


def test_while_an_engine_is_away_what_it_said_stays():
    known = [Link(name="eth0", addresses=["10.0.0.1/24"], foreign_virtual_router_ids=[5])]
    assert links_of(None, known) == known


# ----- warnings of virtual routers -----


def test_warnings_of_virtual_routers_have_their_names():
    routers = [
        router_status(VirtualRouterConfiguration(name=name, addresses=["10.0.0.9/24"], virtual_router_id=51), **fields)
        for name, fields in (("shop/db", {}), ("shop/web", {"warnings": ["b", "a"]}))
    ]
    assert router_warnings(routers) == ["shop/web: a", "shop/web: b"]


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
