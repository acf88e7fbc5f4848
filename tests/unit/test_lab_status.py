"""A lab as it is now."""

from __future__ import annotations

import os

import pytest

from holdfast_lab import processes, status
from holdfast_lab.lab import Lab
from holdfast_lab.record import Failure, HostRecord, LabRecord, LabStore, Software
from holdfast_lab.status import states


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A lab whose kernels the test plays, and whose hosts nobody can ask."""
    us = processes.identify(os.getpid())

    def host(name):
        return HostRecord(
            name=name,
            namespace=f"ns-{name}",
            port="p",
            mac_address="",
            addresses=[],
            router=us,
            service=us,
            software=Software.KEEPALIVED,
        )

    record = LabRecord(
        name="lab", interface="eth0", virtual_ips=["default/web"],
        virtual_addresses=["10.0.0.9", "fd00::9"], ports=[80], probed_ports=[], hosts=[host("n1"), host("n2")],
        client=host("client"),
    )  # fmt: skip
    kernels = {"ns-n1": {"10.0.0.11", "fd00::9", "10.0.0.9"}, "ns-n2": {"10.0.0.12"}}
    monkeypatch.setattr(status, "addresses_of", lambda namespace, interface: kernels[namespace])
    return Lab(LabStore("lab", tmp_path), record)


def test_the_addresses_are_the_kernels_and_only_the_vips(lab):
    assert [(state.name, state.has) for state in states(lab)] == [("n1", ("10.0.0.9", "fd00::9")), ("n2", ())]


@pytest.mark.parametrize(
    ("failures", "condition"),
    [
        ([], "up"),
        ([Failure.SERVICE], "up"),
        ([Failure.FREEZE], "frozen"),
        ([Failure.PARTITION, Failure.LINK], "partitioned, link cut"),
    ],
)
def test_a_hosts_condition_is_what_failed_of_it(lab, failures, condition):
    lab.record.hosts[0].failures = failures
    assert states(lab)[0].condition == condition


def test_a_host_that_is_off_does_not_run_and_that_is_no_surprise(lab):
    n1 = lab.record.hosts[0]
    n1.failures, n1.router, n1.service = [Failure.POWER], None, None
    state = states(lab)[0]
    assert (state.condition, state.service, state.routers) == ("off", "down", ())


def test_a_holdfast_that_ended_by_itself_is_told(lab):
    lab.record.hosts[0].router = processes.ProcessIdentity(1, 0)
    assert states(lab)[0].condition == "not running"
