"""What the demo plays with."""

from __future__ import annotations

import sys

import pytest

from holdfast_api.errors import EnvironmentFailure
from holdfast_api.resources import WhenFailing
from holdfast_lab import script
from holdfast_lab.script import write_script


def test_the_demo_plays_what_keepalived_would_have_read():
    written = write_script(release=False)
    [virtual_ip] = written.virtual_ips
    assert (
        [entry.node_name for entry in virtual_ip.spec.nodes.priorities] == list(written.configurations) == ["n1", "n2"]
    )
    assert virtual_ip.spec.version == 2
    assert virtual_ip.spec.authentication is not None
    assert virtual_ip.spec.nopreempt
    assert virtual_ip.spec.track.when_failing is WhenFailing.DEGRADE
    assert all(file.is_file() for file in written.configurations.values())


def test_what_differs_from_keepalived_is_told_once_with_file_and_line():
    differences = write_script(release=False).differences
    assert any(line.startswith("n1.conf:") and "`state MASTER`" in line for line in differences)
    said = [line.partition(": differs: ")[2] for line in differences]
    assert len(said) == len(set(said))


def test_with_release_nothing_else_changes():
    [degrading] = write_script(release=False).virtual_ips
    [releasing] = write_script(release=True).virtual_ips
    assert releasing.spec.track.when_failing is WhenFailing.RELEASE
    assert releasing.spec.track.probes == degrading.spec.track.probes
    assert releasing.spec.addresses == degrading.spec.addresses


def test_examples_that_are_not_there_are_told_with_their_places(monkeypatch, tmp_path):
    monkeypatch.setattr(script, "__file__", str(tmp_path / "lab" / "holdfast_lab" / "script.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    with pytest.raises(EnvironmentFailure, match=rf"{tmp_path}/examples or {tmp_path}/prefix/share/holdfast/examples"):
        write_script(release=False)
