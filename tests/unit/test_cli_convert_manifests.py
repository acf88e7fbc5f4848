"""What becomes of MetalLB's and kube-vip's manifests, and the sentence in the report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from holdfast_api.errors import ConfigurationErrors
from holdfast_api.pools import AddressPool
from holdfast_api.resources import VirtualIP
from holdfast_cli.convert import Input
from holdfast_cli.convert.manifests import ConvertedManifests, are_manifests, convert_manifests

POOL = """\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: shop, namespace: metallb-system}
spec:
  addresses: [192.168.10.0/24, 192.168.9.1 - 192.168.9.5, "2001:db8::/120"]
"""
ALL = """\
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all, namespace: metallb-system}
"""
KUBE_VIP = """\
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-vip-ds, namespace: kube-system}
spec:
  template:
    spec:
      containers:
      - name: kube-vip
        image: ghcr.io/kube-vip/kube-vip:v0.8.7
        args: [manager]
        env:
        - {name: vip_arp, value: "true"}
        - {name: port, value: "6443"}
        - {name: vip_interface, value: ens3}
        - {name: vip_subnet, value: "32"}
        - {name: cp_enable, value: "true"}
        - {name: svc_enable, value: "true"}
        - {name: vip_leaderelection, value: "true"}
        - {name: vip_nodename, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: address, value: 192.168.0.40}
        - {name: something_new, value: "1"}
