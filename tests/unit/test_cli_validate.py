"""`holdfast validate`: what `run` would say, and what an edit does, as anybody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WEB = "metadata: {name: web}\nspec: {addresses: [192.0.2.9/24], virtualRouterID: 51, interface: lo%s}\n"


def validate(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "holdfast_cli.main", "validate", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "vip.yaml"
    path.write_text(WEB % ", nodes: {priorities: [{nodeName: n1, priority: 100}, {nodeName: n2, priority: 90}]}")
    return path


def test_files_that_would_be_put_in_force_are_valid_for_each_host_that_they_name(file: Path) -> None:
    told = validate("-f", file)
    assert (told.returncode, told.stdout.splitlines()) == (0, ["n1: 1 VirtualIP", "n2: 1 VirtualIP"])


def test_hosts_that_only_a_probe_names_are_told_as_well(file: Path) -> None:
    file.write_text(WEB % ", track: {probes: [{name: web, tcpSocket: {port: 80}, nodes: [n2, n1]}]}")
    told = validate("-f", file)
    assert (told.returncode, told.stdout.splitlines()) == (0, ["n1: 1 VirtualIP", "n2: 1 VirtualIP"])


def test_what_run_warns_of_is_told_and_is_no_error(file: Path) -> None:
    told = validate("-f", file, "--node-name=n3")
    assert told.returncode == 0
    assert "--node-name: n3 is in no entry" in told.stderr


def test_a_command_that_this_host_would_not_run_is_a_warning(file: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    file.write_text(WEB % f", notify: [{{command: [/nowhere/x]}}, {{command: [{script}]}}]")
    told = validate("-f", file)
    assert told.returncode == 0
    assert told.stderr.splitlines() == [
        "warning: VirtualIP default/web: spec.notify: on this host /nowhere/x is missing",
        f"warning: VirtualIP default/web: spec.notify: on this host {script} is not executable",
    ]


def test_all_errors_are_told_with_exit_status_2(file: Path) -> None:
    file.write_text(WEB % ", noprempt: true, priority: 3")
    told = validate("-f", file)
    assert (told.returncode, told.stdout) == (2, "")
    assert len(told.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("former", "line"),
    [
        (WEB, "nothing changes for the engine"),
        (WEB.replace("51", "52"), "its virtual router ends and another begins"),
        (WEB.replace("/24]", "/24, 192.0.2.10/24]"), "changed, and held on"),
        (WEB.replace("name: web", "name: db"), "default/web: new"),
        (WEB.replace("name: web", "name: db"), "default/db: given up"),
    ],
)
def test_what_an_edit_does_is_told(tmp_path: Path, former: str, line: str) -> None:
    before, after = tmp_path / "before.yaml", tmp_path / "after.yaml"
    before.write_text(former % "")
    after.write_text(WEB % "")
    told = validate("-f", after, "--before", before)
    assert told.returncode == 0
    assert any(line in one for one in told.stdout.splitlines()), told.stdout
