"""Values of keepalived's keywords; what cannot be read goes to the ledger, in keepalived's own ranges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from holdfast_cli.convert.ledger import Ledger, Statement

_WHOLE = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}", re.ASCII)


def argument(statement: Statement, ledger: Ledger) -> str | None:
    """The one argument of a statement; None, and an error, where it has none. More of them are reported."""
    if not has_no_block(statement, ledger):
        return None
    if not statement.arguments:
        ledger.refuse(statement.place, statement.keyword, "must have a value")
        return None
    no_more(statement, 1, ledger)
    return statement.arguments[0]


def flag(statement: Statement, ledger: Ledger) -> bool:
    """Whether the statement may stand: it has no block. Arguments are reported."""
    no_more(statement, 0, ledger)
    return has_no_block(statement, ledger)


def has_no_block(statement: Statement, ledger: Ledger) -> bool:
    """Whether the statement is without a block, as it must be."""
    if statement.block is None:
        return True
    ledger.refuse(statement.place, statement.keyword, "must not have a block { }")
    return False


def block_of(statement: Statement, ledger: Ledger) -> list[Statement]:
    """The statements of the block, which must be there."""
    if statement.block is None:
        ledger.refuse(statement.place, statement.keyword, "must have a block { }")
        return []
    ledger.carry(statement)
    return statement.block


def no_more(statement: Statement, expected: int, ledger: Ledger) -> None:
    """Report the arguments after the expected ones, which keepalived passes over."""
    surplus = statement.arguments[expected:]
    if surplus:
        ledger.leave_out(
            statement, f"keepalived passes over the rest of the line, and so does this: {' '.join(surplus)}"
        )


def whole(statement: Statement, ledger: Ledger, low: int, high: int, instead: str = "") -> int | None:
    """The argument as a whole number from low to high, or None, and an error: a complaint where keepalived does
    something `instead`."""
    text = argument(statement, ledger)
    if text is None:
        return None
    value = int(text) if _WHOLE.fullmatch(text) else None
    if value is None or not low <= value <= high:
        _bad_value(statement, f"must be a whole number from {low} to {high}, not {text!r}", instead, ledger)
        return None
    ledger.carry(statement)
    return value


def seconds(statement: Statement, ledger: Ledger, low: Decimal, high: Decimal, instead: str = "") -> Decimal | None:
    """The argument as seconds, with fractions, from low to high, or None, as whole() has it."""
    text = argument(statement, ledger)
    if text is None:
        return None
    value = Decimal(text) if _DECIMAL.fullmatch(text) else None
    if value is None or not low <= value <= high:
        _bad_value(statement, f"must be seconds from {low} to {high}, not {text!r}", instead, ledger)
        return None
    ledger.carry(statement)
    return value


def _bad_value(statement: Statement, reason: str, instead: str, ledger: Ledger) -> None:
    if instead:
        ledger.complain(statement, reason, instead)
    else:
        ledger.refuse(statement.place, statement.keyword, reason)


def weight(statement: Statement, words: list[str], ledger: Ledger) -> tuple[int, bool] | None:
    """`N [reverse|noreverse]` with N from -253 to 253, or None and an error."""
    reverse = words[1:] == ["reverse"]
    plain = words[1:] in ([], ["noreverse"], ["no_reverse"])
    if not words or not _WHOLE.fullmatch(words[0]) or not (reverse or plain) or not -253 <= int(words[0]) <= 253:
        reason = f"must have a weight from -253 to 253, with or without reverse, not {' '.join(words)!r}"
        ledger.complain(statement, reason, "goes on all the same; here it is without a weight")
        return None
    return int(words[0]), reverse


def settings(block: Iterable[Statement], repeatable: frozenset[str], ledger: Ledger) -> Iterator[Statement]:
    """The statements that count: of several with one keyword the last, unless the keyword is repeatable."""
    statements = list(block)
    last: Mapping[str, Statement] = {statement.keyword: statement for statement in statements}
    for statement in statements:
        final = last[statement.keyword]
        if statement is final or statement.keyword in repeatable:
            yield statement
        else:
            ledger.leave_out(statement, f"line {final.place.line} says it again, and keepalived goes by the last one")


MULTICAST_GROUPS = {"IPv4": "224.0.0.18", "IPv6": "ff02::12"}
"""RFC 9568 sections 5.1.1.2 and 5.1.2.2."""


def multicast_group(statement: Statement, groups: Sequence[str], ledger: Ledger) -> None:
    """A group that adverts are sent to, which is the RFCs' own in Holdfast."""
    text = argument(statement, ledger)
    if text in groups:
        ledger.carry(statement)
    elif text is not None:
        ledger.differs(statement, f"Holdfast sends to the group of the RFCs, {' or '.join(groups)}")
