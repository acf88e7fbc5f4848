"""FRR's vrrpd from Debian as the other host."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.frr import Frr, require_frr
from holdfast_testing.hosts import eventually
from holdfast_testing.restarts import waiting_successors

pytestmark = pytest.mark.netns

VIP = "10.77.0.200"
INTERVAL_MS = 100


def web(priority: int) -> str:
    return json.dumps(
        {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "VirtualIP",
            "metadata": {"name": "web"},
            "spec": {
                "addresses": [f"{VIP}/24"],
                "virtualRouterID": 51,
                "interface": "eth0",
                "priority": priority,
                "advertisementIntervalMilliseconds": INTERVAL_MS,
            },
        }
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """FRR's daemons run as a user of their own, who cannot enter pytest's folder."""
    require_frr()
    with tempfile.TemporaryDirectory(prefix="holdfast-frr-") as made:
        Path(made).chmod(0o755)
        (Path(made) / "frr").mkdir()
        yield Path(made) / "frr"


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_holdfast_obeys_an_frr_master_and_takes_over_when_it_ends(segment: Any, folder: Path, end: str) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    frr = Frr(n2, f"{VIP}/24", 100, INTERVAL_MS, folder).start()
    frr.becomes("Master")
    n1.run(web(150)).becomes("Backup")
    time.sleep(0.5)
    heard = n1.routers["web"]
    assert (heard["state"], heard["master"], heard["masterPriority"]) == ("Backup", "10.77.0.12", 100)
    assert set(heard["counters"]) == {"advertisement-rcvd"}, "nothing of it was refused or found odd"
    getattr(frr, end)()
    n1.becomes("Master")
    assert n1.routers["web"]["reason"] == {"leave": "MasterReleased", "kill": "MasterSilent"}[end]
    assert lan.answers(VIP)


def test_frr_obeys_a_holdfast_master_and_takes_over_when_it_leaves(segment: Any, folder: Path) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(web(100)).becomes("Master")
    frr = Frr(n2, f"{VIP}/24", 150, INTERVAL_MS, folder).start()
    frr.becomes("Backup")
    time.sleep(0.5)
    assert n1.state() == "Master"
    n1.stop()
    frr.becomes("Master")
    assert lan.answers(VIP)


def test_frr_stays_patient_while_a_successor_takes_over(segment: Any, folder: Path) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(web(100)).becomes("Master")
    frr = Frr(n2, f"{VIP}/24", 150, INTERVAL_MS, folder).start()
    frr.becomes("Backup")
    before = frr.status
    old = n1.process
    n1.run()
    eventually(lambda: waiting_successors(n1) == 1, "the successor waits")
    assert old is not None
    old.terminate()
    assert old.wait(timeout=10) == 0
    time.sleep(1.0)
    n1.becomes("Master")
    assert frr.status["status"] == "Backup"
    assert frr.status["stats"]["transitions"] == before["stats"]["transitions"]
