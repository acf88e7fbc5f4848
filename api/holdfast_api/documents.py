"""VirtualIP documents in YAML files: reading with errors that name file, document and field, and writing."""

from __future__ import annotations

import copy
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from msgspec import inspect

from holdfast_api.errors import ConfigurationError, ConfigurationErrors
from holdfast_api.resources import API_VERSION, VirtualIP

FILE_BYTES_MAX: Final = 8 * 1024 * 1024
"""A thousand VirtualIPs with everything that they can have are a tenth of it."""

_LIST_KINDS: Final = (("v1", "List"), (API_VERSION, "VirtualIPList"))
"""What `kubectl get` prints, and what the API server answers."""


@dataclass(frozen=True, slots=True)
class Document:
    """One VirtualIP and the file that it was read from."""

    file: str
    virtual_ip: VirtualIP


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file held when it was looked at: equal to another look if nothing about it changed."""

    file: str
    data: bytes = b""
    problem: str = ""
    """Why it could not be read; empty: it could."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What files say."""

    documents: Sequence[Document]
    warnings: Sequence[str] = ()
    """One line each: what is taken for something that somebody may not have meant."""
    says_none: frozenset[str] = field(default_factory=frozenset)
    """Files that say in so many words that there is no VirtualIP: `items: []`."""
    open_ended: frozenset[str] = field(default_factory=frozenset)
    """Files that end at the line that begins another document."""


def read_paths(paths: Sequence[Path]) -> list[Document]:
    """Every VirtualIP in the files, and in the *.yaml and *.yml files of the folders, in order of names.

    Raises ConfigurationErrors with everything that is wrong in all of them.
    """
    return list(read_contents(look_at(paths)).documents)


def look_at(paths: Sequence[Path]) -> tuple[Contents, ...]:
    """What is in the files, and in the *.yaml and *.yml files of the folders, in order of names, each of them once.

    Hidden files of a folder are passed over: they are what editors and volumes keep for themselves. Never waits for
    anybody, and never raises: what cannot be read says so.
    """
    looked_at: dict[str, Contents] = {}
    for path in paths:
        # Path.is_dir raises where a folder above cannot be looked into.
        for contents in _folder(path) if os.path.isdir(path) else [_contents(path)]:  # noqa: PTH112
            looked_at.setdefault(os.path.realpath(contents.file), contents)
    return tuple(looked_at.values())


def _folder(path: Path) -> list[Contents]:
    try:
        names = sorted(entry.name for entry in os.scandir(path))
    except OSError as error:
        return [Contents(str(path), problem=f"cannot be read: {error.strerror}")]
    return [_contents(path / name) for name in names if name.endswith((".yaml", ".yml")) and not name.startswith(".")]


def _contents(path: Path) -> Contents:
    try:
        # O_NONBLOCK: a FIFO without a writer would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            data = _data(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return Contents(str(path), problem="does not exist")
    except OSError as error:
        return Contents(str(path), problem=f"cannot be read: {error.strerror}")
    if data is None:
        return Contents(str(path), problem="must be a regular file or a folder")
    if len(data) > FILE_BYTES_MAX:
        return Contents(str(path), problem=f"is larger than {FILE_BYTES_MAX // 1024 // 1024} MiB")
    return Contents(str(path), data)


