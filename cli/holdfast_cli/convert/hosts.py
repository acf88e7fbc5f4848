"""From statements to a host: global_defs, vrrp_script, vrrp_instance and vrrp_sync_group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal

from holdfast_cli.convert.instances import InstanceReader
from holdfast_cli.convert.keywords import GLOBAL, SYNC_GROUP, TOP_LEVEL
from holdfast_cli.convert.ledger import Ledger, Place, Statement
from holdfast_cli.convert.model import Globals, Host, Instance, Script, SyncGroup
from holdfast_cli.convert.notifications import NOTIFY, read_notify
from holdfast_cli.convert.scripts import Scripts, read_script, read_tracked_interfaces, read_tracked_scripts
from holdfast_cli.convert.values import (
    MULTICAST_GROUPS,
    argument,
    block_of,
    flag,
    multicast_group,
    seconds,
    settings,
    whole,
)

_GROUPS = {"vrrp_mcast_group4": MULTICAST_GROUPS["IPv4"], "vrrp_mcast_group6": MULTICAST_GROUPS["IPv6"]}
_OWN = ("global_defs", "vrrp_script", "vrrp_instance", "vrrp_sync_group")


def router_id_statement(statements: list[Statement]) -> Statement | None:
    """Where global_defs has a router_id."""
    for statement in statements:
        for line in (statement.block or []) if statement.keyword == "global_defs" else []:
            if line.keyword == "router_id" and line.arguments:
                return line
    return None


def router_id(statements: list[Statement]) -> str:
    """The router_id of global_defs, or an empty text."""
    found = router_id_statement(statements)
    return found.arguments[0] if found is not None else ""


def read_host(node: str, place: Place, statements: list[Statement], ledger: Ledger) -> Host:
    """What one host's configuration says. What is wrong, or is not carried over, goes to the ledger."""
    of_kind: dict[str, list[Statement]] = {keyword: [] for keyword in _OWN}
    for statement in statements:
        if statement.keyword in of_kind:
            of_kind[statement.keyword].append(statement)
        elif statement.keyword in TOP_LEVEL:
            ledger.leave_out(statement, TOP_LEVEL[statement.keyword])
        else:
            ledger.complain(statement, "is no keyword of keepalived.conf", "goes on without it")
    said = Globals()
    for statement in of_kind["global_defs"]:
        said = _globals(statement, said, ledger)
    order = {statement: index for index, statement in enumerate(statements)}
    scripts = Scripts(_scripts(of_kind["vrrp_script"], ledger), order)
    reader = InstanceReader(node, said, scripts, ledger)
    instances: dict[str, Instance] = {}
    for statement in _each_name_once(of_kind["vrrp_instance"], ledger):
        instance = reader.read(statement)
        instances[instance.name] = instance
    _refuse_shared_ids(list(instances.values()), ledger)
    groups = [
        group
        for statement in _each_name_once(of_kind["vrrp_sync_group"], ledger)
        if (group := _group(statement, instances, scripts, said, ledger)) is not None
    ]
    _report_unused(scripts.by_name, instances, groups, ledger)
    return Host(node, place, list(instances.values()), groups)


def _each_name_once(statements: list[Statement], ledger: Ledger) -> Iterator[Statement]:
    """Of several blocks with one name keepalived goes by the first."""
    first: dict[str, Statement] = {}
    for statement in statements:
        name = " ".join(statement.arguments)
        if first.setdefault(name, statement) is statement:
            yield statement
        else:
            keyword = f"{statement.keyword} {name}"
            reason = f"must not be there twice, and is at {first[name].place}"
            ledger.complain(statement, reason, "goes by the first", keyword=keyword)


def _globals(statement: Statement, said: Globals, ledger: Ledger) -> Globals:
    for line in settings(block_of(statement, ledger), frozenset(), ledger):
        if line.keyword == "vrrp_version":
            version = whole(line, ledger, 2, 3, "goes by version 2")
            said = replace(said, version=version or said.version)
        elif line.keyword == "vrrp_strict":
            ledger.carry(line)  # what it is to an instance is told there
            said = replace(said, strict=line)
        elif line.keyword == "vrrp_startup_delay":
            delay = seconds(line, ledger, Decimal(0), Decimal(3600), "has none")
            said = replace(said, start_delay=line, start_delay_seconds=delay or Decimal(0))
        elif line.keyword == "router_id":
            if argument(line, ledger) is not None:
                ledger.carry(line)
        elif line.keyword in _GROUPS:
            multicast_group(line, (_GROUPS[line.keyword],), ledger)
        elif line.keyword == "vrrp_check_unicast_src":
            if flag(line, ledger):
                ledger.carry(line)  # what `foreignRouters: Refuse`, the default, does
        elif line.keyword == "script_user":
            said = replace(said, script_user=tuple(line.arguments[:2]))
            text = "notify scripts run as that user; probes run as the user of `holdfast run`"
            ledger.differs(line, text)
        elif line.keyword in GLOBAL:
            ledger.leave_out(line, GLOBAL[line.keyword])
        else:
            ledger.complain(line, "is no keyword of global_defs", "goes on without it")
    return said


