"""A lab's life: made, failed, healed, taken down. Every thing made is in the record before it is made."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from holdfast_api.errors import ConfigurationError, EnvironmentFailure
from holdfast_lab import network, processes
from holdfast_lab.actions import addresses_of, remove_namespace
from holdfast_lab.namespaces import inside, namespace_path
from holdfast_lab.plan import SWITCH, HostPlan, LabPlan
from holdfast_lab.processes import ProcessIdentity
from holdfast_lab.record import Failure, HostRecord, LabRecord, LabStore, Software, namespace_name

_GRACE_SECONDS = 2.0
_START_SECONDS = 20.0


def holdfast_command(*arguments: str) -> list[str]:
    """The command line that runs `holdfast` with the interpreter and the packages of this process."""
    return [sys.executable, "-P", "-m", "holdfast_cli.main", *arguments]


class Lab:
    """One lab that is up."""

    def __init__(self, store: LabStore, record: LabRecord) -> None:
        self.store = store
        self.record = record
        self._switch = namespace_name(record.name, SWITCH)

    @classmethod
    def open(cls, name: str) -> Lab:
        """The lab of that name; ConfigurationError when none is up."""
        store = LabStore(name)
        return cls(store, store.load())

    @classmethod
    def create(
        cls,
        name: str,
        plan: LabPlan,
        files: Callable[[str], list[Path]],
        *,
        keepalived_on: Collection[str] = (),
        owner: ProcessIdentity | None = None,
    ) -> Lab:
        """Make the lab and start everything on its hosts; `files` tells what each host's software is configured from.

        That is Holdfast but on the hosts of `keepalived_on`. When something fails, what was made is taken down again.

        Raises ConfigurationError when a lab of that name is there, EnvironmentFailure when the machine refuses.
        """
        network.require_means()
        store = LabStore(name)
        with store.lock_all():
            if store.exists():
                raise ConfigurationError(
                    f"a lab of this name is up already: `holdfast lab down --name {name}` removes it",
                    field=f"lab {name}",
                )
            record = _new_record(name, plan, files, keepalived_on, owner)
            for namespace in (host.namespace for host in (*record.hosts, record.client)):
                _require_absent(namespace)
            _require_absent(namespace_name(name, SWITCH))
            lab = cls(store, record)
            try:
                lab._make()
            except BaseException:
                lab._take_down()
                raise
        return lab

    def _make(self) -> None:
        record = self.record
        self._make_namespace(self._switch, is_switch=True)
        network.make_switch(self._switch)
        for host in (*record.hosts, record.client):
            self._make_namespace(host.namespace, is_switch=False)
            network.connect(self._switch, host, record.interface, is_client=host is record.client)
        for host in record.hosts:
            self._start_service(host)
        # One after the other: the first host is the first to hold, which priorities milliseconds apart do not decide.
        for host in record.hosts:
            self._start_router(host)
            if host.software is Software.HOLDFAST:
                self._await_engine(host)
            if host is record.hosts[0] and len({other.software for other in record.hosts}) > 1:
                self._await_address(host)  # keepalived listens for a shorter time before it takes what nobody holds

    def _make_namespace(self, namespace: str, *, is_switch: bool) -> None:
        self.record.namespaces.append(namespace)
        self.store.save(self.record)
        network.make_namespace(namespace, is_switch=is_switch)

    def inside(self, member: str, command: list[str]) -> list[str]:
        """The command line that runs a command on a host or the client; ConfigurationError for no such member."""
        return inside(self.record.host(member).namespace, command)

    def log(self, host: str) -> Path:
        """The file with everything that the host's VRRP software printed."""
        return self.store.host_folder(host) / "router.log"

    def spawn(self, member: str, command: list[str], log: Path, *, ready: bool) -> ProcessIdentity:
        """Start a program that stays, on a host or the client; EnvironmentFailure when it does not start."""
        log.parent.mkdir(parents=True, exist_ok=True)
        return processes.spawn(self.inside(member, command), output=log, ready=ready, environment=dict(os.environ))

    def _start_service(self, host: HostRecord) -> None:
        ports = [str(port) for port in self.record.ports]
        command = [sys.executable, "-P", "-m", "holdfast_lab.service", host.name, *ports]
        host.service = self.spawn(host.name, command, self.store.host_folder(host.name) / "service.log", ready=True)
        self.store.save(self.record)

    def _start_router(self, host: HostRecord) -> None:
        state = self.store.state_directory(host.name)
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        host.router = self.spawn(host.name, self._router_command(host, state), self.log(host.name), ready=False)
        self.store.save(self.record)

    def _await_engine(self, host: HostRecord) -> None:
        socket = self.store.state_directory(host.name) / "engine.sock"
        deadline = time.monotonic() + _START_SECONDS
        while not socket.exists():
            if not processes.is_running(host.router) or time.monotonic() > deadline:
                raise EnvironmentFailure(f"{host.name}: holdfast run does not run: {self.last_words(host.name)}")
            time.sleep(0.02)

    def _await_address(self, host: HostRecord) -> None:
        deadline = time.monotonic() + _START_SECONDS
        sought = set(self.record.virtual_addresses)
        while not sought & addresses_of(host.namespace, self.record.interface):
            if time.monotonic() > deadline:
                raise EnvironmentFailure(f"{host.name}: did not take the VIP: {self.last_words(host.name)}")
            time.sleep(0.05)

    def last_words(self, host: str) -> str:
        """The last line that the host's VRRP software printed."""
        lines = self.log(host).read_text(errors="replace").splitlines() if self.log(host).exists() else []
        return lines[-1] if lines else "it printed nothing"

    def _router_command(self, host: HostRecord, state: Path) -> list[str]:
        if host.software is Software.KEEPALIVED:
            pid_files = ["-p", str(state / "keepalived.pid"), "-r", str(state / "vrrp.pid")]
            return ["keepalived", "-n", "-l", "-D", "-f", host.files[0], *pid_files]
        files = [argument for file in host.files for argument in ("-f", file)]
        return holdfast_command(
            "run", *files, "--node-name", host.name, "--interface", self.record.interface,
            "--state-dir", str(state), "--log-format", "json", "--journal",
        )  # fmt: skip

    def fail(self, host_name: str, kind: Failure) -> bool:
        """Let a host fail; False when it has failed like that already.

        Raises ConfigurationError when this host cannot fail like that, EnvironmentFailure when the machine refuses.
        """
        with self._changing(host_name) as host:
            if kind in host.failures:
                return False
            if Failure.POWER in host.failures:
                raise ConfigurationError(f"is powered off: `holdfast lab heal {host_name}` first", field=host_name)
            match kind:
                case Failure.POWER:
                    self._power_off(host)
                case Failure.FREEZE:
                    self._freeze(host)
                case Failure.SERVICE:
                    self._fail_service(host)
                case Failure.LINK:
                    network.cut_link(self._switch, host)
                case Failure.PARTITION:
                    network.partition(self._switch, host)
            host.failures.append(kind)
        return True

    def _power_off(self, host: HostRecord) -> None:
        # Off the network first: a process that sees another die must not get a last word out.
        network.unplug(self._switch, host)
        processes.end_namespace_members(namespace_path(host.namespace))
        network.take_down(host, self.record.interface)
        host.router = host.service = None

    def _freeze(self, host: HostRecord) -> None:
        if host.router is None or not processes.stop_tree(host.router):
            raise EnvironmentFailure(f"{host.name}: nothing runs that could freeze: see {self.log(host.name)}")

    def _fail_service(self, host: HostRecord) -> None:
        if not self.record.probed_ports:
            raise ConfigurationError(
                "no probe of these VirtualIPs looks at the service (tcpSocket, httpGet, or exec of 127.0.0.1:PORT)",
                field="--kind service",
            )
        if host.service is not None:
            processes.end_tree(host.service)
        host.service = None

    def heal(self, host_name: str) -> list[Failure]:
        """Undo every failure of a host, and start again what is not running; the failures that there were.

        A host that was powered off boots: nothing of before is in its memory, nor in its state directory.
        """
        with self._changing(host_name) as host:
            healed = list(host.failures)
            if Failure.PARTITION in healed:
                network.rejoin(self._switch, host)
            if Failure.POWER in healed:
                network.plug_in(self._switch, host)
                network.bring_up(host, self.record.interface)
            network.join_link(self._switch, host)
            if host.router is not None:
                processes.continue_tree(host.router)
            host.failures.clear()
            if not processes.is_running(host.service):
                self._start_service(host)
            if not processes.is_running(host.router):
                self._start_router(host)
        return healed

    def stop_router(self, host_name: str) -> None:
        """End a host's VRRP software as its service manager would: SIGTERM, and SIGKILL when that does not help."""
        with self._changing(host_name) as host:
            if host.router is None:
                return
            processes.send_signal(host.router, signal.SIGTERM)
            if not processes.wait_until_gone(host.router, _GRACE_SECONDS):
                processes.end_tree(host.router)
            host.router = None

    @contextlib.contextmanager
    def _changing(self, host_name: str) -> Iterator[HostRecord]:
        """The host, with the lab locked and its record as it is now; what was changed of it is saved."""
        with self.store.lock():
            self.record = self.store.load()
            host = self.record.host(host_name)
            if host is self.record.client:
                raise ConfigurationError("the client cannot fail, it is there to watch", field=host_name)
            yield host
            self.store.save(self.record)

    def down(self) -> None:
        """Take the lab down: its processes, its namespaces with all links, its folder. Nothing else is touched."""
        with self.store.lock_all(), self.store.lock():
            self._take_down()

    def _take_down(self) -> None:
        record = self.record
        for namespace in record.namespaces:
            processes.end_namespace_members(namespace_path(namespace))
        for namespace in record.namespaces:
            remove_namespace(namespace)
        self.store.remove()


