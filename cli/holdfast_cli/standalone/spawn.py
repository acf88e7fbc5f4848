"""The engine's process, forked before `holdfast run` imports what it needs itself.

Both import at the same time, and what both need is imported before: it is in memory once. The process touches nothing
before it is told what to do; when the other end of its control connection is closed instead, it ends.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec

import holdfast_speaker.host.netlink  # noqa: F401  # what both need is in memory once if it is imported before
from holdfast_api.errors import EnvironmentFailure
from holdfast_api.messages import Configure
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.host.arguments import Arguments

_CAPABILITIES = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}  # linux/capability.h
_STANDARD_ERROR = 2
_LINE_LIMIT = 64 * 1024


class Spawned(NamedTuple):
    """A process that becomes the engine, our end of its control connection, and what it logs."""

    pid: int
    control: socket.socket
    log: int
    """The descriptor to read it from."""

    def begin(self, configuration: SpeakerConfiguration, state_directory: Path, *, journal: bool) -> None:
        """Have it run this. It ends with this process, whatever happens to that.

        Raises EnvironmentFailure, and nothing was touched, where an engine has not the capabilities that it needs.
        """
        _require_capabilities()
        arguments = Arguments(
            node_name=configuration.node_name, state_directory=str(state_directory), parent=os.getpid(), journal=journal
        )
        for told in (arguments, Configure(configuration=configuration)):
            self.control.sendall(msgspec.json.encode(told) + b"\n")


def fork_engine() -> Spawned:
    """Begin it. To be called while there is one thread, and best with collections of garbage switched off."""
    ours, theirs = socket.socketpair()
    log, logs = os.pipe()
    # What exists by now is left alone by collections of garbage, so that its memory stays common to both.
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        os.dup2(logs, _STANDARD_ERROR)
        _become_the_engine(theirs.detach())
    gc.enable()
    theirs.close()
    os.close(logs)
    return Spawned(pid, ours, log)


def _become_the_engine(control: int) -> NoReturn:
    status = 1
    try:
        # A terminal's Ctrl-C, Ctrl-Z and its end are for the supervisor alone.
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.closerange(_STANDARD_ERROR + 1, control)
        os.closerange(control + 1, os.sysconf("SC_OPEN_MAX"))
        from holdfast_speaker.host.__main__ import main

        gc.enable()
        told = _first_line(control)
        if told:
            arguments = msgspec.json.decode(told, type=Arguments)
            status = main(msgspec.structs.replace(arguments, control_descriptor=control))
        else:
            status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # the outermost of this process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _first_line(control: int) -> bytes:
    """Without what follows it, which is the engine's; empty where the other end is closed instead."""
    with socket.socket(fileno=os.dup(control)) as connection:
        while begun := connection.recv(_LINE_LIMIT, socket.MSG_PEEK):
            line, end, _ = begun.partition(b"\n")
            if end:
                connection.recv(len(line) + 1)
                return line
    return b""


def _require_capabilities() -> None:
    fields = dict(
        line.split(":\t", 1)
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if ":\t" in line
    )
    effective = int(fields["CapEff"], 16)
    lacking = [name for bit, name in _CAPABILITIES.items() if not effective >> bit & 1]
    if lacking:
        raise EnvironmentFailure(f"no permission: holdfast run needs {' and '.join(lacking)} (run it as root)")
