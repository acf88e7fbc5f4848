"""This node's entries of VirtualIP.status.nodes, from what the engine says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import structs

from holdfast_api.cluster import NodeStatus
from holdfast_api.messages import RouterStatus, Transition
from holdfast_api.reasons import Health, Reason, State

_WORDS_MAX = 1024
_OBSTACLES_MAX = 16
_INTERFACE_MAX = 15
_PEER_MAX = 64

WORDS = ("message", "healthMessage")
"""Fields of an entry that are for people alone."""

ENGINE_IS_AWAY = "the engine of this node does not answer"


def entry(node_name: str, router: RouterStatus, silent_ms: int, peer: str = "") -> NodeStatus:
    """What the API server shall know of one virtual router on this node; `peer` decided its last transition."""
    return NodeStatus(
        node_name=node_name,
        state=router.state,
        since=router.since,
        priority=router.effective_priority,
        health=router.health,
        health_message=router.health_detail[:_WORDS_MAX],
        reason=router.reason,
        message=(router.obstacle_detail or "; ".join((router.message, *_remarks(router))))[:_WORDS_MAX],
        peer=peer[:_PEER_MAX],
        silent_milliseconds=silent_ms if router.state is State.MASTER else 0,
        obstacles=list(router.obstacles)[:_OBSTACLES_MAX],
        interface=router.interface[:_INTERFACE_MAX],
        host_ports_exposed=router.host_ports_exposed,
    )


def _remarks(router: RouterStatus) -> list[str]:
    """What people should know beside the reason of the last move. Words alone: they cost a write now and then."""
    return [f"warning: {warning}" for warning in sorted(router.warnings)]


def entry_without_engine(node_name: str, router: RouterStatus, since: str) -> NodeStatus:
    """The same when the engine has been away for so long that the kernel has taken its addresses."""
    return NodeStatus(
        node_name=node_name,
        state=State.INITIALIZE,
        since=since,
        priority=router.effective_priority,
        health=Health.UNKNOWN,
        reason=Reason.STOPPED,
        message=ENGINE_IS_AWAY,
        interface=router.interface[:_INTERFACE_MAX],
    )


def left_behind(fields: Mapping[str, Any], since: str) -> dict[str, Any]:
    """What a former agent wrote, where no engine has been seen since (the node may have been restarted)."""
    return {
        "nodeName": fields["nodeName"],
        "state": State.INITIALIZE.value,
        "since": since,
        "priority": fields.get("priority", 0),
        "health": Health.UNKNOWN.value,
        "reason": Reason.STOPPED.value,
        "message": ENGINE_IS_AWAY,
    }


def after(router: RouterStatus, transition: Transition) -> RouterStatus:
    """A status that an engine gave before a transition of its own; the rest is as it was."""
    return structs.replace(
        router,
        state=transition.to_state,
        since=transition.time,
        reason=transition.reason,
        message=transition.message,
    )


class LastTransitions:
    """What led to the present state, beside what the engine's status says of it."""

    def __init__(self) -> None:
        self._last: dict[str, Transition] = {}

    def take(self, transition: Transition) -> bool:
        """Remember a transition. Returns whether it is news."""
        known = self._last.get(transition.virtual_ip)
        if known is not None and transition.time <= known.time and known.to_state is transition.to_state:
            return False
        self._last[transition.virtual_ip] = transition
        return True

    def lacking(self, routers: Iterable[RouterStatus]) -> list[str]:
        """The VirtualIPs that have made a transition which is not known here."""
        return [
            router.virtual_ip
            for router in routers
            if router.reason is not None
            and ((known := self._last.get(router.virtual_ip)) is None or known.time != router.since)
        ]

    def last_time(self, virtual_ip: str) -> str:
        """When the last known transition was (RFC 3339); empty: none is known."""
        known = self._last.get(virtual_ip)
        return known.time if known else ""

    def silent_ms(self, router: RouterStatus) -> int:
        """How long nobody had been heard then, in milliseconds; 0 where it is not known."""
        known = self._that_led_to(router)
        return known.silent_milliseconds if known is not None else 0

    def peer(self, router: RouterStatus) -> str | None:
        """Who decided it, by advertisement or silence; empty: nobody; None: it is not known."""
        known = self._that_led_to(router)
        return known.peer if known is not None else None

    def keep_only(self, virtual_ips: Iterable[str]) -> None:
        """Forget what does not run here any more."""
        wanted = set(virtual_ips)
        self._last = {name: known for name, known in self._last.items() if name in wanted}

    def _that_led_to(self, router: RouterStatus) -> Transition | None:
        known = self._last.get(router.virtual_ip)
        return known if known is not None and known.time == router.since else None
