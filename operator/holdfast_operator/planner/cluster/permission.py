"""Which addresses each VirtualIP has, and whether it may: pools, quotas, what is forbidden, where probes may go. Pure.

A VirtualIP that asks for what it may not have is refused, and what ran before goes on. One that runs with it already
goes on with it, follows its nodes and its author's other edits, and is told.
"""

from __future__ import annotations

import functools
import itertools
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from msgspec import structs

from holdfast_api.addresses import Address, Interface, parse_interface
from holdfast_api.cluster import ConditionReason
from holdfast_api.resources import PRIORITY_OWNER, NodeSelection, VirtualIP
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_operator.planner.cluster.claims import Refusal
from holdfast_operator.planner.cluster.forbidden import Ban, Forbidden
from holdfast_operator.planner.cluster.membership import Context, Membership, find_members, place_of
from holdfast_operator.planner.cluster.pools import Pool, Pools
from holdfast_operator.planner.cluster.probe_targets import probe_violations
from holdfast_operator.planner.cluster.segments import place
from holdfast_operator.planner.cluster.selection import fits
from holdfast_operator.planner.cluster.spans import Span, Spans
from holdfast_operator.planner.cluster.view import ClusterView, NodeView
from holdfast_operator.planner.host.links import is_link_local


@dataclass(frozen=True, slots=True)
class Want:
    """What a VirtualIP that is made for Services is to be given beside the addresses that it names."""

    recorded: Sequence[str] = ()
    """What it was given: its own, whether it runs or not."""
    missing: Sequence[int] = ()
    """The families of which it is to be given one address each (4 or 6): that which comes first first."""
    required: frozenset[int] = frozenset()
    """Those of them without which it is refused."""
    preferred: Sequence[Address] = ()
    """What it had before: given again, where it is free and in a pool that would do."""


@dataclass(frozen=True)
class Request:
    """A VirtualIP as its author wrote it, and what is known of it."""

    virtual_ip: VirtualIP
    given: Collection[str]
    """The fields of its specification that the author wrote, by their names in YAML."""
    created: str
    running: Mapping[str, VirtualRouterConfiguration]
    """What runs of it, by the node's name."""
    remembered: Sequence[str]
    """The addresses that it has by its status."""
    want: Want | None = None
    """Of one that is made for Services."""

    @property
    def key(self) -> str:
        """namespace/name."""
        return self.virtual_ip.key

    @property
    def namespace(self) -> str:
        """Where it is."""
        return self.virtual_ip.metadata.namespace

    @property
    def is_given_addresses(self) -> bool:
        """Whether its author left them to the cluster."""
        return self.want is None and not self.virtual_ip.spec.addresses

    @property
    def is_waiting(self) -> bool:
        """Whether it is to be given some now."""
        return bool(self.want.missing) if self.want is not None else not self.addresses

    @property
    def own(self) -> Sequence[str]:
        """Those that were given to it, and that nobody else gets while it lives."""
        if self.want is not None:
            return self.want.recorded
        return self.addresses if self.is_given_addresses else ()

    @functools.cached_property
    def had(self) -> frozenset[Address]:
        """The addresses that run."""
        return running_addresses(self.running)

    @property
    def addresses(self) -> Sequence[str]:
        """Those that its author chose, else those that it has; empty: it is to be given some."""
        if not self.is_given_addresses:
            return self.virtual_ip.spec.addresses
        running = next((router.addresses for _, router in sorted(self.running.items())), [])
        return running or [text for text in self.remembered if parse_interface(text) is not None]

    def runs_as_owner_on(self, node_name: str) -> bool:
        """Whether that node runs it with priority 255."""
        return node_name in self.running and self.running[node_name].priority == PRIORITY_OWNER


@dataclass(frozen=True, slots=True)
class Objection:
    """Something that a VirtualIP may not have."""

    reason: ConditionReason
    message: str
    """Names the field."""
    is_in_force: bool = False
    """It runs with it: that goes on until its author or the administrator acts."""


