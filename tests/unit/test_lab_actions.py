"""What is done to a network, in the words of ip(8), and what is said where the kernel refuses it."""

from __future__ import annotations

import errno

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab import actions, namespaces
from holdfast_lab.actions import (
    AddAddress,
    AddBridge,
    AddCable,
    DeleteLink,
    FlushAddresses,
    ForgetStations,
    Isolate,
    SetMaster,
    SetState,
)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (AddBridge("br0"), "link add br0 up type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
        (AddCable("a", "b"), "link add a type veth peer name b"),
        (
            AddCable("a", "b", "there", "02:68:66:00:00:0b"),
            "link add a type veth peer name b address 02:68:66:00:00:0b netns there",
        ),
        (DeleteLink("a"), "link delete a"),
        (SetState("a", up=True), "link set a up"),
        (SetState("a", up=False), "link set a down"),
        (SetMaster("a", "br0"), "link set a master br0"),
        (SetMaster("a", None), "link set a nomaster"),
        (Isolate("a"), "link set a type bridge_slave isolated on"),
        (ForgetStations("a"), "link set a type bridge_slave fdb_flush"),
        (AddAddress("a", "10.77.0.11/24"), "address add 10.77.0.11/24 dev a"),
        (AddAddress("a", "fd77::11/64"), "address add fd77::11/64 dev a nodad"),
        (FlushAddresses("a"), "address flush dev a"),
        (FlushAddresses("a", only_global=True), "address flush dev a scope global"),
    ],
)
def test_each_action_has_its_words(action, words):
    assert action.words == words


class RefusingKernel:
    def __init__(self, error):
        self._error = error

    def link(self, *_, **__):
        raise self._error


@pytest.mark.parametrize(
    ("action", "error", "reason"),
    [
        (
            AddBridge("br0"),
            NetlinkError(errno.EOPNOTSUPP, "Unknown device type"),
            "this kernel has no bridge: `modprobe bridge` loads it, where the kernel was built with it",
        ),
        (
            AddCable("a", "b"),
            NetlinkError(errno.EOPNOTSUPP),
            "this kernel has no veth: `modprobe veth` loads it, where the kernel was built with it",
        ),
        (AddBridge("br0"), NetlinkError(errno.EEXIST), "that is there already"),
        (
            SetState("a", up=True),
            NetlinkError(errno.EPERM),
            "this process lacks the capability CAP_NET_ADMIN (root in a container?)",
        ),
        (SetMaster("a", "br0"), NetlinkError(errno.ENODEV), "No such device"),
        (
            SetMaster("a", None),
            NetlinkError(errno.EBUSY, "Device is not a bridge port. "),
            "Device is not a bridge port.",
        ),
    ],
)
def test_a_refusal_is_one_line_that_can_be_typed(action, error, reason, monkeypatch):
    monkeypatch.setattr(namespaces, "with_rtnetlink", lambda _, work: work(RefusingKernel(error)))
    with pytest.raises(EnvironmentFailure) as refused:
        actions.carry_out("there", action)
    assert str(refused.value) == f"`ip -n there {action.words}` failed: {reason}"
