"""What an engine was told and what its ports answered, so that what it decided can be played again (replay.py).

A journal is lines of JSON:

    {"journal":2,"holdfast":"0.1.0","node":"n1","checkpoint":{...}}         what the engine knew when the journal begins
    {"line":"value","number":7,"of":[...]}                                 from here on {"is":7} stands for this
    {"line":"input","verb":"poll","at":5000,"asked":[["send",{"is":7},0]],"transitions":[...]}
    {"line":"end","lines":3}

An input is a call of the engine, with its arguments but for the time, which is `at` (in nanoseconds); `asked` is what
the engine asked of its kernel, wire and clock, with the arguments and the answer of each. Bytes are base64. Nothing of
it is pickled.

The journal is bounded: it has two segments at most, and each begins with a checkpoint. Every line is encoded when it is
noted, so that it holds no objects, and its size is known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from holdfast_api import __version__
from holdfast_api.errors import EnvironmentFailure
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine.door import OPEN, Door
from holdfast_speaker.engine.engine import Engine, EngineCheckpoint
from holdfast_speaker.engine.ports import (
    Clock,
    Datagram,
    Event,
    Kernel,
    Link,
    LinkAddress,
    Listener,
    Log,
    NeighbourAnswer,
    NextHop,
    Request,
    Wire,
)
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import Duration, Instant

VERSION: Final = 2
"""Of the form of a journal. Version 1 was of one virtual router (Holdfast before its engine was given its ports)."""

SEGMENT_BYTES: Final = 1024 * 1024
"""A segment ends when its inputs are longer than this, or than twice its checkpoint."""

ANSWER_BYTES: Final = 6 * 1024 * 1024
"""Of a journal that is longer, only the last segment is told: a client of the control socket gets it as one line."""

_LINE_COSTS = 64
"""What a line takes beside its bytes: a bytes object's head and its place in a list."""

_LONG = 24
"""Values of more bytes are written once: a Master says the same again and again, and so do its renewals."""

_Answer = TypeVar("_Answer")

encode: Final = msgspec.json.Encoder(order="deterministic").encode
"""Inputs, questions, answers and transitions, always the same bytes for the same values."""

_encode_checkpoint = msgspec.json.Encoder().encode  # dictionaries keep their order, which is a part of what is known


class Head(msgspec.Struct, frozen=True):
    """The first line."""

    journal: int
    holdfast: str
    """Which version wrote it."""
    node: str
    checkpoint: EngineCheckpoint


class Value(msgspec.Struct, frozen=True, tag_field="line", tag="value"):
    """From here on Reference(number) stands for `of`."""

    number: int
    of: msgspec.Raw


class Input(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="line", tag="input"):
    """One call of the engine, and what came of it."""

    verb: str
    arguments: msgspec.Raw = msgspec.Raw(b"[]")
    at: Instant | None = None
    """The time that it was given, where it was given one."""
    asked: list[tuple[str, msgspec.Raw, msgspec.Raw]] = []
    """Which port, the arguments, and the answer: in the order in which they were asked."""
    transitions: msgspec.Raw = msgspec.Raw(b"[]")


class End(msgspec.Struct, frozen=True, tag_field="line", tag="end"):
    """The last line."""

    lines: int
    """How many are before it."""


Line = Value | Input | End
"""Every line but the first."""


class Reference(msgspec.Struct, frozen=True, rename={"number": "is"}):
    """In the place of a long value."""

    number: int


class Failure(msgspec.Struct, frozen=True):
    """In the place of an answer: the port raised EnvironmentFailure."""

    failure: str


@dataclass(slots=True)
class _Segment:
    head: bytes
    lines: list[bytes] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)
    """The values that were written, by what they are."""
    size: int = 0

    @property
    def is_full(self) -> bool:
        return self.size > max(SEGMENT_BYTES, 2 * len(self.head))

    def write(self, line: bytes) -> None:
        self.lines.append(line)
        self.size += len(line) + _LINE_COSTS


