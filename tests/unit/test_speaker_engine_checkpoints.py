"""An engine that knows what another one knew: nothing that decides anything is left out, also of what comes later."""

from __future__ import annotations

import dataclasses
import operator
import typing
from collections import Counter, deque
from collections.abc import Callable
from types import UnionType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.engine.addresses import AddressesCheckpoint, HeldAddresses, HeldCheckpoint
from holdfast_speaker.engine.conflicts import Conflicts, ConflictsCheckpoint
from holdfast_speaker.engine.deadlines import Deadlines
from holdfast_speaker.engine.engine import Engine, EngineCheckpoint
from holdfast_speaker.engine.hearing import Hearing, HearingCheckpoint
from holdfast_speaker.engine.host_ports import HostPorts, HostPortsCheckpoint
from holdfast_speaker.engine.instance import Instance, InstanceCheckpoint
from holdfast_speaker.engine.links import LinksCheckpoint, LinkTable
from holdfast_speaker.engine.listening import Listening, ListeningCheckpoint
from holdfast_speaker.engine.ports import AddressAdded, AddressRemoved, Link, LinkAddress, LinkChanged, LinkRemoved
from holdfast_speaker.engine.refusals import Refusals
from holdfast_speaker.engine.sending import Sending, SendingCheckpoint
from holdfast_speaker.engine.sharing import LastMove
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.engine.strangers import Strangers, StrangersCheckpoint
from holdfast_speaker.vrrp.instants import Duration, Instant
from holdfast_speaker.vrrp.packet import Decoder
from holdfast_speaker.vrrp.router import Checkpoint as RouterCheckpoint
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_testing.recording import Kernel, Node, Silence, story, vip

KERNEL = Kernel(lambda: 0)
PORTS = {"kernel", "wire", "clock", "log"}

WITHOUT_CONSEQUENCES = {
    # Sharers keeps nothing itself.
    Engine: {"started", "lateness", "transitions", "is_unpublished", "refusals", "forwards_ipv6", "sharers"},
    LinkTable: {"sources", "own", "holding"},
    Instance: {"decoder"},
    Sending: {"told_at"},
    Strangers: {"counters", "old_at"},
    VirtualRouter: {"counters", "packets"},
}
"""What people are told, what was said already, and what only saves time."""

WORKED_OUT = {
    Engine: {"by_vrid", "by_address", "table", "node_name"},
    Instance: {"addresses", "address_set", "widths", "members", "announcements"},
    HeldAddresses: {"owned"},
    LinkTable: {"others_by_address", "networks", "prefix_lengths", "held", "links_of_next_hops"},
    Deadlines: {"heap"},
    Listening: {"table"},
}
"""What follows from the rest. That it does is shown by the lives below."""

RENAMED = {LinkTable: {"by_index": "links", "by_name": "names"}, HeldAddresses: {"table": "links"}}

PARTS = {
    Engine: EngineCheckpoint,
    Instance: InstanceCheckpoint,
    HeldAddresses: AddressesCheckpoint,
    LinkTable: LinksCheckpoint,
    Listening: ListeningCheckpoint,
    Hearing: HearingCheckpoint,
    Conflicts: ConflictsCheckpoint,
    HostPorts: HostPortsCheckpoint,
    Sending: SendingCheckpoint,
    Strangers: StrangersCheckpoint,
    VirtualRouter: RouterCheckpoint,
}


def web(**spec: Any) -> VirtualRouterConfiguration:
    return vip("web", 51, "10.0.0.200/24", **spec)


def made(part: type) -> Any:
    """A part that knows nothing yet."""
    log, wire = Silence(), None
    parts: dict[type, Any] = {
        Engine: lambda: Engine("n1", KERNEL, wire, _Midnight(), log),
        Instance: lambda: Instance(web(), LastMove("")),
        HeldAddresses: lambda: HeldAddresses(KERNEL, log),
        LinkTable: LinkTable,
        Listening: lambda: Listening(wire, LinkTable(), overhears=False),
        Hearing: lambda: Hearing(wire),
        HostPorts: lambda: HostPorts(KERNEL, log),
        Conflicts: lambda: Conflicts(wire),
        Sending: lambda: Sending(wire, log),
        Strangers: Strangers,
        Deadlines: Deadlines,
        VirtualRouter: lambda: Instance(web(), LastMove("")).router,
    }
    return parts[part]()


class _Midnight:
    def timestamp(self) -> str:
        return "2026-01-01T00:00:00.000Z"


def attributes(part: Any) -> dict[str, Any]:
    """What an object holds, by name."""
    if dataclasses.is_dataclass(part):
        return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return vars(part)


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_has_everything_that_a_part_knows_and_that_does_not_follow_from_it(part: type) -> None:
    names = {name.removeprefix("_") for name in attributes(made(part))}
    known = names - PORTS - WITHOUT_CONSEQUENCES.get(part, set()) - WORKED_OUT.get(part, set())
    renamed = RENAMED.get(part, {})
    assert {renamed.get(name, name) for name in known} == {*(fields_of(PARTS[part]) or ())}


# ----- whatever is in a checkpoint is taken from it -----


