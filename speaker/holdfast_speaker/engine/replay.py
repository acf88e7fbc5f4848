"""Plays a journal (journal.py) again: the same inputs to an engine of today, whose ports answer what was recorded."""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from holdfast_api import __version__
from holdfast_api.errors import UNDECODABLE, ConfigurationError, EnvironmentFailure
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine import journal
from holdfast_speaker.engine.engine import Engine
from holdfast_speaker.engine.journal import End, Failure, Head, Input, Value, encode, named
from holdfast_speaker.engine.ports import (
    AddressAdded,
    AddressRemoved,
    Datagram,
    Event,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
    Listener,
    NeighbourAnswer,
    NextHop,
    NextHopsChanged,
    PortsClosed,
    Request,
)
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.engine.vetting import vet
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import Duration, Instant

_Kind = TypeVar("_Kind")

_VERBS: Final[dict[str, tuple[Any, Callable[..., Any]]]] = {
    "go_on_from": (tuple[list[PublishedRouter], Instant], Engine.go_on_from),
    "clean_up_after": (tuple[list[PublishedRouter]], Engine.clean_up_after),
    "configure": (tuple[SpeakerConfiguration], Engine.configure),
    "expect_first_holds": (tuple[dict[str, str]], Engine.expect_first_holds),
    "take_in": (tuple[()], Engine.take_in),
    "receive": (tuple[Listener, list[Datagram]], Engine.receive),
    "hear": (tuple[int, list[NeighbourAnswer]], Engine.hear),
    "poll": (tuple[()], Engine.poll),
    "report_health": (tuple[str, Health, str], Engine.report_health),
    "switchover": (tuple[str, str], Engine.switchover),
    "step_aside": (tuple[()], Engine.step_aside),
    "stop": (tuple[()], Engine.stop),
    "hand_over": (tuple[()], Engine.hand_over),
}
"""Every input of an engine, with the types of its arguments; the time comes after them."""

_TIMELESS: Final = frozenset({"go_on_from", "clean_up_after", "expect_first_holds"})

_EVENTS: Final[dict[str, Any]] = {
    event.__name__: event
    for event in (LinkChanged, LinkRemoved, AddressAdded, AddressRemoved, NextHopsChanged, PortsClosed)
}

_LINE: Final[msgspec.json.Decoder[journal.Line]] = msgspec.json.Decoder(journal.Line)
_NOTHING: Final[msgspec.json.Decoder[None]] = msgspec.json.Decoder(None)
_BOOL: Final = msgspec.json.Decoder(bool)
_TEXT: Final = msgspec.json.Decoder(str)
_NUMBER: Final = msgspec.json.Decoder(int)
_NUMBERS: Final = msgspec.json.Decoder(list[int])
_RESULTS: Final[msgspec.json.Decoder[list[int] | None]] = msgspec.json.Decoder(list[int] | None)
_CHANGES: Final[msgspec.json.Decoder[list[tuple[str, msgspec.Raw]] | None]] = msgspec.json.Decoder(
    list[tuple[str, msgspec.Raw]] | None
)
_DUMP: Final = msgspec.json.Decoder(tuple[list[Link], list[LinkAddress], bool])
_NEXT_HOPS: Final[msgspec.json.Decoder[Sequence[NextHop]]] = msgspec.json.Decoder(list[NextHop])
_REFUSED: Final = msgspec.json.Decoder(list[tuple[Listener, int]])
_REFUSED_LINKS: Final = msgspec.json.Decoder(list[tuple[int, int]])

_REFERENCE: Final = re.compile(rb'\{"is":(\d{1,18})\}')
_FAILURE: Final = b'{"failure":'

_TOLD_AT_MOST = 160
"""Of a question, in the sentence about a difference."""

_UNPLAYABLE: Final = (
    *UNDECODABLE,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    EnvironmentFailure,
)
"""What an engine makes of a journal that was edited or damaged: values that do not fit together."""


