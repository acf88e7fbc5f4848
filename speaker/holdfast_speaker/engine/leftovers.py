"""Which addresses of a predecessor go when an engine starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from holdfast_api.reasons import State
from holdfast_speaker.engine.instance import Instance, parse_address
from holdfast_speaker.engine.state import PublishedRouter


def no_longer_held(
    instances: Mapping[str, Instance], former: Iterable[PublishedRouter], *, goes_on: bool
) -> set[bytes]:
    """Of this configuration, and of what was published last: all but what the engine goes on holding.

    `goes_on`: the published routers are those that this engine continues, so that its Masters keep their addresses.
    """
    routers = list(former)
    known = {address for instance in instances.values() for address, _ in instance.addresses}
    known |= {parse_address(text)[0] for router in routers for text in router.addresses}
    if goes_on:
        for router in routers:
            if router.state is State.MASTER and router.virtual_ip in instances:
                known -= {address for address, _ in instances[router.virtual_ip].addresses}
    return known
