"""What a command of `notify` is told of a change: in its environment, in its arguments, and as JSON on stdin. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from holdfast_api.reasons import Reason, State
from holdfast_api.resources import NotifyState

_REFERENCE = re.compile(r"\$\((HOLDFAST_[A-Z_]+)\)")


def told_state(state: State, reason: Reason | None) -> NotifyState:
    """The word of keepalived's notify scripts for a state that was entered for this reason."""
    if state is State.MASTER:
        return NotifyState.MASTER
    if state is State.BACKUP:
        return NotifyState.BACKUP
    return NotifyState.STOP if reason in (Reason.STOPPED, Reason.REMOVED) else NotifyState.FAULT


@dataclass(frozen=True, slots=True)
class Change:
    """One change of state of a VirtualIP on this host."""

    virtual_ip: str
    from_state: State
    to_state: State
    state: NotifyState
    reason: str
    """Empty: the engine said none."""
    message: str
    time: str
    peer: str = ""
    peer_priority: int = 0

    def variables(self, node_name: str, addresses: Sequence[str], priority: int) -> dict[str, str]:
        """What a command has in its environment besides that of `holdfast run`. `priority`: as it is configured."""
        return {
            "HOLDFAST_NODE_NAME": node_name,
            "HOLDFAST_VIRTUAL_IP": self.virtual_ip,
            "HOLDFAST_ADDRESSES": " ".join(addresses),
            "HOLDFAST_FROM": self.from_state,
            "HOLDFAST_TO": self.to_state,
            "HOLDFAST_STATE": self.state.upper(),
            "HOLDFAST_REASON": self.reason,
            "HOLDFAST_MESSAGE": self.message.replace("\0", ""),
            "HOLDFAST_PEER": self.peer,
            "HOLDFAST_PRIORITY": str(priority),
            "HOLDFAST_TIME": self.time,
        }

    def as_json(self, node_name: str, addresses: Sequence[str], priority: int) -> bytes:
        """One object, one line."""
        told = {
            "virtualIP": self.virtual_ip,
            "nodeName": node_name,
            "addresses": list(addresses),
            "from": self.from_state,
            "to": self.to_state,
            "state": self.state.upper(),
            "reason": self.reason,
            "message": self.message,
            "peer": self.peer,
            "peerPriority": self.peer_priority,
            "priority": priority,
            "time": self.time,
        }
        return msgspec.json.encode(told) + b"\n"


def with_references(words: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """The words with `$(HOLDFAST_STATE)` and the like replaced, as Kubernetes has it in a container's command."""
    return [_REFERENCE.sub(lambda match: variables.get(match[1], match[0]), word) for word in words]
