"""From VirtualIP files to what one host runs, and everything that is refused on the way."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_api.documents import read_text
from holdfast_api.errors import ConfigurationErrors
from holdfast_api.resources import ConflictDetection, ForeignRouters, HostPorts, Transport, WhenFailing
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_operator.planner.host.standalone import HostView, plan_host
from holdfast_operator.planner.host.vrid import first_choice

N1 = HostView("n1")


def documents(*texts, file="vip.yaml"):
    return read_text("\n---\n".join(texts), file)


def vip(name, spec, namespace="default"):
    head = "apiVersion: holdfast.dev/v1alpha1\nkind: VirtualIP"
    return f"{head}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}"


def plan(*texts, host=N1):
    return plan_host(documents(*texts), host, generation=7)


def router(spec, host=N1):
    (found,) = plan(vip("web", spec), host=host).configuration.virtual_routers
    return found


def refusals(found, host=N1):
    with pytest.raises(ConfigurationErrors) as raised:
        plan_host(found, host, generation=1)
    return [str(error) for error in raised.value.errors]


WEB = "addresses: [10.0.0.200/24]"


def test_addresses_must_be_given_where_no_cluster_gives_them():
    assert refusals(documents(vip("web", "priority: 100"))) == [
        "vip.yaml: VirtualIP web: spec.addresses: must be given: only a cluster has AddressPools to take addresses from"
    ]


def test_a_pool_that_is_named_on_a_plain_host_is_ignored_and_told():
    made = plan(vip("web", f"{WEB}, addressPool: shop"))
    assert len(made.configuration.virtual_routers) == 1
    assert made.warnings == ("vip.yaml: VirtualIP web: spec.addressPool: needs the cluster and is ignored",)


def test_a_shared_virtual_router_on_a_plain_host_is_its_own_and_told():
    made = plan(vip("web", f"{WEB}, virtualRouterSharing: Shared"), vip("api", "addresses: [10.0.0.201/24]"))
    assert [router.name for router in made.configuration.virtual_routers] == ["default/api", "default/web"]
    told = "vip.yaml: VirtualIP web: spec.virtualRouterSharing: needs the cluster and is ignored"
    assert [warning for warning in made.warnings if "Sharing" in warning] == [told]


def test_a_virtual_ip_with_nothing_but_an_address_gets_the_defaults():
    made = plan(vip("web", WEB, "shop"))
    assert made.configuration == SpeakerConfiguration(
        node_name="n1",
        generation=7,
        virtual_routers=[
            VirtualRouterConfiguration(
                name="shop/web", addresses=["10.0.0.200/24"], virtual_router_id=first_choice("shop/web")
            )
        ],
    )
    assert made.probes == {}
    assert made.warnings == ()


def test_everything_that_the_user_wrote_reaches_the_engine():
    made = router(
        "addresses: [10.0.0.200/24, 10.0.0.201], nopreempt: false, preemptDelaySeconds: 3, priority: 120,"
        " startDelaySeconds: 30, announcementIntervalSeconds: 0, conflictDetection: Warn, hostPorts: Closed,"
        " nodes: {priorities: [{nodeName: n2, priority: 60}],"
        "  sourceAddresses: [{nodeName: n1, address: 10.0.0.1}, {nodeName: n2, address: 10.0.0.2}]},"
        " advertisementIntervalMilliseconds: 2000, virtualRouterID: 51, version: 2, interface: eth1,"
        " transport: Unicast, externalPeers: [10.0.0.2, 10.0.0.1], authentication: {simplePassword: secret},"
        " track: {whenFailing: Release, interfaces: [eth2]}"
    )
    assert made == VirtualRouterConfiguration(
        name="default/web",
        addresses=["10.0.0.200/24", "10.0.0.201"],
        virtual_router_id=51,
        version=2,
        priority=120,
        nopreempt=False,
        preempt_delay_milliseconds=3000,
        start_delay_milliseconds=30_000,
        announcement_interval_seconds=0,
        conflict_detection=ConflictDetection.WARN,
        host_ports=HostPorts.CLOSED,
        advertisement_interval_milliseconds=2000,
        interface="eth1",
        transport=Transport.UNICAST,
        members=["10.0.0.2", "10.0.0.1"],
        foreign_routers=ForeignRouters.REFUSE,
        source_addresses=["10.0.0.1"],
        simple_password="secret",
        when_failing=WhenFailing.RELEASE,
        tracked_interfaces=["eth2"],
    )


def test_what_the_user_left_alone_is_left_out_so_that_an_engine_of_an_earlier_version_can_read_it():
    told = msgspec.json.decode(msgspec.json.encode(router(WEB)))
    assert told == {
        "name": "default/web",
        "addresses": ["10.0.0.200/24"],
        "virtualRouterID": first_choice("default/web"),
        "advertisementIntervalMilliseconds": 1000,
    }


def test_a_node_with_a_priority_of_its_own_uses_that():
    spec = WEB + ", priority: 120, nodes: {priorities: [{nodeName: n2, priority: 60}]}"
    assert [router(spec, HostView(name)).priority for name in ("n1", "n2")] == [120, 60]


def test_the_default_interface_is_for_virtual_ips_that_name_none():
    host = HostView("n1", default_interface="eth0")
    assert router(WEB, host).interface == "eth0"
    assert router(WEB + ", interface: eth1", host).interface == "eth1"
    assert router(WEB).interface is None


def test_strangers_are_obeyed_where_the_members_are_not_known():
    assert router(WEB).foreign_routers is ForeignRouters.OBEY
    assert router(WEB + ", externalPeers: [10.0.0.9]").foreign_routers is ForeignRouters.REFUSE
    assert router(WEB + ", externalPeers: [10.0.0.9], foreignRouters: Obey").foreign_routers is ForeignRouters.OBEY


PROBES = (
    "track: {{probes: [{{name: a, tcpSocket: {{port: 80}}, periodMilliseconds: {}}},"
    " {{name: b, tcpSocket: {{port: 81}}, periodMilliseconds: 20}}]}}"
)


def test_probes_are_given_out_by_the_key_of_their_virtual_ip():
    made = plan(vip("web", f"{WEB}, {PROBES.format(500)}"), vip("other", "addresses: [10.0.0.201/24]"))
    assert {key: [probe.name for probe in probes] for key, probes in made.probes.items()} == {"default/web": ["a", "b"]}
    assert {made.name: made.tracks_services for made in made.configuration.virtual_routers} == {
        "default/other": False,
        "default/web": True,
    }


READER_AND_WRITER = (
    "track: {probes: [{name: writer, exec: {command: [w]}, nodes: [n1]},"
    " {name: reader, exec: {command: [r]}, nodes: [n2, n3]}]}"
)


@pytest.mark.parametrize(("node", "names"), [("n1", ["writer"]), ("n2", ["reader"]), ("n3", ["reader"]), ("n4", [])])
def test_a_probe_that_names_its_nodes_runs_there_and_counts_as_healthy_elsewhere(node, names):
    made = plan(vip("web", f"{WEB}, {READER_AND_WRITER}"), host=HostView(node))
    assert [probe.name for probe in made.probes.get("default/web", ())] == names
    (found,) = made.configuration.virtual_routers
    assert found.tracks_services == bool(names)
    assert found.recovery_hold_milliseconds == 20_000, "the holder that recovers too may be another host"


def test_a_node_of_a_probe_that_no_other_entry_has_is_warned_of():
    spec = f"{WEB}, nodes: {{priorities: [{{nodeName: n1, priority: 60}}, {{nodeName: n2, priority: 70}}]}}"
    assert plan(vip("web", f"{spec}, {READER_AND_WRITER}")).warnings == (
        "vip.yaml: VirtualIP web: spec.track.probes[1].nodes[1]: n3 is in no entry of nodes.priorities and"
        " nodes.sourceAddresses: is it spelled as there?",
    )
    assert plan(vip("web", f"{spec}, {READER_AND_WRITER}"), host=HostView("n3")).warnings == ()


@pytest.mark.parametrize(("period", "hold"), [(10, 40), (500, 1000), (15_000, 30_000), (15_001, 30_000)])
def test_a_recovered_backup_holds_back_for_two_periods_of_the_slowest_probe_and_half_a_minute_at_most(period, hold):
    assert router(f"{WEB}, {PROBES.format(period)}").recovery_hold_milliseconds == hold


def test_without_probes_a_backup_holds_nothing_back():
    assert router(WEB).recovery_hold_milliseconds == 0


def test_a_host_that_is_not_among_the_names_does_not_run_the_virtual_ip_and_says_so():
    made = plan(vip("web", WEB + ", nodes: {names: [n2, n3]}, " + PROBES.format(20)))
    assert made.configuration.virtual_routers == []
    assert made.probes == {}
    assert made.warnings == ("vip.yaml: VirtualIP web: spec.nodes.names: n1 is not among them: not run on this host",)


@pytest.mark.parametrize(
    ("rest", "sole"),
    [
        ("nodes: {names: [n1]}", True),
        ("nodes: {names: [n1, n2]}", False),
        ("nodes: {priorities: [{nodeName: n1, priority: 100}]}", False),
        ("nodes: {names: [n1]}, externalPeers: [10.0.0.12]", False),
    ],
)
def test_a_host_that_is_named_alone_waits_for_no_other(rest: str, sole: bool):
    assert router(f"{WEB}, {rest}").sole_member is sole


def test_a_selector_is_ignored_and_that_is_said():
    made = plan(vip("web", WEB + ", nodes: {selector: {matchLabels: {edge: 'true'}}}"))
    assert len(made.configuration.virtual_routers) == 1
    assert made.warnings == (
        "vip.yaml: VirtualIP web: spec.nodes.selector: needs the cluster and is ignored:"
        " every host that reads this file takes part",
    )


def test_peers_of_one_family_alone_are_warned_of_where_strangers_are_refused():
    spec = "addresses: [10.0.0.200/24, 'fe80::200'], externalPeers: [10.0.0.9]"
    assert plan(vip("web", spec)).warnings == (
        "vip.yaml: VirtualIP web: spec.externalPeers: has no IPv6 address: advertisements over IPv6 are refused",
    )
    assert plan(vip("web", spec + ", foreignRouters: Obey")).warnings == ()


def test_a_list_of_peers_that_has_nobody_but_this_host_is_warned_of():
    host = HostView("n1", networks={"eth0": ["10.0.0.9/24", "fe80::9/64"]})
    spec = "addresses: [10.0.0.200/24, 'fe80::200'], externalPeers: [10.0.0.9, 'fe80::9', 'fe80::10']"
    told = "vip.yaml: VirtualIP web: spec.externalPeers: has no IPv4 address but this host's own: name the others"
    assert plan(vip("web", spec), host=host).warnings == (told,)
    assert plan(vip("web", spec + ", foreignRouters: Obey"), host=host).warnings == ()
    assert plan(vip("web", spec)).warnings == (), "it is another host's"


NAMED = [
    "nodes: {names: [n2, n3], priorities: [{nodeName: n2, priority: 60}]}",
    "nodes: {priorities: [{nodeName: n2, priority: 60}, {nodeName: n3, priority: 70}]}",
    "nodes: {sourceAddresses: [{nodeName: n3, address: 10.0.0.3}, {nodeName: n2, address: 10.0.0.2}]}",
    "track: {probes: [{name: a, tcpSocket: {port: 80}, nodes: [n3, n2]}]}",
]


@pytest.mark.parametrize("nodes", NAMED)
def test_a_node_name_that_is_nowhere_where_others_are_is_warned_of_once(nodes):
    told = (
        "--node-name: n1 is in no entry of nodes.names, nodes.priorities, nodes.sourceAddresses and the nodes of"
        " probes and notify, which name n2, n3: is it spelled as there?"
    )
    made = plan(
        *(vip(f"web{number}", f"addresses: [10.0.0.{200 + number}], {nodes}") for number in (1, 2)),
        vip("db", "addresses: [10.0.0.210]"),
    )
    assert [warning for warning in made.warnings if "--node-name" in warning] == [told]
    elsewhere = "addresses: [10.0.0.210], nodes: {priorities: [{nodeName: n1, priority: 60}]}"
    made = plan(vip("web1", f"addresses: [10.0.0.201], {nodes}"), vip("db", elsewhere))
    assert [warning for warning in made.warnings if "--node-name" in warning] == []


def test_without_entries_any_node_name_will_do():
    assert plan(vip("web", WEB)).warnings == ()


def test_an_id_that_is_not_the_first_choice_is_warned_of():
    first = first_choice("default/web")
    made = plan(vip("web", WEB), vip("other", f"addresses: [10.0.0.201], virtualRouterID: {first}"))
    assert made.warnings == (
        f"vip.yaml: VirtualIP web: spec.virtualRouterID: is {first + 1} only because of other VirtualIPs,"
        " and may change with them: give one",
    )


def test_the_order_of_the_documents_does_not_change_a_byte():
    texts = [vip(f"vip{number}", f"addresses: [10.0.0.{number}], {PROBES.format(20)}") for number in range(1, 30)]
    one, other = plan(*texts), plan(*reversed(texts))
    assert msgspec.json.encode(one.configuration) == msgspec.json.encode(other.configuration)
    assert list(one.probes) == list(other.probes)
    assert one.warnings == other.warnings
    names = [made.name for made in one.configuration.virtual_routers]
    assert names == sorted(names)


HOSTS = st.builds(
    HostView,
    st.sampled_from(["n1", "n2", "n3"]),
    st.sampled_from([None, "eth0", "ens3"]),
    st.sampled_from([{}, {"eth0": ["10.0.0.1/24"], "eth1": ["10.0.1.1/24"]}, {"ens3": ["10.0.0.2/8"]}]),
)


@given(HOSTS, HOSTS, st.sets(st.integers(0, 200), max_size=40))
@settings(deadline=None)
def test_hosts_agree_on_every_id_whatever_they_look_like(one, other, numbers):
    files = documents(
        *(
            vip(
                f"vip{number}",
                f"addresses: [10.0.{number % 2}.{number}/32]"
                + (", interface: eth7" if number % 3 == 0 else "")
                + (", nodes: {names: [n1, n2]}" if number % 5 == 0 else ""),
            )
            for number in numbers
        )
    )
    first, second = (
        {made.name: made.virtual_router_id for made in plan_host(files, host, 1).configuration.virtual_routers}
        for host in (one, other)
    )
    assert {name: first[name] for name in first.keys() & second} == {
        name: second[name] for name in first.keys() & second
    }


def test_every_violation_of_every_document_is_told_with_file_and_field():
    found = documents(vip("web", "addresses: [10.0.0.300, 10.0.0]"), file="b.yaml") + documents(
        vip("elsewhere", WEB + ", preemptDelaySeconds: 1, nodes: {names: [n9]}"), file="a.yaml"
    )
    assert refusals(found) == [
        "a.yaml: VirtualIP elsewhere: spec.preemptDelaySeconds: must be 0 or left out unless nopreempt is false",
        "b.yaml: VirtualIP web: spec.addresses[0]: must be an IPv4 or IPv6 address with an optional prefix length,"
        " not '10.0.0.300'",
        "b.yaml: VirtualIP web: spec.addresses[1]: must be an IPv4 or IPv6 address with an optional prefix length,"
        " not '10.0.0'",
    ]


def test_pods_need_the_cluster():
    assert refusals(documents(vip("web", WEB + ", track: {pods: {selector: {matchLabels: {app: web}}}}"))) == [
        "vip.yaml: VirtualIP web: spec.track.pods: needs the cluster: pods have no readiness on a plain host;"
        " use track.probes"
    ]


def test_health_check_node_ports_need_the_cluster():
    assert refusals(documents(vip("web", WEB + ", track: {healthCheckNodePorts: [31805]}"))) == [
        "vip.yaml: VirtualIP web: spec.track.healthCheckNodePorts: needs the cluster: a plain host has no kube-proxy to"
        " ask; use track.probes"
    ]


@pytest.mark.parametrize(("peers", "family"), [("[]", 4), ("['fe80::9']", 4), ("[10.0.0.9]", 6)])
def test_unicast_needs_external_peers_of_every_family(peers, family):
    spec = f"addresses: [10.0.0.200/24, 'fe80::200'], transport: Unicast, externalPeers: {peers}"
    expected = (
        f"vip.yaml: VirtualIP web: spec.externalPeers: must name the other hosts' IPv{family} addresses with transport"
        " Unicast: without a cluster nobody else knows whom to send to"
    )
    assert expected in refusals(documents(vip("web", spec)))


def test_a_name_that_two_files_have_is_refused_with_both():
    found = documents(vip("web", WEB), file="a.yaml") + documents(vip("web", WEB), file="b.yaml")
    assert refusals(found) == [
        "b.yaml: VirtualIP web: metadata.name: must be unique in its namespace: VirtualIP default/web is in a.yaml too"
    ]


def test_a_name_twice_in_one_file_is_refused():
    assert refusals(documents(vip("web", WEB), vip("web", "addresses: [10.0.0.201]"))) == [
        "vip.yaml: VirtualIP web: metadata.name: must be unique in its namespace:"
        " VirtualIP default/web is in this file already"
    ]


def test_the_same_name_in_two_namespaces_is_two_virtual_ips():
    assert (
        len(plan(vip("web", WEB, "a"), vip("web", "addresses: [10.0.0.201]", "b")).configuration.virtual_routers) == 2
    )


def test_an_address_of_two_virtual_ips_is_refused_with_the_other_named():
    found = documents(vip("a", WEB), file="a.yaml") + documents(
        vip("b", "addresses: [10.0.0.9, 10.0.0.200/32]"), file="b.yaml"
    )
    assert refusals(found) == [
        "b.yaml: VirtualIP b: spec.addresses[1]: must be in one VirtualIP:"
        " 10.0.0.200 is in VirtualIP default/a (a.yaml)"
    ]


def test_a_link_local_address_may_be_on_two_links_but_not_twice_on_one():
    a, b = (f"addresses: ['fe80::1/64'], interface: {name}" for name in ("eth0", "eth1"))
    assert len(plan(vip("a", a), vip("b", b)).configuration.virtual_routers) == 2
    assert refusals(documents(vip("a", a), vip("b", a))) == [
        "vip.yaml: VirtualIP b: spec.addresses[0]: must be in one VirtualIP:"
        " fe80::1 is in VirtualIP default/a (vip.yaml)"
    ]


def pinned(name, addresses, more=""):
    return vip(name, f"addresses: {addresses}, virtualRouterID: 51{more}")


ON_TWO_LINKS = HostView("n1", networks={"eth0": ["10.0.0.1/24"], "eth1": ["10.0.1.1/24"]})


@pytest.mark.parametrize(
    ("link", "host", "one", "other", "more"),
    [
        ("eth5", N1, "[10.0.0.5]", "[10.0.1.5]", ", interface: eth5"),
        ("eth0", HostView("n1", "eth0"), "[10.0.0.5]", "[10.0.1.5]", ""),
        ("eth0", ON_TWO_LINKS, "[10.0.0.5]", "[10.0.0.6]", ""),
        ("eth0", ON_TWO_LINKS, "[10.0.0.5]", "['fe80::5', 10.0.0.6]", ""),
        ("10.0.0.0/24", N1, "[10.0.0.5/24]", "[10.0.0.6/24]", ""),
    ],
)
def test_an_id_twice_on_one_link_is_refused(link, host, one, other, more):
    assert refusals(documents(pinned("a", one, more), pinned("b", other, more)), host) == [
        f"vip.yaml: VirtualIP b: spec.virtualRouterID: must be unique on the link {link}: 51 is that of"
        " VirtualIP default/a (vip.yaml)"
    ]


@pytest.mark.parametrize(
    ("host", "one", "other"),
    [
        (ON_TWO_LINKS, "[10.0.0.5]", "[10.0.1.5]"),
        (HostView("n1", "eth0"), "[10.0.0.5]", "['2001:db8::5']"),
        (N1, "[10.0.0.5/24]", "[10.0.1.5/24]"),
    ],
)
def test_an_id_may_serve_on_two_links_and_in_two_families(host, one, other):
    made = plan(pinned("a", one), pinned("b", other), host=host)
    assert [made.virtual_router_id for made in made.configuration.virtual_routers] == [51, 51]


def test_an_id_of_a_virtual_ip_that_runs_on_other_hosts_is_no_conflict_here():
    made = plan(pinned("a", "[10.0.0.5/24]"), pinned("b", "[10.0.0.6/24]", ", nodes: {names: [n2]}"))
    assert [made.name for made in made.configuration.virtual_routers] == ["default/a"]


def test_more_virtual_ips_than_ids_are_refused_with_the_way_out():
    texts = [
        vip(f"vip{number:03}", f"addresses: [10.0.{number // 200}.{1 + number % 200}/16]") for number in range(256)
    ]
    assert refusals(documents(*texts)) == [
        "vip.yaml: VirtualIP vip255: spec.virtualRouterID: must be given: the ids from 1 to 255 are used up"
        " (one id can serve on several links, where pinned)"
    ]


def test_no_documents_are_an_empty_plan():
    made = plan_host([], N1, 1)
    assert made.configuration == SpeakerConfiguration(node_name="n1", generation=1)


def test_who_can_hold_a_vip_is_who_the_files_name():
    made = plan(
        vip("web", f"{WEB}, nodes: {{priorities: [{{nodeName: n1, priority: 100}}, {{nodeName: n2, priority: 99}}]}}"),
        vip("db", "addresses: [10.0.0.201/24], nodes: {names: [n3, n1]}"),
        vip("log", "addresses: [10.0.0.202/24]"),
    )
    assert made.configuration.node_names == {
        "default/web": ["n1", "n2", "n3"],
        "default/db": ["n1", "n3"],
        "default/log": ["n1", "n2", "n3"],
    }


def test_where_the_files_name_nobody_it_is_not_known_who_can_hold_a_vip():
    assert plan(vip("web", WEB)).configuration.node_names == {}
