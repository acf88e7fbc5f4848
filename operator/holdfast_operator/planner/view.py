"""What the cluster's planner sees and says: plain values, so that the same view gives the same plan."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast_api.cluster import SpeakerConfig, SpeakerConfigSpec, VirtualIPStatus


@dataclass(frozen=True, slots=True)
class NodeView:
    """A Node, as far as the planner looks."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    is_cordoned: bool = False
    """spec.unschedulable, or a taint that evicts: its VIPs are handed over to others, make before break."""
    internal_addresses: Sequence[str] = ()
    is_ready: bool = True
    """Whether the control plane hears of the node; what one that it does not hear of has said may be long past."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """All of the cluster's input to the plan."""

    virtual_ips: Sequence[Mapping[str, Any]]
    """As the API server lists them; one that does not decode is refused by itself."""
    nodes: Sequence[NodeView]
    speakers: Mapping[str, SpeakerConfig] = field(default_factory=dict)
    """By node name: what is in force, and what each node's agent says of it."""


class EventType(enum.StrEnum):
    """Types of core/v1 Events."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Notice:
    """An Event to be posted about a VirtualIP."""

    virtual_ip: str
    """namespace/name."""
    type: EventType
    reason: str
    """CamelCase, one of a closed set: Moved, Refused, SplitBrainSuspected, ..."""
    message: str


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What is to be written. What equals what is there is not written."""

    speakers: Mapping[str, SpeakerConfigSpec]
    """By node name, for every node; a SpeakerConfig whose node is not here is to be deleted."""
    statuses: Mapping[str, VirtualIPStatus]
    """By namespace/name: the operator's part (its `nodes` are empty: those belong to the agents)."""
    departed: Mapping[str, Sequence[str]]
    """By namespace/name: nodes whose entry in status.nodes is to be removed, as they take part no longer."""
    notices: Sequence[Notice]
