"""The addresses on the kernel as a level: what is wanted is there, is refreshed, and is gone when nobody wants it.

Every address is added with a short lifetime, so that the kernel takes it away from an engine that is killed, frozen or
starved (ADR 0005). Only addresses that Holdfast put there are ever touched.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from ipaddress import ip_address

from holdfast_speaker.engine.links import LinkTable, has_subnet_of
from holdfast_speaker.engine.ports import KernelAddress
from holdfast_speaker.engine.reconcile import plan
from holdfast_speaker.host import clock
from holdfast_speaker.host.log import Log
from holdfast_speaker.host.netlink import (
    AddressRemoved,
    Event,
    LinkAddress,
    MonitorSocket,
    Overrun,
    RequestSocket,
    address_removal,
    address_request,
)
from holdfast_speaker.host.refresher import Refresher
from holdfast_speaker.vrrp.instants import MILLISECOND, Duration, Instant

LIFETIME_SECONDS = 1
"""valid_lft. The kernel removes the address 1.0 to 2.25 s after the last refresh (include/net/addrconf.h rounds)."""

REFRESH_INTERVAL = Duration(300 * MILLISECOND)

ROUTE_WITHIN = Duration(5 * MILLISECOND)
"""How long the announcement of IPv6 addresses waits for the kernel's route to them."""

_ROUTE_LOOK_EVERY = Duration(MILLISECOND // 20)

_ALREADY_GONE = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO})


