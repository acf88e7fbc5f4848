"""Faults of links, kernels and machines: what a holder goes through without losing its head."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.required import absent
from holdfast_testing.restarts import VIP, holder_and_backup
from holdfast_testing.restarts import web as document

pytestmark = [pytest.mark.netns, pytest.mark.alone]

BURNERS_SECONDS = float(os.environ.get("HOLDFAST_OVERLOAD_SECONDS", "10"))
"""120 by hand, as docs/testing.md says."""


def web(interval_ms: int = 100, **spec: Any) -> str:
    """The same as in the tests of restarts, on an interface that is named."""
    return document(interval_ms, interface="eth0", **spec)


def test_a_partition_has_a_holder_on_each_side_and_its_end_leaves_one(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    for host in (n1, n2):
        lan.switch.ip(f"link set port-{host.name} type bridge_slave isolated on")
    n2.becomes("Master")
    assert lan.holders(VIP) == ["n1", "n2"]
    for host in (n1, n2):
        lan.switch.ip(f"link set port-{host.name} type bridge_slave isolated off")
    eventually(lambda: len(lan.holders(VIP)) == 1, "one holder is left")
    n2.becomes("Backup")
    assert n2.routers["web"]["reason"] == "HigherPriority"
    assert lan.answers(VIP)


def test_a_link_that_flaps_fifty_times_leaves_one_holder_and_at_most_one_move(segment: Any) -> None:
    lan = segment("n1", "n2")
    _, n2 = holder_and_backup(lan, web())
    for _ in range(50):
        lan.switch.ip("link set port-n1 down")
        time.sleep(0.02)
        lan.switch.ip("link set port-n1 up")
        time.sleep(0.02)
    eventually(lambda: lan.holders(VIP) in (["n1"], ["n2"]), "one holds it")
    time.sleep(1.0)
    # No flap is longer than the Backup's patience; all of them together may be, where this machine is slow.
    (holder,) = lan.holders(VIP)
    assert n2.routers["web"]["transitions"] == (1 if holder == "n2" else 0)


def test_a_renamed_interface_is_given_up_and_taken_up_again_under_its_name(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    n1.namespace.ip("link set eth0 down", "link set eth0 name other0", "link set other0 up")
    n1.becomes("Initialize")
    assert n1.routers["web"]["obstacles"] == ["InterfaceMissing"]
    n2.becomes("Master")
    assert VIP not in n1.namespace.addresses("other0")
    n1.namespace.ip("link set other0 down", "link set other0 name eth0", "link set eth0 up")
    eventually(lambda: n1.namespace.addresses("eth0"), "the interface is back")
    n1.namespace.ip("address replace 10.77.0.11/24 dev eth0")
    n1.becomes("Backup")
    assert lan.holders(VIP) == ["n2"]


def test_a_bridge_that_snoops_multicast_without_a_querier_does_not_make_two_holders(segment: Any) -> None:
    lan = segment("n1", "n2")
    lan.switch.ip("link set br0 type bridge mcast_snooping 1 mcast_querier 0")
    n1, n2 = holder_and_backup(lan, web(addresses=[f"{VIP}/24", "fd77::200/64"]))
    time.sleep(3.0)
    assert n2.state() == "Backup"
    assert n2.routers["web"]["transitions"] == 0
    n1.stop()
    n2.becomes("Master")


def test_a_storm_of_addresses_overruns_netlink_and_the_vip_stays(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web()).becomes("Master")
    churn = [
        f"address {verb} 10.{second}.{third}.{fourth}/32 dev lo"
        for verb in ("add", "del")
        for second in (88, 89)
        for third in range(10)
        for fourth in range(250)
    ]
    for _ in range(3):
        n1.namespace.ip(*churn)
    assert n1.state() == "Master"
    assert n1.routers["web"]["transitions"] == 1
    n1.namespace.ip(f"address del {VIP}/32 dev eth0")
    eventually(lambda: n1.has(VIP), "what happens is still seen", within_seconds=2.0)


def test_an_engine_does_not_wait_for_what_other_namespaces_do_to_the_kernel(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    for block in range(4):
        lan.client.ip(*(f"address add fd88:{block}::{number:x}/128 dev eth0" for number in range(1, 500)))
    assert n1.routers["web"]["transitions"] == 1
    assert n2.routers["web"]["transitions"] == 0
    assert n1.status["lateness"]["maxMicroseconds"] < 300_000


def test_a_table_full_of_strangers_delays_no_takeover(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n2.namespace.ip(*(f"address add 10.66.{third}.{fourth}/32 dev eth0" for third in range(8) for fourth in range(250)))
    n1.run(web()).becomes("Master")
    n2.run(web()).becomes("Backup")
    for pid in n1.processes:
        os.kill(pid, 9)
    n2.becomes("Master", within_seconds=3.0)
    assert n2.has(VIP)
    assert len(n2.namespace.addresses("eth0")) > 2000, "no stranger was touched"


def test_an_overloaded_machine_with_10_ms_intervals_moves_nothing(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(10))
    if not n1.status["realTime"]["scheduling"].startswith("SCHED_FIFO"):
        pytest.skip("without SCHED_FIFO 10 ms intervals are not promised on an overloaded machine")
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4 * (os.cpu_count() or 1))]
    try:
        time.sleep(BURNERS_SECONDS)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert n1.routers["web"]["transitions"] == 1
    assert n2.routers["web"]["transitions"] == 0


@pytest.mark.parametrize("freeze", [False, True], ids=["dies", "is frozen"])
def test_the_backup_does_not_matter_to_the_holder_when_it(segment: Any, freeze: bool) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    for pid in n2.processes:
        os.kill(pid, 19 if freeze else 9)
    time.sleep(1.0)
    for pid in n2.processes if freeze else ():
        os.kill(pid, 18)
    time.sleep(1.0)
    assert n1.routers["web"]["transitions"] == 1
    assert lan.holders(VIP) == ["n1"]


def deaf(segment: Any, host: Host, now: bool) -> None:
    """What is sent to all reaches this host no more (or again); what it sends itself goes out as ever."""
    flags = "off" if now else "on"
    segment.switch.ip(
        f"link set port-{host.name} type bridge_slave flood {flags} mcast_flood {flags} bcast_flood {flags}"
    )


def test_a_backup_that_goes_deaf_takes_nothing_away_from_a_holder_of_higher_priority(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web())
    deaf(lan, n2, True)
    n2.becomes("Master")
    time.sleep(1.0)
    assert n1.has(VIP), "it hears a Master of lower priority, and goes on"
    deaf(lan, n2, False)
    n2.becomes("Backup")
    time.sleep(0.5)
    assert lan.holders(VIP) == ["n1"]
    assert n1.routers["web"]["transitions"] == 1


def test_a_backup_of_higher_priority_that_goes_deaf_takes_over_and_stays(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n2.run(web()).becomes("Master")
    n1.run(web()).becomes("Backup")
    n1.hears_a_master()
    deaf(lan, n1, True)
    n1.becomes("Master")
    n2.becomes("Backup")
    deaf(lan, n1, False)
    time.sleep(1.0)
    assert lan.holders(VIP) == ["n1"]
    assert (n1.routers["web"]["transitions"], n2.routers["web"]["transitions"]) == (1, 2)


def libfaketime() -> str:
    """Debian's libfaketime, which gives a process another wall clock than the machine's."""
    found = sorted(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")))
    if not found:
        absent("netns", "not installed: faketime")
    return found[0]


@pytest.mark.parametrize("which", ["holder", "backup"])
def test_a_wall_clock_that_steps_moves_nothing(
    segment: Any, which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    stepped = n1 if which == "holder" else n2
    step = tmp_path / "step"
    step.write_text("+0", encoding="ascii")
    faked = {
        "LD_PRELOAD": libfaketime(),
        "FAKETIME_TIMESTAMP_FILE": str(step),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    for host, state in ((n1, "Master"), (n2, "Backup")):
        with monkeypatch.context() as patched:
            for name, value in faked.items() if host is stepped else ():
                patched.setenv(name, value)
            host.run(web(100))
        host.becomes(state)
    for offset in ("-3600", "+86400", "-31536000", "+0"):
        step.write_text(offset, encoding="ascii")
        time.sleep(0.5)
    assert lan.holders(VIP) == ["n1"]
    assert (n1.routers["web"]["transitions"], n2.routers["web"]["transitions"]) == (1, 0)
    # The step did reach the engine: its next transition carries the other date.
    step.write_text("-31536000", encoding="ascii")
    stepped.namespace.ip("link set eth0 down")
    eventually(lambda: stepped.state() == "Initialize", "the stepped host sees its link")
    assert int(stepped.routers["web"]["since"][:4]) < time.gmtime().tm_year


class MemoryLimit:
    """A memory cgroup for what a host runs, of either version of cgroups."""

    def __init__(self, mebibytes: int) -> None:
        unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        self.folder = Path("/sys/fs/cgroup", *([] if unified else ["memory"]), f"hf-test-{os.getpid()}")
        try:
            self.folder.mkdir()
            limit = self.folder / ("memory.max" if unified else "memory.limit_in_bytes")
            limit.write_text(str(mebibytes << 20), encoding="ascii")
        except OSError as error:
            pytest.skip(f"no memory cgroup can be made here: {error}")

    def add(self, pid: int) -> None:
        (self.folder / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def close(self) -> None:
        eventually(lambda: not (self.folder / "cgroup.procs").read_text(encoding="ascii"), "its processes are gone")
        self.folder.rmdir()


def test_an_engine_short_of_memory_keeps_its_timers_and_the_hog_beside_it_dies(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(20))
    limit = MemoryLimit(160)
    hog = "import itertools\nkept = []\nfor _ in itertools.count(): kept.append(bytearray(b'x') * (1 << 20))"
    try:
        for pid in n1.processes:
            limit.add(pid)
        for _ in range(3):
            process = n1.namespace.start(
                ["sh", "-c", f'echo $$ >{limit.folder}/cgroup.procs; exec "$0" -c "$1"', sys.executable, hog],
                stderr=subprocess.DEVNULL,
            )
            assert process.wait(timeout=60) == -9, "the kernel kills what takes the memory"
        assert n1.state() == "Master"
        assert n1.status["restarts"] == 0
        assert (n1.routers["web"]["transitions"], n2.routers["web"]["transitions"]) == (1, 0)
    finally:
        n1.stop()
        limit.close()
