"""What this pod's agent keeps for its next process: an agent that restarts without an API server goes on.

    speaker-config.json   the last configuration that the engine took
    pod-health.json       the last health of tracked pods
    alive                 when the loop turned last (`alive`)

It belongs on a volume of the pod (emptyDir). What cannot be written is said once; nothing here is needed to go on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from holdfast_api.cluster import SpeakerConfigSpec
from holdfast_api.naming import kubernetes_name
from holdfast_api.reasons import Health
from holdfast_speaker.agent.pods import Verdict

Content = TypeVar("Content")

_log = logging.getLogger(__name__)


class KeptConfiguration(Struct, frozen=True, kw_only=True, rename=kubernetes_name):
    """A SpeakerConfig as it was."""

    uid: str
    generation: int
    spec: SpeakerConfigSpec
    planned_from: str = ""


class Cache:
    """One folder. No method raises for what the file system refuses or holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._refused: set[str] = set()

    @property
    def warnings(self) -> list[str]:
        """What could not be written, for status."""
        return sorted(self._refused)

    def load_configuration(self) -> KeptConfiguration | None:
        """None where there is none, or none that can be read."""
        return self._load("speaker-config.json", KeptConfiguration)

    def save_configuration(self, kept: KeptConfiguration) -> None:
        """Keep what the engine took."""
        self._save("speaker-config.json", msgspec.json.encode(kept))

    def load_health(self) -> dict[str, Verdict]:
        """By namespace/name; empty where nothing is known."""
        kept = self._load("pod-health.json", dict[str, tuple[Health, str]])
        return {name: Verdict(*verdict) for name, verdict in (kept or {}).items()}

    def save_health(self, verdicts: Mapping[str, Verdict]) -> None:
        """Keep what the pods said."""
        self._save("pod-health.json", msgspec.json.encode(dict(verdicts)))

    def save_alive(self, text: str) -> None:
        """Say that the loop turns."""
        self._save("alive", text.encode())

    def _load(self, name: str, kind: type[Content]) -> Content | None:
        try:
            return msgspec.json.decode((self._path / name).read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(name, error)
        except msgspec.DecodeError as error:
            _log.warning("%s is ignored: %s", self._path / name, error)
        return None

    def _save(self, name: str, content: bytes) -> None:
        part = self._path / f".{name}.part"
        try:
            part.touch(mode=0o600)  # a configuration may hold a VRRPv2 password
            part.write_bytes(content)
            part.replace(self._path / name)
        except OSError as error:
            self._warn(name, error)
        else:
            self._refused = {refusal for refusal in self._refused if not refusal.startswith(f"{name} ")}

    def _warn(self, name: str, error: OSError) -> None:
        refusal = f"{name} cannot be kept in {self._path}: {error.strerror}"
        if refusal not in self._refused:
            _log.warning("%s; going on without it", refusal)
            self._refused.add(refusal)
