"""The schemas of our CustomResourceDefinitions, as far as an API server acts on them: defaults, and limits."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_DEFINITIONS = Path(__file__).parents[3] / "crds"
_LONGER = {"maxItems": len, "maxLength": len, "maximum": lambda value: value}
_SHORTER = {"minItems": len, "minLength": len, "minimum": lambda value: value}

Schema = Mapping[str, Any]


@functools.cache
def schema_of(kind: str) -> Schema:
    """What `kind` looks like; empty: the kind is none of ours."""
    for path in sorted(_DEFINITIONS.glob("*.yaml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        if spec["names"]["kind"] == kind:
            found: Schema = spec["versions"][0]["schema"]["openAPIV3Schema"]
            return found
    return {}


def with_defaults(value: Any, schema: Schema) -> Any:
    """The value with what it leaves out and the schema has a default for."""
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        missing = {
            name: copy.deepcopy(inner["default"])
            for name, inner in properties.items()
            if name not in value and "default" in inner
        }
        return {name: with_defaults(inner, properties.get(name, {})) for name, inner in {**value, **missing}.items()}
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {})) for item in value]
    return value


def violations(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """What is too long, too large, too small or none of an enum, each with its path."""
    for limits, is_broken in ((_LONGER, lambda is_, limit: is_ > limit), (_SHORTER, lambda is_, limit: is_ < limit)):
        for name, measure in limits.items():
            if name in schema and value is not None and is_broken(measure(value), schema[name]):
                yield f"{path}: {name} is {schema[name]}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: Unsupported value: {value!r}"
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from violations(inner, schema.get("properties", {}).get(name, {}), f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from violations(item, schema.get("items", {}), f"{path}[{index}]")
