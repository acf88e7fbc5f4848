"""`holdfast sniff --pcap` as a user types it, and what it says when it cannot."""

from __future__ import annotations

import ctypes
import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from scapy.layers.inet import IP
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import VRRPv3
from scapy.utils import PcapNgWriter, wrpcap

from holdfast_cli.command import holdfast

PR_CAPBSET_DROP = 24  # linux/prctl.h
CAP_NET_RAW = 13  # linux/capability.h

START = 1_800_000_000
VIP = "10.77.0.200"
MACS = {"10.77.0.11": "02:00:00:00:00:0b", "10.77.0.12": "02:00:00:00:00:0c"}


def at(milliseconds: int, packet: Any) -> Any:
    dissected = Ether(bytes(packet))
    dissected.time = START + milliseconds / 1000
    return dissected


def advert(milliseconds: int, source: str, priority: int, ttl: int = 255) -> Any:
    layer = VRRPv3(vrid=51, priority=priority, adv=10, addrlist=[VIP])
    return at(milliseconds, Ether(src=MACS[source]) / IP(src=source, dst="224.0.0.18", ttl=ttl) / layer)


def gratuitous_arp(milliseconds: int, source: str) -> Any:
    return at(milliseconds, Ether(src=MACS[source]) / ARP(hwsrc=MACS[source], psrc=VIP, pdst=VIP))


@pytest.fixture
def failover() -> list[Any]:
    """n1 holds, and dies; n2 takes over; a forged packet comes from beyond a router."""
    return [
        *(advert(milliseconds, "10.77.0.11", 150) for milliseconds in range(0, 1001, 100)),
        advert(1361, "10.77.0.12", 100),
        gratuitous_arp(1362, "10.77.0.12"),
        advert(1400, "10.77.0.11", 255, ttl=64),
        *(advert(milliseconds, "10.77.0.12", 100) for milliseconds in range(1461, 2000, 100)),
    ]


STORY = ["ROUTER", "SILENT", "ROUTER", "MASTER", "ANNOUNCED", "INVALID"]


def sniff(*words: str) -> Result:
    return CliRunner().invoke(holdfast, ["sniff", *words])


def labels(output: str) -> list[str]:
    return [line.split()[2] for line in output.splitlines()]


