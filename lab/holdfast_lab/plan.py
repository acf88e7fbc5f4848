"""What a lab is made of, from VirtualIP documents: hosts, their addresses and services. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from holdfast_api.documents import Document
from holdfast_api.errors import ConfigurationError, ConfigurationErrors
from holdfast_api.resources import Probe, VirtualIP

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CLIENT = "client"
SWITCH = "switch"
MAXIMUM_HOSTS = 64

DEFAULT_HOSTS = ("n1", "n2")
DEFAULT_INTERFACE = "eth0"
DEFAULT_PORT = 80

_FIRST_HOST_OFFSET = 11
_CLIENT_OFFSET = 100
_LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
_LOCAL_PORT = re.compile(r"(?:127\.0\.0\.1|localhost|\[?::1\]?)[:/ ](\d{1,5})\b")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class HostPlan:
    """One host (or the client): its name, and its interface's MAC address and addresses with prefix length."""

    name: str
    mac_address: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabPlan:
    """A whole lab."""

    hosts: tuple[HostPlan, ...]
    client: HostPlan
    interface: str
    virtual_ips: tuple[str, ...]
    """namespace/name, in the order of the documents."""
    virtual_addresses: tuple[str, ...]
    """Without prefix length, in the order of the documents."""
    ports: tuple[int, ...]
    """What each host's service listens on."""
    probed_ports: tuple[int, ...]
    """Those of them that a probe looks at."""


def plan_lab(documents: Sequence[Document], host_names: Sequence[str] = ()) -> LabPlan:
    """The lab for these documents; without `host_names`, with the nodes that they name, or else n1 and n2.

    Raises ConfigurationErrors with everything that a lab cannot do for them.
    """
    virtual_ips = [document.virtual_ip for document in documents]
    named = dict.fromkeys(name for virtual_ip in virtual_ips for name in virtual_ip.named_nodes)
    names = list(host_names or named or DEFAULT_HOSTS)
    errors = [*_check_hosts(names), *_check_documents(documents)]
    if errors:
        raise ConfigurationErrors(errors)
    addresses = [ipaddress.ip_interface(text) for virtual_ip in virtual_ips for text in virtual_ip.spec.addresses]
    taken = {address.ip for address in addresses} | set(_foreign_addresses(virtual_ips))
    sources = _source_addresses(virtual_ips)
    networks = _networks([*addresses, *(ipaddress.ip_interface(s) for found in sources.values() for s in found)])
    assigned: dict[str, list[str]] = {name: [] for name in (*names, CLIENT)}
    for network in networks:
        own = {name: [source for source in sources.get(name, ()) if source in network] for name in names}
        taken.update(source for found in own.values() for source in found)
        for offset, name in enumerate(names, start=_FIRST_HOST_OFFSET):
            chosen = own[name] or [_free_address(network, offset, taken)]
            taken.update(chosen)
            assigned[name].extend(f"{address}/{network.prefixlen}" for address in chosen)
        client = _free_address(network, _CLIENT_OFFSET, taken)
        taken.add(client)
        assigned[CLIENT].append(f"{client}/{network.prefixlen}")
    probed = sorted({port for virtual_ip in virtual_ips for port in _probed_ports(virtual_ip)})
    return LabPlan(
        hosts=tuple(
            HostPlan(name, _mac_address(offset), tuple(assigned[name]))
            for offset, name in enumerate(names, start=_FIRST_HOST_OFFSET)
        ),
        client=HostPlan(CLIENT, _mac_address(_CLIENT_OFFSET), tuple(assigned[CLIENT])),
        interface=next((v.spec.interface for v in virtual_ips if v.spec.interface), DEFAULT_INTERFACE),
        virtual_ips=tuple(virtual_ip.key for virtual_ip in virtual_ips),
        virtual_addresses=tuple(dict.fromkeys(str(address.ip) for address in addresses)),
        ports=tuple(probed or [DEFAULT_PORT]),
        probed_ports=tuple(probed),
    )


def _check_hosts(names: Sequence[str]) -> Iterator[ConfigurationError]:
    if len(names) > MAXIMUM_HOSTS:
        yield ConfigurationError(f"a lab has at most {MAXIMUM_HOSTS} hosts, these are {len(names)}", field="--hosts")
    for name in dict.fromkeys(names):
        if name in (CLIENT, SWITCH):
            yield ConfigurationError("is the lab's own name for another part of it", field=f"host {name}")
        elif not _HOST_NAME.fullmatch(name):
            yield ConfigurationError(
                "must be 1 to 63 letters, digits, dots and dashes, and begin and end with a letter or digit",
                field=f"host {name}",
            )
        if list(names).count(name) > 1:
            yield ConfigurationError("is there more than once", field=f"host {name}")


