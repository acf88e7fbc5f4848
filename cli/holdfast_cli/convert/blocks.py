"""From lines to statements: words, quotes, and blocks in braces."""

from __future__ import annotations

import re
from collections.abc import Iterator

from holdfast_cli.convert.ledger import Ledger, Place, Statement
from holdfast_cli.convert.source import Line

_PIECE = re.compile(r'(?:"(?:\\.|[^"\\])*"|\$\{[^{}]*\}|[^{}"])+|[{}]|"')
_WORD = re.compile(r'"([^"]*)"|([^ \t"]+)')
_COMMANDS = re.compile(
    r"script|(?:startup|shutdown|.*_fifo)_script|notify(?:_.*)?|process|file|misc_path|quorum_(?:up|down)"
)
_BLANK = " \t"

_ESCAPES = {"a": "\a", "b": "\b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_NUMERIC_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]+)|([0-7]{1,3})|c(.))")


def statements(lines: list[Line], ledger: Ledger) -> list[Statement]:
    """The statements at the top, each with its block; what is wrong with braces and quotes goes to the ledger.

    As in keepalived, a brace may stand anywhere outside double quotes, also at the end of a word or on the next line.
    """
    top: list[Statement] = []
    open_blocks: list[Statement] = []
    current = top
    may_open: Statement | None = None
    for line in lines:
        for piece in _PIECE.findall(line.text):
            if piece == "{":
                if may_open is None:
                    ledger.refuse(line.place, "{", "opens a block that has no keyword")
                    may_open = Statement(["{"], line.place)
                may_open.block = current = []
                open_blocks.append(may_open)
                may_open = None
            elif piece == "}":
                may_open = None
                if open_blocks:
                    open_blocks.pop().last_line = line.place.line
                    current = (open_blocks[-1].block or []) if open_blocks else top
                else:
                    ledger.complain_at(line.place, "}", "closes a block that was never opened", "passes over it")
            elif piece == '"':
                ledger.refuse(line.place, _first_word(line.text), "has a quotation mark that is never closed")
                break
            elif words := _words(piece.strip(_BLANK), line.place, ledger):
                may_open = Statement(words, line.place)
                current.append(may_open)
    for statement in open_blocks:
        ledger.refuse(statement.place, " ".join(statement.words[:2]), "opens a block that is never closed")
    return top


def everything(block: list[Statement]) -> Iterator[Statement]:
    """Every statement of the block, and of the blocks in it."""
    pending = list(reversed(block))
    while pending:
        statement = pending.pop()
        yield statement
        pending.extend(reversed(statement.block or []))


def _first_word(text: str) -> str:
    return re.split(f"[{_BLANK}]", text, maxsplit=1)[0]


def _words(text: str, place: Place, ledger: Ledger) -> list[str]:
    if not text:
        return []
    first = _first_word(text)
    try:
        if _COMMANDS.fullmatch(first):
            return list(_escaped_words(text))
        return [match[1] if match[1] is not None else match[2] for match in _WORD.finditer(text)]
    except ValueError as error:
        ledger.refuse(place, first, str(error))
        return []


def _escaped_words(text: str) -> Iterator[str]:
    """Words with quotes of both kinds and backslashes, as keepalived.conf(5) has them for commands.

    Raises ValueError where a quotation mark is not closed.
    """
    word: list[str] = []
    started = False
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if not quote and character in _BLANK:
            if started:
                yield "".join(word)
            word, started = [], False
            continue
        started = True
        if character == "\\" and position < len(text):
            value, position = _escape(text, position - 1)
            word.append(value)
        elif quote and character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        else:
            word.append(character)
    if quote:
        raise ValueError(f"has a {quote} that is never closed")
    if started:
        yield "".join(word)


def _escape(text: str, position: int) -> tuple[str, int]:
    """What the escape at the position stands for, and where it ends."""
    if match := _NUMERIC_ESCAPE.match(text, position):
        code = ord(match[3].upper()) ^ 0x40 if match[3] else int(match[1][-2:], 16) if match[1] else int(match[2], 8)
        if not 0 < code < 0x80:
            raise ValueError(f"has the escape {match[0]}, which is no ASCII character")
        return chr(code), match.end()
    character = text[position + 1]
    return _ESCAPES.get(character, character), position + 2
