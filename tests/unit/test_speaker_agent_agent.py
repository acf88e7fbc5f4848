"""The whole agent, between an engine and an API server that the test plays."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable

import pytest

from holdfast_api.messages import LinkStatus
from holdfast_api.reasons import Health, Reason, State
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.agent import agent, alive, publisher
from holdfast_testing.agent_fixtures import (
    HOLDFAST,
    NODE,
    PODS,
    SPEAKERS,
    VIRTUAL_IPS,
    World,
    pod,
    router,
    speaker_config,
    terminating,
    tracks_pods,
    until,
    virtual_ip,
)
from holdfast_testing.service_proxy import ServiceProxy

WEB = "shop/web"
WEB_STATUS = f"{HOLDFAST}/namespaces/shop/virtualips/web/status"


def play(scene: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        async with World() as world:
            await scene(world)

    asyncio.run(run())


def prepare(world: World, *names: str, tracking: bool = False) -> None:
    """VirtualIPs and this node's part of them."""
    routers = [router(f"shop/{name}", 50 + number) for number, name in enumerate(names)]
    for name in names:
        world.api.put(VIRTUAL_IPS, virtual_ip(name))
    tracked = tuple(tracks_pods(f"shop/{name}") for name in names) if tracking else ()
    world.api.put(SPEAKERS, speaker_config(*routers, tracking=tracked))


def writes_of(world: World, name: str) -> list[dict[str, object]]:
    """The entries that were applied for one VirtualIP, in order."""
    path = f"{HOLDFAST}/namespaces/shop/virtualips/{name}"
    return [entry for written, body in world.api.writes if written == path for entry in body["status"].get("nodes", [])]


# ----- configuration -----


def test_the_engine_is_told_its_speaker_config_and_every_change_of_it():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.engine.configuration.generation == 1)
        assert [one.name for one in world.engine.configuration.virtual_routers] == [WEB]
        world.api.put(SPEAKERS, speaker_config(router(WEB, 50), router("shop/db", 51)))
        await until(lambda: world.engine.configuration.generation == 2)
        assert [one.name for one in world.engine.configuration.virtual_routers] == [WEB, "shop/db"]

    play(scene)


@pytest.mark.parametrize("is_older", [False, True], ids=["an engine", "an older engine"])
def test_who_is_to_hold_first_is_told_before_the_configuration_and_an_older_engine_passes_it_over(is_older):
    async def scene(world):
        prepare(world, "web")
        world.engine.is_older = is_older
        await world.start_agent()
        await until(lambda: world.engine.configuration.generation == 1)
        config = speaker_config(router(WEB, 50), router("shop/db", 51))
        config["spec"]["firstHolds"] = [{"virtualRouter": "shop/db", "nodeName": "n2"}]
        world.api.put(SPEAKERS, config)
        await until(lambda: world.engine.configuration.generation == 2)
        assert world.engine.nominees == ([] if is_older else [{"shop/db": "n2"}])

    play(scene)


@pytest.mark.parametrize("holder", ["10.0.0.2", "10.0.0.3"], ids=["the holder that is named", "another holder"])
def test_what_a_node_is_to_take_over_it_takes_from_the_holder_that_is_named_alone(holder):
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.engine.configuration.generation == 1)
        world.engine.change(WEB, master=holder, state=State.BACKUP)
        config = speaker_config(router(WEB, 50))
        config["spec"]["takeOvers"] = [{"virtualRouter": WEB, "holderAddresses": ["10.0.0.2", "fe80::2"]}]
        world.api.put(SPEAKERS, config)
        await until(lambda: world.api.speaker_status().get("observedGeneration") == 2)
        expected = holder == "10.0.0.2"
        await until(lambda: bool(world.engine.switchovers) is expected)
        assert world.engine.switchovers == ([(WEB, NODE)] if expected else [])

    play(scene)


def test_a_change_of_status_alone_is_not_told_the_engine():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.condition("Applied").get("status") == "True")
        world.api.bookmark()
        await until(lambda: world.api.entry("web"))
        assert [one.generation for one in world.engine.configured] == [1]

    play(scene)


