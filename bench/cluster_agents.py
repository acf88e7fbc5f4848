"""Many nodes' agents in one process, as a program of the bench: `python -m bench.cluster_agents FOLDER`.

Each is the agent itself, with a connection, a token and a cache of its own. Its engine is played: a router of a link's
first node holds, all others are Backups, and who is told to promote does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.cluster_lines import Line, commands, tell

from holdfast_api.messages import LinkStatus
from holdfast_api.reasons import Reason, State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_kube import log
from holdfast_kube.api_server import APIServer, load_configuration
from holdfast_speaker.agent.__main__ import PATIENCE
from holdfast_speaker.agent.agent import Agent, Settings
from holdfast_testing.agent_fixtures import FakeEngine


@dataclass(slots=True)
class Traffic:
    """What an agent was told by the API server since the last report, as it reads it: not compressed."""

    lists: int = 0
    listed_bytes: int = 0
    last_list_at: float = 0.0
    watched_bytes: int = 0


class CountedAPIServer(APIServer):
    """Counts what is read of lists and watches."""

    traffic = Traffic()

    async def list_raw(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """As it is."""
        body = await super().list_raw(path, query)
        self.traffic.lists += 1
        self.traffic.listed_bytes += len(body)
        self.traffic.last_list_at = time.monotonic()
        return body

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """As it is."""
        async with contextlib.aclosing(super().watch(path, query)) as lines:
            async for line in lines:
                self.traffic.watched_bytes += len(line)
                yield line


class PlayedEngine(FakeEngine):
    """Says which routers a configuration made or changed, and when it came."""

    def __init__(self, path: Path, node_name: str, address: str, *, holds: bool) -> None:
        super().__init__(path, node_name)
        self._holds = holds
        self.links = [LinkStatus(name="eth0", addresses=[address])]

    def run(self, configuration: SpeakerConfiguration) -> None:
        """Have this in force."""
        now, former = time.monotonic(), {one.name: one for one in self.configuration.virtual_routers}
        super().run(configuration)
        self.configured.clear()
        for one in configuration.virtual_routers:
            if self._holds and one.name not in former:
                self.change(one.name, state=State.MASTER, reason=Reason.NO_MASTER_HEARD)
        changed = [one.name for one in configuration.virtual_routers if former.get(one.name) != one]
        tell(configured=self._node_name, changed=changed, at=now)

    def promote(self) -> None:
        """Every router here takes over."""
        for name in self.routers:
            self.move(name, State.MASTER, Reason.MASTER_SILENT, silent_ms=300, peer="10.0.0.2")


@dataclass(slots=True)
class Node:
    """A node that is played."""

    engine: PlayedEngine
    api: CountedAPIServer | None = None
    task: asyncio.Task[None] | None = None

    async def die(self) -> None:
        """As a host without power: nothing is said."""
        await self.engine.stop()
        if self.task is not None and self.api is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            await self.api.close()


async def _start(folder: Path, found: Mapping[str, Any]) -> Node:
    name = found["node"]
    place = folder / name
    for each in ("run", "cache"):
        (place / each).mkdir(parents=True)
    engine = PlayedEngine(place / "run" / "engine.sock", name, found["address"], holds=found["holds"])
    await engine.start()
    if not found["agent"]:  # it is a process of its own
        return Node(engine)
    api = CountedAPIServer(await load_configuration(found["kubeconfig"]), "holdfast-agent/bench", PATIENCE)
    api.traffic = Traffic()
    agent = Agent(Settings(name, place / "run", place / "cache"), api)
    return Node(engine, api, asyncio.create_task(agent.run()))


async def _obey(nodes: dict[str, Node], command: Line) -> None:
    match command["do"]:
        case "promote":
            nodes[command["node"]].engine.promote()
        case "kill":
            await nodes.pop(command["node"]).die()
        case "report":
            report = {}
            for name, node in nodes.items():
                if node.api is not None:
                    report[name], node.api.traffic = asdict(node.api.traffic), Traffic()
            tell(report=report)


async def _run(folder: Path) -> None:
    nodes: dict[str, Node] = {}
    for found in json.loads((folder / "agents.json").read_text(encoding="utf-8")):
        nodes[found["node"]] = await _start(folder, found)
    tell(started=len(nodes))
    async for command in commands():
        await _obey(nodes, command)


def main() -> int:
    """Until its parent ends."""
    log.configure(log.TextLines(), "warning")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    asyncio.run(_run(Path(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