def program(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", "holdfast_cli.main", "sniff", *words]
    return subprocess.run(command, capture_output=True, check=False, **options)


@pytest.fixture
def capture(tmp_path: Path, failover: list[Any]) -> Path:
    path = tmp_path / "failover.pcap"
    wrpcap(str(path), failover)
    return path


def test_a_capture_is_told_as_its_changes(capture: Path) -> None:
    result = sniff("--pcap", str(capture))
    assert result.exit_code == 0
    assert labels(result.stdout) == STORY
    assert "10.77.0.12 (priority 100): 10.77.0.11 was last heard 361 ms before" in result.stdout
    assert result.stdout.startswith("08:00:00.000000Z 51/IPv4")
    assert result.stderr == (
        "20 packets, 1 virtual router, 6 changes, 1 invalid; "
        "from 2027-01-15T08:00:00.000000Z to 2027-01-15T08:00:01.961000Z\n"
    )


def test_json_has_the_same_changes_one_object_on_each_line(capture: Path) -> None:
    events = [json.loads(line) for line in sniff("--pcap", str(capture), "-o", "json").stdout.splitlines()]
    assert [event["event"] for event in events] == [
        "RouterHeard",
        "FellSilent",
        "RouterHeard",
        "MasterChanged",
        "AddressAnnounced",
        "InvalidHeard",
    ]
    assert events[3]["time"] == "2027-01-15T08:00:01.361000Z"
    assert events[5]["faults"] == [{"kind": "TimeToLive", "detail": "TTL 64, not 255"}]


def test_verbose_has_a_line_for_each_packet_and_the_changes_after_theirs(capture: Path) -> None:
    lines = labels(sniff("--pcap", str(capture), "-v").stdout)
    assert [line for line in lines if line.isupper()] == STORY
    assert [line for line in lines if line.islower()] == [*["advert"] * 12, "arp", "invalid", *["advert"] * 6]
    assert lines[12:18] == ["SILENT", "advert", "ROUTER", "MASTER", "arp", "ANNOUNCED"]


def test_pcapng_and_gzip_are_read_too(capture: Path, failover: list[Any], tmp_path: Path) -> None:
    zipped = tmp_path / "failover.pcap.gz"
    zipped.write_bytes(gzip.compress(capture.read_bytes()))
    modern = tmp_path / "failover.pcapng"
    with PcapNgWriter(str(modern)) as writer:
        for packet in failover:
            packet.sniffed_on = "eth7"
            writer.write(packet)
    told = sniff("--pcap", str(capture)).stdout
    assert sniff("--pcap", str(zipped)).stdout == told
    assert sniff("--pcap", str(modern)).stdout == told.replace("Z 51/", "Z eth7 51/")


def test_count_ends_after_so_many_packets(capture: Path) -> None:
    result = sniff("--pcap", str(capture), "--count", "12")
    assert labels(result.stdout) == STORY[:4]
    assert result.stderr.startswith("12 packets,")


def test_duration_is_of_the_capture_and_silence_within_it_is_told(capture: Path) -> None:
    result = sniff("--pcap", str(capture), "--duration", "1.35")
    assert labels(result.stdout) == STORY[:2]
    assert result.stderr.startswith("11 packets,")


def test_standard_input_is_read_by_a_program_of_its_own_without_any_right(capture: Path) -> None:
    finished = program("--pcap", "-", input=capture.read_bytes())
    assert finished.returncode == 0, finished.stderr
    assert labels(finished.stdout.decode()) == STORY
    assert b"\x1b[" not in finished.stdout, "colours only on a terminal"


def test_a_capture_with_nothing_of_vrrp_is_told_by_its_summary(tmp_path: Path) -> None:
    path = tmp_path / "other.pcap"
    wrpcap(str(path), [at(0, Ether() / IP(dst="10.0.0.1"))])
    result = sniff("--pcap", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("0 packets, 0 virtual routers, 0 changes, 0 invalid")


def test_a_capture_that_was_cut_off_is_read_as_far_as_it_goes(capture: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(capture.read_bytes()[:-5])
    finished = program("--pcap", str(cut))
    assert finished.returncode == 0
    assert labels(finished.stdout.decode()) == [*STORY, "INVALID"]
    assert b"VRRP: the capture has 7 bytes of it, not all" in finished.stdout
    assert b"WARNING: Pcap: packet has been truncated" in finished.stderr


@pytest.mark.parametrize("content", [b"", b"not a capture", b"\x0a\x0d\x0d\x0a", struct.pack("<I", 0xA1B2C3D4)])
def test_what_is_no_capture_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    finished = program("--pcap", str(path))
    assert finished.returncode == 2
    assert finished.stderr.decode() == f"error: {path}: is not a pcap or pcapng capture\n"


def test_a_missing_file_is_named() -> None:
    finished = program("--pcap", "/nonexistent.pcap")
    assert (finished.returncode, finished.stderr) == (2, b"error: /nonexistent.pcap: does not exist\n")


def test_a_folder_is_not_read(tmp_path: Path) -> None:
    finished = program("--pcap", str(tmp_path))
    assert finished.returncode == 1
    assert finished.stderr.decode() == f"error: {tmp_path} cannot be read: Is a directory\n"


def test_an_unknown_interface_is_refused_with_those_that_there_are() -> None:
    finished = program("-i", "nope0")
    assert finished.returncode == 2
    assert finished.stderr.startswith(b"error: nope0: no such interface; there are lo")
    assert finished.stderr.count(b"\n") == 1


def test_without_the_right_to_listen_the_line_says_what_is_needed() -> None:
    def drop() -> None:
        # The program is root's without it, where the tests are root's; elsewhere there is nothing to drop.
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_RAW, 0, 0, 0)

    finished = program("-i", "lo", preexec_fn=drop)
    assert finished.returncode == 1
    assert finished.stderr == b"error: listening needs root or CAP_NET_RAW (a capture does not: --pcap FILE)\n"


@pytest.mark.parametrize("words", [("-i", "eth0"), ("-w", "kept.pcap")])
def test_a_file_and_an_interface_do_not_go_together(words: tuple[str, ...], capture: Path) -> None:
    result = sniff("--pcap", str(capture), *words)
    assert result.exit_code == 2
    assert "--pcap reads a file: it goes with neither -i nor -w" in result.stderr


def test_without_scapy_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capture: Path) -> None:
    # The module is looked for, and is as absent as where it was never installed.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = sniff("--pcap", str(capture))
    assert str(result.exception) == "scapy is not installed: pip install 'holdfast[sniff]'"


def test_the_speaker_and_all_of_scapy_are_not_imported(capture: Path) -> None:
    code = (
        "import sys\nfrom holdfast_cli.command import holdfast\n"
        "holdfast(sys.argv[1:], standalone_mode=False)\n"
        "print([name for name in sys.modules if name == 'scapy.all' or name.startswith('holdfast_speaker')])"
    )
    command = [sys.executable, "-P", "-c", code, "sniff", "--pcap", str(capture), "--count", "1"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[]"


def test_help_imports_no_scapy() -> None:
    code = (
        "import sys\nfrom holdfast_cli.command import holdfast\n"
        "holdfast(['sniff', '--help'], standalone_mode=False)\nprint('scapy' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "False"