def test_an_engine_that_starts_anew_is_told_everything_again():
    async def scene(world):
        prepare(world, "web", tracking=True)
        world.api.put(PODS, pod("web-1"))
        await world.start_agent()
        await until(lambda: world.engine.health(WEB) == (Health.HEALTHY, ""))
        world.engine.reported.clear()
        world.engine.run(SpeakerConfiguration(node_name=NODE))
        world.engine.hang_up()
        await until(lambda: world.engine.configuration.generation == 1 and world.engine.health(WEB))
        assert world.engine.health(WEB) == (Health.HEALTHY, "")

    play(scene)


def test_a_successor_that_makes_the_socket_anew_is_found():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.engine.is_connected)
        old = world.engine
        world.engine = type(old)(old._path)
        await world.engine.start()
        await old.stop()
        await until(lambda: world.engine.configuration.generation == 1)

    play(scene)


def test_a_deleted_speaker_config_changes_nothing_and_its_return_is_obeyed():
    async def scene(world):
        prepare(world, "web")
        agent = await world.start_agent()
        world.api.put(SPEAKERS, speaker_config(router(WEB, 50), router("shop/db", 51)))
        await until(lambda: world.engine.configuration.generation == 2)
        world.api.delete(SPEAKERS, NODE)
        await until(lambda: agent._configuration.is_there is False)
        world.engine.hang_up()
        await until(lambda: world.engine.is_connected)
        assert len(world.engine.configuration.virtual_routers) == 2
        # Made anew, its generation begins at 1, below what the engine runs.
        world.api.put(SPEAKERS, speaker_config(router("shop/db", 51)))
        await until(lambda: world.engine.configuration.generation == 1)
        assert [one.name for one in world.engine.configuration.virtual_routers] == ["shop/db"]

    play(scene)


def test_after_a_backup_was_restored_the_node_follows_it_and_says_what_it_does():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.engine.configuration.generation == 1)
        backup, version = copy.deepcopy(world.api.objects), world.api._version
        for number in range(20):  # so that every kind's last version is far from what the restored one comes to
            world.api.put(PODS, pod(f"pod-{number}"))
        world.api.put(VIRTUAL_IPS, virtual_ip("db"))
        world.api.put(SPEAKERS, speaker_config(router(WEB, 50), router("shop/db", 51)))
        await until(lambda: world.engine.configuration.generation == 2)
        world.engine.move(WEB, State.MASTER, Reason.MASTER_SILENT)
        await until(lambda: (world.api.entry("web") or {}).get("state") == "Master")
        await world.api.stop()
        world.api.restore(backup, version)
        # The operator writes its plan of what there is now: the generation is one that the node has seen.
        world.api.put(SPEAKERS, speaker_config(router(WEB, 50), router("shop/mail", 52)))
        await world.api.start()
        await until(lambda: [one.name for one in world.engine.configuration.virtual_routers] == [WEB, "shop/mail"])
        await until(lambda: (world.api.entry("web") or {}).get("state") == "Master")

    play(scene)


def test_a_kind_that_is_gone_changes_nothing():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.entry("web"))
        world.api.refuse(SPEAKERS, 404)
        world.api.refuse(VIRTUAL_IPS, 404)
        world.api.break_watches(410)
        await until(lambda: sum(path == SPEAKERS for _, path in world.api.requests) > 4)
        assert world.engine.configuration.generation == 1
        assert len(world.engine.configured) == 1

    play(scene)


def test_a_refused_configuration_is_told_with_the_engines_words():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.condition("Applied").get("status") == "True")
        world.engine.refuses = "virtualRouters[0].addresses[0]: 'x' is no IP address"
        world.api.put(SPEAKERS, speaker_config(router(WEB, 50, addresses=["x"])))
        await until(lambda: world.api.condition("Applied").get("status") == "False")
        condition = world.api.condition("Applied")
        assert condition["reason"] == "RefusedByEngine"
        assert world.engine.refuses in condition["message"]
        assert condition["observedGeneration"] == 2
        assert world.api.speaker_status()["observedGeneration"] == 1
        world.engine.refuses = ""
        world.api.put(SPEAKERS, speaker_config(router(WEB, 52)))
        await until(lambda: world.api.condition("Applied").get("status") == "True")
        assert world.api.speaker_status()["observedGeneration"] == 3

    play(scene)


def test_a_configuration_that_this_version_cannot_read_is_told_and_the_last_one_stays():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.condition("Applied").get("status") == "True")
        world.api.put(SPEAKERS, speaker_config(router(WEB, 50, ofTheFuture=True)))
        await until(lambda: world.api.condition("Applied").get("status") == "False")
        assert world.api.condition("Applied")["reason"] == "Unreadable"
        assert "ofTheFuture" in world.api.condition("Applied")["message"]
        assert world.engine.configuration.generation == 1

    play(scene)


