"""notify scripts: of instances and of sync groups, and what they are in a VirtualIP."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast_api.resources import Notification, NotifyState
from holdfast_cli.convert.ledger import Ledger, Statement
from holdfast_cli.convert.merge import Router
from holdfast_cli.convert.model import Globals, Notify
from holdfast_cli.convert.scripts import read_command
from holdfast_cli.convert.values import has_no_block

_MOST = 32
_WORDS_MAX = 64

NOTIFY: Mapping[str, tuple[NotifyState, ...]] = {
    "notify_master": (NotifyState.MASTER,),
    "notify_backup": (NotifyState.BACKUP,),
    "notify_fault": (NotifyState.FAULT,),
    "notify_stop": (NotifyState.STOP,),
    "notify": (),
}
"""The keywords with the states that they are for, in the order in which keepalived runs them."""

_USER_AND_GROUP = 2


def read_notify(statement: Statement, said: Globals, arguments: tuple[str, ...], ledger: Ledger) -> Notify | None:
    """One script. `arguments`: what `notify` is given after its own; None where there is no script to run."""
    if not has_no_block(statement, ledger):
        return None
    identity = statement.arguments[1 : 1 + _USER_AND_GROUP] or list(said.script_user)
    surplus = statement.arguments[1 + _USER_AND_GROUP :]
    command = read_command(Statement(statement.words[:2], statement.place), ledger)
    if not command:
        ledger.leave_out(statement, "has no script to run")
        return None
    if len(command) + len(arguments) > _WORDS_MAX:
        ledger.refuse(statement.place, statement.keyword, f"must have at most {_WORDS_MAX - len(arguments)} words")
        return None
    ledger.carry(statement)
    if statement.arguments[1:]:
        text = f"is run as the user {' and the group '.join(identity)}, as keepalived takes what follows the script"
        ledger.remark(statement, text)
    if surplus:
        ledger.leave_out(statement, f"keepalived passes over the rest of the line, and so does this: {surplus}")
    user, group = [*identity, None, None][:2]
    given = arguments if statement.keyword == "notify" else ()
    return Notify(statement, NOTIFY[statement.keyword], (*command, *given), user, group)


def in_order(notify: list[Notify]) -> list[Notify]:
    """As keepalived runs them: `notify` after the others."""
    order = list(NOTIFY)
    return sorted(notify, key=lambda one: order.index(one.statement.keyword))


def notifications(router: Router, ledger: Ledger) -> list[Notification]:
    """Those of the VirtualIP: one for each form of a script, with `nodes` where not all hosts have it."""
    nodes_of: dict[tuple[object, ...], dict[str, None]] = {}
    chosen: dict[tuple[object, ...], Notify] = {}
    for member in router.everyone:
        for one in [*in_order(member.notify), *in_order(member.group_notify)]:
            essence = (one.states, one.command, one.user, one.group)
            chosen.setdefault(essence, one)
            nodes_of.setdefault(essence, {})[member.node] = None
    every = dict.fromkeys(member.node for member in router.everyone)
    if len(chosen) > _MOST:
        first = router.members[0].statement
        ledger.refuse(first.place, "notify", f"must not be more than {_MOST} scripts for one VirtualIP")
    return [
        Notification(
            command=list(one.command),
            states=list(one.states),
            nodes=[] if nodes_of[essence].keys() == every.keys() else list(nodes_of[essence]),
            user=one.user,
            group=one.group,
        )
        for essence, one in chosen.items()
    ]
