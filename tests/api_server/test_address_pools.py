"""What a real API server makes of AddressPools, and of VirtualIPs that leave to them what they may."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast_api.pools import ADDRESSES_TOLD_MAX
from holdfast_testing.api_server import Client, LocalAPIServer
from holdfast_testing.holdfast_objects import API, OPERATOR, Object, virtual_ip, virtual_ips

POOLS = f"{API}/addresspools"
EDGE = f"{POOLS}/edge"
WEB = f"{virtual_ips()}/web"


@pytest.fixture
def admin(api_server: LocalAPIServer) -> Iterator[Client]:
    """The administrator; what it made is deleted again."""
    api_server.wait_for(lambda: api_server.admin.request("GET", POOLS).status == 200, "pools are served")
    yield api_server.admin
    for path in (EDGE, WEB):
        if api_server.admin.request("GET", path).status == 200:
            api_server.admin.delete(path)


def pool(*addresses: str, **spec: Any) -> Object:
    return {
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "AddressPool",
        "metadata": {"name": "edge"},
        "spec": {"addresses": list(addresses)} | spec,
    }


def test_a_pool_with_everything_is_taken(admin: Client) -> None:
    everything = pool(
        *("10.0.0.10-10.0.0.20", "10.0.1.0/24", "10.0.2.7", "fd00::10-fd00::20", "fd00:1::/64", "fd00::7"),
        namespaces={"names": ["shop"], "selector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}},
        autoAssign=True,
        virtualRouterIDs={"first": 1, "last": 255},
        namespaceQuota={"addresses": 4, "virtualRouterIDs": 2},
        virtualIPTemplate={
            "interface": "eth0",
            "nodes": {"names": ["n1"], "selector": {"matchLabels": {"edge": "true"}}},
            "advertisementIntervalMilliseconds": 100,
            "transport": "Unicast",
            "nopreempt": False,
        },
    )
    assert admin.apply(EDGE, everything, "kubectl").message == ""
    stored = admin.get(EDGE)["spec"]
    assert stored == everything["spec"] | {"nodeOwned": False}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (pool("10.0.0.10 - 10.0.0.20")["spec"], "must be a range FIRST-LAST"),
        (pool("web.example.net")["spec"], "must be a range FIRST-LAST"),
        (pool("10.0.0.1-fd00::1")["spec"], "must be a range FIRST-LAST"),
        (pool()["spec"], "spec.addresses"),
        (pool("10.0.0.1", virtualRouterIDs={"first": 9, "last": 3})["spec"], "first that is not above the last"),
        (pool("10.0.0.1", nodeOwned=True, autoAssign=True)["spec"], "must be false with nodeOwned"),
        (pool("10.0.0.1", virtualIPTemplate={"transport": "Pigeon"})["spec"], "Pigeon"),
    ],
)
def test_what_no_pool_can_say_is_refused_with_a_reason(admin: Client, spec: Object, told: str) -> None:
    answer = admin.apply(EDGE, pool() | {"spec": spec}, "kubectl")
    assert answer.status == 422
    assert told in answer.message


def test_the_operators_words_of_a_pool_are_taken(admin: Client) -> None:
    assert admin.apply(EDGE, pool("fd00::/32"), "kubectl").message == ""
    status = {"capacity": ADDRESSES_TOLD_MAX, "assigned": 0, "available": ADDRESSES_TOLD_MAX}
    assert admin.apply(f"{EDGE}/status", pool() | {"spec": None, "status": status}, OPERATOR).message == ""
    assert admin.get(EDGE)["status"] == status


def test_a_virtual_ip_without_addresses_is_taken_and_nothing_that_a_template_says_is_filled_in(admin: Client) -> None:
    bare = virtual_ip("web")
    bare["spec"] = {"addressPool": "edge", "preemptDelaySeconds": 5}
    assert admin.apply(WEB, bare, "kubectl").message == ""
    stored = admin.get(WEB)["spec"]
    assert not {"addresses", "advertisementIntervalMilliseconds", "transport", "nopreempt"} & set(stored)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"addresses": []}, "spec.addresses"),
        ({"nopreempt": True, "preemptDelaySeconds": 5}, "must be 0 or left out unless nopreempt is false"),
        ({"version": 2, "advertisementIntervalMilliseconds": 100}, "must be a multiple of 1000 with version 2"),
        ({"nopreempt": True, "nodes": {"priorities": [{"nodeName": "n1", "priority": 255}]}}, "must be below 255"),
    ],
)
def test_what_no_template_can_mend_is_refused_at_once(admin: Client, spec: Object, told: str) -> None:
    answer = admin.apply(WEB, virtual_ip("web") | {"spec": spec}, "kubectl")
    assert answer.status == 422
    assert told in answer.message