def test_an_agent_without_an_api_server_goes_on_with_its_cache():
    async def scene(world):
        prepare(world, "web", tracking=True)
        world.api.put(PODS, pod("web-1", ready=False))
        first = await world.start_agent()
        await until(lambda: world.engine.health(WEB) and world.engine.health(WEB)[0] is Health.FAILING)
        detail = world.engine.health(WEB)[1]
        await until(lambda: (world.root / "cache" / "pod-health.json").exists())
        await world.api.stop()
        world.engine.hang_up()
        await world.engine.stop()
        await world.stop_agent(first)
        world.engine.reported.clear()
        world.engine.run(SpeakerConfiguration(node_name=NODE))
        await world.engine.start()
        await world.start_agent()
        await until(lambda: world.engine.health(WEB))
        assert world.engine.configuration.generation == 1
        assert world.engine.health(WEB) == (Health.FAILING, detail)

    play(scene)


def test_a_cached_configuration_does_not_undo_a_newer_one_of_the_engine():
    async def scene(world):
        prepare(world, "web")
        first = await world.start_agent()
        await until(lambda: (world.root / "cache" / "speaker-config.json").exists())
        await world.api.stop()
        await world.engine.stop()
        await world.stop_agent(first)
        world.engine.configured.clear()
        world.engine.run(SpeakerConfiguration(node_name=NODE, generation=2))
        await world.engine.start()
        await world.start_agent()
        await until(lambda: world.engine.is_connected and world.engine.requests > 3)
        assert world.engine.configured == []

    play(scene)


def test_two_agents_of_one_node_say_the_same_and_do_not_fight():
    async def scene(world):
        prepare(world, "web", tracking=True)
        world.api.put(PODS, pod("web-1"))
        await world.start_agent("old")
        await world.start_agent("new")
        await until(lambda: len(world.engine.configured) == 2)
        world.api.put(SPEAKERS, speaker_config(router(WEB, 60), tracking=(tracks_pods(WEB),)))
        await until(lambda: len(world.engine.configured) == 4)
        world.engine.move(WEB, State.MASTER, Reason.MASTER_SILENT, silent_ms=310)
        await until(lambda: (world.api.entry("web") or {}).get("state") == "Master")
        await until(lambda: world.api.speaker_status().get("observedGeneration") == 2)
        assert [one.generation for one in world.engine.configured] == [1, 1, 2, 2]

    play(scene)


# ----- health -----


def test_a_pod_that_is_not_ready_any_more_is_reported_at_once():
    async def scene(world):
        prepare(world, "web", tracking=True)
        world.api.put(PODS, pod("web-1"))
        world.api.put(PODS, pod("other", app="other"))
        world.api.put(PODS, pod("web-1", namespace="elsewhere"))
        await world.start_agent()
        await until(lambda: world.engine.health(WEB) == (Health.HEALTHY, ""))
        world.api.put(PODS, pod("web-1", ready=False))
        await until(lambda: world.engine.health(WEB) != (Health.HEALTHY, ""))
        assert world.engine.health(WEB) == (
            Health.FAILING,
            "0 of at least 1 tracked pods on this node are ready: web-1 is not ready",
        )
        world.api.put(PODS, pod("web-1"))
        await until(lambda: world.engine.health(WEB) == (Health.HEALTHY, ""))

    play(scene)


def test_what_the_service_proxy_says_is_reported_and_goes_on_without_an_api_server():
    async def scene(world):
        proxy = ServiceProxy()
        await proxy.start()
        world.api.put(VIRTUAL_IPS, virtual_ip("web"))
        tracking = ({"virtualIP": WEB, "healthCheckNodePorts": [proxy.port]},)
        world.api.put(SPEAKERS, speaker_config(router(WEB), tracking=tracking))
        await world.start_agent()
        await until(lambda: world.engine.health(WEB) == (Health.HEALTHY, ""))
        await world.api.stop()
        proxy.endpoints = 0
        words = f"healthCheckNodePort {proxy.port}: answered 503: no ready endpoint of shop/web on this node"
        await until(lambda: world.engine.health(WEB) == (Health.FAILING, words))
        proxy.endpoints = 1
        await until(lambda: world.engine.health(WEB) == (Health.HEALTHY, ""))
        await proxy.stop()

    play(scene)


