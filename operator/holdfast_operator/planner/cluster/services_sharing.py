"""Which Services have their addresses together, and in which VirtualIP. Pure.

A Service has a VirtualIP of its own, or one with all Services of its namespace that have the same sharing key. Whoever
has an address by such a key already comes before those who ask for it, and then the older before the younger.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from holdfast_api.addresses import Address
from holdfast_api.resources import HEALTH_CHECK_NODE_PORTS_MAX
from holdfast_api.services import POOL_ANNOTATION, SHARING_KEY_ANNOTATION, ServiceConditionReason
from holdfast_operator.planner.cluster.pools import Pools
from holdfast_operator.planner.cluster.services_records import Record
from holdfast_operator.planner.cluster.services_wishes import Wish

_Team = tuple[str, str, str]
"""The namespace, and the sharing key or the name of a Service without one."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a Service is told: why it does not have what it asks for."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Services that have one VirtualIP."""

    key: str
    """Of the VirtualIP: namespace/name."""
    members: Sequence[Wish]
    """The oldest first."""
    record: Record | None
    """What they were given; None: nothing yet."""
    sharing_key: str

    @property
    def versions(self) -> Sequence[int]:
        """The families that one of them has."""
        return tuple(dict.fromkeys(version for wish in self.members for version in wish.versions))

    @property
    def required(self) -> frozenset[int]:
        """Those without which one of them is not served."""
        return frozenset().union(*(wish.required for wish in self.members))

    @property
    def named(self) -> Mapping[int, Address]:
        """The addresses that they name."""
        return {version: address for wish in self.members for version, address in wish.named.items()}

    @property
    def pool(self) -> str | None:
        """The AddressPool that they name."""
        return next((wish.pool for wish in self.members if wish.pool is not None), None)


@dataclass(frozen=True, slots=True)
class Grouping:
    """All Services that are ours."""

    groups: Sequence[Group]
    complaints: Mapping[str, Complaint]
    """By the Service's key: also of members of a group, who keep what they have."""
    going: Sequence[Record]
    """VirtualIPs that no Service has any more."""


def grouped(wishes: Iterable[Wish], records: Iterable[Record], others: Collection[str], pools: Pools) -> Grouping:
    """Who has what with whom. `others` are the keys of the VirtualIPs that are users' own."""
    teams: dict[_Team, list[Wish]] = {}
    ordered = sorted(wishes, key=lambda wish: wish.age)
    for wish in ordered:
        teams.setdefault(_team(wish), []).append(wish)
    records = sorted(records, key=lambda record: (record.created, record.key))
    by_uid, by_key = {wish.uid: wish for wish in ordered}, {wish.key: wish for wish in ordered}
    owners = {record.key: _owners(record, by_uid, by_key) for record in records}
    of_teams = _records_of_teams(records, owners)
    complaints: dict[str, Complaint] = {}
    groups: list[Group] = []
    taken = {*others, *owners}
    for team, members in sorted(teams.items()):
        record = of_teams.get(team)
        found = _admitted(members, record, owners[record.key] if record else (), pools, complaints)
        if not found:
            continue
        if record is not None:
            groups.append(Group(record.key, found, record, team[1]))
        elif found[0].key in others:
            message = (
                f"VirtualIP {found[0].key} is a user's own: it is left alone, and would have to be given another name"
            )
            complaints |= {wish.key: Complaint(ServiceConditionReason.NAME_IN_USE, message) for wish in found}
        else:
            key = _free_key(found[0].key, taken)
            taken.add(key)
            groups.append(Group(key, found, None, team[1]))
    placed = {wish.key for group in groups for wish in group.members}
    used = {record.key for record in of_teams.values()}
    going = []
    for record in (record for record in records if record.key not in used):
        # Whoever cannot have what its sharing key says keeps what it has.
        left = [wish for wish in owners[record.key] if wish.key in complaints and wish.key not in placed]
        kept = _admitted([_without_wishes(wish, record) for wish in left], record, left, pools, {})
        if kept:
            groups.append(Group(record.key, kept, record, record.sharing_key))
            placed |= {wish.key for wish in kept}
        else:
            going.append(record)
    return Grouping(groups, complaints, going)


def _team(wish: Wish) -> _Team:
    return (wish.namespace, wish.sharing_key, "") if wish.sharing_key else (wish.namespace, "", wish.name)


def _owners(record: Record, by_uid: Mapping[str, Wish], by_key: Mapping[str, Wish]) -> list[Wish]:
    """The oldest first. One that was made anew under its name is the same to its author.

    Where a user has taken the owners away, it is the Service whose name it has.
    """
    found = [by_uid.get(uid) or by_key.get(f"{record.namespace}/{name}") for uid, name in record.owners.items()]
    found = found or [by_key.get(record.key)]
    here = {wish.key: wish for wish in found if wish is not None and wish.namespace == record.namespace}
    return sorted(here.values(), key=lambda wish: wish.age)


