"""The engine: every VirtualIP of this node, what they need of links and addresses, and what comes of it.

Data flows one way: datagrams in, advertisements, decisions of the core, kernel addresses, packets out. Nothing here
waits or reads a clock: it is given a kernel, a wire and a log (ports.py), and the time with every call. Who calls it,
and in which order, is turn.py.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence, Set
from ipaddress import ip_address

import msgspec
from msgspec import Struct

from holdfast_api.addresses import packed_interface
from holdfast_api.errors import ConfigurationError
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.engine import conflicts
from holdfast_speaker.engine.addresses import AddressesCheckpoint, Changes, HeldAddresses, text
from holdfast_speaker.engine.conflicts import (
    ASK_AGAIN_AFTER,
    ASK_AGAIN_FIRST_AFTER,
    Conflicts,
    ConflictsCheckpoint,
)
from holdfast_speaker.engine.deadlines import Deadlines
from holdfast_speaker.engine.door import OPEN, Door
from holdfast_speaker.engine.errnos import told
from holdfast_speaker.engine.hearing import Hearing, HearingCheckpoint
from holdfast_speaker.engine.host_ports import HostPorts, HostPortsCheckpoint
from holdfast_speaker.engine.instance import QUIET_PERIOD, RETRY_AFTER, Instance, InstanceCheckpoint, first_by_vrid
from holdfast_speaker.engine.lateness import LatenessHistogram
from holdfast_speaker.engine.links import interface_for
from holdfast_speaker.engine.listening import Listening, ListeningCheckpoint
from holdfast_speaker.engine.ports import (
    OWN_HOST,
    AddressAdded,
    AddressRemoved,
    Clock,
    Datagram,
    Event,
    Kernel,
    KernelAddress,
    Link,
    LinkChanged,
    Listener,
    Log,
    NeighbourAnswer,
    NextHopsChanged,
    PortsClosed,
    Wire,
)
from holdfast_speaker.engine.refusals import Refusals
from holdfast_speaker.engine.reports import find_virtual_ip, published_router, transition_message
from holdfast_speaker.engine.sending import Sending, SendingCheckpoint
from holdfast_speaker.engine.sharers import Sharers
from holdfast_speaker.engine.sharing import LastMove, common_health, with_others
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.engine.strangers import Strangers, StrangersCheckpoint
from holdfast_speaker.vrrp.actions import (
    NOTHING,
    Action,
    Actions,
    AnnounceAddresses,
    Refused,
    SendAdvertisement,
    Transitioned,
)
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import Advertisement, PacketError
from holdfast_speaker.vrrp.states import Backup, FirstHold
from holdfast_speaker.vrrp.states import Listening as HeardNobody

_NOT_OF_THE_MACHINE = frozenset({Obstacle.SERVICE_FAILED, Obstacle.STOPPED, Obstacle.ADDRESS_CONFLICT})
"""Obstacles that do not go by a look at links and addresses."""

_OF_ADDRESSES = frozenset({Obstacle.ADDRESS_CONFLICT, Obstacle.KERNEL_REFUSED})
"""Obstacles of single addresses, found out where they are about to be held."""

_COMES_BACK = (
    "; it has nopreempt: false, and so it will come back to the healthy host with the highest priority"
    " (on {} itself, the same command has it stay)"
)
_COMES_BACK_LATER = (
    "; it has nopreempt: false, and so it will come back to the healthy host with the highest priority"
    " when {} gives it up or starts anew"
)

_ASK_WHILE_HELD_AFTER = Duration(4 * SECOND)
"""How long after a takeover an answer for the addresses may still be the former holder's."""


class EngineCheckpoint(Struct, frozen=True):
    """Everything that decides what an engine does next: what each of its parts knows."""

    configuration: SpeakerConfiguration
    instances: list[InstanceCheckpoint]
    addresses: AddressesCheckpoint
    listening: ListeningCheckpoint
    hearing: HearingCheckpoint
    conflicts: ConflictsCheckpoint
    sending: SendingCheckpoint
    strangers: StrangersCheckpoint
    deadlines: dict[str, Instant]
    neighbours_of: frozenset[int]
    deaf_to_neighbours: dict[int, int]
    prove_at: dict[str, tuple[Instant, int]]
    former: list[PublishedRouter]
    former_seen_at: Instant
    left: list[PublishedRouter] | None
    door: Door = OPEN
    put_off: SpeakerConfiguration | None = None
    host_ports: HostPortsCheckpoint = HostPortsCheckpoint()
    nominees: dict[str, str] = {}


