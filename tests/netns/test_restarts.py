"""A restart is not a failure: engines that die, keepers that die, and successors."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.restarts import VIP, holder_and_backup, probed, restart, waiting_successors, web

pytestmark = [pytest.mark.netns, pytest.mark.alone]


def kill_engine(host: Host) -> None:
    before = host.engine
    os.kill(before, signal.SIGKILL)
    eventually(lambda: host.status.get("pid", before) != before, "another engine goes on")


@pytest.mark.parametrize("interval_ms", [10, 100])
def test_an_engine_that_is_killed_costs_no_move_and_no_probe(segment: Any, interval_ms: int) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(interval_ms))
    with probed(lan) as lost:
        for _ in range(3):
            kill_engine(n1)
            time.sleep(0.3)
        assert lost() == 0
    assert n1.status["restarts"] == 3
    assert n1.status["lastDeath"].endswith("killed by SIGKILL")
    assert n1.state() == "Master"
    assert n1.routers["web"]["transitions"] == 1
    assert n2.routers["web"]["transitions"] == 0


def test_a_backup_whose_engine_is_killed_goes_on_as_backup(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    kill_engine(n2)
    time.sleep(1.0)
    assert n2.state() == "Backup"
    assert n1.routers["web"]["transitions"] == 1
    n1.stop()
    n2.becomes("Master")


def test_a_restarted_engine_still_knows_health_configuration_and_history(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    (n1.folder / "healthy").touch()
    probe = {
        "name": "up",
        "exec": {"command": ["test", "-e", str(n1.folder / "healthy")]},
        "periodMilliseconds": 200,
        "failureThreshold": 1,
    }
    n1.run(web(track={"probes": [probe]})).becomes("Master")
    before = n1.routers["web"]
    kill_engine(n1)
    after = n1.routers["web"]
    for kept in ("state", "since", "reason", "message", "priority", "effectivePriority", "health", "transitions"):
        assert after[kept] == before[kept], kept
    (n1.folder / "healthy").unlink()
    eventually(lambda: n1.routers["web"]["health"] == "Failing", "probes still reach the engine")
    n1.write(web(priority=90))
    eventually(lambda: n1.routers["web"]["priority"] == 110 and n1.status["generation"] == 2, "files still do")


def test_a_restart_does_not_end_a_recovery_hold(segment: Any) -> None:
    """ADR 0007: a Backup that recovered leaves the failing holder two periods, whatever becomes of its engine."""
    lan = segment("n1", "n2")
    for host in lan.hosts:
        (host.folder / "healthy").touch()
    n1, n2 = lan.hosts
    for host, state in (n1, "Master"), (n2, "Backup"):
        probe = {
            "name": "up",
            "exec": {"command": ["test", "-e", str(host.folder / "healthy")]},
            "periodMilliseconds": 3000,
            "successThreshold": 1,
            "failureThreshold": 1,
        }
        host.run(web(track={"probes": [probe]})).becomes(state)
    for host in n2, n1:
        (host.folder / "healthy").unlink()
        eventually(lambda host=host: host.routers["web"]["health"] == "Failing", "both fail")
    (n2.folder / "healthy").touch()
    eventually(lambda: n2.routers["web"]["health"] == "Healthy", "the Backup recovers first")
    kill_engine(n2)
    time.sleep(3.0)
    assert (n1.state(), n2.state()) == ("Master", "Backup")
    n2.becomes("Master")
    assert n2.routers["web"]["reason"] == "MasterFailing"


def test_an_engine_that_keeps_dying_is_released_and_begins_anew_after_a_pause(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    for _ in range(5):
        engine = eventually(lambda: n1.status.get("pid"), "there is an engine")
        os.kill(engine, signal.SIGKILL)
        time.sleep(0.15)
    n2.becomes("Master", within_seconds=3.0)
    assert n2.routers["web"]["reason"] == "MasterReleased"
    assert not n1.has(VIP)
    assert any("its VIPs are given up" in message for message in n1.messages("error"))
    n1.becomes("Backup")
    assert lan.holders(VIP) == ["n2"]


def test_keeper_and_engine_killed_together_lose_the_address_to_the_kernel(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web()).becomes("Master")
    for pid in n1.processes:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not n1.has(VIP), "the address is gone", within_seconds=3.0)


def test_an_engine_without_its_keeper_gives_everything_up(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(1000))
    status = Path(f"/proc/{n1.engine}/status").read_text(encoding="ascii")
    keeper = int(re.findall(r"PPid:\t(\d+)", status)[0])
    os.kill(keeper, signal.SIGKILL)
    n2.becomes("Master", within_seconds=3.0)
    assert n2.routers["web"]["reason"] == "MasterReleased"


def replaced(host: Host, former: int) -> None:
    """Wait for another engine in place of one that hangs."""
    eventually(lambda: host.status.get("pid", former) != former, "another engine goes on")
    assert not Path(f"/proc/{former}").exists()


def test_an_engine_that_hangs_is_replaced_before_its_vip_is_missed(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(2000))
    hung = n1.engine
    os.kill(hung, signal.SIGSTOP)
    replaced(n1, hung)
    assert re.search(r"hung: no turn of its loop for \d{4} ms$", n1.status["lastDeath"])
    time.sleep(3.0)
    assert (n1.state(), n2.state()) == ("Master", "Backup")
    assert n1.has(VIP)
    assert n2.routers["web"]["transitions"] == 0


def test_an_engine_that_hangs_at_10_ms_comes_back_as_one_that_follows(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(10))
    hung = n1.engine
    os.kill(hung, signal.SIGSTOP)
    n2.becomes("Master")
    replaced(n1, hung)
    n1.becomes("Backup")
    eventually(lambda: lan.holders(VIP) == ["n2"], "one holder is left")
    assert n2.routers["web"]["transitions"] == 1


@pytest.mark.parametrize("state", ["Backup", "Initialize"])
def test_an_engine_that_hangs_while_it_holds_nothing_is_replaced_too(segment: Any, state: str) -> None:
    lan = segment("n1", "n2")
    _, n2 = holder_and_backup(lan, web())
    if state == "Initialize":
        n2.namespace.ip("link set eth0 down")
        n2.becomes("Initialize")
    hung = n2.engine
    os.kill(hung, signal.SIGSTOP)
    replaced(n2, hung)
    assert n2.state() == state


def test_an_engine_that_hangs_is_replaced_when_it_is_told_to_stop_and_that_one_stops(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(1000))
    os.kill(n1.engine, signal.SIGSTOP)
    processes = n1.processes
    n1.stop()
    n2.becomes("Master")
    eventually(lambda: not n1.has(VIP), "the address is gone", within_seconds=3.0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)


def test_a_frozen_host_loses_its_address_and_keeps_its_engine(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    engine, processes = n1.engine, n1.processes
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    eventually(lambda: not n1.has(VIP), "the address is gone")
    n2.becomes("Master")
    time.sleep(1.0)
    for pid in processes:
        os.kill(pid, signal.SIGCONT)
    n1.becomes("Backup")
    time.sleep(1.0)
    assert n1.engine == engine
    assert n1.status["restarts"] == 0


def test_a_hand_over_whose_state_cannot_be_written_is_a_stop(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.state_directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "holdfast-test", n1.state_directory], check=True)
    try:
        holder_and_backup(lan, web())
        old = n1.process
        assert old is not None
        n1.run()
        eventually(lambda: waiting_successors(n1) == 1, "the successor waits")
        filler = n1.state_directory / "filler"
        with filler.open("wb", buffering=0) as full, contextlib.suppress(OSError):
            while True:
                full.write(bytes(512))
        with probed(lan) as lost:
            old.terminate()
            assert old.wait(timeout=5) == 0
            n2.becomes("Master")
            assert lost() == 0
        assert n2.routers["web"]["reason"] == "MasterSteppedAside"
        assert any("it would find no state: stopping" in message for message in n1.messages("error"))
        n1.becomes("Backup")
        assert lan.holders(VIP) == ["n2"]
        assert any(": beginning anew" in message for message in n1.messages("warning"))
        filler.unlink()
        n1.stop()
    finally:
        subprocess.run(["umount", "--lazy", n1.state_directory], check=True)


def test_a_stop_loses_nothing_while_a_healthy_backup_is_there(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(100))
    with probed(lan) as lost:
        time.sleep(0.2)
        assert n1.stop() == 0
        n2.becomes("Master", within_seconds=2.0)
        time.sleep(0.2)
        assert lost() == 0
    assert n2.routers["web"]["reason"] == "MasterSteppedAside"
    assert not n1.has(VIP)


@pytest.mark.parametrize(("version", "interval_ms"), [(3, 10), (3, 100), (2, 1000)])
def test_a_hand_over_to_a_successor_costs_no_move_and_no_probe(segment: Any, version: int, interval_ms: int) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(interval_ms, version))
    with probed(lan) as lost:
        restart(n1)
        time.sleep(1.0)
        assert lost() == 0
    assert n1.state() == "Master"
    assert "handed over to a successor on this node: 1 of 1 VirtualIPs are held" in n1.messages()
    assert n1.routers["web"]["transitions"] == 1
    assert n2.routers["web"]["transitions"] == 0
    assert n2.routers["web"]["learnedIntervalMilliseconds"] == interval_ms, "the normal interval again"


def test_a_rolling_restart_of_every_host_moves_nothing(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    with probed(lan) as lost:
        for host in (n1, n2, n1):
            restart(host)
            time.sleep(0.5)
        assert lost() == 0
    assert lan.holders(VIP) == ["n1"]
    assert n1.routers["web"]["transitions"] == 1
    assert n2.routers["web"]["transitions"] == 0


def test_a_successor_whose_files_have_no_such_vip_any_more_leaves_no_address(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web()).becomes("Master")
    n1.write(web().replace(VIP, "10.77.0.201").replace('"web"', '"db"').replace("51", "52"))
    restart(n1)
    n1.becomes("Master", "db")
    assert not n1.has(VIP)


def test_why_tells_the_story_of_the_last_moves_and_replay_agrees(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(web(), "--journal").becomes("Master")
    n2.run(web(), "--journal").becomes("Backup")
    eventually(lambda: n2.routers["web"]["master"] == "10.77.0.11", "the Backup has heard the Master")
    # The cable first: an engine whose supervisor dies before it steps aside, and nothing of that is to be heard.
    lan.switch.ip("link set port-n1 down")
    for pid in n1.processes:
        os.kill(pid, signal.SIGKILL)
    n2.becomes("Master")
    file = n2.folder / "web.journal"
    why = n2.command("why", "web", f"--journal={file}", f"--state-dir={n2.state_directory}")[3:]
    told = n2.namespace.run(why)
    assert "Initialize -> Backup  Started: started" in told
    assert re.search(r"Backup -> Master  MasterSilent: 10\.77\.0\.11 \(priority 110\) was silent for \d\.\d+ s", told)
    assert re.search(r"last heard of 10\.77\.0\.11: priority 110, \d\.\d+ s before", told)
    replayed = n2.namespace.run(n2.command("replay", str(file))[3:])
    assert len(re.findall("^same", replayed, re.MULTILINE)) == 2
    assert "DIFFERS" not in replayed


def test_255_virtual_routers_survive_a_killed_engine_and_a_hand_over(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    documents = [
        web(interface="eth0", addresses=[f"10.77.{block}.{vrid}/32" for block in range(1, 5)], virtualRouterID=vrid)
        .replace('"web"', f'"v{vrid:03}"')
        for vrid in range(1, 256)
    ]  # fmt: skip

    def states(host: Host, state: str) -> int:
        return sum(router["state"] == state for router in host.routers.values())

    n1.run("\n---\n".join(documents))
    eventually(lambda: states(n1, "Master") == 255, "n1 holds all", within_seconds=20.0)
    n2.run("\n---\n".join(documents))
    eventually(lambda: states(n2, "Backup") == 255, "n2 hears all", within_seconds=20.0)
    kill_engine(n1)
    time.sleep(1.0)
    restart(n1)
    time.sleep(1.0)
    assert states(n1, "Master") == 255
    assert sum(router["transitions"] for router in n2.routers.values()) == 0
    n1.stop()
    eventually(lambda: states(n2, "Master") == 255, "n2 has taken all", within_seconds=10.0)
    assert [text for text in n1.namespace.addresses("eth0") if text.startswith("10.77.") and text != "10.77.0.11"] == []


RESTARTS = int(os.environ.get("HOLDFAST_RESTARTS", "10"))
"""10000 by hand, as docs/testing.md says."""


@pytest.mark.timeout(120 + 5 * RESTARTS)
def test_restart_after_restart_moves_nothing_and_loses_nothing(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(100))
    with probed(lan) as lost:
        for number in range(RESTARTS):
            restart((n1, n2)[number % 2])
        assert lost() == 0
    assert lan.holders(VIP) == ["n1"]
    assert (n1.routers["web"]["transitions"], n2.routers["web"]["transitions"]) == (1, 0)


def test_why_tells_over_restarts_which_probe_failed_and_with_what(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    for host in lan.hosts:
        (host.folder / "healthy").touch()
        command = ["sh", "-c", f"test -e {host.folder / 'healthy'} || {{ echo it is gone; exit 3; }}"]
        host.write(web(track={"probes": [{"name": "flag", "exec": {"command": command}, "periodSeconds": 1}]}))
    n1.run().becomes("Master")
    n2.run().becomes("Backup")
    n2.hears_a_master()
    eventually(lambda: n2.routers["web"]["health"] == "Healthy", "n2 is healthy")
    (n1.folder / "healthy").unlink()
    n1.becomes("Backup", within_seconds=20.0)

    def why() -> str:
        return str(n1.namespace.run(n1.command("why", "web", f"--state-dir={n1.state_directory}")[3:]))

    def names_the_probe(told: str) -> bool:
        return any("HealthierMaster" in line and "flag" in line and "exit" in line for line in told.splitlines())

    assert names_the_probe(why())
    for _ in range(2):
        n1.stop()
        assert names_the_probe(why()), "no engine runs"
        n1.run().becomes("Backup")
        assert names_the_probe(why())
    n1.stop()
    kept = n1.state_directory / "moves.jsonl"
    kept.unlink()
    kept.mkdir()
    n1.run().becomes("Backup")
    eventually(lambda: any("past moves are not kept" in one for one in n1.messages("warning")), "it says so")
