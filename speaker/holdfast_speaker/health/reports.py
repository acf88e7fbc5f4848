"""What somebody is told of the health of VIPs: every change of it, or of the reason for it, and nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Container

from holdfast_api.reasons import Health

Report = Callable[[str, Health, str], None]
"""Is told the VIP (namespace/name), its health on this node, and why."""

Finding = tuple[Health, str]
"""A health, and why."""


class Reports:
    """A VIP whose health is known keeps it while what was added to its checks has no result yet: that is an edit."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._told: dict[str, Finding] = {}

    def keep_only(self, names: Container[str]) -> None:
        """Of no others has anything been told."""
        self._told = {name: known for name, known in self._told.items() if name in names}

    def tell(self, name: str, found: Finding) -> None:
        """That is what is known of a VIP by now."""
        known = self._told.get(name)
        is_known = known is not None and known[0] is not Health.UNKNOWN
        if found == known or (found[0] is Health.UNKNOWN and is_known):
            return
        self._told[name] = found
        self._report(name, *found)

    def current(self) -> dict[str, Finding]:
        """What was told last, by the VIP."""
        return dict(self._told)
