"""The kernel port over routing netlink: each request is encoded once and sent often."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import select
import socket
from collections.abc import Sequence
from pathlib import Path

from holdfast_speaker.engine.ports import (
    AddAddress,
    AddRoute,
    Event,
    Link,
    LinkAddress,
    NextHop,
    NextHopsChanged,
    RemoveAddress,
    RemoveRoute,
    Request,
)
from holdfast_speaker.host import clock
from holdfast_speaker.host.closed_ports import ClosedPorts
from holdfast_speaker.host.netlink import (
    MonitorSocket,
    Overrun,
    RequestSocket,
    address_removal,
    address_request,
    route_addition,
    route_removal,
)
from holdfast_speaker.host.next_hops import NextHops
from holdfast_speaker.host.refresher import Refresher
from holdfast_speaker.vrrp.instants import MILLISECOND, Duration

ROUTE_WITHIN = Duration(5 * MILLISECOND)
"""How long an addition of IPv6 addresses waits for the kernel's route to them."""

_ROUTE_LOOK_EVERY = Duration(MILLISECOND // 20)
_ENCODED_MAX = 16384
_PROMOTES = "/proc/sys/net/ipv4/conf/{}/promote_secondaries"


class NetlinkKernel:
    """The links and addresses of this process's network namespace. The constructor raises EnvironmentFailure."""

    def __init__(self) -> None:
        self._monitor = MonitorSocket()  # before the first dump, so that nothing is missed in between
        self._requests = RequestSocket()
        self._next_hops = NextHops()
        self._poller = select.epoll()
        for descriptor in (self._monitor.fileno(), self._next_hops.fileno()):
            self._poller.register(descriptor, select.EPOLLIN)
        self._refresher = Refresher()
        self._renewed: Sequence[Request] = ()
        self._closed_ports = ClosedPorts()
        self._poller.register(self._closed_ports.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """Readable when `changes` has something to tell."""
        return self._poller.fileno()

    def changes(self) -> list[Event] | None:
        """As ports.Kernel has it; raises SystemCallFailure when the socket fails."""
        try:
            events = self._monitor.read()
        except Overrun:
            self._next_hops.doubt()
            return None
        closed_ports = self._closed_ports.events()
        if events:
            self._next_hops.doubt()  # routes go with their links and addresses, and not a word is said of that
        next_hops = self._next_hops.step()
        if next_hops is not None:
            events.append(NextHopsChanged(next_hops))
        return [*events, *closed_ports]

    def dump(self) -> tuple[list[Link], list[LinkAddress], bool]:
        """As ports.Kernel has it."""
        return self._requests.dump()

    def next_hops(self) -> tuple[NextHop, ...]:
        """As ports.Kernel has it."""
        return self._next_hops.first()

    def apply(self, requests: Sequence[Request]) -> list[int]:
        """As ports.Kernel has it."""
        codes: list[int] = []
        for keeps_others, some in itertools.groupby(requests, _keeps_others):
            if keeps_others:
                codes += [self._remove_alone(request) for request in some]
            else:
                codes += self._requests.apply([_encoded(request) for request in some])
        results = [_meant(request, code) for request, code in zip(requests, codes, strict=True)]
        self._await_routes(
            [
                (request.address.index, request.address.address)
                for request, code in zip(requests, results, strict=True)
                if isinstance(request, AddAddress) and not code and request.exclusive
            ]
        )
        return results

    def _remove_alone(self, request: Request) -> int:
        """Remove an address, and have the kernel promote those that it would remove with it (net/ipv4/devinet.c)."""
        try:
            setting = Path(_PROMOTES.format(_name_of_link(request)))
            before = setting.read_bytes().strip()
            if before != b"1":
                setting.write_bytes(b"1")
        except OSError as error:  # most likely a container, whose /proc/sys cannot be written
            return error.errno or errno.EIO
        try:
            return self._requests.apply([_encoded(request)])[0]
        finally:
            if before != b"1":
                with contextlib.suppress(OSError):
                    setting.write_bytes(before)

    def _await_routes(self, addresses: list[tuple[int, bytes]]) -> None:
        """Wait until the host answers for IPv6 addresses that it has.

        The kernel makes the route to itself in a work queue (net/ipv6/addrconf.c, addrconf_dad_work), 0.2 ms after it
        said that the address is there. Who announces earlier draws packets that nobody answers.
        """
        addresses = [address for address in addresses if len(address[1]) == 16]
        end = clock.now() + ROUTE_WITHIN
        while addresses and clock.now() < end:
            addresses = [address for address in addresses if not self._requests.is_own(*address)]
            if addresses:
                clock.pause(_ROUTE_LOOK_EVERY)  # the work queue is of lower priority than this process

    def is_renewing(self) -> bool:
        """As ports.Kernel has it."""
        return self._refresher.is_busy

    def begin_renewal(self, requests: Sequence[Request]) -> None:
        """As ports.Kernel has it."""
        self._renewed = requests
        self._refresher.begin([_encoded(request) for request in requests])

    def end_renewal(self) -> list[int] | None:
        """As ports.Kernel has it."""
        codes = self._refresher.finish()
        if codes is None:
            return None
        return [_meant(request, code) for request, code in zip(self._renewed, codes, strict=True)]

    def close_ports(self, number: int, addresses: frozenset[bytes], no_longer: frozenset[bytes]) -> None:
        """As ports.Kernel has it."""
        self._closed_ports.close(number, addresses, no_longer)

    def await_closed_ports(self, within: Duration) -> int:
        """As ports.Kernel has it."""
        return self._closed_ports.wait(within)

    def forwards_ipv6(self, name: str) -> bool:
        """As ports.Kernel has it."""
        try:
            return Path(f"/proc/sys/net/ipv6/conf/{name}/forwarding").read_text(encoding="ascii").strip() == "1"
        except OSError:
            return False


def _keeps_others(request: Request) -> bool:
    return isinstance(request, RemoveAddress) and request.keeps_others


def _name_of_link(request: Request) -> str:
    return socket.if_indextoname(request.address.index if isinstance(request, RemoveAddress) else 0)


def _meant(request: Request, code: int) -> int:
    """That a route is there already, or gone, is what was wanted."""
    match request:
        case AddRoute() if code == errno.EEXIST:
            return 0
        case RemoveRoute() if code == errno.ESRCH:
            return 0
        case _:
            return code


@functools.lru_cache(_ENCODED_MAX)
def _encoded(request: Request) -> bytes:
    match request:
        case AddAddress(address, valid_seconds, exclusive):
            return address_request(
                address.index,
                address.address,
                address.prefix_length,
                valid_seconds=valid_seconds,
                exclusive=exclusive,
            )
        case RemoveAddress(address, _):
            return address_removal(address.index, address.address, address.prefix_length)
        case AddRoute(index, network, prefix_length, source, valid_seconds):
            return route_addition(index, network, prefix_length, source, valid_seconds)
        case RemoveRoute(index, network, prefix_length, source):
            return route_removal(index, network, prefix_length, source)
