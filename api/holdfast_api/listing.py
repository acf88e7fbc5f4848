"""Names in a sentence for people."""

from __future__ import annotations

from collections.abc import Sequence


def some_of(names: Sequence[str], most: int) -> str:
    """The first of them, and how many more there are.

    >>> some_of(["n1", "n2", "n3", "n4"], 2)
    'n1, n2 and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
