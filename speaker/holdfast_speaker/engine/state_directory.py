"""The state directory: what this node keeps for its next engine.

    lock            held by the live engine
    config.json     the last good configuration
    state.json      the last published state
    engine.sock     the control socket

It belongs on a tmpfs (/run): it is written from the engine's loop. Nothing in it is needed to go on; when it cannot be
written the engine says so once and goes on without it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import Reason, State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.engine.log import Log

Document = TypeVar("Document", bound=Struct)


class PublishedRouter(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """One virtual router as it was last seen."""

    virtual_ip: str
    state: State
    since: str
    reason: Reason | None
    addresses: list[str]


class PublishedState(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """The engine's last published state."""

    node_name: str
    pid: int
    routers: list[PublishedRouter] = field(default_factory=list)
    version: int = 1


class StateDirectory:
    """One node's state directory. No method raises for what the file system refuses."""

    def __init__(self, path: Path, log: Log) -> None:
        self._path = path
        self._log = log
        self._refused: set[str] = set()
        self._lock: int | None = None
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._warn("state directory", error)

    @property
    def socket_path(self) -> Path:
        """Where the control socket is."""
        return self._path / "engine.sock"

    @property
    def warnings(self) -> list[str]:
        """What could not be written or read, for status."""
        return sorted(self._refused)

    def acquire_lock(self) -> None:
        """Wait until no other engine runs on this state directory; without a lock file, go on."""
        try:
            self._lock = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._warn("lock", error)
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 20, 0).decode(errors="replace").strip() or "unknown"
            self._log.info(
                f"another engine (process {holder}) runs on {self._path}; waiting until it ends", waiting=True
            )
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            self._warn("lock", error)
            return
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        except OSError as error:
            self._warn("lock", error)

    def load_configuration(self) -> SpeakerConfiguration | None:
        """The last good configuration; None where there is none or it is not readable."""
        return self._load("config.json", SpeakerConfiguration)

    def save_configuration(self, configuration: SpeakerConfiguration) -> None:
        """Keep the last good configuration for an engine that starts when nobody is there to tell it."""
        self._save("config.json", configuration)

    def load_state(self) -> PublishedState | None:
        """What the last engine published; None where there is none or it is not readable."""
        return self._load("state.json", PublishedState)

    def publish(self, state: PublishedState) -> None:
        """Keep the state for the next engine, and for whoever looks."""
        self._save("state.json", state)

    def _load(self, name: str, kind: type[Document]) -> Document | None:
        try:
            return msgspec.json.decode((self._path / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(name, error)
        except msgspec.DecodeError as error:
            self._log.warning(f"{self._path / name} is ignored: {error}")
            self._refused.add(f"{name} was not readable at the start and is ignored")
        return None

    def _save(self, name: str, document: Struct) -> None:
        part = self._path / f".{name}.part"
        try:
            part.touch(mode=0o600)  # a configuration may hold a VRRPv2 password
            part.write_bytes(msgspec.json.encode(document) + b"\n")
            part.replace(self._path / name)
        except OSError as error:
            self._warn(name, error)
        else:
            self._refused = {refusal for refusal in self._refused if not refusal.startswith(f"{name} cannot")}

    def _warn(self, name: str, error: OSError) -> None:
        refusal = f"{name} cannot be written: {error.strerror}"
        if refusal not in self._refused:
            self._log.warning(f"{self._path}: {refusal}; going on without it")
            self._refused.add(refusal)