class Journal:
    """The lines. `checkpoint` tells what the engine knows now."""

    def __init__(self, node_name: str, checkpoint: Callable[[], EngineCheckpoint]) -> None:
        self._node_name = node_name
        self._checkpoint = checkpoint
        self._values = 0
        self._asked: list[tuple[str, msgspec.Raw, msgspec.Raw]] = []
        self._segments = [self._begin()]

    def _begin(self) -> _Segment:
        return _Segment(_encode_checkpoint(Head(VERSION, __version__, self._node_name, self._checkpoint())))

    def note_question(self, port: str, arguments: Sequence[object], answer: object) -> None:
        """A port was asked something."""
        self._asked.append((port, self._written(arguments), self._written(answer)))

    @property
    def has_questions(self) -> bool:
        """Whether a port was asked anything since the last input was noted."""
        return bool(self._asked)

    def note_input(
        self, verb: str, arguments: Sequence[object], at: Instant | None, transitions: Sequence[Transition]
    ) -> None:
        """The engine was called, and has done what it did."""
        segment = self._segments[-1]
        line = Input(verb, self._written(arguments), at, self._asked, self._written(transitions))
        segment.write(encode(line))
        self._asked = []
        if segment.is_full:
            self._segments = [segment, self._begin()]

    def _written(self, value: object) -> msgspec.Raw:
        encoded = encode(value)
        if len(encoded) <= _LONG:
            return msgspec.Raw(encoded)
        segment = self._segments[-1]
        number = segment.numbers.get(encoded)
        if number is None:
            self._values += 1
            number = segment.numbers[encoded] = self._values
            segment.write(encode(Value(number, msgspec.Raw(encoded))))
        return msgspec.Raw(encode(Reference(number)))

    def lines(self) -> list[bytes]:
        """The whole journal, from its first checkpoint on; the last segment alone where that is too much."""
        segments = self._segments
        if len(segments[0].head) + sum(segment.size for segment in segments) > ANSWER_BYTES:
            segments = segments[-1:]
        lines = [segments[0].head, *(line for segment in segments for line in segment.lines)]
        return [*lines, encode(End(len(lines)))]


class RecordedPorts:
    """A kernel, a wire and a clock that note what they are asked and what they answer."""

    def __init__(self, kernel: Kernel, wire: Wire, clock: Clock) -> None:
        self._kernel = kernel
        self._wire = wire
        self._clock = clock
        self._note: Callable[[str, Sequence[object], object], None] = lambda _port, _arguments, _answer: None

    def note_with(self, note: Callable[[str, Sequence[object], object], None]) -> None:
        """From now on tell this of every question: port, arguments, answer."""
        self._note = note

    def _noted(self, port: str, answer: _Answer, *arguments: object) -> _Answer:
        self._note(port, arguments, answer)
        return answer

    def _tried(self, port: str, ask: Callable[[], _Answer], *arguments: object) -> _Answer:
        try:
            answer = ask()
        except EnvironmentFailure as failure:
            self._note(port, arguments, Failure(str(failure)))
            raise
        return self._noted(port, answer, *arguments)

    # ----- the kernel -----

    def changes(self) -> Sequence[Event] | None:
        """As ports.Kernel has it."""
        events = self._kernel.changes()
        self._note("changes", (), None if events is None else [(type(event).__name__, event) for event in events])
        return events

    def dump(self) -> tuple[Sequence[Link], Sequence[LinkAddress], bool]:
        """As ports.Kernel has it."""
        return self._tried("dump", self._kernel.dump)

    def next_hops(self) -> Sequence[NextHop]:
        """As ports.Kernel has it."""
        return self._tried("next_hops", self._kernel.next_hops)

    def apply(self, requests: Sequence[Request]) -> Sequence[int]:
        """As ports.Kernel has it."""
        return self._tried("apply", lambda: self._kernel.apply(requests), named(requests))

    def is_renewing(self) -> bool:
        """As ports.Kernel has it."""
        return self._noted("is_renewing", self._kernel.is_renewing())

    def begin_renewal(self, requests: Sequence[Request]) -> None:
        """As ports.Kernel has it."""
        self._kernel.begin_renewal(requests)
        self._note("begin_renewal", (named(requests),), None)

    def end_renewal(self) -> Sequence[int] | None:
        """As ports.Kernel has it."""
        return self._tried("end_renewal", self._kernel.end_renewal)

    def close_ports(self, number: int, addresses: frozenset[bytes], no_longer: frozenset[bytes]) -> None:
        """As ports.Kernel has it."""
        self._kernel.close_ports(number, addresses, no_longer)
        self._note("close_ports", (number, addresses, no_longer), None)

    def await_closed_ports(self, within: Duration) -> int:
        """As ports.Kernel has it."""
        return self._noted("await_closed_ports", self._kernel.await_closed_ports(within), within)

    def forwards_ipv6(self, name: str) -> bool:
        """As ports.Kernel has it."""
        return self._noted("forwards_ipv6", self._kernel.forwards_ipv6(name), name)

    # ----- the wire -----

    def listen(self, wanted: Set[Listener], overheard: Set[Listener]) -> Mapping[Listener, int]:
        """As ports.Wire has it."""
        refused = self._wire.listen(wanted, overheard)
        self._note("listen", (wanted, overheard), list(refused.items()))
        return refused

    def renew(self, listeners: Collection[Listener]) -> Mapping[Listener, int]:
        """As ports.Wire has it."""
        refused = self._wire.renew(listeners)
        self._note("renew", (listeners,), list(refused.items()))
        return refused

    def hear_neighbours(self, indexes: Set[int]) -> Mapping[int, int]:
        """As ports.Wire has it."""
        refused = self._wire.hear_neighbours(indexes)
        self._note("hear_neighbours", (indexes,), list(refused.items()))
        return refused

    def send(self, index: int, advertisement: SendAdvertisement) -> int:
        """As ports.Wire has it."""
        return self._noted("send", self._wire.send(index, advertisement), index, advertisement)

    def transmit(self, index: int, frames: Sequence[bytes]) -> int:
        """As ports.Wire has it."""
        return self._noted("transmit", self._wire.transmit(index, frames), index, frames)

    # ----- the clock -----

    def now(self) -> Instant:
        """As ports.Clock has it."""
        return self._noted("now", self._clock.now())

    def timestamp(self) -> str:
        """As ports.Clock has it."""
        return self._noted("timestamp", self._clock.timestamp())


