"""What the engine tells others: transitions as messages, the published state, the status."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from holdfast_api import __version__
from holdfast_api.errors import ConfigurationError
from holdfast_api.messages import History, Lateness, RealTime, Status, Transition
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.state import PublishedRouter, PublishedState
from holdfast_speaker.host import clock
from holdfast_speaker.vrrp import journal
from holdfast_speaker.vrrp.actions import Transitioned
from holdfast_speaker.vrrp.instants import MILLISECOND
from holdfast_speaker.vrrp.sentences import sentence


def transition_message(name: str, action: Transitioned) -> Transition:
    """A transition of the core with a name and the wall clock."""
    return Transition(
        virtual_ip=name,
        from_state=action.from_state,
        to_state=action.to_state,
        reason=action.reason,
        message=sentence(action),
        time=clock.timestamp(),
        peer=str(ip_address(action.peer)) if action.peer else "",
        peer_priority=action.peer_priority,
        silent_milliseconds=action.silent // MILLISECOND,
    )


def published_state(node_name: str, instances: Iterable[Instance], handed_over_at: int = 0) -> PublishedState:
    """What the next engine on this node should know."""
    return PublishedState(
        node_name=node_name,
        pid=os.getpid(),
        handed_over_at=handed_over_at,
        boot=boot_id(),
        routers=[
            PublishedRouter(
                virtual_ip=instance.name,
                state=instance.router.state_name,
                since=instance.last_move.since,
                reason=instance.last_move.reason,
                addresses=list(instance.configuration.addresses),
                message=instance.last_move.message,
                moves=instance.last_move.moves,
                health=instance.reported_health,
                health_detail=instance.reported_detail,
                recovered_at=instance.router.recovered_at,
                history=list(instance.history),
            )
            for instance in instances
        ],
    )


def status(
    *,
    node_name: str,
    started: str,
    generation: int,
    instances: dict[str, Instance],
    link_counters: dict[str, int],
    foreign_virtual_router_ids: dict[str, list[int]],
    lateness: Lateness,
    real_time: RealTime,
    warnings: list[str],
    restarts: int,
    last_death: str,
) -> Status:
    """Everything that `holdfast status` shows."""
    return Status(
        node_name=node_name,
        version=__version__,
        pid=os.getpid(),
        started=started,
        generation=generation,
        routers=[instances[name].status() for name in sorted(instances)],
        link_counters=link_counters,
        foreign_virtual_router_ids=foreign_virtual_router_ids,
        lateness=lateness,
        real_time=real_time,
        warnings=warnings,
        restarts=restarts,
        last_death=last_death,
    )


@functools.cache
def boot_id() -> str:
    """Which boot of the machine this is: CLOCK_MONOTONIC means something only within one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def history(instance: Instance) -> History:
    """The last moves of a VIP, and its journal where one is kept."""
    router = instance.router
    lines = journal.write(instance.name, router) if isinstance(router, journal.RecordedRouter) else ()
    return History(
        virtual_ip=instance.name,
        transitions=list(instance.history),
        journal=[line.decode() for line in lines],
    )


def find_virtual_ip(instances: dict[str, Instance], name: str) -> Instance:
    """The VirtualIP of this namespace/name, or of this name where only one has it; raises ConfigurationError."""
    matches = [instance for key, instance in instances.items() if name in (key, key.partition("/")[2])]
    if len(matches) == 1:
        return matches[0]
    there = ", ".join(sorted(instances)) or "none"
    if matches:
        raise ConfigurationError(f"several VirtualIPs are named {name}; say which as namespace/name: {there}")
    raise ConfigurationError(f"there is no VirtualIP {name} here; there are: {there}")
