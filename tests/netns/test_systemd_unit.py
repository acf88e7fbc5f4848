"""examples/systemd/holdfast.service without systemd: checks with its capabilities, and a restart as systemd does it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.restarts import VIP, holder_and_backup, probed, web
from holdfast_testing.systemd_unit import bounding_set, confined, settings, stop_command

pytestmark = [pytest.mark.netns, pytest.mark.alone]

DAEMON = "hf-checked"
CHECKS = {
    "CAP_KILL": f"killall -0 {DAEMON}",
    "CAP_SYS_PTRACE": f"test $(readlink /proc/$(cat $THERE/pid)/exe) = $THERE/{DAEMON}",
    "CAP_DAC_OVERRIDE": "grep -q secret $THERE/theirs/file",
    "CAP_SETUID": "runuser -u nobody -- true",
    "CAP_SETGID": "runuser -u nobody -- true",
    "CAP_NET_RAW": "python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)'",
}
"""What a check needs the capability for, as a shell would be told."""

WITHOUT_A_CHECK = {"CAP_AUDIT_WRITE", "CAP_SYS_RESOURCE"}
"""Of PAM: where tests run in a container, there is no audit log, and nobody may raise a limit."""

ADDRESSES_LAST_SECONDS = 1.0
"""Without an engine (ADR 0005); a machine that is busy with other tests may take longer to start the next one."""

OF_THE_ENGINE = {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_NICE", "CAP_IPC_LOCK"}


@pytest.fixture
def there() -> Iterator[Path]:
    """A folder that everybody may enter, with a daemon, a file and a socket of another user."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    shutil.copy("/usr/bin/sleep", folder / DAEMON)
    theirs = folder / "theirs"
    theirs.mkdir()
    (theirs / "file").write_text("secret")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(theirs / "socket"))
    listener.listen()
    for path, mode in ((theirs / "file", 0o600), (theirs / "socket", 0o600), (theirs, 0o700)):
        path.chmod(mode)
        shutil.chown(path, "nobody")
    command = ["setpriv", "--reuid=nobody", "--clear-groups", str(folder / DAEMON), "600"]
    daemon = subprocess.Popen(command)
    (folder / "pid").write_text(str(daemon.pid))
    comm = Path(f"/proc/{daemon.pid}/comm")
    eventually(lambda: comm.read_text().strip() == DAEMON, "the daemon runs")
    yield folder
    daemon.kill()
    daemon.wait()
    listener.close()
    shutil.rmtree(folder)


def succeeds(script: str, there: Path, capabilities: list[str]) -> bool:
    command = [*confined(capabilities), "sh", "-c", script]
    environment = {**os.environ, "THERE": str(there)}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("capability", CHECKS)
def test_a_check_works_and_has_the_capability_that_it_needs(there: Path, capability: str) -> None:
    assert succeeds(CHECKS[capability], there, bounding_set())
    without = [name for name in bounding_set() if name != capability]
    assert not succeeds(CHECKS[capability], there, without), "the capability is not what it needs"


def test_the_unit_gives_no_capability_that_nobody_needs() -> None:
    assert set(bounding_set()) == {*OF_THE_ENGINE, *CHECKS, *WITHOUT_A_CHECK}


@pytest.mark.parametrize(
    "script",
    [
        f"pidof {DAEMON}",
        f"pidof $THERE/{DAEMON}",
        f"pgrep -u nobody {DAEMON}",
        "kill -0 $(cat $THERE/pid)",
        "test -S $THERE/theirs/socket",
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"'$THERE'/theirs/socket\")'",
        "su -s /bin/sh nobody -c true",
        "ping -c 1 -W 1 127.0.0.1",
    ],
)
def test_what_people_check_with_works(there: Path, script: str) -> None:
    assert succeeds(script, there, bounding_set())


def test_a_check_that_runs_as_another_user_may_use_a_setuid_program(there: Path) -> None:
    program = there / "id"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    assert succeeds("test $(runuser -u nobody -- $THERE/id -u) = 0", there, bounding_set())


def systemctl_that_says(host: Host, job: str) -> dict[str, str]:
    """The environment of ExecStop, with a systemctl that lists this job of our unit."""
    program = host.folder / "systemctl"
    program.write_text(f"#!/bin/sh\necho '123 holdfast.service {job} running'\n")
    program.chmod(0o755)
    assert host.process is not None
    return {**os.environ, "PATH": f"{host.folder}:{os.environ['PATH']}", "MAINPID": str(host.process.pid)}


def stop_as_systemd_does(host: Host, job: str) -> None:
    """ExecStop, then SIGTERM to the main process, if that is still there (KillMode=mixed)."""
    assert settings("KillMode") == ["mixed"]
    assert host.process is not None
    environment = systemctl_that_says(host, job)
    # As for systemd, the main process is gone for `tail` only when its parent has waited for it.
    stopping = subprocess.Popen(stop_command(host.state_directory), env=environment)
    eventually(lambda: host.process is None or host.process.poll() is not None or stopping.poll() is not None, "stops")
    if stopping.poll() is None or host.process.poll() is not None:
        host.process.wait(timeout=5)
        assert stopping.wait(timeout=5) == 0
        host.process = None
    else:
        assert host.stop() == 0


@pytest.mark.parametrize(("version", "interval_ms"), [(3, 100), (3, 1000), (2, 1000)])
def test_a_restart_moves_nothing_and_loses_nothing_if_it_is_quick(segment: Any, version: int, interval_ms: int) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(interval_ms, version))
    with probed(lan) as lost:
        stop_as_systemd_does(n1, "restart")
        silent_since = time.monotonic()
        n1.run()
        n1.becomes("Master")
        silent = time.monotonic() - silent_since
        time.sleep(1.0)
        assert lost() == 0 or silent > ADDRESSES_LAST_SECONDS
    assert n1.routers["web"]["transitions"] == 1
    assert n2.routers["web"]["transitions"] == 0
    assert "handed over to a successor on this node: 1 of 1 VirtualIPs are held" in n1.messages()


def test_a_stop_gives_everything_up_to_the_backup(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    with probed(lan) as lost:
        stop_as_systemd_does(n1, "stop")
        n2.becomes("Master")
        assert lost() == 0
    assert not n1.has(VIP)
    assert n2.routers["web"]["reason"] == "MasterSteppedAside"


def test_a_restart_whose_start_fails_leaves_the_vip_to_the_backup(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    stop_as_systemd_does(n1, "restart")
    n2.becomes("Master")
    eventually(lambda: not n1.has(VIP), "the kernel removes the address")


def test_a_second_run_that_waits_and_is_told_to_stop_ends_without_a_traceback(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web()).becomes("Master")
    first = n1.process
    n1.run()
    eventually(lambda: any("waiting until it ends" in message for message in n1.messages()), "the second one waits")
    assert n1.stop() == 0
    n1.process = first
    assert [message for message in n1.messages() if "Traceback" in message or "Error" in message] == []
    assert n1.messages("error") == []
    assert n1.state() == "Master"
