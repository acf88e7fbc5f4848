"""Reads everything the plan is made of, in one go, from the API server itself: a cache may have lost a deletion."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from holdfast_api.cluster import (
    GROUP,
    POOLS_REQUIRED_ANNOTATION,
    VERSION,
    SpeakerConfig,
    SpeakerConfigMetadata,
    SpeakerConfigSpec,
    SpeakerConfigStatus,
)
from holdfast_api.errors import EnvironmentFailure
from holdfast_kube.api_server import NOT_FOUND, APIFailure, APIServer, Object
from holdfast_kube.objects import goes_back, key_of
from holdfast_operator.hazards import Cause, Held, check_definition, check_lost, check_nodes
from holdfast_operator.planner.cluster import lenient
from holdfast_operator.planner.cluster.view import ClusterRules, ClusterView, NodeView
from holdfast_operator.surroundings import Source, Surroundings, SurroundingsReader

VIRTUAL_IPS: Final = f"/apis/{GROUP}/{VERSION}/virtualips"
SPEAKER_CONFIGS: Final = f"/apis/{GROUP}/{VERSION}/speakerconfigs"
NODES: Final = "/api/v1/nodes"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

_DISRUPTING: Final = frozenset(
    {
        "ToBeDeletedByClusterAutoscaler",  # cluster-autoscaler, from when it begins to drain
        "karpenter.sh/disrupted",  # Karpenter from 1.0, in the same way
        "karpenter.sh/disruption",  # and before
        "node.kubernetes.io/out-of-service",  # an administrator's word that the node is down for good
        "node.cloudprovider.kubernetes.io/shutdown",  # the cloud's controller: it has been shut down
        "cloud.google.com/impending-node-termination",
        "medik8s.io/drain",  # the Node Maintenance Operator
        "node.kubernetes.io/unschedulable",  # what a cordon is seen as; by hand it means the same
        "aws-node-termination-handler/asg-lifecycle-termination",
        "aws-node-termination-handler/rebalance-recommendation",
        "aws-node-termination-handler/scheduled-maintenance",
        "aws-node-termination-handler/spot-itn",
    }
)
"""Taints by which those who are about to take a node away say so: NoSchedule, as they drain it themselves.

DeletionCandidateOfClusterAutoscaler (PreferNoSchedule) is none of them: it comes and goes with the load, and many such
nodes stay.
"""

_KEPT_BY_NODE_LIFECYCLE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""What the control plane says of a node that it does not hear: whether the VIP moves is for the protocol to decide."""


@dataclass(frozen=True)
class Cluster:
    """What the API server has."""

    virtual_ips: Mapping[str, Object]
    """By namespace/name."""
    speakers: Mapping[str, Object]
    """SpeakerConfigs by node name."""
    nodes: Sequence[Object]
    virtual_ips_uid: str
    """Of the CustomResourceDefinition of VirtualIPs: another one has other VirtualIPs."""
    surroundings: Surroundings
    pools_seen: bool = False
    """Whether this process has known of an AddressPool: the SpeakerConfigs that remember it may be gone, too."""

    @functools.cached_property
    def services(self) -> Mapping[str, Object]:
        """By namespace/name."""
        return {key_of(one): one for one in self.surroundings.services or ()}

    @property
    def pools_ever(self) -> bool:
        """Whether there is an AddressPool, or ever was one: every SpeakerConfig remembers it."""
        return (
            self.pools_seen
            or bool(self.surroundings.pools)
            or any(
                (speaker["metadata"].get("annotations") or {}).get(POOLS_REQUIRED_ANNOTATION) == "true"
                for speaker in self.speakers.values()
            )
        )

    def view(self, rules: ClusterRules) -> ClusterView:
        """The planner's input."""
        return ClusterView(
            virtual_ips=tuple(self.virtual_ips.values()),
            nodes=tuple(node_view(node) for node in self.nodes),
            speakers={name: _speaker_config(name, raw) for name, raw in self.speakers.items()},
            pools=tuple(self.surroundings.pools),
            pools_ever=self.pools_ever,
            namespaces=self.surroundings.namespaces,
            service_networks=self.surroundings.service_networks,
            service_addresses=self.surroundings.service_addresses,
            api_server_addresses=self.surroundings.api_server_addresses,
            heard=self.surroundings.heard,
            services=self.surroundings.services,
            rules=rules,
        )


