"""The status that the operator writes, on a real API server: what it makes of agents' words, and leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from kubernetes.aio.client import Configuration

from holdfast_api.cluster import agent_field_manager
from holdfast_kube.api_server import APIServer
from holdfast_operator.events import EventRecorder
from holdfast_operator.metrics import Metrics
from holdfast_operator.planner.cluster.plan import plan_cluster
from holdfast_operator.planner.cluster.view import ClusterRules
from holdfast_operator.process import PATIENCE
from holdfast_operator.reader import Reader
from holdfast_operator.reconciler import Reconciliation
from holdfast_operator.service_writer import ServiceWriter
from holdfast_operator.surroundings import SPEAKER_PODS, speaker_pods
from holdfast_operator.writer import Writer
from holdfast_testing.api_server import LocalAPIServer
from holdfast_testing.holdfast_objects import (
    NAMESPACE,
    OPERATOR,
    SPEAKER,
    SPEAKER_CONFIGS,
    entry,
    speaker_config,
    virtual_ip,
    virtual_ip_status,
    virtual_ips,
)

pytestmark = pytest.mark.api_server

NAME = "told"
PATH = f"{virtual_ips()}/{NAME}"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NODES = ("status-1", "status-2", "status-3")
Scene = Callable[["Bench"], Awaitable[None]]


class Bench:
    """The operator's own parts, a pass at a time, with the token of its service account."""

    def __init__(self, server: LocalAPIServer, api: APIServer) -> None:
        self.server = server
        self.metrics = Metrics()
        self.writer = Writer(api, lambda: True, self.metrics)
        recorder = EventRecorder(api, self.writer, "one", lambda: 0.0)
        reader = Reader(api, speaker_pods(NAMESPACE, SPEAKER_PODS))
        services = ServiceWriter(api, self.writer)
        self.reconciliation = Reconciliation(
            reader, plan_cluster, self.writer, services, recorder, self.metrics, ClusterRules()
        )

    async def settle(self) -> None:
        for _ in range(3):
            assert await self.reconciliation.once(), self.reconciliation.obstacle

    def node(self, name: str) -> None:
        """A Node that is Ready, with a speaker that is."""
        admin = self.server.admin
        admin.create("/api/v1/nodes", {"metadata": {"name": name}})
        ready = {"type": "Ready", "status": "True", "reason": "R", "message": ""}
        admin.merge(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [ready]}})
        label, _, value = SPEAKER_PODS.partition("=")
        spec = {
            "nodeName": name,
            "serviceAccountName": SPEAKER,
            "automountServiceAccountToken": False,
            "containers": [{"name": "agent", "image": "none"}],
        }
        pod = {"metadata": {"name": name, "labels": {label: value}}, "spec": spec}
        admin.create(PODS, pod)
        self.is_ready(name, ready=True)

    def is_ready(self, name: str, *, ready: bool) -> None:
        """Whether the kubelet says so of the speaker's pod."""
        condition = {"type": "Ready", "status": str(ready)}
        status = {"phase": "Running", "conditions": [condition]}
        answer = self.server.admin.merge(f"{PODS}/{name}/status", {"status": status})
        assert answer.status == 200, answer.message

    def links(self, *names: str) -> None:
        for number, name in enumerate(names, start=1):
            found = self.server.admin.get(f"{SPEAKER_CONFIGS}/{name}")["metadata"]["generation"]
            links = [{"name": "eth0", "addresses": [f"192.0.2.{200 + number}/24"]}]
            body = speaker_config(name, status={"observedGeneration": found, "links": links})
            answer = self.server.admin.apply(f"{SPEAKER_CONFIGS}/{name}/status", body, agent_field_manager(name))
            assert answer.status == 200, answer.message

    def says(self, name: str, state: str, **fields: Any) -> None:
        body = virtual_ip_status(NAME, {"nodes": [entry(name, state=state, **fields)]})
        answer = self.server.admin.apply(f"{PATH}/status", body, agent_field_manager(name))
        assert answer.status == 200, answer.message

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.admin.get(PATH)["status"]
        return found

    def conditions(self) -> dict[str, str]:
        return {one["type"]: one["status"] for one in self.status["conditions"]}


