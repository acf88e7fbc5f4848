"""What must hold at every step of a simulation. Each law can fail: tests plant the bug that it is there for."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from holdfast_api.addresses import packed, packed_interface
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health, Reason, State
from holdfast_api.resources import HEALTHY_PRIORITY_MIN
from holdfast_speaker.engine.instance import RETRY_AFTER, Instance
from holdfast_speaker.engine.ports import ADDRESS_PROTOCOL, Datagram, KernelAddress, RemoveAddress, Request
from holdfast_speaker.host.closed_ports import CHECK_EVERY as CHECK_RULES_EVERY
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.configuration import band, failing_priority
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant, master_down_interval
from holdfast_speaker.vrrp.router import ASKS_AFTER_A_LONG_STALL
from holdfast_speaker.vrrp.states import Backup, CutOff, Master
from holdfast_testing.sim.machine import Host, Observer
from holdfast_testing.sim.packet_filter import TCP
from holdfast_testing.sim.world import CLIENT, CLIENT_V6, RECOVERY_HOLD, Violation, World

LIFETIME = Duration(SECOND)
"""ADR 0005: what a kernel keeps of addresses that nobody renews."""

EXPIRES_LATE = Duration(SECOND // 4)
"""How much later the kernel's timer may be."""

LACKING_BOUND = Duration(2 * SECOND)
DEAF_BOUND = Duration(3 * SECOND)

_ELSEWHERE = (packed("192.0.2.1"), packed("2001:db8::1"))
"""Behind the gateways."""


@dataclass(slots=True)
class Word:
    """The last advertisement of a source that got to a host's link."""

    at: Instant
    priority: int
    width: int


@dataclass(slots=True)
class Evidence:
    """What a host's sockets have heard of one virtual router, or could have."""

    since: Instant
    words: dict[bytes, Word] = field(default_factory=dict)


