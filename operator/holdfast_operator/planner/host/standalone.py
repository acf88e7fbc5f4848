"""The plan of one host without a cluster: from VirtualIP files to what this host's engine runs. Pure.

Every host reads the same files and plans for itself, so what two hosts must agree on (virtual router ids) comes from
the files alone. What this host looks like only decides which conflicts it can see.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from holdfast_api.addresses import Address, parse_address, parse_interface
from holdfast_api.documents import Document
from holdfast_api.errors import ConfigurationError, ConfigurationErrors
from holdfast_api.listing import some_of
from holdfast_api.resources import ForeignRouters, Notification, Probe, Transport, VirtualIP, VirtualRouterSharing
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_operator.planner.host import conflicts
from holdfast_operator.planner.host.links import families
from holdfast_operator.planner.host.policies import violations
from holdfast_operator.planner.host.routers import specified
from holdfast_operator.planner.host.vrid import Claim, allocate, first_choice

_NAMES_TOLD_MAX = 8


@dataclass(frozen=True, slots=True)
class HostView:
    """What the plan needs to know of the host."""

    node_name: str
    default_interface: str | None = None
    """For VirtualIPs that name none."""
    networks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Interface name -> its own addresses with prefix length. Only to see which VirtualIPs meet on one link."""


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What one host runs."""

    configuration: SpeakerConfiguration
    probes: Mapping[str, Sequence[Probe]]
    """By the key of the VirtualIP (namespace/name), for those that run here and have any."""
    notifications: Mapping[str, Sequence[Notification]]
    """By the key of the VirtualIP, for those that run here and have any."""
    warnings: Sequence[str]


def plan_host(documents: Sequence[Document], host: HostView, generation: int) -> HostPlan:
    """The plan for a host that reads these documents. The same input gives the same bytes, in any order of documents.

    Raises ConfigurationErrors with everything that is wrong in all documents, also in those that do not run here.
    """
    documents = sorted(documents, key=lambda document: (document.virtual_ip.key, document.file))
    vrids = _vrids(documents)
    local = [document for document in documents if _runs_on(document.virtual_ip, host)]
    errors = [error for document in documents for error in _document_errors(document)]
    errors += conflicts.repeated_names(documents)
    errors += conflicts.repeated_addresses(documents, host.default_interface, host.networks)
    errors += conflicts.repeated_vrids(local, vrids, host.default_interface, host.networks)
    errors += _without_vrid(documents, vrids)
    if errors:
        raise ConfigurationErrors(sorted(errors, key=lambda error: error.file))
    virtual_ips = [document.virtual_ip for document in local]
    return HostPlan(
        configuration=SpeakerConfiguration(
            node_name=host.node_name,
            generation=generation,
            virtual_routers=[_virtual_router(vip, vrids[vip.key], host) for vip in virtual_ips],
            node_names=_node_names(documents, virtual_ips, host),
        ),
        probes={vip.key: tuple(probes) for vip in virtual_ips if (probes := vip.spec.track.probes_on(host.node_name))},
        notifications={
            vip.key: tuple(found) for vip in virtual_ips if (found := vip.spec.notifications_on(host.node_name))
        },
        warnings=(
            *_unnamed(documents, host),
            *(warning for document in documents for warning in _warnings(document, vrids, host)),
        ),
    )


def _vrids(documents: Sequence[Document]) -> dict[str, int]:
    # As if all of them met on one link, and whether or not they run here: hosts may differ in their interfaces, and
    # must come to the same ids all the same.
    virtual_ips = {document.virtual_ip.key: document.virtual_ip for document in documents}
    return allocate(Claim(key, families(vip), vip.spec.virtual_router_id) for key, vip in virtual_ips.items())


def _runs_on(virtual_ip: VirtualIP, host: HostView) -> bool:
    names = virtual_ip.spec.nodes.names
    return not names or host.node_name in names


def _node_names(
    documents: Sequence[Document], virtual_ips: Sequence[VirtualIP], host: HostView
) -> dict[str, list[str]]:
    """Who can hold each: those of its nodes.names, else whoever the files name. Where they name nobody, it is not
    known: another host may read a file without its name in it."""
    named = _named(documents)
    if not named:
        return {}
    return {vip.key: sorted({host.node_name, *(vip.spec.nodes.names or named)}) for vip in virtual_ips}


def _named(documents: Sequence[Document]) -> set[str]:
    return {name for document in documents for name in document.virtual_ip.named_nodes}


def _document_errors(document: Document) -> Iterator[ConfigurationError]:
    for violation in violations(document.virtual_ip):
        yield conflicts.error_in(document, violation.field, violation.message)
    spec = document.virtual_ip.spec
    if not spec.addresses:
        yield conflicts.error_in(
            document, "spec.addresses", "must be given: only a cluster has AddressPools to take addresses from"
        )
    if spec.track.pods is not None:
        yield conflicts.error_in(
            document,
            "spec.track.pods",
            "needs the cluster: pods have no readiness on a plain host; use track.probes",
        )
    if spec.track.health_check_node_ports:
        yield conflicts.error_in(
            document,
            "spec.track.healthCheckNodePorts",
            "needs the cluster: a plain host has no kube-proxy to ask; use track.probes",
        )
    if spec.transport is Transport.UNICAST:
        for family in sorted(_families_without_peer(document.virtual_ip)):
            yield conflicts.error_in(
                document,
                "spec.externalPeers",
                f"must name the other hosts' IPv{family} addresses with transport Unicast: without a cluster nobody"
                " else knows whom to send to",
            )


def _without_vrid(documents: Sequence[Document], vrids: Mapping[str, int]) -> Iterator[ConfigurationError]:
    for document in documents:
        if document.virtual_ip.key not in vrids:
            yield conflicts.error_in(
                document,
                "spec.virtualRouterID",
                "must be given: the ids from 1 to 255 are used up (one id can serve on several links, where pinned)",
            )


def _virtual_router(virtual_ip: VirtualIP, vrid: int, host: HostView) -> VirtualRouterConfiguration:
    spec = virtual_ip.spec
    nodes = spec.nodes
    priorities = {node.node_name: node.priority for node in nodes.priorities}
    return structs.replace(
        specified(virtual_ip, vrid),
        priority=priorities.get(host.node_name, spec.priority),
        interface=spec.interface or host.default_interface,
        # Usually the same list on every host, this one included: the engine leaves its own addresses out.
        members=spec.external_peers,
        # Where the members are not known, every router is a stranger, and to refuse strangers is to be alone.
        foreign_routers=spec.foreign_routers if spec.external_peers else ForeignRouters.OBEY,
        source_addresses=[node.address for node in nodes.source_addresses if node.node_name == host.node_name],
        sole_member=nodes.names == [host.node_name] and not spec.external_peers,
        tracks_services=bool(spec.track.probes_on(host.node_name)),
    )


def _unnamed(documents: Sequence[Document], host: HostView) -> Iterator[str]:
    """A slip of the pen in --node-name: every VirtualIP would run here with what is meant for nobody in particular."""
    names = _named(documents)
    # Of each that does not run here something is said already.
    if any(_runs_on(document.virtual_ip, host) for document in documents) and names and host.node_name not in names:
        yield (
            f"--node-name: {host.node_name} is in no entry of nodes.names, nodes.priorities, nodes.sourceAddresses and"
            f" the nodes of probes and notify, which name {some_of(sorted(names), _NAMES_TOLD_MAX)}: is it spelled as"
            " there?"
        )


def _warnings(document: Document, vrids: Mapping[str, int], host: HostView) -> Iterator[str]:
    spec = document.virtual_ip.spec
    if not _runs_on(document.virtual_ip, host):
        yield _warning(document, "spec.nodes.names", f"{host.node_name} is not among them: not run on this host")
        return
    if spec.nodes.selector is not None:
        yield _warning(
            document,
            "spec.nodes.selector",
            "needs the cluster and is ignored: every host that reads this file takes part",
        )
    if spec.address_pool is not None:
        yield _warning(document, "spec.addressPool", "needs the cluster and is ignored")
    if spec.virtual_router_sharing is VirtualRouterSharing.SHARED:
        yield _warning(document, "spec.virtualRouterSharing", "needs the cluster and is ignored")
    if spec.virtual_router_id is None and vrids[document.virtual_ip.key] != first_choice(document.virtual_ip.key):
        yield _warning(
            document,
            "spec.virtualRouterID",
            f"is {vrids[document.virtual_ip.key]} only because of other VirtualIPs, and may change with them: give one",
        )
    yield from _unknown_nodes(document, host)
    missing = _families_without_peer(document.virtual_ip) if spec.external_peers else frozenset()
    if missing and spec.foreign_routers is ForeignRouters.REFUSE:
        words = " and ".join(f"IPv{family}" for family in sorted(missing))
        yield _warning(
            document, "spec.externalPeers", f"has no {words} address: advertisements over {words} are refused"
        )
    lonely = _families_without_peer(document.virtual_ip, besides=_own_addresses(host)) - missing
    is_closed = spec.foreign_routers is ForeignRouters.REFUSE or spec.transport is Transport.UNICAST
    if lonely and spec.external_peers and is_closed:
        words = " and ".join(f"IPv{family}" for family in sorted(lonely))
        yield _warning(document, "spec.externalPeers", f"has no {words} address but this host's own: name the others")


def _unknown_nodes(document: Document, host: HostView) -> Iterator[str]:
    """A slip of the pen in what some nodes alone run: a probe would count as healthy on the one that was meant."""
    spec = document.virtual_ip.spec
    known = {entry.node_name for entry in spec.nodes.priorities}
    known |= {entry.node_name for entry in spec.nodes.source_addresses}
    if not known:
        return
    named = [(f"spec.track.probes[{index}].nodes", probe.nodes) for index, probe in enumerate(spec.track.probes)]
    named += [(f"spec.notify[{index}].nodes", one.nodes) for index, one in enumerate(spec.notify)]
    for where, names in named:
        for place, name in enumerate(names):
            if name not in known | {host.node_name}:
                yield _warning(
                    document,
                    f"{where}[{place}]",
                    f"{name} is in no entry of nodes.priorities and nodes.sourceAddresses: is it spelled as there?",
                )


def _own_addresses(host: HostView) -> frozenset[Address]:
    own = [parse_interface(text) for texts in host.networks.values() for text in texts]
    return frozenset(interface.ip for interface in own if interface is not None)


def _families_without_peer(virtual_ip: VirtualIP, besides: Collection[Address] = ()) -> frozenset[int]:
    peers = [parse_address(text) for text in virtual_ip.spec.external_peers]
    return families(virtual_ip) - {peer.version for peer in peers if peer is not None and peer not in besides}


def _warning(document: Document, where: str, message: str) -> str:
    return str(conflicts.error_in(document, where, message))
