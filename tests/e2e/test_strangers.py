"""Routers that are not ours: outside of the cluster on the nodes' link, and keepalived on the nodes themselves."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from holdfast_operator.planner.host.vrid import first_choice
from holdfast_speaker.host.sockets import VRRPSocket
from holdfast_speaker.vrrp.instants import SECOND
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, encode
from holdfast_testing.figures import Figures
from holdfast_testing.kind_cluster import KindCluster, Segment
from holdfast_testing.kubernetes_vips import Holdfast, MakeVip, Vip
from holdfast_testing.required import absent

pytestmark = pytest.mark.kind


@contextlib.contextmanager
def advertising(segment: Segment, vrid: int) -> Iterator[None]:
    """This machine, which is on the segment too, says every half second that it is Master of another virtual router."""
    stranger = VRRPSocket(socket.if_nametoindex(segment.interface), socket.AF_INET)
    source = segment.gateway.packed
    payload = encode(3, vrid, 100, SECOND, (segment.subnet[250].packed,), source, MULTICAST_GROUP_V4, None)
    ended = threading.Event()

    def advertise() -> None:
        while not ended.wait(0.5):
            stranger.send(payload, MULTICAST_GROUP_V4, source)

    thread = threading.Thread(target=advertise)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        stranger.close()


def test_a_vip_is_not_given_the_vrid_of_a_router_outside_of_the_cluster(
    cluster: KindCluster, holdfast: Holdfast
) -> None:
    workers = [node.name for node in cluster.workers()]
    beside = Vip(cluster, "beside", cluster.free_address(), workers)
    wanted = first_choice("default/beside")

    def everybody_tells() -> bool:
        links = [cluster.get("speakerconfig", name)["status"]["links"] for name in workers]
        return all(any(wanted in link.get("foreignVirtualRouterIDs", ()) for link in one) for one in links)

    try:
        with advertising(cluster.segment(), wanted):
            cluster.wait_for(everybody_tells, 60, f"every worker tells that VRID {wanted} is taken")
            beside.apply().ready()
            assert beside.status["virtualRouterID"] != wanted
            assert beside.held_by_one()
    finally:
        beside.delete()


@pytest.fixture
def keepalived() -> str:
    """The path of this machine's keepalived."""
    found = shutil.which("keepalived", path="/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        absent("kind", "not installed: keepalived")
    return found


@contextlib.contextmanager
def keepalived_on(
    cluster: KindCluster, program: str, folder: Path, node: str, vrid: int, priority: int, address: str
) -> Iterator[None]:
    """keepalived in a node's network, with a virtual router of its own."""
    folder = folder / node
    folder.mkdir()
    (folder / "keepalived.conf").write_text(
        f"""global_defs {{
  vrrp_version 3
}}
vrrp_instance OTHER {{
  interface eth0
  virtual_router_id {vrid}
  priority {priority}
  advert_int 0.1
  virtual_ipaddress {{
    {address}/32
  }}
}}
""",
        encoding="utf-8",
    )
    words = ["-n", "-l", "-D", f"-f{folder}/keepalived.conf", f"-p{folder}/pid", f"-r{folder}/vrrp.pid"]
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(cluster.in_network_of(node, program, *words), stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_vrids_of_keepalived_on_the_nodes_themselves_are_not_given_away(
    cluster: KindCluster, holdfast: Holdfast, keepalived: str, tmp_path: Path, figures: Figures
) -> None:
    first, second, third = (node.name for node in cluster.workers())
    wanted, theirs = first_choice("default/neighbour"), cluster.free_address()
    neighbour = Vip(cluster, "neighbour", cluster.free_address(), [first, second, third])

    def told_by(node: str) -> bool:
        links = cluster.get("speakerconfig", node)["status"]["links"]
        return any(wanted in link.get("foreignVirtualRouterIDs", ()) for link in links)

    try:
        with (
            keepalived_on(cluster, keepalived, tmp_path, first, wanted, 150, theirs),
            keepalived_on(cluster, keepalived, tmp_path, second, wanted, 100, theirs),
        ):
            cluster.wait_for(lambda: cluster.holders(theirs) == [first], 20, "keepalived holds its address")
            # Its own host's advertisements come to no socket by multicast: the engine has to look. To the others the
            # sender is a node of the cluster.
            cluster.wait_for(partial(told_by, first), 60, f"{first} tells that VRID {wanted} is taken")
            with Vip(cluster, "", theirs, []).probing() as probing:
                neighbour.apply().ready()
                assert neighbour.status["virtualRouterID"] != wanted
                assert neighbour.held_by_one()
                time.sleep(1)
            figures.add("keepalived beside us on the nodes: its lost probes of 1 ms", "probes", probing.result().lost)
            assert probing.result().lost == 0
            assert cluster.holders(theirs) == [first]
    finally:
        neighbour.delete()


@pytest.mark.parametrize("place", ["the holder", "a Backup"])
def test_keepalived_on_a_node_with_the_vrid_of_a_vip_is_not_obeyed(
    cluster: KindCluster, make_vip: MakeVip, keepalived: str, tmp_path: Path, figures: Figures, place: str
) -> None:
    vip = make_vip("claimed", virtualRouterID=88).ready()
    holder = vip.held_by_one()
    node = holder if place == "the holder" else next(name for name in vip.nodes if name != holder)
    with vip.probing() as probing:
        with keepalived_on(cluster, keepalived, tmp_path, node, 88, 250, cluster.free_address()):
            time.sleep(5)
        time.sleep(2)
    figures.add(f"keepalived with our VRID on {place}'s node: lost probes of 1 ms", "probes", probing.result().lost)
    assert (probing.result().lost, probing.result().moves) == (0, 0)
    assert vip.held_by_one() == holder
