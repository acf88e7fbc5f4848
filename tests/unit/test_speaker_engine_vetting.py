"""What is not a configuration for this engine is refused as a whole, with the field's path."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from holdfast_api.errors import ConfigurationError
from holdfast_api.messages import Request
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_speaker.engine.vetting import vet

GOOD: dict[str, Any] = {"name": "shop/web", "addresses": ["10.0.0.9/24", "2001:db8::9"], "virtual_router_id": 51}


def configuration(*routers: dict[str, Any]) -> SpeakerConfiguration:
    return SpeakerConfiguration(
        node_name="n1", virtual_routers=[VirtualRouterConfiguration(**{**GOOD, **router}) for router in routers]
    )


def test_a_good_configuration_is_taken() -> None:
    vet(configuration({"members": ["10.0.0.1"], "source_addresses": ["10.0.0.2", "fe80::2"]}), "n1")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"addresses": ["10.0.0.300"]}, "virtualRouters[1].addresses[0]: '10.0.0.300' is no IP address"),
        ({"members": ["10.0.0.1", "n2"]}, "virtualRouters[1].members[1]: 'n2' is no IP address"),
        ({"source_addresses": ["10.0.0.1/24"]}, "virtualRouters[1].sourceAddresses[0]: '10.0.0.1/24' is no IP address"),
        ({"version": 2}, "virtualRouters[1].addresses: VRRPv2 has IPv4 addresses only"),
        ({"simple_password": "pässword"}, "virtualRouters[1].simplePassword: must be ASCII"),
        ({"name": "shop/other"}, "virtualRouters[1].name: 'shop/other' is there twice"),
    ],
)
def test_what_an_engine_cannot_run_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        vet(configuration({"name": "shop/other"}, wrong), "n1")


def test_another_nodes_configuration_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'n1'.*'n2'"):
        vet(configuration(), "n2")


@pytest.mark.parametrize(
    "wrong", [b'"virtualRouterID":0', b'"virtualRouterID":256', b'"priority":49', b'"priority":256', b'"surprise":1']
)
def test_a_value_out_of_range_is_no_request(wrong: bytes) -> None:
    router = b'{"name":"a","addresses":["10.0.0.9"],"virtualRouterID":1,' + wrong + b"}"
    line = b'{"type":"Configure","configuration":{"nodeName":"n1","virtualRouters":[' + router + b"]}}"
    with pytest.raises(msgspec.ValidationError, match=r"virtualRouters\[0\]|configuration"):
        msgspec.json.decode(line, type=Request)
