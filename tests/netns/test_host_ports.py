"""A closed VIP is no door into the node that holds it: what listens there is not reached, what is forwarded passes."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast_speaker.host.closed_ports import CHECK_EVERY
from holdfast_speaker.vrrp.instants import SECOND
from holdfast_testing.hosts import Host, eventually
from holdfast_testing.namespaces import Namespace
from holdfast_testing.restarts import VIP, holder_and_backup, web

pytestmark = pytest.mark.netns

VIP6 = "fd77::200"
PORT = 2222
BOTH = {"addresses": [f"{VIP}/24", f"{VIP6}/64"], "hostPorts": "Closed"}
PUT_BACK_WITHIN = CHECK_EVERY / SECOND + 1.0


@contextlib.contextmanager
def listening(namespace: Namespace, port: int = PORT) -> Iterator[None]:
    """A listener on every address of both families, as sshd has it."""
    with namespace.inside():
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    with listener:
        yield


def reaches(namespace: Namespace, address: str, port: int = PORT, seconds: float = 0.4) -> bool:
    """Whether a connection from a host is accepted."""
    with namespace.inside():
        stream = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    with stream:
        stream.settimeout(seconds)
        try:
            stream.connect((address, port))
        except TimeoutError:  # a port that nobody listens on is refused, which is another error
            return False
        return True


def table(host: Host) -> dict[str, list[str]] | None:
    """The closed addresses by set, as nft shows them; None where there is no table."""
    command = host.namespace.command(["nft", "-j", "list", "table", "inet", "holdfast"])
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        return None
    sets = [item["set"] for item in json.loads(shown.stdout)["nftables"] if "set" in item]
    return {one["name"]: sorted(one.get("elem", [])) for one in sets}


def nft(host: Host, rules: str) -> None:
    host.namespace.run(["nft", rules])


def doors(segment: Any, address: str) -> bool:
    return reaches(segment.client, address)


@pytest.fixture
def closed(segment: Any) -> Iterator[tuple[Any, Host]]:
    """A host that holds a closed VIP of both families, with a listener."""
    lan = segment("n1")
    (n1,) = lan.hosts
    with listening(n1.namespace):
        n1.run(web(**BOTH)).becomes("Master")
        yield lan, n1


def test_what_listens_on_the_node_is_reached_by_its_own_addresses_and_from_itself_alone(
    closed: tuple[Any, Host],
) -> None:
    lan, n1 = closed
    assert not doors(lan, VIP)
    assert not doors(lan, VIP6)
    assert doors(lan, "10.77.0.11")
    assert doors(lan, "fd77::11")
    assert reaches(n1.namespace, VIP)
    assert reaches(n1.namespace, VIP6)
    assert n1.routers["web"]["warnings"] == []


def test_pings_large_and_small_are_answered_and_a_traceroute_ends_at_it(closed: tuple[Any, Host]) -> None:
    lan, _ = closed
    for address in (VIP, VIP6):
        for size in ("56", "4000"):
            lan.client.run(["ping", "-n", "-c1", "-W2", "-s", size, address])
        lan.client.run(["ping", "-n", "-c1", "-W2", "-t", "1", address])


def test_an_open_vip_costs_nothing(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    with listening(n1.namespace):
        n1.run(web()).becomes("Master")
        assert doors(lan, VIP)
        assert table(n1) is None
        sockets = n1.namespace.run(["cat", "/proc/net/netlink"]).splitlines()[1:]
        of_the_host = [line for line in sockets if line.split()[1] == "12" and line.split()[2] != "0"]
        assert not of_the_host, "a socket of netfilter"


def test_traffic_that_is_translated_passes_as_kube_proxy_has_it(closed: tuple[Any, Host]) -> None:
    lan, n1 = closed
    for family, vip, own in (("ip", VIP, "10.77.0.11"), ("ip6", VIP6, "[fd77::11]")):
        rule = f"{family} daddr {vip} tcp dport 80 dnat to {own}:{PORT}"
        hook = "type nat hook prerouting priority dstnat"
        nft(n1, f"table {family} proxy {{ chain prerouting {{ {hook}; {rule}; }}; }}")
        assert reaches(lan.client, vip, 80)
        assert not reaches(lan.client, vip)


@pytest.mark.parametrize(
    "rules",
    [
        "flush ruleset",
        "delete table inet holdfast",
        "flush table inet holdfast",
        "insert rule inet holdfast input accept",
        "flush chain inet holdfast closed",
    ],
)
def test_whoever_flushes_the_rules_they_are_back_soon_and_it_is_told(closed: tuple[Any, Host], rules: str) -> None:
    lan, n1 = closed
    nft(n1, rules)
    eventually(lambda: not doors(lan, VIP) and not doors(lan, VIP6), "it is closed again", PUT_BACK_WITHIN)
    assert [line for line in n1.messages("warning") if "somebody changed the rules" in line]
    assert table(n1) == {"ipv4": [VIP], "ipv6": [VIP6]}


def test_addresses_that_somebody_takes_out_of_the_sets_are_back_as_soon_as_they_are_read(
    closed: tuple[Any, Host],
) -> None:
    lan, n1 = closed
    nft(n1, "flush set inet holdfast ipv4")
    assert doors(lan, VIP)

    def closed_after_another_change() -> bool:
        nft(n1, "add table inet another; delete table inet another")
        return not doors(lan, VIP)

    eventually(closed_after_another_change, "it is closed again", 8)


def test_the_table_goes_with_the_last_closed_vip_and_with_the_engine(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web(**BOTH)).becomes("Master")
    n1.write(web(hostPorts="Closed"))
    eventually(lambda: table(n1) == {"ipv4": [VIP], "ipv6": []}, "the other address is open again")
    n1.write(web())
    eventually(lambda: table(n1) is None, "nothing is closed")
    with listening(n1.namespace):
        assert doors(lan, VIP)
        n1.write(web(hostPorts="Closed"))
        eventually(lambda: not doors(lan, VIP), "it is closed")
    assert n1.stop() == 0
    assert table(n1) is None


def test_no_packet_gets_in_while_a_vip_comes_and_moves(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    with listening(n1.namespace), listening(n2.namespace), knocking(lan.client) as opened:
        holder_and_backup(lan, web(**BOTH))
        for host, other in ((n1, n2), (n2, n1)):
            os.kill(host.engine, signal.SIGKILL)
            time.sleep(0.5)
            host.namespace.run([*host.python, "-m", "holdfast_cli.main", "switchover", "web", "--to", other.name,
                                f"--state-dir={host.state_directory}"])  # fmt: skip
            other.becomes("Master")
        assert opened() == []


@contextlib.contextmanager
def knocking(client: Namespace) -> Iterator[Any]:
    """A host that sends a SYN to the VIP's port every few milliseconds; gives those that were accepted."""
    program = f"""
import socket, sys, time
waiting = []
while True:
    for address, family in (("{VIP}", socket.AF_INET), ("{VIP6}", socket.AF_INET6)):
        one = socket.socket(family)
        one.setblocking(False)
        try:
            one.connect((address, {PORT}))
        except BlockingIOError:
            waiting.append((one, address))
        except OSError:
            continue
    time.sleep(0.004)
    for one, address in waiting[:]:
        try:
            one.getpeername()
        except OSError:
            continue
        print(address, flush=True)
        waiting.remove((one, address))
    while len(waiting) > 400:
        waiting.pop(0)[0].close()
"""
    knocker = client.start([sys.executable, "-c", program], stdout=subprocess.PIPE)

    def opened() -> list[str]:
        knocker.kill()
        assert knocker.stdout is not None
        return sorted(set(knocker.stdout.read().split()))

    yield opened


