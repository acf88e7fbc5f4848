"""The lab's wiring: network namespaces, a switch in one of its own, links, and how to cut them.

    client ---- [bridge clients] ==== [bridge hosts] ---- n1
                     ||                    |  |
                     ||                    n2 n3
                [bridge island1]  (a partitioned host alone)

Every segment of hosts hangs on the bridge of the client by a link of its own, and those links are isolated from each
other (bridge(8), isolated): what happens in one segment is heard by the client and by no other segment. Partitioning a
host moves it to a segment of its own. This needs nothing but bridge and veth of the kernel: no filters, no VLANs.
"""

from __future__ import annotations

import os
import shutil

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab import actions
from holdfast_lab.actions import (
    AddAddress,
    AddBridge,
    AddCable,
    DeleteLink,
    FlushAddresses,
    ForgetStations,
    Isolate,
    SetMaster,
    SetState,
    carry_out,
)
from holdfast_lab.record import HostRecord

_CLIENTS_BRIDGE = "clients"
_HOSTS_BRIDGE = "hosts"

# By path below /proc/sys/net.
# accept_dad: the addresses are usable at once. accept_ra: the lab's addresses are the only ones.
_HOST_SETTINGS = {
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/all/dad_transmits": "0",
    "ipv6/conf/default/dad_transmits": "0",
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
}
_SWITCH_SETTINGS = {"ipv6/conf/default/disable_ipv6": "1", "ipv6/conf/all/disable_ipv6": "1"}


def require_means() -> None:
    """Raises EnvironmentFailure, on one line, when this process or machine cannot make network namespaces."""
    if os.geteuid() != 0:
        raise EnvironmentFailure("the lab makes network namespaces, which needs root: run it with sudo")
    if shutil.which("nsenter") is None:
        raise EnvironmentFailure("the lab needs the command nsenter (Debian package util-linux)")


def make_namespace(namespace: str, *, is_switch: bool) -> None:
    """Make a host's network namespace, its loopback up, or the switch's; EnvironmentFailure when it cannot be made."""
    actions.make_namespace(namespace, _SWITCH_SETTINGS if is_switch else _HOST_SETTINGS)
    if not is_switch:
        carry_out(namespace, SetState("lo", up=True))


def make_switch(switch: str) -> None:
    """Make the two bridges in the switch's namespace, and the link between them."""
    carry_out(switch, AddBridge(_CLIENTS_BRIDGE), AddBridge(_HOSTS_BRIDGE), *_uplink(_HOSTS_BRIDGE))


def _uplink(bridge: str) -> list[actions.Action]:
    up, down = f"{bridge}-up", f"{bridge}-down"
    return [
        AddCable(up, down),
        SetMaster(up, bridge),
        SetState(up, up=True),
        SetMaster(down, _CLIENTS_BRIDGE),
        SetState(down, up=True),
        Isolate(down),
    ]


def connect(switch: str, host: HostRecord, interface: str, *, is_client: bool) -> None:
    """Plug a host (or the client) into the switch and give its interface its addresses."""
    carry_out(
        switch,
        AddCable(host.port, interface, host.namespace, host.mac_address),
        SetMaster(host.port, _CLIENTS_BRIDGE if is_client else _HOSTS_BRIDGE),
        SetState(host.port, up=True),
    )
    bring_up(host, interface)


def bring_up(host: HostRecord, interface: str) -> None:
    """The host's network as after a boot: its interface up, with the host's own addresses and no other."""
    carry_out(
        host.namespace,
        FlushAddresses(interface, only_global=True),
        SetState(interface, up=True),
        *(AddAddress(interface, address) for address in host.addresses),
    )


def unplug(switch: str, host: HostRecord) -> None:
    """Nothing reaches the host and nothing of it gets out, at once; it does not notice, its carrier stays."""
    carry_out(switch, SetMaster(host.port, None))


def plug_in(switch: str, host: HostRecord) -> None:
    """Undo `unplug`."""
    carry_out(switch, SetMaster(host.port, _HOSTS_BRIDGE))


def take_down(host: HostRecord, interface: str) -> None:
    """The host's network as with the power off: no address is left."""
    carry_out(host.namespace, SetState(interface, up=False), FlushAddresses(interface))


def cut_link(switch: str, host: HostRecord) -> None:
    """Pull the plug: the host's interface loses its carrier."""
    carry_out(switch, SetState(host.port, up=False))


def join_link(switch: str, host: HostRecord) -> None:
    """Put the plug back in."""
    carry_out(switch, SetState(host.port, up=True))


def _island(host: HostRecord) -> str:
    return f"i-{host.port}"


def partition(switch: str, host: HostRecord) -> None:
    """Cut a host off from the other hosts, while the client hears it and it hears the client."""
    island = _island(host)
    carry_out(
        switch,
        AddBridge(island),
        *_uplink(island),
        SetMaster(host.port, island),
        # The clients' bridge believes the host behind the other link until it hears from it.
        ForgetStations(f"{_HOSTS_BRIDGE}-down"),
    )


def rejoin(switch: str, host: HostRecord) -> None:
    """Undo `partition`."""
    island = _island(host)
    carry_out(switch, SetMaster(host.port, _HOSTS_BRIDGE), DeleteLink(f"{island}-up"), DeleteLink(island))
