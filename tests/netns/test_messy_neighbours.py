"""Somebody else on the link: a router with our VRID, an address that is in use, and what people are told of it."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import time
from typing import Any

import pytest

from holdfast_speaker.vrrp.instants import MILLISECOND, Duration
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, encode
from holdfast_testing.hosts import Host, eventually
from holdfast_testing.messy import VIP, VIP6, Probes, document, holder_and_backup, moves
from holdfast_testing.namespaces import Namespace

pytestmark = pytest.mark.netns

ROGUE = "10.77.0.100"


class Rogue:
    """Sends VRRP advertisements from the client's address, as whoever has root there can."""

    def __init__(self, client: Namespace) -> None:
        with client.inside():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
        self._socket.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@4s4si", bytes(4), bytes(4), client.index("eth0"))
        )

    def close(self) -> None:
        self._socket.close()

    def say(self, *addresses: str, priority: int = 1, ttl: int = 255, version: int = 3) -> None:
        source = socket.inet_aton(ROGUE)
        packed = tuple(map(socket.inet_aton, addresses or (VIP,)))
        interval = Duration((1000 if version == 2 else 100) * MILLISECOND)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        payload = encode(version, 51, priority, interval, packed, source, MULTICAST_GROUP_V4)
        self._socket.sendto(payload, ("224.0.0.18", 0))

    def go_on(self, seconds: float, **said: Any) -> int:
        """Two hundred a second for so long; how many."""
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            self.say(**said)
            count += 1
            time.sleep(0.005)
        return count


@pytest.fixture
def rogue() -> Any:
    made: list[Rogue] = []

    def make(client: Namespace) -> Rogue:
        made.append(Rogue(client))
        return made[-1]

    yield make
    for one in made:
        one.close()


def refusals(host: Host) -> list[str]:
    return [message for message in host.messages("warning") if message.startswith("advertisements are refused")]


# ----- other virtual routers, and what may be a second holder -----


