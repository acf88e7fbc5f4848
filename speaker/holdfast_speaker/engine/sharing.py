"""One of several VirtualIPs that share a virtual router: what is its own beside the election that they have in common.

All of them move with their virtual router. One whose addresses cannot be held is withheld, and the others are held all
the same; to people it is out of the election then, in Initialize.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from msgspec import Struct

from holdfast_api.addresses import packed_interface
from holdfast_api.listing import some_of
from holdfast_api.messages import Transition
from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import Health, Obstacle, Reason, State
from holdfast_api.speaker import SharingVirtualIP
from holdfast_speaker.vrrp.instants import Instant

HISTORY = 10
"""How many transitions of each VirtualIP are remembered."""

_OTHERS_TOLD = 8
"""How many of the VirtualIPs that share a virtual router a sentence names."""

_GOES_WITH_MASTER = frozenset({Obstacle.ADDRESS_CONFLICT, Obstacle.KERNEL_REFUSED})
"""What is known by who holds addresses, or is about to, and by nobody else."""


@dataclass(slots=True)
class LastMove:
    """What status tells of the last transition."""

    since: str
    reason: Reason | None = None
    message: str = ""
    moves: int = 0


class PublishedVirtualIP(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """One VirtualIP of a shared virtual router as it was last seen."""

    name: str
    state: State
    since: str
    reason: Reason | None = None
    message: str = ""
    moves: int = 0
    health: Health = Health.UNKNOWN
    health_detail: str = ""
    history: list[Transition] = field(default_factory=list)
    withheld: dict[Obstacle, str] = field(default_factory=dict)


@dataclass(slots=True)
class Sharer:
    """One of them, as this engine runs it."""

    name: str
    """namespace/name."""
    last_move: LastMove
    texts: list[str] = field(default_factory=list)
    """Its addresses as the user wrote them."""
    addresses: tuple[tuple[bytes, int], ...] = ()
    """The same, packed, with prefix lengths."""
    state: State = State.INITIALIZE
    """What people were told last."""
    withheld: dict[Obstacle, str] = field(default_factory=dict)
    """Why its addresses are not held here, or would not be."""
    unasked: bool = False
    """Its virtual router is held, and whether somebody else has its addresses is not known yet."""
    retry_at: Instant | None = None
    """When what withholds it is tried again."""
    warning: str = ""
    """Who else answers for its addresses while they are held."""
    reported_health: Health = Health.UNKNOWN
    reported_detail: str = ""
    history: list[Transition] = field(default_factory=list)

    @property
    def is_out(self) -> bool:
        """Whether its addresses are not to be held now, though those of the others are."""
        return self.unasked or bool(self.withheld)

    def shown_state(self, router: State) -> State:
        """Its state for people, where its virtual router is in that one."""
        out = self.unasked or (self.withheld if router is State.MASTER else self.withheld.keys() - _GOES_WITH_MASTER)
        return State.INITIALIZE if out else router

    def change(self, asked: SharingVirtualIP) -> bool:
        """Take its addresses from another configuration; whether it has others than before."""
        before, self.texts = self.addresses, asked.addresses
        self.addresses = tuple(map(packed_interface, asked.addresses))
        return {address for address, _ in before} != {address for address, _ in self.addresses}

    def withhold(self, obstacle: Obstacle, why: str) -> None:
        """Withhold its addresses for that reason; an empty one: no longer."""
        if why:
            self.withheld[obstacle] = why
        else:
            self.withheld.pop(obstacle, None)

    def leave_to_master(self) -> None:
        """Another node is Master: what was found out while it was held here says nothing any more."""
        self.unasked, self.retry_at, self.warning = False, None, ""
        self.withheld = {obstacle: why for obstacle, why in self.withheld.items() if obstacle not in _GOES_WITH_MASTER}

    def remember(self, message: Transition) -> None:
        """A transition that people are told of."""
        self.history = [*self.history, message][-HISTORY:]
        moves = self.last_move.moves + (State.MASTER in (message.from_state, message.to_state))
        self.last_move = LastMove(message.time, message.reason, message.message, moves)
        self.state = message.to_state

    def publish(self) -> PublishedVirtualIP:
        """What the next engine on this node should know of it."""
        return PublishedVirtualIP(
            name=self.name,
            state=self.state,
            since=self.last_move.since,
            reason=self.last_move.reason,
            message=self.last_move.message,
            moves=self.last_move.moves,
            health=self.reported_health,
            health_detail=self.reported_detail,
            history=list(self.history),
            withheld=dict(self.withheld),
        )

    def inherit(self, former: PublishedVirtualIP) -> None:
        """Go on with what is known from a process before this one."""
        self.last_move = LastMove(former.since, former.reason, former.message, former.moves)
        self.history = list(former.history)
        self.state = former.state
        self.reported_health, self.reported_detail = former.health, former.health_detail
        self.withheld = dict(former.withheld)

    def go_on_from(self, last_move: LastMove, history: Iterable[Transition], state: State) -> None:
        """It had this virtual router by itself until now."""
        self.last_move, self.history, self.state, self.unasked = last_move, list(history), state, False

    def copy(self) -> Sharer:
        """The same, independent of this one."""
        return replace(self, withheld=dict(self.withheld), history=list(self.history))


def common_health(sharers: Mapping[str, Sharer]) -> tuple[Health, str]:
    """What was reported of the services behind any of them, which track the same: the worst that is known."""
    for health in (Health.FAILING, Health.HEALTHY):
        for sharer in sharers.values():
            if sharer.reported_health is health:
                return health, sharer.reported_detail
    return Health.UNKNOWN, ""


def with_others(sharers: Mapping[str, Sharer], name: str) -> str:
    """Who else moves with a VirtualIP, for people."""
    others = [other for other in sharers if other != name]
    if not others:
        return ""
    return f", with all that share its virtual router: {some_of(others, _OTHERS_TOLD)}"
