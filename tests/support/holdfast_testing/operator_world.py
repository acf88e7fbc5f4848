"""A small cluster in a FakeAPI, a planner for it that is simple enough to foresee, and the operator beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from kubernetes.aio.client import Configuration

from holdfast_api.cluster import SpeakerConfigSpec, VirtualIPState, VirtualIPStatus
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_kube.api_server import APIServer
from holdfast_kube.back_off import BackOffs
from holdfast_kube.listening import Address
from holdfast_operator.events import EventRecorder
from holdfast_operator.leader import Timing
from holdfast_operator.metrics import Metrics
from holdfast_operator.planner.cluster.view import ClusterPlan, ClusterRules, ClusterView, EventType, Notice
from holdfast_operator.process import PATIENCE, Operator
from holdfast_operator.reader import Reader
from holdfast_operator.reconciler import Planner, Reconciliation, Rhythm
from holdfast_operator.service_writer import ServiceWriter
from holdfast_operator.settings import Settings
from holdfast_operator.surroundings import SPEAKER_PODS, speaker_pods
from holdfast_operator.writer import Writer
from holdfast_testing.fake_api import FakeAPI

AMPLE = 60.0
"""Seconds that nothing here takes."""

QUICK = Rhythm(debounce=0.005, resync=3600, first_retry=0.01, last_retry=0.05, stand_in=3600)
SHORT_LEASE = Timing(lease_seconds=1, renew_seconds=0.6, retry_seconds=0.1)


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds, for as long as it takes."""
    async with asyncio.timeout(AMPLE):
        while not condition():
            await asyncio.sleep(0.005)


WATCHES = 9
"""Watches that an operator has open: kopf's three, and six of its own."""


def populate(api: FakeAPI, virtual_ips: tuple[str, ...] = ("shop/web",), nodes: tuple[str, ...] = ("n1", "n2")) -> None:
    """VirtualIPs by namespace/name, and nodes."""
    for name in nodes:
        api.put("nodes", {"metadata": {"name": name}})
    for key in virtual_ips:
        put_virtual_ip(api, key)