def test_two_teams_with_a_virtual_ip_of_one_name_keep_both_vips_and_are_told(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    texts = [
        document("web", f"{address}/24").replace('"virtualRouterID": 51, ', "") for address in (VIP, "10.77.0.210")
    ]
    n1.run(texts[0]).becomes("Master")
    n2.run(texts[1]).becomes("Master")
    assert n1.routers["web"]["virtualRouterID"] == n2.routers["web"]["virtualRouterID"]
    probes = [Probes(lan.client, address) for address in (VIP, "10.77.0.210")]
    time.sleep(3.0)
    assert [probe.lost() for probe in probes] == [0, 0]
    assert (lan.holders(VIP), lan.holders("10.77.0.210")) == (["n1"], ["n2"])
    for host, peer in ((n1, "10.77.0.12"), (n2, "10.77.0.11")):
        assert len(refusals(host)) == 1
        (warning,) = host.routers["web"]["warnings"]
        assert peer in warning
        assert "none of its addresses is ours" in warning


REFUSED = {
    "its TTL is lowered": ({"ttl": 64}, "ip-ttl-errors", "passed a router"),
    "it is of version 2": ({"version": 2}, "version-errors", "another VRRP version"),
    "its list is another one": ({"addresses": "10.77.0.222"}, "other-virtual-routers", "none of its addresses is ours"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_a_line_a_minute_and_a_warning_when(segment: Any, rogue: Any, kind: str) -> None:
    lan = segment("n1", "n2")
    said, counter, why = REFUSED[kind]
    n1, n2 = holder_and_backup(lan)
    sender = rogue(lan.client)
    addresses = (said["addresses"],) if "addresses" in said else ()
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        sender.say(*addresses, priority=254, **{key: value for key, value in said.items() if key != "addresses"})
        time.sleep(0.005)
    for host in (n1, n2):
        assert host.routers["web"]["counters"][counter] > 100
        assert len(refusals(host)) == 1
        assert any(why in text and ROGUE in text for text in host.routers["web"]["warnings"])
    table = subprocess.run(
        n1.command("status", f"--state-dir={n1.state_directory}"), capture_output=True, text=True, check=True
    )
    assert why in table.stdout + table.stderr
    assert (moves(n1), moves(n2), lan.holders(VIP)) == (1, 0, ["n1"])


def test_a_stranger_among_known_members_is_told_of(segment: Any, rogue: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(document(externalPeers=["10.77.0.12"], foreignRouters="Refuse")).becomes("Master")
    rogue(lan.client).go_on(1.0, priority=254)
    assert n1.state() == "Master"
    assert len(refusals(n1)) == 1
    assert any(ROGUE in text and "known members" in text for text in n1.routers["web"]["warnings"])


@pytest.mark.parametrize(
    "other",
    [{"version": 2, "authentication": {"simplePassword": "b"}}, {"version": 3}],
    ids=["another password", "version 3"],
)
def test_a_router_that_cannot_be_understood_keeps_its_vip_and_the_newcomer_says_why(segment: Any, other: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(document(interval_ms=1000, version=2, authentication={"simplePassword": "a"}))
    n1.becomes("Master", within_seconds=15)
    n2.run(document(interval_ms=1000, **other))
    eventually(lambda: n2.routers.get("web", {}).get("obstacles") == ["AddressConflict"], "not taken", 15)
    assert lan.holders(VIP) == ["n1"]
    assert refusals(n2)
    assert any("10.77.0.11" in text for text in n2.routers["web"]["warnings"])
    n1.signal(signal.SIGKILL)
    n2.becomes("Master", within_seconds=20)


def test_a_flood_of_rivals_is_answered_with_one_announcement_a_second(segment: Any, rogue: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(document()).becomes("Master")
    time.sleep(6.0)  # the repetitions after a takeover are over
    with lan.client.inside():
        sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    sniffer.setblocking(False)
    try:
        count = rogue(lan.client).go_on(3.0, priority=1)
        announced = 0
        while True:
            try:
                frame = sniffer.recv(256)
            except BlockingIOError:
                break
            announced += frame[28:32] == socket.inet_aton(VIP) == frame[38:42]
    finally:
        sniffer.close()
    assert count > 300
    assert 1 <= announced <= 5
    assert n1.state() == "Master"


# ----- an address that somebody has -----

BOTH = pytest.mark.parametrize("address", [f"{VIP}/24", f"{VIP6}/64"], ids=["IPv4", "IPv6"])


@BOTH
def test_an_address_that_another_host_has_is_not_taken_until_it_is_free(segment: Any, address: str) -> None:
    lan = segment("n1", "n2")
    nodad = " nodad" if ":" in address else ""
    plain = address.partition("/")[0]
    lan.client.ip(f"address add {address} dev eth0{nodad}")
    for host in lan.hosts:
        host.run(document("web", address))
    for host in lan.hosts:
        eventually(lambda host=host: host.routers.get("web", {}).get("obstacles") == ["AddressConflict"], "not taken")
        assert str(lan.client.link("eth0")["address"]) in host.routers["web"]["obstacleDetail"]
    time.sleep(4.0)
    assert lan.holders(plain) == []
    lan.client.ip(f"address del {address} dev eth0")
    eventually(lambda: len(lan.holders(plain)) == 1, "it is taken", within_seconds=20)
    time.sleep(1.0)
    assert len(lan.holders(plain)) == 1


def test_with_conflict_detection_warn_it_is_taken_and_told_also_after_an_edit(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    lan.client.ip(f"address add {VIP}/24 dev eth0")
    n1.run(document())
    eventually(lambda: n1.routers.get("web", {}).get("obstacles") == ["AddressConflict"], "not taken")
    n1.write(document(conflictDetection="Warn"))
    n1.signal_reload()
    n1.becomes("Master")
    assert any("in use by" in text for text in n1.routers["web"]["warnings"])


ANSWERS_FOR_IT = f"""
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
s.bind(("eth0", 0x0806))
mac, vip = s.getsockname()[4], socket.inet_aton("{VIP}")
while True:
    f = s.recv(256)
    if f[20:22] == b"\\0\\1" and f[38:42] == vip:
        s.send(f[22:28] + mac + b"\\x08\\x06" + f[14:20] + b"\\0\\2" + mac + vip + f[22:28] + f[28:32])
"""


def test_whoever_only_answers_for_an_address_has_it(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    answerer = lan.client.start([sys.executable, "-c", ANSWERS_FOR_IT])
    n1.run(document())
    eventually(lambda: n1.routers.get("web", {}).get("obstacles") == ["AddressConflict"], "not taken")
    answerer.kill()
    n1.becomes("Master", within_seconds=20)


def test_an_address_that_somebody_takes_while_it_is_held_is_told(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    for host, state in ((n1, "Master"), (n2, "Backup")):
        host.run(document(announcementIntervalSeconds=1)).becomes(state)
    time.sleep(5.0)
    assert n1.routers["web"]["warnings"] == []
    lan.client.ip(f"address add {VIP}/24 dev eth0")
    eventually(lambda: n1.routers["web"]["warnings"], "a warning")
    assert "in use by" in n1.routers["web"]["warnings"][0]
    assert (moves(n1), moves(n2)) == (1, 0)
    lan.client.ip(f"address del {VIP}/24 dev eth0")
    eventually(lambda: n1.routers["web"]["warnings"] == [], "it is over")


def test_a_takeover_from_a_holder_that_died_is_not_delayed_by_what_its_kernel_answers(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan)
    began = time.monotonic()
    n1.signal(signal.SIGKILL)
    n2.becomes("Master")
    assert time.monotonic() - began < 2.0
    time.sleep(4.0)
    assert n2.routers["web"]["obstacles"] == []
    assert moves(n2) == 1


@pytest.mark.alone
def test_neighbours_know_the_holder_when_two_parts_of_a_network_are_joined(segment: Any) -> None:
    """Those of the other part had the MAC address of the holder there, which gives way without having been heard."""
    lan = segment("n1", "n2")
    _, n2 = holder_and_backup(lan)
    lan.switch.ip("link add br1 type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "link set br1 up")
    lan.switch.ip("link set port-n2 master br1", "link set port-client master br1")
    n2.becomes("Master")
    eventually(lambda: lan.answers(VIP), "n2 serves its part")
    probes = Probes(lan.client, VIP)
    lan.switch.ip("link add x0 type veth peer name x1", "link set x0 up master br0", "link set x1 up master br1")
    n2.becomes("Backup")
    time.sleep(2.0)
    assert lan.holders(VIP) == ["n1"]
    assert probes.lost() <= 25
