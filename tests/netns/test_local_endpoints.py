"""externalTrafficPolicy Local: engine and agent of two nodes, without an API server, and a service proxy on each."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing import service_proxy
from holdfast_testing.hosts import eventually
from holdfast_testing.namespaces import Namespace
from holdfast_testing.restarts import VIP, probed

pytestmark = [pytest.mark.netns, pytest.mark.alone]

PORT = 31805
ROUTER = {
    "name": "shop/web",
    "addresses": [f"{VIP}/24"],
    "virtualRouterID": 51,
    "advertisementIntervalMilliseconds": 100,
    "members": ["10.77.0.11", "10.77.0.12"],
    "foreignRouters": "Refuse",
    "tracksServices": True,
    "recoveryHoldMilliseconds": 1000,
}
NO_API_SERVER = {
    "current-context": "c",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "users": [{"name": "u", "user": {"token": "secret"}}],
}


class Node:
    """A node whose speaker has a SpeakerConfig, which it goes on with."""

    def __init__(self, namespace: Namespace, name: str, address: str, priority: int, folder: Path) -> None:
        self.namespace = namespace
        self.name = name
        self._address = address
        self._folder = folder / name
        self._proxy: subprocess.Popen[str] | None = None
        folder.joinpath(name, "cache").mkdir(parents=True)
        spec = {
            "nodeName": name,
            "virtualRouters": [{**ROUTER, "priority": priority}],
            "tracking": [{"virtualIP": "shop/web", "healthCheckNodePorts": [PORT]}],
        }
        kept = {"uid": "u", "generation": 1, "spec": spec}
        (self._folder / "cache" / "speaker-config.json").write_text(json.dumps(kept), encoding="utf-8")
        (self._folder / "kubeconfig").write_text(json.dumps(NO_API_SERVER), encoding="utf-8")

    def start(self) -> None:
        """Engine and agent."""
        state = f"--state-dir={self._folder}"
        agent = [f"--cache-dir={self._folder}/cache", f"--kubeconfig={self._folder}/kubeconfig", "--metrics-address="]
        self._run("holdfast_speaker.host", state)
        self._run("holdfast_speaker.agent", state, *agent, f"--host-address={self._address},fd77::{self._address[-2:]}")

    def start_service_proxy(self, endpoints: int) -> None:
        """One that answers at the node's own address alone, as kube-proxy with nftables does."""
        words = [f"--address={self._address}", f"--port={PORT}", f"--endpoints={endpoints}"]
        self._proxy = self.namespace.start(
            [*service_proxy.COMMAND, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._proxy.stdout is not None
        assert self._proxy.stdout.readline() == f"{PORT}\n"

    def kill_service_proxy(self) -> None:
        """As its crash."""
        assert self._proxy is not None
        self._proxy.kill()
        self._proxy.wait()

    def has_endpoints(self, number: int) -> None:
        """From now on."""
        assert self._proxy is not None
        assert self._proxy.stdin is not None
        self._proxy.stdin.write(f"{number}\n")
        self._proxy.stdin.flush()

    @property
    def holds(self) -> bool:
        return VIP in self.namespace.addresses("eth0")

    def status(self) -> dict[str, Any]:
        """What the engine says of the VIP; nothing where it does not run one."""
        command = [sys.executable, "-m", "holdfast_cli.main", "status", f"--state-dir={self._folder}", "-o", "json"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        routers = json.loads(told.stdout)["routers"] if told.returncode == 0 else []
        return dict(routers[0]) if routers else {}

    def is_healthy(self) -> bool:
        return bool(self.status().get("health") == "Healthy")

    def _run(self, module: str, *options: str) -> None:
        command = [sys.executable, "-P", "-m", module, f"--node-name={self.name}", *options]
        with (self._folder / "log").open("a", encoding="utf-8") as log:
            self.namespace.start(command, stderr=log, stdin=subprocess.DEVNULL)


@pytest.fixture
def lan(segment: Any) -> Any:
    return segment("n1", "n2")


@pytest.fixture
def nodes(lan: Any) -> Iterator[tuple[Node, Node]]:
    """n1 holds the VIP, n2 is its Backup; both have a ready endpoint."""
    with tempfile.TemporaryDirectory(prefix="holdfast-local-") as folder:
        first, second = (
            Node(host.namespace, host.name, f"10.77.0.{number}", priority, Path(folder))
            for host, number, priority in zip(lan.hosts, (11, 12), (110, 100), strict=True)
        )
        for node in (first, second):
            node.start_service_proxy(1)
            node.start()
            eventually(node.is_healthy, f"{node.name} is healthy", 60)
            eventually(lambda: first.holds, "n1 holds the VIP")
        yield first, second


def test_a_node_whose_last_endpoint_goes_hands_over_and_nobody_notices(lan: Any, nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    for giving, taking in ((first, second), (second, first)):
        with probed(lan) as lost:
            giving.has_endpoints(0)
            eventually(lambda giving=giving, taking=taking: taking.holds and not giving.holds, "the VIP moves", 5)
            assert lost() == 0
        told = giving.status()
        assert told["healthDetail"] == (
            f"healthCheckNodePort {PORT}: answered 503: no ready endpoint of shop/web on this node"
        )
        giving.has_endpoints(1)
        eventually(giving.is_healthy, f"{giving.name} is healthy again")
        time.sleep(1.5)
        assert taking.holds, "an endpoint that is back takes nothing"


def test_where_no_node_has_an_endpoint_the_vip_stays_and_goes_to_the_first_that_gets_one(
    lan: Any, nodes: tuple[Node, Node]
) -> None:
    first, second = nodes
    second.has_endpoints(0)
    eventually(lambda: not second.is_healthy(), "n2 fails")
    with probed(lan) as lost:
        first.has_endpoints(0)
        eventually(lambda: not first.is_healthy(), "n1 fails")
        time.sleep(1.0)
        assert first.holds
        second.has_endpoints(1)
        eventually(lambda: second.holds and not first.holds, "the VIP follows the endpoint")
        assert lost() == 0


def test_service_proxies_that_are_started_anew_move_nothing_and_one_that_stays_away_does(
    lan: Any, nodes: tuple[Node, Node]
) -> None:
    first, second = nodes
    with probed(lan) as lost:
        for node in nodes:
            node.kill_service_proxy()
        time.sleep(1.0)
        for node in nodes:
            node.start_service_proxy(0)  # as one that has not learned of its endpoints yet
            node.has_endpoints(1)
        time.sleep(1.0)
        assert first.holds
        assert first.is_healthy()
        assert not second.status()["transitions"]
        first.kill_service_proxy()
        eventually(lambda: second.holds and not first.holds, "n2 takes over", 20)
        assert lost() == 0
    assert first.status()["healthDetail"] == (
        f"healthCheckNodePort {PORT}: no answer (10.77.0.11: Connection refused, fd77::11: Connection refused), for 10"
        " s and more"
    )
