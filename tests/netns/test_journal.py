"""What a real engine records plays to the same, whatever happened to it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.restarts import VIP, web

pytestmark = pytest.mark.netns


def replayed(host: Host) -> list[list[str]]:
    """Write the journal of a host and play it: the first words of every line, and the verb."""
    file = host.folder / "web.journal"
    options = [f"--journal={file}", f"--state-dir={host.state_directory}"]
    host.namespace.run(host.command("why", "web", *options)[3:])
    told = host.namespace.run(host.command("replay", str(file))[3:])
    return [line.split("  ")[:2] for line in told.splitlines()]


def test_a_life_with_everything_in_it_plays_to_the_same(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    both = [f"{VIP}/24", "192.168.99.1/24", "fd77::200/64"]
    n1.run(web(addresses=both, interface="eth0"), "--journal").becomes("Master")
    n2.run(web(addresses=both, interface="eth0"), "--journal").becomes("Backup")
    eventually(lambda: n2.routers["web"]["master"], "the Backup has heard the Master")

    # An address is taken away, and a link flaps for longer than anybody waits.
    n1.namespace.ip(f"address del {VIP}/32 dev eth0")
    eventually(lambda: n1.has(VIP), "it is put back")
    lan.switch.ip("link set port-n1 down")
    n2.becomes("Master")
    lan.switch.ip("link set port-n1 up")
    n1.becomes("Backup")

    # An edit, then another holder.
    for host in lan.hosts:
        host.write(web(addresses=[f"{VIP}/24", "10.77.0.201/24", "fd77::200/64"], interface="eth0"))
    eventually(lambda: n2.has("10.77.0.201"), "the edit is in force")
    n2.namespace.run(n2.command("switchover", "web", "--to=n1", f"--state-dir={n2.state_directory}")[3:])
    n1.becomes("Master")

    for host, least in ((n1, 4), (n2, 3)):
        told = replayed(host)
        assert {words[0] for words in told} == {"same"}
        assert len(told) >= least

    # The engine dies: the next one goes on, with a journal of its own.
    before = n1.engine
    os.kill(before, signal.SIGKILL)
    eventually(lambda: n1.status.get("pid", before) != before, "another engine goes on")
    n2.stop()
    lan.switch.ip("link set port-n1 down")
    eventually(lambda: n1.state() == "Initialize", "it gives up without a link")
    told = replayed(n1)
    assert [words for words in told if words[0] != "same"] == []
    assert any(line.get("verb") == "go_on_from" for line in journal_of(n1))
    assert journal_of(n1)[0]["checkpoint"]["instances"] == []


def journal_of(host: Host) -> list[dict[str, Any]]:
    """The lines of the journal on disk."""
    return [json.loads(line) for line in Path(host.folder / "web.journal").read_bytes().splitlines()]


def test_without_a_journal_there_is_none_to_write(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web()).becomes("Master")
    file = n1.folder / "web.journal"
    command = n1.command("why", "web", f"--journal={file}", f"--state-dir={n1.state_directory}")[3:]
    told = n1.namespace.run(["sh", "-c", '"$@" 2>&1; test $? = 2', "sh", *command])
    assert "no journal is kept: start holdfast run with --journal" in told
    assert not file.exists()
