"""Links on messy hosts: deaf or dumb for a while, late, flapping, replaced, bridged; and half of a VIP."""

from __future__ import annotations

import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.messy import (
    KNOWN_TO_EACH_OTHER,
    VIP,
    VIP6,
    Probes,
    document,
    holder_and_backup,
    is_member_of_group,
    moves,
    set_sysctl,
)
from holdfast_testing.required import absent

pytestmark = pytest.mark.netns

V4, V6 = f"{VIP}/24", f"{VIP6}/64"


def readdress(host: Host, last: int) -> None:
    """Give eth0 its addresses again."""
    host.namespace.ip(
        f"address replace 10.77.0.{last}/24 dev eth0",
        f"address replace fd77::{last}/64 dev eth0 nodad",
        f"address replace fe80::{last}/64 dev eth0 nodad",
    )


def other_takes_over(lan: Any, dies: Host, lives: Host, *addresses: str) -> None:
    """That `lives` hears and can be Master is seen when the other dies."""
    dies.signal(signal.SIGKILL)
    lives.becomes("Master")
    for address in addresses:
        eventually(lambda address=address: lan.answers(address), f"{address} is answered")


# ----- deaf or dumb for good -----


@pytest.mark.parametrize("which", [0, 1], ids=["holder", "backup"])
def test_an_mtu_below_1280_and_back_leaves_nobody_deaf(segment: Any, which: int) -> None:
    lan = segment("n1", "n2")
    hosts = holder_and_backup(lan, document("web", V6))
    host, other = hosts[which], hosts[1 - which]
    host.namespace.ip("link set eth0 mtu 1200")
    host.becomes("Initialize")
    other.becomes("Master")
    host.namespace.ip("link set eth0 mtu 1500")
    readdress(host, 11 + which)
    host.becomes("Backup")
    assert is_member_of_group(host.namespace, 16)
    time.sleep(1.0)
    assert lan.holders(VIP6) == [other.name]
    other_takes_over(lan, other, host, VIP6)


@pytest.mark.parametrize("how", ["disable_ipv6", "mtu"])
def test_ipv6_that_goes_and_comes_between_two_looks_leaves_nobody_deaf(segment: Any, how: str) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, document("web", V6))
    there_and_back = {
        "disable_ipv6": "cd /proc/sys/net/ipv6/conf/eth0; echo 1 >disable_ipv6; echo 0 >disable_ipv6",
        "mtu": "ip link set eth0 mtu 1200; ip link set eth0 mtu 1500",
    }
    n2.namespace.run(["sh", "-c", there_and_back[how]])
    readdress(n2, 12)
    n2.becomes("Backup")
    time.sleep(1.5)
    assert (n2.state(), lan.holders(VIP6)) == ("Backup", ["n1"])
    assert is_member_of_group(n2.namespace, 16)
    other_takes_over(lan, n1, n2, VIP6)


@pytest.mark.parametrize("which", [0, 1], ids=["holder", "backup"])
@pytest.mark.parametrize("same_index", [True, False], ids=["with the same index", "with another index"])
def test_a_link_that_is_removed_and_made_anew_is_taken_up(segment: Any, which: int, same_index: bool) -> None:
    lan = segment("n1", "n2")
    hosts = holder_and_backup(lan, document("web", V4, V6, interface="eth0"))
    host, other = hosts[which], hosts[1 - which]
    index = host.namespace.index("eth0")
    port = f"port-{host.name}"
    if same_index:
        lan.switch.ip(f"link del {port}")
        host.namespace.ip(f"link add eth0 index {index} type veth peer name {port} netns {lan.switch.name}")
    else:
        host.namespace.ip("link del eth0", f"link add eth0 type veth peer name {port} netns {lan.switch.name}")
    set_sysctl(host.namespace, "net/ipv6/conf/eth0/accept_dad", 0)
    host.namespace.ip("link set eth0 up")
    lan.switch.ip(f"link set {port} up master br0")
    readdress(host, 11 + which)
    host.becomes("Backup")
    other.becomes("Master")
    time.sleep(1.0)
    assert (lan.holders(VIP), lan.holders(VIP6)) == ([other.name], [other.name])
    other_takes_over(lan, other, host, VIP, VIP6)


