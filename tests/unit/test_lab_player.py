"""How scenes are played on several stages at once."""

from __future__ import annotations

import pytest

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab import player
from holdfast_lab.evidence import Measurement
from holdfast_lab.happenings import Happening, Kind
from holdfast_lab.player import Player
from holdfast_lab.scenes import Scene, Step


class RecordingScreen:
    def __init__(self):
        self.shown = []

    def scene(self, number, scene):
        self.shown.append(("scene", number, scene.title))

    def happening(self, stage, happening, seconds):
        self.shown.append(("happening", stage.software, happening.text))

    def verdict(self, verdict):
        self.shown.append(("verdict", verdict.software, verdict.kept))

    def tick(self, stages):
        assert stages


class ScriptedStage:
    """A stage where the client sees what the test says, and what is done is told."""

    address = "10.0.0.9"

    def __init__(self, software, *holders):
        self.software = software
        self.evidence = self.watch = self
        self._holders = list(holders)
        self.done = []

    def holder(self):
        return self._holders[0]

    def act(self, text):
        self.done.append(Happening(0, Kind.DONE, "n1", text))
        if len(self._holders) > 1:
            self._holders.pop(0)

    def poll(self):
        told, self.done = self.done, []
        return told

    def settle(self, start_ns, end_ns):
        assert start_ns <= end_ns

    def measure(self, start_ns, end_ns):
        return Measurement(1000, 0, 0, (), self.holder())

    def shared_ms(self, address, start_ns, end_ns):
        return 0.0

    def left_after_ms(self, host, address, start_ns, end_ns):
        return 1.0 if host == "n1" else None


def n2_holds(observation):
    if observation.holder != "n2":
        yield f"{observation.holder} holds"


def scene(*texts, complaints=n2_holds):
    steps = tuple(Step(0, lambda stage, text=text: stage.act(text)) for text in texts)
    return Scene("a scene", "n2 holds", 0, steps, complaints)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(player, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(player, "_POLL_SECONDS", 0.0)


def test_every_stage_goes_through_the_steps_and_is_judged_by_what_was_seen_there():
    screen = RecordingScreen()
    stages = [ScriptedStage("Holdfast", "n1", "n2"), ScriptedStage("keepalived", "n1")]
    verdicts = Player(stages, screen).play(3, scene("power off"))
    assert [(verdict.software, verdict.kept, verdict.complaints) for verdict in verdicts] == [
        ("Holdfast", True, ()),
        ("keepalived", False, ("n1 holds",)),
    ]
    assert screen.shown[0] == ("scene", 3, "a scene")
    assert sorted(screen.shown[1:3]) == [
        ("happening", "Holdfast", "power off"),
        ("happening", "keepalived", "power off"),
    ]
    assert screen.shown[3:] == [("verdict", "Holdfast", True), ("verdict", "keepalived", False)]


def test_steps_are_done_in_order():
    screen = RecordingScreen()
    Player([ScriptedStage("Holdfast", "n1", "n1", "n2")], screen).play(1, scene("first", "second"))
    assert [text for kind, _, text in screen.shown if kind == "happening"] == ["first", "second"]


def test_an_observation_knows_who_held_before_and_when_its_address_left():
    [verdict] = Player([ScriptedStage("Holdfast", "n1", "n2")], RecordingScreen()).play(1, scene("go"))
    assert (verdict.observation.holder_before, verdict.observation.holder) == ("n1", "n2")
    assert verdict.observation.left_after_ms == 1.0


def test_a_scene_goes_on_while_its_promise_is_not_kept_yet(monkeypatch):
    monkeypatch.setattr(player, "_PATIENCE_SECONDS", 60.0)
    seen = []

    def third_time(observation):
        seen.append(observation)
        if len(seen) < 3:
            yield "not yet"

    [verdict] = Player([ScriptedStage("Holdfast", "n1")], RecordingScreen()).play(1, scene(complaints=third_time))
    assert verdict.kept
    assert len(seen) == 3


def test_what_a_step_raises_ends_the_play():
    def refuse(stage):
        raise EnvironmentFailure("nothing runs")

    refused = Scene("a scene", "n2 holds", 0, (Step(0, refuse),), n2_holds)
    with pytest.raises(EnvironmentFailure, match="nothing runs"):
        Player([ScriptedStage("Holdfast", "n1")], RecordingScreen()).play(1, refused)


def test_waiting_for_a_holder_ends_at_the_timeout():
    stages = [ScriptedStage("Holdfast", "n1"), ScriptedStage("keepalived", "n2")]
    assert not Player(stages, RecordingScreen()).wait_for_holder("n1", 0)
    assert Player(stages[:1], RecordingScreen()).wait_for_holder("n1", 60)
