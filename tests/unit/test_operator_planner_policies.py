"""What is refused inside one VirtualIP, and what it is told."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.resources import VirtualIP
from holdfast_operator.planner.host.policies import POLICIES, Violation, violations

ONE = ["10.0.0.200/24"]


def virtual_ip(**spec):
    return msgspec.convert({"metadata": {"name": "web"}, "spec": {"addresses": ONE, **spec}}, VirtualIP)


def refusals(**spec):
    return [(violation.field, violation.message) for violation in violations(virtual_ip(**spec))]


def probe(**fields):
    return {"name": "p", "tcpSocket": {"port": 80}, **fields}


def test_every_feature_together_is_accepted():
    assert (
        refusals(
            addresses=["10.0.0.200/24", "10.0.0.201", "2001:db8::c8/64", "fe80::1/64"],
            nopreempt=False,
            preemptDelaySeconds=5,
            nodes={
                "names": ["n1", "n2"],
                "priorities": [{"nodeName": "n1", "priority": 200}, {"nodeName": "n2", "priority": 100}],
                "sourceAddresses": [
                    {"nodeName": "n1", "address": "10.0.0.1"},
                    {"nodeName": "n1", "address": "fe80::11"},
                    {"nodeName": "n2", "address": "10.0.0.2"},
                ],
            },
            externalPeers=["10.0.0.9", "fe80::9"],
            foreignRouters="Obey",
            transport="Unicast",
            track={
                "probes": [
                    {"name": "a", "exec": {"command": ["true", "-x"]}, "timeoutSeconds": 60},
                    {"name": "b", "tcpSocket": {"port": 80, "host": "::1"}, "periodMilliseconds": 100},
                    {
                        "name": "c",
                        "httpGet": {"port": 80, "path": "/ok?a=%20b", "host": "web.example"},
                        "periodSeconds": 2,
                    },
                ]
            },
        )
        == []
    )


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.300",
        "10.0.0",
        "web.example",
        "10.0.0.1/33",
        "10.0.0.1/",
        "10.0.0.1/-1",
        "::1::2",
        "2001:db8::1/129",
        "10.0.0.1/255.255.255.0",
        "10.0.0.1/0.0.0.255",
        "fe80::300::1%eth0",
        " 10.0.0.1",
        "010.0.0.300",
        "167772161",
    ],
)
def test_an_address_that_does_not_parse_is_refused_with_its_place(text):
    assert refusals(addresses=["10.0.0.1", text]) == [
        ("spec.addresses[1]", f"must be an IPv4 or IPv6 address with an optional prefix length, not {text!r}")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fe80::1%eth0", "must have no zone: eth0 means something on one host only"),
        ("fe80::1%eth0/64", "must have no zone: eth0 means something on one host only"),
        ("010.0.0.01/24", "must have no leading zeros, which some read to the base of eight: write 10.0.0.1/24"),
        ("::ffff:10.9.0.200", "must be written as the IPv4 address that it is: write 10.9.0.200"),
        ("::ffff:10.9.0.200/120", "must be written as the IPv4 address that it is: write 10.9.0.200/24"),
        ("::FFFF:a09:c8/24", "must be written as the IPv4 address that it is: write 10.9.0.200/24"),
        ("::10.9.0.200", "must be written as the IPv4 address that it is: write 10.9.0.200"),
    ],
)
def test_an_address_that_is_written_as_something_else_is_refused_with_what_to_write(text, message):
    assert refusals(addresses=[text]) == [("spec.addresses[0]", message)]
    bare = text.partition("/")[0]
    (peer,) = refusals(addresses=ONE, externalPeers=[bare])
    assert peer == ("spec.externalPeers[0]", message.rpartition("/")[0] if "/" in message else message)
    (source,) = refusals(addresses=ONE, nodes={"sourceAddresses": [{"nodeName": "n1", "address": bare}]})
    assert source[1] == peer[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.0.0.0", "must not be the unspecified address 0.0.0.0"),
        ("::/64", "must not be the unspecified address ::"),
        ("127.0.0.2/8", "must not be a loopback address, which 127.0.0.2 is"),
        ("::1", "must not be a loopback address, which ::1 is"),
        ("224.0.0.18", "must not be a multicast address, which 224.0.0.18 is"),
        ("ff02::12", "must not be a multicast address, which ff02::12 is"),
        ("255.255.255.255", "must not be the broadcast address 255.255.255.255"),
        ("10.0.0.255/24", "must not be the broadcast address of 10.0.0.0/24"),
        ("10.0.0.0/24", "must not be the network address of 10.0.0.0/24"),
        ("10.0.0.7/30", "must not be the broadcast address of 10.0.0.4/30"),
        ("10.0.0.1/0", "must have a prefix length above 0: every address would count as on the link"),
    ],
)
def test_an_address_that_no_single_host_can_have_is_refused(text, message):
    assert refusals(addresses=[text]) == [("spec.addresses[0]", message)]


@pytest.mark.parametrize(
    "text", ["10.0.0.0/31", "10.0.0.1/31", "10.0.0.0/32", "10.0.0.255", "2001:db8::/64", "fe80::1"]
)
def test_an_address_that_only_looks_like_a_network_is_accepted(text):
    assert refusals(addresses=[text]) == []


def test_an_address_twice_is_refused_whatever_the_prefix_lengths():
    assert refusals(addresses=["10.0.0.1/24", "10.0.0.2", "10.0.0.1", "2001:db8::1", "2001:DB8:0::1/64"]) == [
        ("spec.addresses[2]", "must not repeat 10.0.0.1, which is spec.addresses[0]"),
        ("spec.addresses[4]", "must not repeat 2001:db8::1, which is spec.addresses[3]"),
    ]


def test_twenty_addresses_of_each_family_are_accepted_and_one_more_is_not():
    four = [f"10.0.0.{number}" for number in range(1, 22)]
    six = [f"2001:db8::{number}" for number in range(1, 21)]
    assert refusals(addresses=four[:20] + six) == []
    assert refusals(addresses=four + six[:1]) == [("spec.addresses", "must have at most 20 IPv4 addresses, not 21")]


def test_version_2_has_ipv4_and_whole_seconds_only():
    assert refusals(version=2, advertisementIntervalMilliseconds=2000, authentication={"simplePassword": "x"}) == []
    assert refusals(version=2, addresses=["10.0.0.1", "fe80::1"], advertisementIntervalMilliseconds=1500) == [
        ("spec.addresses[1]", "must be IPv4 with version 2, which fe80::1 is not"),
        ("spec.advertisementIntervalMilliseconds", "must be a multiple of 1000 with version 2, not 1500"),
    ]


def test_a_password_needs_version_2():
    assert refusals(authentication={"simplePassword": "x"}) == [
        ("spec.authentication", "must be left out with version 3: only version 2 has passwords")
    ]


def test_a_preempt_delay_needs_preemption():
    assert refusals(preemptDelaySeconds=1) == [
        ("spec.preemptDelaySeconds", "must be 0 or left out unless nopreempt is false")
    ]


def owners(*names):
    return {"priorities": [{"nodeName": name, "priority": 255} for name in names]}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"externalPeers": ["10.0.0.9"]}, "spec.externalPeers is given"),
        ({"foreignRouters": "Obey"}, "spec.foreignRouters is Obey"),
        ({"version": 2}, "spec.version is 2"),
        ({"virtualRouterID": 51}, "spec.virtualRouterID is given"),
        (
            {"nopreempt": False, "nodes": {"priorities": [{"nodeName": "n1", "priority": 255}]}},
            "a node has priority 255",
        ),
    ],
)
def test_what_others_have_a_part_in_does_not_share_its_virtual_router(spec, reason):
    assert refusals(**spec) == []
    assert refusals(virtualRouterSharing="Own", **spec) == []
    assert refusals(virtualRouterSharing="Shared", **spec) == [
        ("spec.virtualRouterSharing", f"must be Own or left out where {reason}")
    ]


def test_a_virtual_ip_of_the_clusters_own_nodes_may_share_its_virtual_router():
    assert refusals(virtualRouterSharing="Shared") == []


def test_the_owner_of_the_addresses_needs_preemption():
    assert refusals(nopreempt=False, nodes=owners("n1")) == []
    assert refusals(nodes=owners("n1")) == [
        (
            "spec.nodes.priorities[0].priority",
            "must be below 255 unless nopreempt is false: the owner of the addresses always preempts",
        )
    ]


def test_the_addresses_have_one_owner():
    assert refusals(nopreempt=False, nodes=owners("n1", "n2")) == [
        (
            "spec.nodes.priorities[1].priority",
            "must be below 255: spec.nodes.priorities[0] owns the addresses already",
        )
    ]


def test_a_node_is_named_once():
    nodes = {
        "names": ["n1", "n2", "n1"],
        "priorities": [{"nodeName": "n2", "priority": 60}, {"nodeName": "n2", "priority": 61}],
    }
    assert refusals(nodes=nodes) == [
        ("spec.nodes.names[2]", "must not repeat n1, which is spec.nodes.names[0]"),
        (
            "spec.nodes.priorities[1].nodeName",
            "must not repeat n2, which is spec.nodes.priorities[0].nodeName",
        ),
    ]


def test_priorities_and_source_addresses_are_of_nodes_that_take_part():
    others = {
        "priorities": [{"nodeName": "n2", "priority": 60}],
        "sourceAddresses": [{"nodeName": "n3", "address": "10.0.0.3"}],
    }
    assert refusals(nodes=others) == []
    assert refusals(nodes={"names": ["n1"], **others}) == [
        ("spec.nodes.priorities[0].nodeName", "must be one of spec.nodes.names, which n2 is not"),
        ("spec.nodes.sourceAddresses[0].nodeName", "must be one of spec.nodes.names, which n3 is not"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.0.0.300", "must be an IPv4 or IPv6 address, not '10.0.0.300'"),
        ("10.0.0.1/24", "must have no prefix length: write 10.0.0.1"),
        ("fe80::1%eth0", "must have no zone: eth0 means something on one host only"),
        ("224.0.0.18", "must be the address of one router on the network, which 224.0.0.18 is not"),
        ("127.0.0.1", "must be the address of one router on the network, which 127.0.0.1 is not"),
        ("fe80::1", "must be of a family that spec.addresses has, which IPv6 is not"),
        ("10.0.0.200", "must not be one of spec.addresses, which 10.0.0.200 is"),
    ],
)
def test_external_peers_and_source_addresses_are_of_real_routers(text, message):
    assert refusals(externalPeers=[text]) == [("spec.externalPeers[0]", message)]
    assert refusals(nodes={"sourceAddresses": [{"nodeName": "n1", "address": text}]}) == [
        ("spec.nodes.sourceAddresses[0].address", message)
    ]


def test_the_owner_may_send_from_the_address_that_it_owns():
    nodes = {**owners("n1"), "sourceAddresses": [{"nodeName": "n1", "address": "10.0.0.200"}]}
    assert refusals(nopreempt=False, nodes=nodes) == []


def test_a_node_has_one_source_address_of_a_family():
    entries = [{"nodeName": "n1", "address": "10.0.0.1"}, {"nodeName": "n1", "address": "10.0.0.2"}]
    assert refusals(nodes={"sourceAddresses": entries}) == [
        ("spec.nodes.sourceAddresses[1].address", "must be the only IPv4 source address of n1")
    ]


def test_an_external_peer_is_there_once():
    assert refusals(externalPeers=["10.0.0.9", "10.0.0.9"]) == [
        ("spec.externalPeers[1]", "must not repeat 10.0.0.9, which is spec.externalPeers[0]")
    ]


def test_a_probe_has_exactly_one_action():
    nothing = {"name": "a"}
    both = {"name": "b", "exec": {"command": ["true"]}, "tcpSocket": {"port": 1}}
    assert refusals(track={"probes": [nothing, both]}) == [
        ("spec.track.probes[0]", "must have exactly one of exec, tcpSocket and httpGet, not 0"),
        ("spec.track.probes[1]", "must have exactly one of exec, tcpSocket and httpGet, not 2"),
    ]


def test_a_probe_has_one_period():
    assert refusals(track={"probes": [probe(periodSeconds=1, periodMilliseconds=1000)]}) == [
        ("spec.track.probes[0].periodMilliseconds", "must be left out where periodSeconds is given")
    ]


def test_probes_have_names_of_their_own():
    assert refusals(track={"probes": [probe(), probe()]}) == [
        ("spec.track.probes[1].name", "must not repeat p, which is spec.track.probes[0].name")
    ]


def test_a_probe_names_a_node_once_and_one_that_takes_part():
    assert refusals(track={"probes": [probe(nodes=["n1", "n2", "n1"])]}) == [
        ("spec.track.probes[0].nodes[2]", "must not repeat n1, which is spec.track.probes[0].nodes[0]")
    ]
    assert refusals(nodes={"names": ["n1"]}, track={"probes": [probe(nodes=["n1", "n2"])]}) == [
        ("spec.track.probes[0].nodes[1]", "must be one of spec.nodes.names, which n2 is not")
    ]


@pytest.mark.parametrize(
    ("action", "field", "message"),
    [
        (
            {"exec": {"command": ["x", ""]}},
            "exec.command[1]",
            "must be at least one character long, none of them NUL",
        ),
        (
            {"exec": {"command": ["x\0y"]}},
            "exec.command[0]",
            "must be at least one character long, none of them NUL",
        ),
        (
            {"tcpSocket": {"port": 1, "host": ""}},
            "tcpSocket.host",
            "must be a host name or an IP address, not ''",
        ),
        (
            {"httpGet": {"port": 1, "host": "a b"}},
            "httpGet.host",
            "must be a host name or an IP address, not 'a b'",
        ),
        (
            {"httpGet": {"port": 1, "path": "/a\r\nX: y"}},
            "httpGet.path",
            "must be a URL path of printable ASCII characters without spaces (use %20)",
        ),
    ],
)
def test_an_action_that_cannot_be_carried_out_is_refused(action, field, message):
    assert refusals(track={"probes": [{"name": "p", **action}]}) == [(f"spec.track.probes[0].{field}", message)]


@given(st.lists(st.text(min_size=2, max_size=49), min_size=1, max_size=40), st.sampled_from([2, 3]))
@settings(deadline=None)
def test_any_text_for_an_address_is_judged_and_never_an_exception(texts, version):
    found = violations(virtual_ip(addresses=texts, version=version, externalPeers=texts[:1]))
    assert all(isinstance(violation, Violation) and violation.message.startswith("must ") for violation in found)


@pytest.mark.parametrize(
    ("requirement", "field", "told"),
    [
        ({"operator": "Exists"}, "key", "must be the name of a label"),
        ({"key": ["zone"], "operator": "Exists"}, "key", "must be the name of a label"),
        ({"key": "zone"}, "operator", "must be In, NotIn, Exists or DoesNotExist, not None"),
        ({"key": "zone", "operator": "Is"}, "operator", "must be In, NotIn, Exists or DoesNotExist, not 'Is'"),
        ({"key": "zone", "operator": "In", "values": 5}, "values", "must be a list of strings"),
        ({"key": "zone", "operator": "In", "values": [5]}, "values", "must be a list of strings"),
        (
            {"key": "zone", "operator": "In"},
            "values",
            "must be given with In and NotIn, and left out with Exists and DoesNotExist",
        ),
        (
            {"key": "zone", "operator": "Exists", "values": ["1"]},
            "values",
            "must be given with In and NotIn, and left out with Exists and DoesNotExist",
        ),
        (
            {"key": "zone", "operator": "Exists", "vlaues": []},
            "vlaues",
            "must be left out: a requirement has key, operator and values",
        ),
    ],
)
def test_a_selector_says_what_kubernetes_would_understand(requirement, field, told):
    selector = {"matchExpressions": [{"key": "rack", "operator": "In", "values": ["1"]}, requirement]}
    assert refusals(nodes={"selector": selector}) == [(f"spec.nodes.selector.matchExpressions[1].{field}", told)]
    assert refusals(track={"pods": {"selector": selector}}) == [
        (f"spec.track.pods.selector.matchExpressions[1].{field}", told)
    ]


def test_a_health_check_node_port_is_there_once():
    assert refusals(track={"healthCheckNodePorts": [31805, 31806, 31805]}) == [
        ("spec.track.healthCheckNodePorts[2]", "must not repeat 31805, which is spec.track.healthCheckNodePorts[0]")
    ]


def test_a_command_that_is_told_has_words_and_no_state_and_no_node_twice():
    one = {"command": ["/x", ""], "states": ["Stop", "Stop"], "nodes": ["n1", "n1", "n3"], "group": "adm"}
    assert refusals(nodes={"names": ["n1"]}, notify=[{"command": ["/y"]}, one]) == [
        ("spec.notify[1].nodes[2]", "must be one of spec.nodes.names, which n3 is not"),
        ("spec.notify[1].command[1]", "must be at least one character long, none of them NUL"),
        ("spec.notify[1].states[1]", "must not repeat Stop, which is spec.notify[1].states[0]"),
        ("spec.notify[1].nodes[1]", "must not repeat n1, which is spec.notify[1].nodes[0]"),
        ("spec.notify[1].group", "must be left out where no user is given"),
    ]


def test_every_policy_refuses_something():
    bad = virtual_ip(
        notify=[{"command": [""]}],
        addresses=["10.0.0.1", "10.0.0.1", "x.y", "fe80::1"] + [f"10.0.1.{number}" for number in range(1, 21)],
        version=2,
        preemptDelaySeconds=1,
        nodes={
            **owners("n1", "n1"),
            "names": ["n2"],
            "selector": {"matchExpressions": [{"key": "zone"}]},
            "sourceAddresses": [{"nodeName": "n2", "address": "nowhere"}],
            "preferences": [{"weight": 1}],
        },
        externalPeers=["nowhere"],
        track={"probes": [{"name": "p"}], "healthCheckNodePorts": [31805, 31805]},
        virtualRouterSharing="Shared",
    )
    without_version_2 = virtual_ip(authentication={"simplePassword": "x"})
    silent = [policy.__name__ for policy in POLICIES if not list(policy(bad)) and not list(policy(without_version_2))]
    assert silent == []
