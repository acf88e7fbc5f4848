"""The state directory: what this node keeps for its next engine.

    lock            held while an engine (its keeper) lives
    successor       held while another one waits for the lock
    config.json     the last good configuration
    state.json      the last published state
    moves.jsonl     past moves of former engines, written by `holdfast run`'s supervisor alone
    last-crash.txt  the traceback of the last engine that died of its own
    engine.sock     the control socket

It belongs on a tmpfs (/run): it is written from the engine's loop. Nothing in it is needed to go on; when it cannot be
written the engine says so once and goes on without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct, field

from holdfast_api.errors import UNDECODABLE
from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import Reason, State
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.engine.state import PublishedRouter, PublishedState
from holdfast_speaker.host import clock
from holdfast_speaker.host.log import Log
from holdfast_speaker.vrrp.instants import Instant

Document = TypeVar("Document", bound=Struct)

_FIRST_REASONS = frozenset(
    {
        Reason.STARTED,
        Reason.LINK_UP,
        Reason.SERVICE_RECOVERED,
        Reason.OBSTACLE_GONE,
        Reason.ADDRESS_OWNER,
        Reason.NO_MASTER_HEARD,
        Reason.MASTER_SILENT,
        Reason.MASTER_RELEASED,
        Reason.MASTER_FAILING,
        Reason.MASTER_STEPPED_ASIDE,
        Reason.HIGHER_PRIORITY,
        Reason.SWITCHOVER,
        Reason.HEALTHIER_MASTER,
        Reason.HIGHER_ADDRESS,
        Reason.SUPERSEDED_WHILE_STALLED,
        Reason.LINK_DOWN,
        Reason.INTERFACE_MISSING,
        Reason.NO_SOURCE_ADDRESS,
        Reason.SERVICE_FAILED,
        Reason.ADDRESS_IN_USE,
        Reason.VIRTUAL_ROUTER_ID_IN_USE,
        Reason.KERNEL_REFUSED,
        Reason.REMOVED,
        Reason.STOPPED,
    }
)
"""What the first version knows. It reads nothing of a state in which any other stands."""


class _StateFile(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """state.json: a PublishedState, written so that every version reads it, the first one too."""

    node_name: str
    pid: int
    routers: list[Raw] = field(default_factory=list)
    """Without Reasons that the first version does not know."""
    exact: list[Raw] = field(default_factory=list)
    """Those among `routers` that are not whole because of that."""
    handed_over_at: int = 0
    """This and every `recovered_at` are on CLOCK_MONOTONIC, as the first version has them."""
    suspended: int | None = None
    """How much later it was on CLOCK_BOOTTIME, in nanoseconds; None: the first version wrote this."""
    boot: str = ""
    version: int = 1


class _Essence(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """What a router cannot go on without, of one that a later version described in words that are not known here."""

    virtual_ip: str
    state: State
    addresses: list[str]
    since: str = ""
    moves: int = 0


def _configuration(content: bytes) -> SpeakerConfiguration:
    """All of it that is known here: a later version may have left more. Raises what UNDECODABLE names."""
    try:
        return _CONFIGURATIONS.decode(content)
    except msgspec.ValidationError:
        known = _known_fields(msgspec.json.decode(content), SpeakerConfiguration)
        routers = known.get("virtualRouters")
        if isinstance(routers, list):
            known["virtualRouters"] = [_known_fields(router, VirtualRouterConfiguration) for router in routers]
        return msgspec.convert(known, SpeakerConfiguration)


def _known_fields(document: object, kind: type[Struct]) -> dict[str, object]:
    names = {item.encode_name for item in msgspec.structs.fields(kind)}
    return {name: value for name, value in document.items() if name in names} if isinstance(document, dict) else {}


def _to_file(state: PublishedState) -> _StateFile:
    suspended = clock.suspended()
    routers = [_on_another_clock(router, -suspended) for router in state.routers]
    known = [_as_the_first_version_knows_it(router) for router in routers]
    return _StateFile(
        node_name=state.node_name,
        pid=state.pid,
        routers=[Raw(_ENCODER.encode(router)) for router in known],
        exact=[Raw(_ENCODER.encode(whole)) for whole, part in zip(routers, known, strict=True) if whole != part],
        handed_over_at=state.handed_over_at - suspended if state.handed_over_at else 0,
        suspended=suspended,
        boot=state.boot,
        version=state.version,
    )


def _from_file(content: bytes) -> PublishedState:
    """Raises what UNDECODABLE names."""
    found = _STATE_FILES.decode(content)
    suspended = clock.suspended() if found.suspended is None else found.suspended
    routers = {router.virtual_ip: router for router in map(_router, found.routers)}
    for content in found.exact:
        with contextlib.suppress(*UNDECODABLE):
            whole = _ROUTERS.decode(content)
            routers[whole.virtual_ip] = whole
    return PublishedState(
        node_name=found.node_name,
        pid=found.pid,
        routers=[_on_another_clock(router, suspended) for router in routers.values()],
        handed_over_at=found.handed_over_at + suspended if found.handed_over_at else 0,
        boot=found.boot,
        version=found.version,
    )


def _router(content: Raw) -> PublishedRouter:
    try:
        return _ROUTERS.decode(content)
    except UNDECODABLE:
        essence = _ESSENCES.decode(content)
    return PublishedRouter(
        virtual_ip=essence.virtual_ip,
        state=essence.state,
        since=essence.since,
        reason=None,
        addresses=essence.addresses,
        moves=essence.moves,
    )


def _on_another_clock(router: PublishedRouter, later: int) -> PublishedRouter:
    if router.recovered_at is None:
        return router
    return msgspec.structs.replace(router, recovered_at=Instant(router.recovered_at + later))


def _as_the_first_version_knows_it(router: PublishedRouter) -> PublishedRouter:
    reason = router.reason if router.reason in _FIRST_REASONS else None
    history = [transition for transition in router.history if transition.reason in _FIRST_REASONS]
    return msgspec.structs.replace(router, reason=reason, history=history)


_CONFIGURATIONS = msgspec.json.Decoder(SpeakerConfiguration)
_STATE_FILES = msgspec.json.Decoder(_StateFile)
_ROUTERS = msgspec.json.Decoder(PublishedRouter)
_ESSENCES = msgspec.json.Decoder(_Essence)
_ENCODER = msgspec.json.Encoder()
"""Made once, in the keeper: they take longer to make than to use."""


def published_state(state_directory: Path) -> PublishedState | None:
    """What the last engine of a state directory published, for whoever only looks; None where that cannot be read."""
    try:
        return _from_file((state_directory / "state.json").read_bytes())
    except (OSError, *UNDECODABLE):
        return None


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

    def acquire_lock(self) -> bool:
        """Wait until no other engine runs on this state directory; without lock files, go on. Whether another one did.

        Whoever waits holds the file `successor`, so that the live engine knows that it can hand over.
        """
        successor = self._open("successor")
        lock = self._open("lock")
        if successor is None or lock is None:
            return False
        waited = False
        try:
            if not _lock_at_once(successor) or not _lock_at_once(lock):
                holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
                told = f"another engine (process {holder}) runs on {self._path}; waiting until it ends"
                self._log.info(told, waiting=True)
                waited = True
                fcntl.flock(successor, fcntl.LOCK_EX)
                fcntl.flock(lock, fcntl.LOCK_EX)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        except OSError as error:
            self._warn("lock", error)
        os.close(successor)
        return waited

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
        return self._load("config.json", _configuration)

    def save_configuration(self, configuration: SpeakerConfiguration) -> None:
        """Keep the last good configuration for an engine that starts when nobody is there to tell it."""
        self._save("config.json", configuration)

    def load_state(self) -> PublishedState | None:
        """What the last engine published; None where there is none or it is not readable."""
        return self._load("state.json", _from_file)

    def published_routers(self) -> list[PublishedRouter]:
        """Those of the last published state; none where there is none."""
        state = self.load_state()
        return state.routers if state else []

    def publish(self, state: PublishedState) -> bool:
        """Keep the state for the next engine, and for whoever looks. Returns whether it was written.

        A successor on this machine reads it from the page cache, and one after a crash of the machine has no use for
        it: so nothing waits for a disk (fsync(2)).
        """
        return self._save("state.json", _to_file(state))

    def keep_traceback(self, text: str) -> None:
        """Keep what an engine died of: the last one of its own assertions."""
        try:
            (self._path / "last-crash.txt").write_bytes(text.encode(errors="backslashreplace"))
        except OSError as error:
            self._warn("last-crash.txt", error)

    def _load(self, name: str, decode: Callable[[bytes], Document]) -> Document | None:
        try:
            return decode((self._path / name).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(name, error, "read")
        except UNDECODABLE as error:
            self._log.warning(f"{self._path / name} is ignored: {error}")
            self._refused.add(f"{name} was not readable at the start and is ignored")
        return None

    def _save(self, name: str, document: Struct) -> bool:
        part = self._path / f".{name}.part"
        try:
            part.touch(mode=0o600)  # a configuration may hold a VRRPv2 password
            part.write_bytes(_ENCODER.encode(document) + b"\n")
            part.replace(self._path / name)
        except OSError as error:
            self._warn(name, error)
            return False
        self._refused = {refusal for refusal in self._refused if not refusal.startswith(f"{name} cannot")}
        return True

    def _warn(self, name: str, error: OSError, doing: str = "written") -> None:
        refusal = f"{name} cannot be {doing}: {error.strerror}"
        if refusal not in self._refused:
            self._log.warning(f"{self._path}: {refusal}; going on without it")
            self._refused.add(refusal)


def _lock_at_once(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
