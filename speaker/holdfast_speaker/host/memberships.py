"""Which multicast groups a link is really a member of, as the kernel lists them (/proc/net/igmp, /proc/net/igmp6).

A socket does not know: when a link loses a family and gets it again, the socket's own list still has the group, and the
link has not (net/ipv6/mcast.c, ipv6_mc_destroy_dev).
"""

from __future__ import annotations

import sys
from pathlib import Path

_LIST_V4, _LIST_V6 = Path("/proc/self/net/igmp"), Path("/proc/self/net/igmp6")


class Memberships:
    """What the kernel says now: its lists are read once, however many links they are asked about."""

    def __init__(self, list_v4: Path = _LIST_V4, list_v6: Path = _LIST_V6) -> None:
        self._list_v4 = list_v4
        self._list_v6 = list_v6
        self._members: dict[bytes, frozenset[int] | None] = {}

    def is_member(self, index: int, group: bytes) -> bool | None:
        """Whether the link of this index is a member of the group; None where the kernel does not say."""
        if group not in self._members:
            self._members[group] = self._read(group)
        members = self._members[group]
        return None if members is None else index in members

    def _read(self, group: bytes) -> frozenset[int] | None:
        """The indexes of the links that are members."""
        try:
            if len(group) == 16:
                return _members_v6(self._list_v6.read_text(encoding="ascii", errors="replace"), group)
            return _members_v4(self._list_v4.read_text(encoding="ascii", errors="replace"), group)
        except OSError:
            return None


def _members_v6(table: str, group: bytes) -> frozenset[int]:
    """A line for each link and group: index, name, group, users, flags, timer."""
    wanted = group.hex()
    lines = (line.split() for line in table.splitlines() if wanted in line)
    return frozenset(int(fields[0]) for fields in lines if fields[2:3] == [wanted])


def _members_v4(table: str, group: bytes) -> frozenset[int]:
    """A line for each link, indented lines for its groups, which are printed as numbers in the host's order."""
    wanted = f"{int.from_bytes(group, sys.byteorder):08X}"
    found = set()
    current = ""
    for line in table.splitlines():
        if line[:1].isdigit():
            current = line.split(maxsplit=1)[0]
        elif current and line.split(maxsplit=1)[:1] == [wanted]:
            found.add(int(current))
    return frozenset(found)
