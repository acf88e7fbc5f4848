"""AddressPools: what they hold, who may have of it, and how much is left. Pure.

Pools that give addresses have none in common: of two that overlap the younger is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from holdfast_api.addresses import Address, parse_address, parse_interface, why_no_address
from holdfast_api.cluster import Condition, ConditionType
from holdfast_api.documents import path_and_reason
from holdfast_api.listing import some_of
from holdfast_api.pools import (
    ADDRESSES_TOLD_MAX,
    REBALANCE_ANNOTATION,
    REQUESTED_MAX,
    AddressPool,
    AddressPoolSpec,
    AddressPoolStatus,
    PoolConditionReason,
    Rebalance,
)
from holdfast_api.resources import HostPorts
from holdfast_kube.selectors import selects
from holdfast_operator.planner.cluster import lenient
from holdfast_operator.planner.cluster.spans import Span, Spans
from holdfast_operator.planner.cluster.view import ClusterView
from holdfast_operator.planner.host.policies import requirement_violations

_TOLD_MAX: Final = 8
"""Pools that a message names."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """An AddressPool that gives addresses."""

    name: str
    spec: AddressPoolSpec
    spans: Spans
    unknown: Sequence[str] = ()
    """Fields that this version does not know."""

    def admits(self, namespace: str, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether VirtualIPs of the namespace may have of it. `namespaces` are the labels of each that is known."""
        wanted = self.spec.namespaces
        if not wanted.names and wanted.selector is None:
            return True
        if namespace in wanted.names:
            return True
        # Of one whose labels nobody has told, a selector can say nothing.
        return (
            wanted.selector is not None and namespace in namespaces and selects(wanted.selector, namespaces[namespace])
        )

    def __str__(self) -> str:
        """As a message names it."""
        return f"{self.name} ({', '.join(self.spec.addresses[:4])}{', ...' if len(self.spec.addresses) > 4 else ''})"


@dataclass(frozen=True, slots=True)
class RefusedPool:
    """An AddressPool that gives nothing, and why."""

    reason: PoolConditionReason
    message: str
    spans: Spans = field(default_factory=Spans)