def named(requests: Sequence[Request]) -> list[tuple[str, Request]]:
    """Requests with the names of what they are."""
    return [(type(request).__name__, request) for request in requests]


class RecordedEngine:
    """An engine whose inputs are noted. `engine` is there to be asked; whatever changes it goes through here."""

    def __init__(
        self,
        node_name: str,
        kernel: Kernel,
        wire: Wire,
        clock: Clock,
        log: Log,
        *,
        overhears: bool = False,
        door: Door = OPEN,
    ) -> None:
        """As Engine, with the same errors."""
        ports = RecordedPorts(kernel, wire, clock)
        self.engine = Engine(node_name, ports, ports, ports, log, overhears=overhears, door=door)
        self.journal = Journal(node_name, self.engine.checkpoint)
        ports.note_with(self.journal.note_question)

    def _do(self, verb: str, do: Callable[..., _Answer], arguments: tuple[object, ...], at: Instant | None) -> _Answer:
        before = len(self.engine.transitions)
        given: tuple[Any, ...] = arguments if at is None else (*arguments, at)
        try:
            return do(*given)
        finally:  # also where what was asked cannot be: a ConfigurationError is an answer, too
            self.journal.note_input(verb, arguments, at, self.engine.transitions[before:])

    def go_on_from(self, former: Iterable[PublishedRouter], seen_at: Instant) -> None:
        """As Engine.go_on_from."""
        self._do("go_on_from", self.engine.go_on_from, (list(former), seen_at), None)

    def clean_up_after(self, former: Collection[PublishedRouter]) -> None:
        """As Engine.clean_up_after."""
        self._do("clean_up_after", self.engine.clean_up_after, (list(former),), None)

    def configure(self, configuration: SpeakerConfiguration, now: Instant) -> None:
        """As Engine.configure."""
        self._do("configure", self.engine.configure, (configuration,), now)

    def expect_first_holds(self, nominees: Mapping[str, str]) -> None:
        """As Engine.expect_first_holds."""
        self._do("expect_first_holds", self.engine.expect_first_holds, (dict(nominees),), None)

    def take_in(self, now: Instant) -> None:
        """As Engine.take_in."""
        self._do("take_in", self.engine.take_in, (), now)

    def receive(self, listener: Listener, datagrams: Sequence[Datagram], now: Instant) -> None:
        """As Engine.receive."""
        self._do("receive", self.engine.receive, (listener, datagrams), now)

    def hear(self, index: int, answers: Sequence[NeighbourAnswer], now: Instant) -> None:
        """As Engine.hear."""
        self._do("hear", self.engine.hear, (index, answers), now)

    def poll(self, now: Instant) -> None:
        """As Engine.poll. One before anything is due changes nothing, and is no input."""
        due = self.engine.next_deadline()
        if due is not None and due <= now:
            self._do("poll", self.engine.poll, (), now)

    def report_health(self, name: str, health: Health, detail: str, now: Instant) -> None:
        """As Engine.report_health."""
        self._do("report_health", self.engine.report_health, (name, health, detail), now)

    def switchover(self, name: str, to: str, now: Instant) -> str:
        """As Engine.switchover."""
        return self._do("switchover", self.engine.switchover, (name, to), now)

    def step_aside(self, now: Instant) -> Instant:
        """As Engine.step_aside."""
        return self._do("step_aside", self.engine.step_aside, (), now)

    def stop(self, now: Instant) -> None:
        """As Engine.stop."""
        self._do("stop", self.engine.stop, (), now)

    def hand_over(self, now: Instant) -> None:
        """As Engine.hand_over."""
        self._do("hand_over", self.engine.hand_over, (), now)
