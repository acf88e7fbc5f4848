"""What the lab needs of the machine, told on one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from holdfast_api.errors import EnvironmentFailure
from holdfast_cli.main import main
from holdfast_lab import network
from holdfast_lab.namespaces import inside

WITHOUT_PYROUTE2 = """
import sys
sys.modules["pyroute2"] = None
sys.argv[0] = "holdfast"
from holdfast_cli.main import main
main()
"""
VIP = """
apiVersion: holdfast.dev/v1alpha1
kind: VirtualIP
metadata: {name: web}
spec: {addresses: [10.77.0.200/24]}
"""


@pytest.mark.parametrize(
    "words", [["up", "FILE"], ["down"], ["status"], ["exec", "n1", "--", "true"], ["heal", "n1"], ["demo"]]
)
def test_without_root_one_line_says_what_is_needed(words, tmp_path, monkeypatch, capsys):
    file = tmp_path / "vip.yaml"
    file.write_text(VIP)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["holdfast", "lab", *(str(file) if word == "FILE" else word for word in words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "error: the lab makes network namespaces, which needs root: run it with sudo\n"


def test_a_command_that_is_missing_is_told_with_its_package(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "nsenter" else program)
    with pytest.raises(EnvironmentFailure, match=r"^the lab needs the command nsenter \(Debian package util-linux\)$"):
        network.require_means()


def test_a_command_inside_a_namespace_keeps_its_words():
    assert inside("ns", ["echo", "-n", "a b"]) == ["nsenter", "--net=/run/netns/ns", "--", "echo", "-n", "a b"]


def without_pyroute2(*words):
    command = [sys.executable, "-P", "-c", WITHOUT_PYROUTE2, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_pyroute2_one_line_says_what_is_needed():
    told = without_pyroute2("lab", "status")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == "error: the lab needs the Python package pyroute2: holdfast[lab]\n"


def test_without_pyroute2_everything_else_is_there():
    assert without_pyroute2("lab", "up", "--help").returncode == 0
    assert without_pyroute2("run", "--help").returncode == 0
