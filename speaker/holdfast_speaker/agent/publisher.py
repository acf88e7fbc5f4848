"""What stands in the API server about this node: its entries of VirtualIP.status.nodes, and SpeakerConfig.status."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from holdfast_api.cluster import Condition, Link
from holdfast_api.messages import RouterStatus
from holdfast_api.reasons import State
from holdfast_kube.api_server import APIServer
from holdfast_kube.reachability import Reachability
from holdfast_kube.reflector import Key
from holdfast_speaker.agent.cache import Cache
from holdfast_speaker.agent.configuration import Configuration
from holdfast_speaker.agent.engine_link import EngineLink
from holdfast_speaker.agent.ledger import Ledger
from holdfast_speaker.agent.node_statuses import WORDS, entry, entry_without_engine, left_behind
from holdfast_speaker.agent.objects import ObservedSpeakerConfig
from holdfast_speaker.agent.speaker_status import (
    EngineFacts,
    Facts,
    links_of,
    now_rfc3339,
    router_warnings,
    speaker_status,
)
from holdfast_speaker.agent.virtual_ip_store import VirtualIPStore
from holdfast_speaker.agent.writer import Writer, speaker_config_form, virtual_ip_form

_Item = TypeVar("_Item")

ENGINE_AWAY_SECONDS = 10.0
"""After that an engine that does not answer is news: longer than its restarts, and than the kernel keeps its VIPs."""


class SpeakerConfigStore:
    """This node's SpeakerConfig: the spec is the configuration's, the status the ledger's."""

    def __init__(self, configuration: Configuration, ledger: Ledger) -> None:
        self._configuration = configuration
        self._ledger = ledger

    def replace(self, objects: Mapping[Key, ObservedSpeakerConfig]) -> None:
        """The API server listed it, or did not."""
        self._ledger.see_only(name for _, name in objects)
        for (_, name), item in objects.items():
            self._ledger.see_listed(name, item.metadata.resource_version, item.status or None, item.metadata.uid)
        self._configuration.replace(objects)

    def put(self, key: Key, item: ObservedSpeakerConfig) -> None:
        """New or changed."""
        self._ledger.see(key[1], item.metadata.resource_version, item.status or None, item.metadata.uid)
        self._configuration.put(key, item)

    def remove(self, key: Key) -> None:
        """Deleted."""
        self._ledger.see_gone(key[1])
        self._configuration.remove(key)


