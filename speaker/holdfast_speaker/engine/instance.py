"""One VirtualIP on this node: its virtual router, the link it lives on, and the bytes that announce it."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from pathlib import Path

from holdfast_api.messages import RouterStatus, Transition
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_api.resources import PRIORITY_OWNER, ForeignRouters, Transport, WhenFailing
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_speaker.engine import frames
from holdfast_speaker.engine.links import LinkTable, interface_for, source_address
from holdfast_speaker.engine.ports import KernelAddress
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.host.netlink import Link
from holdfast_speaker.vrrp.configuration import Configuration, Family
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, MULTICAST_GROUP_V6, Decoder
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_speaker.vrrp.states import Backup

HISTORY = 10
"""How many transitions of each VirtualIP are remembered."""

QUIET_PERIOD = SECOND
"""How long a starting node distrusts silence: ports of switches and bridges need some time before they forward."""

QUIET_PERIOD_WITH_HOLDER = Duration(3 * SECOND)
"""The same where the last known holder is another node: its silence is more likely our own deafness."""

DRAINING = "the node is being emptied"
"""The health detail of a node that serves well and shall not hold anything."""

_GROUPS = {4: MULTICAST_GROUP_V4, 16: MULTICAST_GROUP_V6}

FAMILIES = {4: int(socket.AF_INET), 16: int(socket.AF_INET6)}
"""The address family of each width."""


def parse_address(text: str) -> tuple[bytes, int]:
    """The packed address and its prefix length; without one, /32 or /128."""
    interface = ip_interface(text)
    return interface.ip.packed, interface.network.prefixlen


@dataclass(slots=True)
class LastMove:
    """What status tells of the last transition."""

    since: str
    reason: Reason | None = None
    message: str = ""
    moves: int = 0


@dataclass(slots=True)
class Instance:
    """A VirtualIP as this engine runs it. `link` is None while there is no interface for it."""

    configuration: VirtualRouterConfiguration
    last_move: LastMove
    link: Link | None = None
    reported_health: Health = Health.UNKNOWN
    reported_detail: str = ""
    health_detail: str = ""
    started: bool = False
    obstacle_details: dict[Obstacle, str] = field(default_factory=dict)
    kernel_detail: str = ""
    retry_at: Instant | None = None
    ask_at: Instant | None = None
    """When known neighbours are asked (again) for an answer, to prove that this node hears."""
    held: frozenset[KernelAddress] = frozenset()
    announcements: tuple[bytes, ...] = ()
    addresses: tuple[tuple[bytes, int], ...] = field(init=False)
    """Packed addresses and prefix lengths, in the user's order."""
    widths: tuple[int, ...] = field(init=False)
    """4 for IPv4, 16 for IPv6: the families of this VirtualIP."""
    is_recorded: bool = False
    history: deque[Transition] = field(default_factory=lambda: deque(maxlen=HISTORY))
    router: VirtualRouter = field(init=False)
    decoder: Decoder = field(default_factory=Decoder)

    def __post_init__(self) -> None:
        self._parse()
        self.router = VirtualRouter(self.core_configuration({}))

    def _parse(self) -> None:
        self.addresses = tuple(map(parse_address, self.configuration.addresses))
        self.widths = tuple(sorted({len(address) for address, _ in self.addresses}))

    @property
    def name(self) -> str:
        """namespace/name."""
        return self.configuration.name

    @property
    def owner(self) -> bool:
        """This node owns the addresses itself: they are on its interface, and not Holdfast's to add or remove."""
        return self.configuration.priority == PRIORITY_OWNER

    @property
    def kernel_addresses(self) -> frozenset[KernelAddress]:
        """What the kernel shall have while the router is Master. The owner's addresses are its own business."""
        if self.link is None or self.owner:
            return frozenset()
        return frozenset(KernelAddress(self.link.index, address, prefix) for address, prefix in self.addresses)

    def find_link(self, table: LinkTable) -> Link | None:
        """The interface named, or the one whose subnet holds the first address; a found one is kept while it exists."""
        if self.configuration.interface is not None:
            return table.link(self.configuration.interface)
        if self.link is not None and self.link.index in table.by_index:
            return table.by_index[self.link.index]
        return interface_for(table, self.addresses)

    def find_sources(self, table: LinkTable, vips: set[bytes]) -> dict[int, bytes]:
        """The address to send from, for each width that has one on the link."""
        if self.link is None:
            return {}
        wanted = {len(address): address for address in map(_packed, self.configuration.source_addresses)}
        found: dict[int, bytes] = {}
        for width in self.widths:
            # A VIP is no source, unless this node owns it.
            excluded = set() if self.owner else vips
            source = source_address(table, self.link.index, FAMILIES[width], excluded, wanted.get(width))
            if source is not None:
                found[width] = source
        return found

    def change(self, configuration: VirtualRouterConfiguration) -> None:
        """Another configuration of the same virtual router; the caller settles it."""
        if not self.configuration.tracks_services:
            # Nothing is known against the services that are tracked from now on: the change itself moves nothing.
            self.reported_health, self.reported_detail = Health.HEALTHY, ""
        self.configuration = configuration
        self._parse()
        self.prepare_announcements()

    def remember(self, message: Transition) -> None:
        """Keep a transition, for status and for the story of the last moves."""
        self.history.append(message)
        moves = self.last_move.moves + moved(message.from_state, message.to_state)
        self.last_move = LastMove(message.time, message.reason, message.message, moves)

    def inherit(self, former: PublishedRouter) -> None:
        """Go on with what is known from a process before this one."""
        self.last_move = LastMove(former.since, former.reason, former.message, former.moves)
        self.history.extend(former.history)
        self.reported_health, self.reported_detail = former.health, former.health_detail

    def becomes_another_router(self, configuration: VirtualRouterConfiguration) -> bool:
        """Whether the change is one that no virtual router survives: another VRID or version, or another interface."""
        mine = self.configuration
        return (mine.virtual_router_id, mine.version, mine.interface) != (
            configuration.virtual_router_id,
            configuration.version,
            configuration.interface,
        )

    def own_health(self, table: LinkTable) -> tuple[Health, str]:
        """This node's health for the VIP, and why: its tracked interfaces, then what was reported of its services."""
        for name in self.configuration.tracked_interfaces:
            link = table.link(name)
            if link is None or not link.operational:
                return Health.FAILING, f"tracked interface {name} is down"
        if self.configuration.tracks_services and self.reported_health is not Health.HEALTHY:
            return self.reported_health, self.reported_detail or "not reported yet"
        if self.configuration.draining:
            return Health.FAILING, DRAINING
        return Health.HEALTHY, self.reported_detail if self.configuration.tracks_services else ""

    @property
    def _only_drains(self) -> bool:
        """Nothing fails here; so until another node takes the VIP over, it is better held than given up."""
        serves = not self.configuration.tracks_services or self.reported_health is Health.HEALTHY
        return self.configuration.draining and serves

    def core_configuration(self, sources: dict[int, bytes]) -> Configuration:
        """The configuration in the core's units. A family without a source yet gets zeroes: it does not run."""
        asked = self.configuration
        members = list(map(_packed, asked.members))
        elsewhere = asked.last_holder_elsewhere
        return Configuration(
            vrid=asked.virtual_router_id,
            families=tuple(self._family(width, sources, members) for width in self.widths),
            version=asked.version,
            priority=asked.priority,
            interval=Duration(asked.advertisement_interval_milliseconds * MILLISECOND),
            nopreempt=asked.nopreempt,
            preempt_delay=Duration(asked.preempt_delay_milliseconds * MILLISECOND),
            obey_foreign=asked.foreign_routers is ForeignRouters.OBEY,
            password=asked.simple_password.encode() if asked.simple_password else None,
            release_when_failing=asked.when_failing is WhenFailing.RELEASE and not self._only_drains,
            recovery_hold=Duration(asked.recovery_hold_milliseconds * MILLISECOND),
            quiet_period=QUIET_PERIOD_WITH_HOLDER if elsewhere else QUIET_PERIOD,
        )

    def _family(self, width: int, sources: dict[int, bytes], members: list[bytes]) -> Family:
        source = sources.get(width, bytes(width))
        others = [member for member in members if len(member) == width and member != source]
        unicast = self.configuration.transport is Transport.UNICAST
        return Family(
            source=source,
            addresses=tuple(address for address, _ in self.addresses if len(address) == width),
            destinations=tuple(others) if unicast else (_GROUPS[width],),
            members=frozenset(others) if members else None,
        )

    def prepare_announcements(self) -> None:
        """Gratuitous ARP and unsolicited neighbour advertisements, encoded once for the link."""
        if self.link is None:
            self.announcements = ()
            return
        mac, forwards = self.link.mac, _forwards_ipv6(self.link.name)
        self.announcements = tuple(
            frames.gratuitous_arp(mac, address)
            if len(address) == 4
            else frames.unsolicited_neighbour_advertisement(mac, address, forwards)
            for address, _ in self.addresses
        )

    def hearing_requests(self) -> tuple[bytes, ...]:
        """An ARP request or a neighbour solicitation to every known member: an answer proves that this node hears."""
        if self.link is None:
            return ()
        mac = self.link.mac
        return tuple(
            frames.arp_request(mac, family.source, member)
            if family.width == 4
            else frames.neighbour_solicitation(mac, family.source, member)
            for family in self.router.configuration.families
            for member in sorted(family.members or ())
        )

    def status(self) -> RouterStatus:
        """How this VirtualIP is now, for people and agents."""
        router, asked = self.router, self.configuration
        heard = [known.heard for known in router.state.known] if isinstance(router.state, Backup) else []
        master = next((item for item in heard if item is not None), None)
        known = {**self.obstacle_details, Obstacle.KERNEL_REFUSED: self.kernel_detail}
        details = [known.get(obstacle, "") for obstacle in sorted(router.obstacles)]
        interval = asked.advertisement_interval_milliseconds
        return RouterStatus(
            virtual_ip=self.name,
            addresses=list(asked.addresses),
            interface=self.link.name if self.link else asked.interface or "",
            virtual_router_id=asked.virtual_router_id,
            version=asked.version,
            state=router.state_name,
            since=self.last_move.since,
            reason=self.last_move.reason,
            message=self.last_move.message,
            priority=asked.priority,
            effective_priority=router.effective_priority,
            health=router.health,
            health_detail=self.health_detail,
            obstacles=sorted(router.obstacles),
            obstacle_detail="; ".join(filter(None, details)),
            master=str(ip_address(master.source)) if master else "",
            master_priority=master.priority if master else 0,
            advertisement_interval_milliseconds=interval,
            learned_interval_milliseconds=master.interval // MILLISECOND if master else interval,
            transitions=self.last_move.moves,
            counters={counter.value: count for counter, count in sorted(router.counters.items())},
        )


def moved(from_state: State, to_state: State) -> bool:
    """Whether the addresses moved: to this node, or away from it."""
    return State.MASTER in (from_state, to_state)


def _packed(text: str) -> bytes:
    return ip_address(text).packed


def _forwards_ipv6(interface: str) -> bool:
    """Whether this host is an IPv6 router on the interface: the R flag of RFC 4861 section 4.4."""
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{interface}/forwarding").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False
