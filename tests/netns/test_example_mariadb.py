"""examples/mariadb: two servers of which one may be written to, and a VIP that is where that is."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest

from holdfast_testing.database_clients import mariadb
from holdfast_testing.examples import ADDRESS, EXAMPLES, REPETITIONS, Attempts, Machine, WritableVip, machines, require
from holdfast_testing.figures import Figures
from holdfast_testing.hosts import eventually

pytestmark = [pytest.mark.netns, pytest.mark.alone]

SMALL = ["--innodb-log-file-size=8M", "--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=2"]


class Server:
    """MariaDB on a host, as the user mysql, with its socket where Debian has it."""

    def __init__(self, machine: Machine, number: int) -> None:
        self.machine = machine
        self.number = number
        machine.folder("mysqld", "mysql")
        self.data = machine.folder("data", "mysql")

    def start(self) -> None:
        """Start it with the example's settings, and wait until it answers."""
        own = [f"--datadir={self.data}", f"--server-id={self.number}", "--bind-address=0.0.0.0", "--skip-name-resolve"]
        defaults = f"--defaults-file={EXAMPLES / 'mariadb' / 'replication.cnf'}"
        place = ["--socket=/run/mysqld/mysqld.sock", "--pid-file=/run/mysqld/mysqld.pid"]
        self.machine.start(["mariadbd", defaults, "--user=mysql", *own, *place, *SMALL])
        eventually(lambda: self.machine.succeeds(["mariadb", "-e", "select 1"]), "MariaDB answers", within_seconds=30)

    def sql(self, statement: str) -> str:
        """What it says, as root."""
        return self.machine.run(["mariadb", "--batch", "--skip-column-names", f"--execute={statement}"]).strip()

    def follow(self, address: str) -> None:
        """Replicate from there."""
        self.sql(f"change master to master_host='{address}', master_user='replication', master_use_gtid=slave_pos")
        self.sql("start slave")


class Pair:
    """n1 may be written to, n2 follows, and n1 has the VIP."""

    def __init__(self, lan: Any) -> None:
        require("mariadbd", "mariadb", "mariadb-install-db")
        self.lan = lan
        self.vip = WritableVip(lan, "mariadb")
        self.n1, self.n2 = (Server(machine, number) for number, machine in enumerate(machines(lan.hosts), start=1))
        self._install()
        for server in (self.n1, self.n2):
            server.start()
        self.n1.sql("set global read_only = 0")
        self.n1.sql("create user replication@'%'; grant replication slave on *.* to replication@'%'")
        self.n1.sql("create user app@'%'; create database shop; grant insert, select on shop.* to app@'%'")
        self.n1.sql("create table shop.notes (at timestamp default now())")
        self.n2.follow("10.77.0.11")
        self.vip.begin(self.n1, self.n2)
        assert "read_only is 1" in self.vip.status(self.n2)["healthDetail"]

    def _install(self) -> None:
        one, other = (server.machine.own_run / "data" for server in (self.n1, self.n2))
        options = ["--user=mysql", f"--datadir={self.n1.data}", "--skip-test-db", *SMALL]
        self.n1.machine.run(
            ["mariadb-install-db", "--no-defaults", *options, "--auth-root-authentication-method=socket"]
        )
        subprocess.run(["cp", "-a", f"{one}/.", str(other)], check=True)

    def wait_for_replica(self, server: Server, master: Server) -> None:
        """Until it has everything that the master has."""
        position = master.sql("select @@global.gtid_current_pos")
        assert server.sql(f"select master_gtid_wait('{position}', 10)") == "0"


@pytest.fixture
def pair(segment: Any) -> Pair:
    return Pair(segment("n1", "n2"))


def writers(pair: Pair) -> Attempts:
    """Clients that write through the VIP, and are told who took it."""
    statement = "insert into shop.notes values () returning @@server_id"
    return Attempts(pair.lan.client, mariadb(ADDRESS, "app", statement))


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_after_a_power_off_the_vip_waits_for_the_promotion_and_a_server_that_returns_does_not_get_it(
    pair: Pair, figures: Figures, repetition: int
) -> None:
    with writers(pair) as clients:
        eventually(lambda: clients.answered_by("1", 0), "n1 takes writes")
        off = time.monotonic()
        pair.n1.machine.power_off()
        time.sleep(3)
        assert pair.vip.holders == [], "a replica is no place for it"
        promoted = time.monotonic()
        pair.n2.sql("stop slave; set global read_only = 0")
        eventually(lambda: clients.answered_by("2", promoted), "n2 takes writes")
        clients.settle()
        figures.add("mariadb: from the command to promote to the first write", "ms", clients.outage_ms(promoted))

        pair.n1.machine.power_on()
        pair.n1.start()
        pair.n1.machine.host.run()
        eventually(lambda: pair.vip.status(pair.n1).get("obstacles") == ["ServiceFailed"], "n1 is read-only")
        returned = time.monotonic()
        clients.settle()
        assert pair.vip.holders == ["n2"]
        assert clients.failures(returned) == []
        assert not [each for each in clients.failures(off) if "read-only" in each.complaint]


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_a_planned_switchover_takes_the_vip_along(pair: Pair, figures: Figures, repetition: int) -> None:
    with writers(pair) as clients:
        eventually(lambda: clients.answered_by("1", 0), "n1 takes writes")
        began = time.monotonic()
        pair.n1.sql("set global read_only = 1")
        pair.wait_for_replica(pair.n2, pair.n1)
        pair.n2.sql("stop slave; set global read_only = 0")
        eventually(lambda: clients.answered_by("2", began), "n2 takes writes")
        clients.settle()
        figures.add("mariadb: planned switchover, outage", "ms", clients.outage_ms(began))
        pair.n1.follow("10.77.0.12")
        pair.wait_for_replica(pair.n1, pair.n2)
        assert pair.n1.sql("select count(distinct at) > 1 from shop.notes") == "1"
    assert pair.vip.holders == ["n2"]