def test_a_terminating_pod_is_not_ready():
    async def scene(world):
        prepare(world, "web", tracking=True)
        world.api.put(PODS, pod("web-1"))
        await world.start_agent()
        await until(lambda: world.engine.health(WEB) == (Health.HEALTHY, ""))
        world.api.put(PODS, terminating(pod("web-1")))
        await until(lambda: world.engine.health(WEB)[0] is Health.FAILING)
        assert "web-1 is terminating" in world.engine.health(WEB)[1]

    play(scene)


def test_a_pod_that_was_deleted_while_the_watch_was_broken_is_missed():
    async def scene(world):
        prepare(world, "web", tracking=True)
        world.api.put(PODS, pod("web-1"))
        await world.start_agent()
        await until(lambda: world.engine.health(WEB) == (Health.HEALTHY, ""))
        await until(lambda: world.api.watches(PODS) == 1)
        world.api.refuse(PODS, 500)
        world.api.break_watches(410)
        world.api.delete(PODS, "web-1", "shop")
        world.api._log.clear()  # as if compacted: only a list can tell
        world.api.refuse(PODS, 0)
        await until(lambda: world.engine.health(WEB)[0] is Health.FAILING)
        assert world.engine.health(WEB)[1].endswith("the selector selects none")

    play(scene)


def test_without_an_api_server_the_last_health_stays_and_probes_go_on():
    async def scene(world):
        served = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = served.sockets[0].getsockname()[1]
        probe = {"name": "p", "tcpSocket": {"port": port}, "periodMilliseconds": 20, "failureThreshold": 2}
        tracking = (tracks_pods(WEB), {"virtualIP": "shop/db", "probes": [probe]})
        world.api.put(PODS, pod("web-1"))
        world.api.put(SPEAKERS, speaker_config(router(WEB, 50), router("shop/db", 51), tracking=tracking))
        agent = await world.start_agent()
        await until(lambda: world.engine.health(WEB) == world.engine.health("shop/db") == (Health.HEALTHY, ""))
        await world.api.stop()
        await until(lambda: not agent._reachability.is_reachable)
        served.close()
        await served.wait_closed()
        await until(lambda: world.engine.health("shop/db")[0] is Health.FAILING)
        assert world.engine.health(WEB) == (Health.HEALTHY, "")

    play(scene)


# ----- status -----


def test_a_transition_is_written_with_its_silence():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.entry("web"))
        moved = world.engine.move(WEB, State.MASTER, Reason.MASTER_SILENT, silent_ms=310)
        await until(lambda: world.api.entry("web")["state"] == "Master")
        entry = world.api.entry("web")
        assert entry == {
            "nodeName": NODE,
            "state": "Master",
            "since": moved.time,
            "priority": 100,
            "health": "Healthy",
            "reason": "MasterSilent",
            "message": moved.message,
            "silentMilliseconds": 310,
            "interface": "eth0",
        }

    play(scene)


def test_what_stands_there_already_is_not_written_again():
    async def scene(world):
        prepare(world, "web", "db")
        first = await world.start_agent()
        await until(lambda: world.api.entry("web") and world.api.entry("db") and world.api.condition("Applied"))
        await world.engine.stop()
        await world.stop_agent(first)
        world.api.writes.clear()
        before = world.api.watches(VIRTUAL_IPS)  # the fake learns of one that has ended when it next writes to it
        await world.engine.start()
        await world.start_agent("another pod")
        await until(lambda: world.api.watches(VIRTUAL_IPS) > before and world.engine.is_connected)
        world.engine.move("shop/db", State.MASTER, Reason.MASTER_SILENT)
        await until(lambda: world.api.entry("db")["state"] == "Master")
        assert [path.rpartition("/")[2] for path, _ in world.api.writes] == ["db"]

    play(scene)


