"""VirtualIP documents in YAML files: reading with errors that name file, document and field, and writing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from holdfast_api.errors import ConfigurationError, ConfigurationErrors
from holdfast_api.resources import VirtualIP


@dataclass(frozen=True, slots=True)
class Document:
    """One VirtualIP and the file that it was read from."""

    file: str
    virtual_ip: VirtualIP


def read_paths(paths: list[Path]) -> list[Document]:
    """Every VirtualIP in the files, and in the *.yaml and *.yml files of the folders, in order of names.

    Raises ConfigurationErrors with everything that is wrong in all of them.
    """
    documents: list[Document] = []
    errors: list[ConfigurationError] = []
    for path in paths:
        for file in _files(path, errors):
            try:
                documents.extend(read_text(file.read_text(encoding="utf-8"), str(file)))
            except OSError as error:
                errors.append(ConfigurationError(f"cannot be read: {error.strerror}", file=str(file)))
            except UnicodeDecodeError as error:
                errors.append(ConfigurationError(f"is not UTF-8 text: {error.reason}", file=str(file)))
            except ConfigurationErrors as found:
                errors.extend(found.errors)
    if errors:
        raise ConfigurationErrors(errors)
    return documents


def _files(path: Path, errors: list[ConfigurationError]) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        return sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
    except OSError as error:
        errors.append(ConfigurationError(f"cannot be read: {error.strerror}", file=str(path)))
        return []


def read_text(text: str, file: str) -> list[Document]:
    """Every VirtualIP in one YAML stream; empty documents are passed over.

    Raises ConfigurationErrors with everything that is wrong in it.
    """
    try:
        raw = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise ConfigurationErrors([ConfigurationError(_yaml_reason(error), file=file)]) from error
    documents: list[Document] = []
    errors: list[ConfigurationError] = []
    for number, value in enumerate(raw, start=1):
        if value is None:
            continue
        try:
            documents.append(Document(file, msgspec.convert(value, VirtualIP)))
        except msgspec.ValidationError as error:
            errors.append(_refusal(error, value, file, number))
    if errors:
        raise ConfigurationErrors(errors)
    return documents


def _yaml_reason(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: is not YAML: {error.problem}"
    return "is not YAML: " + " ".join(str(error).split())


def _refusal(error: msgspec.ValidationError, value: Any, file: str, number: int) -> ConfigurationError:
    reason, _, path = str(error).partition(" - at `")
    where = path.rstrip("`").removeprefix("$").removeprefix(".")
    unknown = re.match(r"Object contains unknown field `(.*)`", reason)
    if unknown:
        where = f"{where}.{unknown[1]}".removeprefix(".")
        reason = "unknown field"
    name = _name_of(value) or f"document {number}"
    reason = reason[:1].lower() + reason[1:]
    return ConfigurationError(reason, file=file, field=f"{name}: {where}" if where else name)


def _name_of(value: Any) -> str:
    try:
        return f"VirtualIP {value['metadata']['name']}"
    except (KeyError, TypeError):
        return ""


def write_text(virtual_ips: list[VirtualIP]) -> str:
    """The VirtualIPs as a YAML stream in the order given, defaults left out."""
    return "---\n".join(
        yaml.safe_dump(msgspec.to_builtins(virtual_ip), sort_keys=False, default_flow_style=None, width=120)
        for virtual_ip in virtual_ips
    )
