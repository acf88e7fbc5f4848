"""`holdfast maintenance`: everything is given up without a gap, and stays so."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.restarts import holder_and_backup, probed, web

pytestmark = [pytest.mark.netns, pytest.mark.alone]


def maintenance(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    command = host.command("maintenance", *words, f"--state-dir={host.state_directory}")
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_host_in_maintenance_gives_up_without_a_gap_and_takes_nothing_over_a_restart(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    with probed(lan) as lost:
        assert maintenance(n1, "on").returncode == 0
        assert lost() == 0
    assert (n1.state(), n2.state()) == ("Backup", "Master")
    n1.stop()
    n1.run().becomes("Backup")
    n1.hears_a_master()
    router = n1.routers["web"]
    assert router["effectivePriority"] < 50
    assert router["healthDetail"].startswith("maintenance since ")
    assert maintenance(n1, "off").returncode == 0
    eventually(lambda: n1.routers["web"]["health"] == "Healthy", "it has ended")
    assert n2.state() == "Master"


def test_what_nobody_else_can_take_stays_until_somebody_can(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(web()).becomes("Master")
    told = maintenance(n1, "on", "--timeout=2")
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "no healthy host took it over within 2 s: default/web" in told.stderr
    assert n1.state() == "Master"
    n2.run(web()).becomes("Master")
    n1.becomes("Backup")


def test_it_ends_by_itself(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web()).becomes("Master")
    maintenance(n1, "on", "--for=3s", "--timeout=1")
    assert n1.routers["web"]["health"] == "Failing"
    eventually(lambda: n1.routers["web"]["health"] == "Healthy", "it has ended")
    assert n1.state() == "Master"
