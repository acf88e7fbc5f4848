"""healthCheckNodePorts that are looked at, with service proxies that tests play on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket

import pytest

from holdfast_api.reasons import Health
from holdfast_speaker.health import node_ports, service_proxy
from holdfast_speaker.health.node_ports import NodePorts
from holdfast_testing.service_proxy import ServiceProxy

AMPLE = 30.0
WEB, API = "shop/web", "shop/api"


async def until(condition):
    async with asyncio.timeout(AMPLE):
        while not condition():
            await asyncio.sleep(0.005)


class Scene:
    def __init__(self, addresses=("127.0.0.1",)):
        self.reports = []
        self.ports = NodePorts(addresses, lambda *report: self.reports.append(report))
        self.proxies = []

    async def proxy(self, endpoints=1):
        made = ServiceProxy(endpoints)
        await made.start()
        self.proxies.append(made)
        return made

    def health(self, name=WEB):
        return next((health for told, health, _ in reversed(self.reports) if told == name), None)

    def words(self, name=WEB):
        return next((words for told, _, words in reversed(self.reports) if told == name), "")


def play(scene, **options):
    async def run():
        stage = Scene(**options)
        running = asyncio.create_task(stage.ports.run())
        try:
            await scene(stage)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            stage.ports.close()
            for proxy in stage.proxies:
                await proxy.stop()

    asyncio.run(run())


@pytest.fixture
def hurried(monkeypatch):
    """Everything twenty times as fast."""
    for name in ("PERIOD_MIN_SECONDS", "DOUBT_SECONDS", "TICK_SECONDS", "TIMEOUT_SECONDS"):
        monkeypatch.setattr(node_ports, name, getattr(node_ports, name) / 20)
    monkeypatch.setattr(service_proxy, "SILENCE_SECONDS", 0.5)


def test_a_node_with_ready_endpoints_is_healthy_and_one_without_is_not_and_says_why():
    async def scene(stage):
        ready, not_ready = await stage.proxy(1), await stage.proxy(0)
        stage.ports.replace({WEB: [ready.port], API: [not_ready.port]})
        await until(lambda: stage.health(WEB) is Health.HEALTHY)
        await until(lambda: stage.health(API) is Health.FAILING)
        assert stage.words(API) == (
            f"healthCheckNodePort {not_ready.port}: answered 503: no ready endpoint of shop/web on this node"
        )

    play(scene)


@pytest.mark.usefixtures("hurried")
def test_what_comes_and_goes_is_told_over_one_connection():
    async def scene(stage):
        proxy = await stage.proxy()
        stage.ports.replace({WEB: [proxy.port]})
        for _ in range(3):
            await until(lambda: stage.health() is Health.HEALTHY)
            proxy.endpoints = 0
            await until(lambda: stage.health() is Health.FAILING)
            proxy.endpoints = 1
        assert proxy.connections == 1

    play(scene)


@pytest.mark.usefixtures("hurried")
def test_virtual_ips_that_name_the_same_port_share_its_looks():
    async def scene(stage):
        proxy = await stage.proxy()
        stage.ports.replace({WEB: [proxy.port], API: [proxy.port]})
        await until(lambda: stage.health(WEB) is stage.health(API) is Health.HEALTHY)
        proxy.endpoints = 0
        await until(lambda: stage.health(WEB) is stage.health(API) is Health.FAILING)
        assert proxy.connections == 1

    play(scene)


@pytest.mark.usefixtures("hurried")
def test_all_ports_of_a_vip_must_be_well():
    async def scene(stage):
        first, second = await stage.proxy(), await stage.proxy()
        stage.ports.replace({WEB: [first.port, second.port]})
        await until(lambda: stage.health() is Health.HEALTHY)
        second.endpoints = 0
        await until(lambda: stage.health() is Health.FAILING)
        assert f"healthCheckNodePort {second.port}: " in stage.words()
        assert f"healthCheckNodePort {first.port}: " not in stage.words()

    play(scene)


@pytest.mark.usefixtures("hurried")
def test_a_service_proxy_that_is_started_anew_moves_nothing(monkeypatch):
    monkeypatch.setattr(service_proxy, "SILENCE_SECONDS", 60.0)

    async def scene(stage):
        proxy = await stage.proxy()
        stage.ports.replace({WEB: [proxy.port]})
        await until(lambda: stage.health() is Health.HEALTHY)
        await proxy.stop()
        await asyncio.sleep(0.2)
        asked = proxy.asked
        await proxy.start()
        await until(lambda: proxy.asked > asked + 2)
        assert [health for _, health, _ in stage.reports] == [Health.UNKNOWN, Health.HEALTHY]

    play(scene)


@pytest.mark.usefixtures("hurried")
def test_a_service_proxy_that_stays_away_or_hangs_is_a_failure_that_ends():
    async def scene(stage):
        proxy = await stage.proxy()
        stage.ports.replace({WEB: [proxy.port]})
        await until(lambda: stage.health() is Health.HEALTHY)
        await proxy.stop()
        await until(lambda: stage.health() is Health.FAILING)
        assert "no answer (127.0.0.1: Connection refused)" in stage.words()
        await proxy.start()
        await until(lambda: stage.health() is Health.HEALTHY)
        proxy.is_mute = True
        await until(lambda: stage.health() is Health.FAILING)
        assert "no answer (127.0.0.1: silent for " in stage.words()
        proxy.is_mute = False
        await until(lambda: stage.health() is Health.HEALTHY)

    play(scene)


@pytest.mark.usefixtures("hurried")
def test_a_server_that_keeps_no_connection_is_asked_on_a_new_one_each_time():
    async def scene(stage):
        proxy = await stage.proxy()
        proxy.raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        stage.ports.replace({WEB: [proxy.port]})
        await until(lambda: stage.health() is Health.HEALTHY)
        proxy.raw = b"HTTP/1.1 503 no\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        await until(lambda: stage.health() is Health.FAILING)
        assert proxy.connections == proxy.asked > 2

    play(scene)


@pytest.mark.usefixtures("hurried")
def test_of_several_addresses_the_first_that_accepts_is_asked():
    """A service proxy may listen in one family alone, or on one address of the node."""

    async def scene(stage):
        proxy = await stage.proxy()
        stage.ports.replace({WEB: [proxy.port]})
        await until(lambda: stage.health() is Health.HEALTHY)

    play(scene, addresses=("127.0.0.2", "::1", "127.0.0.1"))


def test_a_port_that_nobody_needs_any_more_is_let_go():
    async def scene(stage):
        proxy, other = await stage.proxy(), await stage.proxy()
        stage.ports.replace({WEB: [proxy.port]})
        await until(lambda: stage.health() is Health.HEALTHY)
        stage.ports.replace({API: [other.port]})
        await until(lambda: stage.health(API) is Health.HEALTHY)
        asked = proxy.asked
        await until(lambda: other.asked > 2)
        assert proxy.asked == asked

    play(scene)


@pytest.mark.usefixtures("hurried")
def test_another_port_of_a_vip_is_no_failure_while_it_has_not_answered():
    """A Service that is made anew has another healthCheckNodePort."""

    async def scene(stage):
        proxy, later = await stage.proxy(), await stage.proxy()
        later.is_mute = True
        stage.ports.replace({WEB: [proxy.port]})
        await until(lambda: stage.health() is Health.HEALTHY)
        stage.ports.replace({WEB: [later.port]})
        await until(lambda: later.asked > 0)
        assert stage.health() is Health.HEALTHY
        later.is_mute, later.endpoints = False, 0
        await until(lambda: stage.health() is Health.FAILING)

    play(scene)


@pytest.mark.usefixtures("hurried")
def test_without_descriptors_the_last_answer_stands(monkeypatch, caplog):
    def used_up(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    async def scene(stage):
        proxy = await stage.proxy()
        stage.ports.replace({WEB: [proxy.port]})
        await until(lambda: stage.health() is Health.HEALTHY)
        with monkeypatch.context() as patched:
            patched.setattr(node_ports, "_connection", used_up)
            await proxy.stop()
            with caplog.at_level(logging.WARNING):
                await until(lambda: "Too many open files" in caplog.text)
        await proxy.start()
        await until(lambda: proxy.connections > 1)
        assert [health for _, health, _ in stage.reports] == [Health.UNKNOWN, Health.HEALTHY]

    play(scene)


def test_an_address_that_is_none_is_refused():
    async def scene():
        NodePorts(["node-1"], lambda *_: None)

    with pytest.raises(ValueError, match="node-1"):
        asyncio.run(scene())


def test_what_does_not_answer_delays_nobody_else():
    """One that takes requests and is silent, and one that does not even take connections."""

    async def scene(stage):
        with socket.socket() as hanging:
            hanging.bind(("127.0.0.1", 0))
            hanging.listen(1)
            silent = await stage.proxy()
            silent.is_mute = True
            ready = await stage.proxy()
            stage.ports.replace({API: [silent.port, hanging.getsockname()[1]], WEB: [ready.port]})
            await until(lambda: ready.asked > 3)
            assert stage.health(WEB) is Health.HEALTHY
            assert stage.health(API) is Health.UNKNOWN

    play(scene)
