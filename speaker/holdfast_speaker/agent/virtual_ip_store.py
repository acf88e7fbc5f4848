"""What the API server has of every VirtualIP, as far as this node's agent asks: its own entry, and other Masters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from holdfast_api.reasons import State
from holdfast_kube.reflector import Key
from holdfast_speaker.agent.ledger import Fields, Ledger
from holdfast_speaker.agent.objects import ObservedVirtualIP
from holdfast_speaker.agent.split_brain import Rivals
from holdfast_speaker.agent.writer import own_entry


class VirtualIPStore:
    """Tells the ledger what stands there; keeps nothing of the rest but who else says that it is Master."""

    def __init__(self, node_name: str, ledger: Ledger, changed: Callable[[], None]) -> None:
        self._node_name = node_name
        self._ledger = ledger
        self._changed = changed
        self.rivals: dict[str, Rivals] = {}
        """By namespace/name, where another node says that it is Master."""

    def replace(self, objects: Mapping[Key, ObservedVirtualIP]) -> None:
        """This is all there is."""
        self.rivals.clear()
        self._ledger.see_only("/".join(key) for key in objects)
        for key, item in objects.items():
            own = self._look(key, item)
            self._ledger.see_listed("/".join(key), item.metadata.resource_version, own, item.metadata.uid)
        self._changed()

    def put(self, key: Key, item: ObservedVirtualIP) -> None:
        """This one is there, new or changed."""
        own = self._look(key, item)
        self._ledger.see("/".join(key), item.metadata.resource_version, own, item.metadata.uid)
        self._changed()

    def remove(self, key: Key) -> None:
        """This one is gone."""
        self._ledger.see_gone("/".join(key))
        self.rivals.pop("/".join(key), None)
        self._changed()

    def _look(self, key: Key, item: ObservedVirtualIP) -> Fields | None:
        """Remember the others; returns this node's own entry."""
        name, entries = "/".join(key), item.status.nodes or []
        claims = frozenset(
            (str(entry.get("nodeName")), str(entry.get("since")))
            for entry in entries
            if entry.get("state") == State.MASTER and entry.get("nodeName") != self._node_name
        )
        if claims:
            self.rivals[name] = Rivals(claims, is_told_otherwise=item.status.holder not in ("", self._node_name))
        else:
            self.rivals.pop(name, None)
        return own_entry(entries, self._node_name)