def test_a_link_that_was_in_another_namespace_is_taken_up_when_it_is_back(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, document("web", V4, V6))
    n1.namespace.ip("link set eth0 down", "link set eth0 name away0", f"link set away0 netns {lan.switch.name}")
    n1.becomes("Initialize")
    n2.becomes("Master")
    lan.switch.ip(f"link set away0 netns {n1.namespace.name}")
    n1.namespace.ip("link set away0 name eth0", "link set eth0 up")
    readdress(n1, 11)
    n1.becomes("Backup")
    time.sleep(1.0)
    assert (lan.holders(VIP), lan.holders(VIP6)) == (["n2"], ["n2"])
    other_takes_over(lan, n2, n1, VIP, VIP6)


def firewall(tool: str, host: Host, on: bool) -> None:
    """Drop VRRP going out, of IPv4 (iptables), of IPv6 (ip6tables) or of both (nft); or no longer."""
    if tool == "nft":
        rules = "table inet t { chain c { type filter hook output priority 0; meta l4proto 112 drop; }; }"
        host.namespace.run(["nft", rules] if on else ["nft", "delete table inet t"])
    else:
        host.namespace.run([tool, "-A" if on else "-D", "OUTPUT", "-p", "112", "-j", "DROP"])


def needs(program: str) -> None:
    if shutil.which(program) is not None:
        return
    absent("netns", f"not installed: {program}")


@pytest.mark.parametrize(
    ("tool", "address"), [("iptables", V4), ("ip6tables", V6), ("nft", V4)], ids=["iptables", "ip6tables", "nft"]
)
def test_a_master_whose_firewall_drops_what_it_sends_gives_way_and_comes_back_without_it(
    segment: Any, tool: str, address: str
) -> None:
    needs(tool)
    lan = segment("n1", "n2")
    plain = address.partition("/")[0]
    n1, n2 = holder_and_backup(lan, document("web", address))
    probes = Probes(lan.client, plain)
    firewall(tool, n1, True)
    n2.becomes("Master")
    eventually(lambda: lan.holders(plain) == ["n2"], "there is one holder")
    assert probes.lost() < 50, "less than a second"
    sent = n1.routers["web"]["counters"]["advertisement-sent"]
    assert any("the firewall of this host drops it (EPERM)" in message for message in n1.messages())
    assert any(line.get("reason") == "CannotSend" for line in n1.log)
    firewall(tool, n1, False)
    n1.becomes("Backup", within_seconds=10)
    sent_since = n1.routers["web"]["counters"]["advertisement-sent"] - sent
    assert sent_since == 1, "what did not leave is not counted, and the try that left is a farewell"
    other_takes_over(lan, n2, n1, plain)


def test_of_both_families_the_one_that_the_firewall_lets_out_is_kept(segment: Any) -> None:
    needs("ip6tables")
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(document("web", V4, V6)).becomes("Master")
    firewall("ip6tables", n1, True)
    eventually(lambda: not n1.has(VIP6), "the family that cannot be served is given up")
    probes = Probes(lan.client, VIP)
    assert n1.state() == "Master"
    assert any("IPv6" in text and "EPERM" in text for text in n1.routers["web"]["warnings"])
    firewall("ip6tables", n1, False)
    eventually(lambda: n1.has(VIP6), "it is tried again", within_seconds=20)
    assert probes.lost() == 0


def test_a_host_that_cannot_send_says_so_where_nobody_else_takes_over(segment: Any) -> None:
    needs("iptables")
    lan = segment("n1")
    (n1,) = lan.hosts
    firewall("iptables", n1, True)
    n1.run(document())
    eventually(lambda: n1.routers.get("web", {}).get("obstacles") == ["CannotSend"], "an obstacle", 15)
    assert "firewall" in n1.routers["web"]["obstacleDetail"]
    firewall("iptables", n1, False)
    n1.becomes("Master", within_seconds=40)
    assert lan.answers(VIP)


