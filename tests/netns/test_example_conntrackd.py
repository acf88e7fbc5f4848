"""examples/conntrackd: a pair of gateways whose connections survive a move."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.examples import EXAMPLES, Machine, example, machines, require
from holdfast_testing.hosts import eventually

pytestmark = [pytest.mark.netns, pytest.mark.alone]

VIP = "10.77.0.200"
SCRIPT = "/usr/local/sbin/conntrack-state"


def require_conntrack() -> None:
    """Skip where the kernel tracks no connections, whatever HOLDFAST_REQUIRE says."""
    require("conntrackd", "nft")
    if not Path("/proc/sys/net/netfilter").exists():
        pytest.skip("this kernel has no nf_conntrack")


def begin(machine: Machine, own: str, other: str, *, told: bool) -> None:
    """A gateway with conntrackd on it, and the VirtualIP with the command of notify or without."""
    machine.run(["sh", str(EXAMPLES / "conntrackd" / "gateway.sh")])
    text = example("conntrackd/conntrackd.conf")
    for keyword, address in (("IPv4_address", own), ("IPv4_Destination_Address", other)):
        first = next(line for line in text.splitlines() if line.split()[:1] == [keyword])
        text = text.replace(first, f"        {keyword} {address}", 1)
    configuration = machine.host.folder / "conntrackd.conf"
    configuration.write_text(text, encoding="utf-8")
    machine.start(["conntrackd", "-C", str(configuration)])
    eventually((machine.own_run / "conntrackd.ctl").exists, "conntrackd listens")
    script = machine.host.folder / "conntrack-state"
    script.write_text(
        example("conntrackd/conntrack-state.sh").replace("conntrackd -", f"conntrackd -C {configuration} -"),
        encoding="utf-8",
    )
    script.chmod(0o755)
    vip = example("conntrackd/vip.yaml")
    machine.host.run(vip.replace(SCRIPT, str(script)) if told else vip.partition("  notify:")[0])


def echo(listener: socket.socket) -> None:
    """One connection: what is said is said again, until its end."""
    connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError):
        while said := connection.recv(100):
            connection.sendall(said)


def answers(connection: socket.socket, text: bytes) -> bool:
    connection.sendall(text)
    try:
        return connection.recv(100) == text
    except TimeoutError:
        return False


@pytest.mark.parametrize("told", [True, False])
def test_a_connection_goes_on_with_the_other_gateway_where_conntrackd_is_told(segment: Any, *, told: bool) -> None:
    require_conntrack()
    lan = segment("n1", "n2", "b1")
    n1, n2, b1 = machines(lan.hosts)
    begin(n1, "10.77.0.11", "10.77.0.12", told=told)
    n1.host.becomes("Master", "gateway")
    begin(n2, "10.77.0.12", "10.77.0.11", told=told)
    n2.host.hears_a_master("gateway")
    with b1.host.namespace.inside():
        listener = socket.create_server(("10.77.0.13", 80))
    with contextlib.closing(listener):
        threading.Thread(target=echo, args=[listener], daemon=True).start()
        with lan.client.inside():
            connection = socket.create_connection((VIP, 80), timeout=6)
        with contextlib.closing(connection):
            assert answers(connection, b"before")
            configuration = n2.host.folder / "conntrackd.conf"
            eventually(
                lambda: "ESTABLISHED" in n2.run(["conntrackd", "-C", str(configuration), "-e"]), "n2 was told of it"
            )
            n1.power_off()
            eventually(lambda: n2.host.has(VIP), "n2 holds")
            assert answers(connection, b"after") is told
    if told:
        assert n2.host.routers["gateway"]["warnings"] == []
