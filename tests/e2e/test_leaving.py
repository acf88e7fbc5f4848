"""Nodes that leave and come: nobody loses a probe, and two hold only while the newcomer announces itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pyroute2 import NetNS

from holdfast_testing.figures import Figures
from holdfast_testing.kind_cluster import ROOT, KindCluster
from holdfast_testing.kubernetes_vips import OFF_CPU_MS, SLACK_MS, SYSTEM, Holdfast, MakeVip, Vip
from holdfast_testing.link_watch import AddressWatch

pytestmark = pytest.mark.kind

LABEL = "holdfast.test/edge"
SELECTED = {"selector": {"matchLabels": {LABEL: "true"}}}


@pytest.fixture
def labelled(cluster: KindCluster) -> Iterator[list[str]]:
    """Every worker has the label."""
    names = [node.name for node in cluster.workers()]
    cluster.kubectl("label", "nodes", "--overwrite", *names, f"{LABEL}=true")
    yield names
    cluster.kubectl("label", "nodes", *names, f"{LABEL}-")


@contextmanager
def moving_without_a_loss(
    cluster: KindCluster, vip: Vip, figures: Figures, what: str, moves: int | None, interval_ms: int
) -> Iterator[None]:
    """So many moves inside of the block (None: any number); what clients and kernels saw of them is judged and told."""
    with AddressWatch(cluster) as watch, vip.probing() as probing:
        yield
        time.sleep(1)
    result, shared = probing.result(), watch.shared_ms(vip.address)
    figures.add(f"{what}: lost probes of 1 ms", "probes", result.lost)
    figures.add(f"{what}: two holders, make before break", "ms", *shared)
    expected = result.moves if moves is None else moves
    assert (result.moves, len(shared)) == (expected, expected), watch.stretches(vip.address)
    assert result.lost <= (OFF_CPU_MS if expected else 0), result.gaps
    assert all(overlap < interval_ms + SLACK_MS for overlap in shared), shared


def moved_from(vip: Vip, holder: str) -> str:
    """Wait until one other node has it; that node."""

    def found() -> str:
        holders = vip.holders
        return holders[0] if len(holders) == 1 and holders[0] != holder else ""

    return vip.cluster.wait_for(found, 60, f"another holder than {holder}")


def takes_part(vip: Vip, node: str, seconds: float = 60) -> None:
    """Wait until a node says that it is Backup."""
    vip.cluster.wait_for(lambda: vip.node_entry(node).get("state") == "Backup", seconds, f"{node} is Backup")


def test_a_drained_node_hands_its_vip_over_without_a_loss(
    cluster: KindCluster, make_vip: MakeVip, figures: Figures
) -> None:
    vip = make_vip("drained").ready()
    holder = vip.held_by_one()
    try:
        with moving_without_a_loss(cluster, vip, figures, "kubectl drain", 1, 100):
            cluster.kubectl("drain", holder, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
            successor = moved_from(vip, holder)
    finally:
        cluster.kubectl("uncordon", holder)
    cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment", "holdfast-operator", "--timeout=120s")
    assert vip.held_by_one() == successor, "a node that is back takes nothing"


@pytest.mark.parametrize("interval_ms", [100, 1000])
def test_a_label_that_goes_and_comes_loses_nothing(
    cluster: KindCluster, make_vip: MakeVip, labelled: list[str], figures: Figures, interval_ms: int
) -> None:
    vip = make_vip("labelled", nodes=SELECTED, advertisementIntervalMilliseconds=interval_ms).ready()
    rounds = 3
    with moving_without_a_loss(cluster, vip, figures, f"label off and on, {interval_ms} ms", rounds, interval_ms):
        for _ in range(rounds):
            holder = vip.held_by_one()
            cluster.kubectl("label", "node", holder, f"{LABEL}-")
            moved_from(vip, holder)
            cluster.kubectl("label", "node", holder, f"{LABEL}=true")
            takes_part(vip, holder)


@pytest.mark.parametrize("interval_ms", [100, pytest.param(1000, marks=pytest.mark.full)])
def test_an_edited_selection_loses_nothing(
    cluster: KindCluster, make_vip: MakeVip, labelled: list[str], figures: Figures, interval_ms: int
) -> None:
    vip = make_vip("edited", nodes=SELECTED, advertisementIntervalMilliseconds=interval_ms).ready()
    with moving_without_a_loss(cluster, vip, figures, f"spec.nodes edited, {interval_ms} ms", 2, interval_ms):
        holder = vip.held_by_one()
        vip.apply(nodes={"names": [name for name in labelled if name != holder]})
        second = moved_from(vip, holder)
        # Nobody of those who may hold it afterwards took part before.
        vip.apply(nodes={"names": [holder]})
        assert moved_from(vip, second) == holder


def test_naming_the_link_that_is_in_use_moves_nothing(
    cluster: KindCluster, make_vip: MakeVip, figures: Figures
) -> None:
    vip = make_vip("linked").ready()
    holder = vip.held_by_one()
    with moving_without_a_loss(cluster, vip, figures, "spec.interface named and left out", 0, 100):
        for specification in ({"interface": "eth0"}, {"interface": None}):
            vip.apply(**specification).ready()
            time.sleep(3)
    assert vip.held_by_one() == holder


@pytest.mark.full
def test_a_second_link_in_the_subnet_moves_nothing(cluster: KindCluster, make_vip: MakeVip, figures: Figures) -> None:
    vip = make_vip("doubled").ready()
    holder = vip.held_by_one()
    spare = f"{cluster.free_address()}/{cluster.segment().subnet.prefixlen}"

    def second_link(node: str) -> None:
        cluster.node_exec(node, "ip", "link", "add", "second", "type", "veth", "peer", "name", "second-peer")
        cluster.node_exec(node, "ip", "link", "set", "second-peer", "up")
        cluster.node_exec(node, "ip", "link", "set", "second", "up")
        cluster.node_exec(node, "ip", "address", "add", spare, "dev", "second", "noprefixroute")

    try:
        with moving_without_a_loss(cluster, vip, figures, "a second link in the subnet", 0, 100):
            for node in vip.nodes:
                second_link(node)
                time.sleep(4)
    finally:
        for node in vip.nodes:
            cluster.node_exec(node, "sh", "-c", "ip link delete second || true")
    assert vip.held_by_one() == holder


@contextmanager
def another_own_address(cluster: KindCluster, node: str) -> Iterator[None]:
    """A node's address on the link becomes another one, as a DHCP server may have it, and what it was afterwards."""
    segment = cluster.segment()
    own, other, length = str(cluster.node(node).address), cluster.free_address(), segment.subnet.prefixlen
    routes = f"""
        ip route replace default via {segment.gateway}
        [ ! -f /etc/pod-routes ] || ip -batch /etc/pod-routes
    """

    def change(old: str, new: str) -> None:
        script = f"""
            ip address add {new}/{length} dev eth0
            ip address delete {old}/{length} dev eth0
            ip address show dev eth0 | grep -q {new}/ || ip address add {new}/{length} dev eth0
            {routes}
        """
        cluster.node_exec(node, "sh", "-c", script)

    change(own, other)
    try:
        yield
    finally:
        change(other, own)


