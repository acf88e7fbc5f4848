"""A router outside of the cluster, on the nodes' link."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from holdfast_operator.planner.vrid import first_choice
from holdfast_speaker.host.sockets import VRRPSocket
from holdfast_speaker.vrrp.instants import SECOND
from holdfast_speaker.vrrp.packet import MULTICAST_GROUP_V4, encode
from holdfast_testing.kind_cluster import KindCluster, Segment
from holdfast_testing.kubernetes_vips import Holdfast, Vip

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
