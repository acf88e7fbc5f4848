"""What can be done to the network of a namespace: each action as pyroute2 does it, and in the words of ip(8).

The words are what `holdfast lab -v` prints and what an error names. A test types them, and compares what comes of it.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab import namespaces

words_log = logging.getLogger("holdfast_lab.words")
"""Told, at level INFO, each command line that does what is being done, before it is done."""

_IFA_F_NODAD = 0x02  # linux/if_addr.h
_RT_SCOPE_UNIVERSE = 0  # linux/rtnetlink.h; ip(8) calls it global


class Action(Protocol):
    """One change of a namespace's network."""

    @property
    def words(self) -> str:
        """As one would type it after `ip -n NAMESPACE`."""

    def carry_out(self, kernel: IPRoute) -> None:
        """Do it. NetlinkError when the kernel refuses."""


def carry_out(namespace: str, *actions: Action) -> None:
    """Do this in a network namespace, one after the other; EnvironmentFailure, which names it, at the first refusal."""

    def work(kernel: IPRoute) -> None:
        for action in actions:
            command = f"ip -n {namespace} {action.words}"
            words_log.info(command)
            try:
                action.carry_out(kernel)
            except NetlinkError as error:
                raise EnvironmentFailure(f"`{command}` failed: {_reason(action, error)}") from error

    namespaces.with_rtnetlink(namespace, work)


def _reason(action: Action, error: NetlinkError) -> str:
    if error.code == errno.EPERM:
        return "this process lacks the capability CAP_NET_ADMIN (root in a container?)"
    if error.code == errno.EOPNOTSUPP and isinstance(action, AddBridge | AddCable):
        return (
            f"this kernel has no {action.kind}: `modprobe {action.kind}` loads it, where the kernel was built with it"
        )
    if error.code == errno.EEXIST:
        return "that is there already"
    said = str(error.args[1]) if len(error.args) > 1 else os.strerror(error.code)
    return said.strip()


def make_namespace(namespace: str, settings: dict[str, str]) -> None:
    """Make a network namespace with these sysctls, by path below /proc/sys/net; what the kernel has not is left out.

    Raises EnvironmentFailure when it cannot be made.
    """
    words_log.info(f"ip netns add {namespace}")
    namespaces.make_namespace(namespace)
    # /proc/sys/net shows the network namespace of who opens it, and a machine without IPv6 has no ipv6 there.
    known = {
        path: value
        for path, value in settings.items()
        if namespaces.run_inside(namespace, (Path("/proc/sys/net") / path).exists)
    }
    if known:
        pairs = " ".join(f"net.{path.replace('/', '.')}={value}" for path, value in known.items())
        words_log.info(f"ip netns exec {namespace} sysctl -qw {pairs}")
        namespaces.run_inside(namespace, _writer(known))


def _writer(settings: dict[str, str]) -> Callable[[], None]:
    def write() -> None:
        for path, value in settings.items():
            try:
                (Path("/proc/sys/net") / path).write_text(value)
            except OSError as error:
                raise EnvironmentFailure(f"/proc/sys/net/{path}: cannot be written: {error.strerror}") from error

    return write


def remove_namespace(namespace: str) -> None:
    """Remove a network namespace, with all links in it; nothing happens when it is not there."""
    if namespaces.namespace_path(namespace).exists():
        words_log.info(f"ip netns delete {namespace}")
        namespaces.remove_namespace(namespace)


def index_of(kernel: IPRoute, link: str) -> int:
    """The index of a link; NetlinkError (ENODEV) when there is none of that name."""
    return int(kernel.link("get", ifname=link)[0]["index"])


