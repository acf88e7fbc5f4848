"""The past moves of this host's VIPs, kept over restarts of `holdfast run` in its state directory: moves.jsonl.

An engine that goes on from another one knows its last moves; one that begins anew does not. What the one before it had
published is added to the file then, by the supervisor, so that the engine's loop never writes here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from holdfast_api.errors import UNDECODABLE
from holdfast_api.messages import Transition
from holdfast_speaker.host.state_directory import published_state

_FILE = "moves.jsonl"
KEPT = 50
"""Of each VIP, the newest."""

SIZE_MAX = 1024 * 1024
"""Of the whole file, in bytes: of many VIPs the oldest moves go first."""

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Transition)


def kept_moves(state_directory: Path) -> list[Transition]:
    """What is in the file, and what the last engine published, oldest first. What cannot be read is left out."""
    state = published_state(state_directory)
    published = [move for router in state.routers for move in router.history] if state else []
    shared = [move for router in state.routers for one in router.virtual_ips for move in one.history] if state else []
    return together(_read(state_directory / _FILE), published, shared)


def together(*parts: Iterable[Transition]) -> list[Transition]:
    """Each of them once, oldest first."""
    return sorted(dict.fromkeys(move for part in parts for move in part), key=lambda move: move.time)


def keep_moves(state_directory: Path, moves: Iterable[Transition]) -> None:
    """Write the file anew with the newest of these, in one step. Raises OSError."""
    lines: list[bytes] = []
    size = 0
    seen: dict[str, int] = {}
    for move in reversed(together(moves)):
        line = _ENCODER.encode(move)
        seen[move.virtual_ip] = seen.get(move.virtual_ip, 0) + 1
        if seen[move.virtual_ip] > KEPT:
            continue
        size += len(line) + 1
        if size > SIZE_MAX:
            break
        lines.append(line)
    content = b"".join(line + b"\n" for line in reversed(lines))
    file = state_directory / _FILE
    try:
        if file.read_bytes() == content:
            return
    except OSError:  # there is none yet
        pass
    part = state_directory / f".{_FILE}.part"
    part.touch(mode=0o600)
    part.write_bytes(content)
    part.replace(file)


def _read(file: Path) -> list[Transition]:
    try:
        with file.open("rb") as stream:
            lines = stream.read(2 * SIZE_MAX).splitlines()
    except OSError:
        return []
    moves = []
    for line in lines:
        try:
            moves.append(_DECODER.decode(line))
        except UNDECODABLE:  # a line that somebody edited, or a later version wrote
            continue
    return moves
