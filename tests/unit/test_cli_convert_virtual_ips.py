"""What becomes of keepalived's keywords: the VirtualIP, and the sentence in the report."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast_api.errors import ConfigurationErrors
from holdfast_api.resources import Probe, VirtualIP, VirtualIPSpec, WhenFailing
from holdfast_cli.convert import Conversion
from holdfast_testing.keepalived_files import SCRIPT, addresses, convert_texts, instance

Converter = Callable[..., Conversion]


@pytest.fixture
def converted(tmp_path: Path) -> Converter:
    """Convert the texts as the configurations of n1, n2, ..."""
    return functools.partial(convert_texts, tmp_path)


def spec(conversion: Conversion) -> VirtualIPSpec:
    (made,) = conversion.converted
    return made.virtual_ip.spec


def names(conversion: Conversion) -> list[str]:
    return [made.virtual_ip.metadata.name for made in conversion.converted]


def notes(conversion: Conversion, keyword: str) -> list[str]:
    return [f"{note.kind}: {note.text}" for note in conversion.ledger.notes if note.keyword == keyword]


def priorities(virtual_ip: VirtualIP | VirtualIPSpec) -> dict[str, int]:
    nodes = virtual_ip.spec.nodes if isinstance(virtual_ip, VirtualIP) else virtual_ip.nodes
    return {node.node_name: node.priority for node in nodes.priorities}


def probe(conversion: Conversion) -> Probe:
    (found,) = spec(conversion).track.probes
    return found


def test_the_least_instance_becomes_a_virtual_ip_with_keepalived_s_defaults(converted: Converter) -> None:
    made = spec(converted(instance()))
    assert made.addresses == ["10.77.0.200/24"]
    assert (made.version, made.virtual_router_id, made.interface) == (2, 51, "eth0")
    assert made.nopreempt is False
    assert made.advertisement_interval_milliseconds == 1000
    assert priorities(made) == {"n1": 100}
    assert made.nodes.names == []
    assert made.track.when_failing is WhenFailing.DEGRADE


# Each line changes what the VirtualIP says: (lines, field as a path, value).
CARRIED = [
    (("virtual_router_id 7",), "virtual_router_id", 7),
    (("interface ens3",), "interface", "ens3"),
    (("advert_int 3",), "advertisement_interval_milliseconds", 3000),
    (("version 3", "advert_int 0.25"), "advertisement_interval_milliseconds", 250),
    (("version 3",), "version", 3),
    (("priority 140",), "nodes.priorities.0.priority", 140),
    (("priority 255",), "nodes.priorities.0.priority", 254),
    (("state MASTER",), "nodes.priorities.0.priority", 254),
    (("nopreempt",), "nopreempt", True),
    (("preempt_delay 5",), "preempt_delay_seconds", 5),
    (("mcast_src_ip 10.77.0.1",), "nodes.source_addresses.0.address", "10.77.0.1"),
    (("unicast_peer {", "10.77.0.2", "}"), "external_peers", ["10.77.0.2"]),
    (("unicast_peer {", "10.77.0.2", "}"), "transport", "Unicast"),
    (
        ("unicast_src_ip 10.77.0.1", "unicast_peer {", "10.77.0.2", "}"),
        "external_peers",
        ["10.77.0.2", "10.77.0.1"],
    ),
    (("authentication {", "auth_type PASS", "auth_pass 123456789", "}"), "authentication.simple_password", "12345678"),
    (("track_interface {", "eth1", "}"), "track.interfaces", ["eth1"]),
    (("track_script {", "chk", "}"), "track.probes.0.name", "chk"),
    (("virtual_ipaddress {", "10.77.0.7", "}"), "addresses", ["10.77.0.200/24", "10.77.0.7/32"]),
    (("virtual_ipaddress_excluded {", "10.77.0.8/25", "}"), "addresses", ["10.77.0.200/24", "10.77.0.8/25"]),
]


@pytest.mark.parametrize(("lines", "path", "value"), CARRIED, ids=lambda value: str(value)[:40])
def test_keywords_of_an_instance_are_carried_over(
    converted: Converter, lines: tuple[str, ...], path: str, value: object
) -> None:
    found: object = spec(converted(SCRIPT + instance(*lines)))
    before: object = spec(converted(SCRIPT + instance()))
    for step in path.split("."):
        found = found[int(step)] if isinstance(found, list) else getattr(found, step)
        if before is not None:
            before = (before[int(step) :] or [None])[0] if isinstance(before, list) else getattr(before, step)
    assert found == value
    assert before != value


def test_global_version_is_the_default_of_ipv4_instances(converted: Converter) -> None:
    assert spec(converted("global_defs {\nvrrp_version 3\n}\n" + instance())).version == 3
    assert spec(converted("global_defs {\nvrrp_version 3\n}\n" + instance("version 2"))).version == 2


def test_ipv6_always_has_version_3_and_prefix_128_by_default(converted: Converter) -> None:
    conversion = converted(instance("version 2", block=addresses("fd00::1", "fd00::2/64 dev eth0 -nodad")))
    assert spec(conversion).version == 3
    assert spec(conversion).addresses == ["fd00::1/128", "fd00::2/64"]
    assert notes(conversion, "version") == ["differs: IPv6 has version 3 alone, in keepalived too"]


@pytest.mark.parametrize(
    ("version", "given", "milliseconds", "noted"),
    [
        (2, "0.5", 1000, True),
        (2, "1.4", 1000, True),
        (2, "60", 40_000, True),
        (3, "0.015", 20, True),
        (3, "50", 40_950, True),
        (3, "0.01", 10, False),
    ],
)
def test_intervals_are_rounded_as_keepalived_rounds_them(
    converted: Converter, version: int, given: str, milliseconds: int, noted: bool
) -> None:
    conversion = converted(instance(f"version {version}", f"advert_int {given}"))
    assert spec(conversion).advertisement_interval_milliseconds == milliseconds
    assert bool(notes(conversion, "advert_int")) is noted


def test_a_script_becomes_a_probe_with_keepalived_s_thresholds(converted: Converter) -> None:
    text = (
        "vrrp_script web {\nscript \"/bin/bash -c '</dev/tcp/127.0.0.1/80'\"\ninterval 2\nuser nobody\ninit_fail\n}\n"
    )
    conversion = converted(text + instance("track_script {", "web", "}"))
    found = probe(conversion)
    assert found.exec is not None
    assert found.exec.command == ["/bin/bash", "-c", "</dev/tcp/127.0.0.1/80"]
    assert (found.period_seconds, found.timeout_seconds) == (2, 2)
    assert (found.failure_threshold, found.success_threshold) == (1, 1)
    assert notes(conversion, "user") == ["left out: probes run as the user of `holdfast run`"]
    assert len(notes(conversion, "init_fail")) == 1


def test_a_script_s_own_times_and_thresholds_are_carried_over(converted: Converter) -> None:
    text = "vrrp_script web {\nscript /bin/true\ninterval 0.25\ntimeout 1.5\nfall 3\nrise 4\n}\n"
    found = probe(converted(text + instance("track_script {", "web", "}")))
    assert (found.period_seconds, found.period_milliseconds, found.timeout_seconds) == (None, 250, 2)
    assert (found.failure_threshold, found.success_threshold) == (3, 4)


@pytest.mark.parametrize(
    ("script", "command"),
    [
        ('"killall -0 haproxy"', ["killall", "-0", "haproxy"]),
        ('"</dev/tcp/127.0.0.1/80"', ["/bin/bash", "-c", "</dev/tcp/127.0.0.1/80"]),
        ('"(test -e /x)"', ["/bin/sh", "-c", "(test -e /x)"]),
        ("\"/bin/x 'a b' c\"", ["/bin/x", "a b", "c"]),
        ("/bin/x and more", ["/bin/x"]),
    ],
)
def test_commands_are_what_keepalived_would_execute(converted: Converter, script: str, command: list[str]) -> None:
    found = probe(converted(f"vrrp_script s {{\nscript {script}\n}}\n" + instance("track_script {", "s", "}")))
    assert found.exec is not None
    assert found.exec.command == command


def test_reverse_turns_the_exit_status_around(converted: Converter) -> None:
    found = probe(converted(SCRIPT + instance("track_script {", "chk weight -5 reverse", "}")))
    assert found.exec is not None
    assert found.exec.command == ["/bin/sh", "-c", '! "$@"', "reverse", "/bin/true"]


def test_a_script_that_nothing_tracks_is_left_out_and_reported(converted: Converter) -> None:
    conversion = converted(SCRIPT + instance())
    assert spec(conversion).track.probes == []
    assert notes(conversion, "vrrp_script") == [
        "left out: nothing tracks it, so that keepalived does not run it either"
    ]


def test_state_master_with_nopreempt_gets_its_sentence(converted: Converter) -> None:
    conversion = converted(instance("state MASTER", "priority 100", "nopreempt"))
    assert spec(conversion).nopreempt is True
    (note,) = notes(conversion, "nopreempt")
    assert "keepalived ignores nopreempt together with `state MASTER`, and the VIP moves back" in note


@pytest.mark.parametrize("weight", [-2, 2])
def test_a_weight_with_nopreempt_gets_its_sentence(converted: Converter, weight: int) -> None:
    conversion = converted(
        SCRIPT + instance("state BACKUP", "nopreempt", "track_script {", f"chk weight {weight}", "}")
    )
    (note,) = notes(conversion, "chk")
    assert f"weight {weight}: where nopreempt is in force" in note
    assert "the VIP is stuck on a node that serves nothing" in note


def test_no_weight_gets_a_sentence_about_nobody_holding(converted: Converter) -> None:
    (note,) = notes(converted(SCRIPT + instance("nopreempt", "track_script {", "chk", "}")), "chk")
    assert "if it fails everywhere nobody has it" in note
    assert "track.whenFailing: Release" in note


def test_positive_weights_count_for_the_healthy_priority(converted: Converter) -> None:
    conversion = converted(
        SCRIPT + instance("priority 100", "track_script {", "chk weight 20", "}"), instance("priority 110")
    )
    assert priorities(spec(conversion)) == {"n1": 120, "n2": 110}


def test_low_priorities_are_lifted_out_of_the_failing_band_in_their_order(converted: Converter) -> None:
    conversion = converted(*(instance(f"priority {value}") for value in (10, 30, 50, 200, 10)))
    assert priorities(spec(conversion)) == {"n1": 50, "n2": 51, "n3": 52, "n4": 200, "n5": 50}
    assert len(notes(conversion, "priority")) == 4


def test_a_priority_of_255_holds_the_addresses_as_in_keepalived_and_stays_the_highest(converted: Converter) -> None:
    conversion = converted(
        instance("priority 255", "nopreempt"),
        instance("priority 254"),
        instance("priority 253"),
        instance("priority 90"),
    )
    assert priorities(spec(conversion)) == {"n1": 254, "n2": 253, "n3": 252, "n4": 90}
    assert spec(conversion).nopreempt is False
    assert notes(conversion, "nopreempt")[0].startswith("left out: a host with priority 255 always takes")
    assert [note.partition(":")[0] for note in notes(conversion, "priority")] == ["differs"] * 3


def test_two_hosts_with_255_are_equal_and_what_has_a_weight_counts_where_keepalived_ignores_it(
    converted: Converter,
) -> None:
    one = SCRIPT + instance("state MASTER", "track_script {", "chk weight 5", "}")
    conversion = converted(one, SCRIPT + instance("priority 255", "track_script {", "chk weight 5", "}"))
    assert priorities(spec(conversion)) == {"n1": 254, "n2": 254}
    assert any("keepalived ignores what has a weight" in note for note in notes(conversion, "chk"))


@pytest.mark.parametrize(
    ("head", "lines"),
    [
        ("global_defs {\nvrrp_strict\n}\n", ()),
        ("", ("strict_mode",)),
        ("", ("strict_mode on",)),
        ("global_defs {\nvrrp_strict\n}\n", ("strict_mode maybe",)),
    ],
)
def test_strict_mode_has_no_password_and_takes_no_packets(
    converted: Converter, head: str, lines: tuple[str, ...]
) -> None:
    secret = ("authentication {", "auth_type PASS", "auth_pass secret", "}")
    conversion = converted(head + instance(*secret, *lines))
    assert spec(conversion).authentication is None
    assert notes(conversion, "authentication") == [
        "left out: strict mode has no authentication, and keepalived leaves it out too"
    ]
    assert any("drops packets to the VIP" in str(note) for note in conversion.ledger.notes)


def test_strict_mode_can_be_off_for_one_instance(converted: Converter) -> None:
    secret = ("authentication {", "auth_type PASS", "auth_pass secret", "}")
    conversion = converted("global_defs {\nvrrp_strict\n}\n" + instance(*secret, "strict_mode off"))
    assert spec(conversion).authentication is not None
    assert not any("drops packets" in str(note) for note in conversion.ledger.notes)


@pytest.mark.parametrize("kind", ["", "auth_type PASS;"])
def test_a_password_without_a_type_that_is_known_is_none_as_in_keepalived(converted: Converter, kind: str) -> None:
    lines = [line for line in ("authentication {", kind, "auth_pass abc", "}") if line]
    conversion = converted(instance(*lines))
    assert spec(conversion).authentication is None
    assert notes(conversion, "auth_pass")[0].startswith("left out: without an auth_type")


def test_a_prefix_length_of_a_router_says_nothing(converted: Converter) -> None:
    made = spec(converted(instance("unicast_src_ip 192.0.2.1/24", "unicast_peer {", "192.0.2.2/24", "}")))
    assert made.external_peers == ["192.0.2.2", "192.0.2.1"]
    assert made.nodes.source_addresses[0].address == "192.0.2.1"


def test_of_two_scripts_with_one_name_the_first_counts(converted: Converter) -> None:
    conversion = converted(
        "vrrp_script c {\nscript /bin/a\ninterval 2\n}\nvrrp_script c {\nscript /bin/b\ninterval 7\n}\n"
        + instance("track_script {", "c", "}")
    )
    assert probe(conversion).exec is not None
    assert (probe(conversion).exec.command, probe(conversion).period_seconds) == (["/bin/a"], 2)


def test_a_script_that_is_defined_further_down_is_tracked_without_its_weight(converted: Converter) -> None:
    script = "vrrp_script c {\nscript /bin/a\nweight 20\n}\n"
    conversion = converted(instance("priority 100", "track_script {", "c", "}") + script)
    assert probe(conversion).name == "c"
    assert priorities(spec(conversion)) == {"n1": 100}
    assert notes(conversion, "c")[0].endswith("keepalived ignores it; Holdfast tracks it")
    assert priorities(spec(converted(script + instance("priority 100", "track_script {", "c", "}")))) == {"n1": 120}


def test_a_start_up_delay_is_each_virtual_ip_s(converted: Converter) -> None:
    head = "global_defs {\nvrrp_startup_delay 2.5\n}\n"
    assert spec(converted(head + instance())).start_delay_seconds == 3
    assert spec(converted(instance())).start_delay_seconds == 0


@pytest.mark.parametrize(
    "script",
    [
        "systemctl status httpd.service > /dev/null 2>&1",
        "/usr/bin/killall -0 haproxy || exit 1",
        "/usr/bin/pidof nginx >/dev/null",
        "cd /srv; ./check",
        "/bin/a | /bin/b",
        "/bin/test $(/bin/cat /run/x) = ok",
        "[ `id -u` = 0 ]",
        "if [ -f /run/x ]; then exit 0; fi",
        "/usr/bin/curl -f $URL",
    ],
)
def test_what_is_written_for_a_shell_is_given_to_one(converted: Converter, script: str) -> None:
    conversion = converted(f'vrrp_script c {{\nscript "{script}"\n}}\n' + instance("track_script {", "c", "}"))
    assert probe(conversion).exec is not None
    assert probe(conversion).exec.command == ["/bin/sh", "-c", script]
    assert notes(conversion, "script")[0].startswith("differs: is written for a shell")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("/usr/bin/curl -f http://[::1]/health?x=1&y=2", ["/usr/bin/curl", "-f", "http://[::1]/health?x=1&y=2"]),
        ("/bin/sh -c 'a && b > c'", ["/bin/sh", "-c", "a && b > c"]),
        ("/usr/bin/awk '$1 > 3 {exit}' /f", ["/usr/bin/awk", "$1 > 3 {exit}", "/f"]),
        ("killall -0 haproxy", ["killall", "-0", "haproxy"]),
    ],
)
def test_what_is_a_program_and_its_parameters_stays_that(converted: Converter, script: str, words: list[str]) -> None:
    conversion = converted(f'vrrp_script c {{\nscript "{script}"\n}}\n' + instance("track_script {", "c", "}"))
    assert probe(conversion).exec is not None
    assert probe(conversion).exec.command == words
    assert notes(conversion, "script") == []


GROUPED = (
    instance("nopreempt", "{priority}", name="A", interface="eth0")
    + instance("nopreempt", "{priority}", name="B", interface="eth1", block=addresses("198.51.100.10/24"))
    + "vrrp_sync_group G {\ngroup {\nA\nB\n}\n%s}\n"
)


def test_members_of_a_sync_group_give_their_addresses_up_when_one_fails(converted: Converter) -> None:
    texts = [(GROUPED % "").replace("{priority}", f"priority {priority}") for priority in (100, 90)]
    conversion = converted(*texts)
    assert [made.virtual_ip.spec.track.when_failing for made in conversion.converted] == [WhenFailing.RELEASE] * 2
    weighed = [(GROUPED % "sync_group_tracking_weight\n").replace("{priority}", "priority 100")] * 2
    conversion = converted(*weighed)
    assert [made.virtual_ip.spec.track.when_failing for made in conversion.converted] == [WhenFailing.DEGRADE] * 2


def test_an_address_on_another_interface_is_refused_and_not_put_on_the_wrong_network(converted: Converter) -> None:
    for block in ("virtual_ipaddress", "virtual_ipaddress_excluded"):
        text = instance(f"{block} {{", "10.0.0.1/24 dev lan0", "}", block=addresses("169.254.0.1/24 dev eth0"))
        if block == "virtual_ipaddress":
            text = instance(block=addresses("10.0.0.1/24 dev lan0"))
        with pytest.raises(ConfigurationErrors) as refused:
            converted(text)
        assert "dev lan0 must be the interface of the vrrp_instance (eth0)" in str(refused.value)


@pytest.mark.parametrize(
    "other",
    [
        ("unicast_src_ip 192.0.2.1", "unicast_peer {", "192.0.2.2", "}"),
        ("mcast_dst_ip 224.0.0.99",),
    ],
)
def test_two_instances_with_one_id_on_a_link_are_refused_as_holdfast_s_own_limit(
    converted: Converter, other: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigurationErrors) as refused:
        converted(instance() + instance(*other, name="b", block=addresses("10.77.0.201")))
    assert "keepalived runs both, and no two VirtualIPs of a host have one id on a link" in str(refused.value)


def test_what_moves_back_is_told_and_sticky_has_it_stay(converted: Converter, tmp_path: Path) -> None:
    texts = (instance("priority 120"), instance("priority 100"))
    conversion = converted(*texts)
    assert spec(conversion).nopreempt is False
    assert any("moves back" in line and "--sticky" in line for line in conversion.report)
    sticky = convert_texts(tmp_path, *texts, sticky=True)
    assert spec(sticky).nopreempt is True
    assert not any("moves back" in line for line in sticky.report)


def test_what_differs_is_told_first_and_what_is_said_twice_once(converted: Converter) -> None:
    conversion = converted(
        instance(
            "garp_master_delay 3", "virtual_routes {", "}", block=addresses("10.77.0.1 label a", "10.77.0.2 label a")
        )
        + instance("garp_master_delay 3", "mcast_dst_ip 224.0.0.99", name="b", vrid=9, block=addresses("10.77.0.9"))
    )
    kinds = [line.split(": ")[2] for line in conversion.report if line.count(": ") >= 3 and "conf:" in line]
    assert kinds == sorted(kinds, key=("differs", "left out", "note").index)
    (told,) = [line for line in conversion.report if ": garp_master_delay: " in line]
    assert told.partition(": ")[0].endswith("n1.conf:8,18")


def test_preempt_delay_is_nothing_with_nopreempt_and_whole_seconds_without(converted: Converter) -> None:
    assert spec(converted(instance("nopreempt", "preempt_delay 5"))).preempt_delay_seconds == 0
    conversion = converted(instance("preempt_delay 4.2"))
    assert spec(conversion).preempt_delay_seconds == 5
    assert notes(conversion, "preempt_delay") == ["differs: becomes 5 s, as Holdfast has whole seconds"]


def test_authentication_without_a_counterpart_is_reported(converted: Converter) -> None:
    header = converted(instance("authentication {", "auth_type AH", "auth_pass abc", "}"))
    assert spec(header).authentication is None
    assert notes(header, "auth_type")[0].startswith("left out: Holdfast has no AH")
    three = converted(instance("version 3", "authentication {", "auth_type PASS", "auth_pass abc", "}"))
    assert spec(three).authentication is None
    assert notes(three, "authentication")[0].startswith("left out: version 3 has no authentication")
    space = converted(instance("authentication {", "auth_type PASS", 'auth_pass "a b"', "}"))
    assert spec(space).authentication is None
    assert notes(space, "auth_pass")[0].startswith("left out: Holdfast's passwords are printable ASCII")


def test_hosts_that_differ_get_a_note_at_each_line_that_gives_way(converted: Converter) -> None:
    conversion = converted(
        instance("advert_int 2", "mcast_src_ip 10.77.0.1"), instance("advert_int 1", interface="ens3")
    )
    made = spec(conversion)
    assert made.interface is None
    assert made.advertisement_interval_milliseconds == 1000
    assert made.nodes.names == ["n1", "n2"]
    assert [source.node_name for source in made.nodes.source_addresses] == ["n1"]
    assert notes(conversion, "advert_int") == [
        "differs: advert_int: all nodes of a VirtualIP have the same: 1000, not 2000"
    ]
    assert len(notes(conversion, "interface")) == 2


def test_interfaces_that_not_every_host_tracks_are_left_out_and_probes_are_not(converted: Converter) -> None:
    conversion = converted(
        SCRIPT + instance("track_interface {", "eth1", "eth2", "}", "track_script {", "chk", "}"),
        instance("track_interface {", "eth2", "}"),
    )
    assert spec(conversion).track.interfaces == ["eth2"]
    assert probe(conversion).name == "chk"
    assert any("eth1 is not tracked" in note for note in notes(conversion, "eth1"))
    assert probe(conversion).nodes == ["n1"]
    assert notes(conversion, "chk")[-1] == (
        "note: the probe chk is that of n1 alone (`nodes`): elsewhere it counts as well"
    )


def test_a_script_with_other_arguments_on_each_host_is_a_probe_of_each(converted: Converter) -> None:
    def host(last: int) -> str:
        return f"vrrp_script c {{\nscript '/bin/check 10.77.0.{last}'\n}}\n" + instance("track_script {", "c", "}")

    probes = spec(converted(host(11), host(12), host(11))).track.probes
    assert [(one.name, one.nodes, one.exec.command[1] if one.exec else "") for one in probes] == [
        ("c", ["n1", "n3"], "10.77.0.11"),
        ("c-2", ["n2"], "10.77.0.12"),
    ]


def test_of_a_single_file_every_node_runs_every_probe(converted: Converter) -> None:
    assert probe(converted(SCRIPT + instance("track_script {", "chk", "}"))).nodes == []


def test_instances_are_matched_by_id_and_addresses_whatever_their_order_and_names(converted: Converter) -> None:
    other = addresses("10.78.0.1")
    one = instance("priority 101", name="a") + instance("priority 102", name="b", vrid=52, block=other)
    two = instance("priority 92", name="x", vrid=52, block=other) + instance("priority 91", name="y")
    conversion = converted(one, two)
    assert {made.virtual_ip.metadata.name: priorities(made.virtual_ip) for made in conversion.converted} == {
        "a": {"n1": 101, "n2": 91},
        "b": {"n1": 102, "n2": 92},
    }


def test_a_common_name_alone_does_not_make_one_virtual_router(converted: Converter) -> None:
    other = addresses("10.78.0.1")
    conversion = converted(instance(), instance(vrid=9, block=other))
    assert names(conversion) == ["vi-1", "vi-1-2"]
    assert len([note for note in notes(conversion, "vrrp_instance") if "alone" in note]) == 2


def test_one_id_on_two_interfaces_stays_two_virtual_routers(converted: Converter) -> None:
    other = addresses("10.78.0.1")
    text = instance(name="in") + instance(name="out", interface="eth1", block=other)
    conversion = converted(text, text)
    assert [(made.virtual_ip.metadata.name, made.virtual_ip.spec.interface) for made in conversion.converted] == [
        ("in", "eth0"),
        ("out", "eth1"),
    ]


def test_the_same_addresses_under_two_ids_are_one_virtual_ip_with_a_note(converted: Converter) -> None:
    conversion = converted(instance(), instance(vrid=52))
    assert spec(conversion).virtual_router_id == 51
    assert notes(conversion, "virtual_router_id") == [
        "differs: virtual_router_id: all nodes of a VirtualIP have the same: 51, not 52"
    ]


def test_addresses_that_one_host_lacks_are_every_host_s(converted: Converter) -> None:
    conversion = converted(instance("virtual_ipaddress {", "10.77.0.201/24", "}"), instance())
    assert spec(conversion).addresses == ["10.77.0.200/24", "10.77.0.201/24"]
    assert any("n2 does not have 10.77.0.201" in note for note in notes(conversion, "virtual_ipaddress"))


SIX = addresses("fd00::200/64")
GROUP = "vrrp_sync_group both {\ngroup {\nfour\nsix\n}\n}\n"


def test_a_sync_group_of_both_families_of_one_router_is_one_virtual_ip(converted: Converter) -> None:
    text = instance("version 3", name="four") + instance("version 3", name="six", block=SIX) + GROUP
    conversion = converted(text, text)
    assert spec(conversion).addresses == ["10.77.0.200/24", "fd00::200/64"]
    assert priorities(spec(conversion)) == {"n1": 100, "n2": 100}
    assert notes(conversion, "vrrp_sync_group")[0].startswith("note: four, six: one VirtualIP")


def test_with_version_2_the_families_stay_apart_and_the_report_says_why(converted: Converter) -> None:
    conversion = converted(instance(name="four") + instance(name="six", block=SIX) + GROUP)
    assert [
        (made.virtual_ip.spec.version, made.virtual_ip.spec.virtual_router_id) for made in conversion.converted
    ] == [
        (2, 51),
        (3, 51),
    ]
    assert "with vrrp_version 3" in notes(conversion, "vrrp_sync_group")[0]


def test_members_of_a_sync_group_track_what_any_of_them_tracks(converted: Converter) -> None:
    other = addresses("10.78.0.1")
    text = (
        SCRIPT
        + instance("track_script {", "chk weight 5", "}", name="out")
        + instance("track_interface {", "eth2", "}", name="in", vrid=52, interface="eth1", block=other)
        + "vrrp_sync_group gw {\ngroup {\nout\nin\n}\ntrack_interface {\neth3\n}\n}\n"
    )
    conversion = converted(text)
    out, inside = (made.virtual_ip for made in conversion.converted)
    assert out.spec.track.interfaces == ["eth3", "eth2", "eth1"]
    assert inside.spec.track.interfaces == ["eth3", "eth0", "eth2"]
    assert (
        [found.name for found in out.spec.track.probes] == [found.name for found in inside.spec.track.probes] == ["chk"]
    )
    assert priorities(out) == {"n1": 100}
    assert any("weight 5: in a sync group keepalived ignores it" in note for note in notes(conversion, "chk"))
    assert "moves only the VirtualIP concerned" in notes(conversion, "vrrp_sync_group")[0]


def test_more_addresses_than_one_advertisement_holds_become_further_virtual_ips(converted: Converter) -> None:
    many = addresses(*(f"10.77.1.{last}/24" for last in range(1, 46)))
    conversion = converted(instance(block=many))
    assert names(conversion) == ["vi-1", "vi-1-2", "vi-1-3"]
    assert [len(made.virtual_ip.spec.addresses) for made in conversion.converted] == [20, 20, 5]
    assert [made.virtual_ip.spec.virtual_router_id for made in conversion.converted] == [51, None, None]


def test_ipv6_addresses_beside_version_2_become_a_virtual_ip_of_their_own(converted: Converter) -> None:
    conversion = converted(instance("virtual_ipaddress_excluded {", "fd00::1/64", "}"))
    assert [(made.virtual_ip.spec.addresses, made.virtual_ip.spec.version) for made in conversion.converted] == [
        (["10.77.0.200/24"], 2),
        (["fd00::1/64"], 3),
    ]
    assert "drops such advertisements" in notes(conversion, "virtual_ipaddress_excluded")[0]


def test_an_instance_without_addresses_is_reported_and_makes_nothing(converted: Converter) -> None:
    conversion = converted(instance() + instance(name="bare", vrid=9, block=addresses()))
    assert names(conversion) == ["vi-1"]
    assert "left out: has no virtual address, so there is no VirtualIP" in notes(conversion, "vrrp_instance")
