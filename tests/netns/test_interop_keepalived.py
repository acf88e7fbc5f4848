"""keepalived from Debian as the other host: every form of the protocol, in both directions."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.keepalived import Keepalived, require_keepalived

pytestmark = pytest.mark.netns


@dataclass(frozen=True)
class Form:
    """One form of the protocol that both sides speak."""

    version: int
    address: str
    interval_ms: int
    password: str = ""
    unicast: bool = False

    @property
    def vip(self) -> str:
        return self.address.partition("/")[0]

    def document(self, priority: int, **spec: Any) -> str:
        """What Holdfast is told."""
        v6 = ":" in self.address
        peers = ["fe80::11", "fe80::12"] if v6 else ["10.77.0.11", "10.77.0.12"]
        return json.dumps(
            {
                "apiVersion": "holdfast.dev/v1alpha1",
                "kind": "VirtualIP",
                "metadata": {"name": "web"},
                "spec": {
                    "addresses": [self.address],
                    "virtualRouterID": 51,
                    "version": self.version,
                    "interface": "eth0",
                    "priority": priority,
                    "advertisementIntervalMilliseconds": self.interval_ms,
                    "nodes": {
                        "sourceAddresses": [
                            {"nodeName": name, "address": peers[int(name[1]) - 1]} for name in ("n1", "n2")
                        ]
                    },
                    **({"authentication": {"simplePassword": self.password}} if self.password else {}),
                    **({"transport": "Unicast", "externalPeers": peers} if self.unicast else {}),
                    **spec,
                },
            }
        )

    def instance(self, priority: int, own: int, *lines: str) -> str:
        """What keepalived is told."""
        v6 = ":" in self.address
        source, peer = [f"fe80::{last}" if v6 else f"10.77.0.{last}" for last in (own, 23 - own)]
        said = [
            "state BACKUP",
            "virtual_router_id 51",
            f"priority {priority}",
            f"advert_int {self.interval_ms / 1000:g}",
            f"{'unicast_src_ip' if self.unicast else 'mcast_src_ip'} {source}",
            *([f"unicast_peer {{\n {peer}\n}}"] if self.unicast else []),
            *([f"authentication {{\n auth_type PASS\n auth_pass {self.password}\n}}"] if self.password else []),
            f"virtual_ipaddress {{\n {self.address}\n}}",
            *lines,
        ]
        return "\n".join(said)


V2 = Form(2, "10.77.0.200/24", 1000)
V3 = Form(3, "10.77.0.200/24", 100)
V6 = Form(3, "fe80::200/64", 100)
FORMS = [
    pytest.param(V2, id="v2"),
    pytest.param(Form(2, "10.77.0.200/24", 1000, password="1111"), id="v2-password"),
    pytest.param(V3, id="v3"),
    pytest.param(V6, id="v3-ipv6"),
    pytest.param(Form(3, "10.77.0.200/24", 100, unicast=True), id="v3-unicast"),
    pytest.param(Form(3, "fe80::200/64", 100, unicast=True), id="v3-ipv6-unicast"),
]


SECOND_MS = 1000


@pytest.fixture(autouse=True)
def _keepalived() -> None:
    require_keepalived()


def keepalived_on(host: Host, form: Form, priority: int, *lines: str) -> Keepalived:
    own = 11 if host.name == "n1" else 12
    return Keepalived(host, form.instance(priority, own, *lines), form.version).start()


def holds(host: Host, form: Form, within_seconds: float = 12.0) -> None:
    eventually(lambda: host.has(form.vip), f"{host.name} holds {form.vip}", within_seconds)


@pytest.mark.parametrize("form", FORMS)
def test_keepalived_obeys_a_holdfast_master_and_takes_over_when_it_leaves(segment: Any, form: Form) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(form.document(150)).becomes("Master")
    keepalived_on(n2, form, 100)
    time.sleep(5 * form.interval_ms / 1000)
    assert lan.holders(form.vip) == ["n1"]
    began = time.monotonic()
    n1.stop()
    holds(n2, form)
    if form.interval_ms >= SECOND_MS:  # at shorter intervals a busy machine hides which of the two it was
        assert time.monotonic() - began < 3 * form.interval_ms / 1000, "priority 0: sooner than a silence would be"


@pytest.mark.parametrize("form", FORMS)
def test_holdfast_obeys_a_keepalived_master_and_takes_over_when_it_leaves(segment: Any, form: Form) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    keepalived = keepalived_on(n1, form, 150)
    holds(n1, form)
    n2.run(form.document(100)).becomes("Backup")
    eventually(lambda: n2.routers["web"]["masterPriority"] == 150, "n2 hears the Master")
    time.sleep(4 * form.interval_ms / 1000)
    assert lan.holders(form.vip) == ["n1"]
    keepalived.stop()
    n2.becomes("Master")
    assert n2.routers["web"]["reason"] == "MasterReleased"
    holds(n2, form)


@pytest.mark.parametrize("form", [V2, V3, V6], ids=["v2", "v3", "v3-ipv6"])
def test_holdfast_takes_over_from_a_keepalived_that_is_switched_off(segment: Any, form: Form) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    keepalived = keepalived_on(n1, form, 150)
    holds(n1, form)
    n2.run(form.document(100)).becomes("Backup")
    eventually(lambda: n2.routers["web"]["masterPriority"] == 150, "n2 hears the Master")
    keepalived.kill()
    n2.becomes("Master")
    assert n2.routers["web"]["reason"] == "MasterSilent"


@pytest.mark.parametrize("form", [V2, V3], ids=["v2", "v3"])
def test_keepalived_takes_over_from_a_holdfast_that_is_switched_off(segment: Any, form: Form) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(form.document(150)).becomes("Master")
    keepalived_on(n2, form, 100)
    time.sleep(3 * form.interval_ms / 1000)
    for pid in n1.namespace.pids:
        if n1.process is not None and pid in n1.processes:
            n1.process.kill()
    n1.namespace.ip("link set eth0 down")
    holds(n2, form)


def test_holdfast_with_nopreempt_leaves_the_vip_where_keepalived_holds_it(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    keepalived_on(n1, V3, 100)
    holds(n1, V3)
    n2.run(V3.document(200)).becomes("Backup")
    time.sleep(2.0)
    assert lan.holders(V3.vip) == ["n1"]


def test_holdfast_without_nopreempt_takes_the_vip_from_a_lower_keepalived(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    keepalived_on(n1, V3, 100)
    holds(n1, V3)
    n2.run(V3.document(200, nopreempt=False)).becomes("Master")
    eventually(lambda: lan.holders(V3.vip) == ["n2"], "n1 has yielded")


@pytest.mark.parametrize("nopreempt", [True, False], ids=["nopreempt", "preempt"])
def test_a_keepalived_preempts_a_lower_holdfast_unless_told_not_to(segment: Any, nopreempt: bool) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(V3.document(100)).becomes("Master")
    keepalived_on(n2, V3, 200, *(["nopreempt"] if nopreempt else []))
    if nopreempt:
        time.sleep(2.0)
        assert lan.holders(V3.vip) == ["n1"]
    else:
        n1.becomes("Backup")
        assert n1.routers["web"]["reason"] == "HigherPriority"
        eventually(lambda: lan.holders(V3.vip) == ["n2"], "n2 holds alone")


def test_a_keepalived_of_a_failing_priority_is_relieved_with_nopreempt_too(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    keepalived_on(n1, V3, 40)
    holds(n1, V3)
    n2.run(V3.document(100)).becomes("Master")
    assert n2.routers["web"]["reason"] == "MasterFailing"
    eventually(lambda: lan.holders(V3.vip) == ["n2"], "n1 has yielded")


@pytest.mark.parametrize("nopreempt", [False, True], ids=["preempting", "nopreempt"])
def test_a_failing_holdfast_is_relieved_by_a_keepalived_that_preempts(segment: Any, nopreempt: bool) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    mark = n1.folder / "healthy"
    mark.touch()
    probe = {
        "name": "up",
        "exec": {"command": ["test", "-e", str(mark)]},
        "periodMilliseconds": 100,
        "failureThreshold": 1,
    }
    n1.run(V3.document(200, track={"probes": [probe]})).becomes("Master")
    keepalived_on(n2, V3, 100, *(["nopreempt"] if nopreempt else []))
    time.sleep(1.0)
    mark.unlink()
    eventually(lambda: n1.routers["web"]["health"] == "Failing", "the service fails")
    if nopreempt:
        # A foreign router with nopreempt does not know the bands: the VIP stays, as it would beside another keepalived.
        time.sleep(2.0)
        assert lan.holders(V3.vip) == ["n1"]
    else:
        eventually(lambda: lan.holders(V3.vip) == ["n2"], "keepalived holds")


def test_a_switchover_takes_the_vip_from_a_keepalived_master(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    keepalived_on(n1, V3, 200, "nopreempt")
    holds(n1, V3)
    n2.run(V3.document(100)).becomes("Backup")
    eventually(lambda: n2.routers["web"]["masterPriority"] == 200, "n2 hears the Master")
    n2.namespace.run(n2.command("switchover", "web", "--to=n2", f"--state-dir={n2.state_directory}")[3:])
    eventually(lambda: lan.holders(V3.vip) == ["n2"], "n1 has yielded")
    time.sleep(2.0)
    assert lan.holders(V3.vip) == ["n2"]


def test_with_a_wrong_password_an_address_that_the_other_answers_for_is_not_taken(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    keepalived_on(n1, Form(2, V2.address, 1000, password="right"), 150)
    holds(n1, V2)
    n2.run(Form(2, V2.address, 1000, password="wrong").document(100)).becomes("Initialize")
    router = eventually(lambda: n2.routers["web"]["obstacles"] and n2.routers["web"], "it is told")
    assert router["obstacles"] == ["AddressConflict"]
    assert router["counters"]["auth-failures"] >= 3
    assert any("password" in warning for warning in router["warnings"])
    assert lan.holders(V2.vip) == ["n1"]


def test_with_a_wrong_password_both_hold_as_the_protocol_has_it_where_conflicts_are_only_told(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    keepalived_on(n1, Form(2, V2.address, 1000, password="right"), 150)
    holds(n1, V2)
    form = Form(2, V2.address, 1000, password="wrong")
    n2.run(form.document(100, conflictDetection="Warn")).becomes("Master")
    assert n2.routers["web"]["counters"]["auth-failures"] >= 3


def test_another_address_list_and_another_interval_are_counted_and_obeyed(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    keepalived_on(n1, Form(3, V3.address, 300), 150)
    holds(n1, V3)
    n2.run(V3.document(100, addresses=[V3.address, "10.77.0.201/24"])).becomes("Backup")
    time.sleep(2.0)
    router = n2.routers["web"]
    assert router["state"] == "Backup"
    assert router["learnedIntervalMilliseconds"] == 300
    assert router["counters"]["address-list-errors"] > 3
    assert router["counters"]["interval-errors"] > 3
    assert lan.holders(V3.vip) == ["n1"]


def test_a_keepalived_backup_is_patient_while_holdfast_hands_over(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(V3.document(150)).becomes("Master")
    keepalived_on(n2, V3, 100)
    time.sleep(1.0)
    old, before = n1.process, n1.status["pid"]
    assert old is not None
    n1.run()
    eventually(lambda: any("waiting until it ends" in told for told in n1.messages()), "the successor waits")
    old.terminate()
    assert old.wait(timeout=5) == 0
    eventually(lambda: n1.status.get("pid", before) != before, "the successor runs")
    time.sleep(1.0)
    assert lan.holders(V3.vip) == ["n1"]
    assert "Entering MASTER STATE" not in (n2.folder / "keepalived.log").read_text(encoding="utf-8")
