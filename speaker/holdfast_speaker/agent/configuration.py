"""Which configuration the engine is told, and when: decided from what is known, without I/O.

Two agents of one node can be connected to one engine while a rolling update replaces the speaker. Both see the same
SpeakerConfig and say the same, and an agent that is behind must not undo what the other one said:

* A configuration whose generation is the engine's or higher is sent, once on each connection. (The engine does not
  disturb what did not change, so saying the same twice costs nothing.)
* An engine that runs a higher generation has been told by somebody who knows more, or the object was deleted and made
  anew, whose generation begins at 1. Which of both it is, a read tells that began after the engine had said so and that
  no cache answers: if the object's generation is still lower, the object is another one, and is sent.
* An engine that runs something else than what was sent here has been told by somebody else: that is read and decided
  in the same way. Without an API server nothing is sent a second time, so that two agents cannot replace it by turns.
* What comes from the cache of an agent that has not reached the API server yet is sent only to an engine that runs a
  lower generation: the engine has a copy of its own.

An object that is deleted leaves everything as it is, and so does one that is made anew and empty, until the operator
has marked it as planned.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from holdfast_api.cluster import PLANNED_FROM_ANNOTATION, SpeakerConfigSpec
from holdfast_kube.reflector import Key
from holdfast_speaker.agent.cache import KeptConfiguration
from holdfast_speaker.agent.objects import ObservedSpeakerConfig

_log = logging.getLogger(__name__)


class Step(enum.Enum):
    """What is to be done with the newest configuration."""

    NOTHING = enum.auto()
    SEND = enum.auto()
    READ_AGAIN = enum.auto()
    """Ask the API server for the object as it is now, then decide again."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One configuration that this node shall run."""

    uid: str
    generation: int
    spec: SpeakerConfigSpec
    is_cached: bool = False
    """It comes from this pod's cache, and the API server has not been reached yet."""

    def is_same(self, other: Wanted | None) -> bool:
        """Whether the other one is the same object in the same generation, wherever it comes from."""
        return other is not None and (self.uid, self.generation) == (other.uid, other.generation)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A configuration that is not in force, and why."""

    generation: int
    by_engine: bool
    """Whether the engine refused it; else this agent could not read it."""
    words: str


class Configuration:
    """The newest configuration, the one in force, and what the engine was offered."""

    def __init__(self, node_name: str, changed: Callable[[], None]) -> None:
        self._node_name = node_name
        self._changed = changed
        self.newest: Wanted | None = None
        self.in_force: Wanted | None = None
        """The last one that the engine took."""
        self.rejection: Rejection | None = None
        self.is_there: bool | None = None
        """Whether the API server has the object; None: it has not said yet."""
        self.planned_from = ""
        """The definition of VirtualIPs that the newest one was planned from; empty: not known."""
        self._unplanned = ""
        self._taken = b""
        """The newest one's specification, as it came."""
        self._offered: Wanted | None = None
        self._confirmed: Wanted | None = None

    @property
    def awaits_plan(self) -> bool:
        """Whether the API server has an object that nobody planned yet."""
        return bool(self.is_there and self._unplanned)

    # ----- what is heard -----

    def recall(self, kept: KeptConfiguration) -> None:
        """What a former agent of this pod knew."""
        self.newest = self.in_force = Wanted(kept.uid, kept.generation, kept.spec, is_cached=True)
        self.planned_from = kept.planned_from

    def take(self, found: ObservedSpeakerConfig) -> None:
        """The object as the API server has it."""
        self.is_there = True
        metadata = found.metadata
        before, self._unplanned = self._unplanned, ""
        is_known = self._is_known(metadata.uid, metadata.generation)
        origin = (metadata.annotations or {}).get(PLANNED_FROM_ANNOTATION, "")
        if is_known and bytes(found.spec) == self._taken:
            self.planned_from = origin or self.planned_from
            return
        try:
            spec = msgspec.json.decode(found.spec, type=SpeakerConfigSpec)
        except msgspec.DecodeError as error:
            words = f"this version of the speaker cannot read it: {error}"
        else:
            words = "" if spec.node_name == self._node_name else f"nodeName is {spec.node_name!r}"
            if not words and not spec.virtual_routers and not origin:
                self._leave_alone(metadata.uid, before)
                return
        if words:
            self.rejection = Rejection(metadata.generation, by_engine=False, words=words)
            _log.error("generation %d of the SpeakerConfig is not put in force: %s", metadata.generation, words)
        else:
            self._taken = bytes(found.spec)
            self.planned_from = origin or self.planned_from
            if is_known and self.newest is not None:
                if self.newest.spec == spec:
                    return
                self._offered = None  # after a backup was restored, generations are counted anew: it is another one
            self.newest = Wanted(metadata.uid, metadata.generation, spec)
            self.rejection = None
        self._changed()

    def _leave_alone(self, uid: str, before: str) -> None:
        """An object that was made anew and is not planned yet is a place to say which links there are, and no wish."""
        self._unplanned = uid
        if uid != before:
            kept = self.newest or self.in_force
            if kept is not None and kept.spec.virtual_routers:
                told = "the SpeakerConfig is new, and nothing is planned in it yet: generation %d stays in force"
                _log.warning(told, kept.generation)
            self._changed()

    def take_again(self, found: ObservedSpeakerConfig) -> None:
        """The object as it is now, read after the engine had contradicted."""
        self.take(found)
        self._confirmed = self.newest
        self._changed()

    def is_gone(self) -> None:
        """The API server does not have the object: somebody deleted it, or its kind. That is no wish to stop."""
        if self.is_there is not False:
            kept = self.newest or self.in_force
            told = f"generation {kept.generation} stays in force" if kept else "nothing is known to run"
            _log.warning("there is no SpeakerConfig %s: %s", self._node_name, told)
        self.is_there = False
        self._changed()

    def replace(self, objects: Mapping[Key, ObservedSpeakerConfig]) -> None:
        """The API server listed it, or did not."""
        for key, found in objects.items():
            self.put(key, found)
        if ("", self._node_name) not in objects:
            self.is_gone()

    def put(self, key: Key, item: ObservedSpeakerConfig) -> None:
        """New or changed."""
        if key == ("", self._node_name):
            self.take(item)

    def remove(self, key: Key) -> None:
        """Deleted."""
        if key == ("", self._node_name):
            self.is_gone()

    # ----- what is decided -----

    def connected(self) -> None:
        """Another connection to an engine: nothing was offered on it yet."""
        self._offered = None

    def step(self, engine_generation: int) -> Step:
        """What to do while the engine runs this generation (0: none)."""
        wanted = self.newest
        if wanted is None:
            return Step.NOTHING
        is_offered = wanted.is_same(self._offered)
        if wanted.is_cached:
            return Step.SEND if not is_offered and engine_generation < wanted.generation else Step.NOTHING
        if self._confirmed is wanted:
            return Step.SEND
        if not is_offered:
            return Step.SEND if engine_generation <= wanted.generation else Step.READ_AGAIN
        if engine_generation == wanted.generation or self.rejection is not None:
            return Step.NOTHING
        return Step.READ_AGAIN

    def offered(self, wanted: Wanted) -> None:
        """It is sent."""
        self._offered, self._confirmed = wanted, None

    def accepted(self, wanted: Wanted) -> None:
        """The engine runs it."""
        self.in_force = wanted
        if wanted.is_same(self.newest):
            self.rejection = None

    def refused(self, wanted: Wanted, words: str) -> None:
        """The engine does not run it, and goes on with what it ran."""
        self.rejection = Rejection(wanted.generation, by_engine=True, words=words)
        _log.error("the engine refused generation %d of the SpeakerConfig: %s", wanted.generation, words)

    def _is_known(self, uid: str, generation: int) -> bool:
        newest = self.newest
        if newest is None or newest.is_cached:
            return False
        return (newest.uid, newest.generation) == (uid, generation)
