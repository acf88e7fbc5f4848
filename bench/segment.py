"""Two hosts and a client on one switch, each in a network namespace; every segment is one program's alone."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from bench.configurations import PREFIX_LENGTH, PRIORITIES, virtual_address
from bench.sniffer import Sniffer

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab import network, processes
from holdfast_lab.actions import remove_namespace
from holdfast_lab.evidence import Evidence, Measurement
from holdfast_lab.namespaces import inside, namespace_path
from holdfast_lab.prober import INTERVAL_NS
from holdfast_lab.processes import ProcessIdentity
from holdfast_lab.record import HostRecord

INTERFACE = "eth0"
_CLIENT_ADDRESS = "10.78.0.100"
_SETTLING_NS = 30 * INTERVAL_NS


def eventually(look: Callable[[], object], what: str, within_seconds: float = 20.0) -> None:
    """Wait until `look` gives something true; EnvironmentFailure, which names it, when that does not come."""
    deadline = time.monotonic() + within_seconds
    while not look():
        if time.monotonic() > deadline:
            raise EnvironmentFailure(f"not within {within_seconds:g} s: {what}")
        time.sleep(0.01)


def _host(prefix: str, name: str, number: int) -> HostRecord:
    return HostRecord(
        name=name,
        namespace=f"{prefix}-{name}",
        port=f"port{number}",
        mac_address=f"02:68:66:00:01:{number:02x}",
        addresses=[f"10.78.0.{number}/{PREFIX_LENGTH}"],
    )


class Segment:
    """A context manager: what it made, and every process in it, is gone at its end. Needs root."""

    def __init__(self, name: str, folder: Path, *, probes: bool) -> None:
        """With `probes` the client asks the first VIP once a millisecond. EnvironmentFailure when refused."""
        prefix = f"holdfast-bench-{os.getpid()}-{name}"
        self.name = name
        self.folder = folder / name
        self.hosts = {host: _host(prefix, host, number) for number, host in enumerate(PRIORITIES, start=11)}
        self._client = _host(prefix, "client", 100)
        self._switch = f"{prefix}-switch"
        self._evidence: Evidence | None = None
        self._sniffer: Sniffer | None = None
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            self._make(probes=probes)
        except BaseException:
            self.close()
            raise

    def _make(self, *, probes: bool) -> None:
        network.make_namespace(self._switch, is_switch=True)
        network.make_switch(self._switch)
        for host in (*self.hosts.values(), self._client):
            network.make_namespace(host.namespace, is_switch=False)
            network.connect(self._switch, host, INTERFACE, is_client=host is self._client)
        self._sniffer = Sniffer(self._client.namespace, _CLIENT_ADDRESS)
        if probes:
            file = self.folder / "probes"
            macs = [host.mac_address for host in self.hosts.values()]
            command = [sys.executable, "-P", "-m", "holdfast_lab.prober", virtual_address(1), INTERFACE, str(file)]
            self.spawn(self._client, [*command, *macs], self.folder / "prober.log", ready=True)
            self._evidence = Evidence(file, list(self.hosts))

    @property
    def sniffer(self) -> Sniffer:
        """The client's ear for advertisements."""
        if self._sniffer is None:
            raise AssertionError("this segment is closed")
        return self._sniffer

    @property
    def evidence(self) -> Evidence:
        """What the client's probes saw."""
        if self._evidence is None:
            raise AssertionError("this segment has no probes")
        return self._evidence

    def address(self, host: str) -> str:
        """A host's own address."""
        return self.hosts[host].addresses[0].partition("/")[0]

    def spawn(self, host: HostRecord, command: list[str], log: Path, *, ready: bool = False) -> ProcessIdentity:
        """Start a program on a host; what it says is added to `log`."""
        words = inside(host.namespace, command)
        return processes.spawn(words, output=log, ready=ready, environment=dict(os.environ))

    def holder(self) -> str | None:
        """Who answered the client's latest probes; None when nobody does."""
        now = time.monotonic_ns()
        return self.evidence.measure(now - 60 * INTERVAL_NS, now - 5 * INTERVAL_NS).holder

    def measure(self, start_ns: int) -> Measurement:
        """What the client saw since then, each probe answered or given up."""
        end = time.monotonic_ns() - _SETTLING_NS
        self.evidence.settle(start_ns, end)
        return self.evidence.measure(start_ns, end)

    def power_off(self, host: str) -> int:
        """Cut a host off and kill everything on it; CLOCK_MONOTONIC when nothing of it gets out any more."""
        record = self.hosts[host]
        network.unplug(self._switch, record)
        off = time.monotonic_ns()
        processes.end_namespace_members(namespace_path(record.namespace))
        network.take_down(record, INTERFACE)
        return off

    def reset(self) -> None:
        """Both hosts as after a boot: nothing runs on them, and nothing is left of what did."""
        for host in self.hosts.values():
            processes.end_namespace_members(namespace_path(host.namespace))
            shutil.rmtree(self.folder / host.name, ignore_errors=True)
            network.take_down(host, INTERFACE)
            network.plug_in(self._switch, host)
            network.bring_up(host, INTERFACE)
        self.sniffer.forget()

    def close(self) -> None:
        """End what runs here and remove the namespaces, as far as they were made."""
        if self._evidence is not None:
            self._evidence.close()
        if self._sniffer is not None:
            self._sniffer.close()
        namespaces = [self._switch, *(host.namespace for host in (*self.hosts.values(), self._client))]
        for namespace in namespaces:
            processes.end_namespace_members(namespace_path(namespace))
        for namespace in namespaces:
            remove_namespace(namespace)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
