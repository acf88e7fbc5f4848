"""What the engine tells others: transitions as messages, the published state, the status."""

from __future__ import annotations

import heapq
from collections.abc import Set
from ipaddress import ip_address
from typing import TYPE_CHECKING

from holdfast_api import __version__
from holdfast_api.errors import ConfigurationError
from holdfast_api.messages import History, LinkStatus, RealTime, RouterStatus, Status, Transition
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.links import LinkTable, own_addresses
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.vrrp.actions import Transitioned
from holdfast_speaker.vrrp.instants import MILLISECOND, Instant
from holdfast_speaker.vrrp.sentences import sentence
from holdfast_speaker.vrrp.states import Backup

if TYPE_CHECKING:
    from holdfast_speaker.engine.engine import Engine
    from holdfast_speaker.engine.journal import Journal


_LINKS_MAX = 64
_ADDRESSES_MAX = 64
_NEXT_HOPS_MAX = 64


def transition_message(name: str, action: Transitioned, time: str) -> Transition:
    """A transition of the core with a name and the wall clock."""
    return Transition(
        virtual_ip=name,
        from_state=action.from_state,
        to_state=action.to_state,
        reason=action.reason,
        message=sentence(action),
        time=time,
        peer=str(ip_address(action.peer)) if action.peer else "",
        peer_priority=action.peer_priority,
        silent_milliseconds=action.silent // MILLISECOND,
    )


def published_router(instance: Instance) -> PublishedRouter:
    """What the next engine on this node should know of a VirtualIP."""
    return PublishedRouter(
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
        interface=instance.link.name if instance.link else "",
        sources=[str(ip_address(source)) for _, source in sorted(instance.sources.items())],
        proven=sorted(instance.router.proven),
        heard=sorted(instance.router.heard),
        met=[str(ip_address(source)) for source in instance.router.acquaintances.met],
        former_addresses=[str(ip_address(address)) for address in sorted(instance.router.acquaintances.former)],
    )


def router_status(instance: Instance, warnings: list[str], *, host_ports_exposed: bool) -> RouterStatus:
    """How a VirtualIP is now, for people and agents."""
    router, asked = instance.router, instance.configuration
    heard = [known.heard for known in router.state.known] if isinstance(router.state, Backup) else []
    master = next((item for item in heard if item is not None), None)
    details = [instance.obstacle_details.get(obstacle, "") for obstacle in sorted(router.obstacles)]
    details.append(instance.warnings.get("conflict", "") if not router.holds_addresses else "")
    interval = asked.advertisement_interval_milliseconds
    return RouterStatus(
        virtual_ip=instance.name,
        addresses=list(asked.addresses),
        interface=instance.link.name if instance.link else asked.interface or "",
        virtual_router_id=asked.virtual_router_id,
        version=asked.version,
        state=router.state_name,
        since=instance.last_move.since,
        reason=instance.last_move.reason,
        message=instance.last_move.message,
        priority=asked.priority,
        effective_priority=router.effective_priority,
        health=router.health,
        health_detail=instance.health_detail,
        obstacles=sorted(router.obstacles),
        obstacle_detail="; ".join(filter(None, details)),
        master=str(ip_address(master.source)) if master else "",
        master_priority=master.priority if master else 0,
        advertisement_interval_milliseconds=interval,
        learned_interval_milliseconds=master.interval // MILLISECOND if master else interval,
        transitions=instance.last_move.moves,
        counters={counter.value: count for counter, count in sorted(router.counters.items())},
        warnings=warnings,
        unproved=router.unproved,
        host_ports_exposed=host_ports_exposed,
    )


def link_statuses(table: LinkTable, vips: Set[bytes]) -> list[LinkStatus]:
    """The links that a VIP can live on. Of very many addresses those that come first in the order of numbers."""
    return [
        LinkStatus(
            name=link.name,
            addresses=sorted(
                f"{ip_address(address)}/{length}"
                for _, address, length in heapq.nsmallest(
                    _ADDRESSES_MAX, ((len(one.address), one.address, one.prefix_length) for one in own)
                )
            ),
            next_hops=[str(ip_address(address)) for index, address in table.next_hops if index == link.index][
                :_NEXT_HOPS_MAX
            ],
        )
        for link, own in own_addresses(table, vips)[:_LINKS_MAX]
    ]


def status(
    engine: Engine,
    now: Instant,
    *,
    pid: int,
    real_time: RealTime,
    warnings: list[str],
    restarts: int,
    last_death: str,
) -> Status:
    """Everything that `holdfast status` shows."""
    instances = engine.instances
    return Status(
        node_name=engine.node_name,
        version=__version__,
        pid=pid,
        started=engine.started,
        generation=engine.configuration.generation,
        routers=[
            router_status(
                instances[name],
                engine.warnings_of(instances[name], now),
                host_ports_exposed=bool(engine.host_ports.why_exposed(name)),
            )
            for name in sorted(instances)
        ],
        link_counters={counter.value: count for counter, count in sorted(engine.strangers.counters.items())},
        foreign_virtual_router_ids=engine.strangers.by_link(engine.table, now),
        links=link_statuses(engine.table, engine.vips),
        lateness=engine.lateness.summary(),
        real_time=real_time,
        warnings=warnings,
        restarts=restarts,
        last_death=last_death,
    )


def history(instance: Instance, journal: Journal | None) -> History:
    """The last moves of a VIP, and the engine's journal where one is kept."""
    lines = [] if journal is None else [line.decode() for line in journal.lines()]
    return History(virtual_ip=instance.name, transitions=list(instance.history), journal=lines)


def find_virtual_ip(instances: dict[str, Instance], name: str) -> Instance:
    """The VirtualIP of this namespace/name, or of this name where only one has it; raises ConfigurationError."""
    matches = [instance for key, instance in instances.items() if name in (key, key.partition("/")[2])]
    if len(matches) == 1:
        return matches[0]
    there = ", ".join(sorted(instances)) or "none"
    if matches:
        raise ConfigurationError(f"several VirtualIPs are named {name}; say which as namespace/name: {there}")
    raise ConfigurationError(f"there is no VirtualIP {name} here; there are: {there}")
