"""The VIPs on the kernel as a level: what is wanted is there, is renewed, and is gone when nobody wants it.

Every address has a short lifetime, so that the kernel takes it away from an engine that is killed, frozen or starved
(ADR 0005). Only addresses that Holdfast put there are ever touched. An address has one owner at a time, a VirtualIP;
one that changes hands does not leave the kernel.
"""

from __future__ import annotations

import errno
from collections import Counter as Multiset
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from ipaddress import ip_address

from msgspec import Struct

from holdfast_api.errors import EnvironmentFailure
from holdfast_speaker.engine.errnos import told
from holdfast_speaker.engine.links import LinksCheckpoint, LinkTable
from holdfast_speaker.engine.ports import (
    LIFETIME_SECONDS,
    AddAddress,
    AddressRemoved,
    AddRoute,
    Event,
    Kernel,
    KernelAddress,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
    Log,
    RemoveAddress,
    RemoveRoute,
    Request,
)
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant

RENEWAL_INTERVAL = Duration(300 * MILLISECOND)

CONTESTED_TIMES = 5
CONTESTED_WITHIN = Duration(10 * SECOND)
"""Who takes an address away so often in so short a time does it on purpose: it is put back once a second then."""

_CONTESTED_PAUSE = Duration(SECOND)
_DUMP_AGAIN_AFTER = Duration(SECOND)
_ALREADY_GONE = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO, errno.ESRCH})
_OF_KUBE_PROXY = "kube-ipvs0"  # a dummy; where a kernel has none, whatever stands in for it


@dataclass(slots=True)
class _Held:
    """One address that is on the kernel."""

    owner: str
    address: KernelAddress
    """As it is there: over IPv6 an engine before this one may have given it another prefix length, which stays."""
    beside: KernelAddress | None = None
    """What an engine before this one put there with its subnet, and could not be removed yet."""
    route: AddRoute | None = None
    put_back_at: deque[Instant] = field(default_factory=lambda: deque(maxlen=CONTESTED_TIMES))

    def renewal(self) -> list[Request]:
        """What puts it there again, or renews it. A route over IPv4 goes with its source and comes once."""
        there = [self.address] if self.beside is None else [self.address, self.beside]
        adds: list[Request] = [AddAddress(address, LIFETIME_SECONDS) for address in there]
        return [*adds, self.route] if self.route is not None else adds


@dataclass(frozen=True, slots=True)
class Changes:
    """What the kernel said."""

    events: Sequence[Event] | None
    """None: some were lost, and everything was read anew."""
    put_back: frozenset[KernelAddress] = frozenset()
    """Addresses of ours that somebody took away; they are there again."""
    gone: frozenset[int] = frozenset()
    """Indexes of links that are gone, even if there is a link with that index again."""
    changed: frozenset[int] = frozenset()
    """Indexes of links that are not what they were."""
    subnets_changed: bool = True
    """Whether a link, or a subnet of the host's own on one, is not what it was."""


class HeldCheckpoint(Struct, frozen=True):
    """One address that is held."""

    key: KernelAddress
    owner: str
    address: KernelAddress
    route: AddRoute | None
    put_back_at: list[Instant]
    beside: KernelAddress | None


class AddressesCheckpoint(Struct, frozen=True):
    """Everything that HeldAddresses knows."""

    links: LinksCheckpoint
    held: list[HeldCheckpoint]
    """In the order in which they are renewed."""
    renew_at: Instant | None
    renewing: list[KernelAddress | None]
    waiting: list[tuple[KernelAddress, Instant]]
    own_removals: list[tuple[KernelAddress, int]]
    dump_at: Instant | None


