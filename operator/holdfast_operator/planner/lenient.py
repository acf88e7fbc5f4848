"""Reading what the API server has validated, though another version or another hand wrote it. Pure.

What cannot be read costs itself alone: one field, or one item of a list, never what stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

import msgspec

_Model = TypeVar("_Model", bound=msgspec.Struct)


def read(raw: Any, model: type[_Model]) -> _Model | None:
    """The object with every field of it that can be read; None where one that it cannot be without cannot be read."""
    try:
        return msgspec.convert(raw, model)
    except msgspec.ValidationError:
        pass
    if not isinstance(raw, Mapping):
        return None
    known: dict[str, Any] = {}
    for field in msgspec.structs.fields(model):
        if field.encode_name not in raw:
            if field.required:
                return None
            continue
        try:
            known[field.name] = _value(raw[field.encode_name], field.type)
        except msgspec.ValidationError:
            if field.required:
                return None
    return model(**known)


def _value(raw: Any, kind: Any) -> Any:
    """A value of that type; of a list the items that can be read, as many as it may have. Raises ValidationError."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        inner, most = _list_of(kind)
        if inner is None or not isinstance(raw, list):
            raise
    items = []
    for item in raw[:most]:
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            found = read(item, inner)
            items += [] if found is None else [found]
            continue
        try:
            items.append(msgspec.convert(item, inner))
        except msgspec.ValidationError:
            continue
    return items


def _list_of(kind: Any) -> tuple[Any, int | None]:
    """What a list of that type has, and how much at most; None where it is no list."""
    most = None
    for constraint in getattr(kind, "__metadata__", ()):
        most = constraint.max_length
    bare = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    return (get_args(bare)[0], most) if get_origin(bare) is list else (None, None)
