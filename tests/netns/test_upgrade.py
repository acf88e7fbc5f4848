"""An upgrade is a restart: the first version hands over to this one, and this one hands back to it."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from holdfast_testing.first_version import python_path, unpack_first_version
from holdfast_testing.hosts import Host
from holdfast_testing.restarts import VIP, VIP6, holder_and_backup, probed, restart, web

pytestmark = [pytest.mark.netns, pytest.mark.alone]

PARTS = ("api", "operator", "speaker", "cli", "lab")
SLEPT_SECONDS = 90_000


@pytest.fixture(scope="module")
def first_version(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What runs the first version's modules: its files, from the history of this clone."""
    folder = tmp_path_factory.mktemp("first-version")
    unpack_first_version(folder, "netns", *PARTS)
    python = ["env", f"PYTHONPATH={python_path(folder, PARTS)}", sys.executable, "-P"]
    where = "import holdfast_speaker; print(holdfast_speaker.__file__)"
    assert str(folder) in subprocess.run([*python, "-c", where], capture_output=True, text=True, check=True).stdout
    return python


def in_place_of(host: Host) -> list[tuple[str, int]]:
    """The VIPs on the kernel, with each prefix length that they have there."""
    links = host.namespace.ip_json("address", "show", "dev", "eth0")
    vips = (VIP, VIP6)
    return [(info["local"], info["prefixlen"]) for link in links for info in link["addr_info"] if info["local"] in vips]


@pytest.mark.parametrize(
    ("version", "interval_ms", "slept_seconds", "addresses"),
    [
        (3, 10, 0, [VIP]),
        (3, 100, 0, [VIP]),
        (2, 1000, 0, [VIP]),
        (3, 100, SLEPT_SECONDS, [VIP]),
        (3, 100, 0, [VIP6]),
        (3, 100, 0, [VIP6, VIP]),
    ],
    ids=["10ms", "100ms", "VRRPv2", "on a machine that has slept", "IPv6", "both families"],
)
def test_an_upgrade_and_the_way_back_cost_no_move_and_no_probe(
    segment: Any, first_version: list[str], version: int, interval_ms: int, slept_seconds: int, addresses: list[str]
) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    this_version = n1.python
    clock = ["unshare", "--time", f"--boottime={slept_seconds}"] if slept_seconds else []
    n1.python = [*clock, *first_version]
    subnets = {VIP: "10.77.0.200/24", VIP6: "fd77::200/64"}
    holder_and_backup(lan, web(interval_ms, version, addresses=[subnets[address] for address in addresses]))
    since = n1.routers["web"]["since"]
    for python in this_version, first_version, this_version:
        n1.python = [*clock, *python]
        with probed(lan, addresses[0]) as lost:
            restart(n1)
            time.sleep(1.5)
            assert lost() == 0
        assert n1.state() == "Master"
        assert n1.routers["web"]["since"] == since
        assert sorted(address for address, _ in in_place_of(n1)) == sorted(addresses)
    assert n1.routers["web"]["transitions"] == 1
    assert n2.routers["web"]["transitions"] == 0
    assert not [message for message in n1.messages() if "beginning anew" in message or "is ignored" in message]


def test_a_backup_is_upgraded_and_downgraded_unnoticed(segment: Any, first_version: list[str]) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    this_version = n2.python
    n2.python = first_version
    holder_and_backup(lan, web())
    with probed(lan) as lost:
        for python in this_version, first_version:
            n2.python = python
            restart(n2)
            time.sleep(1.0)
            assert n2.state() == "Backup"
        assert lost() == 0
    n1.stop()
    n2.becomes("Master")
