"""Network namespaces of this machine by name: made, entered, spoken to by rtnetlink(7), removed, all through pyroute2.

Nothing here forks. pyroute2 by itself makes a namespace, and a socket in one, in a forked child of this process, which
costs seven times as much, and runs on through its parent's clean-up when it is interrupted. A thread that ends does the
same (ADR 0017).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute, netns

from holdfast_api.errors import EnvironmentFailure

NAMESPACES_FOLDER = Path("/run/netns")
"""Where ip-netns(8) keeps named network namespaces."""

_CLONE_NEWNET = 0x40000000

# pyroute2 would look for the C library with programs (ldconfig, a compiler).
_libc = ctypes.CDLL(None, use_errno=True)

Result = TypeVar("Result")


def namespace_path(namespace: str) -> Path:
    """The path that names a network namespace."""
    return NAMESPACES_FOLDER / namespace


def inside(namespace: str, command: list[str]) -> list[str]:
    """The command line that runs a command in a network namespace, and in the mount namespace of everybody."""
    return ["nsenter", f"--net={namespace_path(namespace)}", "--", *command]


def run_inside(namespace: str, function: Callable[[], Result]) -> Result:
    """What the function gives when it is called in a network namespace; a socket that it makes stays there.

    Raises what the function raises, and EnvironmentFailure when there is no such namespace or it cannot be entered.
    """

    def enter_and_call() -> Result:
        _enter(namespace)
        return function()

    return _in_a_thread(enter_and_call)


@contextlib.contextmanager
def entered(namespace: str) -> Iterator[None]:
    """The calling thread is in a network namespace until the end; the sockets that it makes stay there.

    Raises EnvironmentFailure when there is no such namespace or it cannot be entered.
    """
    with Path("/proc/thread-self/ns/net").open("rb") as before:
        _enter(namespace)
        try:
            yield
        finally:
            netns.setns(before.fileno(), libc=_libc)


def _enter(namespace: str) -> None:
    try:
        netns.setns(str(namespace_path(namespace)), flags=0, libc=_libc, fork=False)
    except OSError as error:
        raise EnvironmentFailure(f"network namespace {namespace} cannot be entered: {_reason(error)}") from error


def _in_a_thread(function: Callable[[], Result]) -> Result:
    # setns(2) and unshare(2) are for one thread; this one ends, so that no other code runs in a wrong namespace.
    # Signals come to the main thread: who is interrupted there (KeyboardInterrupt, the demo's signals) waits for the
    # end of what was begun.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(function).result()


def make_namespace(namespace: str) -> None:
    """Make an empty network namespace, its loopback down; EnvironmentFailure when it cannot be made."""
    _in_a_thread(lambda: _make_here(namespace))


def _make_here(namespace: str) -> None:
    path = namespace_path(namespace)
    if path.exists():
        raise EnvironmentFailure(f"network namespace {namespace} is there already")
    try:
        if _libc.unshare(_CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        with _folder_locked():
            # By the thread's own number: /proc/self would be the namespace of the process's first thread.
            netns.attach(str(path), threading.get_native_id(), libc=_libc)
    except OSError as error:
        if error.errno != errno.EEXIST:
            # The file is made before what is mounted on it, and would stay.
            remove_namespace(namespace)
        raise EnvironmentFailure(f"network namespace {namespace} cannot be made: {_reason(error)}") from error


@contextlib.contextmanager
def _folder_locked() -> Iterator[None]:
    # The lock of ip-netns(8): who makes the first namespace after a boot mounts the folder on itself, and two that did
    # so at once could hide from each other what they make.
    NAMESPACES_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(NAMESPACES_FOLDER, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_namespace(namespace: str) -> None:
    """Remove a network namespace, with all links in it; nothing happens when it is not there.

    Raises EnvironmentFailure when it cannot be removed.
    """
    path = namespace_path(namespace)
    if not path.exists():
        return
    try:
        netns.remove(str(path), libc=_libc)
    except FileNotFoundError:
        return
    except OSError as error:
        raise EnvironmentFailure(f"network namespace {namespace} cannot be removed: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    code = error.errno or 0
    if code == errno.EPERM:
        return "this process lacks the capability CAP_SYS_ADMIN (root in a container?)"
    if code == errno.EEXIST:
        return "there is one of that name already"
    if code == errno.ENOENT:
        return "there is none of that name"
    if code == errno.ENOSPC:
        return "the machine allows no more (sysctl user.max_net_namespaces)"
    return os.strerror(code)


def with_rtnetlink(namespace: str, work: Callable[[IPRoute], Result]) -> Result:
    """What `work` gives with the links and addresses of a network namespace; no signal interrupts it.

    Raises EnvironmentFailure when there is no such namespace, and what `work` raises (pyroute2's NetlinkError).
    """

    def open_and_work() -> Result:
        with IPRoute(ext_ack=True) as kernel:
            return work(kernel)

    return run_inside(namespace, open_and_work)