@dataclass(frozen=True, slots=True)
class Permit:
    """What a VirtualIP has, and what speaks against it."""

    virtual_ip: VirtualIP
    """With its addresses, and with a template's values where its author gave none."""
    objections: Sequence[Objection]
    nodes: Sequence[NodeView]
    """Those that its pools leave it."""
    vrids: frozenset[int] | None = None
    """Those that its pools leave it; None: all."""
    pools: frozenset[str] = frozenset()
    """The names of those pools."""

    @property
    def refusal(self) -> Refusal | None:
        """Why it is refused; None: nothing speaks against it but what it runs with."""
        return _joined([objection for objection in self.objections if not objection.is_in_force])

    @property
    def tolerated(self) -> Refusal | None:
        """What it would be refused for if it did not run with it; None: nothing."""
        return _joined([objection for objection in self.objections if objection.is_in_force])


def _joined(objections: Sequence[Objection]) -> Refusal | None:
    if not objections:
        return None
    return Refusal(objections[0].reason, "; ".join(dict.fromkeys(objection.message for objection in objections)))


class _Use:
    """What VirtualIPs have of the pools."""

    def __init__(self) -> None:
        self.owners: dict[Address, str] = {}
        """The key of the VirtualIP that has an address, or is to have it."""
        self._of_pool: dict[tuple[str, str], dict[str, set[Address]]] = {}
        """By pool and namespace: what each VirtualIP has."""

    def reserve(self, key: str, addresses: Iterable[Address], pools: Pools) -> None:
        """The VirtualIP has these from now on, as far as nobody else had them before."""
        for used in self._of_pool.values():
            used.pop(key, None)
        for address in addresses:
            if self.owners.setdefault(address, key) == key and (pool := pools.of(address)) is not None:
                used = self._of_pool.setdefault((pool.name, key.partition("/")[0]), {})
                used.setdefault(key, set()).add(address)

    def of_others(self, pool: Pool, request: Request) -> list[set[Address]]:
        """What each other VirtualIP of its namespace has of the pool."""
        used = self._of_pool.get((pool.name, request.namespace), {})
        return [addresses for key, addresses in used.items() if key != request.key]


_CHOICES_MAX = 64
"""So many pools are tried in one plan to find a VirtualIP the address that suits it."""