"""


def converted(folder: Path, text: str) -> ConvertedManifests:
    file = folder / "manifest.yaml"
    file.write_text(text, encoding="utf-8")
    inputs = [Input(file)]
    assert are_manifests(inputs)
    return convert_manifests(inputs)


def refusal(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationErrors) as refused:
        converted(folder, text)
    return [str(error).partition("manifest.yaml")[2] for error in refused.value.errors]


def pool(conversion: ConvertedManifests) -> AddressPool:
    (made,) = conversion.made
    assert isinstance(made, AddressPool)
    return made


def test_a_pool_that_is_announced_becomes_one_that_gives_addresses_unasked(tmp_path: Path) -> None:
    conversion = converted(tmp_path, POOL + ALL)
    made = pool(conversion)
    assert made.metadata.name == "shop"
    assert made.spec.addresses == ["192.168.10.0/24", "192.168.9.1-192.168.9.5", "2001:db8::/120"]
    assert made.spec.auto_assign
    assert not made.spec.namespaces.names
    assert made.spec.virtual_ip_template.nodes is None
    assert msgspec.convert(yaml.safe_load(conversion.yaml), AddressPool) == made
    assert any("192.168.10.0/24: without the addresses that no host has there" in line for line in conversion.report)


def test_namespaces_nodes_and_an_interface_are_carried_over(tmp_path: Path) -> None:
    text = (
        POOL
        + "  autoAssign: false\n  serviceAllocation:\n    priority: 50\n    namespaces: [a, b]\n"
        + "    namespaceSelectors: [{matchLabels: {team: x}}]\n"
        + ALL
        + "spec: {ipAddressPools: [shop], interfaces: [eth1], nodeSelectors: [{matchLabels: {edge: 'true'}}]}\n"
    )
    conversion = converted(tmp_path, text)
    spec = pool(conversion).spec
    assert not spec.auto_assign
    assert (spec.namespaces.names, spec.namespaces.selector.match_labels if spec.namespaces.selector else {}) == (
        ["a", "b"],
        {"team": "x"},
    )
    nodes = spec.virtual_ip_template.nodes
    assert nodes is not None
    assert nodes.selector is not None
    assert (spec.virtual_ip_template.interface, nodes.selector.match_labels) == ("eth1", {"edge": "true"})
    assert any("priority: left out: of several pools" in line for line in conversion.report)


def test_fields_that_are_not_known_are_told_in_their_order(tmp_path: Path) -> None:
    fields = ["zebra", "apple", "mango", "banana", "cherry", "grape"]
    said = "".join(f"  {field}: 1\n" for field in fields)
    conversion = converted(tmp_path, POOL + said + ALL + f"spec:\n{said}")
    (told,) = [line for line in conversion.report if line.endswith(": left out: is not known here")]
    assert [word.strip(",:") for word in told.split() if word.startswith("spec.")] == [f"spec.{f}" for f in fields] * 2


def test_who_may_have_addresses_is_never_widened(tmp_path: Path) -> None:
    by_service = converted(tmp_path, POOL + "  serviceAllocation: {serviceSelectors: [{matchLabels: {a: b}}]}\n" + ALL)
    assert not pool(by_service).spec.auto_assign
    two = POOL + "  serviceAllocation: {namespaceSelectors: [{matchLabels: {a: b}}, {matchLabels: {c: d}}]}\n" + ALL
    assert "must not have 2: an AddressPool has one" in refusal(tmp_path, two)[0]
    nodes = ALL + "spec: {nodeSelectors: [{matchLabels: {a: b}}, {matchLabels: {c: d}}]}\n"
    assert "must not have 2: an AddressPool has one" in refusal(tmp_path, POOL + nodes)[0]
    labels = ALL + "spec: {ipAddressPoolSelectors: [{matchLabels: {a: b}}]}\n"
    assert "must be names in ipAddressPools" in refusal(tmp_path, POOL + labels)[0]
    other = ALL + ALL.replace("name: all", "name: other") + "spec: {interfaces: [eth1]}\n"
    assert "which name other nodes or interfaces" in refusal(tmp_path, POOL + other)[0]


def test_a_pool_that_nothing_announces_and_what_is_of_bgp_are_left_out(tmp_path: Path) -> None:
    bgp = "---\napiVersion: metallb.io/v1beta1\nkind: BGPPeer\nmetadata: {name: peer}\nspec: {myASN: 64500}\n"
    elsewhere = ALL + "spec: {ipAddressPools: [shop]}\n"
    conversion = converted(tmp_path, POOL + elsewhere + "---\n" + POOL.replace("name: shop", "name: routed") + bgp)
    assert pool(conversion).metadata.name == "shop"
    told = "\n".join(conversion.report)
    assert "IPAddressPool routed: spec: left out: no L2Advertisement announces it" in told
    assert "BGPPeer peer: spec: left out: Holdfast speaks VRRP, and no BGP" in told


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            POOL.replace("192.168.10.0/24", "192.168.10.0/33") + ALL,
            "IPAddressPool shop: spec.addresses: must be a prefix",
        ),
        (POOL.replace("name: shop, ", "") + ALL, "makes no AddressPool"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: web}\n", "no file has an IPAddressPool or a kube-vip"),
        ("apiVersion: v1\nkind: [\n", "is not YAML"),
    ],
)
def test_what_makes_no_resource_is_an_error(tmp_path: Path, text: str, error: str) -> None:
    assert any(error in found for found in refusal(tmp_path, text))


def test_kube_vip_becomes_a_virtual_ip_of_the_control_planes_and_its_pool(tmp_path: Path) -> None:
    conversion = converted(tmp_path, KUBE_VIP)
    admitted, virtual_ip = conversion.made
    assert isinstance(virtual_ip, VirtualIP)
    assert isinstance(admitted, AddressPool)
    assert (virtual_ip.metadata.namespace, virtual_ip.spec.addresses, virtual_ip.spec.interface) == (
        "kube-system",
        ["192.168.0.40"],
        "ens3",
    )
    assert virtual_ip.spec.nodes.selector is not None
    assert virtual_ip.spec.nodes.selector.match_labels == {"node-role.kubernetes.io/control-plane": ""}
    (probe,) = virtual_ip.spec.track.probes
    assert probe.http_get is not None
    assert (probe.http_get.port, probe.http_get.scheme, probe.http_get.path) == (6443, "HTTPS", "/livez")
    assert (admitted.spec.addresses, admitted.spec.namespaces.names, admitted.spec.auto_assign) == (
        ["192.168.0.40"],
        ["kube-system"],
        False,
    )
    told = "\n".join(conversion.report)
    for name in ("vip_leaderelection", "vip_nodename", "vip_subnet", "svc_enable", "something_new"):
        assert f": DaemonSet kube-vip-ds: {name}: " in told


def test_the_same_static_pod_of_several_hosts_is_one_and_others_are_refused(tmp_path: Path) -> None:
    conversion = converted(tmp_path, KUBE_VIP + "---\n" + KUBE_VIP)
    assert [one.kind for one in conversion.made] == ["AddressPool", "VirtualIP"]
    assert "must be the same in all files" in refusal(tmp_path, KUBE_VIP + "---\n" + KUBE_VIP.replace(".40", ".41"))[0]


def test_ranges_for_services_become_pools_of_their_namespaces(tmp_path: Path) -> None:
    text = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kubevip, namespace: kube-system}\n"
        "data: {range-global: 192.168.0.200-192.168.0.210, cidr-shop: '10.0.0.0/28,10.0.1.0/28', other: 'true'}\n"
    )
    made = converted(tmp_path, text).made
    assert [(one.metadata.name, one.spec.addresses) for one in made] == [
        ("kube-vip-global", ["192.168.0.200-192.168.0.210"]),
        ("kube-vip-shop", ["10.0.0.0/28", "10.0.1.0/28"]),
    ]
    assert [one.spec.namespaces.names for one in made if isinstance(one, AddressPool)] == [[], ["shop"]]


def test_a_name_is_no_address_of_a_vip(tmp_path: Path) -> None:
    assert "no VIP has a name" in refusal(tmp_path, KUBE_VIP.replace("192.168.0.40", "api.example"))[0]


def test_the_command_tells_manifests_from_keepalived_s_files(tmp_path: Path) -> None:
    manifest, keepalived = tmp_path / "manifest.yaml", tmp_path / "n1.conf"
    manifest.write_text(POOL + ALL, encoding="utf-8")
    keepalived.write_text("vrrp_instance V {\n}\n", encoding="utf-8")
    assert not are_manifests([Input(keepalived)])
    command = [sys.executable, "-P", "-m", "holdfast_cli.main", "convert"]
    made = subprocess.run([*command, str(manifest)], capture_output=True, text=True, check=True)
    assert made.stdout.startswith("apiVersion: holdfast.dev/v1alpha1\nkind: AddressPool\n")
    both = subprocess.run([*command, str(manifest), str(keepalived)], capture_output=True, text=True, check=False)
    assert both.returncode == 2
    reason = "is a Kubernetes manifest, and other files are keepalived's: convert them by themselves"
    assert both.stderr == f"error: {manifest}: {reason}\n"
