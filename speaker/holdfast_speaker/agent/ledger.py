"""What this agent wants to stand in the API server, what stands there, and which of it has to be written. No I/O.

Only differences are written, and only the newest truth: a thousand transitions while the API server is away are one
write for each VirtualIP when it is back. What others change in an entry of ours is put right again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast_kube.objects import is_newer

Fields = Mapping[str, Any]
"""The fields of one entry that this agent owns, as they are in JSON."""

WORDS_SECONDS = 60.0
"""A change of words alone is not written more often: the message of a failing probe may change with every run, and
warnings come and go."""

REPAIR_SECONDS = 5.0
"""What others did to an entry of ours is put right not more often: they may have a reason not known here yet."""


@dataclass(slots=True)
class _Written:
    wanted: Fields | None
    there: Fields | None
    """What the API server made of it."""
    at: float


@dataclass(slots=True)
class _There:
    version: str
    """metadata.resourceVersion of the whole object."""
    uid: str
    fields: Fields | None
    """None: the object has no entry of ours."""


class Ledger:
    """Entries by a name of their own. `words` are the fields that are for people alone."""

    def __init__(self, words: Iterable[str], clock: Callable[[], float]) -> None:
        self._words = frozenset(words)
        self._clock = clock
        self._wanted: dict[str, Fields | None] = {}
        self._there: dict[str, _There] = {}
        self._written: dict[str, _Written] = {}
        self._refused: dict[str, Fields | None] = {}
        self._not_before: dict[str, float] = {}

    def want(self, name: str, fields: Fields | None) -> None:
        """This is the truth; None: there shall be no entry of ours."""
        self._wanted[name] = fields

    def wanted(self, name: str) -> Fields | None:
        """The newest truth."""
        return self._wanted.get(name)

    def there(self, name: str) -> Fields | None:
        """What stands there now."""
        known = self._there.get(name)
        return known.fields if known else None

    def see(self, name: str, version: str, fields: Fields | None, uid: str = "") -> None:
        """The object is there, with this entry of ours; older news than what is known are passed over."""
        known = self._there.get(name)
        if known is None or is_newer(version, known.version):
            self.see_listed(name, version, fields, uid or (known.uid if known else ""))

    def see_listed(self, name: str, version: str, fields: Fields | None, uid: str) -> None:
        """As `see`, from a list that was just asked for: it is believed, also where its versions have gone back.

        They do when etcd is restored from a backup. At worst a list overtakes the answer to a write of ours, which is
        made again then.
        """
        known = self._there.get(name)
        if known is not None and uid != known.uid:  # deleted and made anew
            self.see_gone(name)
        if known is None or version != known.version:
            self._there[name] = _There(version, uid, fields)
            if name in self._refused and self._refused[name] is None:  # what hindered a removal may be gone
                del self._refused[name]

    def see_only(self, names: Iterable[str]) -> None:
        """No other objects are there."""
        for name in self._there.keys() - set(names):
            self.see_gone(name)

    def see_gone(self, name: str) -> None:
        """The object is gone; one of the same name that comes later is another one."""
        self._there.pop(name, None)
        self._written.pop(name, None)
        self._refused.pop(name, None)
        self._not_before.pop(name, None)

    def with_entry(self) -> list[str]:
        """The objects that have an entry of ours."""
        return [name for name, there in self._there.items() if there.fields is not None]

    def wrote(self, name: str, wanted: Fields | None, version: str, fields: Fields | None) -> None:
        """It was applied, and the object is that now."""
        self._written[name] = _Written(wanted, fields, self._clock())
        self._refused.pop(name, None)
        self.see(name, version, fields)

    def refused(self, name: str, wanted: Fields | None) -> None:
        """The API server does not take it; another truth is tried again."""
        self._refused[name] = wanted

    def postpone(self, name: str, seconds: float) -> None:
        """Whatever is wanted there, it is not due for so long."""
        self._not_before[name] = self._clock() + seconds

    def due(self) -> list[str]:
        """What has to be written now."""
        now = self._clock()
        return [name for name in self._there if (at := self._due_at(name)) is not None and at <= now]

    def next_due(self) -> float | None:
        """When something has to be written, if nothing changes."""
        times = [at for name in self._there if (at := self._due_at(name)) is not None]
        return min(times, default=None)

    def _due_at(self, name: str) -> float | None:
        at = self._differs_at(name)
        return at if at is None else max(at, self._not_before.get(name, 0.0))

    def _differs_at(self, name: str) -> float | None:
        if name not in self._wanted:
            return None
        wanted, there = self._wanted[name], self._there[name].fields
        if name in self._refused and self._refused[name] == wanted:
            return None
        written = self._written.get(name)
        if written is None:
            return 0.0 if there != wanted else None
        if written.wanted == wanted:
            return written.at + REPAIR_SECONDS if there != written.there else None
        is_same_but_for_words = self._essence(wanted) == self._essence(written.wanted)
        return written.at + WORDS_SECONDS if is_same_but_for_words else 0.0

    def _essence(self, fields: Fields | None) -> Fields | None:
        return fields and {name: value for name, value in fields.items() if name not in self._words}
