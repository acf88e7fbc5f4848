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
        raw = list(yaml.load_all(text, _Loader))  # a SafeLoader that refuses more
    except yaml.YAMLError as error:
        raise ConfigurationErrors([ConfigurationError(_yaml_reason(error), file=file)]) from error
    except (RecursionError, ValueError) as error:  # nested too deeply; a date or number that is none
        reason = f"is not YAML: {error}" if isinstance(error, ValueError) else "is nested too deeply"
        raise ConfigurationErrors([ConfigurationError(reason, file=file)]) from error
    documents: list[Document] = []
    errors: list[ConfigurationError] = []
    for number, value in enumerate(raw, start=1):
        if value is None:
            continue
        lacking = [name for name in ("apiVersion", "kind") if isinstance(value, dict) and name not in value]
        if lacking:
            where = _name_of(value) or f"document {number}"
            errors.append(ConfigurationError("is missing", file=file, field=f"{where}: {lacking[0]}"))
            continue
        try:
            documents.append(Document(file, msgspec.convert(value, VirtualIP)))
        except msgspec.ValidationError as error:
            errors.append(_refusal(error, value, file, number))
    if errors:
        raise ConfigurationErrors(errors)
    return documents


class _Loader(yaml.SafeLoader):
    """Refuses what PyYAML takes in silence, or for very long: keys that come twice, and aliases."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As SafeLoader does, but each key once."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} comes twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As SafeLoader does, without aliases: a few lines of them stand for gigabytes."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
            raise yaml.composer.ComposerError(None, None, "aliases are not taken", event.start_mark)
        return super().compose_node(parent, index)


def _yaml_reason(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: is not YAML: {error.problem}"
    return "is not YAML: " + " ".join(str(error).split())


def path_and_reason(error: msgspec.ValidationError) -> tuple[str, str]:
    """The field that is wrong, as it is written in YAML (empty: the whole document), and what is wrong with it."""
    reason, _, path = str(error).partition(" - at `")
    where = path.rstrip("`").removeprefix("$").removeprefix(".")
    unknown = re.match(r"Object contains unknown field `(.*)`", reason)
    if unknown:
        where = f"{where}.{unknown[1]}".removeprefix(".")
        reason = "unknown field"
    return where, reason[:1].lower() + reason[1:]


def _refusal(error: msgspec.ValidationError, value: Any, file: str, number: int) -> ConfigurationError:
    where, reason = path_and_reason(error)
    name = _name_of(value) or f"document {number}"
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
