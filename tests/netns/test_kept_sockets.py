"""A kept socket is of use only as long as its link is the one that it was opened on."""

from __future__ import annotations

import socket

import pytest

from holdfast_speaker.host.kept_sockets import KeptSockets
from holdfast_testing.namespaces import Namespaces

pytestmark = pytest.mark.netns

INDEX = 77
ADD = f"link add d0 index {INDEX} type veth peer name d1"


def test_an_announcement_socket_whose_link_left_and_came_back_is_opened_anew(namespaces: Namespaces) -> None:
    host = namespaces.add("n1")
    host.ip(ADD)
    kept_sockets = KeptSockets()
    with host.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as announcer:
        announcer.bind(("d0", 0))
        kept_sockets.put((INDEX, 0), announcer)
        kept_sockets.collect()
        taken = kept_sockets.take((INDEX, 0))
        assert taken is not None
        taken.close()
        host.ip("link del d0")
        assert kept_sockets.take((INDEX, 0)) is None
        host.ip(ADD)
        assert host.index("d0") == INDEX
        assert kept_sockets.take((INDEX, 0)) is None