def test_killed_all_at_once_it_leaves_a_table_that_the_next_start_mends(closed: tuple[Any, Host]) -> None:
    lan, n1 = closed
    n1.signal(signal.SIGKILL)
    eventually(lambda: not n1.has(VIP), "the kernel removes the address")
    assert table(n1) is not None
    n1.process = None
    n1.run(web()).becomes("Master")
    eventually(lambda: table(n1) is None, "it is gone")
    assert doors(lan, VIP)


def test_a_table_of_another_version_is_replaced_without_a_hole(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    nft(n1, "table inet holdfast { set ipv4 { type ipv4_addr; flags interval; }; set old { type inet_service; };"
            " chain forward { type filter hook forward priority 0; policy drop; }; }")  # fmt: skip
    with listening(n1.namespace):
        n1.run(web(**BOTH)).becomes("Master")
        assert not doors(lan, VIP)
    assert table(n1) == {"ipv4": [VIP], "ipv6": [VIP6]}


def test_what_another_engine_of_the_host_has_closed_stays_closed(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web(**BOTH)).becomes("Master")
    nft(n1, "add element inet holdfast ipv4 { 10.77.0.222 }")
    n1.write(web(hostPorts="Closed"))
    eventually(lambda: table(n1) == {"ipv4": [VIP, "10.77.0.222"], "ipv6": []}, "only its own are opened")
    n1.write(web())
    eventually(lambda: table(n1) == {"ipv4": ["10.77.0.222"], "ipv6": []}, "and the table stays for the other")


def test_an_address_that_the_host_has_itself_is_not_closed(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.namespace.ip("address add 10.77.0.200/24 dev eth0")
    with listening(n1.namespace):
        n1.run(web(hostPorts="Closed")).becomes("Initialize")
        assert n1.routers["web"]["obstacles"] == ["AddressInUse"]
        assert doors(lan, VIP), "nobody is shut out of a host by a slip of the pen"
        n1.namespace.ip("address delete 10.77.0.200/24 dev eth0")
        n1.becomes("Master")
        assert not doors(lan, VIP)


@contextlib.contextmanager
def without_nf_tables(host: Host) -> Iterator[None]:
    """What is started on the host has no sockets of netfilter, as where the kernel has no such module."""
    program = f"""
import ctypes, os, struct, sys
# seccomp(2), linux/filter.h: socket(AF_NETLINK, any, NETLINK_NETFILTER) answers EPROTONOSUPPORT.
number, family, protocol = 0, 16, 32
lines = [(0x20, 0, 0, number), (0x15, 0, 5, {SOCKET_CALLS[platform.machine()]}), (0x20, 0, 0, family),
         (0x15, 0, 3, 16), (0x20, 0, 0, protocol), (0x15, 0, 1, 12),
         (0x06, 0, 0, 0x50000 | 93), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("lines", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(lines), ctypes.addressof(code)))) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
    before = host.python
    host.python = [sys.executable, "-c", program, *before[1:]]
    yield
    host.python = before


SOCKET_CALLS = {"x86_64": 41, "aarch64": 198}
"""The number of the system call socket(2)."""


@pytest.mark.skipif(platform.machine() not in SOCKET_CALLS, reason="the number of socket(2) is not known here")
def test_without_nf_tables_it_is_held_all_the_same_and_told(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    with listening(n1.namespace):
        with without_nf_tables(n1):
            n1.run(web(**BOTH)).becomes("Master")
        assert doors(lan, VIP)
        router = n1.routers["web"]
        assert router["hostPortsExposed"]
        assert [text for text in router["warnings"] if "the ports of this host are reached through it" in text]


def test_the_capabilities_of_a_pod_are_enough(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    few = "-all,+net_admin,+net_raw,+sys_nice,+ipc_lock"
    n1.python = ["setpriv", "--no-new-privs", f"--bounding-set={few}", f"--inh-caps={few}", *n1.python]
    with listening(n1.namespace):
        n1.run(web(**BOTH)).becomes("Master")
        assert not doors(lan, VIP)
        assert not n1.routers["web"]["hostPortsExposed"]
