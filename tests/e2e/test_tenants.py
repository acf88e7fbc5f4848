"""A user of a namespace, with the rights that docs/kubernetes.md gives, tries what would take others' addresses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest

from holdfast_testing.figures import Figures
from holdfast_testing.kind_cluster import ClusterError, KindCluster
from holdfast_testing.kubernetes_vips import Holdfast, MakeVip, Vip, address_pools
from holdfast_testing.link_watch import AddressWatch

pytestmark = pytest.mark.kind

NAMESPACE = "shop"
USER = "tenant"
REFUSED_SECONDS = 30
PROBE = {"name": "p", "tcpSocket": {"port": 80}}


@dataclass
class Tenant:
    """A user who may edit VirtualIPs in one namespace."""

    cluster: KindCluster

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl prints for this user. Raises ClusterError when it fails."""
        return self.cluster.kubectl("--as", USER, "-n", NAMESPACE, *words, stdin=stdin)

    def apply(self, name: str, addresses: list[str] | None, **spec: Any) -> str:
        """`kubectl apply` of a VirtualIP; what the API server said when it refused, empty when it took it."""
        workers = [node.name for node in self.cluster.workers()]
        manifest = {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "VirtualIP",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                **({} if addresses is None else {"addresses": addresses}),
                "advertisementIntervalMilliseconds": 100,
                "nodes": {"names": workers},
                **spec,
            },
        }
        try:
            self.kubectl("apply", "--validate=strict", "--filename", "-", stdin=json.dumps(manifest))
        except ClusterError as error:
            return str(error)
        return ""

    def accepted(self, name: str) -> dict[str, Any]:
        """Its condition Accepted; empty while there is none."""
        status = self.cluster.get("vip", name, "-n", NAMESPACE).get("status", {})
        return next((found for found in status.get("conditions", ()) if found["type"] == "Accepted"), {})


@pytest.fixture
def tenant(cluster: KindCluster, holdfast: Holdfast) -> Iterator[Tenant]:
    """The user, with a RoleBinding to holdfast-edit, and nothing else."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("create", "rolebinding", USER, "-n", NAMESPACE, "--clusterrole=holdfast-edit", f"--user={USER}")
    yield Tenant(cluster)
    cluster.kubectl("delete", "namespace", NAMESPACE)


def forbidden_addresses(cluster: KindCluster) -> dict[str, str]:
    """What nobody may have in a cluster, pools or not, by a name for each; with the link's prefix length where it is
    the link's, so that no other reason refuses it."""
    segment = cluster.segment()
    length, length_v6 = segment.subnet.prefixlen, segment.subnet_v6.prefixlen if segment.subnet_v6 else 64
    found = {}
    for node in cluster.nodes():
        short = node.name.removeprefix("holdfast-")
        found[f"node-{short}"] = f"{node.address}/{length}"
        if node.address_v6 is not None:
            found[f"node-v6-{short}"] = f"{node.address_v6}/{length_v6}"
        pods = cluster.get("node", node.name)["spec"]["podCIDR"]
        found[f"pod-gateway-{short}"] = f"{ip_network(pods)[1]}/24"
        found[f"pod-{short}"] = f"{ip_network(pods)[7]}/32"
    found["default-gateway"] = f"{segment.gateway}/{length}"
    if segment.subnet_v6 is not None:
        found["default-gateway-v6"] = f"{segment.subnet_v6[1]}/{length_v6}"
    service = cluster.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    found["api-service"] = f"{service}/32"
    found["api-service-on-the-link"] = f"{service}/{length}"
    found["another-service"] = f"{ip_network(f'{service}/16', strict=False)[4711]}/32"
    endpoints = cluster.items("endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes")
    for number, address in enumerate(endpoints[0]["endpoints"][0]["addresses"]):
        found[f"api-endpoint-{number}"] = f"{address}/{length}"
    found |= {
        "loopback": "127.0.0.2/8",
        "loopback-v6": "::1/128",
        "metadata": "169.254.169.254/16",
        "link-local": "169.254.7.7/16",
        "multicast": "224.0.0.7/24",
        "multicast-v6": "ff02::7/64",
        "mapped": f"::ffff:{segment.gateway}/64",
        "somebody": "8.8.8.8/32",
        "unspecified": "0.0.0.0/0",
        "broadcast": f"{segment.subnet.broadcast_address}/{length}",
    }
    return found