class Pools:
    """All AddressPools of a cluster."""

    def __init__(self, view: ClusterView) -> None:
        raws = [raw for raw in view.pools if "deletionTimestamp" not in raw["metadata"]]
        self._raws = {str(raw["metadata"]["name"]): raw for raw in sorted(raws, key=_age)}
        self._namespaces = view.namespaces
        self.giving: dict[str, Pool] = {}
        """By name, the oldest first."""
        self.refused: dict[str, RefusedPool] = {}
        required = view.rules.pools_required
        self.are_required = bool(self._raws) or (view.pools_ever if required is None else required)
        """Whether an address must be in one of them."""
        for name, raw in self._raws.items():
            found = _read(raw)
            if isinstance(found, RefusedPool):
                self.refused[name] = found
                continue
            other = next((other for other in self.giving.values() if found.spans.meeting(other.spans)), None)
            if other is None:
                self.giving[name] = found
                continue
            meeting = found.spans.meeting(other.spans)
            message = (
                f"spec.addresses: must have no address that an older pool has: {meeting} meets AddressPool {other}"
            )
            self.refused[name] = RefusedPool(PoolConditionReason.OVERLAPS, message, found.spans)

    def of(self, address: Address) -> Pool | None:
        """The one that has the address; None: none that gives any."""
        return next((pool for pool in self.giving.values() if address in pool.spans), None)

    def admits(self, pool: Pool, namespace: str) -> bool:
        """Whether it gives addresses to the namespace."""
        return pool.admits(namespace, self._namespaces)

    def admitting(self, namespace: str) -> list[Pool]:
        """Those that give addresses to the namespace, the oldest first."""
        return [pool for pool in self.giving.values() if pool.admits(namespace, self._namespaces)]

    def why_not(self, address: Address, namespace: str, wanted: str | None) -> str:
        """Why a VirtualIP of the namespace may not have it, with the pools that would do; empty: it may.

        `wanted` is the pool that the VirtualIP names.
        """
        pool = self.of(address)
        if pool is None and not self.are_required and wanted is None:
            return ""
        if pool is None:
            refused = [name for name, one in self.refused.items() if address in one.spans]
            where = f"only in AddressPool {refused[0]}, which is refused itself" if refused else "in no AddressPool"
            return f"{address} is {where}; {self._would_do(namespace, wanted)}"
        if not pool.admits(namespace, self._namespaces):
            return f"{address} is in AddressPool {pool.name}, which does not admit namespace {namespace}; " + (
                self._would_do(namespace, wanted)
            )
        if wanted is not None and pool.name != wanted:
            return f"{address} is in AddressPool {pool.name}, and spec.addressPool names {wanted}"
        return ""

    def _would_do(self, namespace: str, wanted: str | None) -> str:
        would = [str(pool) for pool in self.admitting(namespace) if wanted in (None, pool.name)]
        if not would:
            return (
                f"no AddressPool admits namespace {namespace}"
                if wanted is None
                else self.why_not_named(wanted, namespace)
            )
        return f"namespace {namespace} may have those of {some_of(would, _TOLD_MAX)}"

    def why_not_named(self, name: str, namespace: str) -> str:
        """Why a VirtualIP of the namespace is given none of the pool that it names; empty: it may be."""
        if name in self.refused:
            return f"AddressPool {name} is refused itself"
        if name not in self.giving:
            return f"there is no AddressPool {name}"
        if not self.giving[name].admits(namespace, self._namespaces):
            return f"AddressPool {name} does not admit namespace {namespace}"
        return ""

    def host_ports(self, addresses: Iterable[Address]) -> HostPorts:
        """Of the VirtualIP of Services that has these: open only where the pool of each of them says so."""
        pools = [self.of(address) for address in addresses]
        said = [pool.spec.virtual_ip_template.host_ports if pool is not None else None for pool in pools]
        is_open = bool(said) and all(one is HostPorts.OPEN for one in said)
        return HostPorts.OPEN if is_open else HostPorts.CLOSED

    def requested(self, name: str) -> str:
        """What the annotation holdfast.dev/rebalance of a pool says; empty: nothing, or the pool is refused."""
        found = (self._raws[name]["metadata"].get("annotations") or {}).get(REBALANCE_ANNOTATION, "")
        return str(found)[:REQUESTED_MAX] if name in self.giving else ""

    def last_rebalance(self, name: str) -> Rebalance | None:
        """How far the last one was; None: nobody asked for one."""
        return decode_pool_status(self._raws[name]).rebalance

    def statuses(self, assigned: Collection[Address], forbidden: Spans, now: str) -> dict[str, AddressPoolStatus]:
        """What is to be said of each, by its name. `assigned` are the addresses that VirtualIPs have."""
        return {name: self._status(name, raw, assigned, forbidden, now) for name, raw in sorted(self._raws.items())}

    def _status(
        self, name: str, raw: Mapping[str, Any], assigned: Collection[Address], forbidden: Spans, now: str
    ) -> AddressPoolStatus:
        old = decode_pool_status(raw)
        refused = self.refused.get(name)
        spans = refused.spans if refused else self.giving[name].spans
        own = [address for address in assigned if address in spans]
        free = spans.without(forbidden)
        available = 0 if refused else free.size - sum(address in free for address in own)
        generation = int(raw["metadata"].get("generation", 0))
        return AddressPoolStatus(
            observed_generation=generation,
            capacity=min(spans.size, ADDRESSES_TOLD_MAX),
            assigned=len(own),
            available=min(available, ADDRESSES_TOLD_MAX),
            conditions=[_accepted(refused, () if refused else self.giving[name].unknown, old, generation, now)],
        )


def decode_pool_status(raw: Mapping[str, Any]) -> AddressPoolStatus:
    """What the API server has; nothing where it cannot be read."""
    try:
        return msgspec.convert(raw.get("status") or {}, AddressPoolStatus)
    except msgspec.ValidationError:
        return AddressPoolStatus()


