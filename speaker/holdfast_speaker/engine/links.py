"""The links of this host and their addresses, kept up to date from the kernel's events."""

from __future__ import annotations

from collections import Counter as Multiset
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence, Set
from typing import TypeVar

from msgspec import Struct

from holdfast_speaker.engine.ports import (
    LIFETIME_SECONDS,
    AddressAdded,
    AddressRemoved,
    Event,
    KernelAddress,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
    NextHop,
    NextHopsChanged,
)
from holdfast_speaker.vrrp.packet import is_link_local

# linux/rtnetlink.h and linux/if_addr.h
_SCOPE_GLOBAL = 0
_SCOPE_LINK = 253
_SCOPE_HOST = 254
_TEMPORARY = 0x01
"""IFA_F_TEMPORARY of IPv6; of IPv4 the same bit is IFA_F_SECONDARY."""
_DAD_FAILED = 0x08
_TENTATIVE = 0x40

_Key = tuple[bytes, int]
_Network = tuple[int, int, int]
"""Width, prefix length, and the network's bits as a number."""

_Counted = TypeVar("_Counted", bound=Hashable)


class LinksCheckpoint(Struct, frozen=True):
    """Everything that a LinkTable knows, in the order in which it came to know it."""

    links: list[Link]
    names: dict[str, int]
    """Which index has a name: while two links swap theirs, not every link has one."""
    ours: dict[int, list[LinkAddress]]
    others: dict[int, list[LinkAddress]]
    claimed: frozenset[tuple[int, bytes]]
    revision: int
    next_hops: list[NextHop] = []


