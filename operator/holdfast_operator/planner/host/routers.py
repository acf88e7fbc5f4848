"""What a VirtualIP's specification alone says of its virtual router, the same on every host and in a cluster. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast_api.resources import Probe, VirtualIP
from holdfast_api.speaker import VirtualRouterConfiguration

RECOVERY_HOLD_MAX_MS = 30_000
"""Nobody shall wait longer than this for a Backup that has recovered, however seldom its probes run."""


def specified(virtual_ip: VirtualIP, vrid: int) -> VirtualRouterConfiguration:
    """The virtual router without what each planner adds: priority, members, sources, and what is tracked on a node."""
    spec = virtual_ip.spec
    return VirtualRouterConfiguration(
        name=virtual_ip.key,
        addresses=spec.addresses,
        virtual_router_id=vrid,
        version=spec.version,
        nopreempt=spec.nopreempt,
        preempt_delay_milliseconds=1000 * spec.preempt_delay_seconds,
        start_delay_milliseconds=1000 * spec.start_delay_seconds,
        announcement_interval_seconds=spec.announcement_interval_seconds,
        conflict_detection=spec.conflict_detection,
        host_ports=spec.host_ports,
        advertisement_interval_milliseconds=spec.advertisement_interval_milliseconds,
        interface=spec.interface,
        transport=spec.transport,
        simple_password=spec.authentication.simple_password if spec.authentication else None,
        when_failing=spec.track.when_failing,
        tracked_interfaces=spec.track.interfaces,
        recovery_hold_milliseconds=_recovery_hold_ms(spec.track.probes),
    )


def _recovery_hold_ms(probes: Sequence[Probe]) -> int:
    """How long a Backup that recovered waits, in milliseconds (ADR 0007).

    Hosts that check the same service notice its recovery up to one period apart, and one whose last run hit its timeout
    later still. A Backup that notices first must not take the VIP from a holder that recovers too.
    """
    return min(2 * max((probe.period_ms for probe in probes), default=0), RECOVERY_HOLD_MAX_MS)