def _new_record(
    name: str,
    plan: LabPlan,
    files: Callable[[str], list[Path]],
    keepalived_on: Collection[str],
    owner: ProcessIdentity | None,
) -> LabRecord:
    def host(number: int, planned: HostPlan) -> HostRecord:
        return HostRecord(
            name=planned.name,
            namespace=namespace_name(name, planned.name),
            port=f"port{number}",
            mac_address=planned.mac_address,
            addresses=list(planned.addresses),
            software=Software.KEEPALIVED if planned.name in keepalived_on else Software.HOLDFAST,
        )

    hosts = [host(number, planned) for number, planned in enumerate(plan.hosts, start=1)]
    for made in hosts:
        made.files = [str(file.resolve()) for file in files(made.name)]
    return LabRecord(
        name=name,
        interface=plan.interface,
        virtual_ips=list(plan.virtual_ips),
        virtual_addresses=list(plan.virtual_addresses),
        ports=list(plan.ports),
        probed_ports=list(plan.probed_ports),
        hosts=hosts,
        client=host(0, plan.client),
        owner=owner,
    )


def _require_absent(namespace: str) -> None:
    if namespace_path(namespace).exists():
        raise EnvironmentFailure(
            f"network namespace {namespace} is there already, and no lab that is up made it: "
            f"`ip netns delete {namespace}` removes it"
        )