def fields_of(kind: type) -> list[str] | None:
    """The names of what a value of this type has; None where it has no names."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if issubclass(kind, msgspec.Struct):
        return list(kind.__struct_fields__)
    return list(kind._fields) if hasattr(kind, "_fields") else None


def what_is_there_once(kind: Any) -> Callable[[Any], Any]:
    """What distinguishes the values of a list that was made of a dictionary."""
    if typing.get_origin(kind) is tuple:
        return lambda pair: pair[0]
    names = {HeldCheckpoint: "key", PublishedRouter: "virtual_ip", InstanceCheckpoint: "configuration.name"}
    return operator.attrgetter(names[kind]) if kind in names else id


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type, as far as checkpoints have them."""
    if kind in GIVEN:
        return GIVEN[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(values(arguments[0]), max_size=2).map(tuple)
        return st.tuples(*map(values, arguments))
    if origin is list:
        return st.lists(values(arguments[0]), max_size=2, unique_by=what_is_there_once(arguments[0]))
    if origin in (frozenset, set):
        return st.builds(origin, st.lists(values(arguments[0]), max_size=2))
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=2)
    if isinstance(kind, type) and (fields := fields_of(kind)) is not None:
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{name: values(hints[name]) for name in fields})
    return st.from_type(kind)


GIVEN: dict[Any, st.SearchStrategy[Any]] = {
    VirtualRouterConfiguration: st.sampled_from([web(), web(priority=254), web(members=["10.0.0.12"])]),
    SpeakerConfiguration: st.just(SpeakerConfiguration(node_name="n1", virtual_routers=[web()])),
    int: st.integers(1, 2**62),
    Instant: st.integers(1, 2**62),
    Duration: st.integers(1, 2**62),
    bytes: st.binary(max_size=16),
    **{PARTS[part]: st.just(made(part).checkpoint()) for part in PARTS if part is not Engine},
}
"""Of parts that another part has; each is tried by itself."""


def through_json(checkpoint: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(checkpoint), type=type(checkpoint))


def restored(part: type, known: Any) -> Any:
    if part is Instance:
        return Instance.restored(known)
    fresh = made(part)
    fresh.restore(known)
    return fresh


@pytest.mark.parametrize("part", [part for part in PARTS if part is not LinkTable])
def test_whatever_a_checkpoint_says_is_known_to_who_takes_it_up(part: type) -> None:
    checkpoint = PARTS[part]
    hints = typing.get_type_hints(checkpoint)
    every = st.builds(checkpoint, **{name: values(hints[name]) for name in fields_of(checkpoint) or ()})

    @settings(deadline=None, max_examples=40)
    @given(every)
    def is_known(known: Any) -> None:
        assert restored(part, through_json(known)).checkpoint() == known

    is_known()


links = st.builds(
    Link,
    index=st.integers(1, 3),
    name=st.sampled_from(["eth0", "eth1", "eth2"]),
    admin_up=st.booleans(),
    carrier=st.booleans(),
    mac=st.just(bytes(6)),
    loopback=st.booleans(),
)
addresses = st.builds(
    LinkAddress,
    index=st.integers(1, 3),
    family=st.just(2),
    address=st.sampled_from([bytes((10, 0, 0, last)) for last in (1, 2, 3)]),
    prefix_length=st.sampled_from([24, 32]),
    protocol=st.sampled_from([0, 2, 72]),
    flags=st.just(0),
    scope=st.just(0),
    valid_seconds=st.sampled_from([None, 1]),
)
events = st.one_of(
    st.builds(LinkChanged, links),
    st.builds(LinkRemoved, st.integers(1, 3)),
    st.builds(AddressAdded, addresses),
    st.builds(AddressRemoved, addresses),
)


@settings(deadline=None)
@given(st.lists(events, max_size=12), st.sets(st.tuples(st.integers(1, 3), st.just(bytes((10, 0, 0, 1))))))
def test_a_table_of_links_is_the_same_after_whatever_the_kernel_said(told: list[Any], claimed: set[Any]) -> None:
    table = LinkTable()
    table.claimed |= claimed
    for event in told:
        table.apply(event)
    assert state(restored(LinkTable, through_json(table.checkpoint()))) == state(table)


# ----- lives -----


def state(thing: Any) -> Any:
    """Everything that an object holds and that decides something, as values; dictionaries with their order."""
    kind = type(thing)
    if kind in PARTS or kind is Deadlines:
        without = PORTS | WITHOUT_CONSEQUENCES.get(kind, set()) | ({"heap"} if kind is Deadlines else set())
        return {
            name: unordered(kind, name, state(value))
            for name, value in attributes(thing).items()
            if name.removeprefix("_") not in without
        }
    assert kind not in (Refusals, Decoder), "what has no consequences is left out by its name"
    if isinstance(thing, Counter):
        return {key: count for key, count in thing.items() if count}
    if isinstance(thing, dict):
        return [(key, state(value)) for key, value in thing.items()]
    if isinstance(thing, list | tuple | deque):
        return [state(item) for item in thing]
    return thing


def unordered(kind: type, name: str, found: Any) -> Any:
    """What is only looked up by its key has no order."""
    if (kind, name) in UNORDERED:
        return dict(found)
    if (kind, name) == (LinkTable, "_others_by_address"):
        return {address: dict(places) for address, places in found}
    return found


UNORDERED = {
    (LinkTable, "_by_name"),
    (LinkTable, "_networks"),
    (HeldAddresses, "_owned"),
    (Engine, "_by_vrid"),
}


def test_an_engine_is_the_same_after_a_checkpoint_at_every_step_of_its_life() -> None:
    steps: list[bytes] = []

    def compare(node: Node) -> None:
        known = node.engine.checkpoint()
        other = restored(Engine, through_json(known))
        assert state(other) == state(node.engine)
        steps.append(msgspec.json.encode(known))

    story(compare)
    assert len({*steps}) == len(steps) > 20