class HeldAddresses:
    """What this engine has on its kernel, and the table of links that is kept up to date beside it.

    The constructor raises EnvironmentFailure where the kernel does not tell its links and addresses.
    """

    def __init__(self, kernel: Kernel, log: Log) -> None:
        self._kernel = kernel
        self._log = log
        self._held: dict[KernelAddress, _Held] = {}
        self._owned: dict[str, frozenset[KernelAddress]] = {}
        self._renew_at: Instant | None = None
        self._renewing: list[KernelAddress | None] = []
        self._waiting: dict[KernelAddress, Instant] = {}
        self._own_removals: Multiset[KernelAddress] = Multiset()
        self._dump_at: Instant | None = None
        self.table = LinkTable()
        links, addresses, whole = kernel.dump()
        self.table.replace(links, addresses)
        self.table.know_next_hops(kernel.next_hops())
        if not whole:
            self._dump_at = Instant(0)

    def checkpoint(self) -> AddressesCheckpoint:
        """What is held and what is known of the links."""
        return AddressesCheckpoint(
            links=self.table.checkpoint(),
            held=[
                HeldCheckpoint(key, held.owner, held.address, held.route, list(held.put_back_at), held.beside)
                for key, held in self._held.items()
            ],
            renew_at=self._renew_at,
            renewing=list(self._renewing),
            waiting=list(self._waiting.items()),
            own_removals=[(address, count) for address, count in self._own_removals.items() if count],
            dump_at=self._dump_at,
        )

    def restore(self, known: AddressesCheckpoint) -> None:
        """Know what another one knew; the kernel is asked nothing."""
        self.table.restore(known.links)
        self.table.held.clear()
        self._held, self._owned = {}, {}
        for item in known.held:
            times = deque(item.put_back_at, maxlen=CONTESTED_TIMES)
            self._own(item.key, _Held(item.owner, item.address, item.beside, item.route, times))
        self._renew_at = known.renew_at
        self._renewing = list(known.renewing)
        self._waiting = dict(known.waiting)
        self._own_removals = Multiset(dict(known.own_removals))
        self._dump_at = known.dump_at

    # ----- what the kernel says -----

    def take_in(self, now: Instant) -> Changes:
        """Take in what has changed; what somebody took away is put back, not too often."""
        events = self._kernel.changes()
        if events is None:
            self._log.warning("the kernel lost notifications; reading links and addresses anew")
            return self._read_anew(now)
        revision = self.table.revision
        gone = frozenset(event.index for event in events if isinstance(event, LinkRemoved))
        changed = set()
        missing = set()
        for event in events:
            if isinstance(event, LinkChanged) and self.table.by_index.get(event.link.index) != event.link:
                changed.add(event.link.index)
            elif isinstance(event, AddressRemoved) and (key := self._taken_away(event.address)) is not None:
                missing.add(key)
            self.table.apply(event)
        self._forget_links(gone)
        put_back = self._put_back(missing & self._held.keys(), now)
        return Changes(events, put_back, gone, frozenset(changed), self.table.revision != revision)

    def _taken_away(self, item: LinkAddress) -> KernelAddress | None:
        """The held address that is gone, if it was not this engine that removed it."""
        removed = KernelAddress(item.index, item.address, item.prefix_length)
        if self._own_removals[removed]:
            self._own_removals[removed] -= 1
            return None
        key = KernelAddress(item.index, item.address, 8 * len(item.address))
        held = self._held.get(key)
        return key if held is not None and held.address == removed else None

    def _read_anew(self, now: Instant) -> Changes:
        self._own_removals.clear()
        try:
            links, addresses, whole = self._kernel.dump()
        except EnvironmentFailure as failure:
            self._log.warning(f"{failure}; trying again in a second")
            self._dump_at = Instant(now + _DUMP_AGAIN_AFTER)
            return Changes(())
        if whole:
            self._dump_at = None
            self.table.replace(links, addresses)
        else:
            # In the middle of it something changed: what it lacks is not proven to be gone.
            self._dump_at = Instant(now + _DUMP_AGAIN_AFTER)
            self.table.add(links, addresses)
        present = {KernelAddress(item.index, item.address, item.prefix_length) for item in addresses}
        missing = {key for key, held in self._held.items() if held.address not in present}
        gone = frozenset(key.index for key in self._held) - self.table.by_index.keys()
        self._forget_links(gone)
        missing &= self._held.keys()
        if whole:
            return Changes(None, self._put_back(missing, now), gone)
        # Renewed, in case that it is gone; but nobody is accused of having taken it away.
        self._apply([request for key in sorted(missing) for request in self._held[key].renewal()])
        return Changes(None, gone=gone)

    def _forget_links(self, gone: Set[int]) -> None:
        for key in [key for key in self._held if key.index in gone]:
            self._let_go(key)

    def _put_back(self, missing: Set[KernelAddress], now: Instant) -> frozenset[KernelAddress]:
        at_once = []
        for key in sorted(missing):
            times = self._held[key].put_back_at
            if len(times) == CONTESTED_TIMES and now - times[0] < CONTESTED_WITHIN:
                self._waiting.setdefault(key, Instant(now + _CONTESTED_PAUSE))
            else:
                at_once.append(key)
        return self._put_back_now(at_once, now)

    def _put_back_now(self, keys: Sequence[KernelAddress], now: Instant) -> frozenset[KernelAddress]:
        there = set()
        for key in keys:
            held = self._held[key]
            held.put_back_at.append(now)
            if self._apply(held.renewal())[0] == 0:
                there.add(key)
        return frozenset(there)

    def contested(self, owner: str, now: Instant) -> list[KernelAddress]:
        """The addresses of a VirtualIP that somebody takes away again and again."""
        return [
            key
            for key in sorted(self.owned(owner))
            if len((held := self._held[key]).put_back_at) == CONTESTED_TIMES
            and held.put_back_at[-1] - held.put_back_at[0] < 2 * CONTESTED_WITHIN
            and now - held.put_back_at[-1] < 3 * CONTESTED_WITHIN
        ]

    def elsewhere(self, addresses: Iterable[KernelAddress]) -> list[LinkAddress]:
        """Where one of the addresses is already and was not put by Holdfast, on a link whose neighbours can ask for it.

        A copy on the loopback, on a dummy or on kube-ipvs0 is how hosts are told to take packets for a VIP; and nobody
        asks on a link that is off.
        """
        found = []
        for address in sorted(addresses):
            places = self.table.places_of(address.address)
            for place in sorted(places, key=lambda place: (place.index, place.prefix_length)):
                link = self.table.by_index.get(place.index)
                if link is not None and _has_neighbours(link):
                    found.append(place)
        return found

    def sentence_elsewhere(self, place: LinkAddress) -> str:
        """That an address is there already, for people."""
        return f"{text(place)} is on {self.table.by_index[place.index].name} already, not put there by Holdfast"

    # ----- give and take -----

    def claim(self, addresses: Iterable[bytes]) -> None:
        """Addresses that an engine before this one held: on kernels that do not say whose an address is, they are ours
        where they have a lifetime as we give it (LinkTable.is_ours)."""
        wanted = set(addresses)
        for index in self.table.by_index:
            for item in list(self.table.others(index)):
                if item.protocol == 0 and item.address in wanted:
                    self.table.apply(AddressRemoved(item))
                    self.table.claimed.add((index, item.address))
                    self.table.add((), (item,))

    def holds(self, addresses: Iterable[bytes]) -> bool:
        """Whether each of these is on the kernel for some VirtualIP."""
        there = {key.address for key in self._held}
        return there.issuperset(addresses)

    def owned(self, owner: str) -> frozenset[KernelAddress]:
        """What is on the kernel for a VirtualIP."""
        return self._owned.get(owner, frozenset())

    def _own(self, key: KernelAddress, held: _Held) -> None:
        self._held[key] = held
        self.table.held.add(held.address)
        self._owned[held.owner] = self.owned(held.owner) | {key}

    def _let_go(self, key: KernelAddress) -> _Held:
        held = self._held.pop(key)
        self.table.held.discard(held.address)
        self._waiting.pop(key, None)
        left = self.owned(held.owner) - {key}
        if left:
            self._owned[held.owner] = left
        else:
            self._owned.pop(held.owner, None)
        return held

    def change_hands(self, address: KernelAddress, owner: str) -> None:
        """A held address is another VirtualIP's from now on; on the kernel nothing happens."""
        if address in self._held and self._held[address].owner != owner:
            held = self._let_go(address)
            held.owner = owner
            self._own(address, held)

    def give(
        self, owner: str, addresses: Iterable[KernelAddress], routes: Mapping[KernelAddress, AddRoute], now: Instant
    ) -> dict[KernelAddress, int]:
        """Have the addresses on the kernel for a VirtualIP; the errno of each that the kernel refused."""
        wanted = sorted(addresses)
        for key in wanted:
            self.change_hands(key, owner)
        fresh = [key for key in wanted if key not in self._held]
        for key in fresh:
            self.table.claimed.add((key.index, key.address))
        # Exclusively: replacing would take an address over that somebody else has put there meanwhile.
        results = self._apply([AddAddress(key, LIFETIME_SECONDS, exclusive=True) for key in fresh])
        refused: dict[KernelAddress, int] = {}
        for key, code in zip(fresh, results, strict=True):
            if code == 0:
                self._own(key, _Held(owner, key))
            else:
                refused[key] = code
                self.table.claimed.discard((key.index, key.address))
        self._set_routes([key for key in wanted if key in self._held], routes)
        if self._held and self._renew_at is None:
            self._renew_at = Instant(now + RENEWAL_INTERVAL)
        return refused

    def set_routes(self, owner: str, routes: Mapping[KernelAddress, AddRoute]) -> None:
        """Make the routes that come with a VirtualIP's addresses what they should be by now."""
        self._set_routes(sorted(self.owned(owner)), routes)

    def _set_routes(self, keys: Iterable[KernelAddress], routes: Mapping[KernelAddress, AddRoute]) -> None:
        """Where the link has no prefix that holds an address, a route comes with it, and goes when there is one."""
        changes: list[Request] = []
        for key in keys:
            held, route = self._held[key], routes.get(key)
            if held.route == route:
                continue
            if held.route is not None:
                changes.append(_route_removal(held.route))
            if route is not None:
                changes.append(route)
            held.route = route
        self._apply(changes)

    def adopt(
        self, owner: str, addresses: Iterable[KernelAddress], routes: Mapping[KernelAddress, AddRoute], now: Instant
    ) -> None:
        """Of the addresses, those that an engine before this one left there: held from now on, and renewed at once.

        Engines up to 0.1 put them there with the user's prefix length. Over IPv4 the full length is added before the
        other is removed, so that the host answers all the time; over IPv6 an address is there once, and stays.
        """
        wanted = sorted(addresses)
        for key in wanted:
            places = self.table.find_ours(key.index, key.address)
            found = [KernelAddress(place.index, place.address, place.prefix_length) for place in places]
            if not found:
                continue
            self.table.claimed.add((key.index, key.address))
            if found[0] == key or len(key.address) == 16:
                self._own(key, _Held(owner, found.pop(0)))
            elif self._apply([AddAddress(key, LIFETIME_SECONDS)]) == [0]:
                self._own(key, _Held(owner, key))
            else:
                continue
            for other in found:
                self._replace(other, key)
        self._set_routes([key for key in wanted if key in self._held], routes)
        if self._held:
            self._renew_at = now

    def _replace(self, old: KernelAddress, key: KernelAddress) -> None:
        """Remove what an older engine put there with a subnet.

        Addresses of the host may be secondaries of it, and stay; where that cannot be, it stays until it is released.
        """
        if self._remove([old], keeps_others=True) != [0]:
            self._held[key].beside = old

    def take(self, addresses: Iterable[KernelAddress], owner: str) -> None:
        """Take addresses of a VirtualIP away; what has another owner by now stays."""
        self._end_renewal()
        gone = [key for key in sorted(addresses) if key in self._held and self._held[key].owner == owner]
        there = []
        routes = []
        for key in gone:
            held = self._let_go(key)
            there.append(held.address)
            if held.beside is not None and self._remove([held.beside], keeps_others=True) != [0]:
                there.append(held.beside)
            if held.route is not None and len(key.address) == 16 and not self._needed(held.route):
                routes.append(held.route)
        self._remove(there)
        self._apply([_route_removal(route) for route in routes])
        if not self._held:
            self._renew_at = None

    def _needed(self, route: AddRoute) -> bool:
        """Whether another address has the same route: over IPv6 the kernel keeps one for all of them."""
        same = (route.index, route.network, route.prefix_length)
        return any(
            held.route is not None and (held.route.index, held.route.network, held.route.prefix_length) == same
            for held in self._held.values()
        )

    def _remove(self, addresses: Sequence[KernelAddress], *, keeps_others: bool = False) -> list[int]:
        results = self._apply([RemoveAddress(address, keeps_others) for address in addresses])
        for address, result in zip(addresses, results, strict=True):
            if result == 0:
                self._own_removals[address] += 1
            elif result not in _ALREADY_GONE:
                # It expires by itself: nobody renews it any more.
                self._log.error(f"an address could not be removed: {told(result)}", address=text(address))
        return results

    def remove_leftovers(self, known: Set[bytes]) -> list[KernelAddress]:
        """Take away what a predecessor left of the known addresses; returns what was removed.

        Addresses of other Holdfast engines are not known here and stay: they expire by themselves.
        """
        held = {entry.address for entry in self._held.values()}
        leftovers = [
            address
            for index in self.table.by_index
            for item in self.table.ours(index)
            if (address := KernelAddress(item.index, item.address, item.prefix_length)) not in held
            and item.address in known
        ]
        for leftover in leftovers:
            of_full_length = leftover.prefix_length == 8 * len(leftover.address)
            if of_full_length or self._remove([leftover], keeps_others=True) != [0]:
                self._remove([leftover])
        return leftovers

    def _apply(self, requests: Sequence[Request]) -> list[int]:
        """The errno of each; a kernel that does not answer refuses all of it."""
        if not requests:
            return []
        try:
            return list(self._kernel.apply(requests))
        except EnvironmentFailure as failure:
            self._log.error(str(failure))
            return [errno.ETIMEDOUT] * len(requests)

    # ----- time -----

    def next_deadline(self) -> Instant | None:
        """When poll() has something to do."""
        times = [self._renew_at, self._dump_at, *self._waiting.values()]
        return min((at for at in times if at is not None), default=None)

    def poll(self, now: Instant) -> tuple[Changes | None, dict[KernelAddress, int]]:
        """Do what is due: what a second dump found, or what was put back; and the errno of each refused renewal.

        A renewal goes on beside the loop. One that is still under way is waiting for the kernel, and so would the next.
        """
        refused = self._renew(now)
        if self._dump_at is not None and now >= self._dump_at:
            return self._read_anew(now), refused
        due = [key for key, at in self._waiting.items() if at <= now]
        for key in due:
            del self._waiting[key]
        if due:
            return Changes((), self._put_back_now(due, now)), refused
        return None, refused

    def _renew(self, now: Instant) -> dict[KernelAddress, int]:
        if self._renew_at is None or now < self._renew_at:
            return {}
        self._renew_at = Instant(now + RENEWAL_INTERVAL)
        if self._kernel.is_renewing():
            return {}
        refused = self._end_renewal()
        held = [key for key in self._held if key not in self._waiting]
        requests = [(key, request) for key in held for request in self._held[key].renewal()]
        self._renewing = [key if isinstance(request, AddAddress) else None for key, request in requests]
        self._kernel.begin_renewal([request for _, request in requests])
        return refused

    def _end_renewal(self) -> dict[KernelAddress, int]:
        """Wait for a renewal that is under way, so that it puts nothing back that goes after this.

        Returns the errno of each address that was refused and is still held.
        """
        try:
            results = self._kernel.end_renewal() or ()
        except EnvironmentFailure as failure:
            self._log.error(str(failure))
            return {}
        renewed = zip(self._renewing, results, strict=False)
        return {key: code for key, code in renewed if code and key is not None and key in self._held}

    def renew_now(self) -> None:
        """Renew everything held, and wait for it."""
        self._end_renewal()
        self._apply([request for held in self._held.values() for request in held.renewal()])


def text(address: KernelAddress | LinkAddress) -> str:
    """An address with its prefix length, as people write it; without that where it is of full length."""
    plain = str(ip_address(address.address))
    return plain if address.prefix_length == 8 * len(address.address) else f"{plain}/{address.prefix_length}"


def _has_neighbours(link: Link) -> bool:
    return link.operational and link.answers_arp and not link.loopback and link.name != _OF_KUBE_PROXY


def _route_removal(route: AddRoute) -> RemoveRoute:
    return RemoveRoute(route.index, route.network, route.prefix_length, route.source)
