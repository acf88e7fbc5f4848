"""examples/two-active: both hosts serve, and each has both VIPs while the other is away."""

from __future__ import annotations

import time
from typing import Any

import pytest

from holdfast_testing.examples import REPETITIONS, Attempts, Machine, example, http_get, machines, require
from holdfast_testing.figures import Figures
from holdfast_testing.hosts import eventually

pytestmark = [pytest.mark.netns, pytest.mark.alone]

WEB_A, WEB_B = "10.77.0.201", "10.77.0.202"


def start(machine: Machine) -> None:
    machine.serve_name()
    machine.host.run(example("two-active/vips.yaml"))


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_each_host_is_home_to_one_vip_and_has_both_while_the_other_is_away(
    segment: Any, figures: Figures, repetition: int
) -> None:
    require("nginx")
    lan = segment("n1", "n2")
    n1, n2 = machines(lan.hosts)
    for machine in (n1, n2):
        start(machine)

    def at_home() -> bool:
        return lan.holders(WEB_A) == ["n1"] and lan.holders(WEB_B) == ["n2"]

    eventually(at_home, "each VIP is at home", within_seconds=20)
    with Attempts(lan.client, http_get(WEB_A)) as a, Attempts(lan.client, http_get(WEB_B)) as b:
        eventually(lambda: a.answered_by("n1", 0) and b.answered_by("n2", 0), "both serve")
        gone = time.monotonic()
        n1.power_off()
        eventually(lambda: a.answered_by("n2", gone), "n2 serves both")
        back = a.settle()
        figures.add("two-active: power-off, outage of the VIP that moved", "ms", a.outage_ms(gone))
        figures.add("two-active: power-off, outage of the other VIP", "ms", b.outage_ms(gone))
        assert 0 < a.outage_ms(gone) < 2000
        assert b.failures(gone) == []
        assert lan.holders(WEB_B) == ["n2"]

        n1.power_on()
        start(n1)
        eventually(at_home, "n1 has its own VIP again", within_seconds=20)
        eventually(lambda: a.answered_by("n1", back), "n1 serves again")
        a.settle()
        figures.add("two-active: return, failed requests", "requests", len(a.failures(back)))
        assert len(a.failures(back)) <= 1, "at most the one that was under way when the VIP moved"
        assert b.failures(back) == []


def test_a_service_that_fails_takes_its_vip_to_the_other_host_and_a_stop_moves_it_without_a_lost_request(
    segment: Any, figures: Figures
) -> None:
    require("nginx")
    lan = segment("n1", "n2")
    n1, n2 = machines(lan.hosts)
    for machine in (n1, n2):
        start(machine)
    eventually(lambda: lan.holders(WEB_A) == ["n1"] and lan.holders(WEB_B) == ["n2"], "each at home", within_seconds=20)
    with Attempts(lan.client, http_get(WEB_A)) as a, Attempts(lan.client, http_get(WEB_B)) as b:
        eventually(lambda: a.answered_by("n1", 0) and b.answered_by("n2", 0), "both serve")
        began = time.monotonic()
        n2.host.stop()
        eventually(lambda: b.answered_by("n1", began), "n1 serves both")
        stopped = b.settle()
        assert len(b.failures(began)) <= 1, "at most the one that was under way when the VIP moved"
        assert a.failures(began) == []

        n2.host.run()
        eventually(lambda: lan.holders(WEB_B) == ["n2"], "n2 has its VIP again", within_seconds=20)
        n1.run(["nginx", "-c", "/run/nginx.conf", "-s", "stop"])
        failed = time.monotonic()
        eventually(lambda: a.answered_by("n2", failed), "n2 serves both")
        a.settle()
        figures.add("two-active: nginx stopped, outage", "ms", a.outage_ms(failed - 0.2))
        assert b.failures(stopped) == []
    assert n1.host.routers["web-a"]["health"] == "Failing"
