"""A lab with an observer: a client that probes the VIP, a watch on the hosts' kernels, and an eye on their logs."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab.evidence import Evidence
from holdfast_lab.happenings import Happening, Kind, LogTail
from holdfast_lab.lab import Lab, holdfast_command
from holdfast_lab.plan import CLIENT
from holdfast_lab.prober import INTERVAL_NS
from holdfast_lab.record import Failure, HostRecord, Software
from holdfast_lab.watch import AddressChange, AddressWatch, Overrun

_NOTICED_NS = 50_000_000
"""A silence that the client tells of in the timeline."""

_FAILED = {
    Failure.POWER: "power off",
    Failure.FREEZE: "{software} frozen (SIGSTOP)",
    Failure.SERVICE: "the service fails",
    Failure.LINK: "the link is cut",
    Failure.PARTITION: "cut off from the other hosts",
}
_HEALED = {
    Failure.POWER: "power on",
    Failure.FREEZE: "{software} thawed (SIGCONT)",
    Failure.SERVICE: "the service is back",
    Failure.LINK: "the link is back",
    Failure.PARTITION: "together with the other hosts again",
}
_ADDRESS_TEXTS = {True: "{} added", False: "{} gone"}


class Stage:
    """One lab on which scenes are played; ends with `close`, which leaves the lab up."""

    def __init__(self, lab: Lab) -> None:
        """Starts the prober of the lab's first VIP. EnvironmentFailure when it cannot be started."""
        self.lab = lab
        record = lab.record
        self.hosts = [host.name for host in record.hosts]
        self.address = record.virtual_addresses[0]
        self._runs = {host.name: host.software for host in record.hosts}
        # In the order of the hosts, each once.
        self.software = " and ".join(dict.fromkeys(map(_command_name, self._runs.values())))
        self.watch = AddressWatch({host.name: host.namespace for host in record.hosts})
        names = {address: host.name for host in record.hosts for address in _addresses(host)}
        self._tails = [LogTail(name, lab.log(name), self._runs[name], names) for name in self.hosts]
        probes = lab.store.folder / "probes"
        command = [sys.executable, "-P", "-m", "holdfast_lab.prober", self.address, record.interface, str(probes)]
        macs = [host.mac_address for host in record.hosts]
        lab.spawn(CLIENT, [*command, *macs], lab.store.folder / "prober.log", ready=True)
        self.evidence = Evidence(probes, self.hosts)
        self._clients_view = ClientsView(self.evidence)
        # Filled by whoever acts, which may be another thread.
        self._deeds: deque[Happening] = deque()

    def close(self) -> None:
        """Stop observing."""
        self.watch.close()
        self.evidence.close()

    def poll(self) -> list[Happening]:
        """What happened since the last call, in order of time."""
        happenings = [
            _told_by_kernel(news)
            for news in self.watch.poll()
            if isinstance(news, Overrun) or news.address in self.lab.record.virtual_addresses
        ]
        while self._deeds:
            happenings.append(self._deeds.popleft())
        for tail in self._tails:
            happenings.extend(tail.poll())
        happenings.extend(self._clients_view.poll())
        return sorted(happenings, key=lambda happening: happening.at_ns)

    def holder(self) -> str | None:
        """Who answers the client now; None when nobody does."""
        now = time.monotonic_ns()
        return self.evidence.measure(now - 200 * INTERVAL_NS, now - INTERVAL_NS).holder

    def fail(self, host: str, kind: Failure) -> None:
        """Let a host fail. Raises what Lab.fail raises."""
        self._tell(host, _FAILED[kind])
        self.lab.fail(host, kind)

    def heal(self, host: str) -> None:
        """Undo every failure of a host. Raises what Lab.heal raises."""
        for kind in self.lab.record.host(host).failures:
            self._tell(host, _HEALED[kind])
        self.lab.heal(host)

    def switch_over(self, to: str) -> None:
        """A planned move of every VIP to a host; keepalived has none, so its holder is stopped as for maintenance.

        Raises EnvironmentFailure when Holdfast refuses.
        """
        holder = self.holder()
        asked = to if self._runs[to] is Software.HOLDFAST else holder
        if asked is None:
            return
        if self._runs[asked] is Software.KEEPALIVED:
            self._tell(asked, "keepalived stopped (it knows no planned switchover)")
            self.lab.stop_router(asked)
            return
        state = str(self.lab.store.state_directory(asked))
        for virtual_ip in self.lab.record.virtual_ips:
            self._tell(asked, f"holdfast switchover {virtual_ip} --to {to}")
            _run(holdfast_command("switchover", virtual_ip, "--to", to, "--state-dir", state))

    def _tell(self, host: str, text: str) -> None:
        happening = Happening(
            time.monotonic_ns(), Kind.DONE, host, text.format(software=_command_name(self._runs[host]))
        )
        self._deeds.append(happening)


def _told_by_kernel(news: AddressChange | Overrun) -> Happening:
    if isinstance(news, Overrun):
        text = "its kernel told of more changes than could be read: its addresses were read anew"
    else:
        text = _ADDRESS_TEXTS[news.present].format(news.address)
    return Happening(news.at_ns, Kind.KERNEL, news.host, text)


def _command_name(software: Software) -> str:
    return "keepalived" if software is Software.KEEPALIVED else software.value


def _run(command: list[str]) -> None:
    finished = subprocess.run(command, text=True, capture_output=True, check=False)
    if finished.returncode != 0:
        said = " ".join(finished.stderr.split()) or f"exit status {finished.returncode}"
        raise EnvironmentFailure(f"`holdfast {command[4]}` failed: {said}")


def _addresses(host: HostRecord) -> list[str]:
    own = [str(ipaddress.ip_interface(address).ip) for address in host.addresses]
    return [*own, link_local_address(host.mac_address)]


def link_local_address(mac_address: str) -> str:
    """The IPv6 address that the kernel makes of a MAC address (RFC 4291 appendix A).

    >>> link_local_address("02:68:66:00:00:0b")
    'fe80::68:66ff:fe00:b'
    """
    octets = bytearray.fromhex(mac_address.replace(":", ""))
    octets[0] ^= 0x02
    identifier = bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


class ClientsView:
    """Silences and changes of who answers, as the probes come in."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._seen_ns = time.monotonic_ns()
        self._silent_since: int | None = None
        self._told_of_silence = True

    def poll(self) -> Iterator[Happening]:
        """What came to be noticed since the last call."""
        # Answers take some 0.1 ms; those of the last 20 ms may still be on their way.
        end = time.monotonic_ns() - 20 * INTERVAL_NS
        for stretch in self._evidence.stretches(self._seen_ns, end):
            if not stretch.answered:
                if self._silent_since is None:
                    self._silent_since, self._told_of_silence = stretch.start_ns, False
                continue
            silence = 0 if self._silent_since is None else stretch.start_ns - self._silent_since
            self._silent_since = None
            if silence >= _NOTICED_NS:
                text = f"{stretch.answered} answers, after {silence / 1e9:.2f} s of silence"
                yield Happening(stretch.start_ns, Kind.CLIENT, CLIENT, text)
            elif stretch.is_change:
                yield Happening(stretch.start_ns, Kind.CLIENT, CLIENT, f"{stretch.answered} answers")
        self._seen_ns = max(end, self._seen_ns)
        since = self._silent_since
        if since is not None and not self._told_of_silence and end - since >= _NOTICED_NS:
            self._told_of_silence = True
            yield Happening(since, Kind.CLIENT, CLIENT, "nobody answers")
