"""Who holds a VirtualIP, told by nodes whose clocks are wrong, by agents that are away, to an operator that is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.cluster import VirtualIPStatus
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.planner_world import condition
from holdfast_testing.status_story import NODES, WEB, Story, address


def status_of(plan: ClusterPlan) -> VirtualIPStatus:
    return plan.statuses[WEB]


events = st.one_of(
    st.tuples(st.just("move"), st.sampled_from(NODES)),
    st.tuples(
        st.sampled_from(["agent goes", "agent comes", "dies", "dies unnoticed", "comes back"]), st.sampled_from(NODES)
    ),
    st.tuples(st.just("passes"), st.sampled_from([1, 5, 55, 120, 3600])),
)
skews = st.fixed_dictionaries({node: st.sampled_from([0, -7200, -300, -1, 1, 300, 7200]) for node in NODES})


def happens(story: Story, event: tuple[str, Any]) -> None:
    match event:
        case ("move", node):
            story.move(node, "Switchover")
        case ("agent goes", node):
            story.agent_goes(node)
        case ("agent comes", node):
            story.agent_comes(node)
        case ("dies", node):
            story.dies(node, is_noticed=True)
        case ("dies unnoticed", node):
            story.dies(node, is_noticed=False)
        case ("comes back", node):
            story.comes_back(node)
        case ("passes", seconds):
            story.passes(seconds)


def is_told_right(story: Story, plan: ClusterPlan) -> None:
    assert story.world.heard is not None
    status = status_of(plan)
    speaks = story.world.heard & story.alive
    assert condition(plan, "SplitBrain")[0] == "False"
    assert status.moves < len(story.holders)
    if story.holder in speaks:
        assert (status.holder, condition(plan, "Ready")[:2]) == (story.holder, ("True", "Held"))
    if not story.world.heard:
        assert condition(plan, "Ready")[:2] == ("Unknown", "HolderNotHeard")
    told = [move.to_node for move in status.transitions]
    remaining = iter(story.holders)
    assert all(node in remaining for node in told), f"{told} in the order of {story.holders}"


@given(skews, st.lists(events, max_size=14), st.booleans())
@settings(max_examples=250, deadline=None)
def test_whoever_has_the_wrong_time_the_holder_is_right_and_history_in_order(
    clocks: dict[str, int], story_events: list[tuple[str, Any]], stamps: bool
) -> None:
    story = Story(clocks, is_written_in_managed_fields=stamps)
    is_told_right(story, story.look())
    for event in story_events:
        story.passes(1)
        happens(story, event)
        is_told_right(story, story.look())


@given(skews, st.lists(st.tuples(events, st.booleans()), max_size=14))
@settings(max_examples=250, deadline=None)
def test_an_operator_that_was_away_finds_the_order_of_the_api_servers_writes(
    clocks: dict[str, int], story_events: list[tuple[tuple[str, Any], bool]]
) -> None:
    story = Story(clocks)
    for event, is_looked_at in story_events:
        story.passes(1)
        happens(story, event)
        if is_looked_at:
            is_told_right(story, story.look())
    is_told_right(story, story.look())


@given(skews, st.permutations(NODES))
@settings(max_examples=50, deadline=None)
def test_within_a_second_the_routers_own_words_tell_who_took_over_from_whom(
    clocks: dict[str, int], order: tuple[str, ...]
) -> None:
    """Each dies after it took over, and all of it happens within one second of the API server's clock."""
    story = Story(clocks)
    story.world.virtual_ips[WEB]["metadata"]["managedFields"] = []
    for former, node in zip(("", *order), order, strict=False):
        peer = address(former) if former else ""
        story.world.say(
            WEB,
            node,
            "Master",
            story.text(story.now + timedelta(seconds=clocks[node])),
            at="2026-11-23T12:00:00Z",
            peer=peer,
        )
    told = [move.to_node for move in status_of(story.look()).transitions]
    assert told == list(order)


def held() -> Story:
    story = Story(dict.fromkeys(NODES, 0))
    story.look()
    return story


def test_an_agent_that_is_away_after_a_move_makes_no_split_brain() -> None:
    story = held()
    story.agent_goes("n1")
    story.move("n2", "Switchover")
    for _ in range(5):
        story.passes(120)
        plan = story.look()
        assert condition(plan, "SplitBrain")[:2] == ("False", "OneHolderAtMost")
        assert condition(plan, "Ready") == ("True", "Held", "n2 holds it")


def test_two_agents_that_are_heard_and_both_hold_it_for_a_minute_are_a_split_brain() -> None:
    story = Story({"n1": 7200, "n2": -7200, "n3": 0})
    story.look()
    story.states["n2"] = ("Master", story.now, "MasterSilent", address("n1"))
    story.write("n2")
    for seconds, expected in ((1, "False"), (50, "False"), (20, "True")):
        story.passes(seconds)
        assert condition(story.look(), "SplitBrain")[0] == expected
    assert status_of(story.look()).moves == 1, "nobody is told of moves that are none"


def test_a_holder_whose_agent_is_away_holds_it_as_long_as_another_node_would_take_it_over() -> None:
    story = held()
    story.agent_goes("n1")
    plan = story.look()
    assert status_of(plan).holder == "n1"
    assert condition(plan, "Ready") == (
        "True",
        "Held",
        "n1 holds it: its agent is not heard, but n2, n3 would take it over",
    )