class Permissions:
    """What each VirtualIP has, by its key; whatever order they come in.

    What runs is served first, then what has addresses by its status, then whose author chose some, then who is to be
    given some; among those the older one first.
    """

    def __init__(
        self,
        context: Context,
        requests: Sequence[Request],
        kept: Mapping[str, frozenset[Address]],
        pools: Pools,
        forbidden: Forbidden,
    ) -> None:
        """`kept` is what those have, by key, that were refused before it came to this."""
        self._context = context
        self._view = view = context.view
        self._pools = pools
        self._forbidden = forbidden
        self._use = _Use()
        self._judged = _Use()
        """Of those alone that were judged before: who of those that run is beyond a quota."""
        self._free: dict[str, Spans] = {}
        self._lowest: dict[tuple[str, int], int] = {}
        """By pool and family: below it nothing is free any more."""
        self._links = {
            place(name, link): _parsed(link.addresses)
            for name, speaker in view.speakers.items()
            for link in speaker.status.links
        }
        routers = [router for speaker in view.speakers.values() for router in speaker.spec.virtual_routers]
        self._running = dict.fromkeys(addresses_of({text for router in routers for text in router.every_address}), "")
        """Of a VirtualIP that was deleted too, as long as it is not gone from the nodes."""
        for key in sorted(kept):
            self._use.reserve(key, kept[key], pools)
        ordered = sorted(requests, key=lambda request: (not request.running, request.created, request.key))
        for request in ordered:
            self._use.reserve(request.key, request.had, pools)
        for request in ordered:
            if request.own and (request.want is not None or not request.running):
                self._use.reserve(request.key, request.had | addresses_of(request.own), pools)
        self.permits: dict[str, Permit] = {}
        for request in (request for request in ordered if not request.is_waiting):
            self._settle(request, self._permit(request, request.addresses))
        for request in (request for request in ordered if request.is_waiting):
            found = self._with_addresses(request) if request.want is None else self._with_missing(request, request.want)
            self._settle(request, found)

    def _settle(self, request: Request, permit: Permit) -> None:
        self.permits[request.key] = permit
        if permit.refusal is None:
            self._use.reserve(request.key, addresses_of(permit.virtual_ip.spec.addresses), self._pools)
            self._judged.reserve(request.key, addresses_of(permit.virtual_ip.spec.addresses), self._pools)
        else:
            self._judged.reserve(request.key, request.had, self._pools)

    # ----- one that is to be given addresses -----

    def _with_addresses(self, request: Request) -> Permit:
        candidates = self._pools_for(request)
        if isinstance(candidates, Objection):
            return Permit(request.virtual_ip, (candidates,), self._view.nodes)
        found = []
        for pool in candidates:
            addresses = self._free_addresses(pool, request)
            if addresses:
                found.append(self._permit(request, addresses))
        permitted = [permit for permit in found if permit.refusal is None]
        # An address that no node has a link for would be kept for as long as the VirtualIP lives.
        best = next((permit for permit in permitted if self._has_home(permit)), next(iter([*permitted, *found]), None))
        if best is None:
            names = ", ".join(pool.name for pool in candidates)
            left = Objection(
                ConditionReason.NO_ADDRESS_LEFT,
                f"spec.addresses: no address is left to be given in AddressPool {names}",
            )
            return Permit(request.virtual_ip, (left,), self._view.nodes)
        if best.refusal is not None:
            return Permit(request.virtual_ip, best.objections, self._view.nodes)
        return best

    def _pools_for(self, request: Request) -> Sequence[Pool] | Objection:
        wanted, namespace = request.virtual_ip.spec.address_pool, request.namespace
        if wanted is not None:
            why_not = self._pools.why_not_named(wanted, namespace)
            if why_not:
                return Objection(ConditionReason.ADDRESS_NOT_PERMITTED, f"spec.addressPool: {why_not}")
            return [self._pools.giving[wanted]]
        admitting = self._pools.admitting(namespace)
        candidates = [pool for pool in admitting if pool.spec.auto_assign]
        if not candidates:
            message = f"spec.addresses: must be given: no AddressPool with autoAssign admits namespace {namespace}"
            others = (
                f"; spec.addressPool may be {' or '.join(pool.name for pool in admitting[:8])}" if admitting else ""
            )
            return Objection(ConditionReason.NO_ADDRESS_LEFT, message + others)
        return candidates

    def _free_addresses(self, pool: Pool, request: Request) -> list[str]:
        """The lowest that is left of each family; none where a family has none left."""
        versions = [version for version in pool.spans.versions if version == 4 or request.virtual_ip.spec.version == 3]
        found = [self._free_address(pool, version) for version in versions]
        return [str(address) for address in found if address is not None] if None not in found else []

    def _free_address(self, pool: Pool, version: int) -> Address | None:
        """The lowest of the family that is left."""
        if pool.spec.node_owned:
            return None
        lowest = self._lowest.get((pool.name, version), 0)
        found = self._spans_of(pool).free(version, ChainMap(self._use.owners, self._running), lowest)
        if found is not None:
            self._lowest[pool.name, version] = int(found)  # what somebody has is not given back within one plan
        return found

    def _spans_of(self, pool: Pool) -> Spans:
        """What it can give."""
        if pool.name not in self._free:
            self._free[pool.name] = pool.spans.without(self._forbidden.spans)
        return self._free[pool.name]

    def _with_missing(self, request: Request, want: Want) -> Permit:
        """As many of the missing families as there are, if all that are required are among them."""
        candidates = self._pools_for(request)
        if isinstance(candidates, Objection):
            left = [candidates]
            candidates = []
        else:
            names = ", ".join(pool.name for pool in candidates)
            families = " or ".join(f"IPv{version}" for version in sorted(want.missing))
            message = f"spec.addresses: no {families} address is left to be given in AddressPool {names}"
            left = [Objection(ConditionReason.NO_ADDRESS_LEFT, message)]
        fallback: Permit | None = None
        refused: Permit | None = None
        for found in self._choices(request, want, candidates):
            permit = self._permit(request, [*request.addresses, *found])
            if permit.refusal is not None:
                refused = refused or permit
            elif self._has_home(permit):
                return permit
            else:
                fallback = fallback or permit
        return fallback or refused or Permit(request.virtual_ip, left, self._view.nodes)

    def _choices(self, request: Request, want: Want, candidates: Sequence[Pool]) -> Iterator[Sequence[str]]:
        """What it may be given, the best first: all families before some, and those of one pool before others."""
        options = {version: self._options(request, want, version, candidates) for version in want.missing}
        for count in range(len(want.missing), -1, -1):
            for versions in itertools.combinations(want.missing, count):
                if not want.required <= {*versions} or not (versions or request.addresses):
                    continue
                sets = itertools.islice(itertools.product(*(options[version] for version in versions)), _CHOICES_MAX)
                for found in sorted(sets, key=lambda found: len({self._pools.of(address) for address in found})):
                    yield [str(address) for address in found]

    def _options(self, request: Request, want: Want, version: int, candidates: Sequence[Pool]) -> list[Address]:
        """What it had before, and the lowest that is left in each pool."""
        again = [
            address
            for address in want.preferred
            if address.version == version
            and any(address in self._spans_of(pool) and not pool.spec.node_owned for pool in candidates)
            and self._use.owners.get(address, request.key) == request.key
            and (address not in self._running or address in request.had)
        ]
        free = (self._free_address(pool, version) for pool in candidates)
        return list(dict.fromkeys([*again, *(address for address in free if address is not None)]))

    def _has_home(self, permit: Permit) -> bool:
        membership = find_members(permit.virtual_ip, self._context.among(permit.nodes), {}, ())
        return bool(membership.members) or not membership.refused

    # ----- one whose addresses are known -----

    def _permit(self, request: Request, addresses: Sequence[str]) -> Permit:
        interfaces = _parsed(addresses)
        pools = [
            pool
            for pool in dict.fromkeys(self._pools.of(interface.ip) for interface in interfaces)
            if pool is not None and self._pools.admits(pool, request.namespace)
        ]
        virtual_ip = _with_template(request, addresses, pools[0] if pools else None, self._view)
        if request.want is not None:
            host_ports = self._pools.host_ports([interface.ip for interface in interfaces])
            virtual_ip = structs.replace(virtual_ip, spec=structs.replace(virtual_ip.spec, host_ports=host_ports))
        objections = [
            *self._against_addresses(request, interfaces),
            *self._against_owners(request, interfaces),
            *_against_interface(request, virtual_ip, pools),
            *_against_vrid(request, pools),
            *self._against_probes(request, virtual_ip),
        ]
        if all(objection.is_in_force for objection in objections):
            objections += self._against_quotas(request, frozenset(interface.ip for interface in interfaces), pools)
        nodes, outside = self._nodes(request, pools)
        names = frozenset(pool.name for pool in pools)
        return Permit(virtual_ip, (*objections, *outside), nodes, _vrids(pools), names)

    def _against_addresses(self, request: Request, interfaces: Sequence[Interface]) -> Iterator[Objection]:
        for index, interface in enumerate(interfaces):
            field_name = _field(request, index)
            is_in_force = interface.ip in request.had
            why_not = self._pools.why_not(interface.ip, request.namespace, request.virtual_ip.spec.address_pool)
            if why_not:
                yield Objection(ConditionReason.ADDRESS_NOT_PERMITTED, f"{field_name}: {why_not}", is_in_force)
            if not is_link_local(interface):
                yield from self._against_banned(request, interface.ip, field_name, ())

    def against_home(self, request: Request, virtual_ip: VirtualIP, membership: Membership) -> list[Objection]:
        """Objections that are known with the links on which it would live."""
        found: list[Objection] = []
        for index, interface in enumerate(_parsed(virtual_ip.spec.addresses)):
            if is_link_local(interface):
                found += self._against_banned(request, interface.ip, _field(request, index), membership.places)
            elif self._brings_a_route(interface, virtual_ip, membership):
                found += self._against_route(request, interface, _field(request, index))
        return found

    def _brings_a_route(self, interface: Interface, virtual_ip: VirtualIP, membership: Membership) -> bool:
        """Whether a node has no address in its network there: then it gets a route to that network with it.

        Not where another node has that network on its link: then that is where it is.
        """
        network = interface.network
        if network.prefixlen == network.max_prefixlen:
            return False
        holding = [self._holding(found, interface) for found in membership.places]
        if any(own.prefixlen <= network.prefixlen for networks in holding for own in networks):
            return False
        is_unknown = virtual_ip.spec.interface is not None and not all(one.is_known for one in membership.members)
        return is_unknown or not all(holding)

    def _holding(self, home: str, interface: Interface) -> list[IPv4Network | IPv6Network]:
        return [
            own.network
            for own in self._links.get(home, ())
            if own.network.prefixlen < own.max_prefixlen and interface.ip in own.network
        ]

    def _against_route(self, request: Request, interface: Interface, field_name: str) -> Iterator[Objection]:
        network = interface.network
        whole = Span(network.version, int(network.network_address), int(network.broadcast_address))
        others = self._forbidden.spans.meeting(Spans([whole]))
        if others is not None:
            message = (
                f"{field_name}: must have a longer prefix, or live where nodes have an address in {network}: they"
                f" would get a route to it, and {others} is forbidden"
            )
            has_it = any(interface in _parsed(router.addresses) for router in request.running.values())
            yield Objection(ConditionReason.ADDRESS_NOT_PERMITTED, message, has_it)

    def _against_banned(
        self, request: Request, address: Address, field_name: str, places: Collection[str]
    ) -> Iterator[Objection]:
        is_in_force = address in request.had
        for ban in self._forbidden.bans(address, places, is_in_force=is_in_force):
            if self._is_owners_own(request, address, ban):
                continue
            message = f"{field_name}: must not be {ban.words}, which {address} is"
            goes_on = is_in_force and (not ban.is_given_up or request.runs_as_owner_on(ban.owner))
            yield Objection(ConditionReason.ADDRESS_NOT_PERMITTED, message, goes_on)

    def _is_owners_own(self, request: Request, address: Address, ban: Ban) -> bool:
        """Whether a node has the address that is to own it, and a pool says that nodes do."""
        owners = [
            entry.node_name
            for entry in request.virtual_ip.spec.nodes.priorities
            if entry.priority == PRIORITY_OWNER and entry.node_name == ban.owner
        ]
        return bool(owners) and self._is_node_owned(request, address)

    def _is_node_owned(self, request: Request, address: Address) -> bool:
        pool = self._pools.of(address)
        return pool is not None and pool.spec.node_owned and self._pools.admits(pool, request.namespace)

    def _against_owners(self, request: Request, interfaces: Sequence[Interface]) -> Iterator[Objection]:
        for index, entry in enumerate(request.virtual_ip.spec.nodes.priorities):
            if entry.priority != PRIORITY_OWNER:
                continue
            for interface in interfaces:
                if not self._is_node_owned(request, interface.ip):
                    yield Objection(
                        ConditionReason.ADDRESS_NOT_PERMITTED,
                        f"spec.nodes.priorities[{index}].priority: must be below {PRIORITY_OWNER}: no AddressPool with"
                        f" nodeOwned gives {interface.ip} to namespace {request.namespace}",
                        request.runs_as_owner_on(entry.node_name),
                    )

    def _against_quotas(
        self, request: Request, wanted: frozenset[Address], pools: Sequence[Pool]
    ) -> Iterator[Objection]:
        for pool in pools:
            mine = {
                address
                for address in wanted
                if address in pool.spans and self._use.owners.get(address, request.key) == request.key
            }
            if not mine:
                continue  # they are another VirtualIP's, and it is refused for that
            quota = pool.spec.namespace_quota
            if quota.addresses is not None:
                goes_on = mine <= request.had
                others = self._others(pool, request, goes_on=goes_on)
                if sum(map(len, others)) + len(mine) > quota.addresses:
                    yield _beyond(request, pool, f"{quota.addresses} addresses", goes_on)
            if quota.virtual_router_ids is not None:
                goes_on = not mine.isdisjoint(request.had)
                if len(self._others(pool, request, goes_on=goes_on)) + 1 > quota.virtual_router_ids:
                    yield _beyond(request, pool, f"{quota.virtual_router_ids} VRIDs", goes_on)

    def _others(self, pool: Pool, request: Request, *, goes_on: bool) -> list[set[Address]]:
        """What others have of the pool. Of those that run, the younger ones are beyond a quota."""
        return (self._judged if goes_on else self._use).of_others(pool, request)

    def _against_probes(self, request: Request, virtual_ip: VirtualIP) -> Iterator[Objection]:
        if not virtual_ip.spec.track.probes:
            return
        running = [
            probe
            for node_name in request.running
            for tracking in self._view.speakers[node_name].spec.tracking
            if tracking.virtual_ip == request.key
            for probe in tracking.probes
        ]
        for probe, message in probe_violations(virtual_ip, self._view):
            yield Objection(ConditionReason.PROBE_NOT_PERMITTED, message, structs.replace(probe, nodes=[]) in running)

    def _nodes(self, request: Request, pools: Sequence[Pool]) -> tuple[Sequence[NodeView], list[Objection]]:
        nodes: Sequence[NodeView] = self._view.nodes
        outside: list[Objection] = []
        for pool in pools:
            template = pool.spec.virtual_ip_template.nodes
            if template is None:
                continue
            allowed = NodeSelection(selector=template.selector, names=template.names)
            left = {node.name for node in nodes if fits(allowed, node)}
            staying = [node for node in nodes if node.name not in left and node.name in request.running]
            told = [node.name for node in staying if fits(request.virtual_ip.spec.nodes, node)]
            if told:
                message = f"spec.nodes: must select nodes that AddressPool {pool.name} allows, which {told[0]} is not"
                outside.append(Objection(ConditionReason.NOT_PERMITTED_BY_POOL, message, is_in_force=True))
            nodes = [node for node in nodes if node.name in left or node.name in request.running]
        return nodes, outside


