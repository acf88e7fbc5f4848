"""What an engine inherits from its keeper and from the engine before it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import msgspec

from holdfast_speaker.engine.door import OPEN, Door
from holdfast_speaker.engine.state import Snapshot
from holdfast_speaker.host.kept_sockets import KeptSockets
from holdfast_speaker.host.memory import Memory
from holdfast_speaker.vrrp.instants import ZERO, Duration


@dataclass(slots=True)
class Inheritance:
    """What an engine inherits at its fork."""

    memory: Memory = field(default_factory=Memory)
    kept_sockets: KeptSockets = field(default_factory=KeptSockets)
    listener: socket.socket | None = None
    """The control socket, bound and listening; None where it could not be made."""
    supervisor: socket.socket | None = None
    """The connection of whoever started the keeper."""
    keeps_journal: bool = False
    """Record what the engine is told and what its ports answer."""
    overhears: bool = False
    """Listen also on links where no VIP of ours lives."""
    door: Door = OPEN
    """What the engine may hold, whoever tells it."""
    step_aside_within: Duration = ZERO
    """How long a stop waits for Backups to take over; what is held then is given up."""
    follows_another: bool = False
    """The keeper waited until another one on this node ended."""
    cpu_latency: str = ""
    """What came of asking for processors that stay awake."""
    warnings: list[str] = field(default_factory=list)
    restarts: int = 0
    last_death: str = ""
    resumes: bool = False
    """Go on where the snapshot says; otherwise begin anew."""
    only_releases: bool = False
    """Go on only to give everything up."""
    told_to_stop: bool = False
    """Go on only to stop as the engine before this one was told to: with a hand-over where a successor waits."""

    def keep(self, snapshot: Snapshot) -> bool:
        """Leave a snapshot to the next engine, without the past moves where they make it too large.

        Returns False where it is too large even so: the next engine begins anew.
        """
        if self.memory.write(msgspec.json.encode(snapshot)):
            return True
        routers = [msgspec.structs.replace(router, history=[]) for router in snapshot.state.routers]
        state = msgspec.structs.replace(snapshot.state, routers=routers)
        return self.memory.write(msgspec.json.encode(msgspec.structs.replace(snapshot, state=state)))
