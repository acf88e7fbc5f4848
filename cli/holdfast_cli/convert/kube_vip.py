"""kube-vip's Pods, DaemonSets and address ranges: a VirtualIP of the API server, and AddressPools for Services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from holdfast_api.addresses import parse_address
from holdfast_api.pools import AddressPool, AddressPoolSpec, PoolMetadata, PoolNamespaces
from holdfast_api.resources import (
    HTTPGetAction,
    LabelSelector,
    Metadata,
    NodeSelection,
    Probe,
    Track,
    VirtualIP,
    VirtualIPSpec,
)
from holdfast_cli.convert.ledger import Kind, Ledger
from holdfast_cli.convert.objects import Manifest, mapping

_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
_IMAGES = ("kube-vip", "kube-vip-iptables")
_RANGES = "kubevip"
_API_SERVER_PORT = 6443

_CARRIED: Final = frozenset(
    ("vip_arp", "vip_interface", "vip_address", "address", "vip_cidr", "vip_subnet", "port", "cp_enable", "svc_enable")
)
_LEFT_OUT: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("vip_leaderelection", "vip_leasename", "vip_leaseduration", "vip_renewdeadline", "vip_retryperiod"),
        "VRRP elects the holder, without a Lease: the advertisement interval decides how fast",
    ),
    **dict.fromkeys(
        ("bgp_enable", "bgp_routerid", "bgp_as", "bgp_peeraddress", "bgp_peerpass", "bgp_peeras", "bgp_peers"),
        "Holdfast speaks VRRP, and no BGP",
    ),
    **dict.fromkeys(("lb_enable", "lb_port", "lb_fwdmethod"), "Holdfast balances no load: kube-proxy does"),
    "svc_election": "each VIP has an election of its own anyway",
    "prometheus_server": "the chart's `metrics` values",
    "vip_nodename": "the speakers know their node",
    "cp_namespace": "the VirtualIP is in kube-system",
}


def knows(manifest: Manifest) -> bool:
    """Whether it runs kube-vip, or has its ranges."""
    return _is_the_ranges(manifest) or bool(_containers(manifest))


def resources(manifests: Sequence[Manifest], ledger: Ledger) -> Iterator[VirtualIP | AddressPool]:
    """The VirtualIP of the API server, with a pool that admits its addresses, and an AddressPool for each range."""
    known: VirtualIP | None = None
    for manifest in manifests:
        for container in _containers(manifest):
            for virtual_ip in _virtual_ip(manifest, _environment(container), ledger):
                if known is not None and virtual_ip != known:
                    manifest.refuse(
                        ledger, "address", "must be the same in all files: there is one VIP of the API server"
                    )
                elif known is None:
                    known = virtual_ip
                    yield _pool_of(virtual_ip)
                    yield virtual_ip
        if _is_the_ranges(manifest):
            yield from _pools(manifest, ledger)


def _is_the_ranges(manifest: Manifest) -> bool:
    return manifest.kind == "ConfigMap" and manifest.name == _RANGES


def _pod(manifest: Manifest) -> dict[str, Any]:
    if manifest.kind == "Pod":
        return manifest.spec
    return mapping(mapping(manifest.spec.get("template")).get("spec"))


def _containers(manifest: Manifest) -> list[dict[str, Any]]:
    found = _pod(manifest).get("containers")
    listed = [mapping(one) for one in found] if isinstance(found, list) else []
    return [one for one in listed if _image_name(str(one.get("image", ""))) in _IMAGES]


def _image_name(image: str) -> str:
    """Without registry, tag and digest."""
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0]


def _environment(container: dict[str, Any]) -> dict[str, str]:
    entries = [mapping(one) for one in container.get("env") or []]
    return {str(one.get("name")): str(one.get("value", "")) for one in entries}


def _virtual_ip(manifest: Manifest, said: Mapping[str, str], ledger: Ledger) -> Iterator[VirtualIP]:
    for name, value in said.items():
        if name in _LEFT_OUT:
            manifest.note(ledger, name, Kind.LEFT_OUT, _LEFT_OUT[name])
        elif name not in _CARRIED:
            manifest.note(ledger, name, Kind.LEFT_OUT, f"{value}: is not known here".removeprefix(": "))
    if said.get("vip_arp") == "false":
        manifest.note(
            ledger, "vip_arp", Kind.DIFFERS, "without ARP the address was routed; a VIP is on its nodes' link"
        )
    if said.get("svc_enable") == "true":
        text = "Services of the class holdfast.dev/vrrp get an address of an AddressPool: that of the ConfigMap kubevip"
        manifest.note(ledger, "svc_enable", Kind.NOTE, text)
    written = said.get("address") or said.get("vip_address") or ""
    if not written or said.get("cp_enable") == "false":
        manifest.note(ledger, "address", Kind.LEFT_OUT, "there is no VIP of the API server to hold")
        return
    addresses = [text.strip() for text in written.split(",") if text.strip()]
    for text in addresses:
        if parse_address(text) is None:
            manifest.refuse(ledger, "address", f"must be an IPv4 or IPv6 address, not {text!r}: no VIP has a name")
            return
    for name in ("vip_cidr", "vip_subnet"):
        if name in said:
            text = "the length of the prefix says nothing: a VIP is a /32 or /128 on its node"
            manifest.note(ledger, name, Kind.NOTE, text)
    port = said.get("port", "")
    probe = Probe(
        name="api-server",
        http_get=HTTPGetAction(
            port=int(port) if port.isascii() and port.isdecimal() else _API_SERVER_PORT,
            scheme="HTTPS",
            path="/livez",
            expect_status=[200, 401, 403],
        ),
        period_seconds=1,
    )
    text = (
        "kube-vip follows its own leader; here a node whose API server does not answer on /livez gives way. The "
        "operator plans it through an API server: before there is one, `holdfast run` on the hosts holds it"
    )
    manifest.note(ledger, "address", Kind.DIFFERS, text)
    yield VirtualIP(
        metadata=Metadata(name="api-server", namespace="kube-system"),
        spec=VirtualIPSpec(
            addresses=addresses,
            interface=said.get("vip_interface") or None,
            nodes=NodeSelection(selector=LabelSelector(match_labels={_CONTROL_PLANE: ""})),
            track=Track(probes=[probe]),
        ),
    )


def _pool_of(virtual_ip: VirtualIP) -> AddressPool:
    """As soon as a cluster has a pool, an address must be of one (docs/kubernetes.md)."""
    return AddressPool(
        metadata=PoolMetadata(name=virtual_ip.metadata.name),
        spec=AddressPoolSpec(
            addresses=virtual_ip.spec.addresses, namespaces=PoolNamespaces(names=[virtual_ip.metadata.namespace])
        ),
    )


def _pools(manifest: Manifest, ledger: Ledger) -> Iterator[AddressPool]:
    """`range-NAMESPACE` and `cidr-NAMESPACE`; `global` is every namespace."""
    entries: dict[str, list[str]] = {}
    for key, value in mapping(manifest.value.get("data")).items():
        form, _, namespace = str(key).partition("-")
        if form in ("range", "cidr") and namespace:
            entries.setdefault(namespace, []).extend(text.strip() for text in str(value).split(",") if text.strip())
        else:
            manifest.note(ledger, f"data.{key}", Kind.LEFT_OUT, "is neither a range nor a cidr")
    for namespace, addresses in entries.items():
        everybody = namespace == "global"
        yield AddressPool(
            metadata=PoolMetadata(name=f"kube-vip-{namespace}"),
            spec=AddressPoolSpec(
                addresses=addresses,
                auto_assign=True,
                namespaces=PoolNamespaces(names=[] if everybody else [namespace]),
            ),
        )
