"""Advertisements that were refused and may mean two holders: told to people, not too often, and kept for status."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from holdfast_speaker.engine.ports import Log
from holdfast_speaker.vrrp.counters import Counter
from holdfast_speaker.vrrp.instants import SECOND, Duration, Instant

LOG_EVERY = Duration(60 * SECOND)
REMEMBERED = Duration(300 * SECOND)

TOLD = {
    Counter.IP_TTL_ERRORS: "its TTL is not 255, so it has passed a router, or something on the way changes TTLs",
    Counter.VERSION_ERRORS: "it is of another VRRP version",
    Counter.AUTH_TYPE_MISMATCH: "one of the two has a password and the other has none",
    Counter.AUTH_FAILURES: "its password is another one",
    Counter.FOREIGN_ROUTERS: "it is not among the known members",
    Counter.OTHER_VIRTUAL_ROUTERS: "none of its addresses is ours: another virtual router with the same ID",
}
"""What may mean that two routers are Master beside each other, and why."""


@dataclass(slots=True)
class _Refusal:
    source: bytes
    """Who is told: the first, as long as it goes on. The words in status must not change with every packet."""
    source_seen_at: Instant
    seen_at: Instant
    logged_at: Instant


class Refusals:
    """One for each VirtualIP and kind of refusal, whoever it was refused from: nobody can fill the memory."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._seen: dict[tuple[str, Counter], _Refusal] = {}

    def tell(self, name: str, counter: Counter, source: bytes, now: Instant) -> None:
        """An advertisement for this VirtualIP was refused."""
        if counter not in TOLD:
            return
        refusal = self._seen.get((name, counter))
        if refusal is None:
            refusal = self._seen[name, counter] = _Refusal(source, now, now, now)
        else:
            if source == refusal.source or now - refusal.source_seen_at >= REMEMBERED:
                refusal.source, refusal.source_seen_at = source, now
            refusal.seen_at = now
            if now - refusal.logged_at < LOG_EVERY:
                return
            refusal.logged_at = now
        self._log.warning(
            f"advertisements are refused: {TOLD[counter]}", virtualIP=name, peer=str(ip_address(source)), reason=counter
        )

    def warnings(self, name: str, now: Instant) -> list[str]:
        """What was refused within the last minutes, for status."""
        return [
            f"advertisements from {ip_address(refusal.source)} are refused: {TOLD[counter]}"
            for (about, counter), refusal in self._seen.items()
            if about == name and now - refusal.seen_at < REMEMBERED
        ]

    def forget(self, name: str) -> None:
        """A VirtualIP is no longer run here."""
        for key in [key for key in self._seen if key[0] == name]:
            del self._seen[key]
