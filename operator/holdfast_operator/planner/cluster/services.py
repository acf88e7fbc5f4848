"""Services of type LoadBalancer: the VirtualIPs that are made for them. Pure; docs/adr/0033 says why it is so.

Each Service, or all of a namespace that share an address, has a VirtualIP, which is planned as any other: with the same
pools, permissions and claims. What a Service asks for and cannot have leaves what it has as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast_api.addresses import Address, parse_interface
from holdfast_kube.objects import key_of
from holdfast_operator.planner.cluster.claims import Accepted, Refusal, Verdict
from holdfast_operator.planner.cluster.permission import Want
from holdfast_operator.planner.cluster.pools import Pools
from holdfast_operator.planner.cluster.services_records import is_made_for_services, manifest, record_of
from holdfast_operator.planner.cluster.services_sharing import Group, Grouping, grouped
from holdfast_operator.planner.cluster.services_wishes import Wish, is_ours, read
from holdfast_operator.planner.cluster.view import ClusterView


@dataclass(frozen=True, slots=True)
class _Ask:
    """What a group's VirtualIP is to be, as it goes to be judged."""

    addresses: Sequence[str]
    pool: str | None
    want: Want


class Demand:
    """The VirtualIPs of all Services, while it is found out which of them can be put in force."""

    def __init__(self, view: ClusterView, raws: Mapping[str, Mapping[str, Any]], pools: Pools) -> None:
        """`raws` are all VirtualIPs that are not being deleted, by key."""
        self.view = view
        self._pools = pools
        self.wishes: Sequence[Wish] = ()
        self.grouping = Grouping((), {}, ())
        self.refusals: dict[str, Refusal] = {}
        """By the VirtualIP's key: why what is asked for is not put in force."""
        self._users = dict(raws)
        if view.services is not None:
            self.wishes = [read(raw) for raw in view.services if is_ours(raw, view.rules)]
            made = {key for key, raw in raws.items() if is_made_for_services(raw)}
            self._users = {key: raw for key, raw in raws.items() if key not in made}
            # One that a user deletes has its name for as long as it is there.
            others = {key_of(raw) for raw in view.virtual_ips} - made
            self.grouping = grouped(self.wishes, [record_of(key, raws[key]) for key in made], others, pools)
        self._asks = {group.key: self._ask(group) for group in self.grouping.groups}

    @property
    def groups(self) -> Mapping[str, Group]:
        """By the key of their VirtualIP."""
        return {group.key: group for group in self.grouping.groups if group.key in self._asks}

    @property
    def raws(self) -> dict[str, Mapping[str, Any]]:
        """All VirtualIPs that are to be judged: users' own, and those of Services as they are to be."""
        return {**self._users, **{key: self._raw(group) for key, group in self.groups.items()}}

    def is_made(self, key: str) -> bool:
        """Whether a VirtualIP is to be there."""
        return key in self._asks

    def pool_of(self, key: str) -> str | None:
        """The AddressPool that a VirtualIP's addresses are to be from, where its Services name one."""
        return self._asks[key].pool

    @property
    def wants(self) -> Mapping[str, Want]:
        """What each of these is to be given."""
        return {key: ask.want for key, ask in self._asks.items()}

    @property
    def going(self) -> Mapping[str, Sequence[str]]:
        """The addresses of those that are being taken off the nodes."""
        return {record.key: record.texts for record in self.grouping.going}

    def settle(self, verdicts: Mapping[str, Verdict]) -> bool:
        """Whether all is settled; else something that was refused is as it was before, and is to be judged again.

        A VirtualIP that is refused and not there yet is not made at all.
        """
        is_settled = True
        for key, group in self.groups.items():
            verdict = verdicts[key]
            if isinstance(verdict, Accepted):
                continue
            self.refusals.setdefault(key, verdict)
            before = _as_before(group)
            if before is None:
                del self._asks[key]
            elif self._asks[key] != before:
                self._asks[key] = before
                is_settled = False
        return is_settled

    def manifests(self, verdicts: Mapping[str, Verdict]) -> Mapping[str, Mapping[str, Any]]:
        """Those that are to be there, by key."""
        found: dict[str, Mapping[str, Any]] = {}
        for key, group in sorted(self.groups.items()):
            verdict, ask = verdicts[key], self._asks[key]
            addresses = verdict.virtual_ip.spec.addresses if isinstance(verdict, Accepted) else ask.addresses
            found[key] = self._manifest(group, addresses, ask.pool)
        return found

    def _ask(self, group: Group) -> _Ask:
        record, pool, named = group.record, group.pool, group.named
        is_another_pool = record is not None and pool is not None and pool != record.pool
        addresses: list[Address] = []
        missing: list[int] = []
        for version in group.versions:
            has = record.addresses.get(version) if record is not None else None
            if has is not None and is_another_pool and getattr(self._pools.of(has), "name", None) != pool:
                has = None
            address = named.get(version, has)
            if address is None:
                missing.append(version)
            else:
                addresses.append(address)
        told = (address for wish in group.members for address in wish.told)
        return _Ask(
            addresses=tuple(str(address) for address in addresses),
            pool=pool,
            want=Want(
                recorded=record.texts if record is not None else (),
                missing=tuple(missing),
                required=group.required & {*missing},
                preferred=tuple(dict.fromkeys(address for address in told if address.version in missing)),
            ),
        )

    def _raw(self, group: Group) -> Mapping[str, Any]:
        ask = self._asks[group.key]
        made = self._manifest(group, ask.addresses, ask.pool)
        if group.record is not None:
            return {**group.record.raw, "spec": made["spec"]}
        return {**made, "metadata": {**made["metadata"], "creationTimestamp": group.members[0].created}}

    def _manifest(self, group: Group, addresses: Sequence[str], pool: str | None) -> dict[str, Any]:
        parsed = (parse_interface(text) for text in addresses)
        host_ports = self._pools.host_ports(address.ip for address in parsed if address is not None)
        return manifest(group.key, group.members, addresses, pool, group.sharing_key, host_ports)


def _as_before(group: Group) -> _Ask | None:
    """What it had; None: nothing."""
    record = group.record
    if record is None or not record.texts:
        return None
    return _Ask(record.texts, record.pool, Want(recorded=record.texts))


def addresses_of(verdict: Verdict | None, group: Group) -> Mapping[int, Address]:
    """What a group has, by the family."""
    if isinstance(verdict, Accepted):
        found = (parse_interface(text) for text in verdict.virtual_ip.spec.addresses)
        return {interface.version: interface.ip for interface in found if interface is not None}
    return group.record.addresses if group.record is not None else {}
