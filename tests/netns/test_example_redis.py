"""examples/redis: a master and its replica, and a VIP that is where the master is."""

from __future__ import annotations

import time
from typing import Any

import pytest

from holdfast_testing.database_clients import redis
from holdfast_testing.examples import ADDRESS, REPETITIONS, Attempts, Machine, WritableVip, machines, require
from holdfast_testing.figures import Figures
from holdfast_testing.hosts import eventually

pytestmark = [pytest.mark.netns, pytest.mark.alone]


class Server:
    """Redis on a host."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.folder = machine.folder("redis", "redis")

    def start(self, *options: str) -> None:
        """Start it, a master unless the options say otherwise, and wait until it answers."""
        command = ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", self.folder, *options]
        self.machine.start(command, user="redis")
        eventually(lambda: self.machine.succeeds(["redis-cli", "ping"]), "Redis answers")

    def cli(self, *words: str) -> str:
        """What Redis answers."""
        return self.machine.run(["redis-cli", *words]).strip()


class Pair:
    """A master on n1, its replica on n2, and the VIP at n1."""

    def __init__(self, lan: Any) -> None:
        require("redis-server", "redis-cli")
        self.lan = lan
        self.vip = WritableVip(lan, "redis")
        self.n1, self.n2 = (Server(machine) for machine in machines(lan.hosts))
        self.n1.start()
        self.n2.start("--replicaof", "10.77.0.11 6379")
        eventually(lambda: "master_link_status:up" in self.n2.cli("info", "replication"), "the replica follows")
        self.vip.begin(self.n1, self.n2)
        assert "its role is slave" in self.vip.status(self.n2)["healthDetail"]


@pytest.fixture
def pair(segment: Any) -> Pair:
    return Pair(segment("n1", "n2"))


def writers(pair: Pair) -> Attempts:
    """Clients that write through the VIP."""
    return Attempts(pair.lan.client, redis(ADDRESS, "INCR", "notes"))


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_after_a_power_off_the_vip_waits_for_the_promotion_and_an_old_master_that_returns_does_not_get_it(
    pair: Pair, figures: Figures, repetition: int
) -> None:
    with writers(pair) as clients:
        eventually(lambda: clients.succeed(0), "n1 takes writes")
        off = time.monotonic()
        pair.n1.machine.power_off()
        time.sleep(3)
        assert pair.vip.holders == [], "a replica is no place for it"
        promoted = time.monotonic()
        assert pair.n2.cli("replicaof", "no", "one") == "OK"
        eventually(lambda: clients.succeed(promoted), "n2 takes writes")
        clients.settle()
        figures.add("redis: from the command to promote to the first write", "ms", clients.outage_ms(promoted))

        pair.n1.machine.power_on()
        pair.n1.start()
        pair.n1.machine.host.run()
        eventually(lambda: pair.vip.status(pair.n1).get("health") == "Healthy", "n1 is a master, too")
        returned = time.monotonic()
        time.sleep(2)
        clients.settle()
        assert pair.vip.holders == ["n2"]
        assert clients.failures(returned) == []
        assert not [each for each in clients.failures(off) if "READONLY" in each.complaint]


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_a_failover_command_takes_the_vip_along(pair: Pair, figures: Figures, repetition: int) -> None:
    with writers(pair) as clients:
        eventually(lambda: clients.succeed(0), "n1 takes writes")
        began = time.monotonic()
        assert pair.n1.cli("failover") == "OK"
        eventually(lambda: pair.vip.holders == ["n2"], "n2 holds")
        moved = time.monotonic()
        eventually(lambda: clients.succeed(moved), "n2 takes writes")
        clients.settle()
        figures.add("redis: FAILOVER, outage", "ms", clients.outage_ms(began))
    assert pair.n1.cli("role").startswith("slave")


def test_a_master_that_cannot_save_and_one_that_does_not_answer_have_no_vip(pair: Pair) -> None:
    folder = pair.n1.machine.own_run / "redis"
    folder.chmod(0o500)
    pair.n1.cli("bgsave")
    eventually(lambda: pair.vip.holders == [], "nobody holds")
    assert "MISCONF" in pair.vip.status(pair.n1)["healthDetail"]
    folder.chmod(0o700)
    pair.n1.cli("bgsave")
    eventually(lambda: pair.vip.holders == ["n1"], "n1 holds again")
    pair.n1.cli("shutdown", "nosave", "now")
    eventually(lambda: pair.vip.holders == [], "nobody holds")
    time.sleep(1)
    assert pair.vip.holders == [], "a replica is no place for it"