@dataclass(frozen=True, slots=True)
class Played:
    """One input that caused transitions, when it was recorded or when it was played again, or that differs."""

    verb: str
    recorded: bytes
    """The transitions, as JSON."""
    replayed: bytes
    difference: str = ""
    """Where this engine asks its ports something else than was recorded, a sentence with the number of the line. No
    answer is known to what it asks, so nothing is played after that."""
    addresses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of each VirtualIP, by namespace/name, as it was configured by then."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One input as it was recorded."""

    line: int
    verb: str
    arguments: tuple[Any, ...]
    at: Instant | None
    asked: list[tuple[str, bytes, bytes]]
    """Port, arguments, answer, as JSON."""
    transitions: bytes


def play(lines: Iterable[bytes]) -> Iterator[Played]:
    """Give a recorded journal to an engine of today: what it did then and does now.

    Raises ConfigurationError, with the number of the line, for what is no journal, or none of this version.
    """
    head, inputs = read(lines)
    ports = _Answers()
    engine = Engine(head.node, ports, ports, ports, _Silence())
    try:
        vet(head.checkpoint.configuration, head.node)
        engine.restore(head.checkpoint)
    except (*_UNPLAYABLE, ConfigurationError) as error:
        raise _refusal(1, f"its checkpoint cannot be taken up: {error}") from error
    addresses = _addresses(head.checkpoint.configuration)
    for recorded in inputs:
        if recorded.verb == "configure":
            addresses |= _addresses(recorded.arguments[0])  # what is removed with it is told after it
        difference = _do(engine, ports, recorded)
        replayed = encode(engine.transitions)
        engine.transitions.clear()
        if difference or recorded.transitions != b"[]" or replayed != b"[]":
            yield Played(recorded.verb, recorded.transitions, replayed, difference, addresses)
        if difference:
            return


def _addresses(configuration: SpeakerConfiguration) -> dict[str, list[str]]:
    routers = configuration.virtual_routers
    alone = {router.name: router.addresses for router in routers if not router.virtual_ips}
    return alone | {one.name: one.addresses for router in routers for one in router.virtual_ips}


def _do(engine: Engine, ports: _Answers, recorded: Recorded) -> str:
    """Give one input to the engine. Returns how its questions differ; empty: not at all."""
    _, do = _VERBS[recorded.verb]
    ports.expect(recorded.asked)
    given = recorded.arguments if recorded.at is None else (*recorded.arguments, recorded.at)
    try:
        if recorded.verb == "configure":
            vet(recorded.arguments[0], engine.node_name)
        do(engine, *given)
    except ConfigurationError:  # it was refused then, too; if not, the transitions and questions say so
        pass
    except _Differs as differs:
        return f"line {recorded.line}: {differs}"
    except _UNPLAYABLE as error:
        raise _refusal(recorded.line, f"cannot be played: {error!r}") from error
    left = ports.unasked
    return f"line {recorded.line}: nothing is asked where {_told(*left)} was recorded" if left else ""


# ----- reading -----


def read(lines: Iterable[bytes]) -> tuple[Head, Iterator[Recorded]]:
    """The head of a journal, and its inputs, with everything in its place.

    Raises ConfigurationError, with the number of the line, for what is no journal, or none of this version: of the
    first line at once, of another one when it comes.
    """
    rest = iter(lines)
    first = next(rest, None)
    if first is None:
        raise _refusal(1, "is not the head of a journal: there is nothing")
    return _head(first), _inputs(rest)


def _inputs(lines: Iterable[bytes]) -> Iterator[Recorded]:
    values: dict[int, bytes] = {}
    number = 1
    for number, line in enumerate(lines, start=2):
        try:
            match _LINE.decode(line):
                case Value(name, of):
                    values[name] = bytes(of)
                case Input() as found:
                    yield _recorded(number, found, values)
                case End(before):
                    if before != number - 1:
                        raise _refusal(number, f"{before} lines shall be before it: some are not there")
                    return
        except _UNPLAYABLE as error:
            raise _refusal(number, f"is not a line of a journal: {error}") from error
    raise _refusal(number + 1, "the journal is cut off here")