def told(cluster: KindCluster, tenant: Tenant, names: list[str]) -> dict[str, dict[str, Any]]:
    """The condition Accepted of each, as soon as all have one."""
    found: dict[str, dict[str, Any]] = {}

    def all_are_told() -> bool:
        found.update({name: tenant.accepted(name) for name in names})
        return all(found.values())

    cluster.wait_for(all_are_told, REFUSED_SECONDS, "a word of every VirtualIP")
    return found


def test_no_address_of_nodes_of_the_api_server_and_of_the_cluster_can_be_had(
    cluster: KindCluster, tenant: Tenant, make_vip: MakeVip, figures: Figures
) -> None:
    running = make_vip("beside-tenants").ready()
    holder = running.held_by_one()
    wanted = forbidden_addresses(cluster)
    owners = {name: cluster.holders(text.split("/")[0]) for name, text in wanted.items()}
    with AddressWatch(cluster) as watch, running.probing() as probing:
        # With an interface, so that it is the address that is refused, and not that no node has a subnet for it. Whose
        # 8.8.8.8 is, only pools can say.
        stored = [
            name
            for name, text in wanted.items()
            if not tenant.apply(name, [text], **({} if name == "somebody" else {"interface": "eth0"}))
        ]
        conditions = told(cluster, tenant, stored)
        time.sleep(3)
        assert "ok" in cluster.kubectl("get", "--raw=/readyz")
        # A stored one that is edited into another's address is no other door.
        assert tenant.apply("moving", [f"{cluster.free_address()}/{cluster.segment().subnet.prefixlen}"]) == ""
        cluster.wait_for(lambda: tenant.accepted("moving"), REFUSED_SECONDS, "a word")
        tenant.apply("moving", [wanted["node-control-plane"]])
        time.sleep(3)
    taken = {
        name: sorted(watch.ever_held(text.split("/")[0]) - set(owners[name]))
        for name, text in wanted.items()
        if watch.ever_held(text.split("/")[0]) - set(owners[name])
    }
    figures.add(
        "a tenant's tries for addresses of nodes, API server and cluster: held", f"of {len(wanted)}", len(taken)
    )
    assert taken == {}
    accepted = {name: found for name, found in conditions.items() if found["status"] != "False"}
    assert accepted == {}
    for name, found in conditions.items():
        no_address_of_a_host = ("loopback", "multicast", "mapped", "unspecified", "broadcast")
        reason = "Invalid" if name.startswith(no_address_of_a_host) else "AddressNotPermitted"
        assert found["reason"] == ("NoMatchingSubnet" if name == "somebody" else reason), (name, found)
    assert probing.result().lost == 0
    assert running.held_by_one() == holder
    assert tenant.accepted("moving")["status"] == "False"


def test_what_a_tenant_can_make_nodes_do_is_bounded(cluster: KindCluster, tenant: Tenant) -> None:
    length = cluster.segment().subnet.prefixlen
    tries: dict[str, dict[str, Any]] = {
        "probes-a-foreign-host": {"track": {"probes": [{"name": "p", "tcpSocket": {"host": "8.8.8.8", "port": 80}}]}},
        "probes-the-api-server": {
            "track": {
                "probes": [{"name": "p", "tcpSocket": {"host": str(cluster.control_plane().address), "port": 6443}}]
            }
        },
        "probes-by-name": {"track": {"probes": [{"name": "p", "httpGet": {"host": "example.org", "port": 80}}]}},
        "probes-too-often": {"track": {"probes": [{**PROBE, "periodMilliseconds": 10}]}},
        "runs-a-command": {"track": {"probes": [{"name": "p", "exec": {"command": ["reboot"]}}]}},
        "owns": {
            "nopreempt": False,
            "nodes": {"priorities": [{"nodeName": cluster.workers()[0].name, "priority": 255}]},
        },
    }
    answers = {name: tenant.apply(name, [f"{cluster.free_address()}/{length}"], **spec) for name, spec in tries.items()}
    conditions = told(cluster, tenant, [name for name, answer in answers.items() if not answer])
    assert {name: found for name, found in conditions.items() if found["status"] != "False"} == {}
    held = [
        name
        for name in conditions
        for text in cluster.get("vip", name, "-n", NAMESPACE)["spec"]["addresses"]
        if cluster.holders(text.split("/")[0])
    ]
    assert held == []


