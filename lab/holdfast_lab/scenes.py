"""The scenes of the demo: what is done to two hosts, and what Holdfast promises then.

A scene is data: steps at times, and a judgement of what the client saw. The same scenes are played on any software.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from holdfast_api.resources import VirtualIPSpec, WhenFailing
from holdfast_lab.evidence import Measurement
from holdfast_lab.record import Failure
from holdfast_lab.stage import Stage

FENCE_MS = 3000
"""A frozen holder loses its addresses within this time."""

_FENCE_TOLERANCE_MS = 250
_BOOT_SECONDS = 1.0
_WATCH_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take with a VirtualIP's timers, in seconds."""

    interval: float
    fall: float
    """Until a probe that fails all the time has told so."""
    rise: float
    """Until a probe that succeeds again has told so."""

    @classmethod
    def of(cls, spec: VirtualIPSpec) -> Pace:
        """The pace that a VirtualIP sets."""
        probes = spec.track.probes
        return cls(
            interval=spec.advertisement_interval_milliseconds / 1000,
            fall=max((probe.period_ms * probe.failure_threshold for probe in probes), default=0) / 1000,
            rise=max((probe.period_ms * probe.success_threshold for probe in probes), default=0) / 1000,
        )

    @property
    def silence(self) -> float:
        """Until a Backup takes over from a silent Master: at most (RFC 9568 section 6.1, priority 1)."""
        return 4 * self.interval


@dataclass(frozen=True, slots=True)
class Observation:
    """One scene on one stage: what was seen of it, before anybody judges."""

    holder_before: str | None
    measurement: Measurement
    shared_ms: float
    """For how long two hosts had the address at once."""
    left_after_ms: float | None
    """How long after the start the address went from the one that held it then."""

    @property
    def holder(self) -> str | None:
        """Who holds in the end."""
        return self.measurement.holder


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is done to a stage, so many seconds after the scene's start."""

    at_seconds: float
    act: Callable[[Stage], None]


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene."""

    title: str
    promise: str
    seconds: float
    steps: tuple[Step, ...]
    complaints: Callable[[Observation], Iterator[str]]
    """What of the promise is broken, in words; nothing when it is kept."""
    note: str = ""
    """What else people may want to know when it begins."""


def scenes(first: str, second: str, pace: Pace, when_failing: WhenFailing = WhenFailing.DEGRADE) -> list[Scene]:
    """The eight scenes for two hosts, of which `first` has the higher priority and holds at the start."""
    last_resort = when_failing is WhenFailing.DEGRADE
    return [
        Scene(
            f"power off {first}",
            f"{second} holds",
            pace.silence + 1,
            (Step(0, lambda stage: stage.fail(first, Failure.POWER)),),
            _holds(second),
        ),
        Scene(
            f"{first} returns",
            "no move",
            _BOOT_SECONDS + pace.silence + 0.5,
            (Step(0, _healing(first)),),
            _stays(second),
        ),
        Scene(
            f"the service on {second} fails",
            f"{first} holds",
            pace.fall + 2 * pace.interval + 1,
            (Step(0, _failing(second)),),
            _holds(first),
        ),
        Scene(
            f"the service on {second} returns",
            "no move",
            pace.rise + _WATCH_SECONDS,
            (Step(0, _healing(second)),),
            _stays(first),
        ),
        Scene(
            "the services fail on both",
            "somebody still holds, no flapping" if last_resort else "nobody holds (Release)",
            pace.fall + 2 * pace.interval + 1,
            (Step(0, _failing(first, second)),),
            _somebody_holds if last_resort else _nobody_holds,
            note="whenFailing: Release is the other choice, `holdfast lab demo --release` plays it"
            if last_resort
            else "",
        ),
        Scene(
            "both services return",
            "no move" if last_resort else "somebody holds again",
            pace.rise + (_WATCH_SECONDS if last_resort else pace.silence + 1),
            (Step(0, _healing(first, second)),),
            _holder_stays if last_resort else _somebody_holds,
        ),
        Scene(
            "the holder is frozen, 5 s later thawed",
            "the address leaves it by itself, the thaw is quiet",
            max(5, pace.silence + 1) + 2 * pace.interval + 1,
            (
                Step(0, lambda stage: stage.fail(stage.holder() or first, Failure.FREEZE)),
                Step(max(5, pace.silence + 1), _healing(first, second)),
            ),
            _fenced,
        ),
        Scene(
            "planned switchover",
            "0 probes lost",
            2 * pace.interval + 1,
            (Step(0, lambda stage: stage.switch_over(second if stage.holder() == first else first)),),
            _nothing_lost,
        ),
    ]


def _failing(*hosts: str) -> Callable[[Stage], None]:
    def fail(stage: Stage) -> None:
        for host in hosts:
            stage.fail(host, Failure.SERVICE)

    return fail


def _healing(*hosts: str) -> Callable[[Stage], None]:
    def heal(stage: Stage) -> None:
        for host in hosts:
            stage.heal(host)

    return heal


def _moved(observation: Observation) -> str:
    times = observation.measurement.moves
    return f"it moved {times} times" if times != 1 else "it moved"


def _holds(host: str) -> Callable[[Observation], Iterator[str]]:
    def complaints(observation: Observation) -> Iterator[str]:
        if observation.holder != host:
            yield f"{observation.holder or 'nobody'} holds"
        elif observation.measurement.moves > 1:
            yield _moved(observation)

    return complaints


def _stays(host: str) -> Callable[[Observation], Iterator[str]]:
    def complaints(observation: Observation) -> Iterator[str]:
        if observation.measurement.moves:
            yield _moved(observation)
        if observation.holder != host:
            yield f"{observation.holder or 'nobody'} holds"

    return complaints


def _holder_stays(observation: Observation) -> Iterator[str]:
    if observation.measurement.moves:
        yield _moved(observation)
    if observation.holder is None:
        yield "nobody holds"


def _somebody_holds(observation: Observation) -> Iterator[str]:
    # The two hosts' checks notice one after the other, and the first to notice may hand over to the other: once.
    if observation.measurement.moves > 1:
        yield _moved(observation)
    if observation.holder is None:
        yield "nobody holds"


def _nobody_holds(observation: Observation) -> Iterator[str]:
    if observation.holder is not None:
        yield f"{observation.holder} holds"


def _fenced(observation: Observation) -> Iterator[str]:
    left = observation.left_after_ms
    if left is None:
        yield "the frozen host kept the address"
    elif left > FENCE_MS + _FENCE_TOLERANCE_MS:
        yield f"the address left the frozen host only after {left / 1000:.1f} s"
    if observation.holder is None or observation.holder == observation.holder_before:
        yield f"{observation.holder or 'nobody'} holds"
    if observation.measurement.moves > 1:
        yield _moved(observation)


def _nothing_lost(observation: Observation) -> Iterator[str]:
    if observation.measurement.moves != 1 or observation.holder == observation.holder_before:
        yield f"{observation.holder or 'nobody'} holds"
    if observation.measurement.lost:
        yield f"{observation.measurement.lost} probes lost"