@pytest.mark.full
@pytest.mark.parametrize("interval_ms", [100, 1000])
def test_a_node_whose_own_address_changes_loses_nothing(
    cluster: KindCluster, make_vip: MakeVip, figures: Figures, interval_ms: int
) -> None:
    vip = make_vip("renewed", advertisementIntervalMilliseconds=interval_ms).ready()
    holder = vip.held_by_one()
    backup = next(name for name in vip.nodes if name != holder)
    with moving_without_a_loss(cluster, vip, figures, f"own addresses renewed, {interval_ms} ms", None, interval_ms):
        for node in (backup, holder):
            with another_own_address(cluster, node):
                time.sleep(8)
            time.sleep(4)


@pytest.mark.full
@pytest.mark.parametrize("interval_ms", [100, 1000])
def test_a_node_that_is_deleted_and_registers_again_loses_nothing(
    cluster: KindCluster, holdfast: Holdfast, make_vip: MakeVip, labelled: list[str], figures: Figures, interval_ms: int
) -> None:
    vip = make_vip("unregistered", nodes=SELECTED, advertisementIntervalMilliseconds=interval_ms).ready()
    holder = vip.held_by_one()
    pod = holdfast.speakers()[holder]
    try:
        with moving_without_a_loss(cluster, vip, figures, f"kubectl delete node, {interval_ms} ms", 1, interval_ms):
            cluster.kubectl("delete", "node", holder)
            successor = moved_from(vip, holder)
            cluster.wait_for(lambda: holder not in holdfast.speakers(), 120, f"the end of {pod}")
            cluster.wait_for(lambda: not vip.node_entry(holder), 120, f"{holder} is no longer told of")
            cluster.register_node(holder)
            cluster.kubectl("label", "node", holder, f"{LABEL}=true")
            takes_part(vip, holder, 180)  # its pods are made anew
        assert vip.held_by_one() == successor
    finally:
        if holder not in [node["metadata"]["name"] for node in cluster.items("nodes")]:
            cluster.register_node(holder)
        cluster.repair_services()


