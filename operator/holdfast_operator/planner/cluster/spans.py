"""Sets of addresses, as many as an IPv6 prefix has, by their first and last ones. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from holdfast_api.addresses import Address


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """All addresses of one family from the first to the last, both included."""

    version: int
    first: int
    last: int

    def __str__(self) -> str:
        """As a pool's specification has it."""
        first, last = self.at(self.first), self.at(self.last)
        return str(first) if first == last else f"{first}-{last}"

    def at(self, number: int) -> Address:
        """The address of this family that has the number."""
        return IPv4Address(number) if self.version == 4 else IPv6Address(number)

    @property
    def size(self) -> int:
        """How many they are."""
        return self.last - self.first + 1


def span_of(address: Address) -> Span:
    """One address alone."""
    return Span(address.version, int(address), int(address))


class Spans:
    """Spans that have nothing in common, in order."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        merged: list[Span] = []
        for span in sorted(spans):
            if merged and merged[-1].version == span.version and span.first <= merged[-1].last + 1:
                before = merged.pop()
                span = Span(span.version, before.first, max(before.last, span.last))
            merged.append(span)
        self._spans = merged
        self._begins = [(span.version, span.first) for span in merged]

    def __iter__(self) -> Iterator[Span]:
        """In order."""
        return iter(self._spans)

    def __contains__(self, address: Address) -> bool:
        """Whether it is one of them."""
        number = int(address)
        place = bisect.bisect_right(self._begins, (address.version, number)) - 1
        return place >= 0 and self._spans[place].version == address.version and number <= self._spans[place].last

    @property
    def size(self) -> int:
        """How many addresses."""
        return sum(span.size for span in self._spans)

    @property
    def versions(self) -> list[int]:
        """The families that they have, 4 before 6."""
        return sorted({span.version for span in self._spans})

    def meeting(self, others: Spans) -> Span | None:
        """The first of these that has an address in common with one of the others."""
        for span in self._spans:
            for other in others:
                if other.version == span.version and other.first <= span.last and span.first <= other.last:
                    return span
        return None

    def without(self, others: Spans) -> Spans:
        """These, less what the others have."""
        left: list[Span] = []
        for span in self._spans:
            first = span.first
            for other in others:
                if other.version != span.version or other.last < first or span.last < other.first:
                    continue
                if other.first > first:
                    left.append(Span(span.version, first, other.first - 1))
                first = other.last + 1
            if first <= span.last:
                left.append(Span(span.version, first, span.last))
        return Spans(left)

    def free(self, version: int, taken: Collection[Address], lowest: int = 0) -> Address | None:
        """The lowest one of a family, from the number `lowest` on, that is not taken."""
        for span in self._spans:
            if span.version == version:
                for number in range(max(span.first, lowest), span.last + 1):
                    address = span.at(number)
                    if address not in taken:
                        return address
        return None
