"""A virtual LAN under a virtual clock: the real VRRP core on several nodes, packets as bytes, no socket, no waiting.

A node does what the engine's driver does: it takes in every packet that has arrived, then polls; after each call it
makes the addresses what the core says, then carries out the actions in their order.
"""

from __future__ import annotations

import heapq
from collections import Counter as Multiset
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from holdfast_api.reasons import Health, Obstacle
from holdfast_speaker.vrrp.actions import Action, Actions, SendAdvertisement
from holdfast_speaker.vrrp.configuration import Configuration
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, ZERO, Duration, Instant
from holdfast_speaker.vrrp.packet import PacketError, decode
from holdfast_speaker.vrrp.router import VirtualRouter

TTL = 255
DELAY = Duration(MILLISECOND // 10)
"""How long a packet travels unless a test says otherwise."""

EPOCH = Instant(1_000 * SECOND)
"""The virtual clock begins here: a monotonic clock is never near zero in a process that runs."""


class Datagram(NamedTuple):
    """An IP payload as it arrives, with what its IP header said."""

    payload: bytes
    source: bytes
    destination: bytes
    ttl: int = TTL


class HoldsAddresses(NamedTuple):
    """The addresses were put on the node's kernel (or taken away): the level, before the actions."""

    held: bool


class Happening(NamedTuple):
    """Something that a node did."""

    at: Instant
    node: str
    what: Action | HoldsAddresses


@dataclass
class Node:
    """A host: it has a running virtual router, or None."""

    name: str
    configuration: Configuration
    router: VirtualRouter | None = None
    health: Health = Health.HEALTHY
    obstacles: frozenset[Obstacle] = frozenset()
    frozen: bool = False
    holding: bool = False
    queue: list[Datagram] = field(default_factory=list)
    """What arrived while the node was frozen, as its sockets would keep it."""
    foreign_packets: Multiset[Counter] = field(default_factory=Multiset)
    """Packets of no virtual router of this node."""

    @property
    def link_up(self) -> bool:
        return Obstacle.LINK_DOWN not in self.obstacles

    @property
    def running(self) -> VirtualRouter:
        assert self.router is not None, f"{self.name} does not run"
        return self.router

    def owns(self, address: bytes) -> bool:
        return any(family.source == address for family in self.configuration.families)


Travel = Callable[[str, str], Duration | None]
"""How long a packet from one node to another takes; None: it is lost."""


class VirtualLan:
    """Nodes on one link. Nothing moves but in `run`, or at once in what a method says."""

    def __init__(self, configurations: dict[str, Configuration], travel: Travel = lambda _sender, _receiver: DELAY):
        self.now = EPOCH
        self.nodes = {name: Node(name, configuration) for name, configuration in configurations.items()}
        self.happenings: list[Happening] = []
        self.travel = travel
        self._cuts: set[tuple[str, str, int]] = set()
        self._arrivals: list[tuple[Instant, int, str, Datagram]] = []
        self._sequence = 0

    # ----- what a node's host does -----

    def start(self, name: str) -> None:
        """Start the engine anew: nothing is remembered of a former one."""
        node = self.nodes[name]
        node.router = VirtualRouter(node.configuration)
        self._carry_out(node, node.router.start(self.now, node.health, node.obstacles))

    def stop(self, name: str) -> None:
        """SIGTERM: with a farewell."""
        node = self.nodes[name]
        self._carry_out(node, node.running.stop(self.now))
        node.router = None

    def kill(self, name: str) -> None:
        """A crash or power loss: nothing is said, and nothing is held once the kernel's lifetime is over."""
        node = self.nodes[name]
        node.router, node.holding, node.frozen = None, False, False
        node.queue.clear()

    def freeze(self, name: str) -> None:
        """The process does not run; its sockets go on queueing."""
        self.nodes[name].frozen = True

    def thaw(self, name: str, *, queue_lost: bool = False) -> None:
        """The process runs again: ingress before timers."""
        node = self.nodes[name]
        node.frozen = False
        queue, node.queue = node.queue, []
        for datagram in () if queue_lost else queue:
            self._take_in(node, datagram)
        self._poll(node)

    def report_health(self, name: str, health: Health) -> None:
        """The probes' verdict."""
        node = self.nodes[name]
        node.health = health
        if node.router is not None:
            self._carry_out(node, node.router.report_health(health, self.now))

    def obstruct(self, name: str, obstacle: Obstacle, *, at_once: bool = False) -> None:
        """Something keeps the node out of the election."""
        node = self.nodes[name]
        node.obstacles |= {obstacle}
        if node.router is not None:
            self._carry_out(node, node.router.obstruct(obstacle, self.now, at_once=at_once))

    def clear(self, name: str, obstacle: Obstacle) -> None:
        """The obstacle is gone."""
        node = self.nodes[name]
        node.obstacles -= {obstacle}
        if node.router is not None:
            self._carry_out(node, node.router.clear(obstacle, self.now))

    def hearing_proven(self, name: str) -> None:
        """The node knows from elsewhere that it hears its link, in every family."""
        node = self.nodes[name]
        for width in (4, 16):
            self._carry_out(node, node.running.hearing_proven(width, self.now))

    def reconfigure(self, name: str, configuration: Configuration) -> None:
        """Another configuration, now or from the next start on."""
        node = self.nodes[name]
        node.configuration = configuration
        if node.router is not None:
            self._carry_out(node, node.router.reconfigure(configuration, self.now))

    def take_over(self, name: str) -> None:
        """Switchover to this node; raises ConfigurationError where it is refused."""
        node = self.nodes[name]
        self._carry_out(node, node.running.take_over(self.now))

    def step_aside(self, name: str) -> None:
        """Switchover away from this node; raises ConfigurationError where it is refused."""
        node = self.nodes[name]
        self._carry_out(node, node.running.step_aside(self.now))

    # ----- the link -----

    def cut(self, sender: str, receiver: str, widths: Iterable[int] = (4, 16)) -> None:
        """Nothing gets from one node to another, in these families."""
        self._cuts |= {(sender, receiver, width) for width in widths}

    def heal(self) -> None:
        """Every cut is mended."""
        self._cuts.clear()

    def inject(self, name: str, datagram: Datagram, after: Duration = ZERO) -> None:
        """A packet from nobody in particular arrives at a node."""
        self._arrive(Instant(self.now + after), name, datagram)

    # ----- time -----

    def run(self, duration: int) -> None:
        """Let time pass. At one instant packets arrive first, then timers act."""
        end = Instant(self.now + duration)
        while (at := self._next()) is not None and at <= end:
            self.now = max(self.now, at)
            if self._arrivals and self._arrivals[0][0] <= self.now:
                _, _, name, datagram = heapq.heappop(self._arrivals)
                self._deliver(self.nodes[name], datagram)
                continue
            for node in self.nodes.values():
                self._poll(node)
        self.now = end

    def _next(self) -> Instant | None:
        times = [self._arrivals[0][0]] if self._arrivals else []
        times += [at for node in self.nodes.values() if (at := self._deadline(node)) is not None]
        return min(times, default=None)

    def _deadline(self, node: Node) -> Instant | None:
        return None if node.router is None or node.frozen else node.router.next_deadline()

    # ----- what can be seen -----

    @property
    def holders(self) -> list[str]:
        """Who holds the addresses and runs. A frozen node does not: its kernel takes them away."""
        return [node.name for node in self.nodes.values() if node.holding and not node.frozen]

    def name_of(self, address: bytes) -> str:
        """A node's name, or the address where it is nobody's."""
        names = [node.name for node in self.nodes.values() if node.owns(address)]
        return names[0] if names else str(ip_address(address))

    # ----- doing -----

    def _poll(self, node: Node) -> None:
        deadline = self._deadline(node)
        if node.router is None or deadline is None or deadline > self.now:
            return
        self._carry_out(node, node.router.poll(self.now))
        later = node.router.next_deadline()
        assert later is None or later > self.now, f"{node.name} is due again at once, after a poll: {node.router.state}"

    def _deliver(self, node: Node, datagram: Datagram) -> None:
        if node.router is None or not node.link_up:
            return
        if node.frozen:
            node.queue.append(datagram)
            return
        self._take_in(node, datagram)

    def _take_in(self, node: Node, datagram: Datagram) -> None:
        """As engine.Engine.receive does with one datagram."""
        router, payload = node.running, datagram.payload
        if len(payload) < 2 or payload[1] != router.configuration.vrid:
            node.foreign_packets[Counter.VRID_ERRORS if len(payload) > 1 else Counter.PACKET_LENGTH_ERRORS] += 1
            return
        try:
            advertisement = decode(payload, datagram.source, datagram.destination, datagram.ttl)
        except PacketError as error:
            router.counters[error.counter] += 1
            return
        self._carry_out(node, router.receive(advertisement, self.now))

    def _carry_out(self, node: Node, actions: Actions) -> None:
        holds = node.running.holds_addresses
        if holds != node.holding:
            node.holding = holds
            self.happenings.append(Happening(self.now, node.name, HoldsAddresses(holds)))
        for action in actions:
            self.happenings.append(Happening(self.now, node.name, action))
            if isinstance(action, SendAdvertisement) and node.link_up:
                self._send(node, action)
                node.running.counters[Counter.ADVERTISEMENT_SENT] += 1
                node.running.counters[Counter.PRIORITY_ZERO_PKTS_SENT] += action.priority == 0

    def _send(self, sender: Node, sent: SendAdvertisement) -> None:
        datagram = Datagram(sent.payload, sent.source, sent.destination)
        width = len(sent.source)
        multicast = ip_address(sent.destination).is_multicast
        for receiver in self.nodes.values():
            if receiver is sender or (sender.name, receiver.name, width) in self._cuts:
                continue
            if not (multicast or receiver.owns(sent.destination)) or receiver.configuration.family(width) is None:
                continue
            travel = self.travel(sender.name, receiver.name)
            if travel is not None:
                self._arrive(Instant(self.now + travel), receiver.name, datagram)

    def _arrive(self, at: Instant, name: str, datagram: Datagram) -> None:
        self._sequence += 1
        heapq.heappush(self._arrivals, (at, self._sequence, name, datagram))
