"""What becomes of keepalived's notify scripts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from holdfast_cli.convert import Conversion
from holdfast_testing.keepalived_files import convert_texts, instance

Converter = Callable[..., Conversion]


@pytest.fixture
def converted(tmp_path: Path) -> Converter:
    return functools.partial(convert_texts, tmp_path)


def notify(conversion: Conversion, index: int = 0) -> Any:
    return to_builtins(conversion.converted[index].virtual_ip.spec.notify)


def notes(conversion: Conversion, keyword: str) -> list[str]:
    return [f"{note.kind}: {note.text}" for note in conversion.ledger.notes if note.keyword == keyword]


def test_each_script_is_told_of_its_state_and_notify_of_all_with_keepaliveds_arguments(converted: Converter) -> None:
    made = converted(
        instance(
            'notify "/etc/keepalived/notify.sh --all"',
            "notify_stop /s",
            "notify_fault '/f x'",
            "notify_backup /b",
            "notify_master /m",
        )
    )
    assert notify(made) == [
        {"command": ["/m"], "states": ["Master"]},
        {"command": ["/b"], "states": ["Backup"]},
        {"command": ["/f", "x"], "states": ["Fault"]},
        {"command": ["/s"], "states": ["Stop"]},
        {
            "command": [
                "/etc/keepalived/notify.sh",
                "--all",
                "INSTANCE",
                "VI_1",
                "$(HOLDFAST_STATE)",
                "$(HOLDFAST_PRIORITY)",
            ]
        },
    ]
    assert not [note for note in made.ledger.notes if note.keyword.startswith("notify")]


def test_the_user_is_that_of_the_script_or_script_user(converted: Converter) -> None:
    made = converted(
        "global_defs {\nscript_user alice staff\n}\n" + instance("notify_master /m", "notify_backup /b bob")
    )
    assert notify(made) == [
        {"command": ["/m"], "states": ["Master"], "user": "alice", "group": "staff"},
        {"command": ["/b"], "states": ["Backup"], "user": "bob"},
    ]
    assert notes(made, "notify_backup") == ["note: is run as the user bob, as keepalived takes what follows the script"]


def test_what_only_some_hosts_have_names_them(converted: Converter) -> None:
    made = converted(instance("notify_master /m", "notify_fault /f"), instance("notify_master /m", "notify_fault /g"))
    assert notify(made) == [
        {"command": ["/m"], "states": ["Master"]},
        {"command": ["/f"], "states": ["Fault"], "nodes": ["n1"]},
        {"command": ["/g"], "states": ["Fault"], "nodes": ["n2"]},
    ]


def test_a_group_is_told_with_its_first_member_and_that_is_said(converted: Converter) -> None:
    other = instance("notify_master /m").replace("VI_1", "VI_2").replace("51", "52").replace(".200", ".201")
    group = "vrrp_sync_group G {\ngroup {\nVI_1\nVI_2\n}\nnotify /n\n}\n"
    made = converted(instance() + other + group)
    assert notify(made) == [{"command": ["/n", "GROUP", "G", "$(HOLDFAST_STATE)", "0"]}]
    assert notify(made, 1) == [{"command": ["/m"], "states": ["Master"]}]
    assert notes(made, "notify") == [
        "differs: is told of VI_1 alone: no other of its group moves with it for every reason"
    ]


def test_a_group_of_one_is_told_as_keepalived_does(converted: Converter) -> None:
    made = converted(instance() + "vrrp_sync_group G {\ngroup {\nVI_1\n}\nnotify_backup /n\n}\n")
    assert notify(made) == [{"command": ["/n"], "states": ["Backup"]}]
    assert notes(made, "notify_backup") == []
