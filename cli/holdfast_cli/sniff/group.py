"""One virtual router as the wire shows it: who advertises, who of them is Master, and what changes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from holdfast_cli.sniff.changes import (
    AddressesChanged,
    Claim,
    FellSilent,
    IntervalChanged,
    MasterChanged,
    MoveReason,
    OneMaster,
    PriorityChanged,
    Released,
    RouterChange,
    RouterHeard,
    TwoMasters,
    band,
)
from holdfast_cli.sniff.packets import Advertisement

_NANOSECONDS_OF_A_MILLISECOND = 1_000_000
_SECOND_IN_MILLISECONDS = 1000


def milliseconds(nanoseconds: int) -> float:
    """With three decimals, as much as a capture is good for."""
    return round(nanoseconds / _NANOSECONDS_OF_A_MILLISECOND, 3)


@dataclass(slots=True)
class _Router:
    last: Advertisement
    """The last one that was not priority 0."""
    last_at: int
    """Of any packet of it."""
    is_speaking: bool = True
    """It advertises as Master, and is expected to go on."""

    @property
    def rank(self) -> tuple[int, Any]:
        """Who has the greater one stays Master (RFC 9568 section 6.4.3)."""
        return self.last.priority, ipaddress.ip_address(self.last.source)

    def patience(self) -> int:
        """Active_Down_Interval with the router's own priority, in nanoseconds: RFC 9568 section 6.1, RFC 3768 6.1."""
        interval = self.last.interval_milliseconds
        skewed = interval if self.last.version == 3 else _SECOND_IN_MILLISECONDS
        in_256ths = 256 * 3 * interval + (256 - self.last.priority) * skewed
        return in_256ths * _NANOSECONDS_OF_A_MILLISECOND // 256

    def is_gone(self, at: int) -> bool:
        """Whether a Backup may have taken over: three intervals, for the Backup's skew is its own."""
        return at - self.last_at >= 3 * self.last.interval_milliseconds * _NANOSECONDS_OF_A_MILLISECOND


