"""Commands that are told of changes: with the right words on both hosts, and never in the way of a failover."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually

pytestmark = [pytest.mark.netns, pytest.mark.alone]

VIP = "10.77.0.200"


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def recorder(host: Host, name: str) -> Path:
    """Writes down its arguments and its standard input, a line each time."""
    return script(host.folder / name, f'echo "$* $(cat)" >> {host.folder}/{name}.told')


def told(host: Host, name: str) -> list[tuple[str, dict[str, Any]]]:
    """The arguments and the object of each time so far."""
    file = host.folder / f"{name}.told"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [(words.strip(), json.loads("{" + rest)) for words, _, rest in (line.partition("{") for line in lines)]


def words(host: Host, name: str = "every") -> list[str]:
    return [arguments for arguments, _ in told(host, name)]


def vip(host: Host, *more: dict[str, Any]) -> str:
    every = [str(recorder(host, "every")), "INSTANCE", "VI_1", "$(HOLDFAST_STATE)", "$(HOLDFAST_PRIORITY)"]
    spec = {
        "addresses": [f"{VIP}/24"],
        "virtualRouterID": 51,
        "advertisementIntervalMilliseconds": 100,
        "nodes": {"priorities": [{"nodeName": "n1", "priority": 150}, {"nodeName": "n2", "priority": 120}]},
        "notify": [*more, {"command": every}],
    }
    return json.dumps({"metadata": {"name": "web"}, "spec": spec} | KIND)


LEFT = ("INSTANCE VI_1 MASTER 150", "INSTANCE VI_1 BACKUP 150", "INSTANCE VI_1 STOP 150")
"""What a holder is told that steps aside and stops."""

KIND = {"apiVersion": "holdfast.dev/v1alpha1", "kind": "VirtualIP"}


def are_told(host: Host, *expected: str) -> None:
    eventually(lambda: len(words(host)) >= len(expected), f"{host.name} is told {expected}")
    assert words(host) == list(expected)


@pytest.fixture
def pair(segment: Any) -> tuple[Host, Host]:
    one, other = segment("n1", "n2").hosts
    return one, other


def begin(pair: tuple[Host, Host], *options: str) -> None:
    one, other = pair
    one.run(vip(one), *options)
    one.becomes("Master")
    other.run(vip(other), *options)
    other.hears_a_master()
    are_told(one, "INSTANCE VI_1 BACKUP 150", "INSTANCE VI_1 MASTER 150")
    are_told(other, "INSTANCE VI_1 BACKUP 120")


def test_a_stop_tells_both_hosts_with_keepaliveds_arguments_and_the_facts(pair: tuple[Host, Host]) -> None:
    one, other = pair
    folder = other.folder / "notify.d"
    for name in ("20-b", "10-a", "10-a~"):
        script(folder / name, f'echo "{name} $HOLDFAST_VIRTUAL_IP $HOLDFAST_FROM $HOLDFAST_TO" >> {other.folder}/order')
    (folder / "30-c").write_text("no executable", encoding="utf-8")
    one.run(vip(one))
    one.becomes("Master")
    other.run(vip(other), f"--notify={folder}")
    other.hears_a_master()
    assert one.stop() == 0
    are_told(one, "INSTANCE VI_1 BACKUP 150", *LEFT)
    are_told(other, "INSTANCE VI_1 BACKUP 120", "INSTANCE VI_1 MASTER 120")
    _, last = told(other, "every")[-1]
    assert (last["virtualIP"], last["nodeName"], last["addresses"]) == ("default/web", "n2", [VIP])
    assert (last["from"], last["to"], last["state"]) == ("Backup", "Master", "MASTER")
    assert last["reason"].startswith("Master")
    assert last["peer"] == "10.77.0.11"
    _, stop = told(one, "every")[-1]
    assert (stop["from"], stop["to"], stop["reason"]) == ("Backup", "Initialize", "Stopped")

    def order() -> list[str]:
        return (other.folder / "order").read_text(encoding="utf-8").splitlines()

    eventually(lambda: len(order()) == 4, "the folder's executables are run")
    assert order()[2:] == ["10-a default/web Backup Master", "20-b default/web Backup Master"]
    assert not [line for line in other.messages("warning") if "notify" in line]


def test_a_command_that_hangs_delays_no_failover_and_ends_with_all_that_it_started(pair: tuple[Host, Host]) -> None:
    one, other = pair
    hanging = script(other.folder / "hang", f"sleep 61 & echo $! > {other.folder}/child; sleep 62")
    one.run(vip(one))
    one.becomes("Master")
    other.run(vip(other, {"command": [str(hanging)], "states": ["Master"]}))
    other.hears_a_master()
    began = time.monotonic()
    one.signal(signal.SIGKILL)
    eventually(lambda: other.has(VIP), "n2 holds", within_seconds=2)
    eventually((other.folder / "child").exists, "the command began")
    assert time.monotonic() - began < 3
    child = int(eventually((other.folder / "child").read_text, "the command began"))
    assert words(other) == ["INSTANCE VI_1 BACKUP 120"], "one after the other"
    eventually(lambda: len(words(other)) == 2, "the next one is told after it was killed", within_seconds=15)
    assert not Path(f"/proc/{child}").exists() or "(sleep) Z" in Path(f"/proc/{child}/stat").read_text(encoding="ascii")
    (warning,) = other.routers["web"]["warnings"]
    assert warning == f"notify: {hanging}: {hanging} did not end within 10 s"


def test_an_engine_that_is_killed_and_a_restart_are_no_changes(pair: tuple[Host, Host]) -> None:
    begin(pair)
    one, other = pair
    before = one.engine
    os.kill(before, signal.SIGKILL)
    eventually(lambda: one.status and one.engine != before, "the engine is there again")
    first, one.process = one.process, None
    assert first is not None
    one.run()
    eventually(lambda: "waiting until it ends" in str(one.messages()), "the second one waits")
    first.terminate()
    assert first.wait(timeout=10) == 0
    one.becomes("Master")
    time.sleep(1)
    assert words(one) == ["INSTANCE VI_1 BACKUP 150", "INSTANCE VI_1 MASTER 150"]
    assert words(other) == ["INSTANCE VI_1 BACKUP 120"]
    assert one.stop() == 0
    assert words(one)[1:] == list(LEFT)
    are_told(other, "INSTANCE VI_1 BACKUP 120", "INSTANCE VI_1 MASTER 120")
    assert other.stop() == 0
    assert words(other)[2:] == ["INSTANCE VI_1 STOP 120"]


def test_a_host_that_was_frozen_is_told_afterwards(pair: tuple[Host, Host]) -> None:
    begin(pair)
    one, other = pair
    one.signal(signal.SIGSTOP)
    are_told(other, "INSTANCE VI_1 BACKUP 120", "INSTANCE VI_1 MASTER 120")
    one.signal(signal.SIGCONT)
    are_told(one, "INSTANCE VI_1 BACKUP 150", "INSTANCE VI_1 MASTER 150", "INSTANCE VI_1 BACKUP 150")


def test_what_others_can_write_to_is_not_run_and_said_and_is_no_obstacle(pair: tuple[Host, Host]) -> None:
    one, _ = pair
    open_to_all = script(one.folder / "open", "true")
    open_to_all.chmod(0o777)
    one.run(
        vip(
            one, {"command": ["/nowhere/x"]}, {"command": [str(open_to_all)]}, {"command": ["true"], "user": "nobody-x"}
        )
    )
    one.becomes("Master")
    are_told(one, "INSTANCE VI_1 BACKUP 150", "INSTANCE VI_1 MASTER 150")
    eventually(lambda: len(one.routers["web"]["warnings"]) == 3, "all three are said")
    assert one.routers["web"]["warnings"] == [
        "notify: /nowhere/x: is missing",
        f"notify: {open_to_all}: is not run as root: may be written to by everybody",
        "notify: true: there is no user nobody-x",
    ]


def test_a_link_that_goes_is_a_fault_and_an_edit_that_removes_it_a_stop(pair: tuple[Host, Host]) -> None:
    one, _ = pair
    one.run(vip(one))
    one.becomes("Master")
    are_told(one, "INSTANCE VI_1 BACKUP 150", "INSTANCE VI_1 MASTER 150")
    one.namespace.run(["ip", "link", "set", "eth0", "down"])
    eventually(lambda: words(one)[2:] == ["INSTANCE VI_1 FAULT 150"], "a fault is told")
    one.write("items: []")
    one.signal_reload()
    eventually(lambda: words(one)[3:] == ["INSTANCE VI_1 STOP 150"], "the end is told")