def _head(line: bytes) -> Head:
    try:
        found: Any = msgspec.json.decode(line)
    except (*UNDECODABLE, RecursionError) as error:
        raise _refusal(1, f"is not a line of a journal: {error}") from error
    version = found.get("journal") if isinstance(found, dict) else None
    if type(version) is not int:
        raise _refusal(1, "is not the head of a journal")
    if version != journal.VERSION:
        wrote = f"Holdfast {found['holdfast']}" if "holdfast" in found else "an earlier Holdfast, of one virtual router"
        replays = f"Holdfast {__version__} replays version {journal.VERSION}"
        raise _refusal(1, f"is the head of a journal of version {version}, written by {wrote}; {replays}")
    try:
        return msgspec.json.decode(line, type=Head)
    except (*UNDECODABLE, RecursionError) as error:
        raise _refusal(1, f"is not the head of a journal of Holdfast {__version__}: {error}") from error


def _recorded(line: int, found: Input, values: Mapping[int, bytes]) -> Recorded:
    types, _ = _VERBS[found.verb]
    if (found.at is None) != (found.verb in _TIMELESS):
        raise ValueError(f"{found.verb} has no time" if found.at is None else f"{found.verb} has a time")
    return Recorded(
        line,
        found.verb,
        msgspec.json.decode(_whole(found.arguments, values), type=types),
        found.at,
        [(port, _whole(arguments, values), _whole(answer, values)) for port, arguments, answer in found.asked],
        _whole(found.transitions, values),
    )


def _whole(value: msgspec.Raw, values: Mapping[int, bytes]) -> bytes:
    raw = bytes(value)
    reference = _REFERENCE.fullmatch(raw)
    if reference is None:
        return raw
    number = int(reference[1])
    if number not in values:
        raise ValueError(f"there is no value {number} before it")
    return values[number]


def transitions_of(recorded: Recorded) -> list[Transition]:
    """What came of an input when it was recorded. Raises ConfigurationError."""
    try:
        return msgspec.json.decode(recorded.transitions, type=list[Transition])
    except UNDECODABLE as error:
        raise _refusal(recorded.line, f"is not a line of a journal: {error}") from error


def _refusal(line: int, reason: str) -> ConfigurationError:
    return ConfigurationError(reason, field=f"line {line}")


# ----- the ports -----


class _Differs(Exception):
    """The engine asks something else than was recorded."""


class _Silence:
    """A log that nobody reads."""

    def info(self, message: str, **facts: object) -> None:
        """As ports.Log has it."""

    def warning(self, message: str, **facts: object) -> None:
        """As ports.Log has it."""

    def error(self, message: str, **facts: object) -> None:
        """As ports.Log has it."""


