"""The simulated kernel does what the real one does: the same operations on both, compared after each."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

import pytest

from holdfast_speaker.engine.frames import arp_request
from holdfast_speaker.engine.ports import (
    ADDRESS_PROTOCOL,
    ROUTE_METRIC,
    AddAddress,
    AddressAdded,
    AddressRemoved,
    AddRoute,
    Event,
    KernelAddress,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
    Listener,
    PortsClosed,
    RemoveAddress,
    RemoveRoute,
    Request,
)
from holdfast_speaker.host.closed_ports import CHECK_EVERY, ClosedPorts
from holdfast_speaker.host.failure import SystemCallFailure
from holdfast_speaker.host.netlink import MonitorSocket, RequestSocket
from holdfast_speaker.host.next_hops import NextHops
from holdfast_speaker.host.sockets import AnnouncementSocket, VRRPSocket
from holdfast_speaker.vrrp.actions import SendAdvertisement
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, MULTICAST_GROUP_V6
from holdfast_testing.namespaces import Namespace, Namespaces
from holdfast_testing.sim.interfaces import NODAD, NOPREFIXROUTE, TENTATIVE, Interface
from holdfast_testing.sim.kernel import LOOPBACK, SimulatedKernel
from holdfast_testing.sim.packet_filter import ICMP, ICMPV6, TCP, PacketFilter
from holdfast_testing.sim.routes import SCOPE_GLOBAL, SCOPE_HOST, SCOPE_LINK, Route
from holdfast_testing.sim.wire import SimulatedWire

pytestmark = pytest.mark.netns

PATIENCE_SECONDS = 8.0
"""The real kernel tells of carriers once a second only, and detects duplicates for up to two."""

COMPARED_FLAGS = 0x01 | 0x02 | 0x08 | 0x20 | 0x40 | 0x80 | 0x200
DESTINATIONS = (
    "10.9.0.50", "10.9.0.200", "10.8.0.50", "192.0.2.1", "172.16.0.1", "fd00::50", "fd01::50", "2001:db8::1",
)  # fmt: skip
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400
HEADER, ADDRESS, ROUTE, ATTRIBUTE = (
    struct.Struct("=IHHII"), struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI"), struct.Struct("=HH"),
)  # fmt: skip


def packed(text: str) -> bytes:
    return ip_address(text).packed


def attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def word(value: int) -> bytes:
    return struct.pack("=I", value)


def message(kind: int, flags: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, 0x5 | flags, 0, 0) + body


def family(address: bytes) -> int:
    return int(socket.AF_INET if len(address) == 4 else socket.AF_INET6)


def new_address(
    index: int, address: bytes, length: int, scope: int, flags: int, valid: int | None, preferred: int | None,
    protocol: int, mode: int,
) -> bytes:  # fmt: skip
    seconds = [0xFFFFFFFF if value is None else value for value in (preferred, valid)]
    body = ADDRESS.pack(family(address), length, 0, scope, index) + attribute(2, address) + attribute(1, address)
    body += attribute(6, struct.pack("=IIII", *seconds, 0, 0)) + attribute(8, word(flags))
    return message(20, CREATE | mode, body + (attribute(11, bytes((protocol,))) if protocol else b""))


def old_address(index: int, address: bytes, length: int) -> bytes:
    body = ADDRESS.pack(family(address), length, 0, 0, index) + attribute(2, address) + attribute(1, address)
    return message(21, 0, body)


def route_message(kind: int, flags: int, route: Route, expires: int | None, onlink: bool = False) -> bytes:
    v4 = len(route.network) == 4
    body = ROUTE.pack(
        family(route.network), route.prefix_length, 0, 0, 254, route.protocol, route.scope if v4 else 0, 1,
        4 if onlink else 0,
    )  # fmt: skip
    body += attribute(1, route.network) + attribute(4, word(route.index))
    for number, value in ((7, route.source), (5, route.gateway)):
        body += attribute(number, value) if value else b""
    body += attribute(6, word(route.metric)) if route.metric else b""
    return message(kind, flags, body + (attribute(23, word(expires)) if expires else b""))


class Twins:
    """A host twice: a network namespace with eth0 and eth1 on cables, and the model of it."""

    def __init__(self, namespaces: Namespaces, *, detects_duplicates: bool = False) -> None:
        self.now = Instant(1000 * SECOND)
        self.host, self.far = namespaces.add("host"), namespaces.add("far")
        self.model = SimulatedKernel(lambda: self.now)
        self.detects_duplicates = detects_duplicates
        self._far_sysctl("ipv6/conf/default/disable_ipv6", 1)
        for place in ("all", "default"):
            self._sysctl(f"ipv6/conf/{place}/accept_dad", int(detects_duplicates))
            self._sysctl(f"ipv4/conf/{place}/promote_secondaries", 0)
        with self.host.inside():
            self.monitor, self.requests, self.next_hops = MonitorSocket(), RequestSocket(), NextHops()
        self.done: list[str] = []
        self._other_ends: dict[int, str] = {}
        self._told: tuple[dict[int, Link], dict[int, Link]] = ({}, {})
        for name in ("eth0", "eth1"):
            self.add_cable(name)

    def close(self) -> None:
        self.monitor.close()
        self.requests.close()
        self.next_hops.close()

    def _sysctl(self, path: str, value: int) -> None:
        self.host.run(["sh", "-c", f"echo {value} >/proc/sys/net/{path}"])

    def _far_sysctl(self, path: str, value: int) -> None:
        self.far.run(["sh", "-c", f"echo {value} >/proc/sys/net/{path}"])

    # ----- links -----

    def _made(self, name: str, **kind: Any) -> None:
        index = self.host.index(name)
        self._other_ends[index] = f"far-{name}"
        self.model.add_link(name, self.host.mac(name), index=index, **kind)
        self.model.interfaces[index].detects_duplicates = self.detects_duplicates
        self._compare(f"add {name}")

    def add_cable(self, name: str, index: int | None = None) -> None:
        number = f"index {index}" if index else ""
        self.host.ip(f"link add {name} {number} type veth peer name far-{name} netns {self.far.name}")
        self.far.ip(f"link set far-{name} up")
        self._made(name)

    def add_bridge(self, name: str) -> None:
        self.host.ip(f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
        self._made(name, bridge=True, own_mac=False)

    def add_without_arp(self, name: str) -> None:
        self.host.ip(f"link add {name} arp off type veth peer name far-{name} netns {self.far.name}")
        self.far.ip(f"link set far-{name} up")
        self._made(name, answers_arp=False)

    def index(self, name: str) -> int:
        return self.model.index(name)

    def remove(self, name: str) -> None:
        self.host.ip(f"link delete {name}")
        self.model.remove_link(self.index(name))
        self._compare(f"remove {name}")

    def move_away(self, name: str) -> None:
        self.host.ip(f"link set {name} netns {self.far.name}")
        self.model.remove_link(self.index(name))
        self._compare(f"move {name} to another namespace")

    def rename(self, name: str, to: str) -> None:
        self.host.ip(f"link set {name} name {to}")
        self.model.rename(self.index(name), to)
        self._compare(f"rename {name} to {to}")

    def mac(self, name: str, last: int) -> None:
        self.host.ip(f"link set {name} address 02:00:00:00:00:{last:02x}")
        self.model.set_mac(self.index(name), bytes((2, 0, 0, 0, 0, last)))
        self._compare(f"mac {name} {last}")

    def mtu(self, name: str, mtu: int) -> None:
        self.host.ip(f"link set {name} mtu {mtu}")
        self.model.set_mtu(self.index(name), mtu)
        self._compare(f"mtu {name} {mtu}")

    def up(self, name: str) -> None:
        self.host.ip(f"link set {name} up")
        self.model.set_up(self.index(name), True)
        self._compare(f"up {name}")

    def down(self, name: str) -> None:
        self.host.ip(f"link set {name} down")
        self.model.set_up(self.index(name), False)
        self._compare(f"down {name}")

    def carrier(self, name: str, on: bool) -> None:
        self.far.ip(f"link set {self._other_ends[self.index(name)]} {'up' if on else 'down'}")
        self.model.set_carrier(self.index(name), on)
        self._compare(f"carrier {name} {on}")

    def carrier_losses(self, name: str) -> tuple[int, int]:
        """By the real kernel and by the model."""
        (real,) = [link.carrier_down_count for link in self.requests.dump_links() if link.name == name]
        return real, self.model.interfaces[self.index(name)].carrier_down_count

    def enslave(self, name: str, controller: str) -> None:
        self.host.ip(f"link set {name} master {controller}")
        self.model.enslave(self.index(name), self.index(controller))
        self._compare(f"enslave {name} to {controller}")

    def release(self, name: str) -> None:
        self.host.ip(f"link set {name} nomaster")
        self.model.release(self.index(name))
        self._compare(f"release {name}")

    # ----- sysctl -----

    def promote_secondaries(self, name: str, promote: bool) -> None:
        self._sysctl(f"ipv4/conf/{name}/promote_secondaries", int(promote))
        self.model.interfaces[self.index(name)].promote_secondaries = promote
        self.done.append(f"promote_secondaries {name} {promote}")

    def keep_addresses(self, name: str, keep: bool) -> None:
        self._sysctl(f"ipv6/conf/{name}/keep_addr_on_down", int(keep))
        self.model.interfaces[self.index(name)].keep_addresses_on_down = keep
        self.done.append(f"keep_addr_on_down {name} {keep}")

    def disable_ipv6(self, name: str, disable: bool) -> None:
        self._sysctl(f"ipv6/conf/{name}/disable_ipv6", int(disable))
        self.model.set_disable_ipv6(self.index(name), disable)
        self._compare(f"disable_ipv6 {name} {disable}")

    # ----- addresses and routes -----

    def add(
        self, name: str, text: str, *, scope: int = SCOPE_GLOBAL, flags: int = 0, valid: int | None = None,
        preferred: int | None = None, exclusive: bool = True,
    ) -> int:  # fmt: skip
        address, length = self._parse(text)
        request = new_address(
            self.index(name), address, length, scope, flags, valid, valid if preferred is None else preferred, 0,
            EXCLUSIVE if exclusive else REPLACE,
        )  # fmt: skip
        (real,) = self.requests.apply([request])
        modelled = self.model.add_address(
            self.index(name), address, length, scope=scope, flags=flags, valid_seconds=valid,
            preferred_seconds=valid if preferred is None else preferred, exclusive=exclusive,
        )  # fmt: skip
        what = f"add {name} {text} scope {scope} flags {flags:#x} valid {valid} {'' if exclusive else 'replace'}"
        return self._agree(what, real, modelled)

    def delete(self, name: str, text: str) -> int:
        address, length = self._parse(text)
        (real,) = self.requests.apply([old_address(self.index(name), address, length)])
        return self._agree(f"delete {name} {text}", real, self.model.remove_address(self.index(name), address, length))

    @staticmethod
    def _parse(text: str) -> tuple[bytes, int]:
        address, _, length = text.partition("/")
        return packed(address), int(length)

    def route(
        self, destination: str, name: str, *, via: str | None = None, source: str | None = None, onlink: bool = False,
        metric: int = 0,
    ) -> int:  # fmt: skip
        network = ip_network(destination)
        route = Route(
            self.index(name),
            network.network_address.packed,
            network.prefixlen,
            metric=metric or (1024 if network.version == 6 else 0),
            scope=SCOPE_LINK if via is None and network.version == 4 else SCOPE_GLOBAL,
            gateway=packed(via) if via else None,
            source=packed(source) if source else None,
        )
        (real,) = self.requests.apply([route_message(24, CREATE | EXCLUSIVE, route, None, onlink)])
        what = f"route {destination} dev {name} via {via} src {source} {'onlink' if onlink else ''}"
        return self._agree(what, real, self.model.add_route(route, onlink=onlink))

    def ask(self, request: Request) -> int:
        """What the engine asks of its kernel."""
        (real,) = self.requests.apply([self._real_request(request)])
        return self._agree(str(request), real, self.model.apply([request])[0])

    def _real_request(self, request: Request) -> bytes:
        match request:
            case AddAddress(KernelAddress(index, address, length), valid, exclusive):
                v6 = len(address) == 16
                flags = NOPREFIXROUTE | (NODAD if v6 else 0)
                mode = EXCLUSIVE if exclusive else REPLACE
                preferred = 0 if v6 else valid
                return new_address(index, address, length, SCOPE_HOST, flags, valid, preferred, ADDRESS_PROTOCOL, mode)
            case RemoveAddress(KernelAddress(index, address, length)):
                return old_address(index, address, length)
            case AddRoute(index, network, length, source, valid):
                scope = SCOPE_LINK if len(network) == 4 else SCOPE_GLOBAL
                route = Route(index, network, length, ROUTE_METRIC, ADDRESS_PROTOCOL, scope, source=source)
                return route_message(24, CREATE | REPLACE, route, valid if len(network) == 16 else None)
            case RemoveRoute(index, network, length, source):
                scope = SCOPE_LINK if len(network) == 4 else SCOPE_GLOBAL
                route = Route(index, network, length, ROUTE_METRIC, ADDRESS_PROTOCOL, scope, source=source)
                return route_message(25, 0, route, None)

    def hold(self, name: str, text: str, seconds: int = 60, *, exclusive: bool = True) -> int:
        address, length = self._parse(text)
        return self.ask(AddAddress(KernelAddress(self.index(name), address, length), seconds, exclusive))

    def give_up(self, name: str, text: str) -> int:
        address, length = self._parse(text)
        return self.ask(RemoveAddress(KernelAddress(self.index(name), address, length)))

    def hold_route(self, name: str, network: str, source: str, seconds: int = 60) -> int:
        address, length = self._parse(network)
        return self.ask(AddRoute(self.index(name), address, length, packed(source), seconds))

    def give_up_route(self, name: str, network: str, source: str) -> int:
        address, length = self._parse(network)
        return self.ask(RemoveRoute(self.index(name), address, length, packed(source)))

    def let_pass(self, seconds: int) -> None:
        """Time passes in the model; the real one gets as long as it needs."""
        self.now = Instant(self.now + seconds * SECOND)
        self.model.advance()
        self._compare(f"{seconds} s pass", in_any_order=True)

    def neighbour_has(self, name: str, text: str) -> None:
        """The other end of a cable has an address."""
        other_end = self._other_ends[self.index(name)]
        self._far_sysctl(f"ipv6/conf/{other_end}/disable_ipv6", 0)
        self.far.ip(f"address add {text} dev {other_end} nodad")

    def compare_answers(self) -> None:
        """Ask by ARP at the other end of every cable, as a neighbour with an address and as a probe."""
        for index, other_end in self._other_ends.items():
            name = self.model.interfaces[index].name if index in self.model.interfaces else ""
            if index not in self.model.interfaces or self.model.interfaces[index].bridge:
                continue
            for text in ("10.9.0.10", "10.9.0.200", "10.8.0.200", "10.9.0.77"):
                upper = self.model.interfaces[index].controller or index
                for sender in (bytes(4), packed("10.9.0.99")):
                    wanted = self.model.takes(packed(text), upper)
                    answered = self._arp(other_end, packed(text), sender, patience=1.0 if wanted else 0.1)
                    assert answered == wanted, f"{text} at {name}, asked from {sender.hex()}; before: {self.done}"

    def _arp(self, link: str, target: bytes, sender: bytes, patience: float) -> bool:
        mac = self.far.mac(link)
        with self.far.inside():
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        with opened:
            opened.bind((link, 0x0806))
            opened.settimeout(patience)
            opened.send(arp_request(mac, sender, target))
            end = time.monotonic() + patience
            with contextlib.suppress(TimeoutError):
                while time.monotonic() < end:
                    frame = opened.recv(100)
                    if frame[20:22] == b"\0\2" and frame[28:32] == target:
                        return True
        return False

    # ----- comparing -----

    def _agree(self, what: str, real: int, modelled: int) -> int:
        self._compare(what)
        names = [errno.errorcode.get(code, "0") for code in (real, modelled)]
        assert names[0] == names[1], f"{what}: the kernel says {names[0]}, the model {names[1]}; before: {self.done}"
        return real

    def _compare(self, what: str, *, in_any_order: bool = False) -> None:
        """`in_any_order`: what ends by itself within one second ends in the order of a hash table."""
        arrange: Callable[[list[object]], list[object]] = (lambda e: sorted(e, key=str)) if in_any_order else list
        self.done.append(what)
        end = time.monotonic() + PATIENCE_SECONDS
        events = self.model.changes()
        assert events is not None
        modelled = {**self._modelled(), "events": arrange(self._plain(list(events), self._told[1]))}
        real: dict[str, Any] = {}
        told: list[Event] = []
        while time.monotonic() < end:
            told += self.monitor.read()
            real = {**self._real(), "events": arrange(self._plain(told, dict(self._told[0])))}
            if real == modelled:
                break
            time.sleep(0.02)
        self._plain(told, self._told[0])
        differences = [
            f"{key}:\n    kernel {real[key]}\n    model  {modelled[key]}"
            for key in modelled
            if real[key] != modelled[key]
        ]
        assert not differences, f"after {self.done}\n  " + "\n  ".join(differences)

    @staticmethod
    def _plain(events: Sequence[Event], told: dict[int, Link]) -> list[object]:
        """Without link events that say nothing new, and of several in a row about one link only the last.

        That an IPv6 address is usable is told by a work queue, whatever happens beside it: that comes at the end.
        """
        plain: list[object] = []
        usable: list[object] = []
        for event in events:
            match event:
                case LinkChanged(link):
                    link = replace(link, carrier_down_count=0)  # what counts beside carriers is up to the driver
                    if told.get(link.index) == link:
                        continue
                    told[link.index] = link
                    if plain and isinstance(plain[-1], Link) and plain[-1].index == link.index:
                        plain.pop()
                    plain.append(link)
                case LinkRemoved(index):
                    told.pop(index, None)
                    plain.append(f"link {index} is gone")
                case AddressAdded(address):
                    later = len(address.address) == 16 and not address.flags & TENTATIVE
                    (usable if later else plain).append(f"+{Twins._shown(address)}")
                case AddressRemoved(address):
                    plain.append(f"-{Twins._shown(address)}")
        return plain + usable

    @staticmethod
    def _shown(address: LinkAddress) -> str:
        lasting = "" if address.valid_seconds is None else " dynamic"
        return (
            f"{address.index}: {ip_address(address.address)}/{address.prefix_length} scope {address.scope} "
            f"flags {address.flags & COMPARED_FLAGS:#x} protocol {address.protocol}{lasting}"
        )

    def _modelled(self) -> dict[str, Any]:
        links, addresses, _ = self.model.dump()
        return {
            "links": {
                link.name: (link.index, *[link.operational] * 2, link.mac.hex(), link.mtu, link.controller)
                for link in links
            },
            "addresses": [self._shown(address) for address in addresses],
            "routes": sorted(
                (
                    str(ip_network((route.network, route.prefix_length))),
                    self.model.interfaces[route.index].name,
                    str(ip_address(route.gateway)) if route.gateway else "",
                    str(ip_address(route.source)) if route.source else "",
                    route.metric,
                    str(route.protocol),
                )
                for route in self.model.routes
                if not route.local
            ),
            "sources": {
                destination: str(ip_address(source)) if (source := self.model.source_for(packed(destination))) else None
                for destination in DESTINATIONS
            },
            "next hops": list(self.model.next_hops()),
        }

    def _real(self) -> dict[str, Any]:
        shown = {link["ifname"]: link for link in self.host.ip_json("link", "show")}
        return {
            "links": {
                link.name: (
                    link.index,
                    link.operational,
                    # A carrier that was lost is noticed a moment later: until then IPv6 counts on it.
                    link.admin_up and "NO-CARRIER" not in shown[link.name]["flags"],
                    link.mac.hex(),
                    shown[link.name]["mtu"],
                    shown[shown[link.name]["master"]]["ifindex"] if "master" in shown[link.name] else 0,
                )
                for link in self.requests.dump_links()
                if link.name in shown
            },
            "addresses": [self._shown(address) for address in self.requests.dump_addresses()],
            "routes": sorted(self._real_routes(4) + self._real_routes(6)),
            "sources": {destination: self._real_source(destination) for destination in DESTINATIONS},
            "next hops": list(self.next_hops.first()),
        }

    def _real_routes(self, version: int) -> list[tuple[Any, ...]]:
        numbers = {"kernel": "2", "boot": "3"}
        return [
            (
                str(ip_network(("::/0" if version == 6 else "0.0.0.0/0") if r["dst"] == "default" else r["dst"])),
                r["dev"],
                r.get("gateway", ""),
                r.get("prefsrc", ""),
                r.get("metric", 0),
                numbers.get(r["protocol"], r["protocol"]),
            )
            for r in self.host.ip_json(f"-{version}", "route", "show")
            if r.get("expires", 1) > 0
        ]

    def _real_source(self, destination: str) -> str | None:
        kind = socket.AF_INET6 if ":" in destination else socket.AF_INET
        with self.host.inside(), socket.socket(kind, socket.SOCK_DGRAM) as opened, contextlib.suppress(OSError):
            opened.connect((destination, 9))
            source = str(opened.getsockname()[0])
            return None if source in ("0.0.0.0", "::") else source
        return None


class Sockets:
    """The sockets of eth0, and their model."""

    SOURCES = ("10.9.0.10", "10.8.0.10", "10.9.0.77", "fd00::10", "fd01::10", "fd00::77")

    def __init__(self, twins: Twins) -> None:
        self._twins = twins
        self._index = twins.index("eth0")
        with twins.host.inside():
            self._v4 = VRRPSocket(self._index, socket.AF_INET)
            self._v6 = VRRPSocket(self._index, socket.AF_INET6)
            self._frames = AnnouncementSocket(self._index)
        self._wire = SimulatedWire("host", twins.model, lambda: twins.now)
        self._listeners = {Listener(self._index, 4), Listener(self._index, 16)}
        assert self._wire.listen(self._listeners, set()) == {}

    def close(self) -> None:
        for opened in (self._v4, self._v6, self._frames):
            opened.close()

    def compare(self) -> None:
        """Which errors sending and opening have, and in which groups the sockets are."""
        wire, twins = self._wire, self._twins
        for text in self.SOURCES:
            source = packed(text)
            used, group = (self._v4, MULTICAST_GROUP_V4) if len(source) == 4 else (self._v6, MULTICAST_GROUP_V6)
            modelled = wire.send(self._index, SendAdvertisement(source, group, bytes(20), 100))
            real = used.send(bytes(20), group, source)
            assert errno.errorcode.get(real) == errno.errorcode.get(modelled), f"from {text}, after {twins.done}"
        real = self._frames.send(bytes(60))
        modelled = wire.transmit(self._index, [bytes(60)])
        assert errno.errorcode.get(real) == errno.errorcode.get(modelled), f"a frame, after {twins.done}"
        for family, width, file, shown in (
            (socket.AF_INET, 4, "igmp", "120000E0"),
            (socket.AF_INET6, 16, "igmp6", MULTICAST_GROUP_V6.hex()),
        ):
            real_member = shown in twins.host.run(["cat", f"/proc/net/{file}"])
            assert real_member == wire.is_member(Listener(self._index, width)), f"group {shown}, after {twins.done}"
            other = SimulatedWire("other", twins.model, lambda: twins.now)
            listener = Listener(self._index, width)
            modelled = other.listen({listener}, set()).get(listener, 0)
            real = self._errno(lambda: self._open(family))  # noqa: B023
            assert errno.errorcode.get(real) == errno.errorcode.get(modelled), f"opening, after {twins.done}"

    def _open(self, family: int) -> None:
        with self._twins.host.inside():
            VRRPSocket(self._index, family).close()

    @staticmethod
    def _errno(call: Callable[[], None]) -> int:
        try:
            call()
        except SystemCallFailure as failure:
            return getattr(failure.__cause__, "errno", -1)
        return 0


class Chance:
    """Draws operations that make sense where the twins are."""

    ADDRESSES = (
        "10.9.0.10/24", "10.9.0.11/24", "10.9.0.12/24", "10.9.0.200/24", "10.9.0.200/32", "10.8.0.10/24",
        "10.9.0.13/16", "fd00::10/64", "fd00::11/64", "fd01::10/64", "fd00::10/128", "fe80::10/64",
    )  # fmt: skip
    VIPS = ("10.9.0.200/32", "10.9.0.201/32", "10.8.0.200/32", "fd00::c8/128", "fd01::c8/128")
    NETWORKS = (("10.9.0.0/24", "10.9.0.200"), ("10.8.0.0/24", "10.8.0.200"), ("fd00::/64", "fd00::c8"))
    ROUTES: tuple[tuple[str, dict[str, Any]], ...] = (
        ("0.0.0.0/0", {"via": "10.9.0.1"}),
        ("0.0.0.0/0", {"via": "10.77.0.1", "onlink": True}),
        ("172.16.0.0/16", {}),
        ("172.16.0.0/16", {"source": "10.9.0.11"}),
        ("192.0.2.0/24", {"via": "10.8.0.1", "source": "10.8.0.10"}),
        ("::/0", {"via": "fd00::1"}),
        ("2001:db8::/32", {}),
    )

    def __init__(self, twins: Twins, seed: int) -> None:
        self._twins = twins
        self._random = Random(seed)
        self._promote, self._keep = self._random.random() < 0.5, self._random.random() < 0.3
        if self._random.random() < 0.4:
            twins.add_bridge("br0")
        for name in self._names:
            twins.promote_secondaries(name, self._promote)
            twins.keep_addresses(name, self._keep)
            if self._random.random() < 0.9:
                twins.up(name)

    @property
    def _names(self) -> list[str]:
        return [link.name for link in self._twins.model.interfaces.values() if not link.loopback]

    def step(self) -> None:
        """One operation more."""
        address = 6 * [self._add] + 4 * [self._delete] + [self._renew]
        vip = 3 * [self._hold] + 2 * [self._give_up, self._hold_route] + [self._give_up_route]
        link = 2 * [self._up_or_down] + [self._mtu, self._mac, self._rename, self._carrier, self._disable_ipv6]
        rare = [self._port, self._port, self._remove]
        self._random.choice(address + vip + link + rare + 2 * [self._route])()

    def _pick(self) -> str:
        # Mostly the same one, so that operations meet.
        return self._random.choice([*4 * self._names[:1], *self._names])

    def _add(self) -> None:
        text = self._random.choice(self.ADDRESSES)
        scope = self._random.choice((SCOPE_GLOBAL,) * 4 + (SCOPE_LINK, SCOPE_HOST))
        flags = self._random.choice((0, 0, 0, NOPREFIXROUTE, NODAD if ":" in text else 0))
        valid = self._random.choice((None, None, 100))
        exclusive = self._random.random() < 0.8
        self._twins.add(self._pick(), text, scope=scope, flags=flags, valid=valid, exclusive=exclusive)

    def _there(self) -> list[LinkAddress]:
        return [address for address in self._twins.model.dump()[1] if address.index != LOOPBACK]

    def _delete(self) -> None:
        if there := self._there():
            gone = self._random.choice(there)
            name = self._twins.model.interfaces[gone.index].name
            self._twins.delete(name, f"{ip_address(gone.address)}/{gone.prefix_length}")
        else:
            self._twins.delete(self._pick(), "10.9.0.99/24")

    def _renew(self) -> None:
        if there := self._there():
            again = self._random.choice(there)
            name = self._twins.model.interfaces[again.index].name
            text = f"{ip_address(again.address)}/{again.prefix_length}"
            self._twins.add(name, text, valid=self._random.choice((None, 200)), exclusive=False)

    def _hold(self) -> None:
        self._twins.hold(self._pick(), self._random.choice(self.VIPS), exclusive=self._random.random() < 0.5)

    def _give_up(self) -> None:
        self._twins.give_up(self._pick(), self._random.choice(self.VIPS))

    def _hold_route(self) -> None:
        self._twins.hold_route(self._pick(), *self._random.choice(self.NETWORKS))

    def _give_up_route(self) -> None:
        self._twins.give_up_route(self._pick(), *self._random.choice(self.NETWORKS))

    def _route(self) -> None:
        destination, how = self._random.choice(self.ROUTES)
        self._twins.route(destination, self._pick(), **how)

    def _up_or_down(self) -> None:
        name = self._pick()
        if self._interface(name).admin_up:
            self._twins.down(name)
        else:
            self._twins.up(name)

    def _mtu(self) -> None:
        self._twins.mtu(self._pick(), self._random.choice((1200, 1500)))

    def _mac(self) -> None:
        self._twins.mac(self._pick(), self._random.randrange(1, 250))

    def _rename(self) -> None:
        name = self._pick()
        self._twins.rename(name, name[:-1] if name.endswith("x") else f"{name}x")

    def _carrier(self) -> None:
        interface = self._interface(self._pick())
        if not interface.bridge:
            self._twins.carrier(interface.name, not interface.cable)

    def _disable_ipv6(self) -> None:
        interface = self._interface(self._pick())
        if interface.ipv6:  # else there is no such sysctl
            self._twins.disable_ipv6(interface.name, not interface.disable_ipv6)

    def _port(self) -> None:
        bridges = [name for name in self._names if self._interface(name).bridge]
        interface = self._interface(self._pick())
        if not bridges or interface.bridge:
            return
        if interface.controller:
            self._twins.release(interface.name)
        else:
            self._twins.enslave(interface.name, bridges[0])

    def _remove(self) -> None:
        interface = self._interface(self._pick())
        if interface.bridge:
            return
        self._twins.remove(interface.name)
        self._twins.add_cable(interface.name, self._random.choice((None, interface.index)))
        self._twins.promote_secondaries(interface.name, self._promote)
        self._twins.keep_addresses(interface.name, self._keep)
        self._twins.up(interface.name)

    def _interface(self, name: str) -> Interface:
        return self._twins.model.interfaces[self._twins.index(name)]


@pytest.fixture
def twins(namespaces: Namespaces) -> Iterator[Twins]:
    made = Twins(namespaces)
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(64))
def test_whatever_happens_to_a_host_happens_to_its_model(twins: Twins, seed: int) -> None:
    chance = Chance(twins, seed)
    for _ in range(14):
        chance.step()


# ----- IPv4 addresses -----


def test_secondaries_go_with_their_primary(twins: Twins) -> None:
    twins.up("eth0")
    for text in ("10.9.0.10/24", "10.9.0.11/24", "10.8.0.1/24", "10.9.0.12/16", "10.9.0.11/16"):
        twins.add("eth0", text)
    twins.hold("eth0", "10.9.0.200/32")
    twins.route("0.0.0.0/0", "eth0", via="10.9.0.1")
    twins.delete("eth0", "10.9.0.10/24")


def test_a_secondary_is_promoted_and_the_routes_that_had_the_primary_as_source_go(twins: Twins) -> None:
    twins.up("eth0")
    twins.promote_secondaries("eth0", True)
    for text in ("10.9.0.10/24", "10.8.0.1/24", "10.9.0.12/24", "10.9.0.13/24"):
        twins.add("eth0", text)
    twins.route("172.16.0.0/16", "eth0", via="10.9.0.1", source="10.9.0.10")
    twins.route("192.0.2.0/24", "eth0", via="10.9.0.1", source="10.9.0.13")
    twins.delete("eth0", "10.9.0.10/24")
    twins.delete("eth0", "10.9.0.12/24")


def test_a_promoted_address_without_a_prefix_route_leaves_the_host_without_its_subnet(twins: Twins) -> None:
    twins.up("eth0")
    twins.promote_secondaries("eth0", True)
    twins.add("eth0", "10.9.0.10/24")
    twins.add("eth0", "10.9.0.200/24", flags=NOPREFIXROUTE)
    twins.add("eth0", "10.9.0.21/24")
    twins.delete("eth0", "10.9.0.10/24")
    assert twins.model.source_for(packed("10.9.0.50")) is None


def test_a_renewal_tells_of_the_address_again_and_leaves_it_in_its_place(twins: Twins) -> None:
    twins.up("eth0")
    twins.add("eth0", "10.9.0.10/24", valid=100)
    twins.add("eth0", "10.9.0.11/24")
    twins.add("eth0", "10.9.0.10/24", valid=200, exclusive=False)
    assert [address.address for address in twins.model.dump()[1]][1] == packed("10.9.0.10")


def test_addresses_stand_in_the_order_of_their_scopes(twins: Twins) -> None:
    twins.up("eth0")
    twins.add("eth0", "10.9.0.200/32", scope=SCOPE_HOST)
    twins.add("eth0", "10.9.0.10/24")
    twins.add("eth0", "10.8.0.10/24", scope=SCOPE_LINK)
    twins.add("eth0", "10.7.0.10/24")
    twins.add("eth0", "10.8.0.11/24", scope=SCOPE_LINK)
    assert twins.add("eth0", "10.8.0.12/24") == errno.EINVAL  # another scope in the same subnet
    twins.route("0.0.0.0/0", "eth0")
    for text in ("10.9.0.10/24", "10.9.0.200/32", "10.8.0.10/24", "10.7.0.10/24"):
        twins.delete("eth0", text)


def test_addresses_are_refused_with_the_same_errors(twins: Twins) -> None:
    twins.up("eth0")
    assert twins.add("eth0", "10.9.0.10/24") == 0
    assert twins.add("eth0", "10.9.0.10/24") == errno.EEXIST
    assert twins.delete("eth0", "10.9.0.10/25") == errno.EADDRNOTAVAIL
    assert twins.add("eth0", "fd00::10/64") == 0
    assert twins.add("eth0", "fd00::10/128") == errno.EEXIST
    assert twins.delete("eth0", "fd00::10/128") == errno.EADDRNOTAVAIL
    absent = KernelAddress(99, packed("10.9.0.200"), 32)
    assert twins.ask(AddAddress(absent, 1)) == twins.ask(RemoveAddress(absent)) == errno.ENODEV


def test_lifetimes_end_and_take_routes_along(twins: Twins) -> None:
    twins.up("eth0")
    twins.add("eth0", "10.9.0.10/24")
    twins.add("eth0", "10.9.0.11/24", valid=3)
    twins.hold("eth0", "10.9.0.200/32", 3)
    twins.hold("eth0", "fd00::c8/128", 3)
    twins.hold_route("eth0", "10.9.0.0/24", "10.9.0.200")
    twins.hold_route("eth0", "fd00::/64", "fd00::c8", 4)
    twins.let_pass(6)


# ----- IPv6 addresses -----


def test_ipv6_addresses_their_routes_and_their_order(twins: Twins) -> None:
    twins.up("eth0")
    for text in ("fd00::10/64", "fd00::11/64", "fd01::11/64", "fe80::11/64"):
        twins.add("eth0", text)
    twins.hold("eth0", "fd00::c8/128")
    twins.hold_route("eth0", "fd00::/64", "fd00::c8")
    twins.route("::/0", "eth0", via="fd00::1")
    for text in ("fd00::10/64", "fd00::11/64", "fd01::11/64", "fd00::c8/128"):
        twins.delete("eth0", text)
    assert twins.give_up_route("eth0", "fd00::/64", "fd00::c8") == 0
    assert twins.give_up_route("eth0", "fd00::/64", "fd00::c8") == errno.ESRCH


def test_an_ipv6_address_is_changed_in_its_place(twins: Twins) -> None:
    twins.up("eth0")
    twins.add("eth0", "fd00::10/64")
    twins.add("eth0", "fd00::10/64", valid=200, exclusive=False)  # its subnet route has expired with that
    twins.add("eth0", "fd00::10/64", valid=100, preferred=50, exclusive=False)
    twins.add("eth0", "fd00::10/64", flags=NOPREFIXROUTE, exclusive=False)
    twins.add("eth0", "fd00::10/128", valid=100, preferred=0, exclusive=False)
    twins.hold("eth0", "fd00::10/128", exclusive=False)


def test_ipv6_vanishes_below_an_mtu_of_1280(twins: Twins) -> None:
    twins.up("eth0")
    twins.add("eth0", "fd00::10/64")
    twins.hold("eth0", "fd00::c8/128")
    twins.mtu("eth0", 1279)
    assert twins.add("eth0", "fd00::10/64") == errno.EINVAL
    twins.mtu("eth0", 1280)
    twins.add("eth0", "fd00::10/64")
    twins.down("eth0")
    twins.mtu("eth0", 1200)
    twins.up("eth0")
    twins.mtu("eth0", 1500)


@pytest.mark.parametrize("keep", [False, True])
def test_ipv6_addresses_when_the_link_is_switched_off_and_on(twins: Twins, keep: bool) -> None:
    twins.keep_addresses("eth0", keep)
    twins.up("eth0")
    twins.add("eth0", "fd00::10/64")
    twins.add("eth0", "fd00::11/64", flags=NODAD)
    twins.hold("eth0", "fd00::c8/128")
    twins.down("eth0")
    twins.add("eth0", "fd01::10/64")
    twins.up("eth0")


def test_ipv6_is_disabled_and_enabled(twins: Twins) -> None:
    twins.up("eth0")
    twins.add("eth0", "fd00::10/64")
    twins.disable_ipv6("eth0", True)
    assert twins.add("eth0", "fd00::10/64") == errno.EACCES
    twins.disable_ipv6("eth0", False)


@pytest.fixture
def detecting(namespaces: Namespaces) -> Iterator[Twins]:
    made = Twins(namespaces, detects_duplicates=True)
    yield made
    made.close()


def test_an_ipv6_address_is_tentative_until_nobody_else_has_it(detecting: Twins) -> None:
    detecting.up("eth0")
    detecting.let_pass(3)
    detecting.add("eth0", "fd00::10/64")
    assert detecting.model.dump()[1][-2].flags & TENTATIVE
    detecting.hold("eth0", "fd00::c8/128")
    detecting.let_pass(3)


@pytest.mark.parametrize("valid", [None, 100])
def test_duplicate_address_detection_fails(detecting: Twins, valid: int | None) -> None:
    detecting.neighbour_has("eth0", "fd00::10/64")
    detecting.model.ipv6.duplicate = lambda _, address: address == packed("fd00::10")
    detecting.up("eth0")
    detecting.let_pass(3)
    detecting.add("eth0", "fd00::10/64", valid=valid)
    detecting.let_pass(3)


# ----- links -----


def test_a_link_is_renamed_and_gets_another_mac_address(twins: Twins) -> None:
    twins.up("eth0")
    twins.add("eth0", "10.9.0.10/24")
    twins.hold("eth0", "10.9.0.200/32")
    twins.rename("eth0", "net0")
    twins.mac("net0", 7)
    twins.down("net0")
    twins.rename("net0", "eth0")
    twins.up("eth0")


@pytest.mark.parametrize("same_index", [False, True])
def test_a_link_is_removed_and_comes_back(twins: Twins, same_index: bool) -> None:
    twins.up("eth0")
    for text in ("10.9.0.10/24", "10.9.0.11/24", "fd00::10/64"):
        twins.add("eth0", text)
    twins.hold("eth0", "10.9.0.200/32")
    index = twins.index("eth0")
    twins.remove("eth0")
    twins.add_cable("eth0", index if same_index else None)
    twins.up("eth0")
    twins.add("eth0", "10.9.0.10/24")


def test_a_link_that_moves_to_another_namespace_is_gone(twins: Twins) -> None:
    twins.up("eth0")
    twins.add("eth0", "10.9.0.10/24")
    twins.add("eth0", "fd00::10/64")
    twins.move_away("eth0")


def test_a_bridge_is_made_over_a_link(twins: Twins) -> None:
    twins.up("eth0")
    twins.add("eth0", "10.9.0.10/24")
    twins.add("eth0", "fd00::10/64")
    twins.add_bridge("br0")
    twins.up("br0")
    twins.enslave("eth0", "br0")
    twins.delete("eth0", "10.9.0.10/24")
    twins.add("br0", "10.9.0.10/24")
    twins.add("br0", "fd00::20/64")
    twins.carrier("eth0", False)
    twins.carrier("eth0", True)
    twins.enslave("eth1", "br0")
    twins.up("eth1")
    twins.mac("eth0", 0)
    twins.mtu("eth1", 1200)
    twins.release("eth1")
    twins.remove("eth0")
    twins.remove("br0")


def test_a_link_loses_its_carrier(twins: Twins) -> None:
    twins.up("eth0")
    twins.add("eth0", "10.9.0.10/24")
    twins.add("eth0", "fd00::10/64")
    twins.hold("eth0", "10.9.0.200/32")
    twins.hold_route("eth0", "10.9.0.0/24", "10.9.0.200")
    twins.carrier("eth0", False)
    twins.add("eth0", "fd00::11/64")
    twins.carrier("eth0", True)
    twins.carrier("eth0", False)
    twins.down("eth0")
    twins.up("eth0")
    twins.carrier("eth0", True)


def test_how_often_a_link_lost_its_carrier_is_counted(twins: Twins) -> None:
    twins.up("eth0")
    before = twins.carrier_losses("eth0")
    twins.carrier("eth0", False)
    twins.carrier("eth0", True)
    after = twins.carrier_losses("eth0")
    assert [later - sooner for sooner, later in zip(before, after, strict=True)] == [1, 1]


# ----- routes and sources -----


def test_a_route_of_a_vip_goes_with_it(twins: Twins) -> None:
    assert twins.hold_route("eth0", "10.9.0.0/24", "10.9.0.200") == errno.ENETDOWN
    twins.up("eth0")
    assert twins.hold_route("eth0", "10.9.0.0/24", "10.9.0.200") == errno.EINVAL
    twins.hold("eth0", "10.9.0.200/32")
    assert twins.hold_route("eth0", "10.9.0.0/24", "10.9.0.200") == 0
    twins.add("eth0", "10.9.0.10/24")
    twins.delete("eth0", "10.9.0.10/24")
    twins.give_up("eth0", "10.9.0.200/32")
    assert twins.give_up_route("eth0", "10.9.0.0/24", "10.9.0.200") == errno.ESRCH


def test_a_route_of_a_vip_is_lost_when_the_link_is_switched_off_and_on(twins: Twins) -> None:
    twins.up("eth0")
    twins.hold("eth0", "10.9.0.200/32")
    twins.hold_route("eth0", "10.9.0.0/24", "10.9.0.200")
    twins.down("eth0")
    twins.up("eth0")
    assert twins.model.source_for(packed("10.9.0.50")) is None


@pytest.mark.parametrize(
    "route",
    [{"via": "10.9.0.1"}, {"via": "10.77.0.1", "onlink": True}, {}, {"via": "10.9.0.1", "source": "10.9.0.10"}],
    ids=["gateway", "gateway-outside", "no-gateway", "source"],
)
@pytest.mark.parametrize("scope", [SCOPE_HOST, SCOPE_LINK, SCOPE_GLOBAL])
def test_the_source_after_the_own_address_went_and_came(twins: Twins, scope: int, route: dict[str, Any]) -> None:
    twins.up("eth0")
    twins.up("eth1")
    twins.add("eth0", "10.9.0.10/24")
    twins.add("eth1", "10.8.0.10/24")
    twins.route("0.0.0.0/0", "eth0", **route)
    twins.add("eth0", "10.9.0.200/32", scope=scope, flags=NOPREFIXROUTE)
    twins.delete("eth0", "10.9.0.10/24")
    twins.add("eth0", "10.9.0.10/24")
    vip = packed("10.9.0.200")
    assert scope != SCOPE_HOST or vip not in {
        twins.model.source_for(packed(text)) for text in ("10.9.0.50", "192.0.2.1")
    }


def test_a_vip_that_is_on_another_link_too_keeps_its_routes(twins: Twins) -> None:
    twins.add_without_arp("ipvs0")
    twins.add("ipvs0", "10.9.0.200/32")
    twins.up("ipvs0")
    twins.up("eth0")
    twins.hold("eth0", "10.9.0.200/32")
    twins.route("172.16.0.0/16", "eth0", source="10.9.0.200")
    twins.give_up("eth0", "10.9.0.200/32")
    twins.delete("ipvs0", "10.9.0.200/32")


# ----- neighbours and sockets -----


def test_the_same_neighbours_are_answered(twins: Twins) -> None:
    twins.up("eth0")
    twins.up("eth1")
    twins.add("eth0", "10.9.0.10/24")
    twins.hold("eth0", "10.9.0.200/32")
    twins.hold("eth1", "10.8.0.200/32")
    twins.compare_answers()
    twins.down("eth1")
    twins.compare_answers()
    twins.add_bridge("br0")
    twins.up("br0")
    twins.enslave("eth0", "br0")
    twins.compare_answers()
    twins.give_up("eth0", "10.9.0.200/32")
    twins.release("eth0")
    twins.compare_answers()


def test_sockets_are_refused_as_their_models_are(twins: Twins) -> None:
    sockets = Sockets(twins)
    sockets.compare()
    twins.up("eth0")
    twins.up("eth1")
    for name, text in (
        ("eth0", "10.9.0.10/24"), ("eth0", "fd00::10/64"), ("eth1", "10.8.0.10/24"), ("eth1", "fd01::10/64"),
    ):  # fmt: skip
        twins.add(name, text)
    sockets.compare()
    twins.carrier("eth0", False)
    sockets.compare()
    twins.carrier("eth0", True)
    twins.down("eth0")
    sockets.compare()
    twins.up("eth0")
    sockets.compare()
    twins.disable_ipv6("eth0", True)
    sockets.compare()
    twins.disable_ipv6("eth0", False)
    sockets.compare()
    twins.mtu("eth0", 1200)
    sockets.compare()
    twins.mtu("eth0", 1500)
    twins.add("eth0", "fd00::10/64")
    sockets.compare()
    index = twins.index("eth0")
    twins.remove("eth0")
    sockets.compare()
    twins.add_cable("eth0", index)
    twins.up("eth0")
    twins.add("eth0", "10.9.0.10/24")
    sockets.compare()
    sockets.close()


# ----- the packet filter -----


class Doors:
    """A packet filter twice: that of a network namespace whose ports are knocked at, and the model of it."""

    PORT = 2222
    ADDRESSES = ("10.9.0.10", "10.9.0.200", "fd00::10", "fd00::200")

    def __init__(self, namespaces: Namespaces) -> None:
        self.now = Instant(1000 * SECOND)
        self.model = PacketFilter(lambda: self.now, lambda: None)
        self.host, self.far = namespaces.add("host"), namespaces.add("far")
        namespaces.connect(self.host, "eth0", self.far, "eth0")
        self.host.ip(*(f"address add {text}/{64 if ':' in text else 24} dev eth0 nodad" for text in self.ADDRESSES))
        self.far.ip("address add 10.9.0.99/24 dev eth0", "address add fd00::99/64 dev eth0 nodad")
        with self.host.inside():
            self.listener = socket.create_server(("::", self.PORT), family=socket.AF_INET6, dualstack_ipv6=True)
            self.listener.settimeout(1)
            self.real = ClosedPorts()
        self.done: list[str] = []
        self._number = 0

    def close(self) -> None:
        self.listener.close()
        self.real.close(self._number + 1, frozenset(), frozenset())
        assert self.real.wait(SECOND) == 0

    def ask(self, addresses: Sequence[str], no_longer: Sequence[str]) -> None:
        self._number += 1
        wanted, others = frozenset(map(packed, addresses)), frozenset(map(packed, no_longer))
        with self.host.inside():  # the thread that it begins is where this one is
            self.real.close(self._number, wanted, others)
            assert self.real.wait(Duration(5 * SECOND)) == 0
        self.model.close(self._number, wanted, others)
        self.model.advance()
        self._compare(f"close {addresses}, and no longer {no_longer}")

    def rules(self, nft: str, do: Callable[[], None]) -> None:
        """Somebody changes rules; what of that is to be put back is."""
        self.host.run(["nft", nft])
        do()
        self.now = Instant(self.now + CHECK_EVERY)
        self.model.advance()
        self._compare(nft)

    def add_another(self, address: str) -> None:
        """What another engine of the host closes."""
        if self.model.closed is not None:
            closed = self.model.closed | {packed(address)}
            name = "ipv6" if ":" in address else "ipv4"
            nft = f"add element inet holdfast {name} {{ {address} }}"
            self.rules(nft, lambda: setattr(self.model, "closed", closed))

    def _compare(self, what: str) -> None:
        self.done.append(what)
        modelled = [self.model.lets_in(packed(text), TCP) for text in self.ADDRESSES]
        events = self.model.events()
        told: list[PortsClosed] = []
        end = time.monotonic() + PATIENCE_SECONDS
        real: list[bool] = []
        while time.monotonic() < end:
            told += self.real.events()
            real = [self._knock(self.far, text) for text in self.ADDRESSES]
            if (real, told) == (modelled, events):
                break
        assert (real, told) == (modelled, events), self.done
        for text in self.ADDRESSES:
            assert self._knock(self.host, text) == self.model.lets_in(packed(text), TCP, from_loopback=True), self.done
            protocol = ICMPV6 if ":" in text else ICMP
            assert self.model.lets_in(packed(text), protocol)
            self.far.run(["ping", "-n", "-c1", "-W2", text])

    def _knock(self, namespace: Namespace, address: str) -> bool:
        with namespace.inside():
            stream = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        with stream:
            stream.settimeout(0.2)
            try:
                stream.connect((address, self.PORT))
            except TimeoutError:
                return False
            # So that there is room for the next one. It was let in, though its last word may have met with rules that
            # were put back meanwhile: then there is nobody to accept.
            with contextlib.suppress(TimeoutError):
                self.listener.accept()[0].close()
            return True


@pytest.fixture
def doors(namespaces: Namespaces) -> Iterator[Doors]:
    made = Doors(namespaces)
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(6))
def test_the_same_of_a_host_is_reached_whatever_is_closed_and_whoever_flushes(doors: Doors, seed: int) -> None:
    random = Random(seed)

    def some() -> list[str]:
        return [text for text in Doors.ADDRESSES if random.random() < 0.5]

    for _ in range(8):
        match random.randrange(5):
            case 0:
                if doors.model.closed is not None:
                    doors.rules("flush ruleset", doors.model.flush)
            case 1:
                doors.add_another(random.choice(Doors.ADDRESSES))
            case 2:
                doors.ask(some(), Doors.ADDRESSES)
            case _:
                doors.ask(some(), some())
