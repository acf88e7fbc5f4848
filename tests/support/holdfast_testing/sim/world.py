"""One seed's machines on a bad link: hosts with the whole engine, others' routers, and a client that uses the VIPs."""

from __future__ import annotations

from collections import Counter as Multiset
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random

from holdfast_api.addresses import packed, packed_interface
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health
from holdfast_api.resources import ForeignRouters, HostPorts
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.engine.ports import Datagram, Request
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, encode
from holdfast_testing.sim.foreign import ForeignHost, ForeignRouter, Stranger
from holdfast_testing.sim.interfaces import NODAD
from holdfast_testing.sim.kernel import SimulatedKernel
from holdfast_testing.sim.machine import ETH0, Host, Observer, PlainHost, Process
from holdfast_testing.sim.options import Options
from holdfast_testing.sim.routes import Route
from holdfast_testing.sim.timeline import EPOCH, Timeline
from holdfast_testing.sim.wire import Segment

RECOVERY_HOLD = Duration(2 * SECOND)
FIRST_VRID = 51
VIRTUAL_IPS = ("default/web", "default/db")
GATEWAY, GATEWAY_V6 = packed("10.0.0.254"), packed("fd00::fe")
CLIENT, CLIENT_V6 = packed("10.0.0.99"), packed("fd00::99")
STRANGER, STRANGERS_VIP = packed("10.0.0.77"), packed("10.0.0.250")
WANDERING = "10.0.0.240/24"
"""An address that an edit gives to one VirtualIP or the other."""

BRIDGE = "br0"
TRACE = 600


class Violation(AssertionError):
    """A law that does not hold."""


@dataclass(slots=True)
class Stall:
    """A process that does not run, or a machine that sleeps."""

    since: Instant
    process: Process | None
    until: Instant | None = None


