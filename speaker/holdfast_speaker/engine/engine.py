"""The engine: every VirtualIP of this node, their sockets, and the order in which things happen.

Data flows one way: datagrams in, advertisements, decisions of the core, kernel addresses, packets out. The driver
(driver.py) calls `take_in`, `receive`, `poll` in this order; nothing here waits.
"""

from __future__ import annotations

import os

from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_api.messages import Transition
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine.deadlines import Deadlines
from holdfast_speaker.engine.hearing import Hearing
from holdfast_speaker.engine.instance import Instance, LastMove
from holdfast_speaker.engine.lateness import LatenessHistogram
from holdfast_speaker.engine.leftovers import no_longer_held
from holdfast_speaker.engine.obstacles import concerns, find_obstacles, first_by_vrid
from holdfast_speaker.engine.outgoing import Outgoing
from holdfast_speaker.engine.ports import KernelAddress
from holdfast_speaker.engine.reports import find_virtual_ip, published_state, transition_message
from holdfast_speaker.engine.state import PublishedRouter, PublishedState, Snapshot
from holdfast_speaker.host import clock
from holdfast_speaker.host.control import ControlServer
from holdfast_speaker.host.inheritance import Inheritance
from holdfast_speaker.host.kernel import Kernel, text
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.state_directory import StateDirectory
from holdfast_speaker.host.wire import Wire
from holdfast_speaker.vrrp.actions import (
    NOTHING,
    Action,
    Actions,
    AnnounceAddresses,
    SendAdvertisement,
    Transitioned,
)
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import PacketError

_NOT_OF_THE_LINK = frozenset({Obstacle.KERNEL_REFUSED, Obstacle.SERVICE_FAILED, Obstacle.STOPPED})

RETRY_AFTER = Duration(5 * SECOND)
"""How long a VirtualIP stays out after the kernel refused its addresses."""


