"""The links of this host and their addresses, kept up to date from netlink events. Pure."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Sequence, Set

from holdfast_speaker.engine.ports import (
    AddressAdded,
    AddressRemoved,
    Event,
    Link,
    LinkAddress,
    LinkChanged,
    LinkRemoved,
)

# linux/rtnetlink.h and linux/if_addr.h
_SCOPE_GLOBAL = 0
_SCOPE_LINK = 253
_DAD_FAILED = 0x08
_TENTATIVE = 0x40


class LinkTable:
    """What is known of this host's links and addresses.

    MonitorSocket leaves out that an address of ours was added, so between two dumps the table may lack some of ours.
    """

    def __init__(self) -> None:
        self.by_index: dict[int, Link] = {}
        self._by_name: dict[str, Link] = {}
        # Apart, because there may be a thousand of ours, and most questions are about the few others.
        self._ours: dict[int, dict[tuple[bytes, int], LinkAddress]] = {}
        self._others: dict[int, dict[tuple[bytes, int], LinkAddress]] = {}

    def replace(self, links: Iterable[Link], addresses: Iterable[LinkAddress]) -> None:
        """Forget everything and take this, from dumps, in its place."""
        self.by_index.clear()
        self._by_name.clear()
        self._ours.clear()
        self._others.clear()
        for link in links:
            self._put(link)
        for address in addresses:
            self.apply(AddressAdded(address))

    def apply(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case LinkChanged(link):
                self._put(link)
            case LinkRemoved(index):
                self._remove(index)
            case AddressAdded(address):
                self._forget(address)
                kept = self._ours if address.ours else self._others
                kept.setdefault(address.index, {})[address.address, address.prefix_length] = address
            case AddressRemoved(address):
                self._forget(address)

    def _forget(self, address: LinkAddress) -> None:
        for kept in (self._ours, self._others):
            kept.get(address.index, {}).pop((address.address, address.prefix_length), None)

    def _put(self, link: Link) -> None:
        self._forget_name(link.index)
        self.by_index[link.index] = link
        self._by_name[link.name] = link

    def _remove(self, index: int) -> None:
        self._forget_name(index)
        self.by_index.pop(index, None)
        self._ours.pop(index, None)
        self._others.pop(index, None)

    def _forget_name(self, index: int) -> None:
        link = self.by_index.get(index)
        # After a swap of names the old name may be another link's by now.
        if link and self._by_name.get(link.name) is link:
            del self._by_name[link.name]

    def link(self, name: str) -> Link | None:
        """The link of that name; None when there is none."""
        return self._by_name.get(name)

    def addresses(self, index: int) -> list[LinkAddress]:
        """The addresses of a link: the others, then ours, each in the kernel's order."""
        return [*self.others(index), *self._ours.get(index, {}).values()]

    def others(self, index: int) -> Collection[LinkAddress]:
        """The addresses of a link that are not ours, in the kernel's order."""
        return self._others.get(index, {}).values()

    def has_ours(self, index: int, address: bytes, prefix_length: int) -> bool:
        """Whether the link had this address of ours at the last dump, and has not lost it since."""
        return (address, prefix_length) in self._ours.get(index, {})


def interface_for(table: LinkTable, addresses: Sequence[tuple[bytes, int | None]]) -> Link | None:
    """The link in whose subnet the addresses of a VIP lie, judged by the first; None when there is none.

    Loopback, addresses of ours, and addresses of full length (which have no subnet: kube-proxy keeps a copy of VIPs
    on a link of its own) say nothing. Link-local addresses fit every link, so they decide only when there are no
    others. The longest prefix wins, then the link that was made first.
    """
    telling = [address for address, _ in addresses if not _is_link_local(address)] or [a for a, _ in addresses]
    if not telling:
        return None
    fitting = [
        (-own.prefix_length, link.index)
        for link in table.by_index.values()
        if not link.loopback
        for own in table.others(link.index)
        if _in_subnet(telling[0], own)
    ]
    return table.by_index[min(fitting)[1]] if fitting else None


def _is_link_local(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _in_subnet(address: bytes, own: LinkAddress) -> bool:
    bits = len(own.address) * 8
    if len(address) != len(own.address) or own.prefix_length >= bits:
        return False
    shift = bits - own.prefix_length
    return int.from_bytes(address, "big") >> shift == int.from_bytes(own.address, "big") >> shift


def source_address(
    table: LinkTable, index: int, family: int, excluded: Set[bytes], wanted: bytes | None
) -> bytes | None:
    """The address that advertisements on this link come from; None while there is none.

    With `wanted` it is that and no other, as soon as it is on the link. By default it is the first address of global
    scope over IPv4, the first link-local one over IPv6 (RFC 9568 section 5.1.2.1), and never a VIP: neither one of
    ours nor one of `excluded`. One that is still tentative (RFC 4862) cannot be used yet.
    """
    usable = [
        address
        for address in table.others(index)
        if address.family == family and not address.flags & (_TENTATIVE | _DAD_FAILED)
    ]
    if wanted is not None:
        return wanted if any(address.address == wanted for address in usable) else None
    scope = _SCOPE_LINK if family == socket.AF_INET6 else _SCOPE_GLOBAL
    for address in usable:
        if address.scope == scope and address.address not in excluded:
            return address.address
    return None


def has_subnet_of(table: LinkTable, index: int, address: bytes) -> bool:
    """Whether the link has an address of its own, not one of ours, whose subnet holds this address."""
    return any(_in_subnet(address, own) for own in table.others(index))
