"""examples/lvs: a VIP on a pair of ipvs directors, which pass frames on to two web servers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.examples import EXAMPLES, REPETITIONS, Attempts, Machine, example, http_get, machines, require
from holdfast_testing.figures import Figures
from holdfast_testing.hosts import eventually

pytestmark = [pytest.mark.netns, pytest.mark.alone]

VIP = "10.77.0.200"


def require_ipvs() -> None:
    """Skip where the kernel has no ipvs, whatever HOLDFAST_REQUIRE says: a kernel is not installed by the way."""
    require("ipvsadm", "nginx", "curl")
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(["modprobe", "--quiet", "ip_vs_rr"], check=False)
    if not Path("/proc/net/ip_vs").exists():
        pytest.skip("this kernel has no ip_vs")


def serve(machine: Machine) -> None:
    """A real server: nginx, and the VIP on its loopback."""
    machine.serve_name()
    machine.run(["sh", str(EXAMPLES / "lvs" / "real-server.sh")])


def test_real_servers_that_have_the_vip_on_their_loopback_are_no_conflict(segment: Any) -> None:
    require("nginx")
    lan = segment("n1", "b1", "b2")
    n1, b1, b2 = machines(lan.hosts)
    for machine in (b1, b2):
        serve(machine)
    # Whether there is an ipvs to ask is not the question here.
    n1.host.run(example("lvs/vip.yaml").partition("  track:")[0]).becomes("Master", "lvs")
    assert n1.host.has(VIP)
    assert n1.host.routers["lvs"]["warnings"] == []


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_the_other_director_goes_on_with_the_connections_of_the_one_that_is_gone(
    segment: Any, figures: Figures, repetition: int
) -> None:
    require_ipvs()
    lan = segment("n1", "n2", "b1", "b2")
    n1, n2, b1, b2 = machines(lan.hosts)
    for machine in (b1, b2):
        serve(machine)
    for machine in (n1, n2):
        machine.start(["sh", str(EXAMPLES / "lvs" / "director.sh")])
        machine.host.run(example("lvs/vip.yaml"))
        if machine is n1:
            n1.host.becomes("Master", "lvs")
    n2.host.becomes("Backup", "lvs")
    n2.host.hears_a_master("lvs")
    with Attempts(lan.client, http_get(VIP)) as clients, lan.client.inside():
        eventually(lambda: clients.answered_by("b1", 0) and clients.answered_by("b2", 0), "both real servers serve")
        with contextlib.closing(socket.create_connection((VIP, 80), timeout=20)) as connection:
            assert asks(connection)
            time.sleep(2)  # ipvs tells the other director of its connections in batches
            off = time.monotonic()
            n1.power_off()
            eventually(lambda: n2.host.has(VIP), "n2 holds")
            moved = time.monotonic()
            eventually(lambda: clients.answered_by("b1", moved) and clients.answered_by("b2", moved), "both serve")
            assert asks(connection), "the connection is open, and goes to the same real server"
        clients.settle()
        figures.add("lvs: power-off of the director, outage", "ms", clients.outage_ms(off))
        b1.power_off()
        eventually(lambda: {each.answer for each in clients.since(time.monotonic() - 2)} == {"b2"}, "b1 is left out")


def asks(connection: socket.socket) -> bool:
    """Whether a request on an open connection is answered."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    return connection.recv(4096).startswith(b"HTTP/1.1 200")
