"""One virtual router on this node: its VirtualIP or VirtualIPs, the link it lives on, and what it sends from."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from msgspec import Struct

from holdfast_api.addresses import packed, packed_interface
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health, Obstacle, State
from holdfast_api.resources import PRIORITY_OWNER, ConflictDetection, ForeignRouters, HostPorts, Transport, WhenFailing
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_speaker.engine import frames
from holdfast_speaker.engine.links import (
    LinkTable,
    interface_for,
    is_usable,
    network_of,
    telling_address,
    why_no_source,
)
from holdfast_speaker.engine.ports import LIFETIME_SECONDS, AddRoute, KernelAddress, Link, Listener
from holdfast_speaker.engine.sharing import HISTORY, LastMove, Sharer
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.vrrp.admission import Acquaintances
from holdfast_speaker.vrrp.configuration import Configuration, Family
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant, master_down_interval
from holdfast_speaker.vrrp.packet import MULTICAST_GROUPS, Decoder
from holdfast_speaker.vrrp.router import Checkpoint as RouterCheckpoint
from holdfast_speaker.vrrp.router import VirtualRouter
from holdfast_speaker.vrrp.states import Backup

QUIET_PERIOD = SECOND
"""How long a starting node distrusts silence: ports of switches and bridges need some time before they forward."""

QUIET_PERIOD_WITH_HOLDER = Duration(3 * SECOND)
"""The same where the last known holder is another node: its silence is more likely our own deafness."""

RETRY_AFTER = Duration(5 * SECOND)
"""How long an address, and the family that has it, stays out after the kernel refused it."""

DRAINING = "the node is being emptied"
"""The health detail of a node that serves well and shall not hold anything."""


class Told(NamedTuple):
    """What a router was last told by its link and its services, with one configuration."""

    link: Link | None
    sources: tuple[tuple[int, bytes], ...]
    lacking: dict[int, tuple[Obstacle, str]]
    reported_health: Health
    revision: int
    """Of the table of links."""
    own: frozenset[bytes]
    """The members' addresses that are this node's."""


class InstanceCheckpoint(Struct, frozen=True):
    """Everything that an Instance knows; what can be worked out of it is left out. Counters decide nothing."""

    configuration: VirtualRouterConfiguration
    last_move: LastMove
    link: Link | None
    sources: dict[int, bytes]
    lacking: dict[int, tuple[Obstacle, str]]
    failed: dict[int, tuple[Obstacle, str]]
    reported_health: Health
    reported_detail: str
    health_detail: str
    started: bool
    obstacle_details: dict[Obstacle, str]
    warnings: dict[str, str]
    retry_at: Instant | None
    master_since: Instant | None
    look_at: Instant | None
    history: list[Transition]
    router: RouterCheckpoint
    kernel_addresses: frozenset[KernelAddress]
    forwards_ipv6: bool
    doubted_since: Instant | None
    lost_at: dict[int, Instant]
    find_anew: bool
    told: Told | None
    outside: str = ""
    refusal: str = ""
    in_force: frozenset[bytes] = frozenset()
    sharers: dict[str, Sharer] = {}


@dataclass(slots=True)
class Instance:
    """A virtual router as this engine runs it. `link` is None while there is no interface for it."""

    configuration: VirtualRouterConfiguration
    last_move: LastMove
    link: Link | None = None
    sources: dict[int, bytes] = field(default_factory=dict)
    """Where advertisements come from, by width; one in use stays while it is usable."""
    lacking: dict[int, tuple[Obstacle, str]] = field(default_factory=dict)
    """The families that cannot be served here now, by width, and why."""
    failed: dict[int, tuple[Obstacle, str]] = field(default_factory=dict)
    """The families whose addresses the kernel refused, or in which nothing leaves, by width: until `retry_at`."""
    reported_health: Health = Health.UNKNOWN
    reported_detail: str = ""
    health_detail: str = ""
    started: bool = False
    obstacle_details: dict[Obstacle, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    """What people should know of it now, by what it is about."""
    retry_at: Instant | None = None
    """When what the kernel or the wire refused is tried again."""
    master_since: Instant | None = None
    """When this router was last promoted; None while it is not Master, or went on as one in another process."""
    look_at: Instant | None = None
    """When the link and the sources are looked at again, because something is away that may come back."""
    outside: str = ""
    """Why this engine never holds one of its addresses (door.py); empty: it may hold them all."""
    refusal: str = ""
    """Why it is refused now, because of that or of a route; empty: it is not."""
    in_force: frozenset[bytes] = frozenset()
    """Those of its addresses that were held here, or by a Master that was heard here."""
    sharers: dict[str, Sharer] = field(default_factory=dict)
    """The VirtualIPs that share it, by name; empty: it is that of one VirtualIP, whose name it has."""
    addresses: tuple[tuple[bytes, int], ...] = field(init=False)
    """Packed addresses and prefix lengths, in the user's order."""
    address_set: frozenset[bytes] = field(init=False)
    """The same without prefix lengths."""
    widths: tuple[int, ...] = field(init=False)
    """4 for IPv4, 16 for IPv6: the families of this VirtualIP."""
    members: frozenset[bytes] = field(init=False)
    """The addresses of the other routers, and perhaps some of this node's own."""
    announcements: tuple[bytes, ...] = ()
    history: deque[Transition] = field(default_factory=lambda: deque(maxlen=HISTORY))
    router: VirtualRouter = field(init=False)
    decoder: Decoder = field(default_factory=Decoder)
    kernel_addresses: frozenset[KernelAddress] = frozenset()
    """What the kernel shall have while the router is Master, as it was last worked out."""
    _forwards_ipv6: bool = False
    _doubted_since: Instant | None = None
    _lost_at: dict[int, Instant] = field(default_factory=dict)
    _find_anew: bool = False
    _told: Told | None = None

    def __post_init__(self) -> None:
        self._parse()
        self.router = VirtualRouter(self.core_configuration(frozenset()))

    def _parse(self) -> None:
        self.addresses = tuple(map(packed_interface, self.configuration.every_address))
        self.address_set = frozenset(address for address, _ in self.addresses)
        self.widths = tuple(sorted({len(address) for address, _ in self.addresses}))
        self.members = frozenset(map(packed, self.configuration.members))
        self._find_sharers()

    def _find_sharers(self) -> None:
        """Those that share it by its configuration; what is new to one that is held is to be asked for first."""
        before, self.sharers = self.sharers, {}
        for asked in self.configuration.virtual_ips:
            sharer = before.get(asked.name) or Sharer(asked.name, LastMove(self.last_move.since))
            if sharer.change(asked):
                sharer.withheld, sharer.retry_at, sharer.warning = {}, None, ""
                sharer.unasked = self.started and self.router.holds_addresses
            self.sharers[asked.name] = sharer

    def plan_retry(self) -> None:
        """Try again when the first of those that share it is to be."""
        times = [sharer.retry_at for sharer in self.sharers.values() if sharer.retry_at is not None]
        earliest = min(times, default=None)
        if earliest is not None and (self.retry_at is None or earliest < self.retry_at):
            self.retry_at = earliest

    def checkpoint(self) -> InstanceCheckpoint:
        """What this VirtualIP knows now."""
        return InstanceCheckpoint(
            configuration=self.configuration,
            last_move=self.last_move,
            link=self.link,
            sources=dict(self.sources),
            lacking=dict(self.lacking),
            failed=dict(self.failed),
            reported_health=self.reported_health,
            reported_detail=self.reported_detail,
            health_detail=self.health_detail,
            started=self.started,
            obstacle_details=dict(self.obstacle_details),
            warnings=dict(self.warnings),
            retry_at=self.retry_at,
            master_since=self.master_since,
            look_at=self.look_at,
            history=list(self.history),
            router=self.router.checkpoint(),
            kernel_addresses=self.kernel_addresses,
            forwards_ipv6=self._forwards_ipv6,
            doubted_since=self._doubted_since,
            lost_at=dict(self._lost_at),
            find_anew=self._find_anew,
            told=self._told,
            outside=self.outside,
            refusal=self.refusal,
            in_force=self.in_force,
            sharers={name: sharer.copy() for name, sharer in self.sharers.items()},
        )

    @classmethod
    def restored(cls, known: InstanceCheckpoint) -> Instance:
        """One that knows what another one knew."""
        instance = cls(
            configuration=known.configuration,
            last_move=known.last_move,
            link=known.link,
            sources=dict(known.sources),
            lacking=dict(known.lacking),
            failed=dict(known.failed),
            reported_health=known.reported_health,
            reported_detail=known.reported_detail,
            health_detail=known.health_detail,
            started=known.started,
            obstacle_details=dict(known.obstacle_details),
            warnings=dict(known.warnings),
            retry_at=known.retry_at,
            master_since=known.master_since,
            look_at=known.look_at,
            outside=known.outside,
            refusal=known.refusal,
            in_force=known.in_force,
            history=deque(known.history, maxlen=HISTORY),
            kernel_addresses=known.kernel_addresses,
            _doubted_since=known.doubted_since,
            _lost_at=dict(known.lost_at),
            _find_anew=known.find_anew,
            _told=known.told,
        )
        instance.sharers = {name: sharer.copy() for name, sharer in known.sharers.items()}
        instance.router.restore(known.router)
        instance.prepare_announcements(known.forwards_ipv6)
        return instance

    @property
    def name(self) -> str:
        """namespace/name of its VirtualIP, or its own where several share it."""
        return self.configuration.name

    @property
    def permitted_addresses(self) -> frozenset[bytes]:
        """Those of its addresses that this engine may hold."""
        if not self.sharers:
            return frozenset() if self.refusal else self.address_set
        return frozenset(
            address
            for sharer in self.sharers.values()
            if Obstacle.ADDRESS_NOT_PERMITTED not in sharer.withheld
            for address, _ in sharer.addresses
        )

    @property
    def closable_addresses(self) -> frozenset[bytes]:
        """Those that its host ports may be closed for: not what is this host's own, or may be."""
        if not self.sharers:
            return self.address_set
        of_the_host = {Obstacle.ADDRESS_IN_USE, Obstacle.ADDRESS_NOT_PERMITTED}
        theirs = (sharer for sharer in self.sharers.values() if of_the_host.isdisjoint(sharer.withheld))
        return frozenset(address for sharer in theirs for address, _ in sharer.addresses)

    @property
    def goes_by_next_hops(self) -> bool:
        """Whether other next hops of this host may let it hold more, or are to be told."""
        withheld = any(Obstacle.ADDRESS_NOT_PERMITTED in sharer.withheld for sharer in self.sharers.values())
        return bool(self.refusal) or withheld or "next hop" in self.warnings

    @property
    def held_addresses(self) -> tuple[bytes, ...]:
        """Those that it has on the kernel while it is Master, in all families: not what is withheld."""
        if not self.sharers:
            return tuple(address for address, _ in self.addresses)
        return tuple(
            address for sharer in self.sharers.values() if not sharer.is_out for address, _ in sharer.addresses
        )

    @property
    def is_withheld(self) -> bool:
        """Whether several share it and none of them can be held here."""
        return bool(self.sharers) and all(sharer.withheld for sharer in self.sharers.values())

    @property
    def owner(self) -> bool:
        """This node owns the addresses itself: they are on its interface, and not Holdfast's to add or remove."""
        return self.configuration.priority == PRIORITY_OWNER

    @property
    def closes_host_ports(self) -> bool:
        """Whether nothing of this host is to be reached through its addresses. The host's own, and what is refused
        here, which may be the host's own, are not closed."""
        asked = self.configuration.host_ports is HostPorts.CLOSED
        return asked and not self.owner and not self.refusal

    @property
    def unicast(self) -> bool:
        """Whether advertisements go to each member by itself."""
        return self.configuration.transport is Transport.UNICAST

    @property
    def interval(self) -> Duration:
        """Between two advertisements of ours."""
        return Duration(self.configuration.advertisement_interval_milliseconds * MILLISECOND)

    @property
    def listeners(self) -> list[Listener]:
        """What has to be listened on; nothing while there is no link, or while it is refused."""
        return [] if self.link is None or self.refusal else [Listener(self.link.index, width) for width in self.widths]

    @property
    def served_widths(self) -> tuple[int, ...]:
        """The families that this node can serve now; all where it can serve none, as the obstacles say then."""
        return tuple(width for width in self.widths if width not in self.lacking) or self.widths

    @property
    def partial(self) -> bool:
        """Whether it can serve some of the families and not the others."""
        return 0 < len(self.lacking) < len(self.widths)

    # ----- the kernel -----

    def work_out_kernel_addresses(self) -> None:
        """The addresses of the families that are served, on the link. The owner's are its own business.

        Always of full length: with the user's prefix length a VIP and the host's own addresses would be primary and
        secondary of one subnet, and who loses the primary loses the others and their route (net/ipv4/devinet.c).
        """
        served = () if self.link is None or self.owner or self.refusal else self.served_widths
        index = self.link.index if self.link is not None else 0
        self.kernel_addresses = frozenset(
            KernelAddress(index, address, 8 * len(address)) for address in self.held_addresses if len(address) in served
        )

    def routes(self, table: LinkTable) -> dict[KernelAddress, AddRoute]:
        """The routes to the subnets of addresses for which the link has no prefix of its own.

        A link that has an address of full length in the subnet has none either, and needs none: its host reaches the
        neighbours as its administrator wants it, in clouds by a gateway alone.
        """
        found: dict[KernelAddress, AddRoute] = {}
        if self.link is None or self.owner:
            return found
        index = self.link.index
        for address, length in self.addresses:
            bits = 8 * len(address)
            if length and not table.reaches(index, address, length):
                network = network_of(address, length)
                found[KernelAddress(index, address, bits)] = AddRoute(index, network, length, address, LIFETIME_SECONDS)
        return found

    # ----- the link and its addresses -----

    def find_link(self, table: LinkTable, now: Instant) -> Link | None:
        """The interface named, or the one whose subnet holds the first address.

        One that was found is left only for another whose prefix fits better, and that for longer than an interval:
        addresses go and come, as with a DHCP client that starts anew.
        """
        if self.configuration.interface is not None:
            return table.link(self.configuration.interface)
        best = interface_for(table, self.addresses)
        current = table.by_index.get(self.link.index) if self.link is not None else None
        if self._find_anew:
            self._find_anew, self._doubted_since = False, None
            return best
        if current is None or best is None or best.index == current.index:
            self._doubted_since = None
            return current or best
        if current.controller:  # what arrives gets to its bridge or bond, and not to it
            self._doubted_since = None
            return best
        if self._fits(table, current) >= self._fits(table, best):
            self._doubted_since = None
            return current
        if self._doubted_since is None:
            self._doubted_since = now
        return best if self._is_over(self._doubted_since, now, min(self.interval, SECOND)) else current

    def _fits(self, table: LinkTable, link: Link) -> list[int]:
        """How well the link's own prefixes fit, in the order of `interface_for`; to be compared."""
        telling = telling_address(self.addresses)
        others = [address for address, _ in self.addresses if len(address) != len(telling)]
        return [table.prefix_length_for(link.index, address) for address in (telling, *others[:1])]

    def find_sources(self, table: LinkTable, vips: Set[bytes], now: Instant) -> None:
        """Choose the addresses to send from. One that is in use stays while it is usable, and one interval longer."""
        if self.link is None:
            self.sources, self._lost_at = {}, {}
            return
        wanted = {len(address): address for address in map(packed, self.configuration.source_addresses)}
        for width in self.widths:
            asked = wanted.get(width)
            if asked is None:
                # A VIP is no source, unless this node owns it.
                excluded = frozenset() if self.owner else vips
                usable: Iterable[bytes] = (a for a in table.sources(self.link.index, width) if a not in excluded)
            else:
                usable = (asked,) if is_usable(table, self.link.index, asked) else ()
            self._choose_source(width, usable, asked, now)
        for width in self.sources.keys() - set(self.widths):
            del self.sources[width]
            self._lost_at.pop(width, None)

    @property
    def source_is_away(self) -> bool:
        """Whether an address to send from is not there at the moment, and it is not decided yet what that means."""
        return bool(self._lost_at) and self.look_at is not None

    def _choose_source(self, width: int, usable: Iterable[bytes], wanted: bytes | None, now: Instant) -> None:
        current = self.sources.get(width)
        best = None
        for address in usable:
            if address == current:
                self._lost_at.pop(width, None)
                return
            # Where the list of members names this node too, the others know it by that address.
            if best is None or (address in self.members and best not in self.members):
                best = address
            if current is None and (not self.members or best in self.members):
                break
        is_in_use = current is not None and (wanted is None or current == wanted) and self.started
        patience = self._patience(best is not None)
        if is_in_use and not self._is_over(self._lost_at.setdefault(width, now), now, patience):
            return
        self._lost_at.pop(width, None)
        if best is None:
            self.sources.pop(width, None)
        else:
            self.sources[width] = best

    def why_no_source(self, table: LinkTable, width: int) -> str:
        """A sentence about a family that has no address to send from."""
        if self.link is None:
            return ""
        wanted = next((one for one in map(packed, self.configuration.source_addresses) if len(one) == width), None)
        kind = "IPv4" if width == 4 else "IPv6 link-local"
        why = why_no_source(table, self.link.index, width, wanted)
        return f"{self.link.name} has no {kind} address to send from{': ' if why else ''}{why}"

    def _patience(self, has_another: bool) -> Duration:
        """How long the address to send from may be away: one interval, or, where there is none to take its place, until
        shortly before the Backups take over. A VIP that nobody can hold yet is better held until then."""
        if has_another or not self.router.holds_addresses:
            return min(self.interval, SECOND)
        asked = self.configuration
        # The last advertisement left within an interval before it was lost.
        down = master_down_interval(asked.version, asked.priority, self.interval)
        return Duration(down - self.interval - self.interval // 16)

    def _is_over(self, since: Instant, now: Instant, patience: Duration) -> bool:
        """Whether what is away since then has been away for longer than it may without consequences."""
        end = Instant(since + patience)
        if now >= end:
            return True
        self.look_at = min(self.look_at or end, end)
        return False

    def is_near(self, links: Set[int], names: Set[str]) -> bool:
        """Whether links that changed, by index or by name, are its own, or tracked, or may become its own."""
        if self.link is None or self.link.index in links or self.configuration.interface in names:
            return True
        tracked = self.configuration.tracked_interfaces
        return bool(tracked) and (bool(links) or any(name in names for name in tracked))  # one of them may be gone

    def knows_any_of(self, addresses: Set[bytes]) -> bool:
        """Whether addresses of the host that came or went matter, in whatever subnet they are."""
        if not addresses:
            return False
        if self._lost_at or len(self.sources) < len(self.widths) or not addresses.isdisjoint(self.members):
            return True
        return any(source in addresses for source in self.sources.values()) or any(
            address in addresses for address, _ in self.addresses
        )

    def is_settled(self, revision: int, own: frozenset[bytes]) -> bool:
        """Whether nothing that its router is told has changed since this was last asked; tracked links are outside."""
        sources = tuple(self.sources.items())
        told = Told(self.link, sources, dict(self.lacking), self.reported_health, revision, own)
        before, self._told = self._told, told
        is_out = self.router.obstacles != self.obstacle_details.keys()
        return self.started and told == before and not is_out and not self.configuration.tracked_interfaces

    # ----- configuration -----

    def change(self, configuration: VirtualRouterConfiguration) -> None:
        """Another configuration of the same virtual router; the caller settles it."""
        if not self.configuration.tracks_services:
            # Nothing is known against the services that are tracked from now on: the change itself moves nothing.
            self.reported_health, self.reported_detail = Health.HEALTHY, ""
        before, former = telling_address(self.addresses), self.configuration
        known = self.sharers.get(configuration.name)
        self.configuration = configuration
        self._told = None
        self._parse()
        if known is not None and not self.sharers:  # it has it alone from now on
            self.last_move, self.history = known.last_move, deque(known.history, maxlen=HISTORY)
        elif not former.virtual_ips and former.name in self.sharers:
            self.sharers[former.name].go_on_from(self.last_move, self.history, self.router.state_name)
        self.in_force &= self.address_set
        self._find_anew = telling_address(self.addresses) != before
        self.failed = {width: why for width, why in self.failed.items() if width in self.widths}
        self.prepare_announcements(self._forwards_ipv6)

    def becomes_another_router(self, configuration: VirtualRouterConfiguration) -> bool:
        """Whether the change is one that no virtual router survives: another VRID or version."""
        mine = self.configuration
        return (mine.virtual_router_id, mine.version) != (configuration.virtual_router_id, configuration.version)

    def core_configuration(self, own: Collection[bytes], *, lists_this_node: bool = False) -> Configuration:
        """The configuration in the core's units; `own` are this node's addresses on the link.

        A family without a source yet gets zeroes: it does not run. `lists_this_node`: the members are the same list on
        all nodes, in a cluster, so that what is not in it is refused by the others.
        """
        asked = self.configuration
        elsewhere = asked.last_holder_elsewhere
        obey_foreign = asked.foreign_routers is ForeignRouters.OBEY
        families = tuple(self.family(width, own) for width in self.served_widths)
        has_no_others = not obey_foreign and all(family.members == frozenset() for family in families)
        return Configuration(
            vrid=asked.virtual_router_id,
            families=families,
            version=asked.version,
            priority=asked.priority,
            interval=self.interval,
            nopreempt=asked.nopreempt,
            preempt_delay=Duration(asked.preempt_delay_milliseconds * MILLISECOND),
            obey_foreign=obey_foreign,
            password=asked.simple_password.encode() if asked.simple_password else None,
            release_when_failing=asked.when_failing is WhenFailing.RELEASE and not self._only_drains,
            recovery_hold=Duration(asked.recovery_hold_milliseconds * MILLISECOND),
            quiet_period=QUIET_PERIOD_WITH_HOLDER if elsewhere else QUIET_PERIOD,
            start_delay=Duration(asked.start_delay_milliseconds * MILLISECOND),
            announcement_interval=Duration(asked.announcement_interval_seconds * SECOND),
            partial=self.partial,
            alone=(asked.sole_member or has_no_others) and not elsewhere,
            unlisted=lists_this_node
            and bool(self.members)
            and any(source not in self.members for source in self.sources.values()),
        )

    def family(self, width: int, own: Collection[bytes]) -> Family:
        """One side of the virtual router, whether it can be served now or not; `own`: as in core_configuration()."""
        source = self.sources.get(width, bytes(width))
        others = frozenset(member for member in self.members if len(member) == width and member not in own) - {source}
        every = tuple(address for address, _ in self.addresses if len(address) == width)
        listed = every
        if self.sharers:
            texts = map(packed_interface, self.configuration.addresses)
            listed = tuple(address for address, _ in texts if len(address) == width)
        return Family(
            source=source,
            addresses=listed,
            beside=frozenset(every).difference(listed),
            destinations=self._destinations(width, others) if self.unicast else (MULTICAST_GROUPS[width],),
            members=others if self.members else None,
        )

    def _destinations(self, width: int, others: frozenset[bytes]) -> tuple[bytes, ...]:
        asked = self.configuration
        peers = tuple(map(packed, asked.unicast_peers or asked.members))
        return tuple(peer for peer in peers if len(peer) == width and peer in others)

    @property
    def refuses_conflicts(self) -> bool:
        """Whether an address that another host has is not taken."""
        return self.configuration.conflict_detection is ConflictDetection.REFUSE

    # ----- health -----

    def own_health(self, table: LinkTable) -> tuple[Health, str]:
        """This node's health for the VIP, and why: its tracked interfaces, then what was reported of its services."""
        for name in self.configuration.tracked_interfaces:
            link = table.link(name)
            if link is None or not link.operational:
                return Health.FAILING, f"tracked interface {name} is down"
        if self.configuration.tracks_services and self.reported_health is not Health.HEALTHY:
            unknown = "not reported yet" if self.reported_health is Health.UNKNOWN else ""
            return self.reported_health, self.reported_detail or unknown
        if self.configuration.draining:
            return Health.FAILING, self.configuration.draining_reason or DRAINING
        return Health.HEALTHY, self.reported_detail if self.configuration.tracks_services else ""

    @property
    def _only_drains(self) -> bool:
        """Nothing fails here; so until another node takes the VIP over, it is better held than given up."""
        serves = not self.configuration.tracks_services or self.reported_health is Health.HEALTHY
        return self.configuration.draining and serves

    # ----- what is remembered -----

    def remember(self, message: Transition) -> None:
        """Keep a transition, for status and for the story of the last moves."""
        self.history.append(message)
        moves = self.last_move.moves + moved(message.from_state, message.to_state)
        self.last_move = LastMove(message.time, message.reason, message.message, moves)

    def note_what_is_in_force(self) -> None:
        """Its addresses are in force where it holds them, or hears who does."""
        state = self.router.state
        heard = isinstance(state, Backup) and any(known.heard is not None for known in state.known)
        if heard or self.router.holds_addresses:
            self.in_force = self._addresses_in_force if self.sharers else self.address_set

    @property
    def _addresses_in_force(self) -> frozenset[bytes]:
        """Of those that share it: not of one that has just come, which nobody may have held yet."""
        told = (sharer for sharer in self.sharers.values() if sharer.state is not State.INITIALIZE)
        return frozenset(address for sharer in told for address, _ in sharer.addresses)

    def inherit(self, former: PublishedRouter) -> None:
        """Go on with what is known from a process before this one."""
        if former.state is not State.INITIALIZE:
            self.in_force = self.address_set & {packed_interface(text)[0] for text in former.addresses}
        self.last_move = LastMove(former.since, former.reason, former.message, former.moves)
        self.history.extend(former.history)
        known = {one.name: one for one in former.virtual_ips}
        for name, sharer in self.sharers.items():
            if name in known:
                sharer.inherit(known[name])
            # What this node did not hold is asked for first.
            sharer.unasked = former.state is State.MASTER and sharer.state is not State.MASTER
        self.reported_health, self.reported_detail = former.health, former.health_detail
        for text in former.sources:
            source = packed(text)
            self.sources[len(source)] = source
        self.router.acquaintances = self._acquaintances_of(former)

    def _acquaintances_of(self, former: PublishedRouter) -> Acquaintances:
        """Those of the router in the other process; an edit that came between the two is an edit."""
        met, addresses = map(packed, former.met), map(packed, former.former_addresses)
        known = Acquaintances(tuple(met), frozenset(addresses))
        before = [packed_interface(text)[0] for text in former.addresses]
        now = self.router.configuration
        families = tuple(
            replace(family, addresses=tuple(address for address in before if len(address) == family.width))
            for family in now.families
            if any(len(address) == family.width for address in before)
        )
        return known.after_edit(replace(now, families=families), now)

    def warn(self, about: str, text: str) -> None:
        """Something that people should know of it now; an empty text: no longer."""
        if text:
            self.warnings[about] = text
        else:
            self.warnings.pop(about, None)

    # ----- what is announced -----

    def prepare_announcements(self, forwards_ipv6: bool) -> None:
        """Gratuitous ARP and unsolicited neighbour advertisements, encoded once for the link."""
        self._forwards_ipv6 = forwards_ipv6
        if self.link is None:
            self.announcements = ()
            return
        mac = self.link.mac
        self.announcements = tuple(
            frames.gratuitous_arp(mac, address)
            if len(address) == 4
            else frames.unsolicited_neighbour_advertisement(mac, address, forwards_ipv6)
            for address in self.held_addresses
        )

    def questions_to_members(self) -> tuple[bytes, ...]:
        """An ARP request or a neighbour solicitation to every known member on the link."""
        if self.link is None:
            return ()
        return tuple(
            frames.arp_request(self.link.mac, family.source, member)
            if family.width == 4
            else frames.neighbour_solicitation(self.link.mac, family.source, member)
            for family in self.router.configuration.families
            for member in sorted(family.members or ())
        )

    def questions_for_addresses(self) -> tuple[bytes, ...]:
        """Who has our addresses? The probes of RFC 5227 section 2.1 and RFC 4862 section 5.4.2.

        Where those of some VirtualIPs are held and those of others are to be known first, these alone are asked for.
        """
        if self.link is None:
            return ()
        unasked = {address for sharer in self.sharers.values() if sharer.unasked for address, _ in sharer.addresses}
        return tuple(
            frames.arp_request(self.link.mac, bytes(4), address)
            if len(address) == 4
            else frames.neighbour_probe(self.link.mac, address)
            for address, _ in self.addresses
            if len(address) in self.served_widths and (not unasked or address in unasked)
        )


def moved(from_state: State, to_state: State) -> bool:
    """Whether the addresses moved: to this node, or away from it."""
    return State.MASTER in (from_state, to_state)


def first_by_vrid(
    instances: Mapping[str, Instance], before: Mapping[tuple[int, int, int], Instance], was_out: Set[str]
) -> dict[tuple[int, int, int], Instance]:
    """Who has the packets of a link (its index), a width and a virtual router ID.

    Who had them before; else the first by name, and of those that took part in the process before this one.
    """
    found: dict[tuple[int, int, int], Instance] = {}
    for name in sorted(instances, key=lambda name: (name in was_out, name)):
        instance = instances[name]
        for link, width in instance.listeners:
            key = link, width, instance.configuration.virtual_router_id
            if key not in found or before.get(key) is instance:
                found[key] = instance
    return found
