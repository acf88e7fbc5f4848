"""What commands of probes find in their environment."""

from __future__ import annotations

from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_cli.standalone.probe_environment import probe_environment

CONFIGURATION = SpeakerConfiguration(
    node_name="n1",
    generation=1,
    virtual_routers=[
        VirtualRouterConfiguration(name="db/reader", addresses=["10.0.0.201/24"], virtual_router_id=1),
        VirtualRouterConfiguration(name="db/writer", addresses=["10.0.0.200/24", "2001:db8::c8"], virtual_router_id=2),
    ],
)


def test_a_command_learns_where_it_runs_and_for_which_addresses() -> None:
    assert probe_environment(CONFIGURATION, "db/writer") == {
        "HOLDFAST_NODE_NAME": "n1",
        "HOLDFAST_VIRTUAL_IP": "db/writer",
        "HOLDFAST_ADDRESSES": "10.0.0.200 2001:db8::c8",
    }


def test_two_virtual_ips_have_different_ones() -> None:
    assert probe_environment(CONFIGURATION, "db/reader")["HOLDFAST_ADDRESSES"] == "10.0.0.201"