def test_whom_a_router_yielded_to_is_told_and_a_later_agent_leaves_it_there():
    """The operator goes by it. A Backup's history is not asked for when an agent begins."""

    async def scene(world):
        prepare(world, "web", "db")
        first = await world.start_agent()
        await until(lambda: world.api.entry("web") and world.api.condition("Applied"))
        world.engine.move(WEB, State.MASTER, Reason.MASTER_SILENT, peer="10.0.0.3")
        await until(lambda: (world.api.entry("web") or {}).get("peer") == "10.0.0.3")
        world.engine.move(WEB, State.BACKUP, Reason.HIGHER_PRIORITY, peer="10.0.0.2")
        await until(lambda: (world.api.entry("web") or {}).get("peer") == "10.0.0.2")
        await world.engine.stop()
        await world.stop_agent(first)
        world.api.writes.clear()
        before = world.api.watches(VIRTUAL_IPS)
        await world.engine.start()
        await world.start_agent("another pod")
        await until(lambda: world.api.watches(VIRTUAL_IPS) > before and world.engine.is_connected)
        world.engine.move("shop/db", State.MASTER, Reason.MASTER_SILENT)
        await until(lambda: world.api.entry("db")["state"] == "Master")
        assert [path.rpartition("/")[2] for path, _ in world.api.writes] == ["db"]
        assert world.api.entry("web")["peer"] == "10.0.0.2"

    play(scene)


def test_after_an_absence_of_the_api_server_the_newest_truth_is_written_once():
    async def scene(world):
        prepare(world, "web", "db")
        agent = await world.start_agent()
        await until(lambda: world.api.entry("web") and world.api.entry("db"))
        await world.api.stop()
        await until(lambda: not agent._reachability.is_reachable)
        world.api.writes.clear()
        for _ in range(10):
            world.engine.move(WEB, State.MASTER, Reason.MASTER_SILENT, silent_ms=300)
            world.engine.move(WEB, State.BACKUP, Reason.HIGHER_PRIORITY)
        last = world.engine.move(WEB, State.MASTER, Reason.SWITCHOVER)
        await until(lambda: agent._engine.status.routers[0].since == last.time)
        await world.api.start()
        await until(lambda: world.api.entry("web")["since"] == last.time)
        await until(lambda: agent._reachability.is_reachable)
        assert [entry["since"] for entry in writes_of(world, "web")] == [last.time]
        assert writes_of(world, "db") == []

    play(scene)


def test_transitions_that_an_agent_has_missed_are_learned_from_the_engines_history():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.entry("web"))
        world.engine.hang_up()
        world.engine.move(WEB, State.MASTER, Reason.MASTER_SILENT, silent_ms=310)
        await until(lambda: world.api.entry("web").get("silentMilliseconds") == 310)

    play(scene)


def test_an_entry_goes_when_the_virtual_ip_runs_here_no_longer():
    async def scene(world):
        prepare(world, "web", "db")
        await world.start_agent()
        await until(lambda: world.api.entry("web") and world.api.entry("db"))
        world.api.put(SPEAKERS, speaker_config(router(WEB, 50)))
        await until(lambda: world.api.entry("db") is None)
        assert world.api.entry("web")

    play(scene)


def test_an_entry_that_a_former_agent_left_goes_too():
    async def scene(world):
        left = {"nodeName": NODE, "state": "Backup", "since": "x", "priority": 100, "health": "Healthy"}
        other = {**left, "nodeName": "n2"}
        world.api.put(VIRTUAL_IPS, virtual_ip("old", nodes=[left, other]))
        world.api.owns(f"holdfast-agent-{NODE}", f"{HOLDFAST}/namespaces/shop/virtualips/old", {NODE})
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.entry("old") is None)
        assert world.api.entry("old", node="n2") == other

    play(scene)


def test_a_virtual_ip_that_is_made_anew_gets_its_entry_again():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.entry("web"))
        world.api.delete(VIRTUAL_IPS, "web", "shop")
        world.api.put(VIRTUAL_IPS, virtual_ip("web"))
        await until(lambda: world.api.entry("web"))

    play(scene)


def test_the_status_tells_what_runs_and_the_interfaces_of_the_node():
    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.condition("Applied"))
        status = world.api.speaker_status()
        assert status["observedGeneration"] == 1
        assert status["engineVersion"] == "0.1.0"
        assert world.api.condition("Applied")["reason"] == "Applied"
        assert status["links"] == [{"name": "eth0", "addresses": ["10.0.0.1/24"]}]
        world.engine.links = [LinkStatus(name="eth1", addresses=["10.1.0.1/24"])]
        world.engine.move(WEB, State.MASTER, Reason.MASTER_SILENT)  # the engine is asked again, as it is every 5 s
        await until(lambda: world.api.speaker_status()["links"] == [{"name": "eth1", "addresses": ["10.1.0.1/24"]}])

    play(scene)