class Laws(Observer):
    """Watches a world; `check` is for what only time shows."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.watching.append(self)
        self.judged = 0
        """Takeovers that were judged."""
        self.excused = 0
        """Takeovers that nothing can be said of: what the host could have heard before was lost with a queue."""
        self._vips = frozenset(map(packed, ("10.0.0.200", "10.0.0.201", "10.0.0.240", "fd00::200", "fd00::201")))
        self._virtual_ip_of = {world.vrid(name): name for name in world.names}
        self._evidence: dict[tuple[str, str], Evidence] = {}
        self._rivals: dict[tuple[str, str, str], Instant] = {}
        self._stuck: dict[tuple[str, str], Instant] = {}
        self._master_since: dict[tuple[str, str], Instant] = {}
        self._spoke_at: dict[tuple[str, str, int], Instant] = {}
        self._deaf: dict[tuple[str, str, int], Instant] = {}
        self._lacking: dict[str, Instant] = {}
        self._superfluous: dict[str, Instant] = {}
        self._beside: dict[str, set[str]] = {}
        """Who held beside others when that was last seen, but for those who yielded and
        said so."""
        self._yielded: dict[tuple[str, str], Instant] = {}
        self._misled: dict[str, Instant] = {}
        self._seen: dict[str, int] = {}
        self._removed: dict[str, set[KernelAddress]] = {}
        self._own: dict[str, object] = {}
        options = world.options
        self.interval = interval = options.interval
        # Three intervals of the slowest, or of what a hand-over announces.
        silence = master_down_interval(options.version, 1, Duration(max(interval, SECOND)))
        lossy = 10 if options.loss else 3
        self.one_holder_bound = Duration(lossy * interval + 4 * options.slowest + LIFETIME + EXPIRES_LATE + SECOND // 2)
        """Two that hear each other: the next advertisement of one decides, lost ones aside. A killed or frozen engine's
        addresses go with their lifetime (ADR 0005)."""
        self.stuck_bound = Duration(2 * silence + RECOVERY_HOLD + RETRY_AFTER + lossy * interval + LIFETIME)
        """A healthy node takes over from a failing Master after its Skew_Time, not before its recovery hold is over,
        nor before it has heard that Master: a new quiet period and a hand-over's patience count, too."""
        self.calm = Duration(2 * silence + LIFETIME)
        """What happened before that explains nothing any more."""
        self.misled_bound = Duration(70 * SECOND if options.loss else 3 * SECOND)
        """How long a client may send to where a VIP was: announcements are repeated within the first seconds, and once
        a minute."""
        self.misled_bound_after_two = Duration(70 * SECOND)
        """The same where two held, which did not hear each other, and one of them left without a word; and where the
        holder's port did not forward what it announced."""
        for host in world.hosts.values():
            self._own[host.name] = _of_its_own(host)

    # ----- what is told -----

    def acted(self, host: Host) -> None:
        self._own[host.name] = _of_its_own(host)

    def reached(self, host: Host, index: int, datagram: Datagram) -> None:
        payload = datagram.payload
        virtual_ip = self._virtual_ip_of.get(payload[1])
        if virtual_ip is None or not host.wire.listeners():
            return
        evidence = self._evidence.get((host.name, virtual_ip))
        if evidence is None:
            evidence = self._evidence[host.name, virtual_ip] = Evidence(self.world.now)
        evidence.words[datagram.source] = Word(self.world.now, payload[2], len(datagram.source))

    def forget_what_was_heard(self, host: Host) -> None:
        """Its sockets are new, or what waited in them is lost."""
        for name in self.world.names:
            self._evidence[host.name, name] = Evidence(self.world.now)

    def sent(self, host: Host, advertisement: SendAdvertisement, errno: int) -> None:
        if not errno:
            virtual_ip = self._virtual_ip_of[advertisement.payload[1]]
            self._spoke_at[host.name, virtual_ip, len(advertisement.source)] = self.world.now
            beside = self._beside.get(virtual_ip, set())
            width = len(advertisement.source)
            is_heard = all(self.world.segment.passes(host.name, other, width) for other in beside - {host.name})
            if self._yielded.get((host.name, virtual_ip)) == self.world.now and is_heard:
                beside.discard(host.name)

    def requested(self, host: Host, request: Request, errno: int) -> None:
        if not errno and isinstance(request, RemoveAddress) and self._is_configured(host, request.address):
            self._removed.setdefault(host.name, set()).add(request.address)

    @staticmethod
    def _is_configured(host: Host, address: KernelAddress) -> bool:
        """Whether it is a VirtualIP's by the last configuration that the engine was told.

        Who stood still is told two edits in one turn, of which one takes it away and the next gives it back.
        """
        assert host.process is not None
        routers = host.process.engine.configuration.virtual_routers
        return any(packed_interface(text)[0] == address.address for router in routers for text in router.addresses)

    def moved(self, host: Host, move: Transition) -> None:
        if move.to_state is State.MASTER:
            self._master_since[host.name, move.virtual_ip] = self.world.now
            answering = set(self._answering(move.virtual_ip))
            if len(answering) > 1:
                self._beside[move.virtual_ip] = answering
            self._takes_over_with_a_reason(host, move)
            self._holds_its_recovery(host, move)
        elif move.from_state is State.MASTER and move.to_state is State.BACKUP:
            self._yielded[host.name, move.virtual_ip] = self.world.now
        self._no_edit_moves(host, move)
        self._incumbent_is_safe(host, move)
        self._successor_is_safe(host, move)

    def turned(self, host: Host) -> None:
        version = host.kernel_version
        if self._seen.get(host.name) == version and host.powered:
            return
        self._seen[host.name] = version
        if not host.powered:
            return
        self._keeps_its_own(host)
        self._no_hole(host)
        self._addresses_where_master(host)
        self._source_is_its_own(host)
        self._no_door_into_the_node(host)

    # ----- the kernel -----

    def _keeps_its_own(self, host: Host) -> None:
        """The host's own addresses and routes are what they were before Holdfast did anything."""
        now = _of_its_own(host)
        if now != self._own[host.name]:
            raise Violation(f"{host.name} has other addresses or routes of its own: {self._own[host.name]} -> {now}")

    def _no_door_into_the_node(self, host: Host) -> None:
        """Nothing of the host is reached through a closed VIP that is on its kernel, at any step."""
        world = self.world
        if not world.options.closed or self._may_be_exposed(host.name):
            return
        for link in host.kernel.interfaces.values():
            for one in (*link.v4, *link.v6):
                if one.protocol == ADDRESS_PROTOCOL and host.kernel.packet_filter.lets_in(one.address, TCP):
                    raise Violation(f"the ports of {host.name} are reached through {ip_address(one.address)}")

    def _may_be_exposed(self, name: str) -> bool:
        """Whether its packet filter was refused or flushed a moment ago; who stands still puts nothing back."""
        until = self.world.exposed.get(name)
        stall = self.world.stalls.get(name)
        if until is not None and stall is not None and stall.since <= until:
            ended = self.world.now if stall.until is None else stall.until
            until = max(until, Instant(ended + CHECK_RULES_EVERY))
        return until is not None and self.world.now <= until

    def _closes_nothing_else(self, host: Host) -> None:
        """A host's own addresses stay open, and the table goes with what it is for."""
        if not host.runs:
            return
        closed = host.kernel.packet_filter.closed or frozenset()
        wrong = closed - (self._vips if self.world.options.closed else frozenset())
        if wrong:
            raise Violation(f"{host.name} closes {', '.join(str(ip_address(one)) for one in sorted(wrong))}")

    def _no_hole(self, host: Host) -> None:
        """What does not change hands never leaves the kernel, also where one VirtualIP hands it to another."""
        removed = self._removed.pop(host.name, None)
        back = [address for address in removed or () if host.has_on_kernel(address)]
        if back:
            raise Violation(f"{host.name} took {ip_address(back[0].address)} off its kernel, and put it back")

    def _addresses_where_master(self, host: Host) -> None:
        """Promise 3: a running engine's kernel holds the addresses exactly while it is Master."""
        if not host.runs or host.name in self.world.refusing:
            return
        assert host.process is not None
        wanted: set[tuple[int, bytes]] = set()
        for instance in host.process.engine.instances.values():
            if instance.router.holds_addresses:
                wanted |= {(one.index, one.address) for one in instance.kernel_addresses}
        held = {
            (link.index, one.address)
            for link in host.kernel.interfaces.values()
            for one in (*link.v4, *link.v6)
            if one.protocol == ADDRESS_PROTOCOL
        }
        for wrong, since in (wanted - held, self._lacking), (held - wanted, self._superfluous):
            if wrong:
                since.setdefault(host.name, self.world.now)
            else:
                since.pop(host.name, None)

    def _has_what_it_should(self, host: Host) -> None:
        """What somebody takes away from a Master is back soon, or an obstacle; what a former process left expires."""
        self._addresses_where_master(host)
        for since in self._lacking, self._superfluous:
            if not host.runs or host.name in self.world.refusing:
                since.pop(host.name, None)
            elif host.name in since:
                lasting = self.world.now - max(since[host.name], self._disturbed(host.name))
                if lasting > LACKING_BOUND:
                    what = "has not what it should hold" if since is self._lacking else "holds what it should not"
                    raise Violation(f"for {lasting / 1e9:.3f} s the kernel of {host.name} {what}")

    def _source_is_its_own(self, host: Host) -> None:
        """The VIP is never the source of the host's own traffic, as long as the host has an address that could be."""
        for width, neighbour, elsewhere in ((4, CLIENT, _ELSEWHERE[0]), (16, CLIENT_V6, _ELSEWHERE[1])):
            if width == 16 and not self.world.options.two_families:
                continue
            has_own = any(
                one.protocol != ADDRESS_PROTOCOL and one.prefix_length < 8 * width and one.scope == 0
                for link in host.kernel.interfaces.values()
                for one in (link.v4 if width == 4 else link.v6)
            )
            for destination in (neighbour, elsewhere) if has_own else (elsewhere,) if width == 4 else ():
                source = host.kernel.source_for(destination)
                if source in self._vips:
                    raise Violation(f"{host.name} would send to {ip_address(destination)} from {ip_address(source)}")

    # ----- takeovers -----

    def _takes_over_with_a_reason(self, host: Host, move: Transition) -> None:
        """Promise 1, and RFC 9568 section 6.4.2: nobody takes a VIP from a Master that is as healthy, or (without
        nopreempt) has no lower priority, and whose advertisement got to its link within three intervals.

        It does not matter what else was lost, whether the engine has read it yet, or what the engine believes.
        """
        world, now, interval = self.world, self.world.now, self.interval
        instance = host.instance(move.virtual_ip)
        if instance is None:
            return
        evidence = self._evidence.get((host.name, move.virtual_ip))
        if evidence is not None and now - evidence.since < 3 * interval:
            self.excused += 1
            return
        self.judged += 1
        if move.reason is Reason.SWITCHOVER:
            if now - world.wished_at > 3 * interval + SECOND:
                raise Violation(f"{host.name} took over because of a wish, and nobody had one: {move.message}")
            return
        mine = instance.router.configuration
        own = _own_priority(instance)
        words = evidence.words if evidence is not None else {}
        decisive = words.get(packed(move.peer)) if move.peer else None
        for source, word in words.items():
            age = now - word.at
            # Who is not silent, but failing or gone, was heard after whoever was heard an interval ago.
            counts = 3 if move.reason in (Reason.MASTER_SILENT, Reason.NO_MASTER_HEARD) else 1
            if age >= counts * interval * 99 // 100 or word.width not in instance.served_widths:  # clocks drift
                continue
            stays = band(word.priority) >= band(own) and (mine.nopreempt or word.priority >= own)
            other = self._master_at(source, move.virtual_ip)
            if word.priority and stays and other and word.at > self._master_since.get((other, move.virtual_ip), 0):
                if not mine.nopreempt and decisive is not None and decisive.at > word.at:
                    # In a preempting group: the successor of who asked to be replaced overtook that on its way.
                    self.judged, self.excused = self.judged - 1, self.excused + 1
                    return
                told = f"{other}, which was heard {age / 1e9:.3f} s ago with priority {word.priority}"
                raise Violation(f"{host.name} took over from {told}: {move.reason}, {move.message}")

    def _master_at(self, source: bytes, virtual_ip: str) -> str:
        """The host that sends from an address, if it runs and is Master."""
        world = self.world
        if world.foreign is not None and source == world.foreign.router.source and world.foreign.router.master:
            return "foreign"
        for name, host in world.hosts.items():
            instance = host.instance(virtual_ip)
            if host.runs and instance is not None and source in instance.sources.values():
                return name if instance.router.holds_addresses else ""
        return ""

    def _holds_its_recovery(self, host: Host, move: Transition) -> None:
        """ADR 0007: who has just recovered leaves a failing holder its time, whatever happens to engines meanwhile."""
        recovered_at = self.world.recovered_at.get(host.name)
        if move.reason is not Reason.MASTER_FAILING or recovered_at is None:
            return
        if (passed := self.world.now - recovered_at) < RECOVERY_HOLD * 99 // 100:  # clocks drift
            raise Violation(f"{host.name} recovered {passed / 1e9:.3f} s ago and took over from one that fails")

    def _no_edit_moves(self, host: Host, move: Transition) -> None:
        """An edit that does not ask for a move moves nothing."""
        world = self.world
        if State.MASTER not in (move.from_state, move.to_state) or world.loss:
            return
        since, quiet = world.now - world.edited_at, world.edited_at - max(world.disturbed.values())
        if 0 <= since < self.calm and quiet > self.calm:
            raise Violation(f"{host.name} moved {since / 1e9:.3f} s after an edit: {move.reason}, {move.message}")

    def _incumbent_is_safe(self, host: Host, move: Transition) -> None:
        """ADR 0020: among known members nobody whose port forwarded late takes the VIP from who held it meanwhile."""
        world = self.world
        options = world.options
        if move.from_state is not State.MASTER or move.to_state is not State.BACKUP:
            return
        if not (options.nopreempt and options.members_known) or move.reason is Reason.SWITCHOVER or world.loss:
            return
        taker = self._host_at(move.peer)
        instance = host.instance(move.virtual_ip)
        if taker is None or instance is None or band(instance.router.configuration.priority) != 1:
            return
        since = self._master_since.get((taker.name, move.virtual_ip), Instant(0))
        began_deaf = world.late_since.get(taker.name, Instant(0)) <= since <= world.open_at.get(taker.name, Instant(0))
        undisturbed = world.disturbed[host.name] < since - self.calm
        own_priority = world.priorities[world.number(host.name)]
        healthy = host.health[move.virtual_ip] is Health.HEALTHY and not instance.partial
        if began_deaf and undisturbed and healthy and own_priority > 50:
            raise Violation(f"{host.name} held, and lost to {taker.name}, whose port forwarded late: {move.message}")

    def _successor_is_safe(self, host: Host, move: Transition) -> None:
        """ADR 0032: with nopreempt who took over from one that stood still keeps the VIP when that one runs again.

        Judged where nothing else happened since: to nobody after the stall, and to the successor for a while before.
        """
        world = self.world
        if move.from_state is not State.MASTER or move.to_state is not State.BACKUP or world.loss or world.cuts:
            return
        taker, instance = self._host_at(move.peer), host.instance(move.virtual_ip)
        stall = world.stalls.get(taker.name) if taker is not None else None
        if taker is None or stall is None or stall.until is None or stall.process is not taker.process:
            return
        since = self._master_since.get((host.name, move.virtual_ip), Instant(0))
        took_over = stall.since < since <= stall.until and stall.until - stall.since > 4 * self.interval
        happened = max(max(world.disturbed.values()), world.edited_at, world.wished_at)
        quiet = happened <= stall.until and world.disturbed[host.name] < stall.since - self.calm
        own = world.stalls.get(host.name)
        asks = own is not None and (own.until is None or stall.until - own.until < ASKS_AFTER_A_LONG_STALL + SECOND)
        other = taker.instance(move.virtual_ip)
        if not world.options.nopreempt or not took_over or not quiet or asks or instance is None or other is None:
            return
        mine, theirs = _own_priority(instance), _own_priority(other)
        if band(mine) >= band(theirs) and not (mine == HEALTHY_PRIORITY_MIN and world.options.members_known):
            raise Violation(f"{host.name} took over, and lost to {taker.name}, which had stood still: {move.message}")

    def _host_at(self, address: str) -> Host | None:
        for name, host in self.world.hosts.items():
            if address and packed(address) in {own for own, _ in self.world.own_addresses(name)}:
                return host
        return None

    # ----- from time to time -----

    def check(self) -> None:
        """What is a matter of how long it lasts."""
        for host in self.world.hosts.values():
            self._has_what_it_should(host)
            self._closes_nothing_else(host)
        for virtual_ip in self.world.names:
            answering = self._answering(virtual_ip)
            self._one_holder_that_answers(virtual_ip, answering)
            self._nobody_is_stuck(virtual_ip)
            self._clients_find_it(virtual_ip, answering)
            for host in self.world.hosts.values():
                instance = host.instance(virtual_ip)
                if instance is not None:
                    self._nobody_is_deaf(host, instance)
                    self._nobody_is_dumb(host, instance)

    def _address(self, virtual_ip: str) -> bytes:
        return packed_interface(self.world.addresses(virtual_ip)[0])[0]

    def _answering(self, virtual_ip: str) -> list[str]:
        address = self._address(virtual_ip)
        found = [name for name, host in self.world.hosts.items() if host.answers(address)]
        foreign = self.world.foreign
        if foreign is not None and foreign.router.master and virtual_ip == self.world.names[0]:
            found.append("foreign")
        return found

    def _disturbed(self, *names: str) -> Instant:
        return max((self.world.disturbed[name] for name in names if name in self.world.disturbed), default=Instant(0))

    def _one_holder_that_answers(self, virtual_ip: str, answering: list[str]) -> None:
        """Promise 3: two that hear each other do not both answer for longer than the protocol needs."""
        now = self.world.now
        pairs = {
            (virtual_ip, one, other)
            for index, one in enumerate(answering)
            for other in answering[index + 1 :]
            if self.world.connected(one, other)
        }
        for pair in [pair for pair in self._rivals if pair[0] == virtual_ip and pair not in pairs]:
            del self._rivals[pair]
        for pair in pairs:
            since = max(self._rivals.setdefault(pair, now), self._disturbed(*pair[1:]))
            if now - since > self.one_holder_bound:
                raise Violation(f"{pair[1]} and {pair[2]} both answer for {(now - since) / 1e9:.3f} s ({virtual_ip})")

    def _nobody_is_stuck(self, virtual_ip: str) -> None:
        """Promise 1: no failing node goes on holding for long while a healthy one hears it and is heard."""
        world = self.world
        for holder in world.hosts.values():
            key = (holder.name, virtual_ip)
            instance = holder.instance(virtual_ip)
            fails = instance is not None and band(_own_priority(instance)) == 0 and instance.router.holds_addresses
            healthier = [
                other.name
                for other in world.hosts.values()
                if fails and other is not holder and self._is_healthy(other, virtual_ip)
                if world.connected(holder.name, other.name)
            ]
            if not healthier or not holder.runs:
                self._stuck.pop(key, None)
                continue
            since = max(
                self._stuck.setdefault(key, world.now),
                self._disturbed(holder.name, *healthier),
                world.edited_at,
                *world.cuts.values(),
            )
            if world.now - since > self.stuck_bound:
                names = ", ".join(healthier)
                raise Violation(f"{holder.name} fails and holds for {(world.now - since) / 1e9:.3f} s beside {names}")

    @staticmethod
    def _is_healthy(host: Host, virtual_ip: str) -> bool:
        instance = host.instance(virtual_ip)
        if instance is None or not host.runs or instance.router.obstacles:
            return False
        return band(_own_priority(instance)) == 1

    def _nobody_is_deaf(self, host: Host, instance: Instance) -> None:
        """Who takes part in an election hears its link, or says what is in the way."""
        takes_part = host.runs and isinstance(instance.router.state, Backup | Master) and not instance.router.obstacles
        for listener in instance.listeners:
            key = (host.name, instance.name, listener.width)
            served = listener.width in instance.served_widths
            if not takes_part or not served or host.wire.is_member(listener):
                self._deaf.pop(key, None)
                continue
            since = max(self._deaf.setdefault(key, self.world.now), self._disturbed(host.name))
            if self.world.now - since > DEAF_BOUND:
                told = f"{(self.world.now - since) / 1e9:.3f} s, and says nothing of it"
                raise Violation(f"{host.name} is deaf in the family of width {listener.width} for {told}")

    def _nobody_is_dumb(self, host: Host, instance: Instance) -> None:
        """Who is Master is heard, or says what is in the way."""
        state = instance.router.state
        if not host.runs or not isinstance(state, Master) or isinstance(state.cut_off, CutOff):
            return
        master_since = self._master_since.get((host.name, instance.name), Instant(0))
        for width in instance.served_widths:
            spoke_at = self._spoke_at.get((host.name, instance.name, width), Instant(0))
            silent = self.world.now - max(spoke_at, master_since, self._disturbed(host.name), self.world.edited_at)
            if silent > 4 * self.interval + SECOND:
                told = f"{silent / 1e9:.3f} s, and says nothing of it"
                raise Violation(f"{host.name} is Master and dumb in the family of width {width} for {told}")

    def _clients_find_it(self, virtual_ip: str, answering: list[str]) -> None:
        """Where a VIP answers is where its holder is, also for who knew it somewhere else."""
        world = self.world
        if len(answering) > 1:
            self._beside[virtual_ip] = set(answering)
        if len(answering) != 1 or not world.connected("client", answering[0]):
            self._misled.pop(virtual_ip, None)
            return
        (holder,) = answering
        if holder == "foreign":
            return  # it says so once, and that may be lost
        if world.client.wire.where(self._address(virtual_ip)) == holder:
            self._misled.pop(virtual_ip, None)
            self._beside.pop(virtual_ip, None)
            return
        since = max(self._misled.setdefault(virtual_ip, world.now), self._disturbed(holder))
        left_without_a_word = self._beside.get(virtual_ip, {holder}) - {holder}
        spoke_to_nobody = world.now - world.open_at.get(holder, Instant(0)) < self.misled_bound_after_two
        bound = self.misled_bound_after_two if left_without_a_word or spoke_to_nobody else self.misled_bound
        if world.now - since > bound:
            raise Violation(f"{holder} holds {virtual_ip}, and for {bound / 1e9:.0f} s a client does not find it")

    def settled(self) -> None:
        """After everything was mended and the bounds have passed: one of the healthiest holds, and nobody else."""
        for virtual_ip in self.world.names:
            self._one_of_the_healthiest_holds(virtual_ip)
        wanted = self.world.vips() if self.world.options.closed else frozenset()
        for host in self.world.hosts.values():
            if (closed := host.kernel.packet_filter.closed or frozenset()) != wanted:
                raise Violation(f"after everything was mended {host.name} closes {sorted(map(ip_address, closed))}")

    def _one_of_the_healthiest_holds(self, virtual_ip: str) -> None:
        world = self.world
        answering = self._answering(virtual_ip)
        found = {name: instance for name, host in world.hosts.items() if (instance := host.instance(virtual_ip))}
        candidates = {name: one for name, one in found.items() if not one.router.obstacles}
        has_foreign = world.foreign is not None and virtual_ip == world.names[0]
        if len(answering) != 1 and (candidates or has_foreign):
            raise Violation(f"after everything was mended these hold {virtual_ip}: {answering}")
        out = {name: sorted(one.router.obstacles) for name, one in found.items() if one.router.obstacles}
        for name, obstacles in out.items():
            if obstacles != ["ServiceFailed"]:
                raise Violation(f"after everything was mended {name} is out: {', '.join(obstacles)}")
        if not answering or has_foreign:
            return
        priorities = {name: _own_priority(instance) for name, instance in candidates.items()}
        holder, best = priorities[answering[0]], max(priorities.values())
        if band(holder) < band(best):
            raise Violation(f"{answering[0]} holds in a lower band than another's")
        state = found[answering[0]].router.state
        has_a_wish = isinstance(state, Master) and state.wish is not None
        if not world.options.nopreempt and holder < best and not has_a_wish:
            raise Violation(f"{answering[0]} holds, though another has a higher priority and preempts")


def _own_priority(instance: Instance) -> int:
    """What it advertises but for wishes and for what it has no proof of."""
    router = instance.router
    if router.health is Health.HEALTHY and not router.configuration.partial:
        return router.configuration.priority
    return failing_priority(router.configuration.priority)


def _of_its_own(host: Host) -> object:
    """The addresses and routes of a host that are not Holdfast's.

    Without them: routes on a link that has no other address than Holdfast's, which the kernel would have removed.
    """
    links = host.kernel.interfaces.values()
    addresses = [
        (link.index, str(ip_address(one.address)), one.prefix_length, one.secondary)
        for link in links
        if not link.loopback
        for one in (*link.v4, *link.v6)
        if one.protocol != ADDRESS_PROTOCOL
    ]
    routes = [
        (route.index, str(ip_address(route.network)), route.prefix_length, route.metric)
        for route in host.kernel.routes
        if not route.local and route.protocol != ADDRESS_PROTOCOL
        if any(one[0] == route.index and (":" in one[1]) == (len(route.network) == 16) for one in addresses)
    ]
    return sorted(addresses), sorted(routes)
