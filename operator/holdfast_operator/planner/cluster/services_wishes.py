"""What one Service of type LoadBalancer asks for, by its specification and its annotations. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast_api.addresses import Address, parse_address, why_no_address
from holdfast_api.services import (
    ADDRESSES_ANNOTATION,
    LOAD_BALANCER_CLASS,
    POOL_ANNOTATION,
    SHARING_KEY_ANNOTATION,
)
from holdfast_operator.planner.cluster.view import ClusterRules

_VERSIONS = {"IPv4": 4, "IPv6": 6}
_TYPE = "LoadBalancer"


@dataclass(frozen=True, slots=True)
class Wish:
    """A Service that is ours."""

    namespace: str
    name: str
    uid: str
    created: str
    versions: Sequence[int]
    """Its families, 4 or 6, the first one first."""
    required: frozenset[int]
    """Those of them that it cannot be without."""
    named: Mapping[int, Address]
    """The addresses that it names, by their family."""
    named_in: str
    """The field that names them."""
    pool: str | None
    sharing_key: str
    """Empty: it shares with nobody."""
    ports: frozenset[tuple[int, str]]
    """Port and protocol of each."""
    selector: frozenset[tuple[str, str]]
    is_local: bool
    """Whether only nodes with its own endpoints can serve it (externalTrafficPolicy)."""
    health_check_node_port: int | None
    told: Sequence[Address]
    """What stands in its status.loadBalancer.ingress."""
    problem: str = ""
    """What is wrong with what it says of addresses; empty: nothing."""

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"

    @property
    def age(self) -> tuple[str, str]:
        """The oldest first."""
        return self.created, self.key


def is_ours(raw: Mapping[str, Any], rules: ClusterRules) -> bool:
    """Whether a Service is to have what it asks for from us."""
    return "deletionTimestamp" not in raw["metadata"] and has_our_class(raw, rules)


def has_our_class(raw: Mapping[str, Any], rules: ClusterRules) -> bool:
    """Whether it is of our kind, though it may be on its way out."""
    spec = raw.get("spec") or {}
    if spec.get("type") != _TYPE:
        return False
    wanted = spec.get("loadBalancerClass")
    return rules.services_without_class if wanted is None else wanted == LOAD_BALANCER_CLASS


def read(raw: Mapping[str, Any]) -> Wish:
    """What it asks for; what cannot be read is told in `problem`."""
    metadata, spec = raw["metadata"], raw.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    versions = _versions(spec)
    is_local = spec.get("externalTrafficPolicy") == "Local"
    text, named_in = str(annotations.get(ADDRESSES_ANNOTATION) or "").strip(), f"annotation {ADDRESSES_ANNOTATION}"
    if not text:
        text, named_in = str(spec.get("loadBalancerIP") or "").strip(), "spec.loadBalancerIP"
    named = _named(text, versions)
    ports = [one for one in spec.get("ports") or () if isinstance(one, Mapping)]
    return Wish(
        namespace=str(metadata.get("namespace", "default")),
        name=str(metadata["name"]),
        uid=str(metadata.get("uid", "")),
        created=str(metadata.get("creationTimestamp", "")),
        versions=versions,
        required=frozenset() if spec.get("ipFamilyPolicy") == "PreferDualStack" else frozenset(versions),
        named={} if isinstance(named, str) else named,
        named_in=named_in if named else "",
        pool=str(annotations.get(POOL_ANNOTATION) or "").strip() or None,
        sharing_key=str(annotations.get(SHARING_KEY_ANNOTATION) or ""),
        ports=frozenset((int(one.get("port", 0)), str(one.get("protocol") or "TCP")) for one in ports),
        selector=frozenset((str(name), str(value)) for name, value in (spec.get("selector") or {}).items()),
        is_local=is_local,
        health_check_node_port=(spec.get("healthCheckNodePort") or None) if is_local else None,
        told=told_addresses(raw),
        problem=f"{named_in}: {named}" if isinstance(named, str) else "",
    )


def told_addresses(raw: Mapping[str, Any]) -> list[Address]:
    """What stands in a Service's status.loadBalancer.ingress, as far as it is addresses."""
    entries = ((raw.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    found = (parse_address(str(entry.get("ip") or "")) for entry in entries if isinstance(entry, Mapping))
    return [address for address in found if address is not None]


def _versions(spec: Mapping[str, Any]) -> Sequence[int]:
    families = [_VERSIONS[name] for name in spec.get("ipFamilies") or () if name in _VERSIONS]
    return tuple(dict.fromkeys(families)) or (4,)


def _named(text: str, versions: Sequence[int]) -> Mapping[int, Address] | str:
    """By their family; or what is wrong with them."""
    found: dict[int, Address] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        address = parse_address(part)
        if address is None:
            return why_no_address(part, may_have_prefix=False)
        if address.version not in versions:
            families = " and ".join(f"IPv{version}" for version in versions)
            return f"must be of the Service's spec.ipFamilies, which are {families}: {address} is not"
        if found.setdefault(address.version, address) != address:
            return f"must name one IPv{address.version} address at most, not {found[address.version]} and {address}"
    return found