def test_too_few_descriptors_are_an_obstacle_of_its_own_and_tried_again(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan)
    engine = n1.engine
    before = resource.prlimit(engine, resource.RLIMIT_NOFILE)
    n1.namespace.ip("link set eth0 down")
    n2.becomes("Master")
    in_use = sum(1 for _ in Path(f"/proc/{engine}/fd").iterdir())
    resource.prlimit(engine, resource.RLIMIT_NOFILE, (in_use, before[1]))
    n1.namespace.ip("link set eth0 up")
    eventually(
        lambda: any(line.get("obstacle") == "TooFewDescriptors" for line in n1.log), "it cannot open its sockets", 10
    )
    resource.prlimit(engine, resource.RLIMIT_NOFILE, before)
    n1.becomes("Backup", within_seconds=20)
    assert lan.holders(VIP) == ["n2"]
    assert n1.engine == engine, "nothing died of it"
    other_takes_over(lan, n2, n1, VIP)


# ----- the incumbent is safe -----


@pytest.mark.parametrize("known", [False, True], ids=["members unknown", "members known"])
def test_a_node_that_hears_arp_and_not_the_group_leaves_the_holder_alone(segment: Any, known: bool) -> None:
    needs("iptables")
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    one, two = KNOWN_TO_EACH_OTHER if known else ({}, {})
    n2.run(document(**two)).becomes("Master")
    n1.namespace.run(["iptables", "-A", "INPUT", "-d", "224.0.0.18", "-j", "DROP"])
    n1.run(document(**one))
    eventually(lambda: "Initialize -> Backup: started" in n1.messages(), "it started")
    time.sleep(0.9)
    n1.namespace.run(["iptables", "-F", "INPUT"])
    time.sleep(3.0)
    assert (n1.state(), n2.state(), moves(n2)) == ("Backup", "Master", 1)
    assert lan.holders(VIP) == ["n2"]


def close_port(lan: Any, host: Host) -> None:
    """The switch does not forward for this host yet (STP: blocking, listening)."""
    lan.switch.run(["bridge", "link", "set", "dev", f"port-{host.name}", "state", "0"])


def open_port(lan: Any, host: Host) -> None:
    lan.switch.run(["bridge", "link", "set", "dev", f"port-{host.name}", "state", "3"])


REFUSING = [{**peers, "foreignRouters": "Refuse"} for peers in KNOWN_TO_EACH_OTHER]


@pytest.mark.parametrize("late_seconds", [2, 8, 30])
def test_a_node_whose_port_forwards_late_takes_nothing_from_the_incumbent(segment: Any, late_seconds: int) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n2.run(document(**REFUSING[1])).becomes("Master")
    close_port(lan, n1)
    n1.run(document(**REFUSING[0]))
    time.sleep(late_seconds)
    assert n1.state() == "Master", "it hears nobody"
    assert n1.routers["web"]["unproved"]
    assert n1.routers["web"]["effectivePriority"] == 50
    probes = Probes(lan.client, VIP)
    open_port(lan, n1)
    n1.becomes("Backup")
    time.sleep(1.0)
    assert moves(n2) == 1
    assert lan.holders(VIP) == ["n2"]
    assert probes.lost() <= 15, "who asked in the moment in which both had it is told at once"


