"""The inputs of a virtual router and what came of them, so that what it did can be played again, byte for byte.

Pure, as the core is: the inputs carry the time. The journal is bounded: it keeps the last two segments, each of which
begins with everything that the router knew at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from holdfast_api.errors import ConfigurationError
from holdfast_api.reasons import Health, Obstacle, Reason
from holdfast_speaker.vrrp.actions import Actions, Transitioned
from holdfast_speaker.vrrp.configuration import Configuration
from holdfast_speaker.vrrp.instants import Instant
from holdfast_speaker.vrrp.packet import Advertisement
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_speaker.vrrp.states import Backup, Initialize, Master, RouterState

SEGMENT = 500
"""Inputs after which the oldest segment is forgotten and a new one begun."""

_ARGUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "start": (Instant, Health, frozenset[Obstacle]),
    "stop": (Instant, Reason),
    "receive": (Advertisement, Instant),
    "poll": (Instant,),
    "report_health": (Health, Instant),
    "obstruct": (Obstacle, Instant, str),
    "clear": (Obstacle, Instant),
    "reconfigure": (Configuration, Instant),
    "take_over": (Instant,),
    "step_aside": (Instant,),
    "hearing_proven": (),
    "hand_over": (Instant,),
    "resume_as_master": (Instant, Instant | None),
    "resume_as_backup": (Instant, Instant | None),
}
"""Every verb of VirtualRouter that changes it, with the types of its arguments."""

_STATES: Final[dict[str, type[RouterState]]] = {"Initialize": Initialize, "Backup": Backup, "Master": Master}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that decides what a virtual router does next."""

    configuration: Configuration
    state: RouterState
    health: Health
    obstacles: frozenset[Obstacle]
    recovered_at: Instant | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One input and the transitions that it caused."""

    verb: str
    arguments: tuple[Any, ...]
    transitions: tuple[Transitioned, ...]


@dataclass(slots=True)
class _Segment:
    checkpoint: Checkpoint
    entries: list[Entry] = field(default_factory=list)


class RecordedRouter(VirtualRouter):
    """A virtual router that keeps a journal. A poll that changed nothing is no input."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self._within_an_input = False
        self._segments = [_Segment(self.checkpoint())]

    def checkpoint(self) -> Checkpoint:
        """What the router knows now; values, so that nothing is copied."""
        return Checkpoint(self.configuration, self.state, self.health, self.obstacles, self.recovered_at)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Know what a router knew, to play on from there."""
        self.configuration = checkpoint.configuration
        self.state = checkpoint.state
        self.health = checkpoint.health
        self.obstacles = checkpoint.obstacles
        self.recovered_at = checkpoint.recovered_at
        self._segments = [_Segment(checkpoint)]

    def note(self, verb: str, arguments: tuple[Any, ...], transitions: tuple[Transitioned, ...]) -> None:
        """Add an input to the journal."""
        segment = self._segments[-1]
        segment.entries.append(Entry(verb, arguments, transitions))
        if len(segment.entries) >= SEGMENT:
            self._segments = [segment, _Segment(self.checkpoint())]

    def journal(self) -> tuple[Checkpoint, list[Entry]]:
        """Where the journal begins, and the inputs since."""
        return self._segments[0].checkpoint, [entry for segment in self._segments for entry in segment.entries]


def _recorded(verb: str) -> Callable[..., Any]:
    do = getattr(VirtualRouter, verb)

    def record(self: RecordedRouter, *arguments: Any) -> Any:
        if self._within_an_input:  # one verb that calls another is one input
            return do(self, *arguments)
        self._within_an_input = True
        before = self.state
        try:
            result = do(self, *arguments)
        finally:
            self._within_an_input = False
        if verb != "poll" or result or self.state is not before:
            self.note(verb, arguments, _transitions(result))
        return result

    record.__doc__ = do.__doc__
    return record


for _verb in _ARGUMENTS:
    setattr(RecordedRouter, _verb, _recorded(_verb))


def _transitions(result: Actions | None) -> tuple[Transitioned, ...]:
    return tuple(action for action in result or () if isinstance(action, Transitioned))


def write(name: str, router: RecordedRouter) -> Iterator[bytes]:
    """The journal as lines of JSON: a head with the checkpoint, then the inputs."""
    checkpoint, entries = router.journal()
    state = {type(checkpoint.state).__name__: checkpoint.state}
    fields = {slot: getattr(checkpoint, slot) for slot in Checkpoint.__slots__}
    yield msgspec.json.encode(
        {"journal": 1, "virtualIP": name, "checkpoint": {**fields, "state": state}}, order="sorted"
    )
    for entry in entries:
        yield msgspec.json.encode(entry)


@dataclass(frozen=True, slots=True)
class Played:
    """One input that caused transitions, when it was recorded or when it was played again."""

    verb: str
    recorded: bytes
    replayed: bytes


def play(lines: Iterable[bytes]) -> Iterator[Played]:
    """Give a recorded journal to a router of today; what it did then and does now, as JSON.

    Raises ConfigurationError for lines that are no journal.
    """
    router: RecordedRouter | None = None
    for number, line in enumerate(lines, start=1):
        try:
            if router is None:
                checkpoint = _checkpoint(msgspec.json.decode(line))
                router = RecordedRouter(checkpoint.configuration)
                router.restore(checkpoint)
                continue
            raw = msgspec.json.decode(line, type=dict[str, Any])
            arguments = _arguments(raw["verb"], raw["arguments"])
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"is not a line of a journal: {error}", field=f"line {number}") from error
        transitions = _transitions(getattr(router, raw["verb"])(*arguments))
        recorded, replayed = msgspec.json.encode(raw["transitions"]), msgspec.json.encode(transitions)
        if recorded != b"[]" or replayed != b"[]":
            yield Played(raw["verb"], recorded, replayed)


def _checkpoint(head: Any) -> Checkpoint:
    if not isinstance(head, dict) or head.get("journal") != 1:
        raise ValueError("the first line is not the head of a journal of version 1")
    ((kind, state),) = head["checkpoint"]["state"].items()
    known = msgspec.convert(head["checkpoint"], _CheckpointWithoutState)
    return Checkpoint(
        known.configuration, msgspec.convert(state, _STATES[kind]), known.health, known.obstacles, known.recovered_at
    )


class _CheckpointWithoutState(msgspec.Struct):
    configuration: Configuration
    health: Health
    obstacles: frozenset[Obstacle]
    recovered_at: Instant | None


def _arguments(verb: str, raw: list[Any]) -> list[Any]:
    return [msgspec.convert(value, kind) for value, kind in zip(raw, _ARGUMENTS[verb], strict=False)]
