"""What a plan looks at beside VirtualIPs, SpeakerConfigs and Nodes: pools, namespaces, Services, the API server, pods.

Each of it may be absent (a cluster without AddressPools, Kubernetes before 1.33 without ServiceCIDRs) or forbidden. The
plan is then made as if there were none, and people are told once. Only of pools that are forbidden nobody knows whether
there are none, and without them every address is to be had: then nothing is planned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from holdfast_api.cluster import GROUP, VERSION
from holdfast_api.services import CLEANUP_FINALIZER
from holdfast_kube.api_server import FORBIDDEN, NOT_FOUND, APIFailure, APIServer, Object
from holdfast_kube.objects import Part

SPEAKER_PODS: Final = "app.kubernetes.io/component=speaker"
"""The label selector of the speakers' pods, as the chart labels them."""


@dataclass(frozen=True, slots=True)
class Source:
    """A collection that may be absent or forbidden."""

    resource: str
    """Its plural name."""
    path: str
    without: str
    """For people: what goes without it."""
    label_selector: str = ""
    may_be_forbidden: bool = True
    """Else a plan cannot be made without it, where it is there."""

    @property
    def query(self) -> dict[str, str]:
        """Of its lists and watches."""
        return {"labelSelector": self.label_selector} if self.label_selector else {}


POOLS: Final = Source(
    "addresspools", f"/apis/{GROUP}/{VERSION}/addresspools", "as if there were none", may_be_forbidden=False
)
NAMESPACES: Final = Source("namespaces", "/api/v1/namespaces", "pools select no namespace by its labels")
SERVICE_CIDRS: Final = Source(
    "servicecidrs",
    "/apis/networking.k8s.io/v1/servicecidrs",
    "--service-networks alone says where the addresses of Services are from",
)
SERVICES: Final = Source(
    "services", "/api/v1/services", "no Service is given an address, and what was given to Services stays"
)
API_SERVER: Final = Source(
    "endpointslices",
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    "which addresses the API server has is not known",
    "kubernetes.io/service-name=kubernetes",
)


def speaker_pods(namespace: str, label_selector: str) -> Source:
    """The pods of the speakers, in the operator's own namespace."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    return Source("pods", path, "whether a speaker is heard is judged by its Node alone", label_selector)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """As the API server has it."""

    pools: Sequence[Object] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The labels of each."""
    service_networks: Sequence[str] = ()
    service_addresses: Sequence[str] = ()
    """The addresses inside of the cluster that Services have."""
    api_server_addresses: Sequence[str] = ()
    heard: frozenset[str] | None = None
    """Nodes whose speaker's pod is Ready; None: nobody could tell."""
    services: Sequence[Object] | None = None
    """Those of type LoadBalancer, and those that were of it and still have something of it. None: they are not to be
    looked at, or cannot be read."""