def test_a_tenant_s_rights_end_at_its_own_virtual_ips(cluster: KindCluster, tenant: Tenant) -> None:
    def may(*words: str) -> bool:
        try:
            return cluster.kubectl("auth", "can-i", *words, f"--as={USER}").strip() == "yes"
        except ClusterError:
            return False

    for verb in ("create", "update", "patch", "delete", "list", "watch"):
        assert may(verb, "virtualips.holdfast.dev", "-n", NAMESPACE), verb
    for words in (
        ("create", "virtualips.holdfast.dev", "-n", "default"),
        ("list", "virtualips.holdfast.dev", "-A"),
        ("patch", "virtualips.holdfast.dev", "--subresource=status", "-n", NAMESPACE),
        ("create", "addresspools.holdfast.dev"),
        ("patch", "addresspools.holdfast.dev"),
        ("delete", "addresspools.holdfast.dev"),
        ("create", "speakerconfigs.holdfast.dev"),
        ("patch", "speakerconfigs.holdfast.dev"),
        ("patch", "speakerconfigs.holdfast.dev", "--subresource=status"),
        ("get", "secrets", "-n", NAMESPACE),
        ("create", "pods", "-n", NAMESPACE),
        ("patch", "nodes"),
    ):
        assert not may(*words), words


def test_a_tenant_has_addresses_of_its_pools_alone_and_what_ran_before_goes_on(
    cluster: KindCluster, tenant: Tenant, make_vip: MakeVip, figures: Figures
) -> None:
    length = cluster.segment().subnet.prefixlen
    running = make_vip("before-pools").ready()
    holder = running.held_by_one()
    own, other, outside = cluster.free_address(), cluster.free_address(), cluster.free_address()
    with (
        running.probing() as probing,
        address_pools(
            cluster,
            ("shop", {"addresses": [f"{own}/32"], "namespaces": {"names": [NAMESPACE]}, "autoAssign": True}),
            ("others", {"addresses": [f"{other}/32"], "namespaces": {"names": ["default"]}}),
        ),
    ):
        assert tenant.apply("outside", [f"{outside}/{length}"]) == ""
        assert tenant.apply("of-others", [f"{other}/{length}"]) == ""
        assert tenant.apply("given", None) == ""
        conditions = told(cluster, tenant, ["outside", "of-others", "given"])
        assert conditions["given"]["status"] == "True", conditions["given"]
        for name in ("outside", "of-others"):
            assert conditions[name]["status"] == "False"
            assert conditions[name]["reason"] == "AddressNotPermitted"
            assert "shop" in conditions[name]["message"], "it says which pools would do"
        given = Vip(cluster, "given", own, [], namespace=NAMESPACE)
        cluster.wait_for(lambda: len(cluster.holders(own)) == 1, 30, "the given address is held")
        assert [text.split("/")[0] for text in given.status["addresses"]] == [own]
        cluster.wait_for(lambda: running.condition("Accepted").get("status") == "False", 30, "it is told")
        time.sleep(1)
        assert running.held_by_one() == holder, "what ran goes on"
        assert [address for address in (other, outside) if cluster.holders(address)] == []
        # The last pool's deletion does not open the door again.
        cluster.kubectl("delete", "addresspools", "--all")
        assert tenant.apply("afterwards", [f"{cluster.free_address()}/{length}"]) == ""
        assert told(cluster, tenant, ["afterwards"])["afterwards"]["reason"] == "AddressNotPermitted"
    figures.add("a first pool without a running VIP's address: lost probes of 1 ms", "probes", probing.result().lost)
    assert (probing.result().lost, probing.result().moves) == (0, 0)