def _scripts(statements: list[Statement], ledger: Ledger) -> dict[str, Script | None]:
    scripts: dict[str, Script | None] = {}
    for statement in statements:
        name = " ".join(statement.arguments[:1])
        if name in scripts:
            ledger.leave_out(statement, f"{name} is there already, and keepalived goes by the first")
        else:
            scripts[name] = read_script(statement, ledger)
    return scripts


def _group(
    statement: Statement,
    instances: Mapping[str, Instance],
    scripts: Scripts,
    said: Globals,
    ledger: Ledger,
) -> SyncGroup | None:
    if len(statement.words) != 2:
        ledger.complain(statement, "must have one name", "passes over it")
        return None
    group = SyncGroup(" ".join(statement.arguments), statement)
    block = block_of(statement, ledger)
    for line in settings(block, frozenset(("group", "track_script", "track_interface")), ledger):
        if line.keyword == "group":
            group.members += _members(line, instances, ledger)
        elif line.keyword == "track_script":
            group.scripts += read_tracked_scripts(line, statement, scripts, ledger)
        elif line.keyword == "track_interface":
            group.interfaces += read_tracked_interfaces(line, ledger)
        elif line.keyword == "sync_group_tracking_weight":
            group.weights_count = flag(line, ledger)
            ledger.carry(line)
        elif line.keyword in NOTIFY:
            # keepalived gives a group the priority 0.
            found = read_notify(line, said, ("GROUP", group.name, "$(HOLDFAST_STATE)", "0"), ledger)
            group.notify += [found] if found is not None else []
        elif line.keyword in SYNC_GROUP:
            ledger.leave_out(line, SYNC_GROUP[line.keyword])
        else:
            ledger.complain(line, "is no keyword of vrrp_sync_group", "goes on without it")
    if not group.members:
        name = f"vrrp_sync_group {group.name}"
        ledger.complain(statement, "must have a group with a vrrp_instance", "removes it", keyword=name)
        return None
    return group


def _members(line: Statement, instances: Mapping[str, Instance], ledger: Ledger) -> list[Instance]:
    members = []
    for entry in block_of(line, ledger):
        for name in entry.words:
            if name in instances:
                members.append(instances[name])
                ledger.carry(entry)
            else:
                reason = f"must have names of vrrp_instances, which {name!r} is not"
                ledger.complain(entry, reason, "ignores it", keyword="group")
    return list(dict.fromkeys(members))


def _refuse_shared_ids(instances: list[Instance], ledger: Ledger) -> None:
    """No two VirtualIPs of a host have one id on one link. keepalived refuses it only where packets could meet."""
    for index, instance in enumerate(instances):
        for other in instances[:index]:
            key = (instance.family, instance.virtual_router_id, instance.interface)
            if not instance.interface or key != (other.family, other.virtual_router_id, other.interface):
                continue
            reason = f"must not be {other.virtual_router_id}, which {other.name} has on {other.interface}"
            if _are_apart(instance, other):
                reason += ": keepalived runs both, and no two VirtualIPs of a host have one id on a link"
            ledger.refuse(instance.where("virtual_router_id").place, "virtual_router_id", reason)


def _are_apart(one: Instance, other: Instance) -> bool:
    """Whether their advertisements go to others: by unicast and multicast, to two groups, or to other peers."""
    if one.peers and other.peers:
        return not set(one.peers) & set(other.peers)
    groups = [instance.said.get("mcast_dst_ip") for instance in (one, other)]
    return (
        bool(one.peers) != bool(other.peers) or len({tuple(group.arguments) if group else () for group in groups}) > 1
    )


def _report_unused(
    scripts: Mapping[str, Script | None],
    instances: Mapping[str, Instance],
    groups: list[SyncGroup],
    ledger: Ledger,
) -> None:
    owners: list[Instance | SyncGroup] = [*instances.values(), *groups]
    used = {entry.script.name for owner in owners for entry in owner.scripts}
    for script in scripts.values():
        if script is not None and script.name not in used:
            ledger.leave_out(script.statement, "nothing tracks it, so that keepalived does not run it either")