def test_a_port_that_forwards_late_after_a_carrier_flap_costs_the_incumbent_nothing(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    for host, spec, state in zip((n1, n2), REFUSING, ("Master", "Backup"), strict=True):
        host.run(document(**spec)).becomes(state)
    lan.switch.ip("link set port-n1 down")
    n2.becomes("Master")
    lan.switch.ip("link set port-n1 up")
    close_port(lan, n1)
    time.sleep(5.0)
    open_port(lan, n1)
    n1.becomes("Backup")
    time.sleep(1.0)
    assert (moves(n2), lan.holders(VIP)) == (1, ["n2"])


def test_with_a_start_delay_a_late_port_costs_nothing_where_members_are_unknown(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n2.run(document()).becomes("Master")
    close_port(lan, n1)
    n1.run(document(startDelaySeconds=6))
    time.sleep(4.0)
    assert n1.state() == "Backup"
    open_port(lan, n1)
    time.sleep(4.0)
    assert (n1.state(), moves(n2), lan.holders(VIP)) == ("Backup", 1, ["n2"])


@pytest.mark.alone
@pytest.mark.parametrize(("interval_ms", "away_seconds"), [(1000, 0.05), (1000, 2.0), (100, 0.05), (100, 0.25)])
def test_a_carrier_flap_that_is_shorter_than_the_backups_patience_moves_nothing(
    segment: Any, interval_ms: int, away_seconds: float
) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, document(interval_ms=interval_ms))
    probes = Probes(lan.client, VIP)
    lan.switch.run(["sh", "-c", f"ip link set port-n1 down; sleep {away_seconds}; ip link set port-n1 up"])
    time.sleep(1 + 4 * interval_ms / 1000)
    assert probes.lost() <= 50 * (away_seconds + 0.3), "no more than the flap"
    assert (moves(n1), moves(n2)) == (1, 0)
    assert lan.holders(VIP) == ["n1"]


# ----- edits and links that replace each other -----


def test_naming_the_interface_that_was_found_anyway_moves_nothing_nor_does_taking_the_name_back(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan)
    probes = Probes(lan.client, VIP)
    for text in (document(interface="eth0"), document()):
        for host in (n1, n2):
            host.write(text)
            time.sleep(1.5)  # until it counts, and is in force on one of them alone
            assert (n1.state(), n2.state()) == ("Master", "Backup")
    assert probes.lost() == 0
    assert (moves(n1), moves(n2)) == (1, 0)


def test_a_vip_follows_its_address_into_another_subnet(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.namespace.ip("link add eth1 type veth peer name eth9", "link set eth1 up", "link set eth9 up")
    n1.namespace.ip("address add 10.78.0.11/24 dev eth1")
    n1.run(document()).becomes("Master")
    n1.write(document("web", "10.78.0.200/24"))
    n1.signal_reload()
    eventually(lambda: n1.has("10.78.0.200", "eth1"), "it is where its subnet is")
    assert not n1.has(VIP)
    assert n1.routers["web"]["interface"] == "eth1"


def test_a_vip_follows_its_subnet_to_a_bridge_over_the_nic_and_back(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan)
    n1.namespace.ip(
        "link add br0 type bridge forward_delay 0 mcast_snooping 0",
        "link set eth0 master br0",
        "link set br0 up",
        "address del 10.77.0.11/24 dev eth0",
        "address add 10.77.0.11/24 dev br0",
    )
    eventually(lambda: n1.routers["web"]["interface"] == "br0", "it is found on the bridge")
    eventually(lambda: sorted([n1.state(), n2.state()]) == ["Backup", "Master"], "one holds it")
    time.sleep(1.0)
    assert len(lan.holders(VIP)) + n1.has(VIP, "br0") == 1
    assert not n1.has(VIP), "nothing is left on the port"
    if n2.state() == "Master":
        other_takes_over(lan, n2, n1, VIP)
    assert n1.has(VIP, "br0")
    n1.namespace.ip(
        "address del 10.77.0.11/24 dev br0",
        "link set eth0 nomaster",
        "link del br0",
        "address add 10.77.0.11/24 dev eth0",
    )
    eventually(lambda: n1.has(VIP), "and back", within_seconds=15)


def test_a_vpn_with_a_wider_prefix_that_was_there_first_is_left_for_the_subnet_itself(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.namespace.ip(
        "address del 10.77.0.11/24 dev eth0",
        "link add tun0 type veth peer name tun1",
        "link set tun0 up",
        "link set tun1 up",
        "address add 10.250.0.1/8 dev tun0",
    )
    n1.run(document())
    eventually(lambda: n1.routers.get("web", {}).get("interface") == "tun0", "there is no better one yet")
    n1.namespace.ip("address add 10.77.0.11/24 dev eth0")
    eventually(lambda: n1.routers["web"]["interface"] == "eth0", "its own subnet is nearer")
    eventually(lambda: n1.has(VIP) and not n1.has(VIP, "tun0"), "it is there and nowhere else")
    assert lan.answers(VIP)


# ----- neighbours know -----


def mac_in_cache(lan: Any, address: str) -> str:
    """What the client's kernel knows of an address."""
    shown = lan.client.ip_json("neigh", "show", address, "dev", "eth0")
    return str(shown[0].get("lladdr", "")) if shown else ""


@pytest.mark.parametrize("address", [V4, V6], ids=["IPv4", "IPv6"])
def test_a_mac_address_that_changes_under_a_master_is_announced_at_once(segment: Any, address: str) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    plain = address.partition("/")[0]
    n1.run(document("web", address)).becomes("Master")
    assert lan.answers(plain)
    probes = Probes(lan.client, plain)
    time.sleep(0.3)
    n1.namespace.ip("link set eth0 address 02:00:00:00:00:77")
    eventually(lambda: mac_in_cache(lan, plain) == "02:00:00:00:00:77", "the client knows", within_seconds=2)
    time.sleep(0.5)
    assert probes.lost() <= 10


def test_announcements_repeat_while_the_vip_is_held(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(document(announcementIntervalSeconds=1)).becomes("Master")
    assert lan.answers(VIP)
    time.sleep(8.0)  # the repetitions after a takeover are over
    lan.client.ip(f"neigh replace {VIP} lladdr 02:00:00:00:00:99 dev eth0 nud reachable")
    eventually(lambda: mac_in_cache(lan, VIP) == n1.namespace.link("eth0")["address"], "it is said again", 4)


def test_who_deletes_the_vip_in_a_loop_is_told_of_and_not_fought(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan)
    loop = n1.namespace.start(
        ["sh", "-c", f"while :; do ip address del {VIP}/32 dev eth0 2>/dev/null; sleep 0.02; done"]
    )
    eventually(lambda: n1.routers["web"]["warnings"], "a warning in status")
    time.sleep(2.0)
    before = len(n1.log)
    time.sleep(3.0)
    assert len(n1.log) - before <= 5, "once a second"
    assert "taken away again and again" in n1.routers["web"]["warnings"][0]
    loop.kill()
    eventually(lambda: n1.has(VIP), "it is there again")
    time.sleep(1.5)
    assert (n1.has(VIP), moves(n1), moves(n2)) == (True, 1, 0)


# ----- half is not nothing -----


def test_a_node_without_ipv6_gives_way_to_one_with_both_and_keeps_ipv4_where_there_is_none(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, document("web", V4, V6))
    set_sysctl(n1.namespace, "net/ipv6/conf/eth0/disable_ipv6", 1)
    n2.becomes("Master")
    eventually(lambda: (lan.holders(VIP), lan.holders(VIP6)) == (["n2"], ["n2"]), "n2 serves both")
    assert any("IPv6" in text for text in n1.routers["web"]["warnings"])
    probes = Probes(lan.client, VIP)
    set_sysctl(n2.namespace, "net/ipv6/conf/eth0/disable_ipv6", 1)
    time.sleep(2.0)
    assert probes.lost() == 0
    assert sorted([n1.state(), n2.state()]) == ["Backup", "Master"]
    assert len(lan.holders(VIP)) == 1
    for host, last in ((n1, 11), (n2, 12)):
        set_sysctl(host.namespace, "net/ipv6/conf/eth0/disable_ipv6", 0)
        readdress(host, last)
    eventually(lambda: len(lan.holders(VIP6)) == 1, "it is served again")
    eventually(lambda: lan.answers(VIP6), "and answers")


def test_an_ipv6_address_that_is_added_where_no_node_speaks_ipv6_takes_nothing_away(segment: Any) -> None:
    lan = segment("n1", "n2")
    for host in lan.hosts:
        set_sysctl(host.namespace, "net/ipv6/conf/eth0/disable_ipv6", 1)
    n1, n2 = holder_and_backup(lan)
    probes = Probes(lan.client, VIP)
    for host in (n1, n2):
        host.write(document("web", V4, V6))
        host.signal_reload()
    time.sleep(2.0)
    assert probes.lost() == 0
    assert (moves(n1), moves(n2), lan.holders(VIP)) == (1, 0, ["n1"])
    assert any("IPv6" in text for text in n1.routers["web"]["warnings"])
