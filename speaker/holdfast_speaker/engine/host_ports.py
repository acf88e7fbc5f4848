"""Through which VIPs nothing of this host itself is reached: a level that is there before the addresses are (ADR 0034).

The addresses of a VirtualIP whose host ports are closed are closed for as long as it runs here, also while another node
holds it: a takeover waits for no packet filter. Where one of them is the host's own already, it is not held, and the
host stays reachable through it.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Set

from msgspec import Struct

from holdfast_speaker.engine.errnos import told
from holdfast_speaker.engine.ports import Kernel, Log, PortsClosed
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration

WAIT_BEFORE_A_HOLD = Duration(50 * MILLISECOND)
"""How long an address that is new is kept back until it is closed. After that it is held all the same."""

WAIT_AT_THE_END = SECOND
"""How long an engine that ends waits until its table is gone."""


class HostPortsCheckpoint(Struct, frozen=True):
    """Everything that HostPorts knows."""

    closed: dict[str, frozenset[bytes]] = {}
    """By VirtualIP."""
    asked: frozenset[bytes] = frozenset()
    """What the kernel was asked for last."""
    number: int = 0
    """Of what it was asked for last."""
    under_way: list[tuple[int, frozenset[bytes]]] = []
    """What it was asked for and has not answered yet."""
    certain: frozenset[bytes] = frozenset()
    """What is closed by what it has answered."""
    errno: int = 0


class HostPorts:
    """What this engine has closed."""

    def __init__(self, kernel: Kernel, log: Log) -> None:
        self._kernel = kernel
        self._log = log
        self._closed: dict[str, frozenset[bytes]] = {}
        self._asked = frozenset[bytes]()
        self._number = 0
        self._under_way: list[tuple[int, frozenset[bytes]]] = []
        self._certain = frozenset[bytes]()
        self._errno = 0

    def checkpoint(self) -> HostPortsCheckpoint:
        """What is closed, and what came of it."""
        return HostPortsCheckpoint(
            dict(self._closed), self._asked, self._number, list(self._under_way), self._certain, self._errno
        )

    def restore(self, known: HostPortsCheckpoint) -> None:
        """Know what another one knew; the kernel is asked nothing."""
        self._closed = dict(known.closed)
        self._asked = known.asked
        self._number = known.number
        self._under_way = list(known.under_way)
        self._certain = known.certain
        self._errno = known.errno

    # ----- the level -----

    def close(self, changes: Mapping[str, frozenset[bytes]]) -> None:
        """Close these addresses of VirtualIPs, before they are given; what they had before stays closed as yet."""
        for name, addresses in changes.items():
            if addresses:
                self._closed[name] = addresses
            else:
                self._closed.pop(name, None)
        wanted = self._wanted
        if not wanted <= self._asked:
            self._ask(wanted | self._asked)

    def forget(self, name: str) -> None:
        """A VirtualIP is gone, or has another name."""
        self._closed.pop(name, None)

    def open_others(self) -> None:
        """After addresses were taken off: what is not to be closed any more is open again."""
        wanted = self._wanted
        if wanted != self._asked:
            self._ask(wanted)

    def open_of(self, former: Set[bytes]) -> None:
        """At the start: what an engine before this one closed of these, and this one does not, is open again."""
        self._ask(self._wanted, frozenset(former))

    def end(self) -> None:
        """Nothing is held any more, and the engine ends."""
        self._closed.clear()
        if self._asked:
            self._ask(frozenset())
            code = self._kernel.await_closed_ports(WAIT_AT_THE_END)
            if code:
                self._log.warning(f"the rules that close this host's ports are left behind: {told(code)}")

    @property
    def _wanted(self) -> frozenset[bytes]:
        return frozenset[bytes]().union(*self._closed.values())

    def _ask(self, wanted: frozenset[bytes], no_longer: frozenset[bytes] = frozenset()) -> None:
        self._number += 1
        self._kernel.close_ports(self._number, wanted, no_longer - wanted)
        self._asked = wanted
        self._under_way.append((self._number, wanted))
        self._certain &= wanted
        if not wanted:
            self._errno = 0

    # ----- what came of it -----

    def await_closed(self, name: str) -> None:
        """Wait a moment, if need be, until the addresses of a VirtualIP are closed that are about to be given."""
        if self._closed.get(name, frozenset()) <= self._certain:
            return
        code = self._kernel.await_closed_ports(WAIT_BEFORE_A_HOLD)
        self._take(self._number, code)

    def take_in(self, event: PortsClosed) -> None:
        """What was asked for is done, or was refused, or somebody has changed rules."""
        if event.put_back and not event.errno:
            self._log.warning("somebody changed the rules that close this host's ports; they are back")
        self._take(event.number, event.errno)

    def _take(self, number: int, code: int) -> None:
        if not code:
            for _, closed in [one for one in self._under_way if one[0] == number]:
                self._certain = closed & self._asked
        if code != errno.ETIMEDOUT:
            self._under_way = [one for one in self._under_way if one[0] > number]
        if code == self._errno or not self._asked:
            return
        self._errno = code
        if code:
            self._log.error(f"the ports of this host are reached through VIPs: nf_tables: {told(code)}")
        else:
            self._log.info("the ports of this host are not reached through VIPs any more")

    def why_exposed(self, name: str) -> str:
        """Why this host's ports are reached through a VirtualIP though it closes them; empty: they are not."""
        if not self._errno or not self._closed.get(name):
            return ""
        return f"the ports of this host are reached through it: nf_tables: {told(self._errno)}"
