"""A lab as it is now: what failed, what runs, what each host's Holdfast says, and who really has the addresses."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

import msgspec

from holdfast_api.messages import RouterStatus, Status
from holdfast_lab import processes
from holdfast_lab.actions import addresses_of
from holdfast_lab.lab import Lab, holdfast_command
from holdfast_lab.record import Failure, HostRecord, Software

_STATUS_TIMEOUT_SECONDS = 5
_MUTE = {Failure.POWER, Failure.FREEZE}
_FAILED = {
    Failure.POWER: "off",
    Failure.FREEZE: "frozen",
    Failure.LINK: "link cut",
    Failure.PARTITION: "partitioned",
}


@dataclass(frozen=True, slots=True)
class HostState:
    """One host as it is now."""

    name: str
    condition: str
    """`up`, or what failed of it."""
    service: str
    routers: tuple[RouterStatus, ...]
    """What its Holdfast says; nothing when it cannot be asked (off, frozen, not running, or another software)."""
    has: tuple[str, ...]
    """The virtual addresses that are on its interface."""


def states(lab: Lab) -> list[HostState]:
    """Every host of the lab. EnvironmentFailure when its kernel's addresses cannot be read."""
    asked = {host.name: _ask(lab, host) for host in lab.record.hosts}
    return [_state(lab, host, asked[host.name]) for host in lab.record.hosts]


def _state(lab: Lab, host: HostRecord, asked: subprocess.Popen[bytes] | None) -> HostState:
    present = addresses_of(host.namespace, lab.record.interface)
    failed = [_FAILED[failure] for failure in host.failures if failure in _FAILED]
    is_down = not processes.is_running(host.router) and Failure.POWER not in host.failures
    return HostState(
        name=host.name,
        condition=", ".join([*failed, *(["not running"] if is_down else [])]) or "up",
        service="up" if processes.is_running(host.service) else "down",
        routers=_answer(asked),
        has=tuple(address for address in lab.record.virtual_addresses if address in present),
    )


def _ask(lab: Lab, host: HostRecord) -> subprocess.Popen[bytes] | None:
    if host.software is not Software.HOLDFAST or _MUTE & set(host.failures):
        return None
    state = str(lab.store.state_directory(host.name))
    return subprocess.Popen(
        holdfast_command("status", "--state-dir", state, "-o", "json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _answer(asked: subprocess.Popen[bytes] | None) -> tuple[RouterStatus, ...]:
    if asked is None:
        return ()
    with asked:
        try:
            output, _ = asked.communicate(timeout=_STATUS_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            asked.kill()
            return ()
    if asked.returncode != 0:
        return ()
    return tuple(msgspec.json.decode(output, type=Status).routers)