def given_up(running: Mapping[str, VirtualRouterConfiguration], forbidden: Forbidden) -> frozenset[Address]:
    """Of the addresses that run those that are given up at once, whatever is said of the VirtualIP.

    Those that a Node object or the API server's endpoints have; but not those of the node that runs it as their owner.
    """
    owners = {name for name, router in running.items() if router.priority == PRIORITY_OWNER}
    had = running_addresses(running)
    return frozenset(address for address in had if forbidden.must_be_given_up(address, owners))


def running_addresses(running: Mapping[str, VirtualRouterConfiguration]) -> frozenset[Address]:
    """All that the nodes were told to hold of a VirtualIP: on each of them, as a rule, the same."""
    return addresses_of({text for router in running.values() for text in router.addresses})


def addresses_of(texts: Iterable[str]) -> frozenset[Address]:
    """Those that are addresses, without their prefix lengths."""
    return frozenset(interface.ip for interface in _parsed(texts))


def _parsed(texts: Iterable[str]) -> list[Interface]:
    return [found for text in texts if (found := parse_interface(text)) is not None]


def _field(request: Request, index: int) -> str:
    return f"{'status' if request.is_given_addresses else 'spec'}.addresses[{index}]"


def _beyond(request: Request, pool: Pool, quota: str, goes_on: bool) -> Objection:
    message = f"spec.addresses: namespace {request.namespace} may have {quota} of AddressPool {pool.name}, and no more"
    return Objection(ConditionReason.QUOTA_EXCEEDED, message, goes_on)


