"""The cluster's bench runs through, in its smallest form: every step does what it measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast_testing.api_server import Programs
from holdfast_testing.kind_cluster import ROOT

SMALLEST = "--vips 4 --nodes 4 --links 2 --agents 3 --repetitions 1 --outage 1 --calm 4"


@pytest.mark.timeout(600)
def test_the_smallest_bench_of_a_cluster_measures_everything(programs: Programs, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "bench.cluster", *SMALLEST.split(), "--folder", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests" / "support")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    samples = {title: one["samples"] for title, one in json.loads((tmp_path / "samples.json").read_text()).items()}
    assert samples["steady state, 4 s: writes"] == [0]
    assert samples["operator restarted: writes"] == [0]
    assert samples["API server back after 1 s: moves"] == [0]
    assert samples["one VirtualIP changed: SpeakerConfigs written"] == [2]
    assert samples["a holder dies: VIPs that move"] == [2]
