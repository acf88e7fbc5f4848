"""Where probes may go from a node, and how often, whoever planned them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from holdfast_api.cluster import Tracking
from holdfast_api.errors import ConfigurationError
from holdfast_api.reasons import Health
from holdfast_api.resources import HTTPGetAction, Probe, TCPSocketAction
from holdfast_speaker.agent.health_book import HealthBook
from holdfast_speaker.agent.pods import PodStore
from holdfast_speaker.agent.probe_targets import ProbeTargets
from holdfast_speaker.health.monitor import HealthMonitor

WEB = "shop/web"
VIPS = {WEB: ["10.9.0.200/24", "fd00::c8/64"]}


def targets(*networks: str) -> ProbeTargets:
    return ProbeTargets(networks, lambda name: VIPS.get(name, ()))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.9.0.200", "fd00::c8", "::ffff:10.9.0.200"]
)
def test_a_probe_may_go_to_loopback_and_to_its_vip(address: str) -> None:
    assert targets().permits(WEB, address)


@pytest.mark.parametrize(
    "address", ["10.9.0.201", "169.254.169.254", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "fe80::1%1", "0.0.0.0"]
)
def test_a_probe_may_go_nowhere_else(address: str) -> None:
    assert not targets().permits(WEB, address)


def test_the_vip_of_another_is_not_its_own() -> None:
    assert not targets().permits("shop/other", "10.9.0.200")


def own_address() -> str:
    """An address of this machine that is no loopback one, if it has a route anywhere."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no route")
        return str(asking.getsockname()[0])


def test_a_probe_may_go_to_the_nodes_own_addresses() -> None:
    assert targets().permits(WEB, own_address())


def test_the_administrator_may_allow_more() -> None:
    allowing = targets("192.0.2.0/24", "2001:db8::/32")
    assert allowing.permits(WEB, "192.0.2.1")
    assert allowing.permits(WEB, "::ffff:192.0.2.1")
    assert allowing.permits(WEB, "2001:db8::1")
    assert not allowing.permits(WEB, "198.51.100.1")


def test_what_is_no_network_is_said_with_its_argument() -> None:
    with pytest.raises(ConfigurationError, match=r"--allowed-probe-network: 10\.0\.0\.5/8 has host bits set"):
        targets("10.0.0.5/8")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.mark.parametrize("kind", ["tcpSocket", "httpGet"])
def test_a_probe_that_may_not_go_there_connects_to_nobody_and_is_no_failure(server: socket.socket, kind: str) -> None:
    port = server.getsockname()[1]
    probe = (
        Probe(name="p", tcp_socket=TCPSocketAction(port=port))
        if kind == "tcpSocket"
        else Probe(name="p", http_get=HTTPGetAction(port=port, host="localhost"))
    )
    reported: list[tuple[str, Health, str]] = []
    asked: list[tuple[str, str]] = []

    async def monitor() -> None:
        def permits(virtual_ip: str, address: str) -> bool:
            asked.append((virtual_ip, address))
            return False

        told = asyncio.Event()

        def report(name: str, health: Health, detail: str) -> None:
            reported.append((name, health, detail))
            if "allowedProbeNetworks" in detail:
                told.set()

        watching = HealthMonitor({WEB: [probe]}, report, permits)
        async with asyncio.timeout(30):
            await told.wait()
        await watching.close()

    asyncio.run(monitor())
    assert {health for _, health, _ in reported} == {Health.UNKNOWN}
    assert {name for name, _ in asked} == {WEB}
    with pytest.raises(BlockingIOError):
        server.accept()


def test_probes_run_ten_times_a_second_at_most_in_a_cluster() -> None:
    book = HealthBook(PodStore(lambda: None), lambda: 0.0)
    action = TCPSocketAction(port=80)
    fast, slow = (
        Probe(name="fast", tcp_socket=action, period_milliseconds=10),
        Probe(name="slow", tcp_socket=action, period_seconds=1),
    )
    book.replace([Tracking(virtual_ip=WEB, probes=[fast, slow])])
    assert [probe.period_ms for probe in book.probes[WEB]] == [100, 1000]
