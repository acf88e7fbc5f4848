"""What the agents of all other nodes write, replayed by one process: `python -m bench.cluster_others FOLDER`.

It follows every SpeakerConfig, and says for each node what its agent would, under that agent's name: the links and what
runs in the SpeakerConfig's status, an entry in the status of each VirtualIP.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from bench.cluster_lines import Line, commands, tell

from holdfast_api.cluster import (
    PLANNED_FROM_ANNOTATION,
    Condition,
    Link,
    NodeStatus,
    SpeakerConfigSpec,
    SpeakerConfigStatus,
    VirtualRouterInForce,
    agent_field_manager,
)
from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import Health, Reason, State
from holdfast_api.resources import API_VERSION
from holdfast_kube import log
from holdfast_kube.api_server import APIFailure, APIServer, load_configuration
from holdfast_kube.objects import Metadata
from holdfast_kube.reflector import Key, Reflector
from holdfast_speaker.agent.__main__ import PATIENCE
from holdfast_testing.holdfast_objects import API, SPEAKER_CONFIGS

_AT_ONCE = 8
_BEGAN = "2026-01-01T00:00:00.000Z"
_MOVED = "2026-01-01T00:01:00.000Z"


class Seen(msgspec.Struct, rename=kubernetes_name):
    """A SpeakerConfig, as far as it is followed."""

    metadata: Metadata
    spec: SpeakerConfigSpec


class Others:
    """All nodes that are replayed."""

    def __init__(self, api: APIServer, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        self._api = api
        self._nodes = nodes
        self._seen: dict[str, Seen] = {}
        self._generations: dict[str, int] = {}
        self._entries: dict[tuple[str, str], State] = {}
        self._masters = {name for name, node in nodes.items() if node["holds"]}
        self._moved: set[str] = set()
        self._due: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()

    def replace(self, objects: Mapping[Key, Seen]) -> None:
        """All that there are."""
        for key, item in objects.items():
            self.put(key, item)

    def put(self, key: Key, item: Seen) -> None:
        """New or changed."""
        name = key[1]
        before = self._seen.get(name)
        if name in self._nodes and (before is None or before.metadata.generation != item.metadata.generation):
            self._seen[name] = item
            self._wake(name)

    def remove(self, key: Key) -> None:
        """Deleted."""
        self._seen.pop(key[1], None)

    def heard(self, resource: str) -> None:
        """The API server speaks."""

    def failed(self, resource: str, failure: APIFailure) -> None:
        """It does not; the reflector tries again."""

    def promote(self, name: str) -> None:
        """Every router of the node takes over."""
        self._masters.add(name)
        self._moved.add(name)
        self._wake(name)

    def _wake(self, name: str) -> None:
        if name not in self._queued:
            self._queued.add(name)
            self._due.put_nowait(name)

    async def work(self) -> None:
        """Write for one node after the other, for ever."""
        while True:
            name = await self._due.get()
            self._queued.discard(name)
            if name in self._seen:
                try:
                    await self._say(name, self._seen[name])
                except APIFailure:
                    await asyncio.sleep(0.5)
                    self._wake(name)

    async def _say(self, name: str, item: Seen) -> None:
        routers = item.spec.virtual_routers
        if self._generations.get(name) != item.metadata.generation:
            status = SpeakerConfigStatus(
                observed_generation=item.metadata.generation,
                engine_version="bench",
                links=[Link(name="eth0", addresses=[self._nodes[name]["address"]])],
                virtual_routers=[
                    VirtualRouterInForce(name=one.name, virtual_router_id=one.virtual_router_id) for one in routers
                ],
                planned_from=(item.metadata.annotations or {}).get(PLANNED_FROM_ANNOTATION, ""),
                conditions=[
                    Condition(
                        type="Applied",
                        status="True",
                        reason="Applied",
                        message="the engine runs it",
                        last_transition_time=_BEGAN,
                    )
                ],
            )
            await self._apply(name, f"{SPEAKER_CONFIGS}/{name}", "SpeakerConfig", {"name": name}, status)
            self._generations[name] = item.metadata.generation
        for router in routers:
            await self._enter(name, router.name, router.priority)

    async def _enter(self, node: str, virtual_ip: str, priority: int) -> None:
        state = State.MASTER if node in self._masters else State.BACKUP
        if self._entries.get((node, virtual_ip)) is state:
            return
        has_moved = node in self._moved
        said = NodeStatus(
            node_name=node,
            state=state,
            since=_MOVED if has_moved else _BEGAN,
            priority=priority,
            health=Health.HEALTHY,
            reason=Reason.MASTER_SILENT if has_moved else Reason.STARTED,
            message="started",
            interface="eth0",
            silent_milliseconds=300 if has_moved else 0,
        )
        namespace, _, name = virtual_ip.partition("/")
        path = f"{API}/namespaces/{namespace}/virtualips/{name}"
        await self._apply(node, path, "VirtualIP", {"namespace": namespace, "name": name}, {"nodes": [said]})
        self._entries[node, virtual_ip] = state

    async def _apply(self, node: str, path: str, kind: str, metadata: Line, status: object) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": metadata,
            "status": msgspec.to_builtins(status),
        }
        await self._api.apply(f"{path}/status", body, agent_field_manager(node))


async def _run(folder: Path) -> None:
    nodes = {one["node"]: one for one in json.loads((folder / "others.json").read_text(encoding="utf-8"))}
    configuration = await load_configuration(str(folder / "admin.kubeconfig"))
    async with APIServer(configuration, "holdfast-agent/bench", PATIENCE) as api, asyncio.TaskGroup() as group:
        others = Others(api, nodes)
        reflector = Reflector(api, SPEAKER_CONFIGS, Seen, others, others, resource="speakerconfigs")
        works = [reflector.run(), *(others.work() for _ in range(_AT_ONCE))]
        tasks = [group.create_task(work) for work in works]
        tell(started=len(nodes))
        async for command in commands():
            others.promote(command["node"])
        for task in tasks:
            task.cancel()


def main() -> int:
    """Until its parent ends."""
    log.configure(log.TextLines(), "warning")
    asyncio.run(_run(Path(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
