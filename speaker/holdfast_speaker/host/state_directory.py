"""The state directory: what this node keeps for its next engine.

    lock            held while an engine (its keeper) lives
    successor       held while another one waits for the lock
    config.json     the last good configuration
    state.json      the last published state
    last-crash.txt  the traceback of the last engine that died of its own
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

from holdfast_api.errors import UNDECODABLE
from holdfast_api.messages import Transition
from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import Health, Reason, State
from holdfast_api.speaker import SpeakerConfiguration
from holdfast_speaker.host.log import Log
from holdfast_speaker.vrrp.instants import Instant

Document = TypeVar("Document", bound=Struct)


class PublishedRouter(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """One virtual router as it was last seen."""

    virtual_ip: str
    state: State
    since: str
    reason: Reason | None
    addresses: list[str]
    message: str = ""
    moves: int = 0
    health: Health = Health.UNKNOWN
    """As the probes reported it."""
    health_detail: str = ""
    recovered_at: Instant | None = None
    """When its health became good again (ADR 0007)."""
    history: list[Transition] = field(default_factory=list)


class PublishedState(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """The engine's last published state."""

    node_name: str
    pid: int
    routers: list[PublishedRouter] = field(default_factory=list)
    handed_over_at: int = 0
    """CLOCK_MONOTONIC in nanoseconds: when the Masters among them were left to a successor; 0: they were not."""
    boot: str = ""
    """Which boot of the machine that clock counts from (/proc/sys/kernel/random/boot_id)."""
    version: int = 1


class Snapshot(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """What the next engine of the same keeper goes on from."""

    configuration: SpeakerConfiguration
    state: PublishedState


SNAPSHOTS = msgspec.json.Decoder(Snapshot)
"""Made once, in the keeper: a decoder takes longer to make than to use."""


class StateDirectory:
    """One node's state directory. No method raises for what the file system refuses."""

    def __init__(self, path: Path, log: Log) -> None:
        self._path = path
        self._log = log
        self._refused: set[str] = set()
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
        """Wait until no other engine runs on this state directory; without lock files, go on.

        Whoever waits holds the file `successor`, so that the live engine knows that it can hand over.
        """
        successor = self._open("successor")
        lock = self._open("lock")
        if successor is None or lock is None:
            return
        try:
            if not _lock_at_once(successor) or not _lock_at_once(lock):
                holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
                told = f"another engine (process {holder}) runs on {self._path}; waiting until it ends"
                self._log.info(told, waiting=True)
                fcntl.flock(successor, fcntl.LOCK_EX)
                fcntl.flock(lock, fcntl.LOCK_EX)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        except OSError as error:
            self._warn("lock", error)
        os.close(successor)

    def successor_waits(self) -> bool:
        """Whether another engine waits for this one's end."""
        successor = self._open("successor")
        if successor is None:
            return False
        try:
            return not _lock_at_once(successor)
        except OSError:
            return False
        finally:
            os.close(successor)

    def _open(self, name: str) -> int | None:
        try:
            return os.open(self._path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._warn(name, error)
            return None

    def load_configuration(self) -> SpeakerConfiguration | None:
        """The last good configuration; None where there is none or it is not readable."""
        return self._load("config.json", SpeakerConfiguration)

    def save_configuration(self, configuration: SpeakerConfiguration) -> None:
        """Keep the last good configuration for an engine that starts when nobody is there to tell it."""
        self._save("config.json", configuration)

    def load_state(self) -> PublishedState | None:
        """What the last engine published; None where there is none or it is not readable."""
        return self._load("state.json", PublishedState)

    def published_routers(self) -> list[PublishedRouter]:
        """Those of the last published state; none where there is none."""
        state = self.load_state()
        return state.routers if state else []

    def publish(self, state: PublishedState) -> None:
        """Keep the state for the next engine, and for whoever looks."""
        self._save("state.json", state)

    def keep_traceback(self, text: str) -> None:
        """Keep what an engine died of: the last one of its own assertions."""
        try:
            (self._path / "last-crash.txt").write_text(text, encoding="utf-8")
        except OSError as error:
            self._warn("last-crash.txt", error)

    def _load(self, name: str, kind: type[Document]) -> Document | None:
        try:
            return msgspec.json.decode((self._path / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(name, error)
        except UNDECODABLE as error:
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


def _lock_at_once(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
