"""Where the probes of a VirtualIP's author may go from the cluster's nodes, and how often. Pure.

A probe is run by the agent, on the node's own network: without bounds it would be a way to reach, from every node, what
the author cannot reach from a pod.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from holdfast_api.addresses import Address, parse_found, parse_interface
from holdfast_api.resources import Probe, VirtualIP
from holdfast_operator.planner.cluster.selection import fits
from holdfast_operator.planner.cluster.view import ClusterView

PERIOD_MIN_MS: Final = 100
"""How often at most a probe runs in a cluster: a thousand nodes may run it."""


def probe_violations(virtual_ip: VirtualIP, view: ClusterView) -> Iterator[tuple[Probe, str]]:
    """The probes that a cluster does not run, and what must be mended."""
    for index, probe in enumerate(virtual_ip.spec.track.probes):
        field = f"spec.track.probes[{index}]"
        if probe.period_ms < PERIOD_MIN_MS:
            message = f"must be at least {PERIOD_MIN_MS} in a cluster, not {probe.period_ms}"
            yield probe, f"{field}.periodMilliseconds: {message}"
        for name, action in (("tcpSocket", probe.tcp_socket), ("httpGet", probe.http_get)):
            if action is not None and not _may_reach(action.host, virtual_ip, view):
                yield (
                    probe,
                    f"{field}.{name}.host: must be a loopback address, one of spec.addresses or of the VirtualIP's"
                    " nodes, or be in a network that the administrator allows (speaker.allowedProbeNetworks),"
                    f" not {action.host!r}",
                )


def _may_reach(host: str, virtual_ip: VirtualIP, view: ClusterView) -> bool:
    allowed = [ip_network(text, strict=False) for text in view.rules.allowed_probe_networks]
    if host == "localhost":
        return True
    address = parse_found(host)
    if address is None:
        return bool(allowed)  # where a name leads the agents see, at every connection
    if address.is_loopback or any(address in network for network in allowed):
        return True
    own = {interface.ip for text in virtual_ip.spec.addresses if (interface := parse_interface(text)) is not None}
    return address in own or address in _node_addresses(virtual_ip, view)


def _node_addresses(virtual_ip: VirtualIP, view: ClusterView) -> set[Address]:
    found: set[Address] = set()
    for node in view.nodes:
        if not fits(virtual_ip.spec.nodes, node):
            continue
        speaker = view.speakers.get(node.name)
        reported = [text for link in speaker.status.links for text in link.addresses] if speaker else []
        for text in (*node.internal_addresses, *reported):
            if (interface := parse_interface(text)) is not None:
                found.add(interface.ip)
    return found
