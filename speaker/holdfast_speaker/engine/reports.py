"""What the engine tells others: transitions as messages, the published state, the status."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Set
from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import structs

from holdfast_api import __version__
from holdfast_api.errors import ConfigurationError
from holdfast_api.messages import History, LinkStatus, RealTime, RouterStatus, Status, Transition
from holdfast_api.reasons import Reason
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.links import LinkTable, own_addresses
from holdfast_speaker.engine.sharing import Sharer
from holdfast_speaker.engine.state import PublishedRouter
from holdfast_speaker.vrrp.actions import Transitioned
from holdfast_speaker.vrrp.instants import MILLISECOND, Instant
from holdfast_speaker.vrrp.sentences import sentence
from holdfast_speaker.vrrp.states import Backup

if TYPE_CHECKING:
    from holdfast_speaker.engine.engine import Engine
    from holdfast_speaker.engine.journal import Journal


_OF_OWN_SERVICES = frozenset((Reason.SERVICE_FAILED, Reason.HEALTHIER_MASTER))
"""Of these the cause is a probe of this node, or a tracked interface."""

_DETAIL_MAX = 300
_LINKS_MAX = 64
_ADDRESSES_MAX = 64
_NEXT_HOPS_MAX = 64


_NOBODY_MAY_HAVE_HELD = frozenset((Reason.MASTER_SILENT, Reason.MASTER_RELEASED))
"""Of every other move who held the addresses did so until the next one had them, whether or not it was heard last."""


def transition_message(name: str, action: Transitioned, time: str, health_detail: str = "") -> Transition:
    """A transition of the core with a name and the wall clock; `health_detail`: what fails on this node."""
    message = sentence(action)
    if health_detail and action.reason in _OF_OWN_SERVICES and health_detail not in message:
        message += f": {health_detail[:_DETAIL_MAX]}"
    return Transition(
        virtual_ip=name,
        from_state=action.from_state,
        to_state=action.to_state,
        reason=action.reason,
        message=message,
        time=time,
        peer=str(ip_address(action.peer)) if action.peer else "",
        peer_priority=action.peer_priority,
        silent_milliseconds=action.silent // MILLISECOND if action.reason in _NOBODY_MAY_HAVE_HELD else 0,
    )


def published_router(instance: Instance) -> PublishedRouter:
    """What the next engine on this node should know of a VirtualIP."""
    return PublishedRouter(
        virtual_ip=instance.name,
        state=instance.router.state_name,
        since=instance.last_move.since,
        reason=instance.last_move.reason,
        addresses=list(instance.configuration.every_address),
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
        carrier_down_count=instance.link.carrier_down_count if instance.link else None,
        met=[str(ip_address(source)) for source in instance.router.acquaintances.met],
        former_addresses=[str(ip_address(address)) for address in sorted(instance.router.acquaintances.former)],
        virtual_ips=[sharer.publish() for sharer in instance.sharers.values()],
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
        advertised_interval_milliseconds=router.advertised_interval // MILLISECOND,
        takes_over_after_milliseconds=-(-router.patience // MILLISECOND),
    )


def sharer_status(sharer: Sharer, shared: RouterStatus) -> RouterStatus:
    """How one of several VirtualIPs is that share a virtual router; `shared` is how that is."""
    is_out = sharer.state is not shared.state
    details = [shared.obstacle_detail, *(sharer.withheld[obstacle] for obstacle in sorted(sharer.withheld))]
    return structs.replace(
        shared,
        virtual_ip=sharer.name,
        addresses=list(sharer.texts),
        state=sharer.state,
        since=sharer.last_move.since,
        reason=sharer.last_move.reason,
        message=sharer.last_move.message,
        transitions=sharer.last_move.moves,
        obstacles=sorted({*shared.obstacles, *sharer.withheld}),
        obstacle_detail="; ".join(dict.fromkeys(filter(None, details))),
        warnings=[*shared.warnings, *filter(None, [sharer.warning])],
        unproved=shared.unproved and not is_out,
        virtual_router=shared.virtual_ip,
    )


def virtual_ip_statuses(
    instance: Instance, warnings: list[str], *, host_ports_exposed: bool = False
) -> list[RouterStatus]:
    """Of its VirtualIP, or of those that share it."""
    status = router_status(instance, warnings, host_ports_exposed=host_ports_exposed)
    return [sharer_status(sharer, status) for sharer in instance.sharers.values()] or [status]


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
        shares_virtual_routers=True,
        pid=pid,
        started=engine.started,
        generation=engine.configuration.generation,
        routers=sorted(
            (
                status
                for instance in instances.values()
                for status in virtual_ip_statuses(
                    instance,
                    engine.warnings_of(instance, now),
                    host_ports_exposed=bool(engine.host_ports.why_exposed(instance.name)),
                )
            ),
            key=lambda status: status.virtual_ip,
        ),
        link_counters={counter.value: count for counter, count in sorted(engine.strangers.counters.items())},
        foreign_virtual_router_ids=engine.strangers.by_link(engine.table, now),
        links=link_statuses(engine.table, engine.vips),
        lateness=engine.lateness.summary(),
        real_time=real_time,
        warnings=[*warnings, *late_warnings(instances.values())],
        restarts=restarts,
        last_death=last_death,
    )


def late_warnings(instances: Iterable[Instance]) -> list[str]:
    """One line about all Masters that ask for patience (ADR 38); without figures, as each change of it is written."""
    if not any(one.router.advertised_interval > one.router.configuration.interval for one in instances):
        return []
    return [
        "advertisements leave late: this machine is busy, or grants too little of its CPU; Backups are asked for "
        "patience, and would notice a failure up to four times later"
    ]


def history(instances: Mapping[str, Instance], name: str, journal: Journal | None) -> History:
    """The last moves of a VIP, and the engine's journal where one is kept. Raises ConfigurationError where there is no
    such VIP."""
    instance, key = find_virtual_ip(instances, name)
    sharer = instance.sharers.get(key)
    lines = [] if journal is None else [line.decode() for line in journal.lines()]
    known = instance.history if sharer is None else sharer.history
    return History(virtual_ip=key, transitions=list(known), journal=lines)


def find_virtual_ip(instances: Mapping[str, Instance], name: str) -> tuple[Instance, str]:
    """The virtual router of the VirtualIP of this namespace/name, or of this name where only one has it, and
    namespace/name; raises ConfigurationError."""
    homes = {key: instance for instance in instances.values() for key in instance.sharers or [instance.name]}
    matches = [name] if name in homes else [key for key in homes if key.partition("/")[2] == name]
    if len(matches) == 1:
        return homes[matches[0]], matches[0]
    there = ", ".join(sorted(homes)) or "none"
    if matches:
        raise ConfigurationError(f"several VirtualIPs are named {name}; say which as namespace/name: {there}")
    raise ConfigurationError(f"there is no VirtualIP {name} here; there are: {there}")
