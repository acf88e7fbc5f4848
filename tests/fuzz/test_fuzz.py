"""Every parser of what others send or leave behind takes any bytes: guided by coverage, from real captures on.

Fifteen seconds each; by hand for longer: scripts/fuzz TARGET SECONDS.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast_speaker.vrrp.packet import decode

SECONDS = 15
LENGTH_MAX = {"packets": 4096, "state": 2048, "control": 2048, "keepalived": 2048}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="not installed: atheris, which has no build for this Python"
)


@pytest.mark.parametrize("target", LENGTH_MAX)
def test_no_input_breaks_a_parser(target: str, tmp_path: Path) -> None:
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "holdfast_testing.fuzz",
            target,
            str(tmp_path),
            f"-max_total_time={SECONDS}",
            f"-max_len={LENGTH_MAX[target]}",
            "-len_control=0",
            f"-artifact_prefix={tmp_path}/",
        ],
        env={"PYTHONPATH": str(Path(__file__).parents[1] / "support"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=SECONDS * 6,
    )
    told = finished.stdout + finished.stderr
    assert finished.returncode == 0, told[-6000:]
    # A fuzzer that cannot see where its inputs lead, or ran none, proves nothing.
    assert "DONE" in told
    runs = int(told.rpartition("Done ")[2].split()[0])
    assert runs > 200, told[-2000:]


def test_every_captured_packet_is_an_advertisement() -> None:
    from holdfast_testing.fuzz import captured_packets

    packets = captured_packets()
    assert {decode(payload, source, destination, ttl).version for source, destination, ttl, payload in packets} == {
        2,
        3,
    }
    assert {len(source) for source, _, _, _ in packets} == {4, 16}


def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    """The harness itself can fail: a target that breaks on one certain header is caught."""
    planted = (
        "import sys; from holdfast_testing import fuzz\n"
        "def broken(data):\n"
        "    for width, ttl, payload in fuzz.packets_in(data):\n"
        "        assert payload[:2] != bytes.fromhex('3164'), 'planted'\n"
        "fuzz.TARGETS['packets'] = broken\n"
        "fuzz.main()\n"
    )
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            planted,
            "packets",
            str(tmp_path),
            "-max_total_time=60",
            f"-artifact_prefix={tmp_path}/",
        ],
        env={"PYTHONPATH": str(Path(__file__).parents[1] / "support"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=110,
    )
    assert finished.returncode != 0
    assert "planted" in finished.stdout + finished.stderr
    assert list(tmp_path.glob("crash-*"))
