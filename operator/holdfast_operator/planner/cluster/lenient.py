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
    """A value of that type; of a list the items that can be read, as many as it may have; of an object its fields.

    Raises ValidationError.
    """
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        inner, most = _list_of(kind)
        if inner is None and (model := _struct_in(kind)) is not None and (part := read(raw, model)) is not None:
            return part
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


def without_unknown_fields(raw: Mapping[str, Any], model: type[msgspec.Struct]) -> tuple[dict[str, Any], list[str]]:
    """The object without the fields that this version does not know, and their paths.

    The API server has validated them: they are of the resource's definition of another version, which may give every
    object one with a default.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(model)}
    is_closed = model.__struct_config__.forbid_unknown_fields
    known: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in raw.items():
        if name not in fields:
            if is_closed:
                unknown.append(name)
            else:
                known[name] = value
            continue
        inner = _struct_in(fields[name].type)
        if inner is not None and isinstance(value, Mapping):
            known[name], below = without_unknown_fields(value, inner)
            unknown += [f"{name}.{path}" for path in below]
        elif inner is not None and isinstance(value, list):
            known[name] = []
            for index, item in enumerate(value):
                kept, below = without_unknown_fields(item, inner) if isinstance(item, Mapping) else (item, [])
                known[name].append(kept)
                unknown += [f"{name}[{index}].{path}" for path in below]
        else:
            known[name] = value
    return known, unknown


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The model of a field, of its items, or of what it has if it is there."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    parts = get_args(kind)[:1] if hasattr(kind, "__metadata__") or get_origin(kind) is list else get_args(kind)
    if get_origin(kind) is dict:
        return None
    return next((found for part in parts if (found := _struct_in(part)) is not None), None)
