"""What a lab is made of, from VirtualIP documents."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from holdfast_api.documents import read_paths, read_text
from holdfast_api.errors import ConfigurationErrors
from holdfast_api.resources import ExecAction, HTTPGetAction, Probe, TCPSocketAction
from holdfast_lab.plan import plan_lab, ports_answered

HEAD = "apiVersion: holdfast.dev/v1alpha1\nkind: VirtualIP\n"


def document(spec, name="web"):
    return f"{HEAD}metadata: {{name: {name}}}\nspec: {spec}\n---\n"


def plan(*specs, hosts=()):
    text = "".join(document(spec, f"vip{number}") for number, spec in enumerate(specs, start=1))
    return plan_lab(read_text(text, "vip.yaml"), hosts)


def addresses(made):
    return {host.name: host.addresses for host in (*made.hosts, made.client)}


def test_hosts_without_a_word_about_nodes_are_n1_and_n2():
    assert addresses(plan("{addresses: [10.77.0.200/24]}")) == {
        "n1": ("10.77.0.11/24",),
        "n2": ("10.77.0.12/24",),
        "client": ("10.77.0.100/24",),
    }


def test_hosts_are_the_nodes_that_the_documents_name_in_their_order():
    made = plan(
        "{addresses: [10.77.0.200/24], nodes: {priorities: [{nodeName: b, priority: 100}]}}",
        "{addresses: [10.77.0.201/24], nodes: {names: [c, b, a]}}",
    )
    assert [host.name for host in made.hosts] == ["b", "c", "a"]


def test_hosts_given_win_over_those_named():
    made = plan("{addresses: [10.77.0.200/24], nodes: {names: [a]}}", hosts=["x", "y", "z"])
    assert [host.name for host in made.hosts] == ["x", "y", "z"]


def test_addresses_keep_clear_of_the_vips():
    made = plan("{addresses: [10.77.0.11/24, 10.77.0.100/24]}")
    assert addresses(made) == {
        "n1": ("10.77.0.1/24",),
        "n2": ("10.77.0.12/24",),
        "client": ("10.77.0.2/24",),
    }


def test_a_vip_without_a_subnet_gets_the_usual_one_around_it():
    made = plan("{addresses: [10.77.3.200, 'fd00:5::9', 192.0.2.7/32]}")
    assert addresses(made)["n1"] == ("10.77.3.11/24", "fd00:5::b/64", "192.0.2.11/24")


def test_each_subnet_is_there_once_and_none_inside_another():
    made = plan("{addresses: [10.77.0.200/24, 10.77.0.201]}", "{addresses: [10.77.9.9/16]}")
    assert addresses(made)["n1"] == ("10.77.0.11/16",)


def test_a_small_subnet_is_filled_from_its_start():
    made = plan("{addresses: [10.0.0.3/29]}")
    assert addresses(made) == {"n1": ("10.0.0.1/29",), "n2": ("10.0.0.2/29",), "client": ("10.0.0.4/29",)}


def test_a_subnet_without_room_is_refused():
    with pytest.raises(ConfigurationErrors, match=r"10\.0\.0\.0/30 is too small"):
        plan("{addresses: [10.0.0.1/30]}")


def test_source_addresses_are_the_hosts_own():
    made = plan(
        "{addresses: [10.77.0.200/24], nodes: {names: [n1, n2], "
        "sourceAddresses: [{nodeName: n2, address: 10.77.0.5}, {nodeName: n1, address: 172.16.0.9}]}}"
    )
    assert addresses(made)["n1"] == ("10.77.0.11/24", "172.16.0.9/24")
    assert addresses(made)["n2"] == ("10.77.0.5/24", "172.16.0.12/24")


def test_external_peers_keep_their_addresses():
    made = plan("{addresses: [10.77.0.200/24], externalPeers: [10.77.0.11]}")
    assert all(not address.startswith("10.77.0.11/") for host in made.hosts for address in host.addresses)


def test_no_address_is_given_twice():
    made = plan("{addresses: [10.77.0.200/24]}", hosts=[f"n{number}" for number in range(1, 65)])
    given = [ipaddress.ip_interface(a).ip for host in (*made.hosts, made.client) for a in host.addresses]
    assert len(given) == len(set(given)) == 65
    assert len({host.mac_address for host in (*made.hosts, made.client)}) == 65


def test_the_service_listens_where_the_probes_look():
    made = plan(
        "{addresses: [10.77.0.200/24], track: {probes: [{name: a, tcpSocket: {port: 8080}}, "
        "{name: b, httpGet: {port: 443, scheme: HTTPS}}, {name: c, tcpSocket: {port: 5, host: 10.0.0.1}}]}}",
        "{addresses: [10.77.0.201/24], track: {probes: [{name: a, httpGet: {port: 80}}]}}",
    )
    assert made.ports == made.probed_ports == (80, 8080)


def test_without_probes_the_service_listens_on_port_80_and_nothing_looks_at_it():
    made = plan("{addresses: [10.77.0.200/24]}")
    assert (made.ports, made.probed_ports) == ((80,), ())


@pytest.mark.parametrize(
    ("probe", "ports"),
    [
        (Probe(name="p", tcp_socket=TCPSocketAction(port=22)), [22]),
        (Probe(name="p", tcp_socket=TCPSocketAction(port=22, host="::1")), [22]),
        (Probe(name="p", http_get=HTTPGetAction(port=81)), [81]),
        (Probe(name="p", http_get=HTTPGetAction(port=81, host="example.org")), []),
        (Probe(name="p", exec=ExecAction(command=["curl", "-f", "http://localhost:8080/x"])), [8080]),
        (Probe(name="p", exec=ExecAction(command=["sh", "-c", "nc -z 127.0.0.1 25 && nc -z 127.0.0.1 26"])), [25, 26]),
        (Probe(name="p", exec=ExecAction(command=["pidof", "haproxy"])), []),
        (Probe(name="p", exec=ExecAction(command=["check", "127.0.0.1:99999"])), []),
        (Probe(name="p"), []),
    ],
)
def test_ports_are_read_from_probes_of_the_host_itself(probe, ports):
    assert ports_answered(probe) == ports


def test_the_interface_is_the_one_that_the_documents_name():
    assert plan("{addresses: [10.77.0.200/24]}").interface == "eth0"
    assert plan("{addresses: [10.77.0.200/24], interface: ens3}").interface == "ens3"


@pytest.mark.parametrize(
    ("specs", "hosts", "complaint"),
    [
        ([], [], "there is no VirtualIP in the files given"),
        (["{addresses: [ten/24]}"], [], r"vip.yaml: VirtualIP vip1: spec.addresses\[0\]: is no address: ten/24"),
        (["{addresses: [10.0.0.9/24]}"], ["client"], "host client: is the lab's own name"),
        (["{addresses: [10.0.0.9/24]}"], ["a/b"], "host a/b: must be 1 to 63 letters"),
        (["{addresses: [10.0.0.9/24]}"], ["a", "a"], "host a: is there more than once"),
        (["{addresses: [10.0.0.9/24]}"], [f"n{n}" for n in range(65)], "at most 64 hosts, these are 65"),
        (
            ["{addresses: [10.0.0.9/24], interface: eth0}", "{addresses: [10.0.0.8/24], interface: eth1}"],
            [],
            "VirtualIP vip2: spec.interface: the lab's hosts have one interface, and these files name 2",
        ),
        (
            ["{addresses: [10.0.0.9/24], track: {interfaces: [eth0, eth1]}}"],
            [],
            "VirtualIP vip1: spec.track.interfaces: the lab's hosts have no interface eth1",
        ),
    ],
)
def test_what_a_lab_cannot_do_is_told(specs, hosts, complaint):
    with pytest.raises(ConfigurationErrors, match=complaint):
        plan(*specs, hosts=hosts)


def test_virtual_addresses_and_names_are_in_the_order_of_the_documents():
    made = plan("{addresses: [10.0.0.9/24, 10.0.0.8/24]}", "{addresses: ['fd00::9/64']}")
    assert made.virtual_addresses == ("10.0.0.9", "10.0.0.8", "fd00::9")
    assert made.virtual_ips == ("default/vip1", "default/vip2")


EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "lab").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_a_lab_can_be_made_of_every_example(example):
    made = plan_lab(read_paths([example]))
    assert len(made.hosts) >= 2
    assert made.interface == "eth0"
