"""What all nodes of a VirtualIP have in common, and what each has of its own: priorities and source addresses."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from typing import TypeVar

from holdfast_api.resources import (
    HEALTHY_PRIORITY_MAX,
    HEALTHY_PRIORITY_MIN,
    PRIORITY_OWNER,
    NodePriority,
    NodeSourceAddress,
)
from holdfast_cli.convert.ledger import Ledger
from holdfast_cli.convert.merge import Router
from holdfast_cli.convert.model import Instance

Value = TypeVar("Value")


def settled(
    router: Router,
    keyword: str,
    value_of: Callable[[Instance], Value],
    ledger: Ledger,
    choose: Callable[[list[Value]], Value] = lambda values: values[0],
) -> Value:
    """The value for all nodes. Where a host has another one, the report says so at its line."""
    chosen = choose([value_of(member) for member in router.everyone])
    for member in router.everyone:
        if value_of(member) != chosen:
            text = f"all nodes of a VirtualIP have the same: {_shown(chosen)}, not {_shown(value_of(member))}"
            ledger.differs(member.where(keyword), f"{keyword}: {text}")
    return chosen


def _shown(value: object) -> str:
    return str(value) if value != "" else "none"


def preemption(router: Router, ledger: Ledger, *, sticky: bool) -> tuple[bool, int]:
    """nopreempt and the preempt delay in seconds. `sticky`: as if every host had nopreempt."""
    owner = any(member.priority == PRIORITY_OWNER for member in router.members)
    wanted = any(member.nopreempt for member in router.everyone)
    if owner and wanted:
        for member in router.everyone:
            if member.nopreempt:
                text = f"a host with priority {PRIORITY_OWNER} always takes the addresses back, in keepalived too"
                ledger.leave_out(member.where("nopreempt"), text)
    nopreempt = sticky or (wanted and not owner)
    if nopreempt and not sticky:
        _explain_nopreempt(router, ledger)
    elif not nopreempt and len(router.members) > 1:
        text = (
            "moves back: the host with the highest priority takes the VIP when it returns, from one that serves well, "
            "as in keepalived (`nopreempt: false`); --sticky leaves it where it is"
        )
        ledger.remark(router.members[0].statement, text)
    return nopreempt, _preempt_delay(router, ledger, nopreempt=nopreempt)


def _explain_nopreempt(router: Router, ledger: Ledger) -> None:
    for member in router.everyone:
        if member.nopreempt and member.starts_as_master:
            text = (
                "keepalived ignores nopreempt together with `state MASTER`, and the VIP moves back when this host "
                "returns; in Holdfast it stays where it is as long as that node is healthy"
            )
            ledger.differs(member.where("nopreempt"), text)
        elif not member.nopreempt:
            text = f"{member.node} has no nopreempt; in Holdfast it holds for all nodes of the VirtualIP"
            ledger.differs(member.where("preempt"), text)


def _preempt_delay(router: Router, ledger: Ledger, *, nopreempt: bool) -> int:
    if nopreempt:
        for member in router.everyone:
            if member.preempt_delay:
                text = "nobody preempts, so there is nothing to delay; keepalived says so too"
                ledger.leave_out(member.where("preempt_delay"), text)
        return 0
    for member in router.everyone:
        if member.preempt_delay and member.starts_as_master:
            text = "keepalived ignores it together with `state MASTER`; Holdfast does not"
            ledger.differs(member.where("preempt_delay"), text)
    return _whole_seconds(router, "preempt_delay", lambda member: member.preempt_delay, ledger)


def start_delay(router: Router, ledger: Ledger) -> int:
    """How long a host that starts takes nothing over, in seconds: vrrp_startup_delay."""
    return _whole_seconds(router, "vrrp_startup_delay", lambda member: member.start_delay, ledger)


def _whole_seconds(router: Router, keyword: str, value_of: Callable[[Instance], Decimal], ledger: Ledger) -> int:
    """The longest that any host waits, for all nodes, rounded up."""
    longest = settled(router, keyword, value_of, ledger, max)
    rounded = int(longest.to_integral_value(ROUND_CEILING))
    if rounded != longest:
        for member in router.everyone:
            if value_of(member) == longest:
                ledger.differs(member.where(keyword), f"becomes {rounded} s, as Holdfast has whole seconds")
    return rounded


def priorities(router: Router, ledger: Ledger) -> list[NodePriority]:
    """Of each node, in its healthy state, with the order among the hosts kept.

    keepalived adds a positive weight to a healthy node's priority, so that sum is what it advertises. Below 50 is
    Holdfast's failing band: lower ones are lifted above it, and as many others as it takes to keep their order. 255 is
    the owner of the addresses, which keepalived puts on the interface like any other's, and Holdfast does not.
    """
    advertised = {member: _when_healthy(member, ledger) for member in router.members}
    moved = _within_the_healthy_band(sorted(set(advertised.values())))
    result = []
    for member, priority in advertised.items():
        value = moved[priority]
        if priority == PRIORITY_OWNER:
            text = (
                f"{priority} becomes {value}: keepalived puts the addresses of a 255 on the interface as it does any "
                "other's; Holdfast leaves those of their owner (RFC 9568 section 5.2.4) alone"
            )
            ledger.differs(member.where("priority" if "priority" in member.said else "state"), text)
        elif value < priority:
            text = f"{priority} becomes {value}, so that the order of the nodes stays"
            ledger.differs(member.where("priority"), text)
        elif value > priority:
            text = f"{priority} becomes {value}: 1 to 49 say that a node is failing, and the order of the nodes stays"
            ledger.differs(member.where("priority"), text)
        result.append(NodePriority(node_name=member.node, priority=value))
    return result


def _within_the_healthy_band(ascending: list[int]) -> dict[int, int]:
    """Where each goes between 50 and 254, in their order, and as near to where it was as that allows."""
    moved: dict[int, int] = {}
    least = HEALTHY_PRIORITY_MIN
    for priority in ascending:
        moved[priority] = max(priority, least)
        least = moved[priority] + 1
    most = HEALTHY_PRIORITY_MAX
    for priority in reversed(ascending):
        moved[priority] = min(moved[priority], most)
        most = moved[priority] - 1
    return moved


def _when_healthy(member: Instance, ledger: Ledger) -> int:
    if member.priority == PRIORITY_OWNER:
        for entry in member.tracked:
            if entry.weight:
                text = "with priority 255 keepalived ignores what has a weight; in Holdfast the node fails with it"
                ledger.differs(entry.statement, text)
        return PRIORITY_OWNER
    gained = sum(entry.weight for entry in member.tracked if entry.weight > 0)
    if not gained:
        return member.priority
    healthy = min(member.priority + gained, HEALTHY_PRIORITY_MAX)
    text = f"{member.priority} becomes {healthy}, which keepalived advertises while all that it tracks is well"
    ledger.remark(member.where("priority"), text)
    return healthy


def source_addresses(router: Router, ledger: Ledger) -> list[NodeSourceAddress]:
    """Of each node and family, where the configuration names one."""
    taken = {address.interface.ip for member in router.everyone for address in member.addresses}
    sources = []
    for member in router.everyone:
        if member.source is None:
            continue
        usable = not (member.source.is_loopback or member.source.is_multicast or member.source.is_unspecified)
        if usable and member.source not in taken:
            sources.append(NodeSourceAddress(node_name=member.node, address=str(member.source)))
        else:
            keyword = "unicast_src_ip" if "unicast_src_ip" in member.said else "mcast_src_ip"
            reason = f"must be an address of the host itself, which {member.source} is not"
            ledger.refuse(member.where(keyword).place, keyword, reason)
    return sources
