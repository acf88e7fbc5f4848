"""Which configuration is sent when, with one agent and with two."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw, structs

from holdfast_api.cluster import PLANNED_FROM_ANNOTATION, SpeakerConfigSpec
from holdfast_kube.objects import Metadata
from holdfast_speaker.agent.cache import KeptConfiguration
from holdfast_speaker.agent.configuration import Configuration, Step
from holdfast_speaker.agent.objects import ObservedSpeakerConfig
from holdfast_testing.agent_fixtures import NODE

KEY = ("", NODE)


def found(generation, uid="first", planned=True, origin="definition", **spec):
    annotations = {PLANNED_FROM_ANNOTATION: origin} if planned else None
    return ObservedSpeakerConfig(
        metadata=Metadata(name=NODE, uid=uid, generation=generation, annotations=annotations),
        spec=Raw(json.dumps({"nodeName": NODE, **spec}).encode()),
    )


def kept(generation):
    return KeptConfiguration(uid="first", generation=generation, spec=SpeakerConfigSpec(node_name=NODE))


@pytest.fixture
def configuration():
    return Configuration(NODE, lambda: None)


def send(configuration):
    """As the link does: returns the generation that the engine runs then."""
    assert configuration.newest is not None
    configuration.offered(configuration.newest)
    configuration.accepted(configuration.newest)
    return configuration.newest.generation


def test_without_a_configuration_there_is_nothing_to_do(configuration):
    assert configuration.step(0) is Step.NOTHING


@pytest.mark.parametrize("engine_generation", [0, 2, 3])
def test_what_is_not_older_is_sent_once_on_each_connection(configuration, engine_generation):
    configuration.put(KEY, found(3))
    assert configuration.step(engine_generation) is Step.SEND
    assert configuration.step(send(configuration)) is Step.NOTHING
    configuration.connected()
    assert configuration.step(3) is Step.SEND


def test_the_same_generation_again_is_no_news(configuration):
    configuration.put(KEY, found(3))
    send(configuration)
    configuration.put(KEY, found(3))
    assert configuration.step(3) is Step.NOTHING


def test_an_engine_ahead_is_left_alone_until_a_fresh_read_shows_another_object(configuration):
    configuration.put(KEY, found(3))
    assert configuration.step(9) is Step.READ_AGAIN
    configuration.take_again(found(9))  # another agent was faster
    assert configuration.step(9) is Step.SEND
    assert configuration.step(send(configuration)) is Step.NOTHING


def test_an_object_made_anew_is_sent_though_its_generation_is_lower(configuration):
    configuration.put(KEY, found(9))
    send(configuration)
    configuration.remove(KEY)
    assert configuration.step(9) is Step.NOTHING
    configuration.put(KEY, found(1, uid="second"))
    assert configuration.step(9) is Step.READ_AGAIN
    configuration.take_again(found(1, uid="second"))
    assert configuration.step(9) is Step.SEND
    assert configuration.step(send(configuration)) is Step.NOTHING


def test_an_agent_that_is_contradicted_says_the_same_again_only_after_a_fresh_read(configuration):
    configuration.put(KEY, found(3))
    send(configuration)
    assert configuration.step(2) is Step.READ_AGAIN
    assert configuration.step(2) is Step.READ_AGAIN
    configuration.take_again(found(3))
    assert configuration.step(2) is Step.SEND


def test_a_cached_configuration_is_sent_only_to_an_engine_that_runs_an_older_one(configuration):
    configuration.recall(kept(4))
    assert configuration.step(4) is Step.NOTHING
    assert configuration.step(5) is Step.NOTHING
    assert configuration.step(3) is Step.SEND
    assert configuration.step(send(configuration)) is Step.NOTHING
    assert configuration.step(3) is Step.NOTHING


def test_what_the_api_server_says_replaces_the_cache_even_in_the_same_generation(configuration):
    configuration.recall(kept(4))
    configuration.put(KEY, found(4))
    assert configuration.newest is not None
    assert not configuration.newest.is_cached
    assert configuration.step(4) is Step.SEND


def test_a_refused_configuration_is_not_sent_again_on_the_same_connection(configuration):
    configuration.put(KEY, found(3))
    wanted = configuration.newest
    configuration.offered(wanted)
    configuration.refused(wanted, "no")
    assert configuration.step(2) is Step.NOTHING
    configuration.connected()
    assert configuration.step(2) is Step.SEND


def test_a_refusal_is_forgotten_with_the_next_generation(configuration):
    configuration.put(KEY, found(3))
    configuration.refused(configuration.newest, "no")
    configuration.put(KEY, found(4))
    assert configuration.rejection is None


@pytest.mark.parametrize(
    ("spec", "words"), [({"virtualRouters": 3}, "cannot read it"), ({"nodeName": "n2"}, "nodeName is 'n2'")]
)
def test_what_cannot_be_put_in_force_leaves_the_last_one(configuration, spec, words):
    configuration.put(KEY, found(3))
    send(configuration)
    configuration.put(KEY, found(4, **spec))
    assert words in configuration.rejection.words
    assert configuration.newest.generation == 3
    assert configuration.step(3) is Step.NOTHING


def test_a_list_without_the_object_says_that_it_is_gone_and_nothing_more(configuration):
    configuration.put(KEY, found(3))
    send(configuration)
    configuration.replace({})
    assert configuration.is_there is False
    assert configuration.step(3) is Step.NOTHING
    assert configuration.step(0) is Step.READ_AGAIN


def test_objects_of_other_nodes_are_passed_over(configuration):
    configuration.replace({("", "n2"): found(3)})
    assert configuration.newest is None


def test_an_object_that_nobody_planned_yet_is_no_wish_to_stop(configuration):
    configuration.put(KEY, found(7))
    send(configuration)
    configuration.put(KEY, found(1, uid="second", planned=False))
    assert configuration.step(7) is Step.NOTHING
    assert configuration.is_there
    configuration.put(KEY, found(1, uid="second"))
    assert configuration.newest.uid == "second", "planned without a new generation"


def test_what_runs_is_from_the_definition_that_it_was_planned_from_until_another_plan_comes(configuration):
    assert configuration.planned_from == ""
    configuration.put(KEY, found(7))
    send(configuration)
    configuration.is_gone()
    configuration.put(KEY, found(1, uid="second", planned=False))
    assert configuration.planned_from == "definition"
    configuration.put(KEY, found(1, uid="second", origin="another"))
    assert configuration.planned_from == "another"
    configuration.put(KEY, found(1, uid="second", origin="a third"))
    assert configuration.planned_from == "a third", "marked anew without a new generation"


def test_an_agent_that_is_started_anew_knows_what_its_configuration_was_planned_from(configuration):
    configuration.recall(structs.replace(kept(3), planned_from="definition"))
    configuration.put(KEY, found(1, uid="second", planned=False))
    assert configuration.planned_from == "definition"


def test_a_new_agent_does_not_empty_an_engine_because_of_an_object_that_nobody_planned(configuration):
    configuration.put(KEY, found(1, planned=False))
    assert configuration.step(7) is Step.NOTHING
