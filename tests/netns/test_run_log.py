"""The log of `holdfast run` is somebody else's: whatever becomes of it, the VIP is held and probed."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually

pytestmark = [pytest.mark.netns, pytest.mark.alone]

VIP = "10.77.0.200"


def vip(host: Host) -> str:
    """A VirtualIP whose service is well as long as there is a file."""
    (host.folder / "healthy").touch()
    probe = {
        "name": "up",
        "exec": {"command": ["test", "-e", str(host.folder / "healthy")]},
        "periodMilliseconds": 100,
        "failureThreshold": 1,
    }
    spec = {
        "addresses": [f"{VIP}/24"],
        "virtualRouterID": 51,
        "advertisementIntervalMilliseconds": 100,
        "track": {"probes": [probe]},
    }
    document = {"apiVersion": "holdfast.dev/v1alpha1", "kind": "VirtualIP", "metadata": {"name": "web"}, "spec": spec}
    return json.dumps(document)


def start(host: Host, *, shell: str = 'exec "$@"', **streams: Any) -> subprocess.Popen[str]:
    """`holdfast run` as a shell starts it."""
    host.write(vip(host))
    command = host.command(
        "run", f"--file={host.file}", f"--node-name={host.name}", f"--state-dir={host.state_directory}"
    )
    entering = len(host.command()) - len(["python", "-P", "-m", "holdfast_cli.main"])
    words = [*command[:entering], "sh", "-c", shell, "sh", *command[entering:]]
    streams = {"stdin": subprocess.DEVNULL, **streams}
    host.process = subprocess.Popen(words, text=True, **streams)
    host.becomes("Master")
    return host.process


def is_at_work(host: Host, process: subprocess.Popen[str]) -> None:
    """Whatever would have it say something: it holds, probes, reads its files, and then obeys SIGTERM."""
    for text in ("x: [", vip(host).replace("51", "300"), vip(host)):
        host.write(text)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
    (host.folder / "healthy").unlink()
    eventually(lambda: host.routers["web"]["health"] == "Failing", "probes are run")
    (host.folder / "healthy").touch()
    eventually(lambda: host.routers["web"]["health"] == "Healthy", "probes are run")
    host.write(vip(host).replace(":100", ": 100").replace('"periodMilliseconds": 100', '"periodMilliseconds": 150'))
    before = host.status["generation"]
    eventually(lambda: host.status["generation"] > before, "files are read")
    assert process.poll() is None
    assert host.has(VIP)
    assert host.routers["web"]["transitions"] == 1
    assert host.stop() == 0
    assert not host.has(VIP)


@pytest.fixture
def host(segment: Any) -> Host:
    (only,) = segment("n1").hosts
    assert isinstance(only, Host)
    return only


def test_a_reader_that_is_gone(host: Host) -> None:
    reader, writer = os.pipe()
    process = start(host, stderr=writer)
    os.close(writer)
    os.close(reader)
    is_at_work(host, process)


def test_a_pipe_that_nobody_reads(host: Host) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    process = start(host, stderr=writer)
    os.close(writer)
    is_at_work(host, process)
    os.close(reader)


def test_a_standard_error_that_is_closed(host: Host) -> None:
    process = start(host, shell='exec "$@" 2>&-')
    is_at_work(host, process)


def test_all_of_the_standard_descriptors_closed(host: Host) -> None:
    process = start(host, shell='exec "$@" <&- >&- 2>&-')
    is_at_work(host, process)


def test_a_disk_that_is_full(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], check=True)
    try:
        with (folder / "log").open("w", encoding="utf-8") as log:
            process = start(host, stderr=log)
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as full, contextlib.suppress(OSError):
            while full.write(bytes(512)):
                pass
        for number in range(60):  # what is left of the log's last page is filled too
            host.write("x: [" + " " * number)
            process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        assert process.poll() is None
        filler.unlink()
        read = (folder / "log").read_text
        eventually(lambda: "lines of this log were lost: No space left" in read(), "what was lost is told")
        is_at_work(host, process)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_terminal_that_is_closed(host: Host) -> None:
    """The shell's end sends SIGHUP to everybody in the terminal: the files are read again, and nothing moves."""
    ours, theirs = pty.openpty()
    process = start(
        host, shell='exec setsid --ctty --wait sh -c \'"$@"\' sh "$@"', stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    engine = host.engine
    os.close(ours)
    eventually(lambda: process.poll() is not None, "the shell is gone")
    time.sleep(1.0)
    assert host.engine == engine
    assert host.has(VIP)
    assert host.routers["web"]["transitions"] == 1
    for supervisor in host.namespace.run(["pgrep", "-f", f"state-dir={host.state_directory}"]).split():
        os.kill(int(supervisor), signal.SIGTERM)
    eventually(lambda: not host.has(VIP), "it obeys SIGTERM")