@pytest.fixture
def play(api_server: LocalAPIServer) -> Iterator[Callable[[Scene], None]]:
    """With a VirtualIP on three nodes."""
    admin = api_server.admin

    def run(scene: Scene) -> None:
        async def live() -> None:
            configuration = Configuration(host=api_server.url)
            configuration.ssl_ca_cert = str(api_server.certificate)
            token = api_server.service_account_token(NAMESPACE, OPERATOR)
            configuration.api_key = {"BearerToken": f"Bearer {token}"}
            async with APIServer(configuration, "operator (one)", PATIENCE) as api:
                bench = Bench(api_server, api)
                for name in NODES:
                    bench.node(name)
                await bench.settle()
                bench.links(*NODES)
                await bench.settle()
                bench.links(*NODES)
                await bench.settle()
                await scene(bench)

        asyncio.run(live())

    admin.create(virtual_ips(), virtual_ip(NAME, addresses=["192.0.2.9/24"], nodes={"names": [*NODES, "status-9"]}))
    yield run
    admin.delete(PATH)
    for found in admin.get(SPEAKER_CONFIGS)["items"]:
        admin.delete(f"{SPEAKER_CONFIGS}/{found['metadata']['name']}")
    for name in NODES:
        admin.request("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
        admin.delete(f"/api/v1/nodes/{name}")


def test_who_holds_it_goes_by_the_api_servers_own_times(play: Callable[[Scene], None]) -> None:
    """Each node's clock is an hour behind the one before, and the operator looks only at the end."""

    async def scene(bench: Bench) -> None:
        for number, name in enumerate(NODES):
            bench.says(name, "Master", since=f"2026-01-01T{12 - number}:00:00.000Z", reason="MasterSilent")
            await asyncio.sleep(1.1)
        await bench.settle()
        assert bench.status["holder"] == "status-3"
        assert [move["to"] for move in bench.status["transitions"]] == list(NODES)
        assert bench.status["moves"] == 2
        before = bench.server.admin.get(PATH)["metadata"]["resourceVersion"]
        await bench.settle()
        assert bench.server.admin.get(PATH)["metadata"]["resourceVersion"] == before, "nothing is written twice"

    play(scene)


def test_a_speaker_whose_pod_is_not_ready_is_not_heard(play: Callable[[Scene], None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.says(NODES[0], "Master")
        await bench.settle()
        assert bench.conditions()["Ready"] == "True"
        for name in NODES:
            bench.is_ready(name, ready=False)
        await bench.settle()
        (ready,) = (one for one in bench.status["conditions"] if one["type"] == "Ready")
        assert (ready["status"], ready["reason"], bench.status["holder"]) == ("Unknown", "HolderNotHeard", NODES[0])

    play(scene)


def test_what_is_true_no_longer_goes_from_the_status(play: Callable[[Scene], None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.says(NODES[0], "Master", reason="NoMasterHeard")
        await bench.settle()
        assert (bench.status["holder"], bench.conditions()["Ready"]) == (NODES[0], "True")
        bench.server.admin.merge(PATH, {"spec": {"addresses": ["198.51.100.1/24"]}})
        await bench.settle()
        assert bench.conditions() | {"Stalled": "True", "Accepted": "False"} == bench.conditions()
        assert bench.status["observedGeneration"] == bench.server.admin.get(PATH)["metadata"]["generation"]
        bench.server.admin.merge(PATH, {"spec": {"addresses": ["192.0.2.9/24"]}})
        bench.says(NODES[0], "Initialize", obstacles=["ServiceFailed"])
        await bench.settle()
        assert "Stalled" not in bench.conditions()
        assert (bench.status.get("holder", ""), bench.conditions()["Ready"]) == ("", "False")

    play(scene)


def test_owners_do_not_grow_with_nodes_that_leave(play: Callable[[Scene], None]) -> None:
    async def scene(bench: Bench) -> None:
        for name in (*NODES, *(f"gone-{number}" for number in range(12))):
            bench.says(name, "Backup")
        await bench.settle()
        managers = {one["manager"] for one in bench.server.admin.get(PATH)["metadata"]["managedFields"]}
        agents = {manager for manager in managers if manager.startswith("holdfast-agent-")}
        assert agents == {agent_field_manager(name) for name in NODES}
        assert [one["nodeName"] for one in bench.status["nodes"]] == list(NODES)

    play(scene)


def test_a_status_that_was_written_meanwhile_is_left_as_it_is(play: Callable[[Scene], None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.says(NODES[0], "Master")
        cluster, plan = await bench.reconciliation.look()
        bench.says(NODES[1], "Backup")
        key = f"default/{NAME}"
        assert await bench.writer.write_statuses_as_read(plan, cluster, [key]) == frozenset()
        cluster, plan = await bench.reconciliation.look()
        assert await bench.writer.write_statuses_as_read(plan, cluster, [key]) == {key}
        assert bench.status["holder"] == NODES[0]

    play(scene)
