"""One Kubernetes object of a manifest, and where it stands."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from holdfast_api.resources import LabelSelector
from holdfast_cli.convert.ledger import Kind, Ledger, Note, Place


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object as it was written; whatever is no object where one should be counts as an empty one."""

    place: Place
    value: dict[str, Any]

    @property
    def group(self) -> str:
        """The part of apiVersion before the slash; empty: of Kubernetes' own first group."""
        group, slash, _ = str(self.value.get("apiVersion", "")).partition("/")
        return group if slash else ""

    @property
    def kind(self) -> str:
        """As it was written."""
        return str(self.value.get("kind", ""))

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, namespace, labels."""
        return mapping(self.value.get("metadata"))

    @property
    def name(self) -> str:
        """Empty where there is none."""
        return str(self.metadata.get("name", ""))

    @property
    def spec(self) -> dict[str, Any]:
        """What is asked for."""
        return mapping(self.value.get("spec"))

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()

    def note(self, ledger: Ledger, field: str, kind: Kind, text: str) -> None:
        """Say something of one of its fields."""
        ledger.note(Note(self.place, f"{self}: {field}", kind, text))

    def note_unknown(self, ledger: Ledger, field: str, said: Iterable[str], known: Container[str]) -> None:
        """Say which fields below this one are passed over."""
        for name in said:
            if name not in known:
                self.note(ledger, f"{field}.{name}", Kind.LEFT_OUT, "is not known here")

    def refuse(self, ledger: Ledger, field: str, reason: str) -> None:
        """Say that it cannot be carried over, and that nothing is written for that."""
        ledger.refuse(self.place, f"{self}: {field}", reason)


def mapping(value: Any) -> dict[str, Any]:
    """The value, if it is an object; else an empty one."""
    return value if isinstance(value, dict) else {}


def selector(value: Any, manifest: Manifest, field: str, ledger: Ledger) -> LabelSelector | None:
    """A LabelSelector as we have it, or None and an error."""
    try:
        return msgspec.convert(value, LabelSelector)
    except msgspec.ValidationError as error:
        manifest.refuse(ledger, field, f"must be a LabelSelector: {error}")
        return None


def only_one(values: Any, manifest: Manifest, field: str, ledger: Ledger) -> Any:
    """The one that the list has; None where it has none, and an error where it has several."""
    found = values if isinstance(values, list) else []
    if len(found) > 1:
        manifest.refuse(ledger, field, f"must not have {len(found)}: an AddressPool has one; write one that fits all")
    return found[0] if len(found) == 1 else None
