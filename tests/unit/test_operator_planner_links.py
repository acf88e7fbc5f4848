"""On which link a VirtualIP is thought to live."""

from __future__ import annotations

import msgspec
import pytest

from holdfast_api.resources import VirtualIP
from holdfast_operator.planner.host.links import families, link_key

NETWORKS = {
    "eth0": ["10.0.0.1/24", "fe80::1/64"],
    "eth1": ["10.0.1.1/24", "fe80::2/64", "2001:db8:1::1/64"],
    "wide": ["10.0.0.2/8"],
    "copy": ["10.9.0.5/32"],
}


def virtual_ip(*addresses, **spec):
    return msgspec.convert({"metadata": {"name": "x"}, "spec": {"addresses": addresses, **spec}}, VirtualIP)


def test_a_named_interface_is_the_link():
    assert link_key(virtual_ip("10.0.1.5/24", interface="eth7"), "eth0", NETWORKS) == "eth7"


def test_the_default_interface_is_next():
    assert link_key(virtual_ip("10.0.1.5/24"), "eth0", NETWORKS) == "eth0"


@pytest.mark.parametrize(
    ("addresses", "link"),
    [
        (["10.0.0.5"], "eth0"),
        (["10.0.1.5", "10.0.0.5"], "eth1"),
        (["10.200.0.5"], "wide"),
        (["2001:db8:1::5"], "eth1"),
        (["fe80::5/64", "2001:db8:1::5"], "eth1"),
        (["10.9.0.5"], "wide"),
        (["2001:db8:7::5", "10.0.1.5"], "eth1"),
        (["10.7.0.5/24", "2001:db8:1::5", "10.0.0.5"], "wide"),
        (["192.0.2.5/24", "2001:db8:1::5"], "eth1"),
        (["192.0.2.5/24", "192.0.3.5/24", "fe80::5"], "192.0.2.0/24"),
        (["192.0.2.5/24"], "192.0.2.0/24"),
        (["192.0.2.5"], "192.0.2.5/32"),
    ],
)
def test_else_it_is_where_the_first_telling_address_fits_best(addresses, link):
    assert link_key(virtual_ip(*addresses), None, NETWORKS) == link


def test_where_nothing_is_known_of_the_host_the_network_is_the_link():
    assert link_key(virtual_ip("10.0.0.5/24"), None, {}) == link_key(virtual_ip("10.0.0.6/24"), None, {})


def test_families_are_those_of_the_addresses_that_parse():
    assert families(virtual_ip("10.0.0.5")) == {4}
    assert families(virtual_ip("10.0.0.5", "fe80::1", "what?")) == {4, 6}
