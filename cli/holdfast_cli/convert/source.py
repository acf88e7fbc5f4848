"""From files to lines: comments, `include`, `@host` lines and parameters, as keepalived.conf(5) has them."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast_cli.convert.ledger import Kind, Ledger, Note, Place
from holdfast_cli.convert.parameters import CONDITION, DEFINITION, Body, Parameters, repetitions, uses_random

_INCLUDE_DEPTH_MAX = 16
_BRACES_MAX = 8
_STEPS_MAX = 200_000
_LINE_LENGTH_MAX = 16_384
_REPLACEMENTS_MAX = 1000
"""In one line. Parameters that refer to one another without end reach each bound; no configuration of people does."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_DEFINITION = re.compile(r"(?:@\^?[^ \t]*[ \t]+)*\$[A-Za-z_]\w*=.*", re.ASCII)
_INCLUDE = re.compile(r"(include[rmwba]?)[ \t]+(.*)")

STRICT_INCLUDES = {
    "includer": "readable",
    "includem": "match",
    "includew": "wildcard_match",
    "includeb": "brace_match",
    "includea": "all of include_check",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is left when comments are gone and parameters replaced."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Text that is still to be worked on: with the further lines of a definition, and parameters to be set first."""

    place: Place
    text: str
    further: tuple[tuple[Place, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    replacements: int = 0


class Source:
    """Reads one host's configuration, with everything that it includes."""

    def __init__(self, config_id: str, ledger: Ledger) -> None:
        self._config_id = config_id
        self._ledger = ledger
        self._parameters = Parameters()
        self._lines: list[Line] = []
        self._steps = 0
        self.has_conditions = False
        """Whether any line depends on the config-id."""

    def read(self, path: Path, content: bytes) -> list[Line]:
        """The lines of the file, which has this content, and of its includes, in keepalived's order.

        What is wrong with single lines goes to the ledger.
        """
        start = Place(str(path), 1)
        for name, value in (("_INSTANCE", self._config_id), ("_HASH", "#"), ("_BANG", "!")):
            self._parameters.bodies[name] = Body(((start, value),))
        self._read_file(path, content, depth=0)
        for name, place in self._parameters.unused.items():
            self._ledger.note(Note(place, f"${name}", Kind.LEFT_OUT, "is defined, and nothing uses it"))
        return self._lines

    def _read_file(self, path: Path, content: bytes, depth: int) -> None:
        # Comments may be in any encoding; what is left is checked line by line.
        text = content.decode("utf-8", "surrogateescape")
        outer = self._parameters.bodies.get("_PWD")
        self._parameters.bodies["_PWD"] = Body(((Place(str(path), 1), str(path.parent)),))
        for chunk in _chunks(str(path), text):
            self._work_off(chunk, path.parent, depth)
        if outer is not None:
            self._parameters.bodies["_PWD"] = outer

    def _work_off(self, first: _Chunk, folder: Path, depth: int) -> None:
        pending = [first]
        while pending:
            chunk = pending.pop()
            self._steps += 1
            if self._steps > _STEPS_MAX or len(chunk.text) > _LINE_LENGTH_MAX:
                self._ledger.give_up(chunk.place, "parameters", "make the configuration longer than anybody can mean")
            for name, value in chunk.settings:
                self._parameters.bodies[name] = Body(((chunk.place, value),))
            # A parameter may stand for what begins a comment (${_HASH}).
            text = without_comment(chunk.text) if chunk.replacements else chunk.text
            chunk = replace(chunk, text=text.strip(" \t"), settings=())
            if found := _UNPRINTABLE.search(chunk.text):
                reason = "is not UTF-8 text" if found[0] >= "\ud800" else f"has the control character {found[0]!r}"
                self._ledger.refuse(chunk.place, f"column {found.start() + 1}", reason)
            elif chunk.text:
                pending.extend(reversed(list(self._next(chunk, folder, depth))))

    def _next(self, chunk: _Chunk, folder: Path, depth: int) -> Iterator[_Chunk]:
        """One step: what the chunk turns into. A finished line, a definition and an include turn into nothing."""
        if condition := CONDITION.fullmatch(chunk.text):
            yield from self._conditional(chunk, condition)
        elif definition := DEFINITION.fullmatch(chunk.text):
            self._define(chunk, definition)
        elif chunk.text.startswith("~"):
            yield from self._repeated(chunk)
        elif uses_random(chunk.text):
            self._ledger.refuse(chunk.place, "${_RANDOM}", "must be a number: keepalived rolls another one each time")
        elif found := self._parameters.find(chunk.text):
            yield from self._replaced(chunk, *found)
        elif include := _INCLUDE.fullmatch(chunk.text):
            self._include(chunk.place, include[1], include[2], folder, depth)
        else:
            self._lines.append(Line(chunk.place, chunk.text))

    def _conditional(self, chunk: _Chunk, condition: re.Match[str]) -> Iterator[_Chunk]:
        self.has_conditions = True
        negative, name, remainder = condition.groups()
        if (name == self._config_id) is not bool(negative):
            yield replace(chunk, text=remainder)
        else:
            text = f"is for other config-ids than {self._config_id}: {remainder}"
            self._ledger.note(Note(chunk.place, f"@{negative}{name}", Kind.LEFT_OUT, text))

    def _define(self, chunk: _Chunk, definition: re.Match[str]) -> None:
        name, value = definition.groups()
        lines = ((chunk.place, value.strip(" \t")), *chunk.further)
        if chunk.further:
            lines = tuple((place, text.rstrip(" \t").removesuffix("\\").strip(" \t")) for place, text in lines)
            lines = tuple(line for line in lines if line[1]) or ((chunk.place, ""),)
        self._parameters.define(name, Body(lines))

    def _repeated(self, chunk: _Chunk) -> Iterator[_Chunk]:
        try:
            repeated = repetitions(chunk.text, self._parameters)
        except ValueError as error:
            self._ledger.refuse(chunk.place, chunk.text.partition("(")[0], str(error))
            return
        if repeated is not None:
            rows, remainder = repeated
            for row in rows:
                yield replace(chunk, text=remainder, settings=row)

    def _replaced(self, chunk: _Chunk, match: re.Match[str], body: Body) -> Iterator[_Chunk]:
        if chunk.replacements == _REPLACEMENTS_MAX:
            self._ledger.refuse(chunk.place, match[0], f"must not refer to itself, nor to {_REPLACEMENTS_MAX} others")
            return
        before, after = chunk.text[: match.start()], chunk.text[match.end() :]
        last = len(body.lines) - 1
        for index, (place, text) in enumerate(body.lines):
            yield _Chunk(
                place if last else chunk.place,
                (before if index == 0 else "") + text + (after if index == last else ""),
                replacements=chunk.replacements + 1,
            )

    def _include(self, place: Place, keyword: str, pattern: str, folder: Path, depth: int) -> None:
        if depth == _INCLUDE_DEPTH_MAX:
            self._ledger.give_up(place, keyword, f"must not be nested more than {_INCLUDE_DEPTH_MAX} deep")
        pattern = pattern.strip('"')
        if pattern.count("{") > _BRACES_MAX:
            self._ledger.refuse(place, keyword, f"must have at most {_BRACES_MAX} braces")
            return
        for alternative in _braces(pattern):
            absolute = alternative if alternative.startswith("/") else f"{glob.escape(str(folder))}/{alternative}"
            found = [Path(name) for name in sorted(glob.glob(absolute))]  # noqa: PTH207  # Path.glob takes no absolute pattern
            files = [file for file in found if file.is_file()]
            if not files:
                self._nothing_found(place, keyword, alternative)
            for file in files:
                try:
                    content = file.read_bytes()
                except OSError as error:
                    self._ledger.refuse(place, keyword, f"{file} cannot be read: {error.strerror or error}")
                    continue
                self._read_file(file, content, depth + 1)

    def _nothing_found(self, place: Place, keyword: str, pattern: str) -> None:
        if keyword in STRICT_INCLUDES:
            self._ledger.refuse(place, keyword, f"no file matches {pattern} ({STRICT_INCLUDES[keyword]})")
        else:
            text = f"no file matches {pattern}; keepalived goes on without one, and so does this"
            self._ledger.note(Note(place, keyword, Kind.LEFT_OUT, text))


def _chunks(file: str, text: str) -> Iterator[_Chunk]:
    """The physical lines without comments, those of a multi-line definition together."""
    lines = iter(enumerate(text.split("\n"), start=1))
    for number, raw in lines:
        line = without_comment(raw).strip(" \t\r")
        further: list[tuple[Place, str]] = []
        # A backslash at the end of a comment counts, too.
        if _DEFINITION.fullmatch(line) and _goes_on(raw):
            for next_number, next_raw in lines:
                further.append((Place(file, next_number), without_comment(next_raw).strip(" \t\r")))
                if not _goes_on(next_raw):
                    break
        yield _Chunk(Place(file, number), line, tuple(further))


def _goes_on(raw: str) -> bool:
    return raw.rstrip(" \t\r").endswith("\\")


def without_comment(line: str) -> str:
    """The line up to a `#` or `!` outside double quotes, as keepalived 2.2.7 cuts it: a backslash does not help there.

    >>> without_comment('auth_pass "a#1"  # not for everyone')
    'auth_pass "a#1"  '
    """
    quoted = escaped = False
    for index, character in enumerate(line):
        if escaped:
            escaped = False
        elif character == "\\" and quoted:
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character in "#!" and not quoted:
            return line[:index]
    return line


def _braces(pattern: str) -> Iterator[str]:
    """csh's brace expansion, which glob(3) has with GLOB_BRACE, outer braces first."""
    start = pattern.find("{")
    commas, depth = [start], 0
    for index in range(max(start, 0), len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[index], 0)
        if depth == 1 and pattern[index] == ",":
            commas.append(index)
        elif depth == 0 and start >= 0:
            ends = [*commas[1:], index]
            for before, after in zip(commas, ends, strict=True):
                yield from _braces(pattern[:start] + pattern[before + 1 : after] + pattern[index + 1 :])
            return
    yield pattern