class Publisher:
    """`publish` whenever something may have changed: what is the same is not written."""

    def __init__(
        self,
        node_name: str,
        api: APIServer,
        configuration: Configuration,
        reachability: Reachability,
        cache: Cache,
    ) -> None:
        self._node_name = node_name
        self._configuration = configuration
        self._reachability = reachability
        self._cache = cache
        self._clock = asyncio.get_running_loop().time
        self._links: Sequence[Link] = ()
        self._left_at = ""
        self._entries = Ledger(WORDS, self._clock)
        self._statuses = Ledger(("warnings",), self._clock)
        self._writers = (
            Writer(api, node_name, self._entries, virtual_ip_form(node_name)),
            Writer(api, node_name, self._statuses, speaker_config_form()),
        )
        self.virtual_ips = VirtualIPStore(node_name, self._entries, self._wake)
        self.speaker_configs = SpeakerConfigStore(configuration, self._statuses)

    @property
    def writes(self) -> dict[tuple[str, str], int]:
        """Requests so far, by resource and result."""
        return {
            (writer.resource, result): count for writer in self._writers for result, count in writer.results.items()
        }

    @property
    def is_up_to_date(self) -> bool:
        """Whether all that was published stands there, of what the API server has told of."""
        return not self._entries.due() and not self._statuses.due()

    async def run(self) -> None:
        """Write, for ever."""
        async with asyncio.TaskGroup() as group:
            for writer in self._writers:
                group.create_task(writer.run())

    async def write_the_last(self) -> None:
        """Write what is due now, once."""
        await asyncio.gather(*(writer.write_all() for writer in self._writers))

    def hurry(self) -> None:
        """The API server is there again."""
        for writer in self._writers:
            writer.hurry()

    def publish(self, engine: EngineLink) -> None:
        """Want everything to stand there as it is now."""
        is_away = engine.away_since is not None and self._clock() - engine.away_since >= ENGINE_AWAY_SECONDS
        if not is_away:
            self._left_at = ""
        self._want_entries(engine, is_away=is_away)
        self._want_status(engine, is_away=is_away)
        self._wake()

    def _want_entries(self, engine: EngineLink, *, is_away: bool) -> None:
        if is_away:
            self._left_at = self._left_at or now_rfc3339()
        if engine.status is None:  # nothing is known here; what stands there may be true, if an engine comes soon
            if is_away:
                self._disown()
            return
        running = set()
        for router in engine.status.routers:
            running.add(router.virtual_ip)
            status = (
                entry_without_engine(self._node_name, router, self._left_at)
                if is_away
                else entry(
                    self._node_name, router, engine.last_transitions.silent_ms(router), self._peer(engine, router)
                )
            )
            self._entries.want(router.virtual_ip, msgspec.to_builtins(status))
        newest = self._configuration.newest
        if not self._configuration.is_there or newest is None or newest.is_cached:
            return
        configured = {name for router in newest.spec.virtual_routers for name in router.virtual_ip_names}
        for name in self._entries.with_entry():
            if name not in running and name not in configured:
                self._entries.want(name, None)

    def _peer(self, engine: EngineLink, router: RouterStatus) -> str:
        """As the engine told it, or told a former agent, which wrote it down."""
        told = engine.last_transitions.peer(router)
        if told is None:
            there = self._entries.there(router.virtual_ip) or {}
            told = str(there.get("peer", "")) if there.get("since") == router.since else ""
        return told

    def _disown(self) -> None:
        """No engine runs here, so what a former one held is held here no longer."""
        for name in self._entries.with_entry():
            there = self._entries.there(name)
            if there is not None and there.get("state") != State.INITIALIZE:
                self._entries.want(name, left_behind(there, self._left_at))

    def _want_status(self, engine: EngineLink, *, is_away: bool) -> None:
        status = engine.status
        if self._configuration.is_there is None or (status is None and not is_away):
            return
        self._links = links_of(status, self._links or self._links_there())
        warned = () if status is None or is_away else router_warnings(status.routers)
        facts = Facts(
            configuration=self._configuration,
            engine=EngineFacts(
                is_away=is_away,
                words=engine.words,
                version=status.version if status else "",
                shares_virtual_routers=status.shares_virtual_routers if status else self._shared_there(),
                generation=status.generation if status else 0,
                warnings=status.warnings if status else (),
            ),
            links=self._links,
            routers=status.routers if status else (),
            warnings=(*self._cache.warnings, *warned),
            outage=self._reachability.last_outage,
            before=self._conditions(),
        )
        wanted = speaker_status(facts, now_rfc3339())
        if wanted is not None:
            self._statuses.want(self._node_name, msgspec.to_builtins(wanted))

    def _conditions(self) -> list[Condition]:
        """As they stand there (a former agent's, after a restart), then as they were last wanted."""
        known = (self._statuses.there(self._node_name), self._statuses.wanted(self._node_name))
        return _readable([one for fields in known if fields for one in fields.get("conditions", [])], Condition)

    def _links_there(self) -> list[Link]:
        """What a former agent wrote."""
        there = self._statuses.there(self._node_name) or {}
        return _readable(there.get("links", []), Link)

    def _shared_there(self) -> bool:
        """What a former agent's engine could do: one that is away is no older one."""
        return (self._statuses.there(self._node_name) or {}).get("sharesVirtualRouters") is True

    def _wake(self) -> None:
        for writer in self._writers:
            writer.wake()


def _readable(items: list[Any], kind: type[_Item]) -> list[_Item]:
    """Nothing where another version wrote what cannot be read here."""
    try:
        return msgspec.convert(items, list[kind])  # type: ignore[valid-type]  # mypy knows no list of a variable
    except msgspec.ValidationError:
        return []
