"""The proof that this node hears, which belongs to a link and a family.

With multicast it is a VRRP advertisement of any virtual router from another host. With unicast it is an answer of a
peer: known peers are asked by ARP or neighbour discovery. An answer to ARP says nothing of the group: a switch that
learns groups by IGMP, or a port that does not forward yet, lets one through and not the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from msgspec import Struct

from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.ports import Listener, NeighbourAnswer, Wire
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant

_ASK_EVERY = Duration(200 * MILLISECOND)
_ASK_AS_MASTER_EVERY = SECOND


class HearingCheckpoint(Struct, frozen=True):
    """Everything that Hearing knows."""

    proven: frozenset[Listener]
    asking: dict[str, Instant]
    began_at: Instant | None = None
    changed_at: dict[int, Instant] = {}


class Hearing:
    """Where this node has proof that it hears the group, and which VirtualIPs ask their peers for it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._proven: set[Listener] = set()
        self._asking: dict[str, Instant] = {}
        self._began_at: Instant | None = None
        self._changed_at: dict[int, Instant] = {}

    def checkpoint(self) -> HearingCheckpoint:
        """What is proven, who asks, and since when links are what they are."""
        return HearingCheckpoint(frozenset(self._proven), dict(self._asking), self._began_at, dict(self._changed_at))

    def restore(self, known: HearingCheckpoint) -> None:
        """Know what another one knew."""
        self._proven, self._asking = set(known.proven), dict(known.asking)
        self._began_at, self._changed_at = known.began_at, dict(known.changed_at)

    # ----- how long this engine has listened -----

    def begin(self, now: Instant) -> None:
        """This engine listens, from its first configuration on."""
        if self._began_at is None:
            self._began_at = now

    def change(self, indexes: Set[int], now: Instant) -> None:
        """Something about these links changed, such as their carrier: a port may have begun to forward just now."""
        self._changed_at.update(dict.fromkeys(indexes, now))

    def is_settled(self, index: int, within: Duration, now: Instant) -> bool:
        """Whether this engine has listened on the link for so long, and nothing about the link changed since."""
        began = self._began_at
        return began is not None and now - max(began, self._changed_at.get(index, began)) >= within

    # ----- multicast -----

    def is_proven(self, listener: Listener) -> bool:
        """Whether the group was heard there since the link came up."""
        return listener in self._proven

    def prove(self, listener: Listener) -> None:
        """The group was heard there."""
        self._proven.add(listener)

    def lose(self, indexes: Set[int]) -> None:
        """These links were cut off: what was proven before says nothing any more."""
        self._proven = {listener for listener in self._proven if listener.link not in indexes}

    def of(self, instance: Instance) -> frozenset[int]:
        """The families of a VirtualIP in which hearing is proven by what others say on its link."""
        if instance.unicast:
            return frozenset()
        return frozenset(listener.width for listener in instance.listeners if listener in self._proven)

    # ----- unicast -----

    def begin_asking(self, instance: Instance, now: Instant) -> None:
        """Ask the peers of a VirtualIP until one answers; only with unicast is that a proof."""
        if instance.unicast and instance.members:
            self._asking.setdefault(instance.name, now)

    def stop_asking(self, name: str) -> None:
        """It is proven, or no longer matters."""
        self._asking.pop(name, None)

    def forget(self, name: str) -> None:
        """A VirtualIP is no longer run here, or not by this name."""
        self.stop_asking(name)

    def next_deadline(self, name: str) -> Instant | None:
        """When the peers are asked again."""
        return self._asking.get(name)

    def poll(self, instance: Instance, now: Instant) -> None:
        """Ask, if it is time."""
        at = self._asking.get(instance.name)
        if at is None or now < at:
            return
        if instance.link is None or instance.router.proven:
            self.stop_asking(instance.name)
            return
        every = _ASK_AS_MASTER_EVERY if instance.router.holds_addresses else _ASK_EVERY
        self._asking[instance.name] = Instant(now + every)
        self._wire.transmit(instance.link.index, instance.questions_to_members())

    @property
    def names(self) -> Iterable[str]:
        """The VirtualIPs that wait for answers."""
        return self._asking

    def answered(self, instance: Instance, answers: Iterable[NeighbourAnswer]) -> set[int]:
        """The families in which a peer of the instance answered."""
        if instance.name not in self._asking:
            return set()
        peers = {member for family in instance.router.configuration.families for member in family.members or ()}
        return {len(answer.address) for answer in answers if answer.address in peers}