def _records_of_teams(records: Sequence[Record], owners: Mapping[str, Sequence[Wish]]) -> dict[_Team, Record]:
    """The VirtualIP that each has: first that which it has by the same key, then any that one of it has."""
    found: dict[_Team, Record] = {}
    placed: set[str] = set()
    for has_same_key in (True, False):
        for record in (record for record in records if record.key not in placed):
            for wish in owners[record.key]:
                if _team(wish) not in found and (not has_same_key or wish.sharing_key == record.sharing_key):
                    found[_team(wish)] = record
                    placed.add(record.key)
                    break
    return found


def _admitted(
    members: Sequence[Wish],
    record: Record | None,
    owners: Collection[Wish],
    pools: Pools,
    complaints: dict[str, Complaint],
) -> list[Wish]:
    """Those that can have one VirtualIP, the oldest first; what the others are told is added to `complaints`."""
    keys = {wish.key for wish in owners}
    found: list[Wish] = []
    for wish in sorted(members, key=lambda one: (one.key not in keys, not _is_met(one, record), one.age)):
        apart = _why_apart(wish, found)
        if apart is not None:
            complaints[wish.key] = apart
            continue
        has_it = record is not None and wish.key in keys
        unmet = _why_not_met(wish, found, None if has_it else record, pools)
        if unmet is not None:
            complaints[wish.key] = unmet
        if unmet is None:
            found.append(wish)
        elif record is not None and has_it:
            found.append(_without_wishes(wish, record))
    return sorted(found, key=lambda wish: wish.age)


def _without_wishes(wish: Wish, record: Record) -> Wish:
    """It keeps what it has."""
    return dataclasses.replace(wish, named={}, pool=record.pool, problem="")


def _is_met(wish: Wish, record: Record | None) -> bool:
    return record is not None and all(
        record.addresses.get(version) == address for version, address in wish.named.items()
    )


def _why_apart(wish: Wish, others: Sequence[Wish]) -> Complaint | None:
    """Why it cannot be reached at an address of theirs, whichever that is."""
    for other in others:
        whose = f"Service {other.key}, which has the same {SHARING_KEY_ANNOTATION}"
        common = sorted(wish.ports & other.ports)
        if common:
            port, protocol = common[0]
            message = f"spec.ports: must not have port {port}/{protocol}: it is that of {whose}"
            return Complaint(ServiceConditionReason.SHARING_CONFLICT, message)
        if (wish.is_local or other.is_local) and wish.selector != other.selector:
            message = f"spec.selector: must be, with externalTrafficPolicy Local, that of {whose}"
            return Complaint(ServiceConditionReason.SHARING_CONFLICT, message)
    local = [other for other in others if other.is_local]
    if wish.is_local and len(local) >= HEALTH_CHECK_NODE_PORTS_MAX:
        message = (
            f"annotation {SHARING_KEY_ANNOTATION}: must be that of {HEALTH_CHECK_NODE_PORTS_MAX} Services with"
            f" externalTrafficPolicy Local at most, as Service {local[0].key} has it with others"
        )
        return Complaint(ServiceConditionReason.SHARING_CONFLICT, message)
    return None


def _why_not_met(wish: Wish, others: Sequence[Wish], record: Record | None, pools: Pools) -> Complaint | None:
    """Why it cannot have the addresses that it asks for. `record` is what the others have, and it has not."""
    if wish.problem:
        return Complaint(ServiceConditionReason.INVALID, wish.problem)
    for version, address in wish.named.items():
        wanted = next((other for other in others if version in other.named), None)
        has = record.addresses.get(version) if record is not None and others else None
        theirs = wanted.named[version] if wanted is not None else has
        if theirs is not None and theirs != address:
            message = f"{wish.named_in}: must be {theirs}, which Service {(wanted or others[0]).key} has by the same"
            return Complaint(ServiceConditionReason.SHARING_CONFLICT, f"{message} {SHARING_KEY_ANNOTATION}")
    asked = next((other for other in others if other.pool is not None), None)
    if wish.pool is None or not others or (asked is not None and asked.pool == wish.pool):
        return None
    if asked is None and (record is None or _are_of(record, wish.pool, pools)):
        return None
    message = f"annotation {POOL_ANNOTATION}: must be that of Service {(asked or others[0]).key}, which has the same"
    return Complaint(ServiceConditionReason.SHARING_CONFLICT, f"{message} {SHARING_KEY_ANNOTATION}")


def _are_of(record: Record, pool: str, pools: Pools) -> bool:
    """Whether that pool has all addresses of a VirtualIP."""
    found = [pools.of(address) for address in record.addresses.values()]
    return all(one is not None and one.name == pool for one in found)


def _free_key(key: str, taken: Collection[str]) -> str:
    """The Service's own name; where another Service's VirtualIP has it, with a number behind a dot, as no Service's."""
    names = itertools.chain([key], (f"{key}.{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)
