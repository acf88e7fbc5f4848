"""A node's agent between an engine and an API server that tests play: both real on the wire, neither real behind it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from aiohttp import web

from holdfast_api.messages import (
    Answer,
    Configure,
    Done,
    ExpectFirstHolds,
    GetHistory,
    History,
    Lateness,
    LinkStatus,
    RealTime,
    Refused,
    ReportHealth,
    Request,
    RouterStatus,
    Status,
    Subscribe,
    Switchover,
    Transition,
)
from holdfast_api.reasons import Health, Reason, State
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_kube.api_server import APIServer, load_configuration
from holdfast_kube.listening import Address
from holdfast_speaker.agent.__main__ import PATIENCE
from holdfast_speaker.agent.agent import Agent, Settings

NODE = "n1"
AMPLE_SECONDS = 30.0
HOLDFAST = "/apis/holdfast.dev/v1alpha1"
SPEAKERS = f"{HOLDFAST}/speakerconfigs"
VIRTUAL_IPS = f"{HOLDFAST}/virtualips"
PODS = "/api/v1/pods"
_KINDS = {SPEAKERS: "SpeakerConfig", VIRTUAL_IPS: "VirtualIP", PODS: "Pod"}


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(AMPLE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def router_status(configuration: VirtualRouterConfiguration, **fields: Any) -> RouterStatus:
    """A Backup that nothing is wrong with."""
    told: dict[str, Any] = {
        "virtual_ip": configuration.name,
        "addresses": list(configuration.addresses),
        "interface": "eth0",
        "virtual_router_id": configuration.virtual_router_id,
        "version": configuration.version,
        "state": State.BACKUP,
        "since": "2026-01-01T00:00:00.000Z",
        "reason": Reason.STARTED,
        "message": "started",
        "priority": configuration.priority,
        "effective_priority": configuration.priority,
        "health": Health.HEALTHY,
        "health_detail": "",
        "obstacles": [],
        "obstacle_detail": "",
        "master": "10.0.0.2",
        "master_priority": 100,
        "advertisement_interval_milliseconds": 1000,
        "learned_interval_milliseconds": 1000,
        "transitions": 0,
        "counters": {"advertisement-sent": 0, "advertisement-rcvd": 7},
    }
    return RouterStatus(**{**told, **fields})


class FakeEngine:
    """Listens where an engine's keeper would, and does what it is told without any VRRP."""

    def __init__(self, path: Path, node_name: str = NODE) -> None:
        self._path = path
        self._node_name = node_name
        self._server: asyncio.Server | None = None
        self._writers: dict[asyncio.StreamWriter, bool] = {}
        self._history: dict[str, list[Transition]] = {}
        self._times = 0
        self.configuration = SpeakerConfiguration(node_name=node_name)
        self.routers: dict[str, RouterStatus] = {}
        self.configured: list[SpeakerConfiguration] = []
        self.nominees: list[dict[str, str]] = []
        self.is_older = False
        """It knows no nominees."""
        self.switchovers: list[tuple[str, str]] = []
        self.reported: list[ReportHealth] = []
        self.requests = 0
        self.refuses = ""
        self.links: list[LinkStatus] | None = [LinkStatus(name="eth0", addresses=["10.0.0.1/24"])]
        self.warnings: list[str] = []

    async def start(self) -> None:
        """Make the socket and listen."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=2**24)

    async def stop(self) -> None:
        """Hang up, and listen no more; the socket file stays, as a dead engine's does."""
        if self._server is not None:
            self._server.close()
            self.hang_up()
            await self._server.wait_closed()
            self._server = None

    def hang_up(self) -> None:
        """Close every connection, as an engine that dies under its keeper does."""
        for writer in list(self._writers):
            writer.transport.abort()
        self._writers.clear()

    @property
    def is_connected(self) -> bool:
        """Whether some agent listens to transitions."""
        return any(self._writers.values())

    def health(self, name: str) -> tuple[Health, str] | None:
        """What was reported last."""
        told = [report for report in self.reported if report.virtual_ip == name]
        return (told[-1].health, told[-1].detail) if told else None

    def run(self, configuration: SpeakerConfiguration) -> None:
        """Have this in force, whoever said so."""
        self.configuration = configuration
        before, self.routers = self.routers, {}
        for item in configuration.virtual_routers:
            self.routers[item.name] = before.get(item.name) or router_status(item)

    def move(self, name: str, to: State, reason: Reason, *, silent_ms: int = 0, peer: str = "") -> Transition:
        """One transition: subscribers are told."""
        self._times += 1
        router = self.routers[name]
        transition = Transition(
            virtual_ip=name,
            from_state=router.state,
            to_state=to,
            reason=reason,
            message=f"move {self._times}",
            time=f"2026-01-01T00:{self._times // 60:02}:{self._times % 60:02}.000Z",
            silent_milliseconds=silent_ms,
            peer=peer,
        )
        self._history.setdefault(name, []).append(transition)
        self.change(name, state=to, since=transition.time, reason=reason, message=transition.message)
        for writer, is_subscribed in self._writers.items():
            if is_subscribed:
                writer.write(msgspec.json.encode(transition) + b"\n")
        return transition

    def change(self, name: str, **fields: Any) -> None:
        """Change a router's status without a transition."""
        self.routers[name] = msgspec.structs.replace(self.routers[name], **fields)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[writer] = False
        try:
            while line := await reader.readline():
                self.requests += 1
                request = msgspec.json.decode(line, type=Request)
                if isinstance(request, Subscribe):
                    self._writers[writer] = True
                writer.write(msgspec.json.encode(self._answer(request)) + b"\n")
        except ConnectionError:
            pass
        finally:
            self._writers.pop(writer, None)
            writer.close()

    def _answer(self, request: Request) -> Answer:
        match request:
            case ExpectFirstHolds(nominees=nominees):
                if self.is_older:
                    return Refused(reason="not a request: invalid value 'ExpectFirstHolds'")
                self.nominees.append(nominees)
                return Done()
            case Configure(configuration=configuration):
                self.configured.append(configuration)
                if self.refuses:
                    return Refused(reason=self.refuses)
                self.run(configuration)
                return Done()
            case ReportHealth(virtual_ip=name, health=health, detail=detail):
                self.reported.append(request)
                if name not in self.routers:
                    return Refused(reason=f"there is no VirtualIP {name} here")
                self.change(name, health=health, health_detail=detail)
                return Done()
            case Switchover(virtual_ip=name, to=to):
                self.switchovers.append((name, to))
                self.move(name, State.MASTER, Reason.SWITCHOVER)
                return Done()
            case GetHistory(virtual_ip=name):
                return History(virtual_ip=name, transitions=self._history.get(name, []), journal=[])
            case _:
                return self.status()

    def status(self) -> Status:
        """What it says of itself."""
        return Status(
            node_name=self._node_name,
            version="0.1.0",
            pid=1,
            started="2026-01-01T00:00:00.000Z",
            generation=self.configuration.generation,
            routers=list(self.routers.values()),
            link_counters={"vrid-errors": 3},
            lateness=Lateness(samples=10, p50_microseconds=20, p99_microseconds=40, max_microseconds=90),
            real_time=RealTime(scheduling="", memory="", garbage_collection="", cpu_latency=""),
            warnings=list(self.warnings),
            links=self.links,
            restarts=2,
        )


