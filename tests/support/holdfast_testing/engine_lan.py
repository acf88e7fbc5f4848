"""Engines on simulated hosts beside each other, for unit tests: whole engines in virtual time, and no root needed."""

from __future__ import annotations

import heapq
import itertools
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.engine.door import OPEN, Door
from holdfast_speaker.engine.engine import Engine
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.ports import Datagram, Listener, NeighbourAnswer
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.engine.turn import Turn
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant
from holdfast_testing.sim.interfaces import Address
from holdfast_testing.sim.kernel import SimulatedKernel
from holdfast_testing.sim.wire import Segment, SimulatedWire

BEGINNING = Instant(1000 * SECOND)


def packed(text: str) -> bytes:
    """An address as the kernel has it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def router(name: str = "web", *addresses: str, vrid: int = 51, **fields: Any) -> VirtualRouterConfiguration:
    """A VirtualIP of 100 ms; fields as in VirtualRouterConfiguration."""
    fields.setdefault("advertisement_interval_milliseconds", 100)
    return VirtualRouterConfiguration(
        name=f"default/{name}", addresses=list(addresses) or ["10.9.0.200/24"], virtual_router_id=vrid, **fields
    )


@dataclass
class RecordedLog:
    """What people were told."""

    lines: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)

    def info(self, message: str, **facts: object) -> None:
        self.lines.append(("info", message, facts))

    def warning(self, message: str, **facts: object) -> None:
        self.lines.append(("warning", message, facts))

    def error(self, message: str, **facts: object) -> None:
        self.lines.append(("error", message, facts))

    def messages(self, *levels: str) -> list[str]:
        """The messages of these levels, or of all."""
        return [message for level, message, _ in self.lines if not levels or level in levels]


class VirtualClock:
    """The clock of all hosts of a LAN."""

    def __init__(self) -> None:
        self.at = BEGINNING

    def now(self) -> Instant:
        return self.at

    def timestamp(self) -> str:
        return f"{self.at / SECOND:.3f}"


class WatchedKernel(SimulatedKernel):
    """A simulated kernel that remembers which addresses left it, as `ip monitor address` shows them."""

    def __init__(self, now: Callable[[], Instant], *, tells_protocol: bool = True) -> None:
        self.deleted: list[str] = []
        super().__init__(now, tells_protocol=tells_protocol)

    def _tell_address(self, address: Address, there: bool) -> None:
        if not there:
            family = socket.AF_INET if len(address.address) == 4 else socket.AF_INET6
            self.deleted.append(socket.inet_ntop(family, address.address))
        super()._tell_address(address, there)


class SimulatedHost:
    """One host with eth0 on the LAN, and an engine once it was started."""

    def __init__(self, lan: Lan, name: str, number: int, *, tells_protocol: bool = True) -> None:
        self.lan = lan
        self.name = name
        self.kernel = WatchedKernel(lan.clock.now, tells_protocol=tells_protocol)
        self.wire = SimulatedWire(name, self.kernel, lan.clock.now)
        self.log = RecordedLog()
        self.engine: Engine | None = None
        self.asleep = False
        """Nothing runs on it, but time goes on: it is suspended, or its processes are frozen."""
        self.node_addresses: list[str] = []
        """In a cluster the addresses of all nodes."""
        self.eth0 = self.kernel.add_link("eth0", bytes((2, 0, 0, 0, 0, number)))
        self.kernel.interfaces[self.eth0].detects_duplicates = False
        self.kernel.set_up(self.eth0, True)
        self.add(f"10.9.0.{number}/24")
        lan.segment.plug(self.wire, self.eth0)

    # ----- the machine -----

    def add(self, address: str, link: int | None = None, **options: Any) -> None:
        """`ip address add`; it has to succeed."""
        text, _, length = address.partition("/")
        code = self.kernel.add_address(link or self.eth0, packed(text), int(length), **options)
        assert code == 0, f"{address}: errno {code}"

    def remove(self, address: str, link: int | None = None) -> None:
        """`ip address del`; it has to succeed."""
        text, _, length = address.partition("/")
        code = self.kernel.remove_address(link or self.eth0, packed(text), int(length))
        assert code == 0, f"{address}: errno {code}"

    def has(self, address: str) -> bool:
        """Whether the kernel has the address on some link."""
        _, addresses, _ = self.kernel.dump()
        return packed(address) in {item.address for item in addresses}

    # ----- the engine -----

    def start(
        self, *routers: VirtualRouterConfiguration, former: Sequence[PublishedRouter] = (), door: Door = OPEN
    ) -> SimulatedHost:
        """An engine with these VirtualIPs; `former` is what the one before it left, `door` what it may hold."""
        self.engine = Engine(self.name, self.kernel, self.wire, self.lan.clock, self.log, door=door)
        self.engine.go_on_from(former, self.lan.clock.now())
        self._turn = Turn(self.engine, _Arrivals(self.wire), self.lan.clock, lambda _now: None)
        return self.configure(*routers)

    def configure(self, *routers: VirtualRouterConfiguration) -> SimulatedHost:
        """Another configuration for the engine that runs."""
        configuration = SpeakerConfiguration(
            node_name=self.name, node_addresses=self.node_addresses, virtual_routers=list(routers)
        )
        self.running.configure(configuration, self.lan.clock.now())
        return self

    def die(self) -> list[PublishedRouter]:
        """SIGKILL; what the next engine will be told."""
        left = self.running.published_routers()
        self.engine = None
        self.wire.close()
        return left

    @property
    def running(self) -> Engine:
        assert self.engine is not None, f"{self.name} has no engine"
        return self.engine

    def instance(self, name: str = "web") -> Instance:
        """A VirtualIP as the engine runs it."""
        return self.running.instances[f"default/{name}"]

    def state(self, name: str = "web") -> str:
        return str(self.instance(name).router.state_name)

    @property
    def warnings(self) -> list[str]:
        """What `holdfast status` warns of."""
        engine = self.running
        return [text for item in engine.instances.values() for text in engine.warnings_of(item, self.lan.clock.now())]

    def next_deadline(self) -> Instant | None:
        """When the engine has something to do."""
        return None if self.engine is None or self.asleep else self.engine.next_deadline()

    def turn(self) -> bool:
        """Let the engine do what there is to do; whether there was anything."""
        if self.engine is None or self.asleep:
            return False
        deadline = self.engine.next_deadline()
        readable, answered, links_changed = self.wire.readable(), self.wire.answering(), self.kernel.readable
        if not (readable or answered or links_changed or (deadline is not None and deadline <= self.lan.clock.now())):
            return False
        self._turn.run(deadline, readable, (), answered, links_changed=links_changed)
        return True


class _Arrivals:
    """turn.Arrivals over a simulated wire."""

    def __init__(self, wire: SimulatedWire) -> None:
        self._wire = wire

    def listeners(self) -> Collection[Listener]:
        return self._wire.readable()

    def receive(self, listener: Listener, limit: int) -> Sequence[Datagram]:
        return self._wire.receive(listener, limit)

    def answers(self, index: int, limit: int) -> Sequence[NeighbourAnswer]:
        return self._wire.answers(index, limit)


class Lan:
    """Hosts 10.9.0.1, .2, ... on one segment, with an engine each once it was started."""

    def __init__(self, *names: str, tells_protocol: bool = True) -> None:
        self.clock = VirtualClock()
        self._numbers = itertools.count()
        self._events: list[tuple[Instant, int, Callable[[], None]]] = []
        self.segment = Segment(self._at)
        self.hosts = [
            SimulatedHost(self, name, number, tells_protocol=tells_protocol)
            for number, name in enumerate(names, start=1)
        ]

    def _at(self, at: Instant, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), act))

    def run(self, seconds: float) -> None:
        """Let so much time go by."""
        end = Instant(self.clock.at + round(seconds * SECOND))
        while True:
            self._settle()
            following = self._next()
            if following is None or following > end:
                break
            self.clock.at = max(following, self.clock.at)
        self.clock.at = end

    def _settle(self) -> None:
        for _ in range(1000):
            while self._events and self._events[0][0] <= self.clock.at:
                heapq.heappop(self._events)[2]()
            for host in self.hosts:
                host.kernel.advance()
            worked = [host.turn() for host in self.hosts]  # each of them
            if not any(worked):
                return
        raise AssertionError("an engine has something to do again and again at one instant")

    def _next(self) -> Instant | None:
        times = [self._events[0][0]] if self._events else []
        for host in self.hosts:
            times += [at for at in (host.kernel.next_deadline(), host.next_deadline()) if at is not None]
        return min(times, default=None)

    def holders(self, address: str = "10.9.0.200") -> list[str]:
        """The hosts whose kernel has the address."""
        return [host.name for host in self.hosts if host.has(address)]

    def probe(self, client: SimulatedHost, address: str, seconds: float) -> dict[str | None, int]:
        """Who takes what a client sends to an address, asked every 10 ms for so long, and how often."""
        seen: dict[str | None, int] = {}
        for _ in range(round(seconds * 100)):
            taker = client.wire.where(packed(address))
            seen[taker] = seen.get(taker, 0) + 1
            self.run(0.01)
        return seen

    def until(self, condition: Callable[[], bool], within_seconds: float = 10.0, step: float = 0.01) -> float:
        """Let time go by until something is so; how long it took. Otherwise the test fails."""
        began = self.clock.at
        while not condition():
            assert self.clock.at - began < within_seconds * SECOND, f"not within {within_seconds:g} s"
            self.run(step)
        return float(Duration(self.clock.at - began) / SECOND)
