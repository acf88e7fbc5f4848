"""Parameters, as keepalived.conf(5) has them: `$NAME=value`, `${NAME}`, `~SEQ(...)` and `~LST(...)`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from holdfast_cli.convert.ledger import Place

DEFINITION = re.compile(r"\$([A-Za-z_]\w*)=(.*)", re.ASCII | re.DOTALL)
CONDITION = re.compile(r"@(\^?)([^ \t]*)[ \t]*(.*)", re.DOTALL)

_USE = re.compile(r"\$(?:\{([A-Za-z_]\w*)([ \t][^}]*)?\}|([A-Za-z_]\w*)(?=[ \t]|$))", re.ASCII)
_USE_IN_SEQUENCE = re.compile(r"\$(?:\{([A-Za-z_]\w*)([ \t][^}]*)?\}|([A-Za-z_]\w*)(?=[ \t,]|$))", re.ASCII)
_SEQUENCE = re.compile(r"~SEQ(x?)[ \t]*\(([^)]*)\)[ \t]*(.*)", re.DOTALL)
_LIST = re.compile(r"~LST[ \t]*\((.*)", re.DOTALL)
_INTEGER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]{1,8}|[0-9]{1,9})", re.ASCII)
_LIST_ITEM = re.compile(r"[ \t]*(?:\{([^{}]*)\}|([^,{}]*))[ \t]*(?:,|$)")

_REPEATS_MAX = 65_536
"""More than keepalived's own example has (65,024 instances); above it somebody mistyped a number."""

Row = tuple[tuple[str, str], ...]
"""Names and the values that they have for one repetition."""


@dataclass(frozen=True, slots=True)
class Body:
    """The value of a parameter: its lines, each where it was written."""

    lines: tuple[tuple[Place, str], ...]


@dataclass(slots=True)
class Parameters:
    """The parameters that are defined so far, and which of them were used."""

    bodies: dict[str, Body] = field(default_factory=dict)
    unused: dict[str, Place] = field(default_factory=dict)

    def define(self, name: str, body: Body) -> None:
        """Define or redefine a parameter; what was replaced before stays as it is."""
        self.bodies[name] = body
        self.unused.setdefault(name, body.lines[0][0])

    def find(self, text: str) -> tuple[re.Match[str], Body] | None:
        """The first use of a defined parameter in the text. Undefined ones stay in the text as they are."""
        for match in _USE.finditer(text):
            name = match[1] or match[3]
            body = self.bodies.get(name)
            if body is not None:
                self.unused.pop(name, None)
                return match, body
        return None


def uses_random(text: str) -> bool:
    """Whether the text asks for ${_RANDOM}, which is another number each time."""
    return any((match[1] or match[3]) == "_RANDOM" for match in _USE.finditer(text))


def repetitions(text: str, parameters: Parameters) -> tuple[list[Row], str] | None:
    """The rows of a leading ~SEQ or ~LST and the remainder of the line, or None if the line begins with neither.

    Raises ValueError with the reason where it does and cannot be read.
    """
    if match := _SEQUENCE.fullmatch(text):
        return _sequence(_filled_in(match[2], _USE_IN_SEQUENCE, parameters), hexadecimal=bool(match[1])), match[3]
    if match := _LIST.fullmatch(text):
        inside, remainder = _parenthesis(match[1])
        return _list(_filled_in(inside, _USE, parameters)), remainder
    if text.startswith("~"):
        raise ValueError("must be ~SEQ(...), ~SEQx(...) or ~LST(...)")
    return None


def _filled_in(text: str, use: re.Pattern[str], parameters: Parameters) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        body = parameters.bodies.get(name)
        if body is None or len(body.lines) > 1:
            return match[0]
        parameters.unused.pop(name, None)
        return body.lines[0][1]

    return use.sub(value, text)


def _sequence(inside: str, *, hexadecimal: bool) -> list[Row]:
    name, *numbers = (part.strip(" \t") for part in inside.split(","))
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or not 1 <= len(numbers) <= 3:
        raise ValueError("must be ~SEQ(name, start, step, end), where start and step may be left out")
    values = [_integer(number) for number in numbers]
    end = values[-1]
    start = values[0] if len(values) > 1 else (1 if end > 0 else -1)
    step = values[1] if len(values) == 3 else (1 if end >= start else -1)
    if step == 0:
        raise ValueError("must have a step that is not 0")
    series = range(start, end + (1 if step > 0 else -1), step)
    if len(series) > _REPEATS_MAX:
        raise ValueError(f"must have at most {_REPEATS_MAX} values, not {len(series)}")
    return [((name, f"{value:x}" if hexadecimal else str(value)),) for value in series]


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"must have whole numbers, not {text!r}")
    digits = text.lstrip("+-")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") and len(digits) > 1 else 10
    try:
        return int(text, base)
    except ValueError:
        raise ValueError(f"must have whole numbers, not {text!r} (a leading 0 makes it octal)") from None


def _parenthesis(text: str) -> tuple[str, str]:
    inside, closed, remainder = text.partition(")")
    if not closed:
        raise ValueError("must have a closing parenthesis")
    return inside, remainder.strip(" \t")


def _list(inside: str) -> list[Row]:
    items = _items(inside)
    names, rows = items[0], items[1:]
    if not all(re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) for name in names):
        raise ValueError("must begin with a name, or with names in braces")
    if not rows:
        raise ValueError("must have at least one value")
    if any(len(row) != len(names) for row in rows):
        raise ValueError(f"must have {len(names)} values for each repetition")
    return [tuple(zip(names, row, strict=True)) for row in rows]


def _items(inside: str) -> list[list[str]]:
    items: list[list[str]] = []
    position = 0
    while position < len(inside):
        match = _LIST_ITEM.match(inside, position)
        if match is None:
            raise ValueError("must have values separated by commas, or groups of them in braces")
        position = match.end()
        group = match[1].split(",") if match[1] is not None else [match[2]]
        items.append([value.strip(" \t") for value in group])
    if not items:
        raise ValueError("must begin with a name, or with names in braces")
    return items
