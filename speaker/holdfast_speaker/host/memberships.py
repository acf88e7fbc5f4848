"""Which multicast groups a link is really a member of, as the kernel lists them (/proc/net/igmp, /proc/net/igmp6).

A socket does not know: when a link loses a family and gets it again, the socket's own list still has the group, and the
link has not (net/ipv6/mcast.c, ipv6_mc_destroy_dev).
"""

from __future__ import annotations

import sys
from pathlib import Path


def is_member(index: int, group: bytes) -> bool | None:
    """Whether the link of this index is a member of the group; None where the kernel does not say."""
    try:
        if len(group) == 16:
            return _is_listed_v6(
                Path("/proc/self/net/igmp6").read_text(encoding="ascii", errors="replace"), index, group
            )
        return _is_listed_v4(Path("/proc/self/net/igmp").read_text(encoding="ascii", errors="replace"), index, group)
    except OSError:
        return None


def _is_listed_v6(table: str, index: int, group: bytes) -> bool:
    """A line for each link and group: index, name, group, users, flags, timer."""
    wanted = group.hex()
    return any(
        fields[2] == wanted and fields[0] == str(index) for line in table.splitlines() if (fields := line.split())[2:]
    )


def _is_listed_v4(table: str, index: int, group: bytes) -> bool:
    """A line for each link, indented lines for its groups, which are printed as numbers in the host's order."""
    wanted = f"{int.from_bytes(group, sys.byteorder):08X}"
    current = ""
    for line in table.splitlines():
        fields = line.split()
        if line[:1].isdigit():
            current = fields[0]
        elif current == str(index) and fields[:1] == [wanted]:
            return True
    return False