@pytest.mark.parametrize("engine", ["older", "away"])
def test_links_that_stand_there_stay_while_no_engine_tells_any(engine, monkeypatch):
    stands = [{"name": "eth0", "addresses": ["10.0.0.1/24"], "foreignVirtualRouterIDs": [7]}]

    async def scene(world):
        prepare(world, "web")
        world.api.put(
            SPEAKERS, {**speaker_config(router(WEB, 50)), "status": {"links": stands, "sharesVirtualRouters": True}}
        )
        world.engine.links = None
        if engine == "away":
            monkeypatch.setattr(publisher, "ENGINE_AWAY_SECONDS", 0.0)
            await world.engine.stop()
        await world.start_agent()
        await until(lambda: world.api.condition("Applied"))
        told = [link for _, body in world.api.writes for link in body["status"].get("links", [])]
        assert {(link["name"], *link["addresses"]) for link in told} == {("eth0", "10.0.0.1/24")}
        # What it can do it says itself: an older one nothing, and of one that is away it is as it was.
        assert world.api.speaker_status().get("sharesVirtualRouters", False) is (engine == "away")
        monkeypatch.undo()
        await world.engine.start()
        world.engine.links = [LinkStatus(name="eth1", addresses=["10.1.0.1/24"])]
        world.engine.hang_up()
        await until(lambda: [link["name"] for link in world.api.speaker_status()["links"]] == ["eth1"])

    play(scene)


def test_warnings_are_written_with_what_they_are_about_and_not_with_every_packet():
    async def scene(world):
        prepare(world, "web")
        agent = await world.start_agent()
        await until(lambda: world.api.entry("web") and world.api.condition("Applied"))
        world.engine.change(WEB, warnings=["advertisements from 10.0.0.7 are refused: why"])
        await agent._engine.look()
        world.api.writes.clear()
        moved = world.engine.move(WEB, State.MASTER, Reason.MASTER_SILENT)
        await until(lambda: world.api.entry("web")["state"] == "Master")
        warning = "advertisements from 10.0.0.7 are refused: why"
        assert world.api.entry("web")["message"] == f"{moved.message}; warning: {warning}"
        for number in range(20):
            world.engine.change(WEB, warnings=[f"another one, {number}"])
            await agent._engine.look()
        last = world.engine.move(WEB, State.BACKUP, Reason.HIGHER_PRIORITY)
        await until(lambda: world.api.entry("web")["state"] == "Backup")
        assert world.api.entry("web")["message"] == f"{last.message}; warning: another one, 19"
        assert [entry["state"] for entry in writes_of(world, "web")] == ["Master", "Backup"]

    play(scene)


def test_the_speaker_config_tells_the_warnings_of_every_virtual_router():
    async def scene(world):
        prepare(world, "web", "db")
        web = VirtualRouterConfiguration(name=WEB, addresses=["10.0.0.50/24"], virtual_router_id=50)
        world.engine.run(SpeakerConfiguration(node_name=NODE, virtual_routers=[web]))
        world.engine.change(WEB, warnings=["10.0.0.50 is in use by 02:00:00:00:00:07"])
        world.engine.warnings = ["SCHED_FIFO refused"]
        await world.start_agent()
        await until(lambda: world.api.speaker_status().get("observedGeneration") == 1)
        assert world.api.speaker_status()["warnings"] == [
            "SCHED_FIFO refused",
            "shop/web: 10.0.0.50 is in use by 02:00:00:00:00:07",
        ]

    play(scene)


def test_what_an_engine_held_that_is_away_for_long_is_told_as_held_no_longer(monkeypatch):
    async def scene(world):
        prepare(world, "web", "db")
        first = await world.start_agent()
        await until(lambda: world.api.entry("web") and world.api.entry("db"))
        world.engine.move(WEB, State.MASTER, Reason.MASTER_SILENT)
        await until(lambda: world.api.entry("web")["state"] == "Master")
        monkeypatch.setattr(publisher, "ENGINE_AWAY_SECONDS", 0.0)
        await world.engine.stop()
        await until(lambda: world.api.entry("web")["state"] == "Initialize")
        assert world.api.entry("web")["message"] == "the engine of this node does not answer"
        await until(lambda: world.api.condition("Applied").get("reason") == "EngineAway")
        await world.stop_agent(first)

    play(scene)


