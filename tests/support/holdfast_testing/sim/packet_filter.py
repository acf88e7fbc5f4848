"""The packet filter of a simulated host: the table `holdfast`, and the thread of an engine's process that keeps it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection
from dataclasses import dataclass

from holdfast_speaker.engine.ports import PortsClosed
from holdfast_speaker.host.closed_ports import CHECK_EVERY, TRY_AGAIN_AFTER
from holdfast_speaker.vrrp.instants import ZERO, Duration, Instant

ICMP, ICMPV6, TCP = 1, 58, 6


@dataclass(slots=True)
class _Thread:
    """What a process wants closed."""

    number: int = 0
    wanted: frozenset[bytes] = frozenset()
    no_longer: frozenset[bytes] = frozenset()
    done: int = 0
    code: int = 0
    due: Instant | None = None
    """When it has carried out what it was told last, or looks again; None: it has nothing to do."""


class PacketFilter:
    """What of a host's own is reached through which addresses. The table outlives the process that made it."""

    def __init__(self, now: Callable[[], Instant], changed: Callable[[], None]) -> None:
        self._now = now
        self._changed = changed
        self.closed: frozenset[bytes] | None = None
        """The addresses in the table; None: there is no table."""
        self.takes = ZERO
        """How long the kernel's lock on all rules is waited for."""
        self.refuses = 0
        """The errno with which nf_tables answers."""
        self.stands_still = False
        """The process does not run."""
        self._thread = _Thread()
        self._events: list[PortsClosed] = []

    def lets_in(self, destination: bytes, protocol: int, *, from_loopback: bool = False) -> bool:
        """Whether a packet to one of the host's own addresses gets to who listens there."""
        if self.closed is None or destination not in self.closed or from_loopback:
            return True
        return protocol == (ICMP if len(destination) == 4 else ICMPV6)

    def flush(self) -> None:
        """Somebody removes every table of the host."""
        self.closed = None
        self._changed()
        thread = self._thread
        if thread.wanted and thread.due is None:
            thread.due = Instant(self._now() + CHECK_EVERY)

    def process_ends(self) -> None:
        """Nobody keeps the table any more."""
        self._thread = _Thread()
        self._events.clear()
        self.stands_still = False

    # ----- time -----

    def next_deadline(self) -> Instant | None:
        """When the thread does something next."""
        return None if self.stands_still else self._thread.due

    def advance(self) -> None:
        """Let it do what is due by now."""
        due = self.next_deadline()
        if due is None or due > self._now():
            return
        thread = self._thread
        before = self.closed
        if not self.refuses:
            kept = (self.closed or frozenset()) - thread.no_longer | thread.wanted
            self.closed = kept or None
        is_new, changed = thread.number != thread.done, self.closed != before
        if is_new or thread.code != self.refuses or changed:
            self._events.append(PortsClosed(thread.number, self.refuses, put_back=changed and not is_new))
        thread.done, thread.code = thread.number, self.refuses
        thread.due = Instant(self._now() + TRY_AGAIN_AFTER) if self.refuses and thread.wanted else None
        if not self.refuses:
            thread.no_longer = frozenset()
        if changed:
            self._changed()

    # ----- the port of the engine -----

    @property
    def readable(self) -> bool:
        """Whether `events` has something to tell."""
        return bool(self._events)

    def events(self) -> list[PortsClosed]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def close(self, number: int, addresses: frozenset[bytes], no_longer: Collection[bytes]) -> None:
        """As Kernel.close_ports."""
        thread = self._thread
        thread.no_longer = (thread.no_longer | thread.wanted).union(no_longer) - addresses
        thread.wanted, thread.number = addresses, number
        thread.due = Instant(self._now() + self.takes)

    def left_to_wait(self) -> Duration:
        """How long it takes until what was asked for last is done."""
        thread = self._thread
        if thread.number == thread.done or thread.due is None:
            return ZERO
        return Duration(max(thread.due - self._now(), 0))

    def outcome(self) -> int:
        """The errno of what was asked for last; ETIMEDOUT where it is not done."""
        return self._thread.code if self._thread.number == self._thread.done else errno.ETIMEDOUT
