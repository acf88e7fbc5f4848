"""What the command of a probe finds in its environment: whose host it runs on, and what it is run for."""

from __future__ import annotations

from holdfast_api.speaker import SpeakerConfiguration


def probe_environment(configuration: SpeakerConfiguration, virtual_ip: str) -> dict[str, str]:
    """The variables for the probes of one VirtualIP (namespace/name), as the files say it now.

    HOLDFAST_ADDRESSES are the VirtualIP's, separated by spaces and without prefix length, as ping and curl want them.
    """
    addresses = [
        address.partition("/")[0]
        for router in configuration.virtual_routers
        if router.name == virtual_ip
        for address in router.addresses
    ]
    return {
        "HOLDFAST_NODE_NAME": configuration.node_name,
        "HOLDFAST_VIRTUAL_IP": virtual_ip,
        "HOLDFAST_ADDRESSES": " ".join(addresses),
    }
