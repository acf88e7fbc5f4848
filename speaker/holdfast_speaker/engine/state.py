"""What one engine leaves to the next one on its node: plain values, the same on disk and in the keeper's memory.

Fields are added with a default and never change their meaning: an engine reads what an older or a newer one left.
"""

from __future__ import annotations

from msgspec import Struct, field

from holdfast_api.messages import Transition
from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import Health, Reason, State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine.sharing import PublishedVirtualIP
from holdfast_speaker.vrrp.instants import Instant


class PublishedRouter(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """One virtual router as it was last seen."""

    virtual_ip: str
    state: State
    since: str
    reason: Reason | None
    addresses: list[str]
    message: str = ""
    moves: int = 0
    health: Health = Health.UNKNOWN
    """As the probes reported it."""
    health_detail: str = ""
    recovered_at: Instant | None = None
    """When its health became good again (ADR 0007)."""
    history: list[Transition] = field(default_factory=list)
    interface: str = ""
    sources: list[str] = field(default_factory=list)
    """Where its advertisements come from; at most one of each family."""
    proven: list[int] | None = None
    """The families (4, 16) in which this node has proof that it hears; None: an older engine, which did not say."""
    heard: list[int] = field(default_factory=list)
    """The families (4, 16) in which a Backup has heard a Master; an older engine does not say."""
    carrier_down_count: int | None = None
    """How often its link had lost its carrier; None: an older engine, which did not say, or no link."""
    met: list[str] = field(default_factory=list)
    """Other routers that advertised a list with an address of ours, by their addresses, the latest last."""
    former_addresses: list[str] = field(default_factory=list)
    """Our addresses before the last edit of them, without prefix lengths; sorted."""
    virtual_ips: list[PublishedVirtualIP] = field(default_factory=list)
    """The VirtualIPs that share it; `virtual_ip` is its own name then."""


class PublishedState(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """The engine's last published state."""

    node_name: str
    pid: int
    routers: list[PublishedRouter] = field(default_factory=list)
    handed_over_at: int = 0
    """When the Masters among them were left to a successor, in nanoseconds of the clock that counts while the machine
    runs (CLOCK_MONOTONIC); 0: they were not."""
    boot: str = ""
    """Which boot of the machine that clock counts from (/proc/sys/kernel/random/boot_id)."""
    version: int = 1


class Snapshot(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """What the next engine of the same keeper goes on from."""

    configuration: SpeakerConfiguration
    state: PublishedState
