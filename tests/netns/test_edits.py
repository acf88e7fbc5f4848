"""Edits of the files while `holdfast run` holds what they say: what nobody meant to give up is not given up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually

pytestmark = [pytest.mark.netns, pytest.mark.alone]

VIP = "10.77.0.200"
OTHER = "10.77.0.201"
PRIORITIES = {"priorities": [{"nodeName": "n1", "priority": 110}, {"nodeName": "n2", "priority": 100}]}
LONG_ENOUGH = 2.5
"""Seconds: five looks."""


def vip(name: str = "web", address: str = VIP, vrid: int = 51) -> str:
    spec = {
        "addresses": [f"{address}/24"],
        "virtualRouterID": vrid,
        "advertisementIntervalMilliseconds": 100,
        "nodes": PRIORITIES,
    }
    fields = "".join(f"  {field}: {json.dumps(value)}\n" for field, value in spec.items())
    return f"apiVersion: holdfast.dev/v1alpha1\nkind: VirtualIP\nmetadata: {{name: {name}}}\nspec:\n{fields}"


BOTH = f"{vip()}---\n{vip('db', OTHER, 52)}"


def generation(host: Host) -> int:
    return int(host.status.get("generation", 0))


def test_a_file_that_is_copied_slowly_moves_nothing(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(vip()).becomes("Master")
    n2.run(vip()).becomes("Backup")
    text = n1.file.read_text(encoding="utf-8")
    with n1.file.open("w", encoding="utf-8") as copy:  # O_TRUNC, as cp and scp
        time.sleep(LONG_ENOUGH)
        copy.write(text)
    time.sleep(LONG_ENOUGH)
    assert lan.holders(VIP) == ["n1"]
    assert n1.routers["web"]["transitions"] == 1
    assert n2.state() == "Backup"


def cut_short(file: Path) -> None:
    file.write_text(vip() + "---\n", encoding="utf-8")


def only_comments(file: Path) -> None:
    file.write_text("# " + BOTH.replace("\n", "\n# "), encoding="utf-8")


def moved_away(file: Path) -> None:
    file.rename(file.with_suffix(".away"))


def unreadable(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("edit", [cut_short, only_comments, moved_away, unreadable], ids=lambda edit: edit.__name__)
def test_a_file_in_pieces_keeps_what_runs_and_says_so_once(segment: Any, edit: Callable[[Path], None]) -> None:
    (n1,) = segment("n1").hosts
    n1.run(BOTH).becomes("Master")
    n1.becomes("Master", "db")
    edit(n1.file)
    eventually(lambda: n1.messages("error"), "what is wrong is told")
    time.sleep(LONG_ENOUGH)
    (told,) = n1.messages("error")
    assert told.startswith(f"the running configuration is kept: {n1.file}: ")
    n1.process.send_signal(signal.SIGHUP)
    eventually(lambda: n1.messages("error") == [told, told], "it is told again after SIGHUP")
    assert n1.has(VIP)
    assert n1.has(OTHER)
    n1.write(vip())
    eventually(lambda: not n1.has(OTHER), "what is whole again counts")
    assert n1.routers["web"]["transitions"] == 1


def test_a_folder_whose_files_go_and_come_back_moves_nothing(segment: Any) -> None:
    """As a Kubernetes volume changes: the files are links into a folder that is a link itself."""
    (n1,) = segment("n1").hosts
    volume = n1.folder / "volume"
    for number in (1, 2):
        (volume / f"..{number}").mkdir(parents=True)
        (volume / f"..{number}" / "web.yaml").write_text(vip(), encoding="utf-8")
    (volume / "..data").symlink_to("..1")
    (volume / "web.yaml").symlink_to("..data/web.yaml")
    n1.file = volume
    n1.run().becomes("Master")
    for number in (2, 1, 2):
        (volume / "..data").unlink()
        time.sleep(0.3)
        (volume / "..data").symlink_to(f"..{number}")
        time.sleep(0.3)
    shutil.move(volume, n1.folder / "away")
    time.sleep(LONG_ENOUGH)
    shutil.move(n1.folder / "away", volume)
    (volume / "..2" / "db.yaml").write_text(vip("db", OTHER, 52), encoding="utf-8")
    (volume / "db.yaml").symlink_to("..data/db.yaml")
    n1.becomes("Master", "db")
    assert n1.routers["web"]["transitions"] == 1
    assert n1.has(VIP)


def test_from_some_to_none_by_saying_so(segment: Any) -> None:
    (n1,) = segment("n1").hosts
    n1.run(vip()).becomes("Master")
    n1.write("apiVersion: v1\nkind: List\nitems: []\n")
    eventually(lambda: generation(n1) == 2, "the empty list is in force")
    assert not n1.has(VIP)
    assert n1.messages("error") == []


def test_after_sighup_a_change_counts_at_once(segment: Any) -> None:
    (n1,) = segment("n1").hosts
    n1.run(vip()).becomes("Master")
    for number in range(2, 7):
        n1.write(vip() + "---\n" + vip("db", OTHER, 50 + number))
        n1.process.send_signal(signal.SIGHUP)
        eventually(lambda wanted=number: generation(n1) == wanted, "the edit is in force")
    assert n1.routers["web"]["transitions"] == 1


def test_a_node_name_that_nobody_wrote_down_is_warned_of_once(segment: Any) -> None:
    (n1,) = segment("n1").hosts
    n1.name = "nl"
    n1.run(vip()).becomes("Master")
    n1.write(BOTH)
    n1.becomes("Master", "db")
    (warning,) = [told for told in n1.messages("warning") if "node-name" in told]
    assert "nl" in warning
    assert "n1, n2" in warning