class Kernel:
    """The links and addresses of this network namespace, and the VIPs that this engine holds on them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._monitor = MonitorSocket()
        self._requests = RequestSocket()
        self._held: dict[KernelAddress, bytes] = {}
        self._refresh_at: Instant | None = None
        self._refresher = Refresher()
        self._refreshing: list[KernelAddress] = []
        self.table = LinkTable()
        self.resynchronise()

    def fileno(self) -> int:
        """Readable when links or addresses changed."""
        return self._monitor.fileno()

    def resynchronise(self) -> None:
        """Read everything anew: at the start, and when the kernel lost notifications (ENOBUFS)."""
        self.table.replace(self._requests.dump_links(), self._requests.dump_addresses())

    def read(self) -> tuple[list[Event] | None, set[KernelAddress]]:
        """Take in what changed. Returns that, and which held addresses somebody took away: they are put back at once.

        None instead of the changes: the kernel lost some, and everything was read anew.
        """
        try:
            events = self._monitor.read()
        except Overrun:
            self._log.warning("the kernel lost notifications; reading links and addresses anew")
            self.resynchronise()
            present = {(item.index, item.address) for item in self._addresses()}
            missing = {held for held in self._held if (held.index, held.address) not in present}
            return None, self._put_back(missing)
        missing = {held for held in self._held if self._removed(held, events)}
        for event in events:
            self.table.apply(event)
        return events, self._put_back(missing)

    @staticmethod
    def _removed(held: KernelAddress, events: list[Event]) -> bool:
        return any(
            isinstance(event, AddressRemoved)
            and event.address.index == held.index
            and event.address.address == held.address
            for event in events
        )

    def _put_back(self, missing: set[KernelAddress]) -> set[KernelAddress]:
        addresses = sorted(missing, key=lambda address: (address.index, address.address))
        results = self._requests.apply([self._held[address] for address in addresses])
        return {address for address, result in zip(addresses, results, strict=True) if result == 0}

    def _addresses(self) -> list[LinkAddress]:
        return [address for index in self.table.by_index for address in self.table.addresses(index)]

    def foreign(self, addresses: frozenset[KernelAddress]) -> list[LinkAddress]:
        """Where one of the addresses is already, on whatever interface, and was not put there by Holdfast."""
        others = [item for index in self.table.by_index for item in self.table.others(index)]
        found = plan(addresses, others, frozenset()).foreign
        # A kernel before 5.18 does not tell whose an address is (IFA_PROTO): what we hold is ours all the same.
        return [item for item in found if KernelAddress(item.index, item.address, item.prefix_length) not in self._held]

    def remove_leftovers(self, known: set[bytes]) -> list[KernelAddress]:
        """Take away what a predecessor left of the known addresses; returns what was removed.

        Addresses of other Holdfast engines are not known here and stay: they expire by themselves.
        """
        leftovers = list(plan(frozenset(self._held), self._addresses(), known).remove)
        self._requests.apply([_removal(address) for address in leftovers])
        return leftovers

    def hold(self, addresses: Iterable[KernelAddress], now: Instant) -> dict[KernelAddress, int]:
        """Put addresses on their interfaces; returns the errno of each that the kernel refused."""
        # Exclusively at first: replacing would take an address over that somebody else has put there meanwhile.
        fresh = [address for address in addresses if address not in self._held]
        codes = self._requests.apply([self._request(address, exclusive=True) for address in fresh])
        results = dict(zip(fresh, codes, strict=True))
        for address, result in results.items():
            if result == 0:
                self._held[address] = self._request(address, exclusive=False)
        if self._held and self._refresh_at is None:
            self._refresh_at = Instant(now + REFRESH_INTERVAL)
        self._await_routes([address for address in fresh if address in self._held and len(address.address) == 16])
        return {address: result for address, result in results.items() if result != 0}

    def adopt(self, addresses: Iterable[KernelAddress], now: Instant) -> frozenset[KernelAddress]:
        """Of the addresses, those that a predecessor left there: held from now on, and refreshed at once."""
        adopted = frozenset(
            item for item in addresses if self.table.has_ours(item.index, item.address, item.prefix_length)
        )
        self._held |= {address: self._request(address, exclusive=False) for address in adopted}
        if adopted:
            self._refresh_at = now
        return adopted

    def _await_routes(self, addresses: list[KernelAddress]) -> None:
        """Wait until the host answers for IPv6 addresses that it has.

        The kernel makes the route to itself in a work queue (net/ipv6/addrconf.c, addrconf_dad_work), 0.2 ms after it
        said that the address is there. Who announces earlier draws packets that nobody answers.
        """
        end = clock.now() + ROUTE_WITHIN
        while addresses and clock.now() < end:
            addresses = [item for item in addresses if not self._requests.is_own(item.index, item.address)]
            if addresses:
                clock.pause(_ROUTE_LOOK_EVERY)  # the work queue is of lower priority than this process

    def release(self, addresses: Iterable[KernelAddress]) -> None:
        """Take addresses away."""
        self._settle()
        gone = [address for address in addresses if self._held.pop(address, None) is not None]
        results = self._requests.apply([_removal(address) for address in gone])
        for address, result in zip(gone, results, strict=True):
            if result and result not in _ALREADY_GONE:
                # It expires by itself: nobody refreshes it any more.
                self._log.error(f"an address could not be removed: {os.strerror(result)}", address=text(address))
        if not self._held:
            self._refresh_at = None

    def _request(self, address: KernelAddress, *, exclusive: bool) -> bytes:
        return address_request(
            address.index,
            address.address,
            address.prefix_length,
            valid_seconds=LIFETIME_SECONDS,
            exclusive=exclusive,
            # Where the link has the subnet already, a second route to it would only die with the VIP.
            prefix_route=not has_subnet_of(self.table, address.index, address.address),
        )

    def next_deadline(self) -> Instant | None:
        """When the held addresses must be refreshed."""
        return self._refresh_at

    def refresh(self, now: Instant) -> dict[KernelAddress, int]:
        """Begin to renew the lifetime of everything held, when it is time; the errno of each that was refused before.

        It goes on beside the loop. One that is still under way is waiting for the kernel, and so would the next.
        """
        if self._refresh_at is None or now < self._refresh_at:
            return {}
        self._refresh_at = Instant(now + REFRESH_INTERVAL)
        if self._refresher.is_busy:
            return {}
        refused = self._settle()
        self._refreshing = list(self._held)
        self._refresher.begin(list(self._held.values()))
        return refused

    def refresh_now(self) -> None:
        """Renew everything held, and wait for it."""
        self._settle()
        self._requests.apply(list(self._held.values()))

    def _settle(self) -> dict[KernelAddress, int]:
        """Wait for a renewal that is under way, so that it puts nothing back that goes after this.

        Returns the errno of each that was refused and is still held.
        """
        results = self._refresher.finish() or []
        refreshed = zip(self._refreshing, results, strict=False)
        return {address: result for address, result in refreshed if result and address in self._held}


def text(address: KernelAddress | LinkAddress) -> str:
    """An address with its prefix length, as people write it."""
    return f"{ip_address(address.address)}/{address.prefix_length}"


def _removal(address: KernelAddress) -> bytes:
    return address_removal(address.index, address.address, address.prefix_length)
