"""Bad specifications are refused with the field's name, and nothing that ran stops; nobody may do more than needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast_testing.kind_cluster import ClusterError, KindCluster
from holdfast_testing.kubernetes_vips import SYSTEM, Holdfast, Vip

pytestmark = pytest.mark.kind


@pytest.fixture
def web(cluster: KindCluster, holdfast: Holdfast) -> Iterator[Vip]:
    """A VIP that is held."""
    vip = Vip(cluster, "running", cluster.free_address(), [node.name for node in cluster.workers()])
    vip.apply(virtualRouterID=77).ready()
    yield vip
    vip.delete()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"surprise": 1}, "surprise"),
        ({"priority": 300}, "spec.priority"),
        ({"advertisementIntervalMilliseconds": 5}, "spec.advertisementIntervalMilliseconds"),
        ({"version": 2}, "advertisementIntervalMilliseconds"),
        ({"addresses": []}, "spec.addresses"),
        ({"authentication": {"simplePassword": "secret"}}, "authentication"),
    ],
)
def test_the_api_server_refuses_what_a_schema_can_see(web: Vip, spec: dict[str, Any], told: str) -> None:
    bad = Vip(web.cluster, "bad", web.cluster.free_address(), web.nodes, spec)
    with pytest.raises(ClusterError, match=told):
        web.cluster.kubectl("apply", "--validate=strict", "--filename", "-", stdin=bad.manifest)
    assert web.held_by_one()


@pytest.mark.parametrize(
    ("spec", "reason", "told"),
    [
        ({"addresses": ["198.51.100.7/24"]}, "NoMatchingSubnet", "spec.addresses"),
        ({"nodes": {"selector": {"matchLabels": {"nobody": "has"}}}}, "NoNodeSelected", "spec.nodes"),
        ({"virtualRouterID": 77}, "VirtualRouterIDInUse", "spec.virtualRouterID"),
        ({"addresses": ["224.0.0.1/24"]}, "Invalid", "spec.addresses"),
    ],
)
def test_the_operator_refuses_what_only_the_cluster_can_see(
    web: Vip, spec: dict[str, Any], reason: str, told: str
) -> None:
    holder = web.held_by_one()
    bad = Vip(web.cluster, "bad", web.cluster.free_address(), web.nodes, spec)
    try:
        with web.probing() as probing:
            bad.apply()
            web.cluster.wait_for(lambda: bad.condition("Accepted").get("status") == "False", 30, "a refusal")
        assert bad.condition("Accepted")["reason"] == reason
        assert told in bad.condition("Accepted")["message"]
        assert probing.result().lost == 0
        assert web.held_by_one() == holder
    finally:
        bad.delete()


def test_an_address_that_another_has_is_refused_and_the_other_keeps_it(web: Vip) -> None:
    holder = web.held_by_one()
    bad = Vip(web.cluster, "thief", web.address, web.nodes)
    try:
        bad.apply()
        web.cluster.wait_for(lambda: bad.condition("Accepted").get("status") == "False", 30, "a refusal")
        assert bad.condition("Accepted")["reason"] == "AddressInUse"
        assert "default/running" in bad.condition("Accepted")["message"]
        assert web.held_by_one() == holder
    finally:
        bad.delete()


def test_a_running_vip_that_is_edited_into_nonsense_goes_on_as_it_was(web: Vip) -> None:
    holder = web.held_by_one()
    with web.probing() as probing:
        web.apply(addresses=["198.51.100.7/24"])
        web.cluster.wait_for(lambda: web.condition("Accepted").get("status") == "False", 30, "a refusal")
    assert probing.result().lost == 0
    assert web.holders == [holder]


def test_the_engine_has_no_token_and_the_agents_token_can_do_nothing_else(
    cluster: KindCluster, holdfast: Holdfast
) -> None:
    pod = next(iter(holdfast.speakers().values()))
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    with pytest.raises(ClusterError):
        cluster.kubectl("-n", SYSTEM, "exec", pod, "-c", "engine", "--", "test", "-e", token)
    cluster.kubectl("-n", SYSTEM, "exec", pod, "-c", "agent", "--", "test", "-e", token)
    account = cluster.get("pod", pod, "-n", SYSTEM)["spec"]["serviceAccountName"]
    who = f"--as=system:serviceaccount:{SYSTEM}:{account}"

    def may(*words: str) -> bool:
        try:
            return cluster.kubectl("auth", "can-i", *words, who).strip() == "yes"
        except ClusterError:
            return False

    assert may("patch", "virtualips.holdfast.dev", "--subresource=status", "-A")
    for words in (
        ("get", "secrets", "-A"),
        ("patch", "virtualips.holdfast.dev", "-A"),
        ("delete", "virtualips.holdfast.dev", "-A"),
        ("create", "pods", "-A"),
        ("patch", "nodes"),
        ("update", "speakerconfigs.holdfast.dev"),
        ("create", "speakerconfigs.holdfast.dev"),
    ):
        assert not may(*words), words