def _with_template(request: Request, addresses: Sequence[str], pool: Pool | None, view: ClusterView) -> VirtualIP:
    spec = structs.replace(request.virtual_ip.spec, addresses=list(addresses))
    if pool is not None:
        template = pool.spec.virtual_ip_template
        if template.transport is not None and "transport" not in request.given:
            spec = structs.replace(spec, transport=template.transport)
        if template.nopreempt is not None and "nopreempt" not in request.given:
            spec = structs.replace(spec, nopreempt=template.nopreempt)
        interval = template.advertisement_interval_milliseconds
        # Version 2 has whole seconds alone, and its author did not choose this.
        fits = interval is not None and (spec.version == 3 or interval % 1000 == 0)
        if interval is not None and fits and "advertisementIntervalMilliseconds" not in request.given:
            spec = structs.replace(spec, advertisement_interval_milliseconds=interval)
        if template.interface is not None and spec.interface is None:
            spec = structs.replace(spec, interface=_interface(request, template.interface, view))
    return structs.replace(request.virtual_ip, spec=spec)


def _interface(request: Request, wanted: str, view: ClusterView) -> str | None:
    """The template's, unless it runs on another one already: to change that would be to move it."""
    named = {router.interface for router in request.running.values()}
    if named <= {wanted}:
        return wanted
    if all(place_of(router, view.speakers.get(name)) == wanted for name, router in request.running.items()):
        return wanted
    return named.pop() if len(named) == 1 else None


