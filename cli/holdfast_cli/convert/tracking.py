"""What makes a node healthy: spec.track from track_script and track_interface, with a sentence for each weight."""

from __future__ import annotations

import re

from holdfast_api.resources import ExecAction, Probe, Track, WhenFailing
from holdfast_cli.convert.ledger import Ledger, Statement
from holdfast_cli.convert.merge import Router
from holdfast_cli.convert.model import Instance, Script, Tracked, TrackedScript

_MOST = 16
_NAME_LENGTH_MAX = 63
_COMMAND_WORDS_MAX = 64

_IN_HOLDFAST = (
    "in Holdfast a failing node advertises a priority below 50 whatever the weight, "
    "and a healthy node takes over from it, with nopreempt too"
)


def track(router: Router, *, nopreempt: bool, ledger: Ledger) -> Track:
    """The probes and interfaces of the VirtualIP. Each member's difference from them is reported."""
    for member in router.everyone:
        for entry in member.tracked:
            # What is ignored is told where it is read; another sync group member's interface is told there.
            if entry.statement.keyword != "interface" and not (isinstance(entry, TrackedScript) and entry.ignored):
                _explain(entry, nopreempt=nopreempt, releases=router.releases, ledger=ledger)
    return Track(
        probes=_probes(router, ledger),
        interfaces=_interfaces(router, ledger),
        when_failing=WhenFailing.RELEASE if router.releases else WhenFailing.DEGRADE,
    )


def _explain(entry: Tracked, *, nopreempt: bool, releases: bool, ledger: Ledger) -> None:
    if entry.weight == 0:
        if releases:
            return
        text = (
            "without a weight keepalived gives the VIP up when this fails, and if it fails everywhere nobody has it; "
            "in Holdfast the last node keeps it then (`track.whenFailing: Release` is keepalived's way)"
        )
    elif nopreempt:
        text = (
            f"weight {entry.weight}: where nopreempt is in force, keepalived's Backups do not take over from a Master "
            "whose priority sinks, and the VIP is stuck on a node that serves nothing; " + _IN_HOLDFAST
        )
    else:
        text = (
            f"weight {entry.weight}: keepalived changes the priority by it, and the VIP moves only where another "
            "node's priority comes between; " + _IN_HOLDFAST
        )
    ledger.differs(entry.statement, text)


def _probes(router: Router, ledger: Ledger) -> list[Probe]:
    """One for each script, and for each form that it has on the hosts: those that run it are named where not all do."""
    nodes_of: dict[tuple[str, tuple[object, ...]], list[str]] = {}
    chosen: dict[tuple[str, tuple[object, ...]], TrackedScript] = {}
    for member in router.everyone:
        for entry in member.scripts:
            key = (entry.script.name, _essence(entry))
            chosen.setdefault(key, entry)
            nodes_of.setdefault(key, []).append(member.node)
    every = list(dict.fromkeys(member.node for member in router.everyone))
    entries = list(chosen.values())
    if len(entries) > _MOST:
        reason = f"must not be more than {_MOST} scripts for one VirtualIP, with those of its sync group"
        ledger.refuse(entries[_MOST].statement.place, "track_script", reason)
    probes = []
    for name, (key, entry) in zip(_unique([name for name, _ in chosen]), chosen.items(), strict=True):
        nodes = [node for node in every if node in nodes_of[key]]
        if nodes == every:
            nodes = []
        else:
            text = f"the probe {name} is that of {', '.join(nodes)} alone (`nodes`): elsewhere it counts as well"
            ledger.remark(entry.statement, text)
        probes.append(_probe(name, nodes, entry, ledger))
    return probes


def _essence(entry: TrackedScript) -> tuple[object, ...]:
    script = entry.script
    return script.command, script.interval_ms, script.timeout_ms, script.rise, script.fall, entry.reverse


def _probe(name: str, nodes: list[str], entry: TrackedScript, ledger: Ledger) -> Probe:
    script = entry.script
    seconds, rest = divmod(script.interval_ms, 1000)
    return Probe(
        name=name,
        nodes=nodes,
        exec=ExecAction(command=_command(entry, ledger)),
        period_seconds=None if rest else seconds,
        period_milliseconds=script.interval_ms if rest else None,
        timeout_seconds=_timeout(script, ledger),
        failure_threshold=script.fall,
        success_threshold=script.rise,
    )


def _command(entry: TrackedScript, ledger: Ledger) -> list[str]:
    command = list(entry.script.command)
    if not entry.reverse:
        return command
    ledger.remark(entry.statement, "reverse: the probe turns the exit status around with /bin/sh")
    inverted = ["/bin/sh", "-c", '! "$@"', "reverse", *command]
    if len(inverted) > _COMMAND_WORDS_MAX:
        ledger.refuse(entry.statement.place, "reverse", "must have a shorter command: a shell has to go before it")
    return inverted


def _timeout(script: Script, ledger: Ledger) -> int:
    """Whole seconds; without one keepalived lets a script run until its next turn."""
    wanted = script.timeout_ms if script.timeout_ms is not None else script.interval_ms
    rounded = -(-wanted // 1000)
    if script.timeout_ms is not None and rounded * 1000 != wanted:
        ledger.differs(script.said["timeout"], f"becomes {rounded} s, as a probe's timeout has whole seconds")
    return rounded


def _interfaces(router: Router, ledger: Ledger) -> list[str]:
    """Those that every host tracks: one that a node has not got would make it fail for good."""
    links: dict[str, Statement] = {}
    for member in router.everyone:
        for link in member.interfaces:
            if link.reverse:
                ledger.leave_out(link.statement, "reverse: Holdfast tracks interfaces that must be up")
            else:
                links.setdefault(link.name, link.statement)

    def tracked(member: Instance) -> list[str]:
        return [link.name for link in member.interfaces if not link.reverse] + [member.interface]

    common = [name for name in links if all(name in tracked(member) for member in router.everyone)]
    for member in router.everyone:
        for link in member.interfaces:
            if not link.reverse and link.name not in common:
                text = f"interface {link.name} is not tracked: not every host tracks it, and all nodes track the same"
                ledger.leave_out(link.statement, text)
    if len(common) > _MOST:
        reason = f"must not be more than {_MOST} interfaces for one VirtualIP, with those of its sync group"
        ledger.refuse(links[common[_MOST]].place, "track_interface", reason)
    return common


def _unique(names: list[str]) -> list[str]:
    unique: list[str] = []
    for name in names:
        base = re.sub(r"\s+", "-", name)[:_NAME_LENGTH_MAX] or "probe"
        candidate, number = base, 2
        while candidate in unique:
            ending = f"-{number}"
            candidate, number = base[: _NAME_LENGTH_MAX - len(ending)] + ending, number + 1
        unique.append(candidate)
    return unique
