"""examples/postgresql: a primary and its streaming standby, and a VIP that is where one can write."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.database_clients import postgresql
from holdfast_testing.examples import ADDRESS, REPETITIONS, Attempts, Machine, WritableVip, machines, require
from holdfast_testing.figures import Figures
from holdfast_testing.hosts import eventually

pytestmark = [pytest.mark.netns, pytest.mark.alone]

SETTINGS = """
listen_addresses = '*'
unix_socket_directories = '/run/postgresql'
shared_buffers = 16MB
fsync = off
"""
RULES = """
local all all peer
host all all 10.77.0.0/24 trust
host replication all 10.77.0.0/24 trust
"""


class Server:
    """PostgreSQL on a host, as the user postgres, with its socket where Debian has it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.name = machine.host.name
        machine.folder("postgresql", "postgres")
        self.data = machine.folder("data", "postgres", mode=0o700)
        self.process: subprocess.Popen[str] | None = None

    def make_primary(self) -> None:
        """With a table, the client's role, and the one that the probe needs."""
        self.machine.run(["initdb", "--no-sync", f"--pgdata={self.data}", "--username=postgres"], "postgres")
        for name, text in (("postgresql.conf", SETTINGS), ("pg_hba.conf", RULES)):
            (self.machine.own_run / "data" / name).write_text(text, encoding="utf-8")
        self.start()
        for statement in (
            "create role root login",
            "create role app login",
            "create table notes (at timestamptz default now())",
            "grant insert on notes to app",
        ):
            self.sql(statement)

    def make_standby(self, primary_address: str) -> None:
        """A copy of the primary that streams from it."""
        copy = ["pg_basebackup", f"--host={primary_address}", "--username=postgres", f"--pgdata={self.data}"]
        self.machine.run([*copy, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"], "postgres")
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = self.machine.start(
            ["postgres", "-D", self.data, "-c", f"cluster_name={self.name}"], user="postgres"
        )
        eventually(self.answers, f"PostgreSQL on {self.name} answers", within_seconds=30)

    def answers(self) -> bool:
        return self.machine.succeeds(self._psql("select 1"), "postgres")

    def sql(self, statement: str) -> str:
        """What it says, as the superuser."""
        return self.machine.run(self._psql(statement), "postgres").strip()

    @staticmethod
    def _psql(statement: str) -> list[str]:
        return ["psql", "-XAtq", "--host=/run/postgresql", "--dbname=postgres", f"--command={statement}"]

    @property
    def processes(self) -> list[int]:
        """The server's first process and all others."""
        assert self.process is not None
        return [self.process.pid, *children(self.process.pid)]

    def configure(self, line: str) -> None:
        """Add a line to its configuration, which it reads when it starts."""
        with (self.machine.own_run / "data" / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def stop(self) -> None:
        """A fast shutdown, in which the standby gets everything."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=30)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def send(number: signal.Signals, pids: list[int]) -> None:
    """Send a signal; who ended meanwhile (a client's own process does) gets none."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Pair:
    """A primary on n1, its standby on n2, and the VIP at n1."""

    def __init__(self, lan: Any) -> None:
        require("postgres", "initdb", "pg_basebackup", "psql")
        self.lan = lan
        self.vip = WritableVip(lan, "postgresql")
        self.n1, self.n2 = (Server(machine) for machine in machines(lan.hosts))
        self.n1.make_primary()
        self.n2.make_standby("10.77.0.11")
        self.vip.begin(self.n1, self.n2)


@pytest.fixture
def pair(segment: Any) -> Pair:
    return Pair(segment("n1", "n2"))


def writers(pair: Pair) -> Attempts:
    """Clients that write through the VIP, and are told who took it."""
    insert = "insert into notes default values returning current_setting('cluster_name')"
    return Attempts(pair.lan.client, postgresql(ADDRESS, "app", insert))


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_after_a_power_off_the_vip_waits_for_the_promotion_and_an_old_primary_that_returns_does_not_get_it(
    pair: Pair, figures: Figures, repetition: int
) -> None:
    with writers(pair) as clients:
        eventually(lambda: clients.answered_by("n1", 0), "n1 takes writes")
        off = time.monotonic()
        pair.n1.machine.power_off()
        time.sleep(3)
        assert pair.vip.holders == [], "a standby is no place for it"
        promoted = time.monotonic()
        assert pair.n2.sql("select pg_promote()") == "t"
        eventually(lambda: clients.answered_by("n2", promoted), "n2 takes writes")
        clients.settle()
        figures.add("postgresql: from the command to promote to the first write", "ms", clients.outage_ms(promoted))

        pair.n1.machine.power_on()
        pair.n1.start()
        assert pair.n1.sql("select pg_is_in_recovery()") == "f", "it knows nothing of the promotion"
        returned = time.monotonic()
        pair.n1.machine.host.run()
        eventually(lambda: pair.vip.status(pair.n1).get("health") == "Healthy", "n1 is healthy")
        time.sleep(2)
        clients.settle()
        assert pair.vip.holders == ["n2"]
        assert {each.answer for each in clients.since(returned)} == {"n2"}
        assert not [each for each in clients.failures(off) if "read-only" in each.complaint]


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_a_planned_switchover_of_postgresql_takes_the_vip_along(pair: Pair, figures: Figures, repetition: int) -> None:
    with writers(pair) as clients:
        eventually(lambda: clients.answered_by("n1", 0), "n1 takes writes")
        began = time.monotonic()
        pair.n1.stop()
        assert pair.n2.sql("select pg_promote()") == "t"
        eventually(lambda: clients.answered_by("n2", began), "n2 takes writes")
        clients.settle()
        figures.add("postgresql: planned switchover, outage", "ms", clients.outage_ms(began))
        # The old primary follows the new one.
        (pair.n1.machine.own_run / "data" / "standby.signal").touch()
        pair.n1.configure("primary_conninfo = 'host=10.77.0.12 user=postgres'")
        pair.n1.start()
        eventually(lambda: pair.n2.sql("select count(*) from pg_stat_replication") == "1", "n1 streams from n2")
        followed = clients.settle()
        clients.settle()
        assert {each.answer for each in clients.since(followed)} == {"n2"}
        assert not [each for each in clients.failures(began) if "read-only" in each.complaint]
    assert pair.vip.holders == ["n2"]
    assert pair.vip.status(pair.n1)["obstacles"] == ["ServiceFailed"]


def test_a_primary_that_does_not_answer_has_no_vip_and_the_standby_has_none_either(
    pair: Pair, figures: Figures
) -> None:
    with writers(pair) as clients:
        eventually(lambda: clients.answered_by("n1", 0), "n1 takes writes")
        pair.n1.stop()
        eventually(lambda: pair.vip.holders == [], "nobody holds")
        time.sleep(2)
        assert pair.vip.holders == []
        started = time.monotonic()
        pair.n1.start()
        eventually(lambda: clients.answered_by("n1", started), "n1 takes writes again")
        clients.settle()
        figures.add("postgresql: from the start of a primary to the first write", "ms", clients.outage_ms(started))

        frozen = pair.n1.processes
        send(signal.SIGSTOP, frozen)
        eventually(lambda: pair.vip.holders == [], "a primary that hangs is none")
        send(signal.SIGCONT, frozen)
        eventually(lambda: pair.vip.holders == ["n1"], "n1 holds again")
