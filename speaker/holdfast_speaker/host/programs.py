"""Whether another program on this host speaks VRRP: the kernel lists every raw socket with its protocol.

keepalived, FRR and `holdfast run` have such sockets, and what they send does not come back to this host: they switch
the loopback of their multicast off.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Final

from holdfast_speaker.vrrp.packet import PROTOCOL

_LISTS: Final = (Path("/proc/self/net/raw"), Path("/proc/self/net/raw6"))

_LOCAL_ADDRESS, _INODE = 1, 9


def others_speak_vrrp(own: Container[int], lists: tuple[Path, ...] = _LISTS) -> bool:
    """Whether there is a raw socket of VRRP whose inode is none of our own. Where the kernel does not say: no."""
    return any(inode not in own for path in lists for inode in _inodes(path))


def _inodes(path: Path) -> list[int]:
    """Of the sockets of VRRP. Where other sockets have a port, the list has the protocol of these (net/ipv4/raw.c)."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()[1:]
    except OSError:
        return []
    fields = [found for line in lines if len(found := line.split()) > _INODE]
    wanted = f":{PROTOCOL:04X}"
    return [
        int(found[_INODE]) for found in fields if found[_LOCAL_ADDRESS].endswith(wanted) and found[_INODE].isdigit()
    ]
