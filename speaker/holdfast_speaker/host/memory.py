"""What an engine leaves to the one that is forked after it: memory that the keeper and its engines share.

The engine writes its snapshot when something changed, and the time of each turn of its loop. Two slots, written in
turn, so that an engine that dies while it writes leaves the snapshot before.
"""

from __future__ import annotations

import mmap
import struct

from holdfast_speaker.vrrp.instants import Instant

_SLOT_BYTES = 4 * 1024 * 1024
_HEADER = struct.Struct("@qqqq")  # heartbeat, current slot, length of slot 0, length of slot 1
_HEARTBEAT = struct.Struct("@q")
_SLOT_FIELD = 8
_LENGTH_FIELDS = (16, 24)
_SLOTS_AT = 4096


class Memory:
    """Anonymous shared memory; made before the fork. One process writes at a time."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, _SLOTS_AT + 2 * _SLOT_BYTES)

    def beat(self, now: Instant) -> None:
        """The engine lives, at this time."""
        _HEARTBEAT.pack_into(self._map, 0, now)

    @property
    def heartbeat(self) -> Instant:
        """When an engine last said that it lives; 0 before the first did."""
        return Instant(_HEARTBEAT.unpack_from(self._map, 0)[0])

    def write(self, snapshot: bytes) -> bool:
        """Keep a snapshot in place of the one before. Returns False, with that one kept, where it is too large."""
        if len(snapshot) > _SLOT_BYTES:
            return False
        slot = 1 - self._current
        at = _SLOTS_AT + slot * _SLOT_BYTES
        self._map[at : at + len(snapshot)] = snapshot
        _HEARTBEAT.pack_into(self._map, _LENGTH_FIELDS[slot], len(snapshot))
        _HEARTBEAT.pack_into(self._map, _SLOT_FIELD, slot)
        return True

    def read(self) -> bytes:
        """The last snapshot; empty before the first."""
        _, current, *lengths = _HEADER.unpack_from(self._map, 0)
        at = _SLOTS_AT + current * _SLOT_BYTES
        return self._map[at : at + lengths[current]]

    @property
    def _current(self) -> int:
        current: int = _HEARTBEAT.unpack_from(self._map, _SLOT_FIELD)[0]
        return current