def _accepted(
    refused: RefusedPool | None, unknown: Sequence[str], old: AddressPoolStatus, generation: int, now: str
) -> Condition:
    status: Literal["True", "False"] = "False" if refused else "True"
    before = next((one for one in old.conditions if one.type == ConditionType.ACCEPTED and one.status == status), None)
    return Condition(
        type=ConditionType.ACCEPTED,
        status=status,
        reason=refused.reason if refused else PoolConditionReason.ACCEPTED,
        message=refused.message[:1024] if refused else _given(unknown),
        last_transition_time=before.last_transition_time if before else now,
        observed_generation=generation,
    )


def _given(unknown: Sequence[str]) -> str:
    passed_over = (
        f"; not known to this version, and without effect: {', '.join(unknown[:_TOLD_MAX])}" if unknown else ""
    )
    return f"VirtualIPs may have its addresses{passed_over}"[:1024]


def _age(raw: Mapping[str, Any]) -> tuple[str, str]:
    return str(raw["metadata"].get("creationTimestamp", "")), str(raw["metadata"]["name"])


def _read(raw: Mapping[str, Any]) -> Pool | RefusedPool:
    known, unknown = lenient.without_unknown_fields(raw, AddressPool)
    try:
        pool = msgspec.convert(known, AddressPool)
    except msgspec.ValidationError as error:
        where, reason = path_and_reason(error)
        return RefusedPool(PoolConditionReason.INVALID, f"{where}: {reason}" if where else reason)
    spans: list[Span] = []
    problems: list[str] = []
    for index, text in enumerate(pool.spec.addresses):
        found = _span(text)
        if isinstance(found, Span):
            spans.append(found)
        else:
            problems.append(f"spec.addresses[{index}]: {found}")
    problems += _fields(pool.spec)
    if problems:
        return RefusedPool(PoolConditionReason.INVALID, "; ".join(problems))
    return Pool(pool.metadata.name, pool.spec, Spans(spans), tuple(unknown))


def _fields(spec: AddressPoolSpec) -> Iterator[str]:
    vrids, template = spec.virtual_router_ids, spec.virtual_ip_template
    if vrids is not None and vrids.first > vrids.last:
        yield f"spec.virtualRouterIDs.last: must not be below first, which is {vrids.first}"
    if spec.node_owned and spec.auto_assign:
        yield "spec.autoAssign: must be false with nodeOwned: an address of a node is given to nobody by itself"
    selectors = {
        "spec.namespaces.selector": spec.namespaces.selector,
        "spec.virtualIPTemplate.nodes.selector": template.nodes.selector if template.nodes else None,
    }
    for place, selector in selectors.items():
        for index, requirement in enumerate(selector.match_expressions if selector is not None else ()):
            for name, message in requirement_violations(requirement):
                yield f"{place}.matchExpressions[{index}].{name}: {message}"


def _span(text: str) -> Span | str:
    """What an entry stands for, or what is wrong with it."""
    first_text, dash, last_text = text.partition("-")
    if dash:
        return _range(first_text, last_text)
    interface = parse_interface(text)
    if interface is None:
        return why_no_address(text, may_have_prefix=True)
    network = interface.network
    if interface.ip != network.network_address and network.prefixlen < network.max_prefixlen:
        host = f"{interface.ip}"
        return f"must be the prefix {network} or the address {host}, not {text}"
    first, last = int(network.network_address), int(network.broadcast_address)
    # RFC 3021 and RFC 6164: the two addresses of a link between two routers are both hosts'.
    if network.max_prefixlen - network.prefixlen > 1:
        first, last = first + 1, last - (network.version == 4)
    return Span(network.version, first, last)


def _range(first_text: str, last_text: str) -> Span | str:
    first, last = parse_address(first_text), parse_address(last_text)
    if first is None:
        return why_no_address(first_text, may_have_prefix=False)
    if last is None:
        return why_no_address(last_text, may_have_prefix=False)
    if first.version != last.version:
        return f"must be of one family, which {first} and {last} are not"
    if int(first) > int(last):
        return f"must begin with the lower address: {last}-{first}"
    return Span(first.version, int(first), int(last))