@pytest.mark.full
@pytest.mark.parametrize(("applied", "interval_ms"), [("together", 100), ("later", 100), ("together", 1000)])
def test_both_definitions_deleted_and_made_anew_move_nothing(
    cluster: KindCluster, holdfast: Holdfast, make_vip: MakeVip, figures: Figures, applied: str, interval_ms: int
) -> None:
    vip = make_vip("redefined", advertisementIntervalMilliseconds=interval_ms).ready()
    other = make_vip("redefined-too", families="6").ready()
    holder, other_holder = vip.held_by_one(), other.held_by_one()
    definitions = ["virtualips.holdfast.dev", "speakerconfigs.holdfast.dev"]

    def apply_virtual_ips() -> bool:
        for made in (vip, other):
            made.apply()
        return True

    with moving_without_a_loss(
        cluster,
        vip,
        figures,
        f"both definitions deleted and made anew, VirtualIPs {applied}, {interval_ms} ms",
        0,
        interval_ms,
    ):
        cluster.kubectl("delete", "crd", *definitions)
        time.sleep(10)
        if applied == "together":
            # As helm, which the next upgrade by helm would else be in conflict with.
            words = ("--server-side", "--force-conflicts", "--field-manager=helm")
            cluster.kubectl("apply", *words, "--filename", str(ROOT / "crds"))
            cluster.wait_for(apply_virtual_ips, 30, "the definitions are served")
        holdfast.install()
        apply_virtual_ips()
        for made in (vip, other):
            made.ready(120)
        time.sleep(5)
    assert (vip.held_by_one(), other.held_by_one()) == (holder, other_holder)


def test_an_address_watch_reads_what_the_kernel_tells(cluster: KindCluster) -> None:
    first, second, _ = cluster.workers()
    address = cluster.free_address()
    with AddressWatch(cluster) as watch:
        for node, what in ((first, "add"), (second, "add"), (first, "delete"), (second, "delete")):
            cluster.node_exec(node.name, "ip", "address", what, f"{address}/32", "dev", "eth0")
            time.sleep(0.1)
    assert [stretch.node for stretch in watch.stretches(address)] == [first.name, second.name]
    assert watch.shared_ms(address)[0] > 100


def test_an_address_watch_has_the_order_of_the_kernel_however_late_it_reads(cluster: KindCluster) -> None:
    first, second, _ = cluster.workers()
    address = cluster.free_address()
    moves = 50
    with AddressWatch(cluster) as watch, contextlib.ExitStack() as doors:
        links = [
            doors.enter_context(NetNS(f"/proc/{cluster.process_of(node.name)}/ns/net")) for node in (first, second)
        ]
        numbers = [link.link_lookup(ifname="eth0")[0] for link in links]
        for move in range(moves):
            newcomer, holder = move % 2, 1 - move % 2
            links[newcomer].addr("add", index=numbers[newcomer], address=address, prefixlen=32)
            if move:
                links[holder].addr("delete", index=numbers[holder], address=address, prefixlen=32)
        links[newcomer].addr("delete", index=numbers[newcomer], address=address, prefixlen=32)
    assert [stretch.node for stretch in watch.stretches(address)] == [first.name, second.name] * (moves // 2)
    assert len(watch.shared_ms(address)) == moves - 1
