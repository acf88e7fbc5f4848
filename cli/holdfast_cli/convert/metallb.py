"""MetalLB's IPAddressPools and L2Advertisements: AddressPools, and where their addresses may live."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import Any

import msgspec

from holdfast_api.pools import (
    AddressPool,
    AddressPoolSpec,
    PoolMetadata,
    PoolNamespaces,
    TemplateNodes,
    VirtualIPTemplate,
)
from holdfast_cli.convert.ledger import Kind, Ledger
from holdfast_cli.convert.objects import Manifest, mapping, only_one, selector

_GROUP = "metallb.io"
_OF_BGP = ("BGPAdvertisement", "BGPPeer", "BFDProfile", "Community")
_OF_A_POOL = ("addresses", "autoAssign", "avoidBuggyIPs", "serviceAllocation")
_OF_AN_ALLOCATION = ("priority", "namespaces", "namespaceSelectors", "serviceSelectors")
_OF_AN_ADVERTISEMENT = ("ipAddressPools", "ipAddressPoolSelectors", "nodeSelectors", "interfaces")
_RANGE = re.compile(r"\s*-\s*")


def knows(manifest: Manifest) -> bool:
    """Whether it is one of MetalLB's own."""
    return manifest.group == _GROUP


def pools(manifests: Sequence[Manifest], ledger: Ledger) -> Iterator[AddressPool]:
    """An AddressPool for each IPAddressPool that an L2Advertisement announces."""
    own = [manifest for manifest in manifests if knows(manifest)]
    announcements = [manifest for manifest in own if manifest.kind == "L2Advertisement"]
    for manifest in own:
        if manifest.kind == "IPAddressPool":
            announced_by = [one for one in announcements if _announces(one, manifest)]
            if announced_by:
                yield from _pool(manifest, announced_by, ledger)
            else:
                text = "no L2Advertisement announces it: it is BGP's or nobody's"
                manifest.note(ledger, "spec", Kind.LEFT_OUT, text)
        elif manifest.kind in _OF_BGP:
            manifest.note(ledger, "spec", Kind.LEFT_OUT, "Holdfast speaks VRRP, and no BGP")
        elif manifest.kind != "L2Advertisement":
            manifest.note(ledger, "spec", Kind.LEFT_OUT, "concerns MetalLB's own processes")
    for one in announcements:
        if one.spec.get("ipAddressPoolSelectors"):
            one.refuse(ledger, "spec.ipAddressPoolSelectors", "must be names in ipAddressPools to be converted")
        if not any(_announces(one, manifest) for manifest in own if manifest.kind == "IPAddressPool"):
            one.note(ledger, "spec", Kind.LEFT_OUT, "no IPAddressPool of these files is announced by it")


def _announces(advertisement: Manifest, pool: Manifest) -> bool:
    """One that names none announces all; what selects pools by their labels is refused where it is read."""
    names = advertisement.spec.get("ipAddressPools") or []
    return not names or pool.name in names


def _pool(manifest: Manifest, announced_by: Sequence[Manifest], ledger: Ledger) -> Iterator[AddressPool]:
    addresses = list(_addresses(manifest, ledger))
    allocation = mapping(manifest.spec.get("serviceAllocation"))
    if "priority" in allocation:
        text = "of several pools that fit the oldest is taken"
        manifest.note(ledger, "spec.serviceAllocation.priority", Kind.LEFT_OUT, text)
    automatic = manifest.spec.get("autoAssign", True) is not False
    if allocation.get("serviceSelectors"):
        automatic = False
        text = "a Service asks for a pool by its name (`holdfast.dev/pool`): none is given an address of it unasked"
        manifest.note(ledger, "spec.serviceAllocation.serviceSelectors", Kind.DIFFERS, text)
    manifest.note_unknown(ledger, "spec", manifest.spec, _OF_A_POOL)
    manifest.note_unknown(ledger, "spec.serviceAllocation", allocation, _OF_AN_ALLOCATION)
    spec = {
        "addresses": addresses,
        "autoAssign": automatic,
        "namespaces": msgspec.to_builtins(_namespaces(manifest, allocation, ledger)),
        "virtualIPTemplate": msgspec.to_builtins(_template(manifest, announced_by, ledger)),
    }
    try:
        yield AddressPool(
            metadata=msgspec.convert({"name": manifest.name}, PoolMetadata), spec=msgspec.convert(spec, AddressPoolSpec)
        )
    except msgspec.ValidationError as error:
        manifest.refuse(ledger, "spec", f"makes no AddressPool: {error}")


def _addresses(manifest: Manifest, ledger: Ledger) -> Iterator[str]:
    for written in manifest.spec.get("addresses") or []:
        text = _RANGE.sub("-", str(written).strip())
        yield text
        try:
            network = ip_network(text, strict=False) if "/" in text else None
        except ValueError:
            manifest.refuse(ledger, "spec.addresses", f"must be a prefix or a range, not {text!r}")
            continue
        if network is not None and network.num_addresses > 2:
            told = f"{text}: without the addresses that no host has there, as the first"
            manifest.note(ledger, "spec.addresses", Kind.DIFFERS, told)
        elif network is None and manifest.spec.get("avoidBuggyIPs") is True:
            told = f"{text}: addresses that end in .0 and .255 are given, too; divide the range around them"
            manifest.note(ledger, "spec.avoidBuggyIPs", Kind.DIFFERS, told)


def _namespaces(manifest: Manifest, allocation: dict[str, Any], ledger: Ledger) -> PoolNamespaces:
    field = "spec.serviceAllocation.namespaceSelectors"
    wanted = only_one(allocation.get("namespaceSelectors"), manifest, field, ledger)
    return PoolNamespaces(
        names=[str(name) for name in allocation.get("namespaces") or []],
        selector=selector(wanted, manifest, field, ledger) if wanted is not None else None,
    )


def _template(manifest: Manifest, announced_by: Sequence[Manifest], ledger: Ledger) -> VirtualIPTemplate:
    """Of several advertisements of one pool each adds nodes and links: an AddressPool has one set of them."""
    first, *others = announced_by
    for other in others:
        if any(other.spec.get(field) != first.spec.get(field) for field in ("nodeSelectors", "interfaces")):
            reason = f"must not be announced by {first} and {other}, which name other nodes or interfaces"
            manifest.refuse(ledger, "spec", reason)
    wanted = only_one(first.spec.get("nodeSelectors"), first, "spec.nodeSelectors", ledger)
    interfaces = first.spec.get("interfaces") or []
    if len(interfaces) > 1:
        text = "the interface whose subnet holds an address is taken, whichever these are"
        first.note(ledger, "spec.interfaces", Kind.DIFFERS, text)
    first.note_unknown(ledger, "spec", first.spec, _OF_AN_ADVERTISEMENT)
    nodes = selector(wanted, first, "spec.nodeSelectors", ledger) if wanted is not None else None
    return VirtualIPTemplate(
        interface=str(interfaces[0]) if len(interfaces) == 1 else None,
        nodes=TemplateNodes(selector=nodes) if nodes is not None else None,
    )
