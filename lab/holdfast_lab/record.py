"""What a lab made, on disk: written before each thing is made, so that `lab down` finds it whatever happened since."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, field

from holdfast_api.errors import UNDECODABLE, ConfigurationError, EnvironmentFailure
from holdfast_lab.processes import ProcessIdentity

LABS_FOLDER = Path("/run/holdfast-lab")
"""On a tmpfs: the record goes with the machine's namespaces when it reboots."""

DEFAULT_NAME = "lab"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class Software(enum.StrEnum):
    """What keeps the VIPs on a lab's hosts."""

    HOLDFAST = "Holdfast"
    KEEPALIVED = "Keepalived"


class Failure(enum.StrEnum):
    """The ways in which a host of the lab can fail."""

    POWER = "power"
    FREEZE = "freeze"
    SERVICE = "service"
    LINK = "link"
    PARTITION = "partition"


class HostRecord(Struct, kw_only=True):
    """One host of a lab, or its client."""

    name: str
    namespace: str
    port: str
    """The name of the switch's end of the host's link."""
    mac_address: str
    addresses: list[str]
    """With prefix length."""
    files: list[str] = field(default_factory=list)
    """What its software is configured from, absolute paths."""
    software: Software = Software.HOLDFAST
    service: ProcessIdentity | None = None
    router: ProcessIdentity | None = None
    failures: list[Failure] = field(default_factory=list)


class LabRecord(Struct, kw_only=True):
    """One lab."""

    name: str
    interface: str
    """The name of every host's one interface."""
    virtual_ips: list[str]
    """namespace/name, in the order of the documents."""
    virtual_addresses: list[str]
    """Without prefix length, in the order of the documents."""
    ports: list[int]
    """What each host's service listens on."""
    probed_ports: list[int]
    """Those of them that a probe of some VirtualIP looks at."""
    hosts: list[HostRecord]
    client: HostRecord
    namespaces: list[str] = field(default_factory=list)
    """Recorded before they are made; one may not have been made."""
    owner: ProcessIdentity | None = None
    """The process that plays with this lab and takes it down at its end; None for a lab that stays."""

    def host(self, name: str) -> HostRecord:
        """The host (or client) of that name; ConfigurationError when there is none."""
        for host in (*self.hosts, self.client):
            if host.name == name:
                return host
        known = ", ".join(host.name for host in (*self.hosts, self.client))
        raise ConfigurationError(f"lab {self.name} has no such host: it has {known}", field=name)


def check_name(name: str) -> str:
    """The name, if a lab can be called so (it becomes part of names of folders and namespaces); ConfigurationError."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            "must be 1 to 32 lower case letters, digits and dashes, with no dash at either end", field=f"--name {name}"
        )
    return name


def namespace_name(lab: str, member: str) -> str:
    """The name of the network namespace of one member of a lab: a host, `client` or `switch`."""
    return f"holdfast-lab-{lab}-{member}"


class LabStore:
    """The folder of one lab, /run/holdfast-lab/NAME: its record, and per host its logs and state directory."""

    def __init__(self, name: str, labs_folder: Path = LABS_FOLDER) -> None:
        """Raises ConfigurationError when no lab can have this name."""
        self.name = check_name(name)
        self._labs_folder = labs_folder
        self.folder = labs_folder / name

    @property
    def _file(self) -> Path:
        return self.folder / "lab.json"

    def host_folder(self, host: str) -> Path:
        """Where a host's logs and state are."""
        return self.folder / host

    def state_directory(self, host: str) -> Path:
        """The host's /run/holdfast: empty after each boot."""
        return self.host_folder(host) / "state"

    @contextlib.contextmanager
    def lock_all(self) -> Iterator[None]:
        """Held while a lab is made or taken down, so that two commands do not at once; waits for the other.

        Raises EnvironmentFailure when the folder of labs cannot be made.
        """
        try:
            self._labs_folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentFailure(f"{self._labs_folder}: cannot be made: {error.strerror}") from error
        with _locked(self._labs_folder):
            yield

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a command changes something in this lab; waits for another that does.

        Raises ConfigurationError when there is no such lab.
        """
        self.load()
        with _locked(self.folder):
            yield

    def exists(self) -> bool:
        """Whether this lab is up, or was begun and not taken down."""
        return self._file.exists()

    def load(self) -> LabRecord:
        """The record; ConfigurationError when there is no such lab, EnvironmentFailure when it cannot be understood."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=LabRecord)
        except FileNotFoundError:
            hint = f" --name {self.name}" if self.name != DEFAULT_NAME else ""
            raise ConfigurationError(f"no lab {self.name} is up: `holdfast lab up FILE{hint}` makes one") from None
        except UNDECODABLE as error:
            raise EnvironmentFailure(f"{self._file}: is no record of a lab: {error}") from error

    def save(self, record: LabRecord) -> None:
        """Write the record, at once or not at all; EnvironmentFailure when the disk refuses."""
        temporary = self._file.with_suffix(".new")
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
            temporary.replace(self._file)
        except OSError as error:
            raise EnvironmentFailure(f"{self._file}: cannot be written: {error.strerror}") from error

    def remove(self) -> None:
        """Remove the lab's folder, the record last; nothing happens when it is not there."""
        if not self.folder.exists():
            return
        for entry in self.folder.iterdir():
            if entry == self._file:
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        self._file.unlink(missing_ok=True)
        self.folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def existing_labs(labs_folder: Path = LABS_FOLDER) -> list[str]:
    """The names of the labs on this machine."""
    return sorted(file.parent.name for file in labs_folder.glob("*/lab.json"))
