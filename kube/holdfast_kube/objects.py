"""What every Kubernetes object has, as far as somebody here reads it; the rest is passed over while decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from holdfast_api.naming import kubernetes_name


class Part(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """A part of an object."""


class Metadata(Part, frozen=True, kw_only=True):
    """metav1.ObjectMeta."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None
    finalizers: list[str] | None = None


def key_of(raw: Mapping[str, Any]) -> str:
    """namespace/name of an object as the API server gives it.

    >>> key_of({"metadata": {"namespace": "shop", "name": "web"}})
    'shop/web'
    """
    metadata = raw["metadata"]
    return f"{metadata.get('namespace', 'default')}/{metadata['name']}"


def is_newer(version: str, than: str) -> bool:
    """Whether a resource version is newer than another one of the same object.

    Kubernetes 1.35 made their order official for every resource of its own; before that it held in practice.
    What is no number cannot be compared and counts as newer.

    >>> is_newer("100", "99"), is_newer("99", "99"), is_newer("7", "")
    (True, False, True)
    """
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than


def goes_back(before: str, now: str) -> bool:
    """Whether the API server, which was at one resource version, is at an earlier one: a backup was restored.

    >>> goes_back("100", "99"), goes_back("99", "99"), goes_back("b", "a")
    (True, False, False)
    """
    return before.isdecimal() and now.isdecimal() and int(now) < int(before)
