"""Processes as /proc shows them: who lives in a network namespace, who descends from whom, and signals to them.

A pid alone is no identity, as the kernel uses it again: pid and start time together are (proc(5), stat, field 22).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from msgspec import Struct

from holdfast_api.errors import EnvironmentFailure

_PROC = Path("/proc")
_POLL_SECONDS = 0.005


class ProcessIdentity(Struct, frozen=True):
    """One process, told apart from every other that has or will have its pid."""

    pid: int
    start_time: int
    """In clock ticks since the machine's boot."""


class _Stat(Struct, frozen=True):
    state: str
    parent: int
    start_time: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in parentheses and may hold spaces and parentheses of its own.
    fields = text.rpartition(")")[2].split()
    return _Stat(state=fields[0], parent=int(fields[1]), start_time=int(fields[19]))


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the process that has this pid now; None when there is none."""
    stat = _stat(pid)
    return ProcessIdentity(pid, stat.start_time) if stat else None


def is_running(identity: ProcessIdentity | None) -> bool:
    """Whether this very process is there and no zombie; a stopped one (SIGSTOP) is running."""
    if identity is None:
        return False
    stat = _stat(identity.pid)
    return stat is not None and stat.start_time == identity.start_time and stat.state not in "ZX"


def is_stopped(identity: ProcessIdentity) -> bool:
    """Whether the process was stopped by a signal."""
    stat = _stat(identity.pid)
    return stat is not None and stat.start_time == identity.start_time and stat.state == "T"


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def namespace_members(namespace: Path) -> list[ProcessIdentity]:
    """Every process in the network namespace that this path names (below /run/netns); none when it is not there."""
    try:
        wanted = namespace.stat()
    except FileNotFoundError:
        return []
    members = []
    for pid in _all_pids():
        try:
            found = (_PROC / str(pid) / "ns" / "net").stat()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        identity = identify(pid)
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) and identity is not None:
            members.append(identity)
    return members


def descendants(root: ProcessIdentity) -> list[ProcessIdentity]:
    """The process and everything that descends from it, parents first; empty when it is gone."""
    if not is_running(root):
        return []
    stats = {pid: stat for pid in _all_pids() if (stat := _stat(pid)) is not None and stat.state not in "ZX"}
    found = [root]
    for ancestor in found:
        found.extend(
            ProcessIdentity(pid, stat.start_time) for pid, stat in stats.items() if stat.parent == ancestor.pid
        )
    return found


def send_signal(identity: ProcessIdentity, number: signal.Signals) -> None:
    """Send a signal to this very process; nothing happens when it is gone."""
    if identify(identity.pid) != identity:
        return
    try:
        os.kill(identity.pid, number)
    except ProcessLookupError:
        return


def reap(identity: ProcessIdentity) -> None:
    """Collect a zombie if it is our child; does not wait."""
    try:
        os.waitpid(identity.pid, os.WNOHANG)
    except ChildProcessError:
        return


def wait_until_gone(identity: ProcessIdentity, timeout_seconds: float) -> bool:
    """Wait until the process is gone; False when it is still there after the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while is_running(identity):
        if time.monotonic() > deadline:
            return False
        reap(identity)
        time.sleep(_POLL_SECONDS)
    reap(identity)
    return True


def stop_tree(root: ProcessIdentity) -> list[ProcessIdentity]:
    """SIGSTOP a process and its descendants, until none is left that runs; returns them."""
    while True:
        tree = descendants(root)
        moving = [identity for identity in tree if not is_stopped(identity)]
        if not moving:
            return tree
        for identity in moving:
            send_signal(identity, signal.SIGSTOP)
        time.sleep(_POLL_SECONDS)


def continue_tree(root: ProcessIdentity) -> None:
    """SIGCONT a process and its descendants."""
    for identity in descendants(root):
        send_signal(identity, signal.SIGCONT)


def end_tree(root: ProcessIdentity) -> None:
    """Kill a process and its descendants without giving any of them a word to say; waits until they are gone.

    Raises EnvironmentFailure when one does not go.
    """
    tree = stop_tree(root)
    for identity in tree:
        send_signal(identity, signal.SIGKILL)
    for identity in tree:
        if not wait_until_gone(identity, 5):
            raise EnvironmentFailure(f"process {identity.pid} does not end")


def end_namespace_members(namespace: Path) -> None:
    """Kill every process in a network namespace (by path below /run/netns) and wait until it is empty.

    Raises EnvironmentFailure when a process does not go within 5 s.
    """
    deadline = time.monotonic() + 5
    while members := namespace_members(namespace):
        for identity in members:
            send_signal(identity, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
        for identity in members:
            reap(identity)
        if time.monotonic() > deadline:
            pids = ", ".join(str(identity.pid) for identity in members)
            raise EnvironmentFailure(f"processes in {namespace.name} do not end: {pids}")


def spawn(
    command: list[str], *, output: Path | None = None, ready: bool = False, environment: dict[str, str]
) -> ProcessIdentity:
    """Start a program that outlives us, in a session of its own, its standard input empty.

    `output` is the file that its standard output and error are added to; without it they are thrown away. With `ready`
    its standard output is a pipe, and spawn returns when it has written a line there.

    Raises EnvironmentFailure when it cannot be started, or ends, or is not ready within 20 s.
    """
    sink = str(output) if output is not None else os.devnull
    reading, writing = os.pipe()
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, sink, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    if ready:
        actions.append((os.POSIX_SPAWN_DUP2, writing, 1))
    try:
        pid = os.posix_spawnp(command[0], command, environment, file_actions=actions, setsid=True)
        identity = identify(pid)
        os.close(writing)
        writing = -1
        if identity is None:
            raise EnvironmentFailure(f"{command[0]} ended at once")
        if ready:
            _await_line(reading, identity, output)
    except OSError as error:
        raise EnvironmentFailure(f"{command[0]} cannot be started: {error.strerror}") from error
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    return identity


def _await_line(reading: int, identity: ProcessIdentity, output: Path | None) -> None:
    os.set_blocking(reading, False)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if os.read(reading, 4096):
                return
        except BlockingIOError:
            time.sleep(_POLL_SECONDS)
            continue
        break
    end_tree(identity)
    said = output.read_text(errors="replace").strip() if output is not None and output.exists() else ""
    raise EnvironmentFailure(said.splitlines()[-1] if said else f"process {identity.pid} did not become ready")
