"""What must hold inside one VirtualIP beyond the shape of its fields: small policies, each of them pure.

The shape (types, ranges, patterns) is checked when the document is decoded; here is what crosses fields, and what a
schema cannot say of one. What crosses VirtualIPs belongs to the plan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast_api.addresses import Address, Interface, parse_address, parse_interface, why_no_address
from holdfast_api.resources import PRIORITY_OWNER, ForeignRouters, Probe, VirtualIP, VirtualRouterSharing

ADDRESSES_PER_FAMILY_MAX = 20
"""One family's addresses travel in one advertisement; keepalived sends no more than 20 either (keepalived.conf(5))."""

_LIMITED_BROADCAST = "255.255.255.255"

_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_URL_PATH = re.compile(r"/[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that somebody has to mend: the field as it is written in YAML, and what it must be."""

    field: str
    message: str


Policy = Callable[[VirtualIP], Iterator[Violation]]


def violations(virtual_ip: VirtualIP) -> list[Violation]:
    """Everything that is wrong with the VirtualIP by itself, in the order of the policies."""
    return [violation for policy in POLICIES for violation in policy(virtual_ip)]


def addresses_are_usable(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """Each address parses, and is one that a single host can have."""
    for index, text in enumerate(virtual_ip.spec.addresses):
        interface = parse_interface(text)
        message = why_no_address(text, may_have_prefix=True) if interface is None else _why_unusable(interface)
        if message:
            yield Violation(f"spec.addresses[{index}]", message)


def _why_unusable(interface: Interface) -> str:
    address, network = interface.ip, interface.network
    if address.is_unspecified:
        return f"must not be the unspecified address {address}"
    if address.is_loopback:
        return f"must not be a loopback address, which {address} is"
    if address.is_multicast:
        return f"must not be a multicast address, which {address} is"
    if str(address) == _LIMITED_BROADCAST:
        return f"must not be the broadcast address {address}"
    if network.prefixlen == 0:
        return "must have a prefix length above 0: every address would count as on the link"
    # RFC 3021: a /31 has neither. IPv6 has no broadcast, and its all-zeroes address is not refused by hosts.
    if address.version == 4 and network.prefixlen < 31:
        if address == network.broadcast_address:
            return f"must not be the broadcast address of {network}"
        if address == network.network_address:
            return f"must not be the network address of {network}"
    return ""


def addresses_are_different(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """No address twice, with whatever prefix length."""
    seen: dict[Address, int] = {}
    for index, interface in _interfaces(virtual_ip):
        first = seen.setdefault(interface.ip, index)
        if first != index:
            yield Violation(
                f"spec.addresses[{index}]",
                f"must not repeat {interface.ip}, which is spec.addresses[{first}]",
            )


def addresses_fit_one_advertisement(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """At most ADDRESSES_PER_FAMILY_MAX of each family."""
    for version in (4, 6):
        count = sum(interface.version == version for _, interface in _interfaces(virtual_ip))
        if count > ADDRESSES_PER_FAMILY_MAX:
            yield Violation(
                "spec.addresses",
                f"must have at most {ADDRESSES_PER_FAMILY_MAX} IPv{version} addresses, not {count}",
            )


def version_2_is_obeyed(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """RFC 3768: IPv4 alone, and an Adver Int in whole seconds (its 255 s are beyond the schema's bound)."""
    spec = virtual_ip.spec
    if spec.version != 2:
        return
    for index, interface in _interfaces(virtual_ip):
        if interface.version != 4:
            yield Violation(f"spec.addresses[{index}]", f"must be IPv4 with version 2, which {interface.ip} is not")
    if spec.advertisement_interval_milliseconds % 1000:
        yield Violation(
            "spec.advertisementIntervalMilliseconds",
            f"must be a multiple of 1000 with version 2, not {spec.advertisement_interval_milliseconds}",
        )


def authentication_has_version_2(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """VRRPv3 has no authentication (RFC 9568 section 9)."""
    if virtual_ip.spec.authentication is not None and virtual_ip.spec.version != 2:
        yield Violation("spec.authentication", "must be left out with version 3: only version 2 has passwords")


def preempt_delay_has_preemption(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """There is nothing to delay where nobody preempts."""
    if virtual_ip.spec.preempt_delay_seconds and virtual_ip.spec.nopreempt:
        yield Violation("spec.preemptDelaySeconds", "must be 0 or left out unless nopreempt is false")


def shared_routers_have_no_strangers(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """What routers outside of the cluster have a part in is told them address by address: it cannot grow and shrink."""
    spec = virtual_ip.spec
    if spec.virtual_router_sharing is VirtualRouterSharing.OWN:
        return
    reasons = {
        "spec.externalPeers is given": bool(spec.external_peers),
        "spec.foreignRouters is Obey": spec.foreign_routers is ForeignRouters.OBEY,
        "spec.version is 2": spec.version == 2,
        "spec.virtualRouterID is given": spec.virtual_router_id is not None,
        f"a node has priority {PRIORITY_OWNER}": any(node.priority == PRIORITY_OWNER for node in spec.nodes.priorities),
    }
    found = [reason for reason, applies in reasons.items() if applies]
    if found:
        yield Violation("spec.virtualRouterSharing", f"must be Own or left out where {' and '.join(found)}")


def owner_is_one_and_preempts(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """RFC 9568 section 6.4.1: the owner becomes Master whenever it starts; there can only be one."""
    owners = [index for index, node in enumerate(virtual_ip.spec.nodes.priorities) if node.priority == PRIORITY_OWNER]
    if owners and virtual_ip.spec.nopreempt:
        yield Violation(
            f"spec.nodes.priorities[{owners[0]}].priority",
            f"must be below {PRIORITY_OWNER} unless nopreempt is false: the owner of the addresses always preempts",
        )
    for index in owners[1:]:
        yield Violation(
            f"spec.nodes.priorities[{index}].priority",
            f"must be below {PRIORITY_OWNER}: spec.nodes.priorities[{owners[0]}] owns the addresses already",
        )


def nodes_are_named_once(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """No node twice in names or priorities (sourceAddresses may have one of each family)."""
    nodes = virtual_ip.spec.nodes
    yield from _repeated("spec.nodes.names[{}]", nodes.names)
    yield from _repeated("spec.nodes.priorities[{}].nodeName", [node.node_name for node in nodes.priorities])


def preferences_name_one_thing(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """A preference is for the nodes with some labels, or for one node."""
    for index, preference in enumerate(virtual_ip.spec.nodes.preferences):
        if (preference.selector is None) == (preference.node_name is None):
            yield Violation(f"spec.nodes.preferences[{index}]", "exactly one of selector and nodeName must be given")


def selectors_are_well_formed(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """matchExpressions are requirements as metav1.LabelSelectorRequirement has them."""
    selectors = {"spec.nodes.selector": virtual_ip.spec.nodes.selector}
    for index, preference in enumerate(virtual_ip.spec.nodes.preferences):
        selectors[f"spec.nodes.preferences[{index}].selector"] = preference.selector
    if virtual_ip.spec.track.pods is not None:
        selectors["spec.track.pods.selector"] = virtual_ip.spec.track.pods.selector
    for field, selector in selectors.items():
        for index, requirement in enumerate(selector.match_expressions if selector is not None else ()):
            for name, message in requirement_violations(requirement):
                yield Violation(f"{field}.matchExpressions[{index}].{name}", message)


def requirement_violations(requirement: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with a metav1.LabelSelectorRequirement: the field of it, and what it must be."""
    for name in sorted(requirement.keys() - {"key", "operator", "values"}):
        yield name, "must be left out: a requirement has key, operator and values"
    if not isinstance(requirement.get("key"), str) or not requirement["key"]:
        yield "key", "must be the name of a label"
    operator, values = requirement.get("operator"), requirement.get("values", [])
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        yield "operator", f"must be In, NotIn, Exists or DoesNotExist, not {operator!r}"
    elif not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        yield "values", "must be a list of strings"
    elif (operator in ("In", "NotIn")) != bool(values):
        yield "values", "must be given with In and NotIn, and left out with Exists and DoesNotExist"


def nodes_take_part(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """Where names is given, priorities, sourceAddresses and probes are of those nodes: another name is a slip of the
    pen."""
    nodes = virtual_ip.spec.nodes
    if not nodes.names:
        return
    entries = {
        "priorities": [node.node_name for node in nodes.priorities],
        "sourceAddresses": [node.node_name for node in nodes.source_addresses],
    }
    for field, names in entries.items():
        for index, name in enumerate(names):
            if name not in nodes.names:
                yield Violation(
                    f"spec.nodes.{field}[{index}].nodeName",
                    f"must be one of spec.nodes.names, which {name} is not",
                )
    commands = [(f"spec.track.probes[{i}]", probe.nodes) for i, probe in enumerate(virtual_ip.spec.track.probes)]
    commands += [(f"spec.notify[{index}]", one.nodes) for index, one in enumerate(virtual_ip.spec.notify)]
    for field, names in commands:
        for place, name in enumerate(names):
            if name not in nodes.names:
                yield Violation(f"{field}.nodes[{place}]", f"must be one of spec.nodes.names, which {name} is not")


def source_addresses_are_usable(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """Each parses, is of a family that the VirtualIP has, is no VIP, and is the node's only one of its family."""
    seen: set[tuple[str, int]] = set()
    owners = {node.node_name for node in virtual_ip.spec.nodes.priorities if node.priority == PRIORITY_OWNER}
    for index, entry in enumerate(virtual_ip.spec.nodes.source_addresses):
        address = parse_address(entry.address)
        # The owner's advertisements come from the address that it owns (RFC 9568 section 5.1.1.1).
        message = _why_no_router(virtual_ip, entry.address, address, may_be_vip=entry.node_name in owners)
        if address is not None and not message:
            if (entry.node_name, address.version) in seen:
                message = f"must be the only IPv{address.version} source address of {entry.node_name}"
            seen.add((entry.node_name, address.version))
        if message:
            yield Violation(f"spec.nodes.sourceAddresses[{index}].address", message)


def external_peers_are_usable(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """Each parses, is of a family that the VirtualIP has, is no VIP, and is there once."""
    seen: dict[Address, int] = {}
    for index, text in enumerate(virtual_ip.spec.external_peers):
        address = parse_address(text)
        message = _why_no_router(virtual_ip, text, address, may_be_vip=False)
        if address is not None and not message and seen.setdefault(address, index) != index:
            message = f"must not repeat {address}, which is spec.externalPeers[{seen[address]}]"
        if message:
            yield Violation(f"spec.externalPeers[{index}]", message)


def _why_no_router(virtual_ip: VirtualIP, text: str, address: Address | None, *, may_be_vip: bool) -> str:
    if address is None:
        return why_no_address(text, may_have_prefix=False)
    if address.is_unspecified or address.is_loopback or address.is_multicast or str(address) == _LIMITED_BROADCAST:
        return f"must be the address of one router on the network, which {address} is not"
    vips = {interface.ip for _, interface in _interfaces(virtual_ip)}
    if vips and address.version not in {vip.version for vip in vips}:
        return f"must be of a family that spec.addresses has, which IPv{address.version} is not"
    if address in vips and not may_be_vip:
        return f"must not be one of spec.addresses, which {address} is"
    return ""


def probes_are_complete(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """Each probe has one action that can be carried out, at most one period, no node twice, and a name of its own."""
    probes = virtual_ip.spec.track.probes
    for index, probe in enumerate(probes):
        field = f"spec.track.probes[{index}]"
        actions = [action for action in (probe.exec, probe.tcp_socket, probe.http_get) if action is not None]
        if len(actions) != 1:
            yield Violation(field, f"must have exactly one of exec, tcpSocket and httpGet, not {len(actions)}")
        if probe.period_seconds is not None and probe.period_milliseconds is not None:
            yield Violation(f"{field}.periodMilliseconds", "must be left out where periodSeconds is given")
        yield from _repeated(f"{field}.nodes[{{}}]", probe.nodes)
        yield from _action_violations(field, probe)
    yield from _repeated("spec.track.probes[{}].name", [probe.name for probe in probes])


def _action_violations(field: str, probe: Probe) -> Iterator[Violation]:
    if probe.exec is not None:
        yield from _word_violations(f"{field}.exec.command", probe.exec.command)
    for name, action in (("tcpSocket", probe.tcp_socket), ("httpGet", probe.http_get)):
        if action is not None and not _HOST.fullmatch(action.host):
            yield Violation(f"{field}.{name}.host", f"must be a host name or an IP address, not {action.host!r}")
    if probe.http_get is not None and not _URL_PATH.fullmatch(probe.http_get.path):
        yield Violation(
            f"{field}.httpGet.path",
            "must be a URL path of printable ASCII characters without spaces (use %20)",
        )


def notifications_can_be_run(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """Each command has words, and no state and no node twice; a group is that of a user."""
    for index, one in enumerate(virtual_ip.spec.notify):
        field = f"spec.notify[{index}]"
        yield from _word_violations(f"{field}.command", one.command)
        yield from _repeated(f"{field}.states[{{}}]", one.states)
        yield from _repeated(f"{field}.nodes[{{}}]", one.nodes)
        if one.group is not None and one.user is None:
            yield Violation(f"{field}.group", "must be left out where no user is given")


def _word_violations(field: str, words: Sequence[str]) -> Iterator[Violation]:
    for index, word in enumerate(words):
        if not word or "\0" in word:
            yield Violation(f"{field}[{index}]", "must be at least one character long, none of them NUL")


def health_check_node_ports_are_different(virtual_ip: VirtualIP) -> Iterator[Violation]:
    """One Service has one."""
    ports = virtual_ip.spec.track.health_check_node_ports
    yield from _repeated("spec.track.healthCheckNodePorts[{}]", map(str, ports))


def _interfaces(virtual_ip: VirtualIP) -> Iterator[tuple[int, Interface]]:
    """The addresses that parse, with their places; a policy of their own speaks of the others."""
    for index, text in enumerate(virtual_ip.spec.addresses):
        interface = parse_interface(text)
        if interface is not None:
            yield index, interface


def _repeated(field: str, names: Iterable[str]) -> Iterator[Violation]:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        first = seen.setdefault(name, index)
        if first != index:
            yield Violation(field.format(index), f"must not repeat {name}, which is {field.format(first)}")


POLICIES: Sequence[Policy] = (
    addresses_are_usable,
    addresses_are_different,
    addresses_fit_one_advertisement,
    version_2_is_obeyed,
    authentication_has_version_2,
    preempt_delay_has_preemption,
    shared_routers_have_no_strangers,
    owner_is_one_and_preempts,
    nodes_are_named_once,
    selectors_are_well_formed,
    preferences_name_one_thing,
    nodes_take_part,
    source_addresses_are_usable,
    external_peers_are_usable,
    probes_are_complete,
    notifications_can_be_run,
    health_check_node_ports_are_different,
)
