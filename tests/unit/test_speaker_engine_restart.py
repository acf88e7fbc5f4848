"""What an engine learned from packets is known to the next one on its node, through the state directory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.engine.engine import Engine
from holdfast_speaker.engine.ports import Datagram, Link, LinkAddress, Listener
from holdfast_speaker.engine.state import PublishedState
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.state_directory import StateDirectory
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import SECOND, Instant
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, encode

NAME = "shop/web"
PEER, STRANGER = "10.0.0.2", "10.0.0.3"
NOW = Instant(1000 * SECOND)


class Machine:
    """One link, an own address, and nothing that is refused."""

    def changes(self) -> tuple[()]:
        return ()

    def dump(self) -> tuple[list[Link], list[LinkAddress], bool]:
        link = Link(2, "eth0", admin_up=True, carrier=True, mac=bytes(6), loopback=False)
        own = LinkAddress(2, 2, ip_address("10.0.0.1").packed, 24, 0, 0x80, 0, None)
        return [link], [own], True

    def next_hops(self) -> tuple[()]:
        return ()

    def apply(self, requests: Any) -> list[int]:
        return [0 for _ in requests]

    def is_renewing(self) -> bool:
        return False

    def begin_renewal(self, requests: Any) -> None:
        pass

    def end_renewal(self) -> None:
        return None

    def close_ports(self, number: int, addresses: frozenset[bytes], no_longer: frozenset[bytes]) -> None:
        pass

    def forwards_ipv6(self, name: str) -> bool:
        return False

    def listen(self, wanted: Any, overheard: Any) -> dict[Listener, int]:
        return {}

    renew = hear_neighbours = lambda self, _: {}

    def send(self, index: int, advertisement: Any) -> int:
        return 0

    transmit = send

    def now(self) -> Instant:
        return NOW

    def timestamp(self) -> str:
        return "2026-01-01T00:00:00.000Z"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Start an engine with these addresses, which goes on from what the one before it published."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:

        def started(*addresses: str) -> Engine:
            machine, log = Machine(), Log(nowhere)
            engine = Engine("n1", machine, machine, machine, log)  # type: ignore[arg-type]  # the ports as they are used
            engine.go_on_from(StateDirectory(tmp_path, log).published_routers(), NOW)
            router = VirtualRouterConfiguration(name=NAME, addresses=list(addresses), virtual_router_id=51)
            engine.configure(SpeakerConfiguration(node_name="n1", virtual_routers=[router]), NOW)
            engine.is_unpublished = False
            return engine

        yield started


def publish(engine: Engine, folder: Path) -> None:
    """What the driver does when there is news for the next engine."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        state = PublishedState(node_name="n1", pid=1, routers=engine.published_routers())
        StateDirectory(folder, Log(nowhere)).publish(state)
    engine.is_unpublished = False


def hear(engine: Engine, source: str, *addresses: str) -> None:
    packed = ip_address(source).packed
    listed = [ip_address(address).packed for address in addresses]
    payload = encode(3, 51, 100, SECOND, listed, packed, MULTICAST_GROUP_V4)
    engine.receive(Listener(2, 4), [Datagram(payload, packed, MULTICAST_GROUP_V4, 255)], NOW)


def refused(engine: Engine) -> int:
    return engine.instances[NAME].router.counters[Counter.OTHER_VIRTUAL_ROUTERS]


def test_a_router_whose_list_once_met_ours_is_obeyed_after_a_restart(
    start: Callable[..., Engine], tmp_path: Path
) -> None:
    first = start("10.0.0.200/24")
    hear(first, PEER, "10.0.0.200")
    assert first.is_unpublished
    publish(first, tmp_path)
    following = start("10.0.0.200/24")
    hear(following, PEER, "10.0.0.201")
    assert refused(following) == 0
    hear(following, STRANGER, "10.0.0.201")
    assert refused(following) == 1


def test_what_is_known_is_not_published_again(start: Callable[..., Engine], tmp_path: Path) -> None:
    engine = start("10.0.0.200/24")
    hear(engine, PEER, "10.0.0.200")
    publish(engine, tmp_path)
    hear(engine, PEER, "10.0.0.200")
    hear(engine, STRANGER, "10.0.0.201")
    assert not engine.is_unpublished


def test_sources_that_somebody_makes_up_are_not_published_for_ever(
    start: Callable[..., Engine], tmp_path: Path
) -> None:
    engine = start("10.0.0.200/24")
    times = 0
    for last in range(2, 102):
        hear(engine, f"10.0.0.{last}", "10.0.0.200")
        times += engine.is_unpublished
        publish(engine, tmp_path)
    assert times == 32


@pytest.mark.parametrize("edited", ["before the restart", "with the restart"])
def test_others_that_have_not_made_an_edit_yet_are_obeyed_after_a_restart(
    edited: str, start: Callable[..., Engine], tmp_path: Path
) -> None:
    engine = start("10.0.0.200/24")
    if edited == "before the restart":
        router = VirtualRouterConfiguration(name=NAME, addresses=["10.0.0.201/24"], virtual_router_id=51)
        engine.configure(SpeakerConfiguration(node_name="n1", virtual_routers=[router]), NOW)
    publish(engine, tmp_path)
    following = start("10.0.0.201/24")
    hear(following, STRANGER, "10.0.0.200")
    assert refused(following) == 0


def test_what_a_link_proved_is_known_after_a_restart(start: Callable[..., Engine], tmp_path: Path) -> None:
    first = start("10.0.0.200/24")
    hear(first, STRANGER, "10.0.0.201")
    assert not first.is_unpublished
    first.poll(Instant(NOW + 2 * SECOND))
    assert first.is_unpublished
    publish(first, tmp_path)
    assert start("10.0.0.200/24").instances[NAME].router.proven == {4}


def test_an_older_engine_told_nothing_of_it(start: Callable[..., Engine], tmp_path: Path) -> None:
    publish(start("10.0.0.200/24"), tmp_path)
    file = tmp_path / "state.json"
    state = json.loads(file.read_bytes())
    for router in state["routers"]:
        del router["met"], router["formerAddresses"]
    file.write_text(json.dumps(state), encoding="utf-8")
    engine = start("10.0.0.200/24")
    hear(engine, PEER, "10.0.0.200")
    assert refused(engine) == 0
