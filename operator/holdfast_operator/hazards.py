"""Accidents after which an honest plan would take every VIP down: then nothing is written at all. Pure.

The engines keep what they run. A person sees it in the log, in /readyz and in the metric holdfast_operator_held.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from holdfast_api.cluster import GROUP, PLANNED_FROM_ANNOTATION
from holdfast_api.errors import EnvironmentFailure


class Cause(enum.StrEnum):
    """Why nothing is written."""

    DEFINITION_MISSING = "CustomResourceDefinitionMissing"
    DEFINITION_BEING_DELETED = "CustomResourceDefinitionBeingDeleted"
    VIRTUAL_IPS_LOST = "VirtualIPsLost"
    NO_NODES = "NoNodes"
    UNREADABLE = "SpeakerConfigUnreadable"


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
        router["name"]
        for speaker in speakers.values()
        if speaker["metadata"].get("annotations", {}).get(PLANNED_FROM_ANNOTATION, definition_uid) != definition_uid
        for router in speaker.get("spec", {}).get("virtualRouters", ())
        if router["name"] not in virtual_ips
    )
    if lost:
        names = ", ".join(dict.fromkeys(lost))
        raise Held(
            Cause.VIRTUAL_IPS_LOST,
            f"the CustomResourceDefinition of VirtualIPs was made anew, and without {names}, which the nodes still run:"
            f" apply them again, or confirm with `kubectl annotate speakerconfigs --all {PLANNED_FROM_ANNOTATION}-`",
        )
