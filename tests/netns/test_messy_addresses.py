"""A host's own addresses beside its VIPs: renewed, moved, late, and back as they were when the VIP has gone."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.messy import (
    KNOWN_TO_EACH_OTHER,
    PRIORITIES,
    VIP,
    VIP6,
    Probes,
    address_monitor,
    document,
    documents,
    holder_and_backup,
    moves,
    own_addresses,
    own_routes,
    set_sysctl,
    source_of,
)

pytestmark = pytest.mark.netns

PROMOTES = pytest.mark.parametrize("promotes", [0, 1], ids=["promote_secondaries=0", "promote_secondaries=1"])


def known_pair(lan: Any, interval_ms: int) -> tuple[Host, Host]:
    """n1 is Master and n2 Backup, and each knows the other by one address."""
    n1, n2 = lan.hosts
    for host, spec, state in zip((n1, n2), KNOWN_TO_EACH_OTHER, ("Master", "Backup"), strict=True):
        host.run(document(interval_ms=interval_ms, **spec)).becomes(state, within_seconds=15)
    n2.hears_a_master()
    return n1, n2


def nothing_moved(lan: Any, n1: Host, n2: Host) -> None:
    assert (n1.state(), n2.state()) == ("Master", "Backup")
    assert (moves(n1), moves(n2)) == (1, 0)
    assert lan.holders(VIP) == ["n1"]


# ----- who we are on the link -----


@pytest.mark.parametrize("verb", ["change", "replace"])
def test_a_renewal_of_the_own_address_costs_nothing_among_known_members(segment: Any, verb: str) -> None:
    lan = segment("n1", "n2")
    lan.hosts[0].namespace.ip("address add 10.77.0.61/24 dev eth0")
    n1, n2 = known_pair(lan, 100)
    before = n2.routers["web"]["master"]
    probes = Probes(lan.client, VIP)
    for lifetime in (3600, 1800, 7200):
        n1.namespace.ip(f"address {verb} 10.77.0.11/24 dev eth0 valid_lft {lifetime} preferred_lft {lifetime}")
        time.sleep(0.5)
    assert probes.lost() == 0
    nothing_moved(lan, n1, n2)
    assert before == n2.routers["web"]["master"] == "10.77.0.11"
    assert not n2.routers["web"]["counters"].get("foreign-routers")


@pytest.mark.parametrize(("interval_ms", "away_seconds"), [(100, 0.05), (100, 0.14), (1000, 0.6), (1000, 1.4)])
def test_an_own_address_that_goes_and_comes_costs_nothing(segment: Any, interval_ms: int, away_seconds: float) -> None:
    lan = segment("n1", "n2")
    n1, n2 = known_pair(lan, interval_ms)
    probes = Probes(lan.client, VIP)
    n1.namespace.ip("address del 10.77.0.11/24 dev eth0")
    time.sleep(away_seconds)
    n1.namespace.ip("address add 10.77.0.11/24 dev eth0")
    time.sleep(1 + 4 * interval_ms / 1000)
    assert probes.lost() <= 2, "the host answers without an address of its own, too"
    nothing_moved(lan, n1, n2)


def test_an_own_address_that_stays_away_costs_one_move_and_the_backup_takes_over_at_once(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = known_pair(lan, 100)
    probes = Probes(lan.client, VIP)
    n1.namespace.ip("address del 10.77.0.11/24 dev eth0")
    n1.becomes("Initialize")
    n2.becomes("Master")
    assert n1.routers["web"]["obstacles"] == ["NoSourceAddress"]
    assert probes.lost() < 25, "less than half a second"
    n1.namespace.ip("address add 10.77.0.11/24 dev eth0")
    n1.becomes("Backup")
    time.sleep(0.5)
    assert lan.holders(VIP) == ["n2"]


def test_a_secondary_own_address_and_a_configured_source_stay_what_is_sent_from(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.namespace.ip("address add 10.77.0.61/24 dev eth0")
    nodes = PRIORITIES | {"sourceAddresses": [{"nodeName": "n1", "address": "10.77.0.61"}]}
    n1.run(document(nodes=nodes))
    n1.becomes("Master")
    n2.run(document()).becomes("Backup")
    eventually(lambda: n2.routers["web"]["master"] == "10.77.0.61", "it is sent from the configured address")
    n1.namespace.ip("address change 10.77.0.11/24 dev eth0 valid_lft 3600 preferred_lft 3600")
    time.sleep(0.5)
    n1.namespace.ip("address del 10.77.0.61/24 dev eth0", "address add 10.77.0.61/24 dev eth0")
    time.sleep(0.8)
    nothing_moved(lan, n1, n2)
    assert n2.routers["web"]["master"] == "10.77.0.61"
    n1.namespace.ip("address del 10.77.0.61/24 dev eth0")
    n1.becomes("Initialize")
    assert "the configured source address is not on it" in n1.routers["web"]["obstacleDetail"]


def test_an_ipv6_link_local_address_that_is_made_anew_costs_nothing(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, document("web", f"{VIP6}/64", interval_ms=1000))
    sources = [address for address in n1.namespace.addresses("eth0") if address.startswith("fe80")]
    probes = Probes(lan.client, VIP6)
    n1.namespace.ip(*(f"address del {address}/64 dev eth0" for address in sources))
    time.sleep(0.3)
    n1.namespace.ip("address add fe80::77/64 dev eth0 nodad")
    time.sleep(4.5)
    assert probes.lost() <= 2
    assert (moves(n1), moves(n2)) == (1, 0)
    assert n2.routers["web"]["master"] == "fe80::77"


# ----- the host keeps its own addresses and routes -----


def end_with(action: str, lan: Any, n1: Host, n2: Host) -> None:
    """Have the VIP leave n1 in one of the ways in which it can."""
    if action == "switchover":
        command = n1.command("switchover", "web", "--to", "n2", f"--state-dir={n1.state_directory}")
        subprocess.run(command, check=True, capture_output=True)
    elif action == "stop":
        n1.stop()
    else:
        n1.signal(signal.SIGKILL if action == "kill" else signal.SIGSTOP)
    n2.becomes("Master")
    eventually(lambda: lan.holders(VIP) == ["n2"], "one host has it")


@PROMOTES
@pytest.mark.parametrize("action", ["switchover", "stop", "kill", "freeze"])
def test_when_the_vip_goes_the_host_has_its_addresses_and_routes(segment: Any, promotes: int, action: str) -> None:
    lan = segment("n1", "n2")
    for last, host in enumerate(lan.hosts, start=11):
        for link in ("all", "eth0"):
            set_sysctl(host.namespace, f"net/ipv4/conf/{link}/promote_secondaries", promotes)
        # Advertisements come from another subnet, so that the VIP is held while the own address is away.
        host.namespace.ip(
            f"address del 10.77.0.{last}/24 dev eth0",
            f"address add 10.78.0.{last}/24 dev eth0",
            f"address add 10.77.0.{last}/24 dev eth0",
        )
        host.namespace.ip("route add default via 10.77.0.1", "address add 10.77.0.71/24 dev eth0")
    n1, n2 = lan.hosts
    addresses, routes = own_addresses(n1.namespace), own_routes(n1.namespace)
    holder_and_backup(lan, document("web", f"{VIP}/24", "10.77.0.201/24", "10.77.0.202/32"))
    assert (own_addresses(n1.namespace), own_routes(n1.namespace)) == (addresses, routes)
    # What a DHCP client or NetworkManager does: all own addresses go, and come anew behind the VIP. (Without
    # promote_secondaries the kernel takes the second away with the first.)
    n1.namespace.ip("address del 10.77.0.11/24 dev eth0")
    if promotes:
        n1.namespace.ip("address del 10.77.0.71/24 dev eth0")
    time.sleep(0.05)  # within an interval: the VIP is put back, and is the first of its subnet
    n1.namespace.ip("address add 10.77.0.11/24 dev eth0", "address add 10.77.0.71/24 dev eth0")
    n1.namespace.ip("route replace default via 10.77.0.1")
    assert (own_addresses(n1.namespace), own_routes(n1.namespace)) == (addresses, routes)
    assert source_of(n1.namespace, "192.0.2.1") == "10.77.0.11", "never the VIP"
    assert source_of(n1.namespace, "10.77.0.100") == "10.77.0.11"
    assert lan.answers(VIP)
    end_with(action, lan, n1, n2)
    eventually(lambda: "10.77.0.202" not in n1.namespace.addresses("eth0"), "the other addresses go as well")
    assert (own_addresses(n1.namespace), own_routes(n1.namespace)) == (addresses, routes)


@PROMOTES
def test_another_own_address_before_the_first_goes_leaves_the_vip_reachable(segment: Any, promotes: int) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    for link in ("all", "eth0"):
        set_sysctl(n1.namespace, f"net/ipv4/conf/{link}/promote_secondaries", promotes)
    n1.run(document()).becomes("Master")
    n1.namespace.ip("address add 10.77.0.21/24 dev eth0", "address del 10.77.0.11/24 dev eth0")
    if not promotes:
        n1.namespace.ip("address add 10.77.0.21/24 dev eth0")
    time.sleep(1.5)
    assert lan.answers(VIP)
    assert ("10.77.0.0/24", "", "eth0", "10.77.0.21") in own_routes(n1.namespace)


def test_a_vip_in_a_subnet_that_the_host_has_no_address_in_is_reachable_also_after_the_link_was_off(
    segment: Any,
) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    vip = "10.78.0.200"
    lan.client.ip("address add 10.78.0.100/24 dev eth0")
    n1.run(document("web", f"{vip}/24", interface="eth0")).becomes("Master")
    assert lan.answers(vip)
    assert source_of(n1.namespace, "192.0.2.1") != vip
    n1.namespace.ip("link set eth0 down", "link set eth0 up")
    n1.becomes("Master")
    eventually(lambda: lan.answers(vip), "the route to the subnet is there again")
    n1.namespace.ip("address add 10.78.0.11/24 dev eth0")
    eventually(lambda: source_of(n1.namespace, "10.78.0.100") == "10.78.0.11", "the host's own address comes later")
    time.sleep(0.5)
    assert lan.answers(vip)
    n1.stop()
    assert [route for route in own_routes(n1.namespace) if route[0] == "10.78.0.0/24"] == [
        ("10.78.0.0/24", "", "eth0", "10.78.0.11")
    ]
    assert "10.78.0.11" in n1.namespace.addresses("eth0")


def test_a_host_of_a_cloud_reaches_its_neighbours_as_before(segment: Any) -> None:
    """It has an address of full length, and everything goes by a gateway."""
    lan = segment("n1")
    (n1,) = lan.hosts
    lan.client.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/forwarding"])
    n1.namespace.ip(
        "address del 10.77.0.11/24 dev eth0",
        "address add 10.77.0.11/32 dev eth0",
        "route add 10.77.0.100 dev eth0",
        "route add default via 10.77.0.100",
    )
    routes = own_routes(n1.namespace)
    ways = [n1.namespace.ip_json("route", "get", to)[0].get("gateway") for to in ("10.77.0.50", "192.0.2.1")]
    assert ways == ["10.77.0.100", "10.77.0.100"]
    n1.run(document(interface="eth0")).becomes("Master")
    assert lan.answers(VIP)
    assert own_routes(n1.namespace) == routes
    assert [n1.namespace.ip_json("route", "get", to)[0].get("gateway") for to in ("10.77.0.50", "192.0.2.1")] == ways
    assert {source_of(n1.namespace, to) for to in ("10.77.0.50", "10.77.0.100", "192.0.2.1")} == {"10.77.0.11"}
    n1.stop()
    assert own_routes(n1.namespace) == routes


PLACES = {
    "lo": (),
    "a link without ARP": (
        "link add other0 type veth peer name other1",
        "link set other0 arp off up",
        "link set other1 up",
    ),
    "a link that is off": ("link add other0 type veth peer name other1",),
    "kube-ipvs0": ("link add kube-ipvs0 type veth peer name other1", "link set kube-ipvs0 up", "link set other1 up"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_vip_that_is_on_a_link_without_neighbours_too_is_not_given_up(segment: Any, place: str) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan)
    for host in (n1, n2):
        if PLACES[place]:
            host.namespace.ip(*PLACES[place])
        link = place if place in ("lo", "kube-ipvs0") else "other0"
        host.namespace.ip(f"address add {VIP}/32 dev {link}")
        # As in every guide to IPVS: a Backup shall not answer ARP for what it has on another link.
        set_sysctl(host.namespace, "net/ipv4/conf/all/arp_ignore", 1)
    probes = Probes(lan.client, VIP)
    time.sleep(1.0)
    assert probes.lost() == 0
    assert (n1.state(), n2.state(), moves(n1), moves(n2)) == ("Master", "Backup", 1, 0)
    n1.signal(signal.SIGKILL)
    n2.becomes("Master")
    eventually(lambda: lan.answers(VIP), "n2 answers")


# ----- addresses have one owner at a time -----

A, B, C = "10.77.0.201/24", "10.77.0.202/24", "10.77.0.203/24"
EDITS = {
    "moved to an older one": ([("aa", 51, [A]), ("bb", 52, [C, B])], [("aa", 51, [A, B]), ("bb", 52, [C])]),
    "moved to a newer one": ([("aa", 51, [A, B]), ("bb", 52, [C])], [("aa", 51, [A]), ("bb", 52, [C, B])]),
    "swapped": ([("aa", 51, [A]), ("bb", 52, [B])], [("aa", 51, [B]), ("bb", 52, [A])]),
    "moved in a circle": (
        [("aa", 51, [A]), ("bb", 52, [B]), ("cc", 53, [C])],
        [("aa", 51, [B]), ("bb", 52, [C]), ("cc", 53, [A])],
    ),
    "taken over from one that is removed": ([("aa", 51, [A]), ("bb", 52, [B])], [("aa", 51, [A, B])]),
    "of a VirtualIP with another name": ([("aa", 51, [A, B])], [("zz", 51, [A, B])]),
    "with another prefix length": ([("aa", 51, [A, B])], [("aa", 51, ["10.77.0.201/32", B])]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_address_never_leaves_the_kernel_when_it_is(segment: Any, tmp_path: Path, edit: str) -> None:
    lan = segment("n1", "n2")
    before, after = (
        documents(*(document(name, *addresses, vrid=vrid) for name, vrid, addresses in version))
        for version in EDITS[edit]
    )
    n1, n2 = lan.hosts
    for host, state in ((n1, "Master"), (n2, "Backup")):
        host.run(before)
        for name, _, _ in EDITS[edit][0]:
            host.becomes(state, name)
    wanted = [text.partition("/")[0] for _, _, addresses in EDITS[edit][1] for text in addresses]
    probes = [Probes(lan.client, address) for address in wanted]
    with address_monitor(n1.namespace, tmp_path / "monitor") as deleted:
        for host in (n2, n1):
            host.write(after)
            host.signal_reload()
        for name, _, _ in EDITS[edit][1]:
            n1.becomes("Master", name)
            n2.becomes("Backup", name)
        time.sleep(1.5)
    assert deleted == []
    assert [probe.lost() for probe in probes] == [0] * len(wanted)
    assert {address: lan.holders(address) for address in wanted} == {address: ["n1"] for address in wanted}


def test_what_does_not_change_hands_stays_when_another_goes_to_a_new_virtual_ip(segment: Any, tmp_path: Path) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(documents(document("aa", A, B, vrid=51), document("cc", C, vrid=53))).becomes("Master", "aa")
    n1.becomes("Master", "cc")
    with address_monitor(n1.namespace, tmp_path / "monitor") as deleted:
        n1.write(documents(document("aa", A, vrid=51), document("bb", B, vrid=52), document("cc", C, vrid=54)))
        n1.signal_reload()
        for name in ("aa", "bb", "cc"):
            n1.becomes("Master", name)
    assert "10.77.0.201" not in deleted
    assert all(lan.holders(text.partition("/")[0]) == ["n1"] for text in (A, B, C))
