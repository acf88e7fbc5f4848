"""Accidents after which an honest plan would take every VIP down: then nothing is written at all. Pure.

Where it follows from one agent's words alone, only that node's SpeakerConfig is not written.

The engines keep what they run. A person sees it in the log, in /readyz and in the metric holdfast_operator_held.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from holdfast_api.cluster import (
    GROUP,
    LOST_FOR_GOOD_ANNOTATION,
    PLANNED_FROM_ANNOTATION,
    SpeakerConfig,
    SpeakerConfigStatus,
)
from holdfast_api.errors import EnvironmentFailure
from holdfast_operator.planner.cluster.presence import PATIENCE_SECONDS

_NAMED = 20


class Cause(enum.StrEnum):
    """Why nothing is written, or nothing to some SpeakerConfigs."""

    DEFINITION_MISSING = "CustomResourceDefinitionMissing"
    DEFINITION_BEING_DELETED = "CustomResourceDefinitionBeingDeleted"
    VIRTUAL_IPS_LOST = "VirtualIPsLost"
    NO_NODES = "NoNodes"


class Held(EnvironmentFailure):
    """Nothing may be written now."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def check_definition(plural: str, definition: Mapping[str, Any] | None) -> None:
    """Raises Held where a CustomResourceDefinition is gone, or takes its objects with it just now."""
    name = f"{plural}.{GROUP}"
    if definition is None:
        raise Held(Cause.DEFINITION_MISSING, f"the CustomResourceDefinition {name} is not there")
    if "deletionTimestamp" in definition["metadata"]:
        raise Held(Cause.DEFINITION_BEING_DELETED, f"the CustomResourceDefinition {name} is being deleted")


def check_nodes(nodes: Sequence[Any], speakers: Sequence[Any]) -> None:
    """Raises Held where every Node is gone at once: this process runs on one."""
    if not nodes and speakers:
        raise Held(Cause.NO_NODES, f"the API server knows no Node, and {len(speakers)} SpeakerConfigs")


def check_lost(virtual_ips: Collection[str], speakers: Mapping[str, Mapping[str, Any]], definition_uid: str) -> None:
    """Raises Held where VirtualIPs went with their CustomResourceDefinition, which is there again without them.

    Such VirtualIPs run on the engines and nobody has deleted them. A SpeakerConfig whose annotation names another
    definition than today's was planned from VirtualIPs that no longer exist; when all that it runs are there again,
    the accident is over, and the next plan gets today's uid.
    """
    lost = sorted(
        name
        for speaker in speakers.values()
        if speaker["metadata"].get("annotations", {}).get(PLANNED_FROM_ANNOTATION, definition_uid) != definition_uid
        for router in speaker.get("spec", {}).get("virtualRouters", ())
        for name in [one["name"] for one in router.get("virtualIPs", ())] or [router["name"]]
        if name not in virtual_ips
    )
    if lost:
        names = ", ".join(dict.fromkeys(lost))
        raise Held(
            Cause.VIRTUAL_IPS_LOST,
            f"the CustomResourceDefinition of VirtualIPs was made anew, and without {names}, which the nodes still run:"
            f" apply them again, or confirm with `kubectl annotate speakerconfigs --all {PLANNED_FROM_ANNOTATION}-`",
        )


def lost_on_nodes(
    virtual_ips: Collection[str], speakers: Mapping[str, SpeakerConfig], definition_uid: str
) -> Mapping[str, Sequence[str]]:
    """The same where the SpeakerConfigs went with their definition, too: by node, what it runs and nobody has deleted.

    Then the agents alone know: each tells in the status of its new SpeakerConfig what its engine runs, and from which
    definition's VirtualIPs. A SpeakerConfig that is marked as planned was planned without such words, or after them.
    An agent's words hold up its own node alone.
    """
    found: dict[str, Sequence[str]] = {}
    for node, speaker in sorted(speakers.items()):
        missing = sorted({router.name for router in speaker.status.virtual_routers} - set(virtual_ips))
        is_confirmed = speaker.metadata.annotations.get(LOST_FOR_GOOD_ANNOTATION) == definition_uid
        if missing and not is_confirmed and _runs_what_was(speaker, definition_uid):
            found[node] = missing
    return found


def unplanned_nodes(speakers: Mapping[str, SpeakerConfig], definition_uid: str) -> frozenset[str]:
    """The nodes that run what another definition's VirtualIPs were, and have no plan of today's yet."""
    return frozenset(node for node, speaker in speakers.items() if _runs_what_was(speaker, definition_uid))


def seconds_to_wait(
    speakers: Mapping[str, SpeakerConfig], made: Mapping[str, str], heard: Collection[str], now: datetime
) -> float:
    """How long those nodes wait yet for others that are heard to say what they run; 0: for nobody.

    `made` is when each SpeakerConfig was made (RFC 3339). Together they know the VRIDs that are in force.
    """
    return max(
        (
            PATIENCE_SECONDS - (now - datetime.fromisoformat(made[node])).total_seconds()
            for node, speaker in speakers.items()
            if node in made and node in heard and not _is_planned(speaker) and not has_told_what_runs(speaker.status)
        ),
        default=0.0,
    )


def _is_planned(speaker: SpeakerConfig) -> bool:
    return PLANNED_FROM_ANNOTATION in speaker.metadata.annotations


def _runs_what_was(speaker: SpeakerConfig, definition_uid: str) -> bool:
    status = speaker.status
    return not _is_planned(speaker) and bool(status.virtual_routers) and status.planned_from != definition_uid


def has_told_what_runs(status: SpeakerConfigStatus) -> bool:
    """Whether an agent has asked its engine what runs, and on which links; else an engine is away."""
    return bool(status.links or status.engine_version)


def lost_words(lost: Mapping[str, Sequence[str]], definition_uid: str) -> str:
    """What a person is told of it; empty: nothing is lost."""
    if not lost:
        return ""
    names = ", ".join(sorted({name for of_node in lost.values() for name in of_node})[:_NAMED])
    nodes = " ".join(lost)
    return (
        f"the CustomResourceDefinitions were made anew, and without {names}, which {', '.join(lost)} still run:"
        f" nothing is written to the SpeakerConfigs of these nodes, which keep what they run; apply the VirtualIPs"
        f" again, or confirm that they are gone with"
        f" `kubectl annotate speakerconfigs {nodes} {LOST_FOR_GOOD_ANNOTATION}={definition_uid}`"
    )
