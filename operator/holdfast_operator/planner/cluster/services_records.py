"""The VirtualIPs that were made for Services: which these are, what they say, and what a new one is to say. Pure.

Such a VirtualIP is the record of what its Services were given: its specification names the addresses in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast_api.addresses import Address, parse_interface
from holdfast_api.cluster import OPERATOR_FIELD_MANAGER
from holdfast_api.resources import API_VERSION, HostPorts, VirtualRouterSharing
from holdfast_api.services import SERVICE_VIP_LABEL, SHARING_KEY_ANNOTATION
from holdfast_operator.planner.cluster.services_wishes import Wish


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A VirtualIP that was made for Services."""

    key: str
    raw: Mapping[str, Any]
    addresses: Mapping[int, Address]
    """By their family."""
    texts: Sequence[str]
    """The same as it writes them."""
    pool: str | None
    """That which its Services named when it was given them."""
    sharing_key: str
    owners: Mapping[str, str]
    """The names of its Services by their uid."""
    created: str

    @property
    def namespace(self) -> str:
        """Where it is, and its Services are."""
        return self.key.partition("/")[0]


def is_made_for_services(raw: Mapping[str, Any]) -> bool:
    """Whether a VirtualIP was made for Services, and is no user's.

    By who writes its specification, where the API server says that: a copy of one that a user made is that user's, and
    one whose label a user took away is not. One that came out of a backup, without that, is known by its name.
    """
    metadata = raw["metadata"]
    is_labelled = (metadata.get("labels") or {}).get(SERVICE_VIP_LABEL) == "true"
    managers = {
        str(one.get("manager", "")) for one in metadata.get("managedFields") or () if not one.get("subresource")
    }
    if not managers or OPERATOR_FIELD_MANAGER in managers:
        return is_labelled or bool(managers)
    return is_labelled and any(name == metadata["name"] for name in owners_of(raw).values())


def record_of(key: str, raw: Mapping[str, Any]) -> Record:
    """What it says; what a user has put in the place of the addresses counts for nothing."""
    metadata, spec = raw["metadata"], raw.get("spec") or {}
    found = _by_family(spec.get("addresses"))
    if _are_edited(metadata):
        found = _by_family((raw.get("status") or {}).get("addresses")) or found
    return Record(
        key=key,
        raw=raw,
        addresses=found,
        texts=tuple(str(address) for address in found.values()),
        pool=spec.get("addressPool"),
        sharing_key=(metadata.get("annotations") or {}).get(SHARING_KEY_ANNOTATION, ""),
        owners=owners_of(raw),
        created=str(metadata.get("creationTimestamp", "")),
    )


def _by_family(texts: Any) -> dict[int, Address]:
    found: dict[int, Address] = {}
    for text in texts or ():
        interface = parse_interface(text) if isinstance(text, str) else None
        if interface is not None:
            found.setdefault(interface.version, interface.ip)
    return found


def _are_edited(metadata: Mapping[str, Any]) -> bool:
    """Whether the addresses are another's writing, by what the API server says."""
    return any(
        "f:addresses" in ((one.get("fieldsV1") or {}).get("f:spec") or {})
        for one in metadata.get("managedFields") or ()
        if one.get("manager") != OPERATOR_FIELD_MANAGER and not one.get("subresource")
    )


def owners_of(raw: Mapping[str, Any]) -> Mapping[str, str]:
    """The names of the Services that own a VirtualIP, by their uid."""
    return {
        str(one.get("uid", "")): str(one.get("name", ""))
        for one in raw["metadata"].get("ownerReferences") or ()
        if is_a_service(one)
    }


def is_a_service(owner: Mapping[str, Any]) -> bool:
    """Whether an ownerReference names a Service."""
    return (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Service")


def manifest(
    key: str,
    owners: Sequence[Wish],
    addresses: Sequence[str],
    pool: str | None,
    sharing_key: str,
    host_ports: HostPorts,
) -> dict[str, Any]:
    """The VirtualIP as it is to be, for these Services; without addresses: that of one that is to be given some."""
    namespace, _, name = key.partition("/")
    spec: dict[str, Any] = {}
    if addresses:
        spec["addresses"] = list(addresses)
    if pool is not None:
        spec["addressPool"] = pool
    # Each Service with externalTrafficPolicy Local has an election of its own: by where its endpoints are.
    is_shared = not any(one.is_local for one in owners)
    spec["virtualRouterSharing"] = (VirtualRouterSharing.SHARED if is_shared else VirtualRouterSharing.OWN).value
    spec["hostPorts"] = host_ports.value
    ports = sorted({one.health_check_node_port for one in owners if one.health_check_node_port is not None})
    if ports:
        spec["track"] = {"healthCheckNodePorts": ports}
    return {
        "apiVersion": API_VERSION,
        "kind": "VirtualIP",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {SERVICE_VIP_LABEL: "true"},
            **({"annotations": {SHARING_KEY_ANNOTATION: sharing_key}} if sharing_key else {}),
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": one.name,
                    "uid": one.uid,
                    "controller": False,
                    "blockOwnerDeletion": False,
                }
                for one in sorted(owners, key=lambda one: one.name)
            ],
        },
        "spec": spec,
    }
