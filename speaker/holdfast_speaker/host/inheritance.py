"""What an engine inherits from its keeper and from the engine before it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from holdfast_speaker.host.memory import Memory
from holdfast_speaker.host.safekeeping import Safekeeping
from holdfast_speaker.vrrp.instants import ZERO, Duration


@dataclass(slots=True)
class Estate:
    """What an engine inherits at its fork."""

    memory: Memory = field(default_factory=Memory)
    safekeeping: Safekeeping = field(default_factory=Safekeeping)
    listener: socket.socket | None = None
    """The control socket, bound and listening; None where it could not be made."""
    supervisor: socket.socket | None = None
    """The connection of whoever started the keeper."""
    keeps_journal: bool = False
    """Record the inputs of every virtual router."""
    overhears: bool = False
    """Listen also on links where no VIP of ours lives."""
    step_aside_within: Duration = ZERO
    """How long a stop waits for Backups to take over; what is held then is given up."""
    cpu_latency: str = ""
    """What came of asking for processors that stay awake."""
    warnings: list[str] = field(default_factory=list)
    restarts: int = 0
    last_death: str = ""
    resumes: bool = False
    """Go on where the snapshot says; otherwise begin anew."""
    only_releases: bool = False
    """Go on only to give everything up."""