def put_speaker_pod(api: FakeAPI, node_name: str, *, is_ready: bool = True) -> None:
    """The pod of a node's speaker, as the DaemonSet's controller and the kubelet have it."""
    api.put(
        "pods",
        {
            "metadata": {
                "namespace": "holdfast-system",
                "name": f"speaker-{node_name}",
                "labels": {"app.kubernetes.io/component": "speaker"},
            },
            "spec": {"nodeName": node_name},
            "status": {"conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}]},
        },
    )


def put_virtual_ip(api: FakeAPI, key: str, address: str = "10.0.0.1") -> None:
    """A VirtualIP as a user applies it."""
    namespace, _, name = key.partition("/")
    api.put("virtualips", {"metadata": {"namespace": namespace, "name": name}, "spec": {"addresses": [address]}})


def tell_links(api: FakeAPI, *node_names: str) -> None:
    """What the agents of these nodes apply as soon as they have a SpeakerConfig."""
    for name in node_names:
        links = [{"name": "eth0", "addresses": ["10.0.0.9/24"]}]
        api.set_status("speakerconfigs", name, {"links": links}, manager=f"holdfast-agent-{name}")


def tell_master(api: FakeAPI, key: str, node_name: str) -> None:
    """What the agent of a node applies when its engine is Master; the others are told to be Backup."""
    for node in api.all("nodes"):
        name = node["metadata"]["name"]
        state = "Master" if name == node_name else "Backup"
        entry = {"nodeName": name, "state": state, "since": "", "priority": 100, "health": "Healthy"}
        api.set_status("virtualips", key, {"nodes": [entry]}, manager=f"holdfast-agent-{name}")


def simple_plan(view: ClusterView, now: str) -> ClusterPlan:
    """Every VirtualIP on every node; the holder is the Master; a Notice for each new holder."""
    routers, statuses, notices, departed = [], {}, [], {}
    node_names = {node.name for node in view.nodes}
    for virtual_ip in view.virtual_ips:
        key = f"{virtual_ip['metadata']['namespace']}/{virtual_ip['metadata']['name']}"
        addresses = virtual_ip["spec"]["addresses"]
        routers.append(VirtualRouterConfiguration(name=key, addresses=addresses, virtual_router_id=51))
        told = virtual_ip.get("status", {})
        entries = told.get("nodes", [])
        holder = next((entry["nodeName"] for entry in entries if entry["state"] == "Master"), "")
        state = VirtualIPState.HELD if holder else VirtualIPState.PENDING
        statuses[key] = VirtualIPStatus(
            observed_generation=virtual_ip["metadata"]["generation"], holder=holder, state=state
        )
        if gone := [entry["nodeName"] for entry in entries if entry["nodeName"] not in node_names]:
            departed[key] = gone
        if holder and holder != told.get("holder"):
            notices.append(Notice(key, EventType.NORMAL, "Moved", f"held by {holder} now"))
    return ClusterPlan(
        speakers={name: SpeakerConfigSpec(node_name=name, virtual_routers=routers) for name in node_names},
        statuses=statuses,
        departed=departed,
        notices=notices,
    )


class Bench:
    """One pass of the operator at a time, without watches and Lease."""

    def __init__(self, fake: FakeAPI, api: APIServer) -> None:
        self.fake = fake
        self.api = api
        self.plan: Planner = simple_plan
        self.may_write = True
        self.metrics = Metrics()
        self.now = 0.0
        self.tried_again = 0.0
        """What the writer takes for the time."""
        back_offs = BackOffs(0.5, 30.0, lambda: self.tried_again)
        self.writer = Writer(api, lambda: self.may_write, self.metrics, back_offs)
        self.recorder = EventRecorder(api, self.writer, "operator-1", lambda: self.now)
        self.services = ServiceWriter(api, self.writer, BackOffs(0.5, 30.0, lambda: self.tried_again))
        self.rules = ClusterRules()
        self.reader = Reader(api, speaker_pods("holdfast-system", SPEAKER_PODS))
        self.reconciliation = Reconciliation(
            self.reader, self._plan, self.writer, self.services, self.recorder, self.metrics, self.rules
        )

    async def once(self) -> bool:
        """Reconcile, so late that whatever has failed is tried again. Whether everything is as it should be."""
        self.tried_again += 3600.0
        return await self.reconciliation.once() and not self.reconciliation.obstacle

    async def settle(self) -> None:
        """Reconcile until every agent has said what links it has, and everything is planned from that."""
        assert await self.once()
        tell_links(self.fake, *(node["metadata"]["name"] for node in self.fake.all("nodes")))
        assert await self.once()
        self.fake.requests.clear()

    def _plan(self, view: ClusterView, now: str) -> ClusterPlan:
        return self.plan(view, now)

    def written(self) -> list[tuple[str, str]]:
        """Verb and path of what was written since the last call."""
        written = [(request.method, request.path) for request in self.fake.writes()]
        self.fake.requests.clear()
        return written

    def count(self, name: str, **labels: str) -> float | None:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(f"holdfast_operator_{name}", labels)


@contextlib.asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """A Bench with an empty FakeAPI."""
    async with FakeAPI() as fake, APIServer(Configuration(host=fake.url), "operator-1", PATIENCE) as api:
        yield Bench(fake, api)


def play(scene: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a scene on a Bench."""

    async def run() -> None:
        async with bench() as made:
            await scene(made)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def operator(
    fake: FakeAPI,
    name: str,
    *,
    plan: Planner = simple_plan,
    timing: Timing = SHORT_LEASE,
    rhythm: Rhythm = QUICK,
    services: bool = True,
) -> AsyncIterator[Operator]:
    """A whole operator process's parts, running."""

    async def login() -> Configuration:
        return Configuration(host=fake.url)

    address = Address("127.0.0.1", 0)
    settings = Settings("holdfast-system", "holdfast-operator", address, identity=name, services=services)
    async with APIServer(await login(), f"operator ({name})", PATIENCE) as api:
        made = Operator(settings, api, login, plan, timing=timing, rhythm=rhythm)
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            made.stop()
            await running