def _against_interface(request: Request, virtual_ip: VirtualIP, pools: Sequence[Pool]) -> Iterator[Objection]:
    has = virtual_ip.spec.interface
    for pool in pools:
        wanted = pool.spec.virtual_ip_template.interface
        if wanted is None or wanted == has:
            continue
        is_in_force = bool(request.running) and {router.interface for router in request.running.values()} <= {has}
        message = f"spec.interface: must be {wanted}, as AddressPool {pool.name} has it, or be left out"
        goes_on = is_in_force or (request.virtual_ip.spec.interface is None and bool(request.running))
        yield Objection(ConditionReason.NOT_PERMITTED_BY_POOL, message, goes_on)


def _vrids(pools: Sequence[Pool]) -> frozenset[int] | None:
    ranges = [pool.spec.virtual_router_ids for pool in pools]
    sets = [frozenset(range(found.first, found.last + 1)) for found in ranges if found is not None]
    return frozenset.intersection(*sets) if sets else None


def _against_vrid(request: Request, pools: Sequence[Pool]) -> Iterator[Objection]:
    pinned = request.virtual_ip.spec.virtual_router_id
    running = {router.virtual_router_id for router in request.running.values()}
    for pool in pools:
        vrids = pool.spec.virtual_router_ids
        if vrids is None:
            continue
        for vrid in sorted(running) if pinned is None else [pinned]:
            if not vrids.first <= vrid <= vrids.last:
                message = (
                    f"spec.virtualRouterID: must be from {vrids.first} to {vrids.last}, as AddressPool {pool.name} has"
                )
                yield Objection(ConditionReason.NOT_PERMITTED_BY_POOL, f"{message} it, not {vrid}", vrid in running)
