"""What clients, a log without room and a frozen host do to a running engine: nothing."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.restarts import VIP, holder_and_backup, probed, web

pytestmark = [pytest.mark.netns, pytest.mark.alone]

FREEZERS = Path("/sys/fs/cgroup/freezer")


@contextlib.contextmanager
def clients(host: Host, count: int) -> Iterator[None]:
    """So many connections, one after the other, each with requests whose answers nobody reads."""
    opened: list[socket.socket] = []
    for _ in range(count):
        opened.append(connected(host))
        with contextlib.suppress(OSError):  # turned away, or closed already for another one
            opened[-1].send(b'{"type":"GetStatus"}\n' * 20)
        if len(opened) > 500:
            opened.pop(0).close()
    try:
        yield
    finally:
        for stream in opened:
            stream.close()


def connected(host: Host) -> socket.socket:
    """Connected as soon as there is a place among those who wait for it."""
    stream = socket.socket(socket.AF_UNIX)
    stream.setblocking(False)
    end = time.monotonic() + 5
    while True:
        try:
            stream.connect(str(host.state_directory / "engine.sock"))
        except BlockingIOError:
            assert time.monotonic() < end, "nobody accepts"
            time.sleep(0.002)
        else:
            return stream


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_any_number_of_clients_costs_no_probe_and_no_move(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    engine = n1.engine
    with probed(lan) as lost, clients(n1, 5000):
        assert n1.state() == "Master", "who asks now is answered"
        time.sleep(1.0)
        assert lost() == 0
    assert n1.engine == engine
    assert n2.routers["web"]["transitions"] == 0


def test_too_few_descriptors_turn_clients_away_and_do_not_spin(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.python = ["prlimit", "--nofile=48:48", *n1.python]
    n1.run(web()).becomes("Master")
    engine = n1.engine
    n1.python = n1.python[2:]
    with clients(n1, 200):
        time.sleep(0.5)
        before = processor_seconds(engine)
        time.sleep(2.0)
        assert processor_seconds(engine) - before < 1.0
        assert n1.engine == engine
        assert n1.state() == "Master"


@pytest.mark.parametrize("log", ["/dev/full", "closed"])
def test_a_log_that_cannot_be_written_is_no_reason_to_stop(segment: Any, log: str, tmp_path: Path) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    (n1.state_directory).mkdir()
    configuration = (
        '{"nodeName":"n1","generation":1,"virtualRouters":[{"name":"default/web","virtualRouterID":51,'
        f'"addresses":["{VIP}/24"],"advertisementIntervalMilliseconds":100}}]}}'
    )
    (n1.state_directory / "config.json").write_text(configuration, encoding="utf-8")
    words = [*n1.python, "-m", "holdfast_speaker.host", "--node-name=n1", f"--state-dir={n1.state_directory}"]
    redirected = "2>&-" if log == "closed" else f"2>{log}"
    engine = n1.namespace.start(["sh", "-c", f'exec "$@" {redirected}', "sh", *words])
    n1.becomes("Master")
    former = n1.engine
    # Each of these is worth a line.
    for state in "down", "up":
        n1.namespace.ip(f"link set eth0 {state}")
        n1.becomes("Initialize" if state == "down" else "Master")
    assert n1.engine == former
    assert n1.status["restarts"] == 0
    for file in n1.state_directory.iterdir():
        assert file.is_socket() or b'"level"' not in file.read_bytes(), f"the log was written to {file.name}"
    engine.terminate()
    assert engine.wait(timeout=5) == 0
    assert not n1.has(VIP)


@pytest.mark.skipif(not FREEZERS.is_dir(), reason="the freezer of cgroups(7) version 1 is not here")
def test_a_host_that_is_frozen_and_thawed_keeps_its_engine(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    engine = n1.engine
    freezer = FREEZERS / n1.namespace.name
    freezer.mkdir()
    try:
        for pid in n1.processes:
            (freezer / "cgroup.procs").write_text(str(pid), encoding="ascii")
        for _ in range(3):
            (freezer / "freezer.state").write_text("FROZEN", encoding="ascii")
            time.sleep(1.5)
            (freezer / "freezer.state").write_text("THAWED", encoding="ascii")
            time.sleep(0.7)
        n2.becomes("Master")
        n1.becomes("Backup")
        assert n1.engine == engine
        assert n1.status["restarts"] == 0
        n1.stop()
        eventually(lambda: not (freezer / "cgroup.procs").read_text(encoding="ascii"), "nothing is left in it")
    finally:
        freezer.rmdir()