class FakeAPI:
    """An API server with lists, watches, and server-side apply of status as far as Holdfast's agents use it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[tuple[str, str], dict[str, Any]]] = {path: {} for path in _KINDS}
        self.writes: list[tuple[str, dict[str, Any]]] = []
        """Path and body of every apply that was answered."""
        self.requests: list[tuple[str, str]] = []
        self.port = 0
        self._refused: dict[str, int] = {}
        self._applied: dict[tuple[str, str], set[str]] = {}
        self._version = 100
        self._watchers: list[tuple[str, Mapping[str, str], asyncio.Queue[bytes | None]]] = []
        self._log: list[tuple[int, str, dict[str, Any], str]] = []
        self._runner: web.AppRunner | None = None
        self._is_away = False

    # ----- life -----

    async def start(self) -> None:
        """Listen; on the former port after a stop."""
        self._is_away = False
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Be away: connections are cut."""
        self._is_away = True
        self.end_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def refuse(self, prefix: str, status: int) -> None:
        """Answer every request whose path begins so with this HTTP status; 0: as usual again."""
        self._refused[prefix] = status

    def end_watches(self) -> None:
        """As the API server does after their time."""
        for _, _, queue in self._watchers:
            queue.put_nowait(None)
        self._watchers.clear()

    def break_watches(self, code: int) -> None:
        """An ERROR event in every watch."""
        status = {"kind": "Status", "status": "Failure", "code": code, "message": "too old resource version"}
        for _, _, queue in self._watchers:
            queue.put_nowait(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
        self.end_watches()

    def watches(self, path: str) -> int:
        """How many watches of the resource are open."""
        return sum(watched == path for watched, _, _ in self._watchers)

    # ----- objects -----

    def put(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        """Make or change an object; its generation changes with its spec."""
        metadata = item["metadata"]
        key = metadata.get("namespace", ""), metadata["name"]
        before = self.objects[path].get(key)
        self._version += 1
        generation = 1
        if before is not None:
            generation = before["metadata"]["generation"] + (before.get("spec") != item.get("spec"))
        whole = {
            **item,
            "metadata": {
                "uid": before["metadata"]["uid"] if before else f"uid-{self._version}",
                **metadata,
                "generation": metadata.get("generation", generation),
                "resourceVersion": str(self._version),
            },
        }
        self.objects[path][key] = whole
        self._tell("MODIFIED" if before else "ADDED", path, whole)
        return whole

    def restore(self, objects: dict[str, dict[tuple[str, str], dict[str, Any]]], version: int) -> None:
        """An etcd from a backup: objects as they were, and resource versions that go on from there."""
        self.objects, self._version = objects, version
        self._log.clear()

    def delete(self, path: str, name: str, namespace: str = "") -> None:
        """Delete an object."""
        self._version += 1
        gone = self.objects[path].pop((namespace, name))
        self._tell("DELETED", path, {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self._version)}})

    def bookmark(self) -> None:
        """A bookmark in every watch."""
        for path, _, queue in self._watchers:
            item = {"kind": _KINDS[path], "metadata": {"resourceVersion": str(self._version)}}
            queue.put_nowait(json.dumps({"type": "BOOKMARK", "object": item}).encode() + b"\n")

    def entry(self, name: str, namespace: str = "shop", node: str = NODE) -> dict[str, Any] | None:
        """One node's entry in a VirtualIP's status."""
        nodes = self.objects[VIRTUAL_IPS][namespace, name].get("status", {}).get("nodes", [])
        return next((entry for entry in nodes if entry["nodeName"] == node), None)

    def speaker_status(self) -> dict[str, Any]:
        """SpeakerConfig.status of the node."""
        found = self.objects[SPEAKERS].get(("", NODE), {})
        status: dict[str, Any] = found.get("status", {})
        return status

    def condition(self, kind: str) -> dict[str, Any]:
        """One condition of it; empty where there is none."""
        return next((one for one in self.speaker_status().get("conditions", []) if one["type"] == kind), {})

    def _tell(self, event: str, path: str, item: dict[str, Any]) -> None:
        line = json.dumps({"type": event, "object": item}).encode() + b"\n"
        self._log.append((self._version, path, item, event))
        for watched, query, queue in self._watchers:
            if watched == path and _selected(item, query):
                queue.put_nowait(line)

    # ----- HTTP -----

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if self._is_away and request.transport is not None:  # on a connection that was open before
            request.transport.abort()
        self.requests.append((request.method, path))
        for prefix, status in self._refused.items():
            if status and path.startswith(prefix):
                return web.json_response({"kind": "Status", "message": f"HTTP {status}"}, status=status)
        if request.method == "PATCH":
            return await self._apply(request)
        if path in self.objects:
            return await self._watch(request) if request.query.get("watch") else self._list(request)
        found = self._find(path)
        return web.json_response(found) if found else _not_found(path)

    def _list(self, request: web.Request) -> web.Response:
        items = [item for item in self.objects[request.path].values() if _selected(item, request.query)]
        return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        since = int(request.query["resourceVersion"])
        for version, path, item, event in self._log:
            if version > since and path == request.path and _selected(item, request.query):
                queue.put_nowait(json.dumps({"type": event, "object": item}).encode() + b"\n")
        if self._is_away:
            queue.put_nowait(None)
        self._watchers.append((request.path, request.query, queue))
        while (line := await queue.get()) is not None:
            await response.write(line)
        return response

    async def _apply(self, request: web.Request) -> web.Response:
        assert request.headers["Content-Type"] == "application/apply-patch+yaml"
        assert request.query["force"] == "true"
        path = request.path.removesuffix("/status")
        body = await request.json()
        found = self._find(path)
        if found is None:
            return _not_found(path)
        collection = SPEAKERS if path.startswith(SPEAKERS) else VIRTUAL_IPS
        status = self._merged(found, body, request.query["fieldManager"], path)
        self.writes.append((path, body))
        if status != found.get("status", {}):
            found = self.put(collection, {**found, "status": status})
        return web.json_response(found)

    def _merged(self, found: dict[str, Any], body: dict[str, Any], manager: str, path: str) -> dict[str, Any]:
        if body["kind"] == "SpeakerConfig":
            status: dict[str, Any] = body["status"]
            return status
        entries = body["status"].get("nodes", [])
        names = {entry["nodeName"] for entry in entries}
        formerly = self._applied.get((manager, path), set())
        others = [
            entry for entry in found.get("status", {}).get("nodes", []) if entry["nodeName"] not in names | formerly
        ]
        self._applied[manager, path] = names
        return {**found.get("status", {}), "nodes": others + entries}

    def owns(self, manager: str, path: str, names: set[str]) -> None:
        """Say that a field manager has applied these entries before."""
        self._applied[manager, path] = names

    def _find(self, path: str) -> dict[str, Any] | None:
        *folders, name = path.split("/")
        if path.startswith(SPEAKERS):
            return self.objects[SPEAKERS].get(("", name))
        if path.startswith(f"{HOLDFAST}/namespaces/"):
            return self.objects[VIRTUAL_IPS].get((folders[-2], name))
        return None


