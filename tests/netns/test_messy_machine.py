"""Kernels that are old, busy or interrupted: a restart of the engine is not a failure on any of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast_speaker.engine.ports import KernelAddress, RemoveAddress
from holdfast_speaker.host.kernel import NetlinkKernel
from holdfast_speaker.host.netlink import RequestSocket
from holdfast_testing.hosts import Host, eventually
from holdfast_testing.messy import VIP, Probes, document, holder_and_backup, moves, own_routes, set_sysctl
from holdfast_testing.namespaces import Namespace, Namespaces

pytestmark = pytest.mark.netns

OLD_KERNEL = """
import holdfast_speaker.host.rtnetlink as rtnetlink
rtnetlink._ADDRESS_ATTRIBUTES = rtnetlink._ADDRESS_ATTRIBUTES - {rtnetlink._IFA_PROTO}
rtnetlink.ALL_BUT_OUR_RENEWALS = (rtnetlink.filters.KEEP_WHOLE,)
"""
"""What a kernel before 5.18 leaves out, and what no filter can tell from others' addresses then."""


@pytest.fixture
def old_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python process that is started hears nobody say whose an address is."""
    folder = tmp_path / "old-kernel"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(OLD_KERNEL, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.usefixtures("old_kernel")
def test_on_a_kernel_that_does_not_tell_whose_an_address_is_no_restart_costs_anything(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan)
    probes = Probes(lan.client, VIP)
    for restarts in (1, 2):
        os.kill(n1.engine, signal.SIGKILL)
        eventually(lambda restarts=restarts: n1.status.get("restarts") == restarts, "it was replaced")
        time.sleep(1.0)
    assert (n1.state(), n2.state(), moves(n1), moves(n2)) == ("Master", "Backup", 1, 0)
    successor = Host(n1.namespace, "n1", n1.folder / "successor")
    successor.state_directory = n1.state_directory
    successor.run(document())
    time.sleep(1.5)
    n1.stop()
    successor.becomes("Master")
    time.sleep(1.5)
    assert probes.lost() == 0
    assert (moves(successor), moves(n2), lan.holders(VIP)) == (1, 0, ["n1"])
    assert successor.routers["web"]["obstacles"] == []
    successor.stop()
    n2.becomes("Master")
    assert lan.holders(VIP) == ["n2"], "and what is given up is gone"


def storm(namespace: Namespace, folder: Path, addresses: int) -> subprocess.Popen[str]:
    """Addresses come and go on another link, as fast as the kernel lets them."""
    namespace.ip("link add k0 type veth peer name k1")
    for verb in ("add", "del"):
        (folder / verb).write_text(
            "".join(
                f"addr {verb} 10.{96 + k // 65536}.{k // 256 % 256}.{k % 256}/32 dev k0\n" for k in range(addresses)
            ),
            encoding="ascii",
        )
    loop = f"while :; do ip -batch {folder}/add; ip -batch {folder}/del; done"
    return namespace.start(["timeout", "60", "sh", "-c", loop], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_an_engine_that_is_killed_in_a_storm_of_addresses_is_replaced_and_nothing_moves(
    segment: Any, tmp_path: Path
) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, document(interval_ms=1000))
    storm(n1.namespace, tmp_path, 6000)
    time.sleep(1.0)
    for restarts in (1, 2):
        os.kill(n1.engine, signal.SIGKILL)
        eventually(lambda restarts=restarts: n1.status.get("restarts") == restarts, "it was replaced", 15)
        time.sleep(3.0)
    assert n1.status["restarts"] == 2, "and no other died of it"
    assert (n1.state(), n2.state(), moves(n1), moves(n2)) == ("Master", "Backup", 1, 0)


def test_dumps_that_are_interrupted_are_answered_all_the_same(namespaces: Namespaces, tmp_path: Path) -> None:
    one = namespaces.add("one")
    one.ip("link add eth0 type veth peer name eth1", "link set eth0 up", "address add 10.9.0.1/24 dev eth0")
    with one.inside():
        requests = RequestSocket()
    storm(one, tmp_path, 4000)
    for _ in range(15):
        _, addresses, _ = requests.dump()
        assert socket.inet_aton("10.9.0.1") in {item.address for item in addresses}, "what was there all the time"
        time.sleep(0.05)
    requests.close()


@pytest.mark.parametrize("promotes", [0, 1])
def test_what_an_older_version_put_there_with_its_subnet_goes_without_the_hosts_own_addresses(
    namespaces: Namespaces, promotes: int
) -> None:
    one = namespaces.add("one")
    one.ip("link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up")
    for link in ("all", "eth0"):
        set_sysctl(one, f"net/ipv4/conf/{link}/promote_secondaries", promotes)
    one.ip("address add 10.9.0.200/24 dev eth0 valid_lft 60 preferred_lft 60 noprefixroute")
    one.ip("address add 10.9.0.1/24 dev eth0", "address add 10.9.0.2/24 dev eth0")
    index = one.index("eth0")
    with one.inside():
        kernel = NetlinkKernel()
        code = kernel.apply(
            [RemoveAddress(KernelAddress(index, socket.inet_aton("10.9.0.200"), 24), keeps_others=True)]
        )
    assert code == [0]
    assert {address for address in one.addresses("eth0") if "." in address} == {"10.9.0.1", "10.9.0.2"}
    assert ("10.9.0.0/24", "", "eth0", "10.9.0.1") in own_routes(one), "and the host has its connected route (again)"
    shown = one.run(["cat", "/proc/sys/net/ipv4/conf/eth0/promote_secondaries"]).strip()
    assert shown == str(promotes), "the setting is as it was"
