"""Words, quotes and braces of keepalived's configurations."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast_cli.convert.blocks import everything, statements
from holdfast_cli.convert.ledger import Ledger, Place, Statement
from holdfast_cli.convert.source import Line


def parse(text: str) -> tuple[list[Statement], Ledger]:
    ledger = Ledger()
    lines = [Line(Place("k.conf", number), line) for number, line in enumerate(text.split("\n"), start=1)]
    return statements(lines, ledger), ledger


def shape(found: list[Statement]) -> list[Any]:
    return [(s.words, shape(s.block)) if s.block is not None else s.words for s in found]


def test_braces_may_stand_on_any_line_and_at_the_end_of_a_word() -> None:
    expected = [(["vrrp_instance", "a"], [["interface", "eth0"], (["track_script"], [["x"]])]), (["b"], [])]
    for text in (
        "vrrp_instance a {\ninterface eth0\ntrack_script {\nx\n}\n}\nb {\n}",
        "vrrp_instance a\n{\ninterface eth0\ntrack_script\n{\nx\n}\n}\nb\n{\n}",
        "vrrp_instance a{ interface eth0\ntrack_script{ x } }\nb{}",
    ):
        found, ledger = parse(text)
        assert shape(found) == expected
        assert ledger.errors == []


def test_a_block_knows_its_last_line_and_all_that_is_in_it() -> None:
    (found,), _ = parse("a {\nb {\nc\n}\n}")
    assert (found.place.line, found.last_line) == (1, 5)
    assert [statement.keyword for statement in everything([found])] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('vrrp_instance "VI one"', ["vrrp_instance", "VI one"]),
        ("vrrp_instance 'VI one'", ["vrrp_instance", "'VI", "one'"]),
        ('auth_pass ab"c d"e', ["auth_pass", "ab", "c d", "e"]),
        ('auth_pass "a{b}c"', ["auth_pass", "a{b}c"]),
        ("path /x/${UNKNOWN}/y", ["path", "/x/${UNKNOWN}/y"]),
        ("script \"/bin/bash -c '</dev/tcp/127.0.0.1/80'\"", ["script", "/bin/bash -c '</dev/tcp/127.0.0.1/80'"]),
        ('script /x abcd" efg h jkl "mnop', ["script", "/x", "abcd efg h jkl mnop"]),
        ("script '/bin/x \"a b\"'", ["script", '/bin/x "a b"']),
        (r'script "/bin/echo \"q\" \x41\102\t\\"', ["script", '/bin/echo "q" AB\t\\']),
        (r"notify /bin/a\ b root", ["notify", "/bin/a b", "root"]),
    ],
)
def test_words_are_split_as_keepalived_splits_them(line: str, words: list[str]) -> None:
    (found,), ledger = parse(line)
    assert found.words == words
    assert ledger.errors == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a {\nb", "k.conf:1: a: opens a block that is never closed"),
        ("{\n}", "k.conf:1: {: opens a block that has no keyword"),
        ("a {\n{\n}\n}", "k.conf:2: {: opens a block that has no keyword"),
        ('auth_pass "abc', "k.conf:1: auth_pass: has a quotation mark that is never closed"),
        ("script '/bin/x", "k.conf:1: script: has a ' that is never closed"),
        (r"script /bin/x\0", r"k.conf:1: script: has the escape \0, which is no ASCII character"),
    ],
)
def test_unbalanced_braces_and_quotes_are_errors(text: str, error: str) -> None:
    _, ledger = parse(text)
    assert str(ledger.errors[0]) == error