class Group:
    """The routers of one link, IP version and VRID, in every version of the protocol."""

    def __init__(self, link: str, family: int, virtual_router_id: int) -> None:
        self._identity: dict[str, Any] = {
            "link": link,
            "family": family,
            "virtual_router_id": virtual_router_id,
        }
        self._routers: dict[str, _Router] = {}
        self._master: str | None = None
        self._former: tuple[str, MoveReason] | None = None
        """Who was Master last and how it ceased, while nobody is."""
        self._conflict_since: int | None = None
        self._losers: set[str] = set()
        """Who was told of in this conflict."""

    def deadline(self) -> int | None:
        """When the next router will have been silent too long; None while none speaks."""
        return min((router.last_at + router.patience() for router in self._speaking()), default=None)

    def tick(self, now: int) -> list[RouterChange]:
        """Who has fallen silent until now, earliest first."""
        changes: list[RouterChange] = []
        due = ((router.last_at + router.patience(), router) for router in self._speaking())
        for at, router in sorted(due, key=lambda pair: pair[0]):
            if at <= now:
                changes += self._silence(router, at)
        return changes

    def hear(self, heard: Advertisement) -> list[RouterChange]:
        """What an advertisement changes. Never call it with one from before the last tick."""
        changes = self._missed(heard)
        if heard.priority == 0:
            return changes + self._release(heard)
        router = self._routers.get(heard.source)
        if router is None:
            self._routers[heard.source] = router = _Router(heard, heard.at)
            changes.append(self._heard(router, None))
        else:
            was_speaking, silent = router.is_speaking, heard.at - router.last_at
            changes += self._differences(router.last, heard)
            router.last, router.last_at, router.is_speaking = heard, heard.at, True
            if not was_speaking and self._master is None and self._former_source() == heard.source:
                changes.append(self._heard(router, silent))
        return changes + self._elect(router)

    def _speaking(self) -> list[_Router]:
        return [router for router in self._routers.values() if router.is_speaking]

    def _former_source(self) -> str | None:
        return None if self._former is None else self._former[0]

    def _missed(self, heard: Advertisement) -> list[RouterChange]:
        """Another router speaks while the Master misses its third advertisement: that is why it speaks."""
        if self._master is None or self._master == heard.source or heard.priority == 0:
            return []
        master = self._routers[self._master]
        return self._silence(master, heard.at) if master.is_gone(heard.at) else []

    def _silence(self, router: _Router, at: int) -> list[RouterChange]:
        router.is_speaking = False
        changes: list[RouterChange] = []
        if router.last.source == self._master:
            self._master, self._former = None, (router.last.source, MoveReason.SILENT)
            changes.append(
                FellSilent(
                    at=at,
                    source=router.last.source,
                    priority=router.last.priority,
                    interval_milliseconds=router.last.interval_milliseconds,
                    silent_milliseconds=milliseconds(at - router.last_at),
                    **self._identity,
                )
            )
        return changes + self._leaves_conflict(router, at)

    def _release(self, heard: Advertisement) -> list[RouterChange]:
        router = self._routers.get(heard.source)
        if router is not None and not router.is_speaking:
            router.last_at = heard.at
            return []
        before = None if router is None else router.last.priority
        if router is None:
            self._routers[heard.source] = router = _Router(heard, heard.at)
        router.is_speaking, router.last_at = False, heard.at
        if self._master == heard.source or (self._master is None and self._former is None):
            self._master, self._former = None, (heard.source, MoveReason.RELEASED)
        told = Released(at=heard.at, source=heard.source, from_priority=before, **self._identity)
        return [told, *self._leaves_conflict(router, heard.at)]

    def _heard(self, router: _Router, silent: int | None) -> RouterHeard:
        heard = router.last
        return RouterHeard(
            at=heard.at,
            source=heard.source,
            destination=heard.destination,
            mac=heard.mac,
            version=heard.version,
            priority=heard.priority,
            band=band(heard.priority),
            interval_milliseconds=heard.interval_milliseconds,
            addresses=heard.addresses,
            checksum=heard.checksum,
            authentication=heard.authentication,
            remarks=heard.remarks,
            silent_milliseconds=None if silent is None else milliseconds(silent),
            **self._identity,
        )

    def _differences(self, old: Advertisement, new: Advertisement) -> list[RouterChange]:
        said: dict[str, Any] = {"at": new.at, "source": new.source, **self._identity}
        changes: list[RouterChange] = []
        if old.priority not in (new.priority, 0):
            changes.append(
                PriorityChanged(
                    from_priority=old.priority,
                    to_priority=new.priority,
                    from_band=band(old.priority),
                    to_band=band(new.priority),
                    **said,
                )
            )
        if old.interval_milliseconds != new.interval_milliseconds:
            spans = (old.interval_milliseconds, new.interval_milliseconds)
            changes.append(IntervalChanged(from_milliseconds=spans[0], to_milliseconds=spans[1], **said))
        if old.addresses != new.addresses:
            changes.append(AddressesChanged(from_addresses=old.addresses, to_addresses=new.addresses, **said))
        return changes

    def _elect(self, router: _Router) -> list[RouterChange]:
        """Who is Master now that this router has spoken."""
        source = router.last.source
        if self._master == source:
            return []
        if self._master is None:
            self._master, former, self._former = source, self._former, None
            if former is None or former[0] == source:
                return []
            return [self._moved(former[0], router, former[1])]
        master = self._routers[self._master]
        if router.rank < master.rank:
            return self._conflict(router)
        # The old Master obeys at once (RFC 9568 section 6.4.3), so that it is not expected to speak again.
        master.is_speaking = False
        self._master = source
        same = router.last.priority == master.last.priority
        reason = MoveReason.HIGHER_ADDRESS if same else MoveReason.HIGHER_PRIORITY
        return [
            self._moved(master.last.source, router, reason),
            *self._leaves_conflict(master, router.last_at),
        ]

    def _moved(self, former: str, router: _Router, reason: MoveReason) -> MasterChanged:
        old = self._routers[former]
        return MasterChanged(
            at=router.last_at,
            from_source=former,
            to_source=router.last.source,
            reason=reason,
            from_priority=old.last.priority or None,
            to_priority=router.last.priority,
            gap_milliseconds=milliseconds(router.last_at - old.last_at),
            **self._identity,
        )

    # ----- several Masters -----

    def _conflict(self, router: _Router) -> list[RouterChange]:
        """A router that should obey the Master advertises all the same."""
        if self._conflict_since is None:
            self._conflict_since = router.last_at
        if router.last.source in self._losers:
            return []
        self._losers.add(router.last.source)
        speaking = sorted(self._speaking(), key=lambda one: one.rank, reverse=True)
        claims = tuple(Claim(one.last.source, one.last.priority) for one in speaking)
        return [TwoMasters(at=router.last_at, masters=claims, **self._identity)]

    def _leaves_conflict(self, leaving: _Router, at: int) -> list[RouterChange]:
        """One router less advertises."""
        self._losers.discard(leaving.last.source)
        speaking = self._speaking()
        if self._conflict_since is None or len(speaking) > 1:
            return []
        lasted = milliseconds(max(0, leaving.last_at - self._conflict_since))
        self._conflict_since = None
        self._losers.clear()
        return [
            OneMaster(at=at, source=one.last.source, lasted_milliseconds=lasted, **self._identity) for one in speaking
        ]
