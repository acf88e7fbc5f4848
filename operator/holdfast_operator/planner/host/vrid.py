"""Virtual router ids for VirtualIPs that pin none, the same wherever they are worked out.

Nothing is remembered and nobody is asked, so hosts that read the same VirtualIPs agree by themselves. What holds:

* The order of the claims does not matter.
* A pinned id stays as it is, and an allocated id is in conflict with no other claim.
* A claim without a pinned id never changes the id of one whose name sorts before it.
* Any claim, by coming or going, changes another id only if its own id belongs to somebody else while it is not there.

So an allocated id can change when VirtualIPs come and go, if two of them want the same one. Pin an id that must not.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

VRIDS = 255
"""RFC 9568 section 5.2.3: ids are 1 to 255."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One VirtualIP's wish for a virtual router id on a link."""

    name: str
    """namespace/name, unique among the claims."""
    families: frozenset[int]
    """4, 6 or both: an IPv4 and an IPv6 virtual router may have the same id (RFC 9568 section 5.2.3)."""
    pinned: int | None = None


def first_choice(name: str) -> int:
    """The id that a VirtualIP gets where no other wants it.

    >>> first_choice("default/web")
    175
    """
    return 1 + zlib.crc32(name.encode()) % VRIDS


def choices(name: str) -> Iterator[int]:
    """Every id, in the order in which a VirtualIP wants them."""
    first = first_choice(name) - 1
    return (1 + (first + step) % VRIDS for step in range(VRIDS))


def allocate(claims: Iterable[Claim]) -> dict[str, int]:
    """The id of each claim by its name, for claims that may meet on one link.

    Pinned ids first; then in order of names, each from its first choice on upwards and around to one that is free in
    all its families. A claim for which there is none is missing in the answer.
    """
    ordered = sorted(claims, key=lambda claim: claim.name)
    allocated = {claim.name: claim.pinned for claim in ordered if claim.pinned is not None}
    taken = {
        (family, allocated[claim.name]) for claim in ordered if claim.name in allocated for family in claim.families
    }
    for claim in ordered:
        if claim.pinned is None:
            vrid = _free(claim, taken)
            if vrid is not None:
                allocated[claim.name] = vrid
                taken |= {(family, vrid) for family in claim.families}
    return allocated


def _free(claim: Claim, taken: set[tuple[int, int]]) -> int | None:
    for vrid in choices(claim.name):
        if not any((family, vrid) in taken for family in claim.families):
            return vrid
    return None
