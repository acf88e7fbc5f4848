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
import subprocess
from pathlib import Path

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab.record import HostRecord

NAMESPACES_FOLDER = Path("/run/netns")
"""Where ip-netns(8) keeps named network namespaces."""

_CLIENTS_BRIDGE = "clients"
_HOSTS_BRIDGE = "hosts"

# accept_dad: the addresses are usable at once. accept_ra: the lab's addresses are the only ones.
_HOST_SETTINGS = {
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/dad_transmits": "0",
    "net/ipv6/conf/default/dad_transmits": "0",
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/default/accept_ra": "0",
}
_SWITCH_SETTINGS = {"net/ipv6/conf/default/disable_ipv6": "1", "net/ipv6/conf/all/disable_ipv6": "1"}


def require_means() -> None:
    """Raises EnvironmentFailure, on one line, when this process or machine cannot make network namespaces."""
    if os.geteuid() != 0:
        raise EnvironmentFailure("the lab makes network namespaces, which needs root: run it with sudo")
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            raise EnvironmentFailure(f"the lab needs the command {program} (Debian package {package})")


def namespace_path(namespace: str) -> Path:
    """The path that names a network namespace."""
    return NAMESPACES_FOLDER / namespace


def inside(namespace: str, command: list[str]) -> list[str]:
    """The command line that runs a command in a network namespace, and in the mount namespace of everybody."""
    return ["nsenter", f"--net={namespace_path(namespace)}", "--", *command]


def _run(command: list[str], stdin: str = "") -> str:
    finished = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    if finished.returncode != 0:
        said = " ".join((finished.stderr or finished.stdout).split()) or f"exit status {finished.returncode}"
        raise EnvironmentFailure(f"`{' '.join(command[:4])}` failed: {said}")
    return finished.stdout


def _ip(namespace: str, lines: list[str]) -> None:
    """Run lines of ip(8) in a namespace, in one process; EnvironmentFailure at the first that fails."""
    _run(["ip", "-n", namespace, "-batch", "-"], "\n".join(lines) + "\n")


def make_namespace(namespace: str, *, is_switch: bool) -> None:
    """Make an empty network namespace with its loopback up; EnvironmentFailure when it cannot be made."""
    _run(["ip", "netns", "add", namespace])
    settings = _SWITCH_SETTINGS if is_switch else _HOST_SETTINGS
    # /proc/sys/net shows the network namespace of who opens it, and a machine without IPv6 has no net/ipv6.
    script = "\n".join(
        f"[ ! -e /proc/sys/{path} ] || echo {value} > /proc/sys/{path}" for path, value in settings.items()
    )
    _run(inside(namespace, ["sh", "-ec", script]))
    if not is_switch:
        _ip(namespace, ["link set lo up"])


def remove_namespace(namespace: str) -> None:
    """Remove a network namespace, with all links in it; nothing happens when it is not there."""
    if namespace_path(namespace).exists():
        _run(["ip", "netns", "del", namespace])


def make_switch(switch: str) -> None:
    """Make the two bridges in the switch's namespace, and the link between them."""
    # mcast_snooping off: without a querier a snooping bridge forgets who wants VRRP's group.
    _ip(
        switch,
        [
            *_bridge(_CLIENTS_BRIDGE),
            *_bridge(_HOSTS_BRIDGE),
            *_uplink(_HOSTS_BRIDGE),
        ],
    )


def _bridge(name: str) -> list[str]:
    return [f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0", f"link set {name} up"]


def _uplink(bridge: str) -> list[str]:
    return [
        f"link add {bridge}-up type veth peer name {bridge}-down",
        f"link set {bridge}-up master {bridge} up",
        f"link set {bridge}-down master {_CLIENTS_BRIDGE} up",
        f"link set {bridge}-down type bridge_slave isolated on",
    ]


def connect(switch: str, host: HostRecord, interface: str, *, is_client: bool) -> None:
    """Plug a host (or the client) into the switch and give its interface its addresses."""
    bridge = _CLIENTS_BRIDGE if is_client else _HOSTS_BRIDGE
    _ip(
        switch,
        [
            f"link add {host.port} type veth peer name {interface} address {host.mac_address} netns {host.namespace}",
            f"link set {host.port} master {bridge} up",
        ],
    )
    bring_up(host, interface)


def bring_up(host: HostRecord, interface: str) -> None:
    """The host's network as after a boot: its interface up, with the host's own addresses and no other."""
    _ip(
        host.namespace,
        [
            f"address flush dev {interface} scope global",
            f"link set {interface} up",
            *(f"address add {address} dev {interface}{_nodad(address)}" for address in host.addresses),
        ],
    )


def _nodad(address: str) -> str:
    return " nodad" if ":" in address else ""


def unplug(switch: str, host: HostRecord) -> None:
    """Nothing reaches the host and nothing of it gets out, at once; it does not notice, its carrier stays."""
    _ip(switch, [f"link set {host.port} nomaster"])


def plug_in(switch: str, host: HostRecord) -> None:
    """Undo `unplug`."""
    _ip(switch, [f"link set {host.port} master {_HOSTS_BRIDGE}"])


def take_down(host: HostRecord, interface: str) -> None:
    """The host's network as with the power off: no address is left."""
    _ip(host.namespace, [f"link set {interface} down", f"address flush dev {interface}"])


def cut_link(switch: str, host: HostRecord) -> None:
    """Pull the plug: the host's interface loses its carrier."""
    _ip(switch, [f"link set {host.port} down"])


def join_link(switch: str, host: HostRecord) -> None:
    """Put the plug back in."""
    _ip(switch, [f"link set {host.port} up"])


def _island(host: HostRecord) -> str:
    return f"i-{host.port}"


def partition(switch: str, host: HostRecord) -> None:
    """Cut a host off from the other hosts, while the client hears it and it hears the client."""
    island = _island(host)
    _ip(
        switch,
        [
            *_bridge(island),
            *_uplink(island),
            f"link set {host.port} master {island}",
            # The clients' bridge believes the host behind the other link until it hears from it.
            f"link set {_HOSTS_BRIDGE}-down type bridge_slave fdb_flush",
        ],
    )


def rejoin(switch: str, host: HostRecord) -> None:
    """Undo `partition`."""
    island = _island(host)
    _ip(
        switch,
        [f"link set {host.port} master {_HOSTS_BRIDGE}", f"link delete {island}-up", f"link delete {island}"],
    )


def addresses_of(namespace: str, interface: str) -> set[str]:
    """The addresses on a host's interface as its kernel has them, without prefix length; none when it has none."""
    listed = _run(["ip", "-n", namespace, "-o", "address", "show", "dev", interface])
    return {line.split()[3].partition("/")[0] for line in listed.splitlines()}
