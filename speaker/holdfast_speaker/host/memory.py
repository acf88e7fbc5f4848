"""What an engine leaves to the one that is forked after it: memory that the keeper and its engines share.

The engine writes its snapshot when something changed, and the time of each turn of its loop. Two slots, written in
turn, so that an engine that dies while it writes leaves the snapshot before.
"""

from __future__ import annotations

import mmap
import struct

from holdfast_speaker.vrrp.instants import Duration, Instant

_SLOT_BYTES = 16 * 1024 * 1024
"""What is not written takes no memory."""

_NUMBER = struct.Struct("@q")
_HEARTBEAT_AT = 0
_SLOT_AT = 8
_LENGTHS_AT = (16, 24)
_PATIENCE_AT = 32
_SLOTS_AT = 4096


class Memory:
    """Anonymous shared memory; made before the fork. One process writes at a time."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, _SLOTS_AT + 2 * _SLOT_BYTES)

    def beat(self, now: Instant) -> None:
        """The engine lives, at this time."""
        self._put(_HEARTBEAT_AT, now)

    @property
    def heartbeat(self) -> Instant:
        """When an engine last said that it lives; 0 before the first did."""
        return Instant(self._get(_HEARTBEAT_AT))

    @property
    def patience(self) -> Duration:
        """An engine that makes no turn for so long hangs (watch.py)."""
        return Duration(self._get(_PATIENCE_AT))

    @patience.setter
    def patience(self, patience: Duration) -> None:
        self._put(_PATIENCE_AT, patience)

    def write(self, snapshot: bytes) -> bool:
        """Keep a snapshot in place of the one before.

        Returns False where it is too large. Nothing is kept then: an engine that went on from an older one could say
        that it holds what another holds by now.
        """
        fits = len(snapshot) <= _SLOT_BYTES
        kept = snapshot if fits else b""
        slot = 1 - self._get(_SLOT_AT)
        at = _SLOTS_AT + slot * _SLOT_BYTES
        self._map[at : at + len(kept)] = kept
        self._put(_LENGTHS_AT[slot], len(kept))
        self._put(_SLOT_AT, slot)
        return fits

    def read(self) -> bytes:
        """The last snapshot; empty where there is none."""
        slot = self._get(_SLOT_AT)
        at = _SLOTS_AT + slot * _SLOT_BYTES
        return self._map[at : at + self._get(_LENGTHS_AT[slot])]

    def _put(self, at: int, number: int) -> None:
        _NUMBER.pack_into(self._map, at, number)

    def _get(self, at: int) -> int:
        number: int = _NUMBER.unpack_from(self._map, at)[0]
        return number