class _ServiceMetadata(Part, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    namespace: str
    uid: str
    resource_version: str = ""
    creation_timestamp: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None


class _Service(Part, frozen=True, kw_only=True):
    """A Service without what makes most of one: who owns its fields, and what tools note down in it."""

    metadata: _ServiceMetadata
    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    status: dict[str, Any] = msgspec.field(default_factory=dict)


class _Services(msgspec.Struct):
    items: list[_Service] | None = None


_Listed = TypeVar("_Listed")


class SurroundingsReader:
    """Remembers what it has told people."""

    def __init__(self, api: APIServer, speakers: Source, *, with_services: bool = True) -> None:
        self._api = api
        self._speakers = speakers
        self._with_services = with_services
        self._told: dict[str, int] = {}

    async def read(self) -> Surroundings:
        """All of it. Raises APIFailure where the API server does not answer, or is too busy."""
        sources = (POOLS, NAMESPACES, SERVICE_CIDRS, API_SERVER, self._speakers)
        all_services, (pools, namespaces, service_cidrs, slices, pods) = await asyncio.gather(
            self._services(), asyncio.gather(*map(self._list, sources))
        )
        return Surroundings(
            pools=pools or (),
            namespaces={one["metadata"]["name"]: one["metadata"].get("labels") or {} for one in namespaces or ()},
            service_networks=tuple(
                sorted(network for one in service_cidrs or () for network in one.get("spec", {}).get("cidrs") or ())
            ),
            service_addresses=_cluster_addresses(all_services or ()),
            api_server_addresses=_addresses(slices or ()),
            heard=None if pods is None else frozenset(filter(None, map(ready_on, pods))),
            services=None if all_services is None else _load_balancers(all_services),
        )

    async def _services(self) -> list[_Service] | None:
        body = await self._read(SERVICES) if self._with_services else None
        return None if body is None else _decoded(body, SERVICES, _Services).items or []

    async def _list(self, source: Source) -> list[Object] | None:
        body = await self._read(source)
        return None if body is None else _decoded(body, source, dict[str, Any])["items"] or []

    async def _read(self, source: Source) -> bytes | None:
        """A whole list; None: it is absent or forbidden. Raises APIFailure."""
        try:
            body = await self._api.list_raw(source.path, source.query)
        except APIFailure as failure:
            if failure.status not in ((FORBIDDEN, NOT_FOUND) if source.may_be_forbidden else (NOT_FOUND,)):
                raise
            if self._told.get(source.resource) != failure.status:
                self._told[source.resource] = failure.status
                # What is not there may well be meant so; what is forbidden is a role of another version.
                level = logging.WARNING if failure.status == FORBIDDEN else logging.INFO
                _log.log(level, "%s cannot be read, so %s: %s", source.resource, source.without, failure)
            return None
        if self._told.pop(source.resource, None) is not None:
            _log.info("%s can be read now", source.resource)
        return body


def is_of_load_balancers(spec: Mapping[str, Any], status: Mapping[str, Any], finalizers: Sequence[str] | None) -> bool:
    """Whether a Service is of type LoadBalancer, or may have been and have something left of it."""
    return (
        spec.get("type") == "LoadBalancer"
        or CLEANUP_FINALIZER in (finalizers or ())
        or bool(status.get("conditions") or (status.get("loadBalancer") or {}).get("ingress"))
    )


def own_annotations(annotations: Mapping[str, str] | None) -> dict[str, str]:
    """Those that are about Holdfast."""
    return {name: value for name, value in (annotations or {}).items() if name.startswith(f"{GROUP}/")}


def ready_on(pod: Mapping[str, Any]) -> str:
    """The node where the pod runs and is Ready; empty: it is not."""
    conditions = pod.get("status", {}).get("conditions") or ()
    is_ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    node_name: str = pod.get("spec", {}).get("nodeName") or ""
    return node_name if is_ready else ""


def _cluster_addresses(services: Sequence[_Service]) -> tuple[str, ...]:
    """A headless one says None."""
    told = (one.spec.get("clusterIPs") or [one.spec.get("clusterIP")] for one in services)
    return tuple(sorted({str(address) for addresses in told for address in addresses if address not in (None, "None")}))


def _load_balancers(services: Sequence[_Service]) -> list[Object]:
    return [
        msgspec.to_builtins(
            msgspec.structs.replace(
                one,
                metadata=msgspec.structs.replace(
                    one.metadata, annotations=own_annotations(one.metadata.annotations) or None
                ),
            )
        )
        for one in services
        if is_of_load_balancers(one.spec, one.status, one.metadata.finalizers)
    ]


def _decoded(body: bytes, source: Source, kind: type[_Listed]) -> _Listed:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise APIFailure(f"GET {source.path}: the answer cannot be read: {error}") from error


def _addresses(slices: Sequence[Object]) -> tuple[str, ...]:
    endpoints = [endpoint for one in slices for endpoint in one.get("endpoints") or ()]
    return tuple(sorted({address for endpoint in endpoints for address in endpoint.get("addresses") or ()}))


_log = logging.getLogger(__name__)
