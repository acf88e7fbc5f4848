"""Two simulated hosts with engines, in virtual time, of which one keeps a journal: `python -m` prints a story's.

The machinery is small on purpose: what hosts can do to each other is the simulation's business.
"""

from __future__ import annotations

import heapq
import itertools
import json
import sys
from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_interface
from typing import Any

import msgspec

from holdfast_api.reasons import Health
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.engine.engine import Engine
from holdfast_speaker.engine.inputs import Inputs
from holdfast_speaker.engine.journal import RecordedEngine
from holdfast_speaker.engine.ports import Datagram, Listener, NeighbourAnswer
from holdfast_speaker.engine.turn import Turn
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
from holdfast_testing.sim.kernel import SimulatedKernel
from holdfast_testing.sim.wire import Segment, SimulatedWire

EPERM = 1


class Kernel(SimulatedKernel):
    """Tells of a renewal that is under way."""

    def is_renewing(self) -> bool:
        """As ports.Kernel has it."""
        self.advance()
        return self._renewal is not None


class Silence:
    """A log that nobody reads."""

    def info(self, message: str, **facts: object) -> None:
        """Nothing."""

    warning = error = info


class Node:
    """A host, its engine, and its loop."""

    def __init__(self, lan: Lan, number: int, *, recorded: bool = True) -> None:
        self.lan = lan
        self.number = number
        self.kernel = Kernel(lambda: lan.time)
        self.link = self.add_link("eth0", 10 + number)
        self.wire = SimulatedWire(f"n{number}", self.kernel, lambda: lan.time)
        lan.segment.plug(self.wire, self.link)
        self.recorded: RecordedEngine | None = None
        ports = (self.kernel, self.wire, lan, Silence())
        if recorded:
            self.recorded = RecordedEngine(f"n{number}", *ports, overhears=True)
            self.engine = self.recorded.engine
        else:
            self.engine = Engine(f"n{number}", *ports, overhears=True)
        self.inputs: Inputs = self.recorded or self.engine
        self.turn = Turn(self.inputs, self, lan, lambda _now: None)

    def add_link(self, name: str, last: int) -> int:
        """Another link that is up, with an address of each family."""
        index = self.kernel.add_link(name, bytes((2, 0, 0, 0, self.number, last)))
        self.kernel.set_up(index, True)
        self.kernel.set_carrier(index, True)
        self.kernel.add_address(index, bytes((10, last // 100, 0, last % 100)), 24)
        return index

    # turn.Arrivals
    def listeners(self) -> Collection[Listener]:
        """As turn.Arrivals has it."""
        return list(self.wire._sockets)

    def receive(self, listener: Listener, limit: int) -> Sequence[Datagram]:
        """As turn.Arrivals has it."""
        return self.wire.receive(listener, limit)

    def answers(self, index: int, limit: int) -> Sequence[NeighbourAnswer]:
        """As turn.Arrivals has it."""
        return self.wire.answers(index, limit)

    def go_on(self) -> None:
        """One turn, if there is something to do."""
        self.kernel.advance()
        due = self.engine.next_deadline()
        readable, answered = self.wire.readable(), self.wire.answering()
        changed = bool(self.kernel.readable)
        if readable or answered or changed or (due is not None and due <= self.lan.time):
            self.turn.run(due, readable, (), answered, links_changed=changed)
            self.engine.is_unpublished = False

    def next_deadline(self) -> Instant | None:
        """When there is something to do, as far as is known."""
        if self.wire.readable() or self.wire.answering() or self.kernel.readable:
            return self.lan.time
        times = (self.engine.next_deadline(), self.kernel.next_deadline())
        return min((at for at in times if at is not None), default=None)

    @property
    def journal(self) -> list[bytes]:
        """The lines."""
        assert self.recorded is not None
        return self.recorded.journal.lines()


class Lan:
    """Time, a switch, and the hosts on it."""

    def __init__(self) -> None:
        self.time = Instant(100 * SECOND)
        self.events: list[tuple[Instant, int, Callable[[], None]]] = []
        self.numbers = itertools.count()
        self.segment = Segment(self.at)
        self.nodes: list[Node] = []

    def at(self, at: Instant, do: Callable[[], None]) -> None:
        """Have something happen later."""
        heapq.heappush(self.events, (at, next(self.numbers), do))

    def now(self) -> Instant:
        """As ports.Clock has it."""
        return self.time

    def timestamp(self) -> str:
        """As ports.Clock has it."""
        minutes, seconds = divmod(self.time // SECOND, 60)
        return f"2026-01-01T00:{minutes:02}:{seconds:02}.{self.time % SECOND // MILLISECOND:03}Z"

    def add(self, *, recorded: bool = True) -> Node:
        """Another host."""
        node = Node(self, len(self.nodes) + 1, recorded=recorded)
        self.nodes.append(node)
        return node

    def run(self, milliseconds: int) -> None:
        """Let time pass."""
        end = Instant(self.time + milliseconds * MILLISECOND)
        while True:
            times = [at for at in (node.next_deadline() for node in self.nodes) if at is not None]
            times += [self.events[0][0]] if self.events else []
            at = max(self.time, min(times, default=end))
            if at > end:
                break
            # A little later at each step, so that what stays due for a while does not stop the time.
            self.time = Instant(at + 1000)
            while self.events and self.events[0][0] <= self.time:
                heapq.heappop(self.events)[2]()
            for node in self.nodes:
                node.go_on()
        self.time = end


def vip(name: str, vrid: int, *addresses: str, **spec: Any) -> VirtualRouterConfiguration:
    """A VirtualIP that advertises every 100 ms."""
    told = {"advertisementIntervalMilliseconds": 100, **spec}
    return msgspec.convert(
        {"name": f"default/{name}", "virtualRouterID": vrid, "addresses": list(addresses), **told},
        VirtualRouterConfiguration,
    )


def configuration(node: Node, *routers: VirtualRouterConfiguration, generation: int = 1) -> SpeakerConfiguration:
    """What an engine is told to run."""
    return SpeakerConfiguration(node_name=node.engine.node_name, generation=generation, virtual_routers=list(routers))


MEMBERS = ["10.0.0.11", "10.0.0.12"]
DB = [f"10.0.0.{last}/24" for last in (201, 204, 205, 206, 207)]
FAR = [f"192.168.7.{last}/24" for last in (7, 8, 9, 10, 11)]


def story(on_each_step: Callable[[Node], None] = lambda _node: None) -> Node:
    """A node's life, in which every part of an engine has something to know. Its first node keeps a journal."""
    lan = Lan()
    one, two = lan.add(), lan.add(recorded=False)

    def after(milliseconds: int) -> None:
        lan.run(milliseconds)
        on_each_step(one)

    vips = [
        vip("web", 51, "10.0.0.200/24", "10.0.0.203/24", "fe80::51/64", members=MEMBERS, foreignRouters="Refuse"),
        vip("db", 52, *DB, trackedInterfaces=["eth1"], hostPorts="Closed"),
        vip("uni", 53, "10.0.0.202/24", transport="Unicast", members=MEMBERS, tracksServices=True),
        vip("far", 54, *FAR, interface="eth0"),
        vip("nowhere", 55, "172.16.0.1/24"),
    ]
    one.inputs.clean_up_after([])
    one.inputs.configure(configuration(one, *(replace_priority(item, 110) for item in vips)), lan.time)
    after(50)
    after(700)
    tracked = one.add_link("eth1", 111)
    after(1500)
    one.kernel.packet_filter.takes = Duration(20 * MILLISECOND)
    one.kernel.packet_filter.flush()
    two.inputs.configure(configuration(two, *vips, vip("stranger", 99, "10.0.0.240/24")), lan.time)
    after(2500)
    one.inputs.report_health("default/uni", Health.HEALTHY, "", lan.time)
    after(1000)
    for _ in range(7):  # somebody fights for an address
        one.kernel.remove_address(one.link, bytes((10, 0, 0, 200)), 32)
        after(150)
    one.inputs.switchover("default/web", "n2", lan.time)
    after(1200)
    one.kernel.add_address(one.link, bytes((192, 168, 7, 1)), 24)  # routes go, and come again
    after(300)
    one.kernel.remove_address(one.link, bytes((192, 168, 7, 1)), 24)
    after(300)
    for text in DB:
        one.kernel.remove_address(one.link, packed(text), 32)
    after(300)
    one.kernel.packet_filter.refuses = EPERM
    given = [vips[0], vip("db", 52, DB[0], priority=110), vips[2], vip("far", 54, *FAR, *DB[1:], interface="eth0")]
    one.inputs.configure(configuration(one, *given, generation=2), lan.time)  # addresses change hands
    after(700)
    one.inputs.configure(configuration(one, *(replace_priority(item, 110) for item in vips), generation=3), lan.time)
    one.kernel.packet_filter.refuses = 0
    after(700)
    for text in DB:  # somebody has them, and then the cable is out, too
        one.kernel.add_address(tracked, packed(text), 32)
    after(300)
    one.kernel.set_up(one.link, False)
    after(300)
    for text in DB:
        one.kernel.remove_address(tracked, packed(text), 32)
    one.kernel.set_up(one.link, True)
    one.kernel.set_carrier(one.link, True)
    after(3000)
    one.kernel.set_up(tracked, False)
    after(1200)
    one.kernel.set_carrier(one.link, False)
    after(60)
    one.kernel.set_carrier(one.link, True)
    after(2500)
    one.wire.refuse_sending = lambda _index, _width: EPERM
    after(1500)
    one.wire.refuse_sending = lambda _index, _width: 0
    after(1500)
    one.kernel.lose_events()
    one.kernel.remove_link(tracked)
    after(500)
    swapped = [
        vip("web", 51, "10.0.0.201/24", "10.0.0.203/24", members=MEMBERS),
        vip("db", 52, "10.0.0.200/24", "10.0.0.204/24"),
        vip("far", 54, "192.168.7.7/24", interface="eth0", draining=True),
        vip("used", 56, "10.0.0.12/24"),
    ]
    one.inputs.configure(configuration(one, *swapped, generation=4), lan.time)
    after(2500)
    one.wire.refuse_opening = lambda _listener: 24
    one.kernel.set_mac(one.link, bytes((2, 0, 0, 0, 9, 9)))
    one.kernel.set_up(one.link, False)
    after(300)
    one.kernel.set_up(one.link, True)
    one.kernel.set_carrier(one.link, True)
    after(1500)
    one.wire.refuse_opening = lambda _listener: 0
    after(3000)
    two.inputs.stop(lan.time)
    lan.nodes.remove(two)
    after(4000)
    one.inputs.step_aside(lan.time)
    after(500)
    one.inputs.stop(lan.time)
    on_each_step(one)
    return one


def packed(text: str) -> bytes:
    """An address, without its prefix length."""
    return ip_interface(text).packed


def replace_priority(router: VirtualRouterConfiguration, priority: int) -> VirtualRouterConfiguration:
    """The same with another priority."""
    return msgspec.structs.replace(router, priority=priority)


if __name__ == "__main__":
    if sys.argv[1:] == ["play"]:
        from holdfast_speaker.engine.replay import play

        played = list(play(sys.stdin.buffer.read().splitlines()))
        print(json.dumps([[one.verb, one.recorded.decode(), one.replayed.decode(), one.difference] for one in played]))
    else:
        sys.stdout.buffer.write(b"\n".join(story().journal))
