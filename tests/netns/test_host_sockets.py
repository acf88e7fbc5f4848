"""VRRP sockets and announcements on a real link: what goes out, what comes in, what is left out."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from holdfast_speaker.engine import frames
from holdfast_speaker.engine.ports import NeighbourAnswer
from holdfast_speaker.host.failure import SystemCallFailure
from holdfast_speaker.host.sockets import AnnouncementSocket, Datagram, OwnHostSocket, VRRPSocket
from holdfast_testing.namespaces import Namespace, Namespaces

pytestmark = pytest.mark.netns

IPPROTO_VRRP = 112
GROUP_V4 = socket.inet_aton("224.0.0.18")
GROUP_V6 = socket.inet_pton(socket.AF_INET6, "ff02::12")
PAYLOAD = bytes.fromhex("3133640100640000") + bytes(4)
CASES = {
    "IPv4": (socket.AF_INET, socket.inet_aton("10.9.0.1"), socket.inet_aton("10.9.0.2"), GROUP_V4),
    "IPv6": (
        socket.AF_INET6,
        socket.inet_pton(socket.AF_INET6, "fe80::1"),
        socket.inet_pton(socket.AF_INET6, "fe80::2"),
        GROUP_V6,
    ),
}
FAMILIES = pytest.mark.parametrize(("family", "here", "there", "group"), CASES.values(), ids=CASES.keys())


class Cable:
    """Two namespaces, one and other, with eth0 on one cable and eth1 on another."""

    def __init__(self, namespaces: Namespaces) -> None:
        self.one, self.other = namespaces.add("one"), namespaces.add("other")
        for link in ("eth0", "eth1"):
            namespaces.connect(self.one, link, self.other, link)
        for host, last in ((self.one, 1), (self.other, 2)):
            host.ip(
                *(f"link set {link} addrgenmode none" for link in ("eth0", "eth1")),
                f"address add 10.9.0.{last}/24 dev eth0",
                f"address add fe80::{last}/64 dev eth0 nodad",
                f"address add 2001:db8:9::{last}/64 dev eth0 nodad",
                f"address add 10.9.1.{last}/24 dev eth1",
                f"address add fe80::{last}/64 dev eth1 nodad",
            )
        self._open = contextlib.ExitStack()

    def vrrp(self, host: Namespace, family: int, link: str = "eth0") -> VRRPSocket:
        with host.inside():
            opened = VRRPSocket(host.index(link), family)
        self._open.callback(opened.close)
        return opened

    def announcement(self, host: Namespace) -> AnnouncementSocket:
        with host.inside():
            opened = AnnouncementSocket(host.index("eth0"))
        self._open.callback(opened.close)
        return opened

    def sniffer(self, host: Namespace) -> socket.socket:
        with host.inside():
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            opened.bind(("eth0", 0x0003))
        opened.settimeout(2)
        self._open.callback(opened.close)
        return opened

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def cable(namespaces: Namespaces) -> Iterator[Cable]:
    made = Cable(namespaces)
    yield made
    made.close()


def received(by: VRRPSocket, count: int = 1, seconds: float = 2) -> list[Datagram]:
    """What arrives, until there are `count` datagrams or the time is over."""
    datagrams: list[Datagram] = []
    end = time.monotonic() + seconds
    while len(datagrams) < count and (left := end - time.monotonic()) > 0:
        select.select([by], [], [], left)
        datagrams += by.receive(64)
    return datagrams


@FAMILIES
def test_an_advertisement_to_the_group_is_heard_on_the_other_side(cable: Cable, family, here, there, group):
    listener = cable.vrrp(cable.other, family)
    cable.vrrp(cable.one, family).send(PAYLOAD, group, here)
    assert received(listener) == [Datagram(PAYLOAD, here, group, 255)]
    assert listener.malformed == 0


@FAMILIES
def test_an_advertisement_to_one_router_is_heard_there(cable: Cable, family, here, there, group):
    listener = cable.vrrp(cable.other, family)
    cable.vrrp(cable.one, family).send(PAYLOAD, there, here)
    assert received(listener) == [Datagram(PAYLOAD, here, there, 255)]


@FAMILIES
def test_a_router_does_not_hear_itself(cable: Cable, family, here, there, group):
    router, listener = cable.vrrp(cable.one, family), cable.vrrp(cable.other, family)
    router.send(PAYLOAD, group, here)
    assert len(received(listener)) == 1
    assert router.receive(64) == []


@FAMILIES
def test_another_link_is_not_heard(cable: Cable, family, here, there, group):
    listener, on_eth1 = cable.vrrp(cable.other, family), cable.vrrp(cable.other, family, "eth1")
    source = socket.inet_aton("10.9.1.1") if family == socket.AF_INET else here
    cable.vrrp(cable.one, family, "eth1").send(PAYLOAD, group, source)
    assert len(received(on_eth1)) == 1
    assert listener.receive(64) == []


def test_each_source_is_sent_from_as_told(cable: Cable):
    cable.one.ip("address add 10.9.0.3/24 dev eth0", "address add fe80::3/64 dev eth0 nodad")
    for family, group, texts in (
        (socket.AF_INET, GROUP_V4, ("10.9.0.3", "10.9.0.1", "10.9.0.3")),
        (socket.AF_INET6, GROUP_V6, ("fe80::3", "fe80::1", "2001:db8:9::1")),
    ):
        listener, router = cable.vrrp(cable.other, family), cable.vrrp(cable.one, family)
        for text in texts:
            router.send(PAYLOAD, group, socket.inet_pton(family, text))
        heard = [socket.inet_ntop(family, datagram.source) for datagram in received(listener, len(texts))]
        assert heard == list(texts)


@FAMILIES
def test_the_traffic_class_is_internetwork_control(cable: Cable, family, here, there, group):
    sniffer = cable.sniffer(cable.other)
    router = cable.vrrp(cable.one, family)
    for destination in (group, there):
        router.send(PAYLOAD, destination, here)
        assert _traffic_class(_next_vrrp_frame(sniffer)) == 0xC0


def _next_vrrp_frame(sniffer: socket.socket) -> bytes:
    while True:
        frame = sniffer.recv(2048)
        if frame[12:14] == b"\x08\x00" and frame[23] == IPPROTO_VRRP:
            return frame
        if frame[12:14] == b"\x86\xdd" and frame[20] == IPPROTO_VRRP:
            return frame


def _traffic_class(frame: bytes) -> int:
    if frame[12:14] == b"\x08\x00":
        return frame[15]
    return (frame[14] << 8 | frame[15]) >> 4 & 0xFF


@FAMILIES
def test_hops_and_destination_of_a_strangers_packet_are_told(cable: Cable, family, here, there, group):
    listener = cable.vrrp(cable.other, family)
    with cable.one.inside(), socket.socket(family, socket.SOCK_RAW, IPPROTO_VRRP) as stranger:
        if family == socket.AF_INET:
            stranger.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
        else:
            stranger.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 64)
        text = socket.inet_ntop(family, there)
        address = (text, 0) if family == socket.AF_INET else (text, 0, 0, cable.one.index("eth0"))
        stranger.sendto(b"\x31", address)
    assert received(listener) == [Datagram(b"\x31", here, there, 64)]


def test_ip_options_and_ethernet_padding_are_no_payload(cable: Cable):
    listener = cable.vrrp(cable.other, socket.AF_INET)
    options = b"\x01\x01\x01\x00"
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x46, 0, 24 + 8, 1, 0, 255, IPPROTO_VRRP, 0, socket.inet_aton("10.9.0.1"), GROUP_V4
    )
    checksum = 0xFFFF - int.from_bytes(header + options, "big") % 0xFFFF
    header = header[:10] + checksum.to_bytes(2, "big") + header[12:]
    ethernet = bytes.fromhex("01005e000012") + cable.one.mac("eth0") + b"\x08\x00"
    cable.announcement(cable.one).send(ethernet + header + options + PAYLOAD[:8] + b"padding padding")
    assert received(listener) == [Datagram(PAYLOAD[:8], socket.inet_aton("10.9.0.1"), GROUP_V4, 255)]


@FAMILIES
def test_a_packet_longer_than_any_advertisement_is_counted_and_dropped(cable: Cable, family, here, there, group):
    for host in (cable.one, cable.other):
        host.ip("link set eth0 mtu 9500")
    listener, router = cable.vrrp(cable.other, family), cable.vrrp(cable.one, family)
    router.send(bytes(9000), group, here)
    router.send(PAYLOAD, group, here)
    assert received(listener) == [Datagram(PAYLOAD, here, group, 255)]
    assert listener.malformed == 1


@FAMILIES
def test_receiving_stops_at_the_limit_and_goes_on_there(cable: Cable, family, here, there, group):
    listener, router = cable.vrrp(cable.other, family), cable.vrrp(cable.one, family)
    for number in range(5):
        router.send(bytes((number,)), group, here)
    assert [datagram.payload[0] for datagram in listener.receive(3)] == [0, 1, 2]
    assert [datagram.payload[0] for datagram in listener.receive(3)] == [3, 4]


@FAMILIES
def test_what_only_sends_collects_nothing(cable: Cable, family, here, there, group):
    router, other = cable.vrrp(cable.one, family), cable.vrrp(cable.other, family)
    router.send(PAYLOAD, group, here)
    other.send(PAYLOAD, here, there)
    assert len(received(router)) == 1
    with pytest.raises(BlockingIOError):
        router._sender.recv(100)


@FAMILIES
def test_an_address_that_is_not_on_the_host_cannot_be_sent_from(cable: Cable, family, here, there, group):
    router = cable.vrrp(cable.one, family)
    expected = errno.ENETUNREACH if family == socket.AF_INET else errno.EINVAL
    assert router.send(PAYLOAD, group, there) == expected


@FAMILIES
def test_a_source_that_goes_and_comes_back_can_be_sent_from_again(cable: Cable, family, here, there, group):
    listener, router = cable.vrrp(cable.other, family), cable.vrrp(cable.one, family)
    router.send(PAYLOAD, group, here)
    text = socket.inet_ntop(family, here) + ("/24" if family == socket.AF_INET else "/64")
    cable.one.ip(f"address delete {text} dev eth0")
    assert router.send(PAYLOAD, group, here) != 0
    cable.one.ip(f"address add {text} dev eth0{' nodad' if family == socket.AF_INET6 else ''}")
    assert router.send(PAYLOAD, group, here) == 0
    assert len(received(listener, 2)) == 2


@FAMILIES
def test_a_link_that_goes_down_makes_sending_fail_and_receiving_silent(cable: Cable, family, here, there, group):
    router = cable.vrrp(cable.one, family)
    router.send(PAYLOAD, group, here)
    cable.one.ip("link set eth0 down")
    assert router.send(PAYLOAD, group, here) != 0
    assert router.receive(64) == []


@FAMILIES
def test_a_link_that_vanishes_makes_sending_fail_and_nothing_worse(cable: Cable, family, here, there, group):
    router, announcement = cable.vrrp(cable.one, family), cable.announcement(cable.one)
    router.send(PAYLOAD, group, here)
    cable.one.ip("link delete eth0")
    assert router.send(PAYLOAD, group, here) != 0
    assert announcement.send(bytes(60)) != 0
    with contextlib.suppress(SystemCallFailure):
        assert router.receive(64) == []
    router.close()


def test_sockets_on_a_link_that_is_not_there_cannot_be_opened(cable: Cable):
    with cable.one.inside():
        for family in (socket.AF_INET, socket.AF_INET6):
            with pytest.raises(SystemCallFailure, match="cannot open a VRRP socket: No such device"):
                VRRPSocket(4242, family)
        with pytest.raises(SystemCallFailure, match="cannot open a socket for announcements: "):
            AnnouncementSocket(4242)


def _believed(host: Namespace, address: str) -> str:
    entries = host.ip_json("neighbour", "show", "dev", "eth0")
    return next((str(entry["lladdr"]) for entry in entries if entry["dst"] == address), "")


OLD, NEW = bytes.fromhex("0200000000aa"), bytes.fromhex("0200000000bb")


@pytest.mark.parametrize(
    ("vip", "frame"),
    [
        ("10.9.0.200", lambda mac, vip: frames.gratuitous_arp(mac, vip)),
        ("2001:db8:9::c8", lambda mac, vip: frames.unsolicited_neighbour_advertisement(mac, vip, False)),
    ],
    ids=["ARP", "NA"],
)
def test_an_announcement_changes_what_the_neighbours_believe(cable: Cable, vip, frame):
    packed = socket.inet_pton(socket.AF_INET6 if ":" in vip else socket.AF_INET, vip)
    cable.other.ip(f"neighbour add {vip} lladdr {OLD.hex(':')} dev eth0 nud stale")
    sniffer = cable.sniffer(cable.other)
    cable.announcement(cable.one).send(frame(NEW, packed))
    while sniffer.recv(2048) != frame(NEW, packed):
        pass
    assert _believed(cable.other, vip) == NEW.hex(":")


@pytest.mark.parametrize("target", ["10.9.0.2", "fe80::2"])
def test_a_neighbour_that_is_asked_answers(cable: Cable, target):
    packed = socket.inet_pton(socket.AF_INET6 if ":" in target else socket.AF_INET, target)
    mac = cable.one.mac("eth0")
    if ":" in target:
        question = frames.neighbour_solicitation(mac, CASES["IPv6"][1], packed)
    else:
        question = frames.arp_request(mac, CASES["IPv4"][1], packed)
    sniffer = cable.sniffer(cable.one)
    cable.announcement(cable.one).send(question)
    answers = iter(
        lambda: frames.neighbour_answer(sniffer.recv(2048)), NeighbourAnswer(packed, cable.other.mac("eth0"))
    )
    assert [answer for answer in answers if answer is not None] == []


@FAMILIES
def test_what_this_host_sends_is_heard_where_it_is_asked_for_and_nothing_that_comes_in(
    cable: Cable, family: int, here: bytes, there: bytes, group: bytes
) -> None:
    with cable.one.inside():
        own_host = OwnHostSocket(cable.one.index("eth0"))
    with contextlib.closing(own_host):
        assert cable.vrrp(cable.other, family).send(PAYLOAD, group, there) == 0
        assert cable.vrrp(cable.one, family, "eth1").send(PAYLOAD, group, here) in (0, errno.ENODEV, errno.ENETUNREACH)
        assert cable.vrrp(cable.one, family).send(PAYLOAD, group, here) == 0
        assert select.select([own_host], [], [], 2)[0]
        assert own_host.receive(8) == [Datagram(PAYLOAD, here, group, 255)]


def test_announcements_leave_again_when_their_link_was_removed_and_is_back(namespaces: Namespaces) -> None:
    host = namespaces.add("n1")
    link = ("link add d0 index 77 type veth peer name d1", "link set d0 up", "link set d1 up")
    host.ip(*link)
    frame = bytes(6) + bytes(6) + b"\x08\x06" + bytes(46)
    with host.inside():
        announcer = AnnouncementSocket(77)
    with contextlib.closing(announcer):
        assert announcer.send(frame) == 0
        host.ip("link del d0", *link)
        assert announcer.send(frame) in (errno.ENETDOWN, errno.ENXIO)
        assert announcer.send(frame) == errno.ENXIO
        with host.inside():
            announcer.renew()
        assert announcer.send(frame) == 0
        host.ip("link del d0")
        with host.inside():
            announcer.renew()  # there is nothing to be of: sending says so
        assert announcer.send(frame) != 0
