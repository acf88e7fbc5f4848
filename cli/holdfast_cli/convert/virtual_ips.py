"""From virtual routers to VirtualIPs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from msgspec.structs import replace

from holdfast_api.resources import (
    Authentication,
    Metadata,
    NodeSelection,
    Transport,
    VirtualIP,
    VirtualIPSpec,
)
from holdfast_cli.convert.election import preemption, priorities, settled, source_addresses, start_delay
from holdfast_cli.convert.ledger import Ledger, Place
from holdfast_cli.convert.merge import Router
from holdfast_cli.convert.model import Address
from holdfast_cli.convert.notifications import notifications
from holdfast_cli.convert.tracking import track
from holdfast_operator.planner.host.policies import ADDRESSES_PER_FAMILY_MAX, violations

_PEERS_MAX = 64
_NODES_MAX = 64
_NAME_LENGTH_MAX = 63


@dataclass(frozen=True, slots=True)
class Converted:
    """A VirtualIP and the router that it was made of."""

    virtual_ip: VirtualIP
    router: Router


class Writer:
    """Makes the VirtualIPs of all routers, with names that are unique among them."""

    def __init__(self, ledger: Ledger, hosts: int, *, sticky: bool) -> None:
        self._ledger = ledger
        self._hosts = hosts
        self._sticky = sticky
        self._names: set[str] = set()
        self._held: dict[str, str] = {}
        """Which VirtualIP has an address."""

    def convert(self, router: Router) -> list[Converted]:
        """One VirtualIP, and more where its addresses are too many for one or do not fit its version."""
        addresses = self._addresses(router)
        if not addresses:
            for member in router.everyone:
                self._ledger.leave_out(member.statement, "has no virtual address, so there is no VirtualIP")
            return []
        spec = self._spec(router)
        portions = _portions(addresses, spec.version)
        made = [self._one(router, spec, portion, addresses) for portion in portions]
        if len(made) > 1:
            names = ", ".join(converted.virtual_ip.metadata.name for converted in made)
            text = (
                f"its addresses become {names}: one VirtualIP has at most {ADDRESSES_PER_FAMILY_MAX} of a family, "
                "and IPv4 alone with version 2. They have the same inputs, and elect their holders one by one"
            )
            self._ledger.differs(router.members[0].statement, text)
        return made

    def _addresses(self, router: Router) -> list[Address]:
        """The addresses of all hosts, each once."""
        found: dict[str, Address] = {}
        for member in router.everyone:
            own = {str(address.interface.ip): address for address in member.addresses}
            for address in member.addresses:
                first = found.setdefault(str(address.interface.ip), address)
                if own[str(address.interface.ip)] is not address:
                    self._ledger.leave_out(address.statement, "is there twice")
                elif first.interface != address.interface:
                    text = f"all nodes have the same prefix length: {first.interface}, not {address.interface}"
                    self._ledger.differs(address.statement, text)
        for member in router.members:
            # A partner's addresses are of the other family, and no other host's members have them.
            everyone_here = [other for other in router.everyone if other.node == member.node]
            own_addresses = {str(address.interface.ip) for other in everyone_here for address in other.addresses}
            missing = [address for address in found if address not in own_addresses]
            if missing:
                text = (
                    f"{member.node} does not have {', '.join(missing)}, and will have them; keepalived up to 2.3.2 "
                    "does not obey advertisements with other addresses than its own"
                )
                self._ledger.differs(member.where("virtual_ipaddress"), text)
        return list(found.values())

    def _spec(self, router: Router) -> VirtualIPSpec:
        """The spec, apart from what depends on the addresses' families."""
        version = settled(router, "version", lambda member: member.version, self._ledger)
        password = settled(router, "authentication", lambda member: member.password, self._ledger)
        nopreempt, delay = preemption(router, self._ledger, sticky=self._sticky)
        peers = self._peers(router)
        return VirtualIPSpec(
            addresses=[],
            nopreempt=nopreempt,
            nodes=self._nodes(router),
            advertisement_interval_milliseconds=settled(
                router, "advert_int", lambda member: member.interval_ms, self._ledger, min
            ),
            track=track(router, nopreempt=nopreempt, ledger=self._ledger),
            virtual_router_id=settled(
                router, "virtual_router_id", lambda member: member.virtual_router_id, self._ledger
            ),
            version=3 if version == 3 else 2,
            interface=self._interface(router),
            preempt_delay_seconds=delay,
            start_delay_seconds=start_delay(router, self._ledger),
            transport=Transport.UNICAST if peers else Transport.MULTICAST,
            external_peers=peers,
            authentication=Authentication(simple_password=password) if password and version == 2 else None,
            notify=notifications(router, self._ledger),
        )

    def _nodes(self, router: Router) -> NodeSelection:
        names = [member.node for member in router.members]
        if len(names) > _NODES_MAX:
            reason = f"must not be on more than {_NODES_MAX} hosts"
            self._ledger.refuse(router.members[0].statement.place, "vrrp_instance", reason)
        if self._hosts == 1:
            names = []  # the other hosts are not known, so any node may hold it
        elif len(names) == 1:
            text = f"is in the configuration of {names[0]} alone, so that no other node may hold the VirtualIP"
            self._ledger.remark(router.members[0].statement, text)
        return NodeSelection(
            names=names,
            priorities=priorities(router, self._ledger),
            source_addresses=source_addresses(router, self._ledger),
        )

    def _interface(self, router: Router) -> str | None:
        names = {member.interface for member in router.everyone}
        if len(names) == 1:
            return names.pop() or None
        for member in router.everyone:
            text = (
                "the hosts have different ones, so the VirtualIP names none: Holdfast takes the interface whose subnet "
                "holds the address, or `holdfast run --interface`"
            )
            self._ledger.differs(member.where("interface"), text)
        return None

    def _peers(self, router: Router) -> list[str]:
        """Every router that any host sends to, and the hosts' own addresses: a node leaves its own one out."""
        peers = [
            peer
            for member in router.everyone
            if member.peers
            for peer in [*member.peers, *([member.source] if member.source else [])]
        ]
        for member in router.everyone:
            if member.peers:
                continue
            if "unicast_peer" in member.said:
                text = "has no peers: keepalived falls back to multicast"
                self._ledger.differs(member.where("unicast_peer"), text)
            elif peers:
                self._ledger.differs(member.statement, f"{member.node} has no unicast_peer; all nodes send unicast now")
        addresses = [str(peer) for peer in dict.fromkeys(peers)]
        if len(addresses) > _PEERS_MAX:
            reason = f"must not have more than {_PEERS_MAX} routers, with those of the other hosts"
            self._ledger.refuse(router.members[0].where("unicast_peer").place, "unicast_peer", reason)
        return addresses

    def _one(
        self, router: Router, spec: VirtualIPSpec, portion: Sequence[Address], addresses: Sequence[Address]
    ) -> Converted:
        families = {address.interface.version for address in portion}
        first_of_family = [
            next((address for address in addresses if address.interface.version == family), None) for family in (4, 6)
        ]
        peers = [peer for peer in spec.external_peers if ip_address(peer).version in families]
        sources = [source for source in spec.nodes.source_addresses if ip_address(source.address).version in families]
        if spec.external_peers and not peers:
            text = "IPv6 addresses beside IPv4 ones have no peers of their family, so their VirtualIP uses multicast"
            self._ledger.differs(portion[0].statement, text)
        made = replace(
            spec,
            addresses=[str(address.interface) for address in portion],
            version=3 if 6 in families else spec.version,
            authentication=None if 6 in families else spec.authentication,
            # One id serves one virtual router of each family; a further one needs an id of its own.
            virtual_router_id=spec.virtual_router_id if any(a in first_of_family for a in portion) else None,
            transport=Transport.UNICAST if peers else Transport.MULTICAST,
            external_peers=peers,
            nodes=replace(spec.nodes, source_addresses=sources),
        )
        virtual_ip = VirtualIP(metadata=Metadata(name=self._name(router.members[0].name)), spec=made)
        self._refuse_violations(router, virtual_ip, portion)
        return Converted(virtual_ip, router)

    def _refuse_violations(self, router: Router, virtual_ip: VirtualIP, portion: Sequence[Address]) -> None:
        for violation in violations(virtual_ip):
            match = re.fullmatch(r"spec\.addresses\[(\d+)\]", violation.field)
            place: Place = (portion[int(match[1])] if match else router.members[0]).statement.place
            self._ledger.refuse(place, violation.field, violation.message)
        for address in portion:
            holder = self._held.setdefault(str(address.interface.ip), virtual_ip.metadata.name)
            if holder != virtual_ip.metadata.name:
                reason = f"must be in one VirtualIP alone, and is in {holder}"
                self._ledger.refuse(address.statement.place, str(address.interface), reason)

    def _name(self, instance: str) -> str:
        base = re.sub(r"[^a-z0-9]+", "-", instance.lower()).strip("-")[:_NAME_LENGTH_MAX].strip("-") or "vip"
        name, number = base, 2
        while name in self._names:
            ending = f"-{number}"
            name, number = base[: _NAME_LENGTH_MAX - len(ending)].rstrip("-") + ending, number + 1
        self._names.add(name)
        return name


def _portions(addresses: Sequence[Address], version: int) -> list[list[Address]]:
    """Addresses that fit one VirtualIP each, in their order."""
    by_family = [[a for a in addresses if a.interface.version == family] for family in (4, 6)]
    chunks = [
        [family[start : start + ADDRESSES_PER_FAMILY_MAX] for start in range(0, len(family), ADDRESSES_PER_FAMILY_MAX)]
        for family in by_family
    ]
    four, six = chunks
    if version == 2:
        return [*four, *six]
    return [
        sorted((four[i] if i < len(four) else []) + (six[i] if i < len(six) else []), key=addresses.index)
        for i in range(max(len(four), len(six)))
    ]
