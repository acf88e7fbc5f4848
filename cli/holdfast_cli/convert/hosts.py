"""From statements to a host: global_defs, vrrp_script, vrrp_instance and vrrp_sync_group."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast_cli.convert.instances import InstanceReader
from holdfast_cli.convert.keywords import GLOBAL, SYNC_GROUP, TOP_LEVEL
from holdfast_cli.convert.ledger import Ledger, Place, Statement
from holdfast_cli.convert.model import Host, Instance, Script, SyncGroup
from holdfast_cli.convert.scripts import read_script, read_tracked_interfaces, read_tracked_scripts
from holdfast_cli.convert.values import MULTICAST_GROUPS, argument, block_of, flag, multicast_group, settings, whole

_GROUPS = {"vrrp_mcast_group4": MULTICAST_GROUPS["IPv4"], "vrrp_mcast_group6": MULTICAST_GROUPS["IPv6"]}
_OWN = ("global_defs", "vrrp_script", "vrrp_instance", "vrrp_sync_group")


def router_id(statements: list[Statement]) -> str:
    """The router_id of global_defs, or an empty text."""
    for statement in statements:
        for line in (statement.block or []) if statement.keyword == "global_defs" else []:
            if line.keyword == "router_id" and line.arguments:
                return line.arguments[0]
    return ""


def read_host(node: str, place: Place, statements: list[Statement], ledger: Ledger) -> Host:
    """What one host's configuration says. What is wrong, or is not carried over, goes to the ledger."""
    of_kind: dict[str, list[Statement]] = {keyword: [] for keyword in _OWN}
    for statement in statements:
        if statement.keyword in of_kind:
            of_kind[statement.keyword].append(statement)
        elif statement.keyword in TOP_LEVEL:
            ledger.leave_out(statement, TOP_LEVEL[statement.keyword])
        else:
            ledger.refuse(statement.place, statement.keyword, "is no keyword of keepalived.conf")
    version = None
    for statement in of_kind["global_defs"]:
        version = _globals(statement, ledger) or version
    scripts = _scripts(of_kind["vrrp_script"], ledger)
    reader = InstanceReader(node, version, scripts, ledger)
    instances: dict[str, Instance] = {}
    for statement in of_kind["vrrp_instance"]:
        instance = reader.read(statement)
        if instance.name in instances:
            ledger.refuse(statement.place, f"vrrp_instance {instance.name}", "must not be there twice")
        instances[instance.name] = instance
    _refuse_shared_ids(list(instances.values()), ledger)
    groups = [_group(statement, instances, scripts, ledger) for statement in of_kind["vrrp_sync_group"]]
    _report_unused(scripts, instances, groups, ledger)
    return Host(node, place, list(instances.values()), groups)


def _globals(statement: Statement, ledger: Ledger) -> int | None:
    version = None
    for line in settings(block_of(statement, ledger), frozenset(), ledger):
        if line.keyword == "vrrp_version":
            version = whole(line, ledger, 2, 3)
        elif line.keyword == "router_id":
            if argument(line, ledger) is not None:
                ledger.carry(line)
        elif line.keyword in _GROUPS:
            multicast_group(line, (_GROUPS[line.keyword],), ledger)
        elif line.keyword == "vrrp_check_unicast_src":
            if flag(line, ledger):
                ledger.carry(line)  # what `foreignRouters: Refuse`, the default, does
        elif line.keyword in GLOBAL:
            ledger.leave_out(line, GLOBAL[line.keyword])
        else:
            ledger.refuse(line.place, line.keyword, "is no keyword of global_defs")
    return version


def _scripts(statements: list[Statement], ledger: Ledger) -> dict[str, Script | None]:
    scripts: dict[str, Script | None] = {}
    for statement in statements:
        name = " ".join(statement.arguments)
        if name in scripts:
            ledger.refuse(statement.place, f"vrrp_script {name}", "must not be there twice")
        scripts[name] = read_script(statement, ledger)
    return scripts


def _group(
    statement: Statement,
    instances: Mapping[str, Instance],
    scripts: Mapping[str, Script | None],
    ledger: Ledger,
) -> SyncGroup:
    if len(statement.words) != 2:
        ledger.refuse(statement.place, statement.keyword, "must have one name")
    group = SyncGroup(" ".join(statement.arguments), statement)
    block = block_of(statement, ledger)
    for line in settings(block, frozenset(("group", "track_script", "track_interface")), ledger):
        if line.keyword == "group":
            group.members += _members(line, instances, ledger)
        elif line.keyword == "track_script":
            group.scripts += read_tracked_scripts(line, scripts, ledger)
        elif line.keyword == "track_interface":
            group.interfaces += read_tracked_interfaces(line, ledger)
        elif line.keyword == "sync_group_tracking_weight":
            group.weights_count = flag(line, ledger)
            ledger.carry(line)
        elif line.keyword in SYNC_GROUP:
            ledger.leave_out(line, SYNC_GROUP[line.keyword])
        else:
            ledger.refuse(line.place, line.keyword, "is no keyword of vrrp_sync_group")
    if not group.members:
        ledger.refuse(statement.place, f"vrrp_sync_group {group.name}", "must have a group with a vrrp_instance")
    return group


def _members(line: Statement, instances: Mapping[str, Instance], ledger: Ledger) -> list[Instance]:
    members = []
    for entry in block_of(line, ledger):
        for name in entry.words:
            if name in instances:
                members.append(instances[name])
                ledger.carry(entry)
            else:
                ledger.refuse(entry.place, "group", f"must have names of vrrp_instances, which {name!r} is not")
    return list(dict.fromkeys(members))


def _refuse_shared_ids(instances: list[Instance], ledger: Ledger) -> None:
    """keepalived refuses one id twice on an interface, unless both are unicast among different peers."""
    for index, instance in enumerate(instances):
        for other in instances[:index]:
            key = (instance.family, instance.virtual_router_id, instance.interface)
            apart = instance.peers and other.peers and not set(instance.peers) & set(other.peers)
            if instance.interface and key == (other.family, other.virtual_router_id, other.interface) and not apart:
                reason = f"must not be {other.virtual_router_id}, which {other.name} has on {other.interface}"
                ledger.refuse(instance.where("virtual_router_id").place, "virtual_router_id", reason)


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
