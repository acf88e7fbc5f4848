"""What the API server says of specifications by the schemas alone: nothing is stored, and no operator is asked."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from holdfast_testing.kind_cluster import ClusterError, KindCluster
from holdfast_testing.kubernetes_vips import Holdfast

pytestmark = pytest.mark.kind

PODS = {"selector": {"matchLabels": {"app": "web"}}}


def dry_run(cluster: KindCluster, spec: dict[str, Any]) -> dict[str, Any]:
    """The specification as it would be stored. Raises ClusterError with the API server's words."""
    metadata = {"name": "tried", "namespace": "default"}
    spec = {"addresses": ["10.0.0.200/24"], **spec}
    manifest = {"apiVersion": "holdfast.dev/v1alpha1", "kind": "VirtualIP", "metadata": metadata, "spec": spec}
    words = ("create", "--dry-run=server", "--validate=strict", "--output=json", "--filename", "-")
    stored: dict[str, Any] = json.loads(cluster.kubectl(*words, stdin=json.dumps(manifest)))["spec"]
    return stored


def expression(operator: str, *values: str) -> dict[str, Any]:
    requirement = {"key": "zone", "operator": operator, **({"values": list(values)} if values else {})}
    return {"selector": {"matchExpressions": [requirement]}}


def probe(**fields: Any) -> dict[str, Any]:
    return {"name": "p", "tcpSocket": {"port": 80}, **fields}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"addresses": ["10.0.0.200"]}, id="no prefix length"),
        pytest.param({"addresses": ["10.0.0.200/24", "2001:db8::c8/64", "fe80::1/64"]}, id="both families"),
        pytest.param({"addresses": ["2001:0DB8:0:0:0:0:0:C8/64", "::ffff:0:1/96"]}, id="other ways to write IPv6"),
        pytest.param({"version": 2, "authentication": {"simplePassword": "secret"}}, id="version 2"),
        pytest.param({"nopreempt": False, "preemptDelaySeconds": 5}, id="preemption with a delay"),
        pytest.param(
            {"nopreempt": False, "nodes": {"priorities": [{"nodeName": "n1", "priority": 255}]}}, id="an owner"
        ),
        pytest.param({"nodes": expression("In", "a", "b")}, id="In"),
        pytest.param({"nodes": expression("DoesNotExist")}, id="DoesNotExist"),
        pytest.param({"nodes": {"names": ["n1"], "priorities": [{"nodeName": "n1", "priority": 60}]}}, id="names"),
        pytest.param(
            {
                "nodes": {
                    "sourceAddresses": [
                        {"nodeName": "n1", "address": "10.0.0.1"},
                        {"nodeName": "n1", "address": "fe80::1"},
                    ]
                }
            },
            id="two source addresses of a node",
        ),
        pytest.param({"track": {"pods": PODS, "whenFailing": "Release"}}, id="pods"),
        pytest.param({"track": {"probes": [probe(), probe(name="q", periodMilliseconds=100)]}}, id="probes"),
        pytest.param({"transport": "Unicast", "externalPeers": ["10.0.0.9", "fe80::9"]}, id="external peers"),
        pytest.param({"advertisementIntervalMilliseconds": 10, "virtualRouterID": 255}, id="the bounds"),
    ],
)
def test_what_is_valid_is_taken(cluster: KindCluster, holdfast: Holdfast, spec: dict[str, Any]) -> None:
    stored = dry_run(cluster, spec)
    assert {name: stored[name] for name in spec if name not in ("nodes", "track")} == {
        name: value for name, value in spec.items() if name not in ("nodes", "track")
    }


def test_what_is_stored_is_explicit_but_for_what_a_pools_template_may_say(
    cluster: KindCluster, holdfast: Holdfast
) -> None:
    assert dry_run(cluster, {"track": {"pods": PODS}}) == {
        "addresses": ["10.0.0.200/24"],
        "priority": 100,
        "track": {"pods": {**PODS, "minReady": 1}, "whenFailing": "Degrade"},
        "version": 3,
        "preemptDelaySeconds": 0,
        "foreignRouters": "Refuse",
    }


ADDRESS = "must be an IPv4 or IPv6 address"


