"""The same virtual routers in the words of both programs: names, addresses, priorities, intervals. Pure."""

from __future__ import annotations

import json

PRIORITIES = {"n1": 110, "n2": 100}
"""n1 is to hold first; neither takes back what the other holds."""

PREFIX_LENGTH = 16


def virtual_address(number: int) -> str:
    """The VIP of a virtual router, by its VRID (1 to 255).

    >>> virtual_address(7)
    '10.78.1.7'
    """
    return f"10.78.1.{number}"


def router_name(number: int) -> str:
    """What a virtual router is called on both sides."""
    return f"router-{number}"


def holdfast_documents(count: int, interval_ms: int, alone: str = "") -> str:
    """VirtualIP documents for `count` virtual routers, one address each; `alone`: the only host that they name."""
    hosts = [alone] if alone else list(PRIORITIES)
    nodes = {"names": hosts, "priorities": [{"nodeName": name, "priority": PRIORITIES[name]} for name in hosts]}
    documents = [
        {
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "VirtualIP",
            "metadata": {"name": router_name(number)},
            "spec": {
                "addresses": [f"{virtual_address(number)}/{PREFIX_LENGTH}"],
                "virtualRouterID": number,
                "interface": "eth0",
                "advertisementIntervalMilliseconds": interval_ms,
                "nodes": nodes,
            },
        }
        for number in range(1, count + 1)
    ]
    return "\n---\n".join(json.dumps(document, indent=1) for document in documents) + "\n"


def keepalived_configuration(host: str, count: int, interval_ms: int) -> str:
    """keepalived.conf(5) for one host: VRRPv3, `state BACKUP` and `nopreempt` as Holdfast's default is."""
    instances = [
        f"vrrp_instance {router_name(number)} {{\n"
        "    state BACKUP\n"
        "    nopreempt\n"
        "    interface eth0\n"
        f"    virtual_router_id {number}\n"
        f"    priority {PRIORITIES[host]}\n"
        f"    advert_int {interval_ms / 1000:g}\n"
        f"    virtual_ipaddress {{\n        {virtual_address(number)}/{PREFIX_LENGTH}\n    }}\n"
        "}\n"
        for number in range(1, count + 1)
    ]
    return f"global_defs {{\n    router_id {host}\n    vrrp_version 3\n}}\n\n" + "\n".join(instances)