class _Answers:
    """Kernel, wire and clock as they answered: the same questions, in the same order.

    Before the first input, while the engine is made, the kernel has nothing and there is no time.
    """

    def __init__(self) -> None:
        self._expected: deque[tuple[str, bytes, bytes]] | None = None

    def expect(self, asked: Iterable[tuple[str, bytes, bytes]]) -> None:
        """What is going to be asked by the next input: port, arguments, answer."""
        self._expected = deque(asked)

    @property
    def unasked(self) -> tuple[str, bytes] | None:
        """The next question that was expected, and its arguments."""
        return self._expected[0][:2] if self._expected else None

    def _answer(self, kind: msgspec.json.Decoder[_Kind], port: str, *arguments: object) -> _Kind:
        asked = encode(arguments)
        if not self._expected:
            raise _Differs(f"{_told(port, asked)} is asked, and nothing more was recorded")
        expected, recorded, answer = self._expected[0]
        if (port, asked) != (expected, recorded):
            raise _Differs(f"{_told(port, asked)} is asked where {_told(expected, recorded)} was recorded")
        self._expected.popleft()
        if answer.startswith(_FAILURE):
            raise EnvironmentFailure(msgspec.json.decode(answer, type=Failure).failure)
        return kind.decode(answer)

    # ----- the kernel -----

    def changes(self) -> Sequence[Event] | None:
        """As ports.Kernel has it."""
        told = self._answer(_CHANGES, "changes")
        return None if told is None else [msgspec.json.decode(event, type=_EVENTS[name]) for name, event in told]

    def dump(self) -> tuple[Sequence[Link], Sequence[LinkAddress], bool]:
        """As ports.Kernel has it."""
        if self._expected is None:
            return (), (), True
        return self._answer(_DUMP, "dump")

    def next_hops(self) -> Sequence[NextHop]:
        """As ports.Kernel has it; asked while the engine is made, and never again."""
        return () if self._expected is None else self._answer(_NEXT_HOPS, "next_hops")

    def apply(self, requests: Sequence[Request]) -> Sequence[int]:
        """As ports.Kernel has it."""
        return self._answer(_NUMBERS, "apply", named(requests))

    def is_renewing(self) -> bool:
        """As ports.Kernel has it."""
        return self._answer(_BOOL, "is_renewing")

    def begin_renewal(self, requests: Sequence[Request]) -> None:
        """As ports.Kernel has it."""
        self._answer(_NOTHING, "begin_renewal", named(requests))

    def end_renewal(self) -> Sequence[int] | None:
        """As ports.Kernel has it."""
        return self._answer(_RESULTS, "end_renewal")

    def close_ports(self, number: int, addresses: frozenset[bytes], no_longer: frozenset[bytes]) -> None:
        """As ports.Kernel has it."""
        self._answer(_NOTHING, "close_ports", number, addresses, no_longer)

    def await_closed_ports(self, within: Duration) -> int:
        """As ports.Kernel has it."""
        return self._answer(_NUMBER, "await_closed_ports", within)

    def forwards_ipv6(self, name: str) -> bool:
        """As ports.Kernel has it."""
        return self._answer(_BOOL, "forwards_ipv6", name)

    # ----- the wire -----

    def listen(self, wanted: Set[Listener], overheard: Set[Listener]) -> Mapping[Listener, int]:
        """As ports.Wire has it."""
        refused = self._answer(_REFUSED, "listen", wanted, overheard)
        return dict(refused)

    def renew(self, listeners: Collection[Listener]) -> Mapping[Listener, int]:
        """As ports.Wire has it."""
        refused = self._answer(_REFUSED, "renew", listeners)
        return dict(refused)

    def hear_neighbours(self, indexes: Set[int]) -> Mapping[int, int]:
        """As ports.Wire has it."""
        refused = self._answer(_REFUSED_LINKS, "hear_neighbours", indexes)
        return dict(refused)

    def send(self, index: int, advertisement: SendAdvertisement) -> int:
        """As ports.Wire has it."""
        return self._answer(_NUMBER, "send", index, advertisement)

    def transmit(self, index: int, frames: Sequence[bytes]) -> int:
        """As ports.Wire has it."""
        return self._answer(_NUMBER, "transmit", index, frames)

    # ----- the clock -----

    def now(self) -> Instant:
        """As ports.Clock has it."""
        return Instant(self._answer(_NUMBER, "now"))

    def timestamp(self) -> str:
        """As ports.Clock has it."""
        return "" if self._expected is None else self._answer(_TEXT, "timestamp")


def _told(port: str, arguments: bytes) -> str:
    text = arguments[1:-1].decode("utf-8", "replace")
    return f"{port}({text if len(text) <= _TOLD_AT_MOST else text[:_TOLD_AT_MOST] + '...'})"
