"""The command as a user types it: one line for each error, and exit statuses that scripts can rely on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast_cli.command import holdfast


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "holdfast_cli.main", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "validate",
        "status",
        "switchover",
        "maintenance",
        "why",
        "replay",
        "convert",
        "sniff",
        "lab",
        "completion",
    ],
)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    told = CliRunner().invoke(holdfast, [name, "--help"])
    assert told.exit_code == 0
    assert "holdfast " + name in told.output.replace("holdfast completion", "holdfast completion")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed_for(shell: str) -> None:
    told = CliRunner().invoke(holdfast, ["completion", shell])
    assert told.exit_code == 0
    assert "_HOLDFAST_COMPLETE" in told.output


def test_bad_input_is_exit_status_2_and_one_line_each_before_anything_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "vip.yaml"
    file.write_text(
        "apiVersion: holdfast.dev/v1alpha1\nkind: VirtualIP\nmetadata: {name: web}\n"
        "spec: {addresses: [10.0.0.300], track: {pods: {selector: {}}}}\n",
        encoding="utf-8",
    )
    finished = command("run", "-f", str(file), "--node-name=n1", f"--state-dir={tmp_path / 'run'}")
    assert finished.returncode == 2
    assert finished.stdout == ""
    lines = finished.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"error: {file}: VirtualIP web: spec.") for line in lines)
    assert not (tmp_path / "run").exists()


def test_files_that_do_not_exist_are_named() -> None:
    finished = command("run", "-f", "/nonexistent.yaml", "--node-name=n1")
    assert (finished.returncode, finished.stderr) == (2, "error: /nonexistent.yaml: does not exist\n")


@pytest.mark.parametrize("words", [("status",), ("why", "web"), ("switchover", "web", "--to=n1")])
def test_without_an_engine_the_exit_status_is_1_and_the_line_says_where_it_was_looked_for(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    finished = command(*words, f"--state-dir={tmp_path}")
    assert finished.returncode == 1
    assert finished.stderr.startswith(f"error: no engine answers on {tmp_path}/engine.sock: ")
    assert finished.stderr.count("\n") == 1