def _check_documents(documents: Sequence[Document]) -> Iterator[ConfigurationError]:
    if not documents:
        yield ConfigurationError("there is no VirtualIP in the files given")
    interfaces = {document.virtual_ip.spec.interface for document in documents} - {None}
    for document in documents:
        spec, name = document.virtual_ip.spec, document.virtual_ip.metadata.name
        if not spec.addresses:
            yield ConfigurationError(
                "must be given: only a cluster has AddressPools to take addresses from",
                file=document.file,
                field=f"VirtualIP {name}: spec.addresses",
            )
        for index, text in enumerate(spec.addresses):
            try:
                ipaddress.ip_interface(text)
            except ValueError:
                yield ConfigurationError(
                    f"is no address: {text}", file=document.file, field=f"VirtualIP {name}: spec.addresses[{index}]"
                )
        if len(interfaces) > 1 and spec.interface:
            yield ConfigurationError(
                f"the lab's hosts have one interface, and these files name {len(interfaces)}",
                file=document.file,
                field=f"VirtualIP {name}: spec.interface",
            )
        for tracked in spec.track.interfaces:
            if tracked != (spec.interface or DEFAULT_INTERFACE):
                yield ConfigurationError(
                    f"the lab's hosts have no interface {tracked}",
                    file=document.file,
                    field=f"VirtualIP {name}: spec.track.interfaces",
                )


def _foreign_addresses(virtual_ips: Sequence[VirtualIP]) -> Iterator[Address]:
    for virtual_ip in virtual_ips:
        for text in virtual_ip.spec.external_peers:
            yield ipaddress.ip_address(text)


def _source_addresses(virtual_ips: Sequence[VirtualIP]) -> dict[str, list[Address]]:
    sources: dict[str, list[Address]] = {}
    for virtual_ip in virtual_ips:
        for entry in virtual_ip.spec.nodes.source_addresses:
            address = ipaddress.ip_address(entry.address)
            if not address.is_link_local and address not in sources.setdefault(entry.node_name, []):
                sources[entry.node_name].append(address)
    return sources


def _networks(interfaces: Sequence[ipaddress.IPv4Interface | ipaddress.IPv6Interface]) -> list[Network]:
    found: dict[Network, None] = {}
    for interface in interfaces:
        if interface.ip.is_link_local:
            continue
        network: Network = interface.network
        if network.prefixlen == network.max_prefixlen:
            # A VIP alone names no subnet: the usual one around it.
            around = 24 if interface.version == 4 else 64
            network = ipaddress.ip_network(f"{interface.ip}/{around}", strict=False)
        found[network] = None
    return [network for network in found if not any(_is_inside(network, other) for other in found)]


def _is_inside(network: Network, other: Network) -> bool:
    return (
        network != other
        and network.version == other.version
        and network.network_address in other
        and network.prefixlen > other.prefixlen
    )


def _free_address(network: Network, preferred_offset: int, taken: set[Address]) -> Address:
    # The network's own address and the last one (IPv4's broadcast) are nobody's.
    offsets = [preferred_offset, *range(1, min(network.num_addresses - 1, 1000))]
    for offset in offsets:
        if offset >= network.num_addresses - 1:
            continue
        address = network[offset]
        if address not in taken:
            return address
    raise ConfigurationErrors([ConfigurationError(f"{network} is too small for the VIPs, the hosts and the client")])


def _mac_address(offset: int) -> str:
    """Locally administered (IEEE 802 section 8.4), the same on every run so that captures can be compared."""
    return f"02:68:66:00:00:{offset:02x}"


def _probed_ports(virtual_ip: VirtualIP) -> Iterator[int]:
    for probe in virtual_ip.spec.track.probes:
        yield from ports_answered(probe)


def ports_answered(probe: Probe) -> list[int]:
    """The ports of the host itself that this probe looks at, and that a plain HTTP service can answer on.

    >>> from holdfast_api.resources import ExecAction
    >>> ports_answered(Probe(name="web", exec=ExecAction(command=["/bin/bash", "-c", "</dev/tcp/127.0.0.1/80"])))
    [80]
    """
    if probe.tcp_socket is not None and probe.tcp_socket.host in _LOCAL_NAMES:
        return [probe.tcp_socket.port]
    if probe.http_get is not None and probe.http_get.host in _LOCAL_NAMES and probe.http_get.scheme == "HTTP":
        return [probe.http_get.port]
    if probe.exec is not None:
        return [int(port) for port in _LOCAL_PORT.findall(" ".join(probe.exec.command)) if 0 < int(port) < 65536]
    return []
