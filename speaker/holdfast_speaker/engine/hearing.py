"""The proof that a starting node hears: known neighbours are asked, by ARP or neighbour discovery, and answer."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast_api.errors import EnvironmentFailure
from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.host.wire import Wire
from holdfast_speaker.vrrp.instants import MILLISECOND, Duration, Instant

ASK_EVERY = Duration(200 * MILLISECOND)
"""How often they are asked, until one answers or the quiet period ends."""


class Hearing:
    """Asks for the instances whose `ask_at` is set, and listens only as long as there are any."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def ask(self, instance: Instance, now: Instant) -> None:
        """Ask the known members of one VirtualIP, if it still distrusts silence."""
        requests = instance.hearing_requests()
        if not requests or instance.link is None or not instance.router.distrusts_silence:
            instance.ask_at = None
            return
        instance.ask_at = Instant(now + ASK_EVERY)
        try:
            self._wire.ask(instance.link.index, requests)
        except EnvironmentFailure:  # no answer, no proof: the quiet period stays
            instance.ask_at = None

    def hear(self, descriptor: int, limit: int, instances: Iterable[Instance]) -> tuple[list[Instance], bool]:
        """Take in answers: whose members answered, and whether there may be more."""
        answered = self._wire.answers(descriptor, limit)
        if answered is None:
            return [], False
        index, addresses = answered
        here = [item for item in instances if item.link is not None and item.link.index == index]
        proven = [item for item in here if item.ask_at is not None and _is_member(item, addresses)]
        for instance in proven:
            instance.ask_at = None
        if all(instance.ask_at is None for instance in here):
            self._wire.stop_asking(index)
        return proven, len(addresses) == limit


def _is_member(instance: Instance, addresses: list[bytes]) -> bool:
    families = instance.router.configuration.families
    return any(address in (family.members or ()) for family in families for address in addresses)