def _selected(item: dict[str, Any], query: Mapping[str, str]) -> bool:
    selector = query.get("fieldSelector", "")
    if not selector:
        return True
    field, _, value = selector.partition("=")
    part: Any = item
    for name in field.split("."):
        part = part.get(name, {})
    return bool(part == value)


def _not_found(path: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": f"{path} not found", "code": 404}, status=404)


def pod(name: str, *, ready: bool = True, namespace: str = "shop", **labels: str) -> dict[str, Any]:
    """A running pod of the node, with app=web unless told otherwise."""
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {"app": "web"}},
        "spec": {"nodeName": NODE},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def terminating(item: dict[str, Any]) -> dict[str, Any]:
    """The same pod, asked to end."""
    return {**item, "metadata": {**item["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


def virtual_ip(name: str, namespace: str = "shop", **status: Any) -> dict[str, Any]:
    """A VirtualIP."""
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {}, "status": status}


def router(name: str, vrid: int = 51, **fields: Any) -> dict[str, Any]:
    """A virtual router in a SpeakerConfig."""
    return {"name": name, "addresses": [f"10.0.0.{vrid}/24"], "virtualRouterID": vrid, **fields}


def speaker_config(*routers: dict[str, Any], tracking: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """The node's SpeakerConfig."""
    return {
        "metadata": {"name": NODE},
        "spec": {"nodeName": NODE, "virtualRouters": list(routers), "tracking": list(tracking)},
    }


def tracks_pods(name: str, minimum: int = 1) -> dict[str, Any]:
    """Tracking of the pods with app=web."""
    return {"virtualIP": name, "pods": {"selector": {"matchLabels": {"app": "web"}}, "minReady": minimum}}


class World:
    """One node: an API server, an engine, and as many agents as a test starts."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="holdfast-agent-")  # a socket's path must be short
        self.root = Path(self._folder.name)
        self.api = FakeAPI()
        self.engine = FakeEngine(self.root / "run" / "engine.sock")
        self._agents: list[tuple[Agent, asyncio.Task[None], APIServer]] = []

    async def __aenter__(self) -> World:
        (self.root / "run").mkdir()
        await self.api.start()
        await self.engine.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.engine.stop()
        for agent, _, _ in list(self._agents):
            await self.stop_agent(agent)
        await self.api.stop()
        self._folder.cleanup()

    async def start_agent(self, cache: str = "cache") -> Agent:
        """An agent of this node; one with the same cache is one of the same pod."""
        (self.root / cache).mkdir(exist_ok=True)
        kubeconfig = self.root / "kubeconfig"
        kubeconfig.write_text(
            json.dumps(
                {
                    "current-context": "c",
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.api.port}"}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "users": [{"name": "u", "user": {"token": "secret"}}],
                }
            )
        )
        api = APIServer(await load_configuration(str(kubeconfig)), "agent", PATIENCE)
        settings = Settings(NODE, self.root / "run", self.root / cache, Address("127.0.0.1", 0))
        agent = Agent(settings, api)
        self._agents.append((agent, asyncio.create_task(agent.run()), api))
        return agent

    async def stop_agent(self, agent: Agent) -> None:
        """As SIGTERM does. Raises what the agent died of."""
        found = next(item for item in self._agents if item[0] is agent)
        self._agents.remove(found)
        agent.stop()
        await found[1]
        await found[2].close()
