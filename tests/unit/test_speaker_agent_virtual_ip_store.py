"""What an agent keeps of VirtualIPs: its own entry, and who else says that it is Master."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast_speaker.agent.ledger import Ledger
from holdfast_speaker.agent.objects import ObservedVirtualIP
from holdfast_speaker.agent.split_brain import Rivals
from holdfast_speaker.agent.virtual_ip_store import VirtualIPStore

WEB = ("shop", "web")


def virtual_ip(version: int, holder: str = "", **states: str) -> ObservedVirtualIP:
    entries = [{"nodeName": name, "state": state, "since": f"of {name}"} for name, state in states.items()]
    raw: dict[str, Any] = {
        "metadata": {"namespace": "shop", "name": "web", "uid": "u1", "resourceVersion": str(version)},
        "status": {"nodes": entries, "holder": holder},
    }
    return msgspec.convert(raw, ObservedVirtualIP)


def made() -> tuple[VirtualIPStore, Ledger]:
    ledger = Ledger((), lambda: 0.0)
    return VirtualIPStore("n1", ledger, lambda: None), ledger


def test_other_masters_are_known_by_what_they_call_the_beginning_of_it() -> None:
    store, _ = made()
    store.replace({WEB: virtual_ip(1, "n2", n1="Master", n2="Master", n3="Backup")})
    assert store.rivals == {"shop/web": Rivals(frozenset({("n2", "of n2")}), is_told_otherwise=True)}
    store.put(WEB, virtual_ip(2, "n1", n1="Master", n2="Master"))
    assert not store.rivals["shop/web"].is_told_otherwise
    store.put(WEB, virtual_ip(3, "n1", n1="Master", n2="Backup"))
    assert store.rivals == {}


def test_an_older_event_is_passed_over_and_an_older_list_is_not() -> None:
    store, ledger = made()
    store.replace({WEB: virtual_ip(50, n1="Master")})
    store.put(WEB, virtual_ip(40, n1="Backup"))
    assert (ledger.there("shop/web") or {})["state"] == "Master"
    store.replace({WEB: virtual_ip(30, n1="Initialize")})
    assert (ledger.there("shop/web") or {})["state"] == "Initialize"
