"""vrrp_script, track_script and track_interface."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from decimal import Decimal

from holdfast_cli.convert.keywords import SCRIPT
from holdfast_cli.convert.ledger import Ledger, Statement
from holdfast_cli.convert.model import Script, TrackedInterface, TrackedScript
from holdfast_cli.convert.values import argument, block_of, seconds, settings, weight, whole

_SHELL_WORDS = frozenset(("|", "||", "&&", "&", ";", ">", "<", ">>", "2>&1"))
_PERIOD_MAX = Decimal(3600)
_WORDS_MAX = 64
_THRESHOLD_MAX = 1000

_INTERFACE_NAME = re.compile(r"[^/\s]{1,15}")


def read_script(statement: Statement, ledger: Ledger) -> Script | None:
    """One vrrp_script, or None and errors."""
    if len(statement.words) != 2:
        ledger.refuse(statement.place, statement.keyword, "must have one name")
        return None
    said = {}
    for line in settings(block_of(statement, ledger), frozenset(), ledger):
        said[line.keyword] = line
        if line.keyword in SCRIPT:
            ledger.leave_out(line, SCRIPT[line.keyword])
        elif line.keyword not in ("script", "interval", "timeout", "weight", "rise", "fall"):
            ledger.refuse(line.place, line.keyword, "is no keyword of vrrp_script")
    if "script" not in said:
        ledger.refuse(statement.place, f"vrrp_script {statement.words[1]}", "must have a script")
        return None
    command = _command(said["script"], ledger)
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
    value = seconds(statement, ledger, Decimal("0.001"), Decimal(4_294))
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
    value = whole(statement, ledger, 1, 2**29) or 1
    if value > _THRESHOLD_MAX:
        ledger.differs(statement, f"{value} becomes {_THRESHOLD_MAX}, the highest threshold of a probe")
    return min(value, _THRESHOLD_MAX)


def _command(statement: Statement, ledger: Ledger) -> tuple[str, ...]:
    """The words that are executed, as keepalived splits its first string; it passes over further words."""
    text = argument(statement, ledger)
    if text is None:
        return ()
    ledger.carry(statement)
    if text.lstrip()[:1] in tuple("<>|&;(!"):
        # keepalived finds no such program and leaves the string to system(3).
        shell = "/bin/bash" if re.search(r"/dev/(tcp|udp)/", text) else "/bin/sh"
        ledger.remark(statement, f"is no program: keepalived leaves it to /bin/sh, Holdfast runs {shell} -c with it")
        return (shell, "-c", text)
    try:
        words = shlex.split(text)
    except ValueError as error:
        ledger.refuse(statement.place, statement.keyword, f"cannot be split into words: {error}")
        return ()
    if not words or not all(words) or len(words) > _WORDS_MAX:
        reason = f"must be a program with at most {_WORDS_MAX - 1} parameters, none of them empty"
        ledger.refuse(statement.place, statement.keyword, reason)
        return ()
    if found := _SHELL_WORDS.intersection(words):
        text = f"neither keepalived nor Holdfast starts a shell for it: the program gets {min(found)!r} as a parameter"
        ledger.remark(statement, text)
    return tuple(words)


def read_tracked_scripts(
    statement: Statement, scripts: Mapping[str, Script | None], ledger: Ledger
) -> list[TrackedScript]:
    """The entries of a track_script block; one that names an unknown script is an error, as in keepalived."""
    tracked = []
    for entry in block_of(statement, ledger):
        script = scripts.get(entry.keyword)
        own = _entry_weight(entry, ledger)
        if entry.keyword not in scripts:
            ledger.refuse(entry.place, entry.keyword, "must be the name of a vrrp_script")
        elif script is not None:
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
        ledger.refuse(entry.place, entry.keyword, f"may be followed by weight, not by {entry.arguments[0]!r}")
        return None
    return weight(entry, entry.arguments[1:], ledger)


def is_interface_name(statement: Statement, name: str, ledger: Ledger) -> bool:
    """Whether Linux can have an interface of that name (IFNAMSIZ, dev_valid_name in net/core/dev.c)."""
    if _INTERFACE_NAME.fullmatch(name) and name not in (".", "..") and ":" not in name:
        return True
    ledger.refuse(statement.place, statement.keyword, f"must have an interface's name, not {name!r}")
    return False
