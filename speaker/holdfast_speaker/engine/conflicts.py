"""Whether somebody else has an address that is to be held here: the packets of RFC 5227 and RFC 4862, not their times.

Where no Master was heard, three probes go out within one interval before a first hold. While an address is held, it is
asked for with every repeated announcement. An answer from a member's own MAC address is none: hosts keep copies of VIPs
on their loopback.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from msgspec import Struct

from holdfast_speaker.engine.instance import Instance
from holdfast_speaker.engine.ports import NeighbourAnswer, Wire
from holdfast_speaker.vrrp.instants import MILLISECOND, SECOND, Duration, Instant

PROBES = 3
SPAN_MAXIMUM = Duration(300 * MILLISECOND)
ASK_AGAIN_AFTER = Duration(10 * SECOND)
"""How long an address that somebody else has is left alone before it is asked for again."""

ASK_AGAIN_FIRST_AFTER = Duration(3 * SECOND)
"""The same the first time."""

_ANSWER_WITHIN = Duration(SECOND)
_PASSED_LASTS = Duration(SECOND)
"""How long a check that found nobody counts."""


@dataclass(slots=True)
class _Check:
    """Probes that were sent, and what came of them."""

    next_at: Instant
    decided_at: Instant
    step: Duration
    left: int
    answers: dict[bytes, bytes] = field(default_factory=dict)
    members: set[bytes] = field(default_factory=set)
    """The MAC addresses of members, as far as they answered for themselves."""


class ConflictsCheckpoint(Struct, frozen=True):
    """Everything that Conflicts knows."""

    checks: dict[str, _Check]
    passed: dict[str, Instant]


class Conflicts:
    """The checks that are under way, by the name of the VirtualIP."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._checks: dict[str, _Check] = {}
        self._passed: dict[str, Instant] = {}

    def checkpoint(self) -> ConflictsCheckpoint:
        """The checks that are under way, and those that found nobody a moment ago."""
        return ConflictsCheckpoint(_copies(self._checks), dict(self._passed))

    def restore(self, known: ConflictsCheckpoint) -> None:
        """Know what another one knew."""
        self._checks, self._passed = _copies(known.checks), dict(known.passed)

    # ----- before a hold -----

    def begin(self, instance: Instance, at: Instant) -> None:
        """Send the first probe at `at`, the others within three quarters of an interval; then it is decided."""
        step = self._step(instance)
        self._checks[instance.name] = _Check(at, Instant(at + PROBES * step), step, PROBES)

    def plan(self, instance: Instance, due: Instant) -> None:
        """Have a check decided when this Backup is due to hold for the first time, unless one was just now."""
        check, passed = self._checks.get(instance.name), self._passed.get(instance.name)
        if check is not None and check.left < PROBES:
            return  # under way
        if passed is not None and due <= passed + _PASSED_LASTS:
            return
        self.begin(instance, Instant(due - PROBES * self._step(instance)))

    def has_passed(self, name: str, now: Instant) -> bool:
        """Whether nobody else had the addresses a moment ago."""
        passed = self._passed.get(name)
        return passed is not None and now <= passed + _PASSED_LASTS

    @staticmethod
    def _step(instance: Instance) -> Duration:
        return Duration(min(Duration(instance.interval * 3 // 4), SPAN_MAXIMUM) // PROBES)

    def ask_once(self, instance: Instance, now: Instant) -> None:
        """Ask for held addresses, and for their neighbours' answers within a second."""
        self._checks[instance.name] = _Check(now, Instant(now + _ANSWER_WITHIN), _ANSWER_WITHIN, 1)

    def drop(self, name: str) -> None:
        """It no longer matters: a Master was heard, or the VirtualIP is gone."""
        self._checks.pop(name, None)
        self._passed.pop(name, None)

    def forget(self, name: str) -> None:
        """A VirtualIP is no longer run here, or not by this name."""
        self.drop(name)

    def is_under_way(self, name: str) -> bool:
        """Whether a check was begun and is not decided."""
        return name in self._checks

    def next_deadline(self, name: str) -> Instant | None:
        """When there is something to send or to decide."""
        check = self._checks.get(name)
        return None if check is None else min(check.next_at, check.decided_at) if check.left else check.decided_at

    def poll(self, instance: Instance, now: Instant) -> dict[bytes, bytes] | None:
        """Send what is due. Who has which address (address -> MAC) once it is decided, None before."""
        check = self._checks.get(instance.name)
        if check is None:
            return None
        while check.left and check.next_at <= now:
            check.left -= 1
            check.next_at = Instant(max(check.next_at, now) + check.step)
            if instance.link is not None:
                self._wire.transmit(instance.link.index, instance.questions_for_addresses())
                self._wire.transmit(instance.link.index, instance.questions_to_members())
        if check.left:  # it was late: the probes keep their distance
            check.decided_at = max(check.decided_at, Instant(check.next_at + check.step))
            return None
        if now < check.decided_at:
            return None
        del self._checks[instance.name]
        conflict = {address: mac for address, mac in check.answers.items() if mac not in check.members}
        if not conflict:
            self._passed[instance.name] = now
        return conflict

    # ----- answers -----

    @property
    def names(self) -> Iterable[str]:
        """The VirtualIPs that wait for answers."""
        return self._checks

    def hear(self, instance: Instance, answers: Iterable[NeighbourAnswer]) -> None:
        """Neighbours on the instance's link answered."""
        check = self._checks.get(instance.name)
        if check is None or instance.link is None:
            return
        wanted = {address for address, _ in instance.addresses}
        for answer in answers:
            if answer.mac == instance.link.mac:
                continue
            if answer.address in instance.members:
                check.members.add(answer.mac)
            elif answer.address in wanted:
                check.answers[answer.address] = answer.mac


def _copies(checks: dict[str, _Check]) -> dict[str, _Check]:
    return {
        name: replace(check, answers=dict(check.answers), members=set(check.members)) for name, check in checks.items()
    }


def sentence(conflict: dict[bytes, bytes]) -> str:
    """Who has which address.

    >>> sentence({bytes((10, 9, 0, 200)): bytes.fromhex("020000000007")})
    '10.9.0.200 is in use by 02:00:00:00:00:07'
    """
    return ", ".join(f"{ip_address(address)} is in use by {mac.hex(':')}" for address, mac in sorted(conflict.items()))
