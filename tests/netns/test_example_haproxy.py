"""examples/haproxy: a VIP on a pair of hosts with HAProxy, two web servers behind them."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest

from holdfast_testing.examples import EXAMPLES, REPETITIONS, Attempts, Machine, example, http_get, machines, require
from holdfast_testing.figures import Figures
from holdfast_testing.hosts import eventually

pytestmark = [pytest.mark.netns, pytest.mark.alone]

VIP = "10.77.0.200"
HAPROXY = ["haproxy", "-W", "-db", "-p", "/run/haproxy.pid", "-f", str(EXAMPLES / "haproxy" / "haproxy.cfg")]


class Pair:
    """n1 and n2 with HAProxy and the VIP, which n1 holds; b1 and b2 with nginx."""

    def __init__(self, lan: Any) -> None:
        require("haproxy", "nginx", "curl")
        self.lan = lan
        self.n1, self.n2, self.b1, self.b2 = machines(lan.hosts)
        self.web = {machine.host.name: machine.serve_name() for machine in (self.b1, self.b2)}
        self.haproxy = {machine.host.name: machine.start(HAPROXY) for machine in (self.n1, self.n2)}
        for machine in (self.n1, self.n2):
            eventually(lambda machine=machine: is_well(machine), f"{machine.host.name}'s HAProxy is well")
        self.n1.host.run(example("haproxy/vip.yaml")).becomes("Master")
        self.n2.host.run(example("haproxy/vip.yaml"))
        self.n2.host.becomes("Backup")
        self.n2.host.hears_a_master()

    @property
    def moves(self) -> list[int]:
        """How often each node of the pair changed its state."""
        return [machine.host.routers["web"]["transitions"] for machine in (self.n1, self.n2)]


def is_well(machine: Machine) -> bool:
    return machine.succeeds(["curl", "--silent", "--fail", "http://127.0.0.1:8404/healthz"])


@pytest.fixture
def pair(segment: Any) -> Pair:
    return Pair(segment("n1", "n2", "b1", "b2"))


@pytest.mark.parametrize("repetition", REPETITIONS)
@pytest.mark.parametrize("fault", ["power-off of the holder", "kill -9 of its HAProxy"])
def test_the_other_host_serves_on_both_backends(pair: Pair, figures: Figures, fault: str, repetition: int) -> None:
    with Attempts(pair.lan.client, http_get(VIP)) as clients:
        eventually(lambda: clients.answered_by("b1", 0) and clients.answered_by("b2", 0), "both backends serve")
        broken = time.monotonic()
        if fault == "power-off of the holder":
            pair.n1.power_off()
        else:
            subprocess.run(["kill", "-9", *map(str, haproxy_of(pair.n1))], check=True)
        eventually(lambda: pair.lan.holders(VIP) == ["n2"], "n2 holds")
        moved = time.monotonic()
        eventually(lambda: clients.answered_by("b1", moved) and clients.answered_by("b2", moved), "both serve again")
        clients.settle()
        figures.add(f"haproxy: {fault}, outage", "ms", clients.outage_ms(broken))
        assert 0 < clients.outage_ms(broken) < 3000


def test_a_backend_that_fails_and_a_haproxy_that_reloads_move_nothing(pair: Pair, figures: Figures) -> None:
    moves = pair.moves
    with Attempts(pair.lan.client, http_get(VIP)) as clients:
        eventually(lambda: clients.answered_by("b1", 0) and clients.answered_by("b2", 0), "both backends serve")
        began = time.monotonic()
        pair.haproxy["n1"].send_signal(12)  # SIGUSR2: the master starts new workers with the file as it is now
        time.sleep(2)
        assert clients.failures(began) == []
        broken = time.monotonic()
        pair.b1.power_off()
        time.sleep(3)
        settled = clients.settle()
        figures.add("haproxy: power-off of a backend, outage", "ms", clients.outage_ms(broken))
        assert {each.answer for each in clients.since(settled)} == {"b2"}
    assert pair.moves == moves


def test_the_holder_that_reaches_no_backend_gives_way_to_the_one_that_does(pair: Pair, figures: Figures) -> None:
    with Attempts(pair.lan.client, http_get(VIP)) as clients:
        eventually(lambda: clients.last_answer(), "it serves")
        cut = time.monotonic()
        pair.n1.host.namespace.ip("route add blackhole 10.77.0.13/32", "route add blackhole 10.77.0.14/32")
        eventually(lambda: pair.lan.holders(VIP) == ["n2"], "n2 holds", within_seconds=15)
        moved = time.monotonic()
        eventually(lambda: clients.answered_by("b1", moved), "it serves again")
        clients.settle()
        figures.add("haproxy: the holder reaches no backend, outage", "ms", clients.outage_ms(cut))
    assert pair.n1.host.routers["web"]["health"] == "Failing"
    assert "503" in pair.n1.host.routers["web"]["healthDetail"]


def haproxy_of(machine: Machine) -> list[int]:
    """The processes of its HAProxy, the master first."""
    return [
        pid
        for pid in machine.host.namespace.pids
        if subprocess.run(["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
        == "haproxy\n"
    ]