def test_what_a_former_agent_wrote_of_an_engine_that_never_comes_back_is_put_right(monkeypatch):
    async def scene(world):
        left = {"nodeName": NODE, "state": "Master", "since": "x", "priority": 90, "health": "Healthy"}
        prepare(world, "web")
        world.api.put(VIRTUAL_IPS, virtual_ip("web", nodes=[left]))
        monkeypatch.setattr(publisher, "ENGINE_AWAY_SECONDS", 0.0)
        await world.engine.stop()
        await world.start_agent()
        await until(lambda: world.api.entry("web")["state"] == "Initialize")
        assert world.api.entry("web")["priority"] == 90
        monkeypatch.undo()
        await world.engine.start()
        await until(lambda: world.api.entry("web")["state"] == "Backup")

    play(scene)


def test_the_last_words_of_an_engine_that_stops_with_the_agent_are_written():
    async def scene(world):
        prepare(world, "web")
        agent = await world.start_agent()
        await until(lambda: world.api.entry("web"))
        world.engine.move(WEB, State.INITIALIZE, Reason.STOPPED)
        stopping = asyncio.create_task(world.stop_agent(agent))
        await asyncio.sleep(0)
        world.engine.hang_up()
        await stopping
        assert world.api.entry("web")["reason"] == "Stopped"

    play(scene)


# ----- ready -----


def not_ready(world: World) -> str:
    """Why the agent's pod would not be Ready; empty: it would."""
    return alive.obstacle((world.root / "cache" / "alive").read_text(encoding="utf-8"), ready=True)


def test_an_agent_is_ready_when_what_its_engine_says_stands_in_the_api_server():
    async def scene(world):
        prepare(world, "web")
        world.api.refuse(WEB_STATUS, 503)
        await world.start_agent()
        await until(lambda: world.engine.is_connected and (world.root / "cache" / "alive").exists())
        await asyncio.sleep(1.2)
        assert "does not stand in the API server" in not_ready(world)
        world.api.refuse(WEB_STATUS, 0)
        await until(lambda: not_ready(world) == "")
        assert world.api.entry("web")["state"] == "Backup"

    play(scene)


def test_an_agent_that_stood_still_is_ready_again_only_with_its_engine_s_words_of_now(monkeypatch):
    monkeypatch.setattr(agent, "_ALIVE_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(agent, "_CATCH_UP_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(alive, "FRESH_SECONDS", 2.0)

    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.entry("web") and not_ready(world) == "")
        world.engine.move(WEB, State.MASTER, Reason.NO_MASTER_HEARD)
        await until(lambda: world.api.entry("web")["state"] == "Master")
        world.api.refuse(WEB_STATUS, 503)
        world.engine.move(WEB, State.BACKUP, Reason.HIGHER_PRIORITY)
        time.sleep(2.5)  # as a process that was stopped
        await asyncio.sleep(0.3)
        assert world.api.entry("web")["state"] == "Master"
        assert "does not stand in the API server" in not_ready(world)
        world.api.refuse(WEB_STATUS, 0)
        await until(lambda: not_ready(world) == "")
        assert world.api.entry("web")["state"] == "Backup"

    play(scene)


@pytest.mark.parametrize("obstacle", ["away", "refuses"])
def test_an_agent_that_cannot_say_what_is_new_is_not_ready_after_a_while(monkeypatch, obstacle):
    monkeypatch.setattr(agent, "_ALIVE_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(agent, "UNSAID_SECONDS", 0.5)

    async def scene(world):
        prepare(world, "web")
        await world.start_agent()
        await until(lambda: world.api.entry("web") and not_ready(world) == "")
        if obstacle == "away":
            await world.api.stop()
        else:
            world.api.refuse(WEB_STATUS, 503)
        await asyncio.sleep(1.5)
        assert not_ready(world) == "", "it has nothing new to say"
        world.engine.move(WEB, State.MASTER, Reason.NO_MASTER_HEARD)
        await until(lambda: "does not stand in the API server" in not_ready(world))
        if obstacle == "away":
            await world.api.start()
        else:
            world.api.refuse(WEB_STATUS, 0)
        await until(lambda: not_ready(world) == "")
        assert world.api.entry("web")["state"] == "Master"

    play(scene)
