"""Server-side apply: who owns which field of one object. The rules as the Kubernetes documentation has them, always
with force; a list is one value, but for map lists, whose entries are told apart by a key."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Manager = tuple[str, str]
"""Field manager and subresource."""


@dataclass(frozen=True)
class Entry:
    """A step of a path: an entry of a map list."""

    key: str
    value: str


Step = str | Entry
Path = tuple[Step, ...]


class Ownership:
    """Of one object."""

    def __init__(self, list_keys: Mapping[tuple[str, ...], str]) -> None:
        self._list_keys = list_keys
        self._owned: dict[Manager, set[Path]] = {}

    def apply(self, old: Mapping[str, Any], wanted: Mapping[str, Any], manager: Manager) -> dict[str, Any]:
        """The object after `manager` has applied `wanted`: what it owned before and leaves out goes."""
        leaves = dict(self._leaves(wanted, ()))
        result = copy.deepcopy(dict(old))
        for path, value in leaves.items():
            if value != {} or not isinstance(_get(result, path), Mapping):  # an empty map changes nothing of a map
                _set(result, path, copy.deepcopy(value))
        former = self._owned.get(manager, set())
        for others, paths in self._owned.items():
            if others != manager:  # by force
                paths -= {path for path in leaves if not _is_key(path)}
        self._owned[manager] = set(leaves)
        still_owned = set().union(*self._owned.values())
        for path in sorted(former - still_owned, key=_is_key):  # without its key nobody finds an entry
            if not any(owned[: len(path)] == path for owned in still_owned):
                _remove(result, path)
        return result

    @property
    def managed_fields(self) -> list[dict[str, str]]:
        """metadata.managedFields, without the fields: whoever owns something, be it an empty map, is there."""
        return [
            {"manager": name, "operation": "Apply"} | ({"subresource": subresource} if subresource else {})
            for (name, subresource), paths in self._owned.items()
            if paths
        ]

    def _leaves(self, value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
        fields = tuple(step for step in path if isinstance(step, str))
        key = self._list_keys.get(fields)
        if isinstance(value, Mapping) and value:
            for name, inner in value.items():
                yield from self._leaves(inner, (*path, name))
        elif isinstance(value, list) and key is not None and not any(isinstance(step, Entry) for step in path):
            for entry in value:
                yield from self._leaves(entry, (*path, Entry(key, entry[key])))
        elif path and path != ("metadata",):
            yield path, value


def _is_key(path: Path) -> bool:
    return len(path) > 1 and isinstance(path[-2], Entry) and path[-2].key == path[-1]


def _get(target: Any, path: Path) -> Any:
    for step in path:
        if isinstance(step, Entry):
            target = _entry(target, step, make=False)
        else:
            target = target.get(step) if isinstance(target, Mapping) else None
        if target is None:
            return None
    return target


def _set(target: Any, path: Path, value: Any) -> None:
    for step, following in itertools.pairwise(path):
        if isinstance(step, Entry):
            target = _entry(target, step, make=True)
        else:
            target = target.setdefault(step, [] if isinstance(following, Entry) else {})
    target[path[-1]] = value


def _remove(target: Any, path: Path) -> None:
    """Remove a leaf, and what is empty without it."""
    step, rest = path[0], path[1:]
    if isinstance(step, Entry):
        entry = _entry(target, step, make=False)
        if entry is not None:
            _remove(entry, rest)
            if not entry:
                target.remove(entry)
        return
    if step not in target:
        return
    if rest:
        _remove(target[step], rest)
        if target[step]:
            return
    del target[step]


def _entry(entries: list[Any], step: Entry, *, make: bool) -> Any:
    found = next((entry for entry in entries if entry.get(step.key) == step.value), None)
    if found is None and make:
        found = {step.key: step.value}
        entries.append(found)
    return found