class Engine:
    """All that runs on this node. Not thread-safe: one loop owns it.

    The constructor raises EnvironmentFailure where the kernel does not tell its links and addresses. `overhears`:
    listen also on links where no VIP of ours lives, for the virtual routers of others. `door`: what it may hold.
    """

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
        self.node_name = node_name
        self.door = door
        self.started = clock.timestamp()
        self.configuration = SpeakerConfiguration(node_name=node_name)
        """What is in force."""
        self._put_off: SpeakerConfiguration | None = None
        """What was asked for last, where an edit in it is refused: it is tried again when the next hops are others."""
        self.instances: dict[str, Instance] = {}
        self.lateness = LatenessHistogram()
        self.addresses = HeldAddresses(kernel, log)
        self.table = self.addresses.table
        self.host_ports = HostPorts(kernel, log)
        self.strangers = Strangers()
        self.refusals = Refusals(log)
        self.transitions: list[Transition] = []
        """What happened since somebody last took it from here."""
        self.is_unpublished = False
        """Whether the next engine should be told something that it has not been told."""
        self._kernel = kernel
        self._wire = wire
        self._clock = clock
        self._log = log
        self._listening = Listening(wire, self.table, overhears=overhears)
        self._hearing = Hearing(wire)
        self._conflicts = Conflicts(wire)
        self._sending = Sending(wire, log)
        self._sharers = Sharers(self.addresses, clock, log, self._note_transition)
        self._deadlines = Deadlines()
        self._by_vrid: dict[tuple[int, int, int], Instance] = {}
        self._by_address: dict[bytes, list[Instance]] = {}
        self._neighbours_of: frozenset[int] = frozenset()
        self._deaf_to_neighbours: dict[int, int] = {}
        self._forwards_ipv6: dict[str, bool] = {}
        self._prove_at: dict[str, tuple[Instant, int]] = {}
        self._former: dict[str, PublishedRouter] = {}
        self._former_seen_at = Instant(0)
        self._left: Collection[PublishedRouter] | None = ()
        self._nominees: Mapping[str, str] = {}

    def checkpoint(self) -> EngineCheckpoint:
        """Everything that this engine knows now, as values. What people are told of refusals decides nothing."""
        return EngineCheckpoint(
            configuration=self.configuration,
            instances=[instance.checkpoint() for instance in self.instances.values()],
            addresses=self.addresses.checkpoint(),
            listening=self._listening.checkpoint(),
            hearing=self._hearing.checkpoint(),
            conflicts=self._conflicts.checkpoint(),
            sending=self._sending.checkpoint(),
            strangers=self.strangers.checkpoint(),
            deadlines=self._deadlines.checkpoint(),
            neighbours_of=self._neighbours_of,
            deaf_to_neighbours=dict(self._deaf_to_neighbours),
            prove_at=dict(self._prove_at),
            former=list(self._former.values()),
            former_seen_at=self._former_seen_at,
            left=None if self._left is None else list(self._left),
            door=self.door,
            put_off=self._put_off,
            host_ports=self.host_ports.checkpoint(),
            nominees=dict(self._nominees),
        )

    def restore(self, known: EngineCheckpoint) -> None:
        """Know what another engine knew, to go on from there. Nobody is asked anything."""
        self.configuration = known.configuration
        self.instances = {item.configuration.name: Instance.restored(item) for item in known.instances}
        self.addresses.restore(known.addresses)
        self._listening.restore(known.listening)
        self._hearing.restore(known.hearing)
        self._conflicts.restore(known.conflicts)
        self._sending.restore(known.sending)
        self.strangers.restore(known.strangers)
        self._deadlines.restore(known.deadlines)
        self._neighbours_of = known.neighbours_of
        self._deaf_to_neighbours = dict(known.deaf_to_neighbours)
        self._prove_at = dict(known.prove_at)
        self._former = {router.virtual_ip: router for router in known.former}
        self._former_seen_at = known.former_seen_at
        self._left = known.left
        self.door = known.door
        self.host_ports.restore(known.host_ports)
        self._put_off = known.put_off
        self._nominees = known.nominees
        in_use = Obstacle.VIRTUAL_ROUTER_ID_IN_USE
        out = {name for name, instance in self.instances.items() if in_use in instance.router.obstacles}
        self._by_vrid = first_by_vrid(self.instances, {}, out)
        self._index_addresses(self.instances.values())

    # ----- configuration -----

    def go_on_from(self, former: Iterable[PublishedRouter], seen_at: Instant) -> None:
        """Take what another process left, which was seen to run at `seen_at`, with the next configuration."""
        self._former = {router.virtual_ip: router for router in former}
        self._former_seen_at = seen_at

    def clean_up_after(self, former: Collection[PublishedRouter]) -> None:
        """What these held is to be gone with the next configuration, unless it is held again."""
        self._left = former

    def expect_first_holds(self, nominees: Mapping[str, str]) -> None:
        """The node that is to hold each of these virtual routers first, by their names, of those that are new with the
        next configuration. It is no part of that, so that no engine acts on it that starts anew.
        """
        self._nominees = nominees

    def configure(self, configuration: SpeakerConfiguration, now: Instant) -> None:
        """Run this from now on. What did not change is not disturbed.

        An address that changes hands between VirtualIPs does not leave the kernel; first is taken off what the change
        takes, then is given. An edit that the door refuses leaves that VirtualIP as it is.
        """
        wanted = {item.name: item for item in configuration.virtual_routers}
        self._hearing.begin(now)
        self._rename(wanted, now)
        self._put_off = None
        if self._refuse_edits(wanted):
            self._put_off = configuration
            in_force = [wanted[item.name] for item in configuration.virtual_routers]
            configuration = msgspec.structs.replace(configuration, virtual_routers=in_force)
        leaving = []
        for name, instance in self.instances.items():
            if name not in wanted or instance.becomes_another_router(wanted[name]):
                leaving.append(instance)
            elif instance.configuration != wanted[name]:
                self._change(instance, wanted[name], now)
                self._sending.begin_anew(instance)
                instance.work_out_kernel_addresses()  # it may be given what leaves
                if Obstacle.ADDRESS_CONFLICT in instance.router.obstacles:
                    instance.retry_at = now  # it may be about other addresses now
        self._index_addresses(instance for instance in self.instances.values() if instance not in leaving)
        for instance in leaving:
            self._remove(instance, now)
        for name, item in wanted.items():
            if name not in self.instances:
                self.instances[name] = Instance(item, LastMove(self._clock.timestamp()))
                if name in self._former:
                    self.instances[name].inherit(self._former[name])
                    self._ask_first(self.instances[name], now)
        for instance in self.instances.values():
            instance.outside = "" if instance.sharers else self.door.why_not(instance.addresses)
            self._judge(instance)
        self.configuration = configuration
        self._index_addresses(self.instances.values())
        self.strangers.know(configuration.node_addresses)
        former = None if self._left is None else self._remove_leftovers(self._left)
        self._left = None
        self._look(list(self.instances.values()), now)
        if former is not None:
            self.host_ports.open_of(former)
        self._former.clear()
        self._nominees = {}
        self.is_unpublished = True

    def _rename(self, wanted: Mapping[str, VirtualRouterConfiguration], now: Instant) -> None:
        """A VirtualIP of another name, whose virtual router on the link is the same: it goes on under that name."""
        names = self._new_names(wanted)
        going = [(former, name, self.instances.pop(former)) for former, name in names.items()]
        owned = {former: self.addresses.owned(former) for former in names}
        proofs = {former: self._prove_at.pop(former) for former in names if former in self._prove_at}
        for former, name, instance in going:
            self._log.info(f"{former} goes on as {name}: it is the same virtual router", virtualIP=name)
            self._forget(former)
            for key in owned[former]:
                self.addresses.change_hands(key, name)
            self._deadlines.set(former, None)
            if former in proofs:
                self._prove_at[name] = proofs[former]
            self.instances[name] = instance
            self._change(instance, wanted[name], now)
            instance.work_out_kernel_addresses()

    def _new_names(self, wanted: Mapping[str, VirtualRouterConfiguration]) -> dict[str, str]:
        """Which VirtualIPs go on under which name; two may swap theirs, and one may leave its own to a new one."""
        before = {name: _on_the_link(instance.configuration) for name, instance in self.instances.items()}
        after = {name: _on_the_link(item) for name, item in wanted.items()}
        new = {on_the_link: name for name, on_the_link in after.items() if before.get(name) != on_the_link}
        names = {
            former: new[on_the_link]
            for former, on_the_link in before.items()
            if after.get(former) != on_the_link and on_the_link in new
        }
        while taken := [former for former, name in names.items() if name in self.instances and name not in names]:
            for former in taken:
                del names[former]
        return names

    def _change(self, instance: Instance, configuration: VirtualRouterConfiguration, now: Instant) -> None:
        """Another configuration of the same virtual router. Who shares it no longer is told to be removed."""
        before = instance.sharers
        instance.change(configuration)
        self._sharers.change(instance, before, now)
        self._ask_first(instance, now)

    def _ask_first(self, instance: Instance, now: Instant) -> None:
        """Before new addresses join those that are held, it is asked whether somebody else has them."""
        if any(sharer.unasked for sharer in instance.sharers.values()):
            self._conflicts.begin(instance, now)

    def _refuse_edits(self, wanted: dict[str, VirtualRouterConfiguration]) -> bool:
        """Have VirtualIPs whose edit asks for what may not be held stay what they are; whether there was one."""
        refused = False
        for name, instance in self.instances.items():
            item = wanted.get(name)
            if item is None or instance.refusal or item.virtual_ips:  # of those that share it each is judged by itself
                continue
            why = ""
            instance.note_what_is_in_force()
            if item.addresses != instance.configuration.addresses:
                addresses = tuple(map(packed_interface, item.addresses))
                why = self._why_not_permitted(instance, addresses)
            if why:
                refused = True
                wanted[name] = instance.configuration
                if instance.warnings.get("edit") != f"an edit is refused: {why}":
                    self._log.error(f"an edit is refused: {why}", virtualIP=name)
            instance.warn("edit", f"an edit is refused: {why}" if why else "")
        return refused

    def _judge(self, instance: Instance) -> bool:
        """Find out whether a VirtualIP may be held here now; whether that is new."""
        instance.note_what_is_in_force()
        before = instance.refusal
        is_new = False
        if instance.sharers:
            is_new = self._sharers.judge(instance, lambda addresses: self._why_not_permitted(instance, addresses))
        else:
            instance.refusal = instance.outside or self._why_no_next_hop(instance, instance.addresses)
        if is_new:
            instance.prepare_announcements(self._forwards_on(instance))
        permitted = instance.permitted_addresses
        led = self._leads_through(instance, [item for item in instance.addresses if item[0] in permitted])
        if led and instance.warnings.get("next hop") != led:
            self._log.warning(led, virtualIP=instance.name)
        instance.warn("next hop", led)
        return is_new or instance.refusal != before

    def _why_not_permitted(self, instance: Instance, addresses: Sequence[tuple[bytes, int]]) -> str:
        return self.door.why_not(addresses) or self._why_no_next_hop(instance, addresses)

    def _why_no_next_hop(self, instance: Instance, addresses: Iterable[tuple[bytes, int]]) -> str:
        """In a pod a next hop is not held, as all of the node's traffic goes to it. One that was in force before the
        route was stays, and is told: a route must not take a VIP away from who uses it (ADR 0030)."""
        if not self.door.refuses_next_hops:
            return ""
        return self._leads_through(instance, [item for item in addresses if item[0] not in instance.in_force])

    def _leads_through(self, instance: Instance, addresses: Iterable[tuple[bytes, int]]) -> str:
        """A sentence about an address that is a next hop of this host; empty: none is."""
        if not self.table.next_hops:
            return ""
        own = instance.link.index if instance.link is not None else None
        for address, _ in addresses:
            index = self.table.next_hop_on(address, own)
            if index is not None:
                link = self.table.by_index.get(index)
                where = f" on {link.name}" if link is not None else ""
                return f"a route of this host leads through {ip_address(address)}{where}"
        return ""

    def _index_addresses(self, instances: Iterable[Instance]) -> None:
        self._by_address = {}
        for instance in instances:
            for address in instance.permitted_addresses:  # what is not ours to hold may be the host's own
                self._by_address.setdefault(address, []).append(instance)

    def _remove(self, instance: Instance, now: Instant) -> None:
        self._carry_out(instance, instance.router.stop(now, Reason.REMOVED), now)
        name = instance.name
        self._forget(name)
        self._prove_at.pop(name, None)
        self._deadlines.set(name, None)
        del self.instances[name]

    def _forget(self, name: str) -> None:
        """What the parts of this engine know of it by its name."""
        for part in (self._sending, self.refusals, self._conflicts, self._hearing, self.host_ports):
            part.forget(name)

    def _remove_leftovers(self, left: Collection[PublishedRouter]) -> Set[bytes]:
        """At the start: what a predecessor put there, by this configuration or by its own last state, goes.

        Returns every address that it may have had.
        """
        former = list(self._former.values()) or list(left)
        known = {packed_interface(told)[0] for router in former for told in router.addresses}
        self.addresses.claim(known)
        known.update(*(instance.address_set for instance in self.instances.values()))
        for name, router in self._former.items():
            instance = self.instances.get(name)
            if router.state is State.MASTER and instance is not None and not instance.refusal:
                known -= instance.address_set  # it goes on, and keeps them
        closed = known | {address for instance in self.instances.values() for address in instance.address_set}
        for leftover in self.addresses.remove_leftovers(known):
            self._log.info("removed an address that a former engine left", address=text(leftover))
        return closed

    # ----- links and addresses of the machine -----

    def take_in(self, now: Instant) -> None:
        """Links or addresses changed. Carrier and interface loss act at once."""
        self._act_on(self.addresses.take_in(now), now)

    def _act_on(self, changes: Changes, now: Instant) -> None:
        for event in changes.events or ():
            if isinstance(event, PortsClosed):
                self.host_ports.take_in(event)
        for instance in self.instances.values():
            taken = changes.put_back & self.addresses.owned(instance.name) if changes.put_back else frozenset()
            if taken:
                self._tell_put_back(instance, taken)
        self._listening.doubt(changes)
        if changes.gone & self._neighbours_of:  # a link with the same index may be there again
            self._neighbours_of -= changes.gone
            self._wire.hear_neighbours(self._neighbours_of)
        if changes.gone or changes.events is None:
            # One with the same index may be there by now: that is another link.
            self.strangers.keep_links(self.table.by_index.keys() - changes.gone)
        self._lose_proofs(changes)
        changed = self.table.by_index.keys() if changes.events is None else changes.changed | changes.gone
        self._hearing.change(changed, now)
        for instance in self.instances.values():
            if instance.link is not None and instance.link.index in changes.gone:
                self._leave_link(instance, now)
        has_other_next_hops = changes.events and any(isinstance(event, NextHopsChanged) for event in changes.events)
        if has_other_next_hops and self._put_off is not None:
            self.configure(self._put_off, now)
        elif changes.events is None:
            self._look(list(self.instances.values()), now)
        elif changes.events or changes.gone:
            concerned = self._concerned(changes.events, subnets_changed=changes.subnets_changed)
            if concerned or changes.gone:
                self._look(concerned, now)

    def _lose_proofs(self, changes: Changes) -> None:
        """What was heard on a link before it was cut off says nothing any more, also where it is back already."""
        if changes.events is None:
            told = list(self.table.by_index.values())
        else:
            told = [event.link for event in changes.events if isinstance(event, LinkChanged)]
        cut = {link.index for link in told if not link.operational} | changes.gone
        if told:
            links = (instance.link for instance in self.instances.values() if instance.link is not None)
            cut |= {link.index for link in links if _was_cut(link, self.table.by_index.get(link.index))}
        if not cut:
            return
        self._hearing.lose(cut)
        for name in [name for name in self._prove_at if name in self.instances]:
            link = self.instances[name].link
            if link is not None and link.index in cut:
                del self._prove_at[name]

    def _tell_put_back(self, instance: Instance, taken: Set[KernelAddress]) -> None:
        texts = ", ".join(sorted(text(address) for address in taken))
        self._log.warning("an address was taken away and is put back", virtualIP=instance.name, address=texts)
        self._sending.announce(instance)

    def _concerned(self, events: Sequence[Event], *, subnets_changed: bool) -> list[Instance]:
        """Whose link, sources, tracked links or addresses the events may change: pods come and go all the time.

        An address in a subnet that its link has anyway matters to those alone who send from it, or lack one to send
        from, or have it themselves, or know it as a member's.
        """
        names: set[str] = set()
        links: set[int] = set()
        subnets: set[int] = set()
        addresses: set[bytes] = set()
        for event in events:
            match event:
                case LinkChanged(link):
                    names.add(link.name)
                    links.add(link.index)
                    addresses |= self.table.own(link.index)  # they stand in the way, or no longer (elsewhere)
                case AddressAdded(address) | AddressRemoved(address):
                    if not self.table.is_ours(address):
                        subnets.add(address.index)
                        addresses.add(address.address)
                case NextHopsChanged(next_hops):
                    addresses.update(next_hop.address for next_hop in next_hops)
                    told = [one for one in self.instances.values() if one.goes_by_next_hops]
                    addresses.update(*(instance.address_set for instance in told))
                case PortsClosed():
                    pass
                case _:
                    links.add(event.index)
        found = []
        for instance in self.instances.values():
            is_near = instance.is_near(links, names) or (subnets_changed and self._may_live_in(instance, subnets))
            if is_near or instance.knows_any_of(addresses):
                found.append(instance)
        return found

    def _may_live_in(self, instance: Instance, subnets: Set[int]) -> bool:
        """Whether the subnets of these links matter for a VirtualIP: it lives there, or another link fits better."""
        if instance.link is None or instance.link.index in subnets:
            return bool(subnets)
        is_found = instance.configuration.interface is None
        return is_found and bool(subnets) and interface_for(self.table, instance.addresses) != instance.link

    def _look(self, instances: Sequence[Instance], now: Instant) -> None:
        """Find the links, sources and obstacles of these, and act on what is new."""
        self._forwards_ipv6.clear()
        for instance in instances:
            instance.look_at = None
            self._find_link(instance, now)
        judged = [self._judge(instance) for instance in instances]  # each of them
        if any(judged):
            self._index_addresses(self.instances.values())
        self._listening.listen(self.instances.values(), now)
        rivals = self._share_virtual_router_ids(instances)
        for instance in instances:
            instance.find_sources(self.table, self._by_address.keys(), now)
            self._find_lacking(instance)
            if self._sharers.find_in_use(instance):
                instance.prepare_announcements(self._forwards_on(instance))
            instance.work_out_kernel_addresses()
        self._close_host_ports(instances)
        for instance in instances:
            self._take_off(instance)
        for instance in (*instances, *rivals):
            self._settle(instance, now)
        self.host_ports.open_others()

    def _close_host_ports(self, instances: Iterable[Instance]) -> None:
        """Before an address is given, nothing of this host is reached through it, where its VirtualIP says so."""
        changes = {}
        for instance in instances:
            closes = instance.closes_host_ports and not self.addresses.elsewhere(instance.kernel_addresses)
            changes[instance.name] = instance.closable_addresses if closes else frozenset[bytes]()
        self.host_ports.close(changes)

    def _share_virtual_router_ids(self, looked_at: Sequence[Instance]) -> list[Instance]:
        """Find anew who has the packets of each VRID; the others that another one took them from, or left them to."""
        was_out = {name for name, former in self._former.items() if former.state is State.INITIALIZE}
        before, self._by_vrid = self._by_vrid, first_by_vrid(self.instances, self._by_vrid, was_out)
        moved = {key for key in before.keys() | self._by_vrid if before.get(key) is not self._by_vrid.get(key)}
        if not moved:
            return []
        names = {instance.name for instance in looked_at}
        return [
            instance
            for name, instance in self.instances.items()
            if name not in names
            and any((*listener, instance.configuration.virtual_router_id) in moved for listener in instance.listeners)
        ]

    def _find_link(self, instance: Instance, now: Instant) -> None:
        link = instance.find_link(self.table, now)
        before = instance.link
        if link == before:
            return
        if before is not None and link is not None and before.index != link.index:
            # Another interface, by another name or made anew under the same: what was held on the old one goes.
            self._leave_link(instance, now)
        instance.link = link
        instance.prepare_announcements(self._forwards_on(instance))
        if link is None or before is None or before.index != link.index:
            return
        if _was_cut(before, link):
            self._forget_proof(instance, now)
        if link.mac != before.mac and instance.router.holds_addresses:
            self._log.info(
                "the MAC address of the link changed; announcing", virtualIP=instance.name, interface=link.name
            )
            self._carry_out(instance, instance.router.announce(now), now)

    def _forget_proof(self, instance: Instance, now: Instant) -> None:
        """Its link lost its carrier and has it again, and nobody saw it without: the port may forward late."""
        instance.router.link_was_cut(now)
        self._hearing.begin_asking(instance, now)
        self.is_unpublished = True

    def _forwards_on(self, instance: Instance) -> bool:
        return instance.link is not None and self._forwards(instance.link.name)

    def _forwards(self, name: str) -> bool:
        """Whether this host is an IPv6 router on the link; asked once in a look."""
        known = self._forwards_ipv6.get(name)
        if known is None:
            known = self._forwards_ipv6[name] = self._kernel.forwards_ipv6(name)
        return known

    def _leave_link(self, instance: Instance, now: Instant) -> None:
        self._carry_out(instance, instance.router.obstruct(Obstacle.INTERFACE_MISSING, now), now)
        self._prove_at.pop(instance.name, None)
        # What was refused on that link, and how often, says nothing of the next.
        instance.failed.clear()
        self._sending.forget(instance.name)
        if Obstacle.ADDRESS_CONFLICT in instance.router.obstacles:
            instance.retry_at = now
        instance.link = None
        instance.sources.clear()
        instance.work_out_kernel_addresses()
        instance.prepare_announcements(forwards_ipv6=False)

    def _find_lacking(self, instance: Instance) -> None:
        """Which families cannot be served here now: no address to send from, no socket, or nothing leaves."""
        lacking: dict[int, tuple[Obstacle, str]] = {}
        if instance.link is not None:
            for listener in instance.listeners:
                width = listener.width
                why_not = self._listening.why_not(listener)
                if width not in instance.sources:
                    why = instance.why_no_source(self.table, width)
                    lacking[width] = (Obstacle.NO_SOURCE_ADDRESS, why)
                elif why_not is not None:
                    lacking[width] = why_not
                elif width in instance.failed:
                    lacking[width] = instance.failed[width]
        instance.lacking = lacking

    def _take_off(self, instance: Instance) -> None:
        """Take off what is held for a VirtualIP and no longer its own, before anything is given."""
        owned = self.addresses.owned(instance.name)
        if owned and (surplus := owned - instance.kernel_addresses):
            self._release(instance, surplus)

    def _settle(self, instance: Instance, now: Instant) -> None:
        """Make one router's obstacles, configuration and health what the machine says."""
        router = instance.router
        obstacles = self._obstacles(instance)
        for obstacle, detail in obstacles.items():
            at_once = obstacle is Obstacle.LINK_DOWN and instance.link is not None and not instance.link.admin_up
            is_flap = obstacle is Obstacle.LINK_DOWN and router.holds_addresses and not at_once
            if instance.obstacle_details.get(obstacle) != detail and not is_flap:
                self._log.error(f"cannot run: {detail}", virtualIP=instance.name, obstacle=obstacle.value)
            if obstacle not in router.obstacles or (at_once and router.holds_addresses):
                # The second is a link that is switched off while its carrier is gone: nobody waits for its return.
                if is_flap:
                    self._log.warning(f"{detail}; going on if it is back soon", virtualIP=instance.name)
                self._carry_out(instance, router.obstruct(obstacle, now, detail, at_once=at_once), now)
        instance.obstacle_details = obstacles
        self._tell_lacking(instance)
        own = self._own_members(instance)
        if instance.is_settled(self.table.revision, own):
            if instance.sharers:  # one of them may be held or withheld from now on
                self._carry_out(instance, NOTHING, now)
                self._sharers.tell(instance, now)
            self._schedule(instance)  # it may be that it is to be looked at again
            return
        in_a_cluster = bool(self.configuration.node_addresses)
        configuration = instance.core_configuration(own, lists_this_node=in_a_cluster)
        if configuration.release_when_failing:  # before it counts again: a node that only drained has not failed
            self._settle_health(instance, now)
        if router.configuration is not configuration and router.configuration != configuration:
            self._carry_out(instance, router.reconfigure(configuration, now), now)
        self._settle_health(instance, now)
        if not instance.started:
            instance.started = True
            if router.obstacles or not self._go_on(instance, now):
                proven, first_hold = self._hearing.of(instance), self._first_hold(instance, now)
                self._carry_out(instance, router.start(now, router.health, router.obstacles, proven, first_hold), now)
        else:
            had_no_link = Obstacle.INTERFACE_MISSING in router.obstacles
            # Looked at again: what was done in the meantime may have met another obstacle.
            for obstacle in sorted(router.obstacles - self._obstacles(instance).keys() - _NOT_OF_THE_MACHINE):
                self._carry_out(instance, router.clear(obstacle, now), now)
            if had_no_link and instance.link is not None:
                # On the one that it has now somebody may have been heard already; that is told once.
                for width in sorted(self._hearing.of(instance)):
                    self._prove_soon(instance, width, now)
        self._carry_out(instance, NOTHING, now)
        self.addresses.set_routes(instance.name, instance.routes(self.table))
        self._sharers.tell(instance, now)

    def _first_hold(self, instance: Instance, now: Instant) -> FirstHold | None:
        """Who was chosen to hold a new virtual router first; None: nobody, or it is this node and silence says nothing
        yet, as its port may forward late."""
        nominee = self._nominees.get(instance.name)
        if nominee is None or instance.name in self._former or instance.link is None:
            return None
        if nominee != self.node_name:
            return FirstHold.ELSEWHERE
        hears = self._hearing.of(instance) or self._hearing.is_settled(instance.link.index, QUIET_PERIOD, now)
        return FirstHold.HERE if hears else None

    def _own_members(self, instance: Instance) -> frozenset[bytes]:
        """Which of the known members' addresses are this node's own."""
        if not instance.members or instance.link is None:
            return frozenset()
        return instance.members & self.table.own(instance.link.index)

    def _obstacles(self, instance: Instance) -> dict[Obstacle, str]:
        """What keeps a VirtualIP out of the election, with a sentence about each."""
        if instance.refusal:  # before all that could let it hold its addresses for a while
            return {Obstacle.ADDRESS_NOT_PERMITTED: instance.refusal}
        link = instance.link
        if link is None:
            name = instance.configuration.interface
            missing = f"there is no interface {name}" if name else "no interface has a subnet that holds its address"
            return {Obstacle.INTERFACE_MISSING: missing}
        found: dict[Obstacle, str] = {}
        if not link.operational:
            found[Obstacle.LINK_DOWN] = f"{link.name} is down" if not link.admin_up else f"{link.name} has no carrier"
        elif len(instance.lacking) == len(instance.widths):
            for obstacle, why in instance.lacking.values():
                found[obstacle] = f"{found[obstacle]}; {why}" if obstacle in found else why
        if elsewhere := self.addresses.elsewhere(instance.kernel_addresses):
            found[Obstacle.ADDRESS_IN_USE] = self.addresses.sentence_elsewhere(elsewhere[0])
        if instance.is_withheld:
            for sharer in instance.sharers.values():
                for obstacle, why in sharer.withheld.items():
                    found[obstacle] = f"{found[obstacle]}; {why}" if obstacle in found else why
        vrid = instance.configuration.virtual_router_id
        for index, width in instance.listeners:
            other = self._by_vrid.get((index, width, vrid))
            if other is not None and other is not instance:
                found[Obstacle.VIRTUAL_ROUTER_ID_IN_USE] = f"{other.name} has virtual router ID {vrid} on {link.name}"
        return found

    def _tell_lacking(self, instance: Instance) -> None:
        """A node that serves one family and not the other says so: it counts as failing."""
        why = "; ".join(why for _, why in instance.lacking.values()) if instance.partial else ""
        if why and instance.warnings.get("family") != why:
            self._log.warning(f"only a part of it can be served here: {why}", virtualIP=instance.name)
        instance.warn("family", why)

    def _go_on(self, instance: Instance, now: Instant) -> bool:
        """Be what the former process was. A Master does nothing yet: what arrived meanwhile is read first."""
        former = self._former.get(instance.name)
        if former is None:
            return False
        proven = None if former.proven is None else frozenset(former.proven)
        match former.state:
            case State.MASTER:
                instance.router.resume_as_master(self._former_seen_at, former.recovered_at, proven)
                instance.master_since = now
                self.addresses.adopt(instance.name, instance.kernel_addresses, instance.routes(self.table), now)
            case State.BACKUP:
                instance.router.resume_as_backup(now, former.recovered_at, proven, frozenset(former.heard))
            case State.INITIALIZE:
                return False
        link = instance.link
        if link is not None and former.carrier_down_count not in (None, link.carrier_down_count):
            self._forget_proof(instance, now)
        self._schedule(instance)
        return True

    # ----- health -----

    def report_health(self, name: str, health: Health, detail: str, now: Instant) -> None:
        """The services behind a VIP, as the probes see them; raises ConfigurationError where there is no such VIP."""
        instance, key = find_virtual_ip(self.instances, name)
        sharer = instance.sharers.get(key)
        before = instance.reported_health if sharer is None else sharer.reported_health
        if health is not Health.UNKNOWN or before is Health.UNKNOWN:
            # Not knowing (yet, again) is no reason to forget what is known.
            if sharer is not None:
                sharer.reported_health, sharer.reported_detail = health, detail
                health, detail = common_health(instance.sharers)
            instance.reported_health, instance.reported_detail = health, detail
            self.is_unpublished = True
            if instance.configuration.draining:  # what a failing node does depends on why it fails
                self._look([instance], now)
            self._settle_health(instance, now)

    def _settle_health(self, instance: Instance, now: Instant) -> None:
        health, detail = instance.own_health(self.table)
        if health is not instance.router.health:
            instance.health_detail = detail
            if instance.started:
                self._log.info(f"health: {instance.router.health} -> {health}", virtualIP=instance.name, detail=detail)
            self._carry_out(instance, instance.router.report_health(health, now), now)
            self.is_unpublished = True
        instance.health_detail = detail

    # ----- packets -----

    def receive(self, listener: Listener, datagrams: Iterable[Datagram], now: Instant) -> None:
        """Packets of IP protocol 112 from one link in one family, in the order in which they came."""
        index, width = listener
        by_vrid = self._by_vrid
        if width == OWN_HOST:
            self._hear_own_host(index, datagrams, now)
            return
        proven = self._hearing.is_proven(listener)
        for datagram in datagrams:
            payload, source, destination, ttl = datagram
            instance = by_vrid.get((index, width, payload[1])) if len(payload) > 1 else None
            if instance is None:
                is_one = self.strangers.hear(index, payload, source, destination, ttl, now)
                if is_one and not proven and not self._is_own(index, source):
                    proven = self._prove(listener, now)
                continue
            try:
                advertisement = instance.decoder.decode(payload, source, destination, ttl)
            except PacketError as error:
                instance.router.counters[error.counter] += 1
                self.refusals.tell(instance.name, error.counter, source, now)
                continue
            knew = _what_it_learned(instance)
            actions = instance.router.receive(advertisement, now)
            if knew != _what_it_learned(instance):
                self.is_unpublished = True
            if Obstacle.ADDRESS_CONFLICT in instance.router.obstacles:
                actions = (*actions, *self._explained(instance, advertisement, now))
            if actions:
                self._carry_out(instance, actions, now)
            else:
                self._schedule(instance)
            if not proven and not self._is_own(index, source):
                proven = self._prove(listener, now)

    def _hear_own_host(self, index: int, datagrams: Iterable[Datagram], now: Instant) -> None:
        """What leaves this host, our own among it: a virtual router that is none of ours is a stranger's."""
        for payload, source, destination, ttl in datagrams:
            ours = self._by_vrid.get((index, len(source), payload[1])) if len(payload) > 1 else None
            known = ours.address_set if ours is not None else frozenset()
            self.strangers.hear_own_host(index, payload, source, destination, ttl, known, now)

    def _explained(self, instance: Instance, advertisement: Advertisement, now: Instant) -> Actions:
        """Who answers for the addresses is a Master of this virtual router: it is followed as any other."""
        router = instance.router
        if not advertisement.priority or advertisement.source not in router.acquaintances.met:
            return NOTHING
        self._conflicts.drop(instance.name)
        instance.warn("conflict", "")
        return (*router.clear(Obstacle.ADDRESS_CONFLICT, now), *router.receive(advertisement, now))

    def _is_own(self, index: int, source: bytes) -> bool:
        return any(address.index == index for address in self.table.places_of(source))

    def _prove(self, listener: Listener, now: Instant) -> bool:
        """Somebody was heard on this link: every VirtualIP there hears its own Master within an interval, too."""
        self._hearing.prove(listener)
        for instance in self.instances.values():
            if listener in instance.listeners and not instance.unicast:
                self._prove_soon(instance, listener.width, now)
        return True

    def _prove_soon(self, instance: Instance, width: int, now: Instant) -> None:
        """A proof counts an interval and a half later: whoever holds this VIP is heard until then, and comes first."""
        if width not in instance.router.proven and instance.name not in self._prove_at:
            self._prove_at[instance.name] = (Instant(now + instance.interval + instance.interval // 2), width)
            self._schedule(instance)

    def hear(self, index: int, answers: Sequence[NeighbourAnswer], now: Instant) -> None:
        """Neighbours on a link answered to ARP or neighbour discovery."""
        for name in sorted({*self._conflicts.names, *self._hearing.names}):
            instance = self.instances.get(name)
            if instance is None or instance.link is None or instance.link.index != index:
                continue
            self._conflicts.hear(instance, answers)
            for width in sorted(self._hearing.answered(instance, answers)):
                self._prove_soon(instance, width, now)

    def _hear_neighbours(self) -> None:
        waiting = {*self._conflicts.names, *self._hearing.names}
        links = (self.instances[name].link for name in waiting if name in self.instances)
        wanted = frozenset(link.index for link in links if link is not None)
        if wanted != self._neighbours_of:
            refused = self._wire.hear_neighbours(wanted)
            self._neighbours_of = wanted - refused.keys()
            self._deaf_to_neighbours = dict(refused)

    # ----- time -----

    def next_deadline(self) -> Instant | None:
        """When poll() has something to do."""
        times = (self._deadlines.earliest(), self.addresses.next_deadline(), self._listening.next_deadline())
        return min((at for at in times if at is not None), default=None)

    def poll(self, now: Instant) -> None:
        """Do what is due."""
        for name in self._deadlines.pop_due(now):
            self._poll(self.instances[name], now)
        changes, refused = self.addresses.poll(now)
        if changes is not None:
            self._act_on(changes, now)
        for address, code in refused.items():
            self._renewal_was_refused(address, code, now)
        at = self._listening.next_deadline()
        if at is not None and at <= now and self._listening.poll(self.instances.values(), now):
            self._look(list(self.instances.values()), now)

    def _poll(self, instance: Instance, now: Instant) -> None:
        if instance.retry_at is not None and instance.retry_at <= now:
            self._try_again(instance, now)
        if instance.look_at is not None and instance.look_at <= now:
            self._look([instance], now)
        self._hear_neighbours()
        self._hearing.poll(instance, now)
        self._prove_if_due(instance, now)
        if self._may_go_on(instance, now):
            due = instance.router.next_deadline()
            if due is not None and due <= now:
                self.lateness.record(now - due)
            self._carry_out(instance, instance.router.poll(now), now)
        else:
            self._schedule(instance)

    def _prove_if_due(self, instance: Instance, now: Instant) -> None:
        at, width = self._prove_at.get(instance.name, (None, 0))
        if at is None or now < at:
            return
        del self._prove_at[instance.name]
        self._hearing.stop_asking(instance.name)
        self.is_unpublished = True
        for proven in sorted({width, *self._hearing.of(instance)}):
            self._carry_out(instance, instance.router.hearing_proven(proven, now), now)

    # ----- conflicts: RFC 5227 and RFC 4862 -----

    def _may_go_on(self, instance: Instance, now: Instant) -> bool:
        """Whether the router's own timers may act: before a first hold the addresses are asked for."""
        conflict = self._conflicts.poll(instance, now)
        if conflict is not None:
            return self._decide(instance, conflict, now)
        if self._is_unsettled(instance):
            return False
        if not self._is_about_to_hold_first(instance):
            return True
        due = instance.router.next_deadline()
        if due is None or now < due:
            return True
        if self._conflicts.has_passed(instance.name, now):
            return True
        if not self._conflicts.is_under_way(instance.name):
            self._conflicts.begin(instance, now)
            self._hear_neighbours()
            self._conflicts.poll(instance, now)
        return False

    @staticmethod
    def _is_unsettled(instance: Instance) -> bool:
        """Whether a Backup may be deaf: its own address is away, as when a bridge takes link and addresses over."""
        return isinstance(instance.router.state, Backup) and instance.source_is_away

    def _is_about_to_hold_first(self, instance: Instance) -> bool:
        """Whether a promotion now would be one where no Master was heard."""
        state = instance.router.state
        if not isinstance(state, Backup) or not isinstance(state.known[0], HeardNobody):
            return False
        return not instance.owner and not instance.router.heard

    def _decide(self, instance: Instance, conflict: dict[bytes, bytes], now: Instant) -> bool:
        """Act on what a check found. Returns whether the router's own timers may act."""
        if instance.sharers:
            return self._decide_each(instance, conflict, now)
        router = instance.router
        sentence = conflicts.sentence(conflict) if conflict else ""
        before = instance.warnings.get("conflict")
        instance.warn("conflict", sentence or self._why_unasked(instance))
        if sentence and router.holds_addresses:
            if sentence == before:
                return True
            self._log.warning(f"somebody else answers for it: {sentence}", virtualIP=instance.name)
        elif sentence and instance.refuses_conflicts:
            if Obstacle.ADDRESS_CONFLICT not in router.obstacles and not self._is_about_to_hold_first(instance):
                instance.warn("conflict", "")
                return True  # a Master was heard meanwhile: it is the one that answered
            # The first answer may be that of a holder that died: its kernel has the addresses for two seconds more.
            first = Obstacle.ADDRESS_CONFLICT not in router.obstacles
            instance.retry_at = Instant(now + (ASK_AGAIN_FIRST_AFTER if first else ASK_AGAIN_AFTER))
            if first:
                self._log.error(
                    f"cannot run: {sentence}", virtualIP=instance.name, obstacle=Obstacle.ADDRESS_CONFLICT.value
                )
                self._carry_out(instance, router.obstruct(Obstacle.ADDRESS_CONFLICT, now, sentence), now)
            return False
        elif sentence and Obstacle.ADDRESS_CONFLICT not in router.obstacles:
            self._log.warning(f"taking it, though {sentence}", virtualIP=instance.name)
        elif Obstacle.ADDRESS_CONFLICT in router.obstacles:
            self._carry_out(instance, router.clear(Obstacle.ADDRESS_CONFLICT, now), now)
        return True

    def _decide_each(self, instance: Instance, conflict: dict[bytes, bytes], now: Instant) -> bool:
        """The same for those that share it: an address that somebody has withholds its VirtualIP alone."""
        router = instance.router
        was_out = Obstacle.ADDRESS_CONFLICT in router.obstacles
        instance.warn("conflict", self._why_unasked(instance))
        if not (router.holds_addresses or was_out or self._is_about_to_hold_first(instance)):
            return True  # a Master was heard meanwhile: it is the one that answered
        self._sharers.decide(instance, conflict, now)
        self._hold_anew(instance, now)
        return not instance.is_withheld

    def _hold_anew(self, instance: Instance, now: Instant) -> None:
        """Others of those that share it are held or withheld from now on: on the kernel, and to the neighbours."""
        router = instance.router
        before = self.addresses.owned(instance.name)
        instance.work_out_kernel_addresses()
        instance.prepare_announcements(self._forwards_on(instance))
        if instance.is_withheld and not router.obstacles:
            for obstacle, why in self._obstacles(instance).items():
                self._log.error(f"cannot run: {why}", virtualIP=instance.name, obstacle=obstacle.value)
                instance.obstacle_details[obstacle] = why
                self._carry_out(instance, router.obstruct(obstacle, now, why), now)
        elif not instance.is_withheld:
            for obstacle in sorted(router.obstacles & _OF_ADDRESSES):
                instance.obstacle_details.pop(obstacle, None)
                self._carry_out(instance, router.clear(obstacle, now), now)
        is_more = router.holds_addresses and not instance.kernel_addresses <= before
        self._carry_out(instance, router.announce(now) if is_more else NOTHING, now)
        self.addresses.set_routes(instance.name, instance.routes(self.table))
        self._sharers.tell(instance, now)
        self.is_unpublished = True

    def _why_unasked(self, instance: Instance) -> str:
        """Where neighbours cannot be heard now. That is no reason to leave the addresses to nobody."""
        code = self._deaf_to_neighbours.get(instance.link.index) if instance.link is not None else None
        if not code:
            return ""
        why = f"whether somebody else has its addresses could not be asked: {told(code)}"
        if instance.warnings.get("conflict") != why:
            self._log.warning(why, virtualIP=instance.name)
        return why

    # ----- what was refused -----

    def _try_again(self, instance: Instance, now: Instant) -> None:
        instance.retry_at = None
        if instance.sharers:
            self._sharers.try_again(instance, now)
            self._ask_first(instance, now)
            self._hold_anew(instance, now)
        if Obstacle.ADDRESS_CONFLICT in instance.router.obstacles:
            self._conflicts.begin(instance, now)
        still: dict[int, tuple[Obstacle, str]] = {
            width: (obstacle, why)
            for width, (obstacle, why) in instance.failed.items()
            if obstacle is Obstacle.CANNOT_SEND and not self._lets_out(instance, width, now)
        }
        if still:
            instance.retry_at = Instant(now + self._sending.pause(instance.name))
            instance.plan_retry()
        if still != instance.failed:
            instance.failed = still
            self._look([instance], now)

    def _lets_out(self, instance: Instance, width: int, now: Instant) -> bool:
        """Whether this host lets an advertisement out again; without holding anything for that."""
        if instance.link is None or width not in instance.sources:
            return True  # that is another obstacle
        family = instance.family(width, self._own_members(instance))
        return self._sending.leaves(instance, instance.router.farewell(family), now)

    def _renewal_was_refused(self, address: KernelAddress, code: int, now: Instant) -> None:
        for instance in list(self.instances.values()):
            if address in self.addresses.owned(instance.name):
                self._kernel_refused(instance, {address: code}, now)

    def _kernel_refused(self, instance: Instance, refused: dict[KernelAddress, int], now: Instant) -> None:
        """A family whose addresses the kernel does not take is not served for a while."""
        if instance.sharers:
            self._sharers.withhold_refused(instance, refused, now)
            self._hold_anew(instance, now)
            return
        for address, code in refused.items():
            detail = f"the kernel refused {text(address)}: {told(code)}"
            instance.failed[len(address.address)] = (Obstacle.KERNEL_REFUSED, detail)
        instance.retry_at = Instant(now + RETRY_AFTER)
        self._look([instance], now)

    def _cannot_send(self, instance: Instance, width: int, now: Instant) -> None:
        instance.failed[width] = (Obstacle.CANNOT_SEND, self._sending.why(instance, width))
        instance.retry_at = Instant(now + self._sending.pause(instance.name))
        self._look([instance], now)

    # ----- doing -----

    def _carry_out(self, instance: Instance, actions: Actions, now: Instant) -> None:
        """The level first, then the edges in their order: the contract of vrrp/actions.py."""
        refused = self._enforce(instance, now)
        if refused and instance.sharers:
            self._sharers.withhold_refused(instance, refused, now)
            if not instance.is_withheld:  # what the router says is true of the others
                instance.work_out_kernel_addresses()
                instance.prepare_announcements(self._forwards_on(instance))
                refused = self._enforce(instance, now)
        if refused:
            # What the router wanted to say is void: it does not hold all that it would speak for.
            self._tell_transitions(instance, actions)
            self._kernel_refused(instance, refused, now)
            return
        silent = [width for action in actions if (width := self._do(instance, action, now))]
        self._schedule(instance)
        for width in silent:
            if width not in instance.failed:  # what became of the first may have told of the other already
                self._cannot_send(instance, width, now)

    def _enforce(self, instance: Instance, now: Instant) -> dict[KernelAddress, int]:
        owned = self.addresses.owned(instance.name)
        if not instance.router.holds_addresses:
            if owned:
                self._release(instance, owned)
            return {}
        wanted = instance.kernel_addresses
        if wanted == owned:
            return {}
        if surplus := owned - wanted:
            self._release(instance, surplus)
        self.host_ports.await_closed(instance.name)
        return self.addresses.give(instance.name, wanted, instance.routes(self.table), now)

    def _release(self, instance: Instance, addresses: Set[KernelAddress]) -> None:
        """Take addresses off, but for those that another VirtualIP has now and holds: they change hands."""
        for address in sorted(addresses):
            next_holder = self._next_holder(instance, address)
            if next_holder is not None:
                self.addresses.change_hands(address, next_holder.name)
        self.addresses.take(addresses, instance.name)

    def _next_holder(self, former: Instance, address: KernelAddress) -> Instance | None:
        for instance in self._by_address.get(address.address, ()):
            if instance is not former and instance.router.holds_addresses and address in instance.kernel_addresses:
                return instance
        return None

    def _do(self, instance: Instance, action: Action, now: Instant) -> int:
        """Do one thing. Returns the width of a family in which it turns out that nothing can be sent; 0: none."""
        match action:
            case SendAdvertisement():
                if self._sending.send(instance, action, now) and instance.router.holds_addresses:
                    return len(action.source)
            case AnnounceAddresses():
                self._announce(instance, now)
            case Transitioned():
                self._tell(instance, action, now)
            case Refused(counter, source):
                self.refusals.tell(instance.name, counter, source, now)
        return 0

    def _announce(self, instance: Instance, now: Instant) -> None:
        self._sending.announce(instance)
        since = instance.master_since
        if (
            since is not None
            and now - since > _ASK_WHILE_HELD_AFTER
            and not self._conflicts.is_under_way(instance.name)
        ):
            self._conflicts.ask_once(instance, now)
            self._hear_neighbours()
            self._conflicts.poll(instance, now)

    def _tell_transitions(self, instance: Instance, actions: Actions) -> None:
        for action in actions:
            if isinstance(action, Transitioned):
                self._tell(instance, action, action.at)

    def _tell(self, instance: Instance, action: Transitioned, now: Instant) -> None:
        message = transition_message(instance.name, action, self._clock.timestamp(), instance.health_detail)
        instance.remember(message)
        if action.to_state is State.BACKUP and instance.sharers:
            self._sharers.leave_to_master(instance)
            instance.work_out_kernel_addresses()
            instance.prepare_announcements(self._forwards_on(instance))
        instance.master_since = now if action.to_state is State.MASTER else None
        self._sending.begin_anew(instance)
        if action.from_state is State.MASTER:
            # What was asked while it was held: whoever answers now may be the next holder.
            self._conflicts.drop(instance.name)
            instance.warn("conflict", "")  # whoever holds the addresses from now on may be asked for them
        self.is_unpublished = True
        self._log.info(
            f"{message.from_state} -> {message.to_state}: {message.message}",
            virtualIP=instance.name,
            fromState=message.from_state,
            toState=message.to_state,
            reason=message.reason,
            peer=message.peer,
        )
        if instance.sharers:
            self._sharers.tell_with_router(instance, message, now)
        else:
            self.transitions.append(message)
        if action.to_state is not State.INITIALIZE and not instance.router.proven:
            self._hearing.begin_asking(instance, now)

    def _note_transition(self, message: Transition) -> None:
        self.transitions.append(message)
        self.is_unpublished = True

    def _schedule(self, instance: Instance) -> None:
        """Have this VirtualIP come up in poll() when it is due."""
        due = instance.router.next_deadline()
        name = instance.name
        if self._is_unsettled(instance):
            due = None  # it goes on when it is looked at again
        if due is not None and self._is_about_to_hold_first(instance):
            self._conflicts.plan(instance, due)
            if self._conflicts.is_under_way(name):
                due = None  # it goes on when that is decided, which may be later than it was due
        elif self._conflicts.is_under_way(name) and isinstance(instance.router.state, Backup):
            self._conflicts.drop(name)  # a Master was heard
            instance.warn("conflict", "")
        others = (
            instance.retry_at,
            instance.look_at,
            self._conflicts.next_deadline(name),
            self._hearing.next_deadline(name),
        )
        for at in others:
            if at is not None and (due is None or at < due):
                due = at
        proof = self._prove_at.get(name)
        if proof is not None and (due is None or proof[0] < due):
            due = proof[0]
        self._deadlines.set(name, due)

    # ----- wishes, end -----

    def switchover(self, name: str, to: str, now: Instant) -> str:
        """Carry out a switchover on the user's wish; returns what was done. Raises ConfigurationError if it cannot."""
        instance, key = find_virtual_ip(self.instances, name)
        self._require_known(key, to)
        others = with_others(instance.sharers, key)
        if to == self.node_name:
            if instance.router.state_name is State.MASTER:
                return f"{key} is held by {to} already"
            if instance.configuration.draining and instance.configuration.draining_reason:
                raise ConfigurationError(f"this node takes no VIP: {instance.configuration.draining_reason}")
            self._carry_out(instance, instance.router.take_over(now), now)
            is_lent = not instance.configuration.nopreempt and instance.router.outranks_by_wish
            return f"{key} is held by {to} now{others}{_COMES_BACK_LATER.format(to) if is_lent else ''}"
        self._carry_out(instance, instance.router.step_aside(now), now)
        comes_back = "" if instance.configuration.nopreempt else _COMES_BACK.format(to)
        return f"{self.node_name} steps aside for the best healthy Backup of {key}{others}{comes_back}"

    def _require_known(self, virtual_ip: str, node_name: str) -> None:
        """Where the nodes are known, somebody who is none of them is a slip of the pen, and would move it elsewhere."""
        known = self.configuration.node_names.get(virtual_ip)
        if known is not None and node_name not in known:
            raise ConfigurationError(f"no host of {virtual_ip} is named {node_name}; known are: {', '.join(known)}")

    def step_aside(self, now: Instant) -> Instant:
        """Ask healthy Backups to take every VIP over, make before break; until when it is worth waiting for them."""
        end = now
        for instance in self.instances.values():
            try:
                self._carry_out(instance, instance.router.step_aside(now), now)
            except ConfigurationError:  # not Master, or the owner of the addresses
                continue
            end = max(end, Instant(now + instance.router.challenge_time))
        return end

    @property
    def holds_addresses(self) -> bool:
        """Whether any VIP is held here."""
        return any(instance.router.holds_addresses for instance in self.instances.values())

    def stop(self, now: Instant) -> None:
        """Give everything up: addresses gone, priority 0 sent."""
        for instance in self.instances.values():
            self._carry_out(instance, instance.router.stop(now), now)
        self.host_ports.end()

    def hand_over(self, now: Instant) -> None:
        """Leave everything as it is to a successor on this node, who has as long as the protocol spares it."""
        for instance in self.instances.values():
            self._carry_out(instance, instance.router.hand_over(now), now)
        self.addresses.renew_now()
        held = sum(instance.router.holds_addresses for instance in self.instances.values())
        self._log.info(f"handed over to a successor on this node: {held} of {len(self.instances)} VirtualIPs are held")

    @property
    def vips(self) -> Set[bytes]:
        """The addresses that are VIPs here, whoever put them on a link; not those that this node owns itself, nor those
        that it may not hold, which may be its own."""
        instances = (one for one in self.instances.values() if not one.owner)
        return {address for instance in instances for address in instance.permitted_addresses}

    def published_routers(self) -> list[PublishedRouter]:
        """What the next engine on this node should know."""
        return [published_router(instance) for instance in self.instances.values()]

    def warnings_of(self, instance: Instance, now: Instant) -> list[str]:
        """What people should know of a VirtualIP now."""
        contested = self.addresses.contested(instance.name, now)
        texts = [f"{text(address)} is taken away again and again, and put back once a second" for address in contested]
        exposed = self.host_ports.why_exposed(instance.name)
        texts += [exposed] if exposed else []
        return [*instance.warnings.values(), *texts, *self.refusals.warnings(instance.name, now)]


def _on_the_link(configuration: VirtualRouterConfiguration) -> Hashable:
    """What makes two configurations one virtual router for everybody else."""
    addresses = frozenset(packed_interface(text)[0] for text in configuration.every_address)
    return configuration.virtual_router_id, configuration.version, configuration.interface, addresses


def _was_cut(before: Link, link: Link | None) -> bool:
    """Whether a link that has its carrier lost it since, which is not seen where that was short."""
    if link is None or not (before.operational and link.operational):
        return False
    return before.carrier_down_count != link.carrier_down_count


def _what_it_learned(instance: Instance) -> tuple[int, frozenset[int], bool]:
    """What a packet can teach a router that the next process has to know; nobody who makes sources up changes it for
    ever, as the number of routers that are remembered has an end."""
    router = instance.router
    return len(router.acquaintances.met), router.proven, router.awaits_a_master
