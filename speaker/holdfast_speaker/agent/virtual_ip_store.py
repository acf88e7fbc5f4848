"""What the API server has of every VirtualIP, as far as this node's agent asks: its own entry, and other Masters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from holdfast_api.reasons import State
from holdfast_kube.reflector import Key
from holdfast_speaker.agent.ledger import Ledger
from holdfast_speaker.agent.objects import ObservedVirtualIP
from holdfast_speaker.agent.writer import own_entry


class VirtualIPStore:
    """Tells the ledger what stands there; keeps nothing of the rest but who else says that it is Master."""

    def __init__(self, node_name: str, ledger: Ledger, changed: Callable[[], None]) -> None:
        self._node_name = node_name
        self._ledger = ledger
        self._changed = changed
        self.masters_elsewhere: set[str] = set()
        """The VirtualIPs (namespace/name) that another node says it holds."""

    def replace(self, objects: Mapping[Key, ObservedVirtualIP]) -> None:
        """This is all there is."""
        self.masters_elsewhere.clear()
        self._ledger.see_only("/".join(key) for key in objects)
        for key, item in objects.items():
            self._see(key, item)
        self._changed()

    def put(self, key: Key, item: ObservedVirtualIP) -> None:
        """This one is there, new or changed."""
        self._see(key, item)
        self._changed()

    def remove(self, key: Key) -> None:
        """This one is gone."""
        self._ledger.see_gone("/".join(key))
        self.masters_elsewhere.discard("/".join(key))
        self._changed()

    def _see(self, key: Key, item: ObservedVirtualIP) -> None:
        name = "/".join(key)
        entries = item.status.nodes or []
        self._ledger.see(name, item.metadata.resource_version, own_entry(entries, self._node_name))
        if any(entry.get("state") == State.MASTER and entry.get("nodeName") != self._node_name for entry in entries):
            self.masters_elsewhere.add(name)
        else:
            self.masters_elsewhere.discard(name)