class Engine:
    """All that runs on this node. Not thread-safe: one loop owns it."""

    def __init__(self, node_name: str, directory: StateDirectory, inheritance: Inheritance, log: Log) -> None:
        self.node_name = node_name
        self.started = clock.timestamp()
        self.configuration = SpeakerConfiguration(node_name=node_name)
        self.instances: dict[str, Instance] = {}
        self.lateness = LatenessHistogram()
        self.wire = Wire(inheritance.kept_sockets, overhears=inheritance.overhears)
        self.kernel = Kernel(log)
        self._hearing = Hearing(self.wire)
        self._outgoing = Outgoing(self.wire, log)
        self.subscribers: ControlServer | None = None
        self._directory = directory
        self._log = log
        self._deadlines = Deadlines()
        self._by_vrid: dict[tuple[int, int, int], Instance] = {}
        self._cleaned = False
        self._unpublished = False
        self._unsaved = False
        self._inheritance = inheritance
        self._keeps_journal = inheritance.keeps_journal
        self._former: dict[str, PublishedRouter] = {}
        self._former_seen_at = Instant(0)

    # ----- configuration -----

    def configure(self, configuration: SpeakerConfiguration, now: Instant) -> None:
        """Run this from now on. What did not change is not disturbed."""
        wanted = {item.name: item for item in configuration.virtual_routers}
        for name, instance in list(self.instances.items()):
            if name not in wanted or instance.becomes_another_router(wanted[name]):
                self._remove(instance, now)
        for name, item in wanted.items():
            if name not in self.instances:
                self.instances[name] = Instance(item, LastMove(clock.timestamp()), is_recorded=self._keeps_journal)
                if name in self._former:
                    self.instances[name].inherit(self._former[name])
            elif self.instances[name].configuration != item:
                self.instances[name].change(item)
        self.configuration = configuration
        self.wire.strangers.know(configuration.node_addresses)
        if not self._cleaned:
            self._remove_leftovers()
        self._look_at_links(now)
        self._former.clear()
        self._unsaved = self._unpublished = True

    def go_on_from(self, state: PublishedState, seen_at: Instant) -> None:
        """Take what another process left, which was seen to run at `seen_at`, with the next configuration."""
        self._former = {router.virtual_ip: router for router in state.routers}
        self._former_seen_at = seen_at

    def _remove(self, instance: Instance, now: Instant) -> None:
        self._carry_out(instance, instance.router.stop(now, Reason.REMOVED), now)
        self._deadlines.set(instance.name, None)
        del self.instances[instance.name]

    def _remove_leftovers(self) -> None:
        """At the start: what a predecessor put there, by this configuration or by its own last state, goes."""
        self._cleaned = True
        former = self._former.values() or self._directory.published_routers()
        for leftover in self.kernel.remove_leftovers(
            no_longer_held(self.instances, former, goes_on=bool(self._former))
        ):
            self._log.info("removed an address that a former engine left", address=text(leftover))

    # ----- links and addresses of the machine -----

    def take_in(self, now: Instant) -> None:
        """Links or addresses changed. Carrier and interface loss act at once."""
        events, put_back = self.kernel.read()
        for instance in self.instances.values():
            if put_back & instance.held:
                texts = ", ".join(sorted(text(address) for address in put_back & instance.held))
                self._log.warning("an address was taken away and is put back", virtualIP=instance.name, address=texts)
                self._outgoing.announce(instance)
        if events is None or any(concerns(event, self.instances.values()) for event in events):
            self._look_at_links(now)

    def _look_at_links(self, now: Instant) -> None:
        """Find each VirtualIP's link, sources and obstacles, and act on what is new."""
        for instance in self.instances.values():
            self._find_link(instance, now)
        refused = self.wire.attend(
            {
                (instance.link.index, instance.link.name, width)
                for instance in self.instances.values()
                if instance.link is not None and instance.link.operational
                for width in instance.widths
            },
            self.kernel.table,
        )
        self._by_vrid = first_by_vrid(self.instances)
        vips = {address for instance in self.instances.values() for address, _ in instance.addresses}
        for instance in list(self.instances.values()):
            self._settle(instance, now, vips, refused)

    def _find_link(self, instance: Instance, now: Instant) -> None:
        link = instance.find_link(self.kernel.table)
        if link == instance.link:
            return
        if instance.link is not None and link is not None and instance.link.index != link.index:
            # Another interface, by another name or made anew under the same: what was held on the old one goes.
            self._carry_out(instance, instance.router.obstruct(Obstacle.INTERFACE_MISSING, now), now)
        instance.link = link
        instance.prepare_announcements()

    def _settle(self, instance: Instance, now: Instant, vips: set[bytes], refused: dict[int, str]) -> None:
        """Make one router's obstacles, configuration and health what the machine says."""
        router = instance.router
        sources = instance.find_sources(self.kernel.table, vips)
        obstacles = find_obstacles(instance, self.kernel, sources, refused, self._by_vrid)
        for obstacle, detail in obstacles.items():
            if instance.obstacle_details.get(obstacle) != detail:
                self._log.error(f"cannot run: {detail}", virtualIP=instance.name, obstacle=obstacle.value)
            if obstacle not in router.obstacles:
                self._carry_out(instance, router.obstruct(obstacle, now, detail), now)
        instance.obstacle_details = obstacles
        configuration = instance.core_configuration(sources)
        if configuration.release_when_failing:  # before it counts again: a node that only drained has not failed
            self._settle_health(instance, now)
        if router.configuration != configuration:
            self._carry_out(instance, router.reconfigure(configuration, now), now)
        self._settle_health(instance, now)
        if not instance.started:
            instance.started = True
            if not router.obstacles and self._go_on(instance, now):
                return
            self._carry_out(instance, router.start(now, router.health, router.obstacles), now)
        for obstacle in router.obstacles - obstacles.keys() - _NOT_OF_THE_LINK:
            self._carry_out(instance, router.clear(obstacle, now), now)
        self._carry_out(instance, NOTHING, now)

    def _go_on(self, instance: Instance, now: Instant) -> bool:
        """Be what the former process was. A Master does nothing yet: what arrived meanwhile is read first."""
        former = self._former.get(instance.name)
        if former is None:
            return False
        match former.state:
            case State.MASTER:
                instance.router.resume_as_master(self._former_seen_at, former.recovered_at)
                instance.held = self.kernel.adopt(instance.kernel_addresses, now)
            case State.BACKUP:
                instance.router.resume_as_backup(now, former.recovered_at)
            case State.INITIALIZE:
                return False
        self._schedule(instance)
        return True

    # ----- health -----

    def report_health(self, name: str, health: Health, detail: str, now: Instant) -> None:
        """The services behind a VIP, as the probes see them; raises ConfigurationError where there is no such VIP."""
        instance = find_virtual_ip(self.instances, name)
        if health is not Health.UNKNOWN or instance.reported_health is Health.UNKNOWN:
            # Not knowing (yet, again) is no reason to forget what is known.
            instance.reported_health, instance.reported_detail = health, detail
            self._unpublished = True
            if instance.configuration.draining:  # what a failing node does depends on why it fails
                self._look_at_links(now)
            self._settle_health(instance, now)

    def _settle_health(self, instance: Instance, now: Instant) -> None:
        health, detail = instance.own_health(self.kernel.table)
        if health is not instance.router.health:
            if instance.started:
                self._log.info(f"health: {instance.router.health} -> {health}", virtualIP=instance.name, detail=detail)
            self._carry_out(instance, instance.router.report_health(health, now), now)
            self._unpublished = True
        instance.health_detail = detail

    # ----- packets and time -----

    def receive(self, descriptor: int, limit: int, now: Instant) -> bool:
        """Take up to `limit` datagrams from one socket. Returns whether there may be more."""
        attended = self.wire.attended(descriptor)
        if attended is None:
            return self._hear_answers(descriptor, limit)
        index, width, listener = attended
        try:
            datagrams = listener.receive(limit)
        except EnvironmentFailure:  # the link went down or away: netlink tells, and what becomes of it is decided there
            return False
        for payload, source, destination, ttl in datagrams:
            instance = self._by_vrid.get((index, width, payload[1])) if len(payload) > 1 else None
            if instance is None:
                self.wire.strangers.hear(index, payload, source, destination, ttl, now)
                continue
            try:
                advertisement = instance.decoder.decode(payload, source, destination, ttl)
            except PacketError as error:
                instance.router.counters[error.counter] += 1
                continue
            actions = instance.router.receive(advertisement, now)
            if actions:
                self._carry_out(instance, actions, now)
            else:
                self._schedule(instance)
        return len(datagrams) == limit

    def _hear_answers(self, descriptor: int, limit: int) -> bool:
        proven, more = self._hearing.hear(descriptor, limit, self.instances.values())
        for instance in proven:
            for width in instance.widths:
                now = clock.monotonic()
                self._carry_out(instance, instance.router.hearing_proven(width, now), now)
        return more

    def next_deadline(self) -> Instant | None:
        """When poll() has something to do."""
        times = [at for at in (self._deadlines.earliest(), self.kernel.next_deadline()) if at is not None]
        return min(times, default=None)

    def poll(self, now: Instant) -> None:
        """Do what is due."""
        for name in self._deadlines.pop_due(now):
            instance = self.instances[name]
            due = instance.router.next_deadline()
            if due is not None and due <= now:
                self.lateness.record(now - due)
            if instance.ask_at is not None and instance.ask_at <= now:
                self._hearing.ask(instance, now)
            if instance.retry_at is not None and instance.retry_at <= now:
                instance.retry_at = None
                self._carry_out(instance, instance.router.clear(Obstacle.KERNEL_REFUSED, now), now)
            self._carry_out(instance, instance.router.poll(now), now)
        for address, code in self.kernel.refresh(now).items():
            self._refused(address, code, now)

    def _refused(self, address: KernelAddress, code: int, now: Instant) -> None:
        for instance in list(self.instances.values()):
            if address in instance.held:
                self._obstruct_for_kernel(instance, {address: code}, now)

    # ----- doing -----

    def _carry_out(self, instance: Instance, actions: Actions, now: Instant) -> None:
        """The level first, then the edges in their order: the contract of vrrp/actions.py."""
        refused = self._enforce(instance, now)
        if refused:
            self._obstruct_for_kernel(instance, refused, now)
            return
        for action in actions:
            self._do(instance, action)
        self._schedule(instance)

    def _enforce(self, instance: Instance, now: Instant) -> dict[KernelAddress, int]:
        wanted = instance.kernel_addresses if instance.router.holds_addresses else frozenset()
        if wanted == instance.held:
            return {}
        before, instance.held = instance.held, wanted
        # Removals first: to the kernel, an IPv6 address with another prefix length is the same address.
        if before - wanted:
            self.kernel.release(before - wanted)
        return self.kernel.hold(wanted - before, now) if wanted - before else {}

    def _obstruct_for_kernel(self, instance: Instance, refused: dict[KernelAddress, int], now: Instant) -> None:
        address, code = next(iter(refused.items()))
        detail = f"the kernel refused {text(address)}: {os.strerror(code)}"
        self._log.error(f"cannot run: {detail}", virtualIP=instance.name, obstacle=Obstacle.KERNEL_REFUSED.value)
        instance.kernel_detail = detail
        instance.retry_at = Instant(now + RETRY_AFTER)
        self._carry_out(instance, instance.router.obstruct(Obstacle.KERNEL_REFUSED, now, detail), now)

    def _do(self, instance: Instance, action: Action) -> None:
        match action:
            case SendAdvertisement():
                self._outgoing.send(instance, action)
            case AnnounceAddresses():
                self._outgoing.announce(instance)
            case Transitioned():
                self._tell(instance, transition_message(instance.name, action))
                self._unpublished = True
                if action.to_state is State.BACKUP and instance.router.distrusts_silence:
                    instance.ask_at = action.at

    def _tell(self, instance: Instance, message: Transition) -> None:
        instance.remember(message)
        self._log.info(
            f"{message.from_state} -> {message.to_state}: {message.message}",
            virtualIP=instance.name,
            fromState=message.from_state,
            toState=message.to_state,
            reason=message.reason,
            peer=message.peer,
        )
        if self.subscribers is not None:
            self.subscribers.publish(message)

    def _schedule(self, instance: Instance) -> None:
        times = (instance.router.next_deadline(), instance.retry_at, instance.ask_at)
        self._deadlines.set(instance.name, min((at for at in times if at is not None), default=None))

    def publish(self) -> None:
        """Keep the state for the next engine, if it changed: once for all that happened together."""
        if self._unsaved:
            self._unsaved = False
            self._directory.save_configuration(self.configuration)
        if self._unpublished:
            self._unpublished = False
            state = published_state(self.node_name, self.instances.values())
            if not self._inheritance.keep(Snapshot(configuration=self.configuration, state=state)):
                self._log.warning("the state is too large for the keeper's memory: an engine that dies begins anew")
            self._directory.publish(state)

    # ----- wishes, end -----

    def switchover(self, name: str, to: str, now: Instant) -> str:
        """Carry out a switchover on the user's wish; returns what was done. Raises ConfigurationError if it cannot."""
        instance = find_virtual_ip(self.instances, name)
        if to == self.node_name:
            if instance.router.state_name is State.MASTER:
                return f"{instance.name} is held by {to} already"
            self._carry_out(instance, instance.router.take_over(now), now)
            return f"{instance.name} is held by {to} now"
        self._carry_out(instance, instance.router.step_aside(now), now)
        return f"{self.node_name} steps aside for the best healthy Backup of {instance.name}"

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
        """Give everything up: addresses gone, priority 0 sent, state published."""
        for instance in self.instances.values():
            self._carry_out(instance, instance.router.stop(now), now)
        self.publish()

    def published(self, handed_over_at: int = 0) -> PublishedState:
        """What the next engine on this node should know."""
        return published_state(self.node_name, self.instances.values(), handed_over_at)

    def hand_over(self, now: Instant) -> None:
        """Leave everything as it is to a successor on this node, who has as long as the protocol spares it."""
        for instance in self.instances.values():
            self._carry_out(instance, instance.router.hand_over(now), now)
        self.kernel.refresh_now()
        self._unpublished = True  # a stop that comes after all takes this back
        held = sum(instance.router.holds_addresses for instance in self.instances.values())
        self._log.info(f"handed over to a successor on this node: {held} of {len(self.instances)} VirtualIPs are held")
