"""What a virtual router sends: an advertisement to every destination of every family."""

from __future__ import annotations

from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.configuration import Configuration
from holdfast_speaker.vrrp.instants import Duration
from holdfast_speaker.vrrp.packet import encode


def advertisements(configuration: Configuration, priority: int, interval: Duration) -> tuple[SendAdvertisement, ...]:
    """The advertisements of one priority and one interval, encoded."""
    return tuple(
        SendAdvertisement(
            family.source,
            destination,
            encode(
                configuration.version,
                configuration.vrid,
                priority,
                interval,
                family.addresses,
                family.source,
                destination,
                configuration.password,
            ),
        )
        for family in configuration.families
        for destination in family.destinations
    )
