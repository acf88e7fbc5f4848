"""What a virtual router says on its link: advertisements and announcements. A link that refuses is no fault of ours."""

from __future__ import annotations

from holdfast_api.errors import EnvironmentFailure
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.wire import Wire
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.counters import Counter


class Outgoing:
    """Sends for every instance, and tells what could not be sent."""

    def __init__(self, wire: Wire, log: Log) -> None:
        self._wire = wire
        self._log = log

    def send(self, instance: Instance, action: SendAdvertisement) -> None:
        """One advertisement; the first of an instance that fails is logged, all are counted."""
        if instance.link is None:
            return
        try:
            self._wire.send(instance.link.index, action)
        except EnvironmentFailure as error:
            instance.router.counters[Counter.SEND_ERRORS] += 1
            if instance.router.counters[Counter.SEND_ERRORS] == 1:
                self._log.error(f"an advertisement could not be sent: {error}", virtualIP=instance.name)
            return
        instance.router.counters[Counter.ADVERTISEMENT_SENT] += 1
        if action.priority == 0:
            instance.router.counters[Counter.PRIORITY_ZERO_PKTS_SENT] += 1

    def announce(self, instance: Instance) -> None:
        """Gratuitous ARP and unsolicited neighbour advertisements for all addresses."""
        if instance.link is None:
            return
        try:
            self._wire.announce(instance.link.index, instance.announcements)
        except EnvironmentFailure as error:
            self._log.error(f"the addresses could not be announced: {error}", virtualIP=instance.name)
