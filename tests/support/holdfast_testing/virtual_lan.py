"""Hosts on one link under a virtual clock: the real engine on each, its kernel and its wire simulated, no waiting.

Everything that happened is kept in its order. A packet travels 0.1 ms unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from holdfast_api.addresses import packed
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health, State
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.engine.ports import ADDRESS_PROTOCOL, Datagram, Request
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import MILLISECOND, Duration, Instant
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_testing.sim.interfaces import NODAD
from holdfast_testing.sim.kernel import SimulatedKernel
from holdfast_testing.sim.machine import ETH0, Host, Observer, PlainHost
from holdfast_testing.sim.timeline import Timeline
from holdfast_testing.sim.wire import Segment, parse

VIRTUAL_IP = "default/web"
"""What every node of a virtual LAN runs, unless it runs more."""

SECOND_VIRTUAL_IP = "default/web-2"

DELAY = Duration(MILLISECOND // 10)


class HoldsAddresses(NamedTuple):
    """The first of the VIP's addresses was put on the node's kernel, or the last was taken away."""

    held: bool


class Announced(NamedTuple):
    """Gratuitous ARP and unsolicited neighbour advertisements went out."""


class Logged(NamedTuple):
    """A line of the engine's log."""

    level: str
    message: str


class Happening(NamedTuple):
    """Something that a node did."""

    at: Instant
    node: str
    what: Transition | SendAdvertisement | HoldsAddresses | Announced | Logged


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a node shall be: its VirtualIPs, and the addresses of its own with their prefix lengths."""

    routers: tuple[VirtualRouterConfiguration, ...]
    own: tuple[tuple[bytes, int], ...]
    nominees: Mapping[str, str] = field(default_factory=dict)
    """Who is to hold a virtual router first that is new, by its name."""

    def configuration(self, name: str) -> SpeakerConfiguration:
        """What the engine of the node of that name is told."""
        return SpeakerConfiguration(node_name=name, virtual_routers=list(self.routers))


Travel = Callable[[str, str], Duration | None]
"""How long a packet from one node to another takes; None: it is lost."""


class _Recorder(Observer):
    def __init__(self, timeline: Timeline) -> None:
        self.happenings: list[Happening] = []
        self._timeline = timeline
        self._holding: set[str] = set()

    def _happens(self, host: Host, what: Transition | SendAdvertisement | HoldsAddresses | Announced | Logged) -> None:
        self.happenings.append(Happening(self._timeline.now, host.name, what))

    def moved(self, host: Host, move: Transition) -> None:
        self._happens(host, move)

    def logged(self, host: Host, level: str, message: str, facts: Mapping[str, object]) -> None:
        self._happens(host, Logged(level, message))

    def requested(self, host: Host, request: Request, errno: int) -> None:
        self._look(host)

    def turned(self, host: Host) -> None:
        self._look(host)

    def _look(self, host: Host) -> None:
        interfaces = host.kernel.interfaces.values() if host.powered else ()
        held = any(one.protocol == ADDRESS_PROTOCOL for link in interfaces for one in (*link.v4, *link.v6))
        if held != (host.name in self._holding):
            self._holding ^= {host.name}
            self._happens(host, HoldsAddresses(held))

    def sent(self, host: Host, advertisement: SendAdvertisement, errno: int) -> None:
        if not errno:
            self._happens(host, advertisement)

    def transmitted(self, host: Host, frames: Sequence[bytes], errno: int) -> None:
        said = [neighbour for frame in frames if (neighbour := parse(frame)) is not None]
        if said and not errno and all(one.claimed and not one.wanted for one in said):
            self._happens(host, Announced())


class VirtualLan:
    """Nodes on one link. Nothing moves but in `run`, or at once in what a method says."""

    def __init__(
        self,
        nodes: Mapping[str, Wanted],
        travel: Travel = lambda _sender, _receiver: DELAY,
    ) -> None:
        self.timeline = Timeline()
        self.travel = travel
        self.segment = Segment(self.timeline.at, self._travel)
        self._recorder = _Recorder(self.timeline)
        self._neighbours: dict[str, PlainHost] = {}
        self._wanted = dict(nodes)
        self._numbers = {name: number for number, name in enumerate(nodes, start=1)}
        self.hosts = {name: Host(name, self.timeline, self.segment, self._prepare, self._recorder) for name in nodes}
        for name, host in self.hosts.items():
            host.configuration = nodes[name].configuration(name)
            host.health = {router.name: Health.HEALTHY for router in nodes[name].routers}

    def _travel(self, sender: str, receiver: str, _width: int) -> Iterable[Duration]:
        delay = self.travel(sender, receiver)
        return () if delay is None else (delay,)

    def _prepare(self, host: Host) -> None:
        """A host has `eth0` on the segment, with its own addresses."""
        kernel = host.kernel
        kernel.add_link("eth0", self.mac(host.name))
        kernel.interfaces[ETH0].generates_link_local = False
        kernel.interfaces[ETH0].promote_secondaries = True
        kernel.set_up(ETH0, True)
        host.segment.plug(host.wire, ETH0)
        self._give_own_addresses(kernel, host.name)

    def give_own_addresses(self, name: str) -> None:
        """Whoever manages a node's addresses puts back what its link has lost."""
        self.hosts[name].act(lambda kernel: self._give_own_addresses(kernel, name))

    def mac(self, name: str) -> bytes:
        """Of a node's link."""
        return bytes((2, 0, 0, 0, 0, self._numbers[name]))

    def _give_own_addresses(self, kernel: SimulatedKernel, name: str) -> None:
        for address, length in self._wanted[name].own:
            kernel.add_address(ETH0, address, length, flags=NODAD if len(address) == 16 else 0)

    @property
    def now(self) -> Instant:
        """The virtual time."""
        return self.timeline.now

    @property
    def happenings(self) -> list[Happening]:
        """Everything that happened, in its order."""
        return self._recorder.happenings

    # ----- what happens to a node -----

    def start(self, name: str) -> None:
        """Start the engine anew: nothing is remembered of a former one but the services' health."""
        host = self.hosts[name]
        if not host.powered:
            host.boot()
        host.start()

    def stop(self, name: str) -> None:
        """SIGTERM: with a farewell."""
        self.hosts[name].stop()

    def kill(self, name: str) -> None:
        """Loss of power: nothing is said, and nothing is held."""
        self.hosts[name].power_off()

    def want(self, name: str, wanted: Wanted) -> None:
        """Another configuration, and other addresses of the node's own; now, or from the next start on."""
        host, before = self.hosts[name], self._wanted[name]
        self._wanted[name] = wanted
        known = {router.name for router in before.routers}
        for router in wanted.routers:
            host.health.setdefault(router.name, Health.HEALTHY)
        if host.powered:
            for address, length in set(before.own) - set(wanted.own):
                host.act(lambda kernel, a=address, n=length: kernel.remove_address(ETH0, a, n))  # type: ignore[misc]
        host.expect_first_holds(wanted.nominees)
        host.configure(wanted.configuration(name))
        for router in wanted.routers:
            if router.name not in known:
                host.report_health(router.name, host.health[router.name])
        if host.powered and set(wanted.own) - set(before.own):
            host.act(lambda kernel: self._give_own_addresses(kernel, name))

    def renumber(self, name: str, own: tuple[tuple[bytes, int], ...]) -> None:
        """Other addresses of the node's own, and the same VirtualIPs: what leaves goes first."""
        before, self._wanted[name] = self._wanted[name], Wanted(self._wanted[name].routers, own)
        for address, length in set(before.own) - set(own):
            self.hosts[name].act(lambda kernel, a=address, n=length: kernel.remove_address(ETH0, a, n))  # type: ignore[misc]
        self.give_own_addresses(name)

    def switch_on(self, name: str) -> None:
        """Somebody switches the link on, and the host gives it its addresses, as far as it lost them."""

        def switch(kernel: SimulatedKernel) -> None:
            kernel.set_up(ETH0, True)
            kernel.set_carrier(ETH0, True)
            self._give_own_addresses(kernel, name)

        self.hosts[name].act(switch)

    def renew_own_addresses(self, name: str) -> None:
        """A DHCP client that begins anew: the first IPv4 address goes and comes, so that it is the last."""
        address, length = next(own for own in self._wanted[name].own if len(own[0]) == 4)

        def renew(kernel: SimulatedKernel) -> None:
            kernel.remove_address(ETH0, address, length)
            kernel.add_address(ETH0, address, length)

        self.hosts[name].act(renew)

    def make_bridge(self, name: str) -> None:
        """A bridge is made over the node's link, and takes its addresses over."""

        def make(kernel: SimulatedKernel) -> None:
            index = kernel.add_link("br0", self.mac(name), bridge=True)
            kernel.interfaces[index].generates_link_local = False
            kernel.enslave(ETH0, index)
            kernel.set_up(index, True)
            for address, length in self._wanted[name].own:
                kernel.remove_address(ETH0, address, length)
                kernel.add_address(index, address, length, flags=NODAD)

        self.hosts[name].act(make)

    def add_link(self, name: str) -> None:
        """A link that was removed is there again, with the same index and name."""

        def add(kernel: SimulatedKernel) -> None:
            kernel.add_link("eth0", self.mac(name), index=ETH0)
            kernel.interfaces[ETH0].generates_link_local = False
            kernel.set_up(ETH0, True)
            self._give_own_addresses(kernel, name)

        self.hosts[name].act(add)

    def report_health(self, name: str, health: Health) -> None:
        """The probes' verdict."""
        for router in self._wanted[name].routers:
            self.hosts[name].report_health(router.name, health)

    # ----- the link -----

    def cut(self, sender: str, receiver: str, widths: Iterable[int] = (4, 16)) -> None:
        """Nothing gets from one node to another, in these families."""
        self.segment.cuts |= {(sender, receiver, width) for width in widths}

    def heal(self) -> None:
        """Every cut is mended."""
        self.segment.cuts.clear()

    def inject(self, name: str, datagram: Datagram, after: int = 0) -> None:
        """A packet from nobody in particular arrives at a node."""
        wire = self.hosts[name].wire

        def arrive() -> None:
            if wire.hears(ETH0):
                wire.take_in(wire.upper(ETH0), datagram)

        self.timeline.at(self.now + after, arrive)

    def add_neighbour(self, name: str, addresses: Iterable[tuple[bytes, int]]) -> None:
        """Another host on the link, which runs nothing of ours and has these addresses."""
        mac = bytes((2, 0, 0, 0, 1, len(self._neighbours) + 1))
        host = self._neighbours[name] = PlainHost(name, self.timeline, self.segment, mac)
        for address, length in addresses:
            host.add_address(address, length)

    def remove_neighbour(self, name: str) -> None:
        """It is switched off."""
        self._neighbours.pop(name).leave()

    def run(self, duration: int) -> None:
        """Let time pass. At one instant packets arrive first, then timers act."""
        self.timeline.run(duration)

    # ----- what can be seen -----

    def router(self, name: str, virtual_ip: str = VIRTUAL_IP) -> VirtualRouter | None:
        """The virtual router that a node runs."""
        instance = self.hosts[name].instance(virtual_ip)
        return instance.router if instance is not None else None

    def holders(self, virtual_ip: str = VIRTUAL_IP) -> list[str]:
        """Who holds the addresses and runs. A frozen node does not: its kernel takes them away."""
        return [name for name, host in self.hosts.items() if host.runs and self._holds(host, virtual_ip)]

    @staticmethod
    def _holds(host: Host, virtual_ip: str) -> bool:
        instance = host.instance(virtual_ip)
        if instance is None or instance.router.state_name is not State.MASTER:
            return False
        return all(map(host.has_on_kernel, instance.kernel_addresses))

    def addresses_of(self, name: str) -> list[str]:
        """The addresses of a node's links but for the loopback's, as people write them, in the kernel's order."""
        links = self.hosts[name].kernel.interfaces.values()
        found = [one for link in links if not link.loopback for one in (*link.v4, *link.v6)]
        return [f"{ip_address(one.address)}/{one.prefix_length}" for one in found]

    def where(self, address: bytes) -> str | None:
        """Whom a client on the link reaches at an address; it is there from the first question on."""
        if "client" not in self._neighbours:
            self.add_neighbour("client", [(packed("10.0.0.99"), 24), (packed("fe80::99"), 64)])
        found = self._neighbours["client"].wire.where(address)
        return self.name_of(address) if found == "client" else found

    def name_of(self, address: bytes) -> str:
        """A node's name, or the address where it is nobody's."""
        for name, wanted in self._wanted.items():
            if any(address == own for own, _ in wanted.own):
                return name
        return str(ip_address(address))