def _data(descriptor: int) -> bytes | None:
    """What the file holds, of one that is too large a little too much; None: it is no file with an end."""
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):  # a link to /dev/null is an old way to say nothing
        return None
    pieces = []
    left = FILE_BYTES_MAX + 1
    while left and (piece := os.read(descriptor, left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def read_contents(looked_at: Sequence[Contents]) -> Reading:
    """What the files say.

    Raises ConfigurationErrors with everything that is wrong in all of them.
    """
    found: list[Reading] = []
    errors: list[ConfigurationError] = []
    for contents in looked_at:
        if contents.problem:
            errors.append(ConfigurationError(contents.problem, file=contents.file))
            continue
        try:
            found.append(_read(contents.data.decode("utf-8"), contents.file))
        except UnicodeDecodeError as error:
            errors.append(ConfigurationError(f"is not UTF-8 text: {error.reason}", file=contents.file))
        except ConfigurationErrors as refused:
            errors.extend(refused.errors)
    if errors:
        raise ConfigurationErrors(errors)
    return Reading(
        documents=tuple(document for one in found for document in one.documents),
        warnings=tuple(warning for one in found for warning in one.warnings),
        says_none=frozenset(file for one in found for file in one.says_none),
        open_ended=frozenset(file for one in found for file in one.open_ended),
    )


def read_text(text: str, file: str) -> list[Document]:
    """Every VirtualIP in one YAML stream; empty documents are passed over.

    Raises ConfigurationErrors with everything that is wrong in it.
    """
    return list(_read(text, file).documents)


def _read(text: str, file: str) -> Reading:
    documents: list[Document] = []
    warnings: list[str] = []
    errors: list[ConfigurationError] = []
    says_none = False
    for number, (node, value) in enumerate(_parse(text, file), start=1):
        if value is None:
            continue
        members = [(f"document {number}", node, value)]
        if _is_list(value):
            try:
                members = _members(value, node, file, f"document {number}")
            except ConfigurationError as error:
                errors.append(error)
                continue
            says_none |= not members
        for where, member, written in members:
            name = _name_of(written) or where
            warnings += [f"{file}: {name}: {told}" for told in _misleading(member)]
            try:
                documents.append(Document(file, _virtual_ip(written, file, name)))
            except ConfigurationErrors as refused:
                errors.extend(refused.errors)
    if errors:
        raise ConfigurationErrors(errors)
    return Reading(
        documents,
        warnings,
        says_none=frozenset([file] if says_none else []),
        open_ended=frozenset([file] if _OPEN_END.search(text) else []),
    )


_OPEN_END = re.compile(r"(?:^|\n)---[ \t]*\n?\Z")


_OF_KEEPALIVED = re.compile(r"^[ \t]*(?:vrrp_instance|vrrp_sync_group|vrrp_script|global_defs)\b[^:\n]*$", re.MULTILINE)


def _parse(text: str, file: str) -> list[tuple[yaml.Node, Any]]:
    if _OF_KEEPALIVED.search(text):
        reason = "is a configuration of keepalived: make VirtualIPs of it with `holdfast convert`"
        raise ConfigurationErrors([ConfigurationError(reason, file=file)])
    try:
        loader = _Loader(text)  # a SafeLoader that refuses more
        found = []
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                found.append((node, loader.construct_document(node)))
        return found
    except yaml.YAMLError as error:
        raise ConfigurationErrors([ConfigurationError(_yaml_reason(error), file=file)]) from error
    except (RecursionError, ValueError) as error:  # nested too deeply; a date or number that is none
        reason = f"is not YAML: {error}" if isinstance(error, ValueError) else "is nested too deeply"
        raise ConfigurationErrors([ConfigurationError(reason, file=file)]) from error


def _is_list(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return value.get("kind") in ("List", "VirtualIPList") or ("kind" not in value and "items" in value)


def _members(value: dict[Any, Any], node: yaml.Node, file: str, where: str) -> list[tuple[str, yaml.Node, Any]]:
    """The documents in a list of them: where they stand, their nodes, and their values.

    It is what `kubectl get virtualips -o yaml` prints; apiVersion and kind may be left out together.
    Raises ConfigurationError.
    """
    said = (value.get("apiVersion"), value.get("kind"))
    if said not in (*_LIST_KINDS, (None, None)):
        reason = f"must be a List of v1 or a VirtualIPList of {API_VERSION}, not {said[1]!r} of {said[0]!r}"
        raise ConfigurationError(reason, file=file, field=f"{where}: kind")
    for name in value:
        if name not in ("apiVersion", "kind", "metadata", "items"):
            raise ConfigurationError("unknown field", file=file, field=f"{where}: {name}")
    if not isinstance(value.get("items"), list):
        raise ConfigurationError("must be a list; [] says that there is none", file=file, field=f"{where}: items")
    # With merge keys there may be several, and the last counts.
    nodes = [below for key, below in node.value if key.value == "items"][-1]
    return [
        (f"{where}: items[{index}]", member, written)
        for index, (member, written) in enumerate(zip(nodes.value, value["items"], strict=True))
    ]


def _virtual_ip(written: Any, file: str, name: str) -> VirtualIP:
    """Raises ConfigurationErrors with everything that is wrong in it."""
    left = copy.deepcopy(written)
    if isinstance(left, dict):  # what else could it be
        left = {"apiVersion": API_VERSION, "kind": "VirtualIP", **left}
    errors: list[ConfigurationError] = []
    while True:
        try:
            virtual_ip = msgspec.convert(left, VirtualIP)
        except msgspec.ValidationError as error:
            where, reason = path_and_reason(error)
            errors.append(
                ConfigurationError(_told(where, reason), file=file, field=f"{name}: {where}" if where else name)
            )
            if _without(left, where):
                continue  # the next thing that is wrong
        else:
            if not errors:
                return virtual_ip
        raise ConfigurationErrors(errors)


def _told(where: str, reason: str) -> str:
    found = re.fullmatch(r"invalid enum value (.*)", reason)
    if found and (choices := _choices(where)):
        return f"must be {' or '.join(choices)}, not {found[1]}"
    if reason == "unknown field":
        parent, _, field_name = where.rpartition(".")
        known = [field.encode_name for field in getattr(_type_at(parent), "fields", ())]
        close = get_close_matches(field_name, known, n=1) or [one for one in known if one.lower() == field_name.lower()]
        return f"unknown field; did you mean {close[0]}?" if close else reason
    return reason


_STEP = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")


def _without(written: Any, where: str) -> bool:
    """Take out what stands there; something valid takes the place of what must be there. False: nothing can be done."""
    steps: list[Any] = [step[1] or int(step[2]) for step in _STEP.finditer(where)]
    if not steps or "[...]" in where:
        return False
    *above, last = steps
    for step in above:
        try:
            written = written[step]
        except (KeyError, IndexError, TypeError):
            return False
    try:
        before = written.pop(last)
    except (AttributeError, KeyError, IndexError, TypeError):
        return False
    parent = _type_at(where[: where.rindex(last)].rstrip(".")) if isinstance(last, str) else None
    needed = [field.type for field in getattr(parent, "fields", ()) if field.encode_name == last and field.required]
    if not needed:
        return True
    instead = _something_valid(needed[0])
    if instead is None or instead == before:
        return False
    written[last] = instead
    return True


def _something_valid(kind: inspect.Type) -> Any:
    """A value of the type, as far as its bounds say; None where they do not."""
    match kind:
        case inspect.IntType(ge=least, le=most):
            return least if least is not None else most if most is not None else 0
        case inspect.StrType(min_length=length, pattern=None):
            return "a" * (length or 1)
        case inspect.ListType(min_length=length, item_type=item):
            member = _something_valid(item)
            return [] if not length else None if member is None else [member] * length
        case inspect.EnumType(cls=choices):
            return next(iter(choices)).value
        case _:
            return None


_PLAIN_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)")
"""What everybody reads as the same number."""


def _misleading(node: yaml.Node, path: str = "") -> Iterator[str]:
    """Integers that YAML 1.1, which PyYAML reads, and YAML 1.2 have different numbers for: 051, 0b11, 1_000, 1:30."""
    if isinstance(node, yaml.MappingNode):
        for key, below in node.value:
            yield from _misleading(below, f"{path}.{key.value}".removeprefix("."))
    elif isinstance(node, yaml.SequenceNode):
        for index, below in enumerate(node.value):
            yield from _misleading(below, f"{path}[{index}]")
    elif (
        isinstance(node, yaml.ScalarNode)
        and node.tag == "tag:yaml.org,2002:int"
        and not _PLAIN_INTEGER.fullmatch(node.value)
    ):
        value = yaml.SafeLoader("").construct_yaml_int(node)
        octal = re.fullmatch(r"([-+]?)0[0_]*([0-7_]+)", node.value)
        instead = f"{value}, or {octal[1]}{octal[2]} if that was meant" if octal else f"{value}"
        yield f"{path}: {node.value} is taken for {value}: write {instead} (a later version refuses it)"


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


def _choices(where: str) -> list[str]:
    """The values that a field of a VirtualIP can have, by its path; nothing where that is more than a choice."""
    here = _type_at(where)
    if isinstance(here, inspect.EnumType):
        return [str(member.value) for member in here.cls]
    return [str(value) for value in here.values] if isinstance(here, inspect.LiteralType) else []


def _type_at(where: str) -> inspect.Type | None:
    """What stands at a path in a VirtualIP; None where it has no such field."""
    here: inspect.Type = inspect.type_info(VirtualIP)
    for name in re.sub(r"\[[^]]*]", "", where).split("."):
        if not name:
            continue
        found = [field.type for field in getattr(here, "fields", ()) if field.encode_name == name]
        if not found:
            return None
        here = found[0]
        if isinstance(here, inspect.UnionType):  # it may be left out
            here = next(kind for kind in here.types if not isinstance(kind, inspect.NoneType))
        if isinstance(here, inspect.ListType):
            here = here.item_type
    return here


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