class World:
    """What there is, and what can be done to it. `laws` watch it."""

    def __init__(self, options: Options, *, keeps_journals: bool = False) -> None:
        self.options = options
        self.random = Random(options.seed + 1)
        self.timeline = Timeline()
        self.segment = Segment(self.timeline.at, self._travel)
        self.loss, self.duplication = options.loss, options.duplication
        self.trace: deque[str] = deque(maxlen=TRACE)
        self.moves: Multiset[str] = Multiset()
        self.watching: list[Observer] = []
        self.cuts: dict[tuple[str, str], Instant] = {}
        """When nothing began to get from one host to another."""
        self.disturbed: dict[str, Instant] = {}
        """When something last happened to a host, or ended: what it does for a while after that is no surprise."""
        self.edited_at = Instant(0)
        self.wandering_to = 0
        """Which VirtualIP has the wandering address; -1: none."""
        self.interface: str | None = None
        self.families = 2 if options.two_families else 1
        self.priorities = list(options.priorities)
        self.recovered_at: dict[str, Instant] = {}
        """When a host's services became well again, as long as its engine is one that remembers."""
        self.wished_at = Instant(0)
        self.refusing: set[str] = set()
        """Hosts whose kernel takes no address, or did not a moment ago."""
        self.exposed: dict[str, Instant] = {}
        """Until when a host's ports may be reached: its packet filter refused, or was flushed."""
        self.late_since: dict[str, Instant] = {}
        """When a host's port began not to forward."""
        self.open_at: dict[str, Instant] = {}
        """When it forwarded again."""
        self.stalls: dict[str, Stall] = {}
        """When each host last stood still."""
        self._observer = _Fanned(self)
        self._without_address: set[str] = set()
        self.hosts: dict[str, Host] = {}
        for number, name in enumerate("abcde"[: options.holdfast_hosts]):
            drift = options.drift_ppm[number]
            self.disturbed[name] = self.now
            self.hosts[name] = Host(
                name,
                self.timeline,
                self.segment,
                self._prepare,
                self._observer,
                drift_ppm=drift,
                keeps_journal=keeps_journals,
            )
            self.hosts[name].health = dict.fromkeys(self.names, Health.HEALTHY)
        for name, host in self.hosts.items():
            host.configuration = self.configuration(name)
        self.client = PlainHost("client", self.timeline, self.segment, b"\x02\0\0\0\1\1")
        self.client.add_address(CLIENT, 24)
        self.client.add_address(CLIENT_V6, 64)
        self.segment.snooped |= {("client", 4), ("client", 16)}
        self.foreign = self._foreign() if options.foreign else None
        self.stranger: Stranger | None = None

    # ----- who is there -----

    @property
    def now(self) -> Instant:
        """Virtual time."""
        return self.timeline.now

    @property
    def names(self) -> tuple[str, ...]:
        """The VirtualIPs."""
        return VIRTUAL_IPS[: self.options.virtual_ips]

    def vrid(self, virtual_ip: str) -> int:
        """The virtual router ID of a VirtualIP."""
        return FIRST_VRID + VIRTUAL_IPS.index(virtual_ip)

    def addresses(self, virtual_ip: str) -> list[str]:
        """The addresses of a VirtualIP by the configuration of now."""
        number = VIRTUAL_IPS.index(virtual_ip)
        found = [f"10.0.0.{200 + number}/24"]
        if self.wandering_to == number:
            found.append(WANDERING)
        if self.families == 2:
            found.append(f"fd00::{200 + number}/64")
        return found

    def vips(self) -> set[bytes]:
        """Every address that is a VirtualIP's now."""
        return {packed_interface(text)[0] for name in self.names for text in self.addresses(name)}

    def own_addresses(self, name: str) -> list[tuple[bytes, int]]:
        """A host's own addresses."""
        number = self.number(name) + 1
        v4 = [(packed(f"10.0.0.{number}"), 24), (packed(f"10.0.0.{100 + number}"), 24)]
        return [*v4, (packed(f"fd00::{number}"), 64), (packed(f"fe80::{number}"), 64)]

    @staticmethod
    def number(name: str) -> int:
        """A host's place."""
        return "abcde".index(name)

    def mac(self, name: str) -> bytes:
        """A host's MAC address after a boot."""
        return bytes((2, 0, 0, 0, 0, self.number(name) + 1))

    def configuration(self, name: str) -> SpeakerConfiguration:
        """What a host shall run now."""
        routers = [self._router(name, virtual_ip) for virtual_ip in self.names]
        return SpeakerConfiguration(node_name=name, virtual_routers=routers)

    def _router(self, name: str, virtual_ip: str) -> VirtualRouterConfiguration:
        options = self.options
        members = [
            str(ip_address(address))
            for other in self.hosts or ()
            for address, _ in self.own_addresses(other)
            if options.members_known
        ]
        return VirtualRouterConfiguration(
            name=virtual_ip,
            addresses=self.addresses(virtual_ip),
            virtual_router_id=self.vrid(virtual_ip),
            version=3 if options.version == 3 else 2,
            priority=self.priorities[self.number(name)],
            nopreempt=options.nopreempt,
            advertisement_interval_milliseconds=options.interval // MILLISECOND,
            interface=self.interface,
            members=members,
            foreign_routers=ForeignRouters.REFUSE if options.members_known else ForeignRouters.OBEY,
            when_failing=options.when_failing,
            tracks_services=True,
            recovery_hold_milliseconds=RECOVERY_HOLD // MILLISECOND,
            host_ports=HostPorts.CLOSED if options.closed else HostPorts.OPEN,
        )

    def _foreign(self) -> ForeignHost:
        options = self.options
        router = ForeignRouter(
            source=bytes((10, 0, 0, options.hosts)),
            group=MULTICAST_GROUP_V4,
            vip=packed("10.0.0.200"),
            priority=options.priorities[-1],
            interval=options.interval,
            version=options.version,
            preempts=options.foreign_preempts,
            vrid=FIRST_VRID,
        )
        mac = b"\x02\0\0\0\1\2"
        return ForeignHost(self.timeline, self.segment, mac, router, lambda: self._foreign_moved(router))

    def _foreign_moved(self, router: ForeignRouter) -> None:
        self.say(f"foreign is {'Master' if router.master else 'Backup'}")

    def _prepare(self, host: Host) -> None:
        """A host boots: `eth0`, its own addresses, and ways to elsewhere."""
        kernel = host.kernel
        kernel.expires_late = Duration(self.random.randrange(SECOND // 4))
        kernel.add_link("eth0", self.mac(host.name))
        link = kernel.interfaces[ETH0]
        link.generates_link_local = False
        link.promote_secondaries = self.options.promote_secondaries
        kernel.set_up(ETH0, True)
        host.segment.plug(host.wire, ETH0)
        if host.name not in self._without_address:
            self.give_addresses(kernel, host.name, ETH0)

    def give_addresses(self, kernel: SimulatedKernel, name: str, index: int) -> None:
        """Give a link the host's own addresses and routes, as far as they are not there."""
        for address, length in self.own_addresses(name):
            kernel.add_address(index, address, length, flags=NODAD if len(address) == 16 else 0)
        kernel.add_route(Route(index, bytes(4), 0, gateway=GATEWAY))
        kernel.add_route(Route(index, bytes(16), 0, metric=1024, gateway=GATEWAY_V6))

    # ----- what is done to it -----

    def disturb(self, *names: str) -> None:
        """Something happened to these hosts, or ended."""
        for name in names or self.hosts:
            self.disturbed[name] = self.now

    def act(self, host: Host, do: Callable[[SimulatedKernel], object]) -> None:
        """Somebody changes a host's links or addresses."""
        if host.powered:
            self.disturb(host.name)
            host.act(do)

    def start(self, host: Host) -> None:
        """The engine begins anew; its probes may need some time to say what they said before."""
        self.disturb(host.name)
        self.recovered_at.pop(host.name, None)
        if self.random.random() < 0.5:
            host.start()
            return
        host.start_unknowing()

        def report() -> None:
            if host.process is not None:
                self.disturb(host.name)
                if Health.HEALTHY in host.health.values():  # known since then, unless it recovered in the meantime
                    self.recovered_at.setdefault(host.name, self.now)
                for name, health in host.health.items():
                    host.report_health(name, health)

        self.timeline.at(self.now + self.random.randrange(MILLISECOND, SECOND), report)

    def power_on(self, host: Host, *, without_address: bool = False) -> None:
        """It boots, and its engine is started."""
        if host.powered:
            return
        (self._without_address.add if without_address else self._without_address.discard)(host.name)
        host.boot()
        self.start(host)

    def set_health(self, host: Host, health: Health) -> None:
        """What all probes of a host say from now on."""
        if all(known is health for known in host.health.values()):
            return
        self.disturb(host.name)
        if health is Health.HEALTHY:
            self.recovered_at[host.name] = self.now
        else:
            self.recovered_at.pop(host.name, None)
        for name in host.health:
            host.report_health(name, health)

    def edit(self) -> None:
        """Everybody is told the configuration of now, some sooner and some later."""
        self.edited_at = self.now
        for host in self.hosts.values():
            self.timeline.at(self.now + self.random.randrange(SECOND), self._tell(host))

    def _tell(self, host: Host) -> Callable[[], None]:
        def tell() -> None:
            if host.configuration != self.configuration(host.name):
                host.configure(self.configuration(host.name))

        return tell

    def call_stranger(self) -> None:
        """Other people's virtual router begins to advertise."""
        vrid, interval = FIRST_VRID, self.options.interval
        payload = encode(3, vrid, 254, interval, (STRANGERS_VIP,), STRANGER, MULTICAST_GROUP_V4)
        self.stranger = Stranger(self.timeline, self.segment, payload, STRANGER, MULTICAST_GROUP_V4)
        self.stranger.speak(interval)

    def send_stranger_away(self) -> None:
        """And ends."""
        if self.stranger is not None:
            self.stranger.leave()
            self.stranger = None

    def stall(self, host: Host) -> None:
        """It stands still from now on."""
        self.stalls[host.name] = Stall(self.now, host.process)

    def go_on(self, host: Host) -> None:
        """It runs again."""
        stall = self.stalls.get(host.name)
        if stall is not None and stall.until is None:
            stall.until = self.now

    # ----- the link -----

    def cut(self, pair: tuple[str, str]) -> None:
        """Nothing gets from the first to the second."""
        self.cuts[pair] = self.now
        self.segment.cuts |= {(*pair, 4), (*pair, 16)}

    def heal(self, pair: tuple[str, str]) -> None:
        """That is mended."""
        if self.cuts.pop(pair, None) is not None:
            self.segment.cuts -= {(*pair, 4), (*pair, 16)}
            self.disturb()

    def connected(self, one: str, other: str) -> bool:
        """Whether two hosts hear each other."""
        return all(
            self.segment.passes(*pair, width) for width in (4, 16) for pair in ((one, other), (other, one))
        ) and all(name not in self.hosts or self._is_plugged(self.hosts[name]) for name in (one, other))

    @staticmethod
    def _is_plugged(host: Host) -> bool:
        return host.powered and any(map(host.wire.hears, host.wire.segments))

    def _travel(self, _sender: str, _receiver: str, _width: int) -> Iterator[Duration]:
        random, slowest = self.random, self.options.slowest
        if self.loss and random.random() < self.loss:
            return
        yield Duration(10_000 + int(random.random() * (slowest - 10_000)))
        if self.duplication and random.random() < self.duplication:
            yield Duration(10_000 + int(random.random() * (slowest - 10_000)))

    # ----- what was seen -----

    def say(self, text: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{(self.now - EPOCH) / 1e9:12.6f}  {text}")


class _Fanned(Observer):
    """Tells the trace and every law what happens."""

    def __init__(self, world: World) -> None:
        self._world = world

    def moved(self, host: Host, move: Transition) -> None:
        world = self._world
        world.moves[str(move.reason)] += 1
        which = "" if len(world.names) == 1 else f"{move.virtual_ip}: "
        world.say(f"{host.name} {which}{move.from_state} -> {move.to_state}: {move.message}")
        for law in world.watching:
            law.moved(host, move)

    def logged(self, host: Host, level: str, message: str, facts: Mapping[str, object]) -> None:
        if level != "info":
            self._world.say(f"{host.name} {level}: {message}")

    def requested(self, host: Host, request: Request, errno: int) -> None:
        for law in self._world.watching:
            law.requested(host, request, errno)

    def sent(self, host: Host, advertisement: SendAdvertisement, errno: int) -> None:
        for law in self._world.watching:
            law.sent(host, advertisement, errno)

    def transmitted(self, host: Host, frames: Sequence[bytes], errno: int) -> None:
        return

    def reached(self, host: Host, index: int, datagram: Datagram) -> None:
        for law in self._world.watching:
            law.reached(host, index, datagram)

    def turned(self, host: Host) -> None:
        for law in self._world.watching:
            law.turned(host)

    def acted(self, host: Host) -> None:
        """Somebody other than Holdfast changed the host's links or addresses."""
        for law in self._world.watching:
            law.acted(host)
