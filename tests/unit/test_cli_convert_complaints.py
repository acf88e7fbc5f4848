"""What keepalived complains of and runs all the same is converted, and the report says what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast_api.errors import ConfigurationErrors
from holdfast_api.resources import VirtualIPSpec
from holdfast_testing.keepalived_files import SCRIPT, addresses, convert_texts, instance

LEAST = instance()

# (configuration, keyword, what the report says, what of the VirtualIP shows it)
COMPLAINTS: list[tuple[str, str, str, Callable[[VirtualIPSpec], bool]]] = [
    (instance("nonsense 3"), "nonsense", "goes on without it", lambda spec: spec.virtual_router_id == 51),
    (
        instance("nonsense {", "a", "}", "priority 120"),
        "nonsense",
        "misses what follows",
        lambda spec: _priority(spec, 120),
    ),
    (instance("state SLAVE"), "state", "takes BACKUP", lambda spec: _priority(spec, 100)),
    (instance("priority 300"), "priority", "takes 100", lambda spec: _priority(spec, 100)),
    (instance("advert_int x"), "advert_int", "takes 1 second", lambda spec: _interval(spec, 1000)),
    (instance("version 4"), "version", "takes the default", lambda spec: spec.version == 2),
    (instance("preempt_delay x"), "preempt_delay", "has none", lambda spec: spec.preempt_delay_seconds == 0),
    (instance("track_script {", "y", "}"), "y", "ignores it", lambda spec: not spec.track.probes),
    (
        SCRIPT + instance("track_script {", "chk weight 500", "}"),
        "chk",
        "without a weight",
        lambda spec: _probes(spec, 1),
    ),
    (SCRIPT + instance("track_script {", "chk other", "}"), "chk", "passes over that", lambda spec: _probes(spec, 1)),
    (
        instance("authentication {", "auth_type PASSX", "auth_pass a", "}"),
        "auth_type",
        "has no authentication",
        lambda spec: spec.authentication is None,
    ),
    (instance("authentication {", "nonsense", "}"), "nonsense", "goes on without it", lambda spec: True),
    (
        instance("unicast_peer {", "fd00::1", "10.77.0.2 10.77.0.3", "}"),
        "fd00::1",
        "goes on without it",
        lambda spec: spec.external_peers == ["10.77.0.2"],
    ),
    (instance("mcast_src_ip x"), "mcast_src_ip", "goes on without it", lambda spec: not spec.nodes.source_addresses),
    (
        instance(block=addresses("10.77.0.200", "10.0.0.1.2", "fd00::1")),
        "address",
        "passes over it",
        lambda spec: spec.addresses == ["10.77.0.200/32"],
    ),
    (
        instance(block=addresses("10.77.0.200/33")),
        "address",
        "here it is 10.77.0.200/32",
        lambda spec: spec.addresses == ["10.77.0.200/32"],
    ),
    (
        instance(block=addresses("10.77.0.200", "10.77.0.201 dev")),
        "10.77.0.201",
        "passes over the address",
        lambda spec: spec.addresses == ["10.77.0.200/32"],
    ),
    (
        instance(block=addresses("10.77.0.200 foo")),
        "10.77.0.200",
        "passes over that",
        lambda spec: len(spec.addresses) == 1,
    ),
    ("foo_bar {\nx 1\n}\n" + LEAST, "foo_bar", "goes on without it", lambda spec: True),
    (
        "global_defs {\nnonsense 1\nvrrp_version 9\n}\n" + LEAST,
        "vrrp_version",
        "goes by version 2",
        lambda spec: spec.version == 2,
    ),
    (LEAST + "}\n", "}", "passes over it", lambda spec: True),
    (LEAST + instance("priority 120"), "vrrp_instance VI_1", "goes by the first", lambda spec: _priority(spec, 100)),
    (
        "vrrp_script x {\ninterval 2\n}\n" + instance("track_script {", "x", "}"),
        "vrrp_script x",
        "removes it",
        lambda spec: not spec.track.probes,
    ),
    (
        'vrrp_script x {\nscript "/bin/true"\nfail 1\nfall 0\ninterval 0\n}\n' + instance("track_script {", "x", "}"),
        "fall",
        "takes 1",
        lambda spec: spec.track.probes[0].failure_threshold == 1 and spec.track.probes[0].period_seconds == 1,
    ),
    (LEAST + "vrrp_sync_group g {\ngroup {\nVI_1\nVI_9\n}\nfoo\n}\n", "group", "ignores it", lambda spec: True),
    (LEAST + "vrrp_sync_group g {\nVI_1\n}\n", "vrrp_sync_group g", "removes it", lambda spec: True),
    (LEAST + "vrrp_sync_group a b {\n}\n", "vrrp_sync_group", "passes over it", lambda spec: True),
    (LEAST + "[root@host ~]$\n", "[root@host", "goes on without it", lambda spec: True),
]


def _priority(spec: VirtualIPSpec, priority: int) -> bool:
    return [entry.priority for entry in spec.nodes.priorities] == [priority]


def _interval(spec: VirtualIPSpec, milliseconds: int) -> bool:
    return spec.advertisement_interval_milliseconds == milliseconds


def _probes(spec: VirtualIPSpec, count: int) -> bool:
    return len(spec.track.probes) == count


@pytest.mark.parametrize(
    ("text", "keyword", "instead", "shows"),
    COMPLAINTS,
    ids=[f"{keyword} {instead}" for _, keyword, instead, _ in COMPLAINTS],
)
def test_what_keepalived_passes_over_is_left_out_and_told(
    tmp_path: Path, text: str, keyword: str, instead: str, shows: Callable[[VirtualIPSpec], bool]
) -> None:
    conversion = convert_texts(tmp_path, text)
    told = [note.text for note in conversion.ledger.notes if note.keyword == keyword]
    assert any(": keepalived " in sentence and instead in sentence for sentence in told), told
    (made,) = conversion.converted
    assert shows(made.virtual_ip.spec)


@pytest.mark.parametrize(
    "text", [text for text, *_ in COMPLAINTS], ids=[f"{keyword} {instead}" for _, keyword, instead, _ in COMPLAINTS]
)
def test_strict_refuses_all_of_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationErrors):
        convert_texts(tmp_path, text, strict=True)
