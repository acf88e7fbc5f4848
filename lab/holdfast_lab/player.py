"""Plays scenes on one or more stages at the same time, and has what happens shown while it happens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from holdfast_lab.evidence import Measurement
from holdfast_lab.happenings import Happening
from holdfast_lab.scenes import Observation, Scene
from holdfast_lab.stage import Stage

_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 4.0
"""How much longer a scene goes on while the promise is not yet seen to be kept: a busy machine is no broken promise."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One scene on one stage, judged."""

    scene: Scene
    software: str
    observation: Observation
    complaints: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return not self.complaints

    @property
    def measurement(self) -> Measurement:
        """What the client saw."""
        return self.observation.measurement


class Screen(Protocol):
    """Where a play is shown."""

    def scene(self, number: int, scene: Scene) -> None:
        """A scene begins."""

    def happening(self, stage: Stage, happening: Happening, seconds: float) -> None:
        """Something happened, so many seconds after the scene's start."""

    def verdict(self, verdict: Verdict) -> None:
        """A scene was judged."""

    def tick(self, stages: Sequence[Stage]) -> None:
        """Time goes by."""


class Player:
    """Plays on the stages; the first one's promises decide how long a scene goes on."""

    def __init__(self, stages: Sequence[Stage], screen: Screen) -> None:
        self._stages = stages
        self._screen = screen
        self._started_ns = time.monotonic_ns()

    def wait_for_holder(self, host: str, timeout_seconds: float) -> bool:
        """Let time go by until the client is answered by this host on every stage; False when it is not in time."""
        self._started_ns = time.monotonic_ns()
        deadline = time.monotonic() + timeout_seconds
        while any(stage.holder() != host for stage in self._stages):
            if time.monotonic() > deadline:
                return False
            self._pass_time()
        self._pass_time_until(time.monotonic_ns(), 0.3)
        return True

    def play(self, number: int, scene: Scene) -> list[Verdict]:
        """Play one scene on every stage; the verdicts, in the order of the stages.

        Raises what a step raises: ConfigurationError, EnvironmentFailure.
        """
        self._screen.scene(number, scene)
        self._pass_time()
        self._started_ns = start = time.monotonic_ns()
        holders = [stage.holder() for stage in self._stages]
        with ThreadPoolExecutor(max_workers=len(self._stages)) as pool:
            for step in scene.steps:
                self._pass_time_until(start, step.at_seconds)
                self._await([pool.submit(step.act, stage) for stage in self._stages])
        self._pass_time_until(start, scene.seconds)
        while True:
            self._pass_time()
            verdicts = self._judge(scene, start, time.monotonic_ns(), holders)
            elapsed = (time.monotonic_ns() - start) / 1e9
            if verdicts[0].kept or elapsed > scene.seconds + _PATIENCE_SECONDS:
                break
            self._pass_time_until(start, elapsed + 0.25)
        for verdict in verdicts:
            self._screen.verdict(verdict)
        return verdicts

    def _await(self, acts: list[Future[None]]) -> None:
        while not all(act.done() for act in acts):
            self._pass_time()
        for act in acts:
            act.result()

    def _pass_time_until(self, start_ns: int, seconds: float) -> None:
        while time.monotonic_ns() - start_ns < seconds * 1e9:
            self._pass_time()

    def _pass_time(self) -> None:
        for stage in self._stages:
            for happening in stage.poll():
                self._screen.happening(stage, happening, (happening.at_ns - self._started_ns) / 1e9)
        self._screen.tick(self._stages)
        time.sleep(_POLL_SECONDS)

    def _judge(self, scene: Scene, start: int, end: int, holders: list[str | None]) -> list[Verdict]:
        for stage in self._stages:
            stage.evidence.settle(start, end)
        verdicts = []
        for stage, before in zip(self._stages, holders, strict=True):
            stage_observation = observe(stage, start, end, before)
            complaints = tuple(scene.complaints(stage_observation))
            verdicts.append(Verdict(scene, stage.software, stage_observation, complaints))
        return verdicts


def observe(stage: Stage, start_ns: int, end_ns: int, holder_before: str | None) -> Observation:
    """What was seen on a stage from start to end (CLOCK_MONOTONIC)."""
    left = stage.watch.left_after_ms(holder_before, stage.address, start_ns, end_ns) if holder_before else None
    return Observation(
        holder_before=holder_before,
        measurement=stage.evidence.measure(start_ns, end_ns),
        shared_ms=stage.watch.shared_ms(stage.address, start_ns, end_ns),
        left_after_ms=left,
    )
