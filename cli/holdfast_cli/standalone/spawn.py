"""The engine's process, started before anything else that `holdfast run` does: both import at the same time.

It touches nothing before it is told something; when the other end of its control connection is closed instead, it
ends.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Spawned(NamedTuple):
    """A process that becomes the engine, and our end of its control connection."""

    process: subprocess.Popen[bytes]
    control: socket.socket


def spawn_engine(node_name: str, state_directory: Path, *, journal: bool) -> Spawned:
    """Start it. It ends with the process that called this, whatever happens to that."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "holdfast_speaker.host",
                f"--node-name={node_name}",
                f"--state-dir={state_directory}",
                f"--control-descriptor={theirs.fileno()}",
                f"--parent={os.getpid()}",
                *(["--journal"] if journal else []),
            ],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # A terminal's Ctrl-C, Ctrl-Z and its end are for the supervisor alone.
            start_new_session=True,
        )
    return Spawned(process, ours)