def test_when_no_member_is_heard_nobody_knows_who_holds_it() -> None:
    story = held()
    story.world.heard = set()
    plan = story.look()
    assert (status_of(plan).holder, status_of(plan).state) == ("n1", "Pending")
    assert condition(plan, "Ready") == (
        "Unknown",
        "HolderNotHeard",
        "n1 held it when it was heard last, and no node that could tell is heard",
    )


def test_without_pods_to_look_at_a_node_that_is_not_ready_is_not_heard() -> None:
    story = held()
    story.world.heard = None
    for node in NODES:
        story.world.nodes[node] = replace(story.world.nodes[node], is_ready=False)
    assert condition(story.look(), "Ready")[:2] == ("Unknown", "HolderNotHeard")


def test_a_move_from_a_node_whose_clock_is_ahead_is_no_age_below_zero() -> None:
    story = Story({"n1": 0, "n2": 7200, "n3": 0})
    story.look()
    story.move("n2")
    status = status_of(story.look())
    assert status.last_move == story.text(story.now)
    assert status.transitions[-1].recorded == story.text(story.now)


def test_a_claim_that_the_history_has_forgotten_is_no_news() -> None:
    story = held()
    story.move("n3")
    story.look()
    story.agent_goes("n3")
    for number in range(24):
        story.passes(2)
        story.move("n1" if number % 2 else "n2", "Switchover")
        story.look()
    assert "n3" not in [move.to_node for move in status_of(story.look()).transitions]
    assert status_of(story.look()).holder == story.holder
    assert condition(story.look(), "SplitBrain")[0] == "False"


def test_one_that_left_master_and_came_back_to_it_is_superseded_by_the_next_all_the_same() -> None:
    """Its claim has another name by then; its agent is away when it is superseded, and the history knows it."""
    story = held()
    story.passes(1)
    story.states["n1"] = ("Initialize", story.now, "LinkDown", "")
    story.write("n1")
    story.look()
    story.passes(1)
    story.states["n1"] = ("Master", story.now, "NoMasterHeard", "")
    story.write("n1")
    status = status_of(story.look())
    assert (status.holder, status.moves) == ("n1", 0)
    assert status.transitions[-1].since == story.text(story.now)
    story.agent_goes("n1")
    story.move("n2", "MasterSilent")
    for seconds in (1, 120):
        story.passes(seconds)
        status = status_of(story.look())
        assert (status.holder, status.moves) == ("n2", 1)


def test_of_two_holders_the_one_that_is_left_holds_it() -> None:
    """Both held it and were heard; then the one that had taken over last died."""
    story = held()
    story.states["n2"] = ("Master", story.now, "MasterSilent", address("n1"))
    story.write("n2")
    for _ in range(2):
        story.passes(61)
        story.look()
    assert condition(story.look(), "SplitBrain")[0] == "True"
    story.agent_goes("n2")
    plan = story.look()
    assert condition(plan, "SplitBrain")[0] == "False"
    assert condition(plan, "Ready") == ("True", "Held", "n1 holds it")


# ----- what cannot be read -----


HOSTILE = "2026-11-23T12:00:00." + "1" * 45 + "Z"


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "PeerRebooted"},
        {"since": HOSTILE},
        {"since": "2026-11-23t12:00:00x5z"},
        {"health": "Excellent"},
        {"obstacles": ["NoCoffee"]},
        {"message": 7},
        {"silentMilliseconds": -1},
        {"fromTheFuture": {"is": ["here"]}},
    ],
    ids=str,
)
@pytest.mark.parametrize("node", ["n1", "n2"])
def test_one_entry_that_cannot_be_read_costs_neither_history_nor_moves_nor_the_holder(
    node: str, change: dict[str, Any]
) -> None:
    story = held()
    for to in ("n2", "n3", "n1"):
        story.passes(2)
        story.move(to)
        story.look()
    before = status_of(story.look())
    entries = story.world.virtual_ips[WEB]["status"]["nodes"]
    next(entry for entry in entries if entry["nodeName"] == node).update(change)
    for _ in range(3):
        after = status_of(story.look())
        assert (after.holder, after.moves) == (before.holder, before.moves) == ("n1", 3)
        assert [move.to_node for move in after.transitions] == ["n1", "n2", "n3", "n1"]
        assert next(one.status for one in after.conditions if one.type == "Ready") == "True"


@pytest.mark.parametrize("node", NODES)
def test_an_entry_whose_state_is_a_word_of_the_next_version_says_nothing(node: str) -> None:
    story = held()
    story.move("n2")
    story.look()
    entries = story.world.virtual_ips[WEB]["status"]["nodes"]
    next(entry for entry in entries if entry["nodeName"] == node)["state"] = "Handover"
    status = status_of(story.look())
    assert (status.moves, len(status.transitions)) == (1, 2)
    assert status.holder == ("" if node == "n2" else "n2")


def test_a_history_of_the_next_version_keeps_what_can_be_read() -> None:
    story = held()
    story.move("n2")
    story.look()
    own = story.world.virtual_ips[WEB]["status"]
    own["transitions"][0]["reason"] = "PeerRebooted"
    own["state"], own["lastReason"] = "Draining", "PeerRebooted"
    own["conditions"].append("nonsense")
    own["holder"] = ["n2"]
    status = status_of(story.look())
    assert (status.holder, status.moves, status.state) == ("n2", 1, "Held")
    assert [(move.to_node, move.reason) for move in status.transitions] == [("n1", None), ("n2", "MasterSilent")]
