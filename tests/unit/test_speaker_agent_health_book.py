from __future__ import annotations

import msgspec
import pytest

from holdfast_api.cluster import Tracking
from holdfast_api.reasons import Health
from holdfast_speaker.agent.health_book import HealthBook
from holdfast_speaker.agent.objects import Pod
from holdfast_speaker.agent.pods import RISE_SECONDS, PodStore, Verdict
from holdfast_testing.agent_fixtures import pod, tracks_pods

WEB = "shop/web"
PROBE = {"name": "p", "tcpSocket": {"port": 80}, "periodMilliseconds": 500, "failureThreshold": 3}
HEALTHY = Verdict(Health.HEALTHY)


class Case:
    def __init__(self):
        self.now = 100.0
        self.pods = PodStore(lambda: None)
        self.book = HealthBook(self.pods, lambda: self.now)

    def track(self, **tracking):
        self.book.replace([msgspec.convert({**tracks_pods(WEB), **tracking}, Tracking)])

    def have(self, *pods):
        self.pods.replace({("shop", one["metadata"]["name"]): msgspec.convert(one, Pod) for one in pods})
        self.book.look_at_pods()

    def verdict(self, engine_says=Health.UNKNOWN):
        return self.book.verdicts({WEB: engine_says})[WEB]


@pytest.fixture
def case():
    return Case()


def test_before_the_pods_are_listed_nothing_is_known(case):
    case.track()
    assert case.verdict() == Verdict(Health.UNKNOWN, "the pods of this node are not known yet")


def test_what_a_former_agent_knew_counts_until_the_pods_are_listed(case):
    case.book.recall({WEB: HEALTHY, "shop/gone": HEALTHY})
    case.track()
    assert case.verdict() == HEALTHY
    assert case.book.remembered() == {WEB: HEALTHY}
    case.have()
    assert case.verdict().health is Health.FAILING


def test_pods_that_recover_are_healthy_after_a_while_though_nothing_happens(case):
    case.track()
    case.have(pod("web-1", ready=False))
    case.have(pod("web-1"))
    assert case.verdict().health is Health.FAILING
    assert case.book.next_change() == case.now + RISE_SECONDS
    case.now += RISE_SECONDS
    case.book.look_at_pods()
    assert case.verdict() == HEALTHY
    assert case.book.next_change() is None


def test_pods_and_probes_must_both_be_well(case):
    case.track(probes=[PROBE])
    case.have(pod("web-1"))
    assert case.verdict() == Verdict(Health.UNKNOWN, "no probe has a result yet")
    case.book.take_probes(WEB, Health.HEALTHY, "")
    assert case.verdict() == HEALTHY
    case.book.take_probes(WEB, Health.FAILING, "probe p: refused")
    assert case.verdict() == Verdict(Health.FAILING, "probe p: refused")
    case.have(pod("web-1", ready=False))
    assert case.verdict().detail.endswith("web-1 is not ready; probe p: refused")


def test_a_new_agents_first_failure_does_not_undo_what_the_engine_knows(case):
    case.track(pods=None, probes=[PROBE])
    case.book.take_probes(WEB, Health.FAILING, "probe p: refused")
    assert case.verdict(Health.HEALTHY) == Verdict(Health.UNKNOWN, "not sure yet: probe p: refused")
    assert case.book.next_change() == case.now + 1.0
    case.now += 1.0
    assert case.verdict(Health.HEALTHY) == Verdict(Health.FAILING, "probe p: refused")


def test_a_first_failure_that_passes_is_never_told(case):
    case.track(pods=None, probes=[PROBE])
    case.book.take_probes(WEB, Health.FAILING, "probe p: refused")
    case.book.take_probes(WEB, Health.HEALTHY, "")
    assert case.verdict(Health.HEALTHY) == HEALTHY
    assert case.book.next_change() is None


def test_a_first_failure_counts_at_once_where_the_engine_knows_no_better(case):
    case.track(pods=None, probes=[PROBE])
    case.book.take_probes(WEB, Health.FAILING, "probe p: refused")
    assert case.verdict(Health.UNKNOWN).health is Health.FAILING


def test_health_check_node_ports_must_be_well_beside_all_else(case):
    case.track(probes=[PROBE], healthCheckNodePorts=[31805])
    assert case.book.node_ports == {WEB: [31805]}
    case.have(pod("web-1"))
    case.book.take_probes(WEB, Health.HEALTHY, "")
    assert case.verdict() == Verdict(Health.UNKNOWN, "no healthCheckNodePort has answered yet")
    case.book.take_node_ports(WEB, Health.HEALTHY, "")
    assert case.verdict() == HEALTHY
    case.book.take_node_ports(WEB, Health.FAILING, "healthCheckNodePort 31805: answered 503")
    assert case.verdict(Health.HEALTHY) == Verdict(Health.FAILING, "healthCheckNodePort 31805: answered 503")
    case.track(probes=[PROBE])
    assert case.book.node_ports == {}
    assert case.verdict() == HEALTHY


def test_commands_are_not_run(case):
    case.track(pods=None, probes=[PROBE, {"name": "c", "exec": {"command": ["true"]}}])
    assert [probe.name for probe in case.book.probes[WEB]] == ["p"]
    case.book.take_probes(WEB, Health.HEALTHY, "")
    assert case.verdict().health is Health.UNKNOWN
    assert "command" in case.verdict().detail


def test_what_is_tracked_no_longer_is_forgotten(case):
    case.track(probes=[PROBE])
    case.have(pod("web-1", ready=False))
    case.have(pod("web-1"))
    case.book.take_probes(WEB, Health.FAILING, "x")
    case.book.replace([])
    case.book.take_probes(WEB, Health.FAILING, "late")
    case.book.take_node_ports(WEB, Health.FAILING, "late")
    assert case.book.verdicts({}) == {}
    assert case.book.remembered() == {}
    assert case.book.next_change() is None
