"""For how long two hosts had an address, by its changes, and dumps that are not whole.

What real kernels tell is in tests/netns/test_lab_network.py.
"""

from __future__ import annotations

import json
import socket
from types import SimpleNamespace

import pytest
from pyroute2.netlink import NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_NEWADDR

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab import watch
from holdfast_lab.watch import AddressChange, AddressWatch, shared_ms
from holdfast_testing.hosts import eventually

MS = 1_000_000


def changes(*found):
    return [AddressChange(at * MS, host, "10.0.0.9", present) for at, host, present in found]


@pytest.mark.parametrize(
    ("found", "shared"),
    [
        ([], 0),
        ([(10, "n1", True)], 0),
        ([(10, "n1", True), (30, "n2", True), (70, "n1", False)], 40),
        ([(10, "n1", True), (30, "n2", True)], 970),
        ([(-50, "n1", True), (-40, "n2", True), (100, "n2", False)], 100),
        ([(-50, "n1", True), (-40, "n2", True), (-30, "n1", False)], 0),
        ([(10, "n1", True), (20, "n1", False), (30, "n2", True)], 0),
        ([(990, "n1", True), (995, "n2", True), (2000, "n1", False)], 5),
    ],
)
def test_shared_time_is_when_two_hosts_have_the_address(found, shared):
    assert shared_ms(changes(*found), 0, 1000 * MS) == shared


class Kernel:
    """Tells what a test says, through a socket of this process, and counts how often it is asked for everything."""

    def __init__(self):
        self.socket, self._end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.marshal = SimpleNamespace(parse=json.loads)
        self.asked = 0

    def put(self, *_, msg_seq):
        self.asked = msg_seq

    def close(self):
        self.socket.close()
        self._end.close()

    def tell(self, kind, address="", flags=0, error=None):
        header = {"type": kind, "flags": flags, "sequence_number": self.asked, "error": error}
        self._end.send(json.dumps([{"header": header, "address": address, "prefixlen": 32, "index": 1}]).encode())


@pytest.fixture
def kernel(monkeypatch):
    made = Kernel()
    monkeypatch.setattr(watch, "run_inside", lambda *_: made)
    return made


@pytest.fixture
def watching(kernel):
    made = AddressWatch({"n1": "there"})
    yield made
    made.close()


def test_a_dump_that_the_kernel_calls_interrupted_is_asked_for_again(kernel, watching):
    """pyroute2 gives it as if it were whole."""
    told = []

    def has_told(wanted):
        told.extend((one.address, one.present) for one in watching.poll())
        return told == wanted

    kernel.tell(RTM_NEWADDR, "10.0.0.1")
    kernel.tell(RTM_NEWADDR, "10.0.0.2", NLM_F_DUMP_INTR)
    kernel.tell(NLMSG_DONE, flags=NLM_F_DUMP_INTR)
    eventually(lambda: watching.poll() == [] and kernel.asked == 2, "it is asked for again")
    told.clear()
    kernel.tell(RTM_NEWADDR, "10.0.0.2")
    kernel.tell(NLMSG_DONE)
    eventually(lambda: has_told([("10.0.0.1", False)]), "what is not there went")
    assert kernel.asked == 2


def test_what_comes_and_goes_during_a_dump_is_not_undone_by_it(kernel, watching):
    kernel.tell(RTM_NEWADDR, "10.0.0.1")
    kernel.tell(RTM_NEWADDR, "10.0.0.2")
    kernel.tell(RTM_DELADDR, "10.0.0.1")
    kernel.tell(NLMSG_DONE)
    kernel.tell(RTM_NEWADDR, "10.0.0.3")
    eventually(lambda: watching.poll() and watching.history[-1].address == "10.0.0.3", "all was told")
    assert [(one.address, one.present) for one in watching.history] == [
        ("10.0.0.1", True),
        ("10.0.0.2", True),
        ("10.0.0.1", False),
        ("10.0.0.3", True),
    ]


def test_a_kernel_that_refuses_is_told_with_the_host(kernel, watching):
    kernel.tell(NLMSG_ERROR, error="Operation not permitted")

    def refused():
        try:
            watching.poll()
        except EnvironmentFailure as error:
            return str(error)

    assert eventually(refused, "it is told") == "n1: its addresses cannot be watched: Operation not permitted"