class Reader:
    """Reads it all, again and again."""

    def __init__(self, api: APIServer, speakers: Source, *, with_services: bool = True) -> None:
        """`speakers`: the pods of the speakers. `with_services`: whether Services are given addresses."""
        self._api = api
        self._surroundings = SurroundingsReader(api, speakers, with_services=with_services)
        self._version = ""
        self._pools_seen = False

    async def read(self) -> Cluster:
        """Raises APIFailure; Held where a plan made of what was read would take VIPs down by accident.

        EnvironmentFailure where a backup of the API server's was restored: watches from before would hear nothing for
        long, so a new start is the way to go on.
        """
        api = self._api
        (virtual_ips, version), (speakers, _), (nodes, _), surroundings = await asyncio.gather(
            _list(api, VIRTUAL_IPS), _list(api, SPEAKER_CONFIGS), _list(api, NODES), self._surroundings.read()
        )
        if goes_back(self._version, version):
            raise EnvironmentFailure(
                "the API server has gone back to an earlier state, perhaps that of a backup: what was watched is not so"
            )
        self._version = version
        # After the lists: what a definition that is being deleted takes with it is gone only once it says so itself.
        virtual_ip_definition, speaker_definition = await asyncio.gather(
            _definition(api, "virtualips"), _definition(api, "speakerconfigs")
        )
        check_definition("virtualips", virtual_ip_definition)
        check_definition("speakerconfigs", speaker_definition)
        check_nodes(nodes, speakers)
        cluster = Cluster(
            virtual_ips={key_of(item): item for item in virtual_ips},
            speakers={item["metadata"]["name"]: item for item in speakers},
            nodes=nodes,
            virtual_ips_uid=virtual_ip_definition["metadata"]["uid"] if virtual_ip_definition else "",
            surroundings=surroundings,
            pools_seen=self._pools_seen,
        )
        self._pools_seen = cluster.pools_ever
        check_lost(cluster.virtual_ips.keys(), cluster.speakers, cluster.virtual_ips_uid)
        return cluster


async def check_discovery(api: APIServer) -> None:
    """Raises Held where our resources can be listed but are not advertised yet. Raises APIFailure.

    kopf looks there once: what it does not find then, it never watches.
    """
    groups = await api.get("/apis")
    found = set()
    if any(group["name"] == GROUP for group in groups["groups"]):
        found = {resource["name"] for resource in (await api.get(f"/apis/{GROUP}/{VERSION}"))["resources"]}
    if missing := {"virtualips", "speakerconfigs"} - found:
        names = " and ".join(sorted(missing))
        raise Held(Cause.DEFINITION_MISSING, f"the API server does not advertise {names} yet")


async def _list(api: APIServer, path: str) -> tuple[list[Object], str]:
    try:
        return await api.list_at(path)
    except APIFailure as failure:
        if failure.status == NOT_FOUND:
            raise Held(Cause.DEFINITION_MISSING, f"the API server knows no {path.rpartition('/')[2]}") from failure
        raise


async def _definition(api: APIServer, plural: str) -> Object | None:
    try:
        return await api.get(f"{_DEFINITIONS}/{plural}.{GROUP}")
    except APIFailure as failure:
        if failure.status == NOT_FOUND:
            return None
        raise


def _speaker_config(name: str, raw: Mapping[str, Any]) -> SpeakerConfig:
    """What this version can read of it: another one may have written it, and no word of it holds up what others run."""
    return SpeakerConfig(
        metadata=msgspec.convert(raw["metadata"], SpeakerConfigMetadata),
        spec=lenient.read(raw.get("spec"), SpeakerConfigSpec) or SpeakerConfigSpec(node_name=name),
        status=lenient.read(raw.get("status"), SpeakerConfigStatus) or SpeakerConfigStatus(),
    )


def node_view(node: Mapping[str, Any]) -> NodeView:
    """A Node as the planner sees it."""
    metadata, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
    return NodeView(
        name=metadata["name"],
        labels=metadata.get("labels", {}),
        is_cordoned=spec.get("unschedulable", False) or _is_leaving(spec.get("taints") or ()),
        internal_addresses=_addresses(status, "InternalIP"),
        external_addresses=_addresses(status, "ExternalIP"),
        pod_networks=tuple(spec.get("podCIDRs") or filter(None, (spec.get("podCIDR"),))),
        is_ready=any(
            found["type"] == "Ready" and found.get("status") == "True" for found in status.get("conditions", ())
        ),
    )


def _addresses(status: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    return tuple(address["address"] for address in status.get("addresses") or () if address["type"] == kind)


def _is_leaving(taints: Iterable[Mapping[str, Any]]) -> bool:
    """Whether somebody evicts what runs there, or is about to take the node away."""
    return any(
        (taint["effect"] == "NoExecute" and taint["key"] not in _KEPT_BY_NODE_LIFECYCLE) or taint["key"] in _DISRUPTING
        for taint in taints
    )