class LinkTable:
    """What is known of this host's links and addresses.

    Between two dumps the table may lack some addresses of ours, because Kernel.changes leaves their additions out.
    Kernels before 5.18 do not tell whose an address is: there the addresses that were claimed are ours, if they have a
    lifetime as we give it.
    """

    def __init__(self) -> None:
        self.by_index: dict[int, Link] = {}
        self.revision = 0
        """Grows whenever a link, or a subnet of the host's own on one (or what may stand for it), came or went."""
        self.claimed: set[tuple[int, bytes]] = set()
        """Index and address of what we have put there, or took over from an engine before this one."""
        self.held: set[KernelAddress] = set()
        """What we renew: whoever puts it there as well will find it ours."""
        self.next_hops: Sequence[NextHop] = ()
        """Of the host's routes, sorted."""
        self._links_of_next_hops: dict[bytes, list[int]] = {}
        self._by_name: dict[str, Link] = {}
        # Apart, because there may be a thousand of ours, and most questions are about the few others.
        self._ours: dict[int, dict[_Key, LinkAddress]] = {}
        self._others: dict[int, dict[_Key, LinkAddress]] = {}
        self._others_by_address: dict[bytes, dict[tuple[int, int], LinkAddress]] = {}
        self._networks: dict[_Network, Multiset[int]] = {}
        self._prefix_lengths: Multiset[tuple[int, int]] = Multiset()
        # What is worked out of the others of a link, for 255 VirtualIPs at a time; forgotten when they change.
        self._sources: dict[int, dict[int, tuple[bytes, ...]]] = {}
        self._own: dict[int, frozenset[bytes]] = {}
        self._holding: dict[bytes, tuple[tuple[int, Multiset[int]], ...]] = {}

    # ----- taking in -----

    def replace(self, links: Iterable[Link], addresses: Iterable[LinkAddress]) -> None:
        """Forget everything and take this, from a dump, in its place."""
        for kept in (
            self.by_index,
            self._by_name,
            self._ours,
            self._others,
            self._others_by_address,
            self._networks,
            self._prefix_lengths,
            self._sources,
            self._own,
            self._holding,
        ):
            kept.clear()
        self.revision += 1
        for link in links:
            self._put(link)
        for address in addresses:
            self._add(address)

    def add(self, links: Iterable[Link], addresses: Iterable[LinkAddress]) -> None:
        """Take this in beside what is known: a dump in the middle of which something changed may lack something."""
        for link in links:
            self._put(link)
        for address in addresses:
            self._add(address)

    def checkpoint(self) -> LinksCheckpoint:
        """What this table knows now."""
        return LinksCheckpoint(
            links=list(self.by_index.values()),
            names={name: link.index for name, link in self._by_name.items()},
            ours={index: list(here.values()) for index, here in self._ours.items()},
            others={index: list(here.values()) for index, here in self._others.items()},
            claimed=frozenset(self.claimed),
            revision=self.revision,
            next_hops=list(self.next_hops),
        )

    def restore(self, known: LinksCheckpoint) -> None:
        """Know what a table knew, and nothing else."""
        self.replace(known.links, ())
        self._by_name = {name: self.by_index[index] for name, index in known.names.items()}
        self.claimed = set(known.claimed)
        for kept, addresses in ((self._ours, known.ours), (self._others, known.others)):
            for index, here in addresses.items():
                kept[index] = {(address.address, address.prefix_length): address for address in here}
        for here in known.others.values():
            for address in here:
                self._know_other(address)
        self.know_next_hops(known.next_hops)
        self.revision = known.revision

    def apply(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case LinkChanged(link):
                self._put(link)
            case LinkRemoved(index):
                self._remove_link(index)
            case AddressAdded(address):
                self._add(address)
            case AddressRemoved(address):
                self._forget(address)
            case NextHopsChanged(next_hops):
                self.know_next_hops(next_hops)

    def know_next_hops(self, next_hops: Iterable[NextHop]) -> None:
        """Take these in the place of those that were known; sorted."""
        self.next_hops = tuple(next_hops)
        self._links_of_next_hops = {}
        for index, address in self.next_hops:
            self._links_of_next_hops.setdefault(address, []).append(index)

    def is_ours(self, address: LinkAddress) -> bool:
        """Whether Holdfast put it there: it says so, or its kernel cannot say and we know."""
        if address.ours or address.protocol:
            return address.ours
        if KernelAddress(address.index, address.address, address.prefix_length) in self.held:
            return True
        is_short = address.valid_seconds is not None and address.valid_seconds <= LIFETIME_SECONDS
        return is_short and (address.index, address.address) in self.claimed

    def _add(self, address: LinkAddress) -> None:
        key = (address.address, address.prefix_length)
        ours = self.is_ours(address)
        here = (self._ours if ours else self._others).setdefault(address.index, {})
        if not ours:
            self._forget_worked_out(address.index)
        if not ours and key in here:  # renewed: it keeps its place, as its route does
            here[key] = address
            self._others_by_address[address.address][address.index, address.prefix_length] = address
            return
        self._forget(address)
        here[key] = address
        if not ours:
            self._know_other(address)

    def _know_other(self, address: LinkAddress) -> None:
        self._others_by_address.setdefault(address.address, {})[address.index, address.prefix_length] = address
        self._count_network(address, 1)

    def _forget(self, address: LinkAddress) -> None:
        key = (address.address, address.prefix_length)
        self._ours.get(address.index, {}).pop(key, None)
        known = self._others.get(address.index, {}).pop(key, None)
        if known is not None:
            self._forget_other(known)

    def _forget_worked_out(self, index: int) -> None:
        self._sources.pop(index, None)
        self._own.pop(index, None)

    def _forget_other(self, known: LinkAddress) -> None:
        self._forget_worked_out(known.index)
        places = self._others_by_address[known.address]
        del places[known.index, known.prefix_length]
        if not places:
            del self._others_by_address[known.address]
        self._count_network(known, -1)

    def _count_network(self, address: LinkAddress, change: int) -> None:
        width = len(address.address)
        if address.prefix_length >= 8 * width:  # it has no subnet; but the subnets of VIPs may be reached by it
            link = self.by_index.get(address.index)
            self.revision += link is not None and link.answers_arp
            return
        self._holding.clear()
        network = _network(address.address, address.prefix_length)
        indexes = self._networks.setdefault(network, Multiset())
        before = indexes[address.index]
        _count(indexes, address.index, change)
        if not before or not indexes[address.index]:
            self.revision += 1
        _count(self._prefix_lengths, (width, address.prefix_length), change)
        if not self._networks[network]:
            del self._networks[network]

    def _put(self, link: Link) -> None:
        if self.by_index.get(link.index) != link:
            self.revision += 1
        self._forget_name(link.index)
        self.by_index[link.index] = link
        self._by_name[link.name] = link

    def _remove_link(self, index: int) -> None:
        self.revision += 1
        self._forget_name(index)
        self.by_index.pop(index, None)
        self._ours.pop(index, None)
        for address in self._others.pop(index, {}).values():
            self._forget_other(address)
        self.claimed = {(at, address) for at, address in self.claimed if at != index}

    def _forget_name(self, index: int) -> None:
        link = self.by_index.get(index)
        # After a swap of names the old name may be another link's by now.
        if link and self._by_name.get(link.name) is link:
            del self._by_name[link.name]

    # ----- asking -----

    def link(self, name: str) -> Link | None:
        """The link of that name; None when there is none."""
        return self._by_name.get(name)

    def addresses(self, index: int) -> list[LinkAddress]:
        """The addresses of a link: the others, then ours."""
        return [*self.others(index), *self.ours(index)]

    def ours(self, index: int) -> Collection[LinkAddress]:
        """The addresses of a link that Holdfast put there."""
        return self._ours.get(index, {}).values()

    def others(self, index: int) -> Collection[LinkAddress]:
        """The addresses of a link that are not ours, in the order in which they came to be known."""
        return self._others.get(index, {}).values()

    def own(self, index: int) -> frozenset[bytes]:
        """The addresses of a link that are not ours, without their prefix lengths."""
        found = self._own.get(index)
        if found is None:
            found = self._own[index] = frozenset(address.address for address in self.others(index))
        return found

    def sources(self, index: int, width: int) -> tuple[bytes, ...]:
        """The addresses that advertisements on this link can come from, the best first.

        Over IPv4 those of global scope, then of a narrower one (but not the host's); over IPv6 the link-local ones
        (RFC 9568 section 5.1.2.1). One that is still tentative, or that another host has (RFC 4862), cannot be used.
        """
        by_width = self._sources.get(index)
        if by_width is None:
            usable = [address for address in self.others(index) if not _is_unusable(address)]
            narrower = [address for address in usable if len(address.address) == 4 and address.scope < _SCOPE_HOST]
            link_local = (a.address for a in usable if len(a.address) == 16 and a.scope == _SCOPE_LINK)
            by_width = self._sources[index] = {
                4: tuple(address.address for address in sorted(narrower, key=lambda address: address.scope)),
                16: tuple(link_local),
            }
        return by_width[width]

    def places_of(self, address: bytes) -> Collection[LinkAddress]:
        """Where an address is that is not ours, in no order."""
        return self._others_by_address.get(address, {}).values()

    def next_hop_on(self, address: bytes, index: int | None) -> int | None:
        """The link on which a route of the host leads through this address; None: none does.

        `index` is the link that the address shall be on: one of link-local scope (RFC 4291 section 2.5.6) is another on
        every link.
        """
        links = self._links_of_next_hops.get(address)
        if not links or (is_link_local(address) and index not in links):
            return None
        return index if index in links else links[0]

    def find_ours(self, index: int, address: bytes) -> list[LinkAddress]:
        """Where an address of ours is on a link, the longest prefix first: an engine of an older version may have put
        it there with its subnet, and one after it with its full length beside that."""
        here = self._ours.get(index, {})
        lengths = range(8 * len(address), -1, -1)
        return [here[address, length] for length in lengths if (address, length) in here]

    def prefix_length_for(self, index: int, address: bytes) -> int:
        """The longest prefix of the link's own addresses that holds this address; 0: none does."""
        return next((length for length, indexes in self._prefixes_of(address) if index in indexes), 0)

    def reaches(self, index: int, address: bytes, prefix_length: int) -> bool:
        """Whether the link's own addresses say how the subnet of this one is reached: a prefix of theirs holds it, or
        they lie in it."""
        if self.prefix_length_for(index, address):
            return True
        network = _network(address, prefix_length)
        return any(len(own) == len(address) and _network(own, prefix_length) == network for own in self.own(index))

    def links_for(self, address: bytes) -> Iterator[tuple[int, list[Link]]]:
        """Links whose own subnet holds this address, by prefix length, the longest first; never the loopback."""
        for length, indexes in self._prefixes_of(address):
            links = [self.by_index[index] for index in sorted(indexes) if index in self.by_index]
            yield length, [link for link in links if not link.loopback]

    def _prefixes_of(self, address: bytes) -> tuple[tuple[int, Multiset[int]], ...]:
        """The prefixes that hold an address, the longest first, and the links that have them."""
        found = self._holding.get(address)
        if found is None:
            width = len(address)
            lengths = sorted((length for at, length in self._prefix_lengths if at == width), reverse=True)
            networks = ((length, self._networks.get(_network(address, length))) for length in lengths)
            found = self._holding[address] = tuple((length, links) for length, links in networks if links)
        return found


def _network(address: bytes, prefix_length: int) -> _Network:
    width = len(address)
    return width, prefix_length, int.from_bytes(address, "big") >> (8 * width - prefix_length)


def network_of(address: bytes, prefix_length: int) -> bytes:
    """The address of the subnet: all bits behind the prefix are cleared.

    >>> network_of(bytes((10, 9, 3, 200)), 22)
    b'\\n\\t\\x00\\x00'
    """
    width, _, bits = _network(address, prefix_length)
    return (bits << 8 * width - prefix_length).to_bytes(width, "big")


def _count(counts: Multiset[_Counted], key: _Counted, change: int) -> None:
    counts[key] += change
    if not counts[key]:
        del counts[key]


def telling_address(addresses: Sequence[tuple[bytes, int]]) -> bytes:
    """The address of a VIP that tells its link: the first, and a link-local one (which fits every link) only alone."""
    return next((address for address, _ in addresses if not is_link_local(address)), addresses[0][0])


def interface_for(table: LinkTable, addresses: Sequence[tuple[bytes, int]]) -> Link | None:
    """The link in whose subnet the addresses of a VIP lie; None when there is none.

    It is judged by `telling_address`; where no link has a subnet for that, by that of the other family. Loopback,
    addresses of ours, and addresses of full length (which have no subnet: kube-proxy keeps a copy of VIPs on a link of
    its own) say nothing. A port of a bridge or bond that has a subnet for it as well is none: what arrives gets to the
    bridge. The longest prefix wins, then the link that was made first.
    """
    telling = telling_address(addresses)
    other_family = [(address, length) for address, length in addresses if len(address) != len(telling)]
    judges = [telling, telling_address(other_family)] if other_family else [telling]
    for address in judges:
        links = [link for _, some in table.links_for(address) for link in some]
        indexes = {link.index for link in links}
        hearing = [link for link in links if link.controller not in indexes]
        if hearing:
            return hearing[0]
    return None


def is_usable(table: LinkTable, index: int, address: bytes) -> bool:
    """Whether the link has this address, of whatever scope, and it can be sent from."""
    return any(known.index == index and not _is_unusable(known) for known in table.places_of(address))


def _is_unusable(address: LinkAddress) -> bool:
    return bool(address.flags & (_TENTATIVE | _DAD_FAILED))


def own_addresses(table: LinkTable, vips: Set[bytes]) -> list[tuple[Link, list[LinkAddress]]]:
    """The links that a VIP can live on, by name, with their own addresses: those with a global one.

    Left out: loopback; VIPs; addresses that come and go (temporary ones of IPv6) or are not usable yet; and links that
    are down and have no subnet at all, as the ones where kube-proxy (IPVS) keeps its Services.
    """
    found = []
    for link in sorted(table.by_index.values(), key=lambda link: link.name):
        if link.loopback:
            continue
        own = [one for one in table.others(link.index) if _stays(one) and one.address not in vips]
        has_subnet = any(one.prefix_length < 8 * len(one.address) for one in own)
        if (link.admin_up or has_subnet) and any(one.scope == _SCOPE_GLOBAL for one in own):
            found.append((link, own))
    return found


def _stays(address: LinkAddress) -> bool:
    return not (_is_unusable(address) or (len(address.address) == 16 and address.flags & _TEMPORARY))


def why_no_source(table: LinkTable, index: int, width: int, wanted: bytes | None) -> str:
    """Why there is no address to send from, as the end of "eth0 has no IPv4 address to send from"."""
    here = [address for address in table.others(index) if len(address.address) == width]
    if wanted is not None:
        here = [address for address in here if address.address == wanted]
        if not here:
            return "the configured source address is not on it"
    if any(address.flags & _DAD_FAILED for address in here):
        return "another host has its address (duplicate address detection failed)"
    if any(address.flags & _TENTATIVE for address in here):
        return "its address is still being checked for duplicates"
    if here:
        return "what it has is no link-local address" if width == 16 else "what it has is of the host's scope or a VIP"
    return ""
