"""An operator of the first version and one of this in turns, as in an upgrade and the way back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast_api.cluster import SpeakerConfigSpec, VirtualIPStatus
from holdfast_api.reasons import Reason
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.agent_fixtures import router_status
from holdfast_testing.first_version import python_path, unpack_first_version
from holdfast_testing.planner_world import World, condition
from holdfast_testing.status_story import NODES, WEB, Story

PARTS = ("api", "operator", "speaker")

ITS_PLANNER = """
import json, sys
import msgspec
from holdfast_api.cluster import SpeakerConfig
from holdfast_operator.planner.cluster import plan_cluster
from holdfast_operator.planner.view import ClusterView, NodeView

for line in sys.stdin:
    asked = json.loads(line)
    nodes = tuple(NodeView(**node) for node in asked["nodes"])
    speakers = {name: msgspec.convert(raw, SpeakerConfig) for name, raw in asked["speakers"].items()}
    plan = plan_cluster(ClusterView(tuple(asked["virtual_ips"]), nodes, speakers), asked["now"])
    told = {"speakers": plan.speakers, "statuses": plan.statuses, "departed": plan.departed}
    print(json.dumps(msgspec.to_builtins(told)), flush=True)
"""

ITS_AGENT = """
import json, sys
import msgspec
from holdfast_api.cluster import SpeakerConfigSpec, agent_field_manager
from holdfast_api.messages import RouterStatus
from holdfast_speaker.agent.node_statuses import entry

for line in sys.stdin:
    router = msgspec.convert(json.loads(line), RouterStatus)
    print(json.dumps(msgspec.to_builtins(entry("n1", router, 310))), flush=True)
"""


class Talk:
    """A process of the first version that answers a line of JSON with another."""

    def __init__(self, folder: Path, program: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            env={**os.environ, "PYTHONPATH": python_path(folder, PARTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, words: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=60) == 0


@pytest.fixture(scope="session")
def first_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files, from the history of this clone."""
    folder = tmp_path_factory.mktemp("first-version")
    unpack_first_version(folder, "kind", *PARTS)
    return folder


@pytest.fixture
def its_planner(first_version: Path) -> Iterator[Talk]:
    talk = Talk(first_version, ITS_PLANNER)
    yield talk
    talk.end()


class MixedWorld(World):
    """One whose operator is of either version."""

    def __init__(self, its_planner: Talk) -> None:
        self._its_planner = its_planner
        self.is_first_version = False
        super().__init__(*NODES)

    def plan(self, now: str = "2026-11-23T12:00:00.000Z") -> ClusterPlan:
        if not self.is_first_version:
            return super().plan(now)
        names = ("name", "labels", "is_cordoned", "internal_addresses", "is_ready")
        told = self._its_planner.ask(
            {
                "virtual_ips": list(self.virtual_ips.values()),
                "nodes": [{name: getattr(node, name) for name in names} for node in self.nodes.values()],
                "speakers": {name: msgspec.to_builtins(speaker) for name, speaker in self.speakers.items()},
                "now": now,
            }
        )
        return ClusterPlan(
            speakers={name: msgspec.convert(one, SpeakerConfigSpec) for name, one in told["speakers"].items()},
            statuses={key: msgspec.convert(one, VirtualIPStatus) for key, one in told["statuses"].items()},
            departed=told["departed"],
            notices=(),
        )


def test_history_and_holder_outlive_an_upgrade_and_the_way_back(its_planner: Talk) -> None:
    world = MixedWorld(its_planner)
    story = Story(dict.fromkeys(NODES, 0), world=world)
    story.look()
    holders = ["n1"]
    for number in range(9):
        world.is_first_version = number % 3 == 1
        story.passes(2)
        story.move(NODES[(number + 1) % 3], "Switchover")
        holders.append(story.holder)
        status = story.look().statuses[WEB]
        assert (status.holder, status.moves) == (story.holder, number + 1), f"move {number}"
        assert [move.to_node for move in status.transitions] == holders
        assert story.look().statuses[WEB].moves == status.moves


def test_what_this_version_says_when_nobody_is_heard_does_not_cost_the_first_one_its_history(its_planner: Talk) -> None:
    world = MixedWorld(its_planner)
    story = Story(dict.fromkeys(NODES, 0), world=world)
    story.look()
    story.move("n2")
    story.look()
    world.heard = set()
    assert condition(story.look(), "Ready")[:2] == ("Unknown", "HolderNotHeard")
    world.apply("web", priority=300)
    assert condition(story.look(), "Stalled")[0] == "True"
    world.is_first_version = True
    status = story.look().statuses[WEB]
    assert (status.holder, status.moves, [move.to_node for move in status.transitions]) == ("n2", 1, ["n1", "n2"])


@pytest.mark.parametrize("reason", Reason)
def test_this_operator_reads_each_reason_that_any_agent_gives(reason: Reason) -> None:
    story = Story(dict.fromkeys(NODES, 0))
    story.move("n2", reason)
    assert story.look().statuses[WEB].last_reason == reason


def test_this_operator_goes_by_the_words_of_agents_of_the_first_version(first_version: Path) -> None:
    """They say nothing of their peers."""
    talk = Talk(first_version, ITS_AGENT)
    router = router_status(
        VirtualRouterConfiguration(name=WEB, addresses=["10.0.0.100/24"], virtual_router_id=51), state="Master"
    )
    told = talk.ask(msgspec.to_builtins(router))
    talk.end()
    story = Story(dict.fromkeys(NODES, 0))
    story.look()
    story.move("n2")
    story.look()
    entries = story.world.virtual_ips[WEB]["status"]["nodes"]
    entries[:] = [told if entry["nodeName"] == "n1" else {**entry, "state": "Backup"} for entry in entries]
    status = story.look().statuses[WEB]
    assert (status.holder, status.moves) == ("n1", 2)
