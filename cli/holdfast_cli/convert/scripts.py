"""vrrp_script, track_script and track_interface."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from holdfast_cli.convert.keywords import SCRIPT
from holdfast_cli.convert.ledger import Kind, Ledger, Statement
from holdfast_cli.convert.model import Script, TrackedInterface, TrackedScript
from holdfast_cli.convert.values import argument, block_of, no_more, seconds, settings, weight, whole

_SHELL_OPERATORS = frozenset(("|", "||", "&&", "&", ";"))
_REDIRECTION = re.compile(r"[0-9]*(>>?|<<?|[<>]&|<>)\S*|&>>?\S*")
_SUBSTITUTION = re.compile(r"\$[A-Za-z_{(]|`")
_SHELL_BUILTINS = frozenset(
    ("if", "for", "while", "until", "case", "exit", "cd", "source", ".", "export", "ulimit", "{", "[[", "return")
)
_OF_BASH = re.compile(r"/dev/(tcp|udp)/|(^|\s)(\[\[|source)\s")
_PERIOD_MAX = Decimal(3600)
_WORDS_MAX = 64
_THRESHOLD_MAX = 1000

_INTERFACE_NAME = re.compile(r"[^/\s]{1,15}")


def read_script(statement: Statement, ledger: Ledger) -> Script | None:
    """One vrrp_script, or None and errors."""
    if len(statement.words) < 2:
        ledger.refuse(statement.place, statement.keyword, "must have one name")
        return None
    no_more(statement, 1, ledger)
    said = {}
    for line in settings(block_of(statement, ledger), frozenset(), ledger):
        said[line.keyword] = line
        if line.keyword in SCRIPT:
            ledger.leave_out(line, SCRIPT[line.keyword])
        elif line.keyword not in ("script", "interval", "timeout", "weight", "rise", "fall"):
            ledger.complain(line, "is no keyword of vrrp_script", "goes on without it")
    command = read_command(said["script"], ledger) if "script" in said else ()
    if not command:
        name = f"vrrp_script {statement.words[1]}"
        ledger.complain(statement, "must have a script", "removes it", keyword=name)
        return None
    weighed = (0, False)
    if "weight" in said:
        ledger.carry(said["weight"])
        weighed = weight(said["weight"], said["weight"].arguments, ledger) or weighed
    return Script(
        name=statement.words[1],
        statement=statement,
        command=command,
        interval_ms=_milliseconds(said.get("interval"), ledger) or 1000,
        timeout_ms=_milliseconds(said.get("timeout"), ledger),
        rise=_threshold(said.get("rise"), ledger),
        fall=_threshold(said.get("fall"), ledger),
        weight=weighed[0],
        reverse=weighed[1],
        said=said,
    )


def _milliseconds(statement: Statement | None, ledger: Ledger) -> int | None:
    if statement is None:
        return None
    value = seconds(statement, ledger, Decimal("0.001"), Decimal(4_294), "takes its default")
    if value is None:
        return None
    if value > _PERIOD_MAX:
        ledger.differs(statement, f"{value} s becomes {_PERIOD_MAX} s, the longest of a probe")
        value = _PERIOD_MAX
    rounded = int(value * 1000)
    if rounded < 10:
        ledger.differs(statement, f"{value} s becomes 0.01 s, the shortest of a probe")
        return 10
    if rounded != value * 1000:
        ledger.differs(statement, f"{value} s becomes {rounded} ms")
    elif rounded % 1000:
        ledger.remark(statement, "keepalived 2.2.7 refuses fractions of a second here")
    return rounded


def _threshold(statement: Statement | None, ledger: Ledger) -> int:
    if statement is None:
        return 1
    value = whole(statement, ledger, 1, 2**29, "takes 1") or 1
    if value > _THRESHOLD_MAX:
        ledger.differs(statement, f"{value} becomes {_THRESHOLD_MAX}, the highest threshold of a probe")
    return min(value, _THRESHOLD_MAX)


def read_command(statement: Statement, ledger: Ledger) -> tuple[str, ...]:
    """The words that are executed, as keepalived splits its first string; it passes over further words."""
    text = argument(statement, ledger)
    if text is None:
        return ()
    ledger.carry(statement)
    if text.lstrip()[:1] in tuple("<>|&;(!"):
        # keepalived finds no such program and leaves the string to system(3).
        told = "is no program: keepalived leaves it to /bin/sh, Holdfast runs {shell} -c with it"
        return _for_a_shell(statement, text, told, ledger)
    try:
        words = shlex.split(text)
    except ValueError as error:
        ledger.refuse(statement.place, statement.keyword, f"cannot be split into words: {error}")
        return ()
    if _is_for_a_shell(text):
        told = (
            "is written for a shell: keepalived up to 1.3.0 gave it to one, 2.x gives all of it to the program as "
            "parameters; Holdfast runs {shell} -c with it"
        )
        return _for_a_shell(statement, text, told, ledger)
    if not words:
        return ()
    if not all(words) or len(words) > _WORDS_MAX:
        reason = f"must be a program with at most {_WORDS_MAX - 1} parameters, none of them empty"
        ledger.refuse(statement.place, statement.keyword, reason)
        return ()
    return tuple(words)


def _is_for_a_shell(text: str) -> bool:
    """Whether a word that is not quoted is an operator, a redirection or a substitution of sh(1)."""
    words = shlex.split(text, posix=False)
    return words[:1] != [] and (
        words[0] in _SHELL_BUILTINS
        or any(
            word in _SHELL_OPERATORS or _REDIRECTION.fullmatch(word) or (word.endswith(";") and word[0] not in "\"'")
            for word in words
        )
        or any(not word.startswith("'") and _SUBSTITUTION.search(word) for word in words)
    )


def _for_a_shell(statement: Statement, text: str, told: str, ledger: Ledger) -> tuple[str, ...]:
    shell = "/bin/bash" if _OF_BASH.search(text) else "/bin/sh"
    ledger.differs(statement, told.format(shell=shell))
    return (shell, "-c", text)


@dataclass(frozen=True, slots=True)
class Scripts:
    """The vrrp_scripts of a host; None is one that keepalived removes."""

    by_name: Mapping[str, Script | None]
    order: Mapping[Statement, int]
    """Of the statements at the top of the configuration."""

    def is_known_to(self, owner: Statement, script: Script) -> bool:
        """Whether keepalived has read the script when it reads who tracks it."""
        return self.order[script.statement] < self.order[owner]


def read_tracked_scripts(
    statement: Statement, owner: Statement, scripts: Scripts, ledger: Ledger
) -> list[TrackedScript]:
    """The entries of a track_script block of `owner`. Unknown scripts are ignored, as in keepalived."""
    tracked = []
    for entry in block_of(statement, ledger):
        script = scripts.by_name.get(entry.keyword)
        own = _entry_weight(entry, ledger)
        if entry.keyword not in scripts.by_name:
            ledger.complain(entry, "must be the name of a vrrp_script", "ignores it")
        elif script is None:
            ledger.leave_out(entry, "has no script to run, and is removed")
        elif not scripts.is_known_to(owner, script):
            reason = f"must be defined before it is tracked, which is at {script.statement.place}"
            ledger.complain(entry, reason, "ignores it; Holdfast tracks it", kind=Kind.DIFFERS)
            tracked.append(TrackedScript(script, 0, script.reverse, entry, ignored=True))
        else:
            value, reverse = own or (script.weight, script.reverse)
            tracked.append(TrackedScript(script, value, reverse, entry))
    return tracked


def read_tracked_interfaces(statement: Statement, ledger: Ledger) -> list[TrackedInterface]:
    """The entries of a track_interface block."""
    tracked = []
    for entry in block_of(statement, ledger):
        value, reverse = _entry_weight(entry, ledger) or (0, False)
        if is_interface_name(entry, entry.keyword, ledger):
            tracked.append(TrackedInterface(entry.keyword, value, reverse, entry))
    return tracked


def _entry_weight(entry: Statement, ledger: Ledger) -> tuple[int, bool] | None:
    ledger.carry(entry)
    if not entry.arguments:
        return None
    if entry.arguments[0] != "weight":
        reason = f"may be followed by weight, not by {entry.arguments[0]!r}"
        ledger.complain(entry, reason, "passes over that", kind=Kind.DIFFERS)
        return None
    return weight(entry, entry.arguments[1:], ledger)


def is_interface_name(statement: Statement, name: str, ledger: Ledger) -> bool:
    """Whether Linux can have an interface of that name (IFNAMSIZ, dev_valid_name in net/core/dev.c)."""
    if _INTERFACE_NAME.fullmatch(name) and name not in (".", "..") and ":" not in name:
        return True
    ledger.refuse(statement.place, statement.keyword, f"must have an interface's name, not {name!r}")
    return False