@pytest.mark.parametrize(
    ("spec", "field", "told"),
    [
        ({"surprise": 1}, "spec.surprise", "unknown field"),
        ({"notify": [{"command": ["/bin/true"]}]}, "spec.notify", "must be left out in a cluster"),
        ({"addresses": []}, "spec.addresses", "should have at least 1 items"),
        ({"addresses": ["web.example/24"]}, "spec.addresses[0]", ADDRESS),
        ({"addresses": ["10.0.0.0.200/24"]}, "spec.addresses[0]", ADDRESS),
        ({"addresses": ["10.0.0.200/255.255.255.0"]}, "spec.addresses[0]", ADDRESS),
        ({"addresses": ["10.0.0.200/24", "fe80::1%eth0/64"]}, "spec.addresses[1]", ADDRESS),
        ({"addresses": ["10.0.0.200/24", "10.0.0.200/24"]}, "spec.addresses[1]", "Duplicate value"),
        ({"priority": 49}, "spec.priority", "greater than or equal to 50"),
        ({"priority": 255}, "spec.priority", "less than or equal to 254"),
        ({"advertisementIntervalMilliseconds": 15}, "spec.advertisementIntervalMilliseconds", "multiple of 10"),
        ({"advertisementIntervalMilliseconds": 5}, "spec.advertisementIntervalMilliseconds", "equal to 10"),
        ({"virtualRouterID": 256}, "spec.virtualRouterID", "less than or equal to 255"),
        ({"version": 4}, "spec.version", "supported values"),
        ({"interface": "eth0/1"}, "spec.interface", "should match"),
        ({"externalPeers": ["10.0.0.9/24"]}, "spec.externalPeers[0]", ADDRESS),
        (
            {"nodes": {"sourceAddresses": [{"nodeName": "n1", "address": "n1"}]}},
            "spec.nodes.sourceAddresses[0].address",
            ADDRESS,
        ),
        (
            {"version": 2, "advertisementIntervalMilliseconds": 1500},
            "spec.advertisementIntervalMilliseconds",
            "must be a multiple of 1000 with version 2",
        ),
        (
            {"version": 2, "addresses": ["fd00::1/64"]},
            "spec.addresses",
            "must be IPv4 addresses with version 2",
        ),
        (
            {"authentication": {"simplePassword": "secret"}},
            "spec.authentication",
            "must be left out with version 3: only version 2 has passwords",
        ),
        (
            {"version": 2, "authentication": {"simplePassword": "ninechars"}},
            "spec.authentication.simplePassword",
            "may not be more than 8",
        ),
        (
            {"nopreempt": True, "preemptDelaySeconds": 1},
            "spec.preemptDelaySeconds",
            "must be 0 or left out unless nopreempt is false",
        ),
        (
            {"nopreempt": True, "nodes": {"priorities": [{"nodeName": "n1", "priority": 255}]}},
            "spec.nodes.priorities",
            "must be below 255 unless nopreempt is false",
        ),
        (
            {
                "nopreempt": False,
                "nodes": {"priorities": [{"nodeName": name, "priority": 255} for name in ("n1", "n2")]},
            },
            "spec.nodes.priorities",
            "must have priority 255 for one node at most",
        ),
        (
            {"nodes": {"names": ["n1"], "priorities": [{"nodeName": "n2", "priority": 60}]}},
            "spec.nodes.priorities",
            "must name nodes of spec.nodes.names",
        ),
        (
            {"nodes": {"priorities": [{"nodeName": "n1", "priority": 60}, {"nodeName": "n1", "priority": 70}]}},
            "spec.nodes.priorities[1]",
            "Duplicate value",
        ),
        ({"nodes": {"names": ["n1", "n1"]}}, "spec.nodes.names[1]", "Duplicate value"),
        ({"nodes": expression("In")}, "spec.nodes.selector.matchExpressions[0]", "values must be given for In"),
        ({"nodes": expression("Exists", "a")}, "spec.nodes.selector.matchExpressions[0]", "left out for Exists"),
        ({"nodes": expression("Is", "a")}, "spec.nodes.selector.matchExpressions[0].operator", "supported values"),
        ({"track": {"pods": {}}}, "spec.track.pods.selector", "Required value"),
        ({"track": {"probes": [{"name": "p"}]}}, "spec.track.probes[0]", "must have exactly one of"),
        (
            {"track": {"probes": [probe(httpGet={"port": 80})]}},
            "spec.track.probes[0]",
            "must have exactly one of exec, tcpSocket and httpGet",
        ),
        (
            {"track": {"probes": [{"name": "p", "exec": {"command": ["true"]}}]}},
            "spec.track.probes[0].exec",
            "must be left out in a cluster",
        ),
        (
            {"track": {"probes": [probe(periodSeconds=1, periodMilliseconds=100)]}},
            "spec.track.probes[0]",
            "must have at most one of periodSeconds and periodMilliseconds",
        ),
        ({"track": {"probes": [probe(), probe()]}}, "spec.track.probes[1]", "Duplicate value"),
        (
            {"track": {"probes": [{"name": "p", "httpGet": {"port": 80, "path": "ok"}}]}},
            "spec.track.probes[0].httpGet.path",
            "should match",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_valid_is_refused_with_its_field_and_what_it_must_be(
    cluster: KindCluster, holdfast: Holdfast, spec: dict[str, Any], field: str, told: str
) -> None:
    with pytest.raises(ClusterError) as refused:
        dry_run(cluster, spec)
    message = str(refused.value)
    # kubectl quotes an unknown field, and ends any other with a colon.
    assert re.search(rf'(?<![\w.]){re.escape(field)}[":]', message), message
    assert told in message


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("vip", "kept on the healthiest node"),
        ("vip.spec.track.pods", "How many of them must be ready"),
        ("vip.spec.track.probes", "exactly one of tcpSocket and httpGet"),
        ("vip.spec.nodes.priorities", "The priority of one node"),
        ("vip.status.nodes", "What one node's engine says of the VirtualIP"),
        ("speakerconfig.spec.virtualRouters", "The virtual routers that its engine runs"),
    ],
)
def test_kubectl_explain_tells_what_a_field_is(cluster: KindCluster, holdfast: Holdfast, field: str, told: str) -> None:
    explained = " ".join(cluster.kubectl("explain", field).split())
    assert told in explained