@dataclass(frozen=True, slots=True)
class AddBridge:
    """A bridge that forwards at once, up, and without snooping.

    Without a querier a bridge that snoops forgets who wants VRRP's group.
    """

    name: str
    kind = "bridge"

    @property
    def words(self) -> str:
        """As one would type it."""
        return f"link add {self.name} up type bridge stp_state 0 forward_delay 0 mcast_snooping 0"

    def carry_out(self, kernel: IPRoute) -> None:
        """Do it."""
        kernel.link(
            "add", ifname=self.name, kind=self.kind, state="up",
            br_stp_state=0, br_forward_delay=0, br_mcast_snooping=0,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class AddCable:
    """A veth pair, both ends down; the peer may be in another namespace, and have a MAC address that is given."""

    name: str
    peer: str
    peer_namespace: str | None = None
    peer_mac_address: str | None = None
    kind = "veth"

    @property
    def words(self) -> str:
        """As one would type it."""
        mac = f" address {self.peer_mac_address}" if self.peer_mac_address else ""
        there = f" netns {self.peer_namespace}" if self.peer_namespace else ""
        return f"link add {self.name} type veth peer name {self.peer}{mac}{there}"

    def carry_out(self, kernel: IPRoute) -> None:
        """Do it."""
        peer: dict[str, str | int] = {"ifname": self.peer}
        if self.peer_mac_address:
            peer["address"] = self.peer_mac_address
        with contextlib.ExitStack() as stack:
            if self.peer_namespace:
                there = stack.enter_context(namespaces.namespace_path(self.peer_namespace).open("rb"))
                peer["net_ns_fd"] = there.fileno()
            kernel.link("add", ifname=self.name, kind=self.kind, peer=peer)


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """A link goes, and of a veth pair the other end too."""

    name: str

    @property
    def words(self) -> str:
        """As one would type it."""
        return f"link delete {self.name}"

    def carry_out(self, kernel: IPRoute) -> None:
        """Do it."""
        kernel.link("del", index=index_of(kernel, self.name))


@dataclass(frozen=True, slots=True)
class SetState:
    """A link is switched on or off; the other end of a cable gets or loses its carrier."""

    name: str
    up: bool

    @property
    def words(self) -> str:
        """As one would type it."""
        return f"link set {self.name} {'up' if self.up else 'down'}"

    def carry_out(self, kernel: IPRoute) -> None:
        """Do it."""
        kernel.link("set", index=index_of(kernel, self.name), state="up" if self.up else "down")


@dataclass(frozen=True, slots=True)
class SetMaster:
    """A link becomes the port of a bridge, or of none."""

    name: str
    bridge: str | None

    @property
    def words(self) -> str:
        """As one would type it."""
        return f"link set {self.name} {'nomaster' if self.bridge is None else f'master {self.bridge}'}"

    def carry_out(self, kernel: IPRoute) -> None:
        """Do it."""
        master = 0 if self.bridge is None else index_of(kernel, self.bridge)
        kernel.link("set", index=index_of(kernel, self.name), master=master)


@dataclass(frozen=True, slots=True)
class Isolate:
    """A port of a bridge that forwards nothing to other isolated ports of it, nor they to it (bridge(8))."""

    port: str

    @property
    def words(self) -> str:
        """As one would type it."""
        return f"link set {self.port} type bridge_slave isolated on"

    def carry_out(self, kernel: IPRoute) -> None:
        """Do it."""
        kernel.brport("set", index=index_of(kernel, self.port), isolated=1)


@dataclass(frozen=True, slots=True)
class ForgetStations:
    """The bridge no longer knows who is behind one of its ports, and floods until it hears from them."""

    port: str

    @property
    def words(self) -> str:
        """As one would type it."""
        return f"link set {self.port} type bridge_slave fdb_flush"

    def carry_out(self, kernel: IPRoute) -> None:
        """Do it."""
        kernel.brport("set", index=index_of(kernel, self.port), flush=True)


@dataclass(frozen=True, slots=True)
class AddAddress:
    """An address, usable at once: no other host is asked whether it has it."""

    link: str
    address: str
    """With prefix length."""

    @property
    def words(self) -> str:
        """As one would type it."""
        return f"address add {self.address} dev {self.link}{' nodad' if ':' in self.address else ''}"

    def carry_out(self, kernel: IPRoute) -> None:
        """Do it."""
        interface = ipaddress.ip_interface(self.address)
        flags = {"flags": _IFA_F_NODAD} if interface.version == 6 else {}
        kernel.addr(
            "add", index=index_of(kernel, self.link), address=str(interface.ip),
            prefixlen=interface.network.prefixlen, **flags,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FlushAddresses:
    """Every address of a link goes, or every one but the link-local and loopback ones."""

    link: str
    only_global: bool = False

    @property
    def words(self) -> str:
        """As one would type it."""
        return f"address flush dev {self.link}{' scope global' if self.only_global else ''}"

    def carry_out(self, kernel: IPRoute) -> None:
        """Do it."""
        for message in address_messages(kernel, self.link):
            if self.only_global and message["scope"] != _RT_SCOPE_UNIVERSE:
                continue
            # pyroute2's own flush_addr gives up where the kernel took a secondary address together with its primary.
            _delete_address(kernel, message)


def _delete_address(kernel: IPRoute, message: Any) -> None:
    address = message.get("local") or message.get("address")
    try:
        kernel.addr("del", index=message["index"], address=address, prefixlen=message["prefixlen"])
    except NetlinkError as error:
        if error.code != errno.EADDRNOTAVAIL:
            raise


def addresses_of(namespace: str, link: str) -> set[str]:
    """The addresses on a link as the kernel has them, without prefix length; none when it has none.

    Raises EnvironmentFailure when there is no such namespace or link.
    """

    def work(kernel: IPRoute) -> set[str]:
        return {str(message.get("local") or message.get("address")) for message in address_messages(kernel, link)}

    try:
        return namespaces.with_rtnetlink(namespace, work)
    except NetlinkError as error:
        said = os.strerror(error.code)
        raise EnvironmentFailure(f"`ip -n {namespace} address show dev {link}` failed: {said}") from error


def address_messages(kernel: IPRoute, link: str) -> list[Any]:
    """What the kernel tells of each address of a link; NetlinkError (ENODEV) when there is no such link."""
    return list(kernel.get_addr(index=index_of(kernel, link)))
