"""SpeakerConfig.status: what runs here, and what keeps the newest configuration from running. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from msgspec import structs

from holdfast_api.cluster import (
    VIRTUAL_ROUTERS_MAX,
    AppliedReason,
    Condition,
    Link,
    SpeakerConditionType,
    SpeakerConfigStatus,
    VirtualRouterInForce,
)
from holdfast_api.messages import RouterStatus, Status
from holdfast_kube.reachability import Outage
from holdfast_speaker.agent.configuration import Configuration

WORTH_TELLING_SECONDS = 10.0
"""A shorter absence of the API server is no news: its own restarts are."""

MORE_WARNINGS = "there are more: `holdfast status` in this node's speaker shows all"

_NEXT_HOPS_MAX = 64
_WARNINGS_MAX = 32
_WARNING_MAX = 1024
_MESSAGE_MAX = 32768


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What is known of the engine."""

    is_away: bool = True
    """It has not answered for so long that this is worth telling."""
    words: str = ""
    """Why it cannot be talked to."""
    version: str = ""
    shares_virtual_routers: bool = False
    generation: int = 0
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the status is made of."""

    configuration: Configuration
    engine: EngineFacts
    links: Sequence[Link]
    routers: Sequence[RouterStatus] = ()
    """What the engine runs, or ran when it was heard last."""
    warnings: Sequence[str] = ()
    outage: Outage | None = None
    before: Sequence[Condition] = field(default_factory=tuple)
    """The conditions as they are: a condition that stays keeps its time."""


def links_of(status: Status | None, known: Sequence[Link]) -> list[Link]:
    """The links as the engine tells them; those that are known where it is away, or too old to tell them."""
    if status is None:
        return list(known)
    told = (
        known
        if status.links is None
        else [
            Link(name=one.name, addresses=one.addresses, next_hops=one.next_hops[:_NEXT_HOPS_MAX])
            for one in status.links
        ]
    )
    strangers = status.foreign_virtual_router_ids
    return [structs.replace(one, foreign_virtual_router_ids=list(strangers.get(one.name, ()))) for one in told]


def _in_force(routers: Iterable[RouterStatus]) -> list[VirtualRouterInForce]:
    """In an order that stays, as what is the same is not written again."""
    found = sorted((router.virtual_ip, router.virtual_router_id) for router in routers)
    return [VirtualRouterInForce(name=name, virtual_router_id=vrid) for name, vrid in found[:VIRTUAL_ROUTERS_MAX]]


def router_warnings(routers: Iterable[RouterStatus]) -> list[str]:
    """What people should know of the virtual routers of this node, with their names."""
    return [f"{router.virtual_ip}: {warning}" for router in routers for warning in sorted(router.warnings)]


def speaker_status(facts: Facts, now: str) -> SpeakerConfigStatus | None:
    """The status; None while a generation is on its way and there is nothing to tell yet. `now` is RFC 3339."""
    applied = _applied(facts, now)
    if applied is None:
        return None
    warnings = [warning[:_WARNING_MAX] for warning in (*facts.engine.warnings, *facts.warnings)]
    conditions = [applied]
    if facts.outage is not None and facts.outage.ended - facts.outage.began >= WORTH_TELLING_SECONDS:
        conditions.append(_returned(facts.outage))
    return SpeakerConfigStatus(
        # What runs is another object's, if anything does.
        observed_generation=0 if facts.configuration.awaits_plan else facts.engine.generation,
        engine_version=facts.engine.version[:64],
        shares_virtual_routers=facts.engine.shares_virtual_routers,
        links=list(facts.links),
        virtual_routers=_in_force(facts.routers),
        planned_from=facts.configuration.planned_from,
        warnings=_as_many_as_fit(warnings),
        conditions=conditions,
    )


def _as_many_as_fit(warnings: list[str]) -> list[str]:
    if len(warnings) <= _WARNINGS_MAX:
        return warnings
    return [*warnings[: _WARNINGS_MAX - 1], MORE_WARNINGS]


def _applied(facts: Facts, now: str) -> Condition | None:
    newest, rejection, engine = facts.configuration.newest, facts.configuration.rejection, facts.engine
    generation = rejection.generation if rejection else newest.generation if newest else 0
    status: Literal["True", "False", "Unknown"]
    if rejection is not None:
        status = "False"
        reason = AppliedReason.REFUSED_BY_ENGINE if rejection.by_engine else AppliedReason.UNREADABLE
        message = f"generation {engine.generation} stays in force: {rejection.words}"
    elif engine.is_away:
        status, reason = "Unknown", AppliedReason.ENGINE_AWAY
        message = engine.words
    elif facts.configuration.awaits_plan:
        status, reason = "Unknown", AppliedReason.NOT_PLANNED
        message = "the operator has not planned for this node yet; what ran stays in force"
    elif newest is not None and engine.generation == newest.generation:
        status, reason = "True", AppliedReason.APPLIED
        message = "the engine runs it"
    else:
        return None
    applied = SpeakerConditionType.APPLIED
    before = next((one for one in facts.before if one.type == applied and one.status == status), None)
    return Condition(
        type=applied,
        status=status,
        reason=reason,
        message=message[:_MESSAGE_MAX],
        last_transition_time=before.last_transition_time if before else now,
        observed_generation=generation,
    )


def _returned(outage: Outage) -> Condition:
    began, ended = _rfc3339(outage.began), _rfc3339(outage.ended)
    return Condition(
        type=SpeakerConditionType.API_SERVER_REACHABLE,
        status="True",
        reason="Returned",
        message=f"it could not be reached from {began} to {ended}; this node went on with what it knew",
        last_transition_time=ended,
    )


def _rfc3339(seconds: float) -> str:
    """UTC, whole seconds, as metav1.Time has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_rfc3339() -> str:
    """The time, as conditions have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
