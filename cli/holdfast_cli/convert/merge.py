"""Which instances of several hosts are one virtual router, and what a sync group makes of its members."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast_cli.convert.ledger import Ledger
from holdfast_cli.convert.model import Host, Instance, SyncGroup, TrackedInterface

SAME_ADDRESSES = 1
SAME_ROUTER_AND_INTERFACE = 2
SAME_ROUTER_AND_NAME = 3
SAME_ROUTER_AND_ADDRESSES = 4


@dataclass(eq=False, slots=True)
class Router:
    """Instances, one a host, that elect one Master among them; with a partner for the other family that shares fate."""

    members: list[Instance]
    partners: list[Instance] = field(default_factory=list)
    releases: bool = False
    """A node that fails gives the addresses up, whoever else can have them: of a sync group."""

    @property
    def everyone(self) -> list[Instance]:
        """Members and partners."""
        return [*self.members, *self.partners]


def share_tracking(host: Host, ledger: Ledger) -> None:
    """Let the members of each sync group track what any of them does: in keepalived they fail together."""
    for group in host.groups:
        if not group.weights_count:
            _forget_weights(group, ledger)
        scripts = list(group.scripts)
        interfaces = list(group.interfaces)
        for member in group.members:
            scripts += member.scripts
            interfaces += member.interfaces
            if member.interface:
                interfaces.append(TrackedInterface(member.interface, 0, False, member.where("interface")))
        for member in group.members:
            member.scripts = list({entry.script.name: entry for entry in scripts}.values())
            member.interfaces = list({link.name: link for link in interfaces if link.name != member.interface}.values())


def _forget_weights(group: SyncGroup, ledger: Ledger) -> None:
    owners: list[SyncGroup | Instance] = [group, *group.members]
    for owner in owners:
        for entry in owner.scripts:
            if entry.weight:
                text = (
                    f"weight {entry.weight}: in a sync group keepalived ignores it with its script; Holdfast tracks it"
                )
                ledger.differs(entry.statement, text)
        for link in owner.interfaces:
            if link.weight:
                ledger.remark(link.statement, f"weight {link.weight}: in a sync group keepalived takes it for 0")
        owner.scripts = [dataclasses.replace(entry, weight=0) for entry in owner.scripts]
        owner.interfaces = [dataclasses.replace(link, weight=0) for link in owner.interfaces]


def find_routers(hosts: list[Host]) -> list[Router]:
    """The virtual routers of all hosts, in the order in which they come up first."""
    routers: list[Router] = []
    for host in hosts:
        # The surest pairs first, so that a likeness takes no router from the instance that it really belongs to.
        pairs = sorted(
            ((_likeness(instance, router), instance, router) for instance in host.instances for router in routers),
            key=lambda pair: -pair[0],
        )
        placed: set[Instance] = set()
        taken: set[Router] = set()
        for likeness, instance, router in pairs:
            if likeness and instance not in placed and router not in taken:
                router.members.append(instance)
                placed.add(instance)
                taken.add(router)
        routers += [Router([instance]) for instance in host.instances if instance not in placed]
    return routers


def _likeness(instance: Instance, router: Router) -> int:
    first = router.members[0]
    if first.family != instance.family:
        return 0
    known = {address.interface.ip for member in router.members for address in member.addresses}
    same_addresses = any(address.interface.ip in known for address in instance.addresses)
    if first.virtual_router_id != instance.virtual_router_id:
        return SAME_ADDRESSES if same_addresses else 0
    if same_addresses:
        return SAME_ROUTER_AND_ADDRESSES
    if any(member.name == instance.name for member in router.members):
        return SAME_ROUTER_AND_NAME
    if any(member.interface == instance.interface for member in router.members):
        return SAME_ROUTER_AND_INTERFACE
    return 0


def join_families(routers: list[Router], hosts: list[Host]) -> list[Router]:
    """Make one router of two that a sync group ties together and that differ in the family alone.

    Both must have version 3 on every host: one VirtualIP has one version, and what is on the wire stays as it is.
    """
    joined: list[Router] = []
    for router in routers:
        partner = next((other for other in joined if _fits(other, router, hosts)), None)
        if partner is None:
            joined.append(router)
        elif partner.members[0].family == 4:
            partner.partners = router.members
        else:
            partner.partners, partner.members = partner.members, router.members
    return joined


def _fits(one: Router, other: Router, hosts: list[Host]) -> bool:
    if one.partners or one.members[0].family == other.members[0].family:
        return False
    ours = {member.node: member for member in one.members}
    theirs = {member.node: member for member in other.members}
    return ours.keys() == theirs.keys() and all(
        mine.virtual_router_id == theirs[node].virtual_router_id
        and mine.interface == theirs[node].interface
        and mine.version == theirs[node].version == 3
        and bool(mine.peers) == bool(theirs[node].peers)
        and _are_grouped(mine, theirs[node], hosts)
        for node, mine in ours.items()
    )


def _are_grouped(one: Instance, other: Instance, hosts: list[Host]) -> bool:
    return any(one in group.members and other in group.members for host in hosts for group in host.groups)


def settle_groups(hosts: list[Host], routers: list[Router], ledger: Ledger) -> None:
    """Say what became of each sync group's shared fate.

    Where its members are several VirtualIPs and have no weights, each gives its addresses up with what the others
    fail with: one that would go on as a failing Master keeps them from a keepalived that does not preempt.
    """
    router_of = {instance: router for router in routers for instance in router.everyone}
    for group in (group for host in hosts for group in host.groups):
        _settle_notify(group, router_of, ledger)
        names = ", ".join(member.name for member in group.members)
        if len(group.members) < 2:
            ledger.remark(group.statement, f"{names} is its only member, so that there is no fate to share")
            continue
        if len({id(router_of.get(member)) for member in group.members}) == 1:
            ledger.remark(group.statement, f"{names}: one VirtualIP, whose addresses of both families move together")
            continue
        releases = "" if group.weights_count else " and give their addresses up (`track.whenFailing: Release`)"
        for member in group.members if releases else []:
            router_of[member].releases = True
        text = (
            f"{names}: each tracks the scripts and interfaces of all, so that they fail together{releases}; "
            "a move for another reason (a switchover, lost advertisements) moves only the VirtualIP concerned"
        )
        if len({member.family for member in group.members}) == 2 and any(m.version == 2 for m in group.members):
            text += "; with vrrp_version 3 the two families of one virtual router would be one VirtualIP"
        ledger.differs(group.statement, text)


def _settle_notify(group: SyncGroup, router_of: Mapping[Instance, Router], ledger: Ledger) -> None:
    """The group's scripts are told with its first member that is a VirtualIP."""
    found = [member for member in group.members if member.addresses]
    if not found:
        return
    first = next((member for member in found if member in router_of[member].members), found[0])
    first.group_notify += group.notify
    if len({id(router_of[member]) for member in found}) > 1:
        for one in group.notify:
            text = f"is told of {first.name} alone: no other of its group moves with it for every reason"
            ledger.differs(one.statement, text)
