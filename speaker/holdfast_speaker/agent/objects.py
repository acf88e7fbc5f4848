"""The parts of Kubernetes objects that the agent reads; whatever else they have is passed over while decoding."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, field

from holdfast_kube.objects import Metadata, Part


class PodCondition(Part, frozen=True, kw_only=True):
    """core/v1 PodCondition."""

    type: str
    status: str


class PodStatus(Part, frozen=True, kw_only=True):
    """core/v1 PodStatus."""

    phase: str = ""
    conditions: list[PodCondition] | None = None


class Pod(Part, frozen=True, kw_only=True):
    """core/v1 Pod."""

    metadata: Metadata
    status: PodStatus = PodStatus()

    @property
    def is_ready(self) -> bool:
        """Whether it serves: it runs, its Ready condition is true, and nobody has asked it to end."""
        if self.metadata.deletion_timestamp is not None or self.status.phase != "Running":
            return False
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions or ())

    @property
    def state(self) -> str:
        """For people: what its readiness comes from."""
        if self.metadata.deletion_timestamp is not None:
            return "is terminating"
        if self.status.phase != "Running":
            return f"is {self.status.phase or 'not running'}"
        return "is ready" if self.is_ready else "is not ready"


class VirtualIPStatusPart(Part, frozen=True, kw_only=True):
    """VirtualIP.status, as far as agents write it or go by it."""

    nodes: list[dict[str, Any]] | None = None
    holder: str = ""


class ObservedVirtualIP(Part, frozen=True, kw_only=True):
    """A VirtualIP, as far as it tells what its agents have written."""

    metadata: Metadata
    status: VirtualIPStatusPart = VirtualIPStatusPart()


class ObservedSpeakerConfig(Part, frozen=True, kw_only=True):
    """A SpeakerConfig whose spec is not decoded yet: one that this version cannot read must not blind the watch."""

    metadata: Metadata
    spec: Raw = Raw(b"{}")
    status: dict[str, Any] = field(default_factory=dict)
