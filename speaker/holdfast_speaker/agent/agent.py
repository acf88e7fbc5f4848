"""One node's agent: what it watches, what it tells the engine, and what it writes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry

from holdfast_api.cluster import GROUP, VERSION
from holdfast_api.reasons import Health, Obstacle
from holdfast_kube.api_server import NOT_FOUND, APIFailure, APIServer
from holdfast_kube.certificate import Certificate
from holdfast_kube.listening import Address
from holdfast_kube.reachability import Reachability
from holdfast_kube.reflector import Reflector
from holdfast_kube.scrape_access import ScrapeAccess
from holdfast_speaker.agent import alive
from holdfast_speaker.agent.cache import Cache, KeptConfiguration
from holdfast_speaker.agent.configuration import Configuration, Wanted
from holdfast_speaker.agent.engine_connection import EngineAway
from holdfast_speaker.agent.engine_link import EngineLink
from holdfast_speaker.agent.health_book import HealthBook
from holdfast_speaker.agent.metrics import Moves, Readings, SpeakerCollector
from holdfast_speaker.agent.metrics_server import MetricsServer
from holdfast_speaker.agent.objects import ObservedSpeakerConfig, ObservedVirtualIP, Pod
from holdfast_speaker.agent.pods import PodStore, Verdict
from holdfast_speaker.agent.probe_targets import ProbeTargets
from holdfast_speaker.agent.publisher import Publisher
from holdfast_speaker.agent.split_brain import SplitBrainWatch
from holdfast_speaker.health.monitor import HealthMonitor
from holdfast_speaker.health.node_ports import NodePorts

LOOPBACK: Final = ("127.0.0.1", "::1")

_RESOURCES = ("speakerconfigs", "pods", "virtualips")
_WRITTEN = ("speakerconfigs", "virtualips")
_ALIVE_EVERY_SECONDS = 2.0
_CATCH_UP_EVERY_SECONDS = 0.5
UNSAID_SECONDS = 20.0
"""An agent that could not write for so long what is new is not ready: what stands there is untrue.
Two nodes that both say Master are a split brain after three times that (docs/reference/status.md)."""
_NOT_CAUGHT_UP = "what the engine says does not stand in the API server yet"
_PUBLISH_EVERY_SECONDS = 5.0
_READ_AGAIN_EVERY_SECONDS = 5.0
_ENGINE_ENDS_WITHIN_SECONDS = 3.0
_LAST_WRITES_WITHIN_SECONDS = 3.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    node_name: str
    state_directory: Path
    cache_directory: Path
    metrics_address: Address | None = None
    metrics_certificate: Path | None = None
    """A folder with tls.crt and tls.key: metrics are served over TLS, to those whom the API server lets read them."""
    allowed_probe_networks: Sequence[str] = ()
    """Where probes may go besides loopback, this node and the VIP itself."""
    host_addresses: Sequence[str] = LOOPBACK
    """Where this node's service proxy answers at healthCheckNodePorts: the node's InternalIPs, by preference."""


class Agent:
    """Made inside a running event loop; `run` until `stop`."""

    def __init__(self, settings: Settings, api: APIServer) -> None:
        self._settings = settings
        self._api = api
        self._stop = asyncio.Event()
        clock = asyncio.get_running_loop().time
        self._cache = Cache(settings.cache_directory)
        self._reachability = Reachability(time.time, self._is_back)
        self._configuration = Configuration(settings.node_name, self._configuration_changed)
        self._pods = PodStore(self._wake_engine)
        self._health = HealthBook(self._pods, clock)
        self._kept_health: dict[str, Verdict] = {}
        self._has_caught_up = False
        self._unsaid_since: float | None = None
        targets = ProbeTargets(settings.allowed_probe_networks, self._addresses_of)
        self._monitor = HealthMonitor({}, self._take_probes, targets.permits)
        self._node_ports = NodePorts(settings.host_addresses, self._take_node_ports)
        self._split_brains = SplitBrainWatch(clock)
        self._publisher = Publisher(settings.node_name, api, self._configuration, self._reachability, self._cache)
        self._registry = CollectorRegistry()
        self._moves = Moves(settings.node_name, self._registry)
        SpeakerCollector(settings.node_name, self._readings, self._registry)
        self._engine = EngineLink(
            settings.state_directory / "engine.sock",
            self._configuration,
            self._health,
            accepted=self._adopt,
            changed=self._engine_changed,
            transition=self._moves.take,
        )
        self.metrics: MetricsServer | None = None
        if settings.metrics_address is not None:
            folder = settings.metrics_certificate
            self.metrics = MetricsServer(
                settings.metrics_address,
                self._registry,
                self._look_at_engine,
                Certificate(folder) if folder is not None else None,
                ScrapeAccess(api, clock) if folder is not None else None,
            )

    def stop(self) -> None:
        """End in good order."""
        self._stop.set()

    async def run(self) -> None:
        """Until `stop`. An error of the program in any part ends it, so that nothing goes blind in silence."""
        self._recall()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in self._works()]
            await self._stop.wait()
            await self._finish()
            for task in tasks:
                task.cancel()
        self._node_ports.close()
        await self._monitor.close()

    def _works(self) -> list[Coroutine[Any, Any, None]]:
        works = [
            self._engine.run(),
            self._publisher.run(),
            self._monitor.watch(),
            self._node_ports.run(),
            self._say_alive(),
            self._publish_in_time(),
            self._read_again_when_asked(),
            *(reflector.run() for reflector in self._reflectors()),
        ]
        return [*works, self.metrics.run()] if self.metrics is not None else works

    def _reflectors(
        self,
    ) -> tuple[Reflector[ObservedSpeakerConfig], Reflector[Pod], Reflector[ObservedVirtualIP]]:
        own, pods, virtual_ips = _RESOURCES
        group, node_name = f"/apis/{GROUP}/{VERSION}", self._settings.node_name
        return (
            Reflector(
                self._api,
                f"{group}/speakerconfigs",
                ObservedSpeakerConfig,
                self._publisher.speaker_configs,
                self._reachability,
                resource=own,
                query={"fieldSelector": f"metadata.name={node_name}"},
                unknown=self._configuration.is_gone,
            ),
            Reflector(
                self._api,
                "/api/v1/pods",
                Pod,
                self._pods,
                self._reachability,
                resource=pods,
                query={"fieldSelector": f"spec.nodeName={node_name}"},
            ),
            Reflector(
                self._api,
                f"{group}/virtualips",
                ObservedVirtualIP,
                self._publisher.virtual_ips,
                self._reachability,
                resource=virtual_ips,
            ),
        )

    # ----- configuration and health -----

    def _recall(self) -> None:
        """Go on with what a former process of this pod knew."""
        kept = self._cache.load_configuration()
        if kept is None or kept.spec.node_name != self._settings.node_name:
            return
        _log.info("going on with generation %d of the SpeakerConfig until the API server answers", kept.generation)
        self._configuration.recall(kept)
        self._health.recall(self._cache.load_health())
        self._follow(self._configuration.in_force)

    def _adopt(self) -> None:
        """The engine took a configuration: track what belongs to it, and keep it."""
        taken = self._configuration.in_force
        if taken is None:
            return
        self._follow(taken)
        if not taken.is_cached:
            self._cache.save_configuration(
                KeptConfiguration(
                    uid=taken.uid,
                    generation=taken.generation,
                    spec=taken.spec,
                    planned_from=self._configuration.planned_from,
                )
            )
        self._moves.keep_only({name for router in taken.spec.virtual_routers for name in router.virtual_ip_names})

    def _follow(self, wanted: Wanted | None) -> None:
        if wanted is not None:
            self._health.replace(wanted.spec.tracking)
            self._monitor.replace(self._health.probes)
            self._node_ports.replace(self._health.node_ports)

    def _addresses_of(self, name: str) -> list[str]:
        """Of a VirtualIP that the engine runs: what it refuses is not the VIP's own."""
        routers = self._engine.status.routers if self._engine.status is not None else []
        runs = (one for one in routers if Obstacle.ADDRESS_NOT_PERMITTED not in one.obstacles)
        return [address for one in runs if one.virtual_ip == name for address in one.addresses]

    def _take_probes(self, name: str, health: Health, detail: str) -> None:
        self._health.take_probes(name, health, detail)
        self._wake_engine()

    def _take_node_ports(self, name: str, health: Health, detail: str) -> None:
        self._health.take_node_ports(name, health, detail)
        self._wake_engine()

    def _wake_engine(self) -> None:
        self._engine.wake()

    def _configuration_changed(self) -> None:
        self._wake_engine()
        self._publisher.publish(self._engine)

    def _is_back(self) -> None:
        self._publisher.hurry()
        self._publisher.publish(self._engine)

    def _engine_changed(self) -> None:
        status = self._engine.status
        if status is not None:
            self._split_brains.look(status.routers, self._publisher.virtual_ips.rivals)
        self._publisher.publish(self._engine)

    async def _read_again_when_asked(self) -> None:
        """The engine runs what nobody here has told it: what does the API server have now?"""
        path = f"/apis/{GROUP}/{VERSION}/speakerconfigs/{self._settings.node_name}"
        while True:
            await self._engine.read_again.wait()
            try:
                found = msgspec.json.decode(await self._api.get_raw(path), type=ObservedSpeakerConfig)
                self._configuration.take_again(found)
            except APIFailure as failure:
                if failure.status == NOT_FOUND:
                    self._configuration.is_gone()
            except msgspec.DecodeError as error:
                _log.warning("this node's SpeakerConfig cannot be read: %s", error)
            await asyncio.sleep(_READ_AGAIN_EVERY_SECONDS)
            self._engine.read_again.clear()

    # ----- what others look at -----

    async def _say_alive(self) -> None:
        turned = time.monotonic()
        while True:
            stood_still, turned = time.monotonic() - turned, time.monotonic()
            if stood_still > alive.FRESH_SECONDS or self._unsaid_seconds(turned) > UNSAID_SECONDS:
                self._has_caught_up = False
            self._cache.save_alive(alive.words(self._engine.words or ("" if self._has_caught_up else _NOT_CAUGHT_UP)))
            remembered = self._health.remembered()
            if remembered != self._kept_health:
                self._kept_health = remembered
                self._cache.save_health(remembered)
            if self._has_caught_up:
                await asyncio.sleep(_ALIVE_EVERY_SECONDS)
            else:
                self._has_caught_up = await self._catch_up()
                await asyncio.sleep(_CATCH_UP_EVERY_SECONDS)

    def _unsaid_seconds(self, now: float) -> float:
        """For how long something that the engine says waits to be written."""
        if self._publisher.is_up_to_date:
            self._unsaid_since = None
            return 0.0
        self._unsaid_since = now if self._unsaid_since is None else self._unsaid_since
        return now - self._unsaid_since

    async def _catch_up(self) -> bool:
        """Ask the engine now; whether all that it says stands in the API server.

        What a former agent wrote, or this one before it stood still or was cut off, may be long untrue, and counts as
        heard while the pod is Ready. An agent that has nothing new to say is ready without an API server, too.
        """
        try:
            await self._engine.look()
        except EngineAway:
            return False
        has_answered = all(self._reachability.has_answered(resource) for resource in _WRITTEN)
        return has_answered and self._publisher.is_up_to_date

    async def _publish_in_time(self) -> None:
        """That an engine is away becomes news without anything that happens."""
        while True:
            self._publisher.publish(self._engine)
            await asyncio.sleep(_PUBLISH_EVERY_SECONDS)

    async def _look_at_engine(self) -> None:
        with contextlib.suppress(EngineAway):
            await self._engine.look()

    def _readings(self) -> Readings:
        configuration, status = self._configuration, self._engine.status
        newest = configuration.newest
        routers = status.routers if status is not None else []
        return Readings(
            status=status,
            is_engine_up=self._engine.is_connected,
            newest_generation=newest.generation if newest else 0,
            is_config_present=configuration.is_there is not False,
            is_config_applied=newest is not None
            and configuration.rejection is None
            and status is not None
            and status.generation == newest.generation,
            suspected_split_brains={one.virtual_ip for one in routers if self._split_brains.suspected(one.virtual_ip)},
            reachable={resource: self._reachability.is_heard(resource) for resource in _RESOURCES},
            staleness_seconds=self._reachability.staleness_seconds(),
            writes=self._publisher.writes,
        )

    # ----- the end -----

    async def _finish(self) -> None:
        """The engine of this pod is being stopped too: what it says last is written, if that takes not too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENGINE_ENDS_WITHIN_SECONDS):
                await self._engine.has_ended()
        self._publisher.publish(self._engine)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITES_WITHIN_SECONDS):
                await self._publisher.write_the_last()
